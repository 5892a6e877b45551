//! Where the address is, where it should be, and in what the two differ. Changes nothing.

use std::net::IpAddr;
use std::rc::Rc;
use std::time::Duration;

use host::net::{Address, AddressFlags, Family, Link, Net, NetError, SourceLabel};
use ocf::prelude::*;
use probe::net::Connection;

use super::{PLACEMENT, SCOPE_HOST, Vip};
use crate::values::Placement;

/// How long to listen for another host that has the address.
const LISTEN: Duration = Duration::from_millis(500);

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

    pub(super) fn nic_name(&self) -> &str {
        self.nic.as_ref().map_or("any interface", |nic| &nic.name)
    }

    /// The label, without the interface's name.
    pub(super) fn short_label(&self) -> Option<&String> {
        self.iflabel
            .as_ref()
            .or(self.nic.as_ref().and_then(|nic| nic.label.as_ref()))
    }

    /// What the last start noted, if it was about this address.
    pub(super) fn hint(&self, node: &Node) -> Result<Option<Placement>> {
        let hint = node
            .hint(PLACEMENT)?
            .and_then(|text| Placement::from_text(&text));
        Ok(hint.filter(|hint| hint.ip == self.ip))
    }

    /// Every instance of the address. With `lvs_support` the one on the loopback interface is
    /// not in service, and does not count.
    pub(super) fn instances(&self, net: &dyn Net) -> Result<Vec<Instance>> {
        let mut instances = Vec::new();
        for address in net
            .addresses(Family::of(self.ip))?
            .into_iter()
            .filter(|address| address.ip == self.ip)
        {
            // An interface that is gone by now has taken its addresses along.
            if let Some(link) = net.link(address.link)? {
                instances.push(Instance { address, link });
            }
        }
        if self.lvs_support.is_on() {
            instances.retain(|instance| !instance.link.loopback);
        }
        Ok(instances)
    }

    /// The instances, told apart. With nic configured, ours are those on that interface and on
    /// the one a start noted. Without, all are, but for those another `vip` has noted as its own.
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
            let noted = hint.is_some_and(|hint| hint.link == instance.link.index);
            let named = self
                .nic
                .as_ref()
                .is_some_and(|nic| instance.link.is_called(&nic.name));
            if noted || named {
                found.ours.push(instance);
            } else if self.noted_by_another(node, instance.link.index)? {
                // Several resources may have one address, each on its own interface.
            } else if self.nic.is_none() {
                found.ours.push(instance);
            } else {
                found.foreign.push(instance);
            }
        }
        Ok(found)
    }

    /// Has another `vip` on this node noted that it put the address on this interface?
    pub(super) fn noted_by_another(&self, node: &Node, link: u32) -> Result<bool> {
        let hints = node.hints_of_others(PLACEMENT)?;
        let mut placements = hints.iter().filter_map(|text| Placement::from_text(text));
        Ok(placements.any(|placement| placement.ip == self.ip && placement.link == link))
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
    pub(super) fn check_usable(&self, instance: &Instance) -> Result<()> {
        let (ip, nic) = (self.ip, &instance.link.name);
        let flags = instance.address.flags;
        ensure!(
            !flags.has(AddressFlags::DADFAILED),
            "another host has {ip}: duplicate address detection failed on {nic}"
        );
        if let Some(fault) = self.link_fault(&instance.link) {
            bail!("{nic}, which has {ip}, {fault}");
        }
        ensure!(
            !flags.has(AddressFlags::TENTATIVE) || flags.has(AddressFlags::OPTIMISTIC),
            "{ip} on {nic} is tentative: duplicate address detection is not over"
        );
        Ok(())
    }

    /// What is wrong with an interface's link, if that is to be watched.
    pub(super) fn link_fault(&self, link: &Link) -> Option<&'static str> {
        link.fault().filter(|_| self.check_link_status.is_on())
    }

    /// Asks the network whether another host has the address.
    pub(super) fn check_nobody_else(&self, net: &dyn Net, link: &Link) -> Result<()> {
        if link.noarp || link.loopback {
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
        let network = self.network(net, nic.as_ref())?.with_context(|| match (&nic, self.prefix()) {
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

    /// The connected network for the address, on `nic` if that is known. A configured prefix must
    /// fit it: lie within the network for IPv4, be the same for IPv6, as IPaddr2 has it.
    fn network(&self, net: &dyn Net, nic: Option<&Link>) -> Result<Option<Connection>> {
        let family = Family::of(self.ip);
        let fits = |link: Option<u32>, length: u8| {
            let right_nic = nic.is_none_or(|nic| link == Some(nic.index));
            right_nic
                && self.prefix().is_none_or(|prefix| match family {
                    Family::V4 => length <= prefix,
                    Family::V6 => length == prefix,
                })
        };
        let mut routes = net.routes(family)?;
        routes.retain(|route| fits(route.link, route.prefix));
        let mut addresses = net.addresses(family)?;
        addresses.retain(|address| fits(Some(address.link), address.prefix));
        let best = probe::net::connected(self.ip, &routes, &addresses);
        if best.len() < 2 {
            return Ok(best.first().copied());
        }
        let kernels = net.route_to(self.ip)?;
        let kernels = best.iter().find(|network| Some(network.link) == kernels);
        Ok(kernels.or(best.first()).copied())
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
            address.broadcast = self.broadcast.of(four, prefix);
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
        let addresses = net.addresses(Family::of(self.ip))?;
        Ok(addresses
            .into_iter()
            .filter(|address| address.ip == self.ip)
            .find_map(|address| {
                let link = links
                    .iter()
                    .find(|link| link.loopback && link.index == address.link)?
                    .clone();
                Some(Instance { address, link })
            }))
    }
}
