//! Fencing by the nodes' BMCs, through the fence agent that administrators use.

use std::fs;

use anyhow::{Context, Result, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::bmc::ASKER;
use crate::cluster::{Cluster, RECOVER};
use crate::layout::{FLOATING, STATE};
use crate::progress::say;
use crate::sampler::Sampler;
use crate::suite::Suite;
use crate::{control, evidence, processes};

/// How much longer the fencing of the favoured node takes, in a race of two: several times what fencing takes.
const HEAD_START: u32 = 6;

/// The node that holds the address loses its power: its BMC says so, and gives it power again.
pub fn power_loss(cluster: &Cluster) -> Result<()> {
    let holder = begin(cluster)?;
    // One observer: a node that has booted since may remember less than the others.
    let observer = other(cluster, &holder)?;
    let before = cluster.fencings(&observer, &holder)?;
    cluster.power_off(&holder)?;
    let new = cluster.wait_moved("vip", &holder)?;
    cluster.wait_reachable(FLOATING, &new)?;
    // It hears of the end of the fencing a moment later than those who took part.
    cluster.wait_for(&format!("{holder}'s fencing"), RECOVER, || {
        let after = cluster.fencings(&observer, &holder)?;
        ensure!(
            after > before,
            "vip moved to {new} although {holder} was not fenced"
        );
        Ok(())
    })?;
    all_online(cluster)
}

/// The node that holds the address hangs, with all its processes: it is switched off by its BMC before the address
/// comes up elsewhere.
pub fn hung_node(cluster: &Cluster) -> Result<()> {
    let holder = begin(cluster)?;
    let since = offs()?.len();
    freeze(&holder)?;
    let new = cluster.wait_moved("vip", &holder)?;
    cluster.wait_reachable(FLOATING, &new)?;
    let offs = offs()?;
    ensure!(
        offs.get(since..) == Some(std::slice::from_ref(&holder)),
        "{holder} hung; switched off were {:?}",
        offs.get(since..)
    );
    all_online(cluster)
}

/// Two nodes that cannot see each other, each of which can switch off the other: exactly one is left each time, and it
/// is the one with the head start.
pub fn split_brain(suite: &mut Suite) -> Result<()> {
    let cluster = suite.cluster_of(2)?;
    let watch = Sampler::start(&cluster.nodes, &[FLOATING])?;
    let outcome = split_brains(&cluster, suite.times);
    let outcome = watch.finish().and(outcome);
    outcome.map_err(|error| {
        let place = evidence::keep(&cluster, "split brain");
        anyhow::anyhow!("{error:#}\n{place}")
    })
}

fn split_brains(cluster: &Cluster, times: u32) -> Result<()> {
    let [favoured, other] = &cluster.nodes[..] else {
        anyhow::bail!("{:?}: expected two nodes", cluster.nodes);
    };
    let cib = cluster.cib().fenced_by_bmcs(Some((favoured, HEAD_START)));
    cluster.load(&cib.vip("vip", FLOATING).to_xml())?;
    for round in 1..=times {
        // Whichever holds the address, and whoever's cable it is.
        let holder = [favoured, other][(round / 2 % 2) as usize];
        let cut = [favoured, other][(round % 2) as usize];
        one_split_brain(cluster, favoured, other, holder, cut).with_context(|| {
            format!("split brain {round} of {times}, {holder} held vip, {cut} was cut off")
        })?;
        say(format_args!(
            "split brain {round} of {times}: {favoured} is left, {holder} held vip, {cut} was cut off"
        ));
    }
    Ok(())
}

fn one_split_brain(
    cluster: &Cluster,
    favoured: &str,
    other: &str,
    holder: &str,
    cut: &str,
) -> Result<()> {
    cluster.wait_for("the devices started", RECOVER, || {
        let status = cluster.status()?;
        for node in &cluster.nodes {
            status.runs_on(&format!("fence-{node}"))?;
        }
        Ok(())
    })?;
    if cluster.wait_started("vip")? != holder {
        let words = [
            "crm_resource",
            "--move",
            "--resource",
            "vip",
            "--node",
            holder,
        ];
        cluster.admin(&words)?;
        cluster.wait_for("vip on its node", RECOVER, || {
            let node = cluster.status()?.runs_on("vip")?;
            ensure!(node == holder, "on {node}");
            Ok(())
        })?;
        cluster.admin(&["crm_resource", "--clear", "--resource", "vip"])?;
    }
    let (since, before) = (offs()?.len(), init(favoured)?);

    cluster.cut(cut)?;
    cluster.wait_for("one of them fenced", RECOVER, || {
        ensure!(offs()?.len() > since, "none was switched off");
        Ok(())
    })?;
    cluster.wait_for("vip on the one that is left", RECOVER, || {
        let node = cluster.status_of(favoured)?.runs_on("vip")?;
        ensure!(node == favoured, "on {node}");
        Ok(())
    })?;
    // The other has power again, is alone, and has had the time to do something foolish.
    cluster.wait_for(
        "the fenced node's Pacemaker, idle and without quorum",
        RECOVER,
        || {
            cluster.quorum(other)?.expect(false, 1)?;
            let state = cluster.output(other, &["crmadmin", "--status", other])?;
            ensure!(state.contains("S_IDLE"), "{}", state.trim());
            Ok(())
        },
    )?;
    let offs = offs()?;
    ensure!(
        offs.get(since..) == Some(&[other.to_owned()]),
        "switched off were {:?}, expected {other} alone",
        offs.get(since..)
    );
    ensure!(
        init(favoured)? == before,
        "{favoured} is not what it was before"
    );
    cluster.wait_reachable(FLOATING, favoured)?;
    cluster.heal(cut)?;
    all_online(cluster)
}

/// Fencing by BMCs and one address; the node that holds it.
fn begin(cluster: &Cluster) -> Result<String> {
    let cib = cluster.cib().fenced_by_bmcs(None);
    cluster.load(&cib.vip("vip", FLOATING).to_xml())?;
    let node = cluster.wait_started("vip")?;
    for name in &cluster.nodes {
        cluster.wait_started(&format!("fence-{name}"))?;
    }
    cluster.wait_reachable(FLOATING, &node)?;
    Ok(node)
}

fn other(cluster: &Cluster, node: &str) -> Result<String> {
    let other = cluster.nodes.iter().find(|name| *name != node);
    other.cloned().context("a cluster of one")
}

fn all_online(cluster: &Cluster) -> Result<()> {
    let online = || cluster.all_online().map(drop);
    cluster.wait_for("all nodes online again", RECOVER, online)
}

/// The nodes that were switched off by their BMCs, one after another.
fn offs() -> Result<Vec<String>> {
    let log = fs::read_to_string(format!("{STATE}/room.log")).context("reading the room's log")?;
    let end = format!(" power off for {ASKER}");
    let lines = log.lines().filter_map(|line| line.split_once(' '));
    let names = lines.filter_map(|(_, what)| what.strip_suffix(end.as_str()));
    Ok(names.map(str::to_owned).collect())
}

/// The init of a node that has power.
fn init(node: &str) -> Result<i32> {
    let machine = control::machines()?
        .into_iter()
        .find(|machine| machine.name == node);
    machine
        .and_then(|machine| machine.init)
        .with_context(|| format!("{node} has no power"))
}

/// Stops all processes of a node, its init too. What is stopped holds its addresses, and answers for them.
fn freeze(node: &str) -> Result<()> {
    let stopped = processes::of_node(init(node)?)?;
    ensure!(
        stopped.len() > 5,
        "{node} has {} processes only",
        stopped.len()
    );
    for pid in stopped {
        // One that ended in the meantime is as good.
        let _ = kill(Pid::from_raw(pid), Signal::SIGSTOP);
    }
    Ok(())
}
