//! The disks of a pool, found by the labels that ZFS has written to them. A label says which pool a device belongs to, which
//! other devices that has, and which host had it last: all that must be known before an import, without a scan by `zpool`.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use ocf::prelude::*;
use probe::zfs::label::{self, Label, LabelState};

use crate::pool::ZfsPool;

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

/// The hint that a start leaves: the devices of the pool, one a line.
const NOTE: &str = "disks";

/// Notes which devices the pool has here.
pub fn note(node: &Node, found: &Found) -> Result<()> {
    let devices: Vec<&str> = found
        .leaves
        .iter()
        .map(|leaf| leaf.device.as_str())
        .collect();
    node.set_hint(NOTE, &devices.join("\n"))
}

/// The devices that were noted.
pub fn noted(node: &Node) -> Vec<String> {
    let text = node.hint(NOTE).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

/// Fails if all devices of the pool are gone. ZFS itself notices that only when it has something to write.
pub fn check_not_all_gone(pool: &ZfsPool, node: &Node) -> Result<()> {
    let mut devices = noted(node);
    devices.retain(|device| device.starts_with("/dev/"));
    let is_gone = |device: &String| !node.is_dir(&format!("/sys/class/block/{}", base(device)));
    ensure!(
        devices.is_empty() || !devices.iter().all(is_gone),
        "pool {}: all of its disks are gone ({})",
        pool.pool,
        devices.join(" ")
    );
    Ok(())
}

/// Reads from every device. What is wrong with some of them; an error if none answers.
pub fn check_answers(pool: &ZfsPool, node: &Node) -> Result<Option<String>> {
    let devices = noted(node);
    let answers = node.on_each(
        "reading from",
        &devices,
        (TOGETHER, ALONE),
        |host, device| host.read_at(device, 0, 4096).map(drop),
    );
    let failed: Vec<String> = answers
        .into_iter()
        .filter_map(|(_, answer)| answer.err())
        .collect();
    ensure!(
        failed.is_empty() || failed.len() < devices.len(),
        "pool {}: none of its {} disks answers: {}",
        pool.pool,
        devices.len(),
        failed[0]
    );
    Ok(failed.into_iter().next())
}

/// Looks for the pool's disks: in the places that are configured, else everywhere.
pub fn find(pool: &ZfsPool, node: &Node) -> Result<Found> {
    let configured: Vec<String> = pool
        .devices
        .0
        .iter()
        .chain(&pool.importargs.devices)
        .cloned()
        .collect();
    let mut searched = configured.clone();
    let mut found = look(pool, node, &configured)?;
    if found.leaves.is_empty() {
        let places: Vec<String> = EVERYWHERE.iter().map(ToString::to_string).collect();
        searched.extend(places.iter().cloned());
        found = look(pool, node, &places)?;
    }
    found.searched = searched;
    Ok(found)
}

fn look(pool: &ZfsPool, node: &Node, places: &[String]) -> Result<Found> {
    let candidates = candidates(node, places)?;
    let devices: Vec<String> = candidates.keys().cloned().collect();
    let labels = labels(node, &devices);
    let mut found = Found::default();
    let mut labelled = BTreeSet::new();
    for (device, label) in &labels {
        let disk = whole_disk(node, device)?;
        labelled.insert(disk.clone());
        let ours = label.pool == pool.pool
            && pool.pool_guid.is_none_or(|guid| guid == label.pool_guid)
            && matches!(label.state, LabelState::Active | LabelState::Exported);
        if ours {
            // The name that ZFS knows it by, where that leads here; else the one it was found by.
            let known = label
                .leaves
                .iter()
                .find(|leaf| leaf.guid == label.vdev_guid)
                .and_then(|leaf| leaf.path.clone());
            let path = match known {
                Some(path) if node.real_path(&path)?.as_ref() == Some(device) => path,
                _ => candidates
                    .get(device)
                    .cloned()
                    .unwrap_or_else(|| device.clone()),
            };
            found.leaves.push(Leaf {
                device: device.clone(),
                path,
                disk,
                label: label.clone(),
            });
        }
    }
    one_pool(pool, &found.leaves)?;
    let present: BTreeSet<u64> = found
        .leaves
        .iter()
        .map(|leaf| leaf.label.vdev_guid)
        .collect();
    let mut missing = BTreeMap::new();
    for child in found.leaves.iter().flat_map(|leaf| &leaf.label.leaves) {
        if !present.contains(&child.guid) {
            missing.insert(
                child.guid,
                child.path.clone().unwrap_or_else(|| child.guid.to_string()),
            );
        }
    }
    found.missing = missing.into_values().collect();
    // A top-level vdev of which nothing is there is not named by any label.
    if let Some(newest) = found.newest() {
        let tops: BTreeSet<u64> = found
            .leaves
            .iter()
            .map(|leaf| leaf.label.top_guid)
            .collect();
        let hidden = newest
            .vdev_children
            .unwrap_or(0)
            .saturating_sub(tops.len() as u64);
        if hidden > 0 {
            found
                .missing
                .push(format!("all disks of {hidden} top-level vdevs"));
        }
    }
    for device in &devices {
        let is_whole = whole_disk(node, device)? == *device;
        if is_whole && !labelled.contains(device) && partitions(node, device)?.is_empty() {
            found.blank.push(device.clone());
        }
    }
    Ok(found)
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

/// The labels of these devices. One that cannot be read counts as having none: it may be the broken disk of a mirror.
fn labels(node: &Node, devices: &[String]) -> Vec<(String, Label)> {
    let answers = node.on_each("reading the label of", devices, (TOGETHER, ALONE), read);
    let label = |(device, answer): (String, Result<Option<Label>, String>)| match answer {
        Ok(label) => Some((device, label?)),
        Err(error) => {
            debug!("{error}");
            None
        }
    };
    answers.into_iter().filter_map(label).collect()
}

fn read(node: &Host, device: &str) -> Result<Option<Label>> {
    for offset in label::OFFSETS {
        let bytes = node.read_at(device, offset + label::NVLIST_OFFSET, label::NVLIST_LENGTH)?;
        if let Some(label) = label::parse(&bytes)? {
            return Ok(Some(label));
        }
    }
    Ok(None)
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
