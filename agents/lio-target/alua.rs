//! Asymmetric access (ALUA) for two nodes that offer the same units: the promoted one has the devices and says
//! active/optimized, the other says standby or unavailable, over stand-ins that open nothing.
//!
//! An initiator tells the two ways to a unit apart by the number of the target port group and of the port behind each
//! (VPD page 0x83), so both are the same whenever a node offers them, and different between nodes.

use std::collections::BTreeMap;

use ocf::prelude::*;
use probe::attributes;

use crate::plan::Plan;
use crate::steps::Absent;
use crate::wanted::{Unit, Wanted};
use crate::{device, digest};

/// The group that every backstore has from the kernel.
pub const DEFAULT_GROUP: &str = "default_tg_pt_gp";

/// What the node that is not promoted says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Passive {
    /// It answers what can be answered without the device.
    Standby,
    /// It answers next to nothing.
    Unavailable,
}

impl Passive {
    /// SPC's number for the state.
    fn state(self) -> &'static str {
        match self {
            Passive::Standby => "2",
            Passive::Unavailable => "3",
        }
    }
}

/// SPC's number for active/optimized.
const OPTIMIZED: &str = "0";

/// The implicit kind: the target changes states by itself, initiators cannot ask for it.
const IMPLICIT: &str = "1";

/// A page of the RAM disk that stands in.
const PAGE: u64 = 4096;

/// How this node offers units that another node offers, too.
#[derive(Clone, Debug)]
pub struct Role {
    /// It has the devices.
    pub is_active: bool,
    /// The number of its target port group, 1 to 65535.
    pub group: u16,
    /// What it says when it has them not.
    pub passive: Passive,
    /// Sizes of units in bytes, as the active node has told them.
    pub sizes: BTreeMap<String, u64>,
}

impl Role {
    /// The name of its target port group.
    pub fn group_name(&self) -> String {
        format!("hastor_{}", self.group)
    }

    /// How the stand-in of a unit is made: it keeps nothing, and takes no memory for what it does not keep.
    pub fn stand_in(&self, unit: &Unit) -> String {
        format!("rd_pages={},rd_nullio=1", self.pages(unit))
    }

    /// How many pages the stand-in of a unit has. Initiators do not take two ways for one disk if they differ in size.
    pub fn pages(&self, unit: &Unit) -> u64 {
        let size = self.sizes.get(&unit.name);
        size.map_or(1, |size| (size / PAGE).max(1))
    }

    /// The number of the port through which a target is reached here.
    pub fn port(&self, iqn: &str) -> u16 {
        port(&format!("{iqn} {}", self.group))
    }

    /// The steps that give a unit its group and state.
    pub fn steps(&self, plan: &mut Plan, store: &str, unit: &Unit) -> Result<()> {
        let dir = format!("{store}/alua/{}", self.group_name());
        let origin = |what: &str| format!("unit {}: ALUA {what}", unit.name);
        if plan.make(dir.clone()) {
            let number = self.group.to_string();
            plan.write(&dir, "tg_pt_gp_id", &number, &origin("group"), Absent::Fail);
            plan.write(
                &dir,
                "alua_access_type",
                IMPLICIT,
                &origin("type"),
                Absent::Fail,
            );
        }
        let state = match self.is_active {
            true => OPTIMIZED,
            false => self.passive.state(),
        };
        // A LUN has this group until it is given its own: a stand-in would take writes, and lose them.
        if !self.is_active {
            let first = format!("{store}/alua/{DEFAULT_GROUP}");
            let origin = origin("state of the first group");
            // The kernel makes it with the backstore.
            match plan.is_new(store) {
                true => plan.write(&first, "alua_access_state", state, &origin, Absent::Fail),
                false => plan.set(&first, "alua_access_state", state, &origin, Absent::Fail)?,
            }
        }
        plan.set(
            &dir,
            "alua_access_state",
            state,
            &origin("state"),
            Absent::Fail,
        )
    }
}

/// A relative port number that is made of a name, the same everywhere.
pub fn port(name: &str) -> u16 {
    // 0 is none.
    u16::from_be_bytes(digest::bytes(name)).max(1)
}

/// How long one of the cluster's own tools may take.
const TOOL: std::time::Duration = std::time::Duration::from_secs(10);

/// The score for promotion of a node that sees the devices, and of one that does not.
const SCORES: (&str, &str) = ("10", "5");

/// The number of this node's target port group: from the parameter, or the node's own number in the cluster.
pub fn group(node: &Node, groups: &[(String, String)]) -> Result<u16> {
    let number = match groups {
        [] => {
            let said = node.run(&Cmd::new("crm_node").arg("--cluster-id").at_most(TOOL))?;
            said.stdout.trim().to_owned()
        }
        groups => {
            let said = node.run(&Cmd::new("crm_node").arg("--name").at_most(TOOL))?;
            let name = said.stdout.trim();
            let found = groups.iter().find(|(known, _)| known == name);
            let (_, number) = found.with_context(|| {
                format!("parameter alua_groups: node {name} is not in it; expected one number for each node")
            })?;
            number.clone()
        }
    };
    match number.parse() {
        Ok(number) if number > 0 => Ok(number),
        _ => bail!(
            "a target port group cannot have the number \"{number}\"; expected 1 to 65535 (parameter alua_groups)"
        ),
    }
}

/// The node attribute by which the active node tells the sizes of its units.
fn attribute(node: &Node) -> String {
    format!("hastor-{}-sizes", node.call().resource())
}

/// Tells the other node how large the units are: it has to say so without the devices. Nothing fails with it.
pub fn tell_sizes(node: &Node, wanted: &Wanted) {
    let mut sizes = Vec::new();
    for unit in &wanted.units {
        match device::size(node, unit.backing.path()) {
            Ok(Some(size)) => sizes.push(format!("{}={size}", unit.name)),
            Ok(None) => {}
            Err(error) => warn!("the size of unit {} is not known: {error:#}", unit.name),
        }
    }
    if let Err(error) = attributes::tell(node, &attribute(node), &sizes.join(","), TOOL) {
        warn!("the other node is not told the sizes of the units: {error:#}");
    }
}

/// The sizes that the active node has told, whichever it is. What this node told when it was active may have been long ago:
/// it counts least, or, with `own_first`, most.
pub fn told_sizes(node: &Node, own_first: bool) -> BTreeMap<String, u64> {
    // That nobody has told anything is an error, too.
    let told = attributes::told(node, &attribute(node), TOOL).unwrap_or_else(|error| {
        debug!("the sizes of the units are not known yet: {error:#}");
        Vec::new()
    });
    let pair = |word: &str| {
        let (unit, size) = word.split_once('=')?;
        Some((unit.to_owned(), size.parse().ok()?))
    };
    let here = node.call().meta.get("on_node");
    let (own, others): (Vec<_>, Vec<_>) = told.iter().partition(|(name, _)| Some(name) == here);
    // The last one stays.
    let all = match own_first {
        true => others.into_iter().chain(own),
        false => own.into_iter().chain(others),
    };
    all.flat_map(|(_, value)| value.split(',').filter_map(pair))
        .collect()
}

/// Tells the cluster that this node can be promoted, better so if it sees the devices.
pub fn tell_ready(node: &Node, wanted: &Wanted) {
    let sees = |unit: &Unit| matches!(node.real_path(unit.backing.path()), Ok(Some(_)));
    let score = match wanted.units.iter().all(sees) {
        true => SCORES.0,
        false => SCORES.1,
    };
    // The tool takes the resource, and the node, from its own environment.
    let mut tell = Cmd::new("crm_attribute")
        .args(["--promotion", "--lifetime", "reboot", "--update", score])
        .env("OCF_RESOURCE_INSTANCE", &node.call().instance)
        .at_most(TOOL);
    if let Some(name) = node.call().meta.get("on_node") {
        tell = tell.env("OCF_RESKEY_CRM_meta_on_node", name);
    }
    if let Err(error) = node.run(&tell) {
        warn!("the cluster is not told that this node can be promoted: {error:#}");
    }
}
