//! What in the kernel belongs to this resource. It can be told from configfs alone, whatever the parameters are now and
//! whether or not anything was noted: by the number of its adapters and the name of its backstores, both made of the
//! resource's name, and by the alias of its targets.

use std::collections::BTreeMap;

use anyhow::Result;
use host::Host;
use ocf::Node;
use probe::lio::{self, Group, Link, Store};
use serde::{Deserialize, Serialize};

use crate::digest;
use crate::wanted::{Backing, Unit};

/// Kinds of adapters, as configfs names them.
const KINDS: [&str; 4] = ["iblock", "fileio", "pscsi", "rd_mcp"];

/// The alias of a target that nobody has given one.
const NO_ALIAS: &str = "LIO Target";

/// Longer names of backstores make configfs hard to read.
const LONGEST_NAME: usize = 64;

/// The marks of a resource.
#[derive(Clone, Debug)]
pub struct Own {
    instance: String,
    number: u32,
}

impl Own {
    /// Those of the resource that was called.
    pub fn of(node: &Node) -> Own {
        Own::named(node.call().resource())
    }

    /// Those of the resource with this name.
    pub fn named(name: &str) -> Own {
        Own {
            instance: name.to_owned(),
            // rtslib takes the lowest free number, from 0: far from these.
            number: (u32::from_be_bytes(digest::bytes(name)) >> 1) | (1 << 30),
        }
    }

    /// The adapter for units of a kind.
    fn hba(&self, kind: &str) -> String {
        format!("{kind}_{}", self.number)
    }

    /// Its adapters, whether they are there or not.
    pub fn hbas(&self) -> impl Iterator<Item = String> {
        KINDS.iter().map(|kind| self.hba(kind))
    }

    /// The backstore for a unit; without a device to be opened if it only stands for one that the other node has.
    pub fn store(&self, unit: &Unit, stands_by: bool) -> Store {
        let kind = match &unit.backing {
            _ if stands_by => "rd_mcp",
            Backing::Block { .. } => "iblock",
            Backing::File { .. } => "fileio",
            Backing::Scsi { .. } => "pscsi",
        };
        Store {
            hba: self.hba(kind),
            name: format!("{}{}", self.prefix(), clean(&unit.name)),
        }
    }

    /// What the names of its backstores begin with.
    fn prefix(&self) -> String {
        format!("{}.", clean(&self.instance))
    }

    /// Is this backstore its own?
    pub fn owns(&self, store: &Store) -> bool {
        store.name.starts_with(&self.prefix()) && self.hbas().any(|hba| hba == store.hba)
    }

    /// The alias of its targets, which initiators can see.
    pub fn alias(&self) -> String {
        format!("hastor {}", self.instance)
    }

    /// Everything that is its own.
    pub fn find(&self, host: &Host, named: &Named) -> Result<Found> {
        let mut found = self.backstores(host)?;
        for iqn in lio::targets(host)? {
            let groups = groups(host, &iqn)?;
            if self.made(host, &groups, named.of(&iqn))? {
                found.targets.insert(iqn, groups);
            }
        }
        Ok(found)
    }

    /// The same, of `named` alone: other targets are not looked at.
    pub fn find_named(&self, host: &Host, named: &Named) -> Result<Found> {
        let mut found = self.backstores(host)?;
        for iqn in named.all() {
            if host.is_dir(&format!("{}/{iqn}", lio::ISCSI)) {
                let groups = groups(host, iqn)?;
                if self.made(host, &groups, named.of(iqn))? {
                    found.targets.insert(iqn.clone(), groups);
                }
            }
        }
        Ok(found)
    }

    fn backstores(&self, host: &Host) -> Result<Found> {
        let mut found = Found::default();
        for hba in self.hbas() {
            if host.is_dir(&format!("{}/{hba}", lio::CORE)) {
                let stores = lio::stores(host, &hba)?.into_iter();
                found.stores.extend(stores.filter(|store| self.owns(store)));
                found.hbas.push(hba);
            }
        }
        Ok(found)
    }

    /// Did this resource make a target with these groups? One that leads to its backstores, or has its alias, and leads to
    /// nobody else's; also one that it has noted, and one of its name in which there is nothing yet.
    fn made(&self, host: &Host, groups: &[FoundGroup], by: By) -> Result<bool> {
        let links = || {
            groups
                .iter()
                .flat_map(|group| group.luns.values().flatten())
        };
        if links().any(|link| link.store.as_ref().is_some_and(|store| self.owns(store))) {
            return Ok(true);
        }
        // Somebody else's. Its attributes are not read: if it is stuck, they would not answer.
        if links().next().is_some() {
            return Ok(false);
        }
        // It may have another alias, which an administrator has given it.
        if by == By::Note {
            return Ok(true);
        }
        let mut all_bare = by == By::Parameter;
        for group in groups {
            let alias = host.read(&format!("{}/param/TargetAlias", group.group.dir()))?;
            let alias = alias.as_deref().map(lio::value).unwrap_or(NO_ALIAS);
            if alias == self.alias() {
                return Ok(true);
            }
            all_bare &= alias == NO_ALIAS
                && group.luns.is_empty()
                && group.acls.is_empty()
                && group.portals.is_empty()
                && lio::is_enabled(host, &group.group)? != Some(true);
        }
        Ok(all_bare)
    }
}

/// The names of targets that are a resource's.
#[derive(Clone, Debug, Default)]
pub struct Named {
    /// Those that it has noted before it made them, and not stopped since.
    pub noted: Vec<String>,
    /// The one that it is to make.
    pub parameter: Option<String>,
}

/// By what a target's name is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum By {
    Note,
    Parameter,
    Nothing,
}

impl Named {
    fn of(&self, iqn: &str) -> By {
        match &self.parameter {
            _ if self.noted.iter().any(|name| name == iqn) => By::Note,
            Some(name) if name == iqn => By::Parameter,
            _ => By::Nothing,
        }
    }

    /// All of them, once.
    fn all(&self) -> impl Iterator<Item = &String> {
        let more = self.parameter.iter();
        let more = more.filter(|name| !self.noted.contains(name));
        self.noted.iter().chain(more)
    }
}

/// What there is of a resource.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Found {
    /// Its adapters.
    pub hbas: Vec<String>,
    /// Its backstores.
    pub stores: Vec<Store>,
    /// Its targets and their portal groups.
    pub targets: BTreeMap<String, Vec<FoundGroup>>,
}

impl Found {
    /// Is there nothing? An empty adapter holds nothing, but is something to take away.
    pub fn is_nothing(&self) -> bool {
        self.hbas.is_empty() && self.targets.is_empty()
    }

    /// All portal groups.
    pub fn groups(&self) -> impl Iterator<Item = &FoundGroup> {
        self.targets.values().flatten()
    }
}

/// A portal group as it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FoundGroup {
    /// Which it is.
    pub group: Group,
    /// Its LUNs and the links in them.
    pub luns: BTreeMap<u16, Vec<Link>>,
    /// Its ACLs: initiator, number, and where the links lead.
    pub acls: BTreeMap<String, BTreeMap<u16, Vec<MappedLink>>>,
    /// Its portals.
    pub portals: Vec<String>,
}

impl FoundGroup {
    /// The backstore of a LUN.
    pub fn store(&self, lun: u16) -> Option<&Store> {
        self.luns.get(&lun)?.first()?.store.as_ref()
    }
}

/// A link from an ACL's LUN to a LUN of the group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MappedLink {
    /// The link's own name.
    pub name: String,
    /// The number of the group's LUN.
    pub lun: Option<u16>,
}

fn groups(host: &Host, iqn: &str) -> Result<Vec<FoundGroup>> {
    let mut found = Vec::new();
    for group in lio::groups(host, iqn)? {
        let dir = group.dir();
        let mut acls = BTreeMap::new();
        for initiator in host.list(&format!("{dir}/acls"))? {
            acls.insert(
                initiator.clone(),
                mapped(host, &format!("{dir}/acls/{initiator}"))?,
            );
        }
        found.push(FoundGroup {
            luns: lio::luns(host, &format!("{dir}/lun"))?,
            acls,
            portals: host.list(&format!("{dir}/np"))?,
            group,
        });
    }
    Ok(found)
}

fn mapped(host: &Host, acl: &str) -> Result<BTreeMap<u16, Vec<MappedLink>>> {
    let mut found = BTreeMap::new();
    for name in host.list(acl)? {
        let Some(number) = name.strip_prefix("lun_").and_then(|text| text.parse().ok()) else {
            continue;
        };
        let dir = format!("{acl}/{name}");
        let mut links = Vec::new();
        for name in host.list(&dir)? {
            if let Some(target) = lio::link(host, &format!("{dir}/{name}"))? {
                let lun = target
                    .rsplit_once("/lun_")
                    .and_then(|(_, text)| text.parse().ok());
                links.push(MappedLink { name, lun });
            }
        }
        found.insert(number, links);
    }
    Ok(found)
}

/// A name as a directory of configfs can have it.
fn clean(name: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if name.len() <= LONGEST_NAME && !name.is_empty() && name.chars().all(plain) {
        return name.to_owned();
    }
    // Different names stay different.
    let hash = digest::hex(name, 8);
    let start: String = name
        .chars()
        .map(|c| if plain(c) { c } else { '_' })
        .take(LONGEST_NAME - 9)
        .collect();
    format!("{start}-{hash}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_instances_of_a_clone_are_one_resource() {
        let of = |instance: &str| {
            let call = ocf::Call {
                instance: instance.to_owned(),
                ..ocf::Call::default()
            };
            Own::named(call.resource())
        };
        let (first, second) = (of("p_target:0"), of("p_target"));
        assert_eq!(
            (first.number, first.prefix()),
            (second.number, second.prefix())
        );
        assert_ne!(of("p_target2").number, second.number);
        assert!(first.number >= 1 << 30 && first.number < 1 << 31);
    }

    #[test]
    fn names_that_configfs_cannot_have_stay_different() {
        assert_eq!(clean("p_lun-1.a"), "p_lun-1.a");
        assert_ne!(clean("tank/a"), clean("tank_a"));
        assert!(clean("tank/a").starts_with("tank_a-"));
        assert!(clean(&"x".repeat(300)).len() <= LONGEST_NAME);
    }
}
