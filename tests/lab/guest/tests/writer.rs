//! The real writer, on files of this machine, with a collector in this process.

// A test runs programs and waits for them.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    clippy::unwrap_used
)]

use std::fs::{self, OpenOptions};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use lab_guest::{Acks, Collector, End, Problem, Report, Ring, State, verdict};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

const SLOTS: usize = 16;
const SIZE: usize = 4096;

/// A ring's file, and a collector.
struct Lab {
    dir: TempDir,
    collector: Collector,
}

impl Lab {
    fn new() -> Lab {
        // On the disk that has the build: /tmp may be a tmpfs, which has not always had O_DIRECT.
        let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let collector = Collector::bind(any_port(), &dir.path().join("acks.log")).unwrap();
        Lab { dir, collector }
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join("ring")
    }

    fn write(&self, id: &str, more: &[&str]) -> Running {
        let mut command = self.command("write");
        command.args(["--id", id, "--to", &self.collector.address().to_string()]);
        Running(command.args(more).stdout(Stdio::null()).spawn().unwrap())
    }

    fn command(&self, what: &str) -> Command {
        let mut command = guest(what);
        command.args(["--slots", "16", "--size", "4096", "--path"]);
        command.arg(self.path());
        command
    }

    fn acks(&self) -> Acks {
        self.collector.acks().unwrap()
    }

    fn count(&self) -> usize {
        self.acks().count()
    }

    fn wait(&self, what: &str, done: impl Fn(&Acks) -> bool) {
        wait(what, || done(&self.acks()));
    }

    /// Waits for so many more records to be acknowledged.
    fn wait_for_records(&self, more: usize) {
        let goal = self.count() + more;
        self.wait("records", |acks| acks.count() >= goal);
    }

    fn end_of(&self, id: &str) -> End {
        self.acks().writers[id].sessions.last().unwrap().end
    }

    fn ring(&self) -> Ring {
        let output = self.command("verify").output().unwrap();
        assert!(output.status.success(), "{output:?}");
        Ring::parse(&String::from_utf8(output.stdout).unwrap()).unwrap()
    }

    fn report(&self) -> Report {
        verdict(&self.acks(), &self.ring())
    }

    /// Writes over some of the file, behind everybody's back.
    fn damage(&self, at: usize, bytes: &[u8]) {
        let file = OpenOptions::new().write(true).open(self.path()).unwrap();
        file.write_all_at(bytes, at as u64).unwrap();
        file.sync_all().unwrap();
    }
}

fn any_port() -> SocketAddr {
    (Ipv4Addr::LOCALHOST, 0).into()
}

fn guest(what: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_hastor-guest"));
    command.arg(what).stdin(Stdio::null());
    command
}

fn wait(what: &str, done: impl Fn() -> bool) {
    let begin = Instant::now();
    while !done() {
        assert!(begin.elapsed() < Duration::from_secs(60), "no {what}");
        thread::sleep(Duration::from_millis(10));
    }
}

/// A running program, killed when a test fails.
struct Running(Child);

impl Running {
    fn end(mut self, signal: Signal) -> bool {
        kill(Pid::from_raw(self.0.id() as i32), signal).unwrap();
        let begin = Instant::now();
        loop {
            if let Some(status) = self.0.try_wait().unwrap() {
                return status.success();
            }
            assert!(begin.elapsed() < Duration::from_secs(60), "it does not end");
            thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn what_was_acknowledged_is_there_after_an_ordinary_end() {
    let lab = Lab::new();
    let writer = lab.write("client", &[]);
    lab.wait_for_records(3 * SLOTS);
    assert!(writer.end(Signal::SIGTERM));
    let report = lab.report();
    report.check().unwrap();
    assert_eq!(lab.end_of("client"), End::Bye { pending: false });
    assert!(
        lab.ring()
            .slots
            .iter()
            .all(|state| matches!(state, State::Ok { .. }))
    );
    let client = &report.acks.writers["client"];
    assert!(client.longest_gap().is_some() && client.latencies().is_some());
    assert_eq!(client.faults().count(), 0);
    let text = report.to_string();
    assert!(
        text.ends_with("16 slots: OK, every acknowledged record is there"),
        "{text}"
    );
}

#[test]
fn a_killed_writer_is_noticed_and_continues_where_it_was() {
    let lab = Lab::new();
    for life in 0..10 {
        let how: &[&str] = if life == 0 { &[] } else { &["--resume"] };
        let writer = lab.write("client", how);
        lab.wait_for_records(SLOTS / 2);
        assert!(!writer.end(Signal::SIGKILL));
        lab.wait("end of the connection", |acks| {
            acks.writers["client"].sessions[life].end == End::Broken
        });
        lab.report().check().unwrap();
    }
    let client = &lab.acks().writers["client"];
    assert_eq!(client.sessions.len(), 10);
    assert!(client.sessions[1..].iter().all(|run| run.begin.unwrap().1));
}

#[test]
fn a_lost_record_a_torn_one_and_a_foreign_one_are_told_apart() {
    let lab = Lab::new();
    let writer = lab.write("client", &[]);
    lab.wait_for_records(2 * SLOTS);
    assert!(writer.end(Signal::SIGTERM));
    lab.damage(2 * SIZE, &[0; SIZE]);
    lab.damage(5 * SIZE + 1024, &[7; 512]);
    lab.damage(9 * SIZE, &[b'x'; SIZE]);
    let report = lab.report();
    let found: Vec<(u64, String)> = report
        .problems
        .iter()
        .map(|problem| match problem {
            Problem::Lost { slot, found, .. } => (*slot, found.to_string()),
            other => panic!("{other}"),
        })
        .collect();
    assert_eq!(found[0], (2, "nothing".into()));
    assert_eq!(found[1].0, 5);
    assert!(found[1].1.ends_with("client torn at=1024\""), "{found:?}");
    assert_eq!(found[2], (9, "something foreign".into()));
    assert_eq!(found.len(), 3, "{report}");
}

#[test]
fn a_disk_of_a_while_ago_is_caught() {
    let lab = Lab::new();
    let writer = lab.write("client", &["--every", "5"]);
    lab.wait_for_records(SLOTS / 2);
    let before = fs::read(lab.path()).unwrap();
    lab.wait_for_records(SLOTS);
    assert!(writer.end(Signal::SIGTERM));
    lab.report().check().unwrap();
    lab.damage(0, &before);
    assert!(!lab.report().is_ok());
    // A writer that is started again would have hidden it, had it not been compared with the log.
    let writer = lab.write("client", &["--resume"]);
    lab.wait_for_records(2 * SLOTS);
    assert!(writer.end(Signal::SIGTERM));
    let report = lab.report();
    assert!(
        matches!(&report.problems[..], [Problem::Resumed { .. }]),
        "{report}"
    );
}

#[test]
fn two_writers_on_one_disk_are_caught() {
    let lab = Lab::new();
    let one = lab.write("n1", &["--every", "2"]);
    lab.wait_for_records(SLOTS / 2);
    let other = lab.write("n2", &["--every", "3", "--resume"]);
    lab.wait("records of both", |acks| {
        acks.writers
            .values()
            .filter(|writer| writer.count() > 2 * SLOTS)
            .count()
            == 2
    });
    assert!(one.end(Signal::SIGTERM) && other.end(Signal::SIGTERM));
    let report = lab.report();
    let names = Problem::SeveralWriters(vec!["n1".into(), "n2".into()]);
    assert!(report.problems.contains(&names), "{report}");
    let lost = |problem: &&Problem| matches!(problem, Problem::Lost { .. });
    assert!(
        report.problems.iter().any(|problem| lost(&problem)),
        "{report}"
    );
    let wrong = |problem: &&Problem| matches!(problem, Problem::Wrong(_));
    assert!(
        report.problems.iter().any(|problem| wrong(&problem)),
        "{report}"
    );
    // Either of them alone has lost something, too.
    for name in ["n1", "n2"] {
        assert!(
            !verdict(&lab.acks().only(name), &lab.ring()).is_ok(),
            "{name}"
        );
    }
}

#[test]
fn a_record_that_is_lost_while_the_ring_goes_round_is_caught() {
    let lab = Lab::new();
    let writer = lab.write("client", &["--every", "5"]);
    lab.wait_for_records(2 * SLOTS);
    lab.damage(3 * SIZE, &[0; SIZE]);
    lab.wait_for_records(2 * SLOTS);
    assert!(writer.end(Signal::SIGTERM));
    let report = lab.report();
    let [Problem::Wrong(text)] = &report.problems[..] else {
        panic!("{report}")
    };
    assert!(text.starts_with("slot 3: expected \""), "{text}");
    assert!(text.ends_with("found \"- - empty\""), "{text}");
}

/// The file goes away, as a file system does whose server is not there, and comes back.
#[test]
fn errors_are_reported_and_the_same_record_is_tried_again() {
    let lab = Lab::new();
    let writer = lab.write("client", &["--every", "5"]);
    lab.wait_for_records(SLOTS);
    let file = OpenOptions::new().write(true).open(lab.path()).unwrap();
    lab.wait("errors", |acks| {
        // A write that is under way would make it long enough again.
        file.set_len(0).unwrap();
        acks.writers["client"].faults().count() >= 2
    });
    let stuck = lab.count();
    file.set_len((SLOTS * SIZE) as u64).unwrap();
    lab.wait_for_records(2 * SLOTS);
    assert!(writer.end(Signal::SIGTERM));
    let acks = lab.acks();
    let client = &acks.writers["client"];
    assert!(
        client
            .acks()
            .any(|ack| ack.seq == stuck as u64 + 1 && ack.tries > 1)
    );
    let stages: Vec<&str> = client.faults().map(|fault| fault.stage.as_str()).collect();
    assert_eq!(stages, ["read", "open"]);
    // And what was in the file before is missed.
    assert!(lab.report().to_string().contains("seen while writing"));
}

#[test]
fn told_to_end_while_nothing_works_it_says_which_record_was_in_flight() {
    let lab = Lab::new();
    let writer = lab.write("client", &["--every", "5"]);
    lab.wait_for_records(SLOTS);
    let file = OpenOptions::new().write(true).open(lab.path()).unwrap();
    file.set_len(0).unwrap();
    lab.wait("an error", |acks| {
        file.set_len(0).unwrap();
        acks.writers["client"].faults().count() >= 1
    });
    assert!(writer.end(Signal::SIGTERM));
    assert_eq!(lab.end_of("client"), End::Bye { pending: true });
}

#[test]
#[ignore = "needs root: cargo lab test"]
fn a_block_device_is_a_ring_too() {
    let lab = Lab::new();
    let image = lab.dir.path().join("image");
    fs::write(&image, vec![0xee; SLOTS * SIZE]).unwrap();
    let mut losetup = Command::new("losetup");
    let output = losetup
        .args(["--show", "--find"])
        .arg(&image)
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    let device = Detached(String::from_utf8(output.stdout).unwrap().trim().into());
    std::os::unix::fs::symlink(&device.0, lab.path()).unwrap();

    let writer = lab.write("client", &[]);
    lab.wait_for_records(2 * SLOTS);
    assert!(!writer.end(Signal::SIGKILL));
    let writer = lab.write("client", &["--resume"]);
    lab.wait_for_records(2 * SLOTS);
    assert!(writer.end(Signal::SIGTERM));
    lab.report().check().unwrap();

    // One slot more than there is room for.
    let long = guest("verify")
        .args(["--slots", "17", "--path"])
        .arg(&device.0)
        .output()
        .unwrap();
    let what = format!(
        "hastor-guest: {}: it has 65536 bytes, and ",
        device.0.display()
    );
    fails(&long, &what);
}

/// A loop device, gone when this is dropped.
struct Detached(PathBuf);

impl Drop for Detached {
    fn drop(&mut self) {
        let _ = Command::new("losetup")
            .arg("--detach")
            .arg(&self.0)
            .status();
    }
}

#[test]
fn without_a_collector_nothing_is_written() {
    let lab = Lab::new();
    let free = TcpListener::bind(any_port()).unwrap().local_addr().unwrap();
    let to = free.to_string();
    let output = lab
        .command("write")
        .args(["--id", "w", "--to", &to])
        .output()
        .unwrap();
    let expected = format!("hastor-guest: there is no collector at {to}: ");
    fails(&output, &expected);
    assert!(!lab.path().exists());
}

#[test]
fn a_collector_that_goes_ends_the_writer() {
    let Lab { dir, collector } = Lab::new();
    let path = dir.path().join("ring");
    let mut command = guest("write");
    command
        .args(["--slots", "16", "--id", "w", "--path"])
        .arg(&path);
    command.args(["--to", &collector.address().to_string()]);
    let child = command
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    wait("records", || collector.acks().unwrap().count() > SLOTS);
    drop(collector);
    let output = child.wait_with_output().unwrap();
    fails(&output, "hastor-guest: the collector at ");
    // The log lacks at most the record that was in flight.
    let acks = Acks::read(&dir.path().join("acks.log")).unwrap();
    let verify = guest("verify")
        .args(["--slots", "16", "--path"])
        .arg(&path)
        .output()
        .unwrap();
    let ring = Ring::parse(&String::from_utf8(verify.stdout).unwrap()).unwrap();
    verdict(&acks, &ring).check().unwrap();
}

#[test]
fn a_stranger_does_not_spoil_the_log() {
    let lab = Lab::new();
    let writer = lab.write("client", &[]);
    lab.wait_for_records(SLOTS);
    let mut stranger = TcpStream::connect(lab.collector.address()).unwrap();
    stranger.write_all(b"GET / HTTP/1.0\r\n\r\n").unwrap();
    let mut answer = Vec::new();
    // Closed with something unread, a connection may end as reset, too.
    let _ = stranger.read_to_end(&mut answer);
    assert_eq!(answer, b"");
    lab.wait_for_records(SLOTS);
    assert!(writer.end(Signal::SIGTERM));
    lab.report().check().unwrap();
}

#[test]
fn a_log_is_continued_by_the_next_collector() {
    let lab = Lab::new();
    let writer = lab.write("client", &[]);
    lab.wait_for_records(SLOTS);
    assert!(writer.end(Signal::SIGTERM));
    let Lab { dir, collector } = lab;
    drop(collector);
    let collector = Collector::bind(any_port(), &dir.path().join("acks.log")).unwrap();
    let lab = Lab { dir, collector };
    let writer = lab.write("client", &["--resume"]);
    lab.wait_for_records(SLOTS);
    assert!(writer.end(Signal::SIGTERM));
    lab.report().check().unwrap();
    assert_eq!(lab.acks().writers["client"].sessions.len(), 2);
}

#[test]
fn wrong_calls_are_told_in_one_line() {
    let lab = Lab::new();
    let to = lab.collector.address().to_string();
    let write = |path: &str| {
        let mut command = guest("write");
        command.args(["--slots", "16", "--id", "w", "--to", &to, "--path", path]);
        command.output().unwrap()
    };
    fails(
        &write("/dev/hastor-no-such"),
        "hastor-guest: opening /dev/hastor-no-such with O_DIRECT: No such file",
    );
    assert!(!Path::new("/dev/hastor-no-such").exists());
    fails(
        &write("/dev/null"),
        "hastor-guest: /dev/null: expected a block device or a file",
    );
    let missing = lab.command("verify").output().unwrap();
    fails(&missing, "hastor-guest: opening ");
    fs::write(lab.path(), [0; SIZE]).unwrap();
    let short = lab.command("verify").output().unwrap();
    let what = format!(
        "hastor-guest: {}: it has 4096 bytes, and ",
        lab.path().display()
    );
    fails(&short, &what);
    for (option, value) in [
        ("--slots", "1"),
        ("--size", "1000"),
        ("--size", "0"),
        ("--id", "a b"),
    ] {
        let output = guest("write").args([option, value]).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{option} {value}");
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(
            text.contains(&format!("'{value}' for '{option} <")),
            "{text}"
        );
    }
}

fn fails(output: &Output, expected: &str) {
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(
        text.starts_with(expected) && text.lines().count() == 1,
        "{text}"
    );
}
