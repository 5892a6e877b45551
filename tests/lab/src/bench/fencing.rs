//! `status` of the fence agent, against fence_ipmilan and against ipmitool alone, on one simulated BMC.

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use nix::sched::{CloneFlags, unshare};

use super::{executable, output_directory, surroundings};
use crate::layout::PATH;
use crate::progress::say;
use crate::{agents, packages, progress, switch};

/// Ten times what `ipmi_sim` was seen to need until it answers.
const START: Duration = Duration::from_secs(20);
const WARM_UP: usize = 3;

/// What is compared.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Program {
    Ours,
    OursAuto,
    Peer,
    Tool,
}

/// In the order in which they are shown.
const ALL: [Program; 4] = [
    Program::Ours,
    Program::OursAuto,
    Program::Peer,
    Program::Tool,
];

impl Program {
    fn name(self) -> &'static str {
        match self {
            Program::Ours => "fence_hastor_ipmi, cipher=3",
            Program::OursAuto => "fence_hastor_ipmi",
            Program::Peer => "fence_ipmilan, lanplus=1 cipher=3",
            Program::Tool => "ipmitool -I lanplus -C 3",
        }
    }

    /// The program, its arguments, and what it reads.
    fn call(self, ours: &Path) -> (Command, String) {
        let mut command = Command::new(match self {
            Program::Ours | Program::OursAuto => ours,
            Program::Peer => Path::new("/usr/sbin/fence_ipmilan"),
            Program::Tool => Path::new("/usr/bin/ipmitool"),
        });
        command
            .env_clear()
            .env("PATH", PATH)
            .env("PCMK_service", "pacemaker-fenced");
        let mut input = "action=status\nip=127.0.0.1\nusername=bench\npassword=bench\n".to_owned();
        match self {
            Program::Ours => input += "cipher=3\n",
            Program::OursAuto => {}
            Program::Peer => input += "lanplus=1\ncipher=3\n",
            Program::Tool => {
                input.clear();
                let words = "-I lanplus -C 3 -H 127.0.0.1 -U bench -E chassis power status";
                command
                    .args(words.split(' '))
                    .env("IPMITOOL_PASSWORD", "bench");
            }
        }
        (command, input)
    }
}

/// Builds, measures in a process of its own, and says what was found.
pub fn run(runs: u32) -> Result<()> {
    progress::begin();
    packages::install()?;
    say("agents: building");
    let ours = executable("fence_hastor_ipmi")?;
    let busy = surroundings::busy()?;
    let status = agents::tied("/proc/self/exe")
        .args(["measure-fencing", &runs.to_string()])
        .arg(&ours)
        .stdin(Stdio::null())
        .status()
        .context("starting the measuring process")?;
    ensure!(status.success(), "the measuring process failed ({status})");
    println!(
        "{}\nprocessors busy with other work before: {busy:.0} %{}",
        surroundings::machine(),
        surroundings::warning(busy)
    );
    Ok(())
}

/// The measuring process.
pub fn measure(ours: &Path, runs: usize) -> Result<()> {
    unshare(CloneFlags::CLONE_NEWNET).context("a network namespace")?;
    switch::ip("link set lo up\n")?;
    let place = PathBuf::from(format!("/run/hastor-bench-{}", std::process::id()));
    fs::create_dir(&place).with_context(|| format!("making {}", place.display()))?;
    let measured = simulator(&place).and_then(|mut bmc| {
        let measured = in_turns(ours, runs);
        let _ = bmc.kill();
        let _ = bmc.wait();
        measured
    });
    fs::remove_dir_all(&place).with_context(|| format!("removing {}", place.display()))?;
    let mut measured = measured?;
    measured.iter_mut().for_each(|times| times.sort_unstable());
    fs::create_dir_all(output_directory())?;
    fs::write(output_directory().join("fencing.csv"), csv(&measured))?;
    println!("{}", text(&measured, runs));
    Ok(())
}

fn simulator(place: &Path) -> Result<Child> {
    let chassis = place.join("chassis");
    fs::write(&chassis, "#!/bin/sh\necho power:1\n")?;
    fs::set_permissions(&chassis, fs::Permissions::from_mode(0o755))?;
    let lan = format!(
        "name \"bench\"\nset_working_mc 0x20\nstartlan 1\n addr 127.0.0.1 623\n priv_limit admin\n \
         allowed_auths_admin none md2 md5 straight\n guid 68617374000000000000000000000001\nendlan\n\
         chassis_control \"{}\"\nuser 2 true \"bench\" \"bench\" admin 10 none md2 md5 straight\n",
        chassis.display()
    );
    fs::write(place.join("lan.conf"), lan)?;
    let emulated = "mc_setbmc 0x20\nmc_add 0x20 0 no-device-sdrs 0x20 1 1 0x9f 0x1291 0xf02 persist_sdr\nmc_enable 0x20\n";
    fs::write(place.join("emu"), emulated)?;
    fs::create_dir(place.join("state"))?;
    let mut command = agents::tied("ipmi_sim");
    command
        .args(["-n", "-c", "lan.conf", "-f", "emu", "-s", "state"])
        .current_dir(place)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let mut child = command.spawn().context("starting ipmi_sim")?;
    let end = Instant::now() + START;
    while once(Program::Tool, Path::new("")).is_err() {
        if Instant::now() > end {
            let _ = child.kill();
            bail!("ipmi_sim does not answer");
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(child)
}

/// Each program in turn, so that a machine that becomes slower does so for all.
fn in_turns(ours: &Path, runs: usize) -> Result<[Vec<Duration>; 4]> {
    let mut times = [const { Vec::new() }; 4];
    for round in 0..runs + WARM_UP {
        for step in 0..ALL.len() {
            let index = (round + step) % ALL.len();
            let took = once(ALL[index], ours)?;
            if round >= WARM_UP {
                times[index].push(took);
            }
        }
    }
    Ok(times)
}

fn once(program: Program, ours: &Path) -> Result<Duration> {
    let (mut command, input) = program.call(ours);
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let begin = Instant::now();
    let mut child = command
        .spawn()
        .with_context(|| format!("running {}", program.name()))?;
    if let Some(mut stdin) = child.stdin.take() {
        // ipmitool does not read.
        let _ = stdin.write_all(input.as_bytes());
    }
    let status = child.wait()?;
    let took = begin.elapsed();
    ensure!(
        status.success(),
        "{}: {status}, expected on",
        program.name()
    );
    Ok(took)
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// Of sorted times: in the middle.
fn median(times: &[Duration]) -> f64 {
    times
        .get(times.len() / 2)
        .copied()
        .map_or(f64::NAN, milliseconds)
}

fn text(measured: &[Vec<Duration>; 4], runs: usize) -> String {
    let mut text = format!(
        "\nstatus of a BMC that is on, {runs} runs each{:>17}{:>10}{:>10}\n",
        "median ms", "min", "p95"
    );
    for (program, times) in ALL.iter().zip(measured) {
        let at = |part: usize| {
            times
                .get(times.len() * part / 100)
                .copied()
                .map_or(f64::NAN, milliseconds)
        };
        text += &format!(
            "  {:44}{:10.2}{:10.2}{:10.2}\n",
            program.name(),
            median(times),
            at(0),
            at(95)
        );
    }
    let [ours, auto, peer, tool] = [0, 1, 2, 3].map(|index: usize| median(&measured[index]));
    text += "\nGoals (medians)\n";
    for (what, found, met) in [
        (
            "fence_ipmilan takes at least 3 times as long",
            peer / ours,
            peer / ours >= 3.0,
        ),
        (
            "the same, without cipher=3",
            peer / auto,
            peer / auto >= 3.0,
        ),
        (
            "ipmitool takes at least as long",
            tool / ours,
            tool / ours >= 1.0,
        ),
        (
            "the same, without cipher=3",
            tool / auto,
            tool / auto >= 1.0,
        ),
    ] {
        let verdict = if met { "met" } else { "NOT met" };
        text += &format!("  {verdict:7}  {what:46}{found:8.1} times\n");
    }
    text
}

fn csv(measured: &[Vec<Duration>; 4]) -> String {
    let mut text = "program,ms\n".to_owned();
    for (program, times) in ALL.iter().zip(measured) {
        for time in times {
            text += &format!("\"{}\",{:.3}\n", program.name(), milliseconds(*time));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn goals_are_held_against_the_medians() {
        let all = |ms: u64| vec![Duration::from_millis(ms); 3];
        let said = text(&[all(2), all(3), all(100), all(40)], 3);
        assert_eq!(said.matches("  met  ").count(), 4, "{said}");
        assert!(said.contains("50.0 times"), "{said}");
        let said = text(&[all(50), all(50), all(100), all(40)], 3);
        assert_eq!(said.matches("NOT met").count(), 4, "{said}");
    }
}
