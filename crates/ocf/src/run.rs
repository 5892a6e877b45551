//! The life of an action, from the call to the exit code. What every agent has in common stands
//! here once: looking before and after, taking back what failed, and what each error means.

use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Error, Result, anyhow, ensure};
use host::{Deadline, Host};
use log::{debug, error, warn};

use crate::{Agent, Call, Depth, Exit, Failure, Node, State, classify, man, meta, params};

/// What Pacemaker gives an action that says nothing about its timeout.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(20);
/// An exit reason is shown on one line of a status display.
const LONGEST_REASON: usize = 400;
const REASON_PREFIX: &str = "ocf-exit-reason:";
/// The hint under which the parameters of a start are kept for a stop that has none.
const PARAMETERS: &str = "parameters";

/// What an action comes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// The exit code.
    pub exit: Exit,
    /// Why, in one line, unless all is well.
    pub reason: Option<String>,
    /// What is printed on standard output.
    pub stdout: String,
}

impl Outcome {
    fn plain(exit: Exit) -> Outcome {
        Outcome {
            exit,
            reason: None,
            stdout: String::new(),
        }
    }

    fn text(stdout: String) -> Outcome {
        Outcome {
            stdout,
            ..Outcome::plain(Exit::Success)
        }
    }

    fn because(exit: Exit, reason: String) -> Outcome {
        Outcome {
            reason: Some(reason),
            ..Outcome::plain(exit)
        }
    }

    fn failed(exit: Exit, error: &Error) -> Outcome {
        Outcome::because(exit, one_line(&format!("{error:#}")))
    }
}

/// The whole of an agent's `main`.
#[expect(
    clippy::disallowed_methods,
    reason = "the one place where arguments, environment and clock are first read"
)]
pub fn main<A: Agent>() -> ExitCode {
    let started = std::time::Instant::now();
    install_panic_hook();
    let arguments = std::env::args_os().skip(1);
    let arguments = arguments.map(|argument| argument.to_string_lossy().into_owned());
    let call = match Call::new(arguments, environment()) {
        Ok(call) => call,
        Err(error) => return print(&Outcome::failed(Exit::Args, &error), None),
    };
    crate::log::start(A::NAME, &call);
    let timeout = call
        .timeout()
        .or(advertised_timeout::<A>(&call.action))
        .unwrap_or(DEFAULT_TIMEOUT);
    let host = Host::linux(Deadline::of_action(started, timeout));
    let outcome = execute::<A>(&call, &host);
    // A tool that runs validate-all itself reads lines of this form (crmsh).
    if let ("validate-all", Some(reason), None) =
        (call.action.as_str(), &outcome.reason, &call.reason_prefix)
    {
        say(&format!("ERROR: {reason}"));
    }
    print(&outcome, call.reason_prefix.as_deref())
}

/// The environment, as far as it is text.
#[expect(clippy::disallowed_methods, reason = "read once, here")]
fn environment() -> impl Iterator<Item = (String, String)> {
    std::env::vars_os().map(|(name, value)| {
        (
            name.to_string_lossy().into_owned(),
            value.to_string_lossy().into_owned(),
        )
    })
}

fn advertised_timeout<A: Agent>(action: &str) -> Option<Duration> {
    let operation = A::OPERATIONS
        .iter()
        .find(|operation| operation.name == action)?;
    Some(Duration::from_secs(operation.timeout.into()))
}

/// An error in the agent itself ends as a reason and exit code 1, not as a signal.
fn install_panic_hook() {
    std::panic::set_hook(Box::new(|panic| {
        let what = panic
            .payload()
            .downcast_ref::<&str>()
            .map(ToString::to_string);
        let what = what
            .or(panic.payload().downcast_ref::<String>().cloned())
            .unwrap_or_default();
        let place = panic
            .location()
            .map(ToString::to_string)
            .unwrap_or_default();
        let reason = one_line(&format!("internal error at {place}: {what}"));
        say(&format!("{REASON_PREFIX}{reason}"));
        #[expect(clippy::disallowed_methods, reason = "there is nowhere to return to")]
        std::process::exit(Exit::Generic as i32);
    }));
}

/// Prints an outcome. A reader that has gone away changes nothing: the exit code is what counts.
/// That what was asked for cannot be written anywhere is a failure.
fn print(outcome: &Outcome, prefix: Option<&str>) -> ExitCode {
    let mut stdout = io::stdout();
    let written = stdout
        .write_all(outcome.stdout.as_bytes())
        .and_then(|()| stdout.flush());
    let failed = written
        .err()
        .filter(|error| error.kind() != io::ErrorKind::BrokenPipe);
    let failed = failed.map(|error| format!("writing the output: {error}"));
    if let Some(reason) = failed.as_ref().or(outcome.reason.as_ref()) {
        say(&format!("{}{reason}", prefix.unwrap_or(REASON_PREFIX)));
    }
    match failed {
        Some(_) => ExitCode::from(Exit::Generic as u8),
        None => ExitCode::from(outcome.exit as u8),
    }
}

/// A line on standard error, as one write: other processes may write there too.
fn say(line: &str) {
    let _ = io::stderr().write_all(format!("{line}\n").as_bytes());
}

/// Text as one line: Pacemaker reads a reason up to its first line break.
fn one_line(text: &str) -> String {
    let mut line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    if let Some((cut, _)) = line.char_indices().nth(LONGEST_REASON) {
        line.truncate(cut);
        line.push_str("...");
    }
    line
}

/// Carries out a call: what [`main`] does, without the process around it.
///
/// Which exit codes an action may have is decided here. Codes 2, 4, 5 and 6 ban a resource from
/// a node or from all of them, so only what comes before a resource runs may say them: start,
/// validate-all, promote and reload-agent. From a monitor, 6 would stop a running service
/// everywhere, and from a stop anything but 0 gets the node fenced: there, every error is 1.
pub fn execute<A: Agent>(call: &Call, host: &Host) -> Outcome {
    let node = Node::new(host, call, A::NAME);
    let offers = |action: &str| {
        A::OPERATIONS
            .iter()
            .any(|operation| operation.name == action)
    };
    match call.action.as_str() {
        "meta-data" => Outcome::text(meta::metadata::<A>()),
        "man" => Outcome::text(man::page::<A>()),
        "usage" | "help" | "--help" | "-h" => Outcome::text(usage::<A>()),
        "validate-all" => with_parameters(call, |agent: A| validate(&agent, &node)),
        "start" => with_parameters(call, |agent: A| start(&agent, &node)),
        "promote" if offers("promote") => with_parameters(call, |agent: A| agent.promote(&node)),
        "reload-agent" if offers("reload-agent") => with_parameters(call, |agent: A| {
            agent.reload(&node)?;
            remember(&node);
            Ok(())
        }),
        "monitor" | "status" => monitor::<A>(&node),
        "stop" => as_generic(stop::<A>(&node)),
        "demote" if offers("demote") => as_generic(demote::<A>(&node)),
        "notify" if offers("notify") => {
            if let Err(error) = parameters::<A>(call)
                .map_err(Error::from)
                .and_then(|agent| agent.notify(&node))
            {
                warn!("{error:#}");
            }
            Outcome::plain(Exit::Success)
        }
        action if A::COMMANDS.iter().any(|(name, _)| *name == action) => {
            let mut text = String::new();
            let outcome = with_parameters(call, |agent: A| {
                text = agent.by_hand(&node, action)?;
                Ok(())
            });
            match outcome.exit {
                Exit::Success => Outcome::text(text),
                _ => outcome,
            }
        }
        action => {
            let mut reason = format!("{} has no action \"{action}\"", A::NAME);
            let _ = write!(reason, "; it has {}", actions::<A>().join(", "));
            Outcome::because(Exit::Unimplemented, reason)
        }
    }
}

/// The parameters, valid each by itself and taken together.
fn parameters<A: Agent>(call: &Call) -> Result<A, Failure> {
    let agent: A = params::parse_typed(&call.params, &call.typed)?;
    match agent.check() {
        Ok(()) => Ok(agent),
        Err(error) => Err(match classify(&error) {
            Exit::Generic => Exit::NotConfigured.because(format!("{error:#}")),
            exit => exit.because(format!("{error:#}")),
        }),
    }
}

/// An action that needs its parameters, and whose errors may ban the resource.
fn with_parameters<A: Agent>(call: &Call, action: impl FnOnce(A) -> Result<()>) -> Outcome {
    match parameters::<A>(call).map_err(Error::from).and_then(action) {
        Ok(()) => Outcome::plain(Exit::Success),
        Err(error) => Outcome::failed(classify(&error), &error),
    }
}

/// An action whose every error is 1.
fn as_generic(result: Result<()>) -> Outcome {
    match result {
        Ok(()) => Outcome::plain(Exit::Success),
        Err(error) => Outcome::failed(Exit::Generic, &error),
    }
}

fn validate<A: Agent>(agent: &A, node: &Node) -> Result<()> {
    if Depth::of_level(node.call().level) > Depth::Quick {
        agent.validate(node)?;
    }
    Ok(())
}

fn start<A: Agent>(agent: &A, node: &Node) -> Result<()> {
    let earlier = started_otherwise::<A>(node).filter(|earlier| is_here(earlier, node));
    // An error is no answer to "does it run already": then it is started.
    let runs = || {
        agent
            .monitor(node, Depth::Quick)
            .is_ok_and(|state| state.is_up())
    };
    if earlier.is_none() && runs() {
        agent.adopt(node)?;
        remember(node);
        return Ok(());
    }
    agent.validate(node)?;
    if let Some(earlier) = earlier {
        take_away(&earlier, node).context("stopping what was started with other parameters")?;
    }
    remember(node);
    bring_up(agent, node).inspect_err(|failure| {
        debug!("taking back a failed start: {failure:#}");
        if let Err(error) = agent.stop(node) {
            warn!("taking back the failed start failed too: {error:#}");
        }
    })
}

fn bring_up<A: Agent>(agent: &A, node: &Node) -> Result<()> {
    agent.start(node)?;
    let state = agent
        .monitor(node, Depth::Quick)
        .context("after the start")?;
    ensure!(
        state.is_up(),
        "start finished, but the resource is not running"
    );
    Ok(())
}

/// Keeps the parameters, for a stop that is given none, or others.
fn remember(node: &Node) {
    let text = parameters_text(node.call());
    if node.hint(PARAMETERS).as_ref() == Some(&text) {
        return;
    }
    if let Err(error) = node.set_hint(PARAMETERS, &text) {
        warn!("only a stop with the same parameters will find what is started now: {error:#}");
    }
}

/// The parameters as a hint has them: one a line, without those that are secret.
fn parameters_text(call: &Call) -> String {
    let mut text = String::new();
    for (name, value) in call.params.iter().filter(|(name, _)| !is_secret(name)) {
        let _ = writeln!(text, "{name}={}", value.replace('\n', " "));
    }
    text
}

/// The names that Pacemaker hides, too.
fn is_secret(name: &str) -> bool {
    name.contains("passw") || name.contains("secret")
}

/// The agent as it was last started here, if that was kept.
fn remembered<A: Agent>(node: &Node) -> Option<A> {
    agent_of(&node.hint(PARAMETERS)?)
}

fn agent_of<A: Agent>(text: &str) -> Option<A> {
    let given = text.lines().filter_map(|line| line.split_once('='));
    let given = given
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    params::parse(&given).ok()
}

/// The agent as it was last started here, if somebody has since changed a parameter that needs a
/// restart: what was started may be something else than what is configured now.
fn started_otherwise<A: Agent>(node: &Node) -> Option<A> {
    let text = node.hint(PARAMETERS)?;
    if identity::<A>(&text) == identity::<A>(&parameters_text(node.call())) {
        return None;
    }
    agent_of(&text)
}

/// The parameters that may not change without a restart.
fn identity<A: Agent>(text: &str) -> Vec<&str> {
    let reloadable = |line: &&str| {
        line.split_once('=')
            .is_some_and(|(name, _)| A::RELOADABLE.contains(&name))
    };
    text.lines().filter(|line| !reloadable(line)).collect()
}

/// Doubt counts as here.
fn is_here<A: Agent>(agent: &A, node: &Node) -> bool {
    !matches!(agent.is_gone(node), Ok(true))
}

/// A stop must work whatever the parameters are now: what is here was started with good ones.
fn stop<A: Agent>(node: &Node) -> Result<()> {
    let earlier = started_otherwise::<A>(node);
    let now = match parameters::<A>(node.call()) {
        Ok(agent) => take_away(&agent, node),
        Err(failure) => {
            ensure!(
                earlier.is_some() || node.hint(PARAMETERS).is_none(),
                "{failure}; and what was started here is noted in a way that cannot be read"
            );
            warn!("stopping what was started here, if anything was: {failure}");
            Ok(())
        }
    };
    // One that cannot be taken away must not save the other.
    let before = earlier.map_or(Ok(()), |earlier| take_away(&earlier, node));
    now.and(before)?;
    // It is gone, and a hint without it means nothing.
    node.forget_hints()
        .unwrap_or_else(|error| warn!("{error:#}"));
    Ok(())
}

/// Stops, and looks whether it is true.
fn take_away<A: Agent>(agent: &A, node: &Node) -> Result<()> {
    // An error is no proof that nothing is here: then it is stopped.
    if !is_here(agent, node) {
        return Ok(());
    }
    agent.stop(node)?;
    if agent.is_gone(node).context("after the stop")? {
        return Ok(());
    }
    let state = agent.monitor(node, Depth::Quick);
    let state = state.map_or_else(|error| format!("{error:#}"), |state| state.to_string());
    Err(anyhow!(
        "stop finished, but the resource is not gone: {state}"
    ))
}

fn demote<A: Agent>(node: &Node) -> Result<()> {
    match parameters::<A>(node.call()) {
        Ok(agent) => agent.demote(node),
        Err(failure) => match remembered::<A>(node) {
            Some(agent) => agent.demote(node),
            None => Err(failure.into()),
        },
    }
}

fn monitor<A: Agent>(node: &Node) -> Outcome {
    let agent = match parameters::<A>(node.call()) {
        Ok(agent) => agent,
        Err(failure) => return monitor_without_parameters::<A>(node, &failure),
    };
    match agent.monitor(node, Depth::of_level(node.call().level)) {
        Ok(State::Stopped) if is_here_otherwise::<A>(node) => Outcome::because(
            Exit::Generic,
            "what was started here with other parameters is still here".into(),
        ),
        Ok(State::Stopped) => Outcome::plain(Exit::NotRunning),
        Ok(State::Running) => Outcome::plain(Exit::Success),
        Ok(State::Promoted) => Outcome::plain(Exit::Promoted),
        Ok(State::Degraded(why)) => Outcome::because(Exit::Degraded, one_line(&why)),
        Ok(State::DegradedPromoted(why)) => {
            Outcome::because(Exit::DegradedPromoted, one_line(&why))
        }
        Err(error) => match classify(&error) {
            Exit::FailedPromoted => Outcome::failed(Exit::FailedPromoted, &error),
            _ => Outcome::failed(Exit::Generic, &error),
        },
    }
}

/// Is something here that was started with other parameters than now?
fn is_here_otherwise<A: Agent>(node: &Node) -> bool {
    started_otherwise::<A>(node).is_some_and(|agent| is_here(&agent, node))
}

/// A probe answers for what was started here, and if that is nothing, so is the answer: the
/// start will say what is wrong with the parameters. A repeated monitor watches something that
/// ought to run, and cannot.
fn monitor_without_parameters<A: Agent>(node: &Node, failure: &Failure) -> Outcome {
    if node.call().is_probe() && !is_here_otherwise::<A>(node) {
        error!("{failure}");
        return Outcome::plain(Exit::NotRunning);
    }
    Outcome::because(Exit::Generic, one_line(&failure.reason))
}

/// The actions of an agent, in the order in which people look for them.
fn actions<A: Agent>() -> Vec<&'static str> {
    let mut names: Vec<&str> = Vec::new();
    for operation in A::OPERATIONS {
        if !names.contains(&operation.name) {
            names.push(operation.name);
        }
    }
    names.extend(["status", "validate-all", "meta-data", "man", "usage"]);
    names.extend(A::COMMANDS.iter().map(|(name, _)| *name));
    names
}

fn usage<A: Agent>() -> String {
    let command = A::command();
    let name = A::NAME;
    let about = command
        .get_about()
        .map(ToString::to_string)
        .unwrap_or_default();
    let mut text = format!(
        "{about}\n\nusage: {name} {{{}}} [--PARAMETER=VALUE ...]\n\n",
        actions::<A>().join("|")
    );
    text.push_str(
        "Pacemaker gives the parameters in the environment, as OCF_RESKEY_PARAMETER.\n\n",
    );
    for parameter in crate::parameters::<A>() {
        let need = match (parameter.required, &parameter.default) {
            (true, _) => " (required)".to_owned(),
            (_, Some(default)) => format!(" (default {default})"),
            _ => String::new(),
        };
        let _ = writeln!(text, "  {:<26} {}{need}", parameter.name, parameter.summary);
    }
    let _ = write!(text, "\nAll about each of them: {name} man | man -l -\n");
    text
}
