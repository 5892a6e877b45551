//! The end of a command that took too long, and of every process it started.

use std::fs;
use std::process::Child;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// How long killed processes have to be gone: the agent's own time is nearly over.
pub(super) const PATIENCE: Duration = Duration::from_millis(200);

/// Kills a child, which was not yet waited for, and all its descendants, also those with a session
/// of their own. False if some are still there after `patience`: a process that waits for a device
/// or a file server (state D) takes no signal, and is left behind.
///
/// Not the process group: the agent is in it.
pub(super) fn with_descendants(child: &mut Child, patience: Duration) -> bool {
    let family = stopped_family(child.id());
    // Children before their parents, for a stopped parent cannot wait for its child and so let
    // the kernel give the child's number to somebody else.
    for pid in family.iter().rev() {
        send(*pid, Signal::SIGKILL);
    }
    let ends = Instant::now() + patience;
    loop {
        let reaped = matches!(child.try_wait(), Ok(Some(_)));
        if reaped && family.iter().skip(1).all(|pid| is_gone(*pid)) {
            return true;
        }
        if Instant::now() >= ends {
            return false;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// The process and its descendants, parents before children, each stopped before its children are
/// listed, so that none is born meanwhile: fork(2) starts anew when a signal is pending.
fn stopped_family(child: u32) -> Vec<u32> {
    let mut family = vec![child];
    let mut next = 0;
    while let Some(&pid) = family.get(next) {
        send(pid, Signal::SIGSTOP);
        family.extend(children(pid));
        next += 1;
    }
    family
}

/// The children of all threads of a process; none where the kernel does not tell
/// (CONFIG_PROC_CHILDREN, which distributions set).
fn children(pid: u32) -> Vec<u32> {
    let threads = fs::read_dir(format!("/proc/{pid}/task"))
        .into_iter()
        .flatten()
        .flatten();
    let lists =
        threads.filter_map(|thread| fs::read_to_string(thread.path().join("children")).ok());
    lists.flat_map(|list| numbers(&list)).collect()
}

fn numbers(list: &str) -> Vec<u32> {
    list.split_ascii_whitespace()
        .filter_map(|pid| pid.parse().ok())
        .collect()
}

/// No longer there, or dead and only waiting to be noticed by its parent.
fn is_gone(pid: u32) -> bool {
    match fs::read_to_string(format!("/proc/{pid}/stat")) {
        // The state follows the name, which is in parentheses and may contain some itself.
        Ok(stat) => stat
            .rsplit(')')
            .next()
            .is_some_and(|rest| rest.trim_start().starts_with('Z')),
        Err(_) => true,
    }
}

/// That there is no such process any more is what is wanted.
fn send(pid: u32, signal: Signal) {
    if let Ok(pid) = i32::try_from(pid) {
        let _ = kill(Pid::from_raw(pid), signal);
    }
}
