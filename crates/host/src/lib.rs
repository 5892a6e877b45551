//! Everything an agent may touch.
//!
//! An agent reaches the machine through [`Host`] and through nothing else: files under a root,
//! commands with a deadline, the kernel's network tables, the clock. That one seam is what lets
//! a test give it a recorded machine, and what keeps every wait inside the time Pacemaker gave.
//!
//! The real machine is [`Host::linux`]; the test double is `testing::Script`, with the feature `testing`.

mod apart;
mod block;
pub mod cmd;
mod deadline;
mod files;
mod linux;
mod mounts;
pub mod net;
#[cfg(feature = "testing")]
pub mod testing;

use std::cell::RefCell;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::errno::Errno;
use nix::sys::signal::Signal;

pub use apart::TooSlow;
pub use block::{PrError, PrKind, Reservations, is_zfs_locked};
pub use cmd::{Cmd, CmdError, Output};
pub use deadline::Deadline;
pub use mounts::{MountError, MountFlags};
pub use net::{Net, NetError};

/// The parts of a machine that cannot be a directory.
pub trait System {
    /// Runs a command for at most `limit` and returns what it said, whatever its exit status.
    fn exec(&self, cmd: &Cmd, limit: Duration, watch: Watch<'_>) -> Result<Output, CmdError>;

    /// Does `work` in a process of its own, for at most `limit`; what it returned. [`TooSlow`] if it took longer.
    fn apart(
        &self,
        what: &str,
        limit: Duration,
        watch: Watch<'_>,
        work: &mut dyn FnMut() -> String,
    ) -> Result<String>;

    /// Reads from a device, past the page cache where that is possible.
    fn read_at(&self, device: &Path, offset: u64, length: usize) -> io::Result<Vec<u8>>;

    /// Reads a disk's partition table again.
    fn reread_partitions(&self, disk: &Path) -> io::Result<()>;

    /// The dataset whose volume a device is.
    fn zvol_name(&self, device: &Path) -> io::Result<Option<String>>;

    /// The persistent reservations of a disk, which `name` is on the machine.
    fn reservations(&self, disk: &Path, name: &str) -> Result<Box<dyn Reservations>, PrError>;

    /// Mounts a file system; `at` is where `target` lies.
    fn mount(
        &self,
        source: &str,
        at: &Path,
        target: &str,
        kind: &str,
        flags: MountFlags,
        options: &str,
    ) -> Result<(), Errno>;

    /// Unmounts what is mounted on `target`, which lies at `at`.
    fn unmount(&self, at: &Path, target: &str) -> Result<(), Errno>;

    /// Sends a signal; false if there is no such process.
    fn signal(&self, pid: i32, signal: Signal) -> Result<bool, Errno>;

    /// Opens the network tables of this machine, or of the network namespace `namespace` as
    /// `ip netns` names it. Every request is bounded by `deadline`.
    fn net(&self, namespace: Option<&str>, deadline: Deadline) -> Result<Rc<dyn Net>, NetError>;

    /// Opens a TCP connection to an address of this host, from that same address.
    fn connect(&self, address: SocketAddr, limit: Duration) -> io::Result<Box<dyn Connection>>;

    /// The monotonic clock.
    fn now(&self) -> Instant;

    /// Does nothing for `time`.
    fn sleep(&self, time: Duration);

    /// Told before a file is changed. The test double counts these to inject faults.
    fn about_to(&self, _what: &str) -> std::io::Result<()> {
        Ok(())
    }

    /// Asked before a file is read or changed: what a file system of the kernel answers that has rules of its own, or
    /// None where files are just files. The test double stands in for configfs here.
    fn kernel_file(&self, _path: &str, _access: Access<'_>) -> Option<io::Result<()>> {
        None
    }
}

/// A connection, each of whose reads and writes is bounded.
pub trait Connection: io::Read + io::Write {}

impl<T: io::Read + io::Write> Connection for T {}

/// What is done to a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access<'a> {
    /// Its content is read.
    Read,
    /// This is written, by one `write`.
    Write(&'a str),
    /// It is made or replaced, as an ordinary file.
    Save,
    /// It is made, as a directory.
    MakeDir,
    /// It is removed, as a directory.
    RemoveDir,
    /// It is made, as a symbolic link to this path.
    Link(&'a str),
    /// It is removed, as a file or a link.
    Unlink,
}

/// Somebody who looks on while something takes its time.
pub struct Watch<'a> {
    /// How often it is asked.
    pub every: Duration,
    /// Shall it go on? After a no it is ended as if its time were over.
    pub go_on: &'a mut dyn FnMut() -> bool,
}

/// The network tables that an action looks at, and the namespace they are of.
type Opened = (Option<String>, Rc<dyn Net>);

/// One machine, for the time of one action.
pub struct Host {
    root: PathBuf,
    system: Box<dyn System>,
    deadline: Deadline,
    net: RefCell<Option<Opened>>,
}

impl Host {
    /// The machine this process runs on.
    pub fn linux(deadline: Deadline) -> Host {
        Host::new("/", Box::new(linux::Linux::default()), deadline)
    }

    /// A machine made of a directory and a [`System`].
    pub fn new(root: impl Into<PathBuf>, system: Box<dyn System>, deadline: Deadline) -> Host {
        Host {
            root: root.into(),
            system,
            deadline,
            net: RefCell::new(None),
        }
    }

    /// When the action has to be over.
    pub fn deadline(&self) -> Deadline {
        self.deadline
    }

    /// How much of the action's time is left.
    pub fn time_left(&self) -> Duration {
        self.deadline.left(self.now())
    }

    /// The monotonic clock.
    pub fn now(&self) -> Instant {
        self.system.now()
    }

    /// Waits for `time`, or for what is left of the action's time if that is less.
    pub fn sleep(&self, time: Duration) {
        self.system.sleep(time.min(self.time_left()));
    }

    /// Runs a command; an exit status other than 0 is an error.
    pub fn run(&self, cmd: &Cmd) -> Result<Output, CmdError> {
        let output = self.ask(cmd)?;
        if output.success() {
            Ok(output)
        } else {
            Err(CmdError::failed(cmd, output))
        }
    }

    /// Runs a command; any exit status is an answer.
    pub fn ask(&self, cmd: &Cmd) -> Result<Output, CmdError> {
        self.ask_watching(cmd, Duration::MAX, &mut || true)
    }

    /// The same, and asks `go_on` about every `every` while it runs: at a no the command is ended as if its time were
    /// over.
    pub fn ask_watching(
        &self,
        cmd: &Cmd,
        every: Duration,
        go_on: &mut dyn FnMut() -> bool,
    ) -> Result<Output, CmdError> {
        let limit = self.time_left().min(cmd.limit().unwrap_or(Duration::MAX));
        log::debug!("{cmd}");
        let output = self.system.exec(cmd, limit, Watch { every, go_on })?;
        match cmd.is_confidential() {
            true => log::debug!("{cmd}: {}", output.status),
            false => log::debug!("{cmd}: {output}"),
        }
        Ok(output)
    }

    /// Opens a TCP connection to an address that this host has, from that same address, so that it never leaves the host:
    /// one that the host does not have is AddrNotAvailable. Connecting, and each read and write on it, takes at most
    /// `limit`, and what is left of the action's time.
    pub fn connect(&self, address: SocketAddr, limit: Duration) -> io::Result<Box<dyn Connection>> {
        log::debug!("connecting to {address}");
        let limit = limit.min(self.time_left());
        if limit.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        self.system.connect(address, limit)
    }

    /// Sends a signal to a process; false if there is none with that number.
    pub fn signal(&self, pid: i32, signal: Signal) -> Result<bool> {
        let doing = format!("sending {signal} to process {pid}");
        log::debug!("{doing}");
        self.system
            .about_to(&doing)
            .with_context(|| doing.clone())?;
        self.system.signal(pid, signal).context(doing)
    }

    /// The network tables, of the machine or of one of its network namespaces. From then on the
    /// files below /proc/sys/net are that namespace's, too.
    pub fn net(&self, namespace: Option<&str>) -> Result<Rc<dyn Net>, NetError> {
        let mut current = self.net.borrow_mut();
        if let Some((opened, net)) = &*current {
            if opened.as_deref() == namespace {
                return Ok(net.clone());
            }
        }
        let net = self.system.net(namespace, self.deadline)?;
        *current = Some((namespace.map(str::to_owned), net.clone()));
        Ok(net)
    }

    /// Asks `done` again and again until it says yes; gives up, with an error that names `what`,
    /// when the action's time is over. For what the kernel announces, wait for the event instead.
    pub fn wait_for(&self, what: &str, mut done: impl FnMut() -> Result<bool>) -> Result<()> {
        let started = self.now();
        let mut pause = Duration::from_millis(5);
        loop {
            if done()? {
                return Ok(());
            }
            if self.time_left().is_zero() {
                let waited = (self.now() - started).as_secs_f32();
                bail!("waited {waited:.1} s for {what}");
            }
            self.sleep(pause);
            pause = (pause * 2).min(Duration::from_millis(200));
        }
    }
}
