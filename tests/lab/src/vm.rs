//! The second tier of the lab: nodes that are virtual machines, each with a kernel of its own.
//!
//! A machine room like that of the namespaces (`vm/room.rs`) owns a QEMU and a BMC for each node. Every lab begins with
//! the memory of a cluster that was formed and saved once (`vm/snapshot.rs`), so that it is there in seconds.

pub mod agent;
pub mod bmc;
mod disks;
pub mod exec;
mod machine;
mod parcel;
mod plan;
mod qmp;
pub mod room;
mod snapshot;

use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use clap::Subcommand;

use crate::cluster::Cluster;
use crate::control::{self, Leash};
use crate::image::{self, Accelerator};
use crate::progress::say;
use crate::build_agents;

use agent::Agent;
use machine::agent_socket;
use parcel::Parcel;
pub use plan::Plan;
use room::Setup;

/// What can be done with guests.
#[derive(Subcommand)]
pub enum Command {
    /// Start a cluster of guests and leave it running
    Up {
        #[command(flatten)]
        plan: Plan,
    },
    /// Build the agents and give them to the running guests
    Agents,
}

/// A guest answers within seconds of being restored; ten times that.
const ANSWER: Duration = Duration::from_secs(100);

/// For one file of a guest.
const READ: Duration = Duration::from_secs(20);

/// Runs a command.
pub fn run(command: Command, agent: &str) -> Result<ExitCode> {
    match command {
        Command::Up { plan } => {
            let _turn = crate::begin()?;
            let built = build_agents(agent)?;
            let guests = Guests::up(&plan, !built.is_empty())?;
            guests.release()?;
            say("ready");
        }
        Command::Agents => {
            crate::progress::begin();
            let setup = Setup::read()?;
            let built = build_agents("ocf:hastor:vip")?;
            let begin = Instant::now();
            Parcel::pack(!built.is_empty())?.deliver(&setup.plan.guests()?)?;
            say(format_args!(
                "agents: in all guests, {:.1} s after they were built",
                begin.elapsed().as_secs_f64()
            ));
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// A cluster of guests that runs.
pub struct Guests {
    /// The cluster of its heads.
    pub cluster: Cluster,
    /// Which guests there are.
    pub plan: Plan,
    leash: Leash,
}

impl Guests {
    /// Restores a cluster, and has everything made that is missing for it. It ends with this program, unless released.
    pub fn up(plan: &Plan, agents: bool) -> Result<Guests> {
        let cache = image::cache()?;
        let _turn = image::turn(&cache)?;
        image::prepare_host()?;
        say(match Accelerator::here()? {
            Accelerator::Kvm => "guests: with KVM",
            Accelerator::Tcg => "guests: emulated (this processor offers no vmx or svm)",
        });
        let image = image::ensure(&cache)?;
        let snapshot = snapshot::ensure(&cache, &image, plan)?;
        let begin = Instant::now();
        let setup = Setup {
            plan: *plan,
            image: image.directory,
            run: snapshot::run_directory(&cache),
            snapshot: Some(snapshot),
        };
        let leash = control::start_guests(&setup, &[])?;
        control::ask(&["restore"])?;
        let guests = plan.guests()?;
        snapshot::each(&guests, |guest| set_clock(&guest.name))?;
        say(format_args!(
            "restored: all guests answer after {:.1} s",
            begin.elapsed().as_secs_f64()
        ));
        Parcel::pack(agents)?.deliver(&guests)?;
        say(format_args!(
            "agents: in all guests after {:.1} s",
            begin.elapsed().as_secs_f64()
        ));
        let cluster = Cluster::of_guests(plan.heads());
        cluster.wait_for("all nodes online", ANSWER, || cluster.all_online())?;
        say(format_args!(
            "cluster: online after {:.1} s",
            begin.elapsed().as_secs_f64()
        ));
        Ok(Guests {
            cluster,
            plan: *plan,
            leash,
        })
    }

    /// Lets it outlive this program.
    pub fn release(self) -> Result<()> {
        self.leash.release()
    }
}

/// Waits until the agent of a guest answers.
pub fn wait_for_agent(name: &str, bound: Duration) -> Result<()> {
    let socket = agent_socket(name);
    Agent::connect(&socket, bound)
        .map(drop)
        .with_context(|| name.to_owned())
}

/// Sets the clock of a guest to that of this machine. A restored one is where it was when it was saved.
fn set_clock(name: &str) -> Result<()> {
    let mut agent = Agent::connect(&agent_socket(name), ANSWER)?;
    agent.set_clock(ANSWER)
}

/// Reads a small file of a guest, and starts no process there for it.
pub fn read(name: &str, path: &str) -> Result<String> {
    let mut agent = Agent::connect(&agent_socket(name), READ)?;
    let bytes = agent.read(path, READ)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// Keeps what helps to understand a failure; a sentence that says where.
pub fn evidence(plan: &Plan, name: &str) -> String {
    crate::evidence::keep(&Cluster::of_guests(plan.heads()), name)
}
