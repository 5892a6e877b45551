//! Where the measuring happens: namespaces in which nothing of the machine can be touched.

use std::fs;

use anyhow::{Context, Result, bail};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::Signal;
use nix::unistd::getpid;

use crate::switch;

/// The interface on which the addresses come and go.
pub const NIC: &str = "bench0";

/// The prefix length of its network.
pub const PREFIX: &str = "24";

/// How many addresses the group of concurrent monitors has.
pub const MANY: u8 = 100;

/// Takes this process out of the machine's namespaces; its next child is process 1 of the new ones.
pub fn leave_machine() -> Result<()> {
    unshare(
        CloneFlags::CLONE_NEWNET
            | CloneFlags::CLONE_NEWNS
            | CloneFlags::CLONE_NEWIPC
            | CloneFlags::CLONE_NEWPID,
    )
    .context("namespaces for the measurements")
}

/// For process 1 of the new namespaces: makes the file systems and the network.
pub fn enter() -> Result<()> {
    if getpid().as_raw() != 1 {
        bail!("this part of the lab runs in a process namespace of its own only");
    }
    // The first process ignores what Ctrl-C sends; it has to be killed, and all others go with it.
    set_pdeathsig(Signal::SIGKILL).context("parent-death signal")?;
    let none: Option<&str> = None;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)
        .context("private mounts")?;
    for (kind, target) in [("proc", "/proc"), ("sysfs", "/sys"), ("tmpfs", "/run")] {
        mount(Some(kind), target, Some(kind), MsFlags::empty(), none)
            .with_context(|| format!("{kind} on {target}"))?;
    }
    // As systemd-tmpfiles makes it for resource-agents.
    fs::create_dir("/run/resource-agents").context("creating /run/resource-agents")?;
    std::env::set_current_dir("/")?;
    switch::ip(&format!(
        "link set lo up\nlink add {NIC} type veth peer name bench1\naddress add 192.0.2.1/{PREFIX} dev {NIC}\n\
         link set bench1 up\nlink set {NIC} up\n"
    ))
}

/// The addresses for the group of concurrent monitors.
pub fn many() -> Vec<String> {
    (1..=MANY).map(|n| format!("192.0.2.{}", 100 + n)).collect()
}

/// Puts the addresses of [`many`] on the interface, as both agents would.
pub fn add_many() -> Result<()> {
    let lines = many()
        .into_iter()
        .map(|address| format!("address add {address}/{PREFIX} broadcast 192.0.2.255 dev {NIC}\n"));
    switch::ip(&lines.collect::<String>())
}
