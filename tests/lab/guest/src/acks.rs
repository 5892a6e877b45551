//! The collector's log, read: who wrote what, when, and how the storage looked to them.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

/// All that writers said, by their names.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Acks {
    /// The writers.
    pub writers: BTreeMap<String, Writer>,
}

/// What one writer said.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Writer {
    /// Its runs, in their order.
    pub sessions: Vec<Session>,
}

/// A run of the program, from its connection to the connection's end.
#[derive(Clone, Debug, PartialEq)]
pub struct Session {
    /// Number of the connection.
    pub connection: u64,
    /// When it said hello: seconds since 1970, by the collector's clock.
    pub since: f64,
    /// Number of slots.
    pub slots: u64,
    /// Size of a record, bytes.
    pub size: usize,
    /// The guest's boot, of which monotonic times are.
    pub boot: String,
    /// The device or file.
    pub path: String,
    /// The first number and whether the ring was read, not cleared; None if it did not get that far.
    pub begin: Option<(u64, bool)>,
    /// What was acknowledged: consecutive numbers from the first on.
    pub acks: Vec<Ack>,
    /// Errors on the way: the first of a row, and each one that differs from the one before.
    pub faults: Vec<Fault>,
    /// What it found in slots where it had written something else, in words.
    pub wrong: Vec<String>,
    /// How it ended.
    pub end: End,
}

/// A record that was durable, as the guest's kernel said.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ack {
    /// Its number.
    pub seq: u64,
    /// The begin of the first try: nanoseconds of the guest's CLOCK_MONOTONIC.
    pub begin: u64,
    /// When the last try, which worked, was over.
    pub end: u64,
    /// How many tries it took.
    pub tries: u64,
    /// When the collector heard of it: seconds since 1970.
    pub arrival: f64,
}

/// An I/O error.
#[derive(Clone, Debug, PartialEq)]
pub struct Fault {
    /// The record that could not be written.
    pub seq: u64,
    /// What failed: `open`, `read`, `write` or `sync`.
    pub stage: String,
    /// errno; 0 if it was none.
    pub errno: i32,
    /// Nanoseconds of the guest's CLOCK_MONOTONIC.
    pub time: u64,
    /// The error in words.
    pub text: String,
    /// When the collector heard of it: seconds since 1970.
    pub arrival: f64,
}

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// It has not, as far as the collector knows. A guest without power says nothing.
    Open,
    /// By intent.
    Bye {
        /// The next record was tried without success, and may be on disk.
        pending: bool,
    },
    /// Killed, or its connection broke.
    Broken,
}

/// The longest time between the acknowledgements of one record and the next.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Gap {
    /// How long, by the guest's monotonic clock; by the collector's clock if the guest booted in between.
    pub length: Duration,
    /// The last record before it.
    pub after: u64,
    /// When that was acknowledged: seconds since 1970, by the collector's clock.
    pub start: f64,
    /// When the next one was.
    pub end: f64,
}

/// How long records took, from the first try to being durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Latencies {
    /// Half of the records took no longer.
    pub median: Duration,
    /// 99 of 100 took no longer.
    pub p99: Duration,
    /// The longest.
    pub longest: Duration,
}

impl Acks {
    /// Reads a log.
    pub fn read(log: &Path) -> Result<Acks> {
        let text = std::fs::read_to_string(log);
        let text = text.with_context(|| format!("reading {}", log.display()))?;
        Acks::parse(&text).with_context(|| format!("in {}", log.display()))
    }

    /// Reads a log's text. A last line without its end is being written right now, and not counted.
    pub fn parse(text: &str) -> Result<Acks> {
        let mut acks = Acks::default();
        // Which writer a connection is, and which of its sessions.
        let mut places: BTreeMap<u64, (String, usize)> = BTreeMap::new();
        for line in text.split_inclusive('\n') {
            let Some(line) = line.strip_suffix('\n') else {
                break;
            };
            acks.take(line, &mut places)
                .with_context(|| format!("the log's line {line:?}"))?;
        }
        Ok(acks)
    }

    fn take(&mut self, line: &str, places: &mut BTreeMap<u64, (String, usize)>) -> Result<()> {
        let mut words = line.splitn(4, ' ');
        let arrival: f64 = number(words.next())?;
        let connection: u64 = number(words.next())?;
        let word = words.next().context("nothing was said")?;
        let rest = words.next().unwrap_or_default();
        if word == "hello" {
            let (name, session) = hello(connection, arrival, rest)?;
            let writer = self.writers.entry(name.clone()).or_default();
            places.insert(connection, (name, writer.sessions.len()));
            writer.sessions.push(session);
            return Ok(());
        }
        let session = places
            .get(&connection)
            .and_then(|(name, at)| self.writers.get_mut(name)?.sessions.get_mut(*at));
        let Some(session) = session else {
            // Somebody who connected and did not say who it is: nothing of it counts.
            ensure!(matches!(word, "open" | "end"), "before a hello");
            return Ok(());
        };
        session.take(word, rest, arrival)
    }

    /// One writer's alone: for a ring among several.
    pub fn only(&self, name: &str) -> Acks {
        let writers = self.writers.iter().filter(|(other, _)| *other == name);
        Acks {
            writers: writers
                .map(|(name, writer)| (name.clone(), writer.clone()))
                .collect(),
        }
    }

    /// When the last acknowledgement of all writers came, seconds since 1970.
    pub fn last(&self) -> Option<f64> {
        let writers = self.writers.values();
        let last = writers.filter_map(|writer| writer.acks().last());
        last.map(|ack| ack.arrival).max_by(f64::total_cmp)
    }

    /// How many records were acknowledged, by all writers.
    pub fn count(&self) -> usize {
        self.writers.values().map(Writer::count).sum()
    }
}

fn hello(connection: u64, since: f64, text: &str) -> Result<(String, Session)> {
    let (text, path) = text.split_once(" path=").context("no path=")?;
    let mut words = text.split(' ');
    let name = words.next().unwrap_or_default().to_owned();
    let given: BTreeMap<&str, &str> = words.filter_map(|word| word.split_once('=')).collect();
    let slots = number(given.get("slots").copied()).context("slots")?;
    ensure!(slots > 0, "no slots");
    let session = Session {
        connection,
        since,
        slots,
        size: number(given.get("size").copied()).context("size")?,
        boot: given.get("boot").copied().unwrap_or_default().to_owned(),
        path: path.to_owned(),
        begin: None,
        acks: Vec::new(),
        faults: Vec::new(),
        wrong: Vec::new(),
        end: End::Open,
    };
    Ok((name, session))
}

fn number<T: std::str::FromStr>(word: Option<&str>) -> Result<T> {
    let word = word.unwrap_or_default();
    word.parse()
        .ok()
        .with_context(|| format!("{word:?} is not a number"))
}

impl Session {
    fn take(&mut self, word: &str, rest: &str, arrival: f64) -> Result<()> {
        let mut words = rest.split(' ');
        match word {
            "begin" => {
                ensure!(self.begin.is_none(), "a second begin");
                let first = number(words.next())?;
                self.begin = Some((first, words.next() == Some("resumed")));
            }
            "ack" => {
                let ack = Ack {
                    seq: number(words.next())?,
                    begin: number(words.next())?,
                    end: number(words.next())?,
                    tries: number(words.next())?,
                    arrival,
                };
                let expected = self.next().context("before its begin")?;
                ensure!(ack.seq == expected, "expected {expected}");
                ensure!(ack.end >= ack.begin, "it ends before it begins");
                self.acks.push(ack);
            }
            "error" => self.faults.push(Fault {
                seq: number(words.next())?,
                stage: words.next().unwrap_or_default().to_owned(),
                errno: number(words.next())?,
                time: number(words.next())?,
                text: words.collect::<Vec<_>>().join(" "),
                arrival,
            }),
            "wrong" => self.wrong.push(rest.to_owned()),
            "bye" => {
                let pending = words.nth(1) == Some("pending");
                self.end = End::Bye { pending };
            }
            "end" if self.end == End::Open => self.end = End::Broken,
            "end" => {}
            _ => anyhow::bail!("no such word: {word}"),
        }
        Ok(())
    }

    /// The number behind the last one that was acknowledged; None if it did not begin to write.
    pub fn next(&self) -> Option<u64> {
        match (self.acks.last(), self.begin) {
            (Some(ack), _) => Some(ack.seq + 1),
            (None, begin) => begin.map(|(first, _)| first),
        }
    }

    /// The record that may be on disk without having been acknowledged.
    pub fn in_flight(&self) -> Option<u64> {
        match self.end {
            End::Bye { pending: false } => None,
            _ => self.next(),
        }
    }
}

impl Writer {
    /// All acknowledgements, in their order.
    pub fn acks(&self) -> impl Iterator<Item = &Ack> {
        self.sessions.iter().flat_map(|session| &session.acks)
    }

    /// How many records were acknowledged.
    pub fn count(&self) -> usize {
        self.acks().count()
    }

    /// All errors, in their order.
    pub fn faults(&self) -> impl Iterator<Item = &Fault> {
        self.sessions.iter().flat_map(|session| &session.faults)
    }

    /// The longest gap; None if fewer than two records were acknowledged.
    pub fn longest_gap(&self) -> Option<Gap> {
        self.gaps().max_by_key(|gap| gap.length)
    }

    /// The longest of the gaps that ended after a moment, seconds since 1970: that of one fault among several.
    pub fn longest_gap_since(&self, time: f64) -> Option<Gap> {
        self.gaps()
            .filter(|gap| gap.end > time)
            .max_by_key(|gap| gap.length)
    }

    fn gaps(&self) -> impl Iterator<Item = Gap> {
        let all = self
            .sessions
            .iter()
            .flat_map(|session| session.acks.iter().map(|ack| (session.boot.as_str(), ack)));
        let next = all.clone().skip(1);
        all.zip(next).map(|((boot, last), (later, first))| Gap {
            length: match boot == later && first.end >= last.end {
                true => Duration::from_nanos(first.end - last.end),
                false => Duration::from_secs_f64((first.arrival - last.arrival).max(0.0)),
            },
            after: last.seq,
            start: last.arrival,
            end: first.arrival,
        })
    }

    /// How long records took; None if none was acknowledged.
    pub fn latencies(&self) -> Option<Latencies> {
        let mut sorted: Vec<u64> = self.acks().map(|ack| ack.end - ack.begin).collect();
        sorted.sort_unstable();
        let at = |percent: usize| {
            // The smallest that this many of all are not above.
            let rank = (sorted.len() * percent).div_ceil(100).max(1);
            sorted.get(rank - 1).copied().map(Duration::from_nanos)
        };
        Some(Latencies {
            median: at(50)?,
            p99: at(99)?,
            longest: at(100)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: &str = "\
100.000000 1 open 10.77.4.13:40022
100.000100 1 hello client slots=256 size=4096 boot=b1 pid=612 path=/mnt/a b/ring
100.010000 1 begin 1 fresh
100.020000 2 open 10.77.4.13:40023
100.020000 1 ack 1 1000000 3000000 1
103.000000 1 error 2 write 5 2000000000 Input/output error (os error 5)
104.020000 1 ack 2 4000000 4003000000 24
104.120000 1 wrong slot 3: expected 259, found 3 client ok
104.200000 1 end
110.000000 3 hello client slots=256 size=4096 boot=b2 pid=99 path=/mnt/a b/ring
110.010000 3 begin 4 resumed
110.100000 3 ack 4 1000000 1500000 1
110.200000 3 bye 5 clean
110.200000 3 end
110.300000 2 end
110.4";

    #[test]
    fn a_log() {
        let acks = Acks::parse(LOG).unwrap();
        let client = &acks.writers["client"];
        let [first, second] = &client.sessions[..] else {
            panic!("{client:?}")
        };
        assert_eq!((first.slots, first.size), (256, 4096));
        assert_eq!(first.path, "/mnt/a b/ring");
        assert_eq!(first.begin, Some((1, false)));
        assert_eq!(first.end, End::Broken);
        assert_eq!((first.next(), first.in_flight()), (Some(3), Some(3)));
        assert_eq!(first.wrong, ["slot 3: expected 259, found 3 client ok"]);
        assert_eq!(second.begin, Some((4, true)));
        assert_eq!((second.next(), second.in_flight()), (Some(5), None));
        assert_eq!((client.count(), acks.count()), (3, 3));
        let fault = client.faults().next().unwrap();
        assert_eq!(
            (fault.seq, fault.stage.as_str(), fault.errno),
            (2, "write", 5)
        );
        assert_eq!(fault.text, "Input/output error (os error 5)");
        assert_eq!(acks.only("client"), acks);
        assert_eq!(acks.only("other").count(), 0);
    }

    #[test]
    fn gaps_are_the_guests_within_a_boot_and_the_collectors_across() {
        let acks = Acks::parse(LOG).unwrap();
        let client = &acks.writers["client"];
        let gaps: Vec<(u64, u128)> = client
            .gaps()
            .map(|gap| (gap.after, gap.length.as_millis()))
            .collect();
        assert_eq!(gaps, [(1, 4000), (2, 6080)]);
        let longest = client.longest_gap().unwrap();
        assert_eq!((longest.start, longest.end), (104.02, 110.1));
        assert_eq!(client.longest_gap_since(110.1), None);
    }

    #[test]
    fn percentiles() {
        let times = |last: u64| -> Option<Latencies> {
            let mut log = "1 1 hello w slots=8 size=4096 path=/p\n1 1 begin 1 fresh\n".to_owned();
            for seq in 1..=last {
                log += &format!("1 1 ack {seq} 0 {} 1\n", seq * 1_000_000);
            }
            Acks::parse(&log).unwrap().writers["w"].latencies()
        };
        let of = |millis: [u64; 3]| {
            let [median, p99, longest] = millis.map(Duration::from_millis);
            Some(Latencies {
                median,
                p99,
                longest,
            })
        };
        assert_eq!(times(0), None);
        assert_eq!(times(1), of([1, 1, 1]));
        assert_eq!(times(100), of([50, 99, 100]));
        assert_eq!(times(1000), of([500, 990, 1000]));
    }

    #[test]
    fn a_log_that_cannot_be_true_is_an_error() {
        let hello = "1 1 hello w slots=8 size=4096 path=/p\n";
        for (line, what) in [
            ("1 1 ack 1 0 1 1", "before its begin"),
            ("1 1 begin 1 fresh\n1 1 ack 2 0 1 1", "expected 1"),
            (
                "1 1 begin 1 fresh\n1 1 ack 1 5 1 1",
                "it ends before it begins",
            ),
            ("1 1 begin 1 fresh\n1 1 begin 1 fresh", "a second begin"),
            ("1 2 ack 1 0 1 1", "before a hello"),
            ("1 1 sing", "no such word: sing"),
            ("1 1 ack one 0 1 1", "\"one\" is not a number"),
        ] {
            let error = Acks::parse(&format!("{hello}{line}\n")).unwrap_err();
            assert!(format!("{error:#}").contains(what), "{line}: {error:#}");
        }
    }
}
