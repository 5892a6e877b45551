//! The agents' actions, from what Pacemaker's controllers and executors have logged.
//!
//! The controller of the DC tells that it initiates an action, that of the node that it has the result. The executor of
//! the node tells when the agent begins and ends, but not of monitors, and only where information is logged.

use super::SLACK;
use super::spans::{Lane, Line, Span};

/// An action as the logs name it.
#[derive(Debug, PartialEq, Eq)]
struct Action<'a> {
    /// Where it runs.
    node: &'a str,
    /// `start`; a monitor that is not repeated is a `probe`.
    name: &'a str,
    /// The resource's id, without the number of an instance.
    resource: &'a str,
}

/// What was found about one execution of an action.
struct Run<'a> {
    action: Action<'a>,
    /// The executor's number for it.
    call: &'a str,
    begin: Option<f64>,
    end: Option<f64>,
    /// What the controller says came of it.
    outcome: Option<&'a str>,
}

/// One span for each action that has a beginning and an end: the agent's own time where the executor tells it, else
/// from the controller's request to its result.
pub fn actions(lines: &[Line]) -> Vec<Span> {
    let mut requests = Vec::new();
    let mut runs: Vec<Run> = Vec::new();
    for line in lines {
        if let Some(action) = initiated(line.text) {
            requests.push((line.at, action));
        } else if let Some((action, call)) = executing(line) {
            runs.push(Run {
                action,
                call,
                begin: Some(line.at),
                end: None,
                outcome: None,
            });
        } else if let Some((action, call, took)) = finished(line) {
            let run = of_call(&mut runs, action, call);
            run.begin.get_or_insert(line.at - took);
            run.end = Some(line.at);
        } else if let Some((action, call, outcome)) = result(line.text) {
            let run = of_call(&mut runs, action, call);
            run.end.get_or_insert(line.at);
            run.outcome = Some(outcome);
        }
    }
    runs.into_iter()
        .filter_map(|run| {
            let end = run.end?;
            let begin = run
                .begin
                .or_else(|| request(&mut requests, &run.action, end))?;
            Some(Span {
                lane: Lane::Action {
                    node: run.action.node.to_owned(),
                },
                label: label(&run.action, run.outcome),
                begin,
                end,
            })
        })
        .collect()
}

/// The run with this number that has no result yet, a new one if there is none: a node that has booted counts anew.
fn of_call<'a, 'b>(
    runs: &'b mut Vec<Run<'a>>,
    action: Action<'a>,
    call: &'a str,
) -> &'b mut Run<'a> {
    let same = |run: &Run| run.call == call && run.action == action && run.outcome.is_none();
    let index = runs.iter().rposition(same).unwrap_or_else(|| {
        runs.push(Run {
            action,
            call,
            begin: None,
            end: None,
            outcome: None,
        });
        runs.len() - 1
    });
    &mut runs[index]
}

/// When the action that ended at `end` was requested; no request counts twice.
fn request(requests: &mut Vec<(f64, Action)>, action: &Action, end: f64) -> Option<f64> {
    let fits = |(at, asked): &(f64, Action)| asked == action && *at <= end + SLACK;
    let index = requests.iter().rposition(fits)?;
    Some(requests.remove(index).0.min(end))
}

fn label(action: &Action, outcome: Option<&str>) -> String {
    let Action { name, resource, .. } = action;
    let Some(outcome) = outcome else {
        return format!("{name} {resource}");
    };
    let well = match outcome.to_ascii_lowercase().as_str() {
        "ok" => true,
        "promoted" => matches!(*name, "probe" | "monitor"),
        "not running" => *name == "probe",
        _ => false,
    };
    if well {
        format!("{name} {resource}")
    } else {
        format!("{name} {resource}: {outcome}")
    }
}

/// "Initiating start operation tank_start_0 locally on n2 | action 5"
fn initiated(text: &str) -> Option<Action<'_>> {
    let (_, rest) = text.split_once("Initiating ")?;
    let (name, rest) = rest.split_once(" operation ")?;
    let (key, rest) = rest.split_once(' ')?;
    let node = rest.trim_start_matches("locally ").strip_prefix("on ")?;
    let (key, interval) = key.rsplit_once('_')?;
    let resource = match name {
        // tank_pre_notify_start_0
        "notify" => {
            let (before, _) = key.split_once("_notify_")?;
            before.rsplit_once('_')?.0
        }
        _ => key.strip_suffix(name)?.strip_suffix('_')?,
    };
    Some(Action {
        node: node.split(' ').next()?,
        name: match (name, interval) {
            ("monitor", "0") => "probe",
            _ => name,
        },
        resource: without_number(resource),
    })
}

/// "executing - rsc:tank action:start call_id:12"
fn executing<'a>(line: &Line<'a>) -> Option<(Action<'a>, &'a str)> {
    let (_, rest) = line.text.split_once("executing - rsc:")?;
    let (resource, rest) = rest.split_once(" action:")?;
    let (name, call) = rest.split_once(" call_id:")?;
    Some((executed(line.node, name, resource)?, call.trim()))
}

/// "tank start (call 12, PID 345) exited with status 0 (execution time 1.234s)"; also how long it took.
fn finished<'a>(line: &Line<'a>) -> Option<(Action<'a>, &'a str, f64)> {
    let (before, rest) = line.text.split_once(" (call ")?;
    let mut words = before.rsplit(char::is_whitespace);
    let (name, resource) = (words.next()?, words.next()?);
    let (call, rest) = rest.split_once(')')?;
    let (_, took) = rest.rsplit_once(" (execution time ")?;
    let took = took.split([' ', ')']).next()?;
    Some((
        executed(line.node, name, resource)?,
        call.split(',').next()?,
        seconds(took)?,
    ))
}

/// The executor does not tell a probe from other monitors; nor does it tell of either, unless it debugs.
fn executed<'a>(node: &'a str, name: &'a str, resource: &'a str) -> Option<Action<'a>> {
    (name != "monitor").then_some(Action {
        node,
        name,
        resource: without_number(resource),
    })
}

/// "Result of start operation for tank on n2: ok | CIB update 21, graph action confirmed; call=10 key=tank_start_0 rc=0"
fn result(text: &str) -> Option<(Action<'_>, &str, &str)> {
    let (_, rest) = text.split_once("Result of ")?;
    let (name, rest) = rest.split_once(" operation for ")?;
    let (resource, rest) = rest.split_once(" on ")?;
    let (node, rest) = rest.split_once(": ")?;
    let (outcome, more) = rest.rsplit_once(" | ")?;
    let (_, call) = more.split_once("call=")?;
    let action = Action {
        node,
        name,
        resource: without_number(resource),
    };
    Some((action, call.split(' ').next()?, outcome))
}

/// A request names an instance of a clone by its number, its result does so only if instances differ.
fn without_number(resource: &str) -> &str {
    match resource.rsplit_once(':') {
        Some((id, number)) if number.bytes().all(|byte| byte.is_ascii_digit()) => id,
        _ => resource,
    }
}

/// Seconds of "1m2.345s", "123ms" or "0s".
fn seconds(text: &str) -> Option<f64> {
    let mut rest = text;
    let mut sum = 0.0;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, after) = rest.split_at(digits);
        let units = [
            ("ms", 1e-3),
            ("s", 1.0),
            ("m", 60.0),
            ("h", 3600.0),
            ("d", 86400.0),
        ];
        let found = units
            .iter()
            .find_map(|(unit, factor)| Some((after.strip_prefix(unit)?, factor)));
        let (left, factor) = found?;
        sum += number.parse::<f64>().ok()? * factor;
        rest = left;
    }
    Some(sum)
}

#[cfg(test)]
mod tests {
    use super::super::Daemon;
    use super::super::spans::of_failover;
    use super::super::spans::tests::{BEGIN, log, told};
    use super::*;

    #[test]
    fn by_the_controllers() {
        let dc = log(
            "n2",
            Daemon::Pacemaker,
            &[
                (
                    1.0,
                    "notice: Initiating start operation vip_start_0 on n3 | action 5",
                ),
                (
                    1.1,
                    "notice: Initiating start operation pool-tank_start_0 locally on n2 | action 6",
                ),
                (
                    1.2,
                    "notice: Initiating monitor operation vip_monitor_0 locally on n2 | action 7",
                ),
                (
                    1.4,
                    "notice: Result of probe operation for vip on n2: Not running | graph action confirmed; call=9 key=vip_monitor_0 rc=7",
                ),
                (
                    3.0,
                    "error: Result of start operation for pool-tank on n2: Error occurred (tank: 1 | 2 disks) | graph action confirmed; call=10 key=pool-tank_start_0 rc=1",
                ),
                (
                    3.1,
                    "notice: Initiating stop operation pool-tank_stop_0 locally on n2 | action 8",
                ),
                (
                    3.2,
                    "notice: Initiating monitor operation vip_monitor_10000 on n3 | action 9",
                ),
            ],
        );
        let other = log(
            "n3",
            Daemon::Pacemaker,
            &[
                (
                    1.5,
                    "notice: Result of start operation for vip on n3: ok | CIB update 21, graph action confirmed; call=10 key=vip_start_0 rc=0",
                ),
                (
                    3.3,
                    "notice: Result of monitor operation for vip on n3: ok | CIB update 22, graph action confirmed; call=11 key=vip_monitor_10000 rc=0",
                ),
                (
                    4.0,
                    "info: Result of monitor operation for vip on n3: Cancelled | graph action confirmed; call=11 key=vip_monitor_10000",
                ),
            ],
        );
        assert_eq!(
            told(&of_failover(&[dc, other], None, BEGIN)),
            [
                "n3 1.000 1.500 start vip",
                "n2 1.100 3.000 start pool-tank: Error occurred (tank: 1 | 2 disks)",
                "n2 1.200 1.400 probe vip",
                "n3 3.200 3.300 monitor vip",
            ]
        );
    }

    #[test]
    fn by_the_executor() {
        let lines = [
            (
                1.0,
                "notice: Initiating start operation target:1_start_0 locally on n2 | action 5",
            ),
            (1.2, "info: executing - rsc:target action:start call_id:12"),
            (
                1.8,
                "info: target start (call 12, PID 345) exited with status 0 (execution time 600ms)",
            ),
            (
                1.9,
                "notice: Result of start operation for target on n2: OK | graph action confirmed; call=12 key=target_start_0 rc=0",
            ),
            (
                2.0,
                "notice: Initiating notify operation target_post_notify_start_0 locally on n2 | action 6",
            ),
            (
                4.0,
                "info: target notify (call 13, PID 346) exited with status 0 (execution time 1.500s after being queued 2ms)",
            ),
            (5.0, "info: executing - rsc:target action:stop call_id:14"),
            (
                6.0,
                "error: Result of stop operation for target on n2: Timed out after 1s | graph action confirmed; call=14 key=target_stop_0",
            ),
            // After a boot.
            (8.0, "info: executing - rsc:target action:stop call_id:14"),
            (
                8.5,
                "notice: Result of stop operation for target on n2: OK | graph action confirmed; call=14 key=target_stop_0 rc=0",
            ),
        ];
        let logs = [log("n2", Daemon::Pacemaker, &lines)];
        assert_eq!(
            told(&of_failover(&logs, None, BEGIN)),
            [
                "n2 1.200 1.800 start target",
                "n2 2.500 4.000 notify target",
                "n2 5.000 6.000 stop target: Timed out after 1s",
                "n2 8.000 8.500 stop target",
            ]
        );
    }

    #[test]
    fn without_what_belongs_to_them() {
        for text in [
            "notice: Initiating start operation vip_start_0 on n2 | action 5",
            "notice: Result of start operation for vip on n2: ok | graph action confirmed; call=12 key=vip_start_0 rc=0",
            "info: executing - rsc:vip action:start call_id:12",
            "debug: vip monitor (call 12, PID 345) exited with status 0 (execution time 6ms)",
            "notice: Result of fence operation 4: 0 (OK)",
            "notice: Initiating cancel operation vip_monitor_10000 on n2 | action 3",
        ] {
            let logs = [log("n2", Daemon::Pacemaker, &[(1.0, text)])];
            assert_eq!(told(&of_failover(&logs, None, BEGIN)), [""; 0], "{text}");
        }
    }

    #[test]
    fn times_that_pacemaker_writes() {
        for (text, expected) in [
            ("0s", 0.0),
            ("123ms", 0.123),
            ("1.005s", 1.005),
            ("1h2m3s", 3723.0),
            ("1d4ms", 86400.004),
        ] {
            assert!((seconds(text).unwrap() - expected).abs() < 1e-9, "{text}");
        }
        assert_eq!(seconds("3 s"), None);
        assert_eq!(seconds("12"), None);
    }
}
