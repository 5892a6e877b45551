//! A head loses its power when a write of the client has reached its memory and the flush has not ended: what the client
//! is then told is written has to be there on the other head, to which it sends the flush, but not the write, once more.

use anyhow::{Context, Result, ensure};

use super::super::guests::Guests;
use super::{Stack, Whose, log_in, longest_gap, lun, make_pool_of, no_errors};
use crate::cluster::RECOVER;
use crate::control;
use crate::layout::FLOATING;
use crate::progress::more;
use crate::room::now;

/// For so long a record takes that waits for a disk that hangs, and no other.
const STUCK: f64 = 3.0;

/// Nothing is lost.
pub fn ours(lab: &Guests) -> Result<()> {
    lost(lab, Whose::Ours)
}

/// What becomes of it with the peers' agents: printed, and not judged.
pub fn peers(lab: &Guests) -> Result<()> {
    lost(lab, Whose::Peers)
}

fn lost(lab: &Guests, whose: Whose) -> Result<()> {
    // Of several disks, the others could have enough of the flush.
    let disks = make_pool_of(lab, ("", 1), 1)?;
    let mut stack = Stack::begin(lab, whose, 1)?;
    let path = lun(1);
    log_in(&lab.cluster, &[FLOATING], std::slice::from_ref(&path))?;
    let mut writer = lab.write(&path, whose.name())?;
    writer.wait_for(20)?;
    let since = now();
    let disk = disks.first().context("no disk was added")?;
    control::ask(&["disk", "hang", &disk.name, &stack.holder, "on"])?;
    lab.cluster
        .wait_for("a record that waits for the disk", RECOVER, || {
            let last = writer.acks()?.last().context("no record yet")?;
            ensure!(now() - last > STUCK, "records are still acknowledged");
            Ok(())
        })?;
    let holder = stack.holder.clone();
    stack.lose_head()?;
    // It would boot with a disk that hangs, and everybody would wait for it.
    lab.cluster.power_off(&holder)?;
    writer
        .wait_for(20)
        .context("after the head had lost its power")?;
    let gap = longest_gap(&writer.acks()?, since)?;
    let report = writer.finish()?;
    let checked = report.check();
    more(format_args!(
        "{}: {} records acknowledged, {}; the client waited {gap:.1} s",
        whose.name(),
        report.acks.count(),
        match &checked {
            Ok(()) => "all there".to_owned(),
            Err(_) => format!("NOT all there: {report}").replace('\n', "; "),
        }
    ));
    match whose {
        Whose::Ours => checked.and_then(|()| no_errors(&report.acks)),
        Whose::Peers => Ok(()),
    }
}
