//! What every agent is put through.
//!
//! [`conformance`] runs an agent in process, on a machine that a test describes, through its
//! life; then through everything that can go wrong at each step of it: the step fails, hangs,
//! the agent is killed there. Whatever happens, the answer must be true, in time, with a reason
//! on one line; and a stop and a start afterwards must work. [`Executable`] does the same to the
//! real program on a real kernel, killing it at every system call.

#![expect(clippy::disallowed_methods, reason = "tests run programs and threads")]

mod declaration;
mod executable;

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::Path;
use std::thread;
use std::time::Duration;

use host::testing::{Fault, Killed, Script, Tables};

pub use declaration::check_declaration;
pub use executable::{Executable, Finished, kill_at_call};

use crate::{Agent, Call, Exit, Outcome, execute};

/// What an action is given, as Pacemaker's default.
const TIMEOUT: Duration = Duration::from_secs(20);

/// An agent with its parameters, on machines that are all alike.
struct Subject<'a, A> {
    machine: &'a dyn Fn() -> Script,
    params: BTreeMap<String, String>,
    agent: std::marker::PhantomData<A>,
}

/// Puts an agent through all of it. `machine` makes a machine on which the resource, with these
/// parameters, can be started and is not; panics where the agent falls short, and says how.
pub fn conformance<A: Agent>(machine: impl Fn() -> Script, params: &[(&str, &str)]) {
    let params = params
        .iter()
        .map(|(name, value)| (name.to_string(), value.to_string()))
        .collect();
    let subject = Subject::<A> {
        machine: &machine,
        params,
        agent: std::marker::PhantomData,
    };
    check_declaration::<A>();
    subject.lives();
    for action in ["start", "monitor", "stop"] {
        for fault in [Fault::Fail, Fault::Hang, Fault::Kill] {
            subject.survives(action, fault);
        }
    }
    subject.needs_no_parameters_to_stop();
    subject.names_missing_parameters();
    subject.answers_many_at_once();
}

/// One action on a scripted machine, as Pacemaker would call it.
pub fn act<A: Agent>(script: &Script, action: &str, params: &[(&str, &str)]) -> Outcome {
    let params = params
        .iter()
        .map(|(name, value)| (name.to_string(), value.to_string()))
        .collect();
    run::<A>(script, &call(action, params))
}

/// A call of an action: a monitor is one that is repeated.
pub fn call(action: &str, params: BTreeMap<String, String>) -> Call {
    let interval = if action == "monitor" { "10000" } else { "0" };
    Call {
        action: action.into(),
        instance: "resource".into(),
        params,
        meta: BTreeMap::from([
            ("interval".into(), interval.into()),
            ("timeout".into(), TIMEOUT.as_millis().to_string()),
        ]),
        ..Call::default()
    }
}

fn run<A: Agent>(script: &Script, call: &Call) -> Outcome {
    execute::<A>(call, &script.host(TIMEOUT))
}

impl<A: Agent> Subject<'_, A> {
    fn act(&self, script: &Script, action: &str) -> Outcome {
        run::<A>(script, &call(action, self.params.clone()))
    }

    /// Runs an action and wants this exit code of it.
    fn expect(&self, script: &Script, action: &str, exit: Exit, when: &str) {
        let outcome = self.act(script, action);
        assert_eq!(outcome.exit, exit, "{action} {when}: {outcome:?}");
    }

    fn probe(&self, script: &Script) -> Outcome {
        let mut call = call("monitor", self.params.clone());
        call.meta.remove("interval");
        run::<A>(script, &call)
    }

    fn lives(&self) {
        let script = (self.machine)();
        let before = fingerprint(&script);
        assert_eq!(
            self.probe(&script).exit,
            Exit::NotRunning,
            "a probe before anything was done"
        );
        self.expect(&script, "monitor", Exit::NotRunning, "before the start");
        self.expect(&script, "stop", Exit::Success, "before the start");
        assert_eq!(
            fingerprint(&script),
            before,
            "what a probe, a monitor and a stop changed"
        );

        self.expect(&script, "start", Exit::Success, "");
        let started = fingerprint(&script);
        self.expect(&script, "start", Exit::Success, "a second time");
        assert_eq!(
            fingerprint(&script),
            started,
            "what the second start changed"
        );
        for level in [0, 5, 10, 20, 30] {
            let mut call = call("monitor", self.params.clone());
            call.level = level;
            let outcome = run::<A>(&script, &call);
            assert_eq!(
                outcome.exit,
                Exit::Success,
                "monitor at level {level}: {outcome:?}"
            );
            assert_eq!(outcome.reason, None, "a healthy monitor is silent");
        }
        assert_eq!(
            self.probe(&script).exit,
            Exit::Success,
            "a probe after the start"
        );
        assert_eq!(fingerprint(&script), started, "what monitors changed");

        self.expect(&script, "stop", Exit::Success, "");
        self.expect(&script, "monitor", Exit::NotRunning, "after the stop");
        self.expect(&script, "stop", Exit::Success, "a second time");
        assert_eq!(
            fingerprint(&script),
            before,
            "what start and stop left behind"
        );
        self.expect(&script, "validate-all", Exit::Success, "");
        self.expect(&script, "no-such-action", Exit::Unimplemented, "");
    }

    /// A machine on which `action` is the next thing to happen.
    fn ready_for(&self, action: &str) -> Script {
        let script = (self.machine)();
        if action != "start" {
            self.expect(&script, "start", Exit::Success, "");
        }
        script.clear_steps();
        script
    }

    /// The action, with a fault at each of its steps in turn; and life must go on.
    fn survives(&self, action: &str, fault: Fault) {
        let script = self.ready_for(action);
        self.act(&script, action);
        let steps = script.steps();
        for (at, step) in steps.iter().enumerate() {
            let script = self.ready_for(action);
            let before = (self.machine)();
            let when = format!("with {fault:?} of {action}'s step {at}, {step}");
            script.inject(at, fault);
            let begun = script.host(TIMEOUT).now();
            let outcome = unless_killed(|| self.act(&script, action));
            let took = script.host(TIMEOUT).now() - begun;
            if let Some(outcome) = &outcome {
                assert!(took <= TIMEOUT, "{when}: took {took:?} of {TIMEOUT:?}");
                self.must_be_true(&script, action, outcome, &when);
            }
            script.clear_steps();
            // Right at the next action, whichever that is.
            if at % 2 == 1 {
                self.expect(&script, "start", Exit::Success, &format!("after {when}"));
                self.expect(
                    &script,
                    "monitor",
                    Exit::Success,
                    &format!("after {when} and a start"),
                );
            }
            self.expect(&script, "stop", Exit::Success, &format!("after {when}"));
            self.expect(
                &script,
                "monitor",
                Exit::NotRunning,
                &format!("after {when} and a stop"),
            );
            assert_eq!(
                fingerprint(&script),
                fingerprint(&before),
                "what {when} and a stop left behind"
            );
            self.expect(
                &script,
                "start",
                Exit::Success,
                &format!("after {when} and a stop"),
            );
            self.expect(
                &script,
                "monitor",
                Exit::Success,
                &format!("after {when}, a stop and a start"),
            );
        }
    }

    /// What an action said, compared with what a look afterwards, without faults, shows.
    fn must_be_true(&self, script: &Script, action: &str, outcome: &Outcome, when: &str) {
        let silent = matches!(outcome.exit, Exit::Success | Exit::NotRunning);
        match &outcome.reason {
            Some(reason) => {
                assert!(!silent, "{when}: {outcome:?} has a reason");
                assert!(
                    !reason.is_empty() && !reason.contains('\n'),
                    "{when}: {outcome:?} is not one line"
                );
            }
            None => assert!(silent, "{when}: {outcome:?} has no reason"),
        }
        let truth = self.act(script, "monitor");
        match (action, outcome.exit) {
            ("start", Exit::Success) => assert_eq!(
                truth.exit,
                Exit::Success,
                "{when}: said it was started, but {truth:?}"
            ),
            ("stop", Exit::Success) => assert_eq!(
                truth.exit,
                Exit::NotRunning,
                "{when}: said it was stopped, but {truth:?}"
            ),
            ("stop", exit) => assert_eq!(exit, Exit::Generic, "{when}"),
            ("monitor", Exit::Success) => assert_eq!(
                truth.exit,
                Exit::Success,
                "{when}: said it runs, but {truth:?}"
            ),
            ("monitor", exit) => {
                assert_eq!(exit, Exit::Generic, "{when}: in doubt the answer is 1")
            }
            ("start", exit) => assert!(
                !matches!(exit, Exit::NotRunning | Exit::NotConfigured),
                "{when}: {outcome:?}"
            ),
            _ => {}
        }
    }

    fn needs_no_parameters_to_stop(&self) {
        let virgin = (self.machine)();
        let outcome = run::<A>(&virgin, &call("stop", BTreeMap::new()));
        assert_eq!(
            outcome.exit,
            Exit::Success,
            "stop without parameters where nothing was started: {outcome:?}"
        );

        let garbage: BTreeMap<String, String> = self
            .params
            .keys()
            .map(|name| (name.clone(), "?! no such thing ?!".into()))
            .collect();
        for params in [BTreeMap::new(), garbage] {
            let script = self.ready_for("stop");
            let outcome = run::<A>(&script, &call("stop", params.clone()));
            assert_eq!(
                outcome.exit,
                Exit::Success,
                "stop with the parameters {params:?}: {outcome:?}"
            );
            self.expect(
                &script,
                "monitor",
                Exit::NotRunning,
                &format!("after a stop with the parameters {params:?}"),
            );
        }
    }

    fn names_missing_parameters(&self) {
        for parameter in crate::parameters::<A>()
            .iter()
            .filter(|parameter| parameter.required)
        {
            let script = (self.machine)();
            let mut params = self.params.clone();
            params.remove(&parameter.name);
            for action in ["start", "validate-all"] {
                let outcome = run::<A>(&script, &call(action, params.clone()));
                assert_eq!(
                    outcome.exit,
                    Exit::NotConfigured,
                    "{action} without {}: {outcome:?}",
                    parameter.name
                );
                let reason = outcome.reason.unwrap_or_default();
                assert!(
                    reason.contains(&parameter.name),
                    "\"{reason}\" does not name {}",
                    parameter.name
                );
            }
        }
    }

    /// Monitors run at any time, several at once: they must not disturb each other.
    fn answers_many_at_once(&self) {
        let script = self.ready_for("monitor");
        let monitors: Vec<_> = (0..8)
            .map(|_| {
                let (script, call) = (script.clone(), call("monitor", self.params.clone()));
                thread::spawn(move || run::<A>(&script, &call))
            })
            .collect();
        for monitor in monitors {
            let outcome = monitor.join().unwrap_or_else(|panic| resume_unwind(panic));
            assert_eq!(
                outcome.exit,
                Exit::Success,
                "one of several monitors at once: {outcome:?}"
            );
        }
    }
}

/// Runs an action to its end, or to the SIGKILL that a test injected.
fn unless_killed(action: impl FnOnce() -> Outcome) -> Option<Outcome> {
    match catch_unwind(AssertUnwindSafe(action)) {
        Ok(outcome) => Some(outcome),
        Err(panic) if panic.is::<Killed>() => None,
        Err(panic) => resume_unwind(panic),
    }
}

/// All that an agent could have changed: the network's tables, and every file.
fn fingerprint(script: &Script) -> String {
    let mut network = String::new();
    script.network().look(|namespace, tables| {
        let Tables {
            addresses,
            labels,
            routes,
            blocks,
            ..
        } = tables;
        network += &format!("{namespace:?}\n{addresses:?}\n{labels:?}\n{routes:?}\n{blocks:?}\n");
    });
    let mut files = Vec::new();
    let root = script.path("/");
    list(&root, &root, &mut files);
    format!("{network}\n{}", files.join("\n"))
}

fn list(root: &Path, dir: &Path, files: &mut Vec<String>) {
    let mut entries: Vec<_> = std::fs::read_dir(dir)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path())
        .collect();
    entries.sort();
    for path in entries {
        if path.is_dir() && !path.is_symlink() {
            // Elsewhere an empty directory is nothing: a mountpoint, the place for hints.
            if path.starts_with(root.join("sys")) {
                files.push(format!(
                    "{}/",
                    path.strip_prefix(root).unwrap_or(&path).display()
                ));
            }
            list(root, &path, files);
        } else if path.file_name().is_some_and(|name| name == "txgs") {
            // ZFS's transaction groups go on by themselves.
        } else {
            let content = std::fs::read(&path).unwrap_or_default();
            let name = path.strip_prefix(root).unwrap_or(&path).display();
            files.push(format!("{name}: {}", String::from_utf8_lossy(&content)));
        }
    }
}
