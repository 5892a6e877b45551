//! The log goes to stderr: Pacemaker takes it from there, into its own log at its own level.

use std::fs::File;
use std::io::Write;
use std::sync::{Mutex, PoisonError};

use env_logger::{Builder, Target};
use log::{LevelFilter, Log, Metadata, Record};

use crate::Secret;
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

/// The log of a fence agent: to stderr at one level, to a file all of it, and secrets nowhere.
pub(crate) struct Discreet {
    pub(crate) name: &'static str,
    pub(crate) level: LevelFilter,
    pub(crate) file: Option<Mutex<File>>,
    pub(crate) secrets: Vec<Secret>,
}

impl Discreet {
    /// Makes it the log of this process.
    pub(crate) fn start(self) {
        let most = match self.file {
            Some(_) => LevelFilter::Debug,
            None => self.level,
        };
        if log::set_boxed_logger(Box::new(self)).is_ok() {
            log::set_max_level(most);
        }
    }
}

/// The text without secrets. They do not get into it in the first place; this is the second lock.
pub(crate) fn redacted<'a>(text: String, secrets: impl IntoIterator<Item = &'a Secret>) -> String {
    let secrets = secrets.into_iter().map(Secret::reveal);
    secrets
        .filter(|secret| leaves_no_gap(secret))
        .fold(text, |text, secret| text.replace(secret, "***"))
}

/// A short secret, or one that is a word, would be told by what is missing: "wrong ***".
fn leaves_no_gap(secret: &str) -> bool {
    secret.len() >= 6 && !secret.chars().all(|c| c.is_lowercase())
}

impl Log for Discreet {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        self.file.is_some() || metadata.level() <= self.level
    }

    fn log(&self, record: &Record<'_>) {
        let text = record.args().to_string().replace(['\n', '\r'], "; ");
        let text = redacted(text, &self.secrets);
        let line = format!("{}: {}: {text}\n", self.name, record.level());
        if record.level() <= self.level {
            let _ = std::io::stderr().write_all(line.as_bytes());
        }
        if let Some(file) = &self.file {
            let mut file = file.lock().unwrap_or_else(PoisonError::into_inner);
            let _ = file.write_all(line.as_bytes());
        }
    }

    fn flush(&self) {}
}
