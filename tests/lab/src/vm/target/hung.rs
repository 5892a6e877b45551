//! A LUN's disk does not answer while a client reads from it: stop says so, and which LUN it is, before its time is over;
//! it works once the disk answers again.

use anyhow::{Context, Result, ensure};

use super::super::guests::Guests;
use super::super::storage::{Disk, by_path};
use super::{INITIATORS, IQN, act, listing, log_in, unchanged};
use crate::cluster::RECOVER;
use crate::control;
use crate::layout::CLIENT;
use crate::progress::more;

/// Where the client finds it.
const ADDRESS: &str = "192.0.2.1";

/// A stop has this much time, which would otherwise be over before Pacemaker heard of a reason.
const HURRIED: [&str; 2] = ["env", "OCF_RESKEY_CRM_meta_timeout=15000"];

/// One stop while the disk hangs, and one after.
pub fn run(lab: &Guests) -> Result<()> {
    let cluster = &lab.cluster;
    let disks = lab.local_disks("n1", 1, "64M")?;
    let disk = disks.first().context("no disk was added")?;
    let before = listing("n1")?;
    let parameters = [
        format!("iqn={IQN}"),
        format!("allowed_initiators={}", INITIATORS[0]),
        format!("luns=1={}", Disk::path(disk)),
    ];
    let parameters: Vec<&str> = parameters.iter().map(String::as_str).collect();
    act("n1", &[], "start", &parameters)?.expect(0)?;
    let path = by_path(ADDRESS, IQN, 1);
    log_in(cluster, &[ADDRESS], std::slice::from_ref(&path))?;

    control::ask(&["disk", "hang", &disk.name, "n1", "on"])?;
    let read = format!("dd if={path} of=/dev/null iflag=direct bs=4k count=1 >/dev/null 2>&1 &");
    cluster.output(CLIENT, &["sh", "-c", &read])?;
    let device = cluster.output("n1", &["readlink", "-f", &Disk::path(disk)])?;
    let device = device.trim().trim_start_matches("/dev/");
    let inflight = format!("/sys/block/{device}/inflight");
    cluster.wait_for("the client's request at the disk", RECOVER, || {
        let text = super::super::read("n1", &inflight)?;
        ensure!(text.split_whitespace().next() != Some("0"), "{text}");
        Ok(())
    })?;
    let stopped = act("n1", &HURRIED, "stop", &parameters)?.expect(1)?;
    let [reason] = stopped.reasons()[..] else {
        anyhow::bail!("not one reason, but this: {:?}", stopped.said)
    };
    more(reason);
    for word in ["LUN 1", "commands in flight", "left behind"] {
        ensure!(reason.contains(word), "the reason does not say \"{word}\"");
    }
    control::ask(&["disk", "hang", &disk.name, "n1", "off"])?;
    act("n1", &[], "stop", &parameters)?.expect(0)?;
    unchanged("n1", &before)
}
