//! What happened when: read from the logs of Corosync, Pacemaker and the machine room.
//!
//! As [`Event`]s, sentences about one resource; as [`spans::Span`]s, all that took time, to be divided ([`shares`]) and
//! drawn ([`svg`]).

mod actions;
mod rows;
mod shapes;
pub mod shares;
pub mod spans;
pub mod svg;

use std::fs;

use anyhow::{Context, Result};

use crate::cluster::Cluster;
use crate::layout::STATE;

/// What happened in the same tick of the logs' clock may be written a little earlier.
const SLACK: f64 = 0.01;

/// Whose log it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Daemon {
    /// corosync.log
    Corosync,
    /// pacemaker.log
    Pacemaker,
}

impl Daemon {
    fn name(self) -> &'static str {
        match self {
            Daemon::Corosync => "corosync",
            Daemon::Pacemaker => "pacemaker",
        }
    }
}

/// A node's name, whose log it is, and its text.
pub type Log = (String, Daemon, String);

/// The logs of all nodes but `lost`, which may not be able to tell them.
pub fn logs(cluster: &Cluster, lost: Option<&str>) -> Result<Vec<Log>> {
    let mut logs = Vec::new();
    for node in &cluster.nodes {
        if Some(node.as_str()) == lost {
            continue;
        }
        for daemon in [Daemon::Corosync, Daemon::Pacemaker] {
            logs.push((node.clone(), daemon, cluster.log(node, daemon.name())?));
        }
    }
    Ok(logs)
}

/// Something that happened.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// Seconds since the beginning of the timeline.
    pub at: f64,
    /// Who did it or saw it.
    pub who: String,
    /// What.
    pub what: String,
}

impl Event {
    /// An event; `at` counts from the beginning of the timeline.
    pub fn new(at: f64, who: &str, what: impl Into<String>) -> Event {
        Event {
            at,
            who: who.to_owned(),
            what: what.into(),
        }
    }
}

/// What the survivors (`logs`) and the machine room wrote down about the loss of `lost`, from `begin` (seconds since
/// 1970) on.
pub fn of_loss(logs: &[Log], lost: &str, resource: &str, begin: f64) -> Result<Vec<Event>> {
    let mut events = Vec::new();
    let log = fs::read_to_string(format!("{STATE}/room.log"))
        .context("reading the machine room's log")?;
    for line in log.lines() {
        let Some((time, what)) = line.split_once(' ') else {
            continue;
        };
        if let (Ok(time), Some(what)) = (time.parse::<f64>(), power(what, lost)) {
            events.push(Event::new(time - begin, "power", what));
        }
    }
    for (_, daemon, log) in logs {
        for line in log.lines() {
            if let (Some(at), Some(what)) = (since(line, begin), explain(line, lost, resource)) {
                events.push(Event::new(at, daemon.name(), what));
            }
        }
    }
    events.retain(|event| event.at >= -SLACK);
    // Every survivor tells the same story: the first one to say a sentence is heard.
    events.sort_by(|a, b| a.at.total_cmp(&b.at));
    let mut told = Vec::new();
    events.retain(|event| {
        let new = !told.contains(&event.what);
        told.push(event.what.clone());
        new
    });
    Ok(events)
}

/// One sentence about a log line, if it is part of the story.
fn explain(line: &str, lost: &str, resource: &str) -> Option<String> {
    let after = |start: &str| line.split_once(start).map(|(_, rest)| rest);
    let word = |text: &str| {
        text.split([' ', ',', ':'])
            .next()
            .unwrap_or_default()
            .to_owned()
    };
    if after("A processor failed, forming new configuration").is_some() {
        return Some(format!(
            "no sign of life from {lost}: forming a new membership"
        ));
    }
    if after("A new membership (").is_some_and(|rest| rest.contains("Members left:")) {
        return Some(format!("membership agreed, without {lost}"));
    }
    if let Some(why) = after(&format!("Cluster node {lost} will be fenced: ")) {
        return Some(format!("decided to fence {lost}: {why}"));
    }
    if let Some(rest) = after(&format!("targeting {lost} by ")) {
        let outcome = if rest.contains(": OK") {
            "confirmed"
        } else {
            "FAILED"
        };
        return Some(format!("fencing of {lost} by {}: {outcome}", word(rest)));
    }
    if let Some(rest) = after(&format!("Initiating start operation {resource}_start_0 ")) {
        let node = rest
            .trim_start_matches("locally ")
            .trim_start_matches("on ");
        return Some(format!("starting {resource} on {}", word(node)));
    }
    if let Some(rest) = after(&format!("Result of start operation for {resource} on ")) {
        let (node, outcome) = rest.split_once(": ")?;
        return Some(format!(
            "start of {resource} on {node}: {}",
            outcome.split(" | ").next()?
        ));
    }
    None
}

/// One sentence about a line of the machine room's log.
fn power(line: &str, lost: &str) -> Option<String> {
    let rest = line.strip_prefix(&format!("{lost} power "))?;
    match rest.strip_prefix("off for ") {
        Some("lab" | "lab: was off") => None,
        Some(who) => Some(format!(
            "{lost} is off (fence agent of {})",
            who.trim_end_matches(": was off")
        )),
        None => Some(format!("{lost} has power again")),
    }
}

/// Seconds from `begin` to the time of a log line ("Nov 21 07:32:32.372 ..."), negative if it was before.
///
/// The logs have no year; the lab's clock is UTC, so the time of day is enough for anything shorter than half a day.
fn since(line: &str, begin: f64) -> Option<f64> {
    const DAY: f64 = 86400.0;
    let time = line.split_whitespace().nth(2)?;
    let mut parts = time.split(':').map(str::parse::<f64>);
    let (hours, minutes, seconds) = (
        parts.next()?.ok()?,
        parts.next()?.ok()?,
        parts.next()?.ok()?,
    );
    let difference = hours * 3600.0 + minutes * 60.0 + seconds - begin % DAY;
    let difference = (difference + DAY * 1.5) % DAY - DAY / 2.0;
    (difference >= -SLACK).then_some(difference)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_around_midnight() {
        let begin = 86400.0 * 1000.0 - 1.0;
        let at = since("Nov 21 00:00:02.500 n1 x", begin).unwrap();
        assert!((at - 3.5).abs() < 1e-6);
        assert_eq!(since("Nov 20 23:59:00.000 n1 x", begin), None);
        assert_eq!(since("no time here", begin), None);
    }

    #[test]
    fn sentences() {
        let say = |line| explain(line, "n2", "vip");
        let start = "Nov 21 07:32:32.372 n1 pacemaker-controld  [39] (execute_rsc_action) \tnotice: Initiating start operation vip_start_0 on n3 | action 5";
        assert_eq!(say(start).unwrap(), "starting vip on n3");
        let local = "x notice: Initiating start operation vip_start_0 locally on n1 | action 5";
        assert_eq!(say(local).unwrap(), "starting vip on n1");
        let result = "x notice: Result of start operation for vip on n3: ok | CIB update 21, graph action confirmed; call=10";
        assert_eq!(say(result).unwrap(), "start of vip on n3: ok");
        let fence = "x notice: Operation 'reboot' targeting n2 by n1 for pacemaker-controld.39@n1: OK (complete) | id=a8f6f09d";
        assert_eq!(say(fence).unwrap(), "fencing of n2 by n1: confirmed");
        assert_eq!(say("x info: Leave   power\t(Started n1)"), None);
        assert_eq!(
            power("n2 power off for n1: was off", "n2").unwrap(),
            "n2 is off (fence agent of n1)"
        );
        assert_eq!(power("n2 power off for lab", "n2"), None);
    }
}
