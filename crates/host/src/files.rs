//! Files under the host's root. Every error names the path; absent is an answer, not an error.

#![expect(
    clippy::disallowed_methods,
    reason = "this is the module they point to"
)]

use std::fs;
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::{Access, Host};

impl Host {
    /// Where `path` (absolute) lies on this machine.
    pub(crate) fn at(&self, path: &str) -> PathBuf {
        self.root.join(path.trim_start_matches('/'))
    }

    /// The text of a file, or None if there is no such file.
    pub fn read(&self, path: &str) -> Result<Option<String>> {
        match self.content(path) {
            Ok(bytes) => Ok(Some(String::from_utf8_lossy(&bytes).into_owned())),
            Err(error) => absent(error).with_context(|| format!("reading {path}")),
        }
    }

    /// The content of a file that is no text, or None if there is no such file.
    pub fn read_bytes(&self, path: &str) -> Result<Option<Vec<u8>>> {
        match self.content(path) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) => absent(error).with_context(|| format!("reading {path}")),
        }
    }

    /// Where a path leads once all links in it are followed, or None if it leads nowhere.
    pub fn real_path(&self, path: &str) -> Result<Option<String>> {
        let real = || {
            let root = fs::canonicalize(&self.root)?;
            let real = fs::canonicalize(self.at(path))?;
            let inside = real.strip_prefix(root).unwrap_or(&real);
            Ok(format!(
                "/{}",
                inside.to_string_lossy().trim_start_matches('/')
            ))
        };
        match real() {
            Ok(real) => Ok(Some(real)),
            Err(error) => absent(error).with_context(|| format!("following {path}")),
        }
    }

    /// The names in a directory, sorted; none if there is no such directory.
    pub fn list(&self, dir: &str) -> Result<Vec<String>> {
        let names = || -> io::Result<Vec<String>> {
            let mut names = Vec::new();
            for entry in fs::read_dir(self.at(dir))? {
                names.push(entry?.file_name().to_string_lossy().into_owned());
            }
            names.sort();
            Ok(names)
        };
        match names() {
            Ok(names) => Ok(names),
            Err(error) => {
                let nothing: Option<Vec<String>> =
                    absent(error).with_context(|| format!("listing {dir}"))?;
                Ok(nothing.unwrap_or_default())
            }
        }
    }

    /// Is this a directory, or a link to one?
    pub fn is_dir(&self, path: &str) -> bool {
        self.at(path).is_dir()
    }

    /// Where a symbolic link points, or None if there is no such link.
    pub fn link_target(&self, path: &str) -> Result<Option<String>> {
        match fs::read_link(self.at(path)) {
            Ok(target) => {
                let inside = match self.root.as_path() != Path::new("/") {
                    true => target.strip_prefix(&self.root).ok(),
                    false => None,
                };
                Ok(Some(match inside {
                    Some(inside) => format!("/{}", inside.to_string_lossy()),
                    None => target.to_string_lossy().into_owned(),
                }))
            }
            Err(error) => absent(error).with_context(|| format!("reading the link {path}")),
        }
    }

    /// Writes into a file that exists, as one `write`: the way a kernel attribute is set.
    pub fn write(&self, path: &str, text: &str) -> Result<()> {
        self.change("writing", path, |at| {
            self.unless_kernel_file(path, Access::Write(text), || {
                fs::OpenOptions::new()
                    .write(true)
                    .truncate(true)
                    .open(at)?
                    .write_all(text.as_bytes())
            })
        })
    }

    /// Replaces a file's content at once (a new file, mode 0600, renamed over the old one), making
    /// the directory, mode 0700, if it is not there. A reader sees the old text or the new one.
    pub fn save(&self, path: &str, text: &str) -> Result<()> {
        self.replace(path, text, false)
    }

    /// The same, and it is on its disk before this returns: not for files on storage that may hang.
    pub fn save_durably(&self, path: &str, text: &str) -> Result<()> {
        self.replace(path, text, true)
    }

    fn replace(&self, path: &str, text: &str, durably: bool) -> Result<()> {
        self.change("saving", path, |at| {
            self.unless_kernel_file(path, Access::Save, || {
                let dir = at.parent().unwrap_or(Path::new("/"));
                fs::DirBuilder::new()
                    .recursive(true)
                    .mode(0o700)
                    .create(dir)?;
                let draft = dir.join(format!(".{}.{}", name(at), std::process::id()));
                let written = fs::OpenOptions::new()
                    .write(true)
                    .create(true)
                    .truncate(true)
                    .mode(0o600)
                    .open(&draft)
                    .and_then(|mut file| {
                        file.write_all(text.as_bytes())?;
                        if durably { file.sync_all() } else { Ok(()) }
                    })
                    .and_then(|()| fs::rename(&draft, at));
                if written.is_err() {
                    let _ = fs::remove_file(&draft);
                }
                written?;
                // The name, too.
                if durably {
                    fs::File::open(dir)?.sync_all()
                } else {
                    Ok(())
                }
            })
        })
    }

    /// Opens a file that lines are added to, made readable for its owner only (mode 0600) whether
    /// it is new or not. A link in its place, and anything that is no ordinary file, is an
    /// error: whoever can write to the directory must not choose what root writes to.
    pub fn log_file(&self, path: &str) -> Result<fs::File> {
        let open = || -> io::Result<fs::File> {
            let file = fs::OpenOptions::new()
                .append(true)
                .create(true)
                .mode(0o600)
                .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_CLOEXEC)
                .open(self.at(path))?;
            if !file.metadata()?.is_file() {
                return Err(io::Error::other("it is no ordinary file"));
            }
            file.set_permissions(fs::Permissions::from_mode(0o600))?;
            Ok(file)
        };
        open().with_context(|| format!("opening {path}"))
    }

    /// The size of a file in bytes, or None if there is no such file.
    pub fn size(&self, path: &str) -> Result<Option<u64>> {
        match fs::metadata(self.at(path)) {
            Ok(found) => Ok(Some(found.len())),
            Err(error) => absent(error).with_context(|| format!("looking at {path}")),
        }
    }

    /// The permissions of a file, such as 0600, or None if there is no such file.
    pub fn mode(&self, path: &str) -> Result<Option<u32>> {
        match fs::metadata(self.at(path)) {
            Ok(found) => Ok(Some(found.permissions().mode() & 0o7777)),
            Err(error) => absent(error).with_context(|| format!("looking at {path}")),
        }
    }

    /// The number of the user who owns a file, or None if there is no such file.
    pub fn owner(&self, path: &str) -> Result<Option<u32>> {
        match fs::metadata(self.at(path)) {
            Ok(found) => Ok(Some(found.uid())),
            Err(error) => absent(error).with_context(|| format!("looking at {path}")),
        }
    }

    /// Makes a directory; that it is there already is fine.
    pub fn mkdir(&self, path: &str) -> Result<()> {
        self.change("making the directory", path, |at| {
            let made = self.unless_kernel_file(path, Access::MakeDir, || fs::create_dir(at));
            unless(ErrorKind::AlreadyExists, made)
        })
    }

    /// Makes a directory, mode 0755, and those above it that are not there.
    pub fn mkdir_all(&self, path: &str) -> Result<()> {
        if self.is_dir(path) {
            return Ok(());
        }
        self.change("making the directory", path, |_| {
            let ends = path.match_indices('/').map(|(at, _)| at);
            for end in ends.skip_while(|end| *end == 0).chain([path.len()]) {
                let dir = &path[..end];
                let made =
                    self.unless_kernel_file(dir, Access::MakeDir, || fs::create_dir(self.at(dir)));
                if !self.is_dir(dir) {
                    made?;
                }
            }
            Ok(())
        })
    }

    /// Removes an empty directory; that it is not there is fine.
    pub fn rmdir(&self, path: &str) -> Result<()> {
        self.change("removing the directory", path, |at| {
            let removed = self.unless_kernel_file(path, Access::RemoveDir, || fs::remove_dir(at));
            unless(ErrorKind::NotFound, removed)
        })
    }

    /// Makes the symbolic link `path` that points to `target`, both absolute on this machine.
    pub fn symlink(&self, target: &str, path: &str) -> Result<()> {
        self.change("making the link", path, |at| {
            self.unless_kernel_file(path, Access::Link(target), || {
                std::os::unix::fs::symlink(self.at(target), at)
            })
        })
    }

    /// Removes a file or a link; that it is not there is fine.
    pub fn remove(&self, path: &str) -> Result<()> {
        self.change("removing", path, |at| {
            let removed = self.unless_kernel_file(path, Access::Unlink, || fs::remove_file(at));
            unless(ErrorKind::NotFound, removed)
        })
    }

    fn content(&self, path: &str) -> io::Result<Vec<u8>> {
        match self.system.kernel_file(path, Access::Read) {
            Some(Err(refused)) => Err(refused),
            _ => fs::read(self.at(path)),
        }
    }

    fn unless_kernel_file(
        &self,
        path: &str,
        access: Access<'_>,
        ordinary: impl FnOnce() -> io::Result<()>,
    ) -> io::Result<()> {
        self.system
            .kernel_file(path, access)
            .unwrap_or_else(ordinary)
    }

    fn change(
        &self,
        doing: &str,
        path: &str,
        action: impl FnOnce(&Path) -> io::Result<()>,
    ) -> Result<()> {
        log::debug!("{doing} {path}");
        self.system
            .about_to(&format!("{doing} {path}"))
            .and_then(|()| action(&self.at(path)))
            .with_context(|| format!("{doing} {path}"))
    }
}

/// The file's own name, without its directory.
fn name(path: &Path) -> String {
    path.file_name()
        .map(|name| name.to_string_lossy().into_owned())
        .unwrap_or_default()
}

fn absent<T>(error: io::Error) -> io::Result<Option<T>> {
    match error.kind() {
        ErrorKind::NotFound | ErrorKind::NotADirectory => Ok(None),
        _ => Err(error),
    }
}

fn unless(accepted: ErrorKind, result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == accepted => Ok(()),
        other => other,
    }
}
