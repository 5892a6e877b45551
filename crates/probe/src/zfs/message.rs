//! What `zpool import` and `zpool export` say when they refuse. Their exit status is 1 for everything, so the text is
//! what tells (of ZFS 2.1 to 2.3, with LC_ALL=C; cmd/zpool/zpool_main.c, lib/libzfs/libzfs_pool.c and libzfs_util.c).

use std::fmt;

/// Why a pool was not imported.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// No device of it was found.
    NoSuchPool,
    /// Another host had it last, and has not exported it.
    InUse(String),
    /// Another host writes to it.
    Imported(String),
    /// It has multihost=on, and this host no hostid.
    NoHostid,
    /// Too many devices are missing.
    MissingDevices,
    /// A log device is missing.
    MissingLog,
    /// Its content is not consistent.
    Corrupt(String),
    /// There is a pool of that name.
    Exists,
    /// There are several of that name.
    MoreThanOne,
    /// It was made by a newer ZFS.
    NotSupported(String),
    /// Anything else: what was said last.
    Other(String),
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refusal::NoSuchPool => f.write_str("zpool import finds no such pool"),
            Refusal::InUse(by) if by.is_empty() => {
                f.write_str("another host had it last and has not exported it")
            }
            Refusal::InUse(by) => {
                write!(f, "another host had it last and has not exported it: {by}")
            }
            Refusal::Imported(by) if by.is_empty() => {
                f.write_str("another host has it and writes to it")
            }
            Refusal::Imported(by) => write!(f, "another host has it and writes to it: {by}"),
            Refusal::NoHostid => f.write_str("it has multihost=on, and this host has no hostid"),
            Refusal::MissingDevices => f.write_str("too many of its devices are missing"),
            Refusal::MissingLog => f.write_str("a log device of it is missing"),
            Refusal::Corrupt(said) => write!(f, "its content is not consistent: {said}"),
            Refusal::Exists => f.write_str("a pool of that name is imported already"),
            Refusal::MoreThanOne => f.write_str("there are several pools of that name"),
            Refusal::NotSupported(said) | Refusal::Other(said) => f.write_str(said),
        }
    }
}

/// Reads what `zpool import` has said on standard error.
pub fn import_refusal(said: &str) -> Refusal {
    let text = said.to_lowercase();
    let has = |part: &str| text.contains(part);
    let by = || line_with(said, "last accessed by");
    if has("more than one matching pool") {
        Refusal::MoreThanOne
    } else if has("no such pool") || has("no pools available") {
        Refusal::NoSuchPool
    } else if has("hostid is not set") || has("hostid must be set") {
        Refusal::NoHostid
    } else if has("currently imported on")
        || has("is imported on another")
        || has("currently imported by")
        || has("pool is in use on")
    {
        Refusal::Imported(line_with(said, "imported"))
    } else if has("previously in use from another system")
        || has("was last accessed by another system")
    {
        Refusal::InUse(by())
    } else if has("a pool with that name already exists") || has("a pool with that name is already")
    {
        Refusal::Exists
    } else if has("'-m'") || has("with missing log") || has("log device") {
        Refusal::MissingLog
    } else if has("unsupported feature") || has("unsupported version") || has("newer version") {
        Refusal::NotSupported(first_line(said))
    } else if has("one or more devices is currently unavailable")
        || has("missing devices")
        || has("devices are missing")
        || has("no such device in pool")
    {
        Refusal::MissingDevices
    } else if has("i/o error")
        || has("corrupt")
        || has("rewind")
        || has("'-f' option")
        || has("destroy and re-create")
    {
        Refusal::Corrupt(first_line(said))
    } else {
        Refusal::Other(all(said))
    }
}

/// Why a pool was not exported.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ExportRefusal {
    /// Something uses it.
    Busy,
    /// It is not here.
    NoSuchPool,
    /// Anything else: what was said.
    Other(String),
}

impl fmt::Display for ExportRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ExportRefusal::Busy => f.write_str("it is busy"),
            ExportRefusal::NoSuchPool => f.write_str("there is no such pool"),
            ExportRefusal::Other(said) => f.write_str(said),
        }
    }
}

/// Reads what `zpool export` has said on standard error.
pub fn export_refusal(said: &str) -> ExportRefusal {
    let text = said.to_lowercase();
    if text.contains("busy") {
        ExportRefusal::Busy
    } else if text.contains("no such pool") {
        ExportRefusal::NoSuchPool
    } else {
        ExportRefusal::Other(all(said))
    }
}

fn line_with(said: &str, part: &str) -> String {
    let line = said.lines().find(|line| line.to_lowercase().contains(part));
    line.unwrap_or_default().trim().to_owned()
}

fn first_line(said: &str) -> String {
    said.lines()
        .map(str::trim)
        .find(|line| !line.is_empty())
        .unwrap_or_default()
        .to_owned()
}

fn all(said: &str) -> String {
    match said.split_whitespace().collect::<Vec<_>>().join(" ") {
        text if text.is_empty() => "zpool gave no reason".to_owned(),
        text => text,
    }
}
