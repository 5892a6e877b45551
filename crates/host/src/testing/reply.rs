use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::Tree;
use crate::cmd::Status;

type Effect = Arc<dyn Fn(&Tree) + Send + Sync>;
type Choice = Arc<dyn Fn(&Tree) -> Reply + Send + Sync>;

/// What a scripted command does.
#[derive(Clone)]
pub struct Reply {
    pub(super) end: End,
    pub(super) effects: Vec<Effect>,
    pub(super) time: Duration,
}

/// How a scripted command ends.
#[derive(Clone)]
pub(super) enum End {
    Said {
        status: Status,
        stdout: String,
        stderr: String,
    },
    Hangs,
    Missing,
    Given(Choice),
}

impl Reply {
    /// Exit status 0 and this standard output.
    pub fn ok(stdout: impl Into<String>) -> Reply {
        Reply::said(Status::Exited(0), stdout.into(), String::new())
    }

    /// This exit status and this standard error.
    pub fn fails(code: i32, stderr: impl Into<String>) -> Reply {
        Reply::said(Status::Exited(code), String::new(), stderr.into())
    }

    /// Exit status 0 or, if it has not succeeded, 1; with this standard output and standard error.
    pub fn says(succeeds: bool, stdout: impl Into<String>, stderr: impl Into<String>) -> Reply {
        let status = Status::Exited(i32::from(!succeeds));
        Reply::said(status, stdout.into(), stderr.into())
    }

    /// Ended by a signal.
    pub fn killed_by(signal: i32) -> Reply {
        Reply::said(Status::Killed(signal), String::new(), String::new())
    }

    /// Never ends: it takes all the time it is given, and is killed.
    pub fn hangs() -> Reply {
        Reply::of(End::Hangs)
    }

    /// The program is not installed.
    pub fn missing() -> Reply {
        Reply::of(End::Missing)
    }

    /// Whatever the tree, as it is when the command runs, gives reason for.
    pub fn given(choose: impl Fn(&Tree) -> Reply + Send + Sync + 'static) -> Reply {
        Reply::of(End::Given(Arc::new(choose)))
    }

    /// Changes the tree, then answers. A command that hangs can have changed things before.
    pub fn and(mut self, effect: impl Fn(&Tree) + Send + Sync + 'static) -> Reply {
        self.effects.push(Arc::new(effect));
        self
    }

    /// Takes this long on the script's clock. If that is more than it is given, it is killed
    /// before it has changed anything.
    pub fn taking(mut self, time: Duration) -> Reply {
        self.time += time;
        self
    }

    /// The reply itself, where it was left to a choice.
    pub(super) fn settled(self, tree: &Tree) -> Reply {
        let End::Given(choose) = &self.end else {
            return self;
        };
        let mut chosen = choose(tree).settled(tree);
        chosen.effects.extend(self.effects);
        chosen.time += self.time;
        chosen
    }

    fn said(status: Status, stdout: String, stderr: String) -> Reply {
        Reply::of(End::Said {
            status,
            stdout,
            stderr,
        })
    }

    fn of(end: End) -> Reply {
        Reply {
            end,
            effects: Vec::new(),
            time: Duration::ZERO,
        }
    }
}

impl fmt::Debug for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.end {
            End::Said {
                status,
                stdout,
                stderr,
            } => write!(f, "{status}: {stdout:?} {stderr:?}"),
            End::Hangs => f.write_str("hangs"),
            End::Missing => f.write_str("missing"),
            End::Given(_) => f.write_str("given by the tree"),
        }
    }
}
