//! What `hastor-guest verify` found in each slot, and the text in which it says so.
//!
//! ```text
//! ring /mnt/nfs/ring slots=5 size=4096
//! 0 255 client ok
//! 1 256 client torn at=2056
//! 2 257 client misplaced for=7 of=256
//! 3 - - empty
//! 4 - - foreign
//! end 5
//! ```
//!
//! A slot that cannot be read is `unreadable`, followed by the error. Without its last line the text is not whole.

use std::fmt;

use anyhow::{Context, Result, bail, ensure};

use crate::record::Found;

/// A ring as it was read back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ring {
    /// The device or file.
    pub path: String,
    /// The size of a record, bytes.
    pub size: usize,
    /// What is in each slot.
    pub slots: Vec<State>,
}

/// What is in a slot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// A whole record that belongs there.
    Ok {
        /// Who wrote it.
        writer: String,
        /// Its number.
        seq: u64,
    },
    /// Zeros.
    Empty,
    /// Something that is no record, nor a part of one.
    Foreign,
    /// Parts of records.
    Torn {
        /// Whose and which it says it is, if it does.
        claims: Option<(String, u64)>,
        /// The first byte that is wrong.
        at: usize,
    },
    /// A whole record that belongs to another slot, or to a ring of another length.
    Misplaced {
        /// Who wrote it.
        writer: String,
        /// Its number.
        seq: u64,
        /// The slot it was written for.
        slot: u64,
        /// The length of the ring it was written for.
        slots: u64,
    },
    /// Reading failed, with this error.
    Unreadable(String),
}

impl State {
    /// What was found in slot `slot` of a ring of `slots`.
    pub fn of(found: Found, slot: u64, slots: u64) -> State {
        match found {
            Found::Empty => State::Empty,
            Found::Foreign => State::Foreign,
            Found::Torn { header, at } => State::Torn {
                claims: header.map(|header| (header.writer, header.seq)),
                at,
            },
            Found::Record(header) => {
                let (writer, seq) = (header.writer, header.seq);
                let home = (header.slot, header.slots) == (slot, slots) && seq % slots == slot;
                match home {
                    true => State::Ok { writer, seq },
                    false => State::Misplaced {
                        writer,
                        seq,
                        slot: header.slot,
                        slots: header.slots,
                    },
                }
            }
        }
    }

    fn parse(text: &str) -> Option<State> {
        let (seq, rest) = text.split_once(' ')?;
        let (writer, rest) = rest.split_once(' ')?;
        let (word, more) = rest.split_once(' ').unwrap_or((rest, ""));
        let record = || Some((writer.to_owned(), seq.parse().ok()?));
        match word {
            "ok" => record().map(|(writer, seq)| State::Ok { writer, seq }),
            "empty" => Some(State::Empty),
            "foreign" => Some(State::Foreign),
            "torn" => Some(State::Torn {
                claims: record().filter(|_| writer != "-"),
                at: more.strip_prefix("at=")?.parse().ok()?,
            }),
            "misplaced" => {
                let (slot, slots) = more.strip_prefix("for=")?.split_once(" of=")?;
                let (slot, slots) = (slot.parse().ok()?, slots.parse().ok()?);
                record().map(|(writer, seq)| State::Misplaced {
                    writer,
                    seq,
                    slot,
                    slots,
                })
            }
            "unreadable" => Some(State::Unreadable(more.to_owned())),
            _ => None,
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            State::Ok { writer, seq } => write!(f, "{seq} {writer} ok"),
            State::Empty => f.write_str("- - empty"),
            State::Foreign => f.write_str("- - foreign"),
            State::Torn {
                claims: Some((writer, seq)),
                at,
            } => write!(f, "{seq} {writer} torn at={at}"),
            State::Torn { claims: None, at } => write!(f, "- - torn at={at}"),
            State::Misplaced {
                writer,
                seq,
                slot,
                slots,
            } => write!(f, "{seq} {writer} misplaced for={slot} of={slots}"),
            State::Unreadable(error) => write!(f, "- - unreadable {error}"),
        }
    }
}

impl fmt::Display for Ring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (count, size) = (self.slots.len(), self.size);
        writeln!(f, "ring {} slots={count} size={size}", self.path)?;
        for (slot, state) in self.slots.iter().enumerate() {
            writeln!(f, "{slot} {state}")?;
        }
        writeln!(f, "end {count}")
    }
}

impl Ring {
    /// Reads what `hastor-guest verify` printed.
    pub fn parse(text: &str) -> Result<Ring> {
        let mut lines = text.lines();
        let first = lines.next().unwrap_or_default();
        let (path, count, size) = parse_first(first)
            .with_context(|| format!("not the first line of a verified ring: {first:?}"))?;
        let mut slots = Vec::new();
        for line in lines.by_ref() {
            if let Some(end) = line.strip_prefix("end ") {
                ensure!(
                    end.parse() == Ok(count) && slots.len() == count,
                    "{path}: {count} slots were to be read, {} were, and the end says {end}",
                    slots.len()
                );
                return Ok(Ring { path, size, slots });
            }
            let state = line.split_once(' ').and_then(|(slot, state)| {
                let right = slot.parse() == Ok(slots.len());
                right.then(|| State::parse(state)).flatten()
            });
            slots.push(state.with_context(|| format!("not what was found in a slot: {line:?}"))?);
        }
        bail!(
            "{path}: what was read ends after {} slots of {count}",
            slots.len()
        )
    }
}

fn parse_first(line: &str) -> Option<(String, usize, usize)> {
    let (rest, size) = line.strip_prefix("ring ")?.rsplit_once(" size=")?;
    let (path, slots) = rest.rsplit_once(" slots=")?;
    Some((path.into(), slots.parse().ok()?, size.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Header;

    fn ring() -> Ring {
        let (writer, seq) = ("client".to_owned(), 255);
        Ring {
            path: "/mnt/a b/ring".into(),
            size: 8192,
            slots: vec![
                State::Ok {
                    writer: writer.clone(),
                    seq,
                },
                State::Empty,
                State::Foreign,
                State::Torn {
                    claims: Some((writer.clone(), seq)),
                    at: 2056,
                },
                State::Torn {
                    claims: None,
                    at: 0,
                },
                State::Misplaced {
                    writer,
                    seq,
                    slot: 7,
                    slots: 256,
                },
                State::Unreadable("Input/output error (os error 5)".into()),
            ],
        }
    }

    #[test]
    fn what_is_printed_is_read() {
        assert_eq!(Ring::parse(&ring().to_string()).unwrap(), ring());
    }

    #[test]
    fn half_a_text_is_an_error() {
        let text = ring().to_string();
        let lines = text.lines().count();
        for end in 0..lines {
            let part: Vec<&str> = text.lines().take(end).collect();
            assert!(Ring::parse(&part.join("\n")).is_err(), "{end} lines");
        }
        let without_one = text.replace("2 - - foreign\n", "");
        assert_eq!(
            Ring::parse(&without_one).unwrap_err().to_string(),
            "not what was found in a slot: \"3 255 client torn at=2056\""
        );
    }

    #[test]
    fn only_the_right_slot_is_ok() {
        let found = |seq, slot, slots| {
            let (writer, time) = ("w".to_owned(), 0);
            Found::Record(Header {
                writer,
                seq,
                slot,
                slots,
                time,
            })
        };
        assert_eq!(State::of(found(9, 1, 8), 1, 8).to_string(), "9 w ok");
        for (wrong, text) in [
            (found(9, 1, 8), "9 w misplaced for=1 of=8"),
            (found(9, 2, 8), "9 w misplaced for=2 of=8"),
            (found(10, 2, 16), "10 w misplaced for=2 of=16"),
        ] {
            assert_eq!(State::of(wrong, 2, 8).to_string(), text);
        }
    }
}
