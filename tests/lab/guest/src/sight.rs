//! What a watch tells of its node: which pools and addresses are in the kernel there.
//!
//! `hastor-guest watch` speaks to a [`Collector`](crate::Collector), which keeps each line with the time of its arrival
//! and answers with that time. A connection begins with who speaks and in which boot of the machine; after that come
//! sights, one at once when something has changed, and in any case one each second, as a sign of life. Each tells the
//! whole state, so that a new connection has nothing to catch up with:
//!
//! ```text
//! hello n1 boot=7f3c2a50-...
//! sight 1795246348.121 1795246348.119 1795246348.018 0.103 tank 192.0.2.10
//! sight 1795246348.523 1795246348.520 1795246348.419 0.102
//! ```
//!
//! A sight has, in seconds:
//!
//! 1. the guest's clock (since 1970), for those who compare it with the guest's logs; it may be wrong by any amount,
//! 2. the time of this look by the lab's clock: it was then or later,
//! 3. the same of the look before, at which all was as the last sight of this connection has told,
//! 4. the longest time between two looks since the last sight,
//!
//! and then what is there, of what is watched. The lab's clock is its last answer, counted on by the guest's monotonic
//! clock from the moment when the answer had come; as answers take time to come, this is never ahead of the lab's own.

use std::collections::BTreeMap;
use std::fmt::{self, Display};

use anyhow::{Context, Result, bail};

/// One look at the kernel, and what has become known since the one that was told before.
#[derive(Clone, Debug, PartialEq)]
pub struct Sight {
    /// When, by the guest's clock: seconds since 1970.
    pub clock: f64,
    /// When, by the lab's clock, or later.
    pub now: f64,
    /// When the look before was, by the lab's clock, or later.
    pub before: f64,
    /// The longest time without a look since the last sight, in seconds.
    pub gap: f64,
    /// The pools and addresses that are there.
    pub held: Vec<String>,
}

impl Display for Sight {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let Sight {
            clock,
            now,
            before,
            gap,
            held,
        } = self;
        write!(f, "sight {clock:.3} {now:.3} {before:.3} {gap:.3}")?;
        held.iter().try_for_each(|what| write!(f, " {what}"))
    }
}

impl Sight {
    /// Reads the words behind `sight`.
    fn parse(words: &[&str]) -> Result<Sight> {
        let (numbers, held) = words
            .split_at_checked(4)
            .with_context(|| format!("{} words, expected four numbers", words.len()))?;
        let number = |at: usize| -> Result<f64> {
            let number = numbers[at].parse::<f64>().ok().filter(|n| n.is_finite());
            number.with_context(|| format!("{:?}: expected a number", numbers[at]))
        };
        Ok(Sight {
            clock: number(0)?,
            now: number(1)?,
            before: number(2)?,
            gap: number(3)?,
            held: held.iter().map(|word| (*word).to_owned()).collect(),
        })
    }
}

/// The first line of a connection.
pub fn hello(node: &str, boot: &str) -> String {
    format!("hello {node} boot={boot}")
}

/// A sight as it has arrived.
#[derive(Clone, Debug, PartialEq)]
pub struct Heard {
    /// When: seconds since 1970, by the lab's clock.
    pub arrival: f64,
    /// Number of the connection.
    pub connection: u64,
    /// Whose kernel it is.
    pub node: String,
    /// Which boot of that node.
    pub boot: String,
    /// What was told.
    pub sight: Sight,
}

/// Reads the text of a collector's log to which watches have spoken. A last line without its end is being written right
/// now, and not counted.
pub fn heard(log: &str) -> Result<Vec<Heard>> {
    let mut all = Vec::new();
    let mut speakers = BTreeMap::new();
    for line in log.split_inclusive('\n') {
        let Some(line) = line.strip_suffix('\n') else {
            break;
        };
        let one = take(line, &mut speakers).with_context(|| format!("the log's line {line:?}"))?;
        all.extend(one);
    }
    Ok(all)
}

/// Takes a line of the log. `speakers`: node and boot of each connection.
fn take(line: &str, speakers: &mut BTreeMap<u64, (String, String)>) -> Result<Option<Heard>> {
    let words: Vec<&str> = line.split(' ').collect();
    let [time, number, what, rest @ ..] = &words[..] else {
        bail!("expected time, connection and what was said");
    };
    let connection: u64 = number.parse().context("the connection's number")?;
    match *what {
        "hello" => {
            let [node, boot] = rest else {
                bail!("expected a name and a boot");
            };
            let boot = boot.strip_prefix("boot=").context("expected boot=ID")?;
            speakers.insert(connection, ((*node).to_owned(), boot.to_owned()));
            Ok(None)
        }
        "sight" => {
            let (node, boot) = speakers.get(&connection).context("it has not said hello")?;
            Ok(Some(Heard {
                arrival: time.parse().context("the time of arrival")?,
                connection,
                node: node.clone(),
                boot: boot.clone(),
                sight: Sight::parse(rest)?,
            }))
        }
        "open" | "end" => Ok(None),
        other => bail!("{other:?}: expected open, hello, sight or end"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: &str = "\
100.000000 1 open 10.77.4.1:40022
100.000100 1 hello n1 boot=b1
100.100000 2 open 10.77.4.2:40022
100.100200 2 hello n2 boot=b2
100.300000 1 sight 90.299 100.298 100.198 0.101 tank 2001:db8::10
101.400000 2 sight 101.399 101.350 101.250 1.000
102.000000 1 end
102.1";

    #[test]
    fn a_log() {
        let all = heard(LOG).unwrap();
        let [first, second] = &all[..] else {
            panic!("{all:?}")
        };
        let sight = Sight {
            clock: 90.299,
            now: 100.298,
            before: 100.198,
            gap: 0.101,
            held: vec!["tank".to_owned(), "2001:db8::10".to_owned()],
        };
        assert_eq!((first.arrival, first.connection), (100.3, 1));
        assert_eq!((first.node.as_str(), first.boot.as_str()), ("n1", "b1"));
        assert_eq!(first.sight, sight);
        assert_eq!((second.node.as_str(), second.boot.as_str()), ("n2", "b2"));
        assert!(second.sight.held.is_empty());
    }

    #[test]
    fn what_is_written_is_read() {
        for all in heard(LOG).unwrap() {
            let line = format!("1 1 hello n boot=b\n1 1 {}\n", all.sight);
            assert_eq!(heard(&line).unwrap()[0].sight, all.sight);
        }
        let line = format!("1 1 {}\n1 1 sight 1 2 3 4\n", hello("n3", "b3"));
        let all = heard(&line).unwrap();
        assert_eq!((all[0].node.as_str(), all[0].boot.as_str()), ("n3", "b3"));
    }

    #[test]
    fn what_no_watch_says_is_an_error() {
        for (line, expected) in [
            ("1 1", "expected time"),
            ("1 x end", "the connection's number"),
            ("1 1 sight 1 2 3 4", "has not said hello"),
            ("1 1 hello n1", "expected a name and a boot"),
            ("1 1 hello n1 b1", "expected boot=ID"),
            ("1 1 hello n boot=b\n1 1 sight 1 2 3", "3 words"),
            ("1 1 hello n boot=b\n1 1 sight 1 2 x 4", "\"x\": expected"),
            (
                "1 1 hello n boot=b\n1 1 sight 1 2 inf 4",
                "\"inf\": expected",
            ),
            (
                "1 1 hello n boot=b\nx 1 sight 1 2 3 4",
                "the time of arrival",
            ),
            ("1 1 ack 1 0 1 1", "\"ack\": expected"),
        ] {
            let error = format!("{:#}", heard(&format!("{line}\n")).unwrap_err());
            assert!(error.contains(expected), "{line}: {error}");
        }
    }
}
