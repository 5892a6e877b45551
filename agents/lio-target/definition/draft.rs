//! What a definition says, in whichever format, before everything left open in it has been chosen: identities, numbers, who
//! sees what. [`Draft::settle`] chooses.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Result, anyhow, bail};

use super::identity::Identity;
use super::place::Place;
use super::volumes::{self, Assignment, Volume};
use super::{Definition, rules};
use crate::wanted::{Access, Backing, Chap, Initiator, Lun, Mapped, Portal, Target, Unit, Wanted};

/// The block size of a volume for which nothing else is said: that of its device on Linux, and stmf-ha's.
const BLOCK_SIZE: u32 = 512;

/// A definition, as far as it says something.
#[derive(Debug, Default)]
pub struct Draft {
    /// The units, each device once.
    pub units: Vec<UnitDraft>,
    /// The targets.
    pub targets: Vec<TargetDraft>,
    /// Initiators that never meet may see different units under one number, as COMSTAR has it: then the target's own
    /// number for one of them is another, and nobody sees it.
    pub numbers_per_host: bool,
}

/// Where a unit's data is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Data {
    /// A volume of ZFS.
    Volume {
        /// Its dataset name.
        name: String,
        /// Refuse writes.
        read_only: bool,
        /// See [`Backing::Block`].
        write_back: bool,
    },
    /// Anything else.
    Backing(Backing),
}

impl Data {
    /// What it is, for messages and to tell one from another.
    pub fn path(&self) -> &str {
        match self {
            Data::Volume { name, .. } => name,
            Data::Backing(backing) => backing.path(),
        }
    }

    /// What a unit on it is called if it is given no other name: the path with a plus sign for each slash, and each
    /// character that has no place in a name as a percent sign and two hex digits. Different paths give different names.
    pub fn name(&self) -> String {
        let mut name = String::new();
        for byte in self.path().trim_start_matches('/').bytes() {
            match byte {
                b'/' => name.push('+'),
                b'.' | b'_' | b':' | b'-' => name.push(byte.into()),
                _ if byte.is_ascii_alphanumeric() => name.push(byte.into()),
                _ => name.push_str(&format!("%{byte:02X}")),
            }
        }
        name
    }
}

/// A logical unit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnitDraft {
    /// The name it is given.
    pub name: Option<String>,
    /// Where its data is.
    pub data: Data,
    /// The identity it is given.
    pub identity: Option<Identity>,
    /// INQUIRY's vendor.
    pub vendor: Option<String>,
    /// INQUIRY's product.
    pub product: Option<String>,
    /// INQUIRY's revision.
    pub revision: Option<String>,
    /// In bytes.
    pub block_size: Option<u32>,
    /// The same, where neither the unit nor its volume says otherwise.
    pub usual_block_size: Option<u32>,
    /// Other attributes.
    pub attributes: BTreeMap<String, String>,
}

impl UnitDraft {
    /// A unit of which only that is known.
    pub fn of(data: Data) -> UnitDraft {
        UnitDraft {
            name: None,
            data,
            identity: None,
            vendor: None,
            product: None,
            revision: None,
            block_size: None,
            usual_block_size: None,
            attributes: BTreeMap::new(),
        }
    }

    fn name(&self) -> String {
        self.name.clone().unwrap_or_else(|| self.data.name())
    }
}

/// A target.
#[derive(Debug)]
pub struct TargetDraft {
    /// Its iSCSI name.
    pub iqn: String,
    /// The number of its portal group.
    pub tag: u16,
    /// Where it listens.
    pub portals: Vec<Portal>,
    /// Attributes of the portal group.
    pub attributes: BTreeMap<String, String>,
    /// Negotiated parameters.
    pub parameters: BTreeMap<String, String>,
    /// For initiators without credentials of their own.
    pub chap: Option<Chap>,
    /// Its LUNs.
    pub luns: Vec<LunDraft>,
    /// Who may use it. If None, those whom its LUNs name, or anyone.
    pub initiators: Option<Vec<InitiatorDraft>>,
}

/// A LUN.
#[derive(Clone, Debug)]
pub struct LunDraft {
    /// Which of the units.
    pub unit: usize,
    /// Its number. If None, the volume's, or a free one.
    pub number: Option<u16>,
    /// The initiators that see it; if None, all that may use the target.
    pub hosts: Option<Vec<String>>,
}

/// An initiator.
#[derive(Clone, Debug)]
pub struct InitiatorDraft {
    /// Its iSCSI name.
    pub name: String,
    /// Its own credentials.
    pub chap: Option<Chap>,
    /// `cmdsn_depth`.
    pub depth: Option<u32>,
    /// Refuse its writes, where `view` says nothing.
    pub read_only: bool,
    /// The LUNs it sees; if None, all that it may.
    pub view: Option<Vec<Mapped>>,
}

impl InitiatorDraft {
    /// An initiator of which only the name is known.
    pub fn of(name: String) -> InitiatorDraft {
        InitiatorDraft {
            name,
            chap: None,
            depth: None,
            read_only: false,
            view: None,
        }
    }
}

/// LUNs that have one number: one LUN that says it, or all of a volume.
struct Numbered {
    /// The unit, for messages.
    path: String,
    number: Option<u16>,
    /// Where: of which target the how manieth LUN.
    luns: Vec<(usize, usize)>,
}

impl Draft {
    /// Chooses what was left open, the same on every node, and checks the whole.
    pub fn settle(self, place: &Place) -> Result<Definition> {
        let mut assigned = Vec::new();
        let units = self
            .units
            .iter()
            .map(|unit| unit.settle(place, &mut assigned))
            .collect::<Result<Vec<_>>>()?;
        let numbers = self.numbers(place, &mut assigned)?;
        let names: Vec<String> = units.iter().map(|unit| unit.name.clone()).collect();
        let mut targets = Vec::new();
        for (target, numbers) in self.targets.into_iter().zip(&numbers) {
            targets.push(target.settle(&self.units, &names, numbers)?);
        }
        let wanted = Wanted { units, targets };
        rules::check(&wanted)?;
        // By volume, and the numbers in the order in which they were given: see volumes::store.
        assigned.sort_by(|a, b| a.volume.cmp(&b.volume));
        Ok(Definition { wanted, assigned })
    }

    /// The number of each LUN of each target, as initiators see it.
    fn numbers(&self, place: &Place, assigned: &mut Vec<Assignment>) -> Result<Vec<Vec<u16>>> {
        let mut items = self.numbered(place)?;
        let mut given: BTreeMap<u16, Vec<usize>> = BTreeMap::new();
        for (index, item) in items.iter().enumerate() {
            let Some(number) = item.number else { continue };
            let same = given.entry(number).or_default();
            if let Some((other, target)) = same
                .iter()
                .filter_map(|other| items.get(*other))
                .find_map(|other| Some((other, self.meet(item, other)?)))
            {
                bail!(
                    "target {}: LUN {number} is both {} and {}; expected each number once",
                    self.targets[target].iqn,
                    other.path,
                    item.path
                );
            }
            same.push(index);
        }
        // A volume that is not used now may be used again.
        let used: BTreeSet<&str> = self.units.iter().map(|unit| unit.data.path()).collect();
        let mut kept = BTreeSet::new();
        if items.iter().any(|item| item.number.is_none()) {
            let unused = place.volumes()?.unwrap_or_default().iter();
            kept.extend(
                unused
                    .filter(|volume| !used.contains(volume.name.as_str()))
                    .filter_map(|volume| volume.number().ok().flatten()),
            );
        }
        let mut open: Vec<usize> = (0..items.len())
            .filter(|index| items[*index].number.is_none())
            .collect();
        open.sort_by(|a, b| items[*a].path.cmp(&items[*b].path));
        for index in open {
            let taken: BTreeSet<u16> = items
                .iter()
                .filter(|other| other.number.is_some() && self.meet(&items[index], other).is_some())
                .filter_map(|other| other.number)
                .collect();
            let number = (0..=u16::MAX)
                .find(|number| !taken.contains(number) && !kept.contains(number))
                .ok_or_else(|| anyhow!("volume {}: no LUN is free", items[index].path))?;
            items[index].number = Some(number);
            assigned.push(Assignment::number(&items[index].path, number));
        }
        let mut numbers: Vec<Vec<u16>> = self
            .targets
            .iter()
            .map(|target| vec![0; target.luns.len()])
            .collect();
        for item in &items {
            for (target, lun) in &item.luns {
                numbers[*target][*lun] = item.number.unwrap_or_default();
            }
        }
        Ok(numbers)
    }

    fn numbered(&self, place: &Place) -> Result<Vec<Numbered>> {
        let mut items: Vec<Numbered> = Vec::new();
        let mut of_unit: BTreeMap<usize, usize> = BTreeMap::new();
        for (at, target) in self.targets.iter().enumerate() {
            for (index, lun) in target.luns.iter().enumerate() {
                if let (None, Some(item)) = (lun.number, of_unit.get(&lun.unit)) {
                    items[*item].luns.push((at, index));
                    continue;
                }
                let unit = &self.units[lun.unit];
                let number = match (&lun.number, &unit.data) {
                    (Some(number), _) => Some(*number),
                    (None, Data::Volume { name, .. }) => {
                        of_unit.insert(lun.unit, items.len());
                        let volume = place.volume(name)?;
                        volume.map(Volume::number).transpose()?.flatten()
                    }
                    (None, Data::Backing(backing)) => bail!(
                        "target {}: {} has no LUN; expected the key number",
                        target.iqn,
                        backing.path()
                    ),
                };
                items.push(Numbered {
                    path: unit.data.path().to_owned(),
                    number,
                    luns: vec![(at, index)],
                });
            }
        }
        Ok(items)
    }

    /// Does anyone see both, and on which target?
    fn meet(&self, a: &Numbered, b: &Numbered) -> Option<usize> {
        a.luns.iter().find_map(|(target, lun)| {
            let (_, other) = b.luns.iter().find(|(other, _)| other == target)?;
            let luns = &self.targets[*target].luns;
            let apart = match (&luns[*lun].hosts, &luns[*other].hosts) {
                (Some(a), Some(b)) if self.numbers_per_host => !a.iter().any(|a| b.contains(a)),
                _ => false,
            };
            (!apart).then_some(*target)
        })
    }
}

impl UnitDraft {
    fn settle(&self, place: &Place, assigned: &mut Vec<Assignment>) -> Result<Unit> {
        let mut attributes = self.attributes.clone();
        let (identity, backing, block_size) = match &self.data {
            Data::Backing(backing) => (
                self.identity
                    .clone()
                    .unwrap_or_else(|| Identity::of_path(backing.path())),
                backing.clone(),
                self.block_size.or(self.usual_block_size),
            ),
            Data::Volume {
                name,
                read_only,
                write_back,
            } => {
                // What is said here needs no look at the volume.
                let volume = match (&self.identity, self.block_size) {
                    (Some(_), Some(_)) => None,
                    _ => place.volume(name)?,
                };
                let has_one = volume.map(Volume::identity).transpose()?.flatten();
                let identity = self.identity.clone().or(has_one).unwrap_or_else(|| {
                    let identity = Identity::of_volume(name);
                    assigned.push(Assignment::guid(name, &identity));
                    identity
                });
                let block_size = match self.block_size {
                    Some(size) => size,
                    None => volume
                        .map(Volume::block_size)
                        .transpose()?
                        .flatten()
                        .or(self.usual_block_size)
                        .unwrap_or(BLOCK_SIZE),
                };
                let backing = Backing::Block {
                    path: volumes::link(name),
                    read_only: *read_only,
                    write_back: *write_back,
                };
                (identity, backing, Some(block_size))
            }
        };
        if let Some(size) = block_size {
            attributes.insert("block_size".into(), size.to_string());
        }
        Ok(Unit {
            name: self.name(),
            backing,
            serial: identity.serial,
            company_id: identity.company_id,
            vendor: self.vendor.clone(),
            product: self.product.clone(),
            revision: self.revision.clone(),
            attributes: attributes.into_iter().collect(),
        })
    }
}

impl TargetDraft {
    fn settle(self, units: &[UnitDraft], names: &[String], numbers: &[u16]) -> Result<Target> {
        let own = own_numbers(&self.luns, names, numbers);
        let access = self.access(units, numbers, &own)?;
        let lun = |(lun, number): (&LunDraft, &u16)| Lun {
            number: *number,
            unit: names[lun.unit].clone(),
        };
        // First those with a number of their own, as they are written; then the others. The kernel may count what is made.
        let (given, mut others): (Vec<_>, Vec<_>) = self
            .luns
            .iter()
            .zip(&own)
            .partition(|(lun, _)| lun.number.is_some());
        others.sort_by_key(|(_, number)| **number);
        let luns = given.into_iter().chain(others).map(lun).collect();
        Ok(Target {
            iqn: self.iqn,
            tag: self.tag,
            portals: self.portals,
            attributes: self.attributes.into_iter().collect(),
            parameters: self.parameters.into_iter().collect(),
            chap: self.chap,
            luns,
            access,
        })
    }

    fn access(&self, units: &[UnitDraft], numbers: &[u16], own: &[u16]) -> Result<Access> {
        let path = |lun: &LunDraft| units[lun.unit].data.path().to_owned();
        let mut initiators = match &self.initiators {
            Some(initiators) => initiators.clone(),
            None => {
                let Some(bound) = self.luns.iter().find(|lun| lun.hosts.is_some()) else {
                    return Ok(Access::Anyone);
                };
                if let Some(open) = self.luns.iter().find(|lun| lun.hosts.is_none()) {
                    bail!(
                        "target {}: {} is for any initiator, {} for some only, which no target can tell apart; expected \
                         initiators for both, or a target for each",
                        self.iqn,
                        path(open),
                        path(bound)
                    );
                }
                let mut known = BTreeSet::new();
                let named = self.luns.iter().flat_map(|lun| lun.hosts.iter().flatten());
                named
                    .filter(|name| known.insert(*name))
                    .map(|name| InitiatorDraft::of(name.clone()))
                    .collect()
            }
        };
        let known: BTreeSet<&str> = initiators.iter().map(|one| one.name.as_str()).collect();
        for lun in &self.luns {
            let stranger = lun
                .hosts
                .iter()
                .flatten()
                .find(|name| !known.contains(name.as_str()));
            if let Some(stranger) = stranger {
                bail!(
                    "target {}: {} is for {stranger}, who is none of the target's initiators",
                    self.iqn,
                    path(lun)
                );
            }
        }
        let settle = |initiator: &mut InitiatorDraft| {
            let mut luns = initiator.view.take().unwrap_or_else(|| {
                let mut luns = Vec::new();
                for ((lun, number), own) in self.luns.iter().zip(numbers).zip(own) {
                    if lun
                        .hosts
                        .as_ref()
                        .is_none_or(|hosts| hosts.contains(&initiator.name))
                    {
                        luns.push(Mapped {
                            number: *number,
                            lun: *own,
                            read_only: initiator.read_only,
                        });
                    }
                }
                luns.sort_by_key(|lun| lun.number);
                luns
            });
            Initiator {
                name: std::mem::take(&mut initiator.name),
                chap: initiator.chap.take(),
                depth: initiator.depth,
                luns: std::mem::take(&mut luns),
            }
        };
        Ok(Access::Only(initiators.iter_mut().map(settle).collect()))
    }
}

/// The target's own numbers: those that are seen, but where two are the same and never seen together, the number of the one
/// whose name comes later is raised by 256 until it is free. Persistent reservations are kept by it, so it has to be the
/// same each time.
fn own_numbers(luns: &[LunDraft], names: &[String], numbers: &[u16]) -> Vec<u16> {
    let mut order: Vec<usize> = (0..luns.len()).collect();
    order.sort_by_key(|index| &names[luns[*index].unit]);
    let mut own = numbers.to_vec();
    let mut taken: BTreeSet<u16> = BTreeSet::new();
    let mut later = Vec::new();
    for index in order {
        if !taken.insert(numbers[index]) {
            later.push(index);
        }
    }
    for index in later {
        let raised = (1..256).map(|step| numbers[index].wrapping_add(step * 256));
        let number = raised
            .chain(0..=u16::MAX)
            .find(|number| !taken.contains(number));
        own[index] = number.unwrap_or_default();
        taken.insert(own[index]);
    }
    own
}
