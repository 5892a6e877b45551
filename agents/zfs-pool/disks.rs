//! The disks of a pool, found by the labels that ZFS has written to them. A label says which pool a device belongs to, which
//! other devices that has, and which host had it last: all that must be known before an import, without a scan by `zpool`.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use ocf::prelude::*;
use probe::zfs;
use probe::zfs::label::{self, Label, LabelState};

use crate::pool::ZfsPool;
use crate::reservation;

/// Where disks are looked for if the configured places have none of the pool.
const EVERYWHERE: [&str; 3] = ["/dev/disk/by-id", "/dev/mapper", "/dev"];
/// How long the labels of all devices may take to be read together, and that of one.
const TOGETHER: Duration = Duration::from_secs(8);
const ALONE: Duration = Duration::from_secs(2);

/// A device with a label of the pool.
#[derive(Clone, Debug)]
pub struct Leaf {
    /// The device's node: /dev/sdb1.
    pub device: String,
    /// The name by which it was found; the same for every node, where that is possible.
    pub path: String,
    /// The node of the whole disk, which takes reservations: /dev/sdb.
    pub disk: String,
    pub label: Label,
}

/// What was found of a pool.
#[derive(Clone, Debug, Default)]
pub struct Found {
    pub leaves: Vec<Leaf>,
    /// Devices of the pool that were not found, by the paths that labels have of them.
    pub missing: Vec<String>,
    /// Those of them that are named.
    absent: Vec<String>,
    /// Top-level vdevs of which nothing was found: no label names their devices. One that was evacuated and removed counts
    /// for ever.
    hidden: u64,
    /// Where was looked.
    pub searched: Vec<String>,
    /// Whole disks without any known content: their partition table may not have been read yet.
    pub blank: Vec<String>,
}

impl Found {
    /// The label that was written last.
    pub fn newest(&self) -> Option<&Label> {
        self.leaves
            .iter()
            .map(|leaf| &leaf.label)
            .max_by_key(|label| label.txg)
    }

    /// The label of each top-level vdev that was written last. One of a device that was away meanwhile names what was then.
    fn newest_of_tops(&self) -> BTreeMap<u64, &Label> {
        let mut newest: BTreeMap<u64, &Label> = BTreeMap::new();
        for label in self.leaves.iter().map(|leaf| &leaf.label) {
            let known = newest.entry(label.top_guid).or_insert(label);
            if label.txg > known.txg {
                *known = label;
            }
        }
        newest
    }

    /// Names the devices of the pool that were not found.
    fn name_missing(&mut self) {
        let present: BTreeSet<u64> = self
            .leaves
            .iter()
            .map(|leaf| leaf.label.vdev_guid)
            .collect();
        let tops = self.newest_of_tops();
        let named = tops.values().flat_map(|label| &label.leaves);
        let absent: BTreeMap<u64, String> = named
            .filter(|leaf| !present.contains(&leaf.guid))
            .map(|leaf| {
                let name = leaf.path.clone();
                (leaf.guid, name.unwrap_or_else(|| leaf.guid.to_string()))
            })
            .collect();
        let vdevs = self.newest().and_then(|label| label.vdev_children);
        let hidden = vdevs.unwrap_or(0).saturating_sub(tops.len() as u64);
        self.absent = absent.into_values().collect();
        self.missing = self.absent.clone();
        self.hidden = hidden;
        if hidden > 0 {
            let what = format!("all disks of {hidden} top-level vdevs");
            self.missing.push(what);
        }
    }

    /// Drops devices that the pool has no longer: they were away when they were replaced.
    fn drop_former(&mut self) {
        let tops = self.newest_of_tops();
        let named = tops.values().flat_map(|label| &label.leaves);
        let named: BTreeSet<u64> = named.map(|leaf| leaf.guid).collect();
        self.leaves
            .retain(|leaf| named.contains(&leaf.label.vdev_guid));
    }

    /// For a check before anything is done: are all disks of the pool visible?
    pub fn check_all_there(&self) -> Result<()> {
        if self.leaves.is_empty() {
            bail!(Exit::NotInstalled.because(format!(
                "no disk of the pool is visible; searched: {}",
                self.searched.join(" ")
            )));
        }
        if !self.missing.is_empty() {
            warn!(
                "disks of the pool are not visible here: {}",
                self.missing.join(" ")
            );
        }
        Ok(())
    }
}

/// The hint that a start leaves, and that monitors renew: how many top-level vdevs are hidden, then the pool's devices, one
/// a line, each with the GUID that its label has.
const NOTE: &str = "disks";

/// A device of the pool, as noted.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Noted {
    device: String,
    guid: u64,
}

/// What was noted of the pool's devices.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Note {
    hidden: u64,
    devices: Vec<Noted>,
}

impl Note {
    fn of(found: &Found) -> Note {
        let device = |leaf: &Leaf| Noted {
            device: leaf.device.clone(),
            guid: leaf.label.vdev_guid,
        };
        Note {
            hidden: found.hidden,
            devices: found.leaves.iter().map(device).collect(),
        }
    }

    fn read(node: &Node) -> Note {
        let text = node.hint(NOTE).unwrap_or_default();
        let hidden = text.lines().find_map(|line| line.parse().ok());
        let device = |line: &str| {
            // An older version has noted devices only.
            let (guid, device) = match line.starts_with('/') {
                true => ("0", line),
                false => line.split_once(' ')?,
            };
            Some(Noted {
                device: device.to_owned(),
                guid: guid.parse().ok()?,
            })
        };
        Note {
            hidden: hidden.unwrap_or(0),
            devices: text.lines().filter_map(device).collect(),
        }
    }

    fn save(&self, node: &Node) -> Result<()> {
        let device = |noted: &Noted| format!("{} {}\n", noted.guid, noted.device);
        let devices: String = self.devices.iter().map(device).collect();
        node.set_hint(NOTE, &format!("{}\n{devices}", self.hidden))
    }

    fn has(&self, leaf: &Leaf) -> bool {
        let is_it =
            |noted: &Noted| noted.device == leaf.device && noted.guid == leaf.label.vdev_guid;
        self.devices.iter().any(is_it)
    }
}

/// Notes which devices the pool has here.
pub fn note(node: &Node, found: &Found) -> Result<()> {
    Note::of(found).save(node)
}

/// Fails if all devices of the pool are gone. ZFS itself notices that only when it has something to write. Only if all that
/// were noted are gone it is looked for others, which may have taken their places.
pub fn check_not_all_gone(pool: &ZfsPool, node: &Node) -> Result<()> {
    let noted = Note::read(node);
    let mut devices: Vec<&str> = noted
        .devices
        .iter()
        .map(|noted| noted.device.as_str())
        .collect();
    devices.retain(|device| device.starts_with("/dev/"));
    let is_here = |device: &&str| node.is_dir(&format!("/sys/class/block/{}", base(device)));
    if devices.is_empty() || devices.iter().any(is_here) {
        return Ok(());
    }
    let mut looked = Looked::default();
    let found = looked
        .at(node, &everywhere(pool))
        .and_then(|()| looked.found(node, pool, zfs::guid(node, &pool.pool)?))
        .unwrap_or_else(|error| {
            warn!("looking for other disks of {}: {error:#}", pool.pool);
            Found::default()
        });
    ensure!(
        !found.leaves.is_empty(),
        "pool {}: all of its disks are gone ({})",
        pool.pool,
        devices.join(" ")
    );
    renew(pool, node, &noted, &found).map(drop)
}

/// What a look at the pool's disks has shown.
pub struct Present {
    /// The whole disks of the devices that were noted and are there.
    pub disks: Vec<String>,
    /// What somebody should look at.
    pub finding: Option<String>,
    noted: Note,
    found: Found,
}

impl Present {
    /// Notes what is new, and reserves it; what somebody should look at.
    pub fn take_in(&self, pool: &ZfsPool, node: &Node) -> Result<Option<String>> {
        renew(pool, node, &self.noted, &self.found)
    }
}

/// Reads the labels of the pool's devices: of those that were noted, of those that their labels name, and, if more top-level
/// vdevs are hidden than were, of all devices. An error if none has a label of it; None if nothing was noted.
pub fn look_again(pool: &ZfsPool, node: &Node) -> Result<Option<Present>> {
    let noted = Note::read(node);
    if noted.devices.is_empty() {
        return Ok(None);
    }
    let mut looked = Looked::default();
    let devices = noted.devices.iter().map(|noted| noted.device.clone());
    looked.at(node, &devices.collect::<Vec<_>>())?;
    let guid = zfs::guid(node, &pool.pool)?;
    let mut found = looked.found(node, pool, guid)?;
    // Elsewhere there may be another pool of this name.
    let guid = guid.or(found.newest().map(|label| label.pool_guid));
    let places = match found.leaves.is_empty() || found.hidden > noted.hidden {
        true => everywhere(pool),
        false => found.absent.clone(),
    };
    if !places.is_empty() {
        looked.at(node, &places)?;
        found = looked.found(node, pool, guid)?;
    }
    found.drop_former();
    ensure!(
        !found.leaves.is_empty(),
        "pool {}: none of its {} disks answers: {}",
        pool.pool,
        noted.devices.len(),
        looked
            .failed
            .values()
            .next()
            .map_or("none has a label of it", String::as_str)
    );
    let of_noted = found.leaves.iter().filter(|leaf| noted.has(leaf));
    let disks: BTreeSet<&String> = of_noted.map(|leaf| &leaf.disk).collect();
    Ok(Some(Present {
        disks: disks.into_iter().cloned().collect(),
        finding: looked.complaint(node, &found, &noted),
        noted,
        found,
    }))
}

/// Notes which devices the pool has now, if that has changed; those that are new are reserved first, and not noted if they
/// cannot be: then it is tried again. What somebody should look at; an error if there is none that can be noted.
fn renew(pool: &ZfsPool, node: &Node, noted: &Note, found: &Found) -> Result<Option<String>> {
    let new = found.leaves.iter().filter(|leaf| !noted.has(leaf));
    let new: BTreeSet<&String> = new.map(|leaf| &leaf.disk).collect();
    let new: Vec<String> = new.into_iter().cloned().collect();
    let refused = reservation::add(pool, node, &new);
    let finding = refused
        .first()
        .map(|(disk, why)| format!("{disk} cannot be reserved: {why}"));
    let mut kept = found.clone();
    kept.leaves
        .retain(|leaf| refused.iter().all(|(disk, _)| *disk != leaf.disk));
    ensure!(
        !kept.leaves.is_empty(),
        "pool {}: {}",
        pool.pool,
        finding.unwrap_or_default()
    );
    let mut now = Note::of(&kept);
    // What no label names is not forgotten while it is away: else nobody would look for it any more. When it comes back it
    // is as good as new, and may have lost its registration.
    if now.hidden > noted.hidden {
        now.hidden = noted.hidden;
        let is_away = |old: &&Noted| !found.leaves.iter().any(|leaf| leaf.device == old.device);
        let away = noted.devices.iter().filter(is_away);
        now.devices.extend(away.map(|old| Noted {
            device: old.device.clone(),
            guid: 0,
        }));
    }
    if now != *noted {
        let devices = now.devices.iter().map(|noted| noted.device.as_str());
        let devices = devices.collect::<Vec<_>>().join(" ");
        info!("the disks of pool {} are now {devices}", pool.pool);
        now.save(node).unwrap_or_else(|error| warn!("{error:#}"));
    }
    Ok(finding)
}

/// The places that are configured, and all others.
fn everywhere(pool: &ZfsPool) -> Vec<String> {
    let mut places = configured(pool);
    places.extend(EVERYWHERE.iter().map(ToString::to_string));
    places
}

fn configured(pool: &ZfsPool) -> Vec<String> {
    let places = pool.devices.0.iter().chain(&pool.importargs.devices);
    places.cloned().collect()
}

/// Looks for the pool's disks: in the places that are configured, else everywhere.
pub fn find(pool: &ZfsPool, node: &Node) -> Result<Found> {
    let mut searched = configured(pool);
    let mut looked = Looked::default();
    looked.at(node, &searched)?;
    let mut found = looked.found(node, pool, None)?;
    if found.leaves.is_empty() {
        searched = everywhere(pool);
        looked.at(node, &searched)?;
        found = looked.found(node, pool, None)?;
    }
    found.searched = searched;
    Ok(found)
}

/// Devices whose labels were read.
#[derive(Default)]
struct Looked {
    /// Each with the name it was found by.
    devices: BTreeMap<String, String>,
    labels: Vec<(String, Label)>,
    /// Those that could not be read, and why.
    failed: BTreeMap<String, String>,
}

impl Looked {
    /// Reads the labels of the devices in these places, apart from those that were read before. One that cannot be read
    /// counts as having none: it may be the broken disk of a mirror.
    fn at(&mut self, node: &Node, places: &[String]) -> Result<()> {
        let mut new = candidates(node, places)?;
        new.retain(|device, _| !self.devices.contains_key(device));
        let devices: Vec<String> = new.keys().cloned().collect();
        self.devices.extend(new);
        let patience = (TOGETHER.min(node.time_left() / 3), ALONE);
        let answers = node.on_each("reading the label of", &devices, patience, read);
        for (device, answer) in answers {
            match answer {
                Ok(Some(label)) => self.labels.push((device, label)),
                Ok(None) => {}
                Err(error) => {
                    debug!("{error}");
                    self.failed.insert(device, error);
                }
            }
        }
        Ok(())
    }

    /// What of the pool is among them; with a GUID, of that pool only.
    fn found(&self, node: &Node, pool: &ZfsPool, guid: Option<u64>) -> Result<Found> {
        let guid = pool.pool_guid.or(guid);
        let mut found = Found::default();
        let mut labelled = BTreeSet::new();
        for (device, label) in &self.labels {
            let disk = whole_disk(node, device)?;
            labelled.insert(disk.clone());
            // A device that was taken out of the pool keeps a label that was written in no transaction group.
            let ours = label.txg != 0
                && label.pool == pool.pool
                && guid.is_none_or(|guid| guid == label.pool_guid)
                && matches!(label.state, LabelState::Active | LabelState::Exported);
            if ours {
                found.leaves.push(Leaf {
                    device: device.clone(),
                    path: self.lasting_name(node, device, label)?,
                    disk,
                    label: label.clone(),
                });
            }
        }
        one_pool(pool, &found.leaves)?;
        found.name_missing();
        for device in self.devices.keys() {
            let is_whole = whole_disk(node, device)? == *device;
            if is_whole && !labelled.contains(device) && partitions(node, device)?.is_empty() {
                found.blank.push(device.clone());
            }
        }
        Ok(found)
    }

    /// The name that ZFS knows a device by, where that leads to it; else the one it was found by.
    fn lasting_name(&self, node: &Node, device: &str, label: &Label) -> Result<String> {
        let itself = label
            .leaves
            .iter()
            .find(|leaf| leaf.guid == label.vdev_guid);
        if let Some(path) = itself.and_then(|leaf| leaf.path.clone()) {
            if node.real_path(&path)?.as_deref() == Some(device) {
                return Ok(path);
            }
        }
        let name = self.devices.get(device).cloned();
        Ok(name.unwrap_or_else(|| device.to_owned()))
    }

    /// What is wrong with a device that the pool has by its labels, or had when it was noted and no label names it, if one
    /// was not found.
    fn complaint(&self, node: &Node, found: &Found, noted: &Note) -> Option<String> {
        let is_here = |old: &&Noted| found.leaves.iter().any(|leaf| leaf.device == old.device);
        let away = noted.devices.iter().find(|old| !is_here(old));
        let away = away.filter(|_| found.hidden > noted.hidden);
        let path = found.absent.first().or(away.map(|old| &old.device))?;
        let device = node.real_path(path).ok().flatten();
        let failed = device.and_then(|device| self.failed.get(&device));
        Some(match failed.or(self.failed.get(path)) {
            Some(why) => why.clone(),
            None => format!("its disk {path} is not there"),
        })
    }
}

/// Two pools of one name must not be mixed up.
fn one_pool(pool: &ZfsPool, leaves: &[Leaf]) -> Result<()> {
    let guids: BTreeSet<u64> = leaves.iter().map(|leaf| leaf.label.pool_guid).collect();
    if guids.len() > 1 {
        let guids: Vec<String> = guids.iter().map(ToString::to_string).collect();
        bail!(Exit::Args.because(format!(
            "there are several pools named {}, with the GUIDs {}; expected parameter pool_guid to name one of them",
            pool.pool,
            guids.join(", ")
        )));
    }
    Ok(())
}

/// The devices in these places and their partitions, by their nodes, each with the name it was found by. The paths of a
/// multipath device stand back behind that device.
fn candidates(node: &Node, places: &[String]) -> Result<BTreeMap<String, String>> {
    let mut found = BTreeMap::new();
    for place in places {
        let names: Vec<String> = match node.is_dir(place) {
            true => node
                .list(place)?
                .into_iter()
                .map(|name| format!("{}/{name}", place.trim_end_matches('/')))
                .collect(),
            false => vec![place.clone()],
        };
        for name in names {
            let Some(device) = node.real_path(&name)? else {
                continue;
            };
            // Files serve as disks in tests; in /dev there are other things, too.
            let usable = match device.starts_with("/dev/") {
                true => is_block_device(node, &device),
                false => !node.is_dir(&device),
            };
            if !usable {
                continue;
            }
            found.entry(device).or_insert(name);
        }
    }
    // Last, so that one that has a lasting name keeps it.
    let disks: Vec<String> = found.keys().cloned().collect();
    for disk in disks {
        for partition in partitions(node, &disk)? {
            found.entry(partition.clone()).or_insert(partition);
        }
    }
    let mut behind = BTreeSet::new();
    for device in found.keys() {
        for part in [device.clone(), whole_disk(node, device)?] {
            if is_behind_map(node, &part)? {
                behind.insert(device.clone());
            }
        }
    }
    found.retain(|device, _| !behind.contains(device));
    Ok(found)
}

/// Has device mapper built something on it, as multipath does on a disk's paths? Its own partitions do not count: on a
/// multipath device they are maps as well.
fn is_behind_map(node: &Node, device: &str) -> Result<bool> {
    for holder in node.list(&format!("/sys/class/block/{}/holders", base(device)))? {
        if holder.starts_with("dm-") && !is_partition_map(node, &holder)? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Is this a map of one partition, as kpartx makes them? Its UUID says so: "part1-" and the UUID of the whole.
fn is_partition_map(node: &Node, name: &str) -> Result<bool> {
    let uuid = node.read(&format!("/sys/class/block/{name}/dm/uuid"))?;
    Ok(uuid.is_some_and(|uuid| uuid.starts_with("part")))
}

/// Not RAM, floppy and optical devices, and not a pool's own volumes.
fn is_block_device(node: &Node, device: &str) -> bool {
    let name = base(device);
    let odd = ["ram", "fd", "sr", "zd", "zram"];
    !odd.iter().any(|prefix| name.starts_with(prefix))
        && node.is_dir(&format!("/sys/class/block/{name}"))
}

/// The first label that can be read: of the two, one may just be being written.
fn read(node: &Host, device: &str) -> Result<Option<Label>> {
    let mut unreadable = None;
    for offset in label::OFFSETS {
        let bytes = node.read_at(device, offset + label::NVLIST_OFFSET, label::NVLIST_LENGTH)?;
        match label::parse(&bytes) {
            Ok(Some(label)) => return Ok(Some(label)),
            Ok(None) => {}
            Err(error) => unreadable = Some(error.context(format!("the label of {device}"))),
        }
    }
    unreadable.map_or(Ok(None), Err)
}

/// The whole disk of a partition; a whole disk itself.
pub fn whole_disk(node: &Node, device: &str) -> Result<String> {
    if !device.starts_with("/dev/") {
        return Ok(device.to_owned());
    }
    let name = base(device);
    let class = format!("/sys/class/block/{name}");
    let whole = if node.read(&format!("{class}/partition"))?.is_some() {
        let real = node.real_path(&class)?.unwrap_or_default();
        real.rsplit('/').nth(1).map(str::to_owned)
    } else if is_partition_map(node, name)? {
        node.list(&format!("{class}/slaves"))?.into_iter().next()
    } else {
        None
    };
    Ok(format!("/dev/{}", whole.as_deref().unwrap_or(name)))
}

/// The partitions of a disk, of which those of a multipath device are maps that hold it.
fn partitions(node: &Node, disk: &str) -> Result<Vec<String>> {
    let class = format!("/sys/class/block/{}", base(disk));
    let mut found = Vec::new();
    for name in node.list(&class)? {
        if name.starts_with(base(disk))
            && node.read(&format!("{class}/{name}/partition"))?.is_some()
        {
            found.push(format!("/dev/{name}"));
        }
    }
    for name in node.list(&format!("{class}/holders"))? {
        if is_partition_map(node, &name)? {
            found.push(format!("/dev/{name}"));
        }
    }
    Ok(found)
}

fn base(device: &str) -> &str {
    device.rsplit('/').next().unwrap_or(device)
}
