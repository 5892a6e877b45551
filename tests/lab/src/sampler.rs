//! Watches which nodes hold an address, 20 times a second: it must never be two at once.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::{kernel, room};

/// A thread that watches, until it is asked what it saw.
pub struct Sampler {
    end: Arc<AtomicBool>,
    thread: Option<JoinHandle<Seen>>,
}

#[derive(Default)]
struct Seen {
    samples: u64,
    /// Samples in which some node held an address: a watch that sees none is blind.
    sights: u64,
    doubles: Vec<String>,
}

impl Sampler {
    /// Begins to watch addresses on some nodes.
    pub fn start(nodes: &[String], addresses: &[&str]) -> Result<Sampler> {
        let addresses: Vec<IpAddr> = addresses
            .iter()
            .map(|text| text.parse())
            .collect::<Result<_, _>>()?;
        let end = Arc::new(AtomicBool::new(false));
        let (nodes, stop) = (nodes.to_vec(), Arc::clone(&end));
        let thread = thread::spawn(move || {
            let mut seen = Seen::default();
            while !stop.load(Ordering::Relaxed) {
                seen.samples += 1;
                let held =
                    |address: &IpAddr| nodes.iter().any(|node| kernel::holds(node, *address));
                seen.sights += u64::from(addresses.iter().any(held));
                for address in &addresses {
                    if let Some(pair) = double(&nodes, |node| kernel::holds(node, *address)) {
                        let time = room::now();
                        seen.doubles.push(format!("{time:.3}: {address} on {pair}"));
                    }
                }
                thread::sleep(Duration::from_millis(50));
            }
            seen
        });
        Ok(Sampler {
            end,
            thread: Some(thread),
        })
    }

    /// Ends the watch; an error if two nodes held an address at once.
    pub fn finish(mut self) -> Result<()> {
        self.end.store(true, Ordering::Relaxed);
        let seen = self.thread.take().and_then(|thread| thread.join().ok());
        let seen = seen.context("the watch over the addresses broke off")?;
        if let Some(first) = seen.doubles.first() {
            let (count, samples) = (seen.doubles.len(), seen.samples);
            bail!(
                "two nodes held the same address at once, {count} times in {samples} samples, first at {first}"
            );
        }
        if seen.sights == 0 {
            bail!(
                "no node was seen to hold an address in {} samples",
                seen.samples
            );
        }
        Ok(())
    }
}

impl Drop for Sampler {
    fn drop(&mut self) {
        self.end.store(true, Ordering::Relaxed);
    }
}

/// Two nodes that hold the address at once, if there are.
///
/// The nodes are read one after the other, so an address that moves in between is seen on both. Only if the first
/// still holds it after the second was seen with it, there was a moment when both did.
fn double(nodes: &[String], mut holds: impl FnMut(&str) -> bool) -> Option<String> {
    let holders: Vec<&String> = nodes.iter().filter(|node| holds(node)).collect();
    let (first, second) = (holders.first()?, holders.get(1)?);
    holds(first).then(|| format!("{first} and {second}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_move_between_two_reads_is_no_double() {
        let nodes = ["n1".to_owned(), "n2".to_owned()];
        let mut reads = 0;
        let moving = |node: &str| {
            reads += 1;
            (node == "n1") == (reads == 1)
        };
        assert_eq!(double(&nodes, moving), None);
        assert_eq!(double(&nodes, |_| true).unwrap(), "n1 and n2");
        assert_eq!(double(&nodes, |node| node == "n2"), None);
    }
}
