//! What was found, and the statistics of it.

use serde::{Deserialize, Serialize};

use super::inspect::Anatomy;
use super::measure::Sample;
use super::subject::Program;

/// Everything that was measured.
#[derive(Debug, Serialize, Deserialize)]
pub struct Results {
    /// In the order of measuring
    pub groups: Vec<Group>,
    /// The size of each executable in bytes, in the order of [`Program::ALL`]
    pub sizes: [u64; 3],
}

/// One action, all programs.
#[derive(Debug, Serialize, Deserialize)]
pub struct Group {
    /// Which action
    pub kind: Kind,
    /// How often each program was run
    pub runs: usize,
    /// One per program, in the order of [`Program::ALL`]
    pub rows: Vec<Row>,
}

/// The groups.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Kind {
    /// meta-data
    MetaData,
    /// monitor of a stopped resource
    Probe,
    /// monitor of a running one
    Monitor,
    /// a hundred monitors of running ones at the same time
    Many,
    /// start, with the agent's own number of announcements
    Start,
    /// start, with one announcement
    StartOne,
    /// stop
    Stop,
}

impl Kind {
    /// What a person calls it.
    pub fn title(self) -> &'static str {
        match self {
            Kind::MetaData => "meta-data",
            Kind::Probe => "monitor, not running (probe)",
            Kind::Monitor => "monitor, running",
            Kind::Many => "100 monitors at once, running",
            Kind::Start => "start, default announcements",
            Kind::StartOne => "start, 1 announcement",
            Kind::Stop => "stop",
        }
    }

    /// Which note belongs to it.
    pub fn note(self) -> &'static str {
        match self {
            Kind::Start => " [1]",
            Kind::StartOne => " [2]",
            _ => "",
        }
    }

    /// The same as the title, for programs.
    pub fn key(self) -> &'static str {
        match self {
            Kind::MetaData => "meta-data",
            Kind::Probe => "probe",
            Kind::Monitor => "monitor",
            Kind::Many => "monitor-x100",
            Kind::Start => "start-default-announcements",
            Kind::StartOne => "start-1-announcement",
            Kind::Stop => "stop",
        }
    }
}

/// One program in one group.
#[derive(Debug, Serialize, Deserialize)]
pub struct Row {
    /// Which
    pub program: Program,
    /// Milliseconds from start to end
    pub wall: Spread,
    /// Milliseconds of CPU, background included
    pub cpu: Spread,
    /// The part of that, in milliseconds, that processes used which the action left behind
    pub background_ms: f64,
    /// Processes and threads created, fewest and most
    pub created: Option<(u32, u32)>,
    /// Threads among them
    pub threads: u32,
    /// Peak memory of the largest process; not known for many calls at once
    pub peak_kib: Option<u64>,
}

/// Numbers that describe many numbers.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Spread {
    /// Half are below
    pub median: f64,
    /// The smallest
    pub min: f64,
    /// 95 of 100 are not above (nearest rank)
    pub p95: f64,
}

impl Spread {
    /// Of at least one number; all 0 of none.
    pub fn of(numbers: impl IntoIterator<Item = f64>) -> Spread {
        let mut sorted: Vec<f64> = numbers.into_iter().collect();
        sorted.sort_by(f64::total_cmp);
        let at = |index: usize| sorted.get(index).copied().unwrap_or(0.0);
        let count = sorted.len();
        let rank = (count * 95).div_ceil(100); // integers: 0.95 * 20.0 is more than 19
        Spread {
            median: (at(count.saturating_sub(1) / 2) + at(count / 2)) / 2.0,
            min: at(0),
            p95: at(rank.saturating_sub(1)),
        }
    }
}

impl Row {
    /// From the samples of a program, and from what was seen in it.
    pub fn new(program: Program, samples: &[Sample], anatomy: Option<Anatomy>) -> Row {
        let ms = |time: std::time::Duration| time.as_secs_f64() * 1e3;
        let counted = || samples.iter().filter_map(|sample| sample.processes);
        let seen = anatomy.map(|seen| seen.processes + seen.threads);
        let created = counted().min().zip(counted().max());
        Row {
            program,
            wall: Spread::of(samples.iter().map(|sample| ms(sample.wall))),
            cpu: Spread::of(
                samples
                    .iter()
                    .map(|sample| ms(sample.cpu + sample.cpu_later)),
            ),
            background_ms: Spread::of(samples.iter().map(|sample| ms(sample.cpu_later))).median,
            created: created.or(seen.map(|seen| (seen, seen))),
            threads: anatomy.map_or(0, |seen| seen.threads),
            peak_kib: anatomy.map(|seen| seen.peak_kib),
        }
    }
}

impl Group {
    /// The row of a program.
    pub fn row(&self, program: Program) -> Option<&Row> {
        self.rows.iter().find(|row| row.program == program)
    }

    /// How many times the median wall time of `of` that of `to` is; None if one is unknown.
    pub fn times(&self, of: Program, to: Program) -> Option<f64> {
        let (of, to) = (self.row(of)?.wall.median, self.row(to)?.wall.median);
        (to > 0.0).then(|| of / to)
    }
}

impl Results {
    /// The group of a kind.
    pub fn group(&self, kind: Kind) -> Option<&Group> {
        self.groups.iter().find(|group| group.kind == kind)
    }

    /// The size of an executable in bytes.
    pub fn size(&self, program: Program) -> u64 {
        match program {
            Program::True => self.sizes[0],
            Program::Vip => self.sizes[1],
            Program::Peer => self.sizes[2],
        }
    }
}

/// All rows as comma-separated values.
pub fn csv(results: &Results) -> String {
    let mut text = "action,program,runs,wall_median_ms,wall_min_ms,wall_p95_ms,cpu_median_ms,cpu_min_ms,cpu_p95_ms,\
                    cpu_background_median_ms,created_min,created_max,threads,peak_kib,executable_bytes\n"
        .to_owned();
    for group in &results.groups {
        for row in &group.rows {
            let created = row.created.map(|(min, max)| format!("{min},{max}"));
            text += &format!(
                "{},{},{},{:.4},{:.4},{:.4},{:.4},{:.4},{:.4},{:.4},{},{},{},{}\n",
                group.kind.key(),
                row.program.name(),
                group.runs,
                row.wall.median,
                row.wall.min,
                row.wall.p95,
                row.cpu.median,
                row.cpu.min,
                row.cpu.p95,
                row.background_ms,
                created.unwrap_or_else(|| ",".into()),
                row.threads,
                row.peak_kib.map(|kib| kib.to_string()).unwrap_or_default(),
                results.size(row.program),
            );
        }
    }
    text
}

#[cfg(test)]
pub mod tests {
    use super::*;

    /// Results as a run might find them.
    pub fn example() -> Results {
        let row = |program, factor: f64, created| Row {
            program,
            wall: Spread {
                median: factor,
                min: factor * 0.9,
                p95: factor * 1.3,
            },
            cpu: Spread {
                median: factor * 0.8,
                min: factor * 0.7,
                p95: factor,
            },
            background_ms: 0.0,
            created: Some((created, created)),
            threads: 0,
            peak_kib: Some(1024 * u64::from(created).min(3)),
        };
        let kinds = [
            Kind::MetaData,
            Kind::Probe,
            Kind::Monitor,
            Kind::Many,
            Kind::Start,
            Kind::StartOne,
            Kind::Stop,
        ];
        let group = |kind| Group {
            kind,
            runs: 200,
            rows: vec![
                row(Program::True, 0.5, 1),
                row(Program::Vip, 0.75, 1),
                row(Program::Peer, 60.0, 41),
            ],
        };
        Results {
            groups: kinds.map(group).into(),
            sizes: [35_664, 1_143_704, 33_000],
        }
    }

    #[test]
    fn spread() {
        let numbers = (1..=20).rev().map(f64::from);
        let expected = Spread {
            median: 10.5,
            min: 1.0,
            p95: 19.0,
        };
        assert_eq!(Spread::of(numbers), expected);
        assert_eq!(Spread::of([3.0, 1.0, 2.0]).median, 2.0);
        assert_eq!(Spread::of([7.0]).p95, 7.0);
        assert_eq!(Spread::of([]).median, 0.0);
    }

    #[test]
    fn comma_separated() {
        let text = csv(&example());
        let columns: Vec<usize> = text.lines().map(|line| line.split(',').count()).collect();
        assert_eq!(columns, [15; 22]);
    }

    #[test]
    fn ratios() {
        let results = example();
        let group = results.group(Kind::Monitor).unwrap();
        assert_eq!(group.times(Program::Peer, Program::Vip), Some(80.0));
    }
}
