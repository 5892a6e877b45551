//! Which guests there are, and what each of them has.

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use crate::layout::{self, CLIENT, MOST_CLIENTS, MOST_NODES, SHELF};

/// What the user asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::Args)]
pub struct Plan {
    /// Nodes of the cluster, n1 to nN; each has a BMC
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u8).range(1..=MOST_NODES as i64))]
    pub heads: u8,
    /// Clients on the client network: client, client2, ...
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u8).range(0..=MOST_CLIENTS as i64))]
    pub clients: u8,
    /// A guest that exports disks to the heads over iSCSI, with real persistent reservations
    #[arg(long)]
    pub shelf: bool,
}

/// The guests of demo and tests: one snapshot has to be made, and not several.
pub const USUAL: Plan = Plan {
    heads: 2,
    clients: 2,
    shelf: true,
};

/// What a guest is there for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// A node of the cluster
    Head,
    /// Uses what the cluster offers
    Client,
    /// Exports disks to the heads
    Shelf,
}

/// A network between guests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub enum Network {
    /// Corosync's network: ring0, 10.77.0.0/24
    Cluster,
    /// The clients' network: lan0, 192.0.2.0/24 and 2001:db8::/64
    Client,
    /// The network of replication, of the shelf, and the second one of clients: repl0, 10.77.3.0/24
    Replication,
    /// The network of the lab itself and of the BMCs: mgmt0, 10.77.4.0/24
    Management,
}

/// All networks.
pub const NETWORKS: [Network; 4] = [
    Network::Cluster,
    Network::Client,
    Network::Replication,
    Network::Management,
];

impl Network {
    /// The name of its interface in a guest.
    pub fn interface(self) -> &'static str {
        match self {
            Network::Cluster => "ring0",
            Network::Client => "lan0",
            Network::Replication => "repl0",
            Network::Management => "mgmt0",
        }
    }

    /// The name of its bridge, and the last part of the names of its taps.
    pub fn short(self) -> &'static str {
        match self {
            Network::Cluster => "ring",
            Network::Client => "lan",
            Network::Replication => "repl",
            Network::Management => "mgmt",
        }
    }

    /// The number in MAC addresses.
    pub fn number(self) -> u8 {
        match self {
            Network::Cluster => 1,
            Network::Client => 2,
            Network::Replication => 3,
            Network::Management => 4,
        }
    }

    /// Its name: what [`Network::parse`] reads.
    pub fn word(self) -> &'static str {
        match self {
            Network::Cluster => "cluster",
            Network::Client => "client",
            Network::Replication => "replication",
            Network::Management => "management",
        }
    }

    /// The network of this name: cluster, client, replication or management.
    pub fn parse(text: &str) -> Result<Network> {
        <Network as clap::ValueEnum>::from_str(text, false).map_err(|_| {
            anyhow::anyhow!(
                "{text:?} is no network: expected cluster, client, replication or management"
            )
        })
    }
}

/// One guest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Guest {
    /// n1, n2, client, shelf
    pub name: String,
    /// What it is there for.
    pub role: Role,
    /// The last byte of its addresses.
    pub number: u8,
}

impl Guest {
    /// Memory, in MiB: with it two heads, a client and a shelf stay below 5 GiB.
    pub fn memory(&self) -> u32 {
        match self.role {
            Role::Head => 1536,
            Role::Client => 512,
            Role::Shelf => 512,
        }
    }

    /// The networks it is plugged into.
    pub fn networks(&self) -> &'static [Network] {
        match self.role {
            Role::Head => &NETWORKS,
            // Two ways to the heads, as storage clients have them.
            Role::Client => &[Network::Client, Network::Replication, Network::Management],
            Role::Shelf => &[Network::Replication, Network::Management],
        }
    }
}

impl Plan {
    /// All guests, heads first.
    pub fn guests(&self) -> Result<Vec<Guest>> {
        let mut guests = Vec::new();
        let mut add = |name: String, role| -> Result<()> {
            let number = layout::number(&name)?;
            guests.push(Guest { name, role, number });
            Ok(())
        };
        for name in self.heads() {
            add(name, Role::Head)?;
        }
        for name in self.clients() {
            add(name, Role::Client)?;
        }
        if self.shelf {
            add(SHELF.to_owned(), Role::Shelf)?;
        }
        Ok(guests)
    }

    /// The names of the heads.
    pub fn heads(&self) -> Vec<String> {
        layout::nodes(usize::from(self.heads))
    }

    /// The names of the clients.
    pub fn clients(&self) -> Vec<String> {
        let name = |index| match index {
            1 => CLIENT.to_owned(),
            other => format!("{CLIENT}{other}"),
        };
        (1..=self.clients).map(name).collect()
    }

    /// A word for it, as part of a file name.
    pub fn word(&self) -> String {
        let shelf = if self.shelf { "-shelf" } else { "" };
        format!("{}h-{}c{shelf}", self.heads, self.clients)
    }

    /// The guest of this name.
    pub fn guest(&self, name: &str) -> Result<Guest> {
        let found = self.guests()?.into_iter().find(|guest| guest.name == name);
        found.with_context(|| format!("{name:?} is no guest of this lab"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers() {
        let plan = Plan {
            heads: 2,
            clients: 2,
            shelf: true,
        };
        let guests = plan.guests().unwrap();
        let names: Vec<_> = guests
            .iter()
            .map(|guest| (guest.name.as_str(), guest.number))
            .collect();
        assert_eq!(
            names,
            [
                ("n1", 1),
                ("n2", 2),
                ("client", 254),
                ("client2", 253),
                ("shelf", 250)
            ]
        );
        let memory: u32 = guests.iter().map(Guest::memory).sum();
        assert!(memory < 5 * 1024);
        assert_eq!(plan.word(), "2h-2c-shelf");
        assert!(plan.guest("client2").is_ok() && plan.guest("n3").is_err());
        assert_eq!(Network::parse("client").unwrap(), Network::Client);
        assert!(Network::parse("lan0").is_err());
    }
}
