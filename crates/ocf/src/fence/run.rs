//! The life of a request, from what was given to the exit code.

use std::fmt::Write as _;
use std::io::{self, IsTerminal, Read, Write as _};
use std::os::fd::AsFd;
use std::process::ExitCode;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail, ensure};
use host::{Deadline, Host};
use log::{LevelFilter, info, warn};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use zeroize::Zeroizing;

use super::{Action, Fence, Power, Request, Task, guard, man, meta, parameters};
use crate::log::{Discreet, redacted};
use crate::{ParameterKind, Secret, params};

/// The exit codes of FenceAgentAPI.
const SUCCESS: u8 = 0;
const FAILURE: u8 = 1;
const OFF: u8 = 2;

/// How long the one who calls may take to say what he wants.
const PATIENCE: Duration = Duration::from_secs(10);
/// More than all parameters together ever are.
const LONGEST_INPUT: u64 = 1 << 20;
/// A reason is one line in the cluster's log.
const LONGEST_REASON: usize = 600;
/// How much later than the action's own end the process is ended from outside of it.
const GRACE: Duration = Duration::from_secs(1);

/// What a request comes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// The exit code: 0, 1, or 2 for a `status` that is "off".
    pub code: u8,
    /// Why it failed, in one line.
    pub reason: Option<String>,
    /// What is printed on standard output.
    pub stdout: String,
}

impl Outcome {
    fn code(code: u8) -> Outcome {
        Outcome {
            code,
            reason: None,
            stdout: String::new(),
        }
    }

    fn text(stdout: String) -> Outcome {
        Outcome {
            stdout,
            ..Outcome::code(SUCCESS)
        }
    }

    fn failed(error: &anyhow::Error) -> Outcome {
        Outcome {
            reason: Some(one_line(&format!("{error:#}"))),
            ..Outcome::code(FAILURE)
        }
    }
}

/// The whole of a fence agent's `main`.
#[expect(
    clippy::disallowed_methods,
    reason = "the one place where arguments and clock are first read"
)]
pub fn main<F: Fence>() -> ExitCode {
    let started = Instant::now();
    guard::fail_on_panic(F::NAME);
    guard::hide_memory();
    let words = std::env::args_os().skip(1);
    let words: Vec<String> = words
        .map(|word| word.to_string_lossy().into_owned())
        .collect();
    let request = match words.is_empty() {
        true => input().and_then(|text| Request::from_lines(&text, &F::command())),
        false => Request::from_options(&words, &F::command()),
    };
    let request = match request {
        Ok(request) => request,
        Err(error) => return print::<F>(&Outcome::failed(&error), &[]),
    };
    let secrets = secrets::<F>(&request);
    let (limit, delay) = times::<F>(&request);
    let host = Host::linux(Deadline::after(started, limit + delay));
    start_log::<F>(&request, &secrets, &host);
    guard::heed_signals();
    guard::end_after(limit + delay + GRACE, F::NAME);
    print::<F>(
        &execute::<F>(&request, &host, &guard::interrupted),
        &secrets,
    )
}

/// All of standard input, if its end comes soon.
fn input() -> Result<Zeroizing<String>> {
    let stdin = io::stdin();
    ensure!(
        !stdin.is_terminal(),
        "no option given, and no name=value lines on standard input; see --help"
    );
    let mut bytes = Zeroizing::new(Vec::new());
    #[expect(clippy::disallowed_methods, reason = "there is no host yet")]
    let ends = Instant::now() + PATIENCE;
    loop {
        #[expect(clippy::disallowed_methods, reason = "there is no host yet")]
        let left = ends.saturating_duration_since(Instant::now());
        let mut polled = [PollFd::new(stdin.as_fd(), PollFlags::POLLIN)];
        let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
        match poll(&mut polled, timeout) {
            Ok(0) => bail!(
                "timed out: standard input did not end within {} s",
                PATIENCE.as_secs()
            ),
            Ok(_) => {}
            Err(Errno::EINTR) => continue,
            // It is closed: nothing was given.
            Err(Errno::EBADF) => break,
            Err(errno) => bail!("waiting for standard input: {errno}"),
        }
        let mut part = Zeroizing::new([0; 4096]);
        match stdin.lock().read(&mut part[..]) {
            Ok(0) => break,
            Ok(count) => bytes.extend_from_slice(part.get(..count).unwrap_or_default()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => bail!("reading standard input: {error}"),
        }
        ensure!(
            bytes.len() as u64 <= LONGEST_INPUT,
            "standard input has more than {LONGEST_INPUT} bytes; expected name=value lines"
        );
    }
    Ok(Zeroizing::new(String::from_utf8_lossy(&bytes).into_owned()))
}

/// What may not be said.
fn secrets<F: Fence>(request: &Request) -> Vec<Secret> {
    parameters::<F>()
        .iter()
        .filter(|parameter| parameter.secret)
        .filter_map(|parameter| request.params.get(&parameter.name))
        .map(Secret::new)
        .collect()
}

/// How long the action may take, and what comes before it.
fn times<F: Fence>(request: &Request) -> (Duration, Duration) {
    let action = Action::named(&request.action).unwrap_or(Action::Metadata);
    match parse::<F>(request) {
        Ok(agent) if action.acts() => (agent.limit(action), agent.common().delay.into()),
        Ok(agent) => (agent.limit(action), Duration::ZERO),
        // It ends at once, with that reason.
        Err(_) => (PATIENCE, Duration::ZERO),
    }
}

fn start_log<F: Fence>(request: &Request, secrets: &[Secret], host: &Host) {
    let on = |name: &str| {
        let value = request.params.get(name);
        value.is_some_and(|value| value.parse().is_ok_and(crate::Flag::is_on))
    };
    let level = match (on("quiet"), on("verbose")) {
        (true, _) => LevelFilter::Error,
        (_, true) => LevelFilter::Debug,
        _ => LevelFilter::Info,
    };
    let opened = request
        .params
        .get("debug_file")
        .map(|path| host.log_file(path));
    let (file, problem) = match opened {
        None => (None, None),
        Some(Ok(file)) => (Some(Mutex::new(file)), None),
        Some(Err(error)) => (None, Some(error)),
    };
    Discreet {
        name: F::NAME,
        level,
        file,
        secrets: secrets.to_vec(),
    }
    .start();
    if let Some(error) = problem {
        warn!("going on without debug_file: {error:#}");
    }
}

/// Prints an outcome. A reader that has gone away changes nothing: the exit code is what counts.
/// That what was asked for cannot be written anywhere is a failure.
fn print<F: Fence>(outcome: &Outcome, secrets: &[Secret]) -> ExitCode {
    let mut stdout = io::stdout();
    let written = stdout
        .write_all(outcome.stdout.as_bytes())
        .and_then(|()| stdout.flush());
    let failed = written
        .err()
        .filter(|error| error.kind() != io::ErrorKind::BrokenPipe);
    let failed = failed.map(|error| format!("writing the output: {error}"));
    if let Some(reason) = failed.as_ref().or(outcome.reason.as_ref()) {
        let reason = redacted(reason.clone(), secrets);
        // As one write: other processes may write there too.
        let _ = io::stderr().write_all(format!("{}: {reason}\n", F::NAME).as_bytes());
    }
    ExitCode::from(match failed {
        Some(_) => FAILURE,
        None => outcome.code,
    })
}

fn one_line(text: &str) -> String {
    let mut line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    if let Some((cut, _)) = line.char_indices().nth(LONGEST_REASON) {
        line.truncate(cut);
        line.push_str("...");
    }
    line
}

fn parse<F: Fence>(request: &Request) -> Result<F> {
    params::fill(&mut F::command(), &request.params).map_err(|reason| anyhow!(reason))
}

/// Carries out a request: what [`main`] does, without the process around it. `interrupted` tells
/// whether a signal asked for the end.
///
/// Which exit code an action may have is decided here: 2 from `status` only.
pub fn execute<F: Fence>(
    request: &Request,
    host: &Host,
    interrupted: &dyn Fn() -> bool,
) -> Outcome {
    let on = |name: &str| request.params.get(name).is_some_and(|value| value == "1");
    if on("help") {
        return Outcome::text(usage::<F>());
    }
    if on("version") {
        let command = F::command();
        let version = command.get_version().unwrap_or_default();
        return Outcome::text(format!("{} {version}\n", F::NAME));
    }
    // What needs no parameters comes first: it is asked for without any, and with wrong ones.
    match Action::named(&request.action) {
        Some(Action::Metadata) => Outcome::text(meta::metadata::<F>()),
        Some(Action::Manpage) => Outcome::text(man::page::<F>()),
        Some(action) => {
            for warning in &request.warnings {
                warn!("{warning}");
            }
            carry_out::<F>(action, request, host, interrupted)
        }
        None => Outcome::failed(&anyhow!(
            "parameter action: \"{}\" is an unrecognised action; expected one of {}",
            request
                .action
                .chars()
                .take(40)
                .collect::<String>()
                .escape_debug(),
            actions()
        )),
    }
}

fn carry_out<F: Fence>(
    action: Action,
    request: &Request,
    host: &Host,
    interrupted: &dyn Fn() -> bool,
) -> Outcome {
    let agent: F = match parse(request) {
        Ok(agent) => agent,
        Err(error) => return Outcome::failed(&error),
    };
    let task = Task::new(host, action, request.nodename.as_deref(), interrupted);
    let result = agent.check().and_then(|()| act(&agent, &task));
    result.unwrap_or_else(|error| Outcome::failed(&error))
}

fn act<F: Fence>(agent: &F, task: &Task) -> Result<Outcome> {
    let action = task.action();
    let delay = Duration::from(agent.common().delay);
    if matches!(action, Action::Off | Action::Reboot) && !delay.is_zero() {
        info!(
            "{} waits for {:.1} s, as delay asks for",
            action.name(),
            delay.as_secs_f32()
        );
        task.pause(delay).context("during the delay")?;
    }
    match action {
        Action::On => agent.on(task)?,
        Action::Off => agent.off(task)?,
        Action::Reboot => agent.reboot(task)?,
        Action::Status => {
            return Ok(match agent.power(task)? {
                Power::On => Outcome::code(SUCCESS),
                Power::Off => Outcome::code(OFF),
            });
        }
        Action::Monitor => {
            remark(agent, task);
            agent.monitor(task)?;
        }
        Action::ValidateAll => remark(agent, task),
        Action::List => return list(agent),
        Action::ListStatus => return list_status(agent, task),
        Action::Diag => return agent.diag(task).map(Outcome::text),
        Action::Metadata | Action::Manpage => {}
    }
    Ok(Outcome::code(SUCCESS))
}

fn remark<F: Fence>(agent: &F, task: &Task) {
    for remark in agent.remarks(task) {
        warn!("{remark}");
    }
}

fn list<F: Fence>(agent: &F) -> Result<Outcome> {
    let mut text = String::new();
    for target in agent.targets()? {
        let _ = writeln!(text, "{},{}", target.name, target.alias);
    }
    Ok(Outcome::text(text))
}

fn list_status<F: Fence>(agent: &F, task: &Task) -> Result<Outcome> {
    let targets = agent.targets()?;
    let power = agent.power(task);
    let word = match &power {
        Ok(Power::On) => "ON",
        Ok(Power::Off) => "OFF",
        Err(_) => "UNKNOWN",
    };
    let mut text = String::new();
    for target in targets {
        let _ = writeln!(text, "{},{},{word}", target.name, target.alias);
    }
    let failed = power.err().map(|error| Outcome::failed(&error));
    let outcome = failed.unwrap_or_else(|| Outcome::code(SUCCESS));
    Ok(Outcome {
        stdout: text,
        ..outcome
    })
}

fn actions() -> String {
    let names: Vec<&str> = Action::ALL.iter().map(|(_, name, _)| *name).collect();
    names.join(", ")
}

fn usage<F: Fence>() -> String {
    let command = F::command();
    let name = F::NAME;
    let about = command.get_about().map(ToString::to_string);
    let mut text = format!(
        "{}\n\nusage: {name} [OPTION ...]\n\n",
        about.unwrap_or_default()
    );
    let _ = writeln!(
        text,
        "Without options, name=value lines on standard input: the long names without --.\n"
    );
    for parameter in parameters::<F>() {
        let short = parameter.short.map(|letter| format!("-{letter}, "));
        let value = match parameter.kind {
            ParameterKind::Boolean => "",
            _ => "=VALUE",
        };
        let option = format!(
            "{}--{}{value}",
            short.unwrap_or_else(|| "    ".into()),
            parameter.name.replace('_', "-")
        );
        let default = parameter
            .default
            .filter(|_| parameter.kind != ParameterKind::Boolean);
        let default = default.map(|value| format!(" (default {value})"));
        let default = default.unwrap_or_default();
        let _ = writeln!(text, "  {option:<34} {}{default}", parameter.summary);
    }
    let _ = writeln!(text, "\nActions: {}", actions());
    let _ = writeln!(text, "All about each of them: {name} -o manpage | man -l -");
    text
}
