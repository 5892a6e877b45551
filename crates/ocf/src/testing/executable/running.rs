//! A process as Pacemaker has it: in a group of its own, and bounded in time.

use std::io::{ErrorKind, Read};
use std::os::fd::AsFd;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::ptrace;
use nix::sys::signal::{Signal, killpg};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::Pid;

use super::Finished;

/// An action under way.
pub struct Running {
    child: Child,
    stdout: Vec<u8>,
    stderr: Vec<u8>,
}

impl Running {
    /// Starts it, with nothing to read.
    pub fn start(command: &mut Command) -> Result<Running> {
        let program = command.get_program().to_string_lossy().into_owned();
        command.stdin(Stdio::null());
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let child = command.process_group(0).spawn();
        let child = child.with_context(|| format!("starting {program}"))?;
        // What it leaves behind may hold the pipes for ever, and is not waited for.
        if let Some(stdout) = &child.stdout {
            fcntl(stdout.as_fd(), FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
        }
        if let Some(stderr) = &child.stderr {
            fcntl(stderr.as_fd(), FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
        }
        let (stdout, stderr) = (Vec::new(), Vec::new());
        Ok(Running {
            child,
            stdout,
            stderr,
        })
    }

    fn group(&self) -> Pid {
        Pid::from_raw(self.child.id() as i32)
    }

    /// Takes what it has said so far.
    fn listen(&mut self) {
        if let Some(stdout) = &mut self.child.stdout {
            take(stdout, &mut self.stdout);
        }
        if let Some(stderr) = &mut self.child.stderr {
            take(stderr, &mut self.stderr);
        }
    }

    fn finished(mut self, status: ExitStatus) -> Finished {
        self.listen();
        Finished {
            code: status.code(),
            stdout: String::from_utf8_lossy(&self.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&self.stderr).into_owned(),
        }
    }

    /// Lets it come to its end.
    pub fn finish(mut self, limit: Duration) -> Result<Finished> {
        let ends = Instant::now() + limit;
        let mut pause = Duration::from_micros(100);
        loop {
            self.listen();
            if let Some(status) = self.child.try_wait()? {
                return Ok(self.finished(status));
            }
            if Instant::now() >= ends {
                let _ = killpg(self.group(), Signal::SIGKILL);
                let status = self.child.wait()?;
                let finished = self.finished(status);
                bail!("not done after {limit:?}: {}", finished.stderr.trim_end());
            }
            thread::sleep(pause);
            pause = (pause * 2).min(Duration::from_millis(5));
        }
    }

    /// Lets it, which asked to be traced, make so many system calls, and kills it as it enters the
    /// next one.
    pub fn kill_at_call(mut self, calls: usize, limit: Duration) -> Result<Option<Finished>> {
        let group = self.group();
        let (done, waiting) = mpsc::channel::<()>();
        let watch = thread::spawn(move || {
            let late = waiting.recv_timeout(limit) == Err(RecvTimeoutError::Timeout);
            if late {
                let _ = killpg(group, Signal::SIGKILL);
            }
            late
        });
        let ended = self.trace(calls);
        drop(done);
        if watch.join().is_ok_and(|late| late) {
            self.listen();
            let stderr = String::from_utf8_lossy(&self.stderr);
            bail!("traced, not done after {limit:?}: {}", stderr.trim_end());
        }
        Ok(ended?.map(|status| self.finished(status)))
    }

    /// None if it was killed.
    fn trace(&mut self, calls: usize) -> Result<Option<ExitStatus>> {
        let pid = self.group();
        let mut entered = 0;
        let mut inside = false;
        loop {
            match waitpid(pid, None).context("waiting for the traced process")? {
                WaitStatus::Exited(_, code) => {
                    return Ok(Some(ExitStatus::from_raw(code << 8)));
                }
                WaitStatus::Signaled(_, signal, _) => {
                    return Ok(Some(ExitStatus::from_raw(signal as i32)));
                }
                WaitStatus::PtraceSyscall(_) => {
                    inside = !inside;
                    if inside && entered == calls {
                        killpg(pid, Signal::SIGKILL).context("killing the traced process")?;
                        waitpid(pid, None).context("waiting for the killed process")?;
                        return Ok(None);
                    }
                    entered += usize::from(inside);
                    go_on(pid, None)?;
                }
                WaitStatus::Stopped(_, Signal::SIGTRAP) => {
                    // It has become the agent's program just now.
                    ptrace::setoptions(pid, ptrace::Options::PTRACE_O_TRACESYSGOOD)
                        .context("setting trace options")?;
                    go_on(pid, None)?;
                }
                WaitStatus::Stopped(_, signal) => go_on(pid, Some(signal))?,
                _ => go_on(pid, None)?,
            }
        }
    }
}

/// To the next system call's begin or end. A process that was killed meanwhile is not there any more, which the next
/// wait tells.
fn go_on(pid: Pid, signal: Option<Signal>) -> Result<()> {
    match ptrace::syscall(pid, signal) {
        Ok(()) | Err(nix::errno::Errno::ESRCH) => Ok(()),
        Err(error) => Err(error).context("letting the traced process go on"),
    }
}

/// Reads what is there.
fn take(pipe: &mut impl Read, text: &mut Vec<u8>) {
    let mut part = [0; 4096];
    loop {
        match pipe.read(&mut part) {
            Ok(0) => return,
            Ok(length) => text.extend_from_slice(&part[..length]),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            // Nothing more now, or never.
            Err(_) => return,
        }
    }
}
