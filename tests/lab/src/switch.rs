//! The network between the machines: bridges in a namespace of their own, one cable per machine and bridge.
//!
//! All of this runs in the process that lives in that namespace, so nothing reaches the machine's own network.

use std::io::Write;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::layout::{self, CLIENT, PATH, number};

/// Makes the bridges, and on that of the management network the addresses of the nodes' BMCs.
pub fn create(nodes: usize) -> Result<()> {
    let mut batch = "link set lo up\n".to_owned();
    for bridge in ["cluster", "service", "management"] {
        batch += &format!("link add {bridge} type bridge forward_delay 0 mcast_snooping 0\n");
        batch += &format!("link set {bridge} up\n");
    }
    for node in layout::nodes(nodes) {
        let address = layout::bmc_address(number(&node)?);
        batch += &format!("address add {address}/24 dev management\n");
    }
    ip(&batch)
}

/// Joins a machine, given by its init, to all networks; the client only to the service network.
pub fn plug(name: &str, init: i32) -> Result<()> {
    let number = number(name)?;
    let mut batch = String::new();
    // The same hardware address after every power cut, as with a real card.
    if name != CLIENT {
        batch += &format!(
            "link add {name}-ring type veth peer name ring0 address 02:00:00:00:01:{number:02x} netns {init}\n"
        );
        batch += &format!("link set {name}-ring master cluster up\n");
        batch += &format!(
            "link add {name}-mgmt type veth peer name mgmt0 address 02:00:00:00:03:{number:02x} netns {init}\n"
        );
        batch += &format!("link set {name}-mgmt master management up\n");
    }
    batch += &format!(
        "link add {name}-lan type veth peer name lan0 address 02:00:00:00:02:{number:02x} netns {init}\n"
    );
    batch += &format!("link set {name}-lan master service up\n");
    ip(&batch)
}

/// Takes a machine off all networks at once. A killed namespace answers ARP until the kernel
/// has cleaned up behind it; a machine without power does not.
pub fn unplug(name: &str) {
    for port in ["ring", "lan", "mgmt"] {
        // Not there is as good.
        let _ = ip(&format!("link del {name}-{port}\n"));
    }
}

/// Takes a node's port out of the cluster bridge, or puts it back. The cable stays plugged in at both ends and the node
/// keeps its carrier: it cannot tell that it was cut off, which is the hard case.
///
/// Disabling the port would do the same, until the node is power-cycled: the bridge enables a port whose carrier returns.
pub fn set_ring(name: &str, open: bool) -> Result<()> {
    let master = if open { "master cluster" } else { "nomaster" };
    ip(&format!("link set {name}-ring {master}\n"))
}

/// Pulls the cable of a node's service network (it loses the carrier), or plugs it in again.
pub fn set_lan(name: &str, plugged: bool) -> Result<()> {
    let state = if plugged { "up" } else { "down" };
    ip(&format!("link set dev {name}-lan {state}\n"))
}

/// Runs a batch of ip commands in the namespace of this process.
pub fn ip(lines: &str) -> Result<()> {
    let mut child = Command::new("ip")
        .args(["-batch", "-"])
        .env("PATH", PATH)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .context("running ip")?;
    if let Some(mut input) = child.stdin.take() {
        input.write_all(lines.as_bytes()).context("writing to ip")?;
    }
    let output = child.wait_with_output().context("waiting for ip")?;
    if !output.status.success() {
        bail!(
            "ip {:?}: {}",
            lines.trim_end(),
            String::from_utf8_lossy(&output.stderr).trim_end()
        );
    }
    Ok(())
}
