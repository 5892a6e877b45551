//! The stack `zfs-iscsi` whole: two heads with a pool each on disks that both see, a target on each pool, an address on
//! each of two storage networks, brought up by `hastor apply`; and two clients that write through multipath, each to one
//! of the pools. What happens to it is in `zfs_iscsi/scenarios.rs`; the same of the peers' agents is in
//! `zfs_iscsi/peers.rs`.

pub mod demo;
mod peers;
pub mod scenarios;
mod values;

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use lab_guest::Acks;

use super::exec;
use super::guests::Guests;
use super::observer::Observer;
use super::pools;
use super::storage::{Disk, by_path, gather_paths, identity, wait_for_paths};
use super::writer::Writer;
use crate::bmc;
use crate::cluster::RECOVER;
use crate::crm::Status;
use crate::progress::{more, say};
use crate::threads;

/// A pool of the stack, and who uses it.
#[derive(Debug, PartialEq, Eq)]
pub struct Pool {
    /// Its name.
    pub name: &'static str,
    /// The head where it is unless something has happened.
    pub home: &'static str,
    /// Its address on each network.
    pub addresses: [&'static str; 2],
    /// The client that writes to its first LUN.
    pub client: &'static str,
}

/// The pools.
pub const POOLS: [Pool; 2] = [
    Pool {
        name: "tank1",
        home: "n1",
        addresses: ["192.0.2.11", "10.77.3.11"],
        client: "client",
    },
    Pool {
        name: "tank2",
        home: "n2",
        addresses: ["192.0.2.12", "10.77.3.12"],
        client: "client2",
    },
];

/// Whose agents the stack is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Whose {
    /// Those of this project, put together by `hastor apply`.
    Ours,
    /// Those that Pacemaker's distributors ship.
    Peers,
}

/// For the whole stack to be where it belongs, with a fencing and an import. The peers call targetcli some forty times for
/// eight LUNs, seconds each under emulation.
const SETTLE: Duration = Duration::from_secs(RECOVER.as_secs() * 6);

/// Between two records of a client: how exactly its wait is known.
const EVERY: Duration = Duration::from_millis(100);

impl Pool {
    /// The group of pool and target.
    pub fn group(&self) -> String {
        format!("g-{}", self.name)
    }

    /// It and its client, for messages.
    fn told(&self) -> String {
        format!("{} of {}", self.client, self.name)
    }

    /// The name of its target.
    pub fn iqn(&self) -> String {
        format!("iqn.2026-01.example.hastor:{}", self.name)
    }

    /// The resources of our stack, in the order of their start; the last ones are its addresses.
    pub fn resources(&self) -> [String; 4] {
        let name = self.name;
        [
            format!("pool-{name}"),
            format!("target-{name}"),
            format!("vip-{name}-san1"),
            format!("vip-{name}-san2"),
        ]
    }
}

/// The stack, running, with everybody who uses and who watches it.
pub struct Appliance<'a> {
    /// The guests.
    pub lab: &'a Guests,
    /// The disks of both pools.
    pub disks: Vec<Disk>,
    whose: Whose,
    luns: usize,
    observer: Observer,
    /// Those of [`POOLS`], in this order.
    writers: Vec<Writer>,
}

impl<'a> Appliance<'a> {
    /// Makes the pools, applies the stack, and has the clients write.
    pub fn begin(lab: &'a Guests, whose: Whose, luns: usize) -> Result<Appliance<'a>> {
        // Clients have nothing to do with the heads before there is something to log in to.
        let (disks, _) = threads::both(
            || begin_on_heads(lab, whose, luns),
            || each_pool(|pool| prepare_client(pool.client)),
        )?;
        let addresses: Vec<&str> = POOLS.iter().flat_map(|pool| pool.addresses).collect();
        let names: Vec<&str> = POOLS.iter().map(|pool| pool.name).collect();
        let observer = Observer::start(lab, &names, &addresses)?;
        let mut appliance = Appliance {
            lab,
            disks,
            whose,
            luns,
            observer,
            writers: Vec::new(),
        };
        appliance.wait_home()?;
        say(match whose {
            Whose::Ours => "hastor apply zfs-iscsi: all runs",
            Whose::Peers => "the peers' agents: all runs",
        });
        appliance.writers = each_pool(|pool| {
            let disk = log_in(pool)?;
            Writer::start_every(EVERY, pool.client, &disk, pool.name)
        })?;
        appliance.written()?;
        say("clients: log in on both networks, and write");
        Ok(appliance)
    }

    /// Waits until every resource of a pool runs on a head.
    pub fn wait_on(&self, pool: &Pool, head: &str) -> Result<()> {
        let cluster = &self.lab.cluster;
        cluster.wait_for(&format!("{} whole on {head}", pool.name), SETTLE, || {
            self.whole_on(&cluster.status()?, pool, head)
        })
    }

    /// Whether every resource of a pool runs on this head.
    fn whole_on(&self, status: &Status, pool: &Pool, head: &str) -> Result<()> {
        let resources = match self.whose {
            Whose::Ours => pool.resources().into(),
            Whose::Peers => peers::members(pool, self.luns),
        };
        for resource in resources {
            let node = status.runs_on(&resource)?;
            ensure!(node == head, "{resource} is on {node}");
        }
        Ok(())
    }

    /// Waits until both pools are where they belong.
    pub fn wait_home(&self) -> Result<()> {
        let cluster = &self.lab.cluster;
        cluster.wait_for("both pools whole at home", SETTLE, || {
            let status = cluster.status()?;
            POOLS
                .iter()
                .try_for_each(|pool| self.whole_on(&status, pool, pool.home))
        })
    }

    /// Moves a pool as an administrator does, and waits until it has arrived.
    pub fn move_to(&self, pool: &Pool, head: &str) -> Result<()> {
        let cluster = &self.lab.cluster;
        let group = pool.group();
        cluster.admin(&[
            "crm_resource",
            "--move",
            "--resource",
            &group,
            "--node",
            head,
        ])?;
        self.wait_on(pool, head)?;
        cluster
            .admin(&["crm_resource", "--clear", "--resource", &group])
            .map(drop)
    }

    /// How often a head has been fenced, as the other one remembers.
    pub fn fencings(&self, head: &str) -> Result<usize> {
        let cluster = &self.lab.cluster;
        let other = cluster.nodes.iter().find(|name| *name != head);
        cluster.fencings(other.context("a cluster of one")?, head)
    }

    /// Waits until a head has been fenced more often than that.
    pub fn wait_fenced(&self, head: &str, before: usize) -> Result<()> {
        let cluster = &self.lab.cluster;
        cluster.wait_for(&format!("{head} fenced"), SETTLE, || {
            let count = self.fencings(head)?;
            ensure!(count > before, "{count} fencings have succeeded");
            Ok(())
        })
    }

    /// Waits until every client has written more.
    pub fn written(&mut self) -> Result<()> {
        for (writer, pool) in self.writers.iter_mut().zip(&POOLS) {
            writer.wait_for(20).with_context(|| pool.told())?;
        }
        Ok(())
    }

    /// The client's longest gap at a pool that has ended after `since`: its begin and its end, seconds since 1970.
    pub fn gap(&self, pool: &Pool, since: f64) -> Result<(f64, f64)> {
        let acks = self.acks(pool)?;
        let gaps = acks.writers.values();
        let gap = gaps
            .filter_map(|writer| writer.longest_gap_since(since))
            .max_by_key(|gap| gap.length);
        let gap = gap.with_context(|| format!("{} has written nothing since then", pool.client))?;
        Ok((gap.end - gap.length.as_secs_f64(), gap.end))
    }

    /// When the client of a pool was told for the last time that a record is durable, seconds since 1970.
    pub fn last_acknowledgement(&self, pool: &Pool) -> Result<f64> {
        let last = self.acks(pool)?.last();
        last.with_context(|| format!("{} has written nothing yet", pool.client))
    }

    /// The heads that have a pool or an address now.
    pub fn holders(&self, what: &str) -> Result<Vec<String>> {
        self.observer.holders(what)
    }

    fn acks(&self, pool: &Pool) -> Result<Acks> {
        let at = POOLS.iter().position(|other| other == pool);
        let writer = at.and_then(|at| self.writers.get(at));
        writer.context("nobody writes yet")?.acks()
    }

    /// Says how long each client had to wait.
    pub fn tell_gaps(&self, since: f64) -> Result<()> {
        let mut told = Vec::new();
        for pool in &POOLS {
            let (begin, end) = self.gap(pool, since)?;
            told.push(format!("{} {:.1} s", pool.told(), end - begin));
        }
        more(format_args!("longest gap: {}", told.join(", ")));
        Ok(())
    }

    /// Wants that no client was told of an error since it began.
    pub fn no_errors(&self) -> Result<()> {
        POOLS
            .iter()
            .try_for_each(|pool| super::target::no_errors(&self.acks(pool)?))
    }

    /// Everything is as it was at the beginning: all nodes members, failures forgotten, both pools at home.
    pub fn restored(&mut self) -> Result<()> {
        self.lab.wait_rejoined()?;
        let cluster = &self.lab.cluster;
        cluster.admin(&["crm_resource", "--cleanup"])?;
        self.lab.idle()?;
        for pool in &POOLS {
            if self.whole_on(&cluster.status()?, pool, pool.home).is_err() {
                self.move_to(pool, pool.home)?;
            }
        }
        self.written()?;
        self.wait_for_paths()?;
        match self.whose {
            Whose::Ours => self.lab.settled(),
            // What failed on the way is theirs to explain.
            Whose::Peers => Ok(()),
        }
    }

    /// Waits until every client has both of its paths to every LUN.
    fn wait_for_paths(&self) -> Result<()> {
        let words = ["multipathd", "show", "paths", "raw", "format", "%d %t %T"];
        for pool in &POOLS {
            let what = format!("all paths of {}", pool.client);
            self.lab.cluster.wait_for(&what, SETTLE, || {
                let paths = exec::output(pool.client, &words, b"")?;
                let good = paths.lines().filter(|line| line.ends_with("active ready"));
                ensure!(
                    good.count() == self.luns * pool.addresses.len(),
                    "{}",
                    paths.trim()
                );
                Ok(())
            })?;
        }
        Ok(())
    }

    /// The clients stop, and everything they were promised is there; no pool was imported and no address was held twice.
    pub fn end(self) -> Result<()> {
        self.no_errors()?;
        self.end_whatever_they_were_told()
    }

    /// The same, though clients may have been told of errors.
    pub fn end_whatever_they_were_told(self) -> Result<()> {
        let reports = threads::each(POOLS.iter().zip(self.writers), |(pool, writer)| {
            let report = writer.finish().with_context(|| pool.told())?;
            report.check().with_context(|| pool.told())?;
            Ok(report)
        })?;
        for (report, pool) in reports.iter().zip(&POOLS) {
            more(format_args!(
                "{}: {} acknowledged records, all there",
                pool.name,
                report.acks.count()
            ));
        }
        self.observer.check()
    }
}

/// Does something for every pool at once; what came of it, in their order, or the first error.
fn each_pool<R: Send>(act: impl Fn(&'static Pool) -> Result<R> + Sync) -> Result<Vec<R>> {
    threads::each(&POOLS, |pool| act(pool).with_context(|| pool.told()))
}

/// Makes the pools and has the cluster serve them; their disks.
fn begin_on_heads(lab: &Guests, whose: Whose, luns: usize) -> Result<Vec<Disk>> {
    let disks = make_pools(lab, luns)?;
    say("pools: tank1 and tank2 made, mirrors on disks that both heads see");
    match whose {
        Whose::Ours => apply(lab, luns)?,
        Whose::Peers => {
            // Their agent does not look for partitions that were made behind the other head's back.
            for head in &lab.plan.heads() {
                for disk in &disks {
                    let words = ["blockdev", "--rereadpt", &disk.path()];
                    lab.cluster.output(head, &words)?;
                }
            }
            lab.cluster.load(&peers::cib(luns)?)?;
        }
    }
    Ok(disks)
}

/// Two mirrors with so many volumes each, on disks of both heads, each made where it is at home, and exported there.
fn make_pools(lab: &Guests, luns: usize) -> Result<Vec<Disk>> {
    pools::give_hostids(lab)?;
    let disks = lab.shared_disks(2 * POOLS.len(), "512M")?;
    let paths: Vec<String> = disks.iter().map(Disk::path).collect();
    threads::each(POOLS.iter().zip(paths.chunks(2)), |(pool, pair)| {
        pools::make_for_target(pool.home, pool.name, "mirror", pair, luns)
    })?;
    Ok(disks)
}

/// Where the values lie on the first head.
const VALUES: &str = "/root/zfs-iscsi.toml";

/// Brings the stack up as an administrator does.
fn apply(lab: &Guests, luns: usize) -> Result<()> {
    for head in lab.plan.heads() {
        let script = format!(
            "umask 077; for head in {}; do printf %s {} >/etc/pacemaker/$head.bmc; done; sync",
            lab.plan.heads().join(" "),
            bmc::PASSWORD
        );
        exec::output(&head, &["sh", "-c", &script], b"").context("the passwords of the BMCs")?;
    }
    let text = values::text(luns)?;
    exec::output(
        "n1",
        &["sh", "-c", &format!("cat >{VALUES}")],
        text.as_bytes(),
    )?;
    let words = ["hastor", "apply", "zfs-iscsi", "--values", VALUES, "--yes"];
    exec::output("n1", &words, b"")
        .map(drop)
        .context("hastor apply")
}

/// When a client notices that a path is gone and goes over to the other one, and how often it tries to connect, as the
/// stack's README advises.
const TIMEOUTS: &str = r#"cat >>/etc/iscsi/iscsid.conf <<END
node.session.timeo.replacement_timeout = 5
node.conn[0].timeo.noop_out_interval = 2
node.conn[0].timeo.noop_out_timeout = 5
node.conn[0].timeo.login_timeout = 5
END
"#;

/// Has a client use both of its networks.
fn prepare_client(client: &str) -> Result<()> {
    exec::output(client, &["sh", "-c", TIMEOUTS], b"").context("the client's timeouts")?;
    gather_paths(client)
}

/// The client of a pool finds its target on both networks and logs in; its disk, which is on both.
fn log_in(pool: &Pool) -> Result<String> {
    let (client, iqn) = (pool.client, pool.iqn());
    let [portal, _] = pool.addresses;
    // Each portal is told of all of its target.
    let words = [
        "-m",
        "discovery",
        "-t",
        "sendtargets",
        "-p",
        portal,
        "--login",
    ];
    exec::output(client, &[&["iscsiadm"][..], &words].concat(), b"")
        .with_context(|| format!("{client} logs in to {iqn}"))?;
    let paths = pool.addresses.map(|address| by_path(address, &iqn, 1));
    wait_for_paths(client, &paths)?;
    let map = format!("/dev/mapper/{}", identity(client, &paths[0])?);
    wait_for_paths(client, std::slice::from_ref(&map))?;
    Ok(map)
}
