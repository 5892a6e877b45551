//! The target engine: all that was configured, and what each change brings about.

use std::collections::{BTreeMap, BTreeSet};

use nix::errno::Errno;

use super::items::{Backstore, Item, Kind, Lun, Portal, Store, Tpg};
use super::shown::{Shown, Texts};
use super::{Disk, LioKernel, alua, backstore, iscsi};
use crate::testing::Tree;

/// Where configfs is mounted.
pub(super) const CONFIGFS: &str = "/sys/kernel/config";

const ENGINE_VERSION: &str = "v5.0";

/// LIO, as it is in the kernel.
pub(crate) struct Engine {
    pub(super) root: Item,
    pub(super) kernel: LioKernel,
    pub(super) tree: Tree,
    /// The number of the next HBA. The first belongs to the engine itself.
    pub(super) next_hba: u32,
    /// What the test said of devices.
    pub(super) disks: BTreeMap<String, Disk>,
    /// Where others listen.
    pub(super) others_listen: Vec<Portal>,
    /// What the test tree shows of it.
    shown: Shown,
    texts: Texts,
}

impl Engine {
    pub(crate) fn new(kernel: LioKernel, tree: Tree) -> Engine {
        let mut engine = Engine {
            root: Item::new(Kind::Root),
            kernel,
            tree,
            next_hba: 1,
            disks: BTreeMap::new(),
            others_listen: Vec::new(),
            shown: Shown::default(),
            texts: Texts::new(),
        };
        engine.tree.remove(CONFIGFS);
        engine.tree.mkdir(CONFIGFS);
        if engine.kernel.loaded {
            engine.load();
        }
        engine
    }

    /// The module target_core_mod is loaded.
    pub(super) fn load(&mut self) {
        if self.root.children.contains_key("target") {
            return;
        }
        let preferred = "/etc/target";
        let dbroot = match self.tree.path(preferred).is_dir() {
            true => preferred,
            false => "/var/target",
        };
        let version = format!(
            "Target Engine Core ConfigFS Infrastructure {ENGINE_VERSION} on Linux/x86_64 on {}",
            self.kernel.release
        );
        let lu_groups = Item::new(Kind::LuGroups).with("default_lu_gp", alua::lu_group(Some(0)));
        let core =
            Item::new(Kind::Core).with("alua", Item::new(Kind::Plain).with("lu_gps", lu_groups));
        let target = Item::new(Kind::Target)
            .attribute("version", version, Store::Never)
            .attribute("dbroot", dbroot, Store::By(set_dbroot))
            .with("core", core);
        self.root = Item::new(Kind::Root).with("target", target);
        self.refresh();
    }

    /// What comes into being when a directory is made in another.
    pub(super) fn make(&mut self, parent: &[String], name: &str) -> Result<Item, Errno> {
        let kind = self.item(parent).map(|item| &item.kind);
        let made = match kind.ok_or(Errno::ENOENT)? {
            Kind::Target => iscsi::fabric(self, name),
            Kind::Core => backstore::hba(self, name),
            Kind::Hba { plugin } => backstore::new(self, *plugin),
            Kind::LuGroups => Ok(alua::lu_group(None)),
            Kind::PortGroups { .. } => Ok(alua::port_group(None)),
            Kind::Fabric => iscsi::target(self, name),
            Kind::Iqn => iscsi::tpg(self, name),
            Kind::Luns => iscsi::lun(name),
            Kind::Portals => iscsi::portal(self, parent, name),
            Kind::Acls => iscsi::acl(self, parent),
            Kind::Acl(_) => iscsi::mapped_lun(name),
            Kind::Statistics => Err(Errno::ENOSYS),
            _ => Err(Errno::EPERM),
        };
        let made = made?;
        if let Kind::Hba { .. } = made.kind {
            self.next_hba += 1;
        }
        Ok(made.without(&self.kernel.lacks))
    }

    /// May there be links in this directory?
    pub(super) fn may_have_links(&self, parent: &[String]) -> Result<(), Errno> {
        match self.item(parent).map(|item| &item.kind) {
            Some(Kind::Lun(_) | Kind::Mapped { .. }) => Ok(()),
            _ => Err(Errno::EPERM),
        }
    }

    /// A link is made.
    pub(super) fn link(&mut self, parent: &[String], target: &[String]) -> Result<(), Errno> {
        match self.item(parent).map(|item| &item.kind) {
            Some(Kind::Lun(_)) => iscsi::export(self, parent, target),
            Some(Kind::Mapped { .. }) => iscsi::map(self, parent, target),
            _ => Err(Errno::EPERM),
        }
    }

    /// A link was removed.
    pub(super) fn unlinked(&mut self, parent: &[String], target: &[String]) {
        match self.item(parent).map(|item| &item.kind) {
            Some(Kind::Lun(_)) => iscsi::unexport(self, parent),
            Some(Kind::Mapped { .. }) => iscsi::unmap(self, parent, target),
            _ => {}
        }
    }

    /// A directory was removed.
    pub(super) fn released(&mut self, place: &[String], gone: Item) {
        match gone.kind {
            Kind::PortGroup(_) => alua::disband(self, place),
            Kind::LuGroup { .. } => alua::disband_lu_group(self, place),
            _ => {}
        }
    }

    /// The backstore at a place.
    pub(super) fn backstore(&self, place: &[String]) -> Option<&Backstore> {
        match self.item(place).map(|item| &item.kind) {
            Some(Kind::Backstore(backstore)) => Some(backstore),
            _ => None,
        }
    }

    /// The backstore at a place, which is one.
    pub(super) fn backstore_mut(&mut self, place: &[String]) -> &mut Backstore {
        match &mut self.item_mut(place).kind {
            Kind::Backstore(backstore) => backstore,
            _ => panic!("{} is no backstore", place.join("/")),
        }
    }

    /// The LUN at a place.
    pub(super) fn lun(&self, place: &[String]) -> Option<&Lun> {
        match self.item(place).map(|item| &item.kind) {
            Some(Kind::Lun(lun)) => Some(lun),
            _ => None,
        }
    }

    /// The LUN at a place, which is one.
    pub(super) fn lun_mut(&mut self, place: &[String]) -> &mut Lun {
        match &mut self.item_mut(place).kind {
            Kind::Lun(lun) => lun,
            _ => panic!("{} is no LUN", place.join("/")),
        }
    }

    /// The portal group at a place, which is one.
    pub(super) fn tpg_mut(&mut self, place: &[String]) -> &mut Tpg {
        match &mut self.item_mut(place).kind {
            Kind::Tpg(tpg) => tpg,
            _ => panic!("{} is no portal group", place.join("/")),
        }
    }

    /// The places of all LUNs that a backstore is exported by.
    pub(super) fn exports(&self, backstore: &[String]) -> Vec<Vec<String>> {
        let mut found = Vec::new();
        for (iqn, tpg, lun, item) in self.luns() {
            if let Kind::Lun(Lun {
                backstore: Some(of),
                ..
            }) = &item.kind
            {
                if of == backstore {
                    let place = ["target", "iscsi", iqn, tpg, "lun", lun];
                    found.push(place.map(str::to_owned).to_vec());
                }
            }
        }
        found
    }

    /// All LUNs, by the names of target, portal group and LUN.
    fn luns(&self) -> impl Iterator<Item = (&str, &str, &str, &Item)> {
        let fabric = self.root.children.get("target");
        let fabric = fabric.and_then(|target| target.children.get("iscsi"));
        let targets = fabric.into_iter().flat_map(|fabric| &fabric.children);
        targets
            .flat_map(|(iqn, target)| {
                target
                    .children
                    .iter()
                    .map(move |(tpg, item)| (iqn, tpg, item))
            })
            .filter_map(|(iqn, tpg, item)| Some((iqn, tpg, item.children.get("lun")?)))
            .flat_map(|(iqn, tpg, luns)| {
                let luns = luns.children.iter();
                luns.map(move |(lun, item)| (iqn.as_str(), tpg.as_str(), lun.as_str(), item))
            })
    }

    /// Brings what is derived up to date, and what the test tree shows of it all.
    pub(super) fn refresh(&mut self) {
        let mut derived: Vec<(Vec<String>, &'static str, Result<String, Errno>)> = Vec::new();
        for (place, item) in self.items() {
            let found = match &item.kind {
                Kind::Backstore(backstore) => backstore::derived(self, &place, backstore),
                Kind::LuGroup { id } => alua::derived_of_lu_group(self, &place, *id),
                Kind::PortGroup(group) => alua::derived_of_group(self, &place, group),
                Kind::Lun(lun) => alua::derived_of_lun(self, &place, lun),
                Kind::Acl(acl) => iscsi::derived_of_acl(&place, acl),
                Kind::Mapped { number } => iscsi::derived_of_mapped(self, &place, *number),
                _ => Vec::new(),
            };
            derived.extend(found.into_iter().map(|(below, name, value)| {
                let mut place = place.clone();
                place.extend(below.iter().map(|name| (*name).to_owned()));
                (place, name, value)
            }));
        }
        for (place, name, value) in derived {
            if let Some(attribute) = self.item_mut(&place).attributes.get_mut(name) {
                attribute.unreadable = value.as_ref().err().copied();
                attribute.value = value.unwrap_or_default();
            }
        }
        self.appear();
    }

    /// Changes the test tree where it shows something else.
    fn appear(&mut self) {
        self.shown
            .follow(&self.root, &self.tree, &mut self.texts, CONFIGFS);
    }

    /// The whole configuration, one line each.
    pub(super) fn snapshot(&self) -> String {
        let mut lines = String::new();
        self.shown.describe("", &mut lines);
        lines
    }
}

/// What belongs into an attribute of a directory below the one it was derived for.
pub(super) type Derived = Vec<(&'static [&'static str], &'static str, Result<String, Errno>)>;

fn set_dbroot(
    engine: &mut Engine,
    place: &[String],
    name: &'static str,
    text: &str,
) -> Result<(), Errno> {
    if engine
        .items()
        .iter()
        .any(|(_, item)| matches!(item.kind, Kind::Backstore(_)))
    {
        return Err(Errno::EINVAL);
    }
    let path = text.strip_suffix('\n').unwrap_or(text);
    let at = engine.tree.path(path);
    if !path.starts_with('/') || !at.exists() {
        return Err(Errno::ENOENT);
    }
    if !at.is_dir() {
        return Err(Errno::ENOTDIR);
    }
    // Without a newline there is no end to it, and the rest of a longer one before remains.
    let before = engine.shows(place, name).to_owned();
    let rest = match text.ends_with('\n') {
        true => "",
        false => before.get(path.len()..).unwrap_or_default(),
    };
    engine.show(place, name, format!("{path}{rest}\n"));
    Ok(())
}

impl Item {
    /// Without the attributes that this kernel does not have.
    fn without(mut self, lacking: &BTreeSet<String>) -> Item {
        self.attributes.retain(|name, _| !lacking.contains(*name));
        let children = std::mem::take(&mut self.children);
        self.children = children
            .into_iter()
            .map(|(name, child)| (name, child.without(lacking)))
            .collect();
        self
    }
}
