//! Block devices of this machine, by ioctl.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

use nix::errno::Errno;

use crate::block::{PrError, PrKind, Reservations};

/// What O_DIRECT needs of a buffer's address, on every device.
const ALIGNMENT: usize = 4096;

pub(super) fn read_at(device: &Path, offset: u64, length: usize) -> io::Result<Vec<u8>> {
    let direct = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_DIRECT | libc::O_CLOEXEC)
        .open(device);
    let read = direct.and_then(|file| read_from(&file, offset, length));
    match read {
        // No such thing here: a file on a file system without it.
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {
            read_from(&File::open(device)?, offset, length)
        }
        read => read,
    }
}

fn read_from(file: &File, offset: u64, length: usize) -> io::Result<Vec<u8>> {
    let mut space = vec![0; length + ALIGNMENT];
    let start = space.as_ptr().align_offset(ALIGNMENT).min(ALIGNMENT);
    let buffer = &mut space[start..start + length];
    let mut filled = 0;
    while filled < length {
        match file.read_at(&mut buffer[filled..], offset + filled as u64) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
        if filled % ALIGNMENT != 0 {
            break; // The end; going on from here is not aligned.
        }
    }
    Ok(buffer[..filled].to_vec())
}

mod raw {
    //! The numbers and structures of linux/pr.h, linux/fs.h and of OpenZFS (BLKZNAME).
    #[repr(C)]
    pub struct Registration {
        pub old_key: u64,
        pub new_key: u64,
        pub flags: u32,
        pub pad: u32,
    }

    #[repr(C)]
    pub struct Reservation {
        pub key: u64,
        pub kind: u32,
        pub flags: u32,
    }

    #[repr(C)]
    pub struct Preempt {
        pub old_key: u64,
        pub new_key: u64,
        pub kind: u32,
        pub flags: u32,
    }

    pub const IGNORE_KEY: u32 = 1;

    nix::ioctl_none!(reread_partitions, 0x12, 95);
    nix::ioctl_read!(zvol_name, 0x12, 125, [u8; 256]);
    nix::ioctl_write_ptr!(register, b'p', 200, Registration);
    nix::ioctl_write_ptr!(reserve, b'p', 201, Reservation);
    nix::ioctl_write_ptr!(release, b'p', 202, Reservation);
    nix::ioctl_write_ptr!(preempt_abort, b'p', 204, Preempt);
    nix::ioctl_readwrite_bad!(sg_io, 0x2285, SgIo);

    /// `struct sg_io_hdr` of scsi/sg.h.
    #[repr(C)]
    pub struct SgIo {
        pub interface_id: i32,
        pub direction: i32,
        pub command_length: u8,
        pub sense_size: u8,
        pub iovec_count: u16,
        pub length: u32,
        pub data: *mut u8,
        pub command: *const u8,
        pub sense: *mut u8,
        pub timeout: u32,
        pub flags: u32,
        pub pack_id: i32,
        pub user: *mut u8,
        pub status: u8,
        pub masked_status: u8,
        pub message_status: u8,
        pub sense_written: u8,
        pub host_status: u16,
        pub driver_status: u16,
        pub residual: i32,
        pub duration: u32,
        pub info: u32,
    }
}

pub(super) fn reread_partitions(disk: &Path) -> io::Result<()> {
    let disk = File::open(disk)?;
    #[expect(unsafe_code, reason = "an ioctl")]
    // SAFETY: it takes no argument, and the descriptor is open.
    unsafe {
        raw::reread_partitions(disk.as_raw_fd())?;
    }
    Ok(())
}

/// An error of opening a volume, in words.
pub(super) fn not_opened(error: io::Error) -> io::Error {
    match error.raw_os_error() {
        Some(crate::block::RESTART) => io::Error::new(
            io::ErrorKind::ResourceBusy,
            "the zfs module is busy, as while it imports a pool",
        ),
        _ => error,
    }
}

pub(super) fn zvol_name(device: &Path) -> io::Result<Option<String>> {
    let device = File::open(device).map_err(not_opened)?;
    let mut name = [0u8; 256];
    #[expect(unsafe_code, reason = "an ioctl")]
    // SAFETY: the module writes at most 256 bytes there, the size that is part of the ioctl's number.
    let asked = unsafe { raw::zvol_name(device.as_raw_fd(), &mut name) };
    match asked {
        Ok(_) => {
            let end = name
                .iter()
                .position(|byte| *byte == 0)
                .unwrap_or(name.len());
            Ok(Some(String::from_utf8_lossy(&name[..end]).into_owned()))
        }
        Err(Errno::ENOTTY | Errno::EINVAL) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// A disk that is open.
pub(super) struct Disk(File);

impl Disk {
    pub(super) fn open(disk: &Path) -> Result<Disk, PrError> {
        // For reading: when a disk that was open for writing is closed, udev reads its partition table again, and for
        // a moment there are no partitions. The kernel asks for CAP_SYS_ADMIN only (block/ioctl.c).
        Ok(Disk(File::open(disk)?))
    }

    /// PERSISTENT RESERVE IN (SPC-4, 6.15): what the kernel's ioctls do not tell before Linux 6.19.
    fn ask(&self, action: u8, length: u16) -> Result<Vec<u8>, PrError> {
        let mut data = vec![0u8; length.into()];
        let mut sense = [0u8; 64];
        let [high, low] = length.to_be_bytes();
        let command = [0x5e, action, 0, 0, 0, 0, 0, high, low, 0];
        let mut request = raw::SgIo {
            interface_id: i32::from(b'S'),
            direction: -3, // SG_DXFER_FROM_DEV
            command_length: command.len() as u8,
            sense_size: sense.len() as u8,
            iovec_count: 0,
            length: length.into(),
            data: data.as_mut_ptr(),
            command: command.as_ptr(),
            sense: sense.as_mut_ptr(),
            timeout: 10_000,
            flags: 0,
            pack_id: 0,
            user: std::ptr::null_mut(),
            status: 0,
            masked_status: 0,
            message_status: 0,
            sense_written: 0,
            host_status: 0,
            driver_status: 0,
            residual: 0,
            duration: 0,
            info: 0,
        };
        #[expect(unsafe_code, reason = "an ioctl")]
        // SAFETY: the buffers live until it returns, and their sizes are those in the request.
        unsafe { raw::sg_io(self.0.as_raw_fd(), &mut request) }.map_err(refused)?;
        let key = sense[2] & 0xf;
        match (request.status, request.host_status) {
            (0, 0) => {}
            (0x18, _) => return Err(PrError::Conflict),
            // ILLEGAL REQUEST: there is no such command.
            (0x02, _) if key == 5 || sense[1] & 0xf == 5 => return Err(PrError::Unsupported),
            (0, host) => return Err(PrError::Status(u32::from(host) << 16)),
            (status, _) => return Err(PrError::Status(status.into())),
        }
        let got =
            usize::from(length).saturating_sub(usize::try_from(request.residual).unwrap_or(0));
        data.truncate(got);
        Ok(data)
    }
}

/// A positive answer is the disk's status.
fn judged(answer: nix::Result<i32>) -> Result<(), PrError> {
    match answer.map_err(refused)? {
        0 => Ok(()),
        0x18 => Err(PrError::Conflict),
        status => Err(PrError::Status(status.unsigned_abs())),
    }
}

fn refused(errno: Errno) -> PrError {
    match errno {
        Errno::ENOTTY | Errno::EOPNOTSUPP | Errno::ENOSYS => PrError::Unsupported,
        errno => PrError::Io(errno.into()),
    }
}

fn word(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_be_bytes(bytes.get(at..at + 8)?.try_into().ok()?))
}

fn half(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

impl Reservations for Disk {
    fn register(&self, old: u64, new: u64, ignore: bool) -> Result<(), PrError> {
        let flags = if ignore { raw::IGNORE_KEY } else { 0 };
        let request = raw::Registration {
            old_key: old,
            new_key: new,
            flags,
            pad: 0,
        };
        #[expect(unsafe_code, reason = "an ioctl")]
        // SAFETY: the kernel reads the structure that belongs to the ioctl's number.
        judged(unsafe { raw::register(self.0.as_raw_fd(), &request) })
    }

    fn reserve(&self, key: u64, kind: PrKind) -> Result<(), PrError> {
        let request = raw::Reservation {
            key,
            kind: kind.for_kernel(),
            flags: 0,
        };
        #[expect(unsafe_code, reason = "an ioctl")]
        // SAFETY: the kernel reads the structure that belongs to the ioctl's number.
        judged(unsafe { raw::reserve(self.0.as_raw_fd(), &request) })
    }

    fn release(&self, key: u64, kind: PrKind) -> Result<(), PrError> {
        let request = raw::Reservation {
            key,
            kind: kind.for_kernel(),
            flags: 0,
        };
        #[expect(unsafe_code, reason = "an ioctl")]
        // SAFETY: the kernel reads the structure that belongs to the ioctl's number.
        judged(unsafe { raw::release(self.0.as_raw_fd(), &request) })
    }

    fn preempt_abort(&self, own: u64, victim: u64, kind: PrKind) -> Result<(), PrError> {
        // The names mislead: sd and nvme put the first into the field for the caller's own key, the second into that for
        // the key to be preempted (sd_pr_preempt, nvme_pr_preempt).
        let request = raw::Preempt {
            old_key: own,
            new_key: victim,
            kind: kind.for_kernel(),
            flags: 0,
        };
        #[expect(unsafe_code, reason = "an ioctl")]
        // SAFETY: the kernel reads the structure that belongs to the ioctl's number.
        judged(unsafe { raw::preempt_abort(self.0.as_raw_fd(), &request) })
    }

    fn keys(&self) -> Result<Vec<u64>, PrError> {
        // A disk behind some hosts with several paths each has a few dozen keys; this takes a thousand.
        let data = self.ask(0, 8 + 8 * 1000)?;
        let length = half(&data, 4).unwrap_or(0) as usize;
        Ok((0..length / 8)
            .map_while(|at| word(&data, 8 + 8 * at))
            .collect())
    }

    fn holder(&self) -> Result<Option<(u64, PrKind)>, PrError> {
        let data = self.ask(1, 24)?;
        if half(&data, 4).unwrap_or(0) < 16 {
            return Ok(None);
        }
        match (
            word(&data, 8),
            data.get(21)
                .map(|byte| byte & 0xf)
                .and_then(PrKind::of_scsi),
        ) {
            (Some(key), Some(kind)) => Ok(Some((key, kind))),
            _ => Err(PrError::Status(0)),
        }
    }
}
