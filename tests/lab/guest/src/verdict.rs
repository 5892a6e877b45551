//! Compares what was acknowledged with what is there.
//!
//! A slot has to hold the last record acknowledged for it. There is one freedom: the record that a writer was at when it
//! ended was not acknowledged, but may be on disk, whole or in part. Everything else is wrong.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use anyhow::{Result, bail};

use crate::acks::{Acks, End, Session, Writer};
use crate::ring::{Ring, State};

/// As many problems are shown; the report has them all.
const SHOWN: usize = 20;

/// What the comparison came to.
#[derive(Clone, Debug)]
pub struct Report {
    /// The writers, as the log has them.
    pub acks: Acks,
    /// The device or file that was read back.
    pub path: String,
    /// Number of slots that were read back.
    pub slots: usize,
    /// What is wrong; nothing if all is well.
    pub problems: Vec<Problem>,
}

/// Something that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Problem {
    /// No record was acknowledged: there was nothing to verify.
    Nothing,
    /// More than one writer was there.
    SeveralWriters(Vec<String>),
    /// A writer was started while another of the same name was at work.
    TwoAtOnce(String),
    /// The log and what was read back are of rings of different shape.
    Shape(String),
    /// The writer was started again, and found a ring that did not end where the acknowledgements did.
    Resumed {
        /// Who.
        writer: String,
        /// The last number acknowledged before; None if there was none.
        acknowledged: Option<u64>,
        /// The last number it found.
        found: u64,
    },
    /// The writer itself found something else than it had written, in its words.
    Wrong(String),
    /// An acknowledged record is not there.
    Lost {
        /// Where it should be.
        slot: u64,
        /// Whose record.
        writer: String,
        /// Its number.
        seq: u64,
        /// What is there instead.
        found: Instead,
    },
    /// No record was acknowledged there, but there is something.
    Unexpected {
        /// Where.
        slot: u64,
        /// What.
        found: Instead,
    },
}

/// What is in a slot in place of the record that should be there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Instead {
    /// Zeros.
    Empty,
    /// An earlier record of the same writer: the slot went back in time.
    Old(u64),
    /// A later record of the same writer, which it had not written yet.
    Future(u64),
    /// A record of this other writer, with this number.
    Other(String, u64),
    /// A record that belongs elsewhere, damage, something foreign, or an error, as `verify` says it.
    Bad(State),
}

/// Compares the acknowledgements with the ring. They have to be of one writer: see [`Acks::only`]. The ring has to be read
/// after the writer ended.
pub fn verdict(acks: &Acks, ring: &Ring) -> Report {
    let mut problems = Vec::new();
    if acks.count() == 0 {
        problems.push(Problem::Nothing);
    }
    if acks.writers.len() > 1 {
        let names = acks.writers.keys().cloned().collect();
        problems.push(Problem::SeveralWriters(names));
    }
    for (name, writer) in &acks.writers {
        check_runs(name, writer, ring, &mut problems);
    }
    check_slots(acks, ring, &mut problems);
    Report {
        acks: acks.clone(),
        path: ring.path.clone(),
        slots: ring.slots.len(),
        problems,
    }
}

/// What each run says about the one before it.
fn check_runs(name: &str, writer: &Writer, ring: &Ring, problems: &mut Vec<Problem>) {
    let mut before: Option<&Session> = None;
    for run in &writer.sessions {
        if (run.slots, run.size) != (ring.slots.len() as u64, ring.size) {
            problems.push(Problem::Shape(format!(
                "{name} wrote {} slots of {} bytes, and {} of {} were read back",
                run.slots,
                run.size,
                ring.slots.len(),
                ring.size
            )));
        }
        problems.extend(run.wrong.iter().cloned().map(Problem::Wrong));
        let Some((first, resumed)) = run.begin else {
            continue;
        };
        if let Some(before) = before {
            if before
                .acks
                .last()
                .is_some_and(|ack| ack.arrival > run.since)
            {
                problems.push(Problem::TwoAtOnce(name.into()));
            }
            let next = before.next().unwrap_or(first);
            let right = match before.in_flight() {
                Some(_) => first == next || first == next + 1,
                None => first == next,
            };
            if resumed && !right {
                problems.push(Problem::Resumed {
                    writer: name.into(),
                    acknowledged: next.checked_sub(1),
                    found: first.saturating_sub(1),
                });
            }
        }
        before = Some(run);
    }
}

/// What may be in a slot, as one writer says.
#[derive(Default)]
struct Expected {
    /// The last record that was acknowledged there.
    last: Option<u64>,
    /// Later ones that were not, but may be there.
    in_flight: Vec<u64>,
}

/// What one writer expects of its ring.
struct Account {
    slots: BTreeMap<u64, Expected>,
    /// Records below this may be there from before the log.
    earlier: u64,
}

fn account(writer: &Writer) -> Account {
    let mut account = Account {
        slots: BTreeMap::new(),
        earlier: 0,
    };
    let mut begun = false;
    for run in &writer.sessions {
        match run.begin {
            Some((_, false)) => {
                account.slots.clear();
                account.earlier = 0;
            }
            Some((first, true)) if !begun => account.earlier = first,
            _ => {}
        }
        begun |= run.begin.is_some();
        for ack in &run.acks {
            let slot = account.slots.entry(ack.seq % run.slots).or_default();
            slot.last = Some(ack.seq);
            slot.in_flight.clear();
        }
        if let Some(seq) = run.in_flight() {
            let slot = account.slots.entry(seq % run.slots).or_default();
            slot.in_flight.push(seq);
        }
    }
    account
}

fn check_slots(acks: &Acks, ring: &Ring, problems: &mut Vec<Problem>) {
    let accounts: Vec<(&String, Account)> = acks
        .writers
        .iter()
        .map(|(name, writer)| (name, account(writer)))
        .collect();
    for (slot, state) in (0..).zip(&ring.slots) {
        let mut claimed = false;
        for (name, account) in &accounts {
            let expected = account.slots.get(&slot);
            let last = expected.and_then(|expected| expected.last);
            if let Some(seq) = last {
                claimed = true;
                if let Some(found) = instead(name, expected, account.earlier, state) {
                    problems.push(Problem::Lost {
                        slot,
                        writer: name.to_string(),
                        seq,
                        found,
                    });
                }
            }
        }
        if !claimed {
            let fits = |(name, account): &(&String, Account)| {
                instead(name, account.slots.get(&slot), account.earlier, state).is_none()
            };
            if *state != State::Empty && !accounts.iter().any(fits) {
                let found = match state {
                    State::Ok { writer, seq } if acks.writers.contains_key(writer) => {
                        Instead::Future(*seq)
                    }
                    state => other(state),
                };
                problems.push(Problem::Unexpected { slot, found });
            }
        }
    }
}

/// What is in a slot, if it is not what this writer may have left there.
fn instead(
    name: &str,
    expected: Option<&Expected>,
    earlier: u64,
    state: &State,
) -> Option<Instead> {
    let last = expected.and_then(|expected| expected.last);
    let in_flight = expected.map_or(&[][..], |expected| &expected.in_flight);
    match state {
        State::Ok { writer, seq } if writer == name => {
            let allowed =
                Some(*seq) == last || in_flight.contains(seq) || (last.is_none() && *seq < earlier);
            match last {
                _ if allowed => None,
                Some(last) if *seq < last => Some(Instead::Old(*seq)),
                _ => Some(Instead::Future(*seq)),
            }
        }
        State::Empty if last.is_none() => None,
        // Power that fails in the middle of a write may leave a part of it.
        State::Torn { .. } if !in_flight.is_empty() => None,
        state => Some(other(state)),
    }
}

fn other(state: &State) -> Instead {
    match state {
        State::Empty => Instead::Empty,
        State::Ok { writer, seq } => Instead::Other(writer.clone(), *seq),
        state => Instead::Bad(state.clone()),
    }
}

impl Report {
    /// Is everything there?
    pub fn is_ok(&self) -> bool {
        self.problems.is_empty()
    }

    /// The report as an error, unless everything is there.
    pub fn check(&self) -> Result<()> {
        if !self.is_ok() {
            bail!("{self}");
        }
        Ok(())
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, writer) in &self.acks.writers {
            write_writer(f, name, writer)?;
        }
        write!(f, "{}, {} slots: ", self.path, self.slots)?;
        if self.is_ok() {
            return f.write_str("OK, every acknowledged record is there");
        }
        write!(f, "WRONG")?;
        for problem in self.problems.iter().take(SHOWN) {
            write!(f, "\n  {problem}")?;
        }
        match self.problems.len().checked_sub(SHOWN) {
            Some(more @ 1..) => write!(f, "\n  and {more} more"),
            _ => Ok(()),
        }
    }
}

fn write_writer(f: &mut fmt::Formatter<'_>, name: &str, writer: &Writer) -> fmt::Result {
    write!(f, "{name}: {} records acknowledged", writer.count())?;
    let first = writer.acks().map(|ack| ack.seq).min();
    let last = writer.acks().map(|ack| ack.seq).max();
    if let (Some(first), Some(last)) = (first, last) {
        write!(f, ", {first} to {last}")?;
    }
    match writer.faults().count() {
        0 => {}
        1 => write!(f, ", 1 error")?,
        count => write!(f, ", {count} errors")?,
    }
    if writer.sessions.len() > 1 {
        write!(f, ", {} runs", writer.sessions.len())?;
    }
    let end = match writer.sessions.last().map(|run| run.end) {
        Some(End::Bye { .. }) => "ended by intent",
        Some(End::Broken) => "cut off",
        Some(End::Open) => "did not say that it ended",
        None => "never there",
    };
    writeln!(f, ", {end}")?;
    if let Some(gap) = writer.longest_gap() {
        writeln!(
            f,
            "  longest gap {}, after record {}, {:.3} to {:.3}",
            seconds(gap.length),
            gap.after,
            gap.start,
            gap.end
        )?;
    }
    if let Some(latencies) = writer.latencies() {
        writeln!(
            f,
            "  a record took {} (median), {} (99 of 100), {} (longest)",
            seconds(latencies.median),
            seconds(latencies.p99),
            seconds(latencies.longest)
        )?;
    }
    if let Some(fault) = writer.faults().next() {
        writeln!(
            f,
            "  first error at {:.3}: {} of record {}: {}",
            fault.arrival, fault.stage, fault.seq, fault.text
        )?;
    }
    Ok(())
}

fn seconds(time: Duration) -> String {
    match time.as_secs_f64() {
        small if small < 1.0 => format!("{:.1} ms", small * 1000.0),
        large => format!("{large:.3} s"),
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Problem::Nothing => f.write_str("no record was acknowledged"),
            Problem::SeveralWriters(names) => {
                write!(f, "several writers: {}", names.join(", "))
            }
            Problem::TwoAtOnce(name) => {
                write!(f, "two writers called {name} were at work at once")
            }
            Problem::Shape(what) => f.write_str(what),
            Problem::Resumed {
                writer,
                acknowledged,
                found,
            } => {
                write!(
                    f,
                    "{writer} was started again and found records up to {found}, "
                )?;
                match acknowledged {
                    Some(last) => write!(f, "but {last} was the last acknowledged"),
                    None => f.write_str("but none was acknowledged"),
                }
            }
            Problem::Wrong(text) => write!(f, "seen while writing: {text}"),
            Problem::Lost {
                slot,
                writer,
                seq,
                found,
            } => write!(
                f,
                "slot {slot}: record {seq} of {writer} was acknowledged, but there is {found}"
            ),
            Problem::Unexpected { slot, found } => {
                write!(
                    f,
                    "slot {slot}: nothing was acknowledged, but there is {found}"
                )
            }
        }
    }
}

impl fmt::Display for Instead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Instead::Empty => f.write_str("nothing"),
            Instead::Old(seq) => write!(f, "its older record {seq}"),
            Instead::Future(seq) => write!(f, "its record {seq}, which was not written yet"),
            Instead::Other(writer, seq) => write!(f, "record {seq} of {writer}"),
            Instead::Bad(State::Foreign) => f.write_str("something foreign"),
            Instead::Bad(state) => write!(f, "\"{state}\""),
        }
    }
}

#[cfg(test)]
#[path = "verdict/tests.rs"]
mod tests;
