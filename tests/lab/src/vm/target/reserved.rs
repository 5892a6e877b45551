//! Persistent reservations survive the loss of the head that had the target: who was kept out stays out, from the first
//! moment on, and who was registered goes on without a word.

use anyhow::{Result, ensure};

use super::super::exec;
use super::super::guests::Guests;
use super::{INITIATORS, IQN, Stack, Whose, make_pool};
use crate::cluster::{Cluster, RECOVER};
use crate::layout::{CLIENT, FLOATING};
use crate::progress::more;

/// The client logs in as itself and as another initiator, as two hosts would.
const LOG_IN: &str = r#"set -e
iscsiadm -m iface -I b -o new
iscsiadm -m iface -I b -o update -n iface.initiatorname -v "$3"
iscsiadm -m discovery -t sendtargets -p "$1" -I default -I b
iscsiadm -m node -T "$2" --login
"#;

/// Prints the disk of LUN 1 in the session of an interface: by their paths both sessions are the same.
const DISK: &str = r#"for session in /sys/class/iscsi_session/session*; do
	[ "$(cat $session/ifacename)" = "$1" ] || continue
	for disk in $session/device/target*/*:*:*:1/block/*; do
		[ ! -e $disk ] || echo /dev/${disk##*/}
	done
done
"#;

/// Tries to write on and on, and notes what came of it, until there is /run/b-enough.
const TRY: &str = r#"rm -f /run/b-enough /run/b-tries
(
	while [ ! -e /run/b-enough ]; do
		if dd if=/dev/zero of=$1 bs=4096 seek=1024 count=1 oflag=direct; then echo written; else echo refused; fi >>/run/b-tries
		sleep 0.1
	done
) >/dev/null 2>&1 </dev/null &
"#;

/// Whether the initiator asks for its reservation to survive (APTPL) or not: a failover is no power loss to it.
pub fn ours(lab: &Guests) -> Result<()> {
    survives(lab, Whose::Ours, &[true, false])
}

/// What becomes of it with the peers' agents: printed, and not judged.
pub fn peers(lab: &Guests) -> Result<()> {
    // Without this directory the kernel refuses every registration, and nobody makes it; targetcli says where it is to be.
    // With a home of its own: where it has been called before, it forgets that it shall add no portal, and the peers' agent
    // cannot start.
    let make = r#"TARGETCLI_HOME=/run/hastor-lab-targetcli targetcli /iscsi ls >/dev/null
mkdir -p "$(cat /sys/kernel/config/target/dbroot)/pr""#;
    for head in lab.plan.heads() {
        lab.cluster.output(&head, &["sh", "-c", make])?;
    }
    survives(lab, Whose::Peers, &[true])
}

fn survives(lab: &Guests, whose: Whose, ways: &[bool]) -> Result<()> {
    let cluster = &lab.cluster;
    make_pool(lab, 1)?;
    let mut stack = Stack::begin(lab, whose, 1)?;
    let words = ["bash", "-c", LOG_IN, "log-in", FLOATING, IQN, INITIATORS[1]];
    exec::output(CLIENT, &words, b"")?;
    let (a, b) = (disk(cluster, "default")?, disk(cluster, "b")?);
    let persist =
        |words: &[&str]| cluster.output(CLIENT, &[&["sg_persist"], words, &[&a]].concat());
    for (number, aptpl) in ways.iter().enumerate() {
        if number > 0 {
            lab.wait_rejoined()?;
            persist(&["--out", "--clear", "--param-rk=0xa"])?;
            writes(cluster, &b)?;
        }
        let mut register = vec!["--out", "--register", "--param-sark=0xa"];
        register.extend(aptpl.then_some("--param-aptpl"));
        persist(&register)?;
        // 5: Write Exclusive - Registrants Only.
        persist(&["--out", "--reserve", "--param-rk=0xa", "--prout-type=5"])?;
        writes(cluster, &a)?;
        kept_out(cluster, &b)?;

        cluster.output(CLIENT, &["bash", "-c", TRY, "try", &b])?;
        stack.lose_head()?;
        // Anybody may read, so that this is no question of reservations.
        for disk in [&a, &b] {
            cluster.wait_for("the client to read again", RECOVER, || reads(cluster, disk))?;
        }
        let out = kept_out(cluster, &b);
        let in_ = writes(cluster, &a);
        let wrote = tries(cluster)?;
        more(format_args!(
            "{}, APTPL={}: after the loss of a head the one without registration {}, and wrote {wrote} times meanwhile",
            whose.name(),
            u8::from(*aptpl),
            if out.is_ok() {
                "is kept out"
            } else {
                "is not kept out"
            }
        ));
        if whose == Whose::Ours {
            out?;
            in_?;
            ensure!(
                wrote == 0,
                "it wrote {wrote} times before the reservation was back"
            );
            let held = persist(&["--in", "--read-reservation"])?;
            ensure!(held.contains("Key=0xa"), "after the loss of a head: {held}");
        }
    }
    Ok(())
}

/// The client's disk by one of its names.
fn disk(cluster: &Cluster, interface: &str) -> Result<String> {
    cluster.wait_for("a disk of each session", RECOVER, || {
        let text = cluster.output(CLIENT, &["bash", "-c", DISK, "disk", interface])?;
        let disk = text.trim();
        ensure!(
            disk.starts_with("/dev/") && disk.lines().count() == 1,
            "{interface}: {disk:?}"
        );
        Ok(disk.to_owned())
    })
}

fn reads(cluster: &Cluster, disk: &str) -> Result<()> {
    let script = format!("dd if={disk} of=/dev/null bs=4096 count=1 iflag=direct 2>&1");
    cluster.output(CLIENT, &["sh", "-c", &script]).map(drop)
}

fn writes(cluster: &Cluster, disk: &str) -> Result<()> {
    let script = format!("dd if=/dev/zero of={disk} bs=4096 count=1 oflag=direct 2>&1");
    cluster.output(CLIENT, &["sh", "-c", &script]).map(drop)
}

/// Wants a write to be refused because of the reservation, and for no other reason.
fn kept_out(cluster: &Cluster, disk: &str) -> Result<()> {
    match writes(cluster, disk) {
        // EBADE: what the kernel makes of a reservation conflict.
        Err(error) if format!("{error:#}").contains("Invalid exchange") => Ok(()),
        Err(error) => Err(error.context("not refused because of the reservation")),
        Ok(()) => {
            anyhow::bail!("{disk}: an initiator without registration wrote to a reserved LUN")
        }
    }
}

/// Ends the tries; how many of them wrote something.
fn tries(cluster: &Cluster) -> Result<usize> {
    cluster.output(CLIENT, &["touch", "/run/b-enough"])?;
    let tries = super::super::read(CLIENT, "/run/b-tries")?;
    ensure!(tries.lines().count() > 1, "nothing was tried: {tries:?}");
    Ok(tries.lines().filter(|line| *line == "written").count())
}
