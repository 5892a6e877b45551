//! Where it is written which targets there are to be: in a file that lies on the storage, and in properties of its volumes.
//!
//! A file of a name that ends in `.conf` is a [`stmf-ha.conf`](#stmf-haconf), any other a [`lio.toml`](#liotoml). Both are
//! read, never executed. A file that is not there means that the storage is not managed; an empty one means what
//! stmf-ha makes of an empty one: a target called after the pool, `iqn.2010-08.org.illumos:stmf-ha:POOL`, on all addresses,
//! with every volume of the pool, for any initiator.
//!
//! The pool is the one on whose file system the file lies. Its volumes keep their identities in
//! [user properties](volumes), which go wherever the volume goes; a volume that has none is given one at start, and that is
//! stored: a volume that is renamed stays the disk that it was. Conflicts are errors: nothing is ever given another number.
//!
//! # lio.toml
//!
//! A target with one LUN:
//!
//! ```toml
//! [[target]]
//! iqn = "iqn.2025-01.com.example:vm"
//! lun = [{ number = 0, device = "/dev/drbd0" }]
//! ```
//!
//! A whole one:
//!
//! ```toml
//! # The pool, if it is another than the one that this file lies in.
//! pool = "tank"
//!
//! # For all units and targets that say nothing else.
//! [defaults]
//! vendor = "EXAMPLE"
//! portals = ["192.0.2.10", "[2001:db8::10]:3260", "iser:198.51.100.10:3261"]
//! attributes = { emulate_tpu = true, queue_depth = 128 }
//!
//! # Names for lists of initiators.
//! [groups]
//! esx = ["iqn.1998-01.com.vmware:esx1-01234567", "iqn.1998-01.com.vmware:esx2-89abcdef"]
//!
//! # A device or a file, and who it is to initiators.
//! [[unit]]
//! name = "journal"
//! device = "/dev/drbd0"
//! serial = "journal-1"
//! product = "JOURNAL"
//! block_size = 4096
//!
//! [[target]]
//! iqn = "iqn.2025-01.com.example:vm"
//! tag = 1
//! attributes = { default_cmdsn_depth = 128 }
//! parameters = { MaxOutstandingR2T = 8, ImmediateData = true }
//! chap = { user = "vm", password_file = "/etc/hastor/chap/vm" }
//! # These initiators, and nobody else.
//! initiators = ["esx", "iqn.1991-05.com.microsoft:backup.example.com"]
//! # All volumes below a dataset.
//! volumes = ["tank/vm"]
//!
//! [[target.lun]]
//! number = 100
//! unit = "journal"
//!
//! # Seen by some of them only.
//! [[target.lun]]
//! number = 101
//! file = "/tank/images/scratch"
//! size = "10G"
//! initiators = ["esx"]
//!
//! # More about one of them: it gives another password, and sees one LUN, which it cannot write to.
//! [[target.initiator]]
//! name = "iqn.1991-05.com.microsoft:backup.example.com"
//! chap = { user = "backup", password_file = "/etc/hastor/chap/backup" }
//! depth = 32
//! view = [{ lun = 100, number = 0, read_only = true }]
//!
//! # Another target, on other addresses, with volumes that are named one by one, for any initiator.
//! [[target]]
//! iqn = "iqn.2025-01.com.example:archive"
//! portals = ["203.0.113.10"]
//! lun = [{ volume = "tank/archive/a" }, { volume = "tank/archive/b", read_only = true }]
//! ```
//!
//! ## The file
//!
//! | key | value |
//! |---|---|
//! | `pool` | the pool whose volumes are meant |
//! | `defaults` | table of `vendor`, `product`, `revision`, `block_size`, `attributes` for units, and `portals` for targets |
//! | `groups` | table: a name (letters, digits, `-`, `_`) and the iSCSI names of initiators |
//! | `unit` | array of tables: units; only those need an entry that are LUNs of several targets, or are to be described apart |
//! | `target` | array of tables: targets. Without this key there is the one target of an empty file; `target = []` is none |
//!
//! ## A unit
//!
//! | key | value |
//! |---|---|
//! | `volume` | a volume of the pool by its dataset name, |
//! | `device` | or a block device by its absolute path (iblock), |
//! | `file` | or a file by its absolute path (fileio), |
//! | `scsi` | or a SCSI device by its absolute path, which is passed through (pscsi): exactly one of the four |
//! | `name` | what it is called, at most 200 characters; the path if missing, with `+` for `/` |
//! | `guid` | its NAA identifier, 32 hex digits, as COMSTAR shows it |
//! | `serial` | instead of `guid`: its serial number, whose first 25 hex digits are part of the NAA identifier |
//! | `company_id` | with `serial`: the IEEE company number before them, 6 hex digits; 001405 if missing |
//! | `vendor`, `product`, `revision` | at most 8, 16 and 4 characters for INQUIRY |
//! | `block_size` | 512, 1024, 2048 or 4096 bytes; a volume's 512 if missing, otherwise the device's |
//! | `attributes` | table: attributes of the kernel's backstore, without `block_size`; true and false are 1 and 0 |
//! | `read_only` | of `volume` and `device`: true refuses writes |
//! | `size` | of `file`: bytes, or a text with K, M, G or T (1024, 1024² ...); the file's own if missing |
//! | `write_back` | of `file`: true says that data is written when it is in memory: a failover loses it |
//!
//! A volume without `guid` and `serial` has the one in its properties, or else is given one. A device or file has a serial
//! number made of its path, the same on every node. A SCSI device has its own, whatever is said here.
//!
//! ## A target
//!
//! | key | value |
//! |---|---|
//! | `iqn` | its iSCSI name; that of an empty file's target if missing |
//! | `tag` | the number of its portal group, 1 to 65535; 1 if missing |
//! | `portals` | addresses: `192.0.2.1`, `192.0.2.1:3260`, `[2001:db8::1]:3260`; with `iser:` before them for RDMA; `0.0.0.0` if missing |
//! | `attributes` | table: attributes of the portal group; true and false are 1 and 0 |
//! | `parameters` | table: what is negotiated at login; true and false are Yes and No |
//! | `chap` | what initiators without `chap` of their own have to give |
//! | `lun` | array of tables: its LUNs |
//! | `volumes` | datasets: each volume that is one of them or below, and is not in `lun`, is a LUN. Without `lun` and `volumes` it is all of the pool |
//! | `initiators` | names of initiators and groups: they may use the target, and nobody else |
//! | `initiator` | array of tables: the same, with more to be said about them |
//!
//! Without `initiators`, `initiator`, and `initiators` of LUNs any initiator may use the target and sees all of its LUNs.
//!
//! ## A LUN
//!
//! | key | value |
//! |---|---|
//! | `number` | 0 to 65535. A volume may do without: then it is the one in its properties, or the lowest that is free, which is stored |
//! | `unit` | the name of a `unit`; instead of it, all keys of a unit may stand here |
//! | `initiators` | names of initiators and groups: of those that may use the target, they see it |
//!
//! ## An initiator
//!
//! | key | value |
//! |---|---|
//! | `name` | its iSCSI name, |
//! | `group` | or a group: the same for each of its members |
//! | `chap` | its own credentials |
//! | `depth` | how many commands it may have outstanding |
//! | `view` | what it sees: LUNs, or tables of `lun`, the target's number, `number`, the one it sees (the same if missing), and `read_only`; all that it may if missing |
//! | `read_only` | true refuses its writes, where `view` says nothing else |
//!
//! ## Credentials
//!
//! | key | value |
//! |---|---|
//! | `user` | the name that the initiator gives |
//! | `password_file` | a file with its password in the first line; an absolute path, mode 0600, owner root |
//! | `password` | or the password itself, if this file has mode 0600 and owner root |
//! | `mutual_user`, `mutual_password_file`, `mutual_password` | what the target gives in return |
//!
//! # stmf-ha.conf
//!
//! The configuration of [stmf-ha](https://github.com/skiselkov/stmf-ha), with which illumos hosts share a pool. Of bash it can
//! have assignments, `+=`, arrays, quotes, comments, and variables that were assigned before, or `$POOL`.
//!
//! | variable | value |
//! |---|---|
//! | `targets` | names; the pool's if missing. The iSCSI name is `iqn.2010-08.org.illumos:stmf-ha:NAME` |
//! | `TARGET_type`, `default_target_type` | `iscsi` |
//! | `TARGET_tpg` | its portal group; `default_tpg` if missing, else the first group, else one on all addresses |
//! | `target_portal_groups` | names; `GROUP_portals` are addresses with or without a port, `0.0.0.0` if missing |
//! | `logical_units` | volumes; all of the pool if missing |
//! | `host_groups` | names; `GROUP_members` are initiators |
//! | `target_groups` | names; `GROUP_members` are names of targets |
//! | `views` | names; if there is one, a volume in no view is no LUN. Of several views the last counts |
//! | `VIEW_hg`, `VIEW_tg` | the host group and the target group; all hosts, all targets if missing |
//! | `VIEW_lu_prefix` | a dataset: the view is of the volumes in it; of all if missing |
//!
//! Volumes that no host sees both of may have one LUN. What LIO cannot do is refused: a target with a volume for any initiator
//! and another one for some.

mod bash;
mod draft;
pub mod identity;
mod lio_toml;
mod place;
pub mod rules;
mod stmf_ha;
mod table;
#[cfg(test)]
mod tests;
pub mod volumes;
mod write;

use std::net::Ipv4Addr;

use anyhow::{Context, Result};
use host::Host;

pub use volumes::{Assignment, store};
pub use write::to_toml;

use crate::names;
use crate::wanted::{Portal, Wanted};
use place::Place;

/// What a file and the properties of its pool's volumes define.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Definition {
    /// What is to be put into the kernel.
    pub wanted: Wanted,
    /// What was chosen on the way, and has to be [stored](store) before anyone sees it.
    pub assigned: Vec<Assignment>,
}

/// How a definition is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// `lio.toml`
    Toml,
    /// `stmf-ha.conf`
    StmfHa,
}

impl Format {
    /// The format of a file of that name.
    pub fn of(path: &str) -> Format {
        match path.ends_with(".conf") {
            true => Format::StmfHa,
            false => Format::Toml,
        }
    }
}

/// The definition in a file; None if there is no such file. Reads the file, the kernel's table of mounts, files with
/// passwords and, where the text leaves something to them, the properties of the pool's volumes. Changes nothing.
pub fn read(host: &Host, path: &str) -> Result<Option<Definition>> {
    match place::read(host, path)? {
        Some(text) => define(&text, Format::of(path), Place::on(host, path)?).map(Some),
        None => Ok(None),
    }
}

/// Checks a text without a host: all but what depends on the volumes of the pool and on passwords. `path` is for messages.
#[cfg(test)]
#[cfg(test)]
pub fn check(text: &str, format: Format, path: &str, pool: Option<&str>) -> Result<()> {
    define(text, format, Place::nowhere(path, pool)).map(drop)
}

fn define(text: &str, format: Format, mut place: Place) -> Result<Definition> {
    let draft = match format {
        Format::Toml => lio_toml::draft(text, &mut place)?,
        Format::StmfHa => stmf_ha::draft(text, &place)?,
    };
    let path = place.path;
    draft.settle(&place).with_context(|| path.to_owned())
}

/// Where a target listens if nothing is said: on all IPv4 addresses, as with stmf-ha.
fn default_portal() -> Portal {
    Portal {
        address: Ipv4Addr::UNSPECIFIED.into(),
        port: names::PORT,
        iser: false,
    }
}

/// The iSCSI name of a target if nothing is said.
fn default_iqn(place: &Place) -> Result<String> {
    let pool = place.pool_name()?;
    stmf_ha_iqn(pool).map_err(|error| anyhow::anyhow!("{}: {error}", place.path))
}

/// The iSCSI name that stmf-ha gives to a target.
fn stmf_ha_iqn(target: &str) -> Result<String, String> {
    let name = format!("iqn.2010-08.org.illumos:stmf-ha:{target}");
    names::iqn(&name).map_err(|error| format!("\"{name}\" {error}"))
}
