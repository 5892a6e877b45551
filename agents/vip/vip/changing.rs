//! The single steps of start and stop.

use std::time::Duration;

use host::net::{Address, AddressFlags, Announcement, Family, Link, Net, NetError};
use nix::errno::Errno;
use ocf::prelude::*;

use super::looking::Instance;
use super::{PLACEMENT, SCOPE_HOST, Vip};
use crate::values::{ArpMode, Placement};

/// How long an interface that was just brought up may take to find its link.
const LINK_UP: Duration = Duration::from_secs(5);

impl Vip {
    /// Notes where the address is; false where that is not possible. It is found all the same.
    pub(super) fn note(&self, node: &Node, placement: &Placement) -> bool {
        let noted = node.set_hint(PLACEMENT, &placement.to_text());
        if let Err(error) = &noted {
            warn!("doing without a note of where {} is: {error:#}", self.ip);
        }
        noted.is_ok()
    }

    /// Brings the interface up, if that is wanted, and sees that it has a link, if that is.
    pub(super) fn ready(&self, node: &Node, net: &dyn Net, link: Link) -> Result<Link> {
        let mut link = link;
        if !link.up && self.bring_up.is_on() {
            info!("bringing {} up", link.name);
            net.set_up(link.index)?;
            let patience = node.now() + LINK_UP.min(node.time_left() / 2);
            node.wait_for(&format!("{} to come up", link.name), || {
                link = net
                    .link(link.index)?
                    .with_context(|| format!("{} is gone", link.name))?;
                Ok(self.link_fault(&link).is_none() || node.now() >= patience)
            })?;
        }
        if let Some(fault) = self.link_fault(&link) {
            bail!("{}, where {} belongs, {fault}", link.name, self.ip);
        }
        Ok(link)
    }

    /// Waits, for at most `limit`, until the kernel knows that no other host has the address. The
    /// changes of addresses must be watched already.
    pub(super) fn await_detection(
        &self,
        node: &Node,
        net: &dyn Net,
        link: &Link,
        limit: Duration,
    ) -> Result<()> {
        let (ip, nic) = (self.ip, &link.name);
        let until = node.now() + limit.min(node.time_left());
        loop {
            let places = net.places_of(ip)?;
            let here = places.iter().find(|address| address.link == link.index);
            let flags = here
                .with_context(|| format!("{ip} has vanished from {nic}"))?
                .flags;
            ensure!(
                !flags.has(AddressFlags::DADFAILED),
                "another host has {ip}: duplicate address detection failed on {nic}"
            );
            if !flags.has(AddressFlags::TENTATIVE) {
                return Ok(());
            }
            let left = until.saturating_duration_since(node.now());
            ensure!(
                !left.is_zero(),
                "duplicate address detection of {ip} on {nic} did not finish in time: it does not without a link"
            );
            net.await_change(left)?;
        }
    }

    /// Tells the neighbours `count` times where the address is, and looks before each time but
    /// the first whether it still is: a late announcement would take it from its next owner.
    pub(super) fn announce(
        &self,
        node: &Node,
        net: &dyn Net,
        link: &Link,
        count: u32,
    ) -> Result<()> {
        if !link.has_neighbours(Family::of(self.ip)) {
            return Ok(());
        }
        let forms = self.announcements(node, link)?;
        for round in 0..count {
            if round > 0 {
                node.sleep(Duration::from_millis(self.arp_interval.into()));
                let places = net.places_of(self.ip)?;
                let still_here = places.iter().any(|address| address.link == link.index);
                if !still_here || node.time_left().is_zero() {
                    return Ok(());
                }
            }
            for form in &forms {
                net.announce(link, self.ip, *form)?;
            }
        }
        Ok(())
    }

    fn announcements(&self, node: &Node, link: &Link) -> Result<Vec<Announcement>> {
        if self.ip.is_ipv6() {
            let forwarding = format!("/proc/sys/net/ipv6/conf/{}/forwarding", link.name);
            let router = node
                .read(&forwarding)?
                .is_some_and(|text| text.trim() != "0");
            return Ok(vec![Announcement::Neighbour { router }]);
        }
        Ok(match self.arp_mode {
            ArpMode::Request => vec![Announcement::Request],
            ArpMode::Reply => vec![Announcement::Reply],
            ArpMode::Both => vec![Announcement::Request, Announcement::Reply],
        })
    }

    /// Removes one instance, and what goes with it.
    pub(super) fn remove(&self, node: &Node, net: &dyn Net, instance: &Instance) -> Result<()> {
        self.protect_secondaries(node, instance)?;
        if let Some(label) = self.source_label(instance.link.index) {
            unless(Errno::ESRCH, net.remove_source_label(&label))?;
        }
        unless(Errno::EADDRNOTAVAIL, net.remove_address(&instance.address))?;
        Ok(())
    }

    /// With the first address of an IPv4 network on an interface the kernel removes all others of
    /// that network, unless promote_secondaries is set. So it is set, and left set: whether there
    /// is another address can change until the moment of the removal.
    fn protect_secondaries(&self, node: &Node, instance: &Instance) -> Result<()> {
        let Address {
            ip, prefix, flags, ..
        } = instance.address;
        if !ip.is_ipv4() || prefix == 32 || flags.has(AddressFlags::SECONDARY) {
            return Ok(());
        }
        let path = |nic: &str| format!("/proc/sys/net/ipv4/conf/{nic}/promote_secondaries");
        let nic = &instance.link.name;
        for name in ["all", nic] {
            if node
                .read(&path(name))?
                .is_none_or(|text| text.trim() == "1")
            {
                return Ok(());
            }
        }
        match node.write(&path(nic), "1") {
            Ok(()) => info!("set promote_secondaries on {nic}, so that other addresses stay"),
            Err(error) => warn!("with {ip} others of its network may go from {nic}: {error:#}"),
        }
        Ok(())
    }

    /// Ends the address's connections. The address goes in any case.
    pub(super) fn end_connections(&self, net: &dyn Net, instances: &[Instance]) {
        if instances.is_empty() {
            return;
        }
        match net.destroy_connections(self.ip) {
            Ok(0) => {}
            Ok(count) => info!("ended {count} connections of {}", self.ip),
            Err(error) => warn!("the connections of {} stay: {error}", self.ip),
        }
    }

    /// Puts the address back on the loopback interface, from where start took it.
    pub(super) fn give_back(&self, node: &Node, net: &dyn Net, hint: Placement) -> Result<()> {
        let Some(prefix) = hint.loopback else {
            return Ok(());
        };
        let loopback = net.links()?.into_iter().find(|link| link.loopback);
        let mut address = Address::new(
            self.ip,
            prefix,
            loopback.context("there is no loopback interface")?.index,
        );
        address.scope = SCOPE_HOST;
        unless(Errno::EEXIST, net.add_address(&address))?;
        info!("gave {address} back to the loopback interface");
        node.set_hint(
            PLACEMENT,
            &Placement {
                loopback: None,
                ..hint
            }
            .to_text(),
        )
    }
}

/// A refusal that means: it is so already.
pub(super) fn unless(accepted: Errno, result: Result<(), NetError>) -> Result<(), NetError> {
    match result {
        Err(error) if error.errno() == Some(accepted) => Ok(()),
        other => other,
    }
}
