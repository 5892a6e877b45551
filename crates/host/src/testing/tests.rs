use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use anyhow::Result;

use super::*;
use crate::{Cmd, CmdError, Host};

const TIMEOUT: Duration = Duration::from_secs(20);

fn import() -> Cmd {
    Cmd::new("zpool").args(["import", "tank"])
}

/// The message of the panic, or None if it was a [`Killed`].
fn panicked(action: impl FnOnce()) -> Option<String> {
    let payload = catch_unwind(AssertUnwindSafe(action)).expect_err("it should not return");
    match payload.downcast::<Killed>() {
        Ok(_) => None,
        Err(payload) => Some(
            payload
                .downcast_ref::<String>()
                .cloned()
                .unwrap_or_default(),
        ),
    }
}

/// Three steps: a command and two changed files.
fn action(host: &Host) -> Result<()> {
    host.run(&import())?;
    host.save("/run/hastor/tank", "imported\n")?;
    host.mkdir("/run/hastor/more")
}

fn ready() -> Script {
    Script::empty().when("zpool import tank", Reply::ok("done\n"))
}

#[test]
fn a_command_says_what_the_test_wrote() {
    let script = ready().when("zpool list", Reply::fails(1, "no pools\n"));
    let host = script.host(TIMEOUT);
    assert_eq!(host.run(&import()).unwrap().stdout, "done\n");
    let error = host.run(&Cmd::new("zpool").arg("list")).unwrap_err();
    assert_eq!(error.to_string(), "zpool list: exit status 1: no pools");
    assert_eq!(
        host.ask(&Cmd::new("zpool").arg("list")).unwrap().code(),
        Some(1)
    );
}

#[test]
fn the_last_word_counts() {
    let script = ready().when("zpool import tank", Reply::ok("again\n"));
    assert_eq!(
        script.host(TIMEOUT).run(&import()).unwrap().stdout,
        "again\n"
    );
    script.when_matching(|cmd| cmd.program() == "zpool", Reply::killed_by(11));
    let error = script.host(TIMEOUT).run(&import()).unwrap_err();
    assert_eq!(error.to_string(), "zpool import tank: killed by SIGSEGV");
}

#[test]
fn a_matching_script_sees_the_secrets() {
    let right = |cmd: &Cmd| {
        cmd.variables()
            .any(|set| set == ("IPMI_PASSWORD", "hunter2"))
    };
    let script = Script::empty()
        .when_matching(
            |cmd| cmd.program() == "ipmitool",
            Reply::fails(1, "denied hunter2\n"),
        )
        .when_matching(right, Reply::ok("on\n"));
    let status = |password| {
        let cmd = Cmd::new("ipmitool")
            .arg("power")
            .secret_env("IPMI_PASSWORD", password);
        script.host(TIMEOUT).ask(&cmd).unwrap().stdout
    };
    assert_eq!(status("hunter2"), "on\n");
    assert_eq!(status("other"), "");
    assert_eq!(script.steps(), ["ipmitool power", "ipmitool power"]);
}

#[test]
fn a_command_without_a_script_ends_the_test_by_its_name() {
    let script = ready();
    let host = script.host(TIMEOUT);
    let message = panicked(|| drop(host.run(&Cmd::new("zpool").args(["export", "tank"]))));
    assert_eq!(
        message.unwrap(),
        "the test has no script for the command: zpool export tank"
    );
    host.run(&import()).unwrap();
}

#[test]
fn a_command_changes_the_tree_and_answers_by_it() {
    let script = ready()
        .when(
            "zpool import tank",
            Reply::ok("").and(|tree| tree.write("/proc/tank", "ONLINE")),
        )
        .when(
            "zpool export tank",
            Reply::ok("").and(|tree| tree.remove("/proc/tank")),
        )
        .when(
            "zpool list",
            Reply::given(|tree| match tree.read("/proc/tank") {
                Some(health) => Reply::ok(format!("tank {health}\n")),
                None => Reply::fails(1, "no pools\n"),
            }),
        );
    let host = script.host(TIMEOUT);
    let listed = || host.ask(&Cmd::new("zpool").arg("list")).unwrap().stdout;
    assert_eq!(listed(), "");
    host.run(&import()).unwrap();
    assert_eq!(listed(), "tank ONLINE\n");
    host.run(&Cmd::new("zpool").args(["export", "tank"]))
        .unwrap();
    assert_eq!(listed(), "");
}

#[test]
fn time_passes_only_when_something_takes_it() {
    let script = ready().when("slow", Reply::ok("").taking(Duration::from_secs(7)));
    let host = script.host(TIMEOUT);
    assert_eq!(host.time_left(), Duration::from_secs(18));
    host.run(&import()).unwrap();
    host.sleep(Duration::from_secs(1));
    host.run(&Cmd::new("slow")).unwrap();
    assert_eq!(host.time_left(), Duration::from_secs(10));
    script.advance(Duration::from_secs(4));
    let error = host.run(&Cmd::new("slow")).unwrap_err();
    assert_eq!(error.to_string(), "slow: did not finish within 6.0 s");
    assert_eq!(host.time_left(), Duration::ZERO);
    let error = host.run(&Cmd::new("slow")).unwrap_err();
    assert_eq!(
        error.to_string(),
        "slow: not started, because no time was left"
    );
    assert_eq!(script.steps().len(), 3);
}

#[test]
fn what_takes_too_long_changes_nothing_but_what_hangs_may_have() {
    let script = Script::empty()
        .when(
            "slow",
            Reply::ok("")
                .taking(TIMEOUT)
                .and(|tree| tree.write("/slow", "")),
        )
        .when("stuck", Reply::hangs().and(|tree| tree.write("/stuck", "")));
    let limited = |name: &str| Cmd::new(name).at_most(Duration::from_secs(5));
    let host = script.host(TIMEOUT);
    for name in ["slow", "stuck"] {
        assert!(matches!(
            host.run(&limited(name)),
            Err(CmdError::TimedOut { .. })
        ));
    }
    assert_eq!(host.time_left(), Duration::from_secs(8));
    assert!(!script.tree().exists("/slow"));
    assert!(script.tree().exists("/stuck"));
}

#[test]
fn a_missing_program_is_missing() {
    let script = Script::empty().when("zpool import tank", Reply::missing());
    let result = script.host(TIMEOUT).run(&import());
    assert!(matches!(result, Err(CmdError::Missing { program }) if program == "zpool"));
    assert!(script.steps().is_empty());
}

#[test]
fn waiting_ends_at_the_deadline_of_the_clock() {
    let script = Script::empty();
    let host = script.host(TIMEOUT);
    let error = host.wait_for("the disk", || Ok(false)).unwrap_err();
    assert_eq!(error.to_string(), "waited 18.0 s for the disk");
    let mut looks = 0;
    script
        .host(TIMEOUT)
        .wait_for("it", || {
            Ok({
                looks += 1;
                looks > 3
            })
        })
        .unwrap();
}

#[test]
fn steps_are_counted() {
    let script = ready();
    action(&script.host(TIMEOUT)).unwrap();
    let steps = [
        "zpool import tank",
        "saving /run/hastor/tank",
        "making the directory /run/hastor/more",
    ];
    assert_eq!(script.steps(), steps);
    script.clear_steps();
    assert!(script.steps().is_empty());
}

#[test]
fn a_step_fails_once() {
    let script = ready();
    script.inject(0, Fault::Fail);
    let error = action(&script.host(TIMEOUT)).unwrap_err();
    assert_eq!(
        error.to_string(),
        "zpool import tank: exit status 1: injected failure"
    );
    script.clear_steps();
    script.inject(1, Fault::Fail);
    let error = action(&script.host(TIMEOUT)).unwrap_err();
    assert_eq!(
        format!("{error:#}"),
        "saving /run/hastor/tank: Input/output error (os error 5)"
    );
    assert_eq!(script.read_file("/run/hastor/tank"), None);
    action(&script.host(TIMEOUT)).unwrap();
    assert_eq!(script.read_file("/run/hastor/tank").unwrap(), "imported\n");
}

#[test]
fn a_command_hangs_for_the_time_it_has() {
    let script = ready();
    script.inject(0, Fault::Hang);
    let host = script.host(TIMEOUT);
    let error = action(&host).unwrap_err();
    assert_eq!(
        error.to_string(),
        "zpool import tank: did not finish within 18.0 s"
    );
    assert_eq!(host.time_left(), Duration::ZERO);
}

#[test]
fn a_write_that_hangs_takes_the_action_with_it() {
    let script = ready();
    script.inject(1, Fault::Hang);
    let host = script.host(TIMEOUT);
    assert_eq!(panicked(|| drop(action(&host))), None);
    assert_eq!(host.time_left(), Duration::ZERO);
    assert_eq!(script.read_file("/run/hastor/tank"), None);
}

#[test]
fn an_action_can_be_killed_before_every_step_and_repeated() {
    let script = ready();
    for at in 0..3 {
        script.remove("/run");
        script.clear_steps();
        script.inject(at, Fault::Kill);
        assert_eq!(panicked(|| drop(action(&script.host(TIMEOUT)))), None);
        assert_eq!(script.steps().len(), at + 1);
        assert_eq!(script.tree().exists("/run/hastor/tank"), at == 2);
        action(&script.host(TIMEOUT)).unwrap();
        assert!(script.tree().exists("/run/hastor/more"));
    }
}

#[test]
fn faults_that_were_not_reached_are_forgotten_with_the_steps() {
    let script = ready();
    script.inject(3, Fault::Kill);
    action(&script.host(TIMEOUT)).unwrap();
    script.clear_steps();
    for _ in 0..2 {
        action(&script.host(TIMEOUT)).unwrap();
    }
    assert_eq!(script.steps().len(), 6);
}

#[test]
fn a_recorded_tree_is_copied_with_its_links() {
    let recorded = tempfile::tempdir().unwrap();
    let source = Tree::at(recorded.path());
    source.write("/sys/a/name", "one\n");
    source.write("/sys/empty/.gitkeep", "");
    source.symlink("../a", "/sys/b/relative");
    std::os::unix::fs::symlink("/sys/a", source.path("/sys/b/absolute")).unwrap();
    std::os::unix::fs::symlink("/nowhere", source.path("/sys/b/dangling")).unwrap();
    let mut reading = fs::metadata(source.path("/sys/a/name"))
        .unwrap()
        .permissions();
    reading.set_readonly(true);
    fs::set_permissions(source.path("/sys/a/name"), reading).unwrap();

    let script = Script::on(recorded.path());
    let host = script.host(TIMEOUT);
    assert_eq!(
        host.link_target("/sys/b/relative").unwrap().unwrap(),
        "../a"
    );
    for link in ["relative", "absolute"] {
        host.write(&format!("/sys/b/{link}/name"), link).unwrap();
        assert_eq!(script.read_file("/sys/a/name").unwrap(), link);
    }
    assert!(script.tree().exists("/sys/b/dangling"));
    assert!(!script.path("/sys/b/dangling").exists());
    assert!(host.is_dir("/sys/empty") && host.list("/sys/empty").unwrap().is_empty());
    assert_eq!(source.read("/sys/a/name").unwrap(), "one\n");
}

#[test]
#[should_panic(expected = "copying /no/such/tree to /")]
fn a_tree_that_was_not_recorded_ends_the_test() {
    Script::on("/no/such/tree");
}
