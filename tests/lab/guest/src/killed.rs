//! A program that gets SIGKILL in the middle of what it does, at a system call that is chosen.

use std::io::{Write, stderr, stdout};
use std::process::{Command, exit};
use std::time::Duration;

use anyhow::{Context, Result};
use clap::Args;
use nix::sys::signal::{Signal, raise};
use ocf::testing::kill_at_call;

/// What to run, and when to kill it.
#[derive(Args)]
pub struct Options {
    /// System calls that it may make, together with all that it starts
    #[arg(long, value_name = "N")]
    call: usize,
    /// The program and its arguments
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, required = true)]
    command: Vec<String>,
}

/// Longer than any timeout of Pacemaker's in a test: the one who called us kills us before.
const LIMIT: Duration = Duration::from_secs(3600);

/// Ends as the program did: with its code, or by SIGKILL.
pub fn run(options: &Options) -> Result<()> {
    let (program, words) = options.command.split_first().context("no program")?;
    let mut command = Command::new(program);
    command.args(words);
    match kill_at_call(&mut command, options.call, LIMIT)? {
        None => {
            raise(Signal::SIGKILL).context("SIGKILL")?;
            Ok(())
        }
        Some(finished) => {
            stdout().write_all(finished.stdout.as_bytes())?;
            stderr().write_all(finished.stderr.as_bytes())?;
            exit(finished.code.unwrap_or(1))
        }
    }
}
