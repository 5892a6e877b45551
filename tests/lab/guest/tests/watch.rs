//! The real watch, on this machine's loopback addresses and on directories that stand for pools.

// A test runs programs and waits for them.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    clippy::unwrap_used
)]

use std::fs;
use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use lab_guest::Collector;
use lab_guest::sight::{Heard, heard};
use tempfile::TempDir;

/// The watch, killed when the test ends.
struct Watch(Child);

impl Drop for Watch {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn command(to: &str, dir: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_hastor-guest"));
    command.args(["watch", "--name", "n1", "--to", to, "--kstat"]);
    command.arg(dir.join("zfs"));
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    command
}

fn all(dir: &TempDir) -> Vec<Heard> {
    heard(&fs::read_to_string(dir.path().join("log")).unwrap()).unwrap()
}

/// Waits for a sight that is like this, among those from `since` on; all of them.
fn wait(dir: &TempDir, since: usize, what: &str, is_it: impl Fn(&Heard) -> bool) -> Vec<Heard> {
    let begin = Instant::now();
    loop {
        let all = all(dir);
        if all.iter().skip(since).any(&is_it) {
            return all;
        }
        let late = begin.elapsed() > Duration::from_secs(60);
        assert!(!late, "no {what} in {all:?}");
        thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn changes_are_told_and_the_whole_state_after_the_line_has_broken() {
    let dir = tempfile::tempdir().unwrap();
    let pool = dir.path().join("zfs/tank");
    let log = dir.path().join("log");
    let collector = Collector::bind((Ipv4Addr::LOCALHOST, 0).into(), &log).unwrap();
    let address = collector.address();
    let mut command = command(&address.to_string(), dir.path());
    // 127.0.0.1 is there in any network in which this test can speak to the collector; 192.0.2.77 is nobody's.
    command.args(["--pool", "tank", "--pool", "other"]);
    command.args(["--address", "127.0.0.1", "--address", "192.0.2.77"]);
    let _watch = Watch(command.spawn().unwrap());
    let local = |heard: &Heard| heard.sight.held == ["127.0.0.1"];
    let both = |heard: &Heard| heard.sight.held == ["tank", "127.0.0.1"];

    let first = wait(&dir, 0, "first sight", local);
    assert_eq!((first.len(), first[0].node.as_str()), (1, "n1"));
    fs::create_dir_all(&pool).unwrap();
    let come = wait(&dir, 0, "pool that came", both);
    fs::remove_dir(&pool).unwrap();
    let gone = wait(&dir, come.len(), "pool that went", local);
    let alive = wait(&dir, gone.len(), "sign of life", local);
    for pair in alive.windows(2) {
        let (last, next) = (&pair[0], &pair[1]);
        // Nothing is said without a reason.
        let changed = last.sight.held != next.sight.held;
        assert!(changed || next.arrival - last.arrival > 0.5, "{pair:?}");
    }
    for heard in &alive {
        // The lab's clock, as the watch knows it, is never ahead; printed, it is rounded.
        assert!(heard.sight.before <= heard.sight.now, "{heard:?}");
        assert!(heard.sight.now <= heard.arrival + 0.001, "{heard:?}");
    }

    drop(collector);
    fs::create_dir(&pool).unwrap();
    let _collector = Collector::bind(address, &log).unwrap();
    let again = wait(&dir, alive.len(), "sight after that", |_| true);
    let next = &again[alive.len()];
    assert!(both(next), "{next:?}");
    assert!(next.connection > alive[0].connection, "{next:?}");
    assert_eq!(next.boot, alive[0].boot);
}

#[test]
fn a_lab_that_is_not_there_yet_is_waited_for() {
    let dir = tempfile::tempdir().unwrap();
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let mut command = command(&address.to_string(), dir.path());
    let _watch = Watch(command.args(["--pool", "tank"]).spawn().unwrap());
    thread::sleep(Duration::from_millis(700));
    let _collector = Collector::bind(address, &dir.path().join("log")).unwrap();
    let all = wait(&dir, 0, "sight", |_| true);
    assert!(all[0].sight.held.is_empty(), "{all:?}");
}

#[test]
fn wrong_calls_are_told() {
    let dir = tempfile::tempdir().unwrap();
    let call = |words: &[&str]| -> Output {
        let mut command = command("127.0.0.1:1", dir.path());
        command.args(words).stderr(Stdio::piped()).output().unwrap()
    };
    for (words, expected) in [
        (&[][..], "--pool <POOL>"),
        (&["--address", "192.0.2"], "'192.0.2' for '--address <"),
        (&["--pool", "a b"], "'a b' for '--pool <"),
    ] {
        let output = call(words);
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{text}");
        assert!(text.contains(expected), "{text}");
    }
}
