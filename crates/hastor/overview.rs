//! The cluster on one screen: what runs, by what it is for.

use std::fmt::{self, Write as _};

use anyhow::Result;
use cib::{Element, Resource, Status};
use host::Host;
use serde::Serialize;

/// What the cluster has.
#[derive(Debug, Serialize)]
pub struct Overview {
    #[serde(flatten)]
    status: Status,
    pools: Vec<Entry>,
    targets: Vec<Entry>,
    addresses: Vec<Entry>,
    fencing: Vec<Entry>,
    others: Vec<Entry>,
}

/// A resource as its users know it.
#[derive(Debug, Serialize)]
struct Entry {
    /// The resource's id.
    id: String,
    /// The pool's name, the target's name or definition, the address, the node to be fenced.
    name: String,
    /// In words.
    state: String,
    /// The node, if it runs as it should.
    node: Option<String>,
    /// Of a target: the initiators that are logged in, if it is on this node.
    #[serde(skip_serializing_if = "Option::is_none")]
    initiators: Option<Vec<String>>,
}

/// By what parameter the users of an agent know a resource; several, if it has none of the first.
const KINDS: [(&str, &[&str], &[&str]); 3] = [
    (
        "pool",
        &["ocf:hastor:zfs-pool", "ocf:heartbeat:ZFS"],
        &["pool"],
    ),
    (
        "target",
        &["ocf:hastor:lio-target", "ocf:heartbeat:iSCSITarget"],
        &["iqn", "definition"],
    ),
    (
        "address",
        &["ocf:hastor:vip", "ocf:heartbeat:IPaddr2"],
        &["ip"],
    ),
];

impl Overview {
    /// Puts together what crm_mon says, what the CIB has for parameters, and what this node knows of its targets.
    pub fn new(status: Status, cib: &Element, host: &Host) -> Result<Overview> {
        let mut overview = Overview {
            pools: Vec::new(),
            targets: Vec::new(),
            addresses: Vec::new(),
            fencing: Vec::new(),
            others: Vec::new(),
            status,
        };
        let all: Vec<&Element> = cib.primitives().collect();
        for resource in &overview.status.resources {
            let id = resource.base();
            let primitive = all.iter().find(|it| it.id() == id);
            let parameters = primitive
                .map(|it| it.pairs("instance_attributes"))
                .unwrap_or_default();
            let mut entry = Entry::new(resource);
            let kind = KINDS
                .iter()
                .find(|(_, agents, _)| agents.contains(&resource.agent.as_str()));
            let (kind, names): (&str, &[&str]) = match kind {
                Some((kind, _, names)) => (kind, names),
                None if resource.agent.starts_with("stonith:") => {
                    ("fencing", &["pcmk_host_list", "hostname"])
                }
                None => ("other", &[]),
            };
            let value = |name: &&str| parameters.iter().find(|(it, _)| it == name);
            if let Some((_, name)) = names.iter().find_map(value) {
                (*name).clone_into(&mut entry.name);
            }
            if kind == "target" && entry.node.is_some() {
                entry.initiators = probe::lio::initiators(host, &entry.name)?;
            }
            match kind {
                "pool" => overview.pools.push(entry),
                "target" => overview.targets.push(entry),
                "address" => overview.addresses.push(entry),
                "fencing" => overview.fencing.push(entry),
                _ => overview.others.push(entry),
            }
        }
        Ok(overview)
    }
}

impl Entry {
    fn new(resource: &Resource) -> Entry {
        Entry {
            id: resource.id.clone(),
            name: resource.id.clone(),
            state: resource.told(),
            node: resource.runs_on().map(str::to_owned),
            initiators: None,
        }
    }
}

/// One screen.
impl fmt::Display for Overview {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let status = &self.status;
        let dc = status.dc.as_deref();
        let fencing = if status.fencing_enabled { "on" } else { "OFF" };
        let quorum = if status.quorate {
            "quorate"
        } else {
            "WITHOUT QUORUM"
        };
        let controller = dc.map_or("no controller".to_owned(), |dc| format!("controller {dc}"));
        writeln!(
            f,
            "{:11}{quorum}, {controller}, fencing {fencing}",
            "cluster"
        )?;
        let nodes = status
            .nodes
            .iter()
            .map(|node| (node.name.as_str(), node.state.clone()));
        section(f, "nodes", nodes.collect())?;
        for (title, entries) in [
            ("pools", &self.pools),
            ("targets", &self.targets),
            ("addresses", &self.addresses),
            ("fencing of", &self.fencing),
            ("others", &self.others),
        ] {
            let rows = entries
                .iter()
                .map(|entry| (entry.name.as_str(), entry.told()));
            section(f, title, rows.collect())?;
        }
        let failures = status.failures.iter().map(|failure| {
            let told = format!("{} on {}: {}", failure.action, failure.node, failure.reason);
            (failure.resource.as_str(), told)
        });
        let fencings = status.fencings.iter().map(|it| {
            let reason = match (&it.reason, &it.by) {
                (Some(reason), _) => reason.clone(),
                (None, Some(node)) => format!("Pacemaker's log on {node} says why"),
                (None, None) => "Pacemaker's logs say why".to_owned(),
            };
            let told = match (&*it.state, &it.completed) {
                ("pending", _) => "is being fenced".to_owned(),
                (_, None) => format!("fencing failed: {reason}"),
                (_, Some(when)) => format!("fencing failed: {reason} ({when})"),
            };
            // It may have come back by itself since, or have been shut down in order.
            let is_clean = status
                .nodes
                .iter()
                .any(|node| node.name == it.node && !node.unclean);
            let told = match is_clean {
                true => told,
                false => told + "; what it had stays down until a fencing succeeds",
            };
            (it.node.as_str(), told)
        });
        section(f, "failures", failures.chain(fencings).collect())
    }
}

impl Entry {
    fn told(&self) -> String {
        let mut told = self.state.clone();
        if let Some(initiators) = &self.initiators {
            let _ = match &initiators[..] {
                [] => write!(told, ", nobody is logged in"),
                some => write!(told, ", logged in: {}", some.join(" ")),
            };
        }
        told
    }
}

fn section(f: &mut fmt::Formatter<'_>, title: &str, rows: Vec<(&str, String)>) -> fmt::Result {
    let width = rows.iter().map(|(name, _)| name.chars().count()).max();
    let width = width.unwrap_or_default();
    for (number, (name, told)) in rows.iter().enumerate() {
        let title = if number == 0 { title } else { "" };
        writeln!(f, "{title:11}{name:width$}  {told}")?;
    }
    Ok(())
}
