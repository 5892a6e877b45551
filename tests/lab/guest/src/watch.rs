//! The watch: tells the lab ten times a second, if there is something to tell, which pools and addresses are in the
//! kernel of this node.
//!
//! What it says is told in [`lab_guest::sight`]. It looks at files of the kernel and starts no process, for it runs beside
//! what is tested. When the line to the lab breaks it connects again, for ever: after a boot the network is not there yet.

use std::convert::Infallible;
use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use clap::Args;
use lab_guest::addresses;
use lab_guest::sight::{Sight, hello};

use crate::link::Link;
use crate::{boot, parse_name};

/// From one look to the next.
const EVERY: Duration = Duration::from_millis(100);

/// From one sign of life to the next.
const ALIVE: Duration = Duration::from_secs(1);

/// For the lab to accept a connection, and to answer a line.
const PATIENCE: Duration = Duration::from_secs(10);

/// From the end of one connection to the next try.
const AGAIN: Duration = Duration::from_millis(500);

/// How `watch` is called.
#[derive(Args)]
pub struct Options {
    /// Address and port of the lab
    #[arg(long, value_name = "ADDRESS:PORT")]
    to: SocketAddr,
    /// The name of this node
    #[arg(long, value_parser = parse_name)]
    name: String,
    /// A pool to look for; may be repeated
    #[arg(long, value_parser = parse_name, required_unless_present = "address")]
    pool: Vec<String>,
    /// An address to look for; may be repeated
    #[arg(long)]
    address: Vec<IpAddr>,
    /// Where the kernel has a directory for each pool
    #[arg(
        long,
        value_name = "DIRECTORY",
        default_value = "/proc/spl/kstat/zfs",
        hide = true
    )]
    kstat: PathBuf,
}

/// Watches until it is killed.
pub fn run(options: &Options) -> Result<()> {
    let boot = boot()?;
    let mut said = String::new();
    loop {
        let Err(error) = watch(options, &boot);
        let error = format!("{error:#}");
        if said != error {
            eprintln!("hastor-guest: {error}");
            said = error;
        }
        thread::sleep(AGAIN);
    }
}

/// Watches until something fails.
fn watch(options: &Options, boot: &str) -> Result<Infallible> {
    let mut link = Link::connect(options.to, PATIENCE)?;
    let mut lab = Clock::new(link.tell(&hello(&options.name, boot))?);
    let mut told: Option<(Instant, Vec<String>)> = None;
    let (mut before, mut gap) = (Instant::now(), Duration::ZERO);
    loop {
        // Taken first: what is found was there then or later.
        let now = Instant::now();
        gap = gap.max(now - before);
        let held = look(options)?;
        let is_old = |(when, what): &(Instant, Vec<String>)| now - *when >= ALIVE || *what != held;
        if told.as_ref().is_none_or(is_old) {
            let sight = Sight {
                clock: SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs_f64(),
                now: lab.at(now),
                before: lab.at(before),
                gap: gap.as_secs_f64(),
                held,
            };
            lab = Clock::new(link.tell(&sight.to_string())?);
            told = Some((now, sight.held));
            gap = Duration::ZERO;
        }
        before = now;
        thread::sleep(EVERY.saturating_sub(now.elapsed()));
    }
}

/// What is there now.
fn look(options: &Options) -> Result<Vec<String>> {
    let is_here = |pool: &&String| options.kstat.join(pool).is_dir();
    let mut held: Vec<String> = options.pool.iter().filter(is_here).cloned().collect();
    // Two addresses of one family are read from one file, and that at once.
    let mut read: Option<(&str, String)> = None;
    for address in &options.address {
        let file = addresses::file(*address);
        let text = match read.take() {
            Some((last, text)) if last == file => text,
            _ => fs::read_to_string(format!("/proc/net/{file}"))
                .with_context(|| format!("reading /proc/net/{file}"))?,
        };
        if addresses::holds(&text, *address) {
            held.push(address.to_string());
        }
        read = Some((file, text));
    }
    Ok(held)
}

/// The lab's clock, which is never ahead of the real one: an answer takes its time to come.
struct Clock {
    time: f64,
    heard: Instant,
}

impl Clock {
    /// From an answer that has just come.
    fn new(time: f64) -> Clock {
        let heard = Instant::now();
        Clock { time, heard }
    }

    /// What it shows at a moment, before the answer or after it.
    fn at(&self, moment: Instant) -> f64 {
        match moment.checked_duration_since(self.heard) {
            Some(after) => self.time + after.as_secs_f64(),
            None => self.time - (self.heard - moment).as_secs_f64(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clock_goes_on_and_back_from_an_answer() {
        let clock = Clock::new(100.0);
        let second = Duration::from_secs(1);
        let near = |moment: Instant, time: f64| (clock.at(moment) - time).abs() < 1e-6;
        assert!(near(clock.heard, 100.0));
        assert!(near(clock.heard + second, 101.0));
        assert!(near(clock.heard - second, 99.0));
    }
}
