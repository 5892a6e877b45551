//! Pacemaker's own tools, each with the time it has.

use std::time::Duration;

use anyhow::{Context, Result};
use cib::{Element, Simulation, joined};
use host::cmd::Status;
use host::{Cmd, CmdError, Host};

/// For what only reads, or writes one thing: the tools ask a daemon, and that may be busy.
const A_WHILE: Duration = Duration::from_secs(60);

/// The cluster is waited for in slices of this.
const SLICE: Duration = Duration::from_secs(10);

/// What the tools end with when their own time is over (CRM_EX_TIMEOUT).
const TIMED_OUT: i32 = 124;

/// The cluster, or a CIB in a file.
pub struct Pacemaker<'a> {
    pub host: &'a Host,
    pub cib_file: Option<String>,
}

impl Pacemaker<'_> {
    fn command(&self, program: &str) -> Cmd {
        let command = Cmd::new(program).at_most(A_WHILE);
        match &self.cib_file {
            Some(file) => command.env("CIB_file", file),
            None => command,
        }
    }

    /// The whole CIB.
    pub fn cib(&self) -> Result<Element> {
        let command = self.command("cibadmin").arg("--query");
        let output = self.host.run(&command)?;
        Element::parse(&output.stdout).context("cibadmin --query")
    }

    /// What runs where.
    pub fn status(&self) -> Result<cib::Status> {
        let words = ["--one-shot", "--inactive", "--output-as=xml"];
        let output = self.host.run(&self.command("crm_mon").args(words))?;
        cib::Status::parse(&output.stdout)
    }

    /// What crm_verify has against the configuration of a CIB, line by line. All nodes are taken to be there: what else is
    /// amiss in the cluster is no fault of its configuration.
    pub fn objections(&self, cib: &Element) -> Result<Vec<String>> {
        let words = ["--verbose", "--xml-pipe"];
        let command = Cmd::new("crm_verify").args(words).at_most(A_WHILE);
        let command = command.input(joined(cib)?.to_string());
        let output = self.host.ask(&command)?;
        if output.success() {
            return Ok(Vec::new());
        }
        let lines = output.stderr.lines().filter(|line| !line.trim().is_empty());
        let lines: Vec<String> = lines.map(str::to_owned).collect();
        Ok(match lines.is_empty() {
            true => vec![format!("it ended with {}", output.status)],
            false => lines,
        })
    }

    /// What Pacemaker would do next if this were the CIB. One that no cluster has run with yet is taken to be that of nodes
    /// that have just joined.
    pub fn foresee(&self, cib: &Element) -> Result<Simulation> {
        let fresh = cib.child("status").is_none_or(|it| it.children.is_empty());
        let cib = if fresh { joined(cib)? } else { cib.clone() };
        let words = ["--run", "--xml-pipe", "--output-as=xml"];
        let command = Cmd::new("crm_simulate").args(words).at_most(A_WHILE);
        let output = self.host.run(&command.input(cib.to_string()))?;
        Simulation::parse(&output.stdout)
    }

    /// Replaces the configuration, at once.
    pub fn replace(&self, configuration: &Element) -> Result<()> {
        let words = ["--replace", "--scope=configuration", "--xml-pipe"];
        let command = self.command("cibadmin").args(words);
        self.host.run(&command.input(configuration.to_string()))?;
        Ok(())
    }

    /// Waits until nothing more is to be done in the cluster; what still is after `limit`, of which nothing is left if all is
    /// well.
    pub fn pending(&self, limit: Duration) -> Result<Vec<String>> {
        let words = [
            "--wait".to_owned(),
            format!("--timeout={}s", SLICE.as_secs()),
        ];
        let command = self.command("crm_resource").args(words);
        let mut slices = limit.as_secs().div_ceil(SLICE.as_secs());
        loop {
            let output = self.host.ask(&command)?;
            if output.success() {
                return Ok(Vec::new());
            }
            if output.status != Status::Exited(TIMED_OUT) {
                return Err(CmdError::failed(&command, output).into());
            }
            let text = format!("{}\n{}", output.stdout, output.stderr);
            let pending = pending_actions(&text);
            slices = slices.saturating_sub(1);
            if pending.is_empty() || slices == 0 {
                return Ok(pending);
            }
        }
    }
}

/// The actions in what crm_resource says, such as `Action 4: vip_start_0 on n1`. That the history of something removed is to
/// be forgotten does not count: without fencing devices, as in a cluster that was emptied, Pacemaker 2.1.5 leaves that for its
/// next transition.
fn pending_actions(said: &str) -> Vec<String> {
    let Some((_, list)) = said.split_once("Pending actions:") else {
        return vec!["crm_resource does not say what".to_owned()];
    };
    let lines = list.lines().map(str::trim);
    let actions = lines.filter_map(|line| line.strip_prefix("Action ")?.split_once(": "));
    let words = actions.map(|(_, action)| action.split_whitespace().collect::<Vec<_>>().join(" "));
    words
        .filter(|action| !action.contains("_delete_0 "))
        .collect()
}
