//! Looking at processes through /proc, and ending those that are ours.

use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::layout::{MARK, STATE};

/// Process ids of this machine, those inside the nodes included.
pub fn all() -> Result<Vec<i32>> {
    let entries = fs::read_dir("/proc").context("listing /proc")?;
    Ok(entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .collect())
}

/// Whether a process belongs to a lab: it carries the lab's mark in its environment.
pub fn is_ours(pid: i32) -> bool {
    let mark = format!("{MARK}={STATE}");
    fs::read(format!("/proc/{pid}/environ")).is_ok_and(|environment| {
        environment
            .split(|byte| *byte == 0)
            .any(|entry| entry == mark.as_bytes())
    })
}

/// Whether a process still exists and is no zombie.
pub fn is_alive(pid: i32) -> bool {
    let Ok(stat) = fs::read_to_string(format!("/proc/{pid}/stat")) else {
        return false;
    };
    // The name in parentheses may hold anything, blanks and parentheses included.
    stat.rsplit_once(") ")
        .is_some_and(|(_, rest)| !rest.starts_with(['Z', 'X']))
}

/// When a process was started, in ticks since this machine was; the last moment of all for one that is gone. Process ids do not
/// tell: they begin anew after 32768.
pub fn started(pid: i32) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let rest = stat.rsplit_once(") ").map_or("", |(_, rest)| rest);
    // The 22nd of all, as proc(5) counts them; the state is the third.
    let word = rest.split(' ').nth(22 - 3);
    word.and_then(|word| word.parse().ok()).unwrap_or(u64::MAX)
}

/// The processes that a process started and has not collected; none if it is gone.
pub fn children(parent: i32) -> Vec<i32> {
    let is_child = |pid: &i32| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        // After the name in parentheses: the state, then the parent.
        let rest = stat.rsplit_once(") ").map_or("", |(_, rest)| rest);
        rest.split(' ').nth(1).and_then(|text| text.parse().ok()) == Some(parent)
    };
    all()
        .unwrap_or_default()
        .into_iter()
        .filter(is_child)
        .collect()
}

/// All processes of the node whose init is `init`.
pub fn of_node(init: i32) -> Result<Vec<i32>> {
    let namespace = |pid: i32| fs::read_link(format!("/proc/{pid}/ns/pid"));
    let wanted = namespace(init).with_context(|| format!("process {init}: no such node"))?;
    let is_in = |pid: &i32| namespace(*pid).is_ok_and(|found| found == wanted);
    Ok(all()?.into_iter().filter(is_in).collect())
}

/// Ends every process of a lab but this one, and waits until they are gone.
pub fn end_all_of_lab() -> Result<usize> {
    let me = std::process::id() as i32;
    let found: Vec<i32> = all()?
        .into_iter()
        .filter(|pid| *pid != me && is_ours(*pid))
        .collect();
    for pid in &found {
        // Gone in the meantime is as good.
        let _ = kill(Pid::from_raw(*pid), Signal::SIGKILL);
    }
    let end = Instant::now() + Duration::from_secs(20);
    for pid in &found {
        while is_alive(*pid) {
            if Instant::now() > end {
                bail!("process {pid} of an earlier lab does not end, although killed");
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }
    Ok(found.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_started_later_is_told() {
        let me = std::process::id() as i32;
        assert!(started(1) < started(me), "{} {}", started(1), started(me));
        assert_eq!(started(-1), u64::MAX);
    }
}
