//! How the time in which a client got no answer divides among those who worked meanwhile.

use std::fmt;

use super::spans::{Kind, Span};

/// Seconds of each; together they are the gap.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Shares {
    /// Until Corosync had noticed.
    pub detection: f64,
    /// Until the node was known to be off.
    pub fencing: f64,
    /// Starts of pools.
    pub import: f64,
    /// The other actions of agents, but for probes and monitors.
    pub agents: f64,
    /// The client's own: before anything had happened, and after the last start.
    pub client: f64,
    /// What is left: Pacemaker's.
    pub pacemaker: f64,
}

impl Shares {
    /// Divides a gap (begin and end, on the clock of the spans). When several were at work, the time is that of the
    /// first one in the order of the fields.
    pub fn of(spans: &[Span], gap: (f64, f64)) -> Shares {
        let waits = waits(spans, gap);
        let busy = |kinds: &[Kind], at: f64| {
            let mut spans = spans.iter().filter(|span| kinds.contains(&span.kind()));
            spans.any(|span| span.begin <= at && at < span.end)
        };
        let mut shares = Shares::default();
        for part in bounds(spans, &waits, gap).windows(2) {
            let (at, length) = (part[0], part[1] - part[0]);
            *if busy(&[Kind::Detection], at) {
                &mut shares.detection
            } else if busy(&[Kind::Fencing], at) {
                &mut shares.fencing
            } else if busy(&[Kind::Import], at) {
                &mut shares.import
            } else if busy(&[Kind::Start, Kind::Stop, Kind::Change], at) {
                &mut shares.agents
            } else if waits.iter().any(|wait| wait.0 <= at && at < wait.1) {
                &mut shares.client
            } else {
                &mut shares.pacemaker
            } += length;
        }
        shares
    }
}

/// When the client was the only one to be waited for.
fn waits(spans: &[Span], gap: (f64, f64)) -> Vec<(f64, f64)> {
    let ends = spans
        .iter()
        .filter(|span| matches!(span.kind(), Kind::Import | Kind::Start))
        .map(|span| span.end)
        .filter(|end| (gap.0..=gap.1).contains(end));
    let last = ends.max_by(f64::total_cmp);
    let mut waits = vec![(gap.0, 0.0)];
    waits.extend(last.map(|last| (last, gap.1)));
    waits
}

/// Where the gap has to be cut, so that in each part the same ones are at work.
fn bounds(spans: &[Span], waits: &[(f64, f64)], gap: (f64, f64)) -> Vec<f64> {
    let mut bounds = vec![gap.0, gap.1];
    bounds.extend(spans.iter().flat_map(|span| [span.begin, span.end]));
    bounds.extend(waits.iter().flat_map(|wait| [wait.0, wait.1]));
    bounds.retain(|at| (gap.0..=gap.1).contains(at));
    bounds.sort_by(f64::total_cmp);
    bounds
}

impl fmt::Display for Shares {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(
            f,
            "detection {:.2} s, fencing {:.2} s, import {:.2} s, other agents {:.2} s, client {:.2} s, Pacemaker {:.2} s",
            self.detection, self.fencing, self.import, self.agents, self.client, self.pacemaker
        )
    }
}

#[cfg(test)]
mod tests {
    use super::super::spans::Lane;
    use super::*;

    fn span(lane: Lane, label: &str, begin: f64, end: f64) -> Span {
        Span {
            lane,
            label: label.to_owned(),
            begin,
            end,
        }
    }

    fn action(label: &str, begin: f64, end: f64) -> Span {
        let node = "n2".to_owned();
        span(Lane::Action { node }, label, begin, end)
    }

    /// The shares as a line, after a look at their sum.
    fn told(spans: &[Span], gap: (f64, f64)) -> String {
        let shares = Shares::of(spans, gap);
        let sum = shares.detection
            + shares.fencing
            + shares.import
            + shares.agents
            + shares.client
            + shares.pacemaker;
        assert!((sum - (gap.1 - gap.0)).abs() < 1e-9, "{shares:?}");
        shares.to_string()
    }

    #[test]
    fn everyone_gets_a_share() {
        let spans = [
            span(Lane::Detection, "membership without n1", 0.0, 2.0),
            span(Lane::Pacemaker, "transition (n2)", 2.1, 12.0),
            // Overlaps detection and the start of a fence device.
            span(Lane::Fencing, "fence n1 by n2", 1.5, 3.0),
            action("start fence-n1", 2.5, 3.5),
            action("start pool-tank", 4.0, 8.0),
            action("stop other", 7.0, 8.5),
            action("probe vip", 8.5, 8.7),
            action("start vip", 9.0, 9.5),
            // Neither of them is within the gap to its end.
            action("start fence-n2", 9.6, 20.0),
            action("start pool-late", 30.0, 40.0),
        ];
        assert_eq!(
            told(&spans, (-0.25, 9.6)),
            "detection 2.00 s, fencing 1.00 s, import 4.00 s, other agents 1.50 s, client 0.35 s, Pacemaker 1.00 s"
        );
    }

    #[test]
    fn nobody_but_pacemaker() {
        assert_eq!(
            told(&[], (1.0, 4.0)),
            "detection 0.00 s, fencing 0.00 s, import 0.00 s, other agents 0.00 s, client 0.00 s, Pacemaker 3.00 s"
        );
    }

    #[test]
    fn spans_that_reach_beyond_the_gap() {
        let spans = [
            span(Lane::Detection, "membership without n1", 0.0, 2.0),
            action("start vip", 3.0, 9.0),
        ];
        assert_eq!(
            told(&spans, (1.0, 4.0)),
            "detection 1.00 s, fencing 0.00 s, import 0.00 s, other agents 1.00 s, client 0.00 s, Pacemaker 1.00 s"
        );
    }
}
