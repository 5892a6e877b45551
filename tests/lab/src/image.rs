//! The image that the virtual machines of the lab boot: built once, then taken from the user's cache folder.

mod bootstrap;
mod build;
mod check;
pub mod child;
mod guest;
mod host;
pub mod recipe;

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

pub use guest::{Accelerator, KERNEL};
pub use host::prepare as prepare_host;

use crate::progress::{more, say};

/// A whole image: a directory with `root.img`, `kernel` and `initrd`.
pub struct Image {
    /// Where it is.
    pub directory: PathBuf,
}

impl Image {
    fn root(&self) -> PathBuf {
        self.directory.join("root.img")
    }

    fn kernel(&self) -> PathBuf {
        self.directory.join("kernel")
    }

    fn initrd(&self) -> PathBuf {
        self.directory.join("initrd")
    }
}

/// Makes the image unless it is there, and boots it for a look if that is wanted.
pub fn run(check: bool) -> Result<()> {
    let cache = cache()?;
    let _turn = turn(&cache)?;
    let image = ensure(&cache)?;
    more(image.directory.display());
    if check {
        check::run(&cache, &image)?;
    }
    Ok(())
}

/// The image of the present recipe, built if it is not there. The caller has its [`turn`] in the cache.
pub fn ensure(cache: &Path) -> Result<Image> {
    remove_unfinished(cache)?;
    let image = Image {
        directory: cache.join(format!("image-{}", recipe::hash())),
    };
    if image.directory.exists() {
        say(format_args!("image: there already"));
    } else {
        build::build(cache, &image)?;
    }
    Ok(image)
}

/// Where images and snapshots are kept; it exists.
pub fn cache() -> Result<PathBuf> {
    let cache = cache_path()?;
    fs::create_dir_all(&cache).with_context(|| format!("making {}", cache.display()))?;
    Ok(cache)
}

/// Where images and snapshots are kept, if any are.
pub fn cache_path() -> Result<PathBuf> {
    let of_user = match std::env::var_os("XDG_CACHE_HOME").filter(|path| !path.is_empty()) {
        Some(path) => PathBuf::from(path),
        None => PathBuf::from(
            std::env::var_os("HOME").context("neither XDG_CACHE_HOME nor HOME is set")?,
        )
        .join(".cache"),
    };
    Ok(of_user.join("hastor-lab"))
}

/// The right to build and to remove. The kernel takes it back whenever the program ends.
pub fn turn(cache: &Path) -> Result<Flock<File>> {
    let path = cache.join("lock");
    let file = File::options()
        .create(true)
        .append(true)
        .open(&path)
        .with_context(|| format!("opening {}", path.display()))?;
    Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|(_, error)| match error {
        Errno::EWOULDBLOCK => anyhow::anyhow!(
            "another `cargo lab` is at work in {}; wait for it or end it",
            cache.display()
        ),
        error => anyhow::anyhow!("locking {}: {error}", path.display()),
    })
}

/// The end of the names of directories that are being filled.
const UNFINISHED: &str = ".unfinished";

/// Removes what a killed run left.
fn remove_unfinished(cache: &Path) -> Result<()> {
    remove(cache, |name| name.ends_with(UNFINISHED))
}

/// Removes those directories of the cache whose name is unwanted.
pub fn remove(cache: &Path, unwanted: impl Fn(&str) -> bool) -> Result<()> {
    for entry in fs::read_dir(cache)
        .with_context(|| format!("listing {}", cache.display()))?
        .flatten()
    {
        if entry.file_name().to_str().is_some_and(&unwanted) {
            fs::remove_dir_all(entry.path())
                .with_context(|| format!("removing {}", entry.path().display()))?;
        }
    }
    Ok(())
}

/// A directory that exists while something is made in it.
pub struct Unfinished(pub PathBuf);

impl Unfinished {
    /// Makes the directory.
    pub fn create(cache: &Path, name: &str) -> Result<Unfinished> {
        let path = cache.join(format!("{name}{UNFINISHED}"));
        fs::create_dir(&path).with_context(|| format!("making {}", path.display()))?;
        Ok(Unfinished(path))
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        match fs::remove_dir_all(&self.0) {
            Ok(()) => {}
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {} // was renamed: it is whole
            Err(error) => eprintln!("cannot remove {}: {error}", self.0.display()),
        }
    }
}
