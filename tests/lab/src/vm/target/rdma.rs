//! A portal over RDMA (iSER) on an Ethernet card that does it in software (RoCE): a client logs in by it and writes.

use anyhow::{Context, Result, ensure};

use super::super::exec;
use super::super::guests::Guests;
use super::super::storage::{Disk, by_path, wait_for_paths};
use super::{IQN, act, listing, log_out, no_errors, unchanged};
use crate::layout::CLIENT;

/// Where the target listens.
const ADDRESS: &str = "192.0.2.1";

/// An RDMA device on top of a guest's card.
const DEVICE: &str = "modprobe rdma_rxe && rdma link add rxe0 type rxe netdev lan0";

/// A portal that nobody can listen at by RDMA is refused; one with a device serves a client, and goes though that one is
/// logged in.
pub fn run(lab: &Guests) -> Result<()> {
    let disks = lab.local_disks("n1", 1, "64M")?;
    let disk = disks.first().context("no disk was added")?;
    let before = listing("n1")?;
    let parameters = [
        format!("iqn={IQN}"),
        format!("iser_portals={ADDRESS}:3260"),
        format!("portals={ADDRESS}:3260"),
        format!("luns=1={}", Disk::path(disk)),
    ];
    let parameters: Vec<&str> = parameters.iter().map(String::as_str).collect();

    let refused = act("n1", &[], "start", &parameters)?;
    let reasons = refused.reasons();
    ensure!(
        refused.code == 1
            && reasons.len() == 1
            && reasons[0].contains(ADDRESS)
            && reasons[0].contains("iser_portals"),
        "without an RDMA device: exit code {}, and the reason does not name iser_portals and {ADDRESS}: {:?}",
        refused.code,
        refused.said
    );
    unchanged("n1", &before).context("without an RDMA device, after a start")?;

    for guest in ["n1", CLIENT] {
        exec::output(guest, &["sh", "-c", DEVICE], b"")
            .with_context(|| format!("an RDMA device for {guest}"))?;
    }
    act("n1", &[], "start", &parameters)?.expect(0)?;
    act("n1", &[], "monitor", &parameters)?.expect(0)?;
    let log_in = format!(
        "iscsiadm -m discovery -t sendtargets -p {ADDRESS} -I iser &&
iscsiadm -m node -T {IQN} -I iser --login && iscsiadm -m session"
    );
    let sessions = exec::output(CLIENT, &["sh", "-c", &log_in], b"")?;
    ensure!(
        sessions.lines().any(|line| line.starts_with("iser: ")),
        "no session by iSER: {sessions}"
    );
    let path = by_path(ADDRESS, IQN, 1);
    wait_for_paths(CLIENT, std::slice::from_ref(&path))?;
    let mut writer = lab.write(&path, "rdma")?;
    writer.wait_for(50)?;
    act("n1", &[], "monitor", &parameters)?.expect(0)?;
    let report = writer.finish()?;
    report.check()?;
    no_errors(&report.acks)?;

    act("n1", &[], "stop", &parameters)?
        .expect(0)
        .context("a stop while the client is logged in")?;
    unchanged("n1", &before)?;
    log_out()
}
