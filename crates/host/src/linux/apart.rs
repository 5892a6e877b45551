//! A child that is this same program, forked.

use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, poll};
use nix::sys::prctl;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid, fork, getppid, pipe2};

use super::kill::PATIENCE;
use super::talk::poll_timeout;
use crate::{TooSlow, Watch};

/// Does `work` in a child; what it returned.
pub(super) fn apart(
    what: &str,
    limit: Duration,
    watch: Watch<'_>,
    work: &mut dyn FnMut() -> String,
) -> Result<String> {
    let begun = Instant::now();
    let too_slow = |abandoned| TooSlow {
        what: what.to_owned(),
        after: begun.elapsed(),
        abandoned,
    };
    if limit.is_zero() {
        bail!(too_slow(false));
    }
    let (ours, theirs) = pipe2(OFlag::O_CLOEXEC).context("making a pipe")?;
    let agent = Pid::this();
    #[expect(
        unsafe_code,
        reason = "there is no other way to a child that is this program"
    )]
    // SAFETY: agents have one thread, so that no lock is held by one that does not exist in the child.
    let forked = unsafe { fork() }.with_context(|| format!("{what}: making a process for it"))?;
    let child = match forked {
        ForkResult::Parent { child } => child,
        ForkResult::Child => {
            drop(ours);
            in_child(agent, File::from(theirs), work)
        }
    };
    drop(theirs);
    let mut pipe = File::from(ours);
    let mut said = Vec::new();
    let ended = listen(&mut pipe, &mut said, begun, limit, watch);
    match ended {
        Ok(true) => {
            // Its pipe is closed, so it is about to end.
            let status =
                waitpid(child, None).with_context(|| format!("{what}: waiting for its process"))?;
            match status {
                WaitStatus::Exited(_, 0) => Ok(String::from_utf8_lossy(&said).into_owned()),
                status => bail!("{what}: its process ended with {status:?}"),
            }
        }
        Ok(false) => bail!(too_slow(!is_killed(child))),
        Err(error) => {
            is_killed(child);
            Err(error).with_context(|| format!("{what}: listening to its process"))
        }
    }
}

/// Reads until the child has closed its end: true. False if the time is over, or `go_on` said so.
fn listen(
    pipe: &mut File,
    said: &mut Vec<u8>,
    begun: Instant,
    limit: Duration,
    watch: Watch<'_>,
) -> Result<bool> {
    fcntl(&*pipe, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
    let mut asked = begun;
    let mut buffer = vec![0; 1 << 16];
    loop {
        match pipe.read(&mut buffer) {
            Ok(0) => return Ok(true),
            Ok(count) => {
                said.extend_from_slice(&buffer[..count]);
                continue;
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(error) => return Err(error.into()),
        }
        let left = limit.saturating_sub(begun.elapsed());
        if left.is_zero() {
            return Ok(false);
        }
        if asked.elapsed() >= watch.every {
            asked = Instant::now();
            if !(watch.go_on)() {
                return Ok(false);
            }
        }
        let pause = left.min(watch.every.saturating_sub(asked.elapsed()));
        match poll(
            &mut [PollFd::new(pipe.as_fd(), PollFlags::POLLIN)],
            poll_timeout(pause),
        ) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// The child's whole life. It ends without running anything that the parent has set up for its own end.
fn in_child(agent: Pid, mut pipe: File, work: &mut dyn FnMut() -> String) -> ! {
    let prepared = prctl::set_pdeathsig(Signal::SIGKILL).is_ok() && getppid() == agent;
    // If it has to be left behind, it must not hold what Pacemaker listens to.
    let quiet = File::options()
        .read(true)
        .write(true)
        .open("/dev/null")
        .is_ok_and(|null| {
            nix::unistd::dup2_stdin(&null).is_ok()
                && nix::unistd::dup2_stdout(&null).is_ok()
                && nix::unistd::dup2_stderr(&null).is_ok()
        });
    let code = match prepared && quiet {
        true => {
            // What goes wrong in here is told by the exit code.
            std::panic::set_hook(Box::new(|_| {}));
            let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
            match done {
                Ok(said) if pipe.write_all(said.as_bytes()).is_ok() => 0,
                _ => 1,
            }
        }
        false => 1,
    };
    drop(pipe);
    #[expect(
        unsafe_code,
        reason = "std::process::exit would run what the parent has registered"
    )]
    // SAFETY: a number goes in, and it does not return.
    unsafe {
        libc::_exit(code)
    }
}

/// Kills the child; false if it does not go, which is one that waits in the kernel.
fn is_killed(child: Pid) -> bool {
    let _ = kill(child, Signal::SIGKILL);
    let ends = Instant::now() + PATIENCE;
    loop {
        match waitpid(child, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::StillAlive) if Instant::now() < ends => {
                std::thread::sleep(Duration::from_millis(2))
            }
            Ok(WaitStatus::StillAlive) => return false,
            _ => return true,
        }
    }
}
