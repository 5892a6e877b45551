//! What the steps of `cargo lab test` share: the built agents and the running cluster, made when first needed.

use std::path::PathBuf;

use anyhow::{Context, Result, bail};

use crate::cluster::Cluster;
use crate::layout::FLOATING;
use crate::{agents, control, packages};

/// Shared by all steps.
pub struct Suite {
    agent: String,
    /// How often something is done that chance decides.
    pub times: u32,
    built: Option<Vec<PathBuf>>,
    /// The agents were tried and do not build.
    broken: bool,
    cluster: Option<Cluster>,
}

impl Suite {
    /// Nothing is built and nothing runs yet.
    pub fn new(agent: &str, times: u32) -> Suite {
        Suite {
            agent: agent.to_owned(),
            times,
            built: None,
            broken: false,
            cluster: None,
        }
    }

    /// Step: installs what is missing.
    pub fn packages(&mut self) -> Result<()> {
        packages::install()
    }

    /// Step: builds the agents as they are shipped.
    pub fn release_build(&mut self) -> Result<()> {
        self.built = None;
        self.broken = false;
        self.agents().map(drop)
    }

    /// Step: ocf-tester on the agent of the floating addresses, on a machine without cluster.
    pub fn ocf_tester(&mut self) -> Result<()> {
        let built = self.agents()?;
        self.discard_cluster();
        let _leash = control::start(1, false, &built)?;
        control::ask(&["on", "n1"])?;
        let agent = format!(
            "/usr/lib/ocf/resource.d/{}",
            self.agent.trim_start_matches("ocf:").replace(':', "/")
        );
        let address = format!("ip={FLOATING}");
        let words = [
            "ocf-tester",
            "-n",
            "vip",
            "-o",
            &address,
            "-o",
            "cidr_netmask=24",
            "-o",
            "nic=lan0",
            &agent,
        ];
        let output =
            control::command_in("n1", &[&["timeout", "120"], &words[..]].concat())?.output();
        let output = output.context("running ocf-tester")?;
        if !output.status.success() {
            let text = [output.stdout, output.stderr].concat();
            bail!(
                "{}: {}\n{}",
                words.join(" "),
                output.status,
                String::from_utf8_lossy(&text).trim_end()
            );
        }
        Ok(())
    }

    /// The cluster of three, clean.
    pub fn cluster(&mut self) -> Result<&Cluster> {
        if self.cluster.is_none() {
            let built = self.agents()?;
            let cluster = Cluster::up(3, &built, &self.agent)?;
            cluster.load(&cluster.cib().to_xml())?;
            self.cluster = Some(cluster);
        }
        self.cluster.as_ref().context("no cluster")
    }

    /// Removes the cluster; the next step that needs one makes a new one.
    pub fn discard_cluster(&mut self) {
        self.cluster = None;
    }

    /// A cluster of this many nodes for one step, after that of the others is gone.
    pub fn cluster_of(&mut self, nodes: usize) -> Result<Cluster> {
        let built = self.agents()?;
        self.discard_cluster();
        Cluster::up(nodes, &built, &self.agent)
    }

    fn agents(&mut self) -> Result<Vec<PathBuf>> {
        packages::install()?;
        if self.broken {
            bail!("the agents do not build: see the first step that needed them");
        }
        if self.built.is_none() {
            let stand_in = !self.agent.starts_with("ocf:hastor:");
            let built = if stand_in {
                Ok(Vec::new())
            } else {
                agents::build()
            };
            self.broken = built.is_err();
            self.built = Some(built?);
        }
        Ok(self.built.clone().unwrap_or_default())
    }
}
