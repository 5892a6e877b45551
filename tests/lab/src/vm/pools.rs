//! What can happen to a ZFS pool that the cluster has: on disks that both heads see, on a shelf whose LUNs take
//! reservations, with the verifying writer on one of its volumes.

use std::time::Instant;

use anyhow::{Context, Result, ensure};

use super::exec;
use super::guests::Guests;
use super::observer::Observer;
use super::storage::Disk;
use super::writer::{self, Writer};
use crate::cib::primitive;
use crate::cluster::{Cluster, RECOVER};
use crate::control;
use crate::progress::more;

pub(super) const AGENT: &str = "/usr/lib/ocf/resource.d/hastor/zfs-pool";
/// Where the writer writes.
const VOLUME: &str = "/dev/zvol/tank/vol1";

/// Gives every head a hostid of its own, as an administrator does once: a pool's labels name their host by it.
pub(super) fn give_hostids(lab: &Guests) -> Result<()> {
    for (head, number) in lab.plan.heads().iter().zip(1..) {
        let hostid = format!("{number:08x}");
        lab.cluster.output(head, &["zgenhostid", "-f", &hostid])?;
    }
    Ok(())
}

/// A function for scripts that make pools: `zpool create`, once more if a device was unavailable. udev reads a disk's
/// partitions anew when somebody has written to it, as `zpool create` itself has; for that moment they are gone, and the
/// module gives up at once. What it met is printed.
pub(super) const CREATE_POOL: &str = "create_pool() {
	local tries=3
	modprobe zfs
	until zpool create -f \"$@\"; do
		grep 'open error' /proc/spl/kstat/zfs/dbgmsg >&2 || :
		tries=$((tries - 1))
		[ $tries -gt 0 ] || return 1
		udevadm settle --timeout=100
	done
}
";

/// A raidz1 pool with a file system, a snapshot of that, and a volume, on disks of both heads, made on the first and
/// exported there. The second knows nothing yet of the partitions.
fn make_pool(lab: &Guests) -> Result<Vec<Disk>> {
    give_hostids(lab)?;
    let disks = lab.shared_disks(3, "256M")?;
    let paths: Vec<String> = disks.iter().map(Disk::path).collect();
    let script = format!(
        "{CREATE_POOL}set -e
create_pool -o cachefile=none -O mountpoint=/tank tank raidz1 {}
zfs create tank/data
echo kept >/tank/data/file
zfs snapshot tank/data@made
zfs create -V 32M tank/vol1
zpool export tank",
        paths.join(" ")
    );
    lab.cluster.output("n1", &["sh", "-c", &script])?;
    Ok(disks)
}

/// A pool as a target needs it, made on a head and exported there: a file system at `/NAME/ha` that takes reservations
/// along, and so many volumes, `NAME/lun1` and so on. `vdev` can be none.
pub(super) fn make_for_target(
    head: &str,
    name: &str,
    vdev: &str,
    paths: &[String],
    volumes: usize,
) -> Result<()> {
    // Who writes down a reservation has to know that it is on the disks.
    let script = format!(
        "{CREATE_POOL}set -e
create_pool -O mountpoint=none -o cachefile=none {name} {vdev} {}
zfs create -o mountpoint=/{name}/ha -o sync=always {name}/ha
for i in $(seq {volumes}); do zfs create -V 32M {name}/lun$i; done
udevadm settle --timeout=100 # It has the new volumes open.
zpool export {name}",
        paths.join(" ")
    );
    // Not by the cluster's way to run commands, which is bounded: volumes take their time under emulation.
    exec::output(head, &["sh", "-c", &script], b"")
        .map(drop)
        .with_context(|| format!("making {name}"))
}

/// A cluster whose nodes are fenced by their BMCs, with the pool.
fn with_pool(cluster: &Cluster, (provider, kind): (&str, &str)) -> String {
    let resources = primitive("pool", provider, kind, &[("pool", "tank")], ("10s", "60s"));
    cluster
        .cib()
        .fenced_by_bmcs(None)
        .resources(&resources)
        .to_xml()
}

/// Provider and type of the agents that are compared.
const OURS: (&str, &str) = ("hastor", "zfs-pool");
const PEERS: (&str, &str) = ("heartbeat", "ZFS");

/// The pool goes from head to head, so many times, each time while the writer writes to its volume: the stop ends the
/// writer, and on the other head everything is there that it had acknowledged.
pub fn moves(lab: &Guests, count: usize) -> Result<()> {
    let cluster = &lab.cluster;
    make_pool(lab)?;
    let observer = Observer::start(lab, &["tank"], &[])?;
    cluster.load(&with_pool(cluster, OURS))?;
    let mut holder = cluster.wait_started("pool")?;
    let begin = Instant::now();
    let (mut records, mut longest) = (0, 0.0_f64);
    for number in 1..=count {
        let mut writer = Writer::start(&holder, VOLUME, &format!("move{number}"))?;
        writer.wait_for(20)?;
        let asked = Instant::now();
        cluster.admin(&["crm_resource", "--move", "--resource", "pool"])?;
        // It is told when all is done: asking again and again would take the node's time from the move.
        cluster.admin(&["crm_resource", "--wait", "--timeout=50"])?;
        let next = cluster.wait_moved("pool", &holder)?;
        longest = longest.max(asked.elapsed().as_secs_f64());
        cluster.admin(&["crm_resource", "--clear", "--resource", "pool"])?;
        let acks = writer.acks()?;
        drop(writer);
        let report = writer::verify(&next, VOLUME, &acks)?;
        report
            .check()
            .with_context(|| format!("after move {number}, from {holder} to {next}"))?;
        // Entered, it is mounted: the next stop has it to unmount as well.
        let kept = cluster.output(&next, &["cat", "/tank/data/.zfs/snapshot/made/file"])?;
        ensure!(kept.trim() == "kept", "the snapshot on {next}: {kept}");
        records += acks.count();
        holder = next;
        if number % 10 == 0 {
            more(format_args!(
                "{number} moves after {:.0} s",
                begin.elapsed().as_secs_f64()
            ));
        }
    }
    lab.settled()?;
    observer.check_on("tank", &holder)?;
    check_history(cluster, &holder)?;
    more(format_args!(
        "{count} moves in {:.0} s, the longest {longest:.1} s; {records} acknowledged records, all there",
        begin.elapsed().as_secs_f64()
    ));
    Ok(())
}

/// The head that has the pool loses its power while the writer writes, so many times.
pub fn power_losses(lab: &Guests, count: usize) -> Result<()> {
    let cluster = &lab.cluster;
    make_pool(lab)?;
    let observer = Observer::start(lab, &["tank"], &[])?;
    cluster.load(&with_pool(cluster, OURS))?;
    let mut holder = cluster.wait_started("pool")?;
    let mut records = 0;
    for number in 1..=count {
        let mut writer = Writer::start(&holder, VOLUME, &format!("loss{number}"))?;
        writer.wait_for(20)?;
        let cut = cluster.power_off(&holder)?;
        cluster.wait_fenced(&holder, cut)?;
        let next = cluster.wait_moved("pool", &holder)?;
        let acks = writer.acks()?;
        drop(writer);
        let report = writer::verify(&next, VOLUME, &acks)?;
        report
            .check()
            .with_context(|| format!("after power loss {number}, of {holder}"))?;
        records += acks.count();
        if number < count {
            lab.wait_rejoined()?;
        }
        more(format_args!(
            "power loss {number} of {count}: from {holder} to {next}, {} records",
            acks.count()
        ));
        holder = next;
    }
    observer.check_on("tank", &holder)?;
    more(format_args!(
        "{count} power losses, {records} acknowledged records, all there"
    ));
    Ok(())
}

/// All disks of the head that has the pool are pulled at once. Monitor says so, stop fails at once, the node is fenced,
/// and the other head, whose disks are there, has the pool.
pub fn all_pulled(lab: &Guests) -> Result<()> {
    pull_all(lab, OURS, "suspended")
}

/// The same with the peers' agent, whose stop waits for an export that never ends.
pub fn all_pulled_peers(lab: &Guests) -> Result<()> {
    pull_all(lab, PEERS, "")
}

fn pull_all(lab: &Guests, kind: (&str, &str), reason: &str) -> Result<()> {
    let cluster = &lab.cluster;
    let disks = make_pool(lab)?;
    if kind == PEERS {
        for disk in &disks {
            cluster.output("n2", &["blockdev", "--rereadpt", &disk.path()])?;
        }
    }
    cluster.load(&with_pool(cluster, kind))?;
    let holder = cluster.wait_started("pool")?;
    let mut writer = Writer::start(&holder, VOLUME, "pulled")?;
    writer.wait_for(20)?;
    let pulled = Instant::now();
    for disk in &disks {
        control::ask(&["disk", "pull", &disk.name, &holder])?;
    }
    let since = || pulled.elapsed().as_secs_f64();
    let survivor = cluster
        .nodes
        .iter()
        .find(|name| **name != holder)
        .context("a cluster of one")?
        .clone();
    let failed = cluster.wait_for("a failed stop", RECOVER, || failed_stop(cluster, &survivor))?;
    more(format_args!(
        "stop failed {:.1} s after the disks were pulled: {failed}",
        since()
    ));
    if kind == OURS {
        more(failed_monitor(cluster, &survivor)?);
    }
    ensure!(
        failed.contains(reason),
        "the stop's reason does not say \"{reason}\": {failed}"
    );
    cluster.wait_for("the node fenced", RECOVER, || {
        ensure!(
            cluster.fencings(&survivor, &holder)? > 0,
            "no fencing has succeeded"
        );
        Ok(())
    })?;
    // Not as the old holder sees it, which may be on its way back.
    let next = cluster.wait_for("the pool on the other head", RECOVER, || {
        let next = cluster.status_of(&survivor)?.runs_on("pool")?;
        ensure!(next == survivor, "it is on {next}");
        Ok(next)
    })?;
    more(format_args!(
        "{next} has the pool {:.1} s after the disks of {holder} were pulled",
        since()
    ));
    let acks = writer.acks()?;
    drop(writer);
    writer::verify(&next, VOLUME, &acks)?.check()
}

/// The stop of the pool that failed, from the cluster's history: its time and its reason.
fn failed_stop(cluster: &Cluster, on: &str) -> Result<String> {
    let cib = cluster.output(on, &["cibadmin", "--query", "--scope", "status"])?;
    let document = roxmltree::Document::parse(&cib)?;
    let entry = document
        .descendants()
        .filter(|node| node.has_tag_name("lrm_rsc_op"))
        .find(|node| {
            let is = |name: &str, value: &str| node.attribute(name) == Some(value);
            is("operation", "stop")
                && !is("rc-code", "0")
                && !is("rc-code", "193")
                && node
                    .attribute("id")
                    .is_some_and(|id| id.starts_with("pool_"))
        })
        .context("no stop has failed")?;
    let text = |name: &str| entry.attribute(name).unwrap_or("-").to_owned();
    Ok(format!(
        "exec-time {} ms, code {}, op-status {}, reason \"{}\"",
        text("exec-time"),
        text("rc-code"),
        text("op-status"),
        text("exit-reason")
    ))
}

/// What the monitor that failed has said: the survivor's log tells, for the history of a node is gone once that is fenced.
fn failed_monitor(cluster: &Cluster, survivor: &str) -> Result<String> {
    let log = cluster.log(survivor, "pacemaker")?;
    let said = |line: &&str| {
        line.contains("monitor")
            && (line.contains("pool tank is suspended")
                || line.contains("pool tank: all of its disks are gone"))
    };
    let reason = |line: &str| {
        let (_, rest) = line.split_once("exit-reason=\"")?;
        Some(format!("monitor failed: {}", rest.split('"').next()?))
    };
    log.lines()
        .filter(said)
        .find_map(reason)
        .context("no monitor has failed because the pool's disks are gone")
}

/// Whoever uses the pool is named by a stop that may end nobody; processes are ended by one that may, and what no signal
/// reaches is named.
pub fn in_use(lab: &Guests) -> Result<()> {
    let cluster = &lab.cluster;
    make_pool(lab)?;
    let run = |script: &str| cluster.output("n1", &["bash", "-c", script]);
    let cases = [
        (
            "process",
            "(cd /tank/data; exec sleep 1000) >/dev/null 2>&1 </dev/null & sleep 0.3",
            "pkill -x sleep; sleep 0.3",
            "(sleep), working directory /tank/data",
            true,
        ),
        (
            "process in another mount namespace",
            "unshare -m sh -c 'cd /tank/data; exec sleep 1000' >/dev/null 2>&1 </dev/null & sleep 0.5",
            "pkill -x sleep; sleep 0.3",
            "(sleep), working directory /tank/data",
            true,
        ),
        (
            "NFS export",
            "exportfs -o rw,fsid=7 192.0.2.0/24:/tank/data && exec 3</dev/null && (cd /tank/data; exec sleep 1000) >/dev/null 2>&1 </dev/null & sleep 0.5",
            "exportfs -ua; pkill -x sleep; sleep 0.3",
            "NFS export of /tank/data to 192.0.2.0/24",
            true,
        ),
        (
            "LUN",
            "d=/sys/kernel/config/target/core/iblock_7/vol1; mkdir -p $d && echo udev_path=/dev/zvol/tank/vol1 >$d/control && echo /dev/zvol/tank/vol1 >$d/udev_path && echo 1 >$d/enable",
            "rmdir /sys/kernel/config/target/core/iblock_7/vol1",
            "SCSI target backstore iblock_7/vol1 of /dev/zvol/tank/vol1",
            false,
        ),
        (
            "swap",
            "mkswap /dev/zvol/tank/vol1 >/dev/null && swapon /dev/zvol/tank/vol1",
            "swapoff -a",
            "swap space on /dev/zd0",
            false,
        ),
        (
            "loop device",
            "truncate -s 16M /tank/data/image && losetup -f /tank/data/image",
            "losetup -D; sleep 0.3",
            "of /tank/data/image",
            false,
        ),
    ];
    for (what, begin, end, named, cleared) in cases {
        act("n1", "start", &[])?;
        run(begin).with_context(|| format!("beginning: {what}"))?;
        let refused = act("n1", "stop", &["force_unmount=false"])
            .err()
            .with_context(|| format!("{what}: stopped in spite of it"))?;
        ensure!(
            format!("{refused:#}").contains(named),
            "{what}: the reason does not name it: {refused:#}"
        );
        let forced = act("n1", "stop", &[]);
        match (cleared, forced) {
            (true, forced) => {
                drop(forced.with_context(|| format!("{what}: with force_unmount=true"))?)
            }
            (false, Ok(_)) => anyhow::bail!("{what}: stopped in spite of it, by force"),
            (false, Err(refused)) => {
                ensure!(
                    format!("{refused:#}").contains(named),
                    "{what}: the reason does not name it: {refused:#}"
                );
            }
        }
        run(end)?;
        act("n1", "stop", &[]).with_context(|| format!("after {what}"))?;
    }
    // A process that only lives in a namespace in which it is mounted is left alone.
    act("n1", "start", &[])?;
    run("unshare -m sleep 1000 >/dev/null 2>&1 </dev/null & sleep 0.5")?;
    act("n1", "stop", &["force_unmount=false"]).context("mounted in another namespace")?;
    run("pkill -x sleep").context("the process that was to be left alone")?;
    // A pool of that name with another GUID is not the resource's.
    run("zpool import -N -o cachefile=none tank")?;
    act("n1", "stop", &["pool_guid=1"])?;
    let refused = act("n1", "start", &["pool_guid=1"])
        .err()
        .context("started a pool with another GUID")?;
    ensure!(
        format!("{refused:#}").contains("expected 1 (parameter pool_guid)"),
        "{refused:#}"
    );
    run("zpool export tank")
        .map(drop)
        .context("the pool that was to be left alone")
}

/// One head, after it has replaced a disk of the pool, is cut off and not fenced, the other takes the pool from it by
/// preempting its reservations: then the first cannot write one sector, and what the second has is whole.
pub fn reserved(lab: &Guests) -> Result<()> {
    let cluster = &lab.cluster;
    give_hostids(lab)?;
    let mut paths = lab.shelf_disks(3, "256M")?;
    let create = format!(
        "{CREATE_POOL}create_pool -o cachefile=none tank mirror {} && zfs create -V 32M tank/vol1 && zpool export tank",
        paths[..2].join(" ")
    );
    cluster.output("n1", &["sh", "-c", &create])?;
    act("n1", "start", &["reservation=wero"])?;
    act("n1", "monitor", &["reservation=wero"])?;
    // The disk that replaces another is reserved by the next monitor that looks at reservations.
    let replace = format!("zpool replace -f -w tank {} {}", paths[0], paths[2]);
    let replace = format!("{replace} || {{ udevadm settle --timeout=100; {replace}; }}");
    cluster.output("n1", &["sh", "-c", &replace])?;
    act("n1", "monitor", &["reservation=wero", "OCF_CHECK_LEVEL=10"])?;
    let registered = ["sg_persist", "--in", "--read-keys", &paths[2]];
    let keys = cluster.output("n1", &registered)?;
    ensure!(
        keys.contains("0x48617374"),
        "the new disk after the monitor: {keys}"
    );
    paths.remove(0);
    let mut writer = Writer::start("n1", VOLUME, "reserved")?;
    writer.wait_for(20)?;
    control::ask(&["cut", "n1"])?;
    act("n2", "start", &["reservation=wero", "force=always"])?;
    let acks = writer.acks()?;
    for path in &paths {
        let write = format!("dd if=/dev/zero of={path} bs=512 seek=300000 count=1 oflag=direct");
        ensure!(
            cluster.output("n1", &["sh", "-c", &write]).is_err(),
            "n1 wrote to {path} after n2 had taken it"
        );
    }
    cluster.wait_for("n1's pool to be suspended", RECOVER, || {
        let state = super::read("n1", "/proc/spl/kstat/zfs/tank/state")?;
        ensure!(state.trim() == "SUSPENDED", "it is {}", state.trim());
        Ok(())
    })?;
    let refused = act("n1", "stop", &["reservation=wero"])
        .err()
        .context("n1 stopped a pool that was taken from it")?;
    ensure!(format!("{refused:#}").contains("suspended"), "{refused:#}");
    drop(writer);
    writer::verify("n2", VOLUME, &acks)?.check()?;
    let scrubbed = cluster.output(
        "n2",
        &["sh", "-c", "zpool scrub -w tank && zpool status -x tank"],
    )?;
    ensure!(scrubbed.contains("is healthy"), "after a scrub: {scrubbed}");
    act("n2", "stop", &["reservation=wero"])?;
    for path in &paths {
        let keys = cluster.output("n2", &["sg_persist", "--in", "--read-keys", path])?;
        ensure!(
            keys.contains("NO registered"),
            "{path} after the export: {keys}"
        );
    }
    Ok(())
}

/// The agent goes through its life on a real pool, is killed at system calls, and satisfies ocf-tester.
pub fn conformance(lab: &Guests) -> Result<()> {
    make_pool(lab)?;
    changed_on_purpose(lab)?;
    exec::output(
        "n1",
        &[
            writer::PROGRAM,
            "conformance",
            AGENT,
            "--every",
            "400",
            "pool=tank",
        ],
        b"",
    )?;
    exec::output(
        "n1",
        &["ocf-tester", "-n", "tank", "-o", "pool=tank", AGENT],
        b"",
    )
    .map(drop)
}

/// What an administrator renames, moves or destroys is not missed; what is only unmounted is.
fn changed_on_purpose(lab: &Guests) -> Result<()> {
    let run = |script: &str| lab.cluster.output("n1", &["sh", "-c", script]);
    act("n1", "start", &[])?;
    run(
        "zfs create tank/extra && zfs create -V 16M tank/extravol && udevadm settle --timeout=100",
    )?;
    act("n1", "reload-agent", &[])?;
    for change in [
        "zfs set mountpoint=/tank/elsewhere tank/data",
        "zfs inherit mountpoint tank/data",
        "zfs rename tank/extra tank/renamed",
        "zfs destroy tank/renamed && zfs destroy tank/extravol",
    ] {
        run(change)?;
        act("n1", "monitor", &[]).with_context(|| format!("after {change}"))?;
    }
    run("umount /tank/data")?;
    let failed = act("n1", "monitor", &[])
        .err()
        .context("an unmounted file system was not missed")?;
    ensure!(format!("{failed:#}").contains("tank/data"), "{failed:#}");
    act("n1", "stop", &[]).map(drop)
}

/// Calls the agent as Pacemaker would, outside of the cluster; what it printed, an error with its reason if it failed.
fn act(node: &str, action: &str, params: &[&str]) -> Result<String> {
    let mut words = vec![
        "env".to_owned(),
        "OCF_ROOT=/usr/lib/ocf".to_owned(),
        "OCF_RESOURCE_INSTANCE=pool".to_owned(),
        "OCF_RESKEY_CRM_meta_timeout=60000".to_owned(),
        "OCF_RESKEY_pool=tank".to_owned(),
    ];
    if action == "monitor" {
        words.push("OCF_RESKEY_CRM_meta_interval=10000".to_owned());
    }
    words.extend(params.iter().map(|param| match param.starts_with("OCF_") {
        true => param.to_string(),
        false => format!("OCF_RESKEY_{param}"),
    }));
    words.extend([AGENT.to_owned(), action.to_owned()]);
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    exec::output(node, &words, b"").with_context(|| format!("{node}: {action}"))
}

/// The pool's own history: it was imported by a host only after the one before had exported it.
pub(super) fn check_history(cluster: &Cluster, holder: &str) -> Result<()> {
    let history = cluster.output(holder, &["zpool", "history", "-l", "tank"])?;
    let mut last: Option<String> = None;
    for line in history.lines() {
        let host = line
            .rsplit_once(" on ")
            .map(|(_, host)| host.split(':').next().unwrap_or_default().to_owned());
        if line.contains(" zpool import ") {
            ensure!(
                last.is_none(),
                "imported while {} had it: {line}",
                last.unwrap_or_default()
            );
            last = host;
        } else if line.contains(" zpool export ") {
            ensure!(
                last.is_none() || last == host,
                "exported by another host than had it: {line}"
            );
            last = None;
        }
    }
    ensure!(
        last.as_deref() == Some(holder),
        "by its history {last:?} has the pool, not {holder}"
    );
    Ok(())
}
