//! The kernel's network tables: links, addresses, routes, sockets; and the frames by which a
//! host says whose an address is.
//!
//! [`Net`] is what an agent may ask; [`open`] gives the kernel's own, over netlink. No request
//! runs a program, and every one ends at the action's deadline.

mod frames;
mod kernel;
mod netlink;
mod nft;
pub mod portblock;
mod rtnl;
mod sockets;
mod wire;

use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use nix::errno::Errno;

pub use kernel::open;
use portblock::{Block, Closed, Direction, Listener, Ports, Protocol};

/// What an agent may ask of a network namespace. Changes are made when the call returns.
pub trait Net {
    /// All network interfaces, by index.
    fn links(&self) -> Result<Vec<Link>, NetError>;

    /// The interface with this name or alternative name.
    fn link_named(&self, name: &str) -> Result<Option<Link>, NetError>;

    /// The interface with this index.
    fn link(&self, index: u32) -> Result<Option<Link>, NetError>;

    /// All addresses of one family.
    fn addresses(&self, family: Family) -> Result<Vec<Address>, NetError>;

    /// Where this address is. Where the addresses change faster than they can be listed, one
    /// place may be missing, but never all.
    fn places_of(&self, ip: IpAddr) -> Result<Vec<Address>, NetError>;

    /// The unicast routes of one family in the main table.
    fn routes(&self, family: Family) -> Result<Vec<Route>, NetError>;

    /// The interface through which the kernel would send to `ip`, if it has a route at all.
    fn route_to(&self, ip: IpAddr) -> Result<Option<u32>, NetError>;

    /// Adds an address. One that is there already is [`Errno::EEXIST`].
    fn add_address(&self, address: &Address) -> Result<(), NetError>;

    /// Sets the lifetime and the flags of an address that is there; IPv4 labels stay as they are.
    fn replace_address(&self, address: &Address) -> Result<(), NetError>;

    /// Removes an address. One that is not there is [`Errno::EADDRNOTAVAIL`].
    fn remove_address(&self, address: &Address) -> Result<(), NetError>;

    /// Brings an interface up, as `ip link set NIC up`.
    fn set_up(&self, link: u32) -> Result<(), NetError>;

    /// Adds a label for choosing source addresses (RFC 6724), as `ip addrlabel add`.
    fn add_source_label(&self, label: &SourceLabel) -> Result<(), NetError>;

    /// Removes such a label. One that is not there is [`Errno::ESRCH`].
    fn remove_source_label(&self, label: &SourceLabel) -> Result<(), NetError>;

    /// Ends the connections of this host's address `ip`, with a reset to the other side, and says
    /// how many there were. Listening sockets stay.
    fn destroy_connections(&self, ip: IpAddr) -> Result<usize, NetError>;

    /// The sockets of `protocol` that a client of an address of `family` could reach. UDP needs
    /// the kernel's `udp_diag`.
    fn listeners(&self, protocol: Protocol, family: Family) -> Result<Vec<Listener>, NetError>;

    /// From now on, and for at most `limit`, no packet to these ports of `ip` gets through, or
    /// from them either: see [`portblock`]. The nft table of that name, whatever it was, becomes this block, in one
    /// step. [`NetError::NoNfTables`] where the kernel cannot.
    fn block(
        &self,
        table: &str,
        ip: IpAddr,
        ports: &[Ports],
        limit: Duration,
        direction: Direction,
    ) -> Result<(), NetError>;

    /// The block that the nft table of that name is, if there is such a table.
    fn block_of(&self, table: &str) -> Result<Option<Block>, NetError>;

    /// All blocks of all resources.
    fn blocks(&self) -> Result<Vec<Block>, NetError>;

    /// Opens some of what a block closes; the block is removed with the last of it. What is gone
    /// already is fine.
    fn unblock(&self, block: &Block, open: &[Closed]) -> Result<(), NetError>;

    /// Removes a block by its table's name; that there is none is fine.
    fn remove_block(&self, table: &str) -> Result<(), NetError>;

    /// From now on changes of addresses are noticed by [`Net::await_change`].
    fn watch(&self) -> Result<(), NetError>;

    /// Waits until some address has changed since the last call, for at most `limit`.
    fn await_change(&self, limit: Duration) -> Result<(), NetError>;

    /// Tells the neighbours on `link` that `ip` is at this interface: once, in the given form.
    fn announce(&self, link: &Link, ip: IpAddr, form: Announcement) -> Result<(), NetError>;

    /// Asks the network at `link` who has `ip`, listens for `limit`, and returns the hardware
    /// addresses, none of them this host's, that claim it. IPv4: an ARP probe (RFC 5227), which
    /// changes nobody's cache. IPv6: a neighbour solicitation.
    fn who_has(&self, link: &Link, ip: IpAddr, limit: Duration) -> Result<Vec<Mac>, NetError>;
}

/// Why a request to the kernel's network tables failed.
#[derive(Debug, thiserror::Error)]
pub enum NetError {
    /// The kernel said no.
    #[error("{request}: {errno}{}", .said.as_ref().map(|said| format!(": {said}")).unwrap_or_default())]
    Refused {
        /// What was asked, such as `adding 192.0.2.1/24 to eth0`.
        request: String,
        /// The kernel's error number.
        errno: Errno,
        /// The kernel's own words, where it has any.
        said: Option<String>,
    },
    /// No answer before the action's deadline.
    #[error("{request}: the kernel did not answer in time")]
    TimedOut {
        /// What was asked.
        request: String,
    },
    /// The tables changed so fast that no consistent list of them could be had in time.
    #[error("{request}: they kept changing while they were read")]
    Unsettled {
        /// What was asked.
        request: String,
    },
    /// An answer that makes no sense.
    #[error("{request}: the kernel's answer cannot be read: {what}")]
    Unreadable {
        /// What was asked.
        request: String,
        /// What is wrong with the answer.
        what: String,
    },
    /// Ports cannot be blocked in this kernel.
    #[error("the kernel has no nf_tables (CONFIG_NF_TABLES, CONFIG_NF_TABLES_INET)")]
    NoNfTables,
    /// There is no such network namespace.
    #[error("there is no network namespace {0} (/run/netns/{0})")]
    NoNamespace(String),
}

impl NetError {
    /// The kernel's error number, if it said no.
    pub fn errno(&self) -> Option<Errno> {
        match self {
            NetError::Refused { errno, .. } => Some(*errno),
            _ => None,
        }
    }

    pub(crate) fn refused(request: impl Into<String>, errno: Errno) -> NetError {
        NetError::Refused {
            request: request.into(),
            errno,
            said: None,
        }
    }
}

/// IPv4 or IPv6.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Family {
    V4,
    V6,
}

impl Family {
    /// The family of an address.
    pub fn of(ip: IpAddr) -> Family {
        if ip.is_ipv4() { Family::V4 } else { Family::V6 }
    }

    /// How many bits an address has: 32 or 128.
    pub fn bits(self) -> u8 {
        match self {
            Family::V4 => 32,
            Family::V6 => 128,
        }
    }
}

/// A network interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// The interface index, unique in its namespace as long as it exists.
    pub index: u32,
    /// The name, at most 15 bytes.
    pub name: String,
    /// Alternative names (kernel 5.5).
    pub altnames: Vec<String>,
    /// The hardware type, an `ARPHRD_` number.
    pub kind: u16,
    /// The hardware address; empty where there is none.
    pub mac: Mac,
    /// The hardware broadcast address.
    pub broadcast: Mac,
    /// Set up by the administrator (`IFF_UP`).
    pub up: bool,
    /// The driver sees a carrier (`IFF_LOWER_UP`).
    pub carrier: bool,
    /// Speaks no ARP (`IFF_NOARP`), such as a tunnel.
    pub noarp: bool,
    /// The loopback interface.
    pub loopback: bool,
    /// The operational state (RFC 2863).
    pub state: LinkState,
}

impl Link {
    /// Is this the interface's name or one of its alternative names?
    pub fn is_called(&self, name: &str) -> bool {
        self.name == name || self.altnames.iter().any(|other| other == name)
    }

    /// Can hosts on it be asked who has an address, and told? Not on loopback and tunnels.
    pub fn has_neighbours(&self, family: Family) -> bool {
        let resolves = family == Family::V6 || frames::has_arp(self.kind);
        !self.noarp && !self.loopback && resolves
    }

    /// Why no packet can pass, or None if one can as far as the kernel knows. Interfaces that do
    /// not tell their state (loopback, dummy, tun) are taken to be fine.
    pub fn fault(&self) -> Option<&'static str> {
        match self.state {
            _ if !self.up => Some("is down"),
            LinkState::Down => Some("has no link (operational state DOWN)"),
            LinkState::LowerLayerDown => {
                Some("has no link below it (operational state LOWERLAYERDOWN)")
            }
            LinkState::NotPresent => Some("is not present (operational state NOTPRESENT)"),
            LinkState::Unknown if self.loopback => None,
            _ if !self.carrier => Some("has no carrier"),
            _ => None,
        }
    }
}

/// A link's operational state, `IF_OPER_*` in the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum LinkState {
    Unknown,
    NotPresent,
    Down,
    LowerLayerDown,
    Testing,
    Dormant,
    Up,
}

/// A hardware address: 6 bytes for Ethernet, 20 for IP over InfiniBand.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mac(pub Vec<u8>);

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes: Vec<String> = self.0.iter().map(|byte| format!("{byte:02x}")).collect();
        f.write_str(&bytes.join(":"))
    }
}

/// An address on an interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    /// The host's own address (`IFA_LOCAL` where there is one).
    pub ip: IpAddr,
    /// The length of the network prefix.
    pub prefix: u8,
    /// The index of the interface.
    pub link: u32,
    /// IPv4: the label; equal to the interface's name unless one was set. IPv6 has none.
    pub label: Option<String>,
    /// IPv4: the broadcast address.
    pub broadcast: Option<Ipv4Addr>,
    /// The other end, where it is not `ip` itself (point-to-point interfaces).
    pub peer: Option<IpAddr>,
    /// The scope, an `RT_SCOPE_` number: 0 global, 253 link, 254 host.
    pub scope: u8,
    /// `IFA_F_` flags.
    pub flags: AddressFlags,
    /// Seconds for which it is preferred as a source address; None is for ever.
    pub preferred: Option<u32>,
    /// The metric of its prefix route; None is the kernel's own choice.
    pub metric: Option<u32>,
}

impl Address {
    /// An address as `ip address add` without options would make it.
    pub fn new(ip: IpAddr, prefix: u8, link: u32) -> Address {
        Address {
            ip,
            prefix,
            link,
            label: None,
            broadcast: None,
            peer: None,
            scope: 0,
            flags: AddressFlags::default(),
            preferred: None,
            metric: None,
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.ip, self.prefix)
    }
}

/// The kernel's `IFA_F_` flags of an address.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AddressFlags(pub u32);

impl AddressFlags {
    /// IPv4: another address of the same network is the primary one.
    pub const SECONDARY: u32 = 0x01;
    /// IPv6: no duplicate address detection.
    pub const NODAD: u32 = 0x02;
    /// IPv6: usable while duplicate address detection runs.
    pub const OPTIMISTIC: u32 = 0x04;
    /// IPv6: another host has it.
    pub const DADFAILED: u32 = 0x08;
    /// Not preferred as a source address.
    pub const DEPRECATED: u32 = 0x20;
    /// IPv6: duplicate address detection is not over.
    pub const TENTATIVE: u32 = 0x40;
    /// Not given for a time only.
    pub const PERMANENT: u32 = 0x80;
    /// No route to the network was made for it.
    pub const NOPREFIXROUTE: u32 = 0x200;

    /// Is one of these flags set?
    pub fn has(self, flag: u32) -> bool {
        self.0 & flag != 0
    }
}

/// A unicast route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// The network; None is the default route.
    pub destination: Option<IpAddr>,
    /// The length of its prefix.
    pub prefix: u8,
    /// The interface it leaves by, unless it has several.
    pub link: Option<u32>,
    /// Through a gateway, or straight to the neighbours?
    pub gateway: bool,
    /// The smaller, the better.
    pub metric: u32,
    /// Its interface has no carrier.
    pub linkdown: bool,
}

/// A label for choosing IPv6 source addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceLabel {
    /// The address it is for.
    pub ip: IpAddr,
    /// The interface it holds on.
    pub link: u32,
    /// The label's number.
    pub value: u32,
}

/// The messages that can announce an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Announcement {
    /// IPv4: an ARP request for one's own address, the gratuitous ARP of RFC 5227.
    Request,
    /// IPv4: an ARP reply nobody asked for. Some switches and hosts learn only from this one, and
    /// some only from the other.
    Reply,
    /// IPv6: a neighbour advertisement nobody asked for (RFC 4861). It must say whether the host
    /// is a router: from one that says it is not, hosts take away their routes through it.
    Neighbour {
        /// Does this host forward packets?
        router: bool,
    },
}
