//! What there is in configfs: directories with their attributes, and what the kernel remembers of each.

use std::collections::BTreeMap;

use nix::errno::Errno;

use super::engine::Engine;
use super::reservations::Reserved;

/// A directory of configfs.
pub(super) struct Item {
    pub kind: Kind,
    /// Made by the kernel, together with the one above it: it also goes with that, and only so.
    pub standing: bool,
    pub attributes: BTreeMap<&'static str, Attribute>,
    pub children: BTreeMap<String, Item>,
    /// Links in it, and where they lead.
    pub links: BTreeMap<String, Vec<String>>,
}

/// A file in it.
#[derive(Clone)]
pub(super) struct Attribute {
    /// All that is read, with the newline.
    pub value: String,
    /// What reading answers instead.
    pub unreadable: Option<Errno>,
    pub store: Store,
}

/// What comes of writing into an attribute.
#[derive(Clone, Copy)]
pub(super) enum Store {
    /// It cannot be written.
    Never,
    /// It is accepted and changes nothing.
    Ignored,
    /// A number from, and to.
    Number(u32, u32),
    /// Yes or no.
    Flag,
    /// Has a rule of its own, which is given the directory's place, the attribute's name and the text.
    By(fn(&mut Engine, &[String], &'static str, &str) -> Result<(), Errno>),
}

/// What a directory is, and what of it no attribute shows.
pub(super) enum Kind {
    /// The file system itself.
    Root,
    /// target/
    Target,
    /// target/core/
    Core,
    /// core/alua/lu_gps/
    LuGroups,
    /// A group of logical units.
    LuGroup { id: Option<u16> },
    /// core/iblock_0/
    Hba { plugin: Plugin },
    /// core/iblock_0/x/
    Backstore(Box<Backstore>),
    /// core/iblock_0/x/alua/
    PortGroups { next_id: u16 },
    /// A target port group.
    PortGroup(PortGroup),
    /// target/iscsi/
    Fabric,
    /// iscsi/iqn.x/
    Iqn,
    /// iqn.x/tpgt_1/
    Tpg(Tpg),
    /// tpgt_1/lun/
    Luns,
    /// lun/lun_0/
    Lun(Lun),
    /// tpgt_1/np/
    Portals,
    /// np/10.0.0.1:3260/
    Portal(Portal),
    /// tpgt_1/acls/
    Acls,
    /// acls/iqn.y/
    Acl(Acl),
    /// acls/iqn.y/lun_0/
    Mapped { number: u64 },
    /// statistics/, in which nothing can be made.
    Statistics,
    /// Anything with user name and password.
    Auth(Auth),
    /// A directory that only has attributes.
    Plain,
}

/// The kinds of backstores.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Plugin {
    Iblock,
    Fileio,
    Ramdisk,
}

/// What the kernel knows of a backstore.
pub(super) struct Backstore {
    pub plugin: Plugin,
    /// The device or file it was told to use.
    pub path: Option<String>,
    pub size: Option<u64>,
    pub buffered: bool,
    pub asynchronous: bool,
    pub read_only: u64,
    pub pages: Option<u32>,
    pub null_io: bool,
    /// The depth somebody asked for.
    pub queue_depth: u32,
    /// What it has opened, once it is enabled.
    pub opened: Option<Opened>,
    pub reserved: Reserved,
}

/// What a backstore has opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Opened {
    /// The path on the machine, with no links in it; empty for memory.
    pub path: String,
    /// The device's number, major and minor.
    pub number: (u32, u32),
    /// It is a block device.
    pub block: bool,
    /// How many blocks can be discarded at once, if any.
    pub discards: Option<Discards>,
}

/// What a device says of discarding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Discards {
    pub blocks: u32,
    pub granularity: u32,
}

/// What the kernel knows of a target port group.
pub(super) struct PortGroup {
    pub id: Option<u16>,
    pub implicit: bool,
    pub explicit: bool,
}

/// What the kernel knows of a target portal group.
pub(super) struct Tpg {
    pub tag: u16,
    pub enabled: bool,
    /// The relative target port identifier.
    pub rtpi: u16,
    pub rtpi_was_set: bool,
}

/// What the kernel knows of a LUN.
pub(super) struct Lun {
    pub number: u64,
    /// The place of its backstore.
    pub backstore: Option<Vec<String>>,
    /// The name of its target port group.
    pub group: String,
}

/// Where a portal listens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Portal(pub std::net::SocketAddr);

/// What the kernel knows of an initiator.
#[derive(Default)]
pub(super) struct Acl {
    /// What it sees, by the number it sees it with.
    pub seen: BTreeMap<u64, Seen>,
    /// Is it logged in?
    pub session: bool,
}

/// A LUN as an initiator sees it.
pub(super) struct Seen {
    /// The place of the LUN.
    pub lun: Vec<String>,
    pub read_only: bool,
}

/// Which of user names and passwords count as set.
#[derive(Default)]
pub(super) struct Auth {
    pub userid_mutual: bool,
    pub password_mutual: bool,
    /// A longer value is cut off, where others refuse it.
    pub cuts: bool,
}

impl Item {
    pub(super) fn new(kind: Kind) -> Item {
        Item {
            kind,
            standing: false,
            attributes: BTreeMap::new(),
            children: BTreeMap::new(),
            links: BTreeMap::new(),
        }
    }

    /// With a directory in it that the kernel makes.
    pub(super) fn with(mut self, name: &str, mut child: Item) -> Item {
        child.standing = true;
        self.children.insert(name.to_owned(), child);
        self
    }

    /// With empty directories in it that the kernel makes.
    pub(super) fn with_plain(self, names: &[&str]) -> Item {
        names
            .iter()
            .fold(self, |item, name| item.with(name, Item::new(Kind::Plain)))
    }

    /// With an attribute, which shows this and a newline.
    pub(super) fn attribute(self, name: &'static str, value: impl ToString, store: Store) -> Item {
        self.verbatim(name, format!("{}\n", value.to_string()), store)
    }

    /// With an attribute, which shows exactly this.
    pub(super) fn verbatim(
        mut self,
        name: &'static str,
        value: impl Into<String>,
        store: Store,
    ) -> Item {
        let attribute = Attribute {
            value: value.into(),
            unreadable: None,
            store,
        };
        self.attributes.insert(name, attribute);
        self
    }

    /// With attributes that nobody can write, each showing this and a newline.
    pub(super) fn constants(self, names: &[&'static str], value: impl ToString) -> Item {
        let value = value.to_string();
        names.iter().fold(self, |item, name| {
            item.attribute(name, &value, Store::Never)
        })
    }

    /// With an attribute that cannot be read.
    pub(super) fn unreadable(self, name: &'static str, answer: Errno, store: Store) -> Item {
        let mut item = self.verbatim(name, "", store);
        if let Some(attribute) = item.attributes.get_mut(name) {
            attribute.unreadable = Some(answer);
        }
        item
    }
}

impl Plugin {
    pub(super) fn named(name: &str) -> Option<Plugin> {
        [Plugin::Iblock, Plugin::Fileio, Plugin::Ramdisk]
            .into_iter()
            .find(|plugin| plugin.name() == name)
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Plugin::Iblock => "iblock",
            Plugin::Fileio => "fileio",
            Plugin::Ramdisk => "rd_mcp",
        }
    }

    /// As an initiator sees it, unless told otherwise.
    pub(super) fn product(self) -> &'static str {
        match self {
            Plugin::Iblock => "IBLOCK",
            Plugin::Fileio => "FILEIO",
            Plugin::Ramdisk => "RAMDISK-MCP",
        }
    }
}
