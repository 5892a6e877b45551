//! One poll(2) loop over a child's three pipes and its end. No threads.

use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::process::{Child, ChildStderr, ChildStdin, ChildStdout, ExitStatus};
use std::time::{Duration, Instant};

use crate::Watch;
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

/// How much standard output is kept, in bytes. More of it is read and thrown away, so that the
/// command can finish what it does, and makes it an error: in a listing that was cut, something
/// that exists is missing.
pub(super) const STDOUT_LIMIT: usize = 16 << 20;

/// How much standard error is kept, in bytes: the end of it, where the reason is.
const STDERR_LIMIT: usize = 1 << 20;

/// The most that a pipe can hold for an ordinary user, in bytes (pipe(7)). So much can be left
/// in it when the child has ended; a daemon that holds the pipe could write for ever.
const PIPE_CAPACITY: usize = 1 << 20;

/// The conversation with a child.
pub(super) struct Talk<'a> {
    stdin: Option<ChildStdin>,
    unsent: &'a [u8],
    stdout: Option<ChildStdout>,
    stderr: Option<ChildStderr>,
    output: Vec<u8>,
    output_cut: bool,
    complaints: Vec<u8>,
}

impl<'a> Talk<'a> {
    /// Takes the child's pipes; `input` is what it shall read.
    pub(super) fn with(child: &mut Child, input: &'a [u8]) -> Talk<'a> {
        Talk {
            stdin: child.stdin.take(),
            unsent: input,
            stdout: child.stdout.take(),
            stderr: child.stderr.take(),
            output: Vec::new(),
            output_cut: false,
            complaints: Vec::new(),
        }
    }

    /// Talks until the child has ended, or until `ends`: then None. `exit` becomes readable when
    /// the child ends; without it the child is looked at every few milliseconds.
    pub(super) fn until(
        &mut self,
        ends: Option<Instant>,
        child: &mut Child,
        exit: Option<&OwnedFd>,
        watch: Watch<'_>,
    ) -> io::Result<Option<ExitStatus>> {
        self.never_block()?;
        let mut asked = Instant::now();
        let mut pause = Duration::from_millis(1);
        loop {
            // Before the clock, so that what has ended in time counts even if this comes late.
            if let Some(status) = child.try_wait()? {
                self.drain()?;
                return Ok(Some(status));
            }
            let left = ends.map_or(Duration::MAX, |ends| ends - Instant::now().min(ends));
            if left.is_zero() {
                return Ok(None);
            }
            if asked.elapsed() >= watch.every {
                asked = Instant::now();
                if !(watch.go_on)() {
                    return Ok(None);
                }
            }
            let left = left.min(watch.every.saturating_sub(asked.elapsed()));
            if exit.is_some() {
                self.wait(exit, left)?;
            } else {
                self.wait(None, left.min(pause))?;
                pause = (pause * 2).min(Duration::from_millis(20));
            }
            self.send()?;
            self.hear()?;
        }
    }

    /// What it said on standard output, None if that was too long, and on standard error.
    pub(super) fn said(mut self) -> (Option<String>, String) {
        keep_end(&mut self.complaints);
        let output = (!self.output_cut).then(|| text(self.output));
        (output, text(self.complaints))
    }

    /// Only this side of the pipes: the child's own descriptors stay as programs expect them.
    fn never_block(&self) -> io::Result<()> {
        let pipes = [
            self.stdin.as_ref().map(AsFd::as_fd),
            self.stdout.as_ref().map(AsFd::as_fd),
            self.stderr.as_ref().map(AsFd::as_fd),
        ];
        for pipe in pipes.into_iter().flatten() {
            fcntl(pipe, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
        }
        Ok(())
    }

    fn wait(&self, exit: Option<&OwnedFd>, time: Duration) -> io::Result<()> {
        let mut polled: Vec<PollFd<'_>> = [
            exit.map(|fd| PollFd::new(fd.as_fd(), PollFlags::POLLIN)),
            self.stdin
                .as_ref()
                .map(|pipe| PollFd::new(pipe.as_fd(), PollFlags::POLLOUT)),
            self.stdout
                .as_ref()
                .map(|pipe| PollFd::new(pipe.as_fd(), PollFlags::POLLIN)),
            self.stderr
                .as_ref()
                .map(|pipe| PollFd::new(pipe.as_fd(), PollFlags::POLLIN)),
        ]
        .into_iter()
        .flatten()
        .collect();
        match poll(&mut polled, poll_timeout(time)) {
            Ok(_) | Err(Errno::EINTR) => Ok(()),
            Err(errno) => Err(errno.into()),
        }
    }

    fn send(&mut self) -> io::Result<()> {
        let Some(pipe) = &mut self.stdin else {
            return Ok(());
        };
        match pipe.write(self.unsent) {
            Ok(sent) => self.unsent = &self.unsent[sent..],
            // A child need not read all that it was given.
            Err(error) if error.kind() == ErrorKind::BrokenPipe => self.unsent = &[],
            Err(error) if later(&error) => {}
            Err(error) => return Err(error),
        }
        if self.unsent.is_empty() {
            self.stdin = None; // the child sees the end of its input
        }
        Ok(())
    }

    /// Reads once from each pipe. Says how many bytes there were.
    fn hear(&mut self) -> io::Result<usize> {
        let mut buffer = [0; 64 << 10];
        let heard = read(&mut self.stdout, &mut buffer)?;
        let kept = heard.min(STDOUT_LIMIT - self.output.len());
        self.output.extend_from_slice(&buffer[..kept]);
        self.output_cut |= kept < heard;

        let complained = read(&mut self.stderr, &mut buffer)?;
        self.complaints.extend_from_slice(&buffer[..complained]);
        if self.complaints.len() > 2 * STDERR_LIMIT {
            keep_end(&mut self.complaints);
        }
        Ok(heard + complained)
    }

    /// Reads what the child has left in its pipes. Does not wait for their end: a daemon that the
    /// child started may hold them open as long as it lives.
    fn drain(&mut self) -> io::Result<()> {
        let mut drained = 0;
        while drained < 2 * PIPE_CAPACITY {
            match self.hear()? {
                0 => break,
                heard => drained += heard,
            }
        }
        Ok(())
    }
}

/// Reads what is there, and forgets the pipe at its end.
fn read(pipe: &mut Option<impl Read>, buffer: &mut [u8]) -> io::Result<usize> {
    let Some(open) = pipe else { return Ok(0) };
    match open.read(buffer) {
        Ok(0) => *pipe = None,
        Ok(heard) => return Ok(heard),
        Err(error) if later(&error) => {}
        Err(error) => return Err(error),
    }
    Ok(0)
}

fn later(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted)
}

fn keep_end(bytes: &mut Vec<u8>) {
    bytes.drain(..bytes.len().saturating_sub(STDERR_LIMIT));
}

fn text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes)
        .unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned())
}

/// A time for poll(2), in milliseconds, at most about a minute. Rounded up: the last part of a millisecond would otherwise
/// be spent without sleep.
pub(super) fn poll_timeout(time: Duration) -> PollTimeout {
    let millis = time.as_nanos().div_ceil(1_000_000);
    PollTimeout::from(u16::try_from(millis).unwrap_or(u16::MAX))
}
