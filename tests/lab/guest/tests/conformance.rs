//! A good agent passes, and each of many bad ones is caught.

// A test runs programs.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    clippy::unwrap_used
)]

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use tempfile::TempDir;

const AGENT: &str = include_str!("agent.sh");

/// An agent with a flaw, and a place for its resource.
struct Subject {
    dir: TempDir,
}

/// What the program printed and how it ended.
#[derive(Debug)]
struct Said {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

impl Said {
    fn of(command: &mut Command) -> Said {
        let output = command.stdin(Stdio::null()).output().unwrap();
        Said {
            code: output.status.code(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// The names of the checks that failed.
    fn failed(&self) -> Vec<&str> {
        let lines = self.stdout.lines();
        lines
            .filter_map(|line| line.strip_prefix("FAIL  ")?.split(": ").next())
            .collect()
    }

    fn passes(&self) {
        assert_eq!((self.code, self.failed()), (Some(0), vec![]), "{self:?}");
        assert_eq!(self.stderr, "");
        assert!(self.stdout.ends_with(" checks passed\n"), "{self:?}");
    }
}

impl Subject {
    fn new(flaw: &str) -> Subject {
        let dir = tempfile::tempdir().unwrap();
        // Whoever runs it: meta-data needs no root.
        fs::set_permissions(dir.path(), Permissions::from_mode(0o755)).unwrap();
        let subject = Subject { dir };
        let text = AGENT.replace("FLAW=none", &format!("FLAW={flaw}"));
        fs::write(subject.agent(), text).unwrap();
        fs::set_permissions(subject.agent(), Permissions::from_mode(0o755)).unwrap();
        fs::create_dir(subject.place()).unwrap();
        subject
    }

    fn agent(&self) -> PathBuf {
        self.dir.path().join("agent")
    }

    fn place(&self) -> PathBuf {
        self.dir.path().join("place")
    }

    fn conformance(&self, options: &[&str]) -> Said {
        let mut command = conformance(&self.agent());
        command.arg(format!("place={}", self.place().display()));
        Said::of(command.args(options))
    }
}

fn conformance(agent: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_hastor-guest"));
    command.arg("conformance").arg(agent);
    command
}

#[test]
fn a_good_agent_passes() {
    let subject = Subject::new("none");
    let look = format!("! ls {0}/a {0}/b {0}/held", subject.place().display());
    let said = subject.conformance(&["--between", &look, "--every", "3"]);
    said.passes();
    let kills = said.stdout.lines().filter_map(|line| {
        let (_, kills) = line.split_once("killed at any system call of ")?;
        kills.split(' ').nth(1)?.parse::<u32>().ok()
    });
    let kills: Vec<u32> = kills.collect();
    assert!(
        kills.len() == 3 && kills.iter().all(|kills| *kills > 10),
        "{said:?}"
    );
    assert_eq!(fs::read_dir(subject.place()).unwrap().count(), 0);
}

/// A flaw, how the program is called, and the checks that have to fail.
type Flaw = (
    &'static str,
    &'static [&'static str],
    &'static [&'static str],
);

#[test]
#[rustfmt::skip] // one line a flaw
fn every_flaw_is_caught_by_its_check_and_no_other() {
    let flaws: &[Flaw] = &[
        ("environment", &[], &["meta-data needs neither root nor environment"]),
        ("unknown", &[], &["an unknown action is refused"]),
        ("unnamed", &[], &["a required parameter that is missing is named"]),
        ("unchecked", &[], &["a required parameter that is missing is named"]),
        ("second-stop", &[], &["a stop before everything succeeds", "a stop can be repeated"]),
        ("second-start", &[], &["a start can be repeated"]),
        ("noisy", &[], &["a monitor of what runs is silent at every level"]),
        ("deep", &[], &["a monitor of what runs is silent at every level"]),
        ("hang", &["--timeout=2"], &["a monitor of what runs is silent at every level"]),
        ("lock", &["--only=monitors at once"], &["eight monitors at once"]),
        ("forgets", &[], &["a stop needs no parameters", "a stop can be given garbage"]),
    ];
    for (flaw, options, expected) in flaws {
        let said = Subject::new(flaw).conformance(&[&["--every=40"], *options].concat());
        let failed = said.failed();
        // Of kills there are too few to be sure which meet the flaw.
        let quiet: Vec<&str> = failed.iter().filter(|name| !name.starts_with("killed")).copied().collect();
        assert_eq!(quiet, *expected, "{flaw}: {said:?}");
        let (count, names) = (said.stdout.lines().count(), failed.join("; "));
        let last = format!("hastor-guest: {} of {count} checks failed: {names}\n", failed.len());
        assert_eq!((said.code, said.stderr), (Some(1), last));
    }
}

#[test]
#[rustfmt::skip] // one line a flaw
fn what_goes_wrong_only_when_it_is_killed_in_a_certain_place_is_caught() {
    let flaws: &[Flaw] = &[
        ("half-stop", &["--only=call of start"], &["killed at any system call of start"]),
        ("half-stop", &["--only=call of stop"], &["killed at any system call of stop"]),
        ("stop-leftover", &["--only=call of stop"], &["killed at any system call of stop"]),
        ("lock", &["--only=call of monitor", "--every=7"], &["killed at any system call of monitor"]),
    ];
    for (flaw, options, expected) in flaws {
        let said = Subject::new(flaw).conformance(options);
        assert_eq!((said.code, said.failed()), (Some(1), expected.to_vec()), "{flaw}: {said:?}");
    }
}

#[test]
fn what_a_monitor_may_say_can_be_allowed() {
    let only = ["--only", "silent"];
    let said = Subject::new("noisy").conformance(&only);
    assert_eq!(
        said.stdout,
        "FAIL  a monitor of what runs is silent at every level: monitor of what runs says: looking\n"
    );
    Subject::new("noisy")
        .conformance(&[&only[..], &["--allow", "look"]].concat())
        .passes();
}

#[test]
fn a_stop_that_lies_is_caught_wherever_there_is_one() {
    let said = Subject::new("lying-stop").conformance(&["--every=40"]);
    let failed = said.failed();
    for name in [
        "a start can be repeated",
        "a stop can be repeated",
        "a stop needs no parameters",
    ] {
        assert!(failed.contains(&name), "{said:?}");
    }
    let why = "FAIL  a start can be repeated: after a stop: monitor: exit code 0, expected 7";
    assert!(said.stdout.contains(why), "{said:?}");
}

/// The agent says it is stopped; the user's own look says otherwise.
#[test]
fn what_a_stop_leaves_behind_is_seen_by_the_users_own_look() {
    let subject = Subject::new("held");
    let only = ["--only", "a stop can be repeated"];
    subject.conformance(&only).passes();
    let look = format!(
        "test ! -e {}/held || {{ echo is held >&2; false; }}",
        subject.place().display()
    );
    let said = subject.conformance(&[&only[..], &["--between", &look]].concat());
    assert_eq!(
        said.stdout,
        "FAIL  a stop can be repeated: after a stop, --between: exit code 1, expected 0: is held\n"
    );
    assert_eq!(said.code, Some(1));
}

#[test]
fn the_reason_of_a_failure_is_told_with_the_place_of_the_kill() {
    let subject = Subject::new("stop-leftover");
    let said = subject.conformance(&["--only", "system call of stop"]);
    let why = "of stop: after a stop: start: exit code 1, expected 0: something is left\n";
    assert!(said.stdout.contains(why), "{said:?}");
    assert!(
        said.stdout.contains("after a kill at system call "),
        "{said:?}"
    );
}

#[test]
fn what_cannot_be_begun_is_told_in_one_line() {
    let agent = |flaw| Subject::new(flaw);
    let complete = agent("none");
    for (said, expected) in [
        (
            Said::of(&mut conformance(Path::new("/no/such/agent"))),
            "hastor-guest: starting /no/such/agent: No such file or directory (os error 2)",
        ),
        (
            agent("malformed").conformance(&[]),
            "the meta-data is not well-formed: ",
        ),
        (
            Said::of(&mut conformance(&complete.agent())),
            "requires the parameter place: say place=VALUE",
        ),
        (
            agent("none").conformance(&["--only", "no such check"]),
            "hastor-guest: no check's name contains what --only says",
        ),
    ] {
        assert_eq!(said.code, Some(1), "{said:?}");
        assert!(
            said.stderr.contains(expected) && said.stderr.lines().count() == 1,
            "{said:?}"
        );
    }
    let said = agent("none").conformance(&["place"]);
    assert_eq!(said.code, Some(2));
    assert!(said.stderr.contains("expected NAME=VALUE"), "{said:?}");
}

/// The `vip` of these sources.
fn build_vip() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../..");
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["build", "--quiet", "--package", "hastor", "--bin", "vip"]);
    if !cfg!(debug_assertions) {
        cargo.arg("--release");
    }
    // Of the cargo that runs this: they would make dependencies with a build script compile again.
    let names = std::env::vars().map(|(name, _)| name);
    for name in
        names.filter(|name| name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_"))
    {
        cargo.env_remove(name);
    }
    let built = Said::of(cargo.current_dir(root));
    assert_eq!(built.code, Some(0), "{built:?}");
    Path::new(env!("CARGO_BIN_EXE_hastor-guest")).with_file_name("vip")
}

/// In a network of this test's own.
#[test]
#[ignore = "needs root: cargo lab test"]
fn vip_passes() {
    let vip = build_vip();
    unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS).expect("namespaces (needs root)");
    let mounted = |what: Option<&str>, place, flags| mount(what, place, what, flags, None::<&str>);
    mounted(None, "/", MsFlags::MS_REC | MsFlags::MS_PRIVATE).unwrap();
    mounted(Some("tmpfs"), "/run", MsFlags::empty()).unwrap();
    for words in [
        "link set lo up",
        "link add eth0 type veth peer name eth1",
        "link set eth0 up",
        "link set eth1 up",
        "addr add 192.0.2.1/24 dev eth0",
    ] {
        let said = Said::of(Command::new("ip").args(words.split(' ')));
        assert_eq!(said.code, Some(0), "ip {words}: {said:?}");
    }
    let mut command = conformance(&vip);
    command.args(["ip=192.0.2.7", "nic=eth0", "arp_count=1"]);
    command.args(["--between", "! ip addr | grep -F 192.0.2.7"]);
    Said::of(&mut command).passes();
}
