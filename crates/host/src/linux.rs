//! The machine this process runs on.
//!
//! A command gets no shell, no descriptor but its own three pipes, a fixed environment, and no
//! more time than it was given. It stays in the agent's process group, which is what Pacemaker
//! kills, and dies with the agent if only the agent is killed.

#![expect(
    clippy::disallowed_methods,
    reason = "this is the other side of the seam: here the machine is really touched"
)]

mod apart;
mod block;
mod kill;
mod talk;
mod tcp;
#[cfg(test)]
mod tests;

use std::cell::OnceCell;
use std::fs::File;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::rc::Rc;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::prctl;
use nix::sys::signal::{SigSet, Signal};
use nix::unistd::{Pid, getppid};

use crate::cmd::{Cmd, CmdError, Output, SEARCH, Status};
use crate::net::{self, Net, NetError};
use crate::{Connection, Deadline, MountFlags, PrError, Reservations, System, Watch};

/// This machine, as the kernel shows it.
#[derive(Default)]
pub(crate) struct Linux {
    /// The network namespace this process began in, once it has left it.
    home: OnceCell<File>,
}

impl System for Linux {
    fn exec(&self, cmd: &Cmd, limit: Duration, watch: Watch<'_>) -> Result<Output, CmdError> {
        exec(cmd, limit, watch, pidfd)
    }

    fn apart(
        &self,
        what: &str,
        limit: Duration,
        watch: Watch<'_>,
        work: &mut dyn FnMut() -> String,
    ) -> anyhow::Result<String> {
        apart::apart(what, limit, watch, work)
    }

    fn read_at(&self, device: &Path, offset: u64, length: usize) -> io::Result<Vec<u8>> {
        block::read_at(device, offset, length)
    }

    fn reread_partitions(&self, disk: &Path) -> io::Result<()> {
        block::reread_partitions(disk)
    }

    fn connect(&self, address: SocketAddr, limit: Duration) -> io::Result<Box<dyn Connection>> {
        Ok(Box::new(tcp::connect(address, limit)?))
    }

    fn zvol_name(&self, device: &Path) -> io::Result<Option<String>> {
        block::zvol_name(device)
    }

    fn reservations(&self, disk: &Path, _: &str) -> Result<Box<dyn Reservations>, PrError> {
        Ok(Box::new(block::Disk::open(disk)?))
    }

    fn mount(
        &self,
        source: &str,
        at: &Path,
        _: &str,
        kind: &str,
        flags: MountFlags,
        options: &str,
    ) -> Result<(), Errno> {
        nix::mount::mount(Some(source), at, Some(kind), flags, Some(options))
    }

    fn unmount(&self, at: &Path, _: &str) -> Result<(), Errno> {
        nix::mount::umount2(at, nix::mount::MntFlags::UMOUNT_NOFOLLOW)
    }

    fn signal(&self, pid: i32, signal: Signal) -> Result<bool, Errno> {
        match nix::sys::signal::kill(Pid::from_raw(pid), signal) {
            Ok(()) => Ok(true),
            Err(Errno::ESRCH) => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn net(&self, namespace: Option<&str>, deadline: Deadline) -> Result<Rc<dyn Net>, NetError> {
        net::open(namespace, &self.home, deadline)
    }

    fn now(&self) -> Instant {
        Instant::now()
    }

    fn sleep(&self, time: Duration) {
        std::thread::sleep(time);
    }
}

/// How the end of a child is noticed without waiting for it: by a descriptor that poll(2) can
/// wait for, where the kernel has one.
type EndWatch = fn(&Child) -> Option<OwnedFd>;

fn exec(cmd: &Cmd, limit: Duration, watch: Watch<'_>, end: EndWatch) -> Result<Output, CmdError> {
    if limit.is_zero() {
        return Err(CmdError::timed_out(cmd, limit, false));
    }
    let ends = Instant::now().checked_add(limit);
    let mut child = start(cmd)?;
    let exit = end(&child);
    let mut talk = talk::Talk::with(&mut child, cmd.stdin());
    match talk.until(ends, &mut child, exit.as_ref(), watch) {
        Ok(Some(status)) => said(cmd, status.into(), talk),
        Ok(None) => {
            let gone = kill::with_descendants(&mut child, kill::PATIENCE);
            Err(CmdError::timed_out(cmd, limit, !gone))
        }
        Err(source) => {
            kill::with_descendants(&mut child, kill::PATIENCE);
            Err(CmdError::Start {
                command: cmd.to_string(),
                source,
            })
        }
    }
}

fn said(cmd: &Cmd, status: Status, talk: talk::Talk<'_>) -> Result<Output, CmdError> {
    let (stdout, stderr) = talk.said();
    match stdout {
        Some(stdout) => Ok(Output {
            status,
            stdout,
            stderr: cmd.without_secrets(stderr),
        }),
        None => {
            let command = cmd.to_string();
            Err(CmdError::TooLong {
                command,
                status,
                limit: talk::STDOUT_LIMIT,
            })
        }
    }
}

/// Starts the program; returns when it has been executed.
fn start(cmd: &Cmd) -> Result<Child, CmdError> {
    let program = find(cmd.program()).ok_or_else(|| CmdError::Missing {
        program: cmd.program().to_owned(),
    })?;
    let stdin = if cmd.stdin().is_empty() {
        Stdio::null()
    } else {
        Stdio::piped()
    };
    let mut command = Command::new(program);
    command
        .args(cmd.arguments())
        .env_clear()
        .env("PATH", SEARCH.join(":"))
        .env("LC_ALL", "C")
        .envs(cmd.variables())
        // A daemon that a command leaves behind must not hold the storage the agent was called on.
        .current_dir("/")
        .stdin(stdin)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let agent = Pid::this();
    let prepare = move || prepare(agent).map_err(io::Error::from);
    #[expect(
        unsafe_code,
        reason = "the standard library has no other way to prepare a child"
    )]
    // SAFETY: `prepare` makes three system calls and touches no memory but its own stack, so it
    // does no harm in a child that was forked while another thread held a lock.
    unsafe {
        command.pre_exec(prepare);
    }
    command.spawn().map_err(|source| CmdError::Start {
        command: cmd.to_string(),
        source,
    })
}

/// What the child does before it becomes the program.
fn prepare(agent: Pid) -> Result<(), Errno> {
    // Blocked signals stay so across execve(2). SIGPIPE, which Rust ignores, std has reset already.
    SigSet::empty().thread_set_mask()?;
    prctl::set_pdeathsig(Signal::SIGKILL)?;
    // The agent may have been killed before the line above; then nothing will kill this child.
    if getppid() == agent {
        Ok(())
    } else {
        Err(Errno::ESRCH)
    }
}

/// The program's file, if there is one that may be executed.
fn find(program: &str) -> Option<PathBuf> {
    which::which_in(program, Some(SEARCH.join(":")), "/").ok()
}

/// A descriptor that becomes readable when the child has ended (kernel 5.3).
fn pidfd(child: &Child) -> Option<OwnedFd> {
    #[expect(unsafe_code, reason = "neither std nor nix has pidfd_open")]
    // SAFETY: two numbers go in, one comes out. The child was not waited for, so the pid is its.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, child.id(), 0) };
    let fd = RawFd::try_from(fd).ok().filter(|fd| *fd >= 0)?;
    #[expect(unsafe_code, reason = "the kernel gives a descriptor as a number")]
    // SAFETY: the kernel has just made this descriptor, and nobody else knows of it.
    Some(unsafe { OwnedFd::from_raw_fd(fd) })
}

impl From<ExitStatus> for Status {
    fn from(status: ExitStatus) -> Status {
        match status.code() {
            Some(code) => Status::Exited(code),
            None => Status::Killed(status.signal().unwrap_or_default()),
        }
    }
}
