//! What can happen to a cluster. Each scenario starts with a clean cluster and leaves the cleaning to its caller.

use anyhow::{Result, ensure};

use crate::cluster::{Cluster, RECOVER};
use crate::crm::failed_actions;
use crate::layout::{FLOATING, FLOATING6};

/// How many addresses [`many`] has: more than a storage appliance ever had.
const MANY: usize = 200;

/// Some of these addresses: to watch all, twenty times a second, would be the load itself.
pub const SOME_OF_MANY: &[&str] = &["198.51.100.1", "198.51.100.100", "198.51.100.200"];

/// The address comes up on one node, and the client reaches it.
pub fn start(cluster: &Cluster) -> Result<()> {
    begin(cluster, FLOATING).map(drop)
}

/// The administrator moves the address: by name, then by sending its node into standby. Nothing fails.
pub fn planned_move(cluster: &Cluster) -> Result<()> {
    let first = begin(cluster, FLOATING)?;
    let other = cluster
        .nodes
        .iter()
        .find(|node| **node != first)
        .map_or("", String::as_str);
    cluster.admin(&[
        "crm_resource",
        "--move",
        "--resource",
        "vip",
        "--node",
        other,
    ])?;
    let second = cluster.wait_moved("vip", &first)?;
    ensure!(
        second == other,
        "vip was to move to {other} and is on {second}"
    );
    ends_on(cluster, FLOATING, &second)?;
    cluster.admin(&["crm_resource", "--clear", "--resource", "vip"])?;

    standby(cluster, &second, true)?;
    let third = cluster.wait_moved("vip", &second)?;
    ends_on(cluster, FLOATING, &third)?;
    no_failures(cluster)
}

/// The node that holds the address loses its power.
pub fn power_loss(cluster: &Cluster) -> Result<()> {
    let holder = begin(cluster, FLOATING)?;
    let cut = cluster.power_off(&holder)?;
    cluster.wait_fenced(&holder, cut)?;
    let new = cluster.wait_moved("vip", &holder)?;
    ends_on(cluster, FLOATING, &new)
}

/// The cable of the service network comes off the node that holds the address.
pub fn nic_down(cluster: &Cluster) -> Result<()> {
    let holder = begin(cluster, FLOATING)?;
    cluster.nic(&holder, false)?;
    let new = cluster.wait_moved("vip", &holder)?;
    ends_on(cluster, FLOATING, &new)
}

/// The node that holds the address cannot see the other two, nor they it: it is fenced before the address comes up.
/// It boots again, still alone, and without quorum it starts nothing.
pub fn partition(cluster: &Cluster) -> Result<()> {
    let holder = begin(cluster, FLOATING)?;
    let cut = cluster.cut(&holder)?;
    cluster.wait_fenced(&holder, cut)?;
    let new = cluster.wait_moved("vip", &holder)?;
    cluster.wait_for("the isolated node, alone", RECOVER, || {
        cluster.quorum(&holder)?.expect(false, 1)
    })?;
    // Its own Pacemaker has elected itself, has looked at everything and has nothing left to do.
    cluster.wait_for("the isolated node's Pacemaker, idle", RECOVER, || {
        let state = cluster.output(&holder, &["crmadmin", "--status", &holder])?;
        ensure!(state.contains("S_IDLE"), "{}", state.trim());
        Ok(())
    })?;
    let alone = cluster.status_of(&holder)?;
    ensure!(!alone.quorate, "{holder} believes that it has quorum");
    ensure!(
        alone.runs_on("vip").is_err(),
        "{holder}, alone, has started vip"
    );
    ends_on(cluster, FLOATING, &new)
}

/// An IPv6 address starts, moves, and survives the loss of its node.
pub fn ipv6(cluster: &Cluster) -> Result<()> {
    let first = begin(cluster, FLOATING6)?;
    standby(cluster, &first, true)?;
    let second = cluster.wait_moved("vip", &first)?;
    ends_on(cluster, FLOATING6, &second)?;
    no_failures(cluster)?;
    let cut = cluster.power_off(&second)?;
    cluster.wait_fenced(&second, cut)?;
    let third = cluster.wait_moved("vip", &second)?;
    ends_on(cluster, FLOATING6, &third)
}

/// Pacemaker's executor is killed while it looks after the address.
pub fn executor_killed(cluster: &Cluster) -> Result<()> {
    let holder = begin(cluster, FLOATING)?;
    let old = cluster.process(&holder, "pacemaker-execd")?;
    cluster.output(&holder, &["kill", "-KILL", &old])?;
    cluster.wait_for_another(&holder, "pacemaker-execd", &old)?;
    cluster.wait_for("all nodes online again", RECOVER, || cluster.all_online())?;
    let node = cluster.wait_started("vip")?;
    ends_on(cluster, FLOATING, &node)
}

/// Two hundred addresses start, move and stop without one failure.
pub fn many(cluster: &Cluster) -> Result<()> {
    let ids: Vec<String> = (1..=MANY).map(|number| format!("vip{number}")).collect();
    let address = |number: usize| format!("198.51.100.{number}");
    // A monitor of each address every five seconds would be the load that is measured, not the move.
    let mut cib = cluster.cib().monitor_every(60);
    for (index, id) in ids.iter().enumerate() {
        cib = cib.vip(id, &address(index + 1));
    }
    cluster.load(&cib.to_xml())?;
    let all_started = || -> Result<()> {
        let status = cluster.status()?;
        let waiting: Vec<&String> = ids
            .iter()
            .filter(|id| status.runs_on(id).is_err())
            .collect();
        ensure!(
            waiting.is_empty(),
            "{} of {MANY} not started, the first is {}",
            waiting.len(),
            waiting[0]
        );
        Ok(())
    };
    cluster.wait_for("all addresses started", RECOVER, all_started)?;
    no_failures(cluster)?;

    let leaver = cluster.nodes[0].clone();
    standby(cluster, &leaver, true)?;
    cluster.wait_for("all addresses moved", RECOVER, || {
        all_started()?;
        let status = cluster.status()?;
        let left = ids
            .iter()
            .filter(|id| status.runs_on(id).is_ok_and(|node| node == leaver))
            .count();
        ensure!(left == 0, "{left} still on {leaver}");
        Ok(())
    })?;
    for number in 1..=MANY {
        let holders = cluster.holders(address(number).parse()?);
        ensure!(
            holders.len() == 1,
            "{} is on {holders:?}, expected one node",
            address(number)
        );
    }
    no_failures(cluster)?;

    cluster.admin(&[
        "crm_attribute",
        "--name",
        "stop-all-resources",
        "--update",
        "true",
    ])?;
    cluster.wait_for("all addresses stopped", RECOVER, || {
        let status = cluster.status()?;
        let active = status
            .resources
            .iter()
            .filter(|resource| !resource.nodes.is_empty())
            .count();
        ensure!(active == 0, "{active} resources still active");
        Ok(())
    })?;
    for number in 1..=MANY {
        let holders = cluster.holders(address(number).parse()?);
        ensure!(
            holders.is_empty(),
            "{} is still on {holders:?}",
            address(number)
        );
    }
    no_failures(cluster)
}

/// Loads a CIB with one address and waits until the client reaches it; the node that holds it.
fn begin(cluster: &Cluster, address: &str) -> Result<String> {
    cluster.load(&cluster.cib().vip("vip", address).to_xml())?;
    let node = cluster.wait_started("vip")?;
    ends_on(cluster, address, &node)?;
    Ok(node)
}

/// The address is on this node and on no other, and a client can open a new connection to it.
fn ends_on(cluster: &Cluster, address: &str, node: &str) -> Result<()> {
    cluster.wait_for("one holder", RECOVER, || {
        let holders = cluster.holders(address.parse()?);
        ensure!(
            holders == [node],
            "{address} is on {holders:?}, expected {node}"
        );
        Ok(())
    })?;
    cluster.wait_reachable(address, node)
}

fn standby(cluster: &Cluster, node: &str, standby: bool) -> Result<()> {
    let value = if standby { "on" } else { "off" };
    cluster
        .admin(&[
            "crm_attribute",
            "--node",
            node,
            "--name",
            "standby",
            "--update",
            value,
        ])
        .map(drop)
}

/// Neither crm_mon nor the history of any node knows of a failure.
fn no_failures(cluster: &Cluster) -> Result<()> {
    let mut failures = cluster.status()?.failures;
    failures.extend(failed_actions(&cluster.admin(&["cibadmin", "--query"])?)?);
    ensure!(
        failures.is_empty(),
        "failed actions: {}",
        failures.join("; ")
    );
    Ok(())
}
