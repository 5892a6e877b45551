//! `ocf-meta/` is what the agents say of themselves, under any circumstances, and everything
//! that reads metadata or manual pages takes it. `UPDATE=1` rewrites `ocf-meta/`.

#![expect(
    clippy::disallowed_methods,
    reason = "tests see the agents as other programs do"
)]
#![expect(
    clippy::unwrap_used,
    reason = "a test may, but clippy does not take what it calls for one"
)]

mod examples;
mod fencing;
mod gates;
pub(crate) mod room;

use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// The agents, and where cargo put their executables.
pub(crate) const AGENTS: &[(&str, &str)] = &[
    ("vip", env!("CARGO_BIN_EXE_vip")),
    ("zfs-pool", env!("CARGO_BIN_EXE_zfs-pool")),
    ("lio-target", env!("CARGO_BIN_EXE_lio-target")),
];

/// The fence agents likewise. Their metadata follows other rules.
pub(crate) const FENCE_AGENTS: &[(&str, &str)] =
    &[("fence_hastor_ipmi", env!("CARGO_BIN_EXE_fence_hastor_ipmi"))];

/// The executables that are no agents.
const PROGRAMS: &[&str] = &["hastor"];

/// What an executable is asked for its metadata by, and the others to which it prints something long.
fn words(agent: &str) -> [&'static [&'static str]; 2] {
    match agent.starts_with("fence_") {
        true => [&["-o", "metadata"], &["-o", "manpage"]],
        false => [&["meta-data"], &["man"]],
    }
}

fn all() -> impl Iterator<Item = &'static (&'static str, &'static str)> {
    AGENTS.iter().chain(FENCE_AGENTS)
}

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

fn committed(agent: &str) -> PathBuf {
    Path::new(ROOT)
        .join("ocf-meta")
        .join(agent)
        .with_extension("xml")
}

/// Runs an agent with nothing in its environment.
fn ask(executable: &str, words: &[&str]) -> Output {
    Command::new(executable)
        .args(words)
        .env_clear()
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

/// What an agent prints, and that it prints nothing else.
pub(crate) fn told(executable: &str, words: &[&str]) -> String {
    let output = ask(executable, words);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(
        (output.status.code(), &*stderr),
        (Some(0), ""),
        "{executable} {words:?}"
    );
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn every_executable_is_among_the_agents() {
    let manifest = fs::read_to_string(Path::new(ROOT).join("Cargo.toml")).unwrap();
    let executables: Vec<&str> = manifest
        .split("[[bin]]\n")
        .skip(1)
        .filter_map(|section| section.strip_prefix("name = \"")?.split('"').next())
        .collect();
    let agents = all().map(|(agent, _)| agent);
    let known: Vec<&str> = agents.chain(PROGRAMS).copied().collect();
    assert_eq!(
        known, executables,
        "AGENTS, FENCE_AGENTS and PROGRAMS are not what Cargo.toml has"
    );
}

#[test]
fn the_committed_metadata_is_what_the_agents_print() {
    for (agent, executable) in all() {
        let (path, printed) = (committed(agent), told(executable, words(agent)[0]));
        if std::env::var_os("UPDATE").is_some_and(|update| update == "1") {
            fs::write(&path, &printed).unwrap();
        }
        let committed = fs::read_to_string(&path).unwrap_or_default();
        assert!(
            printed == committed,
            "{} is out of date: UPDATE=1 cargo test",
            path.display()
        );
    }
}

#[test]
fn no_committed_metadata_is_left_over() {
    for entry in fs::read_dir(Path::new(ROOT).join("ocf-meta")).unwrap() {
        let path = entry.unwrap().path();
        assert!(
            all().any(|(agent, _)| committed(agent) == path),
            "{} belongs to no agent",
            path.display()
        );
    }
}

#[test]
fn metadata_depends_on_nothing_around_it() {
    for (agent, executable) in AGENTS {
        let output = Command::new(executable)
            .args(["meta-data", "and", "more"])
            .current_dir("/")
            .stdin(Stdio::null())
            .env("OCF_RESKEY_no_such_parameter", "x")
            .envs(
                gates::parameters(&told(executable, &["meta-data"])).map(|name| {
                    (
                        format!("OCF_RESKEY_{name}"),
                        "not a value of anything \u{1}".to_owned(),
                    )
                }),
            )
            .env("OCF_RESKEY_CRM_meta_timeout", "-1")
            .env("OCF_CHECK_LEVEL", "many")
            .env("HA_debug", "1")
            .env("LANG", "de_DE")
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(0), "{agent}: {output:?}");
        assert_eq!(
            String::from_utf8_lossy(&output.stdout),
            told(executable, &["meta-data"])
        );
    }
}

#[test]
fn the_manual_page_is_printed_as_quietly() {
    for (agent, executable) in AGENTS {
        assert!(
            told(executable, &["man"]).contains(".SH NAME\nocf_hastor_"),
            "{agent}"
        );
    }
}

/// A reader that goes away, as `| head` does, must not look like a crash in the cluster's log.
#[test]
fn nobody_listening_is_not_a_panic() {
    for (agent, executable) in all() {
        for words in words(agent) {
            let (ours, theirs) = UnixStream::pair().unwrap();
            drop(ours);
            is_no_panic(executable, words, OwnedFd::from(theirs).into());
            let full = fs::OpenOptions::new()
                .write(true)
                .open("/dev/full")
                .unwrap();
            is_no_panic(executable, words, full.into());
        }
    }
}

fn is_no_panic(executable: &str, words: &[&str], stdout: Stdio) {
    let child = Command::new(executable)
        .args(words)
        .env_clear()
        .stdin(Stdio::null())
        .stdout(stdout)
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let output = child.wait_with_output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(
        matches!(output.status.code(), Some(0 | 1)),
        "{words:?}: {}: {stderr}",
        output.status
    );
    assert!(!stderr.contains("panic"), "{words:?}: {stderr}");
}
