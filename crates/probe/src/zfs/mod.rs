//! ZFS, by what its module shows below /proc/spl and /sys/module, and by what stands on disks. Nothing here opens
//! /dev/zfs: whoever does may wait for a lock that a dead pool holds for ever (openzfs 7331).

pub mod cache;
pub mod label;
pub mod listing;
pub mod message;
pub mod nvlist;
pub mod status;
#[cfg(test)]
mod tests;

use std::fmt;

use anyhow::{Context, Result};
use host::Host;

const KSTAT: &str = "/proc/spl/kstat/zfs";

/// The state of a pool, as the module names it (spa_state_to_name).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PoolState {
    /// All is well.
    Online,
    /// It works; devices are missing or broken.
    Degraded,
    /// Its writes wait for devices that do not answer.
    Suspended,
    /// Too much is broken.
    Faulted,
    /// Too many devices cannot be opened.
    Unavail,
    /// Closed, also while devices are opened anew.
    Offline,
    /// Devices were taken away.
    Removed,
    /// It was split off another pool.
    Split,
    /// An import or an export is under way.
    Transitioning,
    /// Anything else; empty if the file could not be read or had nothing in it.
    Unknown(String),
}

impl PoolState {
    fn of(word: &str) -> PoolState {
        match word {
            "ONLINE" => PoolState::Online,
            "DEGRADED" => PoolState::Degraded,
            "SUSPENDED" => PoolState::Suspended,
            "FAULTED" => PoolState::Faulted,
            "UNAVAIL" => PoolState::Unavail,
            "OFFLINE" => PoolState::Offline,
            "REMOVED" => PoolState::Removed,
            "SPLIT" => PoolState::Split,
            "TRANSITIONING" => PoolState::Transitioning,
            other => PoolState::Unknown(other.to_owned()),
        }
    }

    /// Is it a state through which a healthy pool passes, for milliseconds (openzfs 9004)?
    pub fn is_transient(&self) -> bool {
        use PoolState::*;
        matches!(self, Offline | Transitioning | Unavail | Unknown(_))
    }
}

impl fmt::Display for PoolState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            PoolState::Online => "ONLINE",
            PoolState::Degraded => "DEGRADED",
            PoolState::Suspended => "SUSPENDED",
            PoolState::Faulted => "FAULTED",
            PoolState::Unavail => "UNAVAIL",
            PoolState::Offline => "OFFLINE",
            PoolState::Removed => "REMOVED",
            PoolState::Split => "SPLIT",
            PoolState::Transitioning => "TRANSITIONING",
            PoolState::Unknown(word) if word.is_empty() => {
                "in a state that the kernel does not tell"
            }
            PoolState::Unknown(word) => word,
        })
    }
}

/// The state of a pool, None if the kernel has none of that name. The caller has checked the name.
pub fn state(host: &Host, pool: &str) -> Result<Option<PoolState>> {
    let dir = format!("{KSTAT}/{pool}");
    match host.read(&format!("{dir}/state")) {
        Ok(Some(text)) => Ok(Some(PoolState::of(text.trim()))),
        // Whether it was never there or has just gone, the directory tells; it is looked at last.
        Ok(None) if !host.is_dir(&dir) => Ok(None),
        // An import that is under way has made the directory and not the file yet, or an export has removed the file.
        Ok(None) => Ok(Some(PoolState::Unknown(String::new()))),
        Err(_) if !host.is_dir(&dir) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Does ZFS let all writes of the pool wait? No if that cannot be told.
pub fn is_suspended(host: &Host, pool: &str) -> bool {
    matches!(state(host, pool), Ok(Some(PoolState::Suspended)))
}

/// The GUID of a pool that is in the kernel; None if that does not tell it, or not yet.
pub fn guid(host: &Host, pool: &str) -> Result<Option<u64>> {
    let path = format!("{KSTAT}/{pool}/guid");
    match host.read(&path)? {
        // Before ZFS 2.2 there was no such file.
        None => Ok(None),
        Some(text) => {
            let guid: u64 = text
                .trim()
                .parse()
                .with_context(|| format!("{path}: \"{}\" is no number", text.trim()))?;
            // Until an import has read the pool's configuration.
            Ok(Some(guid).filter(|guid| *guid != 0))
        }
    }
}

/// The pools in the kernel.
pub fn pools(host: &Host) -> Result<Vec<String>> {
    let mut names = host.list(KSTAT)?;
    // Those that begin with $ belong to searches.
    names.retain(|name| !name.starts_with('$') && host.is_dir(&format!("{KSTAT}/{name}")));
    Ok(names)
}

/// How far a transaction group is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// It takes writes.
    Open,
    /// It takes no more, and waits for those under way.
    Quiescing,
    /// It waits for the one before it.
    WaitingForSync,
    /// It is being written.
    Syncing,
    /// It is on disk.
    Committed,
}

/// A transaction group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Txg {
    /// Its number.
    pub number: u64,
    /// How far it is.
    pub phase: Phase,
    /// How many bytes of it were changed.
    pub dirty: u64,
    /// When it was committed, if it is: nanoseconds of the clock that [`clock`] reads.
    pub done: Option<u64>,
}

/// The last transaction groups of a pool, oldest first; none where the module keeps no list (zfs_txg_history=0).
pub fn txgs(host: &Host, pool: &str) -> Result<Vec<Txg>> {
    let text = host
        .read(&format!("{KSTAT}/{pool}/txgs"))?
        .unwrap_or_default();
    Ok(text.lines().filter_map(txg).collect())
}

/// `txg birth state ndirty nread nwritten reads writes otime qtime wtime stime`: birth is a time, the last four say how long
/// it was in each phase.
fn txg(line: &str) -> Option<Txg> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let word = |at: usize| words.get(at).and_then(|word| word.parse::<u64>().ok());
    let phase = match *words.get(2)? {
        "O" => Phase::Open,
        "Q" => Phase::Quiescing,
        "W" => Phase::WaitingForSync,
        "S" => Phase::Syncing,
        "C" => Phase::Committed,
        _ => return None,
    };
    let done: Option<u64> = [1, 8, 9, 10, 11].map(word).into_iter().sum();
    Some(Txg {
        number: word(0)?,
        phase,
        dirty: word(3)?,
        done: done.filter(|_| phase == Phase::Committed),
    })
}

/// The clock of ZFS, in nanoseconds: CLOCK_MONOTONIC_RAW, which drifts from that of the agents. The header of every kstat that
/// has one ends with the time of this reading; this one is small and always there. None if it is not.
pub fn clock(host: &Host) -> Result<Option<u64>> {
    let text = host.read(&format!("{KSTAT}/fm"))?.unwrap_or_default();
    let header = text.lines().next().unwrap_or_default();
    Ok(header
        .split_whitespace()
        .nth(6)
        .and_then(|word| word.parse().ok()))
}

/// An import that is under way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Import {
    /// The pool's name.
    pub pool: String,
    /// How far it is: spa_load_state_t.
    pub load_state: u64,
    /// For so many more seconds it watches whether another host writes.
    pub multihost_secs: u64,
    /// The transaction group it has got to.
    pub max_txg: u64,
}

/// The imports that are under way (ZFS 2.0).
pub fn import_progress(host: &Host) -> Result<Vec<Import>> {
    let text = host
        .read(&format!("{KSTAT}/import_progress"))?
        .unwrap_or_default();
    Ok(text.lines().filter_map(import).collect())
}

/// `pool_guid load_state multihost_secs max_txg pool_name notes`
fn import(line: &str) -> Option<Import> {
    let mut words = line.split_whitespace();
    let mut number = || words.next()?.parse().ok();
    let (_guid, load_state, multihost_secs, max_txg): (u64, u64, u64, u64) =
        (number()?, number()?, number()?, number()?);
    Some(Import {
        pool: words.next()?.to_owned(),
        load_state,
        multihost_secs,
        max_txg,
    })
}

/// The hostid that ZFS writes into labels: the module's parameter, else the file; None if there is neither.
pub fn hostid(host: &Host) -> Result<Option<u32>> {
    let parameter = host
        .read("/sys/module/spl/parameters/spl_hostid")?
        .unwrap_or_default();
    let parameter = parameter.trim();
    let given = match parameter.strip_prefix("0x") {
        Some(hex) => u64::from_str_radix(hex, 16).ok(),
        None => parameter.parse().ok(),
    };
    // The module uses the low 32 bits.
    let given = given.map_or(0, |id: u64| (id & u64::from(u32::MAX)) as u32);
    if given != 0 {
        return Ok(Some(given));
    }
    let file = host.read_bytes("/etc/hostid")?.unwrap_or_default();
    let id = file.first_chunk().map(|bytes| u32::from_ne_bytes(*bytes));
    Ok(id.filter(|id| *id != 0))
}

/// The version of the module.
pub fn version(host: &Host) -> Result<Option<String>> {
    Ok(host
        .read("/sys/module/zfs/version")?
        .map(|text| text.trim().to_owned()))
}

/// The longest name of a pool, in bytes: with what ZFS adds for datasets of its own it must fit into 255
/// (pool_namecheck).
const LONGEST_NAME: usize = 239;

/// Could a pool have this name? The rules of ZFS (zpool_name_valid, pool_namecheck).
pub fn check_name(name: &str) -> Result<(), String> {
    let expected = "expected a letter first, then letters, digits, and . - _ :";
    let allowed = |c: char| c.is_ascii_alphanumeric() || "._-:".contains(c);
    if !name.starts_with(|c: char| c.is_ascii_alphabetic()) || !name.chars().all(allowed) {
        return Err(format!("is not a pool's name; {expected}"));
    }
    if name.len() > LONGEST_NAME {
        return Err(format!(
            "is too long for a pool's name; expected at most {LONGEST_NAME} characters"
        ));
    }
    let taken = ["mirror", "raidz", "draid", "spare"]
        .iter()
        .any(|word| name.starts_with(word))
        || name == "log";
    let is_disk = name
        .strip_prefix('c')
        .is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()));
    match taken || is_disk {
        true => Err(format!(
            "is a name that ZFS keeps for its own use; {expected}, and none such as mirror, raidz, draid, spare, log or c0"
        )),
        false => Ok(()),
    }
}
