//! The log goes to stderr: Pacemaker takes it from there, into its own log at its own level.

use std::io::Write;

use env_logger::{Builder, Target};
use log::LevelFilter;

use crate::call::{Call, Verbosity};

/// Sends the log to stderr, a line a message, with the resource's name but without a time,
/// which Pacemaker adds.
pub fn start(agent: &str, call: &Call) {
    let name = match call.instance.as_str() {
        "" => agent.to_owned(),
        instance => format!("{agent}({instance})"),
    };
    let level = match call.verbosity {
        Verbosity::Normal => LevelFilter::Info,
        Verbosity::Debug => LevelFilter::Debug,
        Verbosity::Trace => LevelFilter::Trace,
    };
    let _ = Builder::new()
        .filter_level(level)
        .target(Target::Stderr)
        // A reader that has gone away is no reason to fail: the error is dropped.
        .format(move |buffer, record| {
            let text = record.args().to_string().replace('\n', "; ");
            let _ = writeln!(buffer, "{name}: {}: {text}", record.level());
            Ok(())
        })
        .try_init();
}
