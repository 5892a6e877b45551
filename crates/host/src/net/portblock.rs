//! Ports of an address that no packet reaches for a while: dropped without a word, so that a client
//! waits for a service instead of being refused.
//!
//! A block is a table of nf_tables of its own, which `nft list ruleset` shows. Its end comes by
//! itself: the kernel forgets the address after the time that was given, whatever has become of
//! the process that made it.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;
use std::time::Duration;

use super::{Net, NetError};

/// What the name of every block's table begins with.
pub(crate) const OURS: &str = "hastor-";
/// The longest instance that is in a table's name as it is. The kernel takes 255 bytes
/// (`NFT_NAME_MAXLEN` less its NUL), and each byte may become three.
const LONGEST_INSTANCE: usize = 64;

/// The protocols that have ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[allow(missing_docs)]
pub enum Protocol {
    Tcp,
    Udp,
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
        })
    }
}

/// A port or a range of ports: `tcp/3260`, `udp/2049-2051`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ports {
    /// The protocol.
    pub protocol: Protocol,
    /// The first port, at least 1.
    pub first: u16,
    /// The last port, not before the first.
    pub last: u16,
}

impl Ports {
    /// One port.
    pub fn one(protocol: Protocol, port: u16) -> Ports {
        Ports {
            protocol,
            first: port,
            last: port,
        }
    }

    /// Is it one of these?
    pub fn contain(self, protocol: Protocol, port: u16) -> bool {
        self.protocol == protocol && (self.first..=self.last).contains(&port)
    }
}

impl fmt::Display for Ports {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Ports {
            protocol,
            first,
            last,
        } = self;
        match first == last {
            true => write!(f, "{protocol}/{first}"),
            false => write!(f, "{protocol}/{first}-{last}"),
        }
    }
}

impl FromStr for Ports {
    type Err = String;

    fn from_str(text: &str) -> Result<Ports, String> {
        let read = || {
            let (protocol, ports) = text.split_once('/')?;
            let protocol = match protocol {
                "tcp" => Protocol::Tcp,
                "udp" => Protocol::Udp,
                _ => return None,
            };
            let (first, last) = ports.split_once('-').unwrap_or((ports, ports));
            let (first, last) = (number(first)?, number(last)?);
            (first <= last).then_some(Ports {
                protocol,
                first,
                last,
            })
        };
        read().ok_or_else(|| "is no port; expected one such as tcp/3260 or udp/2049-2051".into())
    }
}

fn number(text: &str) -> Option<u16> {
    // What Rust reads beyond digits (+80) no administrator means.
    let plain = text.chars().all(|c| c.is_ascii_digit());
    text.parse().ok().filter(|port| plain && *port > 0)
}

/// Which packets a block drops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// Those to the ports, also of this host's own processes.
    In,
    /// Also those that this host sends from the ports, such as a reset when a connection is ended.
    Both,
}

/// What of a block can be opened by itself: ports of an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Closed {
    /// The address.
    pub ip: IpAddr,
    /// Its ports.
    pub ports: Ports,
}

impl fmt::Display for Closed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.ip, self.ports)
    }
}

impl FromStr for Closed {
    type Err = String;

    fn from_str(text: &str) -> Result<Closed, String> {
        let (ip, ports) = text.split_once(' ').ok_or("is no address with a port")?;
        Ok(Closed {
            ip: ip.parse().map_err(|_| "is no address with a port")?,
            ports: ports.parse()?,
        })
    }
}

/// A block that is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Block {
    /// Its table's name.
    pub table: String,
    /// What it keeps packets from, each by itself to be opened again.
    pub closed: Vec<Closed>,
    /// How long it will, in whole milliseconds. Zero: that time is over, and it keeps nothing
    /// from anything any more, but the table is still there.
    pub left: Duration,
}

/// A socket that a client can reach: of TCP one that listens, of UDP one that takes packets from
/// anybody.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Listener {
    /// Its protocol.
    pub protocol: Protocol,
    /// The address it is bound to, or the unspecified one: all addresses of that family.
    pub ip: IpAddr,
    /// Its port.
    pub port: u16,
    /// Of an IPv6 socket: for IPv6 only?
    pub v6_only: bool,
    /// The index of the only interface it hears, if it is bound to one.
    pub link: Option<u32>,
}

impl Listener {
    /// Does it answer for `ip`, where that is an address of the interface `link`?
    pub fn serves(&self, ip: IpAddr, link: u32) -> bool {
        let everywhere = match (self.ip, ip) {
            (IpAddr::V4(own), IpAddr::V4(_)) => own.is_unspecified(),
            (IpAddr::V6(own), IpAddr::V6(_)) => own.is_unspecified(),
            (IpAddr::V6(own), IpAddr::V4(_)) => own.is_unspecified() && !self.v6_only,
            _ => false,
        };
        let here = self.link.is_none_or(|own| own == link);
        here && (everywhere || self.ip.to_canonical() == ip)
    }
}

/// The name of the table that has the block of one resource: that of its agent and its instance.
/// Different instances have different tables, and every name can be given to `nft` as it is.
pub fn table_of(agent: &str, instance: &str) -> String {
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"_.-".contains(byte);
    let mut name = format!("{OURS}{agent}-");
    // Cut where a hash follows; nothing else makes two slashes.
    let (start, hash) = match instance.len() {
        0..=LONGEST_INSTANCE => (instance, None),
        _ => {
            // FNV-1a, of 64 bits: the same in every version of this program.
            let mix = |hash: u64, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3);
            let hash = instance.bytes().fold(0xcbf2_9ce4_8422_2325, mix);
            let end = (0..=40).rev().find(|at| instance.is_char_boundary(*at));
            (&instance[..end.unwrap_or(0)], Some(hash))
        }
    };
    for byte in start.as_bytes() {
        match plain(byte) {
            true => name.push(char::from(*byte)),
            false => name.push_str(&format!("/{byte:02x}")),
        }
    }
    if let Some(hash) = hash {
        name.push_str(&format!("//{hash:016x}"));
    }
    name
}

/// Lets packets to a port through again, wherever a block of a floating address keeps them from
/// it; how many blocks did. For a service to call when it answers on that port, as the last step
/// of its start: the block's own resource does not know when that is, and would find out later.
///
/// `ip` is the address as the service is bound to it: the unspecified address of a family is all
/// addresses of that family, and `::` those of IPv4, too. A range of ports that was closed as one
/// is opened as one. Another process may do the same at the same time, and a kernel without
/// nf_tables blocks nothing. Only the network namespace that `net` is of is looked at.
pub fn lift(net: &dyn Net, ip: IpAddr, protocol: Protocol, port: u16) -> Result<usize, NetError> {
    let means = |closed: &Closed| {
        let everywhere = ip.is_unspecified() && (ip.is_ipv6() || closed.ip.is_ipv4());
        closed.ports.contain(protocol, port) && (everywhere || ip.to_canonical() == closed.ip)
    };
    let mut lifted = 0;
    for block in net.blocks()? {
        let open: Vec<Closed> = block
            .closed
            .iter()
            .filter(|it| means(it))
            .copied()
            .collect();
        if !open.is_empty() {
            net.unblock(&block, &open)?;
            lifted += 1;
        }
    }
    Ok(lifted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_read_as_they_are_written() {
        for text in ["tcp/1", "tcp/3260", "udp/65535", "tcp/2049-2051"] {
            assert_eq!(text.parse::<Ports>().unwrap().to_string(), text);
        }
        assert_eq!("tcp/5-5".parse::<Ports>().unwrap().to_string(), "tcp/5");
        for text in [
            "",
            "3260",
            "tcp",
            "tcp/",
            "tcp/0",
            "tcp/65536",
            "tcp/+1",
            "TCP/1",
            "sctp/1",
            "tcp/2-1",
            "tcp/1-",
            "tcp/-1",
            "tcp/1-2-3",
            "tcp/1 ",
            "tcp/http",
        ] {
            let error = text.parse::<Ports>().unwrap_err();
            assert_eq!(
                error,
                "is no port; expected one such as tcp/3260 or udp/2049-2051"
            );
        }
        let closed = Closed {
            ip: "2001:db8::7".parse().unwrap(),
            ports: Ports::one(Protocol::Tcp, 3260),
        };
        assert_eq!(closed.to_string().parse(), Ok(closed));
    }

    #[test]
    fn a_listener_serves_its_address_or_all_of_them() {
        let table = [
            ("192.0.2.7", false, "192.0.2.7", true),
            ("192.0.2.8", false, "192.0.2.7", false),
            ("0.0.0.0", false, "192.0.2.7", true),
            ("0.0.0.0", false, "2001:db8::7", false),
            ("::", false, "192.0.2.7", true),
            ("::", true, "192.0.2.7", false),
            ("::", true, "2001:db8::7", true),
            ("::ffff:192.0.2.7", false, "192.0.2.7", true),
            ("2001:db8::7", true, "2001:db8::7", true),
            ("2001:db8::8", true, "2001:db8::7", false),
        ];
        for (own, v6_only, ip, expected) in table {
            let mut listener = Listener {
                protocol: Protocol::Tcp,
                ip: own.parse().unwrap(),
                port: 80,
                v6_only,
                link: None,
            };
            let ip = ip.parse().unwrap();
            assert_eq!(listener.serves(ip, 2), expected, "{own} {v6_only} {ip}");
            listener.link = Some(2);
            assert_eq!(listener.serves(ip, 2), expected, "{own} {v6_only} {ip}");
            assert!(!listener.serves(ip, 3), "it hears another interface");
        }
    }

    #[test]
    fn different_instances_have_different_tables() {
        let long = "a".repeat(300);
        let wide = "ü".repeat(60);
        let names = [
            "",
            ".",
            "a/b",
            "a_b",
            "a%b",
            "a/2fb",
            "a:0",
            "a:1",
            "a b",
            &long,
            &format!("{long}1"),
            &long[..40],
            &wide,
            &wide[..40],
        ];
        let mut tables: Vec<String> = names.iter().map(|name| table_of("vip", name)).collect();
        let plain = |c: char| c.is_ascii_alphanumeric() || "_.-/".contains(c);
        assert!(
            tables
                .iter()
                .all(|table| table.len() < 256 && table.chars().all(plain))
        );
        tables.sort();
        tables.dedup();
        assert_eq!(tables.len(), names.len());
        assert_eq!(table_of("vip", "p_vip"), "hastor-vip-p_vip");
        assert_eq!(table_of("vip", "p:0"), "hastor-vip-p/3a0");
    }
}
