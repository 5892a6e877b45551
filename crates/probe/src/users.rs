//! Who uses a pool: processes, other mount namespaces, and whatever in the kernel holds a volume or a file.
//!
//! Only links and texts below /proc and /sys are read. Nothing on the pool itself is looked at: that could hang.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use anyhow::Result;
use host::Host;

use crate::mounts::{self, Mount};

/// What is used.
#[derive(Clone, Debug, Default)]
pub struct Scope {
    pool: String,
    /// The pool's file systems, as they are mounted for this process.
    mounts: Vec<Mount>,
    /// The block devices of its volumes and their partitions, zd16p1 by the volume.
    devices: BTreeMap<String, String>,
    /// Their device numbers, 230:17 by zd16p1.
    numbers: BTreeMap<(u32, u32), String>,
}

impl Scope {
    /// A pool with its mounts and its volumes' devices (zd16 by tank/vm1).
    pub fn new(
        host: &Host,
        pool: &str,
        mounts: Vec<Mount>,
        volumes: &BTreeMap<String, String>,
    ) -> Result<Scope> {
        let mut scope = Scope {
            pool: pool.to_owned(),
            mounts,
            ..Scope::default()
        };
        for (volume, device) in volumes {
            let class = format!("/sys/class/block/{device}");
            let mut devices = vec![device.clone()];
            devices.extend(
                host.list(&class)?
                    .into_iter()
                    .filter(|name| name.starts_with(&format!("{device}p"))),
            );
            for device in devices {
                if let Some(number) = host
                    .read(&format!("/sys/class/block/{device}/dev"))?
                    .as_deref()
                    .and_then(device_number)
                {
                    scope.numbers.insert(number, device.clone());
                }
                scope.devices.insert(device, volume.clone());
            }
        }
        Ok(scope)
    }

    /// Is this path on one of the pool's file systems, or one of its devices?
    fn has(&self, path: &str) -> bool {
        self.mounts
            .iter()
            .any(|mount| is_below(path, &mount.target))
            || self.device(path).is_some()
    }

    /// Does this mount, of another namespace, keep a file system of the pool although it is unmounted here? Not one to
    /// which an unmount is passed on.
    fn keeps(&self, mount: &Mount) -> bool {
        let hears_of = |ours: &Mount| {
            ours.shared.is_some() && (mount.master == ours.shared || mount.shared == ours.shared)
        };
        self.is_of_pool(mount) && !self.mounts.iter().any(hears_of)
    }

    fn is_of_pool(&self, mount: &Mount) -> bool {
        let inside = mount
            .source
            .strip_prefix(&self.pool)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with(['/', '@']));
        mount.kind == "zfs" && inside
    }

    /// The mount of the pool, of all those in another namespace, that a path there lies on: the deepest on the way to it
    /// counts.
    fn mount_below<'a>(&self, path: &str, mounts: &'a [Mount]) -> Option<&'a Mount> {
        mounts
            .iter()
            .filter(|mount| is_below(path, &mount.target))
            .max_by_key(|mount| mount.target.len())
            .filter(|mount| self.is_of_pool(mount))
    }

    /// The device that a path names: /dev/zd16, /dev/zvol/tank/vm1.
    fn device(&self, path: &str) -> Option<&str> {
        let name = path.strip_prefix("/dev/")?;
        if let Some((device, _)) = self.devices.get_key_value(name) {
            return Some(device);
        }
        let volume = name.strip_prefix("zvol/")?.replace('+', " ");
        self.devices
            .iter()
            .find(|(_, of)| **of == volume)
            .map(|(device, _)| device.as_str())
    }
}

fn device_number(text: &str) -> Option<(u32, u32)> {
    let (major, minor) = text.trim().split_once(':')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

/// By components: /tank2 is not below /tank.
fn is_below(path: &str, dir: &str) -> bool {
    let dir = dir.trim_end_matches('/');
    path.strip_prefix(dir)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Somebody who uses a pool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum User {
    /// A process.
    Process {
        /// Its number.
        pid: i32,
        /// Its command's name.
        comm: String,
        /// What of it: working directory, open file.
        what: &'static str,
        /// Where.
        path: String,
    },
    /// A process in another mount namespace, in which the pool is mounted: unmounting here does not unmount it there.
    MountNamespace {
        /// The number of one process in it.
        pid: i32,
        /// Its command's name.
        comm: String,
        /// What is mounted there.
        dataset: String,
    },
    /// A file system on a volume.
    Mounted {
        /// The volume's device.
        device: String,
        /// Where it is mounted.
        target: String,
    },
    /// Swap space.
    Swap {
        /// The device or file.
        path: String,
    },
    /// A loop device.
    Loop {
        /// Its name.
        device: String,
        /// The file or device behind it.
        backing: String,
    },
    /// A device built on a volume: device mapper, md, DRBD.
    Holder {
        /// The volume's device.
        device: String,
        /// What is built on it.
        by: String,
    },
    /// A SCSI target's backstore.
    Backstore {
        /// Its name: iblock_0/vm1.
        name: String,
        /// The device or file behind it.
        path: String,
    },
    /// An NVMe target's namespace.
    Nvmet {
        /// Subsystem and number.
        name: String,
        /// The device or file behind it.
        path: String,
    },
    /// A directory that the NFS server exports.
    NfsExport {
        /// Which.
        path: String,
        /// To whom, as exportfs names them.
        clients: Vec<String>,
    },
}

impl fmt::Display for User {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            User::Process {
                pid,
                comm,
                what,
                path,
            } => write!(f, "process {pid} ({comm}), {what} {path}"),
            User::MountNamespace { pid, comm, dataset } => {
                write!(
                    f,
                    "process {pid} ({comm}), in whose mount namespace {dataset} is mounted"
                )
            }
            User::Mounted { device, target } => {
                write!(f, "the file system of {device} on {target}")
            }
            User::Swap { path } => write!(f, "swap space on {path}"),
            User::Loop { device, backing } => write!(f, "loop device {device} of {backing}"),
            User::Holder { device, by } => write!(f, "{by}, built on {device}"),
            User::Backstore { name, path } => write!(f, "SCSI target backstore {name} of {path}"),
            User::Nvmet { name, path } => write!(f, "NVMe target namespace {name} of {path}"),
            User::NfsExport { path, clients } => {
                write!(f, "NFS export of {path} to {}", clients.join(" "))
            }
        }
    }
}

/// Everybody who uses it; what is in the kernel first, since no signal reaches that.
pub fn find(host: &Host, scope: &Scope) -> Result<Vec<User>> {
    let mut users = Vec::new();
    targets(host, scope, &mut users)?;
    layers(host, scope, &mut users)?;
    nfs(host, scope, &mut users)?;
    processes(host, scope, &mut users)?;
    Ok(users)
}

/// Does another mount namespace keep a file system of the pool? Asked when nothing of it is mounted here any more; that
/// there is none needs no look at what processes have open.
pub fn is_kept_elsewhere(host: &Host, scope: &Scope) -> Result<bool> {
    let ours = host.link_target("/proc/self/ns/mnt").ok().flatten();
    let mut seen = BTreeSet::from([ours]);
    for pid in host
        .list("/proc")?
        .iter()
        .filter_map(|name| name.parse::<i32>().ok())
    {
        let theirs = host
            .link_target(&format!("/proc/{pid}/ns/mnt"))
            .ok()
            .flatten();
        if theirs.is_some()
            && seen.insert(theirs)
            && mounts::of(host, Some(pid))?
                .iter()
                .any(|mount| scope.is_of_pool(mount))
        {
            return Ok(true);
        }
    }
    Ok(false)
}

/// LIO's backstores and nvmet's namespaces.
fn targets(host: &Host, scope: &Scope, users: &mut Vec<User>) -> Result<()> {
    let core = "/sys/kernel/config/target/core";
    for hba in host.list(core)?.into_iter().filter(|name| name != "alua") {
        for object in host.list(&format!("{core}/{hba}"))? {
            // Attributes of the hba are files; a read below them finds nothing.
            let path = host
                .read(&format!("{core}/{hba}/{object}/udev_path"))
                .ok()
                .flatten()
                .unwrap_or_default();
            if let Some(path) = used(host, scope, path.trim())? {
                users.push(User::Backstore {
                    name: format!("{hba}/{object}"),
                    path,
                });
            }
        }
    }
    let subsystems = "/sys/kernel/config/nvmet/subsystems";
    for subsystem in host.list(subsystems)? {
        let namespaces = format!("{subsystems}/{subsystem}/namespaces");
        for number in host.list(&namespaces)? {
            let text = |file: &str| {
                host.read(&format!("{namespaces}/{number}/{file}"))
                    .ok()
                    .flatten()
                    .unwrap_or_default()
            };
            if text("enable").trim() != "1" {
                continue;
            }
            if let Some(path) = used(host, scope, text("device_path").trim())? {
                users.push(User::Nvmet {
                    name: format!("{subsystem}/{number}"),
                    path,
                });
            }
        }
    }
    Ok(())
}

/// The path, if it is on the pool: by itself, or by where it leads if it is a device's name.
fn used(host: &Host, scope: &Scope, path: &str) -> Result<Option<String>> {
    if path.is_empty() {
        return Ok(None);
    }
    // Only names of devices are followed: others may lie on the pool.
    let real = match path.starts_with("/dev/") {
        true => host.real_path(path)?,
        false => None,
    };
    let found = scope.has(path) || real.as_deref().is_some_and(|real| scope.has(real));
    Ok(found.then(|| path.to_owned()))
}

/// What lies on volumes or files: file systems, swap, loop devices, other block devices.
fn layers(host: &Host, scope: &Scope, users: &mut Vec<User>) -> Result<()> {
    for mount in mounts::of(host, None)? {
        if let Some(device) = scope.numbers.get(&(mount.major, mount.minor)) {
            users.push(User::Mounted {
                device: device.clone(),
                target: mount.target,
            });
        }
    }
    for line in host
        .read("/proc/swaps")?
        .unwrap_or_default()
        .lines()
        .skip(1)
    {
        let path = mounts::unescaped(line.split_whitespace().next().unwrap_or_default());
        if scope.has(&path) {
            users.push(User::Swap { path });
        }
    }
    for device in host
        .list("/sys/class/block")?
        .into_iter()
        .filter(|name| name.starts_with("loop"))
    {
        let backing = host
            .read(&format!("/sys/class/block/{device}/loop/backing_file"))
            .ok()
            .flatten()
            .unwrap_or_default();
        let backing = backing.trim();
        if !backing.is_empty() && scope.has(backing) {
            users.push(User::Loop {
                device,
                backing: backing.to_owned(),
            });
        }
    }
    for device in scope.devices.keys() {
        for by in host.list(&format!("/sys/class/block/{device}/holders"))? {
            users.push(User::Holder {
                device: device.clone(),
                by,
            });
        }
    }
    Ok(())
}

/// Directories that the NFS server exports, by its table.
fn nfs(host: &Host, scope: &Scope, users: &mut Vec<User>) -> Result<()> {
    let mut exports: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let table = host.read("/var/lib/nfs/etab")?.unwrap_or_default();
    for line in table.lines().filter(|line| !line.starts_with('#')) {
        let mut words = line.split_whitespace();
        let (Some(path), Some(client)) = (words.next(), words.next()) else {
            continue;
        };
        let path = mounts::unescaped(path);
        if scope
            .mounts
            .iter()
            .any(|mount| is_below(&path, &mount.target))
        {
            let client = client.split('(').next().unwrap_or_default();
            exports.entry(path).or_default().push(client.to_owned());
        }
    }
    users.extend(
        exports
            .into_iter()
            .map(|(path, clients)| User::NfsExport { path, clients }),
    );
    Ok(())
}

fn processes(host: &Host, scope: &Scope, users: &mut Vec<User>) -> Result<()> {
    let ours = host.link_target("/proc/self/ns/mnt").ok().flatten();
    let here = mounts::of(host, None)?;
    let mut namespaces = BTreeSet::new();
    let mut seen: BTreeMap<_, Vec<Mount>> = BTreeMap::new();
    for pid in host
        .list("/proc")?
        .iter()
        .filter_map(|name| name.parse::<i32>().ok())
    {
        let dir = format!("/proc/{pid}");
        // Threads of the kernel have none; a process that has gone, neither.
        if host
            .link_target(&format!("{dir}/exe"))
            .ok()
            .flatten()
            .is_none()
        {
            continue;
        }
        let theirs = host.link_target(&format!("{dir}/ns/mnt")).ok().flatten();
        let elsewhere = theirs.is_some() && ours.is_some() && theirs != ours;
        let view = match elsewhere {
            true => {
                let root = path_of(host, &format!("{dir}/root")).unwrap_or_default();
                let mounts = seen.entry((theirs.clone(), root.clone())).or_default();
                // That of a process which has just ended is empty.
                if mounts.is_empty() {
                    *mounts = mounts_seen(host, pid, &root)?;
                }
                View::Elsewhere(mounts)
            }
            false => View::Ours(&here),
        };
        if let Some((what, path)) = use_by(host, scope, &dir, view) {
            users.push(User::Process {
                pid,
                comm: comm(host, pid),
                what,
                path,
            });
        } else if elsewhere && namespaces.insert(theirs) {
            let kept = view.mounts().iter().find(|mount| scope.keeps(mount));
            if let Some(mount) = kept {
                users.push(User::MountNamespace {
                    pid,
                    comm: comm(host, pid),
                    dataset: mount.source.clone(),
                });
            }
        }
    }
    Ok(())
}

/// The mounts that a process sees.
#[derive(Clone, Copy)]
enum View<'a> {
    /// Those that we see as well: its paths are ours.
    Ours(&'a [Mount]),
    /// Those of another namespace: a path there says nothing of our mounts, though it may have the same name.
    Elsewhere(&'a [Mount]),
}

impl<'a> View<'a> {
    fn mounts(self) -> &'a [Mount] {
        let (View::Ours(mounts) | View::Elsewhere(mounts)) = self;
        mounts
    }

    /// The mount of the pool that `is` describes. What was unmounted may be in use still, by those who have kept a file
    /// open; but the kernel gives its number to another mount.
    fn mount_of(self, scope: &'a Scope, is: impl Fn(&Mount) -> bool) -> Option<&'a Mount> {
        let before = || scope.mounts.iter().find(|mount| is(mount));
        let now = self.mounts().iter().find(|mount| is(mount));
        now.or_else(before).filter(|mount| scope.is_of_pool(mount))
    }
}

/// The mounts that a process in another namespace sees, each where its links have them: these begin at the namespace's
/// root, its table of mounts at the root of the process.
fn mounts_seen(host: &Host, pid: i32, root: &str) -> Result<Vec<Mount>> {
    let mut mounts = mounts::of(host, Some(pid))?;
    for mount in &mut mounts {
        mount.target = format!("{}{}", root.trim_end_matches('/'), mount.target);
    }
    Ok(mounts)
}

fn comm(host: &Host, pid: i32) -> String {
    let comm = host
        .read(&format!("/proc/{pid}/comm"))
        .ok()
        .flatten()
        .unwrap_or_default();
    comm.trim().to_owned()
}

/// What a process uses of it, the first thing that is found.
fn use_by(host: &Host, scope: &Scope, dir: &str, view: View<'_>) -> Option<(&'static str, String)> {
    let links = [
        ("cwd", "working directory"),
        ("root", "root directory"),
        ("exe", "program"),
    ];
    for (link, what) in links {
        let Some(path) = path_of(host, &format!("{dir}/{link}")) else {
            continue;
        };
        match view {
            View::Ours(_) if scope.has(&path) => return Some((what, path)),
            View::Ours(_) => {}
            View::Elsewhere(mounts) => {
                if let Some(mount) = scope.mount_below(&path, mounts) {
                    let dataset = &mount.source;
                    let path = format!("{path} of another mount namespace ({dataset})");
                    return Some((what, path));
                }
            }
        }
    }
    for number in host.list(&format!("{dir}/fd")).unwrap_or_default() {
        let path = path_of(host, &format!("{dir}/fd/{number}")).unwrap_or_default();
        let named = match view {
            View::Ours(_) => scope.has(&path),
            // A device has the same name everywhere.
            View::Elsewhere(_) => scope.device(&path).is_some(),
        };
        if named {
            return Some(("open file", path));
        }
        let info = host
            .read(&format!("{dir}/fdinfo/{number}"))
            .ok()
            .flatten()
            .unwrap_or_default();
        let id = info
            .lines()
            .find_map(|line| line.strip_prefix("mnt_id:")?.trim().parse::<u32>().ok());
        if let Some(mount) = view.mount_of(scope, |mount| Some(mount.id) == id) {
            return Some(("open file", format!("below {}", mount.target)));
        }
    }
    let maps = host
        .read(&format!("{dir}/maps"))
        .ok()
        .flatten()
        .unwrap_or_default();
    maps.lines().find_map(|line| {
        let (number, path) = mapped(line)?;
        view.mount_of(scope, |mount| (mount.major, mount.minor) == number)?;
        Some(("mapped file", path.to_owned()))
    })
}

/// Where a link below /proc points, also if that has been removed meanwhile.
fn path_of(host: &Host, link: &str) -> Option<String> {
    let target = host.link_target(link).ok()??;
    Some(
        target
            .strip_suffix(" (deleted)")
            .unwrap_or(&target)
            .to_owned(),
    )
}

/// The device and the file of `address perms offset major:minor inode path`, the device's numbers in hex; none of memory
/// that is no file's.
fn mapped(line: &str) -> Option<((u32, u32), &str)> {
    let mut words = line.split_whitespace();
    let (major, minor) = words.nth(3)?.split_once(':')?;
    let number = (
        u32::from_str_radix(major, 16).ok()?,
        u32::from_str_radix(minor, 16).ok()?,
    );
    (number != (0, 0)).then(|| (number, words.nth(1).unwrap_or_default()))
}

/// Whom nobody may end: the machine, the cluster, and the caller with all its ancestors.
const PROTECTED: [&str; 8] = [
    "systemd",
    "init",
    "pacemakerd",
    "corosync",
    "sbd",
    "dlm_controld",
    "crmd",
    "lrmd",
];

/// Must this process stay? Pacemaker's daemons begin with "pacemaker-"; comm has 15 characters.
pub fn is_protected(host: &Host, pid: i32) -> Result<bool> {
    let comm = comm(host, pid);
    if pid == 1
        || PROTECTED.contains(&comm.as_str())
        || comm.starts_with("pacemaker-")
        || comm.starts_with("systemd-")
    {
        return Ok(true);
    }
    let mut above = host
        .link_target("/proc/self")?
        .and_then(|own| own.parse::<i32>().ok());
    // A tree of processes has an end; its reading, a bound.
    for _ in 0..64 {
        match above {
            Some(own) if own == pid => return Ok(true),
            Some(own) if own > 1 => {
                let status = host
                    .read(&format!("/proc/{own}/status"))?
                    .unwrap_or_default();
                above = status
                    .lines()
                    .find_map(|line| line.strip_prefix("PPid:")?.trim().parse().ok());
            }
            _ => break,
        }
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use host::testing::Script;

    use super::*;

    fn machine() -> Script {
        let script = Script::empty();
        script.write_file(
            "/proc/self/mountinfo",
            "52 29 0:45 / /tank rw shared:1 - zfs tank rw\n53 29 230:17 / /mnt rw - ext4 /dev/zd16p1 rw\n54 1 0:50 / /tank2 rw - zfs tank2 rw\n",
        );
        script.write_file("/sys/class/block/zd16/dev", "230:16\n");
        script.write_file("/sys/class/block/zd16p1/dev", "230:17\n");
        script.tree().mkdir("/sys/class/block/zd16/zd16p1");
        script.tree().mkdir("/sys/class/block/zd16/holders/dm-3");
        script.write_file("/proc/swaps", "Filename Type Size Used Priority\n/tank/swap\\040file file 1 0 -2\n/dev/zd32 partition 1 0 -2\n");
        script.write_file("/sys/class/block/loop0/loop/backing_file", "/tank/image\n");
        script.write_file("/sys/class/block/loop1/loop/backing_file", "/tank2/image\n");
        script.write_file(
            "/sys/kernel/config/target/core/iblock_0/vm1/udev_path",
            "/dev/zvol/tank/vm1\n",
        );
        script.write_file("/sys/kernel/config/target/core/iblock_0/hba_info", "x\n");
        script.write_file(
            "/var/lib/nfs/etab",
            "/tank\t192.0.2.0/24(rw)\n/tank2\t*(rw)\n",
        );
        process(&script, 10, "bash", "/tank/dir");
        process(&script, 11, "other", "/tank2");
        process(&script, 12, "container", "/");
        script.tree().symlink("mnt:[2]", "/proc/12/ns/mnt");
        script.write_file(
            "/proc/12/mountinfo",
            "1 1 0:45 / /inner rw - zfs tank/data rw\n",
        );
        script.tree().symlink("mnt:[1]", "/proc/self/ns/mnt");
        script
    }

    /// A process in another mount namespace, with that namespace's mounts.
    fn contained(script: &Script, pid: i32, cwd: &str, mountinfo: &str) {
        process(script, pid, "container", cwd);
        script
            .tree()
            .kernel_link(&format!("mnt:[{pid}]"), &format!("/proc/{pid}/ns/mnt"));
        script.tree().kernel_link("/", &format!("/proc/{pid}/root"));
        script.write_file(&format!("/proc/{pid}/mountinfo"), mountinfo);
    }

    fn open(script: &Script, pid: i32, path: &str, mount: u32) {
        let dir = format!("/proc/{pid}");
        script.tree().kernel_link(path, &format!("{dir}/fd/3"));
        script.write_file(
            &format!("{dir}/fdinfo/3"),
            &format!("pos:\t0\nmnt_id:\t{mount}\n"),
        );
    }

    fn process(script: &Script, pid: i32, comm: &str, cwd: &str) {
        script.write_file(&format!("/proc/{pid}/comm"), &format!("{comm}\n"));
        script.write_file(&format!("/proc/{pid}/status"), "PPid:\t1\n");
        // Links as the kernel shows them: not into the test's tree.
        for (link, target) in [("exe", "/bin/sh"), ("cwd", cwd)] {
            script
                .tree()
                .kernel_link(target, &format!("/proc/{pid}/{link}"));
        }
    }

    fn scope(host: &Host) -> Scope {
        let ours = mounts::of(host, None)
            .unwrap()
            .into_iter()
            .filter(|mount| mount.source == "tank")
            .collect();
        let volumes = BTreeMap::from([("tank/vm1".to_owned(), "zd16".to_owned())]);
        Scope::new(host, "tank", ours, &volumes).unwrap()
    }

    fn named(host: &Host, scope: &Scope) -> Vec<String> {
        let users = find(host, scope).unwrap();
        users.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn every_kind_of_user_is_named() {
        let script = machine();
        let host = script.host(Duration::from_secs(10));
        assert_eq!(
            named(&host, &scope(&host)),
            [
                "SCSI target backstore iblock_0/vm1 of /dev/zvol/tank/vm1",
                "the file system of zd16p1 on /mnt",
                "swap space on /tank/swap file",
                "loop device loop0 of /tank/image",
                "dm-3, built on zd16",
                "NFS export of /tank to 192.0.2.0/24",
                "process 10 (bash), working directory /tank/dir",
                "process 12 (container), in whose mount namespace tank/data is mounted",
            ]
        );
    }

    /// Their tables of mounts say what their paths mean.
    #[test]
    fn paths_of_other_namespaces_are_not_taken_for_ours() {
        const ROOT: &str = "300 1 0:60 / / rw - overlay overlay rw\n";
        const OTHER: &str = "301 300 0:61 / /tank rw - ext4 /dev/vdb rw\n";
        let script = machine();
        let host = script.host(Duration::from_secs(10));
        let scope = scope(&host);
        script.remove("/proc/10");
        script.remove("/proc/12");
        // A directory, an open file and a mount of the same names, but not of the pool.
        contained(&script, 20, "/tank/dir", ROOT);
        open(&script, 20, "/tank/file", 300);
        contained(&script, 21, "/tank/dir", &format!("{ROOT}{OTHER}"));
        open(&script, 21, "/tank/file", 301);
        // The number of the pool's mount, which has been unmounted, and is another's now.
        script.write_file(
            "/proc/self/mountinfo",
            "54 1 0:50 / /tank2 rw - zfs tank2 rw\n",
        );
        let reused = "52 1 0:45 / / rw - overlay overlay rw\n";
        contained(&script, 22, "/", reused);
        open(&script, 22, "/file", 52);
        script.write_file("/proc/22/maps", "55d0-55d1 r-xp 0 00:2d 7 /bin/sh\n");
        let others = "another mount namespace (tank/data)";
        // These use it, under other names.
        let inner = format!(
            "{ROOT}302 300 0:46 / /inner rw master:1 - zfs tank/data rw\n303 302 0:62 / /inner/tmp rw - tmpfs tmpfs rw\n"
        );
        contained(&script, 30, "/inner/dir", &inner);
        contained(&script, 31, "/", &inner);
        open(&script, 31, "/inner/file", 302);
        contained(&script, 32, "/", ROOT);
        open(&script, 32, "/dev/zd16", 300);
        contained(&script, 33, "/inner/tmp/dir", &inner);
        contained(&script, 34, "/jail/inner", &inner);
        script.remove("/proc/34/root");
        script.tree().kernel_link("/jail", "/proc/34/root");
        let found: Vec<String> = named(&host, &scope)
            .into_iter()
            .filter(|user| user.contains("process"))
            .collect();
        assert_eq!(
            found,
            [
                format!("process 30 (container), working directory /inner/dir of {others}"),
                "process 31 (container), open file below /inner".to_owned(),
                "process 32 (container), open file /dev/zd16".to_owned(),
                format!("process 34 (container), working directory /jail/inner of {others}"),
            ]
        );
    }

    #[test]
    fn the_cluster_and_our_own_ancestors_are_protected() {
        let script = machine();
        process(&script, 20, "pacemaker-execd", "/");
        process(&script, 21, "sh", "/");
        process(&script, 30, "bash", "/");
        script.write_file("/proc/30/status", "PPid:\t21\n");
        script.remove("/proc/self");
        script.tree().kernel_link("30", "/proc/self");
        let host = script.host(Duration::from_secs(10));
        assert!(is_protected(&host, 1).unwrap());
        assert!(is_protected(&host, 20).unwrap());
        assert!(is_protected(&host, 30).unwrap() && is_protected(&host, 21).unwrap());
        assert!(!is_protected(&host, 10).unwrap());
    }

    #[test]
    fn a_name_that_begins_alike_is_not_below() {
        assert!(is_below("/tank", "/tank") && is_below("/tank/a", "/tank") && is_below("/a", "/"));
        assert!(!is_below("/tank2", "/tank"));
    }
}
