//! Pacemaker's own tools, each with the time it has.

use std::time::Duration;

use anyhow::{Context, Result};
use cib::{Element, Simulation, Status, joined};
use host::{Cmd, CmdError, Host};

/// For what only reads, or writes one thing: the tools ask a daemon, and that may be busy.
const A_WHILE: Duration = Duration::from_secs(60);

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
    pub fn status(&self) -> Result<Status> {
        let words = ["--one-shot", "--inactive", "--output-as=xml"];
        let output = self.host.run(&self.command("crm_mon").args(words))?;
        Status::parse(&output.stdout)
    }

    /// What crm_verify has against the configuration of a CIB, if it has something. All nodes are taken to be there: what
    /// else is amiss in the cluster is no fault of its configuration.
    pub fn objections(&self, cib: &Element) -> Result<Option<String>> {
        let words = ["--verbose", "--xml-pipe"];
        let command = Cmd::new("crm_verify").args(words).at_most(A_WHILE);
        let command = command.input(joined(cib)?.to_string());
        let output = self.host.ask(&command)?;
        Ok(match output.success() {
            true => None,
            false => Some(output.stderr.trim().to_owned()),
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

    /// Waits until nothing more is to be done in the cluster; false if there still is after `limit`.
    pub fn settled(&self, limit: Duration) -> Result<bool> {
        let seconds = limit.as_secs();
        let command = self
            .command("crm_resource")
            .args(["--wait".to_owned(), format!("--timeout={seconds}s")]);
        // It counts itself, and then says what was still pending.
        match self.host.run(&command.at_most(limit + A_WHILE)) {
            Ok(_) => Ok(true),
            Err(CmdError::TimedOut { .. }) => Ok(false),
            // CRM_EX_TIMEOUT
            Err(CmdError::Failed { status, .. }) if status == host::cmd::Status::Exited(124) => {
                Ok(false)
            }
            Err(error) => Err(error.into()),
        }
    }
}
