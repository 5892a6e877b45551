//! Real commands on the machine the tests run on. Limits that must be met are short, the others
//! so long that only a hang reaches them.

use std::fs;
use std::thread;

use nix::sys::signal::SigSet;
use nix::unistd::getpgrp;

use super::*;

/// Runs a command that nobody looks at meanwhile; its end is noticed by `end`.
fn unwatched(cmd: &Cmd, limit: Duration, end: EndWatch) -> Result<Output, CmdError> {
    let nobody = Watch {
        every: Duration::MAX,
        go_on: &mut || true,
    };
    exec(cmd, limit, nobody, end)
}

fn linux_exec(cmd: &Cmd, limit: Duration) -> Result<Output, CmdError> {
    unwatched(cmd, limit, pidfd)
}

const LONG: Duration = Duration::from_secs(300);
const SHORT: Duration = Duration::from_millis(300);

fn sh(script: &str) -> Cmd {
    Cmd::new("sh").arg("-c").arg(script)
}

fn run(cmd: &Cmd) -> Output {
    linux_exec(cmd, LONG).unwrap()
}

/// Was it killed for taking too long? On a busy machine it may not have been gone at once.
fn is_timeout(result: &Result<Output, CmdError>) -> bool {
    matches!(result, Err(CmdError::TimedOut { after, .. }) if !after.is_zero())
}

/// The process is dead: not there, or not yet noticed by its parent.
fn is_dead(pid: &str) -> bool {
    let stat = fs::read_to_string(format!("/proc/{}/stat", pid.trim())).unwrap_or_default();
    stat.is_empty() || stat.contains(") Z ")
}

#[test]
fn what_a_command_said_and_how_it_ended_is_told() {
    let output = run(&sh("echo out; echo err >&2; exit 3"));
    assert_eq!(output.status, Status::Exited(3));
    assert_eq!(
        (output.stdout.as_str(), output.stderr.as_str()),
        ("out\n", "err\n")
    );
    assert!(run(&Cmd::new("true")).success());
    assert_eq!(run(&sh("kill -TERM $$")).status, Status::Killed(15));
    assert_eq!(run(&Cmd::new("printf").arg(r"a\377b")).stdout, "a\u{fffd}b");
}

#[test]
fn arguments_reach_the_program_as_they_are() {
    let args = ["$HOME", "a b", "*", "", "it's", "a\nb"];
    let said = run(&Cmd::new("printf").arg("%s|").args(args)).stdout;
    assert_eq!(said, "$HOME|a b|*||it's|a\nb|");
}

#[test]
fn the_line_of_a_command_does_the_same_in_a_shell() {
    let cmd = Cmd::new("printf")
        .arg("%s|")
        .args(["$HOME", "a b", "", "it's", "~", r"\"]);
    assert_eq!(run(&sh(&cmd.to_string())).stdout, run(&cmd).stdout);
}

#[test]
fn a_command_has_no_environment_but_its_own() {
    let cmd = Cmd::new("env")
        .env("COLOR", "no")
        .secret_env("PASSWORD", "hunter2");
    let said = run(&cmd).stdout;
    let mut lines: Vec<&str> = said.lines().collect();
    lines.sort();
    let path = "PATH=/usr/sbin:/usr/bin:/sbin:/bin:/usr/local/sbin:/usr/local/bin";
    assert_eq!(lines, ["COLOR=no", "LC_ALL=C", "PASSWORD=hunter2", path]);
}

#[test]
fn a_secret_that_a_tool_repeats_is_not_remembered() {
    let cmd = sh("echo bad password $PASSWORD >&2; exit 1").secret_env("PASSWORD", "hunter2");
    let output = run(&cmd);
    assert_eq!(output.stderr, "bad password ***\n");
    assert!(
        !CmdError::failed(&cmd, output)
            .to_string()
            .contains("hunter2")
    );
}

#[test]
fn a_command_starts_with_default_signals_in_our_group_and_at_the_root() {
    let blocked = SigSet::all();
    let before = blocked
        .thread_swap_mask(nix::sys::signal::SigmaskHow::SIG_BLOCK)
        .unwrap();
    let status = run(&Cmd::new("cat").arg("/proc/self/status")).stdout;
    before.thread_set_mask().unwrap();
    let mask = |name: &str| {
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix(name))
            .unwrap();
        u64::from_str_radix(line.trim(), 16).unwrap()
    };
    assert_eq!(mask("SigBlk:"), 0);
    assert_eq!(mask("SigIgn:") & 1 << (libc::SIGPIPE - 1), 0);

    let stat = run(&Cmd::new("cat").arg("/proc/self/stat")).stdout;
    let group = stat
        .rsplit(')')
        .next()
        .and_then(|rest| rest.split_whitespace().nth(2));
    assert_eq!(group, Some(getpgrp().to_string().as_str()));
    assert_eq!(run(&Cmd::new("pwd")).stdout, "/\n");
}

#[test]
fn a_program_that_is_not_there_is_missing() {
    for program in ["no-such-program", "/etc/passwd", "/no/such/program"] {
        match linux_exec(&Cmd::new(program), LONG) {
            Err(CmdError::Missing { program: missing }) => assert_eq!(missing, program),
            other => panic!("{other:?}"),
        }
    }
    assert!(run(&Cmd::new("/bin/true")).success());
}

#[test]
fn what_the_kernel_cannot_start_is_an_error_that_names_the_command() {
    let error = linux_exec(&Cmd::new("true").arg("a\0b"), LONG).unwrap_err();
    assert!(matches!(error, CmdError::Start { .. }));
    assert!(
        error
            .to_string()
            .starts_with(r"true $'a\000b': cannot be run: "),
        "{error}"
    );
}

#[test]
fn with_no_time_left_nothing_is_started() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("made");
    let cmd = Cmd::new("touch").arg(file.display());
    let result = linux_exec(&cmd, Duration::ZERO);
    assert!(matches!(
        result,
        Err(CmdError::TimedOut {
            after: Duration::ZERO,
            ..
        })
    ));
    assert!(!file.exists());
}

#[test]
fn output_and_input_may_be_larger_than_a_pipe() {
    let flood = "head -c 3000000 /dev/zero | tr '\\0' x";
    let output = run(&sh(&format!("{flood}; {flood} >&2")));
    assert_eq!(output.stdout.len(), 3_000_000);
    assert_eq!(output.stderr.len(), 1 << 20);

    let input: String = (0..500_000).map(|n| format!("{n}\n")).collect();
    assert_eq!(run(&Cmd::new("cat").input(input.clone())).stdout, input);
    assert!(run(&Cmd::new("true").input(input)).success());
    assert_eq!(run(&Cmd::new("cat")).stdout, "");
}

#[test]
fn of_much_standard_error_the_end_is_kept() {
    let output = run(&sh("head -c 5000000 /dev/zero >&2; echo the reason >&2"));
    assert_eq!(output.stderr.len(), 1 << 20);
    assert!(output.stderr.ends_with("the reason\n"));
}

#[test]
fn a_listing_too_long_to_keep_is_an_error_but_the_command_finishes() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("made");
    let cmd = sh(&format!(
        "head -c 17000000 /dev/zero; touch {}",
        file.display()
    ));
    let error = linux_exec(&cmd, LONG).unwrap_err();
    assert!(
        matches!(
            error,
            CmdError::TooLong {
                status: Status::Exited(0),
                ..
            }
        ),
        "{error}"
    );
    assert!(file.exists());
}

#[test]
fn a_daemon_that_holds_the_pipes_is_not_waited_for() {
    for watch in [pidfd as EndWatch, |_| None] {
        let output = unwatched(&sh("sleep 1000 & echo $!"), LONG, watch).unwrap();
        assert!(!is_dead(&output.stdout), "the daemon may live on");
        assert!(run(&sh(&format!("kill -KILL {}", output.stdout))).success());
    }
}

#[test]
fn a_command_that_closes_its_output_is_still_waited_for() {
    for watch in [pidfd as EndWatch, |_| None] {
        let output = unwatched(&sh("exec >&- 2>&-; sleep 0.2; exit 4"), LONG, watch).unwrap();
        assert_eq!(output.status, Status::Exited(4));
    }
}

#[test]
fn a_command_that_takes_too_long_is_killed() {
    for watch in [pidfd as EndWatch, |_| None] {
        let started = Instant::now();
        let result = unwatched(&Cmd::new("sleep").arg(1000), SHORT, watch);
        assert!(is_timeout(&result), "{result:?}");
        assert!(started.elapsed() >= SHORT);
        assert!(started.elapsed() < LONG);
    }
}

#[test]
fn a_command_that_never_stops_talking_is_killed() {
    let result = linux_exec(&Cmd::new("yes"), SHORT);
    assert!(is_timeout(&result), "{result:?}");
}

#[test]
fn a_command_that_never_reads_its_input_is_killed() {
    let cmd = Cmd::new("sleep").arg(1000).input(vec![b'x'; 1 << 20]);
    let result = linux_exec(&cmd, SHORT);
    assert!(is_timeout(&result), "{result:?}");
}

#[test]
fn a_stopped_command_is_killed() {
    let result = linux_exec(&sh("kill -STOP $$"), SHORT);
    assert!(is_timeout(&result), "{result:?}");
}

#[test]
fn a_command_that_ignores_signals_is_killed() {
    let result = linux_exec(
        &sh("trap '' TERM INT HUP; while :; do sleep 1000; done"),
        SHORT,
    );
    assert!(is_timeout(&result), "{result:?}");
}

#[test]
fn all_descendants_are_killed_and_nobody_else() {
    let mut bystander = start(&Cmd::new("sleep").arg(1000)).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let pids = dir.path().join("pids");
    // A child, a grandchild with a session of its own, and one that ignores what it can.
    let script = format!(
        "exec 3>{}; sleep 1000 & echo $! >&3
         setsid sh -c 'echo $$ >&3; sleep 1000 & echo $! >&3; wait' &
         sh -c 'trap \"\" TERM HUP INT; echo $$ >&3; while :; do sleep 1000; done' &
         wait",
        pids.display()
    );
    // The limit is the time the tree has to grow, so it is tried with more until it has.
    let family = (1..).map(|attempt| SHORT * attempt).find_map(|limit| {
        let result = linux_exec(&sh(&script), limit);
        assert!(is_timeout(&result), "{result:?}");
        let family = fs::read_to_string(&pids).unwrap_or_default();
        assert!(limit < LONG);
        (family.lines().count() == 4).then_some(family)
    });
    for pid in family.unwrap().lines() {
        let ends = Instant::now() + LONG;
        while !is_dead(pid) {
            assert!(Instant::now() < ends, "{pid} lives");
            thread::sleep(Duration::from_millis(1));
        }
    }
    assert!(bystander.try_wait().unwrap().is_none());
    bystander.kill().unwrap();
    bystander.wait().unwrap();
}

#[test]
fn killed_processes_are_seen_to_be_gone() {
    let mut child = start(&sh("sleep 1000 & sleep 1000 & wait")).unwrap();
    assert!(kill::with_descendants(&mut child, LONG));
}

/// The kernel sends the signal when the thread that started the child ends, which here stands
/// for the agent.
#[test]
fn a_command_dies_with_the_agent() {
    let starter = thread::spawn(|| start(&Cmd::new("sleep").arg(1000)).unwrap());
    let mut child = starter.join().unwrap();
    assert_eq!(
        Status::from(child.wait().unwrap()),
        Status::Killed(libc::SIGKILL)
    );
}

#[test]
fn a_child_whose_agent_is_dead_already_does_not_start() {
    let not_our_parent = Pid::this();
    assert_eq!(prepare(not_our_parent), Err(Errno::ESRCH));
    prctl::set_pdeathsig(None).unwrap();
}

#[test]
fn this_kernel_tells_the_end_of_a_child_by_a_descriptor() {
    let mut child = start(&Cmd::new("true")).unwrap();
    assert!(pidfd(&child).is_some());
    child.wait().unwrap();
}

#[test]
fn the_clock_runs_while_it_sleeps() {
    let before = Linux::default().now();
    Linux::default().sleep(Duration::from_millis(5));
    assert!(Linux::default().now() - before >= Duration::from_millis(5));
}

/// A file system that takes no writes: whoever writes waits in state D, and no signal helps.
struct Frozen {
    dir: tempfile::TempDir,
}

impl Frozen {
    fn new() -> Frozen {
        // The mount is this thread's alone, and goes with it.
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let frozen = Frozen { dir };
        let root = frozen.dir.path().display();
        run(&sh("mount --make-rprivate /"));
        let made = run(&sh(&format!(
            "cd {root} && mkdir at && truncate -s 8M image && mkfs.ext4 -q image \
             && mount -o loop image at && fsfreeze --freeze at"
        )));
        assert!(made.success(), "{made:?}");
        frozen
    }

    fn file(&self) -> String {
        self.dir.path().join("at/file").display().to_string()
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        let at = self.dir.path().join("at").display().to_string();
        run(&sh(&format!("fsfreeze --unfreeze {at}; umount {at}")));
    }
}

#[test]
#[ignore = "needs root, loop devices and ext4: cargo lab test"]
fn a_child_that_no_signal_reaches_is_left_behind_without_anything_of_ours() {
    let frozen = Frozen::new();
    let result = linux_exec(&Cmd::new("touch").arg(frozen.file()), SHORT);
    let Err(CmdError::TimedOut {
        abandoned: true, ..
    }) = &result
    else {
        panic!("{result:?}")
    };
    let thread = nix::unistd::gettid();
    let left = fs::read_to_string(format!("/proc/self/task/{thread}/children")).unwrap();
    let pid = left.trim();
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    assert!(stat.contains("(touch) D "), "{stat}");
    // Whoever waits for the agent's output must not have to wait for this child.
    let ours: Vec<_> = (0..3)
        .map(|fd| fs::read_link(format!("/proc/self/fd/{fd}")).unwrap())
        .collect();
    for fd in fs::read_dir(format!("/proc/{pid}/fd")).unwrap() {
        let (fd, to) = (
            fd.as_ref().unwrap().file_name(),
            fs::read_link(fd.unwrap().path()).unwrap(),
        );
        assert!(
            to.starts_with("/dev/null") || !ours.contains(&to),
            "{fd:?} is {to:?}"
        );
    }
    drop(frozen);
    nix::sys::wait::waitpid(Pid::from_raw(pid.parse().unwrap()), None).unwrap();
}

#[test]
fn a_job_apart_answers_fails_or_is_given_up() {
    let host = crate::Host::linux(Deadline::after(Instant::now(), LONG));
    let answer: Vec<u32> = host.apart("counting", LONG, |_| Ok(vec![1, 2, 3])).unwrap();
    assert_eq!(answer, [1, 2, 3]);
    let big: String = host
        .apart("talking", LONG, |_| Ok("x".repeat(1 << 20)))
        .unwrap();
    assert_eq!(big.len(), 1 << 20);
    let error = host
        .apart::<()>("failing", LONG, |_| anyhow::bail!("no\nway"))
        .unwrap_err();
    assert_eq!(error.to_string(), "no\nway");
    let error = host
        .apart::<()>("dying", LONG, |_| panic!("on purpose"))
        .unwrap_err();
    assert!(
        error.to_string().contains("dying: its process ended with"),
        "{error}"
    );
    let sleeps = |_: &crate::Host| {
        std::thread::sleep(LONG);
        Ok(())
    };
    let error = host
        .apart::<()>("sleeping", Duration::from_millis(50), sleeps)
        .unwrap_err();
    let slow = error.downcast_ref::<crate::TooSlow>().unwrap();
    assert!(!slow.abandoned && slow.after < LONG, "{slow}");
    let error = host
        .apart_watching::<()>(
            "sleeping",
            LONG,
            Duration::from_millis(10),
            &mut || false,
            sleeps,
        )
        .unwrap_err();
    assert!(error.is::<crate::TooSlow>(), "{error}");
}

#[test]
fn a_watched_command_is_ended_at_a_no() {
    let mut asked = 0;
    let watch = Watch {
        every: Duration::from_millis(10),
        go_on: &mut || {
            asked += 1;
            asked < 3
        },
    };
    let error = Linux::default()
        .exec(&Cmd::new("sleep").arg(1000), LONG, watch)
        .unwrap_err();
    assert!(matches!(error, CmdError::TimedOut { .. }), "{error}");
    assert_eq!(asked, 3);
}

#[test]
fn a_device_is_read_past_its_end() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), [7; 5000]).unwrap();
    assert_eq!(block::read_at(file.path(), 4096, 8192).unwrap(), [7; 904]);
    assert_eq!(block::read_at(file.path(), 0, 4096).unwrap(), [7; 4096]);
    assert!(block::read_at(std::path::Path::new("/no/such/file"), 0, 4096).is_err());
    assert_eq!(block::zvol_name(file.path()).unwrap(), None);
}

#[test]
fn a_volume_that_waits_for_the_modules_lock_is_said_to() {
    let said = |errno| block::not_opened(std::io::Error::from_raw_os_error(errno)).to_string();
    assert!(said(512).contains("module is busy"), "{}", said(512));
    assert!(said(6).contains("No such device"), "{}", said(6));
}
