//! Many LUNs: what a start, a monitor and a stop cost, next to the peers' agents with a few.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};

use super::super::exec;
use super::super::guests::Guests;
use super::super::storage::Disk;
use super::{AGENT, IQN, listing, unchanged};
use crate::progress::more;

const LUNS: usize = 256;
/// More would take the peers many minutes.
const THEIRS: usize = 8;

/// What a start or a stop may cost, in seconds of a processor: user and system time of the agent and all that it starts.
/// That is no time of a clock, and does not grow with what else this machine does.
const MOST: f64 = 3.0;

/// Makes a device of 1 MiB for each LUN, on one disk.
const MAKE: &str = r#"set -e
modprobe dm_mod
for i in $(seq $2); do
	echo "lun$i,,,rw,0 2048 linear $1 $((i * 2048))"
done | paste -sd ';' >/run/many
dmsetup create --concise "$(cat /run/many)"
udevadm settle --timeout=300
"#;

/// Prints `NAME SECONDS` lines: the processor's time for each action.
const MEASURE: &str = r#"set -e
agent=$1 iqn=$2 luns=$3 theirs=$4
export OCF_ROOT=/usr/lib/ocf OCF_RESKEY_CRM_meta_timeout=900000 LC_ALL=C
configfs=/sys/kernel/config/target/iscsi/$iqn
TIMEFORMAT="%U %S"
used() { # NAME COMMAND...
	local name=$1 times
	shift
	times=$({ time "$@" >/run/many-said 2>&1; } 2>&1) || { cat /run/many-said >&2; return 1; }
	set -- $times
	echo "$name $(awk "BEGIN { print $1 + $2 }")"
}
whole() { # NUMBER: is all of it there?
	local found=$(ls $configfs/tpgt_1/lun | grep -c '^lun_') enabled=$(cat $configfs/tpgt_1/enable)
	[ "$found $enabled" = "$1 1" ] || { echo "$found LUNs, enabled $enabled, expected $1" >&2; return 1; }
}
ours() { # ACTION
	env OCF_RESOURCE_INSTANCE=target OCF_RESKEY_iqn=$iqn OCF_RESKEY_portals=192.0.2.1:3260 OCF_RESKEY_luns="$list" "$agent" $1
}
peer() { # TYPE INSTANCE ACTION NAME=VALUE...
	local type=$1 instance=$2 action=$3
	shift 3
	env OCF_RESOURCE_INSTANCE=$instance OCF_RESOURCE_TYPE=$type OCF_RESOURCE_PROVIDER=heartbeat OCF_RESKEY_implementation=lio-t \
		"${@/#/OCF_RESKEY_}" $OCF_ROOT/resource.d/heartbeat/$type $action
}
target() { # ACTION
	peer iSCSITarget target $1 iqn=$iqn portals=192.0.2.1:3260
}
unit() { # NUMBER ACTION
	peer iSCSILogicalUnit lun$1 $2 target_iqn=$iqn lun=$1 path=/dev/mapper/lun$1
}
peers_start() {
	target start || return 1
	for i in $(seq $theirs); do unit $i start || return 1; done
}
peers_monitor() {
	target monitor || return 1
	for i in $(seq $theirs); do unit $i monitor || return 1; done
}
peers_stop() {
	for i in $(seq $theirs -1 1); do unit $i stop || return 1; done
	target stop
}
list=$(for i in $(seq $luns); do echo "$i=/dev/mapper/lun$i"; done | paste -sd ' ')
used ours-start ours start
whole $luns
export OCF_RESKEY_CRM_meta_interval=10000
used ours-monitor ours monitor
unset OCF_RESKEY_CRM_meta_interval
used ours-stop ours stop
[ ! -e $configfs ] || { echo "$configfs is still there" >&2; exit 1; }
used peers-start peers_start
whole $theirs
export OCF_RESKEY_CRM_meta_interval=10000
used peers-monitor peers_monitor
unset OCF_RESKEY_CRM_meta_interval
used peers-stop peers_stop
"#;

/// Prints what each action costs, and judges our start and stop.
pub fn run(lab: &Guests) -> Result<()> {
    let disk = lab.local_disks("n1", 1, "300M")?;
    let disk = disk.first().map(Disk::path).context("no disk was added")?;
    let (luns, theirs) = (LUNS.to_string(), THEIRS.to_string());
    exec::output("n1", &["bash", "-c", MAKE, "make", &disk, &luns], b"")?;
    let before = listing("n1")?;
    let words = ["bash", "-c", MEASURE, "measure", AGENT, IQN, &luns, &theirs];
    let used = parse(&exec::output("n1", &words, b"")?);
    let mut expensive = Vec::new();
    more(format_args!(
        "processor's time, s: {LUNS} LUNs of ours, {THEIRS} of the peers'"
    ));
    for action in ["start", "monitor", "stop"] {
        let of = |whose: &str| {
            let time = used.get(&format!("{whose}-{action}")).copied();
            time.with_context(|| format!("no time of {whose}-{action}"))
        };
        let (ours, peers) = (of("ours")?, of("peers")?);
        more(format_args!("{action:8} {ours:7.2} {peers:7.2}"));
        if ours > MOST && action != "monitor" {
            expensive.push(format!("{action} {ours:.2} s"));
        }
    }
    ensure!(
        expensive.is_empty(),
        "more than {MOST} s of a processor: {}",
        expensive.join(", ")
    );
    unchanged("n1", &before).context("after all stops")
}

/// The lines that are a name and a time; what commands say is passed over.
fn parse(text: &str) -> BTreeMap<String, f64> {
    text.lines()
        .filter_map(|line| {
            let (name, time) = line.split_once(' ')?;
            Some((name.to_owned(), time.trim().parse().ok()?))
        })
        .collect()
}
