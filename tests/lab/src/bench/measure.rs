//! Running a call and measuring it, from process 1 of a process namespace.
//!
//! Process 1 inherits every process that an action leaves behind, so it can wait for those too: what the kernel has
//! added up for the children of this process is then complete.

use std::process::Child;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::errno::Errno;
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::wait::waitpid;
use nix::unistd::Pid;

use super::subject::Call;

/// The kernel's counter of process ids in the namespace of the reader; threads count too.
const LAST_PID: &str = "/proc/sys/kernel/ns_last_pid";

/// No single call takes that long, unless it hangs.
const HANGING: Duration = Duration::from_secs(60);

/// Grows with every call, for [`watch`].
static CALLS: AtomicU64 = AtomicU64::new(0);

/// What one call, or several at once, took.
#[derive(Clone, Copy, Debug)]
pub struct Sample {
    /// From before the start of the process to its end
    pub wall: Duration,
    /// User and system time of the process and all it waited for
    pub cpu: Duration,
    /// The same of the processes that it left behind
    pub cpu_later: Duration,
    /// Processes and threads made, those left behind included; None if the counter began anew
    pub processes: Option<u32>,
}

/// Ends this process, and with it the namespace, if a call hangs.
pub fn watch() {
    thread::spawn(|| {
        let mut seen = (CALLS.load(Ordering::Relaxed), Instant::now());
        loop {
            thread::sleep(Duration::from_secs(1));
            let calls = CALLS.load(Ordering::Relaxed);
            if calls != seen.0 {
                seen = (calls, Instant::now());
            } else if seen.1.elapsed() > HANGING {
                eprintln!("call {calls} of the measurements hangs: given up after {HANGING:?}");
                std::process::exit(1);
            }
        }
    });
}

/// Tells [`watch`] that there is progress.
pub fn beat() {
    CALLS.fetch_add(1, Ordering::Relaxed);
}

/// Measures calls that run at the same time; usually one.
pub fn calls(calls: &[Call]) -> Result<Sample> {
    beat();
    let mut commands: Vec<_> = calls.iter().map(Call::command).collect();
    let mut children: Vec<Child> = Vec::with_capacity(calls.len());
    let (pid, cpu) = (last_pid(), children_cpu()?);
    let begin = Instant::now();
    for (command, call) in commands.iter_mut().zip(calls) {
        children.push(
            command
                .spawn()
                .with_context(|| format!("running {}", call.describe()))?,
        );
    }
    let mut statuses = Vec::with_capacity(calls.len());
    for child in &mut children {
        statuses.push(child.wait().context("waiting for a call")?);
    }
    let wall = begin.elapsed();
    let cpu_then = children_cpu()?;
    for (status, call) in statuses.iter().zip(calls) {
        if status.code() != Some(call.exit) {
            bail!("{}: {status}, expected {}", call.describe(), call.exit);
        }
    }
    wait_for_rest()?;
    Ok(Sample {
        wall,
        cpu: cpu_then.saturating_sub(cpu),
        cpu_later: children_cpu()?.saturating_sub(cpu_then),
        processes: made(pid, last_pid()),
    })
}

/// Waits for what the calls left behind.
pub fn wait_for_rest() -> Result<()> {
    loop {
        match waitpid(None::<Pid>, None) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(Errno::ECHILD) => return Ok(()),
            Err(error) => return Err(error).context("waiting for what was left behind"),
        }
    }
}

fn children_cpu() -> Result<Duration> {
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN).context("getrusage")?;
    let (user, system) = (usage.user_time(), usage.system_time());
    let micros = |time: nix::sys::time::TimeVal| {
        Duration::from_secs(time.tv_sec().max(0) as u64)
            + Duration::from_micros(time.tv_usec().max(0) as u64)
    };
    Ok(micros(user) + micros(system))
}

/// None where the kernel was built without CONFIG_CHECKPOINT_RESTORE.
fn last_pid() -> Option<u32> {
    std::fs::read_to_string(LAST_PID).ok()?.trim().parse().ok()
}

fn made(before: Option<u32>, after: Option<u32>) -> Option<u32> {
    after?.checked_sub(before?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_counter_that_began_anew_says_nothing() {
        assert_eq!(made(Some(300), Some(341)), Some(41));
        assert_eq!(made(Some(32767), Some(305)), None);
        assert_eq!(made(None, Some(305)), None);
    }
}
