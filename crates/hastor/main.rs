//! `hastor`: the administrator's command.
//!
//! A stack is rendered from a few values, applied to a cluster, and looked at. All of it goes through Pacemaker's own
//! tools: whatever they can do by hand is done here, no more.

mod apply;
mod arguments;
mod manual;
mod overview;
mod pacemaker;
mod parameters;
mod saved;
mod sources;
mod verbs;

#[cfg(test)]
mod tests;

use std::io::{self, Write};
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use host::{Deadline, Host};

use arguments::Arguments;

/// An administrator may take his time to answer, and watch as long as he likes. Each command that is run has a limit of its own.
const YEARS: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

#[expect(clippy::disallowed_methods, reason = "the clock is first read here")]
fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            // Help is an answer; anything else is not.
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    let host = Host::linux(Deadline::after(std::time::Instant::now(), YEARS));
    let (mut answers, mut out) = (io::stdin().lock(), io::stdout().lock());
    match verbs::carry_out(&arguments, &host, &mut answers, &mut out) {
        Ok(()) => ExitCode::SUCCESS,
        // Nobody reads on, as with "| head".
        Err(error) if is_broken_pipe(&error) => ExitCode::FAILURE,
        Err(error) => {
            let _ = writeln!(io::stderr(), "hastor: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let error = error.downcast_ref::<io::Error>();
    error.is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}
