//! A program that takes minutes: in a process group of its own, its output in a file, ended with us.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::{interrupt, processes};

/// Killed and collected when dropped, so that it outlives no error.
pub struct Running {
    child: Child,
}

impl Running {
    /// Starts a program; it gets SIGKILL if this one dies without a chance to do it.
    pub fn start(mut command: Command) -> Result<Running> {
        // Ctrl-C reaches the whole foreground group: that one end it is for us.
        let child = command.process_group(0).spawn();
        let child = child.with_context(|| format!("running {:?}", command.get_program()))?;
        Ok(Running { child })
    }

    /// Whether it has ended.
    pub fn ended(&mut self) -> Result<Option<ExitStatus>> {
        self.child.try_wait().context("waiting for a child")
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // What holds a namespace of processes ends by itself, but only after everything in there is gone: so its
        // child, the first process in there, is ended before it. A kill fails only if there is nothing to kill.
        let pid = self.child.id() as i32;
        for child in processes::children(pid) {
            let _ = kill(Pid::from_raw(child), Signal::SIGKILL);
        }
        let end = Instant::now() + Duration::from_secs(10);
        while !processes::children(pid).is_empty() && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(10));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A command that gets SIGKILL when this program ends, however it ends.
pub fn tied(words: &[&str]) -> Command {
    let mut command = Command::new("/proc/self/exe");
    command.args(["tied", "--kill"]).args(words);
    command
}

/// Runs a program to its end, at most for `bound`; `seen` gets each line of its output, and nothing ten times a second.
pub fn run(
    mut command: Command,
    log: &Path,
    bound: Duration,
    mut seen: impl FnMut(Option<&str>),
) -> Result<()> {
    let begin = Instant::now();
    let output = File::options().create(true).append(true).open(log);
    let output = output.with_context(|| format!("opening {}", log.display()))?;
    command
        .stdin(Stdio::null())
        .stdout(output.try_clone()?)
        .stderr(output);
    let mut lines = BufReader::new(File::open(log)?);
    let mut line = Vec::new();
    let mut child = Running::start(command)?;
    loop {
        let status = child.ended()?;
        // The rest is read after the end was seen. A line may be incomplete yet: it is kept until its end comes.
        while lines.read_until(b'\n', &mut line)? > 0 && line.ends_with(b"\n") {
            seen(Some(String::from_utf8_lossy(&line).trim_end()));
            line.clear();
        }
        match status {
            Some(status) if status.success() => return Ok(()),
            Some(status) => bail!("{status}"),
            None if interrupt::ending() => bail!("interrupted"),
            None if begin.elapsed() > bound => {
                bail!("not finished after {} minutes", bound.as_secs() / 60)
            }
            None => {
                seen(None);
                std::thread::sleep(Duration::from_millis(100));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn output_end_and_bound() {
        let log = std::env::temp_dir().join(format!("hastor-lab-child-{}", std::process::id()));
        let mut lines = Vec::new();
        let long = Duration::from_secs(60);
        run(shell("echo a; echo b >&2"), &log, long, |line| {
            lines.extend(line.map(str::to_owned))
        })
        .unwrap();
        let failed = run(shell("exit 3"), &log, long, |_| ());
        let slow = run(shell("exec sleep 600"), &log, Duration::ZERO, |_| ());
        std::fs::remove_file(&log).unwrap();
        assert_eq!(lines, ["a", "b"]);
        assert!(failed.is_err() && slow.is_err());
    }
}
