//! What an initiator was told is written is there after a failover.
//!
//! A volume of ZFS has a write cache, which is the memory of the node: a write is answered while it is there only, and is
//! lost with the node if no flush has ended by then. The initiator's flush has not ended either; but it is sent once more,
//! to the node that has the target now, which has nothing to flush and says so. No initiator writes its data again because
//! of that. So the write itself has to wait for the disks: sync=always. Disks and replicated devices need nothing, since
//! their caches are where the flush will come to, whichever node sends it.

use std::collections::BTreeSet;

use anyhow::{Context, Result};
use host::{Cmd, Host};
use probe::zfs::listing;

use crate::definition::volumes;
use crate::device;
use crate::steps::while_locked;
use crate::wanted::{Backing, Wanted};

/// Sets sync=always for volumes that have another value.
pub fn make(host: &Host, wanted: &Wanted) -> Result<()> {
    if let Some(command) = command(host, wanted)? {
        host.run(&command).context(
            "parameter write_cache=false: LUNs could lose what was written; expected volumes that can have sync=always",
        )?;
        log::info!("{command}");
    }
    Ok(())
}

/// The command that does so, None if all have it.
pub fn command(host: &Host, wanted: &Wanted) -> Result<Option<Cmd>> {
    let volumes = written(host, wanted)?;
    if volumes.is_empty() {
        return Ok(None);
    }
    let ask = Cmd::new("zfs")
        .args(["get", "-Hp", "-o", "name,property,value,source", "sync"])
        .args(&volumes);
    let said = host.run(&ask)?;
    let found = listing::parse(&said.stdout).context("what zfs get says")?;
    let others: Vec<String> = found
        .into_iter()
        .filter(|(_, properties)| properties.get("sync").map(String::as_str) != Some("always"))
        .map(|(name, _)| name)
        .collect();
    Ok((!others.is_empty()).then(|| Cmd::new("zfs").args(["set", "sync=always"]).args(&others)))
}

/// The volumes of ZFS that initiators may write to, and whose cache nobody asked for.
fn written(host: &Host, wanted: &Wanted) -> Result<BTreeSet<String>> {
    let mut found = BTreeSet::new();
    for unit in &wanted.units {
        let Backing::Block {
            path,
            read_only: false,
            write_back: false,
        } = &unit.backing
        else {
            continue;
        };
        let Some(volume) = volume(host, path)? else {
            continue;
        };
        // One of a snapshot, or of a pool that is imported read-only.
        let class = device::class(host, path)?;
        let is_read_only = match class {
            Some(class) => device::is_read_only(host, &class)?,
            None => false,
        };
        if !is_read_only {
            found.insert(volume);
        }
    }
    Ok(found)
}

/// The volume of a partition's link, such as `tank/vm1-part2`.
fn whole(link: &str) -> String {
    let name = link.rsplit_once("-part").map(|(name, _)| name);
    name.unwrap_or(link).to_owned()
}

/// The volume whose device that is: by udev's link or by the device itself.
fn volume(host: &Host, path: &str) -> Result<Option<String>> {
    if let Some(volume) = volumes::of_link(path) {
        return Ok(Some(match device::is_partition(host, path)? {
            true => whole(&volume),
            false => volume,
        }));
    }
    match host.real_path(path)? {
        Some(device) if device.starts_with("/dev/zd") => {
            while_locked(host, || host.zvol_name(&device))
        }
        _ => Ok(None),
    }
}
