//! Real clusters on this machine: `cargo lab`.
//!
//! Nodes are namespaces with Corosync and Pacemaker in them; a background process, the machine room, is their power
//! switch and their network. Nothing of this machine's own network, `/etc` or `/var/lib` is used or changed.

// The rules for agents (all ways to the world lead through one place) do not bind a program that builds that world.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

mod agents;
mod bench;
mod bmc;
mod cib;
mod client;
mod cluster;
mod control;
mod corosync;
mod crm;
mod demo;
mod disk;
mod evidence;
mod fence;
mod fencing;
mod image;
mod interrupt;
mod kernel;
mod layout;
mod machine;
mod packages;
mod processes;
mod progress;
mod room;
mod sampler;
mod scenarios;
mod service;
mod steps;
mod suite;
mod switch;
mod threads;
mod timeline;
mod vm;

use std::net::IpAddr;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, bail};
use clap::{Parser, Subcommand};
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::Signal;

use cluster::Cluster;
use progress::{more, say};

/// This program, as a machine of the lab sees it.
pub const LAB_INSIDE: &str = "/run/hastor-lab/bin/lab";

/// Real clusters on this machine, in namespaces. Needs root and Debian.
#[derive(Parser)]
#[command(
    name = "cargo lab",
    bin_name = "cargo lab",
    version,
    max_term_width = 100
)]
struct Cli {
    /// Type of the floating addresses; another agent with the same parameters takes part as stand-in
    #[arg(long, hide = true, global = true, default_value = "ocf:hastor:vip")]
    agent: String,
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// Show a failover: two heads with a pool each, two clients that write, and the plug of a head is pulled
    Demo {
        /// Leave the cluster running
        #[arg(long)]
        keep: bool,
        /// In about a minute: three nodes in namespaces and one floating address, the power of its holder is cut
        #[arg(long)]
        quick: bool,
    },
    /// Run all tests of the project
    Test {
        /// Only the steps and scenarios whose name contains this
        #[arg(long, value_name = "NAME")]
        only: Option<String>,
        /// How often what is repeated by chance or by races is done, such as the split brain
        #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=10_000))]
        times: u32,
        /// Only list the names
        #[arg(long)]
        list: bool,
    },
    /// Measure
    Bench(bench::Options),
    /// Build the image of the virtual machines, unless it is there already
    Image {
        /// Boot it once and look whether everything in it works
        #[arg(long)]
        check: bool,
    },
    /// Virtual machines: real kernels with ZFS, DRBD, LIO and nfsd, restored in seconds
    #[command(subcommand)]
    Vm(vm::Command),
    /// Start a cluster and leave it running
    Up {
        /// Number of nodes, n1 to nN
        #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..=layout::MOST_NODES as i64))]
        nodes: u8,
    },
    /// Remove everything: processes, namespaces, files
    Down,
    /// Show the cluster's status
    Status,
    /// Run a command on a node, or on `client`
    Run {
        /// n1, n2, ... or client
        node: String,
        /// The command and its arguments
        #[arg(trailing_var_arg = true, allow_hyphen_values = true, required = true)]
        command: Vec<String>,
    },
    /// Load a CIB file; the nodes of the running cluster are put into it
    Cib {
        /// The file
        file: PathBuf,
    },
    /// Store what an agent reads on a node of the virtual machines, under tests/trees
    Record {
        /// n1, n2, ...
        node: String,
        /// vip, zfs-pool, lio-target, nfs-export or drbd-volume
        agent: String,
        /// Name of the case
        case: String,
    },
    /// Cut the power of a node
    Kill {
        /// n1, n2, ...
        node: String,
    },
    /// Give a node its power again
    On {
        /// n1, n2, ...
        node: String,
    },
    /// Cut a node off the cluster network; it keeps its carrier
    Cut {
        /// n1, n2, ...
        node: String,
    },
    /// Let a node back onto the cluster network
    Heal {
        /// n1, n2, ...
        node: String,
    },
    /// Pull (down) or plug (up) the cable of a node's service network
    Nic {
        /// n1, n2, ...
        node: String,
        /// down or up
        #[arg(value_parser = ["down", "up"])]
        state: String,
    },
    #[command(flatten)]
    Hidden(Hidden),
}

/// What the lab runs of itself.
#[derive(Subcommand)]
enum Hidden {
    #[command(hide = true)]
    Room {
        #[arg(long)]
        nodes: usize,
        #[arg(long)]
        daemons: bool,
    },
    #[command(hide = true)]
    VmRoom,
    #[command(hide = true)]
    VmExec {
        name: String,
        #[arg(trailing_var_arg = true, allow_hyphen_values = true, required = true)]
        command: Vec<String>,
    },
    #[command(hide = true)]
    Machine {
        name: String,
        #[arg(long)]
        daemons: bool,
    },
    #[command(hide = true)]
    Init {
        name: String,
        #[arg(long)]
        daemons: bool,
    },
    #[command(hide = true)]
    Serve { name: String },
    #[command(hide = true)]
    Chassis {
        name: String,
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        words: Vec<String>,
    },
    #[command(hide = true)]
    Fetch { address: IpAddr },
    #[command(hide = true)]
    Watch { address: IpAddr },
    #[command(hide = true)]
    Measure {
        vip: PathBuf,
        #[command(flatten)]
        options: bench::Options,
    },
    #[command(hide = true)]
    MeasureFencing { runs: usize, ours: PathBuf },
    #[command(hide = true)]
    Tied {
        /// SIGKILL instead of SIGTERM
        #[arg(long)]
        kill: bool,
        #[arg(trailing_var_arg = true, allow_hyphen_values = true, required = true)]
        command: Vec<String>,
    },
}

fn main() -> ExitCode {
    let called = std::env::args().next().unwrap_or_default();
    if Path::new(&called)
        .file_name()
        .is_some_and(|name| name == "fence_hastor_lab")
    {
        return ExitCode::from(fence::run() as u8);
    }
    match run(Cli::parse()) {
        Ok(code) => code,
        Err(_) if interrupt::ending() => interrupt::end(),
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(cli: Cli) -> Result<ExitCode> {
    match &cli.what {
        What::Hidden(hidden) => return run_hidden(hidden),
        What::Test { list: true, .. } => steps::list(),
        _ => packages::check_machine()?,
    }
    match cli.what {
        What::Demo { keep, quick } => {
            let _turn = begin()?;
            match quick {
                true => demo::run(&cli.agent, keep)?,
                false => vm::show(keep)?,
            }
        }
        What::Test { list: true, .. } | What::Hidden(_) => {}
        What::Test { only, times, .. } => {
            let turn = begin()?;
            return steps::run(&cli.agent, only.as_deref(), times, turn);
        }
        What::Bench(options) => bench::run(options)?,
        What::Image { check } => {
            progress::begin();
            interrupt::note()?;
            image::run(check)?;
        }
        What::Record { node, agent, case } => {
            return vm::run(vm::Command::Record { node, agent, case }, &cli.agent);
        }
        What::Vm(command) => return vm::run(command, &cli.agent),
        What::Up { nodes } => {
            let _turn = begin()?;
            up(usize::from(nodes), &cli.agent)?;
        }
        What::Down => {
            println!(
                "{}",
                if control::down_in_turn()? {
                    "removed"
                } else {
                    "nothing to remove"
                }
            );
        }
        What::Status => print!(
            "{}",
            Cluster::running(&cli.agent)?.admin(&["crm_mon", "-1"])?
        ),
        What::Run { node, command } => return run_in(&node, &command),
        What::Cib { file } => {
            let text = std::fs::read_to_string(&file)
                .with_context(|| format!("reading {}", file.display()))?;
            Cluster::running(&cli.agent)?.load(&text)?;
        }
        What::Kill { node } => drop(control::ask(&["off", &node])?),
        What::On { node } => drop(control::ask(&["on", &node])?),
        What::Cut { node } => drop(control::ask(&["cut", &node])?),
        What::Heal { node } => drop(control::ask(&["heal", &node])?),
        What::Nic { node, state } => drop(control::ask(&["nic", &node, &state])?),
    }
    Ok(ExitCode::SUCCESS)
}

fn run_hidden(hidden: &Hidden) -> Result<ExitCode> {
    match hidden {
        Hidden::Room { nodes, daemons } => room::run(*nodes, *daemons)?,
        Hidden::VmRoom => vm::room::run()?,
        Hidden::VmExec { name, command } => {
            return vm::exec::run(name, command).map(ExitCode::from);
        }
        Hidden::Machine { name, daemons } => machine::hold(name, *daemons)?,
        Hidden::Init { name, daemons } => machine::init(name, *daemons)?,
        Hidden::Serve { name } => service::serve(name)?,
        Hidden::Chassis { name, words } => bmc::chassis(name, words)?,
        Hidden::Fetch { address } => cluster::fetch_once(*address)?,
        Hidden::Watch { address } => service::watch(*address)?,
        Hidden::Measure { vip, options } => bench::measure(vip.clone(), *options)?,
        Hidden::MeasureFencing { runs, ours } => bench::fencing::measure(ours, *runs)?,
        Hidden::Tied { kill, command } => {
            set_pdeathsig(if *kill {
                Signal::SIGKILL
            } else {
                Signal::SIGTERM
            })?;
            let (program, words) = command.split_first().context("no command")?;
            return Err(Command::new(program).args(words).exec())
                .with_context(|| format!("running {program}"));
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// For every command that builds a lab: its turn, signals watched, leftovers of killed runs removed.
pub fn begin() -> Result<control::Turn> {
    progress::begin();
    interrupt::watch()?;
    let turn = control::turn()?;
    if control::down()? {
        say("removed the lab of an earlier run");
    }
    Ok(turn)
}

/// Builds the agents, or nothing if a stand-in plays their part.
fn build_agents(agent: &str) -> Result<Vec<PathBuf>> {
    if !agent.starts_with("ocf:hastor:") {
        say(format_args!("agents: {agent} of this machine"));
        return Ok(Vec::new());
    }
    say("agents: building");
    let built = agents::build()?;
    let names: Vec<_> = built
        .iter()
        .filter_map(|path| path.file_name()?.to_str())
        .collect();
    say(format_args!("agents: built {}", names.join(" ")));
    Ok(built)
}

fn up(nodes: usize, agent: &str) -> Result<()> {
    packages::install()?;
    let built = build_agents(agent)?;
    let cluster = Cluster::up(nodes, &built, agent)?;
    cluster.load(&cluster.cib().to_xml())?;
    cluster.release()?;
    say("ready; fencing is on, there are no resources yet");
    how_to_play();
    Ok(())
}

/// Tells what can be done with a running cluster.
pub fn how_to_play() {
    for line in [
        "",
        "cargo lab status                 what Pacemaker says",
        "cargo lab run n1 crm_mon         any command on a node, or on `client`",
        "cargo lab cib FILE               load a configuration",
        "cargo lab kill n1                power loss; `on n1` gives power again",
        "cargo lab cut n1                 cut off the cluster network; `heal n1`",
        "cargo lab nic n1 down            pull the service network's cable; `up`",
        "cargo lab down                   remove everything",
    ] {
        more(line);
    }
}

fn run_in(node: &str, command: &[String]) -> Result<ExitCode> {
    let words: Vec<&str> = command.iter().map(String::as_str).collect();
    let status = control::command_in(node, &words)?
        .status()
        .context("running nsenter")?;
    match status.code() {
        Some(code) => Ok(ExitCode::from(code as u8)),
        None => bail!("{node}: {}: {status}", words.join(" ")),
    }
}
