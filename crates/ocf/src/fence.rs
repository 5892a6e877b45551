//! Fencing: what Pacemaker's fencer sees of a fence agent.
//!
//! A fence agent is a struct of typed parameters that implements [`Fence`], declared as one that
//! implements [`Agent`](crate::Agent) is: metadata, manual page, `--help` and validation are read
//! off it. Fields begin with [`Common`], flattened in. Names that other agents had for a parameter
//! are clap's `visible_aliases`: accepted, advertised as deprecated, and outranked by the field's
//! own name.
//!
//! The protocol is ClusterLabs' FenceAgentAPI, as Pacemaker 2.1 and 3.0 speak it: parameters come
//! as `name=value` lines on standard input, or as options by hand; the exit code is 0 or 1, and of
//! `status` 2 for "off"; the reason is on standard error. Fencing is taken for done if and only if
//! the exit code is 0, so nothing but a confirmed "off" may lead there: no panic, no timeout, no
//! signal.
//!
//! ```
//! use ocf::fence::{Common, Fence, Power, Target, Task};
//! use ocf::prelude::*;
//!
//! /// Fences by a file
//! ///
//! /// A machine is on if its file is there.
//! #[derive(clap::Parser)]
//! #[command(name = Self::NAME, version, rename_all = "snake_case")]
//! #[command(disable_help_flag = true, disable_version_flag = true)]
//! struct FenceFile {
//!     #[command(flatten)]
//!     common: Common,
//!     /// Path of the file
//!     ///
//!     /// An absolute path.
//!     #[arg(short = 'f', long, visible_alias = "file")]
//!     path: String,
//! }
//!
//! impl Fence for FenceFile {
//!     const NAME: &'static str = "fence_file";
//!     const VENDOR_URL: &'static str = "https://example.com";
//!
//!     fn common(&self) -> &Common {
//!         &self.common
//!     }
//!
//!     fn power(&self, task: &Task) -> Result<Power> {
//!         Ok(if task.read(&self.path)?.is_some() { Power::On } else { Power::Off })
//!     }
//!
//!     fn off(&self, task: &Task) -> Result<()> {
//!         task.remove(&self.path)
//!     }
//!
//!     fn on(&self, task: &Task) -> Result<()> {
//!         task.save(&self.path, "on\n")
//!     }
//!
//!     fn targets(&self) -> Result<Vec<Target>> {
//!         Ok(vec![])
//!     }
//! }
//!
//! // The executable would be: fn main() -> std::process::ExitCode { ocf::fence::main::<FenceFile>() }
//! # let _ = ocf::fence::main::<FenceFile>;
//! ```

mod guard;
mod input;
mod man;
mod meta;
mod run;
#[cfg(test)]
mod tests;

use std::fmt;
use std::ops::Deref;
use std::time::Duration;

use anyhow::{Result, bail};
use host::Host;

use crate::{Flag, Parameter, Seconds, declaration};

pub use guard::interrupt_flag;
pub use input::Request;
pub use man::page;
pub use meta::metadata;
pub use run::{Outcome, execute, main};

/// A fence agent: its parameters are the fields, its behaviour the methods.
///
/// An error is never "off". Its text is one line and names the device.
pub trait Fence: clap::Parser {
    /// The agent's name: its type in a cluster's configuration, which has to begin with `fence_`.
    const NAME: &'static str;
    /// Where its makers are found.
    const VENDOR_URL: &'static str;
    /// What an example in the manual page configures, besides the node: `NAME=VALUE`, values in
    /// capitals.
    const EXAMPLE: &'static [&'static str] = &[];

    /// The parameters that every fence agent has.
    fn common(&self) -> &Common;

    /// Checks the parameters against each other; looks at no device (`validate-all`).
    fn check(&self) -> Result<()> {
        Ok(())
    }

    /// What an administrator should hear about these parameters when setting the device up:
    /// `validate-all` and `monitor` say it.
    fn remarks(&self, _host: &Host) -> Vec<String> {
        Vec::new()
    }

    /// How long an action may take. A little less than the 60 s that Pacemaker gives by default: it
    /// ends what runs longer by SIGKILL, and the reason is lost.
    fn limit(&self, action: Action) -> Duration {
        match action {
            Action::Reboot => Duration::from_secs(55),
            _ => Duration::from_secs(40),
        }
    }

    /// Is the device reachable, and would it obey? Changes nothing.
    fn monitor(&self, task: &Task) -> Result<()> {
        self.power(task).map(drop)
    }

    /// Whether the target has power.
    fn power(&self, task: &Task) -> Result<Power>;

    /// Takes the power away; Ok only if it is seen to be gone.
    fn off(&self, task: &Task) -> Result<()>;

    /// Gives power; Ok only if it is seen to be there.
    fn on(&self, task: &Task) -> Result<()>;

    /// Takes the power away and gives it again. Ok as soon as the power was seen to be gone,
    /// whether or not it came back: the target is fenced.
    fn reboot(&self, task: &Task) -> Result<()> {
        self.off(task)?;
        if let Err(error) = self.on(task) {
            log::warn!("it was off, and so is fenced, but does not come on again: {error:#}");
        }
        Ok(())
    }

    /// What this device can fence, as the configuration tells.
    fn targets(&self) -> Result<Vec<Target>>;

    /// What the device offers, for an administrator who sets it up.
    fn diag(&self, _task: &Task) -> Result<String> {
        bail!("the action diag is unsupported")
    }
}

/// Something a device can fence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// The node's name.
    pub name: String,
    /// Another name for it, or nothing.
    pub alias: String,
}

/// Whether a machine has power.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Power {
    /// It has.
    On,
    /// It has not.
    Off,
}

impl fmt::Display for Power {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Power::On => "on",
            Power::Off => "off",
        })
    }
}

/// What a fence agent can be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "each has its PURPOSE below")]
pub enum Action {
    On,
    Off,
    Reboot,
    Status,
    Monitor,
    List,
    ListStatus,
    Metadata,
    Manpage,
    ValidateAll,
    Diag,
}

impl Action {
    /// All of them, by name and with what they do, in the order in which people look for them.
    pub(crate) const ALL: &[(Action, &str, &str)] = &[
        (
            Action::On,
            "on",
            "Gives power, and succeeds only if the device says that it is on.",
        ),
        (
            Action::Off,
            "off",
            "Takes the power away, and succeeds only if it is seen to be off.",
        ),
        (
            Action::Reboot,
            "reboot",
            "Takes the power away and gives it again. Succeeds if the power was seen to be off, even \
             if it does not come on again.",
        ),
        (
            Action::Status,
            "status",
            "Tells by its exit status whether the target has power.",
        ),
        (
            Action::Monitor,
            "monitor",
            "Finds out whether the device is reachable, and whether it would obey.",
        ),
        (
            Action::List,
            "list",
            "Prints the targets that the configuration names, one a line. Asks no device.",
        ),
        (
            Action::ListStatus,
            "list-status",
            "Prints for each target its name, an alias, and `ON`, `OFF` or `UNKNOWN`.",
        ),
        (
            Action::Metadata,
            "metadata",
            "Prints the agent's metadata, in XML.",
        ),
        (Action::Manpage, "manpage", "Prints this page."),
        (
            Action::ValidateAll,
            "validate-all",
            "Checks the parameters. Asks no device.",
        ),
        (
            Action::Diag,
            "diag",
            "Prints what the device offers, for setting it up. Changes nothing. Other fence \
             agents send an NMI by this name; this one never does.",
        ),
    ];

    /// The action of this name, in any case.
    pub fn named(name: &str) -> Option<Action> {
        let name = name.to_ascii_lowercase().replace('_', "-");
        let name = match name.as_str() {
            "meta-data" => "metadata",
            "man" => "manpage",
            other => other,
        };
        Action::ALL
            .iter()
            .find(|(_, known, _)| *known == name)
            .map(|(action, _, _)| *action)
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        Action::ALL
            .iter()
            .find(|(action, _, _)| *action == self)
            .map_or("", |(_, name, _)| name)
    }

    /// Does it change something?
    pub fn acts(self) -> bool {
        matches!(self, Action::On | Action::Off | Action::Reboot)
    }
}

/// Parameters of every fence agent.
#[derive(clap::Args, Clone, Debug)]
#[command(rename_all = "snake_case")]
pub struct Common {
    /// Fencing action
    ///
    /// The cluster sets it. In a configuration, use pcmk_reboot_action and its like.
    #[arg(short = 'o', long, default_value = "reboot", value_parser = known_action)]
    pub action: String,

    /// Wait before off and reboot
    ///
    /// In seconds, 0 to 300, exactly; the time is added to the action's own. In a cluster prefer
    /// pcmk_delay_base or priority-fencing-delay, which do not use up the time of the action.
    #[arg(long, default_value = "0", value_parser = crate::seconds(0..=300))]
    pub delay: Seconds,

    /// Say more
    ///
    /// Whether standard error tells each step.
    #[arg(short = 'v', long, default_value = "0")]
    pub verbose: Flag,

    /// How much more (ignored)
    ///
    /// Accepted for old configurations, and ignored: verbose says everything.
    #[arg(long, value_parser = crate::number(0..=u32::MAX))]
    pub verbose_level: Option<u32>,

    /// Say less
    ///
    /// Whether standard error tells errors only.
    #[arg(short = 'q', long, default_value = "0")]
    pub quiet: Flag,

    /// File to write each step to
    ///
    /// Lines are added to it. It is made readable for its owner only, and no secret gets into it.
    /// One that is a link or no ordinary file is not written to; the action goes on without.
    #[arg(short = 'D', long, visible_alias = "debug")]
    pub debug_file: Option<String>,

    /// Print the version
    ///
    /// By hand only.
    #[arg(short = 'V', long, default_value = "0")]
    pub version: Flag,

    /// Print a summary of the options
    ///
    /// By hand only.
    #[arg(short = 'h', long, default_value = "0")]
    pub help: Flag,
}

fn known_action(name: &str) -> Result<String, String> {
    match Action::named(name) {
        Some(action) => Ok(action.name().to_owned()),
        // By these words the fencer knows that it is not the device's fault.
        None => Err("is an unrecognised action".into()),
    }
}

/// The parameters of a fence agent, in the order of its fields.
pub fn parameters<F: Fence>() -> Vec<Parameter> {
    declaration::declared(&F::command())
}

/// One request: the machine it runs on, whom it is about, and whether it was called off.
pub struct Task<'a> {
    host: &'a Host,
    action: Action,
    target: Option<&'a str>,
    interrupted: &'a dyn Fn() -> bool,
}

/// SIGTERM or SIGINT asked the agent to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("interrupted by a signal")]
pub struct Interrupted;

/// How soon a signal is heeded during a pause.
const ATTENTION: Duration = Duration::from_millis(50);

impl<'a> Task<'a> {
    /// A request for `action`, about `target` if that is known.
    pub fn new(
        host: &'a Host,
        action: Action,
        target: Option<&'a str>,
        interrupted: &'a dyn Fn() -> bool,
    ) -> Task<'a> {
        Task {
            host,
            action,
            target,
            interrupted,
        }
    }

    /// What was asked for.
    pub fn action(&self) -> Action {
        self.action
    }

    /// The name of the node that the cluster wants this done to (`nodename`), if it said.
    pub fn target(&self) -> Option<&str> {
        self.target
    }

    /// An error as soon as a signal asked the agent to end.
    pub fn go_on(&self) -> Result<(), Interrupted> {
        match (self.interrupted)() {
            true => Err(Interrupted),
            false => Ok(()),
        }
    }

    /// Waits for `time`, for the end of the action's time, or for a signal, whichever is first.
    pub fn pause(&self, time: Duration) -> Result<(), Interrupted> {
        let ends = self.now() + time.min(self.time_left());
        loop {
            self.go_on()?;
            let left = ends.saturating_duration_since(self.now());
            if left.is_zero() {
                return Ok(());
            }
            self.host.sleep(left.min(ATTENTION));
        }
    }
}

impl Deref for Task<'_> {
    type Target = Host;

    fn deref(&self) -> &Host {
        self.host
    }
}
