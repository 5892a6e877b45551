//! Something that keeps storage busy, so that a stop meets it.

use std::fs::{File, OpenOptions};
use std::num::NonZeroUsize;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::{Args, ValueEnum};
use nix::fcntl::OFlag;
use nix::sys::mman::{MapFlags, ProtFlags, mmap};

use crate::{say, stop};

/// How `hold` is called.
#[derive(Args)]
pub struct Options {
    /// Device, directory or file
    #[arg(long)]
    path: PathBuf,
    /// In which way
    #[arg(long, value_enum, default_value_t = How::Open)]
    how: How,
    /// Let go of it at once: only a look whether it can be had
    #[arg(long)]
    once: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum How {
    /// Open it for reading
    Open,
    /// Open a block device exclusively, as a mount does
    Excl,
    /// Sit in a directory
    Cwd,
    /// Map a file into memory, and have it open no more
    Mmap,
}

/// Prints "held", and holds until SIGTERM, unless it is to be held for a moment only.
pub fn run(options: &Options) -> Result<()> {
    let _open = take(options).with_context(|| options.path.display().to_string())?;
    if options.once {
        return say("held\n");
    }
    stop::wait(|| say("held\n"))
}

/// What has to stay open.
fn take(options: &Options) -> Result<Option<File>> {
    let open = |flags: OFlag| {
        let mut how = OpenOptions::new();
        let how = how.read(true).custom_flags(flags.bits());
        how.open(&options.path)
    };
    match options.how {
        How::Open => Ok(Some(open(OFlag::empty()).context("opening it")?)),
        How::Excl => Ok(Some(open(OFlag::O_EXCL).context("opening it exclusively")?)),
        How::Cwd => {
            std::env::set_current_dir(&options.path).context("entering it")?;
            Ok(None)
        }
        How::Mmap => {
            let file = open(OFlag::empty()).context("opening it")?;
            map(&file).context("mapping it")?;
            Ok(None)
        }
    }
}

/// Maps the begin of a file, until this program ends.
fn map(file: &File) -> Result<()> {
    let length = NonZeroUsize::MIN;
    #[expect(unsafe_code, reason = "mmap(2) has no other form")]
    // SAFETY: the mapping is new memory of its own, and nobody ever reads it.
    unsafe {
        mmap(
            None,
            length,
            ProtFlags::PROT_READ,
            MapFlags::MAP_SHARED,
            file,
            0,
        )?;
    }
    Ok(())
}
