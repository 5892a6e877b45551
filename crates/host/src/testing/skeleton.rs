//! What configfs does by itself: a directory that is made has files in it at once, and they go
//! with it when it is removed. A plain directory does neither.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;

use super::Tree;

/// Where such directories lie, and with it every link that can hold one.
const CONFIGFS: &str = "/sys/kernel/config";

/// The recorded content of a new directory.
#[derive(Clone)]
pub(super) struct Skeleton {
    pattern: String,
    recorded: PathBuf,
}

impl Skeleton {
    pub(super) fn new(pattern: &str, recorded: &Path) -> Skeleton {
        assert!(
            recorded.is_dir(),
            "there is no recorded skeleton {}",
            recorded.display()
        );
        Skeleton {
            pattern: pattern.to_owned(),
            recorded: recorded.to_owned(),
        }
    }

    /// Segment by segment; a `*` is any text within one.
    pub(super) fn is_for(&self, path: &str) -> bool {
        let segments = |path: &str| -> Vec<String> {
            path.split('/')
                .filter(|segment| !segment.is_empty())
                .map(str::to_owned)
                .collect()
        };
        let (pattern, path) = (segments(&self.pattern), segments(path));
        pattern.len() == path.len()
            && pattern
                .iter()
                .zip(&path)
                .all(|(pattern, segment)| matches(pattern, segment))
    }

    pub(super) fn fill(&self, tree: &Tree, path: &str) {
        tree.copy(&self.recorded, path);
    }

    /// Removes from a directory what came with it. As in the kernel, one that holds more stays
    /// (ENOTEMPTY), and so does one that a link points to (EBUSY).
    pub(super) fn clear(&self, tree: &Tree, path: &str) -> io::Result<()> {
        let dir = tree.path(path);
        if !dir.is_dir() {
            return Ok(());
        }
        if holds_more(&dir, &self.recorded)? {
            return Err(Errno::ENOTEMPTY.into());
        }
        let found = dir.metadata()?;
        if has_link_to((found.dev(), found.ino()), &tree.path(CONFIGFS))? {
            return Err(Errno::EBUSY.into());
        }
        for name in names(&dir)? {
            let at = dir.join(name);
            if at.is_dir() {
                fs::remove_dir_all(at)?
            } else {
                fs::remove_file(at)?
            }
        }
        Ok(())
    }
}

/// Is there something in `dir` that is not in `recorded`?
fn holds_more(dir: &Path, recorded: &Path) -> io::Result<bool> {
    for name in names(dir)? {
        let (found, known) = (dir.join(&name), recorded.join(&name));
        let more = match known.symlink_metadata() {
            Err(_) => true,
            Ok(known_as) if known_as.is_dir() => holds_more(&found, &known)?,
            Ok(_) => false,
        };
        if more {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Does a link below `dir` lead to the directory with this device and inode?
fn has_link_to(target: (u64, u64), dir: &Path) -> io::Result<bool> {
    if !dir.is_dir() {
        return Ok(false);
    }
    for name in names(dir)? {
        let at = dir.join(name);
        let found = match at.symlink_metadata()? {
            found if found.is_symlink() => at
                .metadata()
                .is_ok_and(|found| (found.dev(), found.ino()) == target),
            found => found.is_dir() && has_link_to(target, &at)?,
        };
        if found {
            return Ok(true);
        }
    }
    Ok(false)
}

fn names(dir: &Path) -> io::Result<Vec<OsString>> {
    fs::read_dir(dir)?
        .map(|entry| Ok(entry?.file_name()))
        .collect()
}

fn matches(pattern: &str, text: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == text,
        Some((start, rest)) => text.strip_prefix(start).is_some_and(|text| {
            text.char_indices()
                .map(|(at, _)| &text[at..])
                .chain([""])
                .any(|end| matches(rest, end))
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_is_any_text_within_one_segment() {
        let skeleton = |pattern: &str| Skeleton {
            pattern: pattern.to_owned(),
            recorded: "".into(),
        };
        let target = skeleton("/sys/kernel/config/target/iscsi/iqn.*/tpgt_*");
        assert!(target.is_for("/sys/kernel/config/target/iscsi/iqn.2024-01.org.x:a/tpgt_1"));
        assert!(!target.is_for("/sys/kernel/config/target/iscsi/iqn.2024-01.org.x:a"));
        assert!(!target.is_for("/sys/kernel/config/target/iscsi/iqn.a/b/tpgt_1"));
        assert!(!target.is_for("/sys/kernel/config/target/iscsi/eui.a/tpgt_1"));
        assert!(skeleton("/a/*_*x").is_for("/a/1_2_x/"));
        assert!(skeleton("/a/*").is_for("/a/ä"));
        assert!(!skeleton("/a/*x").is_for("/a/xy"));
    }
}
