//! Names, places and addresses of the lab: everything that two modules must agree on.

use std::fs::File;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};

/// The lab's own directory on this machine. Nothing else on it is written, packages apart.
pub const STATE: &str = "/run/hastor-lab";

/// Where [`SHARE`] appears inside a node, whose `/run` is its own.
pub const INSIDE: &str = "/run/hastor-lab";

/// The part of [`STATE`] that every node sees: executables and the control socket.
pub const SHARE: &str = "/run/hastor-lab/share";

/// Every process of the lab carries this variable, so that leftovers can be told from strangers.
pub const MARK: &str = "HASTOR_LAB_STATE";

/// The name of the machine from which a client looks at the cluster.
pub const CLIENT: &str = "client";

/// The name of the guest that exports disks to the heads.
pub const SHELF: &str = "shelf";

/// The largest number of clients in the lab of virtual machines: client, client2, client3.
pub const MOST_CLIENTS: usize = 3;

/// The search path of every command in a node; nothing is inherited from the caller.
pub const PATH: &str = "/usr/sbin:/usr/bin:/sbin:/bin";

/// The TCP port on which each node answers its own name.
pub const PORT: u16 = 80;

/// The largest cluster: what Pacemaker on two cores was seen to carry, with room.
pub const MOST_NODES: usize = 8;

/// The floating address of the demo and of the scenarios.
pub const FLOATING: &str = "192.0.2.10";

/// The floating address of the IPv6 scenario.
pub const FLOATING6: &str = "2001:db8::10";

/// Directories of a node that survive a power cut, with their owner: its disk.
pub const DISK: &[(&str, Owner)] = &[
    ("/etc/corosync", Owner::Root),
    ("/var/lib/corosync", Owner::Root),
    ("/var/lib/pacemaker", Owner::Cluster),
    ("/var/log/corosync", Owner::Root),
    ("/var/log/pacemaker", Owner::Cluster),
];

/// Who owns a directory in a node.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Owner {
    /// root:root
    Root,
    /// hacluster:haclient, the user of Pacemaker's daemons
    Cluster,
}

/// The names of a cluster of `count` nodes: n1, n2, ...
pub fn nodes(count: usize) -> Vec<String> {
    (1..=count).map(|number| format!("n{number}")).collect()
}

/// The last byte of a machine's addresses.
pub fn number(name: &str) -> Result<u8> {
    let node = name.strip_prefix('n').and_then(|n| n.parse::<u8>().ok());
    match (node, name) {
        (Some(n @ 1..=9), _) => Ok(n),
        (_, CLIENT) => Ok(254),
        (_, "client2") => Ok(253),
        (_, "client3") => Ok(252),
        (_, SHELF) => Ok(250),
        _ => bail!(
            "{name:?} is no machine of the lab: expected n1 to n{MOST_NODES}, {CLIENT} or {SHELF}"
        ),
    }
}

/// Address of a node on the cluster network.
pub fn ring_address(number: u8) -> String {
    format!("10.77.0.{number}")
}

/// Address of a machine on the replication network, which is also the shelf's.
pub fn replication_address(number: u8) -> String {
    format!("10.77.3.{number}")
}

/// The lab's own address on the management network.
pub const MANAGEMENT: &str = "10.77.4.240";

/// Address of a machine on the management network.
pub fn management_address(number: u8) -> String {
    format!("10.77.4.{number}")
}

/// Address of a node's BMC, on the management network.
pub fn bmc_address(number: u8) -> String {
    format!("10.77.4.{}", 100 + u16::from(number))
}

/// IPv4 address of a machine on the service network.
pub fn service_address(number: u8) -> String {
    format!("192.0.2.{number}")
}

/// IPv6 address of a machine on the service network.
pub fn service_address6(number: u8) -> String {
    format!("2001:db8::{number:x}")
}

/// Everything the lab keeps for one machine.
pub fn home(name: &str) -> PathBuf {
    PathBuf::from(format!("{STATE}/nodes/{name}"))
}

/// The log of the machine room: what it did, and when.
pub fn room_log() -> PathBuf {
    PathBuf::from(format!("{STATE}/room.log"))
}

/// What a machine prints, opened to be added to.
pub fn console(name: &str) -> Result<File> {
    let path = home(name).join("console.log");
    let opened = File::options().append(true).create(true).open(&path);
    opened.with_context(|| format!("opening {}", path.display()))
}

/// Where a directory of a node lies on this machine.
pub fn on_disk(name: &str, directory: &str) -> PathBuf {
    home(name).join(directory.trim_start_matches('/').replace('/', "-"))
}

/// The file with the process id of a machine's init, there while it has power.
pub fn pid_file(name: &str) -> PathBuf {
    home(name).join("pid")
}

/// The control socket, as seen from inside a node or from outside.
pub fn socket() -> PathBuf {
    let outside = PathBuf::from(format!("{SHARE}/room.sock"));
    if outside.exists() {
        outside
    } else {
        PathBuf::from(format!("{INSIDE}/room.sock"))
    }
}
