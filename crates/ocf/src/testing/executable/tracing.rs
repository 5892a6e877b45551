//! A process that is killed at a system call: one of its own, or of those that it started.

use std::collections::BTreeSet;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Command, ExitStatus};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use nix::errno::Errno;
use nix::libc::PTRACE_SYSCALL_INFO_ENTRY;
use nix::sys::ptrace::{self, Options};
use nix::sys::signal::{Signal, killpg};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use super::Finished;
use super::running::Running;

/// Runs a command, lets all its processes together make so many system calls, and kills its
/// process group as the next one is entered: then None. What it came to if there is no next one.
pub fn kill_at_call(
    command: &mut Command,
    calls: usize,
    limit: Duration,
) -> Result<Option<Finished>> {
    let trace_me = || ptrace::traceme().map_err(std::io::Error::from);
    #[expect(
        unsafe_code,
        reason = "to be traced, a process has to ask for it itself"
    )]
    // SAFETY: between fork and exec it makes one system call and allocates nothing.
    unsafe {
        command.pre_exec(trace_me);
    }
    // A thread waits for what it traces only, and lets go of what is left when it ends: a process
    // that has left the group lives on, as it would after Pacemaker's kill.
    thread::scope(|scope| {
        let tracer = scope.spawn(|| trace_within(command, calls, limit));
        tracer
            .join()
            .unwrap_or_else(|_| Err(anyhow!("the tracing thread panicked")))
    })
}

fn trace_within(command: &mut Command, calls: usize, limit: Duration) -> Result<Option<Finished>> {
    let mut running = Running::start(command)?;
    let group = running.group();
    let (done, waiting) = mpsc::channel::<()>();
    let watch = thread::spawn(move || {
        let late = waiting.recv_timeout(limit) == Err(RecvTimeoutError::Timeout);
        if late {
            let _ = killpg(group, Signal::SIGKILL);
        }
        late
    });
    let ended = trace(group, calls);
    drop(done);
    if watch.join().is_ok_and(|late| late) {
        bail!("traced, not done after {limit:?}: {}", running.complaint());
    }
    Ok(ended?.map(|status| running.finished(status)))
}

/// Follows a process that asked to be traced, and all it starts; how it ended, or None if it was killed.
fn trace(main: Pid, calls: usize) -> Result<Option<ExitStatus>> {
    let mine = WaitPidFlag::__WALL | WaitPidFlag::__WNOTHREAD;
    let mut known = BTreeSet::new();
    let mut entered = 0;
    loop {
        match waitpid(None, Some(mine)).context("waiting for the traced processes")? {
            WaitStatus::Exited(pid, code) if pid == main => {
                return Ok(Some(ExitStatus::from_raw(code << 8)));
            }
            WaitStatus::Signaled(pid, signal, _) if pid == main => {
                return Ok(Some(ExitStatus::from_raw(signal as i32)));
            }
            WaitStatus::PtraceSyscall(pid) => {
                if enters(pid)? {
                    if entered == calls {
                        kill(main)?;
                        return Ok(None);
                    }
                    entered += 1;
                }
                go_on(pid, None)?;
            }
            WaitStatus::Stopped(pid, signal) => {
                let new = known.insert(pid);
                if new && pid == main {
                    // It has become the program just now.
                    follow(main)?;
                }
                // A new one begins with a SIGSTOP, and every execve is followed by a SIGTRAP:
                // both come from tracing. And where a SIGSTOP has stopped one, it is not to stay.
                let ours = new || signal == Signal::SIGTRAP || !is_arriving(pid);
                go_on(pid, (!ours).then_some(signal))?;
            }
            WaitStatus::PtraceEvent(pid, ..) => go_on(pid, None)?,
            // One of those that it started has ended.
            _ => {}
        }
    }
}

fn follow(pid: Pid) -> Result<()> {
    let options = Options::PTRACE_O_TRACESYSGOOD
        | Options::PTRACE_O_TRACEFORK
        | Options::PTRACE_O_TRACEVFORK
        | Options::PTRACE_O_TRACECLONE;
    ptrace::setoptions(pid, options).context("setting trace options")
}

/// Is it at the begin of a system call, not at its end?
fn enters(pid: Pid) -> Result<bool> {
    match ptrace::syscall_info(pid) {
        Ok(info) => Ok(info.op == PTRACE_SYSCALL_INFO_ENTRY),
        Err(Errno::ESRCH) => Ok(false),
        Err(error) => Err(error).context("asking for the system call"),
    }
}

/// Is a signal about to be delivered, in contrast to having stopped the process already?
fn is_arriving(pid: Pid) -> bool {
    ptrace::getsiginfo(pid).is_ok()
}

/// Kills the group, as Pacemaker does, and waits as it does for the process itself.
fn kill(main: Pid) -> Result<()> {
    killpg(main, Signal::SIGKILL).context("killing the traced process")?;
    loop {
        let status = waitpid(main, Some(WaitPidFlag::__WALL));
        match status.context("waiting for the killed process")? {
            WaitStatus::Exited(..) | WaitStatus::Signaled(..) => return Ok(()),
            _ => {}
        }
    }
}

/// To the next system call's begin or end. A process that was killed meanwhile is not there any
/// more, which the next wait tells.
fn go_on(pid: Pid, signal: Option<Signal>) -> Result<()> {
    match ptrace::syscall(pid, signal) {
        Ok(()) | Err(Errno::ESRCH) => Ok(()),
        Err(error) => Err(error).context("letting the traced process go on"),
    }
}
