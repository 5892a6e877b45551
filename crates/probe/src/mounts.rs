//! The kernel's table of mounts (proc(5), mountinfo).

use anyhow::{Context, Result};
use host::Host;

/// A mounted file system.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    /// Its number in the namespace it was read from.
    pub id: u32,
    /// The number of the mount it is mounted on.
    pub parent: u32,
    /// Major number of the device files have.
    pub major: u32,
    /// Minor number of that device.
    pub minor: u32,
    /// Which directory of the file system is mounted.
    pub root: String,
    /// Where.
    pub target: String,
    /// The type of the file system: zfs, ext4.
    pub kind: String,
    /// What is mounted: a dataset, a device.
    pub source: String,
    /// Options of this mount.
    pub options: String,
    /// The group of mounts that hear of what happens here, if it is shared.
    pub shared: Option<u32>,
    /// The group whose changes are repeated here, if there is one: an unmount there is one here, too.
    pub master: Option<u32>,
}

/// All mounts that a process sees; of this process without one. None of a process that is gone.
pub fn of(host: &Host, pid: Option<i32>) -> Result<Vec<Mount>> {
    let path = match pid {
        None => "/proc/self/mountinfo".to_owned(),
        Some(pid) => format!("/proc/{pid}/mountinfo"),
    };
    let text = match pid {
        None => host
            .read(&path)?
            .with_context(|| format!("{path} is not there"))?,
        Some(_) => host.read(&path).ok().flatten().unwrap_or_default(),
    };
    Ok(parse(&text))
}

/// The mounts in the text of a mountinfo file, in its order. Lines of another form are passed over.
pub fn parse(text: &str) -> Vec<Mount> {
    text.lines().filter_map(line).collect()
}

fn line(line: &str) -> Option<Mount> {
    let mut words = line.split(' ');
    let (id, parent) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
    let (major, minor) = words.next()?.split_once(':')?;
    let (root, target) = (unescaped(words.next()?), unescaped(words.next()?));
    let options = words.next()?.to_owned();
    // Optional fields follow, up to a dash.
    let (mut shared, mut master) = (None, None);
    loop {
        match words.next()?.split_once(':') {
            Some(("shared", group)) => shared = group.parse().ok(),
            Some(("master", group)) => master = group.parse().ok(),
            Some(_) => {}
            None => break,
        }
    }
    Some(Mount {
        id,
        parent,
        major: major.parse().ok()?,
        minor: minor.parse().ok()?,
        root,
        target,
        options,
        shared,
        master,
        kind: words.next()?.to_owned(),
        source: unescaped(words.next()?),
    })
}

/// Text in which space, tab, line feed and backslash stand as three octal digits.
pub fn unescaped(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let octal = match (first, after) {
            (b'\\', [a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', ..]) => {
                Some((a - b'0') * 64 + (b - b'0') * 8 + (c - b'0'))
            }
            _ => None,
        };
        match octal {
            Some(byte) => {
                bytes.push(byte);
                rest = &after[3..];
            }
            None => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_the_kernel() {
        let text = "52 29 0:45 / /tank\\040a rw,relatime shared:140 - zfs tank/a\\040b rw,xattr,noacl\nnonsense\n";
        let mounts = parse(text);
        assert_eq!(mounts.len(), 1);
        let mount = &mounts[0];
        assert_eq!(
            (mount.id, mount.parent, mount.major, mount.minor),
            (52, 29, 0, 45)
        );
        assert_eq!(
            (
                mount.target.as_str(),
                mount.source.as_str(),
                mount.kind.as_str()
            ),
            ("/tank a", "tank/a b", "zfs")
        );
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_read(text in ".*") {
            parse(&text);
            unescaped(&text);
        }
    }
}
