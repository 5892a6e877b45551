//! What is measured when: the programs take turns, so that a machine that becomes slower does so for all.

use anyhow::{Context, Result};

use super::inspect::{self, Anatomy};
use super::measure::{self, Sample};
use super::results::{Group, Kind, Results, Row};
use super::stage;
use super::subject::{Action, Call, Program, Subjects};

/// Every order of three, so that each program comes after each other one equally often: whoever follows a program that
/// ran sixty others finds the caches cold.
const ORDERS: [[usize; 3]; 6] = [
    [0, 1, 2],
    [2, 1, 0],
    [1, 2, 0],
    [0, 2, 1],
    [2, 0, 1],
    [1, 0, 2],
];

/// How often each call is looked into, beside the measuring.
const LOOKS: usize = 3;

/// How often each call runs before it is measured.
const WARM_UP: usize = 5;

/// The samples of one group, in the order of [`Program::ALL`].
#[derive(Default)]
struct Series {
    samples: [Vec<Sample>; 3],
    anatomies: [Option<Anatomy>; 3],
}

/// Says a line of progress.
type Say<'a> = &'a mut dyn FnMut(String) -> Result<()>;

/// Measures everything.
pub fn run(subjects: &Subjects, runs: usize, say: Say) -> Result<Results> {
    let few = (runs / 2).max(2);
    let fewest = (runs / 8).max(2);
    let rounds = (runs / 20).max(2);
    let start = Action::once("start").one_announcement();
    let stop = Action::once("stop");

    say(format!(
        "warm-up: {WARM_UP} times everything but many at once"
    ))?;
    for action in [Action::once("meta-data"), Action::PROBE] {
        repeated(subjects, action, WARM_UP)?;
    }
    pairs(subjects, start, stop, WARM_UP)?;

    let mut groups = Vec::new();
    for (kind, action) in [
        (Kind::MetaData, Action::once("meta-data")),
        (Kind::Probe, Action::PROBE),
    ] {
        groups.push(repeated(subjects, action, runs)?.group(kind, runs));
        tell(say, &groups)?;
    }

    turns(subjects, start, 0, &mut Series::default())?;
    repeated(subjects, Action::MONITOR, WARM_UP)?;
    groups.push(repeated(subjects, Action::MONITOR, runs)?.group(Kind::Monitor, runs));
    tell(say, &groups)?;
    turns(subjects, stop, 0, &mut Series::default())?;

    let (starts, _) = pairs(subjects, Action::once("start"), stop, fewest)?;
    groups.push(starts.group(Kind::Start, fewest));
    tell(say, &groups)?;
    let (starts, stops) = pairs(subjects, start, stop, few)?;
    groups.push(starts.group(Kind::StartOne, few));
    tell(say, &groups)?;
    groups.push(stops.group(Kind::Stop, few));
    tell(say, &groups)?;

    // Last: from here on the interface has a hundred addresses more.
    stage::add_many()?;
    groups.push(many(subjects, rounds)?.group(Kind::Many, rounds));
    tell(say, &groups)?;

    let mut sizes = [0; 3];
    for (size, program) in sizes.iter_mut().zip(Program::ALL) {
        *size = subjects.size(program)?;
    }
    Ok(Results { groups, sizes })
}

/// One line for the last group.
fn tell(say: Say, groups: &[Group]) -> Result<()> {
    let group = groups.last().context("no group yet")?;
    let shown: Vec<String> = group
        .rows
        .iter()
        .map(|row| format!("{} {:.2} ms", row.program.name(), row.wall.median))
        .collect();
    say(format!(
        "{}, {} runs each: {}",
        group.kind.title(),
        group.runs,
        shown.join(", ")
    ))
}

/// An action that changes nothing.
fn repeated(subjects: &Subjects, action: Action, runs: usize) -> Result<Series> {
    let mut series = Series::default();
    for round in 0..runs {
        turns(subjects, action, round, &mut series)?;
    }
    for _ in 0..LOOKS {
        looks(subjects, action, &mut series)?;
    }
    Ok(series)
}

/// A start and a stop, again and again.
fn pairs(
    subjects: &Subjects,
    start: Action,
    stop: Action,
    runs: usize,
) -> Result<(Series, Series)> {
    let (mut starts, mut stops) = (Series::default(), Series::default());
    for round in 0..runs {
        turns(subjects, start, round, &mut starts)?;
        turns(subjects, stop, round, &mut stops)?;
    }
    for _ in 0..LOOKS {
        looks(subjects, start, &mut starts)?;
        looks(subjects, stop, &mut stops)?;
    }
    Ok((starts, stops))
}

/// Each program once. Before each one `/bin/true` runs and does not count, or whoever comes after a pause would pay for
/// waking the processor.
fn turns(subjects: &Subjects, action: Action, round: usize, series: &mut Series) -> Result<()> {
    for index in ORDERS[round % ORDERS.len()] {
        let program = Program::ALL[index];
        measure::calls(&[subjects.call(Program::True, action, program.address())])?;
        let call = subjects.call(program, action, program.address());
        series.samples[index].push(measure::calls(&[call])?);
    }
    Ok(())
}

/// Looks into each program once.
fn looks(subjects: &Subjects, action: Action, series: &mut Series) -> Result<()> {
    for (program, anatomy) in Program::ALL.into_iter().zip(&mut series.anatomies) {
        let seen = inspect::call(&subjects.call(program, action, program.address()))?;
        *anatomy = Some(anatomy.map_or(seen, |before| before.max(seen)));
    }
    Ok(())
}

/// A monitor for each of many addresses, all at once; after one round that does not count.
fn many(subjects: &Subjects, rounds: usize) -> Result<Series> {
    let mut series = Series::default();
    for round in 0..=rounds {
        for index in ORDERS[round % ORDERS.len()] {
            let calls: Vec<Call> = stage::many()
                .iter()
                .map(|address| subjects.call(Program::ALL[index], Action::MONITOR, address))
                .collect();
            let sample = measure::calls(&calls)?;
            if round > 0 {
                series.samples[index].push(sample);
            }
        }
    }
    Ok(series)
}

impl Series {
    fn group(self, kind: Kind, runs: usize) -> Group {
        let parts = self.samples.iter().zip(self.anatomies);
        let rows = Program::ALL.into_iter().zip(parts);
        Group {
            kind,
            runs,
            rows: rows
                .map(|(program, (samples, anatomy))| Row::new(program, samples, anatomy))
                .collect(),
        }
    }
}
