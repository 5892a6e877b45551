//! What LIO, the kernel's SCSI target, shows in configfs. Only what is asked for is read: a host can have thousands of
//! objects.
//!
//! Directories can be listed whatever hangs, but for that of a LUN from which a link is being removed: the kernel holds it until
//! the device has answered. An attribute of a target portal group that is being torn down cannot always be read, so those
//! are read one by one, when they are needed.

mod reservations;

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result};
use host::Host;
use serde::{Deserialize, Serialize};

pub use reservations::Registration;

/// Where LIO is configured.
pub const ROOT: &str = "/sys/kernel/config/target";

/// Where its backstores are.
pub const CORE: &str = "/sys/kernel/config/target/core";

/// Where its iSCSI targets are.
pub const ISCSI: &str = "/sys/kernel/config/target/iscsi";

/// Directories of `core` that are no host bus adapters.
const NO_HBA: &str = "alua";

/// A backstore, which the kernel calls a storage object.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Store {
    /// The adapter it belongs to, such as `iblock_0`.
    pub hba: String,
    /// Its own name.
    pub name: String,
}

impl Store {
    /// Its directory.
    pub fn dir(&self) -> String {
        format!("{CORE}/{}/{}", self.hba, self.name)
    }

    /// The one to which a link in a LUN leads; None if it leads elsewhere.
    fn of_link(target: &str) -> Option<Store> {
        let (_, below) = target.rsplit_once("/core/").or_else(|| {
            // configfs shows links relative to the root of the file system.
            target.rsplit_once("core/")
        })?;
        let (hba, name) = below.split_once('/')?;
        Some(Store {
            hba: hba.to_owned(),
            name: name.to_owned(),
        })
    }
}

/// A target portal group.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Group {
    /// The target's name.
    pub iqn: String,
    /// The group's number.
    pub tag: u16,
}

impl Group {
    /// Its directory.
    pub fn dir(&self) -> String {
        format!("{ISCSI}/{}/tpgt_{}", self.iqn, self.tag)
    }
}

/// A LUN's link to its backstore.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Link {
    /// The link's own name.
    pub name: String,
    /// Where it leads; None if that is no backstore.
    pub store: Option<Store>,
}

/// The adapters, such as `iblock_0`.
pub fn hbas(host: &Host) -> Result<Vec<String>> {
    let mut names = host.list(CORE)?;
    names.retain(|name| name != NO_HBA);
    Ok(names)
}

/// The backstores of an adapter.
pub fn stores(host: &Host, hba: &str) -> Result<Vec<Store>> {
    let of_hba = |name: String| Store {
        hba: hba.to_owned(),
        name,
    };
    let dir = format!("{CORE}/{hba}");
    let names = host.list(&dir)?.into_iter();
    Ok(names
        .filter(|name| host.is_dir(&format!("{dir}/{name}")))
        .map(of_hba)
        .collect())
}

/// The names of all iSCSI targets.
pub fn targets(host: &Host) -> Result<Vec<String>> {
    let names = host.list(ISCSI)?.into_iter();
    Ok(names.filter(|name| is_name(name)).collect())
}

/// Beside targets, the directory has attributes and `discovery_auth`.
fn is_name(text: &str) -> bool {
    ["iqn.", "eui.", "naa."]
        .iter()
        .any(|kind| text.starts_with(kind))
}

/// The target portal groups of a target.
pub fn groups(host: &Host, iqn: &str) -> Result<Vec<Group>> {
    let names = host.list(&format!("{ISCSI}/{iqn}"))?.into_iter();
    Ok(names
        .filter_map(|name| name.strip_prefix("tpgt_")?.parse().ok())
        .map(|tag| Group {
            iqn: iqn.to_owned(),
            tag,
        })
        .collect())
}

/// Is the group enabled? None if there is no such group.
pub fn is_enabled(host: &Host, group: &Group) -> Result<Option<bool>> {
    let text = host.read(&format!("{}/enable", group.dir()))?;
    Ok(text.map(|text| text.trim() == "1"))
}

/// The LUNs in a directory that has such: a group's `lun`, or an ACL.
pub fn luns(host: &Host, dir: &str) -> Result<BTreeMap<u16, Vec<Link>>> {
    let mut found = BTreeMap::new();
    for name in host.list(dir)? {
        let number = name.strip_prefix("lun_").and_then(|text| text.parse().ok());
        if let Some(number) = number {
            found.insert(number, links(host, &format!("{dir}/{name}"))?);
        }
    }
    Ok(found)
}

/// The links in a LUN's directory, by what they lead to.
pub fn links(host: &Host, dir: &str) -> Result<Vec<Link>> {
    let mut found = Vec::new();
    for name in host.list(dir)? {
        if let Some(target) = link(host, &format!("{dir}/{name}"))? {
            let store = Store::of_link(&target);
            found.push(Link { name, store });
        }
    }
    Ok(found)
}

/// Where a link leads; None if this is no link.
pub fn link(host: &Host, path: &str) -> Result<Option<String>> {
    match host.link_target(path) {
        // What is no link is EINVAL.
        Err(error) if is_invalid(&error) => Ok(None),
        other => other,
    }
}

/// Did the kernel answer EINVAL?
fn is_invalid(error: &anyhow::Error) -> bool {
    error
        .root_cause()
        .downcast_ref::<std::io::Error>()
        .is_some_and(|error| error.kind() == std::io::ErrorKind::InvalidInput)
}

/// Does a backstore have its device? None if there is no such backstore. (`Status: ACTIVATED` in `info` is something else:
/// that it is a LUN.)
pub fn is_configured(host: &Host, store: &Store) -> Result<Option<bool>> {
    let text = host.read(&format!("{}/enable", store.dir()))?;
    Ok(text.map(|text| text.trim() == "1"))
}

/// What a backstore says of itself, as far as `read` finds it there.
fn in_info<T>(host: &Host, store: &Store, read: impl Fn(&str) -> Option<T>) -> Result<Option<T>> {
    let text = host.read(&format!("{}/info", store.dir()))?;
    Ok(text.as_deref().and_then(read))
}

/// The number of the block device that a backstore has open, `MAJOR:MINOR`.
pub fn device(host: &Host, store: &Store) -> Result<Option<String>> {
    in_info(host, store, device_in_info)
}

/// Of iblock, `info` has `Major: 230 Minor: 16  CLAIMED: IBLOCK`.
fn device_in_info(text: &str) -> Option<String> {
    let number = |label| -> Option<u32> {
        let (_, rest) = text.split_once(label)?;
        rest.split_whitespace().next()?.parse().ok()
    };
    Some(format!("{}:{}", number("Major:")?, number("Minor:")?))
}

/// How many pages a RAM disk has.
pub fn pages(host: &Host, store: &Store) -> Result<Option<u64>> {
    in_info(host, store, pages_in_info)
}

/// Was a block device opened for reading only? None if the kernel does not say.
pub fn is_read_only(host: &Host, store: &Store) -> Result<Option<bool>> {
    in_info(host, store, |text| {
        Some(word_in_info(text, "readonly:")? != "0")
    })
}

/// How a file was opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpenedFile {
    /// Its size in bytes, as initiators see it.
    pub size: u64,
    /// Are writes answered while they are in this host's memory only?
    pub is_buffered: bool,
}

/// How the file of a backstore was opened; None if the kernel does not say.
pub fn file(host: &Host, store: &Store) -> Result<Option<OpenedFile>> {
    in_info(host, store, file_in_info)
}

/// `TCM FILEIO ID: 0        File: /tank/disk  Size: 1048576  Mode: O_DSYNC Async: 0`.
fn file_in_info(text: &str) -> Option<OpenedFile> {
    Some(OpenedFile {
        size: word_in_info(text, "  Size:")?.parse().ok()?,
        is_buffered: word_in_info(text, "  Mode:")?.starts_with("Buffered"),
    })
}

/// The word behind the last `label`: a path may contain one.
fn word_in_info<'a>(text: &'a str, label: &str) -> Option<&'a str> {
    text.rsplit_once(label)?.1.split_whitespace().next()
}

/// `PAGES/PAGE_SIZE: 16384*4096  SG_table_count: 9`.
fn pages_in_info(text: &str) -> Option<u64> {
    let (_, rest) = text.split_once("PAGES/PAGE_SIZE:")?;
    rest.trim_start().split('*').next()?.parse().ok()
}

/// A backstore's serial number, as VPD page 0x80 has it.
pub fn serial(host: &Host, store: &Store) -> Result<Option<String>> {
    Ok(host
        .read(&format!("{}/wwn/vpd_unit_serial", store.dir()))?
        .map(|text| value(&text).to_owned()))
}

/// The value of an attribute that the kernel shows behind a label, such as `T10 Vendor Identification: LIO-ORG`, or alone.
pub fn value(text: &str) -> &str {
    // Some end with a NUL.
    let text = text.trim_matches(|c: char| c == '\0' || c == '\n');
    match text.split_once(": ") {
        Some((label, value)) if label.starts_with("T10 ") => value.trim_end(),
        // The label is there, and nothing behind it.
        None if text.starts_with("T10 ") && text.ends_with(':') => "",
        _ => text,
    }
}

/// The initiators that are logged in to a target, each once, sorted; None if there is no such target on this node.
pub fn initiators(host: &Host, iqn: &str) -> Result<Option<Vec<String>>> {
    if !targets(host)?.iter().any(|it| it == iqn) {
        return Ok(None);
    }
    let mut initiators = BTreeSet::new();
    for group in groups(host, iqn)? {
        let dir = group.dir();
        for acl in host.list(&format!("{dir}/acls"))? {
            let info = host.read(&format!("{dir}/acls/{acl}/info"))?;
            initiators.extend(info.as_deref().and_then(initiator_in_info));
        }
        // Those that needed no ACL.
        let others = host.read(&format!("{dir}/dynamic_sessions"))?;
        let others = others.unwrap_or_default();
        let names = others.split(['\n', '\0']).filter(|name| is_name(name));
        initiators.extend(names.map(str::to_owned));
    }
    Ok(Some(initiators.into_iter().collect()))
}

/// The initiator of the session that an ACL's `info` tells of; otherwise it says that there is none.
fn initiator_in_info(info: &str) -> Option<String> {
    let line = info
        .lines()
        .find(|line| line.starts_with("InitiatorName: "))?;
    Some(
        value(line.strip_prefix("InitiatorName: ")?)
            .trim()
            .to_owned(),
    )
}

/// Where the kernel keeps its own files, such as `/var/target`: what was written last, until the first backstore was made.
pub fn dbroot(host: &Host) -> Result<String> {
    let text = host.read(&format!("{ROOT}/dbroot"))?;
    let text = text.with_context(|| format!("{ROOT}/dbroot is not there"))?;
    Ok(value(&text).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_acl_tells_who_is_logged_in() {
        let info = "InitiatorName: iqn.2026-01.com.example:client\nInitiatorAlias: c\nLIO Session ID: 1   ISID: 0x00 TSIH: 1  SessionType: Normal\n";
        assert_eq!(
            initiator_in_info(info).as_deref(),
            Some("iqn.2026-01.com.example:client")
        );
        let none =
            "No active iSCSI Session for Initiator Endpoint: iqn.2026-01.com.example:client\n";
        assert_eq!(initiator_in_info(none), None);
    }

    #[test]
    fn a_label_is_no_part_of_a_value() {
        assert_eq!(
            value("T10 VPD Unit Serial Number: 6001405abc\n"),
            "6001405abc"
        );
        assert_eq!(value("T10 Product Identification: a: b\n"), "a: b");
        assert_eq!(value("T10 Vendor Identification:\n"), "");
        assert_eq!(value("CHAP,None\n"), "CHAP,None");
        assert_eq!(value("/var/target\n\0"), "/var/target");
    }

    #[test]
    fn a_backstore_tells_its_device() {
        let text = "Status: ACTIVATED  Max Queue Depth: 128  SectorSize: 512  HwMaxSectors: 32768
        iBlock device: zd16  UDEV PATH: /dev/zvol/tank/a  readonly: 0
        Major: 230 Minor: 16  CLAIMED: IBLOCK\n";
        assert_eq!(device_in_info(text).as_deref(), Some("230:16"));
        assert_eq!(
            device_in_info("Status: DEACTIVATED  Max Queue Depth: 0\n"),
            None
        );
    }

    #[test]
    fn how_devices_and_files_were_opened() {
        let device = "        iBlock device: zd16  UDEV PATH: /dev/readonly:1  readonly: 0\n        Major: 230 Minor: 16\n";
        assert_eq!(word_in_info(device, "readonly:"), Some("0"));
        let opened = |mode: &str| {
            file_in_info(&format!(
                "TCM FILEIO ID: 0        File: /tank/disk  Size: 1048576  Mode: {mode} Async: 0\n"
            ))
        };
        let file = |is_buffered| OpenedFile {
            size: 1_048_576,
            is_buffered,
        };
        assert_eq!(opened("O_DSYNC"), Some(file(false)));
        assert_eq!(opened("Buffered-WCE"), Some(file(true)));
        assert_eq!(file_in_info(device), None);
    }

    #[test]
    fn a_link_leads_to_a_backstore() {
        let store = Store {
            hba: "iblock_7".into(),
            name: "p_target.1".into(),
        };
        let target = "../../../../../../target/core/iblock_7/p_target.1";
        assert_eq!(Store::of_link(target), Some(store.clone()));
        assert_eq!(
            Store::of_link("/sys/kernel/config/target/core/iblock_7/p_target.1"),
            Some(store)
        );
        assert_eq!(
            Store::of_link("../../../../../../target/iscsi/iqn.x/tpgt_1/lun/lun_1"),
            None
        );
    }
}
