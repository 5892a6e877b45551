//! The ring's device or file, read and written past all caches.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Seek, SeekFrom};
use std::os::unix::fs::{FileExt, FileTypeExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use lab_guest::record::{BLOCK, Found, decode};
use lab_guest::{Ring, State};
use nix::errno::Errno;
use nix::fcntl::{FallocateFlags, OFlag, fallocate};

/// The form of a ring.
#[derive(Clone, Copy)]
pub struct Shape {
    /// Number of slots.
    pub slots: u64,
    /// Size of a slot, bytes.
    pub size: usize,
}

impl Shape {
    /// A ring of so many slots of this size.
    pub fn new(slots: u64, size: usize) -> Shape {
        Shape { slots, size }
    }

    fn bytes(self) -> u64 {
        self.slots * self.size as u64
    }

    fn offset(self, slot: u64) -> u64 {
        slot * self.size as u64
    }
}

/// What a target is opened for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// To be read.
    Read,
    /// To be read and written.
    Write,
    /// The same; a file is made if there is none.
    Create,
}

/// An open ring.
pub struct Target {
    path: PathBuf,
    shape: Shape,
    file: File,
    buffer: Aligned,
}

impl Target {
    /// Opens a ring, which has to be long enough. A file that is to be created is made so long.
    ///
    /// Nothing is ever created below /dev: a device that is not there is an error, not a file of its name.
    pub fn open(path: &Path, shape: Shape, access: Access) -> Result<Target> {
        let create = access == Access::Create && !path.starts_with("/dev");
        let name = path.display();
        // Before it is opened: a FIFO would wait for somebody.
        if let Ok(there) = fs::metadata(path) {
            let kind = there.file_type();
            ensure!(
                kind.is_file() || kind.is_block_device(),
                "{name}: expected a block device or a file"
            );
        }
        let file = OpenOptions::new()
            .read(true)
            .write(access != Access::Read)
            .create(create)
            .custom_flags(OFlag::O_DIRECT.bits())
            .open(path)
            .with_context(|| format!("opening {name} with O_DIRECT"))?;
        let target = Target {
            path: path.into(),
            shape,
            file,
            buffer: Aligned::new(shape.size),
        };
        target.make_room(create).with_context(|| name.to_string())?;
        Ok(target)
    }

    fn make_room(&self, create: bool) -> Result<()> {
        let wanted = self.shape.bytes();
        let length = (&self.file).seek(SeekFrom::End(0)).context("its length")?;
        if length >= wanted {
            return Ok(());
        }
        ensure!(
            create,
            "it has {length} bytes, and {} slots of {} take {wanted}",
            self.shape.slots,
            self.shape.size
        );
        match fallocate(&self.file, FallocateFlags::empty(), 0, wanted as i64) {
            // Below version 4.2, NFS cannot.
            Err(Errno::EOPNOTSUPP) => self.file.set_len(wanted),
            other => other.map_err(io::Error::from),
        }
        .context("making it long enough")?;
        self.file.sync_all().context("fsync")?;
        let parent = self.path.parent().filter(|parent| *parent != Path::new(""));
        File::open(parent.unwrap_or(Path::new(".")))
            .and_then(|parent| parent.sync_all())
            .context("fsync of its directory")
    }

    /// Reads a slot.
    pub fn read(&mut self, slot: u64) -> io::Result<Found> {
        let bytes = self.buffer.bytes();
        self.file.read_exact_at(bytes, self.shape.offset(slot))?;
        Ok(decode(bytes))
    }

    /// Writes a slot, in one system call. It is durable only after [`Target::sync`].
    pub fn write(&self, slot: u64, record: &Aligned) -> io::Result<()> {
        let bytes = record.as_bytes();
        let written = self.file.write_at(bytes, self.shape.offset(slot))?;
        match written == bytes.len() {
            true => Ok(()),
            false => {
                let text = format!("only {written} of {} bytes were written", bytes.len());
                Err(io::Error::other(text))
            }
        }
    }

    /// Waits until all that was written is durable: fdatasync(2).
    pub fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    /// Fills all slots with zeros.
    pub fn clear(&self) -> io::Result<()> {
        let zeros = Aligned::new(self.shape.size);
        for slot in 0..self.shape.slots {
            self.write(slot, &zeros)?;
        }
        self.sync()
    }

    /// Reads all slots.
    pub fn ring(&mut self) -> Ring {
        let Shape { slots, size } = self.shape;
        let states = (0..slots).map(|slot| match self.read(slot) {
            Ok(found) => State::of(found, slot, slots),
            Err(error) => State::Unreadable(error.to_string()),
        });
        let slots = states.collect();
        Ring {
            path: self.path.display().to_string(),
            size,
            slots,
        }
    }
}

/// Memory that O_DIRECT takes.
pub struct Aligned {
    memory: Vec<u8>,
    begin: usize,
    size: usize,
}

impl Aligned {
    /// So many bytes, zeros.
    pub fn new(size: usize) -> Aligned {
        let memory = vec![0; size + BLOCK];
        let begin = memory.as_ptr().align_offset(BLOCK);
        Aligned {
            memory,
            begin,
            size,
        }
    }

    /// The bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.memory[self.begin..self.begin + self.size]
    }

    /// The bytes, to be changed.
    pub fn bytes(&mut self) -> &mut [u8] {
        &mut self.memory[self.begin..self.begin + self.size]
    }
}
