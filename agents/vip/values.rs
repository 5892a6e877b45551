//! The values of `vip`'s parameters. Each error ends the sentence that begins with the value.

use std::net::{IpAddr, Ipv4Addr};
use std::str::FromStr;

use host::net::portblock::Ports;
use probe::net;

/// The longest label, and the longest name, of an interface (`IFNAMSIZ` less its NUL).
pub const LONGEST_NAME: usize = 15;
/// The longest alternative name (`ALTIFNAMSIZ` less its NUL).
const LONGEST_ALTNAME: usize = 127;

/// An address that a host can have.
pub fn address(text: &str) -> Result<IpAddr, String> {
    let expected = "expected the address of a host, such as 192.0.2.1 or 2001:db8::1";
    let Ok(ip) = text.parse::<IpAddr>() else {
        return Err(format!("is not an IP address; {expected}"));
    };
    let wrong = match ip {
        IpAddr::V6(six) if six.to_ipv4_mapped().is_some() => "is an IPv4 address in IPv6 form",
        IpAddr::V4(Ipv4Addr::BROADCAST) => "is the broadcast address",
        ip if ip.is_multicast() => "is a multicast address",
        ip if ip.is_unspecified() => "is the unspecified address",
        _ => return Ok(ip),
    };
    Err(format!("{wrong}; {expected}"))
}

/// A network prefix: its length, or IPv4's older way to write it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Prefix(pub u8);

impl FromStr for Prefix {
    type Err = String;

    fn from_str(text: &str) -> Result<Prefix, String> {
        let length = match text.parse::<Ipv4Addr>() {
            Ok(mask) => net::prefix_of_netmask(mask),
            Err(_) => text.parse().ok(),
        };
        match length {
            Some(length @ 1..=128) => Ok(Prefix(length)),
            _ => Err("is not a prefix length; expected 1 to 32 (IPv4) or 1 to 128 (IPv6)".into()),
        }
    }
}

/// The broadcast address, said outright or by how it follows from the network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Broadcast {
    /// `+`: all host bits set.
    Ones,
    /// `-`: all host bits clear.
    Zeros,
    /// This one.
    Address(Ipv4Addr),
}

impl FromStr for Broadcast {
    type Err = String;

    fn from_str(text: &str) -> Result<Broadcast, String> {
        match text {
            "+" => Ok(Broadcast::Ones),
            "-" => Ok(Broadcast::Zeros),
            _ => text
                .parse()
                .map(Broadcast::Address)
                .map_err(|_| "is neither +, - nor an IPv4 address".into()),
        }
    }
}

impl Broadcast {
    /// The address, in the network of `ip`. Networks of one or two addresses have none.
    pub fn of(self, ip: Ipv4Addr, prefix: u8) -> Option<Ipv4Addr> {
        match self {
            Broadcast::Ones => net::broadcast(ip, prefix),
            Broadcast::Zeros => net::broadcast(ip, prefix)
                .map(|ones| Ipv4Addr::from(u32::from(ones) & u32::MAX << (32 - u32::from(prefix)))),
            Broadcast::Address(address) => Some(address),
        }
    }
}

/// An interface, with the label that the older form `eth0:label` gives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Nic {
    pub name: String,
    pub label: Option<String>,
}

impl FromStr for Nic {
    type Err = String;

    fn from_str(text: &str) -> Result<Nic, String> {
        let (name, label) = match text.split_once(':') {
            Some((name, label)) => (name, Some(self::label(label)?)),
            None => (text, None),
        };
        let wrong = |c: char| c == '/' || c.is_whitespace() || c.is_control();
        if name.is_empty() || name == "." || name == ".." || name.contains(wrong) {
            return Err("is not an interface's name; expected one such as eth0".into());
        }
        if name.len() > LONGEST_ALTNAME {
            return Err(format!(
                "is too long for an interface's name; expected at most {LONGEST_ALTNAME} characters"
            ));
        }
        Ok(Nic {
            name: name.into(),
            label,
        })
    }
}

/// The part of a label that follows the interface's name.
pub fn label(text: &str) -> Result<String, String> {
    let wrong = |c: char| c == ':' || c == '/' || c.is_whitespace() || c.is_control();
    if text.is_empty() || text.contains(wrong) {
        return Err("is not a label; expected letters and digits, such as vip1".into());
    }
    Ok(text.into())
}

/// The name of a network namespace, as `ip netns` knows it.
pub fn namespace(text: &str) -> Result<String, String> {
    if matches!(text, "." | "..") || text.contains('/') {
        return Err(
            "is not the name of a network namespace; expected one that \"ip netns list\" shows"
                .into(),
        );
    }
    Ok(text.into())
}

/// How long an address is preferred.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lifetime {
    Forever,
    Seconds(u32),
}

impl FromStr for Lifetime {
    type Err = String;

    fn from_str(text: &str) -> Result<Lifetime, String> {
        match (text, text.parse()) {
            ("forever", _) => Ok(Lifetime::Forever),
            // The largest number is the kernel's own word for ever.
            (_, Ok(seconds)) if seconds != u32::MAX => Ok(Lifetime::Seconds(seconds)),
            _ => Err("is not a lifetime; expected a number of seconds, or forever".into()),
        }
    }
}

impl Lifetime {
    /// The seconds, or None for ever.
    pub fn seconds(self) -> Option<u32> {
        match self {
            Lifetime::Forever => None,
            Lifetime::Seconds(seconds) => Some(seconds),
        }
    }
}

/// Which of the two ARP messages announce the address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum ArpMode {
    Both,
    Request,
    Reply,
}

/// The most entries of a list of ports: each is a rule that every packet passes.
const MOST_PORTS: usize = 32;

/// Ports and ranges of ports, separated by commas.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortList(pub Vec<Ports>);

impl FromStr for PortList {
    type Err = String;

    fn from_str(text: &str) -> Result<PortList, String> {
        let mut ports: Vec<Ports> = Vec::new();
        for entry in text.split(',').map(str::trim) {
            let entry = entry.parse().map_err(|_| {
                let example = "tcp/3260,udp/2049-2051";
                format!("has \"{entry}\" in it; expected ports such as {example}, from 1 to 65535")
            })?;
            if !ports.contains(&entry) {
                ports.push(entry);
            }
        }
        if ports.len() > MOST_PORTS {
            let count = ports.len();
            return Err(format!(
                "has {count} entries; expected at most {MOST_PORTS}"
            ));
        }
        Ok(PortList(ports))
    }
}

/// When the services behind blocked ports answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Ready {
    Now,
    Later,
}

/// Where the address was put: the hint that a start leaves for monitor and stop.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placement {
    pub ip: IpAddr,
    pub prefix: u8,
    /// The interface's index: names may change.
    pub link: u32,
    pub nic: String,
    /// The network namespace that the index is of.
    pub namespace: Option<String>,
    /// The prefix that the address had on the loopback interface, to which it goes back.
    pub loopback: Option<u8>,
}

impl Placement {
    /// As a line of text.
    pub fn to_text(&self) -> String {
        let mut text = format!("{}/{} {} {}", self.ip, self.prefix, self.link, self.nic);
        if let Some(namespace) = &self.namespace {
            text.push_str(&format!(" netns/{namespace}"));
        }
        if let Some(prefix) = self.loopback {
            text.push_str(&format!(" lo/{prefix}"));
        }
        text.push('\n');
        text
    }

    /// From such a line; None if it is something else.
    pub fn from_text(text: &str) -> Option<Placement> {
        let mut words = text.split_whitespace();
        let (ip, prefix) = words.next()?.split_once('/')?;
        let mut placement = Placement {
            ip: ip.parse().ok()?,
            prefix: prefix.parse().ok()?,
            link: words.next()?.parse().ok()?,
            nic: words.next()?.into(),
            namespace: None,
            loopback: None,
        };
        for word in words {
            match word.split_once('/')? {
                ("netns", name) => placement.namespace = Some(name.into()),
                ("lo", prefix) => placement.loopback = Some(prefix.parse().ok()?),
                _ => return None,
            }
        }
        Some(placement)
    }
}
