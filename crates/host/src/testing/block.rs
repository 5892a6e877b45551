//! Disks that take persistent reservations, and mounts that show in the table of mounts.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use nix::errno::Errno;

use super::Tree;
use super::script::{Script, Verdict};
use crate::{MountFlags, PrError, PrKind, Reservations};

/// The persistent reservations of a disk, as a test sees and changes them.
#[derive(Clone, Debug, Default)]
pub struct PrDisk {
    keys: Vec<u64>,
    holder: Option<(u64, PrKind)>,
    unsupported: bool,
    preempted: Vec<u64>,
}

impl PrDisk {
    /// Another host registers.
    pub fn register(&mut self, key: u64) {
        self.keys.push(key);
    }

    /// A registered host reserves.
    pub fn reserve(&mut self, key: u64, kind: PrKind) {
        self.holder = Some((key, kind));
    }

    /// From now on the disk has no reservations.
    pub fn unsupported(&mut self) {
        self.unsupported = true;
    }

    /// The registered keys.
    pub fn keys(&self) -> &[u64] {
        &self.keys
    }

    /// Who holds it.
    pub fn holder(&self) -> Option<(u64, PrKind)> {
        self.holder
    }
}

/// All disks, by the names they are opened with.
pub(super) type PrDisks = Arc<Mutex<BTreeMap<String, PrDisk>>>;

/// A disk, as the host under test reaches it: over one path, which is registered with at most one key.
pub(super) struct Path {
    pub script: Script,
    pub disks: PrDisks,
    pub name: String,
}

impl Path {
    fn with<T>(
        &self,
        change: Option<&str>,
        action: impl FnOnce(&mut PrDisk, Option<u64>) -> Result<T, PrError>,
    ) -> Result<T, PrError> {
        if let Some(change) = change {
            match self.script.step(&format!("{change} {}", self.name)) {
                Verdict::Go => {}
                Verdict::Fail => return Err(PrError::Status(2)),
                Verdict::Hang => self.script.hang(),
            }
        }
        let mut disks = self.disks.lock().unwrap_or_else(PoisonError::into_inner);
        let disk = disks.entry(self.name.clone()).or_default();
        if disk.unsupported {
            return Err(PrError::Unsupported);
        }
        // The keys of other hosts were registered by the test, or by an earlier takeover.
        let ours = self
            .script
            .our_key(&self.name)
            .filter(|key| disk.keys.contains(key));
        action(disk, ours)
    }
}

impl Reservations for Path {
    fn register(&self, old: u64, new: u64, ignore: bool) -> Result<(), PrError> {
        self.with(Some("registering with"), |disk, ours| {
            if !ignore && ours.unwrap_or(0) != old {
                return Err(PrError::Conflict);
            }
            if let Some(ours) = ours {
                disk.keys.retain(|key| *key != ours);
                disk.holder = disk
                    .holder
                    .filter(|(holder, _)| *holder != ours || new != 0);
                if let Some((holder, _)) =
                    disk.holder.as_mut().filter(|(holder, _)| *holder == ours)
                {
                    *holder = new;
                }
            }
            if new != 0 {
                disk.keys.push(new);
            }
            self.script.set_our_key(&self.name, new);
            Ok(())
        })
    }

    fn reserve(&self, key: u64, kind: PrKind) -> Result<(), PrError> {
        self.with(Some("reserving"), |disk, ours| match disk.holder {
            _ if ours != Some(key) => Err(PrError::Conflict),
            Some(held) if held != (key, kind) => Err(PrError::Conflict),
            _ => {
                disk.holder = Some((key, kind));
                Ok(())
            }
        })
    }

    fn release(&self, key: u64, kind: PrKind) -> Result<(), PrError> {
        self.with(Some("releasing"), |disk, ours| {
            if ours != Some(key) {
                return Err(PrError::Conflict);
            }
            disk.holder = disk.holder.filter(|held| *held != (key, kind));
            Ok(())
        })
    }

    fn preempt_abort(&self, own: u64, victim: u64, kind: PrKind) -> Result<(), PrError> {
        self.with(Some("preempting on"), |disk, ours| {
            if ours != Some(own) || !disk.keys.contains(&victim) {
                return Err(PrError::Conflict);
            }
            disk.keys.retain(|key| *key != victim);
            disk.preempted.push(victim);
            if disk.holder.is_some_and(|(holder, _)| holder == victim) {
                disk.holder = Some((own, kind));
            }
            Ok(())
        })
    }

    fn keys(&self) -> Result<Vec<u64>, PrError> {
        self.with(None, |disk, _| Ok(disk.keys.clone()))
    }

    fn holder(&self) -> Result<Option<(u64, PrKind)>, PrError> {
        self.with(None, |disk, _| Ok(disk.holder))
    }
}

const MOUNTINFO: &str = "/proc/self/mountinfo";

/// Adds a line to the table of mounts.
pub(super) fn mount(
    tree: &Tree,
    source: &str,
    target: &str,
    kind: &str,
    flags: MountFlags,
    options: &str,
) -> Result<(), Errno> {
    if !tree.exists(target) {
        return Err(Errno::ENOENT);
    }
    let mut table = tree.read(MOUNTINFO).unwrap_or_default();
    let number = 100 + table.lines().count();
    let how = if flags.contains(MountFlags::MS_RDONLY) {
        "ro"
    } else {
        "rw"
    };
    let (source, target) = (escaped(source), escaped(target));
    table.push_str(&format!("{number} 1 0:{number} / {target} {how},relatime shared:{number} - {kind} {source} {how},{options}\n"));
    tree.write(MOUNTINFO, &table);
    Ok(())
}

/// Removes the last line for this place.
pub(super) fn unmount(tree: &Tree, target: &str) -> Result<(), Errno> {
    let table = tree.read(MOUNTINFO).unwrap_or_default();
    let target = escaped(target);
    let place = |line: &str| line.split(' ').nth(4).unwrap_or_default().to_owned();
    let mut lines: Vec<&str> = table.lines().collect();
    let Some(at) = lines.iter().rposition(|line| place(line) == target) else {
        return Err(Errno::EINVAL);
    };
    if lines
        .iter()
        .any(|line| place(line).starts_with(&format!("{target}/")))
    {
        return Err(Errno::EBUSY);
    }
    lines.remove(at);
    tree.write(
        MOUNTINFO,
        &lines
            .iter()
            .map(|line| format!("{line}\n"))
            .collect::<String>(),
    );
    Ok(())
}

/// As the kernel writes paths there.
fn escaped(text: &str) -> String {
    text.replace('\\', "\\134")
        .replace(' ', "\\040")
        .replace('\t', "\\011")
        .replace('\n', "\\012")
}
