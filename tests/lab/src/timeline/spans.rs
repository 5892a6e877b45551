//! What happened from when to when: a failover as spans, read from the logs of Corosync and Pacemaker.

use std::fmt;

use super::actions::actions;
use super::{Daemon, Log, since};

/// Something that took time.
#[derive(Debug, Clone, PartialEq)]
pub struct Span {
    /// Whose time it was.
    pub lane: Lane,
    /// What was done; of an agent's action "start tank", and if it failed "start tank: error (reason)".
    pub label: String,
    /// When it began, in seconds since the beginning of the timeline.
    pub begin: f64,
    /// When it ended.
    pub end: f64,
}

/// Who was at work, in the order of a drawing.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Lane {
    /// Corosync, until it has agreed on a membership without the node that was lost.
    Detection,
    /// Pacemaker's fencer.
    Fencing,
    /// Pacemaker's controller: elections, joins and transitions.
    Pacemaker,
    /// The agents on a node.
    Action {
        /// Its name.
        node: String,
    },
    /// A client that got no answer.
    Client {
        /// How it asked.
        name: String,
    },
}

impl fmt::Display for Lane {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.pad(match self {
            Lane::Detection => "corosync",
            Lane::Fencing => "fencing",
            Lane::Pacemaker => "pacemaker",
            Lane::Action { node: name } | Lane::Client { name } => name,
        })
    }
}

/// What kind of work a span is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Noticing the loss of a node.
    Detection,
    /// Fencing it.
    Fencing,
    /// Start of a pool: of a resource whose id begins with `pool`.
    Import,
    /// Start of anything else.
    Start,
    /// Stop.
    Stop,
    /// Another action that changes something: promote, demote, notify, migrate.
    Change,
    /// An action that looks only.
    Monitor,
    /// Pacemaker's own work.
    Pacemaker,
    /// A client's wait.
    Client,
}

impl Span {
    /// What kind of work it is, by lane and label.
    pub fn kind(&self) -> Kind {
        match self.lane {
            Lane::Detection => Kind::Detection,
            Lane::Fencing => Kind::Fencing,
            Lane::Pacemaker => Kind::Pacemaker,
            Lane::Client { .. } => Kind::Client,
            Lane::Action { .. } => match self.label.split_once(' ').unwrap_or_default() {
                ("start", resource) if resource.starts_with("pool") => Kind::Import,
                ("start", _) => Kind::Start,
                ("stop", _) => Kind::Stop,
                ("probe" | "monitor", _) => Kind::Monitor,
                _ => Kind::Change,
            },
        }
    }

    /// Whether an action or a fencing failed.
    pub fn failed(&self) -> bool {
        matches!(self.lane, Lane::Action { .. } | Lane::Fencing) && self.label.contains(": ")
    }
}

/// A line of a log, written at or after the beginning.
pub struct Line<'a> {
    /// Seconds since the beginning.
    pub at: f64,
    /// Whose log it is.
    pub node: &'a str,
    /// All of it.
    pub text: &'a str,
}

/// The loss of a node, or a planned move (`lost` is `None`), from `begin` (seconds since 1970) on: the moment of the
/// power cut, or of the command. What has no end in the logs, or no beginning, is left out.
pub fn of_failover(logs: &[Log], lost: Option<&str>, begin: f64) -> Vec<Span> {
    let pacemaker = lines(logs, Daemon::Pacemaker, begin);
    let mut spans = Vec::new();
    if let Some(lost) = lost {
        spans.extend(detection(&lines(logs, Daemon::Corosync, begin), lost));
    }
    spans.extend(fencings(&pacemaker));
    for (node, daemon, _) in logs {
        if *daemon == Daemon::Pacemaker {
            spans.extend(states(&pacemaker, node));
        }
    }
    spans.extend(actions(&pacemaker));
    spans.sort_by(|a, b| {
        let times = a.begin.total_cmp(&b.begin).then(a.end.total_cmp(&b.end));
        times
            .then_with(|| a.lane.cmp(&b.lane))
            .then_with(|| a.label.cmp(&b.label))
    });
    spans
}

/// The lines of all logs of a daemon, by time; those of a log stay in its order.
fn lines(logs: &[Log], daemon: Daemon, begin: f64) -> Vec<Line<'_>> {
    let mut lines: Vec<Line> = logs
        .iter()
        .filter(|log| log.1 == daemon)
        .flat_map(|(node, _, log)| log.lines().map(move |text| (node, text)))
        .filter_map(|(node, text)| {
            let at = since(text, begin)?;
            Some(Line { at, node, text })
        })
        .collect();
    lines.sort_by(|a, b| a.at.total_cmp(&b.at));
    lines
}

/// From the beginning to the first membership of a survivor that somebody has left.
fn detection(lines: &[Line], lost: &str) -> Option<Span> {
    let left = |line: &&Line| {
        let members = line.text.split_once("A new membership (");
        line.node != lost && members.is_some_and(|(_, rest)| rest.contains(" left: "))
    };
    Some(Span {
        lane: Lane::Detection,
        label: format!("membership without {lost}"),
        begin: 0.0,
        end: lines.iter().find(left)?.at,
    })
}

/// One span for each node: from the decision to fence it to the first success, or to the last failure.
fn fencings(lines: &[Line]) -> Vec<Span> {
    let mut targets: Vec<(&str, f64)> = Vec::new();
    for line in lines {
        if let Some(target) = to_be_fenced(line.text) {
            if targets.iter().all(|(known, _)| *known != target) {
                targets.push((target, line.at));
            }
        }
    }
    let span = |(target, begin): (&str, f64)| {
        let later = lines.iter().filter(|line| line.at >= begin);
        let ends: Vec<_> = later
            .filter_map(|line| Some((line.at, fenced(line.text, target)?)))
            .collect();
        let success = ends.iter().find(|(_, (_, outcome))| outcome.is_none());
        let (end, (by, outcome)) = success.or(ends.last())?;
        Some(Span {
            lane: Lane::Fencing,
            label: match outcome {
                None => format!("fence {target} by {by}"),
                Some(why) => format!("fence {target} by {by}: {why}"),
            },
            begin,
            end: *end,
        })
    };
    targets.into_iter().filter_map(span).collect()
}

/// The node that the scheduler or the controller wants fenced.
fn to_be_fenced(text: &str) -> Option<&str> {
    if let Some((_, rest)) = text.split_once("Cluster node ") {
        return Some(rest.split_once(" will be fenced: ")?.0);
    }
    let (_, rest) = text.split_once("Requesting fencing (")?;
    let (action, rest) = rest.split_once(") targeting node ")?;
    takes_power(action).then(|| rest.split(' ').next())?
}

/// Who fenced a node or tried to, and why not if so.
fn fenced<'a>(text: &'a str, target: &str) -> Option<(&'a str, Option<&'a str>)> {
    let (_, rest) = text.split_once("Operation '")?;
    let (action, rest) = rest.split_once("' targeting ")?;
    let rest = rest.strip_prefix(target)?.strip_prefix(" by ")?;
    let (by, rest) = rest.split_once(" for ")?;
    let (_, outcome) = rest.split_once(": ")?;
    let outcome = outcome.rsplit_once(" | ").map_or(outcome, |(said, _)| said);
    takes_power(action).then_some((by, (!outcome.starts_with("OK")).then_some(outcome)))
}

/// Any fencing but "on", which lets a node join that has to be unfenced.
fn takes_power(action: &str) -> bool {
    matches!(action, "reboot" | "off")
}

/// What the controller of a node was busy with.
fn states(lines: &[Line], node: &str) -> Vec<Span> {
    let mut spans = Vec::new();
    let mut busy: Option<(&str, f64)> = None;
    for line in lines.iter().filter(|line| line.node == node) {
        let Some((_, change)) = line.text.split_once("State transition ") else {
            continue;
        };
        let Some((_, state)) = change.split_once(" -> ") else {
            continue;
        };
        let now = match state.split(' ').next().unwrap_or_default() {
            "S_ELECTION" => Some("election"),
            "S_INTEGRATION" | "S_FINALIZE_JOIN" => Some("join"),
            "S_POLICY_ENGINE" | "S_TRANSITION_ENGINE" => Some("transition"),
            _ => None,
        };
        if now == busy.map(|(what, _)| what) {
            continue;
        }
        if let Some((what, begin)) = busy {
            spans.push(Span {
                lane: Lane::Pacemaker,
                label: format!("{what} ({node})"),
                begin,
                end: line.at,
            });
        }
        busy = now.map(|what| (what, line.at));
    }
    spans
}

#[cfg(test)]
pub mod tests {
    use super::*;

    /// 07:32:30 of a day.
    pub const BEGIN: f64 = 86400.0 * 20000.0 + 7.0 * 3600.0 + 32.0 * 60.0 + 30.0;

    /// A log of `node` from times in seconds since [`BEGIN`] and messages.
    pub fn log(node: &str, daemon: Daemon, lines: &[(f64, &str)]) -> Log {
        let who = match daemon {
            Daemon::Corosync => String::new(),
            Daemon::Pacemaker => format!("{node} pacemaker-controld  [39] (function) \t"),
        };
        let line =
            |(at, text): &(f64, &str)| format!("Nov 21 07:32:{:06.3} {who}{text}\n", 30.0 + at);
        (
            node.to_owned(),
            daemon,
            lines.iter().map(line).collect::<String>(),
        )
    }

    /// Spans as short sentences.
    pub fn told(spans: &[Span]) -> Vec<String> {
        let tell = |span: &Span| {
            let lane = match &span.lane {
                Lane::Action { node } => node.clone(),
                lane => format!("{lane:?}"),
            };
            format!("{lane} {:.3} {:.3} {}", span.begin, span.end, span.label)
        };
        spans.iter().map(tell).collect()
    }

    #[test]
    fn loss_of_a_node() {
        let logs = [
            log(
                "n2",
                Daemon::Corosync,
                &[
                    (
                        0.9,
                        "notice  [TOTEM ] A processor failed, forming new configuration: token timed out (1000ms), waiting 1200ms for consensus.",
                    ),
                    (
                        2.1,
                        "notice  [TOTEM ] A new membership (2.1c) was formed. Members left: 1",
                    ),
                    (
                        9.0,
                        "notice  [TOTEM ] A new membership (1.20) was formed. Members joined: 1",
                    ),
                ],
            ),
            log(
                "n1",
                Daemon::Corosync,
                // What a lost node has seen does not count.
                &[(
                    0.1,
                    "notice  [TOTEM ] A new membership (1.14) was formed. Members left: 2",
                )],
            ),
            log(
                "n2",
                Daemon::Pacemaker,
                &[
                    (
                        2.2,
                        "notice: State transition S_NOT_DC -> S_ELECTION | input=I_ELECTION cause=C_FSA_INTERNAL origin=reap_dead_nodes",
                    ),
                    (
                        2.3,
                        "notice: State transition S_ELECTION -> S_INTEGRATION | input=I_ELECTION_DC cause=C_TIMER_POPPED origin=election_win_cb",
                    ),
                    (
                        2.4,
                        "info: State transition S_INTEGRATION -> S_FINALIZE_JOIN | input=I_INTEGRATED cause=C_FSA_INTERNAL origin=check_join_state",
                    ),
                    (
                        2.5,
                        "info: State transition S_FINALIZE_JOIN -> S_POLICY_ENGINE | input=I_FINALIZED cause=C_FSA_INTERNAL origin=check_join_state",
                    ),
                    (
                        2.6,
                        "warning: Cluster node n1 will be fenced: peer is no longer part of the cluster",
                    ),
                    (
                        2.61,
                        "info: State transition S_POLICY_ENGINE -> S_TRANSITION_ENGINE | input=I_PE_SUCCESS cause=C_IPC_MESSAGE origin=handle_response",
                    ),
                    (
                        2.62,
                        "notice: Requesting fencing (reboot) targeting node n1 | action=1 timeout=60",
                    ),
                    (
                        3.0,
                        "error: Operation 'reboot' targeting n1 by n3 for pacemaker-controld.39@n2: Timeout occurred (Timed out) | id=a8f6f09d",
                    ),
                    (
                        4.0,
                        "notice: Operation 'reboot' targeting n1 by n3 for pacemaker-controld.39@n2: OK (Done) | id=b8f6f09d",
                    ),
                    (
                        5.0,
                        "notice: State transition S_TRANSITION_ENGINE -> S_IDLE | input=I_TE_SUCCESS cause=C_FSA_INTERNAL origin=notify_crmd",
                    ),
                ],
            ),
            log(
                "n3",
                Daemon::Pacemaker,
                &[(
                    4.002,
                    "notice: Operation 'reboot' targeting n1 by n3 for pacemaker-controld.39@n2: OK (Done) | id=b8f6f09d",
                )],
            ),
        ];
        let spans = of_failover(&logs, Some("n1"), BEGIN);
        assert_eq!(
            told(&spans),
            [
                "Detection 0.000 2.100 membership without n1",
                "Pacemaker 2.200 2.300 election (n2)",
                "Pacemaker 2.300 2.500 join (n2)",
                "Pacemaker 2.500 5.000 transition (n2)",
                "Fencing 2.600 4.000 fence n1 by n3",
            ]
        );
        let later = of_failover(&logs, Some("n1"), BEGIN + 2.15);
        assert_eq!(told(&later)[0], "Pacemaker 0.050 0.150 election (n2)");
    }

    #[test]
    fn fencing_that_fails_or_is_none() {
        let request = (
            1.0,
            "notice: Requesting fencing (off) targeting node n1 | action=1 timeout=60",
        );
        let other = (
            2.0,
            "notice: Operation 'off' targeting n10 by n2 for pacemaker-controld.39@n2: OK (Done) | id=a8f6f09d",
        );
        let to_be_unfenced = (
            0.5,
            "notice: Requesting fencing (on) targeting node n1 | action=1 timeout=60",
        );
        let unfenced = (
            3.0,
            "notice: Operation 'on' targeting n1 by n2 for pacemaker-controld.39@n2: OK (Done) | id=a8f6f09d",
        );
        let failed = (
            4.0,
            "error: Operation 'off' targeting n1 by n2 for pacemaker-controld.39@n2: No such object (No fence device) | id=a8f6f09d",
        );
        let fence = |lines: &[(f64, &str)]| {
            told(&of_failover(
                &[log("n2", Daemon::Pacemaker, lines)],
                None,
                BEGIN,
            ))
        };
        assert_eq!(fence(&[request, other, unfenced]), [""; 0]);
        assert_eq!(
            fence(&[to_be_unfenced, request, other, unfenced, failed]),
            ["Fencing 1.000 4.000 fence n1 by n2: No such object (No fence device)"]
        );
    }
}
