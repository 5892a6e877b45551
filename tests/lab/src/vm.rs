//! The second tier of the lab: nodes that are virtual machines, each with a kernel of its own.
//!
//! A machine room like that of the namespaces (`vm/room.rs`) owns a QEMU and a BMC for each node. Every lab begins with
//! the memory of a cluster that was formed and saved once (`vm/snapshot.rs`), so that it is there in seconds. A test holds
//! a [`Guests`].

pub mod agent;
mod console;
mod disks;
pub mod exec;
pub mod faults;
mod guests;
pub mod large;
mod machine;
mod observer;
mod parcel;
pub mod plan;
pub mod pools;
mod qmp;
mod record;
pub mod room;
pub mod scenarios;
pub mod served;
mod snapshot;
pub mod storage;
pub mod target;
pub mod writer;
pub mod zfs_iscsi;

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{ExitCode, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use clap::{Subcommand, ValueEnum};

pub use guests::{Guests, prepare, read};
pub use parcel::Parcel;
pub use plan::{Network, Plan};
use room::Setup;

use crate::cluster::Cluster;
use crate::layout::CLIENT;
use crate::progress::{more, plain, say};
use crate::{build_agents, control, evidence, image, layout};

/// What can be done with guests.
#[derive(Subcommand)]
pub enum Command {
    /// Start a cluster of guests and leave it running
    Up {
        #[command(flatten)]
        plan: Plan,
    },
    /// Remove everything: guests, disks, networks
    Down,
    /// Show the guests, their disks and what is wrong with them
    Status,
    /// Build the agents and give them to the running guests
    Agents,
    /// Run a command in a guest; its output, and its exit code
    Run {
        /// n1, n2, ..., client, shelf
        guest: String,
        /// The command and its arguments
        #[arg(trailing_var_arg = true, allow_hyphen_values = true, required = true)]
        command: Vec<String>,
    },
    /// Copy a file into a guest or out of it: one of the two is GUEST:PATH
    Copy {
        /// From
        from: String,
        /// To
        to: String,
    },
    /// Join this terminal and the console of a guest; Ctrl-] leaves
    Console {
        /// n1, n2, ..., client, shelf
        guest: String,
    },
    /// Print a log of a guest
    Log {
        /// n1, n2, ..., client, shelf
        guest: String,
        /// Which
        #[arg(value_enum, default_value_t = Log::Pacemaker)]
        log: Log,
    },
    /// Show the cluster's status
    #[command(name = "crm_mon", visible_alias = "crm-mon")]
    CrmMon,
    /// Cut the power of a guest; its disks keep what reached them
    Off {
        /// n1, n2, ..., client, shelf
        guest: String,
    },
    /// Give a guest its power again: it boots
    On {
        /// n1, n2, ..., client, shelf
        guest: String,
    },
    /// Press a guest's reset button
    Reset {
        /// n1, n2, ..., client, shelf
        guest: String,
    },
    /// Let a guest stand still, without it knowing
    Freeze {
        /// n1, n2, ..., client, shelf
        guest: String,
    },
    /// Let a frozen guest go on
    Thaw {
        /// n1, n2, ..., client, shelf
        guest: String,
    },
    /// Break and mend the networks
    #[command(subcommand)]
    Net(Net),
    /// Break and mend the line to a BMC
    #[command(subcommand)]
    Bmc(Bmc),
    /// Disks: add, pull, break and mend them
    #[command(subcommand)]
    Disk(Disk),
    /// Fill a file system of a guest
    Fill {
        /// n1, n2, ..., client, shelf
        guest: String,
        /// A directory on it
        directory: String,
        /// Make room again
        #[arg(long)]
        undo: bool,
    },
    /// Set a guest's clock wrong; 0 sets it right
    Clock {
        /// n1, n2, ..., client, shelf
        guest: String,
        /// Seconds ahead of this machine's clock
        #[arg(allow_hyphen_values = true)]
        seconds: i64,
    },
    /// Kill (SIGKILL) the processes of a name in a guest
    Kill {
        /// n1, n2, ..., client, shelf
        guest: String,
        /// The name of the program
        process: String,
    },
    /// Have the next such action of an agent killed in the middle
    KillAction {
        /// n1, n2, ...
        guest: String,
        /// PROVIDER/NAME, as in hastor/vip
        agent: String,
        /// start, stop, monitor, ...
        action: String,
        /// At its Nth system call
        #[arg(long, default_value_t = 100)]
        call: u32,
        /// Put the agent itself back
        #[arg(long)]
        undo: bool,
    },
    /// Store what an agent reads on a node, under tests/trees
    Record {
        /// n1, n2, ...
        node: String,
        /// vip, zfs-pool, lio-target, nfs-export or drbd-volume
        agent: String,
        /// Name of the case
        case: String,
    },
    /// Put an agent through its life inside a guest, killing it at every system call
    Conformance {
        /// n1, n2, ...
        node: String,
        /// PROVIDER/NAME, as in hastor/vip, then what `hastor-guest conformance` takes: NAME=VALUE, --every N, ...
        #[arg(trailing_var_arg = true, allow_hyphen_values = true, required = true)]
        agent: Vec<String>,
    },
    /// Run ocf-tester on an agent inside a guest
    OcfTester {
        /// n1, n2, ...
        node: String,
        /// PROVIDER/NAME, as in hastor/vip, then NAME=VALUE
        #[arg(trailing_var_arg = true, required = true)]
        agent: Vec<String>,
    },
    /// Write in the client for some seconds, then prove that every acknowledged record is there
    Verify {
        /// Block device or file in the client
        path: String,
        /// How long
        #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=86_400))]
        seconds: u64,
    },
}

/// Cables between the guests.
#[derive(Subcommand)]
pub enum Net {
    /// Cut a guest off a network; it keeps its carrier
    Cut {
        /// n1, n2, ..., client, shelf
        guest: String,
        /// Which network
        network: Network,
    },
    /// Let a guest back onto a network
    Heal {
        /// n1, n2, ..., client, shelf
        guest: String,
        /// Which network
        network: Network,
    },
    /// Pull the cable: the card loses its carrier
    Pull {
        /// n1, n2, ..., client, shelf
        guest: String,
        /// Which network
        network: Network,
    },
    /// Plug the cable in again
    Plug {
        /// n1, n2, ..., client, shelf
        guest: String,
        /// Which network
        network: Network,
    },
    /// Delay and lose what a guest sends and receives; without options, as it should be
    Lame {
        /// n1, n2, ..., client, shelf
        guest: String,
        /// Which network
        network: Network,
        /// Milliseconds, each way
        #[arg(long, default_value_t = 0)]
        delay: u32,
        /// Percent, each way
        #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u8).range(0..=100))]
        loss: u8,
    },
}

/// The line to a BMC.
#[derive(Subcommand)]
pub enum Bmc {
    /// Nothing gets through
    Cut {
        /// n1, n2, ...
        node: String,
    },
    /// As it should be
    Heal {
        /// n1, n2, ...
        node: String,
    },
    /// Delay and lose datagrams
    Lame {
        /// n1, n2, ...
        node: String,
        /// Milliseconds, each way
        #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u32).range(0..=60_000))]
        delay: u32,
        /// Percent, each way
        #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u8).range(0..=100))]
        loss: u8,
    },
}

/// Disks of the guests.
#[derive(Subcommand)]
pub enum Disk {
    /// Add disks that all heads have, with the same serial number and WWN
    Shared {
        /// How many
        count: usize,
        /// Of this size: 512M, 2G
        size: String,
    },
    /// Add disks that only one guest has
    Local {
        /// n1, n2, ..., client, shelf
        guest: String,
        /// How many
        count: usize,
        /// Of this size: 512M, 2G
        size: String,
    },
    /// Add disks to the shelf, which exports them to the heads over iSCSI
    Shelf {
        /// How many
        count: usize,
        /// Of this size: 512M, 2G
        size: String,
    },
    /// List them: name, size, WWN, guests
    List,
    /// Pull a disk out of a guest
    Pull {
        /// Its name
        disk: String,
        /// n1, n2, ...
        guest: String,
    },
    /// Push a disk in again
    Push {
        /// Its name
        disk: String,
        /// n1, n2, ...
        guest: String,
    },
    /// Make every request of a guest to a disk fail, or no longer
    Errors {
        /// Its name
        disk: String,
        /// n1, n2, ...
        guest: String,
        /// on or off
        #[arg(value_parser = ["on", "off"])]
        state: String,
    },
    /// Make every request of a guest to a disk hang, or let them go on
    Hang {
        /// Its name
        disk: String,
        /// n1, n2, ...
        guest: String,
        /// on or off
        #[arg(value_parser = ["on", "off"])]
        state: String,
    },
    /// Remove a disk and what is on it
    Remove {
        /// Its name
        disk: String,
    },
}

/// A log of a guest.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Log {
    /// Pacemaker's own
    Pacemaker,
    /// Corosync's own
    Corosync,
    /// systemd's journal
    Journal,
    /// What the kernel and systemd wrote to the serial console
    Console,
    /// What the machine room did, to all guests
    Room,
}

/// Where the disks of a running lab are.
pub fn run_directory() -> Result<PathBuf> {
    Ok(snapshot::run_directory(&image::cache_path()?))
}

/// Runs a command.
pub fn run(command: Command, agent: &str) -> Result<ExitCode> {
    match command {
        Command::Up { plan } => up(&plan, agent)?,
        Command::Down => plain(if control::down_in_turn()? {
            "removed"
        } else {
            "nothing to remove"
        }),
        Command::Status => status()?,
        Command::Agents => deliver()?,
        Command::Run { guest, command } => return run_in(&guest, &command),
        Command::Copy { from, to } => copy(&from, &to)?,
        Command::Console { guest } => console::run(&guest)?,
        Command::Log { guest, log } => return print_log(&guest, log),
        Command::CrmMon => {
            let cluster = Cluster::of_guests(Setup::read()?.plan.heads());
            print!("{}", cluster.admin(&["crm_mon", "-1"])?);
        }
        Command::Off { guest } => ask(&["off", &guest])?,
        Command::On { guest } => ask(&["on", &guest])?,
        Command::Reset { guest } => ask(&["reset", &guest])?,
        Command::Freeze { guest } => ask(&["freeze", &guest])?,
        Command::Thaw { guest } => ask(&["thaw", &guest])?,
        Command::Net(net) => run_net(net)?,
        Command::Bmc(bmc) => run_bmc(bmc)?,
        Command::Disk(disk) => run_disk(disk)?,
        Command::Fill {
            guest,
            directory,
            undo,
        } => faults::fill(&guest, &directory, !undo)?,
        Command::Clock { guest, seconds } => faults::skew(&guest, seconds)?,
        Command::Kill { guest, process } => faults::kill(&guest, &process)?,
        Command::KillAction {
            guest,
            agent,
            action,
            call,
            undo,
        } => faults::kill_action(&guest, &agent, (!undo).then_some((action.as_str(), call)))?,
        Command::Record { node, agent, case } => {
            let place = record::record(&node, &agent, &case)?;
            plain(format_args!("recorded: {}", place.display()));
        }
        Command::Conformance { node, agent } => return conformance(&node, &agent),
        Command::OcfTester { node, agent } => return ocf_tester(&node, &agent),
        Command::Verify { path, seconds } => verify(&path, seconds)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn up(plan: &Plan, agent: &str) -> Result<()> {
    let _turn = crate::begin()?;
    let built = build_agents(agent)?;
    let guests = Guests::up(plan, &Parcel::pack(!built.is_empty())?)?;
    guests.release()?;
    how_to_play(plan);
    Ok(())
}

/// Tells what can be done with running guests.
fn how_to_play(plan: &Plan) {
    let names: Vec<String> = plan.guests().map_or_else(
        |_| Vec::new(),
        |guests| guests.into_iter().map(|guest| guest.name).collect(),
    );
    more(format_args!("guests: {}", names.join(" ")));
    for line in [
        "",
        "cargo lab vm crm_mon             what Pacemaker says",
        "cargo lab vm run n1 COMMAND      any command in a guest; `console n1` for a terminal",
        "cargo lab vm disk shared 3 1G    disks for all heads; `disk local n1 1 1G`",
        "cargo lab vm agents              build the agents and give them to the guests",
        "cargo lab cib FILE               load a configuration",
        "cargo lab vm off n1              power loss; `on n1`, `freeze n1`, `net cut n1 cluster`, ...",
        "cargo lab vm help                everything else",
        "cargo lab vm down                remove everything",
    ] {
        more(line);
    }
}

/// The demo of the stack.
pub fn show(keep: bool) -> Result<()> {
    let guests = Guests::up_packing(&plan::USUAL, || {
        build_agents("ocf:hastor:vip")?;
        Parcel::pack(true)
    })?;
    zfs_iscsi::demo::show(&guests).map_err(|error| {
        anyhow::anyhow!("{error:#}\n{}", evidence::keep(&guests.cluster, "demo"))
    })?;
    if keep {
        guests.release()?;
        plain("\nThe guests keep running, and the stack with them:");
        how_to_play(&plan::USUAL);
    }
    Ok(())
}

fn status() -> Result<()> {
    let setup = Setup::read()?;
    for line in control::ask(&["list"])?.lines() {
        plain(line);
    }
    for line in control::ask(&["disk", "list"])?.lines() {
        plain(format_args!("disk {line}"));
    }
    plain(format_args!("disks and snapshots: {}", setup.run.display()));
    Ok(())
}

fn deliver() -> Result<()> {
    crate::progress::begin();
    let setup = Setup::read()?;
    build_agents("ocf:hastor:vip")?;
    let begin = Instant::now();
    Parcel::pack(true)?.deliver(&setup.plan.guests()?)?;
    say(format_args!(
        "agents: in all guests, {:.1} s after they were built",
        begin.elapsed().as_secs_f64()
    ));
    Ok(())
}

/// Asks the room of a lab of guests.
fn ask(words: &[&str]) -> Result<()> {
    Setup::read()?;
    control::ask(words).map(drop)
}

fn run_in(guest: &str, command: &[String]) -> Result<ExitCode> {
    Setup::read()?.plan.guest(guest)?;
    exec::run(guest, command).map(ExitCode::from)
}

fn run_net(net: Net) -> Result<()> {
    match net {
        Net::Cut { guest, network } => ask(&["cut", &guest, network.word()]),
        Net::Heal { guest, network } => ask(&["heal", &guest, network.word()]),
        Net::Pull { guest, network } => ask(&["nic", &guest, "down", network.word()]),
        Net::Plug { guest, network } => ask(&["nic", &guest, "up", network.word()]),
        Net::Lame {
            guest,
            network,
            delay,
            loss,
        } => faults::lame(&guest, network, delay, loss),
    }
}

fn run_bmc(bmc: Bmc) -> Result<()> {
    match bmc {
        Bmc::Cut { node } => ask(&["bmc", &node, "cut"]),
        Bmc::Heal { node } => ask(&["bmc", &node, "heal"]),
        Bmc::Lame { node, delay, loss } => {
            ask(&["bmc", &node, "lame", &delay.to_string(), &loss.to_string()])
        }
    }
}

fn run_disk(disk: Disk) -> Result<()> {
    let plan = Setup::read()?.plan;
    let tell = |disks: Vec<storage::Disk>| {
        for disk in disks {
            let guests = disk.guests.join(" ");
            plain(format_args!("{} {} {guests}", disk.name, disk.path()));
        }
    };
    match disk {
        Disk::Shared { count, size } => tell(storage::add(
            "shared",
            count,
            storage::size(&size)?,
            &plan.heads(),
        )?),
        Disk::Local { guest, count, size } => {
            plan.guest(&guest)?;
            let prefix = format!("{guest}-");
            tell(storage::add(
                &prefix,
                count,
                storage::size(&size)?,
                &[guest],
            )?);
        }
        Disk::Shelf { count, size } => {
            for path in storage::add_to_shelf(&plan, count, storage::size(&size)?)? {
                plain(path);
            }
        }
        Disk::List => tell(storage::disks()?),
        Disk::Pull { disk, guest } => ask(&["disk", "pull", &disk, &guest])?,
        Disk::Push { disk, guest } => ask(&["disk", "push", &disk, &guest])?,
        Disk::Errors { disk, guest, state } => ask(&["disk", "errors", &disk, &guest, &state])?,
        Disk::Hang { disk, guest, state } => ask(&["disk", "hang", &disk, &guest, &state])?,
        Disk::Remove { disk } => ask(&["disk", "remove", &disk])?,
    }
    Ok(())
}

/// Copies one file. A directory is better packed by tar, through `run`.
fn copy(from: &str, to: &str) -> Result<()> {
    let plan = Setup::read()?.plan;
    let inside = |text: &str| {
        let (guest, path) = text.split_once(':')?;
        let known = plan.guest(guest).is_ok();
        known.then(|| (guest.to_owned(), path.to_owned()))
    };
    match (inside(from), inside(to)) {
        (None, Some((guest, path))) => {
            let bytes = fs::read(from).with_context(|| format!("reading {from}"))?;
            let name = Path::new(from).file_name().unwrap_or_default();
            // As cp does: into a directory, the file keeps its name; and it can be run if it could be before.
            let script = r#"to=$1; [ ! -d "$to" ] || to=$to/$2; cat >"$to" && chmod "$3" "$to" && sync "$to""#;
            use std::os::unix::fs::PermissionsExt;
            let mode = fs::metadata(from)?.permissions().mode() & 0o777;
            let (name, mode) = (name.to_string_lossy(), format!("{mode:o}"));
            let words = ["sh", "-c", script, "copy", &path, &name, &mode];
            exec::output(&guest, &words, &bytes).map(drop)
        }
        (Some((guest, path)), None) => {
            let mut command = exec::command(&guest, &["cat", &path])?;
            let output = command
                .stdin(Stdio::null())
                .output()
                .context("running cat")?;
            ensure!(
                output.status.success(),
                "{guest}: {}",
                String::from_utf8_lossy(&output.stderr).trim()
            );
            let mut place = Path::new(to).to_owned();
            if place.is_dir() {
                place.push(Path::new(&path).file_name().unwrap_or_default());
            }
            let written =
                fs::File::create(&place).and_then(|mut file| file.write_all(&output.stdout));
            written.with_context(|| format!("writing {}", place.display()))
        }
        _ => bail!(
            "copy {from} {to}: expected GUEST:PATH on one side, and a path of this machine on the other"
        ),
    }
}

fn print_log(guest: &str, log: Log) -> Result<ExitCode> {
    Setup::read()?.plan.guest(guest)?;
    let words: &[&str] = match log {
        Log::Pacemaker => &["cat", "/var/log/pacemaker/pacemaker.log"],
        Log::Corosync => &["cat", "/var/log/corosync/corosync.log"],
        Log::Journal => &["journalctl", "--no-pager", "--boot"],
        Log::Console | Log::Room => {
            let file = match log {
                Log::Room => layout::room_log(),
                _ => layout::home(guest).join("console.log"),
            };
            let text = fs::read(&file).with_context(|| format!("reading {}", file.display()))?;
            std::io::stdout().write_all(&text)?;
            return Ok(ExitCode::SUCCESS);
        }
    };
    let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
    exec::run(guest, &words).map(ExitCode::from)
}

/// The path of an agent in a guest.
fn agent_path(agent: &str) -> Result<String> {
    ensure!(
        agent.split('/').count() == 2,
        "agent {agent:?}: expected PROVIDER/NAME, as in hastor/vip"
    );
    Ok(format!("/usr/lib/ocf/resource.d/{agent}"))
}

fn conformance(node: &str, words: &[String]) -> Result<ExitCode> {
    let (agent, rest) = words.split_first().context("no agent")?;
    let mut all = vec![
        writer::PROGRAM.to_owned(),
        "conformance".to_owned(),
        agent_path(agent)?,
    ];
    all.extend(rest.iter().cloned());
    run_in(node, &all)
}

fn ocf_tester(node: &str, words: &[String]) -> Result<ExitCode> {
    let (agent, rest) = words.split_first().context("no agent")?;
    let path = agent_path(agent)?;
    let mut all: Vec<String> = ["ocf-tester", "-n", "tested"].map(str::to_owned).into();
    for parameter in rest {
        all.extend(["-o".to_owned(), parameter.clone()]);
    }
    all.push(path);
    run_in(node, &all)
}

fn verify(path: &str, seconds: u64) -> Result<()> {
    crate::progress::begin();
    let plan = Setup::read()?.plan;
    plan.guest(CLIENT)?;
    let writer = writer::Writer::start(CLIENT, path, "verify")?;
    std::thread::sleep(std::time::Duration::from_secs(seconds));
    let report = writer.finish()?;
    plain(&report);
    report.check()
}
