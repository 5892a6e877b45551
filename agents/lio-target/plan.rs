//! From what is there to what is wanted: the steps, in the order that the kernel and the initiators need.
//!
//! A unit has its identity and its reservations before it becomes a LUN; a target has its LUNs, ACLs and credentials before
//! it listens; it is enabled last. What goes, goes in the opposite order, and before anything new comes.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result};
use host::Host;
use probe::lio::{self, Group, Store};

use crate::own::{Found, FoundGroup, Own};
use crate::reservations::Kept;
use crate::steps::{Absent, Setting, Step};
use crate::wanted::{Access, Backing, Chap, Initiator, Lun, Target, Unit, Wanted};
use crate::{alua, device};

/// How a plan is made.
pub struct Making<'a> {
    /// Whose it is.
    pub own: &'a Own,
    /// What is wanted.
    pub wanted: &'a Wanted,
    /// Reservations that are to be there before anybody can use a unit, by the unit's name.
    pub kept: &'a BTreeMap<String, Kept>,
    /// How this node offers its units: alone, or one of two that share them.
    pub access: Option<&'a alua::Role>,
    /// An attribute that this kernel does not have is an error.
    pub strict: bool,
}

impl Making<'_> {
    /// The backstore of a unit.
    pub fn store(&self, unit: &Unit) -> Store {
        self.own.store(unit, self.stands_by())
    }

    fn stands_by(&self) -> bool {
        self.access.is_some_and(|role| !role.is_active)
    }

    /// The steps from `found` to what is wanted.
    pub fn steps(&self, host: &Host, found: &Found) -> Result<Vec<Step>> {
        let mut plan = Plan {
            host,
            steps: Vec::new(),
            gone: BTreeSet::new(),
            made: BTreeSet::new(),
            ports: None,
        };
        self.take_away(&mut plan, found)?;
        for unit in &self.wanted.units {
            self.unit(&mut plan, unit)?;
        }
        for target in &self.wanted.targets {
            self.target(&mut plan, target)
                .with_context(|| format!("target {}", target.iqn))?;
        }
        Ok(plan.steps)
    }

    /// What is there and not wanted, or not like that.
    fn take_away(&self, plan: &mut Plan, found: &Found) -> Result<()> {
        let mut rebuilt = BTreeSet::new();
        let mut leaving = Vec::new();
        for store in &found.stores {
            let unit = self
                .wanted
                .units
                .iter()
                .find(|unit| self.store(unit) == *store);
            match unit {
                Some(unit) if self.is_like(plan.host, store, unit)? => continue,
                Some(_) => {}
                None => leaving.push(store.clone()),
            }
            rebuilt.insert(store.clone());
        }
        let mut staying = Vec::new();
        for group in found.groups() {
            let target = self
                .wanted
                .targets
                .iter()
                .find(|target| target.iqn == group.group.iqn && target.tag == group.group.tag);
            let target = match target {
                Some(target) if lets_strangers_stay(plan.host, group, target)? => None,
                target => target,
            };
            if target.is_none() {
                // With its LUNs the kernel forgets the reservations of those that are made again. It takes them only for a
                // backstore that nobody uses yet.
                let links = group.luns.values().flatten();
                let stores = links.filter_map(|link| link.store.clone());
                rebuilt.extend(stores.filter(|store| found.stores.contains(store)));
            }
            staying.push((group, target));
        }
        for (group, target) in staying {
            match target {
                Some(target) => self.take_from_group(plan, group, target, &rebuilt),
                None => take_group(plan, group, is_enabled(plan.host, group)),
            }
        }
        for iqn in found.targets.keys() {
            if !self.wanted.targets.iter().any(|target| target.iqn == *iqn) {
                plan.remove(format!("{}/{iqn}", lio::ISCSI));
            }
        }
        for store in &rebuilt {
            take_store(plan, store)?;
        }
        let used: BTreeSet<String> = self
            .wanted
            .units
            .iter()
            .map(|unit| self.store(unit).hba)
            .collect();
        for hba in found.hbas.iter().filter(|hba| !used.contains(*hba)) {
            plan.remove_if_empty(format!("{}/{hba}", lio::CORE));
        }
        Ok(())
    }

    fn take_from_group(
        &self,
        plan: &mut Plan,
        found: &FoundGroup,
        target: &Target,
        rebuilt: &BTreeSet<Store>,
    ) {
        let dir = found.group.dir();
        let stays = |lun: u16| {
            let store = target
                .luns
                .iter()
                .find(|known| known.number == lun)
                .and_then(|known| self.wanted.unit(&known.unit))
                .map(|unit| self.store(unit));
            store.is_some_and(|store| found.store(lun) == Some(&store) && !rebuilt.contains(&store))
        };
        let initiators = match &target.access {
            Access::Anyone => &[][..],
            Access::Only(initiators) => initiators,
        };
        for (name, mapped) in &found.acls {
            let known = initiators.iter().find(|initiator| initiator.name == *name);
            for (number, links) in mapped {
                let right = |known: &Initiator| {
                    let lun = known.luns.iter().find(|lun| lun.number == *number);
                    lun.is_some_and(|lun| {
                        links.len() == 1 && links[0].lun == Some(lun.lun) && stays(lun.lun)
                    })
                };
                if !known.is_some_and(right) {
                    let dir = format!("{dir}/acls/{name}/lun_{number}");
                    take_links(plan, &dir, links.iter().map(|link| &link.name));
                    plan.remove(dir);
                }
            }
            if known.is_none() {
                plan.remove(format!("{dir}/acls/{name}"));
            }
        }
        for (number, links) in found.luns.iter().filter(|(number, _)| !stays(**number)) {
            let dir = format!("{dir}/lun/lun_{number}");
            take_links(plan, &dir, links.iter().map(|link| &link.name));
            plan.remove(dir);
        }
        for portal in &found.portals {
            if !target
                .portals
                .iter()
                .any(|known| known.to_string() == *portal)
            {
                plan.remove(format!("{dir}/np/{portal}"));
            }
        }
    }

    /// Can this backstore stay as it is, apart from what may change while it is used?
    fn is_like(&self, host: &Host, store: &Store, unit: &Unit) -> Result<bool> {
        let dir = store.dir();
        if lio::is_configured(host, store)? != Some(true) {
            return Ok(false);
        }
        let shows_path = |path: &str| -> Result<bool> {
            Ok(shown(host, &format!("{dir}/udev_path"))?.as_deref() == Some(path))
        };
        let same_device = match (&unit.backing, self.access) {
            (_, Some(role)) if !role.is_active => {
                lio::pages(host, store)? == Some(role.pages(unit))
            }
            (
                Backing::Block {
                    path, read_only, ..
                },
                _,
            ) => match device::class(host, path)? {
                Some(class) => {
                    let same = device::number(host, &class)? == lio::device(host, store)?;
                    same && lio::is_read_only(host, store)?.is_none_or(|is| is == *read_only)
                }
                None => false,
            },
            (
                Backing::File {
                    path,
                    size,
                    write_back,
                },
                _,
            ) => {
                let opened = lio::file(host, store)?;
                let same = opened.is_none_or(|it| {
                    size.is_none_or(|size| size == it.size) && *write_back == it.is_buffered
                });
                same && shows_path(path)?
            }
            // What is behind it answers for itself.
            (Backing::Scsi { path }, _) => return shows_path(path),
        };
        let final_values = identity(unit);
        let same =
            |setting: &(String, String)| -> Result<bool> {
                Ok(shown(host, &format!("{dir}/{}", setting.0))?
                    .is_none_or(|value| value == setting.1))
            };
        let mut all = same_device;
        for setting in &final_values {
            all &= same(setting)?;
        }
        Ok(all)
    }

    fn unit(&self, plan: &mut Plan, unit: &Unit) -> Result<()> {
        let store = self.store(unit);
        let dir = store.dir();
        let origin = |what: &str| format!("unit {}: {what}", unit.name);
        plan.make(format!("{}/{}", lio::CORE, store.hba));
        let is_new = plan.make(dir.clone());
        if is_new {
            let control = match self.access {
                Some(role) if !role.is_active => role.stand_in(unit),
                _ => control(plan.host, unit)?,
            };
            let path = unit.backing.path();
            plan.write(&dir, "udev_path", path, &origin("device"), Absent::Fail);
            plan.write(&dir, "control", &control, &origin("device"), Absent::Fail);
            plan.write(
                &dir,
                "enable",
                "1",
                &format!("unit {}: opening {path}", unit.name),
                Absent::Fail,
            );
        }
        let has_own = |name: &str| unit.attributes.iter().any(|(known, _)| known == name);
        // What is behind pscsi answers for itself.
        if !matches!(unit.backing, Backing::Scsi { .. }) || self.stands_by() {
            // A model that is the device's path differs between hosts. Before the product, which it sets, too.
            if !has_own("emulate_model_alias") {
                plan.set(
                    &dir,
                    "attrib/emulate_model_alias",
                    "0",
                    &origin("model"),
                    Absent::Fine,
                )?;
            }
            for (name, value) in identity(unit) {
                let absent = match name.as_str() {
                    "wwn/company_id" | "wwn/revision" | "wwn/vendor_id" => Absent::Warn,
                    _ => Absent::Fail,
                };
                plan.set(&dir, &name, &value, &origin(&name), absent)?;
            }
        }
        let absent = match self.strict {
            // A stand-in cannot do what its device can.
            _ if self.stands_by() => Absent::Fine,
            true => Absent::Fail,
            false => Absent::Warn,
        };
        if let Backing::File { write_back, .. } = unit.backing {
            if !has_own("emulate_write_cache") {
                let value = if write_back { "1" } else { "0" };
                plan.set(
                    &dir,
                    "attrib/emulate_write_cache",
                    value,
                    &origin("write_back"),
                    absent,
                )?;
            }
        }
        for (name, value) in unit
            .attributes
            .iter()
            .filter(|(name, _)| name != "block_size")
        {
            plan.set(
                &dir,
                &format!("attrib/{name}"),
                value,
                &origin(name),
                absent,
            )?;
        }
        if let Some(role) = self.access {
            role.steps(plan, &dir, unit)?;
        }
        if let Some(kept) = self.kept.get(&unit.name) {
            kept.steps(plan, &store, is_new, &origin("reservations"))?;
        }
        Ok(())
    }

    fn target(&self, plan: &mut Plan, target: &Target) -> Result<()> {
        let group = Group {
            iqn: target.iqn.clone(),
            tag: target.tag,
        };
        let dir = group.dir();
        plan.make(lio::ISCSI.to_owned());
        plan.make(format!("{}/{}", lio::ISCSI, target.iqn));
        plan.make(dir.clone());
        self.properties(plan, &dir, target)?;
        for lun in &target.luns {
            self.lun(plan, &dir, lun)?;
        }
        if let Access::Only(initiators) = &target.access {
            for initiator in initiators {
                self.initiator(plan, &dir, target, initiator)?;
            }
        }
        for portal in &target.portals {
            let np = format!("{dir}/np/{portal}");
            plan.make(np.clone());
            if portal.iser {
                plan.set(&np, "iser", "1", ISER, Absent::Fail)?;
            } else if !plan.is_new(&np) {
                plan.set(&np, "iser", "0", ISER, Absent::Fine)?;
            }
        }
        if plan.made.contains(&dir) || lio::is_enabled(plan.host, &group)? != Some(true) {
            plan.write(&dir, "enable", "1", "enable", Absent::Fail);
        }
        Ok(())
    }

    fn properties(&self, plan: &mut Plan, dir: &str, target: &Target) -> Result<()> {
        let given = |list: &[(String, String)], name: &str| list.iter().any(|(n, _)| n == name);
        let strict = match self.strict {
            true => Absent::Fail,
            false => Absent::Warn,
        };
        if !given(&target.parameters, "TargetAlias") {
            let alias = self.own.alias();
            plan.set(dir, "param/TargetAlias", &alias, "alias", Absent::Fail)?;
        }
        // Settable only while the group is disabled.
        if plan.made.contains(dir) {
            if let Some(number) = self.port(plan, target)? {
                let number = number.to_string();
                plan.set(dir, "rtpi", &number, "relative port", Absent::Fine)?;
            }
        }
        let anyone = target.access == Access::Anyone;
        let chap = target.chap.is_some()
            || matches!(&target.access, Access::Only(all) if all.iter().any(|i| i.chap.is_some()));
        let yes_no = |on: bool| if on { "1" } else { "0" };
        for (name, value) in [
            ("generate_node_acls", yes_no(anyone)),
            ("cache_dynamic_acls", yes_no(anyone)),
            (
                "demo_mode_write_protect",
                yes_no(!anyone || self.is_read_only(target)),
            ),
            ("authentication", yes_no(chap)),
        ] {
            if !given(&target.attributes, name) {
                plan.set(dir, &format!("attrib/{name}"), value, name, Absent::Fail)?;
            }
        }
        for (name, value) in &target.attributes {
            plan.set(
                dir,
                &format!("attrib/{name}"),
                value,
                &format!("attribute {name}"),
                strict,
            )?;
        }
        for (name, value) in &target.parameters {
            plan.set(
                dir,
                &format!("param/{name}"),
                value,
                &format!("parameter {name}"),
                strict,
            )?;
        }
        credentials(plan, dir, target.chap.as_ref())
    }

    /// The number of a new target's port, the same whenever it is made; unless another port of this host has it: the kernel
    /// would not enable two. Then it is another one, of the kernel's choice where that makes no difference to initiators.
    fn port(&self, plan: &mut Plan, target: &Target) -> Result<Option<u16>> {
        let taken = plan.ports()?;
        let number = match self.access {
            None => Some(alua::port(&target.iqn)).filter(|number| !taken.contains(number)),
            Some(role) => {
                let first = role.port(&target.iqn);
                let mut others = (first..=u16::MAX).chain(1..first);
                others.find(|number| !taken.contains(number))
            }
        };
        taken.extend(number);
        Ok(number)
    }

    /// Has the target LUNs, none of which can be written to?
    fn is_read_only(&self, target: &Target) -> bool {
        let mut luns = target.luns.iter();
        luns.len() > 0 && luns.all(|lun| self.wanted.is_read_only(lun))
    }

    fn initiator(
        &self,
        plan: &mut Plan,
        dir: &str,
        target: &Target,
        initiator: &Initiator,
    ) -> Result<()> {
        let acl = format!("{dir}/acls/{}", initiator.name);
        plan.make(acl.clone());
        // An ACL does not take the group's credentials.
        credentials(plan, &acl, initiator.chap.as_ref().or(target.chap.as_ref()))
            .with_context(|| format!("initiator {}", initiator.name))?;
        if let Some(depth) = initiator.depth {
            let origin = format!("initiator {}: depth", initiator.name);
            plan.set(
                &acl,
                "cmdsn_depth",
                &depth.to_string(),
                &origin,
                Absent::Fail,
            )?;
        }
        for mapped in &initiator.luns {
            let at = format!("{acl}/lun_{}", mapped.number);
            plan.make(at.clone());
            plan.link(
                format!("{at}/lun_{}", mapped.lun),
                format!("{dir}/lun/lun_{}", mapped.lun),
            )?;
            // That the unit is read-only would not be enough: the kernel looks here alone.
            let mut luns = target.luns.iter();
            let lun = luns.find(|lun| lun.number == mapped.lun);
            let is_read_only =
                mapped.read_only || lun.is_some_and(|lun| self.wanted.is_read_only(lun));
            let value = if is_read_only { "1" } else { "0" };
            let origin = format!("initiator {}: LUN {}", initiator.name, mapped.number);
            plan.set(&at, "write_protect", value, &origin, Absent::Fail)?;
        }
        Ok(())
    }

    fn lun(&self, plan: &mut Plan, dir: &str, lun: &Lun) -> Result<()> {
        let unit = self
            .wanted
            .unit(&lun.unit)
            .with_context(|| format!("LUN {}: there is no unit {}", lun.number, lun.unit))?;
        let store = self.store(unit);
        let at = format!("{dir}/lun/lun_{}", lun.number);
        plan.make(at.clone());
        plan.link(format!("{at}/{}", store.name), store.dir())?;
        if let Some(role) = self.access {
            plan.set(
                &at,
                "alua_tg_pt_gp",
                &role.group_name(),
                "ALUA group",
                Absent::Fail,
            )?;
        }
        Ok(())
    }
}

/// The steps that take everything away.
pub fn removal(host: &Host, found: &Found) -> Result<Vec<Step>> {
    let mut plan = Plan {
        host,
        steps: Vec::new(),
        gone: BTreeSet::new(),
        made: BTreeSet::new(),
        ports: None,
    };
    for group in found.groups() {
        take_group(&mut plan, group, is_enabled(host, group));
    }
    for iqn in found.targets.keys() {
        plan.remove(format!("{}/{iqn}", lio::ISCSI));
    }
    for store in &found.stores {
        take_store(&mut plan, store)?;
    }
    for hba in &found.hbas {
        plan.remove_if_empty(format!("{}/{hba}", lio::CORE));
    }
    Ok(plan.steps)
}

/// Whoever could use a group as anybody goes on using it when only some may: the kernel has made an entry for each, which it
/// does not show, and asks nothing more of one that it has. Only with the group do they go.
fn lets_strangers_stay(host: &Host, group: &FoundGroup, target: &Target) -> Result<bool> {
    const OPEN: &str = "generate_node_acls";
    let attributes = target.attributes.iter();
    // An administrator may want both.
    let is_meant = attributes.rev().find(|(name, _)| name == OPEN);
    if target.access == Access::Anyone || is_meant.is_some_and(|(_, value)| value == "1") {
        return Ok(false);
    }
    let open = shown(host, &format!("{}/attrib/{OPEN}", group.group.dir()))?;
    Ok(open.as_deref() == Some("1"))
}

/// Doubt counts as enabled: that the kernel then refuses is seen.
fn is_enabled(host: &Host, group: &FoundGroup) -> bool {
    !matches!(lio::is_enabled(host, &group.group), Ok(Some(false) | None))
}

fn take_group(plan: &mut Plan, found: &FoundGroup, enabled: bool) {
    let dir = found.group.dir();
    if enabled {
        plan.write(&dir, "enable", "0", "disable", Absent::Fail);
    }
    for (initiator, luns) in &found.acls {
        for (number, links) in luns {
            let dir = format!("{dir}/acls/{initiator}/lun_{number}");
            take_links(plan, &dir, links.iter().map(|link| &link.name));
            plan.remove(dir);
        }
        plan.remove(format!("{dir}/acls/{initiator}"));
    }
    for (number, links) in &found.luns {
        let dir = format!("{dir}/lun/lun_{number}");
        take_links(plan, &dir, links.iter().map(|link| &link.name));
        plan.remove(dir);
    }
    for portal in &found.portals {
        plan.remove(format!("{dir}/np/{portal}"));
    }
    plan.remove(dir);
}

fn take_links<'a>(plan: &mut Plan, dir: &str, names: impl Iterator<Item = &'a String>) {
    for name in names {
        plan.unlink(format!("{dir}/{name}"));
    }
}

fn take_store(plan: &mut Plan, store: &Store) -> Result<()> {
    let dir = store.dir();
    for group in plan.host.list(&format!("{dir}/alua"))? {
        if group != alua::DEFAULT_GROUP {
            plan.remove(format!("{dir}/alua/{group}"));
        }
    }
    plan.remove(dir);
    Ok(())
}

/// What a portal needs for RDMA, in the words of a refusal.
const ISER: &str =
    "parameter iser_portals (an address that is there already, on an RDMA device): iser";

/// What clears a credential.
const NO_CREDENTIAL: &str = "NULL";

fn credentials(plan: &mut Plan, dir: &str, chap: Option<&Chap>) -> Result<()> {
    let mutual = chap.and_then(|chap| chap.mutual.as_ref());
    let values = [
        ("userid", chap.map(|chap| chap.user.as_str())),
        ("password", chap.map(|chap| chap.password.reveal())),
        ("userid_mutual", mutual.map(|(user, _)| user.as_str())),
        ("password_mutual", mutual.map(|(_, secret)| secret.reveal())),
    ];
    for (name, value) in values {
        let path = format!("auth/{name}");
        if !plan.is_new(dir) || value.is_some() {
            plan.set_secret(dir, &path, value.unwrap_or(NO_CREDENTIAL), name)?;
        }
    }
    Ok(())
}

/// What an initiator knows a unit by, with the attributes' paths. None of it may change while the unit is a LUN.
fn identity(unit: &Unit) -> Vec<(String, String)> {
    let mut all = vec![("wwn/vpd_unit_serial".to_owned(), unit.serial.clone())];
    let mut add = |name: &str, value: Option<String>| {
        all.extend(value.map(|value| (format!("wwn/{name}"), value)));
    };
    add("company_id", unit.company_id.map(|id| format!("{id:#08x}")));
    add("vendor_id", unit.vendor.clone());
    add("product_id", unit.product.clone());
    add("revision", unit.revision.clone());
    let block_size = unit
        .attributes
        .iter()
        .find(|(name, _)| name == "block_size");
    all.extend(block_size.map(|(name, value)| (format!("attrib/{name}"), value.clone())));
    all
}

/// How a backstore is told its device.
fn control(host: &Host, unit: &Unit) -> Result<String> {
    Ok(match &unit.backing {
        Backing::Block {
            path, read_only, ..
        } => {
            let read_only = u8::from(*read_only);
            format!("udev_path={path},readonly={read_only}")
        }
        Backing::File {
            path,
            size,
            write_back,
        } => {
            let size = match size {
                Some(size) => *size,
                None => host
                    .size(path)?
                    .with_context(|| format!("unit {}: {path} is not there", unit.name))?,
            };
            let cache = if *write_back { ",fd_buffered_io=1" } else { "" };
            format!("fd_dev_name={path},fd_dev_size={size}{cache}")
        }
        Backing::Scsi { path } => {
            let [host, channel, target, lun] = device::scsi_address(host, path)?;
            format!(
                "scsi_host_id={host},scsi_channel_id={channel},scsi_target_id={target},scsi_lun_id={lun}"
            )
        }
    })
}

/// The value of an attribute, None if there is no such attribute.
fn shown(host: &Host, path: &str) -> Result<Option<String>> {
    Ok(host.read(path)?.map(|text| lio::value(&text).to_owned()))
}

/// Steps in the making.
pub struct Plan<'a> {
    host: &'a Host,
    steps: Vec<Step>,
    /// What earlier steps remove.
    gone: BTreeSet<String>,
    /// What earlier steps make.
    made: BTreeSet<String>,
    /// The numbers of ports of this host, apart from those that earlier steps remove; read when they are needed.
    ports: Option<BTreeSet<u16>>,
}

impl Plan<'_> {
    /// Makes an object unless it is there. True if it is new.
    pub fn make(&mut self, path: String) -> bool {
        if self.made.contains(&path) {
            return false;
        }
        let is_there = self.host.is_dir(&path) && !self.gone.contains(&path);
        if !is_there {
            self.steps.push(Step::Make(path.clone()));
            self.made.insert(path);
        }
        !is_there
    }

    fn ports(&mut self) -> Result<&mut BTreeSet<u16>> {
        if self.ports.is_none() {
            let mut taken = BTreeSet::new();
            for iqn in lio::targets(self.host)? {
                for group in lio::groups(self.host, &iqn)? {
                    let dir = group.dir();
                    if !self.gone.contains(&dir) {
                        let text = shown(self.host, &format!("{dir}/rtpi"))?;
                        let digits = text.as_deref().and_then(|text| text.strip_prefix("0x"));
                        taken.extend(digits.and_then(|it| u16::from_str_radix(it, 16).ok()));
                    }
                }
            }
            self.ports = Some(taken);
        }
        Ok(self.ports.get_or_insert_default())
    }

    /// Do earlier steps make it?
    pub fn is_new(&self, path: &str) -> bool {
        self.made.contains(path)
    }

    /// Sets an attribute unless it has that value.
    pub fn set(
        &mut self,
        dir: &str,
        name: &str,
        value: &str,
        origin: &str,
        if_absent: Absent,
    ) -> Result<()> {
        let same = !self.is_new(dir)
            && shown(self.host, &format!("{dir}/{name}"))?.as_deref() == Some(value);
        if !same {
            self.write(dir, name, value, origin, if_absent);
        }
        Ok(())
    }

    fn set_secret(&mut self, dir: &str, name: &str, value: &str, origin: &str) -> Result<()> {
        let path = format!("{dir}/{name}");
        let is_set = !self.is_new(dir)
            && self.host.read(&path)?.is_some_and(|text| match value {
                NO_CREDENTIAL => text.trim_end().is_empty() || text.trim_end() == "NULL",
                value => text.trim_end_matches('\n') == value,
            });
        if !is_set {
            self.steps.push(Step::Set(Setting {
                path,
                value: value.to_owned(),
                origin: origin.to_owned(),
                secret: true,
                if_absent: Absent::Fail,
            }));
        }
        Ok(())
    }

    /// Sets an attribute, whatever it is now.
    pub fn write(&mut self, dir: &str, name: &str, value: &str, origin: &str, if_absent: Absent) {
        self.steps.push(Step::Set(Setting {
            path: format!("{dir}/{name}"),
            value: value.to_owned(),
            origin: origin.to_owned(),
            secret: false,
            if_absent,
        }));
    }

    /// Makes a link unless there is one.
    fn link(&mut self, path: String, target: String) -> Result<()> {
        let dir = path
            .rsplit_once('/')
            .map(|(dir, _)| dir)
            .unwrap_or_default();
        if self.is_new(dir) || lio::link(self.host, &path)?.is_none() {
            self.steps.push(Step::Link { path, target });
        }
        Ok(())
    }

    /// Makes a link outside configfs lead to `target`, wherever it led before.
    pub fn lead(&mut self, path: &str, target: &str) -> Result<()> {
        let before = lio::link(self.host, path)?;
        if before.as_deref() == Some(target) {
            return Ok(());
        }
        if before.is_some() {
            self.unlink(path.to_owned());
        }
        self.steps.push(Step::Link {
            path: path.to_owned(),
            target: target.to_owned(),
        });
        Ok(())
    }

    fn unlink(&mut self, path: String) {
        self.steps.push(Step::Unlink(path));
    }

    fn remove(&mut self, path: String) {
        self.gone.insert(path.clone());
        self.steps.push(Step::Remove(path));
    }

    fn remove_if_empty(&mut self, path: String) {
        self.steps.push(Step::RemoveIfEmpty(path));
    }
}
