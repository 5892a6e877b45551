//! The real program, on a real kernel.

mod running;
mod tracing;

pub use tracing::kill_at_call;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Result, bail};

use running::Running;

/// Being traced at every system call takes time that is not the agent's.
const SLOWER: u32 = 10;

/// An agent's executable with the environment Pacemaker would give it.
#[derive(Clone)]
pub struct Executable {
    path: PathBuf,
    environment: Vec<(String, String)>,
}

/// What an action of the real program came to.
#[derive(Debug)]
pub struct Finished {
    /// The exit code; None if a signal ended it.
    pub code: Option<i32>,
    /// Standard output.
    pub stdout: String,
    /// Standard error, as a whole.
    pub stderr: String,
}

impl Finished {
    /// What a command comes to, in a process group of its own. An error if it cannot be started,
    /// or takes longer than the limit: then it was killed.
    pub fn of(command: &mut Command, limit: Duration) -> Result<Finished> {
        Running::start(command)?.finish(limit)
    }

    /// The exit reason, as Pacemaker reads it: the last one.
    pub fn reason(&self) -> Option<&str> {
        self.stderr
            .lines()
            .rev()
            .find_map(|line| line.strip_prefix("ocf-exit-reason:"))
    }
}

impl Executable {
    /// The program at `path`, as the resource `instance` with these parameters.
    pub fn new(path: impl AsRef<Path>, instance: &str, params: &[(&str, &str)]) -> Executable {
        let mut environment = vec![
            ("OCF_ROOT".into(), "/usr/lib/ocf".into()),
            ("OCF_RA_VERSION_MAJOR".into(), "1".into()),
            ("OCF_RA_VERSION_MINOR".into(), "1".into()),
            ("OCF_EXIT_REASON_PREFIX".into(), "ocf-exit-reason:".into()),
            ("OCF_RESOURCE_INSTANCE".into(), instance.into()),
            ("OCF_RESKEY_CRM_meta_timeout".into(), "20000".into()),
        ];
        environment.extend(
            params
                .iter()
                .map(|(name, value)| (format!("OCF_RESKEY_{name}"), value.to_string())),
        );
        Executable {
            path: path.as_ref().into(),
            environment,
        }
    }

    /// The same, with one more environment variable, or another value for one.
    pub fn with(&self, name: &str, value: &str) -> Executable {
        let mut changed = self.clone();
        changed.environment.retain(|(other, _)| other != name);
        changed.environment.push((name.into(), value.into()));
        changed
    }

    /// The same, with one more parameter, or another value for one.
    pub fn with_param(&self, name: &str, value: &str) -> Executable {
        self.with(&format!("OCF_RESKEY_{name}"), value)
    }

    /// The command that runs one action.
    pub fn command(&self, action: &str) -> Command {
        let mut command = Command::new(&self.path);
        command
            .arg(action)
            .env_clear()
            .envs(self.environment.iter().cloned());
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    /// The command that runs one action, as [`Executable::act`] names it.
    fn command_of(&self, action: &str) -> Command {
        match action {
            "probe" => self.command("monitor"),
            "monitor" => self
                .with_param("CRM_meta_interval", "10000")
                .command("monitor"),
            action => self.command(action),
        }
    }

    /// What Pacemaker would give an action.
    fn timeout(&self) -> Duration {
        let name = "OCF_RESKEY_CRM_meta_timeout";
        let given = self.environment.iter().find(|(other, _)| other == name);
        let millis = given.and_then(|(_, value)| value.parse().ok());
        Duration::from_millis(millis.unwrap_or(20_000))
    }

    /// Runs one action to its end. A `monitor` is one that is repeated; `probe` is one that is
    /// not. An error if it cannot be run, or takes longer than its timeout: then it was killed.
    pub fn act(&self, action: &str) -> Result<Finished> {
        Finished::of(&mut self.command_of(action), self.timeout())
    }

    /// The same, for a test that cannot go on without.
    pub fn run(&self, action: &str) -> Finished {
        self.act(action)
            .unwrap_or_else(|error| panic!("{action}: {error:#}"))
    }

    /// Runs one action and wants this exit code of it.
    pub fn expect(&self, action: &str, code: i32) -> Finished {
        let finished = self.run(action);
        assert_eq!(finished.code, Some(code), "{action}: {finished:?}");
        finished
    }

    /// Runs an action again and again, killing it at its first system call, its second, and so
    /// on until it gets to its end: see [`Executable::kill_at_call`]. `before` prepares each run, `after` looks at what a run has
    /// left behind. The action must succeed where it is not killed. Returns how many system calls
    /// there were.
    pub fn killed_at_every_call(
        &self,
        action: &str,
        mut before: impl FnMut(),
        mut after: impl FnMut(usize),
    ) -> usize {
        for call in 0.. {
            before();
            let finished = self.succeeds_or_is_killed(action, call);
            let finished = finished.unwrap_or_else(|error| panic!("{action}: {error:#}"));
            after(call);
            if finished {
                return call;
            }
        }
        unreachable!("a program makes fewer than 2^64 system calls")
    }

    fn succeeds_or_is_killed(&self, action: &str, call: usize) -> Result<bool> {
        match self.kill_at_call(action, call)? {
            None => Ok(false),
            Some(finished) if finished.code == Some(0) => Ok(true),
            Some(finished) => bail!("not killed, it ended with {finished:?}"),
        }
    }

    /// Lets an action, named as for [`Executable::act`], make `calls` system calls and kills its
    /// process group as the next one is entered. The calls of all that it starts count, too. None
    /// if it was killed; what it came to if it got to its end before.
    pub fn kill_at_call(&self, action: &str, calls: usize) -> Result<Option<Finished>> {
        let limit = self.timeout() * SLOWER;
        tracing::kill_at_call(&mut self.command_of(action), calls, limit)
    }
}
