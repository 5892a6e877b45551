//! Where a definition lies: the file, the pool around it, and the host, if there is one to be looked at.

use std::cell::OnceCell;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use host::Host;
use ocf::Secret;
use probe::mounts;

use super::volumes::{self, Volume};

/// How long a file may take to be read. It may lie on the storage, and that may hang.
const READING: Duration = Duration::from_secs(30);
/// The permissions that let others than the owner read, write or execute.
const OTHERS: u32 = 0o077;

/// What surrounds a definition's text.
pub struct Place<'a> {
    /// The file, for messages.
    pub path: &'a str,
    /// The pool it is about, if that is known.
    pub pool: Option<String>,
    /// None if the text is only checked.
    host: Option<&'a Host>,
    volumes: OnceCell<Vec<Volume>>,
}

impl<'a> Place<'a> {
    /// A file on a host, in the pool whose file system it lies on.
    pub fn on(host: &'a Host, path: &'a str) -> Result<Place<'a>> {
        Ok(Place {
            path,
            pool: pool_around(host, path)?,
            host: Some(host),
            volumes: OnceCell::new(),
        })
    }

    /// A text that is checked without a host.
    #[cfg(test)]
    pub fn nowhere(path: &'a str, pool: Option<&str>) -> Place<'a> {
        Place {
            path,
            pool: pool.map(str::to_owned),
            host: None,
            volumes: OnceCell::new(),
        }
    }

    /// The pool's name, for what is called after it.
    pub fn pool_name(&self) -> Result<&str> {
        match (&self.pool, self.host) {
            (Some(pool), _) => Ok(pool),
            (None, None) => Ok("pool"),
            (None, Some(_)) => bail!(
                "{}: it lies on no ZFS file system, so it is not known which pool is meant; expected the key pool, \
                 or targets with an iqn and LUNs that are named one by one",
                self.path
            ),
        }
    }

    /// The volumes of the pool, by name; None if there is no host to ask.
    pub fn volumes(&self) -> Result<Option<&[Volume]>> {
        let Some(host) = self.host else {
            return Ok(None);
        };
        if self.volumes.get().is_none() {
            let volumes = volumes::of_pool(host, self.pool_name()?)?;
            let _ = self.volumes.set(volumes);
        }
        Ok(self.volumes.get().map(Vec::as_slice))
    }

    /// The volume of that name; None if there is no host to ask.
    pub fn volume(&self, name: &str) -> Result<Option<&Volume>> {
        let Some(volumes) = self.volumes()? else {
            return Ok(None);
        };
        let found = volumes.binary_search_by(|volume| volume.name.as_str().cmp(name));
        match found.ok().and_then(|at| volumes.get(at)) {
            Some(volume) if volume.has_device => Ok(Some(volume)),
            Some(_) => bail!("volume {name} has no block device: its volmode is none"),
            None => bail!("there is no volume {name} in pool {}", self.pool_name()?),
        }
    }

    /// The first line of a file that only root can read.
    pub fn password(&self, path: &str) -> Result<Secret> {
        let Some(host) = self.host else {
            return Ok(Secret::new("not read"));
        };
        let text = secrets(host, path)?;
        Ok(Secret::new(
            text.reveal().lines().next().unwrap_or_default(),
        ))
    }

    /// Fails if others than root have access to a file with a secret.
    pub fn private(&self, path: &str) -> Result<()> {
        match self.host {
            Some(host) => private(host, path),
            None => Ok(()),
        }
    }
}

/// The text of a file that only root can read.
pub fn secrets(host: &Host, path: &str) -> Result<Secret> {
    let text = read(host, path)?.with_context(|| format!("{path} is not there"))?;
    private(host, path)?;
    Ok(Secret::new(text))
}

/// Fails if others than root have access to a file with a secret.
fn private(host: &Host, path: &str) -> Result<()> {
    let found = host.apart(&format!("looking at {path}"), READING, |host| {
        Ok((host.mode(path)?, host.owner(path)?))
    })?;
    if let (Some(mode), Some(owner)) = found {
        ensure!(
            mode & OTHERS == 0,
            "{path} has a password in it, and others than its owner have access to it (mode {mode:04o}); expected 0600"
        );
        // An agent is root. A test may be anybody.
        ensure!(
            owner == 0 || owner == nix::unistd::geteuid().as_raw(),
            "{path} has a password in it, and its owner is user {owner}; expected root"
        );
    }
    Ok(())
}

/// The text of a file, None if there is none. In a process of its own, because the file may lie on storage that hangs.
pub fn read(host: &Host, path: &str) -> Result<Option<String>> {
    let bytes = host.apart(&format!("reading {path}"), READING, |host| {
        host.read_bytes(path)
    })?;
    match bytes.map(String::from_utf8) {
        None => Ok(None),
        Some(Ok(text)) => Ok(Some(text)),
        Some(Err(error)) => bail!(
            "{path}: byte {} is not UTF-8; expected a text",
            error.utf8_error().valid_up_to()
        ),
    }
}

/// The pool whose file system a path is on, by the kernel's table of mounts.
fn pool_around(host: &Host, path: &str) -> Result<Option<String>> {
    let mounts = mounts::of(host, None)?;
    let holds = |target: &str| volumes::is_within(path, target.trim_end_matches('/'));
    // Of several the deepest, and of those on one place the last.
    let around = mounts
        .iter()
        .filter(|mount| holds(&mount.target))
        .max_by_key(|mount| mount.target.trim_end_matches('/').len());
    Ok(around
        .filter(|mount| mount.kind == "zfs")
        .and_then(|mount| mount.source.split('/').next())
        .map(str::to_owned))
}
