//! What the steps of `cargo lab test` share: the built agents and the running cluster, made when first needed.

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::cluster::Cluster;
use crate::control::Turn;
use crate::layout::{self, FLOATING};
use crate::vm::plan::USUAL;
use crate::vm::{self, Guests, Parcel};
use crate::{agents, control, packages, processes};

/// Shared by all steps.
pub struct Suite {
    agent: String,
    /// How often something is done that chance decides.
    pub times: u32,
    built: Option<Vec<PathBuf>>,
    /// The agents were tried and do not build.
    broken: bool,
    cluster: Option<Cluster>,
    /// Image or snapshot could not be made.
    no_guests: bool,
    /// What guests are given.
    parcel: Option<Parcel>,
    /// Taken away while another `cargo lab` is tested.
    turn: Option<Turn>,
}

impl Suite {
    /// Nothing is built and nothing runs yet.
    pub fn new(agent: &str, times: u32, turn: Turn) -> Suite {
        Suite {
            agent: agent.to_owned(),
            times,
            built: None,
            broken: false,
            cluster: None,
            no_guests: false,
            parcel: None,
            turn: Some(turn),
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

    /// Step: builds what virtual machines start from, unless it is there.
    pub fn guests(&mut self) -> Result<()> {
        self.discard_cluster();
        // Told once, and not tried again by every scenario: each try takes minutes.
        ensure!(
            !self.no_guests,
            "there are no guests: see the first step that needed them"
        );
        self.no_guests = true;
        vm::prepare(&USUAL)?;
        self.no_guests = false;
        Ok(())
    }

    /// Step: Ctrl-C while guests are being brought up, and after it: nothing of them is left.
    pub fn interrupted(&mut self) -> Result<()> {
        self.guests()?;
        control::down()?;
        self.turn = None;
        let begin = belongings()?;
        // What the command says just before it opens the machine room, and while the guests are given their agents.
        let tried = ["snapshot: ", "guests: all answer"]
            .iter()
            .try_for_each(|moment| interrupt_at(moment).with_context(|| format!("{moment:?}")))
            .and_then(|()| {
                let left: Vec<String> = belongings()?.difference(&begin).cloned().collect();
                ensure!(left.is_empty(), "left behind: {}", left.join(", "));
                Ok(())
            });
        self.turn = Some(control::turn()?);
        control::down()?;
        tried
    }

    /// Virtual machines, as they were when their cluster was formed, with the agents in them.
    pub fn restore(&mut self) -> Result<Guests> {
        self.guests()?;
        if self.parcel.is_none() {
            let built = self.agents()?;
            self.parcel = Some(Parcel::pack(!built.is_empty())?);
        }
        let parcel = self.parcel.as_ref().context("no parcel")?;
        Guests::up(&USUAL, parcel)
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

/// What a lab could leave on this machine, and what there is of that kind anyway.
fn belongings() -> Result<BTreeSet<String>> {
    let me = std::process::id() as i32;
    let ours = |pid: &i32| *pid != me && processes::is_ours(*pid);
    let names = |directory: &str| {
        let entries = fs::read_dir(directory).into_iter().flatten().flatten();
        entries.map(|entry| entry.file_name().to_string_lossy().into_owned())
    };
    let used = |name: &String| Path::new("/sys/block").join(name).join("loop").exists();
    let places = [PathBuf::from(layout::STATE), vm::run_directory()?];
    let mut all: BTreeSet<String> = processes::all()?
        .into_iter()
        .filter(ours)
        .map(|pid| format!("process {pid}"))
        .collect();
    all.extend(names("/sys/class/net").map(|name| format!("interface {name}")));
    all.extend(
        names("/sys/block")
            .filter(used)
            .map(|name| format!("loop device {name}")),
    );
    let mounts = fs::read_to_string("/proc/self/mounts")?;
    all.extend(mounts.lines().map(|line| format!("mount {line}")));
    let left = places.iter().filter(|path| path.exists());
    all.extend(left.map(|path| format!("directory {}", path.display())));
    Ok(all)
}

/// Ten times what was seen.
const END: Duration = Duration::from_secs(120);

/// Starts `cargo lab vm up`, sends it SIGINT when it says something, and waits for its end.
fn interrupt_at(moment: &str) -> Result<()> {
    let mut child = Command::new("/proc/self/exe")
        .args(["vm", "up", "--clients", "2", "--shelf"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .process_group(0)
        .spawn()
        .context("starting vm up")?;
    let output = child.stdout.take().context("no output")?;
    let mut lines = BufReader::new(output).lines().map_while(Result::ok);
    let said = lines.any(|line| line.contains(moment));
    kill(Pid::from_raw(child.id() as i32), Signal::SIGINT).context("SIGINT")?;
    let begin = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        if begin.elapsed() > END {
            child.kill()?;
            child.wait()?;
            bail!("not ended {} s after SIGINT", END.as_secs());
        }
        std::thread::sleep(Duration::from_millis(20));
    };
    ensure!(said, "vm up never said so: {status}");
    ensure!(
        status.code() == Some(128 + Signal::SIGINT as i32),
        "ended with {status}, expected 130"
    );
    Ok(())
}
