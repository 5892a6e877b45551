//! What is to be done in configfs, one system call a step, in the kernel's order. A plan is a list of them: it can be shown,
//! and carried out up to where the kernel refuses.

use std::fmt;
use std::io;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use host::{Host, is_zfs_locked};
use nix::errno::Errno;

/// How long an object may be busy that is about to be left by the kernel, such as a session's last command.
const PATIENCE: Duration = Duration::from_secs(2);

/// One change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Make a directory, which is an object.
    Make(String),
    /// Set an attribute.
    Set(Setting),
    /// Make a link.
    Link {
        /// The link.
        path: String,
        /// Where it leads.
        target: String,
    },
    /// Remove a link.
    Unlink(String),
    /// Remove an object.
    Remove(String),
    /// Remove an object unless there is something in it that others made.
    RemoveIfEmpty(String),
}

/// An attribute and its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    /// The attribute's file.
    pub path: String,
    /// The value.
    pub value: String,
    /// What the administrator calls it, for messages: `parameter attributes: emulate_tpu`.
    pub origin: String,
    /// The value is nobody's business.
    pub secret: bool,
    /// What it means that this kernel has no such attribute.
    pub if_absent: Absent,
}

/// What it means that the kernel lacks an attribute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Absent {
    /// Nothing, nor that it does not take the value: it works without.
    Fine,
    /// Somebody should know.
    Warn,
    /// It does not work.
    Fail,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Step::Make(path) => write!(f, "mkdir {}", short(path)),
            Step::Set(setting) if setting.secret => {
                write!(f, "write {} (secret)", short(&setting.path))
            }
            Step::Set(setting) => write!(f, "write {} {}", short(&setting.path), setting.value),
            Step::Link { path, target } => {
                write!(f, "link {} to {}", short(path), short(target))
            }
            Step::Unlink(path) => write!(f, "unlink {}", short(path)),
            Step::Remove(path) | Step::RemoveIfEmpty(path) => write!(f, "rmdir {}", short(path)),
        }
    }
}

fn short(path: &str) -> &str {
    path.strip_prefix(probe::lio::ROOT)
        .map(|rest| rest.trim_start_matches('/'))
        .unwrap_or(path)
}

/// Does them one after the other, up to the first that fails. Returns what somebody should know.
pub fn apply(host: &Host, steps: &[Step]) -> Result<Vec<String>> {
    let mut warnings = Vec::new();
    for step in steps {
        if host.time_left().is_zero() {
            bail!("no time is left for \"{step}\"");
        }
        if let Some(warning) = step.take(host)? {
            warnings.push(warning);
        }
    }
    Ok(warnings)
}

impl Step {
    fn take(&self, host: &Host) -> Result<Option<String>> {
        match self {
            Step::Make(path) => host.mkdir(path)?,
            Step::Set(setting) => return setting.take(host),
            Step::Link { path, target } => host.symlink(target, path)?,
            Step::Unlink(path) => host.remove(path)?,
            Step::Remove(path) => while_busy(host, || host.rmdir(path))?,
            Step::RemoveIfEmpty(path) => {
                let removed = host.rmdir(path);
                if removed
                    .as_ref()
                    .is_err_and(|e| errno(e) == Some(Errno::ENOTEMPTY))
                {
                    return Ok(None);
                }
                removed?
            }
        }
        Ok(None)
    }
}

impl Setting {
    fn take(&self, host: &Host) -> Result<Option<String>> {
        let written = while_locked(host, || host.write(&self.path, &self.value));
        let Err(error) = written else {
            return Ok(None);
        };
        let what = match self.secret || self.path.ends_with("/enable") {
            true => self.origin.clone(),
            false => format!("{}={}", self.origin, self.value),
        };
        match (errno(&error), self.if_absent) {
            (Some(_), Absent::Fine) => {
                log::debug!("{what}: {error:#}");
                Ok(None)
            }
            (Some(Errno::ENOENT), Absent::Warn) => {
                Ok(Some(format!("{what}: this kernel has no such attribute")))
            }
            (Some(Errno::ENOENT), Absent::Fail) => {
                Err(error).context(format!("{what}: this kernel has no such attribute"))
            }
            (Some(Errno::EINVAL | Errno::EPERM | Errno::ERANGE | Errno::ENOSYS), _) => {
                Err(error).context(format!("{what}: the kernel does not take it"))
            }
            _ => Err(error).context(what),
        }
    }
}

/// Tries again for a while as long as the kernel says that the object is in use.
fn while_busy(host: &Host, mut action: impl FnMut() -> Result<()>) -> Result<()> {
    let ends = host.now() + PATIENCE;
    loop {
        match action() {
            Err(error)
                if errno(&error) == Some(Errno::EBUSY)
                    && host.now() < ends
                    && !host.time_left().is_zero() =>
            {
                host.sleep(Duration::from_millis(20));
            }
            other => return other,
        }
    }
}

/// Tries again as long as a volume cannot be opened because another pool is imported, and there is time.
pub fn while_locked<T>(host: &Host, mut action: impl FnMut() -> Result<T>) -> Result<T> {
    loop {
        match action() {
            Err(error) if is_zfs_locked(&error) => {
                if host.time_left() < PATIENCE {
                    return Err(error.context("the zfs module is busy, as while it imports a pool"));
                }
                host.sleep(Duration::from_millis(20));
            }
            other => return other,
        }
    }
}

/// What the kernel answered.
pub fn errno(error: &anyhow::Error) -> Option<Errno> {
    let error = error.root_cause().downcast_ref::<io::Error>()?;
    error.raw_os_error().map(Errno::from_raw)
}
