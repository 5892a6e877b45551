//! The machine, and what else it does: measurements are worth as much as it is quiet.

use std::fs;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};

/// How long the processors are watched.
const WATCH: Duration = Duration::from_secs(1);

/// From how much other work on, in percent, the figures are not to be trusted.
const NOISY: f64 = 5.0;

/// The machine in one line.
pub fn machine() -> String {
    let read = |path| fs::read_to_string(path).unwrap_or_default();
    let processors = read("/proc/cpuinfo");
    let models: Vec<&str> = processors
        .lines()
        .filter_map(|line| line.strip_prefix("model name")?.split_once(": "))
        .map(|(_, model)| model)
        .collect();
    format!(
        "{} x {}, Linux {}",
        models.len().max(1),
        models.first().unwrap_or(&"processor"),
        read("/proc/sys/kernel/osrelease").trim(),
    )
}

/// How busy the processors are while this program only watches, in percent.
pub fn busy() -> Result<f64> {
    let stat = || fs::read_to_string("/proc/stat").context("reading /proc/stat");
    let before = stat()?;
    thread::sleep(WATCH);
    between(&before, &stat()?).context("/proc/stat has no line for all processors")
}

/// What to say about it.
pub fn warning(busy: f64) -> &'static str {
    if busy < NOISY {
        ""
    } else {
        "\nThis machine is not quiet: what has many processes suffers most, so ratios are not to be trusted either."
    }
}

fn between(before: &str, after: &str) -> Option<f64> {
    let ((idle, all), (idle_then, all_then)) = (ticks(before)?, ticks(after)?);
    let all = all_then.saturating_sub(all);
    let busy = all.saturating_sub(idle_then.saturating_sub(idle));
    (all > 0).then(|| busy as f64 / all as f64 * 100.0)
}

/// Ticks that all processors idled, and all ticks, since the machine was started.
fn ticks(stat: &str) -> Option<(u64, u64)> {
    let line = stat.lines().find_map(|line| line.strip_prefix("cpu "))?;
    // user nice system idle iowait irq softirq steal; what follows is part of these.
    let numbers: Vec<u64> = line
        .split_whitespace()
        .take(8)
        .map_while(|word| word.parse().ok())
        .collect();
    Some((numbers.get(3)? + numbers.get(4)?, numbers.iter().sum()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn busy_between_two_looks() {
        let before = "cpu  100 0 50 800 40 0 5 5 0 0\ncpu0 1 2 3\n";
        let after = "cpu  120 0 60 850 50 0 10 5 0 0\ncpu0 1 2 3\n";
        assert_eq!(between(before, after).map(f64::round), Some(37.0));
        assert_eq!(between(before, before), None);
        assert_eq!(between("", after), None);
    }
}
