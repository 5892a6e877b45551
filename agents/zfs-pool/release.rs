//! Stop: whoever uses the pool is found and made to leave, everything is unmounted, the pool is exported.
//!
//! A pool that ZFS has suspended cannot be exported: the export would wait, with the lock that all ZFS commands need, for
//! disks that are gone. Then stop fails at once, and the cluster fences this node.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use host::{MountError, TooSlow};
use nix::errno::Errno;
use nix::sys::signal::Signal;
use ocf::prelude::*;
use probe::mounts::Mount;
use probe::users::{self, Scope, User};
use probe::zfs::message::{self, Refusal};
use probe::zfs::{self, PoolState};

use crate::datasets::{self, Told};
use crate::import::{self, Phases, give_up_tunables};
use crate::pool::ZfsPool;
use crate::reservation;
use crate::values::{ForceUnmount, OnSuspended};

/// How often the pool's state is looked at while something that may hang is under way.
const LOOK: Duration = Duration::from_millis(200);
/// Programs such as udev and blkid open volumes for a moment: how long users that no signal reaches are waited for.
const PASSING: Duration = Duration::from_secs(5);
/// What udev calls its own processes, since systemd 250 and before.
const UDEV: [&str; 2] = ["(udev-worker)", "systemd-udevd"];
/// Between two attempts.
const AGAIN: Duration = Duration::from_millis(250);
/// Time that is kept for saying why it failed.
const RESERVE: Duration = Duration::from_millis(500);

/// The whole of a stop.
pub fn stop(pool: &ZfsPool, node: &Node) -> Result<()> {
    let mut phases = Phases::begin(node);
    let mut exported = false;
    import::await_left_behind(pool, node)?;
    if pool.settled(node)?.is_some() {
        await_other_commands(pool, node)?;
    }
    if pool.state(node)?.is_some() {
        check_not_suspended(pool, node)?;
        check_not_needed(pool, node)?;
        pool.call_helper(node, "pre-export")?;
        let mounts = datasets::mounted(node, pool)?;
        unmount(pool, node, &mounts)?;
        phases.end(node, "unmount");
        export(pool, node, &mounts)?;
        phases.end(node, "export");
        exported = true;
        info!("pool {} is exported: {}", pool.pool, phases.line());
    }
    // Only now that nothing here can write to the disks any more.
    reservation::give_back(node)?;
    give_up_tunables(node)?;
    if exported {
        pool.call_helper(node, "post-export")?;
    }
    Ok(())
}

/// An import or an export that was left behind by an earlier action holds the pool: it has to end first.
fn await_other_commands(pool: &ZfsPool, node: &Node) -> Result<()> {
    while let Some(PoolState::Transitioning) = pool.state(node)? {
        ensure!(
            node.time_left() > RESERVE,
            "pool {} is being imported or exported by a zpool command that does not end",
            pool.pool
        );
        node.sleep(AGAIN);
    }
    Ok(())
}

/// Fails if the pool is suspended, by the parameter together with the machine.
fn check_not_suspended(pool: &ZfsPool, node: &Node) -> Result<()> {
    if !zfs::is_suspended(node, &pool.pool) {
        return Ok(());
    }
    if pool.on_suspended == OnSuspended::Panic {
        warn!(
            "pool {} is suspended: stopping this machine (on_suspended=panic)",
            pool.pool
        );
        node.write("/proc/sysrq-trigger", "c")?;
    }
    bail!(
        "pool {} is suspended: its disks do not answer, and it can be neither unmounted nor exported; this node has to be fenced",
        pool.pool
    )
}

/// Not a pool that this machine runs from.
fn check_not_needed(pool: &ZfsPool, node: &Node) -> Result<()> {
    let root = datasets::mounted(node, pool)?
        .into_iter()
        .find(|mount| mount.target == "/");
    if let Some(root) = root {
        bail!(
            "pool {} has the root file system of this machine ({}): it is not exported",
            pool.pool,
            root.source
        );
    }
    Ok(())
}

/// Unmounts all file systems of the pool, also snapshots, deepest first.
fn unmount(pool: &ZfsPool, node: &Node, mounts: &[Mount]) -> Result<()> {
    let mut eviction = Eviction::begin(pool, node, mounts);
    // Not those of snapshots: with zfs_admin_snapshot=1, to remove such a directory is to destroy the snapshot.
    let file_systems = mounts.iter().filter(|mount| !mount.source.contains('@'));
    let mut targets: Vec<String> = file_systems.map(|mount| mount.target.clone()).collect();
    targets.sort_by(|a, b| b.cmp(a)); // The deeper before the one it lies in.
    while let Some(busy) = unmount_all(pool, node)? {
        eviction.step(&format!("{busy} is in use"))?;
    }
    // Removing the mountpoints takes it away from other mount namespaces as well (since Linux 3.18); not from under
    // processes there, and then nobody would know where these are.
    while eviction.is_used_elsewhere()? {
        eviction.step("it is in use")?;
    }
    remove_mountpoints(node, &targets);
    Ok(())
}

/// Removes directories that served as mountpoints, as ZFS itself does at an export; those that are in use or not empty
/// stay.
fn remove_mountpoints(node: &Node, targets: &[String]) {
    for target in targets {
        node.rmdir(target)
            .unwrap_or_else(|error| debug!("{error:#}"));
    }
}

/// One pass; the first that is busy.
fn unmount_all(pool: &ZfsPool, node: &Node) -> Result<Option<String>> {
    let mut mounts = datasets::mounted(node, pool)?;
    // What was mounted last lies on top, of the same place too.
    mounts.reverse();
    mounts.sort_by_key(|mount| std::cmp::Reverse(mount.target.split('/').count()));
    if mounts.is_empty() {
        return Ok(None);
    }
    let what = format!("unmounting {} file systems", mounts.len());
    let limit = node.time_left().saturating_sub(RESERVE);
    let pass = node.apart_watching(
        &what,
        limit,
        LOOK,
        &mut || !zfs::is_suspended(node, &pool.pool),
        |host| {
            let mut busy = None;
            for mount in &mounts {
                match host.unmount(&mount.target) {
                    Ok(()) => {}
                    Err(MountError {
                        errno: Errno::EBUSY,
                        ..
                    }) => {
                        busy.get_or_insert(format!("{} on {}", mount.source, mount.target));
                    }
                    // Somebody else was faster.
                    Err(MountError {
                        errno: Errno::EINVAL | Errno::ENOENT,
                        ..
                    }) => {}
                    Err(error) => return Err(error.into()),
                }
            }
            Ok(busy)
        },
    );
    pass.map_err(|error| suspended_or(pool, node, error))
}

/// An error of something that hung is explained by the pool, if that is suspended now.
fn suspended_or(pool: &ZfsPool, node: &Node, error: anyhow::Error) -> anyhow::Error {
    match check_not_suspended(pool, node) {
        Err(suspended) => suspended,
        Ok(()) if error.is::<TooSlow>() => {
            error.context(format!("pool {} is {}", pool.pool, state_word(pool, node)))
        }
        Ok(()) => error,
    }
}

fn state_word(pool: &ZfsPool, node: &Node) -> String {
    match zfs::state(node, &pool.pool) {
        Ok(Some(state)) => state.to_string(),
        Ok(None) => "gone".into(),
        Err(error) => format!("{error:#}"),
    }
}

fn export(pool: &ZfsPool, node: &Node, mounts: &[Mount]) -> Result<()> {
    let mut eviction = Eviction::begin(pool, node, mounts);
    loop {
        // Before, not after it has failed: ZFS 2.3 waits without end for a volume that is open, and holds meanwhile what
        // all other commands need.
        if eviction.is_held()? {
            eviction.step("it is in use")?;
            continue;
        }
        // It may have become so while its volumes were asked, and then the export would hang.
        check_not_suspended(pool, node)?;
        let limit = node.time_left().saturating_sub(RESERVE);
        let cmd = Cmd::new("zpool")
            .args(["export", &pool.pool])
            .at_most(limit);
        let answer = node
            .ask_watching(&cmd, LOOK, &mut || !zfs::is_suspended(node, &pool.pool))
            .map_err(|error| suspended_or(pool, node, error.into()))?;
        // Its exit status is not what counts.
        let state = pool.settled(node)?;
        if state.is_none() {
            return Ok(());
        }
        check_not_suspended(pool, node)?;
        match message::export(&answer.stderr) {
            _ if answer.success() => {
                eviction.step("zpool export has ended, but the pool is still here")?
            }
            Refusal::Busy => eviction.step("the pool is busy")?,
            Refusal::NoSuchPool => node.sleep(AGAIN),
            other => bail!("pool {} is not exported: {other}", pool.pool),
        }
        ensure!(
            node.time_left() > RESERVE,
            "pool {} is still here",
            pool.pool
        );
    }
}

/// Making the users of a pool leave: asked first, then killed; those that no signal reaches are named.
struct Eviction<'a> {
    pool: &'a ZfsPool,
    node: &'a Node<'a>,
    /// What was mounted at the beginning: whoever is below that uses it still.
    mounts: &'a [Mount],
    scope: Option<Scope>,
    volumes: Told,
    /// Since when there has been nobody but users that cannot be made to leave.
    stuck: Option<std::time::Instant>,
    /// Processes that were asked to end.
    asked: BTreeMap<i32, std::time::Instant>,
}

impl<'a> Eviction<'a> {
    fn begin(pool: &'a ZfsPool, node: &'a Node<'a>, mounts: &'a [Mount]) -> Eviction<'a> {
        Eviction {
            pool,
            node,
            mounts,
            scope: None,
            volumes: Told::default(),
            stuck: None,
            asked: BTreeMap::new(),
        }
    }

    /// One round, after `failed`; fails once nothing more can be done. That somebody used it who is gone by now is no
    /// reason to give up, as long as there is time: on a busy machine there is always one more.
    fn step(&mut self, failed: &str) -> Result<()> {
        let (pool, node) = (self.pool, self.node);
        check_not_suspended(pool, node)?;
        let users = self.users()?;
        let silent = self.volumes.silent.clone();
        let named = || match (users.is_empty(), silent) {
            (true, Some(why)) => format!("{failed}, and no user of it is found; {why}"),
            (true, None) => format!("{failed}, and no user of it is found"),
            (false, _) => format!("{failed}, by {}", list(&users)),
        };
        let allowed = pool.force_unmount != ForceUnmount::False;
        let mut hope = users.is_empty();
        if allowed {
            for user in &users {
                hope |= self.evict(user)?;
            }
        }
        // Nobody to be ended: perhaps somebody who is about to go.
        let now = node.now();
        let stuck = match hope {
            true => None,
            false => Some(self.stuck.unwrap_or(now)),
        };
        self.stuck = stuck;
        let passing = stuck.is_none_or(|since| now - since < PASSING);
        ensure!(
            passing && node.time_left() > RESERVE + AGAIN,
            "pool {}: {}",
            pool.pool,
            named()
        );
        node.sleep(AGAIN);
        Ok(())
    }

    fn users(&mut self) -> Result<Vec<User>> {
        users::find(self.node, self.scope()?)
    }

    /// Does a process use it in another mount namespace, now that it is unmounted here?
    fn is_used_elsewhere(&mut self) -> Result<bool> {
        let node = self.node;
        let scope = self.scope()?;
        Ok(users::is_kept_elsewhere(node, scope)?
            && users::find(node, scope)?
                .iter()
                .any(|user| matches!(user, User::Process { .. })))
    }

    /// Does somebody keep the pool although nothing is mounted any more? An export to NFS clients does not.
    fn is_held(&mut self) -> Result<bool> {
        let users = self.users()?;
        Ok(users
            .iter()
            .any(|user| !matches!(user, User::NfsExport { .. })))
    }

    /// What is used. Found out once: to learn whose volume a device is, it is opened. One that could not be opened was not in
    /// use, but may be the next time.
    fn scope(&mut self) -> Result<&Scope> {
        let (pool, node) = (self.pool, self.node);
        let whole = self.volumes.silent.is_none();
        if let Some(scope) = self.scope.take().filter(|_| whole) {
            return Ok(self.scope.insert(scope));
        }
        self.volumes.ask(node, pool, BTreeSet::new())?;
        let volumes = &self.volumes.devices;
        let scope = Scope::new(node, &pool.pool, self.mounts.to_vec(), volumes)?;
        Ok(self.scope.insert(scope))
    }

    /// Makes one user leave; false if that cannot be done from here.
    fn evict(&mut self, user: &User) -> Result<bool> {
        match user {
            // They look at a volume that has appeared or changed, and go; one that is ended leaves that undone.
            User::Process { comm, .. } if UDEV.contains(&comm.as_str()) => Ok(true),
            User::Process { pid, .. } | User::MountNamespace { pid, .. } => {
                self.end_process(*pid, user)
            }
            User::NfsExport { path, clients } => {
                for client in clients {
                    info!("taking back the NFS export {client}:{path}");
                    let back = Cmd::new("exportfs")
                        .args(["-u", &format!("{client}:{path}")])
                        .at_most(Duration::from_secs(5));
                    self.node
                        .ask(&back)
                        .map(drop)
                        .unwrap_or_else(|error| warn!("{error}"));
                }
                self.flush_nfsd(path);
                Ok(true)
            }
            _ => Ok(false),
        }
    }

    /// The NFS server keeps file systems that it has once served until its caches are emptied.
    fn flush_nfsd(&self, path: &str) {
        let unlock = self.node.write("/proc/fs/nfsd/unlock_filesystem", path);
        unlock.unwrap_or_else(|error| debug!("{error:#}"));
        self.node
            .ask(
                &Cmd::new("exportfs")
                    .arg("-f")
                    .at_most(Duration::from_secs(5)),
            )
            .map(drop)
            .unwrap_or_else(|error| debug!("{error}"));
    }

    fn end_process(&mut self, pid: i32, user: &User) -> Result<bool> {
        if users::is_protected(self.node, pid)? {
            return Ok(false);
        }
        let now = self.node.now();
        let signal = match self.asked.get(&pid) {
            None => Signal::SIGTERM,
            Some(asked) if now - *asked >= self.pool.signal_delay.duration() => Signal::SIGKILL,
            Some(_) => return Ok(true),
        };
        info!("{signal} to {user}");
        self.node.signal(pid, signal)?;
        self.asked.entry(pid).or_insert(now);
        Ok(true)
    }
}

/// The first few, in words.
fn list(users: &[User]) -> String {
    let mut names: Vec<String> = users.iter().take(4).map(ToString::to_string).collect();
    if users.len() > names.len() {
        names.push(format!("and {} more", users.len() - names.len()));
    }
    names.join(", ")
}
