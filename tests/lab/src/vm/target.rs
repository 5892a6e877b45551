//! What can happen to an iSCSI target that the cluster has, as a client sees it: a pool with volumes, a target with a LUN
//! for each of them, and the address, brought by our agents or by those of the peers.

pub mod allowed;
pub mod conformance;
pub mod defined;
pub mod foreign;
pub mod hung;
pub mod libiscsi;
pub mod lost;
pub mod many;
pub mod moved;
pub mod paths;
pub mod rdma;
pub mod refused;
pub mod reserved;

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use lab_guest::Acks;

use super::exec;
use super::guests::Guests;
use super::pools;
use super::storage::{Disk, by_path, wait_for_paths};
use super::writer::Writer;
use crate::cib::{peers_primitive, primitive};
use crate::cluster::{Cluster, RECOVER};
use crate::layout::{CLIENT, FLOATING};

const AGENT: &str = "/usr/lib/ocf/resource.d/hastor/lio-target";

/// The target's name.
const IQN: &str = "iqn.2026-01.example.hastor:tank";

/// Where it listens.
const PORTAL: &str = "192.0.2.10:3260";

/// The client's name, and another one that it can take.
const INITIATORS: [&str; 2] = [
    "iqn.2026-01.example.hastor:client",
    "iqn.2026-01.example.hastor:client-b",
];

/// The file system of the pool that takes reservations along.
const NOTES: &str = "/tank/ha";

/// How the address goes and comes: its ports are closed meanwhile, and clients hear at once that they have to connect anew.
const HANDED_OVER: [(&str, &str); 2] = [("block_ports", "tcp/3260"), ("kill_connections", "true")];

/// For a stack to stop and to start. That of the peers calls targetcli some forty times for eight LUNs, ten seconds and more
/// each under emulation.
const STACK: Duration = Duration::from_secs(RECOVER.as_secs() * 6);

/// Interval and timeout of all monitors.
const MONITOR: (&str, &str) = ("30s", "90s");

/// Whose agents.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Whose {
    Ours,
    Peers,
}

impl Whose {
    fn name(self) -> &'static str {
        match self {
            Whose::Ours => "ours",
            Whose::Peers => "peers",
        }
    }

    /// The resource that is started last.
    fn last(self) -> &'static str {
        match self {
            Whose::Ours => "ours-vip",
            Whose::Peers => "peers-unblock",
        }
    }
}

/// A pool with so many volumes, on three disks of both heads, exported: `tank/lun1` and so on.
fn make_pool(lab: &Guests, volumes: usize) -> Result<()> {
    make_pool_of(lab, ("raidz1", 3), volumes).map(drop)
}

/// The same of so many disks in such a vdev, which can be none; its disks.
fn make_pool_of(lab: &Guests, (vdev, count): (&str, usize), volumes: usize) -> Result<Vec<Disk>> {
    pools::give_hostids(lab)?;
    let disks = lab.shared_disks(count, "512M")?;
    let paths: Vec<String> = disks.iter().map(Disk::path).collect();
    pools::make_for_target("n1", "tank", vdev, &paths, volumes)?;
    // The other head has not seen the partitions that were made behind its back, and the peers' agent does not look.
    for path in &paths {
        lab.cluster
            .output("n2", &["blockdev", "--rereadpt", path])?;
    }
    Ok(disks)
}

/// A group of everything a client needs, as XML.
fn group(whose: Whose, luns: usize) -> String {
    // By names of their own: Pacemaker remembers what a resource was, and this is another agent.
    let member = |id: &str, kind: &str, parameters: &[(&str, &str)]| {
        let id = format!("{}-{id}", whose.name());
        match whose {
            Whose::Ours => primitive(&id, "hastor", kind, parameters, MONITOR),
            Whose::Peers => peers_primitive(&id, kind, parameters, MONITOR),
        }
    };
    let initiators = INITIATORS.join(" ");
    let volume = |lun: usize| format!("/dev/zvol/tank/lun{lun}");
    let address = [("ip", FLOATING), ("cidr_netmask", "24"), ("nic", "lan0")];
    let target = [
        ("iqn", IQN),
        ("portals", PORTAL),
        ("allowed_initiators", initiators.as_str()),
    ];
    let members: Vec<String> = match whose {
        // The address comes last and goes first: nobody meets a host without the target.
        Whose::Ours => {
            let list: Vec<String> = (1..=luns)
                .map(|lun| format!("{lun}={}", volume(lun)))
                .collect();
            let list = list.join(" ");
            let more = [("luns", list.as_str()), ("aptpl_dir", NOTES)];
            vec![
                member("pool", "zfs-pool", &[("pool", "tank")]),
                member("target", "lio-target", &[&target[..], &more].concat()),
                member("vip", "vip", &[&address[..], &HANDED_OVER].concat()),
            ]
        }
        // Their target wants its portal's address to be there: so they block the port until all is complete.
        Whose::Peers => {
            let block = [("protocol", "tcp"), ("portno", "3260"), ("ip", FLOATING)];
            let action = |what| [&block[..], &[("action", what)]].concat();
            let tickle = [("tickle_dir", NOTES)];
            let kind = [("implementation", "lio-t")];
            let mut members = vec![
                member("block", "portblock", &action("block")),
                member(
                    "pool",
                    "ZFS",
                    &[("pool", "tank"), ("importargs", "-d /dev/disk/by-id")],
                ),
                member("vip", "IPaddr2", &address),
                member("target", "iSCSITarget", &[&kind[..], &target].concat()),
            ];
            for lun in 1..=luns {
                let (number, path) = (lun.to_string(), volume(lun));
                let unit = [("target_iqn", IQN), ("lun", &number), ("path", &path)];
                members.push(member(
                    &format!("lun{lun}"),
                    "iSCSILogicalUnit",
                    &[&kind[..], &unit].concat(),
                ));
            }
            members.push(member(
                "unblock",
                "portblock",
                &[&action("unblock")[..], &tickle].concat(),
            ));
            members
        }
    };
    format!(r#"<group id="stack">{}</group>"#, members.concat())
}

/// What a client needs, on one of the heads.
struct Stack<'a> {
    lab: &'a Guests,
    whose: Whose,
    /// The head that has it.
    holder: String,
}

impl<'a> Stack<'a> {
    /// Brings it up.
    fn begin(lab: &'a Guests, whose: Whose, luns: usize) -> Result<Stack<'a>> {
        let cluster = &lab.cluster;
        cluster.load(&cluster.cib().resources(&group(whose, luns)).to_xml())?;
        let mut stack = Stack {
            lab,
            whose,
            holder: String::new(),
        };
        stack.arrive()?;
        Ok(stack)
    }

    /// Waits until all of it is on another head than before.
    fn arrive(&mut self) -> Result<()> {
        let (cluster, last) = (&self.lab.cluster, self.whose.last());
        self.holder = cluster.wait_for(&format!("{last} elsewhere"), STACK, || {
            let node = cluster.status()?.runs_on(last)?;
            ensure!(node != self.holder, "still on {node}");
            Ok(node)
        })?;
        Ok(())
    }

    /// The head that has it is put in standby, and is a member like any other when the client writes again.
    fn move_away(&mut self, writer: &mut Writer) -> Result<()> {
        let (cluster, old) = (&self.lab.cluster, self.holder.clone());
        let standby = |change: &[&str]| {
            let words = ["crm_attribute", "--node", &old, "--name", "standby"];
            cluster.admin(&[&words[..], change].concat())
        };
        standby(&["--update", "on"])?;
        self.arrive()?;
        writer
            .wait_for(20)
            .with_context(|| format!("after the move from {old} to {}", self.holder))?;
        standby(&["--delete"])?;
        match self.whose {
            Whose::Ours => self.lab.settled(),
            // What failed on the way is theirs to explain.
            Whose::Peers => cluster
                .admin(&["crm_resource", "--wait", "--timeout=50"])
                .map(drop),
        }
    }

    /// The head that has it loses its power, and is fenced before the other one takes over.
    fn lose_head(&mut self) -> Result<()> {
        let cluster = &self.lab.cluster;
        let cut = cluster.power_off(&self.holder)?;
        cluster.wait_fenced(&self.holder, cut)?;
        self.arrive()
    }

    /// Takes it down, in its order: resources that only vanish from the configuration are stopped in any.
    fn end(self) -> Result<()> {
        let cluster = &self.lab.cluster;
        log_out()?;
        cluster.admin(&[
            "crm_resource",
            "--resource",
            "stack",
            "--meta",
            "--set-parameter",
            "target-role",
            "--parameter-value",
            "Stopped",
        ])?;
        cluster.wait_for("the stack stopped", STACK, || {
            let status = cluster.status()?;
            let active = |resource: &&crate::crm::Resource| {
                !resource.agent.starts_with("stonith:") && !resource.nodes.is_empty()
            };
            match status.resources.iter().find(active) {
                Some(resource) => bail!("{} is still on {:?}", resource.id, resource.nodes),
                None => Ok(()),
            }
        })
    }
}

/// Where the client finds a LUN of the stack.
fn lun(number: usize) -> String {
    by_path(FLOATING, IQN, number)
}

/// The client finds the target at these addresses and logs in; its disks at these paths are there afterwards.
fn log_in(cluster: &Cluster, addresses: &[&str], paths: &[String]) -> Result<()> {
    let mut script = "set -e\n".to_owned();
    for address in addresses {
        script += &format!("iscsiadm -m discovery -t sendtargets -p {address}\n");
    }
    script += &format!("iscsiadm -m node -T {IQN} --login\n");
    cluster.output(CLIENT, &["sh", "-c", &script])?;
    wait_for_paths(CLIENT, paths)
}

/// The client logs out of the target.
fn log_out() -> Result<()> {
    let words = ["iscsiadm", "-m", "node", "-T", IQN, "--logout"];
    exec::output(CLIENT, &words, b"").map(drop)
}

/// The longest time that passed between two acknowledged records and ended after `since`, in seconds.
fn longest_gap(acks: &Acks, since: f64) -> Result<f64> {
    let gaps = acks.writers.values();
    let gaps = gaps.filter_map(|writer| writer.longest_gap_since(since));
    gaps.map(|gap| gap.length.as_secs_f64())
        .max_by(f64::total_cmp)
        .context("the client has written nothing since then")
}

/// Wants that the writer was told of no error.
pub(super) fn no_errors(acks: &Acks) -> Result<()> {
    let mut faults = acks.writers.values().flat_map(|writer| writer.faults());
    if let Some(fault) = faults.next() {
        let (stage, seq, text) = (&fault.stage, fault.seq, &fault.text);
        bail!("the client was told of an error: {stage} of record {seq}: {text}");
    }
    Ok(())
}

/// How an action of an agent ended.
struct Ended {
    code: i32,
    /// What it printed.
    said: String,
}

impl Ended {
    /// Its exit reasons.
    fn reasons(&self) -> Vec<&str> {
        let lines = self.said.lines();
        lines
            .filter_map(|line| line.strip_prefix("ocf-exit-reason:"))
            .collect()
    }

    fn expect(self, code: i32) -> Result<Ended> {
        ensure!(
            self.code == code,
            "exit code {}, expected {code}: {}",
            self.code,
            self.said.trim()
        );
        Ok(self)
    }
}

/// Calls our agent as Pacemaker would, outside of the cluster, maybe through another program.
fn act(node: &str, through: &[&str], action: &str, parameters: &[&str]) -> Result<Ended> {
    let mut words = vec![
        "env".to_owned(),
        "OCF_ROOT=/usr/lib/ocf".to_owned(),
        "OCF_RESOURCE_INSTANCE=target".to_owned(),
        "OCF_RESKEY_CRM_meta_timeout=120000".to_owned(),
    ];
    if action == "monitor" {
        words.push("OCF_RESKEY_CRM_meta_interval=10000".to_owned());
    }
    words.extend(parameters.iter().map(|text| format!("OCF_RESKEY_{text}")));
    // A command that fails would be an error of the lab's.
    let script = r#""$@" 2>&1; echo "code $?""#;
    words.extend(["bash", "-c", script, "act"].map(str::to_owned));
    words.extend(through.iter().map(|word| (*word).to_owned()));
    words.extend([AGENT.to_owned(), action.to_owned()]);
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let text = exec::output(node, &words, b"")?;
    let (said, code) = text
        .trim_end()
        .rsplit_once("code ")
        .with_context(|| format!("no exit code in {text:?}"))?;
    Ok(Ended {
        code: code.parse().with_context(|| text.clone())?,
        said: said.to_owned(),
    })
}

/// Prints all objects of the kernel's target, and their values. What only counts is left out, and dbroot, which is the
/// host's: targetcli sets it whenever it can.
const LISTING: &str = r#"cd /sys/kernel/config/target && {
	find . -name '*statistics' -prune -o -printf '%y %p %l\n'
	grep -ras . --exclude-dir='*statistics' --exclude=dbroot . || true
} | LC_ALL=C sort
"#;

/// All objects of the target in a node's kernel, and their values.
fn listing(node: &str) -> Result<String> {
    // Who makes the first target makes this directory, too, and nobody owns it.
    let script = format!("mkdir -p /sys/kernel/config/target/iscsi && {LISTING}");
    exec::output(node, &["sh", "-c", &script], b"")
}

/// Wants a node's target to be as it was.
fn unchanged(node: &str, before: &str) -> Result<()> {
    let now = listing(node)?;
    let missing = |from: &str, other: &str| -> Vec<String> {
        let known: BTreeSet<&str> = other.lines().collect();
        let lines = from.lines().filter(|line| !known.contains(line));
        lines.take(3).map(str::to_owned).collect()
    };
    let (gone, new) = (missing(before, &now), missing(&now, before));
    ensure!(
        gone.is_empty() && new.is_empty(),
        "{node}: the target is not as it was: gone {gone:?}, new {new:?}"
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn members(xml: &str) -> Vec<String> {
        let document = roxmltree::Document::parse(xml).unwrap();
        let nodes = document.descendants();
        nodes
            .filter(|node| node.has_tag_name("primitive"))
            .map(|node| node.attribute("id").unwrap().to_owned())
            .collect()
    }

    #[test]
    fn groups_begin_with_the_pool_and_end_with_the_way_in() {
        let ours = group(Whose::Ours, 2);
        assert_eq!(members(&ours), ["ours-pool", "ours-target", "ours-vip"]);
        assert!(ours.contains(r#"value="1=/dev/zvol/tank/lun1 2=/dev/zvol/tank/lun2""#));
        let peers = members(&group(Whose::Peers, 2)).join(" ");
        assert_eq!(
            peers,
            "peers-block peers-pool peers-vip peers-target peers-lun1 peers-lun2 peers-unblock"
        );
        for whose in [Whose::Ours, Whose::Peers] {
            let last = members(&group(whose, 1)).pop();
            assert_eq!(last.as_deref(), Some(whose.last()));
        }
    }

    #[test]
    fn reasons_of_what_an_agent_printed() {
        let ended = Ended {
            code: 6,
            said: "INFO: so\nocf-exit-reason:iqn=x: expected iqn.YYYY-MM\n".to_owned(),
        };
        assert_eq!(ended.reasons(), ["iqn=x: expected iqn.YYYY-MM"]);
        assert!(ended.expect(0).is_err());
    }
}
