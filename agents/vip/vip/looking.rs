//! Where the address is, where it should be, and in what the two differ. Changes nothing.

use std::net::IpAddr;
use std::rc::Rc;
use std::time::Duration;

use host::net::{Address, AddressFlags, Family, Link, Net, NetError, SourceLabel};
use ocf::prelude::*;
use probe::net::Connection;

use super::{PLACEMENT, SCOPE_HOST, Vip};
use crate::values::{Broadcast, Placement};

/// How long to listen for another host that has the address.
const LISTEN: Duration = Duration::from_millis(500);
/// How long duplicate address detection may take that was not begun by this action: the kernel
/// needs one to two seconds.
const DETECTION: Duration = Duration::from_secs(4);

/// The address, somewhere on this node.
pub(super) struct Instance {
    pub(super) address: Address,
    pub(super) link: Link,
}

/// Every place where the address is on this node.
pub(super) struct Found {
    /// Where this resource puts it, or has put it.
    pub(super) ours: Vec<Instance>,
    /// Elsewhere, and no other `vip` put it there.
    pub(super) foreign: Vec<Instance>,
}

impl Vip {
    /// The network tables; None if the configured namespace does not exist.
    pub(super) fn net(&self, node: &Node) -> Result<Option<Rc<dyn Net>>> {
        match node.net(self.network_namespace.as_deref()) {
            Ok(net) => Ok(Some(net)),
            Err(NetError::NoNamespace(_)) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    pub(super) fn prefix(&self) -> Option<u8> {
        self.cidr_netmask.or(self.netmask).map(|prefix| prefix.0)
    }

    /// Where the address belongs, for messages.
    pub(super) fn belongs(&self) -> &str {
        self.nic
            .as_ref()
            .map_or("the interface of its network", |nic| &nic.name)
    }

    /// The label, without the interface's name.
    pub(super) fn short_label(&self) -> Option<&String> {
        self.iflabel
            .as_ref()
            .or(self.nic.as_ref().and_then(|nic| nic.label.as_ref()))
    }

    /// A note of where the address is, for the next action to know.
    pub(super) fn placement(&self, link: &Link, prefix: u8) -> Placement {
        Placement {
            ip: self.ip,
            prefix,
            link: link.index,
            nic: link.name.clone(),
            namespace: self.network_namespace.clone(),
            loopback: None,
        }
    }

    /// What the last start noted, if it was about this address.
    pub(super) fn hint(&self, node: &Node) -> Option<Placement> {
        node.hint(PLACEMENT).and_then(|text| self.noted(&text))
    }

    /// A note, if it is about this address.
    fn noted(&self, text: &str) -> Option<Placement> {
        let about_us = |placement: &Placement| {
            placement.ip == self.ip && placement.namespace == self.network_namespace
        };
        Placement::from_text(text).filter(about_us)
    }

    /// Every instance of the address that is in service. One on the loopback interface is not,
    /// unless it belongs there: hosts behind a load balancer, and anycast, have it there for good.
    fn instances(&self, net: &dyn Net) -> Result<Vec<Instance>> {
        let mut instances = Vec::new();
        for address in net.places_of(self.ip)? {
            // An interface that is gone by now has taken its addresses along.
            if let Some(link) = net.link(address.link)? {
                instances.push(Instance { address, link });
            }
        }
        instances.retain(|Instance { link, .. }| {
            !link.loopback || self.ip.is_loopback() || self.is_named(link)
        });
        Ok(instances)
    }

    /// Is it the interface that the configuration names?
    fn is_named(&self, link: &Link) -> bool {
        self.nic
            .as_ref()
            .is_some_and(|nic| link.is_called(&nic.name))
    }

    /// The instances, told apart. With nic configured, ours are those on that interface, and on
    /// the one that start noted. Without, the resource is the address wherever it is on this node:
    /// whatever stop left would answer for it beside the next node.
    pub(super) fn found(
        &self,
        node: &Node,
        net: &dyn Net,
        hint: Option<&Placement>,
    ) -> Result<Found> {
        let mut found = Found {
            ours: Vec::new(),
            foreign: Vec::new(),
        };
        for instance in self.instances(net)? {
            let index = instance.link.index;
            let noted = hint.is_some_and(|hint| hint.link == index);
            if noted || self.nic.is_none() || self.is_named(&instance.link) {
                found.ours.push(instance);
            } else if !self.is_per_link() && !self.is_noted_by_another(node, index) {
                found.foreign.push(instance);
            }
        }
        Ok(found)
    }

    /// May every link have the address, each for itself?
    fn is_per_link(&self) -> bool {
        matches!(self.ip, IpAddr::V6(six) if six.is_unicast_link_local())
    }

    /// Has another `vip` on this node noted that it put the address on this interface? Several
    /// resources may have one address, each on its own interface.
    fn is_noted_by_another(&self, node: &Node, link: u32) -> bool {
        let hints = node.hints_of_others(PLACEMENT);
        hints
            .iter()
            .filter_map(|text| self.noted(text))
            .any(|placement| placement.link == link)
    }

    /// In what an instance differs from the configuration, and from what start chose beyond it.
    pub(super) fn misplaced(
        &self,
        instance: &Instance,
        hint: Option<&Placement>,
    ) -> Option<String> {
        let (ip, nic) = (self.ip, &instance.link.name);
        let expected_nic = match &self.nic {
            Some(nic) => (!instance.link.is_called(&nic.name)).then_some(nic.name.as_str()),
            None => hint
                .filter(|hint| hint.link != instance.link.index)
                .map(|hint| hint.nic.as_str()),
        };
        if let Some(expected) = expected_nic {
            return Some(format!("{ip} is on {nic}, expected on {expected}"));
        }
        let prefix = instance.address.prefix;
        if let Some(expected) = self
            .prefix()
            .or(hint.map(|hint| hint.prefix))
            .filter(|expected| *expected != prefix)
        {
            return Some(format!(
                "{ip} on {nic} has prefix length {prefix}, expected {expected}"
            ));
        }
        let expected = self.label(&instance.link)?;
        let label = instance.address.label.as_deref().unwrap_or_default();
        (label != expected).then(|| format!("{ip} on {nic} has label {label}, expected {expected}"))
    }

    /// Is the address, where it should be, one that can be reached?
    pub(super) fn check_usable(
        &self,
        node: &Node,
        net: &dyn Net,
        instance: &Instance,
    ) -> Result<()> {
        if let Some(fault) = self.link_fault(&instance.link) {
            bail!("{}, which has {}, {fault}", instance.link.name, self.ip);
        }
        // After its link was down for a moment, IPv6 asks the network anew.
        let flags = instance.address.flags;
        if flags.has(AddressFlags::TENTATIVE) && !flags.has(AddressFlags::OPTIMISTIC) {
            net.watch()?;
            return self.await_detection(node, net, &instance.link, DETECTION);
        }
        Ok(())
    }

    /// What is wrong with an interface's link, if that is to be watched.
    pub(super) fn link_fault(&self, link: &Link) -> Option<&'static str> {
        link.fault().filter(|_| self.check_link_status.is_on())
    }

    /// Asks the network whether another host has the address.
    pub(super) fn check_nobody_else(&self, net: &dyn Net, link: &Link) -> Result<()> {
        // Over a dead link nobody can be asked; whether that matters was decided before.
        if !link.has_neighbours(Family::of(self.ip)) || link.fault().is_some() {
            return Ok(());
        }
        match net.who_has(link, self.ip, LISTEN)?.first() {
            Some(mac) => bail!(
                "another host has {}: {mac} answers for it on {}",
                self.ip,
                link.name
            ),
            None => Ok(()),
        }
    }

    /// Where to put the address: as configured, or else where its network is.
    pub(super) fn place(&self, net: &dyn Net) -> Result<(Link, u8)> {
        let nic = match &self.nic {
            Some(nic) => Some(net.link_named(&nic.name)?.ok_or_else(|| {
                Exit::Args.because(format!(
                    "parameter nic: \"{}\" is not on this host; expected one of its interfaces",
                    nic.name
                ))
            })?),
            None => None,
        };
        if let (Some(link), Some(prefix)) = (&nic, self.prefix()) {
            return Ok((link.clone(), prefix));
        }
        let networks = self.networks(net, nic.as_ref())?;
        let network = self.choose(net, &networks)?.with_context(|| match (&nic, self.prefix()) {
            (Some(nic), _) => format!(
                "{} is on no network with {}, and cidr_netmask is not given; expected one of the two",
                nic.name, self.ip
            ),
            (None, None) => format!(
                "no interface is on a network with {}, and nic is not given; expected one of the two",
                self.ip
            ),
            (None, Some(prefix)) => format!(
                "no interface is on a network with {}/{prefix}, and nic is not given; expected one of the two",
                self.ip
            ),
        })?;
        let link = net
            .link(network.link)?
            .context("the interface of the network is gone")?;
        Ok((link, self.prefix().unwrap_or(network.prefix)))
    }

    /// The connected networks for the address, on `nic` if that is known, all equally good. A
    /// configured prefix must lie within them.
    fn networks(&self, net: &dyn Net, nic: Option<&Link>) -> Result<Vec<Connection>> {
        let family = Family::of(self.ip);
        // A network of the loopback interface connects to nobody.
        let loopback: Vec<u32> = match nic {
            None if !self.ip.is_loopback() => {
                let links = net.links()?.into_iter();
                links
                    .filter(|link| link.loopback)
                    .map(|link| link.index)
                    .collect()
            }
            _ => Vec::new(),
        };
        let fits = |link: Option<u32>, length: u8| {
            link.is_some_and(|link| !loopback.contains(&link))
                && nic.is_none_or(|nic| link == Some(nic.index))
                && self.prefix().is_none_or(|prefix| length <= prefix)
        };
        let mut routes = net.routes(family)?;
        routes.retain(|route| fits(route.link, route.prefix));
        let mut addresses = net.addresses(family)?;
        addresses.retain(|address| fits(Some(address.link), address.prefix));
        Ok(probe::net::connected(self.ip, &routes, &addresses))
    }

    /// Among equally good networks, the one through which the kernel would send.
    fn choose(&self, net: &dyn Net, networks: &[Connection]) -> Result<Option<Connection>> {
        if networks.len() < 2 {
            return Ok(networks.first().copied());
        }
        // A rule that forbids sending there is no reason not to have the address.
        let kernels = match net.route_to(self.ip) {
            Err(NetError::Refused { .. }) => None,
            answer => answer?,
        };
        let kernels = networks
            .iter()
            .find(|network| Some(network.link) == kernels);
        Ok(kernels.or(networks.first()).copied())
    }

    /// The label, with the interface's name, if one is configured.
    pub(super) fn label(&self, link: &Link) -> Option<String> {
        self.short_label()
            .map(|label| format!("{}:{label}", link.name))
    }

    /// The address as start adds it.
    pub(super) fn address(&self, link: &Link, prefix: u8) -> Address {
        let mut address = Address::new(self.ip, prefix, link.index);
        if let IpAddr::V4(four) = self.ip {
            address.label = self.label(link);
            address.broadcast = match self.broadcast {
                Broadcast::Address(broadcast) => Some(broadcast),
                _ if link.loopback => None,
                derived => derived.of(four, prefix),
            };
            address.scope = if four.is_loopback() { SCOPE_HOST } else { 0 };
        }
        if self.noprefixroute.is_on() {
            address.flags.0 |= AddressFlags::NOPREFIXROUTE;
        }
        if self.nodad.is_on() && self.ip.is_ipv6() {
            address.flags.0 |= AddressFlags::NODAD;
        }
        address.preferred = self.preferred_lft.seconds();
        address.metric = self.metric;
        address
    }

    pub(super) fn source_label(&self, link: u32) -> Option<SourceLabel> {
        let wanted = self.ip.is_ipv6() && self.lvs_ipv6_addrlabel.is_on();
        wanted.then_some(SourceLabel {
            ip: self.ip,
            link,
            value: self.lvs_ipv6_addrlabel_value,
        })
    }

    /// With `lvs_support`, the instance on the loopback interface.
    pub(super) fn on_loopback(&self, net: &dyn Net) -> Result<Option<Instance>> {
        if !self.lvs_support.is_on() {
            return Ok(None);
        }
        let links = net.links()?;
        let loopback = |address: Address| {
            let link = links
                .iter()
                .find(|link| link.loopback && link.index == address.link)?;
            Some(Instance {
                address,
                link: link.clone(),
            })
        };
        Ok(net.places_of(self.ip)?.into_iter().find_map(loopback))
    }
}
