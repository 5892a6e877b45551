//! Who may do what with a target's LUNs, as a client finds it: a LUN that is read-only cannot be written to, and who is no
//! longer allowed is out, though it came when anybody was. And somebody who connects and says nothing is no reason for a
//! monitor to fail.

use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::super::exec;
use super::super::guests::Guests;
use super::super::storage::{Disk, by_path};
use super::{INITIATORS, IQN, act, listing, log_in, log_out, unchanged};
use crate::layout::CLIENT;
use crate::threads;

const ADDRESS: &str = "192.0.2.1";

/// All of it.
pub fn run(lab: &Guests) -> Result<()> {
    let disks = lab.local_disks("n1", 2, "64M")?;
    let paths: Vec<String> = disks.iter().map(Disk::path).collect();
    let [one, two] = &paths[..] else {
        anyhow::bail!("two disks were to be added, and these are there: {paths:?}")
    };
    let before = listing("n1")?;
    let (iqn, portal) = (format!("iqn={IQN}"), format!("portals={ADDRESS}"));
    let luns = |list: String| format!("luns={list}");
    let only = |who: &str| format!("allowed_initiators={who}");
    let [here, other] = INITIATORS;
    let seen = [1, 2].map(|number| by_path(ADDRESS, IQN, number));

    let one_is_closed = luns(format!("1={one},ro 2={two}"));
    let named = only(here);
    let parameters = [&*iqn, &portal, &one_is_closed, &named];
    act("n1", &[], "start", &parameters)?.expect(0)?;
    log_in(&lab.cluster, &[ADDRESS], &seen)?;
    is_closed(&seen[0])?;
    write(&seen[1]).context("the other LUN")?;
    silence(&parameters).context("somebody connects and says nothing")?;
    log_out()?;
    act("n1", &[], "stop", &parameters)?.expect(0)?;

    let both_are_closed = luns(format!("1={one},ro 2={two},ro"));
    let parameters = [&*iqn, &portal, &both_are_closed];
    act("n1", &[], "start", &parameters)?.expect(0)?;
    log_in(&lab.cluster, &[ADDRESS], &seen)?;
    for path in &seen {
        is_closed(path).context("for anybody")?;
    }
    let open = luns(format!("1={one} 2={two}"));
    // Whoever may, logs in again, and writes.
    let again = |parameters: &[&str], who: &'static str| -> Result<()> {
        act("n1", &[], "reload-agent", parameters)?.expect(0)?;
        log_out()?;
        log_in(&lab.cluster, &[ADDRESS], &seen)?;
        write(&seen[0]).context(who)
    };
    again(&[&iqn, &portal, &open], "anybody, once it may be written")?;
    again(&[&iqn, &portal, &open, &named], "one that is allowed")?;
    again(&[&iqn, &portal, &open], "anybody again")?;

    // It is logged in, as anybody, and others are allowed.
    let parameters = [&*iqn, &portal, &open, &only(other)];
    act("n1", &[], "reload-agent", &parameters)?.expect(0)?;
    act("n1", &[], "monitor", &parameters)?.expect(0)?;
    ensure!(
        write(&seen[0]).is_err(),
        "an initiator that is allowed no longer can write"
    );
    log_out()?;
    let again = ["iscsiadm", "-m", "node", "-T", IQN, "--login"];
    ensure!(
        exec::output(CLIENT, &again, b"").is_err(),
        "an initiator that is allowed no longer can log in"
    );
    act("n1", &[], "stop", &parameters)?.expect(0)?;
    unchanged("n1", &before)
}

/// Writes a block, for at most half a minute: without a session it would wait for another one.
fn write(path: &str) -> Result<()> {
    let script = r#"timeout -k 5 30 dd if=/dev/zero of="$1" bs=4096 count=1 oflag=direct,nonblock conv=notrunc"#;
    exec::output(CLIENT, &["sh", "-c", script, "write", path], b"").map(drop)
}

/// Wants the target to refuse a write. The client's own kernel has been told that the disk is read-only, and is not asked.
fn is_closed(path: &str) -> Result<()> {
    let script = r#"sg_raw -R -s 512 -i /dev/zero "$1" 2a 00 00 00 00 08 00 00 01 00 2>&1; echo "ended with $?""#;
    let said = exec::output(CLIENT, &["sh", "-c", script, "write", path], b"")?;
    ensure!(
        said.contains("Data Protect"),
        "{path} is read-only, and a write came to: {said}"
    );
    Ok(())
}

/// A deep monitor while a connection is open on which nothing is said: the kernel waits for it, and for nobody else.
fn silence(parameters: &[&str]) -> Result<()> {
    let script = format!("exec 5<>/dev/tcp/{ADDRESS}/3260 && echo there && sleep 20");
    let deep = || {
        // For the kernel to have taken it.
        std::thread::sleep(Duration::from_secs(2));
        let words = ["env", "OCF_CHECK_LEVEL=10"];
        act("n1", &words, "monitor", parameters)?.expect(0)
    };
    let (_, said) = threads::both(deep, || exec::output(CLIENT, &["bash", "-c", &script], b""))?;
    ensure!(said.contains("there"), "it was not connected: {said}");
    Ok(())
}
