//! Looking into a call, without measuring time: each of its processes is stopped at its very end and looked at.
//!
//! Not `ru_maxrss`: a child starts with the peak of the process that made it, so that a small program would look as
//! large as this one.

use std::fs;
use std::io::Write;

use anyhow::{Context, Result, bail};
use nix::errno::Errno;
use nix::libc;
use nix::sys::ptrace::{self, Options};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use super::measure::beat;
use super::subject::Call;

/// What a call is made of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Anatomy {
    /// Processes, those left behind included
    pub processes: u32,
    /// Threads that are not the first of their process
    pub threads: u32,
    /// Peak resident memory of the largest process, in KiB
    pub peak_kib: u64,
}

/// Runs a call under observation.
pub fn call(call: &Call) -> Result<Anatomy> {
    beat();
    let mut child = call
        .gated()
        .spawn()
        .with_context(|| format!("running {}", call.describe()))?;
    let first = Pid::from_raw(child.id() as i32);
    let options = Options::PTRACE_O_TRACEFORK
        | Options::PTRACE_O_TRACEVFORK
        | Options::PTRACE_O_TRACECLONE
        | Options::PTRACE_O_TRACEEXIT
        | Options::PTRACE_O_EXITKILL;
    ptrace::seize(first, options).context("ptrace: may this process trace its children?")?;
    if let Some(mut input) = child.stdin.take() {
        input.write_all(b"go\n").context("giving the go-ahead")?;
    }
    let (anatomy, exit) = observe(first)?;
    if exit != Some(call.exit) {
        bail!("{}: exit {exit:?}, expected {}", call.describe(), call.exit);
    }
    Ok(anatomy)
}

/// Lets all traced processes run until none is left; what they were, and the exit code of the first.
fn observe(first: Pid) -> Result<(Anatomy, Option<i32>)> {
    let (mut anatomy, mut exit) = (Anatomy::default(), None);
    loop {
        match waitpid(None::<Pid>, Some(WaitPidFlag::__WALL)) {
            Ok(WaitStatus::PtraceEvent(pid, _, event)) => {
                if event == libc::PTRACE_EVENT_EXIT {
                    anatomy.add(&fs::read_to_string(format!("/proc/{pid}/status"))?);
                }
                resume(pid, None)?;
            }
            Ok(WaitStatus::Stopped(pid, signal)) => resume(pid, Some(signal))?,
            Ok(WaitStatus::Exited(pid, code)) if pid == first => exit = Some(code),
            Ok(_) | Err(Errno::EINTR) => {}
            Err(Errno::ECHILD) => return Ok((anatomy, exit)),
            Err(error) => return Err(error).context("waiting for traced processes"),
        }
    }
}

fn resume(pid: Pid, signal: Option<nix::sys::signal::Signal>) -> Result<()> {
    match ptrace::cont(pid, signal) {
        // Killed in the meantime: its end is still to be seen.
        Ok(()) | Err(Errno::ESRCH) => Ok(()),
        Err(error) => Err(error).with_context(|| format!("resuming process {pid}")),
    }
}

impl Anatomy {
    /// Adds a process or thread by its /proc/PID/status.
    fn add(&mut self, status: &str) {
        let field = |name: &str| {
            let value = status
                .lines()
                .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
            value.split_whitespace().next()?.parse::<u64>().ok()
        };
        if field("Pid") == field("Tgid") {
            self.processes += 1;
        } else {
            self.threads += 1;
        }
        self.peak_kib = self.peak_kib.max(field("VmHWM").unwrap_or(0));
    }

    /// The larger of each.
    pub fn max(self, other: Anatomy) -> Anatomy {
        Anatomy {
            processes: self.processes.max(other.processes),
            threads: self.threads.max(other.threads),
            peak_kib: self.peak_kib.max(other.peak_kib),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn adds_up_processes_and_threads() {
        let mut anatomy = Anatomy::default();
        anatomy.add("Name:\tsh\nTgid:\t12\nPid:\t12\nVmPeak:\t    9999 kB\nVmHWM:\t    1200 kB\n");
        anatomy.add("Name:\tip\nTgid:\t13\nPid:\t13\nVmHWM:\t    3400 kB\n");
        anatomy.add("Name:\tip\nTgid:\t13\nPid:\t14\nVmHWM:\t    3400 kB\n");
        let expected = Anatomy {
            processes: 2,
            threads: 1,
            peak_kib: 3400,
        };
        assert_eq!(anatomy, expected);
    }
}
