//! Measurements: the agent `vip` against the agent IPaddr2 of resource-agents and against `/bin/true`.
//!
//! This program builds, reports and writes the files; a second process of it measures, as process 1 of namespaces of
//! its own ([`stage`]), and sends what it finds as lines of JSON.

pub mod fencing;
mod goals;
mod inspect;
mod measure;
mod plot;
mod results;
mod schedule;
mod stack;
mod stage;
mod subject;
mod surroundings;
mod table;

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use clap::Args;
use serde::{Deserialize, Serialize};

use crate::progress::say;
use crate::{agents, packages, progress};
use results::Results;
use subject::Subjects;

/// What can be said on the command line.
#[derive(Args, Clone, Copy)]
pub struct Options {
    /// Runs of each program in each group of fast actions; start and stop get fewer
    #[arg(long, value_name = "N", default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    runs: u32,
    /// The fence agent's status instead of the agents
    #[arg(long)]
    fencing: bool,
    /// The stack zfs-iscsi against the same of the peers' agents, on virtual machines: so many moves and power losses
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1000))]
    stack: Option<u32>,
    /// LUNs of each pool of the stack; left out, both 1 and 8
    #[arg(long, value_name = "N", requires = "stack", value_parser = clap::value_parser!(u32).range(1..=64))]
    luns: Option<u32>,
}

/// What the measuring process says, one per line.
#[derive(Serialize, Deserialize)]
enum Message {
    Progress(String),
    Done(Box<Results>),
}

/// Builds, measures and reports.
pub fn run(options: Options) -> Result<()> {
    if options.fencing {
        return fencing::run(options.runs);
    }
    if let Some(times) = options.stack {
        return stack::run(times, options.luns.map(|luns| luns as usize));
    }
    progress::begin();
    packages::install()?;
    say("agents: building");
    let vip = executable("vip")?;
    let subjects = Subjects::new(vip)?;
    let machine = surroundings::machine();
    say(format_args!("machine: {machine}"));
    let before = surroundings::busy()?;
    say(format_args!(
        "machine: other work keeps its processors {before:.0} % busy"
    ));
    let results = measured(&subjects, options)?;
    let after = surroundings::busy()?;

    let directory = output_directory();
    fs::create_dir_all(&directory).with_context(|| format!("creating {}", directory.display()))?;
    let (csv, svg) = (directory.join("vip.csv"), directory.join("vip.svg"));
    fs::write(&csv, results::csv(&results))
        .with_context(|| format!("writing {}", csv.display()))?;
    fs::write(&svg, plot::svg(&results)?).with_context(|| format!("writing {}", svg.display()))?;

    println!("\n{machine}");
    println!(
        "processors busy with other work: {before:.0} % before, {after:.0} % after{}",
        surroundings::warning(before.max(after))
    );
    println!("\n{}", table::text(&results));
    println!("{}", goals::text(&goals::all(&results)));
    println!("{}\n{}", csv.display(), svg.display());
    Ok(())
}

/// The measuring process: process 1 of the namespaces that [`measured`] made.
pub fn measure(vip: PathBuf, options: Options) -> Result<()> {
    stage::enter()?;
    measure::watch();
    let mut said = |text: String| send(&Message::Progress(text));
    let results = schedule::run(&Subjects::new(vip)?, options.runs as usize, &mut said)?;
    send(&Message::Done(Box::new(results)))
}

fn send(message: &Message) -> Result<()> {
    let mut out = std::io::stdout().lock();
    serde_json::to_writer(&mut out, message)?;
    out.write_all(b"\n")?;
    out.flush().context("telling the results")
}

/// Runs the measuring process and passes its progress on.
fn measured(subjects: &Subjects, options: Options) -> Result<Results> {
    stage::leave_machine()?;
    let mut child = Command::new("/proc/self/exe")
        .arg("measure")
        .arg(&subjects.vip)
        .args(["--runs", &options.runs.to_string()])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .context("starting the measuring process")?;
    let mut found = None;
    if let Some(out) = child.stdout.take() {
        for line in BufReader::new(out).lines() {
            let line = line.context("reading from the measuring process")?;
            match serde_json::from_str(&line).with_context(|| format!("reading {line:?}"))? {
                Message::Progress(text) => say(text),
                Message::Done(results) => found = Some(*results),
            }
        }
    }
    let status = child.wait().context("waiting for the measuring process")?;
    match found {
        Some(results) if status.success() => Ok(results),
        _ => bail!("the measuring process failed ({status})"),
    }
}

fn executable(name: &str) -> Result<PathBuf> {
    let built = agents::build()?;
    let found = built
        .into_iter()
        .find(|path| path.file_name().is_some_and(|found| found == name));
    found.with_context(|| format!("cargo built no {name}"))
}

/// Beside what cargo writes, so that `cargo clean` removes it too.
fn output_directory() -> PathBuf {
    agents::root().join("target/lab/bench")
}
