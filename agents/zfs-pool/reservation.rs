//! Persistent reservations: the node that has the pool is registered with every disk of it and holds a reservation (Write
//! Exclusive, Registrants Only). The disk itself then refuses writes of any other host, also of one that was cut off and
//! not fenced. Only the node with the pool is registered: of two registered nodes both could write.

use std::collections::BTreeSet;
use std::time::Duration;

use host::PrKind as Kind;
use ocf::prelude::*;

use crate::disks::Found;
use crate::pool::ZfsPool;
use crate::values::Reservation;

/// The hint that a start leaves before it registers, and that grows with the pool: the key, and the disks one a line.
const NOTE: &str = "reservation";
/// How long the disks may take to answer: all together, and each alone.
const PATIENCE: (Duration, Duration) = (Duration::from_secs(20), Duration::from_secs(2));
/// The first half of every key that this agent makes ("Hast"); the second is the node's hostid.
const KEYS: u64 = 0x4861_7374 << 32;

const WERO: Kind = Kind::WriteExclusiveRegistrantsOnly;

/// What is held, as noted.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Note {
    key: u64,
    disks: Vec<String>,
}

impl Note {
    fn save(&self, node: &Node) -> Result<()> {
        let text = format!("{:016x}\n{}\n", self.key, self.disks.join("\n"));
        node.set_hint(NOTE, &text)
    }
}

/// What each disk answered.
type Answers = Vec<(String, Result<(), String>)>;

/// Is there something to be released?
pub fn is_noted(node: &Node) -> bool {
    noted(node).is_some()
}

fn noted(node: &Node) -> Option<Note> {
    let text = node.hint(NOTE)?;
    let mut lines = text.lines();
    let key = u64::from_str_radix(lines.next()?, 16).ok()?;
    Some(Note {
        key,
        disks: lines.map(str::to_owned).collect(),
    })
}

/// The disks that take reservations, each once.
fn whole(found: &Found) -> Vec<String> {
    let disks: BTreeSet<&String> = found.leaves.iter().map(|leaf| &leaf.disk).collect();
    disks.into_iter().cloned().collect()
}

/// For a check before anything is done: can the disks be reserved at all?
pub fn check_support(pool: &ZfsPool, node: &Node, found: &Found) -> Result<()> {
    if pool.reservation == Reservation::None {
        return Ok(());
    }
    let answers = node.on_each(
        "asking for reservations of",
        &whole(found),
        PATIENCE,
        |host, disk| {
            host.reservations(disk)?.keys()?;
            Ok(())
        },
    );
    judge(pool, &answers, "cannot be reserved")
}

/// Takes the disks. `others` says whether keys of other hosts may be preempted: only if the cluster knows them to be away.
pub fn take(pool: &ZfsPool, node: &Node, found: &Found, hostid: u32, others: bool) -> Result<()> {
    if pool.reservation == Reservation::None {
        return Ok(());
    }
    let key = KEYS | u64::from(hostid);
    let disks = whole(found);
    ensure!(
        !disks.is_empty(),
        "parameter reservation: no disk of pool {} is found that could be reserved; searched: {}",
        pool.pool,
        found.searched.join(" ")
    );
    // Before anything is taken: stop must know what to give back.
    let note = Note {
        key,
        disks: disks.clone(),
    };
    note.save(node)
        .context("not reserving disks without a note of it")?;
    let answers = node.on_each("reserving", &disks, PATIENCE, |host, disk| {
        hold(host, disk, key, others)
    });
    judge(pool, &answers, "cannot be reserved")?;
    info!("reserved {} disks with the key {key:#018x}", disks.len());
    Ok(())
}

/// Takes one disk, from whatever it is in.
fn hold(host: &Host, disk: &str, key: u64, others: bool) -> Result<()> {
    let reservations = host.reservations(disk)?;
    let strangers: BTreeSet<u64> = reservations
        .keys()?
        .into_iter()
        .filter(|other| *other != key)
        .collect();
    if let (Some(stranger), false) = (strangers.first(), others) {
        bail!(
            "it is registered with the key {stranger:#018x}, of a host that is not known to be away"
        );
    }
    // Whatever was registered before by this path is ours to replace; NVMe does so only if an old key is given.
    reservations.register(key, key, true)?;
    for stranger in &strangers {
        reservations.preempt_abort(key, *stranger, WERO)?;
    }
    match reservations.holder()? {
        Some((holder, Kind::WriteExclusiveRegistrantsOnly)) if holder == key => return Ok(()),
        Some((holder, kind)) if holder == key => {
            info!("{disk}: replacing our reservation of another kind ({kind:?})");
            reservations.release(key, kind)?;
        }
        Some((holder, kind)) => bail!("it is held by the key {holder:#018x} ({kind:?})"),
        None => {}
    }
    reservations.reserve(key, WERO)?;
    Ok(())
}

/// Registers with disks that have come to the pool while it is here, and reserves them; those that refuse, and why.
pub fn add(pool: &ZfsPool, node: &Node, disks: &[String]) -> Vec<(String, String)> {
    let Some(mut note) = noted(node).filter(|_| pool.reservation == Reservation::Wero) else {
        return Vec::new();
    };
    if disks.is_empty() {
        return Vec::new();
    }
    let key = note.key;
    for disk in disks {
        if !note.disks.contains(disk) {
            note.disks.push(disk.clone());
        }
    }
    // Before anything is taken, here too.
    if let Err(error) = note.save(node) {
        let why = format!("not reserving disks without a note of it: {error:#}");
        return disks
            .iter()
            .map(|disk| (disk.clone(), why.clone()))
            .collect();
    }
    let answers = node.on_each("reserving", disks, PATIENCE, |host, disk| {
        hold(host, disk, key, false)
    });
    let refused = |(disk, answer): (String, Result<(), String>)| match answer {
        Ok(()) => {
            info!("reserved {disk} with the key {key:#018x}");
            None
        }
        Err(why) => Some((disk, why)),
    };
    answers.into_iter().filter_map(refused).collect()
}

/// Are the disks still ours? All that are noted, or those of them that are `here`. A key that is gone was preempted: another
/// node has taken the pool. What somebody should look at: more disks than may be missing do not answer.
pub fn check(pool: &ZfsPool, node: &Node, here: Option<&[String]>) -> Result<Option<String>> {
    let Some(Note { key, mut disks }) =
        noted(node).filter(|_| pool.reservation == Reservation::Wero)
    else {
        return Ok(None);
    };
    disks.retain(|disk| here.is_none_or(|here| here.contains(disk)));
    let answers = node.on_each("looking at reservations", &disks, PATIENCE, |host, disk| {
        let reservations = host.reservations(disk)?;
        if !reservations.keys()?.contains(&key) {
            let lost = format!("our key {key:#018x} is gone: another host has taken it");
            return Ok(Some(lost));
        }
        Ok(match reservations.holder()? {
            Some((holder, Kind::WriteExclusiveRegistrantsOnly)) if holder == key => None,
            Some((holder, kind)) => Some(format!(
                "held by {holder:#018x} ({kind:?}), expected {key:#018x}"
            )),
            None => Some("it is not reserved".to_owned()),
        })
    });
    let mut silent = Vec::new();
    let mut held = Vec::new();
    for (disk, answer) in answers {
        match answer {
            Ok(None) => held.push((disk, Ok(()))),
            Ok(Some(lost)) => held.push((disk, Err(lost))),
            Err(why) => silent.push(format!("{disk} does not tell its reservation: {why}")),
        }
    }
    ensure!(
        silent.is_empty() || !held.is_empty(),
        "pool {}: none of its disks tells whether it is still reserved: {}",
        pool.pool,
        silent[0]
    );
    judge(pool, &held, "is not held")?;
    let too_many = silent.len() > pool.reservation_missing as usize;
    Ok(silent.into_iter().next().filter(|_| too_many))
}

/// Gives the disks back, once the pool is exported. What cannot be given back now a takeover will preempt.
pub fn give_back(node: &Node) -> Result<()> {
    let Some(Note { key, disks }) = noted(node) else {
        return Ok(());
    };
    let answers = node.on_each("releasing", &disks, PATIENCE, |host, disk| {
        let reservations = host.reservations(disk)?;
        if !reservations.keys()?.contains(&key) {
            return Ok(());
        }
        if let Some((_, kind)) = reservations.holder()?.filter(|(holder, _)| *holder == key) {
            reservations.release(key, kind)?;
        }
        reservations.register(key, 0, false)?;
        Ok(())
    });
    for (disk, answer) in answers {
        if let Err(why) = answer {
            warn!("{disk} keeps our registration, which a takeover will preempt: {why}");
        }
    }
    node.set_hint(NOTE, "")
}

/// Fails if more disks failed than may be missing.
fn judge(pool: &ZfsPool, answers: &Answers, what: &str) -> Result<()> {
    let failed: Vec<(&str, &str)> = answers
        .iter()
        .filter_map(|(disk, answer)| Some((disk.as_str(), answer.as_ref().err()?.as_str())))
        .collect();
    let Some((disk, why)) = failed.first() else {
        return Ok(());
    };
    ensure!(
        failed.len() <= pool.reservation_missing as usize && failed.len() < answers.len(),
        "{disk} {what}: {why} ({} of {} disks, reservation_missing allows {})",
        failed.len(),
        answers.len(),
        pool.reservation_missing
    );
    for (disk, why) in failed {
        warn!("{disk} {what}: {why}");
    }
    Ok(())
}
