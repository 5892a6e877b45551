//! Mounting and unmounting. Both may wait for the storage: make them in [`Host::apart`](crate::Host::apart).

use nix::errno::Errno;
pub use nix::mount::MsFlags as MountFlags;

use crate::Host;

/// Why something was not mounted or unmounted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what}: {}", .errno.desc())]
pub struct MountError {
    /// What was tried.
    pub what: String,
    /// What the kernel said.
    pub errno: Errno,
}

impl Host {
    /// mount(2).
    pub fn mount(
        &self,
        source: &str,
        target: &str,
        kind: &str,
        flags: MountFlags,
        options: &str,
    ) -> Result<(), MountError> {
        self.change_mounts(format!("mounting {source} on {target}"), || {
            self.system
                .mount(source, &self.at(target), target, kind, flags, options)
        })
    }

    /// umount2(2), not following a link at `target`.
    pub fn unmount(&self, target: &str) -> Result<(), MountError> {
        self.change_mounts(format!("unmounting {target}"), || {
            self.system.unmount(&self.at(target), target)
        })
    }

    fn change_mounts(
        &self,
        what: String,
        action: impl FnOnce() -> Result<(), Errno>,
    ) -> Result<(), MountError> {
        log::debug!("{what}");
        let told = self
            .system
            .about_to(&what)
            .map_err(|error| Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO)));
        told.and_then(|()| action())
            .map_err(|errno| MountError { what, errno })
    }
}
