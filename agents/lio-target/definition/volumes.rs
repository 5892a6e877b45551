//! The volumes of a pool, and what their user properties say of the logical units they are to be.
//!
//! | property | value |
//! |---|---|
//! | `org.hastor:guid` | 32 hex digits: the NAA identifier |
//! | `org.hastor:lun` | the number, 0 to 65535 |
//! | `org.hastor:blk` | the block size in bytes: 512, 1024, 2048 or 4096 |
//!
//! Those that stmf-ha has set, `org.illumos.stmf-ha:guid` and so on, count where ours are not set. A property counts if it
//! was set for the volume itself or received with it; what a volume inherits says nothing of who it is.

use std::collections::BTreeMap;

use anyhow::{Context, Result, anyhow};
use host::{Cmd, Host};
use probe::zfs::listing::{self, Property};

use super::identity::Identity;

const OURS: &str = "org.hastor";
const STMF_HA: &str = "org.illumos.stmf-ha";

/// A volume, with its properties as text: one that nobody uses may have any.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Volume {
    /// Its dataset name.
    pub name: String,
    /// Does ZFS make a block device of it?
    pub has_device: bool,
    properties: BTreeMap<String, Property>,
}

/// A user property that a volume is to have from now on.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Assignment {
    /// The volume.
    pub volume: String,
    /// The property's name.
    pub property: String,
    /// Its value.
    pub value: String,
}

/// All volumes of a pool, by their names. With one command, bounded by the action's time.
pub fn of_pool(host: &Host, pool: &str) -> Result<Vec<Volume>> {
    let asked: Vec<String> = ["guid", "lun", "blk"]
        .iter()
        .flat_map(|name| [format!("{OURS}:{name}"), format!("{STMF_HA}:{name}")])
        .collect();
    let said = host.run(&Cmd::new("zfs").args([
        "get",
        "-Hp",
        "-t",
        "volume",
        "-r",
        "-o",
        "name,property,value,source",
        &format!("volmode,{}", asked.join(",")),
        pool,
    ]))?;
    parse(&said.stdout).context("what zfs get says")
}

/// What that command prints.
pub fn parse(text: &str) -> Result<Vec<Volume>> {
    let mut volumes: Vec<Volume> = listing::properties(text)?
        .into_iter()
        .map(|(name, properties)| Volume {
            name,
            has_device: properties
                .get("volmode")
                .is_none_or(|volmode| volmode.value != "none"),
            properties,
        })
        .collect();
    volumes.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(volumes)
}

impl Volume {
    /// Its identity, if it has been given one.
    pub fn identity(&self) -> Result<Option<Identity>> {
        self.property("guid", Identity::of_guid)
    }

    /// Its LUN, if it has been given one.
    pub fn number(&self) -> Result<Option<u16>> {
        self.property("lun", |text| {
            number(text).ok_or_else(|| "is not a LUN; expected a number from 0 to 65535".to_owned())
        })
    }

    /// Its block size, if it has been given one.
    pub fn block_size(&self) -> Result<Option<u32>> {
        self.property("blk", |text| block_size(number(text).unwrap_or(0)))
    }

    fn property<T>(
        &self,
        name: &str,
        read: impl Fn(&str) -> Result<T, String>,
    ) -> Result<Option<T>> {
        for namespace in [OURS, STMF_HA] {
            let name = format!("{namespace}:{name}");
            let own = self
                .properties
                .get(&name)
                .filter(|property| property.is_own() && !property.value.is_empty());
            if let Some(Property { value, .. }) = own {
                return read(value).map(Some).map_err(|error| {
                    anyhow!("volume {}: property {name}: \"{value}\" {error}", self.name)
                });
            }
        }
        Ok(None)
    }
}

/// A decimal number without a sign, which `parse` would take.
fn number<T: std::str::FromStr>(text: &str) -> Option<T> {
    text.parse()
        .ok()
        .filter(|_| text.bytes().all(|c| c.is_ascii_digit()))
}

/// A block size that the kernel takes (block_size_store).
pub fn block_size(bytes: u32) -> Result<u32, String> {
    match bytes {
        512 | 1024 | 2048 | 4096 => Ok(bytes),
        _ => Err("is not a block size; expected 512, 1024, 2048 or 4096".into()),
    }
}

impl Assignment {
    /// A volume's GUID.
    pub fn guid(volume: &str, identity: &Identity) -> Assignment {
        Assignment::of(volume, "guid", identity.naa())
    }

    /// A volume's LUN.
    pub fn number(volume: &str, number: u16) -> Assignment {
        Assignment::of(volume, "lun", number.to_string())
    }

    fn of(volume: &str, name: &str, value: String) -> Assignment {
        Assignment {
            volume: volume.to_owned(),
            property: format!("{OURS}:{name}"),
            value,
        }
    }
}

/// Sets the properties, volume by volume in the given order. One that was interrupted is right when repeated: numbers go to
/// volumes in that same order.
pub fn store(host: &Host, assigned: &[Assignment]) -> Result<()> {
    for of_one in assigned.chunk_by(|a, b| a.volume == b.volume) {
        let Some(Assignment { volume, .. }) = of_one.first() else {
            continue;
        };
        let settings: Vec<String> = of_one
            .iter()
            .map(|one| format!("{}={}", one.property, one.value))
            .collect();
        host.run(&Cmd::new("zfs").arg("set").args(&settings).arg(volume))?;
        log::info!("volume {volume}: {}", settings.join(" "));
    }
    Ok(())
}

/// A volume's dataset name, by ZFS's own rules.
pub fn dataset(text: &str) -> Result<String, String> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "._-: ".contains(c);
    let part =
        |part: &str| !part.is_empty() && part != "." && part != ".." && part.chars().all(allowed);
    let (pool, _) = text.split_once('/').unwrap_or((text, ""));
    match probe::zfs::check_name(pool).is_ok() && text.len() < 256 && text.split('/').all(part) {
        true => Ok(text.to_owned()),
        false => Err("is not a dataset's name; expected one such as tank/vm1".into()),
    }
}

/// Where udev has the link to a volume's device.
pub fn link(volume: &str) -> String {
    // udev escapes a space in a name with a plus sign.
    format!("{LINKS}{}", volume.replace(' ', "+"))
}

/// The volume to whose device a path is udev's link.
pub fn of_link(path: &str) -> Option<String> {
    let name = path.strip_prefix(LINKS)?.replace('+', " ");
    (name.contains('/') && link(&name) == path)
        .then_some(name)
        .filter(|name| dataset(name).is_ok())
}

const LINKS: &str = "/dev/zvol/";

/// Is the dataset that one, or below it?
pub fn is_within(dataset: &str, prefix: &str) -> bool {
    dataset
        .strip_prefix(prefix)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}
