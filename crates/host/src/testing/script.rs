use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::panic::resume_unwind;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::signal::Signal;
use tempfile::TempDir;

use super::block::{self, PrDisk, PrDisks};
use super::lio::{Engine, Lio, LioKernel};
use super::reply::{End, Reply};
use super::{Network, Tree};
use crate::cmd::{Cmd, CmdError, Output, Status};
use crate::net::{Net, NetError};
use crate::{
    Access, Connection, Deadline, Host, MountFlags, PrError, Reservations, System, TooSlow, Watch,
};

/// A machine for tests. A clone is the same machine.
///
/// Every request that leaves the agent is a step: a command, a changed file, a network request.
/// A program that is not installed, and one for which no time is left, are not run: no step.
#[derive(Clone)]
pub struct Script {
    tree: Tree,
    network: Network,
    disks: PrDisks,
    state: Arc<Mutex<State>>,
    _root: Arc<TempDir>,
}

struct State {
    commands: Vec<(Called, Reply)>,
    now: Instant,
    timeout: Duration,
    steps: Vec<String>,
    faults: BTreeMap<usize, Fault>,
    busy: Vec<Predicate>,
    meanwhile: Vec<Meanwhile>,
    stubborn: Vec<i32>,
    stuck: Vec<String>,
    locked: Vec<Meets>,
    services: BTreeMap<SocketAddr, Service>,
    lio: Option<Lio>,
    /// The key that this host has registered with a disk.
    our_keys: BTreeMap<String, u64>,
}

/// What a service answers to all that it has heard since it last answered; nothing yet if None.
type Service = Arc<dyn Fn(&[u8]) -> Option<Vec<u8>> + Send + Sync>;
type Predicate = Arc<dyn Fn(&str) -> bool + Send + Sync>;
type Meanwhile = Arc<dyn Fn(&Tree) + Send + Sync>;
type Meets = Arc<dyn Fn(&Tree) -> bool + Send + Sync>;

/// How long a volume waits for the module's lock when it is opened.
const OPENING: Duration = Duration::from_secs(1);

enum Called {
    Line(String),
    Like(Arc<dyn Fn(&Cmd) -> bool + Send + Sync>),
}

/// What goes wrong at a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// A command has exit status 1, a file EIO, a network request the kernel's refusal. Nothing
    /// was changed.
    Fail,
    /// A command or a network request takes all its time, and changes nothing. A write that hangs
    /// in the kernel cannot be given up: the rest of the action's timeout passes, and the action
    /// is killed.
    Hang,
    /// SIGKILL, just before the step.
    Kill,
}

/// The payload of the unwinding that stands for SIGKILL: `catch_unwind` is the cluster that
/// looks on. No panic hook hears of it.
#[derive(Debug)]
pub struct Killed;

/// A connection to a service of the test.
struct Talk {
    service: Service,
    heard: Vec<u8>,
    said: Vec<u8>,
}

impl io::Read for Talk {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        // It is silent, and the time for a read is over.
        if self.said.is_empty() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let count = buffer.len().min(self.said.len());
        buffer[..count].copy_from_slice(&self.said[..count]);
        self.said.drain(..count);
        Ok(count)
    }
}

impl io::Write for Talk {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.heard.extend_from_slice(bytes);
        if let Some(answer) = (self.service)(&self.heard) {
            self.said.extend(answer);
            self.heard.clear();
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What becomes of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Go,
    Fail,
    Hang,
}

impl Script {
    /// A machine without a single file.
    pub fn empty() -> Script {
        let root = TempDir::with_prefix("script-")
            .unwrap_or_else(|error| panic!("making a directory for the test: {error}"));
        let state = State {
            commands: Vec::new(),
            now: Instant::now(),
            timeout: Duration::ZERO,
            steps: Vec::new(),
            faults: BTreeMap::new(),
            busy: Vec::new(),
            meanwhile: Vec::new(),
            stubborn: Vec::new(),
            stuck: Vec::new(),
            locked: Vec::new(),
            services: BTreeMap::new(),
            lio: None,
            our_keys: BTreeMap::new(),
        };
        Script {
            tree: Tree::at(root.path()),
            network: Network::new(),
            disks: PrDisks::default(),
            state: Arc::new(Mutex::new(state)),
            _root: Arc::new(root),
        }
    }

    /// A machine with a copy of a recorded tree, as [`Tree::copy`] makes it.
    pub fn on(recorded: impl AsRef<Path>) -> Script {
        let script = Script::empty();
        script.tree.copy(recorded, "/");
        script
    }

    /// This machine for one action that has `timeout`, beginning now.
    pub fn host(&self, timeout: Duration) -> Host {
        self.state().timeout = timeout;
        let deadline = Deadline::of_action(self.now(), timeout);
        Host::new(self.tree.path("/"), Box::new(self.clone()), deadline)
    }

    /// Its files.
    pub fn tree(&self) -> &Tree {
        &self.tree
    }

    /// A service that listens at `address`: it is asked with all it has heard since its last answer, each time something
    /// arrives.
    pub fn service(
        self,
        address: &str,
        answer: impl Fn(&[u8]) -> Option<Vec<u8>> + Send + Sync + 'static,
    ) -> Script {
        let address = address
            .parse()
            .unwrap_or_else(|error| panic!("{address} is no address of a service: {error}"));
        self.state().services.insert(address, Arc::new(answer));
        self
    }

    /// Its network.
    pub fn network(&self) -> Network {
        self.network.clone()
    }

    /// Where a path lies on the machine the test runs on.
    pub fn path(&self, path: &str) -> PathBuf {
        self.tree.path(path)
    }

    /// Writes a file as [`Tree::write`] does. Not a step.
    pub fn write_file(&self, path: &str, text: &str) {
        self.tree.write(path, text);
    }

    /// The text of a file, if there is one.
    pub fn read_file(&self, path: &str) -> Option<String> {
        self.tree.read(path)
    }

    /// Removes a file or a directory as [`Tree::remove`] does. Not a step.
    pub fn remove(&self, path: &str) {
        self.tree.remove(path);
    }

    /// What a command does: the one that is written exactly so. The last word counts.
    pub fn when(&self, line: &str, reply: Reply) -> Script {
        self.called(Called::Line(line.to_owned()), reply)
    }

    /// What every command does for which `like` holds. The last word counts.
    pub fn when_matching(
        &self,
        like: impl Fn(&Cmd) -> bool + Send + Sync + 'static,
        reply: Reply,
    ) -> Script {
        self.called(Called::Like(Arc::new(like)), reply)
    }

    fn called(&self, called: Called, reply: Reply) -> Script {
        self.state().commands.push((called, reply));
        self.clone()
    }

    /// This machine's kernel has LIO, with nothing configured, also when it had one before. See [`Lio`].
    pub fn with_lio(&self, kernel: LioKernel) -> Script {
        let lio = Lio::new(Engine::new(kernel, self.tree.clone()));
        self.state().lio = Some(lio);
        self.clone()
    }

    /// The LIO of a machine that was made [`Script::with_lio`].
    pub fn lio(&self) -> Lio {
        let lio = self.state().lio.clone();
        lio.unwrap_or_else(|| panic!("this machine has no LIO: make it Script::with_lio"))
    }

    /// Lets something go wrong at step `at`, counted from 0 since [`Script::clear_steps`]. Once.
    pub fn inject(&self, at: usize, fault: Fault) {
        self.state().faults.insert(at, fault);
    }

    /// All steps since [`Script::clear_steps`], also those at which something went wrong.
    pub fn steps(&self) -> Vec<String> {
        self.state().steps.clone()
    }

    /// Counts steps from 0 again. Forgets the faults that were not reached.
    pub fn clear_steps(&self) {
        let mut state = self.state();
        state.steps.clear();
        state.faults.clear();
    }

    /// Lets time pass.
    pub fn advance(&self, time: Duration) {
        self.state().now += time;
    }

    /// A disk's persistent reservations, which other hosts may change.
    pub fn disk<T>(&self, name: &str, edit: impl FnOnce(&mut PrDisk) -> T) -> T {
        let mut disks = self.disks.lock().unwrap_or_else(PoisonError::into_inner);
        edit(disks.entry(name.to_owned()).or_default())
    }

    /// What is mounted there cannot be unmounted, and the device not be opened exclusively, as long as `busy` says so.
    pub fn busy(&self, busy: impl Fn(&str) -> bool + Send + Sync + 'static) {
        self.state().busy.push(Arc::new(busy));
    }

    /// What happens on this machine whenever an action sleeps.
    pub fn meanwhile(&self, effect: impl Fn(&Tree) + Send + Sync + 'static) {
        self.state().meanwhile.push(Arc::new(effect));
    }

    /// A process that SIGTERM does not end.
    pub fn stubborn(&self, pid: i32) {
        self.state().stubborn.push(pid);
    }

    /// Work that is done apart, by its name, and never ends: it waits in the kernel, and is left behind.
    pub fn stuck(&self, what: &str) {
        self.state().stuck.push(what.to_owned());
    }

    /// Whenever `locked` says so, the zfs module holds its lock: a volume cannot be opened, and that takes a second.
    pub fn zfs_locked(&self, locked: impl Fn(&Tree) -> bool + Send + Sync + 'static) {
        self.state().locked.push(Arc::new(locked));
    }

    /// If it is locked, to learn that takes its time.
    fn is_zfs_locked(&self) -> bool {
        let locked = self.state().locked.clone();
        let is_locked = locked.iter().any(|locked| locked(&self.tree));
        if is_locked {
            self.advance(OPENING);
        }
        is_locked
    }

    pub(super) fn our_key(&self, disk: &str) -> Option<u64> {
        self.state().our_keys.get(disk).copied()
    }

    pub(super) fn set_our_key(&self, disk: &str, key: u64) {
        self.state().our_keys.insert(disk.to_owned(), key);
    }

    /// The rest of the action's time passes, and it is killed.
    pub(super) fn hang(&self) -> ! {
        let timeout = self.state().timeout;
        self.advance(timeout);
        resume_unwind(Box::new(Killed))
    }

    /// Lets a command or a job take `time`, and asks who looks on; false if that said no.
    fn take(&self, time: Duration, watch: Watch<'_>) -> bool {
        let mut left = time;
        while left > watch.every && !watch.every.is_zero() {
            self.advance(watch.every);
            left -= watch.every;
            if !(watch.go_on)() {
                return false;
            }
        }
        self.advance(left);
        true
    }

    /// Counts a step, and says what becomes of it. Does not return from [`Fault::Kill`].
    pub(crate) fn step(&self, what: &str) -> Verdict {
        let fault = {
            let mut state = self.state();
            let at = state.steps.len();
            state.steps.push(what.to_owned());
            state.faults.remove(&at)
        };
        match fault {
            None => Verdict::Go,
            Some(Fault::Fail) => Verdict::Fail,
            Some(Fault::Hang) => Verdict::Hang,
            Some(Fault::Kill) => resume_unwind(Box::new(Killed)),
        }
    }

    /// The lock is never held while something unwinds or while a test's closure runs.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn reply(&self, cmd: &Cmd) -> Reply {
        let line = cmd.to_string();
        let likes: Vec<_> = {
            let state = self.state();
            let commands = state.commands.iter().rev();
            let likely = commands.filter_map(|(called, reply)| match called {
                Called::Line(scripted) => (*scripted == line).then(|| (None, reply.clone())),
                Called::Like(like) => Some((Some(like.clone()), reply.clone())),
            });
            likely.collect()
        };
        let found = likes
            .into_iter()
            .find(|(like, _)| like.as_ref().is_none_or(|like| like(cmd)));
        match found {
            Some((_, reply)) => reply.settled(&self.tree),
            None => panic!("the test has no script for the command: {line}"),
        }
    }
}

impl System for Script {
    fn exec(&self, cmd: &Cmd, limit: Duration, watch: Watch<'_>) -> Result<Output, CmdError> {
        if limit.is_zero() {
            return Err(CmdError::timed_out(cmd, limit, false));
        }
        let hangs = |watch| {
            let begun = self.now();
            self.take(limit, watch);
            Err(CmdError::timed_out(cmd, self.now() - begun, false))
        };
        let reply = self.reply(cmd);
        if let End::Missing = reply.end {
            return Err(CmdError::Missing {
                program: cmd.program().to_owned(),
            });
        }
        match self.step(&cmd.to_string()) {
            Verdict::Go => {}
            Verdict::Fail => {
                let stderr = "injected failure\n".to_owned();
                return Ok(Output {
                    status: Status::Exited(1),
                    stdout: String::new(),
                    stderr,
                });
            }
            Verdict::Hang => return hangs(watch),
        }
        if reply.time > limit {
            return hangs(watch);
        }
        reply.effects.iter().for_each(|effect| effect(&self.tree));
        match reply.end {
            End::Said {
                status,
                stdout,
                stderr,
            } => {
                if !self.take(reply.time, watch) {
                    return Err(CmdError::timed_out(cmd, reply.time, false));
                }
                Ok(Output {
                    status,
                    stdout,
                    stderr: cmd.without_secrets(stderr),
                })
            }
            _ => hangs(watch),
        }
    }

    /// In this process, so that what it does to the machine is not lost, also when it takes too long.
    fn apart(
        &self,
        what: &str,
        limit: Duration,
        watch: Watch<'_>,
        work: &mut dyn FnMut() -> String,
    ) -> anyhow::Result<String> {
        let begun = self.now();
        if !self.state().stuck.iter().any(|it| it == what) {
            let said = work();
            if self.now() - begun <= limit {
                return Ok(said);
            }
            self.state().now = begun + limit;
        } else {
            self.take(limit, watch);
        }
        anyhow::bail!(TooSlow {
            what: what.to_owned(),
            after: self.now() - begun,
            abandoned: true,
        })
    }

    fn read_at(&self, device: &Path, offset: u64, length: usize) -> io::Result<Vec<u8>> {
        let content = std::fs::read(device)?;
        let start = content
            .len()
            .min(usize::try_from(offset).unwrap_or(usize::MAX));
        let end = content.len().min(start + length);
        Ok(content[start..end].to_vec())
    }

    fn connect(&self, address: SocketAddr, _: Duration) -> io::Result<Box<dyn Connection>> {
        match self.state().services.get(&address) {
            Some(service) => Ok(Box::new(Talk {
                service: service.clone(),
                heard: Vec::new(),
                said: Vec::new(),
            })),
            None => Err(io::ErrorKind::ConnectionRefused.into()),
        }
    }

    fn reread_partitions(&self, _: &Path) -> io::Result<()> {
        Ok(())
    }

    /// A device's file has the name in it.
    fn zvol_name(&self, device: &Path) -> io::Result<Option<String>> {
        if self.is_zfs_locked() {
            return Err(io::ErrorKind::ResourceBusy.into());
        }
        let name = std::fs::read_to_string(device)?.trim().to_owned();
        Ok(Some(name).filter(|name| !name.is_empty()))
    }

    fn reservations(&self, _: &Path, name: &str) -> Result<Box<dyn Reservations>, PrError> {
        let path = block::Path {
            script: self.clone(),
            disks: self.disks.clone(),
            name: name.to_owned(),
        };
        Ok(Box::new(path))
    }

    fn mount(
        &self,
        source: &str,
        _: &Path,
        target: &str,
        kind: &str,
        flags: MountFlags,
        options: &str,
    ) -> Result<(), Errno> {
        block::mount(&self.tree, source, target, kind, flags, options)
    }

    fn unmount(&self, _: &Path, target: &str) -> Result<(), Errno> {
        let busy = self.state().busy.clone();
        let lio = self.state().lio.clone();
        let served = lio.is_some_and(|lio| lio.holds_below(target));
        match served || busy.iter().any(|busy| busy(target)) {
            true => Err(Errno::EBUSY),
            false => block::unmount(&self.tree, target),
        }
    }

    fn signal(&self, pid: i32, signal: Signal) -> Result<bool, Errno> {
        let process = format!("/proc/{pid}");
        if !self.tree.exists(&process) {
            return Ok(false);
        }
        let ends = signal == Signal::SIGKILL
            || (signal == Signal::SIGTERM && !self.state().stubborn.contains(&pid));
        if ends {
            self.tree.remove(&process);
        }
        Ok(true)
    }

    fn net(&self, namespace: Option<&str>, deadline: Deadline) -> Result<Rc<dyn Net>, NetError> {
        self.network().open(self.clone(), namespace, deadline)
    }

    fn now(&self) -> Instant {
        self.state().now
    }

    fn sleep(&self, time: Duration) {
        self.advance(time);
        let effects = self.state().meanwhile.clone();
        effects.iter().for_each(|effect| effect(&self.tree));
    }

    fn about_to(&self, what: &str) -> io::Result<()> {
        match self.step(what) {
            Verdict::Go => Ok(()),
            Verdict::Fail => Err(Errno::EIO.into()),
            Verdict::Hang => self.hang(),
        }
    }

    fn kernel_file(&self, path: &str, access: Access<'_>) -> Option<io::Result<()>> {
        let lio = self.state().lio.clone()?;
        if lio.opens(path, &access) && self.is_zfs_locked() {
            return Some(Err(io::Error::from_raw_os_error(crate::block::RESTART)));
        }
        let busy = self.state().busy.clone();
        let answer = lio.answers(path, access, |device| busy.iter().any(|busy| busy(device)))?;
        Some(answer.map_err(io::Error::from))
    }
}
