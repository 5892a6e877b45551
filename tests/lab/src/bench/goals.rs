//! The goals of the project for the cost of an agent, held against what was measured.

use super::results::{Kind, Results, Row};
use super::subject::Program;

/// One goal.
pub struct Goal {
    what: &'static str,
    found: String,
    met: bool,
}

/// All goals.
pub fn all(results: &Results) -> Vec<Goal> {
    // Both kinds of monitor count, the worse one each time.
    let monitors: Vec<_> = [Kind::Probe, Kind::Monitor]
        .into_iter()
        .filter_map(|kind| results.group(kind))
        .collect();
    let times = |of, to| monitors.iter().filter_map(move |group| group.times(of, to));
    let processes = monitors
        .iter()
        .filter_map(|group| Some(group.row(Program::Vip)?.created?.1));
    let rows = results
        .groups
        .iter()
        .filter_map(|group| group.row(Program::Vip));
    let memory = rows.filter_map(|row: &Row| row.peak_kib).max();
    let meta_data = results
        .group(Kind::MetaData)
        .and_then(|group| Some(group.row(Program::Vip)?.wall.median));
    let mib = |kib: f64| kib / 1024.0;
    vec![
        goal(
            "monitor is one process",
            processes.max().map(f64::from),
            |found| found == 1.0,
            |found| format!("{found:.0}"),
        ),
        goal(
            "monitor takes at most 2 times as long as /bin/true",
            times(Program::Vip, Program::True).reduce(f64::max),
            |found| found <= 2.0,
            |found| format!("{found:.2} times"),
        ),
        goal(
            "IPaddr2's monitor takes at least 30 times as long",
            times(Program::Peer, Program::Vip).reduce(f64::min),
            |found| found >= 30.0,
            |found| format!("{found:.1} times"),
        ),
        goal(
            "less than 6 MiB of memory in every action",
            memory.map(|kib| mib(kib as f64)),
            |found| found < 6.0,
            |found| format!("{found:.2} MiB"),
        ),
        goal(
            "executable smaller than 3 MiB",
            Some(mib(results.size(Program::Vip) as f64 / 1024.0)),
            |found| found < 3.0,
            |found| format!("{found:.2} MiB"),
        ),
        goal(
            "meta-data in less than 3 ms",
            meta_data,
            |found| found < 3.0,
            |found| format!("{found:.2} ms"),
        ),
    ]
}

/// What was not measured is not met.
fn goal(
    what: &'static str,
    found: Option<f64>,
    met: impl Fn(f64) -> bool,
    show: impl Fn(f64) -> String,
) -> Goal {
    Goal {
        what,
        found: found.map_or("not measured".into(), show),
        met: found.is_some_and(met),
    }
}

/// For the terminal.
pub fn text(goals: &[Goal]) -> String {
    let mut text = "Goals for vip (the worse of both monitors, medians)\n".to_owned();
    for goal in goals {
        let verdict = if goal.met { "met" } else { "NOT met" };
        text += &format!("  {verdict:7}  {:52}{:>12}\n", goal.what, goal.found);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::super::results::tests::example;
    use super::*;

    fn verdicts(results: &Results) -> Vec<bool> {
        all(results).iter().map(|goal| goal.met).collect()
    }

    #[test]
    fn met_and_not_met() {
        let mut results = example();
        assert_eq!(verdicts(&results), [true; 6]);
        let monitor = results
            .groups
            .iter_mut()
            .find(|group| group.kind == Kind::Monitor)
            .unwrap();
        let vip = &mut monitor.rows[1];
        vip.wall.median = 3.5;
        (vip.created, vip.peak_kib) = (Some((1, 2)), Some(7000));
        results.sizes[1] = 4 << 20;
        assert_eq!(
            verdicts(&results),
            [false, false, false, false, false, true]
        );
        results.groups.clear();
        assert_eq!(verdicts(&results), [false; 6]);
        assert!(text(&all(&results)).contains("NOT met  monitor is one process"));
    }
}
