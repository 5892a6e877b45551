//! Reading `lio.toml`. Its keys are described in the [module above](super).

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Result;

use super::draft::{Data, Draft, InitiatorDraft, LunDraft, TargetDraft, UnitDraft};
use super::identity::{Identity, is_line};
use super::place::Place;
use super::table::{Document, Table, Value};
use super::{default_iqn, default_portal, volumes};
use crate::names;
use crate::wanted::{Backing, Chap, Mapped, Portal};

/// The largest file, in bytes: a number of TOML has a sign.
const LARGEST: u64 = i64::MAX as u64;
/// The longest name of a unit, in bytes: more is put before it, and a file's name has at most 255.
const LONGEST_NAME: usize = 200;

/// What a text says.
pub fn draft(text: &str, place: &mut Place) -> Result<Draft> {
    let path = place.path;
    let document = Document::parse(path, text)?;
    let mut top = document.table();
    if let Some(pool) = top.take("pool") {
        let check = |name: &str| probe::zfs::check_name(name).map(|()| name.to_owned());
        place.pool = Some(pool.read(check)?);
    }
    let defaults = match top.take("defaults") {
        Some(defaults) => Defaults::read(defaults.table()?)?,
        None => Defaults::default(),
    };
    let mut reader = Reader {
        place,
        defaults,
        groups: BTreeMap::new(),
        draft: Draft::default(),
    };
    if let Some(groups) = top.take("groups") {
        for (name, members) in groups.table()?.rest() {
            reader.group(name, &members)?;
        }
    }
    if let Some(units) = top.take("unit") {
        for mut unit in units.tables()? {
            reader.unit(&mut unit)?;
            unit.end()?;
        }
    }
    match top.take("target") {
        Some(targets) => {
            for mut target in targets.tables()? {
                reader.target(&mut target)?;
                target.end()?;
            }
        }
        None => reader.default_target()?,
    }
    top.end()?;
    Ok(reader.draft)
}

/// What holds where a unit or a target says nothing.
#[derive(Default)]
struct Defaults {
    vendor: Option<String>,
    product: Option<String>,
    revision: Option<String>,
    block_size: Option<u32>,
    attributes: BTreeMap<String, String>,
    portals: Option<Vec<Portal>>,
}

impl Defaults {
    fn read(mut table: Table) -> Result<Defaults> {
        let defaults = Defaults {
            vendor: inquiry(&mut table, "vendor", 8)?,
            product: inquiry(&mut table, "product", 16)?,
            revision: inquiry(&mut table, "revision", 4)?,
            block_size: block_size(&mut table)?,
            attributes: attributes(table.take("attributes"))?,
            portals: portals(&mut table)?,
        };
        table.end()?;
        Ok(defaults)
    }
}

struct Reader<'a, 'b> {
    place: &'a Place<'b>,
    defaults: Defaults,
    groups: BTreeMap<String, Vec<String>>,
    draft: Draft,
}

impl Reader<'_, '_> {
    fn group(&mut self, name: &str, members: &Value) -> Result<()> {
        let is_name = !name.is_empty()
            && name
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || "-_".contains(c));
        if !is_name {
            return Err(members.wrong("a group's name has letters, digits, - and _ only"));
        }
        let members: Vec<String> = members
            .list()?
            .iter()
            .map(|member| member.read(names::iqn))
            .collect::<Result<_>>()?;
        self.groups
            .insert(name.to_owned(), without_repeats(members));
        Ok(())
    }

    /// The keys that describe a unit; None if none of them says where its data is.
    fn described(&self, table: &mut Table) -> Result<Option<UnitDraft>> {
        let sources = ["volume", "device", "file", "scsi"].map(|key| table.take(key));
        let data = match &sources {
            [Some(volume), None, None, None] => Data::Volume {
                name: volume.read(volumes::dataset)?,
                read_only: flag(table, "read_only")?,
                write_back: flag(table, "write_back")?,
            },
            [None, Some(device), None, None] => Data::Backing(Backing::Block {
                path: device.read(path)?,
                read_only: flag(table, "read_only")?,
                write_back: flag(table, "write_back")?,
            }),
            [None, None, Some(file), None] => Data::Backing(Backing::File {
                path: file.read(path)?,
                size: table.take("size").as_ref().map(bytes).transpose()?,
                write_back: flag(table, "write_back")?,
            }),
            [None, None, None, Some(scsi)] => Data::Backing(Backing::Scsi {
                path: scsi.read(path)?,
            }),
            [None, None, None, None] => return Ok(None),
            _ => return Err(table.error("expected only one of volume, device, file and scsi")),
        };
        let mut unit = UnitDraft::of(data);
        unit.name = table
            .take("name")
            .map(|name| name.read(unit_name))
            .transpose()?;
        unit.identity = identity(table)?;
        unit.vendor = inquiry(table, "vendor", 8)?;
        unit.product = inquiry(table, "product", 16)?;
        unit.revision = inquiry(table, "revision", 4)?;
        unit.block_size = block_size(table)?;
        unit.attributes = attributes(table.take("attributes"))?;
        Ok(Some(unit))
    }

    fn with_defaults(&self, mut unit: UnitDraft) -> UnitDraft {
        let defaults = &self.defaults;
        unit.vendor = unit.vendor.or_else(|| defaults.vendor.clone());
        unit.product = unit.product.or_else(|| defaults.product.clone());
        unit.revision = unit.revision.or_else(|| defaults.revision.clone());
        unit.usual_block_size = defaults.block_size;
        for (name, value) in &defaults.attributes {
            unit.attributes
                .entry(name.clone())
                .or_insert_with(|| value.clone());
        }
        unit
    }

    fn unit(&mut self, table: &mut Table) -> Result<()> {
        let Some(unit) = self.described(table)? else {
            return Err(table.error("expected one of volume, device, file and scsi"));
        };
        let unit = self.with_defaults(unit);
        let same = |other: &&UnitDraft| other.data.path() == unit.data.path();
        if let Some(other) = self.draft.units.iter().find(same) {
            return Err(table.error(format_args!(
                "{} is a unit already; expected it once",
                other.data.path()
            )));
        }
        self.draft.units.push(unit);
        Ok(())
    }

    fn default_target(&mut self) -> Result<()> {
        let mut target = TargetDraft {
            iqn: default_iqn(self.place)?,
            tag: 1,
            portals: self.default_portals(),
            attributes: BTreeMap::new(),
            parameters: BTreeMap::new(),
            chap: None,
            luns: Vec::new(),
            initiators: None,
        };
        target.luns = self.selected(None, &[])?;
        self.draft.targets.push(target);
        Ok(())
    }

    fn default_portals(&self) -> Vec<Portal> {
        self.defaults
            .portals
            .clone()
            .unwrap_or_else(|| vec![default_portal()])
    }

    fn target(&mut self, table: &mut Table) -> Result<()> {
        let iqn = match table.take("iqn") {
            Some(iqn) => iqn.read(names::iqn)?,
            None => default_iqn(self.place)?,
        };
        let tag = match table.take("tag") {
            Some(tag) => tag.small(1..=u64::from(u16::MAX))?,
            None => 1,
        };
        let portals = portals(table)?.unwrap_or_else(|| self.default_portals());
        let attributes = attributes(table.take("attributes"))?;
        let parameters = settings(table.take("parameters"), "Yes", "No")?;
        let chap = self.chap(table.take("chap"))?;
        let mut luns = Vec::new();
        let listed = table.take("lun").map(|luns| luns.tables()).transpose()?;
        let has_list = listed.is_some();
        for mut lun in listed.into_iter().flatten() {
            luns.push(self.lun(&mut lun)?);
            lun.end()?;
        }
        match table.take("volumes") {
            Some(prefixes) => {
                for prefix in prefixes.list()? {
                    let prefix = prefix.read(volumes::dataset)?;
                    luns.extend(self.selected(Some(&prefix), &luns)?);
                }
            }
            None if !has_list => luns.extend(self.selected(None, &[])?),
            None => {}
        }
        let initiators = self.initiators(table)?;
        self.draft.targets.push(TargetDraft {
            iqn,
            tag,
            portals,
            attributes,
            parameters,
            chap,
            luns,
            initiators,
        });
        Ok(())
    }

    fn lun(&mut self, table: &mut Table) -> Result<LunDraft> {
        let number = table
            .take("number")
            .map(|value| value.small(0..=u64::from(u16::MAX)));
        let hosts = match table.take("initiators") {
            Some(hosts) => Some(self.hosts(&hosts)?),
            None => None,
        };
        let named = table.take("unit");
        let described = self.described(table)?;
        let unit = match (named, described) {
            (Some(name), None) => {
                let wanted = name.text()?;
                let called = |unit: &UnitDraft| match &unit.name {
                    Some(name) => name == wanted,
                    None => unit.data.name() == wanted,
                };
                self.draft
                    .units
                    .iter()
                    .position(called)
                    .ok_or_else(|| name.error("is no unit; expected the name of a [[unit]]"))?
            }
            (None, Some(unit)) => self.interned(unit, table)?,
            _ => return Err(table.error("expected one of unit, volume, device, file and scsi")),
        };
        let number = number.transpose()?;
        if number.is_none() && matches!(self.draft.units[unit].data, Data::Backing(_)) {
            return Err(
                table.error("expected the key number: only volumes keep theirs by themselves")
            );
        }
        Ok(LunDraft {
            unit,
            number,
            hosts,
        })
    }

    /// The unit on that device, which is one of its own only if there is none yet.
    fn interned(&mut self, unit: UnitDraft, table: &Table) -> Result<usize> {
        let is_bare = unit == UnitDraft::of(unit.data.clone());
        let unit = self.with_defaults(unit);
        let same = |other: &UnitDraft| other.data.path() == unit.data.path();
        match self.draft.units.iter().position(same) {
            Some(at) if is_bare && self.draft.units[at].data == unit.data => Ok(at),
            Some(at) if self.draft.units[at] == unit => Ok(at),
            Some(_) => Err(table.error(format_args!(
                "{} is described differently before; expected it to be described in one place, a [[unit]]",
                unit.data.path()
            ))),
            None => {
                self.draft.units.push(unit);
                Ok(self.draft.units.len() - 1)
            }
        }
    }

    /// LUNs for the volumes of the pool, or for one dataset's, but those that are among `luns`.
    fn selected(&mut self, prefix: Option<&str>, luns: &[LunDraft]) -> Result<Vec<LunDraft>> {
        let place = self.place;
        let volumes = place.volumes()?.unwrap_or_default();
        let listed: BTreeSet<usize> = luns.iter().map(|lun| lun.unit).collect();
        let mut selected = Vec::new();
        for volume in volumes.iter().filter(|volume| volume.has_device) {
            if prefix.is_some_and(|prefix| !volumes::is_within(&volume.name, prefix)) {
                continue;
            }
            let same = |unit: &UnitDraft| unit.data.path() == volume.name;
            let unit = match self.draft.units.iter().position(same) {
                Some(unit) => unit,
                None => {
                    let data = Data::Volume {
                        name: volume.name.clone(),
                        read_only: false,
                        write_back: false,
                    };
                    let unit = self.with_defaults(UnitDraft::of(data));
                    self.draft.units.push(unit);
                    self.draft.units.len() - 1
                }
            };
            if !listed.contains(&unit) {
                selected.push(LunDraft {
                    unit,
                    number: None,
                    hosts: None,
                });
            }
        }
        Ok(selected)
    }

    /// Initiators by their names and by the names of groups.
    fn hosts(&self, list: &Value) -> Result<Vec<String>> {
        let mut hosts = Vec::new();
        for host in list.list()? {
            // No group has a dot in its name, and every initiator has.
            match host.text()?.contains('.') {
                true => hosts.push(host.read(names::iqn)?),
                false => hosts.extend(self.group_of(&host)?.iter().cloned()),
            }
        }
        Ok(without_repeats(hosts))
    }

    fn group_of(&self, name: &Value) -> Result<&Vec<String>> {
        self.groups.get(name.text()?).ok_or_else(|| {
            name.error("is no group and no iSCSI name; expected a name in [groups], or one such as iqn.2025-01.com.example:host1")
        })
    }

    fn initiators(&self, table: &mut Table) -> Result<Option<Vec<InitiatorDraft>>> {
        let (list, details) = (table.take("initiators"), table.take("initiator"));
        if list.is_none() && details.is_none() {
            return Ok(None);
        }
        let mut initiators: Vec<InitiatorDraft> = match &list {
            Some(list) => self
                .hosts(list)?
                .into_iter()
                .map(InitiatorDraft::of)
                .collect(),
            None => Vec::new(),
        };
        let mut detailed = BTreeSet::new();
        let details = details.as_ref().map(Value::tables).transpose()?;
        for mut details in details.into_iter().flatten() {
            for initiator in self.initiator(&mut details)? {
                if !detailed.insert(initiator.name.clone()) {
                    return Err(details.error(format_args!(
                        "{} has an entry already; expected one",
                        initiator.name
                    )));
                }
                match initiators.iter_mut().find(|one| one.name == initiator.name) {
                    Some(listed) => *listed = initiator,
                    None => initiators.push(initiator),
                }
            }
            details.end()?;
        }
        Ok(Some(initiators))
    }

    fn initiator(&self, table: &mut Table) -> Result<Vec<InitiatorDraft>> {
        let names = match (table.take("name"), table.take("group")) {
            (Some(name), None) => vec![name.read(names::iqn)?],
            (None, Some(group)) => self.group_of(&group)?.clone(),
            _ => return Err(table.error("expected one of name and group")),
        };
        let chap = self.chap(table.take("chap"))?;
        let depth = match table.take("depth") {
            Some(depth) => Some(depth.small(1..=u64::from(u32::MAX))?),
            None => None,
        };
        let read_only = flag(table, "read_only")?;
        let view = match table.take("view") {
            Some(view) => Some(
                view.list()?
                    .iter()
                    .map(|lun| mapped(lun, read_only))
                    .collect::<Result<Vec<_>>>()?,
            ),
            None => None,
        };
        let initiator = |name| InitiatorDraft {
            name,
            chap: chap.clone(),
            depth,
            read_only,
            view: view.clone(),
        };
        Ok(names.into_iter().map(initiator).collect())
    }

    fn chap(&self, value: Option<Value>) -> Result<Option<Chap>> {
        let Some(value) = value else {
            return Ok(None);
        };
        let mut table = value.table()?;
        let user = table.take("user").map(|user| user.text()).transpose()?;
        let password = self.secret(&mut table, "password", "password_file")?;
        let mutual_user = table
            .take("mutual_user")
            .map(|user| user.text())
            .transpose()?;
        let mutual = self.secret(&mut table, "mutual_password", "mutual_password_file")?;
        let (Some(user), Some(password)) = (user, password) else {
            return Err(table.error("expected user, and password_file or password"));
        };
        let mutual = match (mutual_user, mutual) {
            (Some(user), Some(password)) => Some((user.to_owned(), password)),
            (None, None) => None,
            _ => {
                return Err(table.error(
                    "expected mutual_user and mutual_password_file or mutual_password, or none of them",
                ));
            }
        };
        table.end()?;
        Ok(Some(Chap {
            user: user.to_owned(),
            password,
            mutual,
        }))
    }

    fn secret(
        &self,
        table: &mut Table,
        inline: &'static str,
        file: &'static str,
    ) -> Result<Option<ocf::Secret>> {
        match (table.take(inline), table.take(file)) {
            (Some(secret), None) => {
                let text = secret.text()?;
                self.place
                    .private(self.place.path)
                    .map_err(|error| secret.wrong(format_args!("{error:#}")))?;
                Ok(Some(ocf::Secret::new(text)))
            }
            (None, Some(file)) => {
                let path = file.read(path)?;
                self.place
                    .password(&path)
                    .map(Some)
                    .map_err(|error| file.wrong(format_args!("{error:#}")))
            }
            (Some(_), Some(_)) => {
                Err(table.error(format_args!("expected only one of {inline} and {file}")))
            }
            (None, None) => Ok(None),
        }
    }
}

/// A truth value, false where there is none.
fn flag(table: &mut Table, key: &'static str) -> Result<bool> {
    table.take(key).map_or(Ok(false), |value| value.flag())
}

/// An entry of a view: a LUN's number, or a table.
fn mapped(value: &Value, read_only: bool) -> Result<Mapped> {
    let all = 0..=u64::from(u16::MAX);
    if value.is_number() {
        let number = value.small(all)?;
        return Ok(Mapped {
            number,
            lun: number,
            read_only,
        });
    }
    let mut table = value.table()?;
    let Some(lun) = table.take("lun") else {
        return Err(table.error("expected the key lun: the target's number"));
    };
    let lun = lun.small(all.clone())?;
    let number = match table.take("number") {
        Some(number) => number.small(all)?,
        None => lun,
    };
    let read_only = match table.take("read_only") {
        Some(flag) => flag.flag()?,
        None => read_only,
    };
    table.end()?;
    Ok(Mapped {
        number,
        lun,
        read_only,
    })
}

fn portals(table: &mut Table) -> Result<Option<Vec<Portal>>> {
    let Some(portals) = table.take("portals") else {
        return Ok(None);
    };
    let list = portals.list()?;
    if list.is_empty() {
        return Err(portals.error("is empty; expected at least one portal"));
    }
    list.iter()
        .map(|portal| portal.read(names::portal))
        .collect::<Result<_>>()
        .map(Some)
}

fn identity(table: &mut Table) -> Result<Option<Identity>> {
    let company = |text: &str| match text.len() {
        6 if text.bytes().all(|c| c.is_ascii_hexdigit()) => {
            u32::from_str_radix(text, 16).map_err(|error| error.to_string())
        }
        _ => Err("is no company number; expected 6 hex digits".into()),
    };
    let guid = table.take("guid");
    let serial = table.take("serial");
    let company_id = table
        .take("company_id")
        .map(|id| id.read(company))
        .transpose()?;
    match (guid, serial) {
        (Some(guid), None) if company_id.is_none() => guid.read(Identity::of_guid).map(Some),
        (None, Some(serial)) => serial
            .read(|text| Identity::of_serial(text, company_id))
            .map(Some),
        (None, None) if company_id.is_none() => Ok(None),
        _ => Err(table.error("expected guid, or serial and with it company_id if need be")),
    }
}

fn inquiry(table: &mut Table, key: &'static str, longest: usize) -> Result<Option<String>> {
    let Some(value) = table.take(key) else {
        return Ok(None);
    };
    let read = |text: &str| match !text.is_empty() && is_line(text, longest) {
        true => Ok(text.to_owned()),
        false => Err(format!(
            "cannot be told to initiators; expected 1 to {longest} printable ASCII characters, none of them blank at the ends"
        )),
    };
    value.read(read).map(Some)
}

fn block_size(table: &mut Table) -> Result<Option<u32>> {
    let Some(value) = table.take("block_size") else {
        return Ok(None);
    };
    let bytes = value.small(0..=u64::from(u32::MAX))?;
    volumes::block_size(bytes)
        .map(Some)
        .map_err(|error| value.error(error))
}

/// A size in bytes, or with K, M, G or T for powers of 1024.
fn bytes(value: &Value) -> Result<u64> {
    let is_good = |bytes: &u64| (1..=LARGEST).contains(bytes);
    if value.is_number() {
        return value.number(1..=LARGEST);
    }
    let read = |text: &str| {
        let digits = text.trim_end_matches(['K', 'M', 'G', 'T']);
        let shift = match &text[digits.len()..] {
            "" => Some(0),
            "K" => Some(10),
            "M" => Some(20),
            "G" => Some(30),
            "T" => Some(40),
            _ => None,
        };
        let number: Option<u64> = digits
            .parse()
            .ok()
            .filter(|_| digits.bytes().all(|c| c.is_ascii_digit()));
        number
            .zip(shift)
            .and_then(|(number, shift)| number.checked_mul(1u64 << shift))
            .filter(is_good)
            .ok_or_else(|| {
                "is not a size; expected bytes, or a number with K, M, G or T".to_owned()
            })
    };
    value.read(read)
}

/// Attributes of the kernel.
fn attributes(value: Option<Value>) -> Result<BTreeMap<String, String>> {
    settings(value, "1", "0")
}

/// Names and values that are written into attributes as they are.
fn settings(value: Option<Value>, yes: &str, no: &str) -> Result<BTreeMap<String, String>> {
    let mut found = BTreeMap::new();
    let table = value.map(|value| value.table()).transpose()?;
    for (name, value) in table.into_iter().flat_map(|mut table| table.rest()) {
        let is_name =
            !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
        if !is_name {
            return Err(value.wrong("the name has other characters than letters, digits and _"));
        }
        if name == "block_size" {
            return Err(
                value.wrong("expected as a key of the unit itself, not among its attributes")
            );
        }
        let text = value.scalar(yes, no)?;
        if !is_line(&text, 255) || text.is_empty() {
            return Err(value.error(
                "cannot be written into an attribute; expected printable ASCII characters",
            ));
        }
        found.insert(name.to_owned(), text);
    }
    Ok(found)
}

/// A path that the kernel takes in a list of options, where commas end it.
fn path(text: &str) -> Result<String, String> {
    let good = text.starts_with('/')
        && text.len() < 512
        && !text.ends_with('/')
        && !text.chars().any(|c| c == ',' || c.is_control());
    match good {
        true => Ok(text.to_owned()),
        false => {
            Err("is not a path that can be used; expected an absolute one without commas".into())
        }
    }
}

fn unit_name(text: &str) -> Result<String, String> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "._:+%-".contains(c);
    let good = text.starts_with(|c: char| c.is_ascii_alphanumeric()) && text.chars().all(allowed);
    match good && text.len() <= LONGEST_NAME {
        true => Ok(text.to_owned()),
        false => Err(format!(
            "is not a unit's name; expected a letter or a digit, then letters, digits, and . _ : + % -, at most {LONGEST_NAME} characters"
        )),
    }
}

fn without_repeats(names: Vec<String>) -> Vec<String> {
    let mut known = BTreeSet::new();
    names
        .into_iter()
        .filter(|name| known.insert(name.clone()))
        .collect()
}
