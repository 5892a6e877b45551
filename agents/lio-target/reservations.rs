//! Persistent reservations that move with the data.
//!
//! The kernel keeps them in a file of its own, `DBROOT/pr/aptpl_SERIAL`, which it writes before it answers the initiator.
//! Here that file is a link into a directory on the storage that moves (parameter aptpl_dir). What is found there is given
//! back to the kernel before the unit becomes a LUN, and `force_pr_aptpl` lets it be written for every initiator, not only
//! for those that ask.

use std::collections::BTreeMap;
use std::time::Duration;

use host::Host;
use ocf::prelude::*;
use probe::lio::{self, Registration, Store};

use crate::plan::Plan;
use crate::steps::{Absent, Step};
use crate::wanted::{Unit, Wanted};

/// The reservations of one unit.
#[derive(Clone, Debug)]
pub struct Kept {
    registrations: Vec<Registration>,
    /// The kernel's file, which is a link.
    link: String,
    /// Where it leads.
    file: String,
}

/// What is on the storage may never be answered for.
const PATIENCE: Duration = Duration::from_secs(10);

/// The copy of the last file that was whole: a power loss can cut the one that the kernel writes.
fn copy_of(file: &str) -> String {
    format!("{file}.last")
}

/// Reads the reservations of all units from `dir`. Changes nothing.
pub fn read(host: &Host, wanted: &Wanted, dir: &str) -> Result<BTreeMap<String, Kept>> {
    let root = lio::dbroot(host)?;
    let file = |unit: &Unit| format!("{dir}/aptpl_{}", unit.serial);
    let texts = host.apart("reading the reservations", PATIENCE, |host| {
        ensure!(
            host.is_dir(dir),
            "parameter aptpl_dir: \"{dir}\" is not a directory on this node; expected one on the storage that moves"
        );
        let both = |unit| {
            let file = file(unit);
            Ok((text(host, &file)?, text(host, &copy_of(&file))?))
        };
        wanted.units.iter().map(both).collect::<Result<Vec<_>>>()
    })?;
    let mut all = BTreeMap::new();
    for (unit, (now, last)) in wanted.units.iter().zip(texts) {
        let file = file(unit);
        let kept = Kept {
            registrations: registrations(&file, now, last)?,
            link: format!("{root}/pr/aptpl_{}", unit.serial),
            file,
        };
        all.insert(unit.name.clone(), kept);
    }
    Ok(all)
}

/// Those in a file, or in the copy of it.
fn registrations(
    file: &str,
    now: Option<String>,
    last: Option<String>,
) -> Result<Vec<Registration>> {
    let Some(now) = now else {
        return Ok(Vec::new());
    };
    let error = match Registration::parse_file(&now) {
        Ok(found) => return Ok(found),
        Err(error) => error,
    };
    match last.and_then(|text| Registration::parse_file(&text).ok()) {
        Some(found) => {
            warn!("{file}: {error}; taking the reservations from its copy");
            Ok(found)
        }
        None => bail!(
            "{file} has the persistent reservations of a unit and cannot be read: {error}; remove it if no initiator relies on them"
        ),
    }
}

fn text(host: &Host, path: &str) -> Result<Option<String>> {
    let bytes = host.read_bytes(path)?;
    Ok(bytes.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()))
}

/// Keeps a copy of each file that is whole.
pub fn back_up(host: &Host, dir: &str, serials: &[String]) -> Result<()> {
    host.apart("copying the reservations", PATIENCE, |host| {
        copy(host, dir, serials)
    })
}

fn copy(host: &Host, dir: &str, serials: &[String]) -> Result<()> {
    for serial in serials {
        let file = format!("{dir}/aptpl_{serial}");
        let Some(found) = text(host, &file)? else {
            continue;
        };
        let copy = copy_of(&file);
        if Registration::parse_file(&found).is_ok() && text(host, &copy)?.as_ref() != Some(&found) {
            host.save(&copy, &found)?;
        }
    }
    Ok(())
}

/// Makes what the kernel needs to write them, and puts aside what lies where a link has to be: reservations that this node
/// wrote when it was not yet told to share them.
pub fn make_way(host: &Host, kept: &BTreeMap<String, Kept>) -> Result<()> {
    if kept.is_empty() {
        return Ok(());
    }
    // Without these a registration fails (LOGICAL UNIT COMMUNICATION FAILURE).
    let root = lio::dbroot(host)?;
    host.mkdir_all(&format!("{root}/pr"))?;
    host.mkdir_all(&format!("{root}/alua"))?;
    for kept in kept.values() {
        if lio::link(host, &kept.link)?.is_some() {
            continue;
        }
        if let Some(text) = text(host, &kept.link)? {
            let aside = format!("{}.local", kept.link);
            warn!(
                "{} is from before and belongs to this node alone: moved to {aside}",
                kept.link
            );
            host.save(&aside, &text)?;
            host.remove(&kept.link)?;
        }
    }
    Ok(())
}

impl Kept {
    /// The steps that give them to the kernel and let it write where they came from.
    pub fn steps(&self, plan: &mut Plan, store: &Store, is_new: bool, origin: &str) -> Result<()> {
        let dir = store.dir();
        plan.lead(&self.link, &self.file)?;
        plan.set(&dir, "attrib/force_pr_aptpl", "1", origin, Absent::Warn)?;
        if is_new {
            for registration in &self.registrations {
                let value = registration.to_attribute();
                plan.write(&dir, "pr/res_aptpl_metadata", &value, origin, Absent::Fail);
            }
        }
        Ok(())
    }
}

/// The links of units with these serial numbers that lead into a shared directory: nothing here may write there any more.
pub fn links(host: &Host, serials: &[String]) -> Result<Vec<Step>> {
    if serials.is_empty() || host.read(&format!("{}/dbroot", lio::ROOT))?.is_none() {
        return Ok(Vec::new());
    }
    let root = lio::dbroot(host)?;
    let mut steps = Vec::new();
    for serial in serials {
        let path = format!("{root}/pr/aptpl_{serial}");
        if lio::link(host, &path)?.is_some() {
            steps.push(Step::Unlink(path));
        }
    }
    Ok(steps)
}
