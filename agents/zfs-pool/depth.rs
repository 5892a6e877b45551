//! What deeper monitors look at. Nothing here writes to the pool; what may hang is done in a process of its own.

use std::time::Duration;

use ocf::prelude::*;
use probe::zfs::{self, PoolState, status};

use crate::disks;
use crate::pool::ZfsPool;
use crate::reservation;

/// How often is looked whether a transaction group is done.
const PACE: Duration = Duration::from_millis(100);
/// A transaction group that was done so recently is proof enough. Of idle pools most are: one is written every
/// zfs_txg_timeout seconds, by default 5. So the first monitor, which Pacemaker may want before it starts anything else, seldom
/// waits.
const RECENT: Duration = Duration::from_secs(5);
/// For commands that read what ZFS has counted.
const PATIENCE: Duration = Duration::from_secs(20);

/// Something that somebody should look at, if there is such a thing. An error is a pool that does not work.
pub fn look(pool: &ZfsPool, node: &Node, depth: Depth) -> Result<Option<String>> {
    let mut finding = None;
    if depth >= Depth::Normal {
        let present = disks::look_again(pool, node)?;
        let here = present.as_ref().map(|present| &present.disks[..]);
        // Before anything new is reserved: a pool that another host has taken is not ours to add to.
        finding = reservation::check(pool, node, here)?;
        if let Some(present) = present {
            finding = finding.or(present.finding.clone());
            finding = finding.or(present.take_in(pool, node)?);
        }
        finding = finding.or(is_writing(pool, node)?);
        finding = finding.or(pool.changed_guid(node));
    }
    // Only a pool that has just written something is asked by a command: a dead one would hold it for ever.
    if depth >= Depth::Thorough && finding.is_none() {
        finding = counters(pool, node).unwrap_or_else(|error| {
            warn!("the error counters are not known: {error:#}");
            None
        });
        ensure!(!zfs::is_suspended(node, &pool.pool), pool.suspended());
    }
    Ok(finding)
}

/// Unless one has been a moment ago, waits until a transaction group that was not on disk at the beginning is.
fn is_writing(pool: &ZfsPool, node: &Node) -> Result<Option<String>> {
    let list = || zfs::txgs(node, &pool.pool);
    // None where the module keeps no list.
    let last_done = |txgs: Vec<zfs::Txg>| {
        let done = txgs.iter().filter(|txg| txg.phase == zfs::Phase::Committed);
        (!txgs.is_empty()).then(|| done.map(|txg| txg.number).max().unwrap_or(0))
    };
    let first = list()?;
    if recently(&first, node)? {
        return Ok(None);
    }
    let Some(begun) = last_done(first) else {
        return Ok(Some("the module's parameter zfs_txg_history is 0, so it cannot be seen whether the pool still writes".into()));
    };
    let started = node.now();
    loop {
        match last_done(list()?) {
            Some(done) if done > begun => return Ok(None),
            Some(_) => {}
            None => bail!(
                "pool {}: the list of its transaction groups has gone",
                pool.pool
            ),
        }
        if let Some(PoolState::Suspended) = zfs::state(node, &pool.pool)? {
            bail!(pool.suspended());
        }
        if node.time_left() <= Duration::from_millis(500) {
            bail!(
                "pool {} has written no transaction group for {:.0} s: its disks do not answer",
                pool.pool,
                (node.now() - started).as_secs_f32()
            );
        }
        node.sleep(PACE);
    }
}

/// Whether one of these transaction groups was done a moment ago.
fn recently(txgs: &[zfs::Txg], node: &Node) -> Result<bool> {
    let last = txgs.iter().filter_map(|txg| txg.done).max();
    // After the list: what is in it has happened before.
    let (Some(last), Some(now)) = (last, zfs::clock(node)?) else {
        return Ok(false);
    };
    Ok(Duration::from_nanos(now.saturating_sub(last)) < RECENT)
}

/// Errors and slow disks, as ZFS has counted them. That there is no answer says nothing of this pool: the command needs a
/// lock that the import of any other pool holds, before ZFS 2.3 all the time, and since then while it watches whether
/// another host writes.
fn counters(pool: &ZfsPool, node: &Node) -> Result<Option<String>> {
    let asked = Cmd::new("zpool")
        .args(["status", "-P", "-p", "-s", &pool.pool])
        .at_most(PATIENCE);
    let said = node.run(&asked)?.stdout;
    let status = status::parse(&said).context("what zpool status says")?;
    let mut findings = Vec::new();
    for vdev in status.vdevs.iter().filter(|vdev| vdev.is_leaf) {
        let mut counts = Vec::new();
        for (what, count) in [
            ("read", vdev.read),
            ("write", vdev.write),
            ("checksum", vdev.cksum),
        ] {
            if count > 0 {
                counts.push(format!("{count} {what} errors"));
            }
        }
        if let Some(slow) = vdev.slow.filter(|count| *count > 0) {
            counts.push(format!("{slow} slow requests"));
        }
        if vdev.state != "ONLINE" && vdev.state != "AVAIL" && vdev.state != "INUSE" {
            counts.insert(0, vdev.state.clone());
        }
        if !counts.is_empty() {
            findings.push(format!("{}: {}", vdev.name, counts.join(", ")));
        }
    }
    Ok((!findings.is_empty()).then(|| findings.join("; ")))
}

/// How full the pool is, in percent.
pub fn capacity(pool: &ZfsPool, node: &Node) -> Result<String> {
    let asked = Cmd::new("zpool")
        .args(["list", "-Hp", "-o", "capacity", &pool.pool])
        .at_most(PATIENCE);
    let percent = node.run(&asked)?.stdout.trim().to_owned();
    ensure!(
        percent.parse::<u32>().is_ok(),
        "zpool list says \"{percent}\", expected a number"
    );
    Ok(percent)
}
