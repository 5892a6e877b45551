//! A network that behaves like the kernel's: what is added is there, twice is refused, IPv6
//! addresses are tentative for a while, and the primary address may take others along.
//!
//! The rules were taken from the kernel (net/ipv4/devinet.c, net/ipv6/addrconf.c of 6.12), and
//! the tests of each agent in a network namespace hold them against the real one.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::rc::Rc;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use nix::errno::Errno;

use super::script::{Script, Verdict};
use crate::net::portblock::{Block, Closed, Direction, Listener, Ports, Protocol};
use crate::net::{
    Address, AddressFlags, Announcement, Family, Link, LinkState, Mac, Net, NetError, Route,
    SourceLabel,
};
use crate::{Deadline, System};

/// How long duplicate address detection takes.
const DETECTION: Duration = Duration::from_secs(1);

/// All network namespaces of a test's machine.
#[derive(Clone, Default)]
pub struct Network(Arc<Mutex<BTreeMap<Option<String>, Tables>>>);

/// One network namespace.
#[derive(Default)]
pub struct Tables {
    /// The interfaces.
    pub links: Vec<Link>,
    /// The addresses, in the order in which they were added.
    pub addresses: Vec<Address>,
    /// The routes. The model makes none by itself.
    pub routes: Vec<Route>,
    /// Labels for choosing source addresses.
    pub labels: Vec<SourceLabel>,
    /// How many TCP connections each local address has.
    pub connections: BTreeMap<IpAddr, usize>,
    /// Other hosts' hardware addresses, by the address they claim.
    pub neighbours: BTreeMap<IpAddr, Vec<Mac>>,
    /// What was announced: interface, address, form.
    pub announced: Vec<(String, IpAddr, Announcement)>,
    /// The interface through which the kernel would send, where it is not obvious.
    pub route_choice: BTreeMap<IpAddr, u32>,
    /// Somebody removes the address after so many announcements.
    pub gone_after_announcements: Option<usize>,
    /// The sockets that listen.
    pub listeners: Vec<Listener>,
    /// The blocks of ports, by their tables' names. How long each lasts is as of when it was made.
    pub blocks: BTreeMap<String, Block>,
    /// The kernel has no nf_tables.
    pub no_nf_tables: bool,
    blocked_until: BTreeMap<String, Instant>,
    tentative_until: Vec<(IpAddr, Instant)>,
}

impl Network {
    pub(crate) fn new() -> Network {
        let network = Network::default();
        network.locked().insert(None, Tables::default());
        network
    }

    /// Looks at, or changes, the machine's own namespace.
    pub fn edit<T>(&self, edit: impl FnOnce(&mut Tables) -> T) -> T {
        edit(self.locked().entry(None).or_default())
    }

    /// Looks at, or changes, a named namespace; it is there from then on.
    pub fn edit_in<T>(&self, namespace: &str, edit: impl FnOnce(&mut Tables) -> T) -> T {
        edit(self.locked().entry(Some(namespace.into())).or_default())
    }

    /// Looks at every namespace there is.
    pub fn look(&self, mut look: impl FnMut(Option<&str>, &Tables)) {
        for (namespace, tables) in self.locked().iter() {
            look(namespace.as_deref(), tables);
        }
    }

    pub(crate) fn open(
        &self,
        script: Script,
        namespace: Option<&str>,
        deadline: Deadline,
    ) -> Result<Rc<dyn Net>, NetError> {
        let namespace = namespace.map(str::to_owned);
        if !self.locked().contains_key(&namespace) {
            return Err(NetError::NoNamespace(namespace.unwrap_or_default()));
        }
        Ok(Rc::new(View {
            network: self.clone(),
            script,
            namespace,
            deadline,
        }))
    }

    // A simulated SIGKILL unwinds; what it leaves behind is what is to be tested.
    fn locked(&self) -> MutexGuard<'_, BTreeMap<Option<String>, Tables>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Tables {
    /// Adds an Ethernet interface that is up and has a carrier, and returns its index.
    pub fn add_link(&mut self, name: &str) -> u32 {
        let index = self.links.iter().map(|link| link.index).max().unwrap_or(0) + 1;
        self.links.push(Link {
            index,
            name: name.into(),
            altnames: Vec::new(),
            kind: 1,
            mac: Mac(vec![2, 0, 0, 0, 0, index as u8]),
            broadcast: Mac(vec![255; 6]),
            up: true,
            carrier: true,
            noarp: false,
            loopback: false,
            state: LinkState::Up,
        });
        index
    }

    /// Adds the loopback interface.
    pub fn add_loopback(&mut self) -> u32 {
        let index = self.add_link("lo");
        let link = self.link_mut("lo");
        (link.kind, link.loopback, link.state) = (772, true, LinkState::Unknown);
        (link.mac, link.broadcast) = (Mac(vec![0; 6]), Mac(vec![0; 6]));
        index
    }

    /// The interface of that name, which must be there.
    pub fn link_mut(&mut self, name: &str) -> &mut Link {
        self.links
            .iter_mut()
            .find(|link| link.name == name)
            .expect("an interface of the test's own")
    }

    /// Adds the route to a directly connected network.
    pub fn add_route(&mut self, network: &str, link: u32, metric: u32) {
        let (destination, prefix) = network
            .split_once('/')
            .expect("a network such as 192.0.2.0/24");
        self.routes.push(Route {
            destination: Some(destination.parse().expect("an address")),
            prefix: prefix.parse().expect("a prefix length"),
            link: Some(link),
            gateway: false,
            metric,
            linkdown: false,
        });
    }

    fn same_network(a: &Address, b: &Address) -> bool {
        let network = |ip: Ipv4Addr, prefix: u8| {
            u32::from(ip)
                .checked_shr(32 - u32::from(prefix))
                .unwrap_or(0)
        };
        match (a.ip, b.ip) {
            (IpAddr::V4(x), IpAddr::V4(y)) => {
                a.link == b.link
                    && a.prefix == b.prefix
                    && network(x, a.prefix) == network(y, b.prefix)
            }
            _ => false,
        }
    }

    fn add(&mut self, address: &Address, now: Instant) -> Result<(), Errno> {
        let link = self
            .links
            .iter()
            .find(|link| link.index == address.link)
            .ok_or(Errno::ENODEV)?
            .clone();
        let twin = |other: &&Address| {
            other.link == address.link
                && other.ip == address.ip
                && (other.prefix == address.prefix || address.ip.is_ipv6())
        };
        if self.addresses.iter().find(twin).is_some() {
            return Err(Errno::EEXIST);
        }
        let mut added = address.clone();
        if address.ip.is_ipv4() {
            added.label.get_or_insert(link.name.clone());
            if self
                .addresses
                .iter()
                .any(|other| Tables::same_network(other, &added))
            {
                added.flags.0 |= AddressFlags::SECONDARY;
            }
        } else if !address.flags.has(AddressFlags::NODAD) && !link.noarp && !link.loopback {
            added.flags.0 |= AddressFlags::TENTATIVE;
            self.tentative_until.push((address.ip, now + DETECTION));
        }
        added.flags.0 |= AddressFlags::PERMANENT;
        if address.preferred == Some(0) {
            added.flags.0 |= AddressFlags::DEPRECATED;
        }
        self.addresses.push(added);
        Ok(())
    }

    fn remove(&mut self, address: &Address, promote: bool) -> Result<(), Errno> {
        let matches = |other: &Address| {
            other.link == address.link
                && other.ip == address.ip
                && other.prefix == address.prefix
                && (address.label.is_none() || address.label == other.label)
        };
        let at = self
            .addresses
            .iter()
            .position(matches)
            .ok_or(Errno::EADDRNOTAVAIL)?;
        let removed = self.addresses.remove(at);
        if removed.ip.is_ipv4() && !removed.flags.has(AddressFlags::SECONDARY) {
            if promote {
                let heir = self
                    .addresses
                    .iter_mut()
                    .find(|other| Tables::same_network(other, &removed));
                if let Some(heir) = heir {
                    heir.flags.0 &= !AddressFlags::SECONDARY;
                }
            } else {
                self.addresses
                    .retain(|other| !Tables::same_network(other, &removed));
            }
        }
        Ok(())
    }

    /// A block as it is at a time.
    fn block_at(&self, table: &str, now: Instant) -> Option<Block> {
        let until = self.blocked_until.get(table).copied().unwrap_or(now);
        let mut block = self.blocks.get(table)?.clone();
        block.left = until.saturating_duration_since(now);
        Some(block)
    }

    /// Duplicate address detection, at a time.
    fn settle(&mut self, now: Instant) {
        let Tables {
            addresses,
            links,
            neighbours,
            tentative_until,
            ..
        } = self;
        for (ip, _) in tentative_until.iter().filter(|(_, until)| *until <= now) {
            for address in addresses.iter_mut().filter(|address| address.ip == *ip) {
                let carrier = links
                    .iter()
                    .any(|link| link.index == address.link && link.fault().is_none());
                if neighbours.contains_key(ip) {
                    address.flags.0 |= AddressFlags::DADFAILED;
                } else if carrier {
                    address.flags.0 &= !AddressFlags::TENTATIVE;
                }
            }
        }
    }
}

/// One action's look at the network: every request is a step at which a fault may be injected.
struct View {
    network: Network,
    script: Script,
    namespace: Option<String>,
    deadline: Deadline,
}

impl View {
    fn ask<T>(
        &self,
        what: impl Into<String>,
        answer: impl FnOnce(&mut Tables) -> Result<T, Errno>,
    ) -> Result<T, NetError> {
        let what = what.into();
        match self.script.step(&what) {
            Verdict::Go => {}
            Verdict::Fail => return Err(NetError::refused(what, Errno::ENOBUFS)),
            Verdict::Hang => {
                self.script.sleep(self.deadline.left(self.script.now()));
                return Err(NetError::TimedOut { request: what });
            }
        }
        let now = self.script.now();
        let mut namespaces = self.network.locked();
        let tables = namespaces.entry(self.namespace.clone()).or_default();
        tables.settle(now);
        answer(tables).map_err(|errno| NetError::refused(what, errno))
    }

    fn promotes(&self, link: &str) -> bool {
        ["all", link].iter().any(|name| {
            let path = format!("/proc/sys/net/ipv4/conf/{name}/promote_secondaries");
            self.script
                .read_file(&path)
                .is_some_and(|text| text.trim() == "1")
        })
    }
}

impl Net for View {
    fn links(&self) -> Result<Vec<Link>, NetError> {
        self.ask("reading the interfaces", |tables| Ok(tables.links.clone()))
    }

    fn link_named(&self, name: &str) -> Result<Option<Link>, NetError> {
        self.ask(format!("looking for the interface {name}"), |tables| {
            Ok(tables
                .links
                .iter()
                .find(|link| link.is_called(name))
                .cloned())
        })
    }

    fn link(&self, index: u32) -> Result<Option<Link>, NetError> {
        self.ask(format!("looking for interface number {index}"), |tables| {
            Ok(tables
                .links
                .iter()
                .find(|link| link.index == index)
                .cloned())
        })
    }

    fn addresses(&self, family: Family) -> Result<Vec<Address>, NetError> {
        self.ask("reading the addresses", |tables| {
            Ok(tables
                .addresses
                .iter()
                .filter(|address| Family::of(address.ip) == family)
                .cloned()
                .collect())
        })
    }

    fn places_of(&self, ip: IpAddr) -> Result<Vec<Address>, NetError> {
        self.ask(format!("looking for {ip}"), |tables| {
            let found = tables.addresses.iter().filter(|address| address.ip == ip);
            Ok(found.cloned().collect())
        })
    }

    fn routes(&self, family: Family) -> Result<Vec<Route>, NetError> {
        self.ask("reading the routes", |tables| {
            let family =
                |route: &&Route| route.destination.is_some_and(|ip| Family::of(ip) == family);
            Ok(tables.routes.iter().filter(family).cloned().collect())
        })
    }

    fn route_to(&self, ip: IpAddr) -> Result<Option<u32>, NetError> {
        self.ask(format!("looking for the route to {ip}"), |tables| {
            Ok(tables.route_choice.get(&ip).copied())
        })
    }

    fn add_address(&self, address: &Address) -> Result<(), NetError> {
        let now = self.script.now();
        self.ask(format!("adding {address}"), |tables| {
            tables.add(address, now)
        })
    }

    fn replace_address(&self, address: &Address) -> Result<(), NetError> {
        self.ask(format!("changing {address}"), |tables| {
            let found = tables.addresses.iter_mut().find(|other| {
                other.link == address.link
                    && other.ip == address.ip
                    && other.prefix == address.prefix
            });
            let found = found.ok_or(Errno::ENOENT)?;
            found.preferred = address.preferred;
            found.flags.0 &= !AddressFlags::DEPRECATED;
            if address.preferred == Some(0) {
                found.flags.0 |= AddressFlags::DEPRECATED;
            }
            Ok(())
        })
    }

    fn remove_address(&self, address: &Address) -> Result<(), NetError> {
        let name = {
            let namespaces = self.network.locked();
            let tables = namespaces.get(&self.namespace);
            let link = tables
                .and_then(|tables| tables.links.iter().find(|link| link.index == address.link));
            link.map(|link| link.name.clone()).unwrap_or_default()
        };
        let promote = self.promotes(&name);
        self.ask(format!("removing {address}"), |tables| {
            tables.remove(address, promote)
        })
    }

    fn set_up(&self, link: u32) -> Result<(), NetError> {
        self.ask(format!("bringing interface number {link} up"), |tables| {
            let link = tables
                .links
                .iter_mut()
                .find(|other| other.index == link)
                .ok_or(Errno::ENODEV)?;
            link.up = true;
            Ok(())
        })
    }

    fn add_source_label(&self, label: &SourceLabel) -> Result<(), NetError> {
        self.ask(
            format!("adding the source label of {}", label.ip),
            |tables| {
                if tables
                    .labels
                    .iter()
                    .any(|other| other.ip == label.ip && other.link == label.link)
                {
                    return Err(Errno::EEXIST);
                }
                tables.labels.push(label.clone());
                Ok(())
            },
        )
    }

    fn remove_source_label(&self, label: &SourceLabel) -> Result<(), NetError> {
        self.ask(
            format!("removing the source label of {}", label.ip),
            |tables| {
                let at = tables
                    .labels
                    .iter()
                    .position(|other| other.ip == label.ip && other.link == label.link);
                tables.labels.remove(at.ok_or(Errno::ESRCH)?);
                Ok(())
            },
        )
    }

    fn destroy_connections(&self, ip: IpAddr) -> Result<usize, NetError> {
        self.ask(format!("ending the connections of {ip}"), |tables| {
            Ok(tables.connections.remove(&ip).unwrap_or(0))
        })
    }

    fn listeners(&self, protocol: Protocol, _: Family) -> Result<Vec<Listener>, NetError> {
        self.ask(format!("reading who listens on {protocol}"), |tables| {
            let all = tables.listeners.iter();
            Ok(all.filter(|it| it.protocol == protocol).copied().collect())
        })
    }

    fn block(
        &self,
        table: &str,
        ip: IpAddr,
        ports: &[Ports],
        limit: Duration,
        _: Direction,
    ) -> Result<(), NetError> {
        let until = self.script.now() + limit;
        let made = self.ask(format!("making the nft table {table}"), |tables| {
            if tables.no_nf_tables {
                return Ok(false);
            }
            let closed = ports.iter().map(|ports| Closed { ip, ports: *ports });
            let block = Block {
                table: table.into(),
                closed: closed.collect(),
                left: limit,
            };
            tables.blocks.insert(table.into(), block);
            tables.blocked_until.insert(table.into(), until);
            Ok(true)
        })?;
        made.then_some(()).ok_or(NetError::NoNfTables)
    }

    fn block_of(&self, table: &str) -> Result<Option<Block>, NetError> {
        let now = self.script.now();
        self.ask(format!("looking for the nft table {table}"), |tables| {
            Ok(tables.block_at(table, now))
        })
    }

    fn blocks(&self) -> Result<Vec<Block>, NetError> {
        let now = self.script.now();
        self.ask("reading the nft tables", |tables| {
            let names = tables.blocks.keys();
            Ok(names
                .filter_map(|name| tables.block_at(name, now))
                .collect())
        })
    }

    fn unblock(&self, block: &Block, open: &[Closed]) -> Result<(), NetError> {
        if block.closed.iter().all(|closed| open.contains(closed)) {
            return self.remove_block(&block.table);
        }
        for one in block.closed.iter().filter(|closed| open.contains(closed)) {
            self.ask(format!("opening {one}"), |tables| {
                if let Some(found) = tables.blocks.get_mut(&block.table) {
                    found.closed.retain(|closed| closed != one);
                }
                Ok(())
            })?;
        }
        Ok(())
    }

    fn remove_block(&self, table: &str) -> Result<(), NetError> {
        self.ask(format!("removing the nft table {table}"), |tables| {
            tables.blocks.remove(table);
            tables.blocked_until.remove(table);
            Ok(())
        })
    }

    fn watch(&self) -> Result<(), NetError> {
        self.ask("watching for address changes", |_| Ok(()))
    }

    fn await_change(&self, limit: Duration) -> Result<(), NetError> {
        self.script.sleep(limit.min(DETECTION));
        self.ask("waiting for address changes", |_| Ok(()))
    }

    fn announce(&self, link: &Link, ip: IpAddr, form: Announcement) -> Result<(), NetError> {
        self.ask(format!("announcing {ip} on {}", link.name), |tables| {
            tables.announced.push((link.name.clone(), ip, form));
            if tables.gone_after_announcements == Some(tables.announced.len()) {
                tables.addresses.retain(|address| address.ip != ip);
            }
            Ok(())
        })
    }

    fn who_has(&self, link: &Link, ip: IpAddr, limit: Duration) -> Result<Vec<Mac>, NetError> {
        self.script.sleep(limit);
        self.ask(format!("asking who has {ip} on {}", link.name), |tables| {
            Ok(tables.neighbours.get(&ip).cloned().unwrap_or_default())
        })
    }
}
