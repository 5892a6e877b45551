//! The single steps of start and stop.

use std::time::Duration;

use host::net::{Address, AddressFlags, ArpForm, Family, Link, Net, NetError};
use nix::errno::Errno;
use ocf::prelude::*;

use super::looking::Instance;
use super::{PLACEMENT, SCOPE_HOST, Vip};
use crate::values::{ArpMode, Placement};

/// How long an interface that was just brought up may take to find its link.
const LINK_UP: Duration = Duration::from_secs(5);

impl Vip {
    /// Brings the interface up, if that is wanted, and sees that it has a link.
    pub(super) fn ready(&self, node: &Node, net: &dyn Net, link: Link) -> Result<Link> {
        let mut link = link;
        if !link.up && self.bring_up.is_on() {
            info!("bringing {} up", link.name);
            net.set_up(link.index)?;
            let patience = node.now() + LINK_UP;
            node.wait_for(&format!("the link of {}", link.name), || {
                link = net
                    .link(link.index)?
                    .with_context(|| format!("{} is gone", link.name))?;
                Ok(link.fault().is_none() || node.now() >= patience)
            })?;
        }
        if let Some(fault) = self.link_fault(&link) {
            bail!("{}, where {} belongs, {fault}", link.name, self.ip);
        }
        Ok(link)
    }

    /// Waits until the kernel knows that no other host has the address.
    pub(super) fn await_detection(&self, node: &Node, net: &dyn Net, link: &Link) -> Result<()> {
        loop {
            let flags = net
                .addresses(Family::V6)?
                .into_iter()
                .find(|address| address.ip == self.ip && address.link == link.index)
                .with_context(|| {
                    format!(
                        "{} vanished from {} right after it was added",
                        self.ip, link.name
                    )
                })?
                .flags;
            ensure!(
                !flags.has(AddressFlags::DADFAILED),
                "another host has {}: duplicate address detection failed on {}",
                self.ip,
                link.name
            );
            if !flags.has(AddressFlags::TENTATIVE) {
                return Ok(());
            }
            let left = node.time_left();
            ensure!(
                !left.is_zero(),
                "duplicate address detection of {} on {} did not finish in time: it does not without a link",
                self.ip,
                link.name
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
        if link.noarp || link.loopback {
            return Ok(());
        }
        let forms: &[ArpForm] = match self.arp_mode {
            _ if self.ip.is_ipv6() => &[ArpForm::Request],
            ArpMode::Request => &[ArpForm::Request],
            ArpMode::Reply => &[ArpForm::Reply],
            ArpMode::Both => &[ArpForm::Request, ArpForm::Reply],
        };
        for round in 0..count {
            if round > 0 {
                node.sleep(Duration::from_millis(self.arp_interval.into()));
                let still_here = self
                    .instances(net)?
                    .iter()
                    .any(|instance| instance.link.index == link.index);
                if !still_here || node.time_left().is_zero() {
                    return Ok(());
                }
            }
            for form in forms {
                net.announce(link, self.ip, *form)?;
            }
        }
        Ok(())
    }

    /// Removes one instance, and what goes with it.
    pub(super) fn remove(&self, node: &Node, net: &dyn Net, instance: &Instance) -> Result<()> {
        self.protect_secondaries(node, net, instance)?;
        if let Some(label) = self.source_label(instance.link.index) {
            unless(Errno::ESRCH, net.remove_source_label(&label))?;
        }
        unless(Errno::EADDRNOTAVAIL, net.remove_address(&instance.address))?;
        Ok(())
    }

    /// With the first address of an IPv4 network on an interface the kernel removes all others of
    /// that network, unless promote_secondaries is set. It is set then, and left set: another
    /// address may be removed at the same moment, and needs it too.
    pub(super) fn protect_secondaries(
        &self,
        node: &Node,
        net: &dyn Net,
        instance: &Instance,
    ) -> Result<()> {
        let Address {
            ip,
            prefix,
            link,
            flags,
            ..
        } = instance.address;
        if !ip.is_ipv4() || flags.has(AddressFlags::SECONDARY) {
            return Ok(());
        }
        let neighbours = net.addresses(Family::V4)?.into_iter().filter(|other| {
            other.ip != ip
                && other.link == link
                && other.prefix == prefix
                && probe::net::contains(ip, prefix, other.ip)
        });
        let neighbours: Vec<String> = neighbours.map(|other| other.ip.to_string()).collect();
        let path = |nic: &str| format!("/proc/sys/net/ipv4/conf/{nic}/promote_secondaries");
        let nic = &instance.link.name;
        let is_set = |nic: &str| {
            Ok::<_, anyhow::Error>(
                node.read(&path(nic))?
                    .is_some_and(|text| text.trim() == "1"),
            )
        };
        if neighbours.is_empty() || is_set("all")? || is_set(nic)? {
            return Ok(());
        }
        match node.write(&path(nic), "1") {
            Ok(()) => info!(
                "set promote_secondaries on {nic}, to keep {}",
                neighbours.join(", ")
            ),
            Err(error) => warn!(
                "with {ip} the kernel will remove {} from {nic}: {error:#}",
                neighbours.join(", ")
            ),
        }
        Ok(())
    }

    /// Resets the address's connections, if that is wanted. The address goes in any case.
    pub(super) fn end_connections(&self, net: &dyn Net, instances: &[Instance]) {
        if !self.kill_connections.is_on() || instances.is_empty() {
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
