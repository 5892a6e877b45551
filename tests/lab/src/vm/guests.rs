//! A cluster of guests that runs: what a test holds in its hands.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::agent::Agent;
use super::machine::agent_socket;
use super::parcel::Parcel;
use super::plan::Plan;
use super::room::Setup;
use super::snapshot;
use super::writer::Writer;
use crate::cluster::{Cluster, RECOVER};
use crate::control::{self, Leash};
use crate::image::{self, Accelerator};
use crate::layout::CLIENT;
use crate::progress::say;
use crate::threads;

/// A guest answers within seconds of being restored; ten times that.
const ANSWER: Duration = Duration::from_secs(100);

/// For one file of a guest.
const READ: Duration = Duration::from_secs(20);

/// A cluster of guests. It ends with this program, unless released.
pub struct Guests {
    /// The cluster of its heads.
    pub cluster: Cluster,
    /// Which guests there are.
    pub plan: Plan,
    leash: Leash,
}

impl Guests {
    /// Restores a cluster, and has everything made that is missing for it. `parcel` goes into all guests.
    pub fn up(plan: &Plan, parcel: &Parcel) -> Result<Guests> {
        Guests::restore(prepare(plan)?, parcel)
    }

    /// The same, with a parcel that is packed while the image is made: each takes minutes, and keeps less than two
    /// processors busy.
    pub fn up_packing(plan: &Plan, pack: impl FnOnce() -> Result<Parcel> + Send) -> Result<Guests> {
        let (setup, parcel) = prepare_beside(plan, pack)?;
        Guests::restore(setup, &parcel)
    }

    fn restore(setup: Setup, parcel: &Parcel) -> Result<Guests> {
        let plan = &setup.plan;
        let begin = Instant::now();
        let leash = control::start_guests(&setup, &[])?;
        let cluster = Cluster::of_guests(plan.heads());
        let lab = Guests {
            cluster,
            plan: *plan,
            leash,
        };
        let since = || format!("{:.1} s after the start", begin.elapsed().as_secs_f64());
        control::ask(&["restore"])?;
        let guests = plan.guests()?;
        snapshot::each(&guests, |guest| set_clock(&guest.name))?;
        say(format_args!("guests: all answer, {}", since()));
        parcel.deliver(&guests)?;
        let cluster = &lab.cluster;
        cluster.wait_for("all nodes online", ANSWER, || cluster.all_online())?;
        say(format_args!(
            "guests: agents inside, cluster online, {}",
            since()
        ));
        Ok(lab)
    }

    /// Lets it outlive this program.
    pub fn release(self) -> Result<()> {
        self.leash.release()
    }

    /// Starts the verifying writer in the client, on a device or in a file; `name` is that of its records.
    pub fn write(&self, path: &str, name: &str) -> Result<Writer> {
        Writer::start(CLIENT, path, name)
    }

    /// The guest stands still and cannot know it, as one whose processor hangs. When: seconds since 1970.
    pub fn freeze(&self, name: &str) -> Result<f64> {
        Ok(control::ask(&["freeze", name])?.trim().parse()?)
    }

    /// From now on a guest that gets power takes as long as a server's firmware does before it boots. Under emulation a boot
    /// costs whoever takes over half of the processors, which it would not where every head has its own.
    pub fn slow_firmware(&self) -> Result<()> {
        control::ask(&["firmware", "60"]).map(drop)
    }

    /// Waits until a node that lost its power has booted and is a member again.
    pub fn wait_rejoined(&self) -> Result<()> {
        let cluster = &self.cluster;
        cluster
            .wait_for("all nodes online again", RECOVER, || cluster.all_online())
            .map(drop)
    }

    /// Waits until every node has finished what Pacemaker wants.
    pub fn idle(&self) -> Result<()> {
        // One program that looks again and again: under emulation, to start it each time would be the load.
        let words = ["crm_resource", "--wait", "--timeout=50"];
        self.cluster
            .wait_for("nothing pending", RECOVER, || self.cluster.admin(&words))
            .map(drop)
    }

    /// Waits until every node has finished what Pacemaker wants, and nothing has failed.
    pub fn settled(&self) -> Result<()> {
        self.idle()?;
        let failures = self.cluster.status()?.failures;
        ensure!(
            failures.is_empty(),
            "failed actions: {}",
            failures.join("; ")
        );
        // What Pacemaker cannot make sense of, such as metadata, it survives, and says so only here.
        for head in self.plan.heads() {
            let log = "/var/log/pacemaker/pacemaker.log";
            let find = format!("grep -m 1 'Triggered fatal assertion' {log} || true");
            let found = self.cluster.output(&head, &["sh", "-c", &find])?;
            ensure!(found.is_empty(), "{head}: {}", found.trim());
        }
        Ok(())
    }
}

/// Makes what is missing for a cluster of this plan: packages, image, snapshot; what it starts from.
pub fn prepare(plan: &Plan) -> Result<Setup> {
    prepare_beside(plan, || Ok(())).map(|(setup, ())| setup)
}

/// The same; until the image is there, other work is done, too.
fn prepare_beside<R: Send>(
    plan: &Plan,
    work: impl FnOnce() -> Result<R> + Send,
) -> Result<(Setup, R)> {
    let cache = image::cache()?;
    let _turn = image::turn(&cache)?;
    let (image, done) = threads::both(
        || {
            image::prepare_host()?;
            say(match Accelerator::here()? {
                Accelerator::Kvm => "guests: with KVM",
                Accelerator::Tcg => "guests: emulated (this processor offers no vmx or svm)",
            });
            image::ensure(&cache)
        },
        work,
    )?;
    let snapshot = snapshot::ensure(&cache, &image, plan)?;
    let setup = Setup {
        plan: *plan,
        image: image.directory,
        run: snapshot::run_directory(&cache),
        snapshot: Some(snapshot),
    };
    Ok((setup, done))
}

/// Waits until the agent of a guest answers.
pub fn wait_for_agent(name: &str, bound: Duration) -> Result<()> {
    let socket = agent_socket(name);
    Agent::connect(&socket, bound)
        .map(drop)
        .with_context(|| name.to_owned())
}

/// Sets the clock of a guest to that of this machine. A restored one is where it was when it was saved.
pub fn set_clock(name: &str) -> Result<()> {
    let mut agent = Agent::connect(&agent_socket(name), ANSWER)?;
    agent.set_clock(ANSWER)
}

/// Reads a small file of a guest, and starts no process there for it.
pub fn read(name: &str, path: &str) -> Result<String> {
    let mut agent = Agent::connect(&agent_socket(name), READ)?;
    let bytes = agent.read(path, READ)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}
