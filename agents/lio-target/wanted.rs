//! What a resource is to put into the kernel, whoever says so: parameters, or a definition that lives on the storage.
//!
//! Numbers and names in here are final. Whatever was left open has been chosen before, the same on every node.

use std::fmt;
use std::net::IpAddr;

use ocf::Secret;

/// The targets of a resource, and the logical units behind them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// The logical units: each is one backstore.
    pub units: Vec<Unit>,
    /// The targets through which they are reached.
    pub targets: Vec<Target>,
}

impl Wanted {
    /// A unit by its name.
    pub fn unit(&self, name: &str) -> Option<&Unit> {
        self.units.iter().find(|unit| unit.name == name)
    }

    /// Is a LUN that of a unit to which nobody may write?
    pub fn is_read_only(&self, lun: &Lun) -> bool {
        let unit = self.unit(&lun.unit);
        unit.is_some_and(|unit| unit.backing.is_read_only())
    }
}

/// A logical unit: a device, and who it is to initiators.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unit {
    /// What this unit is called in the definition, unlike any other of the resource: the name of its backstore is made
    /// of it.
    pub name: String,
    /// Where the data is.
    pub backing: Backing,
    /// VPD page 0x80, from which the NAA identifier of page 0x83 is made.
    pub serial: String,
    /// The IEEE company number in the NAA identifier, 24 bits; the kernel's own (0x001405) if None.
    pub company_id: Option<u32>,
    /// At most 8 characters.
    pub vendor: Option<String>,
    /// At most 16 characters.
    pub product: Option<String>,
    /// At most 4 characters.
    pub revision: Option<String>,
    /// Attributes of the backstore (`attrib/NAME`) and their values, such as `block_size` and `emulate_tpu`.
    pub attributes: Vec<(String, String)>,
}

/// Where the data of a unit is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Backing {
    /// A block device (iblock).
    Block {
        /// Its path, on every node.
        path: String,
        /// Refuse writes.
        read_only: bool,
        /// Of a volume of ZFS: leave it to the volume whether data is written while it is in this host's memory only.
        write_back: bool,
    },
    /// A file (fileio).
    File {
        /// Its path.
        path: String,
        /// Its size in bytes; that of the file if None.
        size: Option<u64>,
        /// Say that data is written while it is in this host's memory only.
        write_back: bool,
    },
    /// A SCSI device whose commands are passed through (pscsi).
    Scsi {
        /// Its path, such as /dev/sg3 or /dev/sdc.
        path: String,
    },
}

impl Backing {
    /// May nobody write to it?
    pub fn is_read_only(&self) -> bool {
        matches!(
            self,
            Backing::Block {
                read_only: true,
                ..
            }
        )
    }

    /// The device's or file's path.
    pub fn path(&self) -> &str {
        match self {
            Backing::Block { path, .. } | Backing::File { path, .. } | Backing::Scsi { path } => {
                path
            }
        }
    }
}

/// A target with one target portal group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Its iSCSI name, in lower case.
    pub iqn: String,
    /// The number of its portal group.
    pub tag: u16,
    /// Where it listens.
    pub portals: Vec<Portal>,
    /// Attributes of the portal group (`attrib/NAME`) and their values.
    pub attributes: Vec<(String, String)>,
    /// Negotiated parameters (`param/NAME`) and their values.
    pub parameters: Vec<(String, String)>,
    /// What initiators without credentials of their own have to give.
    pub chap: Option<Chap>,
    /// Its LUNs, in the order in which they are made.
    pub luns: Vec<Lun>,
    /// Who may use it.
    pub access: Access,
}

/// A unit under a number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lun {
    /// The number, 0 to 65535.
    pub number: u16,
    /// The unit's [`Unit::name`].
    pub unit: String,
}

/// Who may use a target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Access {
    /// Any initiator, all LUNs.
    Anyone,
    /// These, and nobody else.
    Only(Vec<Initiator>),
}

/// An initiator that may use a target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Initiator {
    /// Its iSCSI name, in lower case.
    pub name: String,
    /// Its own credentials.
    pub chap: Option<Chap>,
    /// How many commands it may have outstanding (`cmdsn_depth`).
    pub depth: Option<u32>,
    /// The LUNs it sees.
    pub luns: Vec<Mapped>,
}

/// A LUN as one initiator sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mapped {
    /// The number it sees.
    pub number: u16,
    /// The target's LUN ([`Lun::number`]) behind it.
    pub lun: u16,
    /// Refuse this initiator's writes.
    pub read_only: bool,
}

/// Credentials.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chap {
    /// What the initiator gives.
    pub user: String,
    /// What the initiator gives.
    pub password: Secret,
    /// What the target gives in return: user and password.
    pub mutual: Option<(String, Secret)>,
}

/// Where a target listens.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Portal {
    /// The address; unspecified for all of the host's.
    pub address: IpAddr,
    /// The TCP port.
    pub port: u16,
    /// Over RDMA (iSER).
    pub iser: bool,
}

/// As configfs names it: `192.0.2.1:3260` or `[2001:db8::1]:3260`.
impl fmt::Display for Portal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.address {
            IpAddr::V4(address) => write!(f, "{address}:{}", self.port),
            IpAddr::V6(address) => write!(f, "[{address}]:{}", self.port),
        }
    }
}
