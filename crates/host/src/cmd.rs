//! A command: a program, its arguments, what it is told and what it said. Never a shell.
//!
//! Here is only the description; [`System::exec`](crate::System::exec) runs it. A command is
//! named in logs and errors by the line one could paste into a shell, without its secrets.

mod line;
#[cfg(test)]
mod tests;

use std::fmt;
use std::io;
use std::time::Duration;

use nix::sys::signal::Signal;

/// Where programs are looked for, in this order. It is also the `PATH` of every command: the one
/// the agent was given depends on who started Pacemaker.
pub(crate) const SEARCH: [&str; 6] = [
    "/usr/sbin",
    "/usr/bin",
    "/sbin",
    "/bin",
    "/usr/local/sbin",
    "/usr/local/bin",
];

/// A command to be run by [`Host::run`](crate::Host::run) or [`Host::ask`](crate::Host::ask).
///
/// It gets `PATH`, `LC_ALL=C` and the variables given here, and no others.
#[derive(Clone)]
pub struct Cmd {
    program: String,
    args: Vec<String>,
    env: Vec<Variable>,
    input: Vec<u8>,
    limit: Option<Duration>,
    confidential: bool,
}

#[derive(Clone)]
struct Variable {
    name: String,
    value: String,
    secret: bool,
}

impl Cmd {
    /// A program, by its name or by its absolute path.
    pub fn new(program: impl Into<String>) -> Cmd {
        Cmd {
            program: program.into(),
            args: Vec::new(),
            env: Vec::new(),
            input: Vec::new(),
            limit: None,
            confidential: false,
        }
    }

    /// Adds an argument: text, a number, an address.
    pub fn arg(mut self, arg: impl fmt::Display) -> Cmd {
        self.args.push(arg.to_string());
        self
    }

    /// Adds arguments.
    pub fn args(mut self, args: impl IntoIterator<Item: fmt::Display>) -> Cmd {
        self.args
            .extend(args.into_iter().map(|arg| arg.to_string()));
        self
    }

    /// Sets an environment variable.
    pub fn env(self, name: &str, value: impl fmt::Display) -> Cmd {
        self.variable_set(name, value.to_string(), false)
    }

    /// Sets an environment variable whose value appears nowhere else: not in the command's line,
    /// and not in what its standard error is remembered to have said.
    pub fn secret_env(self, name: &str, value: impl fmt::Display) -> Cmd {
        self.variable_set(name, value.to_string(), true)
    }

    fn variable_set(mut self, name: &str, value: String, secret: bool) -> Cmd {
        self.env.retain(|variable| variable.name != name);
        self.env.push(Variable {
            name: name.to_owned(),
            value,
            secret,
        });
        self
    }

    /// Gives it something to read on standard input, which is empty otherwise.
    pub fn input(mut self, bytes: impl Into<Vec<u8>>) -> Cmd {
        self.input = bytes.into();
        self
    }

    /// What it prints is a secret: it appears in no log and in no error.
    pub fn confidential(mut self) -> Cmd {
        self.confidential = true;
        self
    }

    /// Is what it prints a secret?
    pub(crate) fn is_confidential(&self) -> bool {
        self.confidential
    }

    /// Ends it after `limit`, if the action's time is not over before.
    pub fn at_most(mut self, limit: Duration) -> Cmd {
        self.limit = Some(limit);
        self
    }

    /// The time it may take, where it has a limit of its own.
    pub fn limit(&self) -> Option<Duration> {
        self.limit
    }

    /// The program, as it was given.
    pub fn program(&self) -> &str {
        &self.program
    }

    /// The arguments.
    pub fn arguments(&self) -> &[String] {
        &self.args
    }

    /// The variables of its own, secret ones too.
    pub fn variables(&self) -> impl Iterator<Item = (&str, &str)> {
        self.env
            .iter()
            .map(|variable| (variable.name.as_str(), variable.value.as_str()))
    }

    /// What it can read on standard input.
    pub fn stdin(&self) -> &[u8] {
        &self.input
    }

    /// The text with every secret replaced by `***`: some tools repeat a password they refuse. One
    /// of fewer than four bytes stays: it would be told by the gaps it leaves in other words.
    pub(crate) fn without_secrets(&self, text: String) -> String {
        self.env
            .iter()
            .filter(|variable| variable.secret && variable.value.len() >= 4)
            .fold(text, |text, variable| text.replace(&variable.value, "***"))
    }
}

/// The line that would run it in a shell. Secrets and the standard input are left out.
impl fmt::Display for Cmd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for variable in self.env.iter().filter(|variable| !variable.secret) {
            write!(f, "{}={} ", variable.name, line::quoted(&variable.value))?;
        }
        f.write_str(&line::quoted(&self.program))?;
        self.args
            .iter()
            .try_for_each(|arg| write!(f, " {}", line::quoted(arg)))
    }
}

/// The same as its Display: a derived one would print secrets.
impl fmt::Debug for Cmd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Cmd({self})")
    }
}

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// By itself, with this exit status.
    Exited(i32),
    /// By this signal.
    Killed(i32),
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Status::Exited(code) => write!(f, "exit status {code}"),
            Status::Killed(number) => match Signal::try_from(number) {
                Ok(signal) => write!(f, "killed by {signal}"),
                Err(_) => write!(f, "killed by signal {number}"),
            },
        }
    }
}

/// What a command said, and how it ended. Text that is not UTF-8 has U+FFFD in its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Output {
    /// How it ended.
    pub status: Status,
    /// All of its standard output.
    pub stdout: String,
    /// Its standard error, of more than 1 MiB the end; secrets are replaced by `***`.
    pub stderr: String,
}

impl Output {
    /// Did it end with exit status 0?
    pub fn success(&self) -> bool {
        self.code() == Some(0)
    }

    /// Its exit status; None if a signal ended it.
    pub fn code(&self) -> Option<i32> {
        match self.status {
            Status::Exited(code) => Some(code),
            Status::Killed(_) => None,
        }
    }
}

/// How it ended and the last line of its standard error.
impl fmt::Display for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.status.fmt(f)?;
        match line::last_lines(&self.stderr, 1) {
            said if said.is_empty() => Ok(()),
            said => write!(f, ": {said}"),
        }
    }
}

/// Why a command has no answer, or not the one that was needed. Each is one line.
#[derive(Debug, thiserror::Error)]
pub enum CmdError {
    /// There is no such program, or it may not be executed.
    #[error("{program} is not installed{}", line::searched(.program))]
    Missing {
        /// The program, as it was given.
        program: String,
    },
    /// It ended with another exit status than 0, or by a signal.
    #[error("{command}: {status}{}{said}", if .said.is_empty() { "" } else { ": " })]
    Failed {
        /// The command's line.
        command: String,
        /// How it ended.
        status: Status,
        /// The last lines it said, at most three, joined by `; `; may be empty.
        said: String,
    },
    /// It was killed because it took too long, or there was no time left to start it.
    #[error("{command}: {}", line::too_slow(*.after, *.abandoned))]
    TimedOut {
        /// The command's line.
        command: String,
        /// The time it had; zero if it was not started.
        after: Duration,
        /// It, or a process it had started, could not be killed and was left behind.
        abandoned: bool,
    },
    /// It said more than is kept. A part is not used: what is missing in it may well exist.
    #[error("{command}: {status}, but it printed more than {limit} bytes")]
    TooLong {
        /// The command's line.
        command: String,
        /// How it ended.
        status: Status,
        /// How many bytes of standard output are kept.
        limit: usize,
    },
    /// It could not be started, or not be watched; then it was killed.
    #[error("{command}: cannot be run: {source}")]
    Start {
        /// The command's line.
        command: String,
        /// What the kernel said.
        source: io::Error,
    },
}

impl CmdError {
    /// The error of a command that ended as `output` tells. What it said is taken from its
    /// standard output if standard error is empty, because some tools complain there.
    pub fn failed(cmd: &Cmd, output: Output) -> CmdError {
        let complaint = line::last_lines(&output.stderr, 3);
        let said = match complaint.is_empty() {
            _ if cmd.confidential => String::new(),
            true => line::last_lines(&cmd.without_secrets(output.stdout), 3),
            false => cmd.without_secrets(complaint),
        };
        CmdError::Failed {
            command: cmd.to_string(),
            status: output.status,
            said,
        }
    }

    pub(crate) fn timed_out(cmd: &Cmd, after: Duration, abandoned: bool) -> CmdError {
        CmdError::TimedOut {
            command: cmd.to_string(),
            after,
            abandoned,
        }
    }
}
