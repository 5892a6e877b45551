//! The values of `lio-target`'s parameters. Each error ends the sentence that begins with the value.

use std::str::FromStr;

use crate::names;
use crate::wanted::Portal;

/// Words with white space between them, each read by itself.
fn words<T>(text: &str, read: impl Fn(&str) -> Result<T, String>) -> Result<Vec<T>, String> {
    let read = |word: &str| read(word).map_err(|error| format!("has \"{word}\", which {error}"));
    text.split_whitespace().map(read).collect()
}

fn check_differ<T: PartialEq>(items: &[T], text: impl Fn(&T) -> String) -> Result<(), String> {
    for (index, item) in items.iter().enumerate() {
        if items[..index].contains(item) {
            return Err(format!("has {} twice", text(item)));
        }
    }
    Ok(())
}

/// Portals, such as `192.0.2.1 192.0.2.2:3261 [2001:db8::1]:3260`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Portals(pub Vec<Portal>);

impl FromStr for Portals {
    type Err = String;

    fn from_str(text: &str) -> Result<Portals, String> {
        let portals = words(text, names::portal)?;
        check_differ(&portals, Portal::to_string)?;
        Ok(Portals(portals))
    }
}

/// Names of initiators.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Initiators(pub Vec<String>);

impl FromStr for Initiators {
    type Err = String;

    fn from_str(text: &str) -> Result<Initiators, String> {
        let names = words(text, names::iqn)?;
        check_differ(&names, String::clone)?;
        Ok(Initiators(names))
    }
}

/// Attributes and their values: `name=value` words.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings(pub Vec<(String, String)>);

impl FromStr for Settings {
    type Err = String;

    fn from_str(text: &str) -> Result<Settings, String> {
        let mut all: Vec<(String, String)> = Vec::new();
        for word in text.split_whitespace() {
            let plain = |name: &str| {
                !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
            };
            match word.split_once('=') {
                Some((name, value)) if plain(name) && !value.is_empty() => {
                    if all.iter().any(|(known, _)| known == name) {
                        return Err(format!("has {name} twice"));
                    }
                    all.push((name.to_owned(), value.to_owned()));
                }
                _ => {
                    return Err(format!(
                        "has \"{word}\"; expected name=value words, with spaces between them"
                    ));
                }
            }
        }
        Ok(Settings(all))
    }
}

/// The LUNs of a target: `NUMBER=PATH[,serial=S][,product=P][,ro]` words.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Luns(pub Vec<LunWord>);

/// One of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LunWord {
    /// The LUN's number.
    pub number: u16,
    /// The device or file.
    pub path: String,
    /// Its serial number, if it is given.
    pub serial: Option<String>,
    /// Its product name, if it is given.
    pub product: Option<String>,
    /// Refuse writes.
    pub read_only: bool,
}

impl FromStr for Luns {
    type Err = String;

    fn from_str(text: &str) -> Result<Luns, String> {
        let luns = words(text, lun)?;
        for (index, lun) in luns.iter().enumerate() {
            let before = &luns[..index];
            if before.iter().any(|other| other.number == lun.number) {
                return Err(format!("has LUN {} twice", lun.number));
            }
            if let Some(other) = before.iter().find(|other| other.path == lun.path) {
                let (path, one, two) = (&lun.path, other.number, lun.number);
                return Err(format!("has {path} twice, as LUN {one} and as LUN {two}"));
            }
        }
        Ok(Luns(luns))
    }
}

fn lun(word: &str) -> Result<LunWord, String> {
    let expected = "expected NUMBER=PATH[,serial=S][,product=P][,ro]";
    let (number, rest) = word
        .split_once('=')
        .ok_or(format!("has no path; {expected}"))?;
    let mut parts = rest.split(',');
    let mut lun = LunWord {
        number: lun_number(number)?,
        path: path(parts.next().unwrap_or_default())?,
        serial: None,
        product: None,
        read_only: false,
    };
    for part in parts {
        match part.split_once('=') {
            Some(("serial", value)) => lun.serial = Some(serial(value)?),
            Some(("product", value)) => lun.product = Some(product(value)?),
            None if part == "ro" => lun.read_only = true,
            _ => return Err(format!("has \"{part}\"; {expected}")),
        }
    }
    Ok(lun)
}

/// A LUN's number.
pub fn lun_number(text: &str) -> Result<u16, String> {
    // More than the kernel's own limit are refused by initiators, too.
    match text.parse() {
        Ok(number) if number < 16384 => Ok(number),
        _ => Err("is not a LUN; expected a whole number from 0 to 16383".into()),
    }
}

/// The path of a device or file.
pub fn path(text: &str) -> Result<String, String> {
    match text.starts_with('/') && !text.contains([',', ' ', '\n']) {
        true => Ok(text.to_owned()),
        false => Err("has no absolute path, or one with commas or blanks, which the kernel cannot be told; expected one such as /dev/zvol/tank/lun1".into()),
    }
}

/// A serial number (VPD page 0x80).
pub fn serial(text: &str) -> Result<String, String> {
    // The kernel's limit is 254; what goes into a file's name is shorter.
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    match (1..=128).contains(&text.len()) && text.chars().all(plain) {
        true => Ok(text.to_owned()),
        false => Err(
            "is not a serial number; expected 1 to 128 letters, digits, \"-\", \"_\" and \".\""
                .into(),
        ),
    }
}

/// A product name (INQUIRY).
pub fn product(text: &str) -> Result<String, String> {
    inquiry(text, 16)
}

/// A vendor name (INQUIRY).
pub fn vendor(text: &str) -> Result<String, String> {
    inquiry(text, 8)
}

fn inquiry(text: &str, longest: usize) -> Result<String, String> {
    let plain = |c: char| (' '..='~').contains(&c);
    match (1..=longest).contains(&text.len()) && text.chars().all(plain) {
        true => Ok(text.to_owned()),
        false => Err(format!(
            "does not fit; expected 1 to {longest} printable ASCII characters"
        )),
    }
}

/// How a LUN's data is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Backstore {
    /// As a block device.
    Block,
    /// As a file.
    Fileio,
    /// By passing SCSI commands through.
    Pscsi,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn luns_are_words() {
        let luns: Luns = "1=/dev/zvol/tank/a 2=/dev/zvol/tank/b,serial=x-1,product=Disk,ro"
            .parse()
            .unwrap();
        assert_eq!(luns.0[0].path, "/dev/zvol/tank/a");
        assert_eq!(luns.0[1].serial.as_deref(), Some("x-1"));
        assert!(luns.0[1].read_only && !luns.0[0].read_only);
    }

    #[test]
    fn what_is_wrong_with_luns_is_said() {
        let wrong = |text: &str| text.parse::<Luns>().unwrap_err();
        assert_eq!(wrong("1=/a 1=/b"), "has LUN 1 twice");
        assert_eq!(wrong("1=/a 2=/a"), "has /a twice, as LUN 1 and as LUN 2");
        assert!(wrong("x=/a").starts_with("has \"x=/a\", which is not a LUN; expected"));
        assert!(wrong("16384=/a").contains("0 to 16383"));
        assert!(wrong("/a").contains("has no path; expected NUMBER=PATH"));
        assert!(wrong("1=a").contains("absolute path"));
        assert!(wrong("1=/a,rw").contains("has \"rw\"; expected NUMBER=PATH"));
    }

    #[test]
    fn attributes_are_words() {
        let settings: Settings = "emulate_tpu=1 block_size=4096".parse().unwrap();
        assert_eq!(settings.0[1], ("block_size".into(), "4096".into()));
        assert_eq!("a=1 a=2".parse::<Settings>().unwrap_err(), "has a twice");
        assert!("../a=1".parse::<Settings>().is_err());
        assert!("a".parse::<Settings>().is_err());
    }
}
