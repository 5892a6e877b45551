//! A password and a key are in no command line, no file, no message and no other process.

use std::fs;
use std::process::{Child, Command};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use super::bmc::{Bmc, Called, PASSWORD, enter};

/// The key, as text and as it is written.
const KEY: &str = "Key-of-the-BMC-mark";

fn key_in_hexadecimal() -> String {
    KEY.bytes().map(|byte| format!("{byte:02x}")).collect()
}

/// Looks at all command lines of this test, again and again, for something that should be in none.
/// Those of tests that run beside it are in other network namespaces.
struct Watch {
    stop: Arc<AtomicBool>,
    found: Option<thread::JoinHandle<Vec<String>>>,
}

impl Watch {
    fn start(secrets: Vec<String>) -> Watch {
        let stop = Arc::new(AtomicBool::new(false));
        let told = stop.clone();
        let watch = move || {
            let here = fs::read_link("/proc/thread-self/ns/net").unwrap();
            let mut found = Vec::new();
            while !told.load(Ordering::Relaxed) {
                for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
                    let there = fs::read_link(entry.path().join("ns/net"));
                    if there.is_ok_and(|there| there != here) {
                        continue;
                    }
                    let line = fs::read(entry.path().join("cmdline")).unwrap_or_default();
                    let line = String::from_utf8_lossy(&line).into_owned();
                    if secrets.iter().any(|secret| line.contains(secret.as_str())) {
                        found.push(line);
                    }
                }
            }
            found
        };
        Watch {
            stop,
            found: Some(thread::spawn(watch)),
        }
    }

    fn finish(mut self) -> Vec<String> {
        self.stop.store(true, Ordering::Relaxed);
        self.found.take().unwrap().join().unwrap()
    }
}

/// All system calls of a call and of its children, but for those by which it is given its
/// parameters. Whole strings, and no environments: that of ipmitool has the password, by intent.
fn traced(called: Called) -> (String, String) {
    let dir = tempfile::tempdir().unwrap();
    let trace = dir.path().join("trace");
    let place = trace.to_str().unwrap().to_owned();
    let finished = called
        .under("strace", &["-f", "-s", "65536", "-x", "-o", &place])
        .run();
    let calls = fs::read_to_string(&trace).unwrap();
    let mut kept = String::new();
    for line in calls.lines().filter(|line| !line.contains(" read(0, ")) {
        kept.push_str(line);
        kept.push('\n');
    }
    (kept, format!("{}{}", finished.stdout, finished.stderr))
}

#[test]
#[ignore = "needs root, openipmi and strace: cargo lab test"]
fn no_action_lets_a_secret_out() {
    enter();
    let plain = Bmc::start();
    let keyed = Bmc::at(6230, &format!("bmc_key \"{KEY}\""));
    let key = format!("hexadecimal_kg={}", key_in_hexadecimal());
    let secrets = [PASSWORD.to_owned(), KEY.to_owned(), key_in_hexadecimal()];
    let log = tempfile::tempdir().unwrap();
    let log = log.path().join("debug.log");
    let debug = format!("debug_file={}", log.display());
    let watch = Watch::start(secrets.to_vec());
    let actions = [
        "status",
        "monitor",
        "off",
        "on",
        "reboot",
        "list",
        "list-status",
        "diag",
        "validate-all",
        "metadata",
        "manpage",
        "frobnicate",
    ];
    let typo = format!("passwrd={PASSWORD}");
    for backend in ["backend=native", "backend=ipmitool"] {
        for action in actions {
            for (bmc, more) in [
                (&plain, &["verbose=1", &typo][..]),
                (&keyed, &[&key, "verbose=1"]),
                (&plain, &["username=nobody"]),
                (&plain, &["password=Another-S3cret"]),
            ] {
                // What fails is tried for long by some; the messages are the same.
                let fails = more.len() == 1;
                if fails && !["status", "off"].contains(&action) {
                    continue;
                }
                let more = [&[backend, "hostname=n1", &debug], more].concat();
                let (calls, said) = traced(bmc.ours(action, &more));
                assert!(calls.contains("execve("), "strace saw nothing");
                for secret in secrets.iter().map(String::as_str).chain(["Another-S3cret"]) {
                    let line = calls.lines().find(|line| line.contains(secret));
                    assert_eq!(line, None, "{action} {more:?}");
                    assert!(!said.contains(secret), "{action} {more:?}: {said}");
                }
            }
        }
    }
    let found = watch.finish();
    assert_eq!(found, Vec::<String>::new(), "in a command line");
    let written = fs::read_to_string(&log).unwrap();
    assert!(written.contains("power is on"), "{written}");
    for secret in &secrets {
        assert!(!written.contains(secret.as_str()), "{written}");
    }
    let mode = std::os::unix::fs::PermissionsExt::mode(&fs::metadata(&log).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600);
}

/// The method finds what it looks for: fence_ipmilan gives the password on a command line.
#[test]
#[ignore = "needs root, openipmi, strace and fence-agents: cargo lab test"]
fn a_secret_on_a_command_line_is_found() {
    enter();
    let bmc = Bmc::start();
    let (calls, _) = traced(bmc.fence_ipmilan("status", &[]));
    let line = calls
        .lines()
        .find(|line| line.contains("execve(") && line.contains(PASSWORD));
    assert!(line.is_some());
}

#[test]
#[ignore = "needs root and openipmi: cargo lab test"]
fn a_debug_file_is_not_written_through_a_link() {
    enter();
    let bmc = Bmc::start();
    let dir = tempfile::tempdir().unwrap();
    let (link, target) = (dir.path().join("link"), dir.path().join("target"));
    fs::write(&target, "precious").unwrap();
    std::os::unix::fs::symlink(&target, &link).unwrap();
    let more = format!("debug_file={}", link.display());
    let finished = bmc.ours("status", &[&more]).expect(0);
    assert!(
        finished.stderr.contains("going on without debug_file"),
        "{finished:?}"
    );
    assert_eq!(fs::read_to_string(&target).unwrap(), "precious");
    let fifo = dir.path().join("fifo");
    let made = Command::new("mkfifo").arg(&fifo).status().unwrap();
    assert!(made.success());
    let more = format!("debug_file={}", fifo.display());
    let child: Child = bmc.ours("status", &[&more]).spawn();
    assert_eq!(child.wait_with_output().unwrap().status.code(), Some(0));
}
