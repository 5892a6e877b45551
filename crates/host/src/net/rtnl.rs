//! Links, addresses and routes as rtnetlink writes them (linux/rtnetlink.h, if_link.h,
//! if_addr.h, if_addrlabel.h). Unknown attributes are passed over: a newer kernel has more.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::netlink::{attributes_of, push_attribute, text};
use super::{Address, AddressFlags, Family, Link, LinkState, Mac, Route, SourceLabel};

pub const RTM_NEWLINK: u16 = 16;
pub const RTM_GETLINK: u16 = 18;
pub const RTM_NEWADDR: u16 = 20;
pub const RTM_DELADDR: u16 = 21;
pub const RTM_GETADDR: u16 = 22;
pub const RTM_NEWROUTE: u16 = 24;
pub const RTM_GETROUTE: u16 = 26;
pub const RTM_NEWADDRLABEL: u16 = 72;
pub const RTM_DELADDRLABEL: u16 = 73;

const IFF_UP: u32 = 0x1;
const IFF_LOOPBACK: u32 = 0x8;
const IFF_NOARP: u32 = 0x80;
const IFF_LOWER_UP: u32 = 0x10000;

const IFLA_ADDRESS: u16 = 1;
const IFLA_BROADCAST: u16 = 2;
const IFLA_IFNAME: u16 = 3;
const IFLA_OPERSTATE: u16 = 16;
const IFLA_EXT_MASK: u16 = 29;
const IFLA_PROP_LIST: u16 = 52;
const IFLA_ALT_IFNAME: u16 = 53;
const RTEXT_FILTER_SKIP_STATS: u32 = 8;
/// The longest name that fits `IFLA_IFNAME` (`IFNAMSIZ` less its NUL).
const LONGEST_NAME: usize = 15;

const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const IFA_LABEL: u16 = 3;
const IFA_BROADCAST: u16 = 4;
const IFA_CACHEINFO: u16 = 6;
const IFA_FLAGS: u16 = 8;
const IFA_RT_PRIORITY: u16 = 9;
const FOREVER: u32 = u32::MAX;

const RTA_DST: u16 = 1;
const RTA_OIF: u16 = 4;
const RTA_GATEWAY: u16 = 5;
const RTA_PRIORITY: u16 = 6;
const RTA_MULTIPATH: u16 = 9;
const RTA_TABLE: u16 = 15;
const RTA_VIA: u16 = 18;
const RT_TABLE_MAIN: u8 = 254;
const RTN_UNICAST: u8 = 1;
const RTNH_F_DEAD: u32 = 1;
const RTNH_F_LINKDOWN: u32 = 16;
const RTM_F_CLONED: u32 = 0x200;

const IFAL_ADDRESS: u16 = 1;
const IFAL_LABEL: u16 = 2;

fn family_number(family: Family) -> u8 {
    match family {
        Family::V4 => libc::AF_INET as u8,
        Family::V6 => libc::AF_INET6 as u8,
    }
}

fn octets(ip: IpAddr) -> Vec<u8> {
    match ip {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    }
}

fn ip(bytes: &[u8]) -> Option<IpAddr> {
    match bytes.len() {
        4 => Some(Ipv4Addr::from(<[u8; 4]>::try_from(bytes).ok()?).into()),
        16 => Some(Ipv6Addr::from(<[u8; 16]>::try_from(bytes).ok()?).into()),
        _ => None,
    }
}

fn number(bytes: &[u8]) -> Option<u32> {
    Some(u32::from_ne_bytes(*bytes.first_chunk()?))
}

/// `struct ifinfomsg`.
fn link_header(index: u32, flags: u32, mask: u32) -> Vec<u8> {
    let mut message = vec![0; 4];
    for field in [index, flags, mask] {
        message.extend_from_slice(&field.to_ne_bytes());
    }
    message
}

/// Asks for all links. Statistics, most of each answer, are left out where the kernel can.
pub fn get_links() -> Vec<u8> {
    let mut message = link_header(0, 0, 0);
    push_attribute(
        &mut message,
        IFLA_EXT_MASK,
        &RTEXT_FILTER_SKIP_STATS.to_ne_bytes(),
    );
    message
}

pub fn get_link(index: u32) -> Vec<u8> {
    let mut message = link_header(index, 0, 0);
    push_attribute(
        &mut message,
        IFLA_EXT_MASK,
        &RTEXT_FILTER_SKIP_STATS.to_ne_bytes(),
    );
    message
}

/// Asks for a link by name or alternative name; either attribute finds both, and only the
/// second takes a long one.
pub fn get_link_named(name: &str) -> Vec<u8> {
    let mut message = link_header(0, 0, 0);
    let attribute = if name.len() <= LONGEST_NAME {
        IFLA_IFNAME
    } else {
        IFLA_ALT_IFNAME
    };
    push_attribute(&mut message, attribute, format!("{name}\0").as_bytes());
    push_attribute(
        &mut message,
        IFLA_EXT_MASK,
        &RTEXT_FILTER_SKIP_STATS.to_ne_bytes(),
    );
    message
}

pub fn set_link_up(index: u32) -> Vec<u8> {
    link_header(index, IFF_UP, IFF_UP)
}

pub fn link(body: &[u8]) -> Option<Link> {
    let flags = number(body.get(8..)?)?;
    let mut link = Link {
        index: number(body.get(4..)?)?,
        name: String::new(),
        altnames: Vec::new(),
        kind: u16::from_ne_bytes(*body.get(2..)?.first_chunk()?),
        mac: Mac::default(),
        broadcast: Mac::default(),
        up: flags & IFF_UP != 0,
        carrier: flags & IFF_LOWER_UP != 0,
        noarp: flags & IFF_NOARP != 0,
        loopback: flags & IFF_LOOPBACK != 0,
        state: LinkState::Unknown,
    };
    for (kind, value) in attributes_of(body.get(16..)?) {
        match kind {
            IFLA_IFNAME => link.name = text(value),
            IFLA_ADDRESS => link.mac = Mac(value.to_vec()),
            IFLA_BROADCAST => link.broadcast = Mac(value.to_vec()),
            IFLA_OPERSTATE => link.state = link_state(*value.first()?),
            IFLA_PROP_LIST => {
                let names = attributes_of(value).filter(|(kind, _)| *kind == IFLA_ALT_IFNAME);
                link.altnames = names.map(|(_, name)| text(name)).collect();
            }
            _ => {}
        }
    }
    Some(link)
}

fn link_state(number: u8) -> LinkState {
    match number {
        1 => LinkState::NotPresent,
        2 => LinkState::Down,
        3 => LinkState::LowerLayerDown,
        4 => LinkState::Testing,
        5 => LinkState::Dormant,
        6 => LinkState::Up,
        _ => LinkState::Unknown,
    }
}

/// `struct ifaddrmsg`.
fn address_header(family: Family, prefix: u8, flags: u8, scope: u8, link: u32) -> Vec<u8> {
    let mut message = vec![family_number(family), prefix, flags, scope];
    message.extend_from_slice(&link.to_ne_bytes());
    message
}

pub fn get_addresses(family: Family) -> Vec<u8> {
    address_header(family, 0, 0, 0, 0)
}

pub fn new_address(address: &Address) -> Vec<u8> {
    // The header has room for the eight oldest flags; IFA_FLAGS has all of them.
    let flags = address.flags.0;
    let mut message = address_header(
        Family::of(address.ip),
        address.prefix,
        flags as u8,
        address.scope,
        address.link,
    );
    push_attribute(&mut message, IFA_LOCAL, &octets(address.ip));
    push_attribute(
        &mut message,
        IFA_ADDRESS,
        &octets(address.peer.unwrap_or(address.ip)),
    );
    if let Some(broadcast) = address.broadcast {
        push_attribute(&mut message, IFA_BROADCAST, &broadcast.octets());
    }
    if let Some(label) = &address.label {
        push_attribute(&mut message, IFA_LABEL, format!("{label}\0").as_bytes());
    }
    if flags != 0 {
        push_attribute(&mut message, IFA_FLAGS, &flags.to_ne_bytes());
    }
    if let Some(metric) = address.metric {
        push_attribute(&mut message, IFA_RT_PRIORITY, &metric.to_ne_bytes());
    }
    if let Some(preferred) = address.preferred {
        // struct ifa_cacheinfo: preferred, valid, and two time stamps the kernel sets.
        let fields = [preferred, FOREVER, 0, 0].map(u32::to_ne_bytes).concat();
        push_attribute(&mut message, IFA_CACHEINFO, &fields);
    }
    message
}

pub fn del_address(address: &Address) -> Vec<u8> {
    let mut message = address_header(Family::of(address.ip), address.prefix, 0, 0, address.link);
    push_attribute(&mut message, IFA_LOCAL, &octets(address.ip));
    push_attribute(
        &mut message,
        IFA_ADDRESS,
        &octets(address.peer.unwrap_or(address.ip)),
    );
    if let Some(label) = &address.label {
        push_attribute(&mut message, IFA_LABEL, format!("{label}\0").as_bytes());
    }
    message
}

pub fn address(body: &[u8]) -> Option<Address> {
    let [_family, prefix, flags, scope] = *body.first_chunk()?;
    let (mut local, mut other) = (None, None);
    let mut address = Address {
        ip: Ipv4Addr::UNSPECIFIED.into(),
        prefix,
        link: number(body.get(4..)?)?,
        label: None,
        broadcast: None,
        peer: None,
        scope,
        flags: AddressFlags(flags.into()),
        preferred: None,
        metric: None,
    };
    for (kind, value) in attributes_of(body.get(8..)?) {
        match kind {
            IFA_LOCAL => local = ip(value),
            IFA_ADDRESS => other = ip(value),
            IFA_LABEL => address.label = Some(text(value)),
            IFA_BROADCAST => {
                if let Some(IpAddr::V4(broadcast)) = ip(value) {
                    address.broadcast = Some(broadcast);
                }
            }
            IFA_FLAGS => address.flags = AddressFlags(number(value)?),
            IFA_RT_PRIORITY => address.metric = number(value),
            IFA_CACHEINFO => {
                address.preferred = number(value).filter(|seconds| *seconds != FOREVER)
            }
            _ => {}
        }
    }
    // On a point-to-point interface IFA_ADDRESS is the other end, and IFA_LOCAL ours; an IPv6
    // address without another end has IFA_ADDRESS only.
    address.ip = local.or(other)?;
    address.peer = other.filter(|other| *other != address.ip);
    Some(address)
}

/// `struct rtmsg`.
fn route_header(family: Family, destination: u8, table: u8) -> Vec<u8> {
    let mut message = vec![family_number(family), destination, 0, 0, table, 0, 0, 0];
    message.extend_from_slice(&0u32.to_ne_bytes());
    message
}

pub fn get_routes(family: Family) -> Vec<u8> {
    route_header(family, 0, RT_TABLE_MAIN)
}

/// Asks which route the kernel would take to `destination`.
pub fn get_route_to(destination: IpAddr) -> Vec<u8> {
    let family = Family::of(destination);
    let mut message = route_header(family, family.bits(), 0);
    push_attribute(&mut message, RTA_DST, &octets(destination));
    message
}

/// The interface of the answer to [`get_route_to`].
pub fn route_link(body: &[u8]) -> Option<u32> {
    attributes_of(body.get(12..)?)
        .find(|(kind, _)| *kind == RTA_OIF)
        .and_then(|(_, value)| number(value))
}

/// A route of the main table that sends somewhere: others are None.
pub fn route(body: &[u8]) -> Option<Route> {
    let [
        _family,
        prefix,
        _source,
        _tos,
        table,
        _protocol,
        _scope,
        kind,
    ] = *body.first_chunk()?;
    let flags = number(body.get(8..)?)?;
    let mut table = u32::from(table);
    let mut route = Route {
        destination: None,
        prefix,
        link: None,
        gateway: false,
        metric: 0,
        linkdown: flags & RTNH_F_LINKDOWN != 0,
    };
    for (kind, value) in attributes_of(body.get(12..)?) {
        match kind {
            RTA_DST => route.destination = ip(value),
            RTA_OIF => route.link = number(value),
            RTA_GATEWAY | RTA_VIA | RTA_MULTIPATH => route.gateway = true,
            RTA_PRIORITY => route.metric = number(value)?,
            RTA_TABLE => table = number(value)?,
            _ => {}
        }
    }
    let usable = kind == RTN_UNICAST
        && table == u32::from(RT_TABLE_MAIN)
        && flags & (RTNH_F_DEAD | RTM_F_CLONED) == 0;
    usable.then_some(route)
}

/// `struct ifaddrlblmsg`, with its attributes.
pub fn source_label(label: &SourceLabel) -> Vec<u8> {
    let family = Family::of(label.ip);
    let mut message = vec![family_number(family), 0, family.bits(), 0];
    message.extend_from_slice(&label.link.to_ne_bytes());
    message.extend_from_slice(&0u32.to_ne_bytes());
    push_attribute(&mut message, IFAL_ADDRESS, &octets(label.ip));
    push_attribute(&mut message, IFAL_LABEL, &label.value.to_ne_bytes());
    message
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_read_back_as_it_was_written() {
        let mut written = Address::new("192.0.2.7".parse().unwrap(), 24, 3);
        written.label = Some("eth0:vip".into());
        written.broadcast = Some("192.0.2.255".parse().unwrap());
        written.flags = AddressFlags(AddressFlags::NOPREFIXROUTE | AddressFlags::PERMANENT);
        written.preferred = Some(0);
        written.metric = Some(50);
        assert_eq!(address(&new_address(&written)), Some(written));
    }

    #[test]
    fn on_a_point_to_point_interface_the_local_end_is_ours() {
        let mut ours = Address::new("10.0.0.1".parse().unwrap(), 32, 9);
        ours.peer = Some("10.0.0.2".parse().unwrap());
        assert_eq!(address(&new_address(&ours)), Some(ours));
    }

    #[test]
    fn an_ipv6_address_without_a_local_end_is_its_address() {
        let mut message = address_header(Family::V6, 64, 0, 0, 2);
        push_attribute(
            &mut message,
            IFA_ADDRESS,
            &octets("2001:db8::7".parse().unwrap()),
        );
        push_attribute(
            &mut message,
            IFA_CACHEINFO,
            &[FOREVER, FOREVER, 0, 0].map(u32::to_ne_bytes).concat(),
        );
        assert_eq!(
            address(&message),
            Some(Address::new("2001:db8::7".parse().unwrap(), 64, 2))
        );
    }

    #[test]
    fn a_message_cut_anywhere_is_not_a_panic() {
        let mut full = Address::new("2001:db8::7".parse().unwrap(), 64, 2);
        full.preferred = Some(0);
        for message in [
            new_address(&full),
            get_link_named("eth0"),
            get_route_to(full.ip),
        ] {
            for length in 0..message.len() {
                let _ = (
                    address(&message[..length]),
                    link(&message[..length]),
                    route(&message[..length]),
                );
            }
        }
    }

    proptest::proptest! {
        #[test]
        fn any_message_is_read_or_passed_over(bytes: Vec<u8>) {
            let _ = (address(&bytes), link(&bytes), route(&bytes), route_link(&bytes));
        }
    }
}
