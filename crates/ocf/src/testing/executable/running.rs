//! A process as Pacemaker has it: in a group of its own, and bounded in time.

use std::io::{ErrorKind, Read};
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::signal::{Signal, killpg};
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

    /// Its process group, which is also its own number.
    pub fn group(&self) -> Pid {
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

    /// What it has said on standard error.
    pub fn complaint(&mut self) -> String {
        self.listen();
        let text = String::from_utf8_lossy(&self.stderr);
        text.trim_end().to_owned()
    }

    /// What it came to, with all it has said.
    pub fn finished(mut self, status: ExitStatus) -> Finished {
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
                self.child.wait()?;
                bail!("not done after {limit:?}: {}", self.complaint());
            }
            thread::sleep(pause);
            pause = (pause * 2).min(Duration::from_millis(5));
        }
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
