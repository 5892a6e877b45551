//! Why `zpool import` or `zpool export` refused: their exit status is 1 for everything.
//!
//! The texts are those of OpenZFS 2.1 to 2.3 in the C locale (cmd/zpool/zpool_main.c,
//! lib/libzfs/libzfs_pool.c and libzfs_util.c).

use std::fmt;

/// Why a pool was not imported or exported.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// No device has a label of this pool, or, for an export, it is not imported.
    NoSuchPool,
    /// Another machine had it last and did not export it. `zpool import -f` would take it.
    InUse {
        /// The other machine's name, if the label tells it.
        host: Option<String>,
        /// The other machine's hostid, if the label tells it.
        hostid: Option<u32>,
        /// When it was last written to, in words and in this machine's time zone.
        when: Option<String>,
    },
    /// Another machine has it: it was seen to write to the pool (multihost). Not even
    /// `zpool import -f` takes it.
    Imported {
        /// The other machine's name, if it is told.
        host: Option<String>,
        /// The other machine's hostid, if it is told.
        hostid: Option<u32>,
    },
    /// The pool has the property multihost, and this machine has no hostid.
    NoHostid,
    /// Too many of its devices are missing.
    MissingDevices,
    /// Only its log is missing. `zpool import -m` would drop what was in it.
    MissingLog,
    /// It cannot be read.
    Corrupt {
        /// Is there an older state to which `zpool import -F` would go back, at the price of the
        /// changes since?
        rewindable: bool,
    },
    /// A pool of this name is imported already.
    Exists,
    /// Several pools have this name; the number tells them apart.
    MoreThanOne,
    /// Something uses the pool or one of its datasets, or, for an import, one of its devices.
    Busy,
    /// It has a version or a feature that this machine's ZFS does not know.
    NotSupported,
    /// Its I/O stands still.
    Suspended,
    /// The kernel module is not loaded.
    NoModule,
    /// Something else: the line that says it.
    Other(String),
}

/// Finds out why an import was refused. The standard output counts, too: only there is it said
/// that what is missing is the log, and that an older state could be loaded.
pub fn import(stdout: &str, stderr: &str) -> Refusal {
    // Lines are broken within sentences.
    let said = words(stderr);
    let has = |text: &str| said.contains(text);
    if has("previously in use from another system") {
        let (host, hostid, when) = last_access(stderr);
        Refusal::InUse { host, hostid, when }
    } else if has("multihost property on and the system's hostid is not set") {
        Refusal::NoHostid
    } else if has("pool is imported on ") {
        let (host, hostid) = importer(&said);
        Refusal::Imported { host, hostid }
    } else if has("more than one matching pool") {
        Refusal::MoreThanOne
    } else if has("a pool with that name") || has("pool already exists") {
        Refusal::Exists
    } else if has("no such pool") || has("no pools available") {
        Refusal::NoSuchPool
    } else if has("currently unavailable") {
        // The kernel lists what is missing for logs only (spa_check_for_missing_logs).
        match stdout.contains("The devices below are missing or corrupted, use '-m'") {
            true => Refusal::MissingLog,
            false => Refusal::MissingDevices,
        }
    } else if has("unsupported version") || has("unsupported ZFS version") {
        Refusal::NotSupported
    } else if has("already in use") || has("pool is busy") || has("dataset is busy") {
        Refusal::Busy
    } else if has("currently suspended") {
        Refusal::Suspended
    } else if has("ZFS modules") {
        Refusal::NoModule
    } else if has(": I/O error") || has(": insufficient replicas") {
        let rewindable =
            words(stdout).contains("Recovery is possible") || said.contains("Recovery is possible");
        Refusal::Corrupt { rewindable }
    } else {
        Refusal::Other(reason(stderr))
    }
}

/// Finds out why an export was refused.
pub fn export(stderr: &str) -> Refusal {
    let said = words(stderr);
    let has = |text: &str| said.contains(text);
    if has("currently suspended") {
        Refusal::Suspended
    } else if has("is busy") || has("target is busy") {
        Refusal::Busy
    } else if has("no such pool") {
        Refusal::NoSuchPool
    } else if has("ZFS modules") {
        Refusal::NoModule
    } else {
        Refusal::Other(reason(stderr))
    }
}

/// Did a command of zfs say that there is no dataset of this name (libzfs_util.c, zfs_standard_error)?
pub fn is_no_such_dataset(stderr: &str, name: &str) -> bool {
    let said = format!("cannot open '{name}': dataset does not exist");
    stderr.lines().any(|line| line.trim() == said)
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let by = |f: &mut fmt::Formatter<'_>, host: &Option<String>, hostid: &Option<u32>| {
            match host {
                Some(host) => write!(f, " {host}")?,
                None => write!(f, " another machine")?,
            }
            match hostid {
                Some(hostid) => write!(f, " (hostid {hostid:08x})"),
                None => Ok(()),
            }
        };
        match self {
            Refusal::NoSuchPool => write!(f, "there is no such pool"),
            Refusal::InUse { host, hostid, when } => {
                write!(f, "it was not exported by")?;
                by(f, host, hostid)?;
                match when {
                    Some(when) => write!(f, ", which used it last on {when}"),
                    None => Ok(()),
                }
            }
            Refusal::Imported { host, hostid } => {
                write!(f, "it is imported by")?;
                by(f, host, hostid)
            }
            Refusal::NoHostid => write!(f, "it has multihost=on and this machine has no hostid"),
            Refusal::MissingDevices => write!(f, "too many of its devices are missing"),
            Refusal::MissingLog => write!(f, "its log devices are missing"),
            Refusal::Corrupt { rewindable: false } => write!(f, "it cannot be read"),
            Refusal::Corrupt { rewindable: true } => {
                write!(f, "it cannot be read; an older state of it can")
            }
            Refusal::Exists => write!(f, "a pool of this name is imported already"),
            Refusal::MoreThanOne => write!(f, "several pools have this name"),
            Refusal::Busy => write!(f, "it is in use"),
            Refusal::NotSupported => {
                write!(
                    f,
                    "it has a version or a feature that this ZFS does not support"
                )
            }
            Refusal::Suspended => write!(f, "its I/O is suspended"),
            Refusal::NoModule => write!(f, "the kernel module zfs is not loaded"),
            Refusal::Other(line) => write!(f, "{line}"),
        }
    }
}

/// The text with one space wherever there is white space.
fn words(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The line that says what went wrong: that of the failed action, else the last one.
fn reason(stderr: &str) -> String {
    let mut lines = stderr
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty());
    let failed = lines
        .clone()
        .find(|line| line.starts_with("cannot ") || line.starts_with("Cannot "));
    failed.or(lines.next_back()).unwrap_or_default().to_owned()
}

/// `Last accessed by n1 (hostid=1234abcd) at Wed Nov 25 07:00:00 2026`
fn last_access(stderr: &str) -> (Option<String>, Option<u32>, Option<String>) {
    let access = stderr.lines().find_map(|line| {
        line.split_once("Last accessed by ")?
            .1
            .rsplit_once(" (hostid=")
    });
    let Some((host, rest)) = access else {
        return (None, None, None);
    };
    let (hostid, when) = rest.split_once(") at ").unwrap_or((rest, ""));
    let when = Some(when.trim().to_owned()).filter(|when| !when.is_empty());
    (known(host), hex(hostid), when)
}

/// `pool is imported on n1 (hostid: 0x1234abcd)` or `on host 'n1' (hostid=1234abcd).`
fn importer(said: &str) -> (Option<String>, Option<u32>) {
    let Some((_, rest)) = said.split_once("pool is imported on ") else {
        return (None, None);
    };
    let Some((host, rest)) = rest.split_once(" (hostid") else {
        return (None, None);
    };
    let host = match host.strip_prefix("host '") {
        Some(quoted) => quoted.trim_end_matches('\''),
        None => host,
    };
    let hostid = rest.trim_start_matches([':', '=', ' ']).split(')').next();
    (known(host), hostid.and_then(hex))
}

fn known(host: &str) -> Option<String> {
    Some(host.to_owned()).filter(|host| host != "<unknown>")
}

/// A hostid; ZFS prints 0 for one that is not known.
fn hex(text: &str) -> Option<u32> {
    let digits = text.strip_prefix("0x").unwrap_or(text);
    let id = u64::from_str_radix(digits, 16).ok()?;
    Some(id as u32).filter(|id| *id != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn in_use(host: Option<&str>, hostid: Option<u32>) -> Refusal {
        Refusal::InUse {
            host: host.map(str::to_owned),
            hostid,
            when: Some("Wed Nov 25 07:00:00 2026".into()),
        }
    }

    fn imported(host: Option<&str>, hostid: Option<u32>) -> Refusal {
        Refusal::Imported {
            host: host.map(str::to_owned),
            hostid,
        }
    }

    #[test]
    fn each_text_of_an_import_is_told_apart() {
        let previously = |by: &str| {
            format!(
                "cannot import 'tank': pool was previously in use from another system.\n\
                 Last accessed by {by} at Wed Nov 25 07:00:00 2026\n\
                 The pool can be imported, use 'zpool import -f' to import the pool.\n"
            )
        };
        for (stderr, expected) in [
            (
                previously("n1 (hostid=1234abcd)").as_str(),
                in_use(Some("n1"), Some(0x1234_abcd)),
            ),
            (
                previously("<unknown> (hostid=0)").as_str(),
                in_use(None, None),
            ),
            (
                "cannot import 'tank': pool is imported on n1 (hostid: 0xabc)\n\
                 Export the pool on the other system, then run 'zpool import'.\n",
                imported(Some("n1"), Some(0xabc)),
            ),
            (
                "cannot import 'tank': pool is imported on host 'n1' (hostid=abc).\n\
                 Export the pool on the other system, then run 'zpool import'.\n",
                imported(Some("n1"), Some(0xabc)),
            ),
            (
                "cannot import 'tank': pool is imported on a different host\n",
                imported(None, None),
            ),
            (
                "Cannot import 'tank': pool has the multihost property on and the\n\
                 system's hostid is not set. Set a unique hostid with the zgenhostid(8) command.\n",
                Refusal::NoHostid,
            ),
            (
                "cannot import 'tank': pool has the multihost property on and the\n\
                 system's hostid is not set. Set a unique system hostid with the \
                 zgenhostid(8) command.\n\n",
                Refusal::NoHostid,
            ),
            (
                "cannot import 'tank': no such pool available\n",
                Refusal::NoSuchPool,
            ),
            (
                "cannot import 'tank': more than one matching pool\nimport by numeric ID instead\n",
                Refusal::MoreThanOne,
            ),
            (
                "cannot import 'tank': a pool with that name already exists\nuse the form \
                 'zpool import <pool | id> <newpool>' to give it a new name\n",
                Refusal::Exists,
            ),
            (
                "cannot import 'tank': a pool with that name is already created/imported,\nand \
                 no additional pools with that name were found\n",
                Refusal::Exists,
            ),
            (
                "cannot import 'tank': pool already exists\n",
                Refusal::Exists,
            ),
            (
                "cannot import 'tank': one or more devices is currently unavailable\n",
                Refusal::MissingDevices,
            ),
            (
                "cannot import 'tank': I/O error\n",
                Refusal::Corrupt { rewindable: false },
            ),
            (
                "cannot import 'tank': insufficient replicas\n",
                Refusal::Corrupt { rewindable: false },
            ),
            (
                "cannot import 'tank': unsupported version or feature\n",
                Refusal::NotSupported,
            ),
            (
                "cannot import 'tank': pool is formatted using an unsupported ZFS version\n",
                Refusal::NotSupported,
            ),
            (
                "cannot import 'tank': one or more devices are already in use\n\n",
                Refusal::Busy,
            ),
            (
                "cannot import 'tank': pool I/O is currently suspended\n",
                Refusal::Suspended,
            ),
            (
                "The ZFS modules are not loaded.\nTry running 'modprobe zfs' as root to load \
                 them.\n",
                Refusal::NoModule,
            ),
            (
                "a warning\ncannot import 'tank': permission denied\nadvice\n",
                Refusal::Other("cannot import 'tank': permission denied".into()),
            ),
            ("first\n\nlast\n", Refusal::Other("last".into())),
            ("", Refusal::Other(String::new())),
        ] {
            assert_eq!(import("", stderr), expected, "{stderr}");
        }
    }

    #[test]
    fn what_is_said_on_standard_output_counts() {
        let log = "The devices below are missing or corrupted, use '-m' to import the pool \
                   anyway:\n\t    /dev/sdc1 [log]\n\n";
        let missing = "cannot import 'tank': one or more devices is currently unavailable\n";
        assert_eq!(import(log, missing), Refusal::MissingLog);
        let recovery = "\tRecovery is possible, but will result in some data loss.\n";
        let corrupt = "cannot import 'tank': I/O error\n";
        assert_eq!(
            import(recovery, corrupt),
            Refusal::Corrupt { rewindable: true }
        );
    }

    #[test]
    fn each_text_of_an_export_is_told_apart() {
        for (stderr, expected) in [
            ("cannot export 'tank': pool is busy\n", Refusal::Busy),
            (
                "cannot unmount '/tank': pool or dataset is busy\n",
                Refusal::Busy,
            ),
            (
                "cannot export 'tank': pool I/O is currently suspended\n",
                Refusal::Suspended,
            ),
            ("cannot open 'tank': no such pool\n", Refusal::NoSuchPool),
            (
                "cannot export 'tank': pool export in progress\n",
                Refusal::Other("cannot export 'tank': pool export in progress".into()),
            ),
        ] {
            assert_eq!(export(stderr), expected, "{stderr}");
        }
    }

    #[test]
    fn a_refusal_is_said_in_one_line() {
        assert_eq!(
            in_use(Some("n1"), Some(0xabc)).to_string(),
            "it was not exported by n1 (hostid 00000abc), which used it last on \
             Wed Nov 25 07:00:00 2026"
        );
        assert_eq!(
            imported(None, None).to_string(),
            "it is imported by another machine"
        );
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_an_answer(
            start in "(Last accessed by |pool is imported on |previously in use from another system )?",
            text: String,
        ) {
            let text = format!("{start}{text}");
            let _ = (import(&text, &text), export(&text));
        }
    }
}
