//! A stack with many LUNs is moved while a client writes: it loses nothing, is told of no error, and its longest gap is
//! compared with that of the peers' agents.

use anyhow::{Context, Result};

use super::super::guests::Guests;
use super::{Stack, Whose, log_in, longest_gap, lun, make_pool, no_errors};
use crate::layout::FLOATING;
use crate::progress::more;
use crate::room::now;

const LUNS: usize = 8;

/// Ours alone.
pub fn ours(lab: &Guests, moves: usize) -> Result<()> {
    make_pool(lab, LUNS)?;
    print(&[("ours", gaps(lab, Whose::Ours, moves)?)])
}

/// Ours, then the peers', on the same heads and the same pool.
pub fn compared(lab: &Guests, moves: usize) -> Result<()> {
    make_pool(lab, LUNS)?;
    let ours = gaps(lab, Whose::Ours, moves)?;
    let peers = gaps(lab, Whose::Peers, moves)?;
    print(&[("ours", ours), ("peers", peers)])
}

/// Moves it so many times; the client's longest gap at each, in seconds.
fn gaps(lab: &Guests, whose: Whose, moves: usize) -> Result<Vec<f64>> {
    let mut stack = Stack::begin(lab, whose, LUNS)?;
    // The last of the LUNs, which the peers start last.
    let path = lun(LUNS);
    log_in(&lab.cluster, &[FLOATING], std::slice::from_ref(&path))?;
    let mut writer = lab.write(&path, whose.name())?;
    let mut gaps = Vec::new();
    for _ in 0..moves {
        writer.wait_for(20)?;
        let begin = now();
        stack.move_away(&mut writer)?;
        gaps.push(longest_gap(&writer.acks()?, begin)?);
    }
    let report = writer.finish()?;
    for line in report.to_string().lines() {
        more(format_args!("{}: {line}", whose.name()));
    }
    report.check()?;
    // How the peers' do is printed with the report.
    if whose == Whose::Ours {
        no_errors(&report.acks)?;
    }
    stack.end()?;
    Ok(gaps)
}

fn print(all: &[(&str, Vec<f64>)]) -> Result<()> {
    more(format_args!(
        "the client's longest gap at each move, s, {LUNS} LUNs"
    ));
    let mut medians = Vec::new();
    for (name, gaps) in all {
        let mut sorted = gaps.clone();
        sorted.sort_by(f64::total_cmp);
        let median = *sorted.get(sorted.len() / 2).context("no move was made")?;
        let longest = sorted.last().copied().unwrap_or(median);
        let each: Vec<String> = gaps.iter().map(|gap| format!("{gap:.1}")).collect();
        more(format_args!(
            "{name:6} median {median:5.1}  longest {longest:5.1}  all {}",
            each.join(" ")
        ));
        medians.push(median);
    }
    if let [ours, peers] = medians[..] {
        more(format_args!("ratio of the medians {:.1}", peers / ours));
    }
    Ok(())
}
