//! `cargo lab test`: everything that is tested, in one list.

use std::process::{ExitCode, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, anyhow, bail};

use crate::agents::cargo;
use crate::cluster::Cluster;
use crate::control::Turn;
use crate::layout::{FLOATING, FLOATING6};
use crate::progress::{self, plain};
use crate::sampler::Sampler;
use crate::suite::Suite;
use crate::vm::zfs_iscsi::scenarios as zfs_iscsi;
use crate::vm::{self, Guests};
use crate::{evidence, fencing, interrupt, scenarios};

/// What a step does.
pub enum Kind {
    /// cargo, with these words, at the root of the repository.
    Cargo(&'static str),
    /// A function of its own.
    Call(fn(&mut Suite) -> Result<()>),
    /// Something that happens to a clean cluster of three, while these addresses are watched: never
    /// on two nodes at once.
    Scenario(&'static [&'static str], fn(&Cluster) -> Result<()>),
    /// Something that happens to two heads, a client and a shelf, virtual machines restored for it.
    Guests(fn(&Guests) -> Result<()>),
}

use Kind::{Call, Cargo, Guests as OnGuests, Scenario};

/// The addresses of nearly all scenarios.
const USUAL: &[&str] = &[FLOATING, FLOATING6];

/// How the names of steps begin that take many minutes: they run only if `--only` asks for them.
const LONG: &str = "long: ";

/// The steps, in their order: a name, by which `--only` finds it, and what it does.
/// To add one: a line here. What fences comes before the 200 addresses: Pacemaker clears their history
/// away one by one, each time beginning anew, and a node that is lost meanwhile waits for that.
#[rustfmt::skip] // one line a step
const STEPS: &[(&str, Kind)] = &[
    ("packages", Call(Suite::packages)),
    ("format", Cargo("fmt --all --check")),
    ("clippy", Cargo("clippy --workspace --all-targets -- -D warnings")),
    ("tests, plain", Cargo("test --workspace --no-fail-fast")),
    ("tests, root", Cargo("test --workspace --no-fail-fast -- --ignored")),
    ("release build", Call(Suite::release_build)),
    ("ocf-tester vip", Call(Suite::ocf_tester)),
    ("cluster: start", Scenario(USUAL, scenarios::start)),
    ("cluster: planned move", Scenario(USUAL, scenarios::planned_move)),
    ("cluster: power loss", Scenario(USUAL, scenarios::power_loss)),
    ("cluster: service NIC down", Scenario(USUAL, scenarios::nic_down)),
    ("cluster: partition", Scenario(USUAL, scenarios::partition)),
    ("cluster: IPv6", Scenario(USUAL, scenarios::ipv6)),
    ("cluster: BMC, power loss", Scenario(USUAL, fencing::power_loss)),
    ("cluster: BMC, hung node", Scenario(USUAL, fencing::hung_node)),
    ("cluster: 200 addresses", Scenario(scenarios::SOME_OF_MANY, scenarios::many)),
    ("cluster: executor killed", Scenario(USUAL, scenarios::executor_killed)),
    ("cluster: BMC, split brain", Call(fencing::split_brain)),
    ("guests: image and snapshot", Call(Suite::guests)),
    ("guests: interrupted", Call(Suite::interrupted)),
    ("guests: executor killed", OnGuests(|lab| scenarios::executor_killed(&lab.cluster))),
    ("guests: frozen head", OnGuests(vm::scenarios::frozen)),
    ("guests: BMC unreachable", OnGuests(vm::scenarios::bmc_unreachable)),
    ("guests: start killed", OnGuests(vm::scenarios::killed_start)),
    ("guests: conformance vip", OnGuests(vm::scenarios::conformance)),
    ("guests: lost record", OnGuests(vm::scenarios::lost_record)),
    ("guests: two writers", OnGuests(vm::scenarios::two_writers)),
    ("guests: disks that fail", OnGuests(vm::scenarios::disks)),
    ("guests: networks that fail", OnGuests(vm::scenarios::networks)),
    ("guests: faults inside", OnGuests(vm::scenarios::inside)),
    ("guests: reservations", OnGuests(vm::scenarios::reservations)),
    ("guests: pool, moves", OnGuests(|lab| vm::pools::moves(lab, 2))),
    ("guests: pool, power loss", OnGuests(|lab| vm::pools::power_losses(lab, 1))),
    ("guests: pool, all disks pulled", OnGuests(vm::pools::all_pulled)),
    ("guests: pool, in use", OnGuests(vm::pools::in_use)),
    ("guests: pool, reserved", OnGuests(vm::pools::reserved)),
    ("guests: pool, conformance", OnGuests(vm::pools::conformance)),
    ("guests: target, conformance", OnGuests(vm::target::conformance::some)),
    ("guests: target, foreign", OnGuests(vm::target::foreign::run)),
    ("guests: target, defined in its pool", OnGuests(vm::target::defined::run)),
    ("guests: target, refused", OnGuests(vm::target::refused::run)),
    ("guests: target, allowed", OnGuests(vm::target::allowed::run)),
    ("guests: target, RDMA", OnGuests(vm::target::rdma::run)),
    ("guests: target, lost before a flush", OnGuests(vm::target::lost::ours)),
    ("guests: zfs-iscsi, power loss", OnGuests(|lab| zfs_iscsi::run(lab, zfs_iscsi::LOST))),
    ("long: zfs-iscsi, changed", OnGuests(|lab| zfs_iscsi::run(lab, zfs_iscsi::CHANGED))),
    ("long: zfs-iscsi, heads", OnGuests(|lab| zfs_iscsi::run(lab, zfs_iscsi::HEADS))),
    ("long: zfs-iscsi, networks", OnGuests(|lab| zfs_iscsi::run(lab, zfs_iscsi::NETWORKS))),
    ("long: zfs-iscsi, programs", OnGuests(|lab| zfs_iscsi::run(lab, zfs_iscsi::PROGRAMS))),
    ("long: target, many LUNs", OnGuests(vm::target::many::run)),
    ("long: target, 2 moves", OnGuests(|lab| vm::target::moved::ours(lab, 2))),
    ("guests: target, disk hangs", OnGuests(vm::target::hung::run)),
    ("guests: target, reserved", OnGuests(vm::target::reserved::ours)),
    ("long: target, libiscsi", OnGuests(vm::target::libiscsi::short)),
    ("long: target, two paths, 2 moves", OnGuests(|lab| vm::target::paths::run(lab, 2))),
    ("long: 100 pool moves", OnGuests(|lab| vm::pools::moves(lab, 100))),
    ("long: 30 pool power losses", OnGuests(|lab| vm::pools::power_losses(lab, 30))),
    ("long: pool, all disks pulled, the peers' agent", OnGuests(vm::pools::all_pulled_peers)),
    ("long: pool, served to a client", OnGuests(vm::served::ours)),
    ("long: target, killed at every step", OnGuests(vm::target::conformance::every)),
    ("long: target, moved, and the peers'", OnGuests(|lab| vm::target::moved::compared(lab, 1))),
    ("long: target, reserved, the peers' agents", OnGuests(vm::target::reserved::peers)),
    ("long: target, lost before a flush, the peers' agents", OnGuests(vm::target::lost::peers)),
    ("long: target, libiscsi, all suites", OnGuests(vm::target::libiscsi::all)),
    ("long: target, two paths, 20 moves", OnGuests(|lab| vm::target::paths::run(lab, 20))),
    ("long: guests, planned move", OnGuests(|lab| scenarios::planned_move(&lab.cluster))),
    ("long: guests, service NIC down", OnGuests(|lab| scenarios::nic_down(&lab.cluster))),
    ("long: guests, power loss", OnGuests(vm::scenarios::power_loss)),
    ("long: large pool", OnGuests(vm::large::run)),
    ("long: guests, the peers' stack", OnGuests(vm::served::peers)),
];

/// Prints the names.
pub fn list() {
    for (name, _) in STEPS {
        plain(name);
    }
}

/// Runs the steps whose name contains `only`; without it all but the long ones.
pub fn run(agent: &str, only: Option<&str>, times: u32, turn: Turn) -> Result<ExitCode> {
    let wanted = |name: &str| {
        only.map_or(!name.starts_with(LONG), |part| {
            name.contains(part) && (part.contains("long") || !name.starts_with(LONG))
        })
    };
    let chosen: Vec<_> = STEPS.iter().filter(|(name, _)| wanted(name)).collect();
    if chosen.is_empty() {
        bail!(
            "no step's name contains {:?}; `cargo lab test --list` shows them",
            only.unwrap_or_default()
        );
    }
    progress::hush();
    let mut suite = Suite::new(agent, times, turn);
    let (mut passed, mut failed) = (0, 0);
    for (name, kind) in chosen {
        let begin = Instant::now();
        let result = run_step(name, kind, &mut suite);
        if interrupt::ending() {
            interrupt::wait_for_end();
        }
        let took = begin.elapsed().as_secs_f64();
        match result {
            Ok(()) => {
                passed += 1;
                plain(format_args!("{took:7.1} s  passed  {name}"));
            }
            Err(error) => {
                failed += 1;
                plain(format_args!("{took:7.1} s  FAILED  {name}"));
                for line in format!("{error:#}").lines() {
                    plain(format_args!("                   {line}"));
                }
            }
        }
    }
    drop(suite);
    if only.is_none() {
        let long = STEPS.iter().filter(|(name, _)| name.starts_with(LONG));
        plain(format_args!(
            "\n{} long steps not run: `cargo lab test --only long`",
            long.count()
        ));
    }
    plain(format_args!("\n{passed} passed, {failed} failed"));
    Ok(if failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn run_step(name: &str, kind: &Kind, suite: &mut Suite) -> Result<()> {
    match kind {
        Cargo(words) => run_cargo(words),
        Call(call) => call(suite),
        Scenario(watched, scenario) => run_scenario(name, watched, *scenario, suite),
        OnGuests(scenario) => run_on_guests(name, *scenario, suite),
    }
}

fn run_cargo(words: &str) -> Result<()> {
    let output = cargo(&words.split(' ').collect::<Vec<_>>())
        .stdin(Stdio::null())
        .output()
        .context("running cargo")?;
    if !output.status.success() {
        let text = [output.stdout, output.stderr].concat();
        let text = String::from_utf8_lossy(&text);
        let said: Vec<&str> = text.lines().filter(|line| !is_good_news(line)).collect();
        bail!("cargo {words}: {}\n{}", output.status, said.join("\n"));
    }
    Ok(())
}

/// Lines of cargo that only hide the one that matters.
fn is_good_news(line: &str) -> bool {
    let passed =
        line.starts_with("test ") && (line.ends_with(" ... ok") || line.contains(" ... ignored"));
    let built = [
        "Compiling ",
        "Checking ",
        "Finished ",
        "Running ",
        "Doc-tests ",
    ];
    passed
        || line.is_empty()
        || built
            .iter()
            .any(|start| line.trim_start().starts_with(start))
}

fn run_scenario(
    name: &str,
    watched: &[&str],
    scenario: fn(&Cluster) -> Result<()>,
    suite: &mut Suite,
) -> Result<()> {
    let cluster = suite.cluster()?;
    let sampler = Sampler::start(&cluster.nodes, watched)?;
    let outcome = scenario(cluster);
    // An address on two nodes is worse than anything else that went wrong.
    let mut result = match (sampler.finish(), outcome) {
        (Err(double), Err(other)) => Err(anyhow!("{double:#}\nand {other:#}")),
        (Err(double), Ok(())) => Err(double),
        (Ok(()), outcome) => outcome,
    };
    if result.is_err() {
        let place = evidence::keep(cluster, name);
        result = result.map_err(|error| anyhow!("{error:#}\n{place}"));
    }
    if let Err(error) = cluster.reset() {
        result = result.and_then(|()| {
            let place = evidence::keep(cluster, name);
            bail!("the cluster could not be cleaned afterwards: {error:#}\n{place}")
        });
        suite.discard_cluster();
    }
    result
}

/// Each begins with the snapshot, so there is nothing to clean afterwards.
fn run_on_guests(name: &str, scenario: fn(&Guests) -> Result<()>, suite: &mut Suite) -> Result<()> {
    let lab = suite.restore()?;
    let result = scenario(&lab);
    result.map_err(|error| anyhow!("{error:#}\n{}", evidence::keep(&lab.cluster, name)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_differ() {
        let mut names: Vec<&str> = STEPS.iter().map(|(name, _)| *name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), STEPS.len());
    }
}
