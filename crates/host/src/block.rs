//! Block devices: their content as other hosts have written it, their partition tables, and who may write to them.

use std::io;

use anyhow::{Context, Result};

use crate::Host;

/// ERESTARTSYS, which the kernel means for itself. A ZFS volume that nobody has open answers it if the module's lock of all
/// pools is not free for zvol_open_timeout_ms (zvol_open, since Linux 5.13).
pub(crate) const RESTART: i32 = 512;

/// Could a ZFS volume not be opened because the module's lock of all pools was held, as while another pool is imported?
pub fn is_zfs_locked(error: &anyhow::Error) -> bool {
    let error = error.root_cause().downcast_ref::<io::Error>();
    error.is_some_and(|error| match error.raw_os_error() {
        Some(number) => number == RESTART,
        // In words, as zvol_name has it.
        None => error.kind() == io::ErrorKind::ResourceBusy,
    })
}

/// What holds a disk, of the types that the kernel knows (`enum pr_type`, linux/pr.h).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PrKind {
    /// One host may write, all may read.
    WriteExclusive,
    /// One host may read and write.
    ExclusiveAccess,
    /// Registered hosts may write, all may read.
    WriteExclusiveRegistrantsOnly,
    /// Registered hosts may read and write.
    ExclusiveAccessRegistrantsOnly,
    /// As the third, and every registered host holds it.
    WriteExclusiveAllRegistrants,
    /// As the fourth, and every registered host holds it.
    ExclusiveAccessAllRegistrants,
}

impl PrKind {
    /// Each with its number in the kernel, and in SCSI (SPC-4, table 44).
    const NUMBERS: [(PrKind, u32, u8); 6] = [
        (PrKind::WriteExclusive, 1, 1),
        (PrKind::ExclusiveAccess, 2, 3),
        (PrKind::WriteExclusiveRegistrantsOnly, 3, 5),
        (PrKind::ExclusiveAccessRegistrantsOnly, 4, 6),
        (PrKind::WriteExclusiveAllRegistrants, 5, 7),
        (PrKind::ExclusiveAccessAllRegistrants, 6, 8),
    ];

    pub(crate) fn of_scsi(number: u8) -> Option<PrKind> {
        let (kind, ..) = PrKind::NUMBERS
            .into_iter()
            .find(|(.., scsi)| *scsi == number)?;
        Some(kind)
    }

    pub(crate) fn for_kernel(self) -> u32 {
        PrKind::NUMBERS
            .into_iter()
            .find(|(kind, ..)| *kind == self)
            .map_or(0, |(_, kernel, _)| kernel)
    }
}

/// Why a disk's reservations could not be changed or read.
#[derive(Debug, thiserror::Error)]
pub enum PrError {
    /// The disk, its driver or this kernel has no persistent reservations.
    #[error("persistent reservations are not supported")]
    Unsupported,
    /// The disk refused: another host's registration or reservation is in the way, or our key is not registered.
    #[error("reservation conflict")]
    Conflict,
    /// The disk answered with another status.
    #[error("the disk answered with the status {0:#x}")]
    Status(u32),
    /// The kernel said no.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// The persistent reservations of one disk (SCSI-3, NVMe). Each call may wait for the disk: make it in
/// [`Host::apart`](crate::Host::apart).
pub trait Reservations {
    /// Registers this host with the key `new`, in place of `old` (0: none yet); with `new` 0 takes the registration back.
    /// With `ignore` whatever was registered before is replaced.
    fn register(&self, old: u64, new: u64, ignore: bool) -> Result<(), PrError>;
    /// Takes a reservation of this kind; the host is registered with `key`.
    fn reserve(&self, key: u64, kind: PrKind) -> Result<(), PrError>;
    /// Gives it back.
    fn release(&self, key: u64, kind: PrKind) -> Result<(), PrError>;
    /// Removes the registration `victim`, takes its reservation over as one of this kind if it held one, and ends its
    /// requests.
    fn preempt_abort(&self, own: u64, victim: u64, kind: PrKind) -> Result<(), PrError>;
    /// The registered keys; a key stands there once for every path that is registered with it.
    fn keys(&self) -> Result<Vec<u64>, PrError>;
    /// The key that holds the disk, and how. For the kinds that all registrants hold, the key is 0.
    fn holder(&self) -> Result<Option<(u64, PrKind)>, PrError>;
}

impl Host {
    /// Reads from a device past the page cache, where the kernel can: another host may have written there. `offset` and
    /// `length` are multiples of 4096. Fewer bytes come at the device's end.
    pub fn read_at(&self, device: &str, offset: u64, length: usize) -> Result<Vec<u8>> {
        self.system
            .read_at(&self.at(device), offset, length)
            .with_context(|| format!("reading {device} at {offset}"))
    }

    /// Reads a disk's partition table again.
    pub fn reread_partitions(&self, disk: &str) -> Result<()> {
        let doing = format!("rereading the partition table of {disk}");
        log::debug!("{doing}");
        self.system
            .about_to(&doing)
            .and_then(|()| self.system.reread_partitions(&self.at(disk)))
            .context(doing)
    }

    /// The dataset whose volume a device is, as the zfs module says; None if it is no volume.
    pub fn zvol_name(&self, device: &str) -> Result<Option<String>> {
        self.system
            .zvol_name(&self.at(device))
            .with_context(|| format!("asking whose volume {device} is"))
    }

    /// The persistent reservations of a whole disk.
    pub fn reservations(&self, disk: &str) -> Result<Box<dyn Reservations>, PrError> {
        self.system.reservations(&self.at(disk), disk)
    }
}
