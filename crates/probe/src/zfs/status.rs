//! What `zpool status -P -p -s POOL` prints.

use anyhow::{Context, Result};

/// The state of a pool with the counters of its vdevs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// The word after `state:`.
    pub state: String,
    /// The vdevs, as they stand below each other.
    pub vdevs: Vec<Vdev>,
}

/// A vdev.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vdev {
    /// Its name: a path, or a word such as raidz1-0.
    pub name: String,
    /// Its state.
    pub state: String,
    /// Failed reads.
    pub read: u64,
    /// Failed writes.
    pub write: u64,
    /// Blocks whose checksum was wrong.
    pub cksum: u64,
    /// Requests that took longer than zio_slow_io_ms, by default 30 s.
    pub slow: Option<u64>,
    /// Has it none below it?
    pub is_leaf: bool,
    /// What is said about it.
    pub note: String,
}

/// Reads the text.
pub fn parse(text: &str) -> Result<Status> {
    let mut status = Status::default();
    let mut depths: Vec<usize> = Vec::new();
    let mut in_config = false;
    for line in text.lines() {
        let trimmed = line.trim();
        if let Some(word) = trimmed.strip_prefix("state:") {
            status.state = word.trim().to_owned();
        } else if trimmed.starts_with("NAME ") {
            in_config = true;
        } else if trimmed.starts_with("errors:") {
            in_config = false;
        } else if in_config && !trimmed.is_empty() {
            let depth = line.len() - line.trim_start().len();
            let Some(vdev) = vdev(trimmed) else {
                continue; // A heading: logs, cache, spares.
            };
            if let (Some(above), Some(last)) = (status.vdevs.last_mut(), depths.last()) {
                above.is_leaf = depth <= *last;
            }
            status.vdevs.push(vdev);
            depths.push(depth);
        }
    }
    (!status.state.is_empty())
        .then_some(())
        .context("no state in it")?;
    Ok(status)
}

/// `NAME STATE READ WRITE CKSUM [SLOW] [NOTE]`; a spare that is not in use has no numbers.
fn vdev(line: &str) -> Option<Vdev> {
    let mut words = line.split_whitespace().peekable();
    let (name, state) = (words.next()?.to_owned(), words.next()?.to_owned());
    let mut number = || {
        let found = words.peek()?.parse().ok()?;
        words.next();
        Some(found)
    };
    let (read, write, cksum, slow) = (number(), number(), number(), number());
    Some(Vdev {
        name,
        state,
        read: read.unwrap_or(0),
        write: write.unwrap_or(0),
        cksum: cksum.unwrap_or(0),
        slow,
        is_leaf: true,
        note: words.collect::<Vec<_>>().join(" "),
    })
}
