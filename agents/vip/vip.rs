//! A floating IP address: on one node's interface at a time, and known to the neighbours there.
//!
//! What is true is what the kernel's address table says. Everything goes over netlink; no action
//! starts a process. The note that a start leaves says only which interface and prefix it chose
//! where the parameters leave that open.

mod blocking;
mod changing;
mod looking;

use std::net::IpAddr;

use host::net::Family;
use nix::errno::Errno;
use ocf::Seconds;
use ocf::prelude::*;

use crate::values::{
    self, ArpMode, Broadcast, LONGEST_NAME, Lifetime, Nic, Placement, PortList, Prefix, Ready,
};
use changing::unless;
use looking::Instance;

/// The hint that a start leaves: where it put the address.
const PLACEMENT: &str = "placement";
const SCOPE_HOST: u8 = 254;

/// Floating IPv4 or IPv6 address
///
/// Adds an IP address to a network interface on start, tells the neighbours that it is here, and
/// removes it on stop. The address must be on one node at a time: the cluster needs fencing.
///
/// Parameters have the names and meanings they have in ocf:heartbeat:IPaddr2; load sharing by
/// clones (CLUSTERIP) is not provided. An address that is found with another prefix, another
/// label or on another interface than configured is a failure, never "not running": it answers
/// for the address all the same.
#[derive(clap::Parser, Debug)]
#[command(name = Self::NAME, version, rename_all = "snake_case")]
pub struct Vip {
    /// The address
    ///
    /// IPv4 or IPv6, without a prefix length. A link-local IPv6 address (fe80::/10) needs nic.
    #[arg(long, value_parser = values::address)]
    ip: IpAddr,

    /// Network interface
    ///
    /// The interface's name or one of its alternative names. Left out, start takes the interface
    /// that is directly connected to a network with the address: the longest prefix, then a
    /// carrier, then the lowest metric; a configured cidr_netmask must lie within that network.
    /// Left out, the resource is the address wherever it is on the node, the loopback interface
    /// apart, and stop removes it there. The older form eth0:label sets iflabel too.
    #[arg(long)]
    nic: Option<Nic>,

    /// Prefix length
    ///
    /// The length of the network's prefix, 1 to 32 for IPv4 and 1 to 128 for IPv6, or an IPv4
    /// netmask such as 255.255.255.0. Left out, start takes that of the connected network.
    #[arg(long)]
    cidr_netmask: Option<Prefix>,

    /// Older name of cidr_netmask
    ///
    /// Kept for old configurations: use cidr_netmask.
    #[arg(long)]
    netmask: Option<Prefix>,

    /// Broadcast address
    ///
    /// IPv4 only: an address, or + for all host bits set, or - for all host bits clear. Networks
    /// of one or two addresses and the loopback interface have none unless one is given.
    #[arg(long, default_value = "+")]
    broadcast: Broadcast,

    /// Label of the address
    ///
    /// IPv4 only: the address is labelled NIC:LABEL, at most 15 characters in all, as older tools
    /// (ifconfig) show it.
    #[arg(long, value_parser = values::label)]
    iflabel: Option<String>,

    /// Metric of the address's network route
    ///
    /// Left out, the kernel chooses it.
    #[arg(long, value_parser = ocf::number(0..=u32::MAX))]
    metric: Option<u32>,

    /// Make no network route for the address
    ///
    /// As "ip address add ... noprefixroute".
    #[arg(long, default_value = "false")]
    noprefixroute: Flag,

    /// How long the address is preferred
    ///
    /// In seconds, or forever. With 0 the host never chooses the address by itself for
    /// connections it opens (the address is deprecated), and answers on it as ever.
    #[arg(long, default_value = "forever")]
    preferred_lft: Lifetime,

    /// Bring the interface up
    ///
    /// Whether start brings up an interface that is set down.
    #[arg(long, default_value = "true")]
    bring_up: Flag,

    /// Watch the interface's link
    ///
    /// Whether an interface that is down or without a carrier is a failure, for start and for
    /// monitor. Interfaces that do not tell their state are taken to be fine.
    #[arg(long, default_value = "true")]
    check_link_status: Flag,

    /// Skip duplicate address detection
    ///
    /// IPv6 only. Otherwise start waits for its result, about one to two seconds, and fails if
    /// another host has the address.
    #[arg(long, default_value = "false")]
    nodad: Flag,

    /// Ask for the address before taking it
    ///
    /// IPv4 only: start asks the network (an ARP probe, RFC 5227), listens for half a second and
    /// fails if another host answers. IPv6 has duplicate address detection.
    #[arg(long, default_value = "false")]
    run_arping: Flag,

    /// Announcements after start
    ///
    /// How often the neighbours are told, 0 to 10000 times. All of it happens within start, so that
    /// no announcement can come after a stop.
    #[arg(long, default_value = "5", value_parser = ocf::number(0..=10_000))]
    arp_count: u32,

    /// Time between announcements
    ///
    /// In milliseconds, 1 to 10000. IPaddr2 takes 200, but announces from the background; here
    /// start waits for the last one.
    #[arg(long, default_value = "5", value_parser = ocf::number(1..=10_000))]
    arp_interval: u32,

    /// Announcements on every monitor
    ///
    /// How often each repeated monitor tells the neighbours again, 0 to 10000 times: against
    /// switches and hosts that were told otherwise during a partition.
    #[arg(long, default_value = "0", value_parser = ocf::number(0..=10_000))]
    arp_count_refresh: u32,

    /// Form of the announcements
    ///
    /// IPv4 only: gratuitous ARP as a request, as a reply, or both. Some switches and hosts learn
    /// from only one of them.
    #[arg(long, default_value = "both")]
    arp_mode: ArpMode,

    /// Network namespace
    ///
    /// The namespace, as "ip netns" names it, in which the interface is.
    #[arg(long, value_parser = values::namespace)]
    network_namespace: Option<String>,

    /// End connections on stop
    ///
    /// Whether stop resets the TCP connections of the address, so that clients connect to the
    /// other node at once instead of waiting for a timeout.
    #[arg(long, default_value = "false")]
    kill_connections: Flag,

    /// Ports that are closed while the address moves
    ///
    /// Ports and ranges of ports, such as tcp/3260,tcp/2049,udp/4000-4010; at most 32 entries.
    /// While the address is here and its service is not, packets to these ports of the address,
    /// from this node itself too, are dropped without an answer: clients wait instead of being
    /// refused. Start closes them before it adds the address and opens them as ready_ports, ready
    /// and ready_timeout say; stop closes them before it removes the address. Best is a service
    /// that starts before the address and stops after it; where it stops before, clients that
    /// connect until the address is gone are refused.
    ///
    /// Stop also ends the TCP connections of the address, and clients do not hear of it: what they
    /// send is repeated until the next node answers with a reset, and then they connect anew, to
    /// a service that is there. Those that send nothing meanwhile lose no time at all. With
    /// kill_connections they are told at once, and try to connect while nobody answers. A client
    /// that sends without a pause had no service for 0.4, 1.7, 3.4 and 6.8 s when the address was
    /// away for 0.2, 1, 2.5 and 4 s; with kill_connections for 1.1, 2.1, 3.1 and 4.1 s where the
    /// client's TCP repeats its first packet every second, as Linux does since 6.5, and for 1.1,
    /// 3.0, 3.2 and 7.3 s where it waits longer each time, as Linux did before. So
    /// kill_connections=true is for clients that only listen, and for those with Linux 6.5 or
    /// newer where a move takes more than two seconds.
    ///
    /// The ports are kept closed by an nft table of the resource's own, "hastor-vip-" and its
    /// name, in the network namespace of the address. This needs nf_tables in the kernel, and no
    /// program.
    #[arg(long)]
    block_ports: Option<PortList>,

    /// Ports that must be served before the blocked ones are opened
    ///
    /// In the form of block_ports: all of those are opened when on each of these a socket listens
    /// (UDP: takes packets) for the address or for all addresses. Of a range one port is enough.
    /// Left out, each entry of block_ports is opened when it is served itself.
    #[arg(long)]
    ready_ports: Option<PortList>,

    /// When the service behind the blocked ports starts
    ///
    /// now: before the address, or independently of it; start waits until the ports are served,
    /// as long as ready_timeout and its own timeout allow. later: after the address; start does
    /// not wait. Ports that are still closed are opened by the service's own agent, if that is
    /// able to, or else by the next monitor of the address that finds them served.
    #[arg(long, default_value = "now")]
    ready: Ready,

    /// How long ports stay closed at most
    ///
    /// In seconds, 1 to 3600, from before the address is added. Then the kernel opens them by
    /// itself, whether they are served or not, and start or monitor warns.
    #[arg(long, default_value = "15", value_parser = ocf::seconds(1..=3600))]
    ready_timeout: Seconds,

    /// Share the address with the loopback interface
    ///
    /// For a real server of Linux Virtual Server in direct routing mode, which has the address on
    /// its loopback interface: start moves it from there to nic, stop moves it back.
    #[arg(long, default_value = "false")]
    lvs_support: Flag,

    /// Label the address for choosing sources
    ///
    /// IPv6 only: adds a label of RFC 6724 (ip addrlabel), so that the host does not choose the
    /// address for connections it opens. IPaddr2 does so by default; preferred_lft=0 is simpler.
    #[arg(long, default_value = "false")]
    lvs_ipv6_addrlabel: Flag,

    /// Number of that label
    ///
    /// Of the label that lvs_ipv6_addrlabel adds.
    #[arg(long, default_value = "99", value_parser = ocf::number(0..=u32::MAX - 1))]
    lvs_ipv6_addrlabel_value: u32,

    /// Program that sends announcements (ignored)
    ///
    /// Accepted for old configurations, and ignored: the agent sends announcements itself.
    #[arg(long)]
    arp_sender: Option<String>,

    /// Options of that program (ignored)
    ///
    /// Accepted for old configurations, and ignored: there is no such program.
    #[arg(long)]
    send_arp_opts: Option<String>,

    /// Announce from the background (ignored)
    ///
    /// Accepted for old configurations, and ignored: announcements are always part of start.
    #[arg(long)]
    arp_bg: Option<Flag>,

    /// Flush the route cache (ignored)
    ///
    /// Accepted for old configurations, and ignored: Linux has had no route cache since 3.6. See
    /// kill_connections.
    #[arg(long)]
    flush_routes: Option<Flag>,
}

impl Agent for Vip {
    const NAME: &'static str = "vip";
    const OPERATIONS: &'static [Operation] = &[
        Operation::start(20),
        Operation::stop(20),
        Operation::monitor(20).every(10),
        Operation::monitor(20).every(60).at_depth(10),
        Operation::reload_agent(20),
    ];
    const UNIQUE: &'static [(&'static str, &'static [&'static str])] =
        &[("address", &["ip", "nic", "network_namespace"])];
    const RELOADABLE: &'static [&'static str] = &[
        "preferred_lft",
        "bring_up",
        "check_link_status",
        "run_arping",
        "arp_count",
        "arp_interval",
        "arp_count_refresh",
        "arp_mode",
        "kill_connections",
        "block_ports",
        "ready_ports",
        "ready",
        "ready_timeout",
    ];
    const DEPRECATED: &'static [(&'static str, &'static str)] = &[("netmask", "cidr_netmask")];

    fn check(&self) -> Result<()> {
        let bits = Family::of(self.ip).bits();
        if let Some(prefix) = self.prefix().filter(|prefix| *prefix > bits) {
            bail!(
                "parameter cidr_netmask: \"{prefix}\" is too long for {}; expected 1 to {bits}",
                self.ip
            );
        }
        if let (Some(a), Some(b)) = (self.cidr_netmask, self.netmask) {
            ensure!(
                a == b,
                "parameter netmask: \"{}\" contradicts cidr_netmask \"{}\"; expected one of them",
                b.0,
                a.0
            );
        }
        if let (Some(a), Some(b)) = (
            &self.iflabel,
            self.nic.as_ref().and_then(|nic| nic.label.as_ref()),
        ) {
            ensure!(
                a == b,
                "parameter iflabel: \"{a}\" contradicts the label in nic, \"{b}\"; expected one of them"
            );
        }
        if let Some(label) = self.short_label() {
            ensure!(
                self.ip.is_ipv4(),
                "parameter iflabel: \"{label}\" is for {}, but IPv6 addresses have no label; expected none",
                self.ip
            );
            if let Some(nic) = &self.nic {
                let whole = format!("{}:{label}", nic.name);
                ensure!(
                    whole.len() <= LONGEST_NAME,
                    "parameter iflabel: \"{label}\" makes the label {whole}; expected at most {LONGEST_NAME} characters in all"
                );
            }
        }
        if let Broadcast::Address(broadcast) = self.broadcast {
            ensure!(
                self.ip.is_ipv4(),
                "parameter broadcast: \"{broadcast}\" is for {}, but IPv6 has no broadcast; expected none",
                self.ip
            );
        }
        if self.ready_ports.is_some() {
            ensure!(
                self.block_ports.is_some(),
                "parameter block_ports: not given, but ready_ports is; expected the ports to open then"
            );
        }
        if let IpAddr::V6(six) = self.ip {
            ensure!(
                !six.is_unicast_link_local() || self.nic.is_some(),
                "parameter nic: not given, but {six} is link-local; expected the interface it is for"
            );
        }
        Ok(())
    }

    fn validate(&self, node: &Node) -> Result<()> {
        if let Some(instances) = node
            .call()
            .meta_number("clone_max")
            .filter(|instances| *instances > 1)
        {
            bail!(Exit::NotConfigured.because(format!(
                "an address is on one node at a time: a clone with clone-max={instances} is not possible"
            )));
        }
        let Some(net) = self.net(node)? else {
            let name = self.network_namespace.as_deref().unwrap_or_default();
            bail!(Exit::Args.because(format!(
                "parameter network_namespace: \"{name}\" is not on this host; expected one that \"ip netns list\" shows"
            )));
        };
        let (link, _) = self.place(&*net)?;
        if let Some(label) = self.label(&link).filter(|label| label.len() > LONGEST_NAME) {
            bail!(Exit::Args.because(format!(
                "parameter iflabel: makes the label {label} on this host; expected at most {LONGEST_NAME} characters in all"
            )));
        }
        Ok(())
    }

    fn monitor(&self, node: &Node, depth: Depth) -> Result<State> {
        let Some(net) = self.net(node)? else {
            // Without its namespace an address cannot be here; but it was meant to stay.
            ensure!(
                node.call().is_probe(),
                "the network namespace {} is gone",
                self.network_namespace.as_deref().unwrap_or_default()
            );
            return Ok(State::Stopped);
        };
        let hint = self.hint(node);
        let found = self.found(node, &*net, hint.as_ref())?;
        let Some(first) = found.ours.first() else {
            match found.foreign.first() {
                Some(other) => bail!(
                    "{} is on {}, expected on {}",
                    self.ip,
                    other.link.name,
                    self.belongs()
                ),
                // Stop will give it back.
                None if hint.is_some_and(|hint| hint.loopback.is_some()) => {
                    bail!(
                        "{} was taken from the loopback interface and is nowhere now",
                        self.ip
                    )
                }
                None => {
                    self.check_nothing_is_closed(node, &*net)?;
                    return Ok(State::Stopped);
                }
            }
        };
        let misplaced = |instance: &Instance| self.misplaced(instance, hint.as_ref());
        let Some(instance) = found
            .ours
            .iter()
            .find(|instance| misplaced(instance).is_none())
        else {
            bail!("{}", misplaced(first).unwrap_or_default());
        };
        self.check_usable(node, &*net, instance)?;
        if depth >= Depth::Normal {
            self.check_nobody_else(&*net, &instance.link)?;
        }
        let repeated = node.call().action == "monitor" && !node.call().is_probe();
        if repeated && !self.blocked_ports().is_empty() {
            self.open_once(node, &*net, &instance.link);
        }
        if repeated && self.arp_count_refresh > 0 {
            if let Err(error) = self.announce(node, &*net, &instance.link, self.arp_count_refresh) {
                warn!("the neighbours may not have been told again: {error:#}");
            }
        }
        let mut places = found.ours.iter().chain(&found.foreign);
        let elsewhere = places.find(|other| other.link.index != instance.link.index);
        Ok(match elsewhere {
            Some(other) => State::Degraded(format!(
                "{} is on {} too, where this resource did not put it",
                self.ip, other.link.name
            )),
            None => State::Running,
        })
    }

    fn is_gone(&self, node: &Node) -> Result<bool> {
        let Some(net) = self.net(node)? else {
            return Ok(true);
        };
        let hint = self.hint(node);
        let owes_loopback = hint.as_ref().is_some_and(|hint| hint.loopback.is_some());
        Ok(!owes_loopback
            && self.found(node, &*net, hint.as_ref())?.ours.is_empty()
            && !self.is_left_closed(node, &*net)?)
    }

    fn adopt(&self, node: &Node) -> Result<()> {
        let net = self.net(node)?.context("the network namespace is gone")?;
        let hint = self.hint(node);
        let found = self.found(node, &*net, hint.as_ref())?;
        let mut right = found
            .ours
            .iter()
            .filter(|instance| self.misplaced(instance, hint.as_ref()).is_none());
        if let Some(instance) = right.next() {
            if hint.is_none() {
                let prefix = instance.address.prefix;
                self.note(node, &self.placement(&instance.link, prefix));
            }
            // A start that was interrupted may have left them closed.
            self.await_ready(node, &*net, &instance.link)?;
        }
        Ok(())
    }

    fn start(&self, node: &Node) -> Result<()> {
        let net = self.net(node)?.context("the network namespace is gone")?;
        let (link, prefix) = self.place(&*net)?;
        let link = self.ready(node, &*net, link)?;
        let hint = self.hint(node);
        let found = self.found(node, &*net, hint.as_ref())?;
        if let Some(other) = found.foreign.first() {
            bail!(
                "{} is on {} already, expected on {} only",
                self.ip,
                other.link.name,
                link.name
            );
        }
        for wrong in &found.ours {
            warn!("replacing {} on {}", wrong.address, wrong.link.name);
            self.remove(node, &*net, wrong)?;
        }
        if self.run_arping.is_on() && self.ip.is_ipv4() {
            self.check_nobody_else(&*net, &link)?;
        }

        // The note comes first: whatever happens from here on, stop knows where to look.
        let loopback = self.on_loopback(&*net)?;
        let lent = loopback.as_ref().map(|instance| instance.address.prefix);
        let placement = Placement {
            // A start that was interrupted may have taken it away already.
            loopback: lent.or(hint.and_then(|hint| hint.loopback)),
            ..self.placement(&link, prefix)
        };
        let noted = self.note(node, &placement);
        if let Some(instance) = &loopback {
            // Without the note nothing would say what lo has lent.
            ensure!(noted, "not taking {} from lo without a note of it", self.ip);
            self.remove(node, &*net, instance)?;
        }

        self.close_for_start(node, &*net)?;
        let address = self.address(&link, prefix);
        if self.ip.is_ipv6() {
            net.watch()?; // before there is anything to see
        }
        // If somebody else was faster, the look afterwards decides whether it is as it should be.
        unless(Errno::EEXIST, net.add_address(&address))?;
        if self.ip.is_ipv6() {
            self.await_detection(node, &*net, &link, node.time_left())?;
        }
        if let Some(label) = self.source_label(link.index) {
            unless(Errno::EEXIST, net.add_source_label(&label))?;
        }
        info!("added {address} to {}", link.name);
        if !self.blocked_ports().is_empty() {
            self.open_once(node, &*net, &link);
        }
        if let Err(error) = self.announce(node, &*net, &link, self.arp_count) {
            warn!("the neighbours may not know yet: {error:#}");
        }
        if !self.blocked_ports().is_empty() && self.ready == Ready::Now {
            self.await_ready(node, &*net, &link)?;
        }
        Ok(())
    }

    fn stop(&self, node: &Node) -> Result<()> {
        let Some(net) = self.net(node)? else {
            return Ok(());
        };
        let hint = self.hint(node);
        let found = self.found(node, &*net, hint.as_ref())?;
        for other in &found.foreign {
            warn!(
                "{} on {} was not put there by this resource: it stays",
                other.address, other.link.name
            );
        }
        if !found.ours.is_empty() {
            self.close_for_stop(node, &*net);
        }
        if self.kill_connections.is_on() {
            self.end_connections(&*net, &found.ours);
        }
        for instance in &found.ours {
            self.remove(node, &*net, instance)?;
            info!("removed {} from {}", instance.address, instance.link.name);
        }
        // Once more, for connections that began in between; or, behind closed ports, silently.
        if self.kill_connections.is_on() || !self.blocked_ports().is_empty() {
            self.end_connections(&*net, &found.ours);
        }
        self.remove_block(node, &*net)?;
        if let Some(hint) = hint {
            self.give_back(node, &*net, hint)?;
        }
        Ok(())
    }

    fn reload(&self, node: &Node) -> Result<()> {
        let net = self.net(node)?.context("the network namespace is gone")?;
        let hint = self.hint(node);
        let found = self.found(node, &*net, hint.as_ref())?;
        let instance = found
            .ours
            .iter()
            .find(|instance| self.misplaced(instance, hint.as_ref()).is_none());
        let instance =
            instance.with_context(|| format!("{} is not there as it should be", self.ip))?;
        // The other reloadable parameters are read anew by every action.
        let mut address = instance.address.clone();
        address.preferred = self.preferred_lft.seconds();
        net.replace_address(&address)?;
        self.await_ready(node, &*net, &instance.link)
    }
}
