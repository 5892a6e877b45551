//! A running cluster, as demo and scenarios use it.

use std::fs;
use std::io::Write;
use std::net::IpAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail, ensure};

use crate::cib::{self, Cib};
use crate::control::{self, Leash};
use crate::corosync::Quorum;
use crate::crm::Status;
use crate::layout::{self, CLIENT, STATE};
use crate::progress::say;
use crate::vm::room::Setup;
use crate::{evidence, kernel, processes, service};

/// Ten times what forming a cluster of three takes on two busy cores.
const JOIN: Duration = Duration::from_secs(150);

/// Between two questions.
const SHORTEST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(5);

/// Bound for anything that may include fencing and the boot of the node that was fenced, which takes a minute under
/// emulation; ten times that.
pub const RECOVER: Duration = Duration::from_secs(600);

/// A cluster with its client.
pub struct Cluster {
    /// Names of the nodes: n1, n2, ...
    pub nodes: Vec<String>,
    /// Type of the floating addresses, `ocf:hastor:vip`.
    pub agent: String,
    /// Whether its nodes are virtual machines: those are fenced by their BMCs, always.
    guests: bool,
    leash: Option<Leash>,
}

impl Cluster {
    /// Starts a cluster and waits until all its nodes are online. It ends with this program, unless released.
    pub fn up(nodes: usize, agents: &[PathBuf], agent: &str) -> Result<Cluster> {
        let leash = control::start(nodes, true, agents)?;
        let cluster = Cluster {
            nodes: layout::nodes(nodes),
            agent: agent.to_owned(),
            guests: false,
            leash: Some(leash),
        };
        let formed = cluster.form();
        formed.map_err(|error| anyhow!("{error:#}\n{}", evidence::keep(&cluster, "up")))?;
        Ok(cluster)
    }

    fn form(&self) -> Result<()> {
        self.power_on(CLIENT)?;
        for node in &self.nodes {
            self.power_on(node)?;
        }
        say(format_args!(
            "power on: {} and the client",
            self.nodes.join(" ")
        ));
        self.wait_until_formed()
    }

    /// Waits until all nodes are members and online.
    pub fn wait_until_formed(&self) -> Result<()> {
        self.wait_for("Corosync's membership", JOIN, || self.corosync_complete())?;
        say(format_args!(
            "corosync: {} members, quorate",
            self.nodes.len()
        ));
        let status = self.wait_for("all nodes online", JOIN, || self.all_online())?;
        say(format_args!(
            "pacemaker: {} online, DC {}",
            status.online().join(" "),
            status.dc.unwrap_or_default()
        ));
        Ok(())
    }

    /// A cluster of guests, whose lab runs already.
    pub fn of_guests(nodes: Vec<String>) -> Cluster {
        Cluster {
            nodes,
            agent: "ocf:hastor:vip".to_owned(),
            guests: true,
            leash: None,
        }
    }

    /// The cluster that is already running.
    pub fn running(agent: &str) -> Result<Cluster> {
        let machines = control::machines()?;
        let nodes = machines
            .into_iter()
            .filter(control::Machine::is_node)
            .map(|machine| machine.name)
            .collect();
        if Setup::file().exists() {
            return Ok(Cluster::of_guests(nodes));
        }
        Ok(Cluster {
            nodes,
            agent: agent.to_owned(),
            guests: false,
            leash: None,
        })
    }

    /// Lets the cluster outlive this program.
    pub fn release(mut self) -> Result<()> {
        self.leash.take().map_or(Ok(()), Leash::release)
    }

    /// Waits for a condition, asking again and again: an error means "not yet", and the last one is told when the
    /// bound is reached.
    pub fn wait_for<T>(
        &self,
        what: &str,
        bound: Duration,
        mut condition: impl FnMut() -> Result<T>,
    ) -> Result<T> {
        let begin = Instant::now();
        loop {
            let asked = Instant::now();
            match condition() {
                Ok(value) => return Ok(value),
                Err(error) if begin.elapsed() > bound => {
                    bail!(
                        "waited {} s for {what}: {error:#}",
                        begin.elapsed().as_secs()
                    );
                }
                // An emulated node answers after a second or two of work: without a pause, asking would be its main load.
                Err(_) => sleep((asked.elapsed() * 2).clamp(SHORTEST, LONGEST)),
            }
        }
    }

    fn corosync_complete(&self) -> Result<()> {
        for node in &self.nodes {
            self.quorum(node)?
                .expect(true, self.nodes.len())
                .context(node.clone())?;
        }
        Ok(())
    }

    /// What Corosync on a node says about its partition.
    pub fn quorum(&self, node: &str) -> Result<Quorum> {
        // Exit code 1 means "no quorum".
        let output = self.run(node, &["corosync-quorumtool", "-s"])?;
        Quorum::parse(&String::from_utf8_lossy(&output.stdout))
    }

    /// All nodes are members, and a DC is elected.
    pub fn all_online(&self) -> Result<Status> {
        let status = self.status()?;
        let mut online = status.online();
        online.sort_unstable();
        if status.dc.is_none() || !status.quorate || online != self.nodes {
            bail!(
                "online: {online:?}, DC: {:?}, quorate: {}",
                status.dc,
                status.quorate
            );
        }
        Ok(status)
    }

    // Power and cables. Each answers when it happened: seconds since 1970.

    /// Power loss: everything on the node is gone at once.
    pub fn power_off(&self, name: &str) -> Result<f64> {
        Ok(control::ask(&["off", name])?.trim().parse()?)
    }

    /// Gives power again.
    pub fn power_on(&self, name: &str) -> Result<()> {
        control::ask(&["on", name]).map(drop)
    }

    /// Cuts a node off the cluster network; it keeps its carrier.
    pub fn cut(&self, name: &str) -> Result<f64> {
        Ok(control::ask(&["cut", name])?.trim().parse()?)
    }

    /// Undoes [`Cluster::cut`].
    pub fn heal(&self, name: &str) -> Result<()> {
        control::ask(&["heal", name]).map(drop)
    }

    /// Pulls or plugs the cable of a node's service network.
    pub fn nic(&self, name: &str, up: bool) -> Result<()> {
        control::ask(&["nic", name, if up { "up" } else { "down" }]).map(drop)
    }

    // Commands.

    /// Runs a command on a machine, for at most a minute.
    pub fn run(&self, name: &str, words: &[&str]) -> Result<Output> {
        let mut bounded = vec!["timeout", "-k", "5", "60"];
        bounded.extend(words);
        let mut command = control::command_in(name, &bounded)?;
        command
            .stdin(Stdio::null())
            .output()
            .with_context(|| format!("running {words:?} on {name}"))
    }

    /// What a daemon of a node has logged: `pacemaker` or `corosync`.
    pub fn log(&self, node: &str, daemon: &str) -> Result<String> {
        let inside = format!("/var/log/{daemon}/{daemon}.log");
        if Setup::file().exists() {
            return self.output(node, &["cat", &inside]);
        }
        let path =
            layout::on_disk(node, &format!("/var/log/{daemon}")).join(format!("{daemon}.log"));
        fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))
    }

    /// Runs a command on a machine that must succeed; what it printed.
    pub fn output(&self, name: &str, words: &[&str]) -> Result<String> {
        checked(name, words, self.run(name, words)?)
    }

    /// Runs a command of the cluster's administrator on a node that can answer.
    pub fn admin(&self, words: &[&str]) -> Result<String> {
        self.output(&self.talker()?, words)
    }

    /// A command that runs on a machine until its end or that of the machine.
    pub fn spawn(&self, name: &str, words: &[&str]) -> Result<Child> {
        let mut command: Command = control::command_in(name, words)?;
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        command
            .spawn()
            .with_context(|| format!("starting {words:?} on {name}"))
    }

    /// A node with power and with its network: the majority's view.
    pub fn talker(&self) -> Result<String> {
        let machines = control::machines()?.into_iter();
        // The one that has had power for the longest time: another may still be booting.
        let able = machines
            .filter(|m| m.is_node() && m.init.is_some() && !m.cut && !m.frozen)
            .min_by_key(|machine| machine.init.map(processes::started));
        able.map(|machine| machine.name)
            .context("no node has power and network")
    }

    // Pacemaker.

    /// What crm_mon says.
    pub fn status(&self) -> Result<Status> {
        Status::parse(&self.admin(&["crm_mon", "-1", "--output-as=xml"])?)
    }

    /// The cluster as this node sees it.
    pub fn status_of(&self, node: &str) -> Result<Status> {
        Status::parse(&self.output(node, &["crm_mon", "-1", "--output-as=xml"])?)
    }

    /// A CIB with fencing for this cluster, to add addresses to.
    pub fn cib(&self) -> Cib {
        let cib = Cib::new(&self.nodes, &self.agent);
        if self.guests {
            return cib.fenced_by_bmcs(None);
        }
        cib
    }

    /// Replaces the configuration of the cluster by that of a CIB text.
    pub fn load(&self, text: &str) -> Result<()> {
        self.wait_for("a DC", JOIN, || self.status()?.dc.context("no DC"))?;
        let node = self.talker()?;
        let configuration = cib::fit(text, &self.output(&node, &["cibadmin", "--query"])?)?;
        let words = [
            "timeout",
            "60",
            "cibadmin",
            "--replace",
            "--scope",
            "configuration",
            "--xml-pipe",
        ];
        let mut command = control::command_in(&node, &words)?;
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().context("running cibadmin")?;
        if let Some(mut input) = child.stdin.take() {
            input
                .write_all(configuration.as_bytes())
                .context("writing to cibadmin")?;
        }
        let mut output = child.wait_with_output()?;
        // On failure it holds the whole CIB.
        output.stdout.clear();
        let loaded = checked(&node, &words[2..], output);
        loaded
            .map(drop)
            .context("the cluster does not take the CIB; crm_verify -V -x FILE may tell why")
    }

    /// The process of a daemon on a node.
    pub fn process(&self, node: &str, daemon: &str) -> Result<String> {
        let output = self.output(node, &["pidof", daemon])?;
        Ok(output.trim().to_owned())
    }

    /// Waits until a daemon on a node is another process than `old`.
    pub fn wait_for_another(&self, node: &str, daemon: &str, old: &str) -> Result<()> {
        self.wait_for(&format!("another {daemon}"), RECOVER, || {
            let new = self.process(node, daemon)?;
            ensure!(new != old, "still process {old}");
            Ok(())
        })
    }

    /// Waits until a resource runs, healthily and on one node; that node.
    pub fn wait_started(&self, id: &str) -> Result<String> {
        self.wait_for(&format!("{id} started"), RECOVER, || {
            self.status()?.runs_on(id)
        })
    }

    /// Waits until a resource runs on another node than `old`.
    pub fn wait_moved(&self, id: &str, old: &str) -> Result<String> {
        self.wait_for(&format!("{id} moved away from {old}"), RECOVER, || {
            let node = self.status()?.runs_on(id)?;
            if node == old {
                bail!("still on {old}");
            }
            Ok(node)
        })
    }

    /// Waits until the client gets an answer from `node` at an address.
    pub fn wait_reachable(&self, address: &str, node: &str) -> Result<()> {
        self.wait_for(
            &format!("{node} to answer the client at {address}"),
            RECOVER,
            || {
                let found = self.output(CLIENT, &[crate::LAB_INSIDE, "fetch", address])?;
                if found.trim() != node {
                    bail!("{:?} answered", found.trim());
                }
                Ok(())
            },
        )
    }

    /// Waits until Pacemaker has fenced a node, at `since` (seconds since 1970) or later.
    ///
    /// A guest is restored for each scenario, and its fencer remembers nothing from before. Its BMC need not be asked to
    /// switch off what is off already, so that the room may not know.
    pub fn wait_fenced(&self, node: &str, since: f64) -> Result<()> {
        if self.guests {
            return self.wait_for(&format!("{node} fenced"), RECOVER, || {
                let other = self.nodes.iter().find(|name| *name != node);
                if self.fencings(other.context("a cluster of one")?, node)? == 0 {
                    bail!("no fencing has succeeded");
                }
                Ok(())
            });
        }
        self.wait_for(&format!("{node} fenced"), RECOVER, || {
            let log = fs::read_to_string(format!("{STATE}/room.log"))?;
            let by_agent =
                log.lines()
                    .filter_map(|line| line.split_once(' '))
                    .any(|(time, what)| {
                        let asker = what.strip_prefix(&format!("{node} power off for "));
                        asker.is_some_and(|asker| !asker.starts_with("lab"))
                            && time.parse::<f64>().is_ok_and(|time| time >= since)
                    });
            if by_agent {
                Ok(())
            } else {
                bail!("no fence agent asked for it")
            }
        })
    }

    /// How often a node was fenced, as another node's fencer remembers.
    pub fn fencings(&self, on: &str, node: &str) -> Result<usize> {
        self.fence_events(on, node, "success")
    }

    /// How many fencings of a node ended so, `success` or `failed`, as another node's fencer remembers.
    pub fn fence_events(&self, on: &str, node: &str, status: &str) -> Result<usize> {
        let words = [
            "stonith_admin",
            "--history",
            node,
            "--verbose",
            "--output-as=xml",
        ];
        let history = self.output(on, &words)?;
        let events = history.split("<fence_event ").skip(1);
        let status = format!("status=\"{status}\"");
        Ok(events.filter(|event| event.contains(&status)).count())
    }

    /// The nodes that hold an address, as their kernels say.
    pub fn holders(&self, address: IpAddr) -> Vec<String> {
        self.nodes
            .iter()
            .filter(|node| kernel::holds(node, address))
            .cloned()
            .collect()
    }

    /// Puts everything back: power, cables, no resources, no failures, no address.
    pub fn reset(&self) -> Result<()> {
        for node in &self.nodes {
            self.heal(node)?;
            self.nic(node, true)?;
            self.power_on(node)?;
        }
        self.wait_for("all nodes online", RECOVER, || self.all_online())?;
        // While the resources are still there: it takes their fail counts along.
        self.admin(&["crm_resource", "--cleanup"])?;
        self.load(&self.cib().to_xml())?;
        self.wait_for("a clean cluster", RECOVER, || {
            let status = self.all_online()?;
            let left: Vec<&str> = status
                .resources
                .iter()
                .map(|r| r.id.as_str())
                .filter(|id| *id != "power")
                .collect();
            if !left.is_empty() || !status.failures.is_empty() {
                bail!("left: {left:?}, failures: {:?}", status.failures);
            }
            status.runs_on("power")
        })
        .map(drop)
    }
}

/// Fetches from inside the client's network namespace; for the hidden command that [`Cluster::wait_reachable`] runs.
pub fn fetch_once(address: IpAddr) -> Result<()> {
    println!("{}", service::fetch(address, Duration::from_secs(2))?);
    Ok(())
}

fn checked(name: &str, words: &[&str], output: Output) -> Result<String> {
    if !output.status.success() {
        let text = format!(
            "{}{}",
            String::from_utf8_lossy(&output.stderr),
            String::from_utf8_lossy(&output.stdout)
        );
        bail!(
            "{name}: {}: {}: {}",
            words.join(" "),
            output.status,
            text.trim()
        );
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
