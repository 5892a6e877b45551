//! The agent by itself, on a real kernel: its whole life, killed in the middle of everything, and ocf-tester.

use anyhow::{Context, Result};

use super::super::exec;
use super::super::guests::Guests;
use super::super::storage::Disk;
use super::super::writer::PROGRAM;
use super::{AGENT, INITIATORS, LISTING, listing};

/// Where what a stop has to come to is kept: the target before everything, and a script that compares.
const BEFORE: &str = "/run/target-before";
const COMPARE: &str = "/run/target-compare";

/// Killed at some system calls.
pub fn some(lab: &Guests) -> Result<()> {
    let parameters = prepare(lab)?;
    life(&parameters, &["--every", "40"])?;
    let mut words = vec!["ocf-tester".to_owned(), "-n".into(), "target".into()];
    for parameter in parameters {
        words.extend(["-o".into(), parameter]);
    }
    words.push(AGENT.into());
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    exec::output("n1", &words, b"").map(drop)
}

/// Killed at every system call of start, and so at every step in configfs; and at every one of stop.
pub fn every(lab: &Guests) -> Result<()> {
    let parameters = prepare(lab)?;
    for action in ["start", "stop"] {
        life(
            &parameters,
            &["--only", &format!("killed at any system call of {action}")],
        )?;
    }
    Ok(())
}

/// The parameters of a target with a bit of everything. What is there before is written down.
fn prepare(lab: &Guests) -> Result<Vec<String>> {
    let disks = lab.local_disks("n1", 2, "64M")?;
    let paths: Vec<String> = disks.iter().map(Disk::path).collect();
    let [one, two] = &paths[..] else {
        anyhow::bail!("two disks were to be added, and these are there: {paths:?}")
    };
    exec::output(
        "n1",
        &["sh", "-c", &format!("cat >{BEFORE}")],
        listing("n1")?.as_bytes(),
    )?;
    let compare = format!(
        "set -e
({LISTING}) >/run/target-now
diff {BEFORE} /run/target-now
for disk in {one} {two}; do {PROGRAM} hold --path $disk --how excl --once >/dev/null; done
"
    );
    let keep = format!("mkdir -p /var/lib/hastor-lab-pr && cat >{COMPARE}");
    exec::output("n1", &["sh", "-c", &keep], compare.as_bytes())?;
    Ok(vec![
        "iqn=iqn.2026-01.example.hastor:conformance".into(),
        "portals=192.0.2.1:3260 [2001:db8::1]:3260".into(),
        format!("allowed_initiators={}", INITIATORS.join(" ")),
        "incoming_username=lab".into(),
        "incoming_password=lab-secret-of-16".into(),
        "outgoing_username=target".into(),
        "outgoing_password=target-secret-of-19".into(),
        "additional_parameters=DefaultTime2Retain=0".into(),
        "aptpl_dir=/var/lib/hastor-lab-pr".into(),
        format!("luns=1={one} 2={two}"),
    ])
}

/// After each stop the kernel's target is as it was, and the disks can be opened exclusively.
fn life(parameters: &[String], options: &[&str]) -> Result<()> {
    let compare = format!("sh {COMPARE}");
    let mut words = vec![PROGRAM, "conformance", AGENT, "--between", &compare];
    words.extend(options);
    words.extend(parameters.iter().map(String::as_str));
    exec::output("n1", &words, b"")
        .map(drop)
        .context("conformance")
}
