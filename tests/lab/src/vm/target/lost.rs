//! The disks of a pool are lost in the middle of writes: what the client was told is written has to be there on the other
//! head. It is the hardest case for that, since a write reaches the memory of the head and its flush does not end: the
//! client sends the flush once more, to a head that knows nothing of the write.

use anyhow::{Context, Result};

use super::super::guests::Guests;
use super::{Stack, Whose, log_in, longest_gap, lun, make_pool, no_errors};
use crate::control;
use crate::layout::FLOATING;
use crate::progress::more;
use crate::room::now;

/// Nothing is lost.
pub fn ours(lab: &Guests) -> Result<()> {
    lost(lab, Whose::Ours)
}

/// What becomes of it with the peers' agents: printed, and not judged.
pub fn peers(lab: &Guests) -> Result<()> {
    lost(lab, Whose::Peers)
}

fn lost(lab: &Guests, whose: Whose) -> Result<()> {
    let cluster = &lab.cluster;
    let disks = make_pool(lab, 1)?;
    let mut stack = Stack::begin(lab, whose, 1)?;
    let path = lun(1);
    log_in(cluster, &[FLOATING], std::slice::from_ref(&path))?;
    // Without a pause between records: so that there is one under way.
    let mut writer = lab.write(&path, whose.name())?;
    writer.wait_for(20)?;
    let (holder, since) = (stack.holder.clone(), now());
    for disk in &disks {
        control::ask(&["disk", "pull", &disk.name, &holder])?;
    }
    stack.arrive()?;
    cluster.wait_fenced(&holder, since)?;
    writer
        .wait_for(20)
        .with_context(|| format!("after {holder} had lost its disks"))?;
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
    if whose == Whose::Ours {
        checked?;
        no_errors(&report.acks)?;
    }
    Ok(())
}
