//! The files of the machine that a script stands for.

use std::fs;
use std::io::{self, ErrorKind};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

/// A directory that stands for `/`. Paths are absolute on the machine it stands for; whatever
/// goes wrong ends the test.
#[derive(Clone, Debug)]
pub struct Tree {
    root: PathBuf,
}

impl Tree {
    pub(super) fn at(root: &Path) -> Tree {
        Tree {
            root: root.to_owned(),
        }
    }

    /// Where a path lies on this machine.
    pub fn path(&self, path: &str) -> PathBuf {
        self.root.join(path.trim_start_matches('/'))
    }

    /// Is there something: a file, a directory, or a link, wherever that points?
    pub fn exists(&self, path: &str) -> bool {
        self.path(path).symlink_metadata().is_ok()
    }

    /// The text of a file, if there is one.
    pub fn read(&self, path: &str) -> Option<String> {
        match fs::read_to_string(self.path(path)) {
            Ok(text) => Some(text),
            Err(error) if error.kind() == ErrorKind::NotFound => None,
            Err(error) => panic!("reading {path}: {error}"),
        }
    }

    /// Writes a file, and makes the directories above it.
    pub fn write(&self, path: &str, text: &str) {
        self.with_parent(path, |at| fs::write(at, text));
    }

    /// Makes a directory, and those above it.
    pub fn mkdir(&self, path: &str) {
        self.with_parent(path, |at| fs::create_dir_all(at));
    }

    /// Makes a link, and the directories above it. An absolute target is one in this tree.
    pub fn symlink(&self, target: &str, path: &str) {
        let target = rebased(Path::new(target), &self.root);
        self.with_parent(path, |at| symlink(target, at));
    }

    /// Makes a link whose target stays as it is, as the kernel shows what a process uses: it may lead nowhere.
    pub fn kernel_link(&self, target: &str, path: &str) {
        self.with_parent(path, |at| symlink(target, at));
    }

    /// Writes a file that is no text.
    pub fn write_bytes(&self, path: &str, bytes: &[u8]) {
        self.with_parent(path, |at| fs::write(at, bytes));
    }

    /// Removes a file, a link, or a directory with all that is in it. That there is none is fine.
    pub fn remove(&self, path: &str) {
        let at = self.path(path);
        let removed = match at.symlink_metadata() {
            Ok(found) if found.is_dir() => fs::remove_dir_all(at),
            Ok(_) => fs::remove_file(at),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
        };
        removed.unwrap_or_else(|error| panic!("removing {path}: {error}"));
    }

    /// Copies a recorded directory to `path`, over what is there. Links stay links, absolute ones
    /// inside this tree. Files called `.gitkeep`, which git needs for empty directories, are
    /// left out.
    pub fn copy(&self, recorded: impl AsRef<Path>, path: &str) {
        let recorded = recorded.as_ref();
        copy(recorded, &self.path(path), &self.root)
            .unwrap_or_else(|error| panic!("copying {} to {path}: {error}", recorded.display()));
    }

    fn with_parent(&self, path: &str, action: impl FnOnce(&Path) -> io::Result<()>) {
        let at = self.path(path);
        at.parent()
            .map_or(Ok(()), fs::create_dir_all)
            .and_then(|()| action(&at))
            .unwrap_or_else(|error| panic!("making {path}: {error}"));
    }
}

fn copy(from: &Path, to: &Path, root: &Path) -> io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let (kind, from, to) = (entry.file_type()?, entry.path(), to.join(entry.file_name()));
        if kind.is_dir() {
            copy(&from, &to, root)?;
        } else if kind.is_symlink() {
            symlink(rebased(&fs::read_link(from)?, root), to)?;
        } else if entry.file_name() != ".gitkeep" {
            // Not fs::copy: attributes were often recorded without permission to write them.
            fs::write(to, fs::read(from)?)?;
        }
    }
    Ok(())
}

/// A link's target such that it does not lead out of the tree to the machine the test runs on.
fn rebased(target: &Path, root: &Path) -> PathBuf {
    match target.strip_prefix("/") {
        Ok(inside) => root.join(inside),
        Err(_) => target.to_owned(),
    }
}
