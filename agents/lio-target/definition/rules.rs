//! What holds for everything that is wanted, whoever wants it. An error names both things that do not go together.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Result, bail, ensure};

use super::identity::{Identity, is_line};
use crate::wanted::{Access, Chap, Initiator, Portal, Target, Unit, Wanted};

/// The longest name or password of CHAP that the kernel keeps whole, in bytes (MAX_USER_LEN and MAX_PASS_LEN of 256).
const LONGEST_SECRET: usize = 255;

/// Fails if the units and targets contradict each other.
pub fn check(wanted: &Wanted) -> Result<()> {
    let mut names = BTreeMap::new();
    let (mut paths, mut serials, mut naas) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
    for unit in &wanted.units {
        let path = unit.backing.path();
        if let Some(other) = names.insert(unit.name.as_str(), path) {
            bail!(
                "{other} and {path} are both called \"{}\"; expected a name for each",
                unit.name
            );
        }
        if let Some(other) = paths.insert(path, unit.name.as_str()) {
            bail!(
                "units {other} and {} are both on {path}; expected one unit, which may have several LUNs",
                unit.name
            );
        }
        if let Some(other) = serials.insert(unit.serial.as_str(), path) {
            bail!(
                "{other} and {path} have the same serial number, {}; to initiators they would be one disk",
                unit.serial
            );
        }
        let naa = identity(unit).naa();
        if let Some(other) = naas.insert(naa.clone(), path) {
            bail!(
                "{other} and {path} have the same GUID, {naa}; to initiators they would be one disk"
            );
        }
    }
    let mut iqns = BTreeSet::new();
    for target in &wanted.targets {
        ensure!(
            iqns.insert(target.iqn.as_str()),
            "there are two targets {}; expected different names",
            target.iqn
        );
        check_target(target, &names)?;
        check_writes(target, wanted)?;
    }
    let used: BTreeSet<&str> = wanted
        .targets
        .iter()
        .flat_map(|target| target.luns.iter().map(|lun| lun.unit.as_str()))
        .collect();
    if let Some(unit) = names.keys().find(|name| !used.contains(*name)) {
        bail!("unit {unit} is a LUN of no target");
    }
    Ok(())
}

/// Who a unit is.
pub fn identity(unit: &Unit) -> Identity {
    Identity {
        serial: unit.serial.clone(),
        company_id: unit.company_id,
    }
}

fn check_target(target: &Target, units: &BTreeMap<&str, &str>) -> Result<()> {
    let iqn = &target.iqn;
    let mut portals = BTreeSet::new();
    for portal in &target.portals {
        ensure!(
            portals.insert(portal.to_string()),
            "target {iqn}: portal {portal} is there twice"
        );
    }
    ensure!(!portals.is_empty(), "target {iqn} has no portal");
    check_overlap(iqn, &target.portals)?;
    let mut numbers = BTreeMap::new();
    let mut seen = BTreeMap::new();
    for lun in &target.luns {
        let unit = lun.unit.as_str();
        ensure!(
            units.contains_key(unit),
            "target {iqn}: LUN {}: there is no unit {unit}",
            lun.number
        );
        if let Some(other) = numbers.insert(lun.number, unit) {
            bail!(
                "target {iqn}: LUN {} is both {other} and {unit}; expected each number once",
                lun.number
            );
        }
        if let Some(other) = seen.insert(unit, lun.number) {
            bail!(
                "target {iqn}: {unit} is LUN {other} and LUN {}; expected it once",
                lun.number
            );
        }
    }
    if let Some(chap) = &target.chap {
        check_chap(chap, &format!("target {iqn}"))?;
    }
    let Access::Only(initiators) = &target.access else {
        return Ok(());
    };
    let mut known = BTreeSet::new();
    for initiator in initiators {
        let name = initiator.name.as_str();
        ensure!(
            known.insert(name),
            "target {iqn}: initiator {name} is there twice"
        );
        check_initiator(initiator, iqn, &numbers)?;
    }
    Ok(())
}

/// LIO can refuse an unnamed initiator's writes to all LUNs of a target, or to none.
fn check_writes(target: &Target, wanted: &Wanted) -> Result<()> {
    if target.access != Access::Anyone {
        return Ok(());
    }
    let luns = target.luns.iter();
    let (closed, open): (Vec<_>, Vec<_>) = luns.partition(|lun| wanted.is_read_only(lun));
    if let ([closed, ..], [open, ..]) = (&closed[..], &open[..]) {
        bail!(
            "target {}: LUN {} is read-only and LUN {} is not, which LIO cannot do where any initiator may use them; expected \
             initiators to be named, or a target for each",
            target.iqn,
            closed.number,
            open.number
        );
    }
    Ok(())
}

/// Two portals of one port, of which one takes all addresses that the other is among.
fn check_overlap(iqn: &str, portals: &[Portal]) -> Result<()> {
    for wide in portals.iter().filter(|it| it.address.is_unspecified()) {
        let inside = |it: &&Portal| {
            let among = wide.address.is_ipv6() || it.address.is_ipv4();
            *it != wide && it.port == wide.port && among
        };
        if let Some(narrow) = portals.iter().find(inside) {
            bail!(
                "target {iqn}: portal {wide} takes what is sent to {narrow}, too; expected one or the other"
            );
        }
    }
    Ok(())
}

fn check_initiator(initiator: &Initiator, iqn: &str, luns: &BTreeMap<u16, &str>) -> Result<()> {
    let who = format!("target {iqn}: initiator {}", initiator.name);
    let (mut numbers, mut shown) = (BTreeMap::new(), BTreeMap::new());
    for mapped in &initiator.luns {
        let Some(unit) = luns.get(&mapped.lun) else {
            bail!("{who}: the target has no LUN {}", mapped.lun);
        };
        if let Some(other) = numbers.insert(mapped.number, unit) {
            bail!(
                "{who}: LUN {} is both {other} and {unit}; expected each number once",
                mapped.number
            );
        }
        if let Some(other) = shown.insert(mapped.lun, mapped.number) {
            bail!(
                "{who}: {unit} is LUN {other} and LUN {}; expected it once",
                mapped.number
            );
        }
    }
    match &initiator.chap {
        Some(chap) => check_chap(chap, &who),
        None => Ok(()),
    }
}

fn check_chap(chap: &Chap, whose: &str) -> Result<()> {
    credential(&chap.user, whose, "user's name")?;
    credential(chap.password.reveal(), whose, "password")?;
    if let Some((user, password)) = &chap.mutual {
        credential(user, whose, "target's user name")?;
        credential(password.reveal(), whose, "target's password")?;
        // RFC 7143, 12.1.4: else an initiator could have the target answer its own challenge.
        ensure!(
            *password != chap.password,
            "{whose}: the target's password is that of the initiator; expected another"
        );
    }
    Ok(())
}

fn credential(text: &str, whose: &str, what: &str) -> Result<()> {
    // An attribute that is written "NULL..." is one that is cleared.
    ensure!(
        !text.is_empty() && is_line(text, LONGEST_SECRET) && !text.starts_with("NULL"),
        "{whose}: the {what} cannot be used; expected 1 to {LONGEST_SECRET} printable ASCII characters, no blank at the \
         ends, and not NULL at the beginning"
    );
    Ok(())
}
