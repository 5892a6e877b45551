//! The values of `zfs-pool`'s parameters. Each error ends the sentence that begins with the value.

use std::str::FromStr;

/// A pool's name, by ZFS's own rules.
pub fn pool(text: &str) -> Result<String, String> {
    probe::zfs::check_name(text).map(|()| text.to_owned())
}

/// A pool's GUID: a decimal number of 64 bits, as `zpool get guid` shows it.
pub fn guid(text: &str) -> Result<u64, String> {
    match text.parse() {
        Ok(guid) if guid != 0 => Ok(guid),
        _ => Err(
            "is not a pool's GUID; expected a decimal number, as \"zpool get guid\" shows it"
                .into(),
        ),
    }
}

/// Words with white space between them, each an absolute path.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Paths(pub Vec<String>);

impl FromStr for Paths {
    type Err = String;

    fn from_str(text: &str) -> Result<Paths, String> {
        let paths: Vec<String> = text.split_whitespace().map(str::to_owned).collect();
        match paths.iter().find(|path| !path.starts_with('/')) {
            None => Ok(Paths(paths)),
            Some(other) => Err(format!(
                "has \"{other}\"; expected absolute paths, with spaces between them"
            )),
        }
    }
}

/// The part of the options of `zpool import` that a cluster may give.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ImportArgs {
    /// Devices and directories (`-d`), and `/dev` for `-s`.
    pub devices: Vec<String>,
    /// Options that are passed on: `-o property=value`, `-R root`.
    pub options: Vec<String>,
    /// Was `-f` among them?
    pub force: bool,
}

impl FromStr for ImportArgs {
    type Err = String;

    fn from_str(text: &str) -> Result<ImportArgs, String> {
        let mut args = ImportArgs::default();
        let mut words = text.split_whitespace();
        while let Some(word) = words.next() {
            let mut value = |what: &str| {
                words
                    .next()
                    .map(str::to_owned)
                    .ok_or(format!("ends with {word}; expected {what} after it"))
            };
            match word {
                "-d" => args.devices.push(value("a device or a directory")?),
                "-s" => args.devices.push("/dev".into()),
                "-f" => args.force = true,
                // They are always given, or what they do is always done.
                "-N" | "-l" => {}
                "-o" => match value("property=value")? {
                    // It always is none: another would let the machine import the pool at boot.
                    cachefile if cachefile.starts_with("cachefile=") => {}
                    property => args.options.extend(["-o".to_owned(), property]),
                },
                "-R" => args
                    .options
                    .extend(["-R".to_owned(), value("a directory")?]),
                "-F" | "-X" | "-T" | "-m" | "-D" => {
                    return Err(format!(
                        "has {word}, which may discard data; expected it in a one-time token, see the manual page"
                    ));
                }
                other => {
                    return Err(format!(
                        "has \"{other}\"; expected -d, -s, -f, -N, -l, -o or -R"
                    ));
                }
            }
        }
        Ok(args)
    }
}

/// When an import is forced.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Force {
    /// Only if the host that had the pool is known to be away.
    #[value(name = "auto")]
    Auto,
    /// Always.
    #[value(name = "always")]
    Always,
    /// Never.
    #[value(name = "never")]
    Never,
}

/// What becomes of the pool's multihost property at import.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Multihost {
    /// It stays as it is.
    #[value(name = "keep")]
    Keep,
    /// It is set to on.
    #[value(name = "on")]
    On,
    /// It is set to off.
    #[value(name = "off")]
    Off,
}

/// What holds the pool's disks against other hosts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Reservation {
    /// Nothing.
    #[value(name = "none")]
    None,
    /// Write Exclusive, Registrants Only.
    #[value(name = "wero")]
    Wero,
}

/// What a stop does to a pool that ZFS has suspended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum OnSuspended {
    /// It fails, at once.
    #[value(name = "fail")]
    Fail,
    /// It stops the machine, by a kernel panic.
    #[value(name = "panic")]
    Panic,
}

/// What happens to processes that keep the pool in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum ForceUnmount {
    /// They are ended.
    #[value(name = "true")]
    True,
    /// They are ended; the same, since nothing here can block on the storage.
    #[value(name = "safe")]
    Safe,
    /// They are named, and the stop fails.
    #[value(name = "false")]
    False,
}

/// Which volumes a start waits for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Volumes {
    /// All of the pool.
    All,
    /// None.
    None,
    /// These, by their dataset names.
    These(Vec<String>),
}

impl FromStr for Volumes {
    type Err = String;

    fn from_str(text: &str) -> Result<Volumes, String> {
        match text {
            "all" => Ok(Volumes::All),
            "none" => Ok(Volumes::None),
            list => {
                let names: Vec<String> = list.split_whitespace().map(str::to_owned).collect();
                match names.iter().find(|name| !name.contains('/')) {
                    None if !names.is_empty() => Ok(Volumes::These(names)),
                    _ => Err("is none of all, none, or names of volumes such as tank/vm1".into()),
                }
            }
        }
    }
}

/// Parameters of the ZFS module, as `name=value` words.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tunables(pub Vec<(String, String)>);

impl FromStr for Tunables {
    type Err = String;

    fn from_str(text: &str) -> Result<Tunables, String> {
        let is_name = |name: &str| {
            !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
        };
        let pairs = text.split_whitespace().map(|word| match word.split_once('=') {
            Some((name, value)) if is_name(name) && !value.is_empty() => {
                Ok((name.to_owned(), value.to_owned()))
            }
            _ => Err(format!("has \"{word}\"; expected name=value, with the name of a parameter of the zfs module")),
        });
        Ok(Tunables(pairs.collect::<Result<_, _>>()?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn import_arguments_of_the_peer_are_understood() {
        let args: ImportArgs =
            "-d /dev/mapper/ -d /dev/sdb -f -o readonly=on -o cachefile=none -N -R /mnt"
                .parse()
                .unwrap();
        assert_eq!(args.devices, ["/dev/mapper/", "/dev/sdb"]);
        assert_eq!(args.options, ["-o", "readonly=on", "-R", "/mnt"]);
        assert!(args.force);
        for wrong in ["-F", "-m", "-d", "-z", "tank"] {
            assert!(wrong.parse::<ImportArgs>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn volumes_and_tunables() {
        assert_eq!("all".parse(), Ok(Volumes::All));
        assert_eq!(
            "tank/a tank/b".parse(),
            Ok(Volumes::These(vec!["tank/a".into(), "tank/b".into()]))
        );
        assert!("some".parse::<Volumes>().is_err());
        assert!("".parse::<Volumes>().is_err());
        assert_eq!(
            "zfs_a=1".parse(),
            Ok(Tunables(vec![("zfs_a".into(), "1".into())]))
        );
        assert!("../x=1".parse::<Tunables>().is_err());
    }
}
