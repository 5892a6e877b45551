//! A pool, a target, a LUN and an address, as a client uses them: what it writes has to be there whatever becomes of the
//! heads. The pool is brought by our agent or by that of the peers; target and LUN are by the peers' in both cases.

use anyhow::{Context, Result};

use super::guests::Guests;
use super::observer::Observer;
use super::pools;
use super::storage::{Disk, wait_for_paths};
use super::writer::Writer;
use crate::cib::primitive;
use crate::cluster::Cluster;
use crate::layout::{CLIENT, FLOATING};
use crate::progress::more;

/// Where the target is put.
const TARGET: &str = "iqn.2026-01.example.hastor:tank";

/// Who may use it.
const INITIATOR: &str = "iqn.2026-01.example.hastor:client";

/// Where the client finds the LUN.
const LUN: &str =
    "/dev/disk/by-path/ip-192.0.2.10:3260-iscsi-iqn.2026-01.example.hastor:tank-lun-1";

/// Interval and timeout of all monitors.
const MONITOR: (&str, &str) = ("30s", "90s");

/// Our agent has the pool: moved to and fro, then lost with its head, while a client writes; never in two kernels at once.
pub fn ours(lab: &Guests) -> Result<()> {
    pools::give_hostids(lab)?;
    make_pool(lab)?;
    let observer = Observer::start(lab, &["tank"], &[FLOATING])?;
    let pool = primitive("pool", "hastor", "zfs-pool", &[("pool", "tank")], MONITOR);
    let mut served = Served::begin(lab, &pool)?;
    served.move_away()?;
    served.move_away()?;
    pools::check_history(&lab.cluster, &served.holder)?;
    served.lose_head()?;
    observer.check()
}

/// The peers' agent has the pool: moved, then lost with its head.
pub fn peers(lab: &Guests) -> Result<()> {
    // The other head has not seen the partitions that were made behind its back.
    for disk in make_pool(lab)? {
        lab.cluster
            .output("n2", &["blockdev", "--rereadpt", &disk.path()])?;
    }
    let parameters = [("pool", "tank"), ("importargs", "-d /dev/disk/by-id")];
    let pool = primitive("pool", "heartbeat", "ZFS", &parameters, MONITOR);
    let mut served = Served::begin(lab, &pool)?;
    served.move_away()?;
    served.lose_head()
}

/// A pool with a volume, on disks of both heads, exported.
fn make_pool(lab: &Guests) -> Result<Vec<Disk>> {
    let disks = lab.shared_disks(3, "512M")?;
    let paths: Vec<String> = disks.iter().map(Disk::path).collect();
    let create = format!(
        "{}set -e
create_pool -O mountpoint=none -o cachefile=none tank raidz1 {}
zfs create -o sync=always -V 64M tank/lun1 # The peers' target answers writes from a volume's memory.
zpool export tank",
        pools::CREATE_POOL,
        paths.join(" ")
    );
    lab.cluster.output("n1", &["sh", "-c", &create])?;
    Ok(disks)
}

/// A stack that runs, and a client that writes through it.
struct Served<'a> {
    lab: &'a Guests,
    writer: Writer,
    /// The head that has it.
    holder: String,
}

impl<'a> Served<'a> {
    fn begin(lab: &'a Guests, pool: &str) -> Result<Served<'a>> {
        let cluster = &lab.cluster;
        cluster.load(&stack(cluster, pool))?;
        let holder = cluster.wait_started("lun")?;
        log_in(cluster)?;
        let mut writer = lab.write(LUN, "client")?;
        writer.wait_for(20)?;
        Ok(Served {
            lab,
            writer,
            holder,
        })
    }

    /// The head that has it is put in standby, and is a member like any other when the client writes again.
    fn move_away(&mut self) -> Result<()> {
        let (cluster, old) = (&self.lab.cluster, self.holder.clone());
        let standby = |change: &[&str]| {
            let words = ["crm_attribute", "--node", &old, "--name", "standby"];
            cluster.admin(&[&words[..], change].concat())
        };
        standby(&["--update", "on"])?;
        self.holder = cluster.wait_moved("lun", &old)?;
        self.writer
            .wait_for(20)
            .with_context(|| format!("after the move from {old} to {}", self.holder))?;
        standby(&["--delete"])?;
        self.lab.settled()
    }

    /// The head that has it loses its power, and whatever the client was told is durable is there.
    fn lose_head(mut self) -> Result<()> {
        let cluster = &self.lab.cluster;
        let cut = cluster.power_off(&self.holder)?;
        cluster.wait_fenced(&self.holder, cut)?;
        cluster.wait_moved("lun", &self.holder)?;
        self.writer.wait_for(20)?;
        let report = self.writer.finish()?;
        for line in report.to_string().lines() {
            more(line);
        }
        report.check()
    }
}

/// The client finds the target and has its LUN.
fn log_in(cluster: &Cluster) -> Result<()> {
    let script = format!(
        "iscsiadm -m discovery -t sendtargets -p {FLOATING} && iscsiadm -m node -T {TARGET} --login"
    );
    cluster.output(CLIENT, &["sh", "-c", &script])?;
    wait_for_paths(CLIENT, &[LUN.to_owned()])
}

fn stack(cluster: &Cluster, pool: &str) -> String {
    let vip = primitive(
        "vip",
        "hastor",
        "vip",
        &[("ip", FLOATING), ("cidr_netmask", "24"), ("nic", "lan0")],
        MONITOR,
    );
    let target = primitive(
        "target",
        "heartbeat",
        "iSCSITarget",
        &[
            ("implementation", "lio-t"),
            ("iqn", TARGET),
            ("portals", "192.0.2.10:3260"),
            ("allowed_initiators", INITIATOR),
        ],
        MONITOR,
    );
    let lun = primitive(
        "lun",
        "heartbeat",
        "iSCSILogicalUnit",
        &[
            ("implementation", "lio-t"),
            ("target_iqn", TARGET),
            ("lun", "1"),
            ("path", "/dev/zvol/tank/lun1"),
            ("allowed_initiators", INITIATOR),
        ],
        MONITOR,
    );
    // The peers' target wants its portal's address to be there, and the client wants the target behind the address.
    let group = format!(r#"<group id="stack">{vip}{pool}{target}{lun}</group>"#);
    cluster.cib().resources(&group).to_xml()
}
