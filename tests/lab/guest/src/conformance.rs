//! Puts an installed resource agent through its life, on the kernel that is really there.
//!
//! It is called as Pacemaker calls it, and has to keep what OCF asks of it and what a cluster relies on: a probe that
//! tells the truth, actions that can be repeated, a stop that works whatever it is given, silence when all is well. Then
//! it is killed at every system call of start, monitor and stop, and has to stop and start afterwards.
//!
//! Each check begins and ends with the resource stopped.

mod checks;
mod metadata;

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use ocf::testing::{Executable, Finished};

use crate::say;
use checks::CHECKS;
use metadata::Metadata;

/// How long `meta-data` and the command of `--between` may take.
const PATIENCE: Duration = Duration::from_secs(60);
/// Where Pacemaker's executor, as a service of systemd, looks for programs.
const SEARCH_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// How `conformance` is called.
#[derive(Args)]
pub struct Options {
    /// The agent's executable
    agent: PathBuf,
    /// The resource's parameters, with which it can run here and does not
    #[arg(value_name = "NAME=VALUE", value_parser = parse_parameter)]
    params: Vec<(String, String)>,
    /// The resource's name
    #[arg(long, default_value = "conformance")]
    instance: String,
    /// Every action's timeout in seconds, instead of those that the meta-data advertises
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=86400))]
    timeout: Option<u64>,
    /// Kill at each Nth system call only
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    every: u32,
    /// Shell command that has to succeed after each stop, such as a look whether a device is free
    #[arg(long, value_name = "COMMAND")]
    between: Option<String>,
    /// What a healthy monitor may print on standard error: lines that contain this text
    #[arg(long, value_name = "TEXT")]
    allow: Vec<String>,
    /// Only the checks whose name contains this
    #[arg(long, value_name = "TEXT")]
    only: Option<String>,
}

fn parse_parameter(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.into(), value.into())),
        _ => Err("expected NAME=VALUE".into()),
    }
}

/// Runs the checks, and prints a line for each; an error if one of them fails.
pub fn run(options: &Options) -> Result<()> {
    let subject = Subject::new(options)?;
    let wanted = |name: &str| {
        let only = options.only.as_ref();
        only.is_none_or(|part| name.contains(part))
    };
    let (mut count, mut failed) = (0, Vec::new());
    for (name, check) in CHECKS.iter().filter(|(name, _)| wanted(name)) {
        count += 1;
        match check(&subject) {
            Ok(details) if details.is_empty() => say(&format!("ok    {name}\n"))?,
            Ok(details) => say(&format!("ok    {name}: {details}\n"))?,
            Err(error) => {
                say(&format!("FAIL  {name}: {error:#}\n"))?;
                failed.push(*name);
                // So that the next check begins as it has to, if that is possible at all.
                let _ = subject.act("stop");
            }
        }
    }
    ensure!(count > 0, "no check's name contains what --only says");
    if !failed.is_empty() {
        let (number, names) = (failed.len(), failed.join("; "));
        bail!("{number} of {count} checks failed: {names}");
    }
    say(&format!("{count} of {count} checks passed\n"))
}

/// An agent with its parameters.
struct Subject<'a> {
    options: &'a Options,
    metadata: Metadata,
}

impl Subject<'_> {
    /// Asks the agent what it is.
    fn new(options: &Options) -> Result<Subject<'_>> {
        let mut command = executable(options, &options.params).command("meta-data");
        let finished = Finished::of(&mut command, PATIENCE)?;
        let agent = options.agent.display();
        let metadata = expect("meta-data", &finished, &[0])
            .and_then(|()| Metadata::parse(&finished.stdout))
            .with_context(|| agent.to_string())?;
        for name in &metadata.required {
            ensure!(
                options.params.iter().any(|(given, _)| given == name),
                "{agent} requires the parameter {name}: say {name}=VALUE"
            );
        }
        Ok(Subject { options, metadata })
    }

    /// The executable, for one action with these parameters.
    fn with(&self, action: &str, params: &[(String, String)]) -> Executable {
        let timeout = match self.options.timeout {
            Some(seconds) => Duration::from_secs(seconds),
            None => self.metadata.timeout(action),
        };
        executable(self.options, params)
            .with_param("CRM_meta_timeout", &timeout.as_millis().to_string())
    }

    /// The executable, for one action with the resource's parameters.
    fn ready(&self, action: &str) -> Executable {
        self.with(action, &self.options.params)
    }

    /// Runs an action: `probe` is a monitor that is not repeated.
    fn act(&self, action: &str) -> Result<Finished> {
        let finished = self.ready(action).act(action);
        finished.with_context(|| action.to_owned())
    }

    /// Runs an action and wants this exit code of it.
    fn expect(&self, action: &str, code: i32) -> Result<Finished> {
        let finished = self.act(action)?;
        expect(action, &finished, &[code])?;
        Ok(finished)
    }

    /// Stops it, and wants it to be gone.
    fn stop(&self) -> Result<()> {
        self.expect("stop", 0)?;
        self.is_stopped()
    }

    /// Wants it to be gone, after a stop.
    fn is_stopped(&self) -> Result<()> {
        self.between()?;
        self.expect("monitor", 7).context("after a stop")?;
        Ok(())
    }

    /// The user's own look at what a stop left behind.
    fn between(&self) -> Result<()> {
        let Some(text) = &self.options.between else {
            return Ok(());
        };
        let mut command = Command::new("/bin/sh");
        command.args(["-c", text]);
        let finished = Finished::of(&mut command, PATIENCE).context("after a stop, --between")?;
        expect("after a stop, --between", &finished, &[0])
    }
}

fn executable(options: &Options, params: &[(String, String)]) -> Executable {
    let params: Vec<(&str, &str)> = params
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .collect();
    // .../resource.d/PROVIDER/TYPE
    let mut parts = options.agent.iter().rev().filter_map(|part| part.to_str());
    let (kind, provider) = (parts.next(), parts.next());
    Executable::new(&options.agent, &options.instance, &params)
        .with("PATH", SEARCH_PATH)
        .with("OCF_RESOURCE_TYPE", kind.unwrap_or_default())
        .with("OCF_RESOURCE_PROVIDER", provider.unwrap_or_default())
}

/// Wants one of these exit codes, and says what there was instead.
fn expect(action: &str, finished: &Finished, codes: &[i32]) -> Result<()> {
    if finished.code.is_some_and(|code| codes.contains(&code)) {
        return Ok(());
    }
    let code = finished.code;
    let code = code.map_or("ended by a signal".into(), |code| {
        format!("exit code {code}")
    });
    let wanted: Vec<String> = codes.iter().map(i32::to_string).collect();
    let wanted = wanted.join(" or ");
    let said = finished.reason().or(finished.stderr.lines().last());
    match said.or(finished.stdout.lines().last()) {
        Some(said) => bail!("{action}: {code}, expected {wanted}: {said}"),
        None => bail!("{action}: {code}, expected {wanted}, and no reason was given"),
    }
}
