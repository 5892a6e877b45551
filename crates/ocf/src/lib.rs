//! What Pacemaker sees of an agent.
//!
//! An agent is a struct of typed parameters that implements [`Agent`]. The struct, with its doc
//! comments, is the only declaration: parsing, defaults, validation, metadata and man page are
//! read off it. The agent says what "running" means and how to get there; this crate owns the
//! rest of the OCF protocol: parameters, lifecycle, exit codes, exit reason, deadline and log.
//!
//! A whole agent:
//!
//! ```
//! use ocf::prelude::*;
//!
//! /// Keeps a file in place
//! ///
//! /// The longer description, as many paragraphs as it takes.
//! #[derive(clap::Parser)]
//! #[command(name = Self::NAME, version, rename_all = "snake_case")]
//! struct FlagFile {
//!     /// Path of the file
//!     ///
//!     /// An absolute path, whose directory exists.
//!     #[arg(long)]
//!     path: String,
//! }
//!
//! impl Agent for FlagFile {
//!     const NAME: &'static str = "flag-file";
//!     const OPERATIONS: &'static [Operation] =
//!         &[Operation::start(20), Operation::stop(20), Operation::monitor(20).every(10)];
//!     const UNIQUE: &'static [(&'static str, &'static [&'static str])] = &[("path", &["path"])];
//!
//!     fn monitor(&self, node: &Node, _: Depth) -> Result<State> {
//!         Ok(if node.read(&self.path)?.is_some() { State::Running } else { State::Stopped })
//!     }
//!
//!     fn start(&self, node: &Node) -> Result<()> {
//!         node.save(&self.path, "here\n")
//!     }
//!
//!     fn stop(&self, node: &Node) -> Result<()> {
//!         node.remove(&self.path)
//!     }
//! }
//!
//! // The executable would be: fn main() -> std::process::ExitCode { ocf::main::<FlagFile>() }
//! # let _ = ocf::main::<FlagFile>;
//! ```
//!
//! Fencing is a protocol of its own, with [`Fence`] in the place of [`Agent`].

mod call;
mod declaration;
mod exit;
pub mod fence;
mod log;
pub mod man;
pub mod meta;
mod node;
mod params;
mod run;
mod secret;
#[cfg(feature = "testing")]
pub mod testing;

use std::fmt;

pub use call::Call;
pub use declaration::{Operation, Parameter, ParameterKind, parameters};
pub use exit::{Exit, Failure, classify};
pub use fence::Fence;
pub use node::Node;
pub use params::{Flag, Seconds, number, parse, seconds};
pub use run::{Outcome, execute, main};
pub use secret::Secret;

/// What an agent's file begins with.
pub mod prelude {
    pub use crate::{Agent, Depth, Exit, Flag, Node, Operation, State};
    pub use ::log::{debug, info, warn};
    pub use anyhow::{Context, Result, bail, ensure};
    pub use host::{Cmd, CmdError, Host};
}

use prelude::{Result, bail};

/// A resource agent: its parameters are the fields, its behaviour the methods.
pub trait Agent: clap::Parser {
    /// The agent's name: its type in a cluster's configuration, and its executable's name.
    const NAME: &'static str;
    /// The advertised operations with their suggested timeouts. An action that can be left out
    /// (promote, demote, notify, reload-agent) is implemented exactly if it stands here.
    const OPERATIONS: &'static [Operation];
    /// Groups of parameters that must, taken together, differ between resources: OCF's `unique-group`.
    const UNIQUE: &'static [(&'static str, &'static [&'static str])] = &[];
    /// Parameters that may change without a restart: OCF's `reloadable`.
    const RELOADABLE: &'static [&'static str] = &[];
    /// Parameters kept for old configurations, with what to use instead: OCF's `deprecated`.
    const DEPRECATED: &'static [(&'static str, &'static str)] = &[];

    /// What else a person can ask of it, by hand: the command's name, and what it does. Pacemaker calls none of them.
    const COMMANDS: &'static [(&'static str, &'static str)] = &[];
    /// More of the manual page, in Markdown: headings, paragraphs, code between fences, and tables of two columns.
    const MANUAL: &'static str = "";

    /// Checks the parameters against each other; looks at no host (`validate-all`, level 0).
    fn check(&self) -> Result<()> {
        Ok(())
    }

    /// Could this host run the resource? Asked before start (`validate-all`, level 10).
    fn validate(&self, _node: &Node) -> Result<()> {
        Ok(())
    }

    /// What the resource is doing here, now. Changes nothing. Doubt is an error, never
    /// [`State::Stopped`].
    fn monitor(&self, node: &Node, depth: Depth) -> Result<State>;

    /// Is nothing of the resource left here? Asked before and after a stop; what others made
    /// does not count. Unless an agent knows better, this is what monitor calls stopped.
    fn is_gone(&self, node: &Node) -> Result<bool> {
        match self.monitor(node, Depth::Quick)? {
            State::Stopped => Ok(true),
            _ => Ok(false),
        }
    }

    /// Brings the resource up, from nothing or from whatever is there. What it made is taken
    /// back by [`Agent::stop`] if it fails.
    fn start(&self, node: &Node) -> Result<()>;

    /// Takes note of a resource that a start found running: it may have been brought up by
    /// somebody else, and stop must know what it would have known from its own start.
    fn adopt(&self, _node: &Node) -> Result<()> {
        Ok(())
    }

    /// Takes the resource away, from whatever is there.
    fn stop(&self, node: &Node) -> Result<()>;

    /// Gives the resource the promoted role.
    fn promote(&self, _node: &Node) -> Result<()> {
        bail!(Exit::Unimplemented.because("promote is not implemented"))
    }

    /// Takes the promoted role back.
    fn demote(&self, _node: &Node) -> Result<()> {
        bail!(Exit::Unimplemented.because("demote is not implemented"))
    }

    /// Hears what is done to other instances of a clone. Its failure changes nothing.
    fn notify(&self, _node: &Node) -> Result<()> {
        Ok(())
    }

    /// Carries out one of [`Agent::COMMANDS`]; what it prints.
    fn by_hand(&self, _node: &Node, name: &str) -> Result<String> {
        bail!(Exit::Unimplemented.because(format!("{name} is not implemented")))
    }

    /// Brings a running resource in line with changed parameters that are [`Agent::RELOADABLE`].
    fn reload(&self, _node: &Node) -> Result<()> {
        bail!(Exit::Unimplemented.because("reload-agent is not implemented"))
    }
}

/// What a resource is doing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// Nothing of it is here.
    Stopped,
    /// It works. Of a promotable resource: unpromoted.
    Running,
    /// It works, in the promoted role.
    Promoted,
    /// It works, but somebody should look at it: why.
    Degraded(String),
    /// It works in the promoted role, but somebody should look at it: why.
    DegradedPromoted(String),
}

impl State {
    /// Does it work?
    pub fn is_up(&self) -> bool {
        *self != State::Stopped
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            State::Stopped => f.write_str("stopped"),
            State::Running => f.write_str("running"),
            State::Promoted => f.write_str("promoted"),
            State::Degraded(why) => write!(f, "degraded: {why}"),
            State::DegradedPromoted(why) => write!(f, "promoted, degraded: {why}"),
        }
    }
}

/// How closely a monitor looks: `OCF_CHECK_LEVEL`. A level in between is the next lower one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Depth {
    /// Level 0: what the kernel says, at once.
    Quick,
    /// Level 10: also tries it out, within a bound.
    Normal,
    /// Level 20: everything that can be found out.
    Thorough,
}

impl Depth {
    /// The depth of an `OCF_CHECK_LEVEL`.
    pub fn of_level(level: u32) -> Depth {
        match level {
            0..10 => Depth::Quick,
            10..20 => Depth::Normal,
            _ => Depth::Thorough,
        }
    }
}
