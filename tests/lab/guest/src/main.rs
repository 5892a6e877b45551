//! `hastor-guest`: what runs inside the lab's virtual machines.

// The rules for agents (all ways to the world lead through one place) do not bind what tests them.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

mod conformance;
mod hold;
mod killed;
mod link;
mod stop;
mod target;
mod watch;
mod write;

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::{Args, Parser, Subcommand};
use lab_guest::record::{BLOCK, is_name};

use target::{Shape, Target};

/// What runs inside the lab's virtual machines
#[derive(Parser)]
#[command(version, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// Write numbered records, and tell a collector of each one that is durable
    Write(write::Options),
    /// Read a ring of records back, and print what is in each slot
    Verify(Place),
    /// Put a resource agent through its life, killing it at every system call
    Conformance(conformance::Options),
    /// Run a program in the place of another, and have it killed in the middle
    Killed(killed::Options),
    /// Keep a device, a directory or a file busy until SIGTERM
    Hold(hold::Options),
    /// Tell the lab which pools and addresses are in the kernel, now and whenever that changes
    Watch(watch::Options),
}

/// A ring of slots for records, on a block device or in a file.
#[derive(Args, Clone)]
pub struct Place {
    /// Block device, or file on whatever has O_DIRECT
    #[arg(long)]
    path: PathBuf,
    /// Number of slots
    #[arg(long, value_parser = clap::value_parser!(u64).range(2..=1 << 32))]
    slots: u64,
    /// Size of a record in bytes: a multiple of 4096, at most 16 MiB
    #[arg(long, default_value_t = BLOCK, value_parser = parse_size)]
    size: usize,
}

fn parse_size(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(size) if size > 0 && size % BLOCK == 0 && size <= 16 << 20 => Ok(size),
        _ => Err("expected a multiple of 4096, at most 16777216".into()),
    }
}

/// A name, as records and logs have room for it.
fn parse_name(text: &str) -> Result<String, String> {
    match is_name(text) {
        true => Ok(text.into()),
        false => Err("expected 1 to 32 letters, digits, dots, underscores or hyphens".into()),
    }
}

fn main() -> ExitCode {
    let done = match Cli::parse().what {
        What::Write(options) => write::run(&options),
        What::Verify(place) => verify(&place),
        What::Conformance(options) => conformance::run(&options),
        What::Killed(options) => killed::run(&options),
        What::Hold(options) => hold::run(&options),
        What::Watch(options) => watch::run(&options),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("hastor-guest: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Prints what is in each slot. That it is not what it should be is for others to say.
fn verify(place: &Place) -> Result<()> {
    let shape = Shape::new(place.slots, place.size);
    let mut target = Target::open(&place.path, shape, target::Access::Read)?;
    say(&target.ring().to_string())
}

/// Which boot of this machine it is: monotonic times of two boots have nothing to do with each other.
pub fn boot() -> Result<String> {
    let id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id");
    Ok(id.context("reading the boot's id")?.trim().to_owned())
}

/// Prints text at once. `print!` would panic if nobody listens.
pub fn say(text: &str) -> Result<()> {
    let mut stdout = io::stdout();
    let written = stdout.write_all(text.as_bytes());
    written
        .and_then(|()| stdout.flush())
        .context("writing the output")
}
