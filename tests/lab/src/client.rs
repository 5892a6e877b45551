//! The client's view: answers with their times, and the longest silence between them.

use std::io::{BufRead, BufReader};
use std::process::Child;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use anyhow::{Context, Result};

use crate::LAB_INSIDE;
use crate::cluster::Cluster;
use crate::layout::CLIENT;

/// An answer: when (seconds since 1970), and from whom, where the answer tells.
pub type Answer = (f64, String);

/// Something in the client that asks again and again.
pub struct Asking {
    child: Child,
    answers: Arc<Mutex<Vec<Answer>>>,
}

impl Asking {
    /// Pings an address, 20 times a second.
    pub fn ping(cluster: &Cluster, address: &str) -> Result<Asking> {
        Asking::start(
            cluster,
            &["ping", "-n", "-D", "-i", "0.05", address],
            parse_ping,
        )
    }

    /// Fetches over a new TCP connection, 20 times a second.
    pub fn fetch(cluster: &Cluster, address: &str) -> Result<Asking> {
        Asking::start(cluster, &[LAB_INSIDE, "watch", address], parse_fetch)
    }

    fn start(
        cluster: &Cluster,
        words: &[&str],
        parse: fn(&str) -> Option<Answer>,
    ) -> Result<Asking> {
        let mut child = cluster.spawn(CLIENT, words)?;
        let output = child.stdout.take().context("no output to read")?;
        let answers = Arc::new(Mutex::new(Vec::new()));
        let shared = Arc::clone(&answers);
        thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                if let Some(answer) = parse(&line) {
                    shared
                        .lock()
                        .unwrap_or_else(PoisonError::into_inner)
                        .push(answer);
                }
            }
        });
        Ok(Asking { child, answers })
    }

    /// The answers so far.
    pub fn answers(&self) -> Vec<Answer> {
        self.answers
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// How many answers came after a moment.
    pub fn count_since(&self, time: f64) -> usize {
        self.answers().iter().filter(|(at, _)| *at > time).count()
    }
}

impl Drop for Asking {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The longest silence that ended after `time`: last answer before it, first answer after it.
pub fn silence(answers: &[Answer], time: f64) -> Option<(Answer, Answer)> {
    let pairs = answers.windows(2).filter(|pair| pair[1].0 > time);
    let longest = pairs.max_by(|a, b| (a[1].0 - a[0].0).total_cmp(&(b[1].0 - b[0].0)))?;
    Some((longest[0].clone(), longest[1].clone()))
}

fn parse_ping(line: &str) -> Option<Answer> {
    let (time, rest) = line.strip_prefix('[')?.split_once("] ")?;
    rest.contains(" bytes from ").then_some(())?;
    Some((time.parse().ok()?, String::new()))
}

fn parse_fetch(line: &str) -> Option<Answer> {
    let (time, node) = line.split_once(' ')?;
    if node == "-" {
        return None;
    }
    Some((time.parse().ok()?, node.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_both() {
        let ping = "[1795246348.5] 64 bytes from 192.0.2.10: icmp_seq=1 ttl=64 time=0.377 ms";
        assert_eq!(parse_ping(ping).unwrap().0, 1_795_246_348.5);
        assert_eq!(
            parse_ping("[1795246348.79] From 192.0.2.254 icmp_seq=9 Destination Host Unreachable"),
            None
        );
        assert_eq!(parse_fetch("12.500 n2").unwrap(), (12.5, "n2".to_owned()));
        assert_eq!(parse_fetch("12.500 -"), None);
    }

    #[test]
    fn longest_silence_after_the_cut() {
        let answers: Vec<Answer> = [1.0, 3.0, 3.1, 4.6, 4.7]
            .map(|at| (at, String::new()))
            .into();
        let (last, first) = silence(&answers, 3.05).unwrap();
        assert_eq!((last.0, first.0), (3.1, 4.6));
        assert!(silence(&answers, 5.0).is_none());
    }
}
