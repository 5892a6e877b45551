//! The checks. Each begins and ends with the resource stopped.

use std::os::unix::process::CommandExt;
use std::thread;

use anyhow::{Context, Result, anyhow, bail, ensure};
use nix::unistd::Uid;
use ocf::testing::Finished;

use super::metadata::Metadata;
use super::{PATIENCE, Subject, expect};

/// A check: what there is to tell, if it passes.
type Check = fn(&Subject) -> Result<String>;

/// All of them, in their order.
#[rustfmt::skip] // one line a check
pub const CHECKS: &[(&str, Check)] = &[
    ("meta-data needs neither root nor environment", metadata_is_constant),
    ("an unknown action is refused", refuses_unknown_actions),
    ("validate-all takes the parameters", validates),
    ("a required parameter that is missing is named", names_missing_parameters),
    ("a probe before everything finds nothing", probes),
    ("a stop before everything succeeds", stops_nothing),
    ("a start can be repeated", starts_twice),
    ("a monitor of what runs is silent at every level", monitors_silently),
    ("eight monitors at once", monitors_at_once),
    ("a stop can be repeated", stops_twice),
    ("a stop needs no parameters", stops_without_parameters),
    ("a stop can be given garbage", stops_with_garbage),
    ("killed at any system call of start", |subject| killed(subject, "start")),
    ("killed at any system call of monitor", |subject| killed(subject, "monitor")),
    ("killed at any system call of stop", |subject| killed(subject, "stop")),
];

/// All is well, and there is nothing to add.
fn plainly() -> Result<String> {
    Ok(String::new())
}

fn metadata_is_constant(subject: &Subject) -> Result<String> {
    const NOBODY: u32 = 65534;
    let usual = subject.expect("meta-data", 0)?;
    let mut command = subject.ready("meta-data").command("meta-data");
    command.env_clear();
    let root = Uid::effective().is_root();
    if root {
        command.uid(NOBODY).gid(NOBODY);
    }
    let bare = Finished::of(&mut command, PATIENCE)?;
    expect("meta-data without root and environment", &bare, &[0])?;
    Metadata::parse(&bare.stdout)?;
    ensure!(
        bare.stdout == usual.stdout,
        "it is another one without root and environment"
    );
    ensure!(
        bare.stderr.is_empty(),
        "it says: {}",
        bare.stderr.trim_end()
    );
    match root {
        true => plainly(),
        false => Ok("of the environment only, for we are not root".into()),
    }
}

fn refuses_unknown_actions(subject: &Subject) -> Result<String> {
    subject.expect("no-such-action", 3)?;
    plainly()
}

fn validates(subject: &Subject) -> Result<String> {
    subject.expect("validate-all", 0)?;
    plainly()
}

fn names_missing_parameters(subject: &Subject) -> Result<String> {
    for missing in &subject.metadata.required {
        let mut params = subject.options.params.clone();
        params.retain(|(name, _)| name != missing);
        for action in ["validate-all", "start"] {
            let what = format!("{action} without {missing}");
            let finished = subject.with(action, &params).act(action);
            let finished = finished.with_context(|| what.clone())?;
            expect(&what, &finished, &[2, 6])?;
            let said = finished.reason().unwrap_or(&finished.stderr);
            ensure!(
                said.contains(missing),
                "{what}: \"{said}\" does not name it"
            );
        }
        let nothing = subject.expect("monitor", 7);
        nothing.with_context(|| format!("after a start without {missing}"))?;
    }
    match subject.metadata.required.len() {
        0 => Ok("none is required".into()),
        _ => Ok(subject.metadata.required.join(", ")),
    }
}

fn probes(subject: &Subject) -> Result<String> {
    subject.expect("probe", 7)?;
    subject.expect("monitor", 7)?;
    plainly()
}

fn stops_nothing(subject: &Subject) -> Result<String> {
    subject.stop()?;
    plainly()
}

fn starts_twice(subject: &Subject) -> Result<String> {
    start(subject)?;
    start(subject).context("a second time")?;
    subject.expect("probe", 0)?;
    subject.stop()?;
    plainly()
}

fn monitors_silently(subject: &Subject) -> Result<String> {
    start(subject)?;
    for level in ["", "10", "20"] {
        let mut monitor = subject.ready("monitor");
        if !level.is_empty() {
            monitor = monitor.with("OCF_CHECK_LEVEL", level);
        }
        let finished = monitor.act("monitor")?;
        let what = match level {
            "" => "monitor".to_owned(),
            level => format!("monitor at level {level}"),
        };
        expect(&what, &finished, &[0])?;
        let allowed = |line: &&str| {
            let mut allowed = subject.options.allow.iter();
            !allowed.any(|text| line.contains(text))
        };
        if let Some(line) = finished.stderr.lines().find(allowed) {
            bail!("{what} of what runs says: {line}");
        }
    }
    subject.stop()?;
    plainly()
}

fn monitors_at_once(subject: &Subject) -> Result<String> {
    start(subject)?;
    thread::scope(|scope| {
        let monitors: Vec<_> = (0..8)
            .map(|_| scope.spawn(|| subject.expect("monitor", 0)))
            .collect();
        for monitor in monitors {
            let finished = monitor.join().map_err(|_| anyhow!("a monitor's thread"))?;
            finished.context("one of eight at once")?;
        }
        anyhow::Ok(())
    })?;
    subject.stop()?;
    plainly()
}

fn stops_twice(subject: &Subject) -> Result<String> {
    start(subject)?;
    subject.stop()?;
    subject.stop().context("a second time")?;
    subject.expect("probe", 7)?;
    plainly()
}

fn stops_without_parameters(subject: &Subject) -> Result<String> {
    stop_with(subject, &[]).context("without parameters")
}

fn stops_with_garbage(subject: &Subject) -> Result<String> {
    let names = subject.options.params.iter().map(|(name, _)| name.clone());
    let garbage: Vec<_> = names
        .map(|name| (name, "?! no such thing ?!".to_owned()))
        .collect();
    stop_with(subject, &garbage).context("with garbage")
}

fn stop_with(subject: &Subject, params: &[(String, String)]) -> Result<String> {
    start(subject)?;
    let finished = subject.with("stop", params).act("stop")?;
    expect("stop", &finished, &[0])?;
    subject.is_stopped()?;
    plainly()
}

/// Starts it, and wants it to run.
fn start(subject: &Subject) -> Result<()> {
    subject.expect("start", 0)?;
    subject.expect("monitor", 0).context("after a start")?;
    Ok(())
}

/// Kills an action at its first system call, its second, and so on until it gets to its end; after each, a stop and a
/// start have to work.
fn killed(subject: &Subject, action: &str) -> Result<String> {
    let runs = action != "start";
    if runs {
        start(subject)?;
    }
    let (mut kills, mut call) = (0, 0);
    loop {
        let finished = subject.ready(action).kill_at_call(action, call);
        let finished = finished.with_context(|| format!("at system call {call}"))?;
        let done = finished.is_some();
        if let Some(finished) = finished {
            expect(action, &finished, &[0]).context("where it was not killed")?;
        }
        life_goes_on(subject, action, kills % 2 == 1)
            .with_context(|| format!("after a kill at system call {call} of {action}"))?;
        if done {
            break;
        }
        kills += 1;
        call += subject.options.every as usize;
    }
    if runs {
        subject.stop()?;
    }
    ensure!(kills > 0, "it makes no system call");
    Ok(format!("{kills} kills in about {call} system calls"))
}

/// Whatever state a kill has left, a stop and a start work; at the end it runs if it ran when it was killed.
fn life_goes_on(subject: &Subject, action: &str, otherwise: bool) -> Result<()> {
    match action {
        "monitor" => drop(subject.expect("monitor", 0)?),
        // Right at the next action, whichever that is.
        "start" if otherwise => start(subject)?,
        _ => {}
    }
    subject.stop()?;
    start(subject).context("after a stop")?;
    if action == "start" {
        subject.stop().context("after a start")?;
    }
    Ok(())
}
