//! A ZFS pool: imported on one node, its datasets mounted and its volumes there, or not here at all.
//!
//! What is true is what the kernel's statistics (`/proc/spl/kstat/zfs/POOL`) and its table of mounts say. The `zpool`
//! command is run to change something, never to look: it waits for a lock that a dead pool holds for ever.

use std::time::Duration;

use ocf::prelude::*;
use probe::attributes;
use probe::zfs::{self, PoolState};

use crate::datasets::{self, Expected};
use crate::values::{
    self, Force, ForceUnmount, ImportArgs, Multihost, OnSuspended, Paths, Reservation, Tunables,
    Volumes,
};
use crate::{boot, depth, disks, import, release, reservation};

/// How long a pool may pass through a state in which nothing can be said of it. Vdevs that are reopened make a healthy
/// one read OFFLINE for up to 78 ms (openzfs 9004).
const SETTLE: Duration = Duration::from_secs(1);
/// How long a monitor takes at most to set a node attribute.
const PUBLISH: Duration = Duration::from_secs(5);

/// ZFS pool on shared disks
///
/// Imports a ZFS pool on start, mounts its datasets and waits for its volumes; exports it on stop. The pool's disks are
/// visible on several nodes, and the pool must be imported on one of them at a time: the cluster needs fencing.
///
/// A pool that is in the kernel is never reported as stopped, whatever its state: FAULTED, UNAVAIL and SUSPENDED are
/// failures. A pool that ZFS has suspended cannot be exported: stop fails at once, so that the node is fenced instead of
/// waited for. Imports discard nothing by themselves: the options -F, -X, -T and -m of zpool import are used only once, if
/// an administrator has put them into /run/hastor/zfs-pool-once/POOL on the node.
///
/// Monitors read kernel statistics only: no process is started, and nothing on the pool is touched. They watch the file
/// systems and volumes that were there after the start. One that is missing is a failure, unless ZFS, which is asked by a
/// command then, says that an administrator has destroyed, renamed or moved it, or wants it not to be mounted: that is
/// logged as a warning, and it is watched no longer, or where it is now. What was made or renamed while the pool was here is
/// watched from the next start or reload on. At depth 10 a monitor waits until a transaction group is written, and looks at
/// reservations and at the labels of the pool's disks: one that is missing or does not answer is reported (190) and left to
/// the pool's redundancy, and those that have replaced others or were added are watched, and reserved, from then on. At depth
/// 20 it also reads error counters.
///
/// Parameters have the names and meanings they have in ocf:heartbeat:ZFS, which forces every import; here force=auto
/// first asks the cluster whether the host that had the pool is away.
#[derive(clap::Parser, Debug)]
#[command(name = Self::NAME, version, rename_all = "snake_case")]
pub struct ZfsPool {
    /// Name of the pool
    ///
    /// As "zpool list" shows it.
    #[arg(long, value_parser = values::pool)]
    pub pool: String,

    /// GUID of the pool
    ///
    /// The number that "zpool get guid" shows. Needed where disks of several pools with the same name are visible: another
    /// pool of that name, imported by somebody else, does not count as this one, and is left alone (since ZFS 2.2).
    #[arg(long, value_parser = values::guid)]
    pub pool_guid: Option<u64>,

    /// Devices of the pool
    ///
    /// Disks, partitions or directories of such, separated by spaces. They are looked at first; if the pool is not found
    /// there, all of /dev/disk/by-id and /dev/mapper are.
    #[arg(long, default_value = "")]
    pub devices: Paths,

    /// Options of zpool import
    ///
    /// The options -d, -s, -f, -N, -l, -o and -R are understood; -d names devices as the parameter devices does. The pool is
    /// always imported with -N and -o cachefile=none.
    #[arg(long, default_value = "")]
    pub importargs: ImportArgs,

    /// When to force the import
    ///
    /// A pool whose disks say that another host has it is imported only by force. auto: only if that host is offline and
    /// the cluster has seen to it (fenced or left in order), or is no node of this cluster. That is not known where fencing
    /// is switched off, or where node names differ from host names and a node has not told its hostid yet, as it does when
    /// it starts a pool. always: in any case; only fencing is then between two hosts and one pool. never: not at all.
    #[arg(long, default_value = "auto")]
    pub force: Force,

    /// Force the import (older form)
    ///
    /// Kept for old configurations: true is force=always, false is force=never.
    #[arg(long)]
    pub importforce: Option<Flag>,

    /// Activity check between hosts
    ///
    /// Sets the pool's multihost property at import, or keeps it. With on, the import of a pool that was not exported takes
    /// 20 to 35 seconds longer, during which ZFS watches whether another host writes; every node needs a hostid of its own.
    #[arg(long, default_value = "keep")]
    pub multihost: Multihost,

    /// Reservation of the pool's disks
    ///
    /// wero: before the import the node registers with every disk of the pool and takes a SCSI-3 or NVMe persistent
    /// reservation (Write Exclusive, Registrants Only), so that no other host can write; a reservation of a host that the
    /// cluster has fenced is preempted. It is released after the export. The disks must support it. Disks that come to the pool
    /// while it is here are reserved by the next monitor at depth 10.
    #[arg(long, default_value = "none")]
    pub reservation: Reservation,

    /// Disks without reservation
    ///
    /// How many disks may be without the reservation, 0 to 1000. A start fails if more cannot be reserved: broken ones would
    /// otherwise keep a redundant pool away. A monitor at depth 10 fails if another host has taken more; disks that have gone or
    /// do not answer do not count.
    #[arg(long, default_value = "0", value_parser = ocf::number(0..=1000))]
    pub reservation_missing: u32,

    /// Mount the datasets
    ///
    /// Whether start mounts the pool's file systems (those with canmount=on and a mountpoint of their own) and monitor
    /// watches them, as long as they are to be mounted.
    #[arg(long, default_value = "true")]
    pub mount: Flag,

    /// File with the encryption key
    ///
    /// For encrypted datasets whose keylocation is prompt: the absolute path of a file with the key or passphrase, on every
    /// node, and not in the pool. Keys with another keylocation are loaded from there.
    #[arg(long)]
    pub key_file: Option<String>,

    /// Fail without encryption keys
    ///
    /// Whether a key that cannot be loaded fails the start. Otherwise the datasets that need it stay away.
    #[arg(long, default_value = "true")]
    pub require_keys: Flag,

    /// Volumes to wait for
    ///
    /// all, none, or names of volumes (tank/vm1 tank/vm2): start ends when their block devices are there.
    #[arg(long, default_value = "all")]
    pub wait_volumes: Volumes,

    /// End processes that use the pool
    ///
    /// Whether stop ends processes that keep datasets or volumes in use and takes back NFS exports of them. With false they
    /// are named, and the stop fails. The word safe, of ocf:heartbeat:Filesystem, is the same as true.
    #[arg(long, default_value = "true")]
    pub force_unmount: ForceUnmount,

    /// Time between TERM and KILL
    ///
    /// In seconds, 0 to 60: how long processes that use the pool have to end by themselves.
    #[arg(long, default_value = "3", value_parser = ocf::seconds(0..=60))]
    pub signal_delay: ocf::Seconds,

    /// What stop does to a suspended pool
    ///
    /// fail: stop fails at once, and the cluster fences the node. panic: stop makes the kernel panic (sysrq c), for
    /// clusters whose fencing is slow; set kernel.panic, or have a crash kernel.
    #[arg(long, default_value = "fail")]
    pub on_suspended: OnSuspended,

    /// Report a degraded pool
    ///
    /// Whether a monitor answers "degraded" (190) for a pool in state DEGRADED, which Pacemaker shows and counts as running.
    #[arg(long, default_value = "false")]
    pub report_degraded: Flag,

    /// Publish node attributes
    ///
    /// Whether monitors set the transient node attribute hastor-POOL-state, and at depth 20 hastor-POOL-capacity (percent),
    /// whenever it has changed.
    #[arg(long, default_value = "false")]
    pub attributes: Flag,

    /// Module parameters during start
    ///
    /// As name=value words, such as zfs_scan_suspend_progress=1: parameters of the zfs module that are set while the pool
    /// is imported, and set back afterwards. They hold for all pools of the node: when several start together, the last one
    /// sets back. One that does not exist or cannot be written fails the start.
    #[arg(long, default_value = "")]
    pub tunables: Tunables,

    /// Program to be called around import and export
    ///
    /// The absolute path of a program that is called as "PROGRAM pre-import POOL", and post-import, pre-export, post-export.
    /// That it fails fails the action.
    #[arg(long)]
    pub helper: Option<String>,
}

impl Agent for ZfsPool {
    const NAME: &'static str = "zfs-pool";
    const OPERATIONS: &'static [Operation] = &[
        Operation::start(180),
        Operation::stop(180),
        Operation::monitor(30).every(10),
        Operation::monitor(60).every(60).at_depth(10),
        Operation::monitor(60).every(300).at_depth(20),
        Operation::reload_agent(20),
    ];
    const UNIQUE: &'static [(&'static str, &'static [&'static str])] = &[("pool", &["pool"])];
    const RELOADABLE: &'static [&'static str] = &[
        "devices",
        "force",
        "importforce",
        "reservation_missing",
        "force_unmount",
        "signal_delay",
        "on_suspended",
        "report_degraded",
        "attributes",
        "tunables",
        "helper",
    ];
    const DEPRECATED: &'static [(&'static str, &'static str)] = &[("importforce", "force")];

    fn check(&self) -> Result<()> {
        for (name, path) in [("key_file", &self.key_file), ("helper", &self.helper)] {
            if let Some(path) = path.as_ref().filter(|path| !path.starts_with('/')) {
                bail!("parameter {name}: \"{path}\" is not an absolute path; expected one");
            }
        }
        if let Volumes::These(names) = &self.wait_volumes {
            let inside = |name: &&String| {
                name.strip_prefix(self.pool.as_str())
                    .is_some_and(|rest| rest.starts_with('/'))
            };
            if let Some(name) = names.iter().find(|name| !inside(name)) {
                bail!(
                    "parameter wait_volumes: \"{name}\" is not in the pool; expected names that begin with {}/",
                    self.pool
                );
            }
        }
        Ok(())
    }

    fn validate(&self, node: &Node) -> Result<()> {
        if let Some(instances) = node
            .call()
            .meta_number("clone_max")
            .filter(|count| *count > 1)
        {
            bail!(Exit::NotConfigured.because(format!(
                "a pool is on one node at a time: a clone with clone-max={instances} is not possible"
            )));
        }
        boot::check(self, node)?;
        import::check_tunables(self, node)?;
        if node.call().action == "validate-all" {
            let found = disks::find(self, node)?;
            found.check_all_there()?;
            reservation::check_support(self, node, &found)?;
        }
        Ok(())
    }

    fn monitor(&self, node: &Node, depth: Depth) -> Result<State> {
        let Some(state) = self.settled(node)? else {
            if let Some(pid) = import::left_behind(node)? {
                bail!(
                    "pool {} is about to be imported by process {pid}, of an earlier start",
                    self.pool
                );
            }
            // Such an import may have ended just now.
            ensure!(
                self.state(node)?.is_none(),
                "pool {} is being imported",
                self.pool
            );
            return Ok(State::Stopped);
        };
        let degraded = match &state {
            PoolState::Online => None,
            PoolState::Degraded => Some("it works, but a disk is missing or broken".to_owned()),
            PoolState::Suspended => bail!(self.suspended()),
            state => bail!("pool {} is {state}, expected ONLINE or DEGRADED", self.pool),
        };
        disks::check_not_all_gone(self, node)?;
        match (Expected::noted(node), node.call()) {
            // Whatever is missing: it is here, and a stop will take it away.
            (_, call) if call.is_probe() => {}
            // A start makes up for what is missing, and notes it all anew.
            (Some(expected), call) if call.action == "start" => expected.check(node)?,
            (Some(expected), _) => datasets::watch(self, node, expected)?,
            // Not by this resource's start, so nothing is known of what belongs to it: start goes on from here.
            (None, call) if call.action == "start" => {
                bail!("pool {} was imported by something else", self.pool)
            }
            (None, _) => {}
        }
        let findings = depth::look(self, node, depth)?;
        self.publish(node, &state, depth);
        let reported = degraded.filter(|_| self.report_degraded.is_on());
        Ok(match reported.or(findings) {
            Some(why) => State::Degraded(format!("pool {}: {why}", self.pool)),
            None => State::Running,
        })
    }

    fn is_gone(&self, node: &Node) -> Result<bool> {
        // The import first: at its end the pool is here.
        let here = import::left_behind(node)?.is_some() || self.state(node)?.is_some();
        Ok(!here && !reservation::is_noted(node) && !import::has_set_tunables(node))
    }

    fn start(&self, node: &Node) -> Result<()> {
        import::start(self, node)
    }

    fn stop(&self, node: &Node) -> Result<()> {
        release::stop(self, node)
    }

    /// What may change is read anew by every action; only what monitor watches is noted.
    fn reload(&self, node: &Node) -> Result<()> {
        let state = self.state(node);
        if let Ok(Some(PoolState::Online | PoolState::Degraded)) = state {
            datasets::renew(self, node)
                .unwrap_or_else(|error| warn!("monitor watches what it did before: {error:#}"));
        }
        Ok(())
    }
}

impl ZfsPool {
    /// The pool's state, None if it is not in the kernel; another pool that has its name there is not it.
    pub fn state(&self, node: &Node) -> Result<Option<PoolState>> {
        let state = zfs::state(node, &self.pool)?;
        Ok(state.filter(|_| self.namesake(node).is_none()))
    }

    /// The GUID of another pool that has this one's name in the kernel. In doubt there is none: then what is there is ours, as
    /// is what was brought up here, and given another GUID since.
    fn namesake(&self, node: &Node) -> Option<u64> {
        let guid = self.other_guid(node)?;
        Expected::noted(node).is_none().then_some(guid)
    }

    /// The GUID of the pool of this name in the kernel, if it is known and not the one that is expected.
    fn other_guid(&self, node: &Node) -> Option<u64> {
        let wanted = self.pool_guid?;
        let guid = zfs::guid(node, &self.pool).unwrap_or_else(|error| {
            debug!("{error:#}");
            None
        });
        guid.filter(|guid| *guid != wanted)
    }

    /// What somebody should look at: the next start would not find this pool.
    pub fn changed_guid(&self, node: &Node) -> Option<String> {
        let (wanted, guid) = (self.pool_guid?, self.other_guid(node)?);
        Some(format!(
            "pool {} has the GUID {guid}, and parameter pool_guid expects {wanted}: it would not be found again",
            self.pool
        ))
    }

    /// Fails if another pool has this one's name in the kernel: both cannot be there.
    pub fn check_name_is_free(&self, node: &Node) -> Result<()> {
        if let (Some(wanted), Some(guid)) = (self.pool_guid, self.namesake(node)) {
            bail!(
                "a pool named {} is here that has the GUID {guid}, expected {wanted} (parameter pool_guid): export it, or import it \
                 under another name",
                self.pool
            );
        }
        Ok(())
    }

    /// The pool's state, None if it is not in the kernel. A state that passes is waited out.
    pub fn settled(&self, node: &Node) -> Result<Option<PoolState>> {
        let ends = node.now() + SETTLE;
        loop {
            match self.state(node)? {
                Some(state)
                    if state.is_transient() && node.now() < ends && !node.time_left().is_zero() =>
                {
                    node.sleep(Duration::from_millis(10));
                }
                state => return Ok(state),
            }
        }
    }

    /// Why a pool that ZFS has suspended does not run.
    pub fn suspended(&self) -> String {
        format!(
            "pool {} is suspended: its disks do not answer, and all writes wait",
            self.pool
        )
    }

    /// When an import is forced, from the parameter, its older form and the options of the import.
    pub fn force(&self) -> Force {
        match (self.importforce, self.importargs.force) {
            (Some(on), _) if on.is_on() => Force::Always,
            (Some(_), _) => Force::Never,
            (None, true) => Force::Always,
            (None, false) => self.force,
        }
    }

    /// Calls the administrator's program.
    pub fn call_helper(&self, node: &Node, moment: &str) -> Result<()> {
        if let Some(helper) = &self.helper {
            node.run(&Cmd::new(helper).arg(moment).arg(&self.pool))?;
        }
        Ok(())
    }

    /// Sets node attributes that have changed since they were last set. Nothing depends on them.
    fn publish(&self, node: &Node, state: &PoolState, depth: Depth) {
        if !self.attributes.is_on() || node.call().action == "start" || node.call().is_probe() {
            return;
        }
        let mut values = vec![("state", state.to_string())];
        if depth >= Depth::Thorough {
            match depth::capacity(self, node) {
                Ok(percent) => values.push(("capacity", percent)),
                Err(error) => warn!("the capacity is not known: {error:#}"),
            }
        }
        for (what, value) in values {
            let hint = format!("attribute-{what}");
            if node.hint(&hint).as_ref() == Some(&value) {
                continue;
            }
            let name = format!("hastor-{}-{what}", self.pool);
            match attributes::tell(node, &name, &value, PUBLISH) {
                Ok(()) => node
                    .set_hint(&hint, &value)
                    .unwrap_or_else(|error| warn!("{error:#}")),
                Err(error) => warn!("node attribute {name} was not set: {error}"),
            }
        }
    }
}
