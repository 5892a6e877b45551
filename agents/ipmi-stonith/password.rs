//! Where the password comes from.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use host::{Cmd, Host};
use ocf::Secret;

/// How long a program may take to print a password: it comes before the fencing.
const PROGRAM: Duration = Duration::from_secs(5);
/// The permissions that let others than the owner read, write or execute.
const OTHERS: u32 = 0o077;

/// The one source that is configured.
#[derive(Clone, Debug)]
pub enum Source {
    /// The parameters themselves.
    Given(Secret),
    /// The first line of a file.
    File(String),
    /// The first line that a program prints.
    Program(String),
}

impl Source {
    /// The password.
    pub fn read(&self, host: &Host) -> Result<Secret> {
        match self {
            Source::Given(secret) => Ok(secret.clone()),
            Source::File(path) => {
                let text = host.read(path).context("the password's file")?;
                let text =
                    text.with_context(|| format!("the password's file {path}: not there"))?;
                Ok(first_line(&text))
            }
            Source::Program(line) => {
                let mut words = line.split_whitespace();
                let program = words.next().unwrap_or_default();
                let cmd = Cmd::new(program)
                    .args(words)
                    .confidential()
                    .at_most(PROGRAM);
                let output = host.ask(&cmd).context("the password's program")?;
                ensure!(
                    output.success(),
                    "the password's program {program}: {}",
                    output.status
                );
                Ok(first_line(&output.stdout))
            }
        }
    }

    /// What is unwise about it.
    pub fn remark(&self, host: &Host) -> Option<String> {
        let Source::File(path) = self else {
            return None;
        };
        match host.mode(path) {
            Ok(Some(mode)) if mode & OTHERS != 0 => Some(format!(
                "{path} has the password, and others than its owner have access to it (mode {mode:04o}); expected 0600"
            )),
            Ok(Some(_)) => None,
            Ok(None) => Some(format!("{path}, which has the password, is not there")),
            Err(error) => Some(format!("{error:#}")),
        }
    }
}

/// Everything up to the line's end: a password may begin or end with a blank.
fn first_line(text: &str) -> Secret {
    Secret::new(text.lines().next().unwrap_or_default())
}
