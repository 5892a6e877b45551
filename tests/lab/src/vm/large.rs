//! A large pool: how long the agent takes to bring it up, next to `zpool import`, and how long a look at it takes, next to
//! a look at a small one. Everything is measured inside the head, in one run; what is judged is only that all of it is
//! there.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};

use super::exec;
use super::guests::Guests;
use super::pools;
use super::storage::Disk;
use crate::progress::more;

const DISKS: usize = 24;
const FILE_SYSTEMS: usize = 500;
const VOLUMES: usize = 200;
/// Each way of bringing it up, in turn: a round takes a quarter of an hour under emulation.
const ROUNDS: usize = 1;
const MONITORS: usize = 20;

/// Makes both pools and exports them. Written for bash: file systems, volumes, the small pool's disk, the large one's.
const MAKE: &str = r#"set -e
file_systems=$1 volumes=$2
shift 2
# By the kernel's own names, which are there as soon as it has read the partitions: udev takes its time with so many.
set -- $(readlink -f "$@")
small=$1
shift
create_pool -o cachefile=none small "$small"
zfs create small/data
zfs create -V 8M small/vol
create_pool -o cachefile=none large raidz2 ${@:1:8} raidz2 ${@:9:8} raidz2 ${@:17:8}
for i in $(seq $file_systems); do zfs create -u large/data$i; done
for i in $(seq $volumes); do zfs create -s -V 8M large/vol$i; done
udevadm settle --timeout=300 # It has the new volumes open.
zpool export small
zpool export large
"#;

/// What measures in the head: prints `NAME MILLISECONDS` lines. A start is over when every volume is there and every
/// file system is mounted. The agent waits for udev's links to the volumes, and sees to those that udev has lost; after
/// `zpool import`, which does neither, the kernel's devices are waited for (plain-start), and then, until volumes can be
/// used by their names, the links, or until udev has nothing more to do: a link that is lost stays so (plain-usable).
const MEASURE: &str = r#"set -e
agent=$1 file_systems=$2 volumes=$3 rounds=$4 monitors=$5
export OCF_ROOT=/usr/lib/ocf OCF_RESKEY_CRM_meta_timeout=900000 LC_ALL=C
links() { ls /dev/zvol/large 2>/dev/null | wc -l; }
devices() { ls -d /sys/class/block/zd* 2>/dev/null | wc -l; }
mounts() { grep -c ' - zfs large' /proc/self/mountinfo || true; }
act() { # POOL ACTION
	OCF_RESOURCE_INSTANCE=$1 OCF_RESKEY_pool=$1 "$agent" "$2"
}
timed() { # NAME COMMAND...
	local name=$1 begin=${EPOCHREALTIME/./}
	shift
	"$@"
	echo "$name $(((${EPOCHREALTIME/./} - begin) / 1000))"
}
plain() {
	zpool import -o cachefile=none large
	local end=$((SECONDS + 900))
	until [ $(devices) = $volumes ]; do
		[ $SECONDS -lt $end ] || { echo "$(devices) of $volumes devices" >&2; return 1; }
		sleep 0.05
	done
}
whole() { # The pool's own file system is one more.
	[ "$($2) $(mounts)" = "$volumes $((file_systems + 1))" ] || { echo "after $1: $($2) $2, $(mounts) mounts" >&2; return 1; }
}
settle() { # What one step has left to udev must not cost the next.
	udevadm settle --timeout=300
}
look() {
	act small start
	export OCF_RESKEY_CRM_meta_interval=10000
	for monitor in $(seq $monitors); do
		timed monitor-small act small monitor
		timed monitor-large act large monitor
	done
	unset OCF_RESKEY_CRM_meta_interval
	act small stop
}
act large validate-all
for round in $(seq $rounds); do
	begin=${EPOCHREALTIME/./}
	timed plain-start plain
	whole plain-start devices
	until [ $(links) = $volumes ] || udevadm settle --timeout=0; do sleep 0.2; done
	echo "plain-usable $(((${EPOCHREALTIME/./} - begin) / 1000))"
	settle
	timed plain-stop zpool export large
	settle
	timed agent-start act large start
	whole agent-start links
	settle
	[ $round != $rounds ] || look
	timed agent-stop act large stop
	settle
done
"#;

/// Prints how the agent compares.
pub fn run(lab: &Guests) -> Result<()> {
    pools::give_hostids(lab)?;
    let paths: Vec<String> = lab
        .shared_disks(DISKS + 1, "128M")?
        .iter()
        .map(Disk::path)
        .collect();
    let (file_systems, volumes) = (FILE_SYSTEMS.to_string(), VOLUMES.to_string());
    let make = [pools::CREATE_POOL, MAKE].concat();
    let mut words = vec!["bash", "-c", &make, "make", &file_systems, &volumes];
    words.extend(paths.iter().map(String::as_str));
    more(format_args!(
        "making {FILE_SYSTEMS} file systems and {VOLUMES} volumes on {DISKS} disks"
    ));
    // Not by the cluster's way to run commands, which is bounded: this takes minutes.
    exec::output("n1", &words, b"")?;
    let (rounds, monitors) = (ROUNDS.to_string(), MONITORS.to_string());
    let words = [
        "bash",
        "-c",
        MEASURE,
        "measure",
        pools::AGENT,
        &file_systems,
        &volumes,
        &rounds,
        &monitors,
    ];
    let measured = Measured::parse(&exec::output("n1", &words, b"")?)?;
    for (name, times) in [
        ("starts", ("agent-start", "plain-start")),
        (
            "starts, until volumes can be used",
            ("agent-start", "plain-usable"),
        ),
        ("stops", ("agent-stop", "plain-stop")),
        ("monitors", ("monitor-large", "monitor-small")),
    ] {
        more(measured.compare(name, times.0, times.1)?);
    }
    Ok(())
}

/// Times in milliseconds, by what took them.
struct Measured(BTreeMap<String, Vec<f64>>);

impl Measured {
    /// Lines that are no time, such as what the commands themselves say, are passed over.
    fn parse(text: &str) -> Result<Measured> {
        let mut times = BTreeMap::<String, Vec<f64>>::new();
        for line in text.lines() {
            if let Some((name, Ok(time))) = line
                .split_once(' ')
                .map(|(name, time)| (name, time.parse::<f64>()))
            {
                times.entry(name.to_owned()).or_default().push(time);
            }
        }
        let wanted = [
            ("plain-start", ROUNDS),
            ("plain-usable", ROUNDS),
            ("agent-start", ROUNDS),
            ("plain-stop", ROUNDS),
            ("agent-stop", ROUNDS),
            ("monitor-small", MONITORS),
            ("monitor-large", MONITORS),
        ];
        for (name, count) in wanted {
            let found = times.get(name).map_or(0, Vec::len);
            ensure!(found == count, "{found} times of {name}, expected {count}");
        }
        Ok(Measured(times))
    }

    fn mean(&self, name: &str) -> Result<f64> {
        let times = self.0.get(name).filter(|times| !times.is_empty());
        let times = times.with_context(|| format!("no times of {name}"))?;
        Ok(times.iter().sum::<f64>() / times.len() as f64)
    }

    fn compare(&self, what: &str, one: &str, other: &str) -> Result<String> {
        let (first, second) = (self.mean(one)?, self.mean(other)?);
        Ok(format!(
            "{what}, on average: {one} {first:.0} ms, {other} {second:.0} ms, ratio {:.2}",
            first / second.max(1.0)
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_compared() {
        let line = |name: &str, time: usize| format!("{name} {time}\n");
        let mut text = "some other line\n".to_owned();
        for round in 0..MONITORS {
            text += &line("monitor-small", 10);
            text += &line("monitor-large", 15 + round % 2 * 10);
        }
        for _ in 0..ROUNDS {
            for (name, time) in [
                ("plain-start", 1000),
                ("plain-usable", 1200),
                ("agent-start", 500),
                ("plain-stop", 10),
            ] {
                text += &line(name, time);
            }
        }
        assert!(Measured::parse(&text).is_err());
        text += &line("agent-stop", 20).repeat(ROUNDS);
        let measured = Measured::parse(&text).unwrap();
        assert_eq!(
            measured
                .compare("starts", "agent-start", "plain-start")
                .unwrap(),
            "starts, on average: agent-start 500 ms, plain-start 1000 ms, ratio 0.50"
        );
        let monitors = measured.compare("monitors", "monitor-large", "monitor-small");
        assert!(monitors.unwrap().ends_with("ratio 2.00"));
    }
}
