//! The labels that ZFS writes to each device: four of 256 KiB, two at its beginning and two at its end. In each stands,
//! 16 KiB after its beginning, a packed list that describes the pool and the device's part in it (vdev_label.c).

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use super::nvlist::List;

/// Where labels begin that are read, in bytes: the two that can be found without the device's size.
pub const OFFSETS: [u64; 2] = [0, 256 << 10];
/// Where the list begins in a label, in bytes.
pub const NVLIST_OFFSET: u64 = 16 << 10;
/// How long it can be, in bytes.
pub const NVLIST_LENGTH: usize = 112 << 10;

/// What a label says about the state of the pool (pool_state_t).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum LabelState {
    /// A host has imported it, and has not exported it.
    Active,
    /// It was exported.
    Exported,
    /// It was destroyed.
    Destroyed,
    /// The device is a spare.
    Spare,
    /// The device is a cache.
    L2Cache,
    /// Something else.
    Other,
}

/// A device of a pool, as a label names it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LabelLeaf {
    /// The device's GUID.
    pub guid: u64,
    /// Where it was when the label was written.
    pub path: Option<String>,
}

/// The label of a device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Label {
    /// The pool's name.
    pub pool: String,
    /// The pool's GUID.
    pub pool_guid: u64,
    /// The state of the pool.
    pub state: LabelState,
    /// The transaction group in which the label was written.
    pub txg: u64,
    /// The hostid of the host that wrote it, if that has one.
    pub hostid: Option<u32>,
    /// Its name.
    pub hostname: Option<String>,
    /// The device's own GUID.
    pub vdev_guid: u64,
    /// The GUID of the top-level vdev it belongs to.
    pub top_guid: u64,
    /// How many top-level vdevs the pool has, without the holes that removed logs have left.
    pub vdev_children: Option<u64>,
    /// All devices of that top-level vdev.
    pub leaves: Vec<LabelLeaf>,
}

/// Decodes what stands at [`NVLIST_OFFSET`] of a label; None if that is no label of a pool's device.
pub fn parse(bytes: &[u8]) -> Result<Option<Label>> {
    // A device without label has anything there, mostly zeros: only what begins as a list is one.
    if !matches!(bytes, [1, 0 | 1, 0, 0, ..]) {
        return Ok(None);
    }
    let list = List::unpack(bytes)?;
    let state = match list.u64("state") {
        Some(0) => LabelState::Active,
        Some(1) => LabelState::Exported,
        Some(2) => LabelState::Destroyed,
        Some(3) => LabelState::Spare,
        Some(4) => LabelState::L2Cache,
        _ => LabelState::Other,
    };
    // Spares and caches belong to no pool in particular.
    let Some(pool) = list.string("name") else {
        return Ok(None);
    };
    let mut leaves = Vec::new();
    if let Some(tree) = list.list("vdev_tree") {
        collect(tree, &mut leaves);
    }
    let number = |name: &str| {
        list.u64(name)
            .with_context(|| format!("a label without {name}"))
    };
    Ok(Some(Label {
        pool: pool.to_owned(),
        pool_guid: number("pool_guid")?,
        state,
        txg: number("txg")?,
        hostid: list.u64("hostid").and_then(|id| u32::try_from(id).ok()),
        hostname: list.string("hostname").map(str::to_owned),
        vdev_guid: number("guid")?,
        top_guid: number("top_guid")?,
        vdev_children: list
            .u64("vdev_children")
            .map(|all| all.saturating_sub(list.numbers("hole_array") as u64)),
        leaves,
    }))
}

/// The devices below a vdev.
fn collect(vdev: &List, leaves: &mut Vec<LabelLeaf>) {
    let children = vdev.lists("children");
    if !children.is_empty() {
        children.iter().for_each(|child| collect(child, leaves));
    } else if let Some(guid) = vdev.u64("guid") {
        let kind = vdev.string("type").unwrap_or_default();
        // A hole is where a log device was removed, an indirect vdev any device; a dspare is spread over other devices.
        if !["hole", "indirect", "dspare"].contains(&kind) {
            leaves.push(LabelLeaf {
                guid,
                path: vdev.string("path").map(str::to_owned),
            });
        }
    }
}
