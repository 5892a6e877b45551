//! What a monitor compares with: what the last start, or the last change, has put into the kernel. It is noted, since a
//! definition can lie on storage that a monitor must not touch.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, bail, ensure};
use host::Host;
use ocf::Node;
use probe::lio::{self, Group, Store};
use serde::{Deserialize, Serialize};

use crate::device;
use crate::own::{Found, FoundGroup};
use crate::plan::Making;
use crate::steps::Step;
use crate::wanted::{Access, Backing, Initiator, Target, Unit};

/// The note's name.
const NOTE: &str = "expected";

/// What is to be there. Without any target: nothing, since there is no definition.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Expected {
    /// The backstores.
    pub units: Vec<ExpectedUnit>,
    /// The targets.
    pub targets: Vec<ExpectedTarget>,
    /// Of a promotable clone: does it have the devices here?
    pub is_active: Option<bool>,
    /// Targets that were there before a change, which may not have got to its end.
    #[serde(default)]
    former: Vec<String>,
}

/// A backstore that is to be there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExpectedUnit {
    /// The unit's name.
    pub name: String,
    /// Its adapter.
    pub hba: String,
    /// Its name there.
    pub store: String,
    /// The device's path; None if no device is open.
    pub path: Option<String>,
    /// Is it meant to be written to?
    pub writable: bool,
    /// Its serial number.
    pub serial: String,
    /// The attributes that are given for it.
    #[serde(default)]
    pub attributes: BTreeSet<String>,
}

/// A target that is to be there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExpectedTarget {
    /// Its name.
    pub iqn: String,
    /// Its portal group.
    pub tag: u16,
    /// Its portals, as configfs names them.
    pub portals: Vec<String>,
    /// Its LUNs, and the units behind them.
    pub luns: BTreeMap<u16, String>,
    /// Its ACLs: the initiator, and the LUNs behind the numbers it sees.
    pub acls: BTreeMap<String, BTreeMap<u16, u16>>,
    /// The attributes and negotiated parameters that are given for it.
    #[serde(default)]
    pub settings: BTreeSet<String>,
}

impl Expected {
    /// What `making` leads to.
    pub fn of(making: &Making) -> Expected {
        let unit = |unit: &Unit| {
            let store = making.store(unit);
            let (path, writable) = match &unit.backing {
                Backing::Block {
                    path, read_only, ..
                } => (Some(path), !read_only),
                _ => (None, false),
            };
            let is_open = !store.hba.starts_with("rd_mcp");
            ExpectedUnit {
                name: unit.name.clone(),
                path: path.filter(|_| is_open).cloned(),
                writable,
                serial: unit.serial.clone(),
                attributes: names(&unit.attributes),
                hba: store.hba,
                store: store.name,
            }
        };
        Expected {
            units: making.wanted.units.iter().map(unit).collect(),
            targets: making.wanted.targets.iter().map(target).collect(),
            is_active: making.access.map(|role| role.is_active),
            former: Vec::new(),
        }
    }

    /// Is nothing to be there, since there is no definition?
    pub fn is_unmanaged(&self) -> bool {
        self.targets.is_empty()
    }

    /// As it was noted; None if it was not, or the note is lost.
    pub fn noted(node: &Node) -> Option<Expected> {
        serde_json::from_str(&node.hint(NOTE)?).ok()
    }

    /// Notes it.
    pub fn note(&self, node: &Node) -> Result<()> {
        node.set_hint(NOTE, &serde_json::to_string(self)?)
    }

    /// Fails if something was set before of which nothing is said any more: what the kernel had of its own nobody knows, only
    /// what is made anew has it.
    pub fn check_nothing_forgotten(&self, before: &Expected, steps: &[Step]) -> Result<()> {
        // What is made anew has forgotten it.
        let is_new = |dir: String| steps.contains(&Step::Make(dir));
        let check = |whose: String, before: &BTreeSet<String>, now: &BTreeSet<String>| match before
            .iter()
            .find(|name| !now.contains(*name))
        {
            None => Ok(()),
            Some(name) => bail!(
                "{whose}: {name} is given no longer, and only a restart brings the kernel's own value back; expected a value, or a \
                     restart of the resource"
            ),
        };
        for old in &before.units {
            let unit = self.units.iter().find(|unit| unit.store() == old.store());
            if let Some(unit) = unit.filter(|unit| !is_new(unit.store().dir())) {
                check(
                    format!("unit {}", old.name),
                    &old.attributes,
                    &unit.attributes,
                )?;
            }
        }
        for old in &before.targets {
            let target = self.targets.iter().find(|it| it.group() == old.group());
            if let Some(target) = target.filter(|it| !is_new(it.group().dir())) {
                check(
                    format!("target {}", old.iqn),
                    &old.settings,
                    &target.settings,
                )?;
            }
        }
        Ok(())
    }

    /// The same, and that these targets are there for the time being.
    pub fn note_with(&self, node: &Node, former: Vec<String>) -> Result<()> {
        let former = Expected {
            former,
            ..self.clone()
        };
        former.note(node)
    }

    /// The names of its targets.
    pub fn iqns(&self) -> Vec<String> {
        let targets = self.targets.iter().map(|target| &target.iqn);
        targets.chain(&self.former).cloned().collect()
    }

    /// Its units' serial numbers.
    pub fn serials(&self) -> Vec<String> {
        self.units.iter().map(|unit| unit.serial.clone()).collect()
    }

    /// Is all of it there, and does it work as far as the kernel says?
    pub fn check(&self, host: &Host, found: &Found) -> Result<()> {
        for unit in &self.units {
            unit.check(host)
                .with_context(|| format!("unit {}", unit.name))?;
        }
        for target in &self.targets {
            target
                .check(host, self, found)
                .with_context(|| format!("target {}", target.iqn))?;
        }
        Ok(())
    }
}

impl ExpectedUnit {
    /// Its backstore.
    pub fn store(&self) -> Store {
        Store {
            hba: self.hba.clone(),
            name: self.store.clone(),
        }
    }

    fn check(&self, host: &Host) -> Result<()> {
        let store = self.store();
        match lio::is_configured(host, &store)? {
            Some(true) => {}
            Some(false) => bail!("its backstore {}/{} has no device", store.hba, store.name),
            None => bail!("its backstore {}/{} is not there", store.hba, store.name),
        }
        let Some(path) = &self.path else {
            return Ok(());
        };
        let Some(class) = device::class(host, path)? else {
            bail!("its device {path} is gone");
        };
        let (number, served) = (device::number(host, &class)?, lio::device(host, &store)?);
        ensure!(
            number == served,
            "{path} is now another device ({}) than the one that is served ({})",
            number.as_deref().unwrap_or("none"),
            served.as_deref().unwrap_or("none")
        );
        ensure!(
            !self.writable || !device::is_read_only(host, &class)?,
            "its device {path} has become read-only"
        );
        Ok(())
    }
}

impl ExpectedTarget {
    fn group(&self) -> Group {
        Group {
            iqn: self.iqn.clone(),
            tag: self.tag,
        }
    }

    fn check(&self, host: &Host, expected: &Expected, found: &Found) -> Result<()> {
        let group = self.group();
        let groups = found.targets.get(&self.iqn);
        let Some(there) = groups.and_then(|all| all.iter().find(|one| one.group == group)) else {
            bail!("it is not there");
        };
        ensure!(
            lio::is_enabled(host, &group)? == Some(true),
            "it is disabled"
        );
        for portal in &self.portals {
            ensure!(
                there.portals.contains(portal),
                "its portal {portal} is not there"
            );
        }
        for (number, unit) in &self.luns {
            let unit = expected.units.iter().find(|known| known.name == *unit);
            let store = unit.map(ExpectedUnit::store);
            ensure!(
                store.is_some() && there.store(*number) == store.as_ref(),
                "LUN {number} does not lead to its backstore"
            );
        }
        self.check_acls(there)
    }

    fn check_acls(&self, there: &FoundGroup) -> Result<()> {
        for (initiator, luns) in &self.acls {
            let Some(acl) = there.acls.get(initiator) else {
                bail!("initiator {initiator} is not allowed any more");
            };
            for (number, lun) in luns {
                let links = acl.get(number).map(Vec::as_slice).unwrap_or_default();
                ensure!(
                    links.len() == 1 && links[0].lun == Some(*lun),
                    "initiator {initiator} does not see LUN {number}"
                );
            }
        }
        Ok(())
    }
}

fn names(settings: &[(String, String)]) -> BTreeSet<String> {
    settings.iter().map(|(name, _)| name.clone()).collect()
}

fn target(target: &Target) -> ExpectedTarget {
    let acl = |initiator: &Initiator| {
        let luns = initiator.luns.iter().map(|lun| (lun.number, lun.lun));
        (initiator.name.clone(), luns.collect())
    };
    ExpectedTarget {
        iqn: target.iqn.clone(),
        tag: target.tag,
        portals: target.portals.iter().map(ToString::to_string).collect(),
        luns: target
            .luns
            .iter()
            .map(|lun| (lun.number, lun.unit.clone()))
            .collect(),
        settings: &names(&target.attributes) | &names(&target.parameters),
        acls: match &target.access {
            Access::Anyone => BTreeMap::new(),
            Access::Only(initiators) => initiators.iter().map(acl).collect(),
        },
    }
}
