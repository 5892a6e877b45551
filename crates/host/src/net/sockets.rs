//! Finds the sockets that listen, and ends TCP connections of one local address
//! (linux/inet_diag.h; `SOCK_DESTROY`, kernel 4.5).

use std::net::{IpAddr, Ipv6Addr};

use nix::errno::Errno;

use super::netlink::{Netlink, attributes_of};
use super::portblock::{Listener, Protocol};
use super::{Family, NetError};
use crate::Deadline;

const SOCK_DIAG_BY_FAMILY: u16 = 20;
const SOCK_DESTROY: u16 = 21;
/// Every state in which the other side believes in a connection, by its `TCP_` number:
/// established, SYN sent and received, FIN-WAIT-1 and -2, CLOSE-WAIT, LAST-ACK, closing.
const CONNECTED: u32 = 1 << 1 | 1 << 2 | 1 << 3 | 1 << 4 | 1 << 5 | 1 << 8 | 1 << 9 | 1 << 11;
const CLOSE: u32 = 1 << 7;
const LISTEN: u32 = 1 << 10;
const INET_DIAG_SKV6ONLY: u16 = 11;
/// `struct inet_diag_msg`, before the attributes.
const HEADER: usize = 72;

/// Ends all connections whose local address is `ip`, also those of sockets that listen on IPv6
/// for both families, and returns how many there were.
pub fn destroy(ip: IpAddr, deadline: Deadline) -> Result<usize, NetError> {
    let netlink = Netlink::open(libc::NETLINK_SOCK_DIAG as isize, deadline)?;
    let (mut ended, mut refused) = (0, None);
    for family in families(Family::of(ip)) {
        let all = request(*family as u8, Protocol::Tcp, CONNECTED, &[0; 48]);
        let answers = netlink.dump("reading the TCP connections", SOCK_DIAG_BY_FAMILY, &all)?;
        for socket in answers
            .iter()
            .filter_map(|answer| Socket::read(&answer.body))
        {
            if socket.local != ip {
                continue;
            }
            let one = request(*family as u8, Protocol::Tcp, CONNECTED, &socket.id);
            match netlink.request("ending a TCP connection", SOCK_DESTROY, 0, &one) {
                Ok(_) => ended += 1,
                Err(error) if error.errno() == Some(Errno::ENOENT) => {} // it ended by itself
                // Some states cannot be ended on older kernels: that must not save the others.
                Err(error) => refused = Some(error),
            }
        }
    }
    match refused {
        Some(error) if ended == 0 => Err(error),
        _ => Ok(ended),
    }
}

/// The sockets of `protocol` that a client of an address of `family` could reach. Only these are
/// listed by the kernel, however many connections there are.
pub fn listeners(
    protocol: Protocol,
    family: Family,
    deadline: Deadline,
) -> Result<Vec<Listener>, NetError> {
    let states = match protocol {
        Protocol::Tcp => LISTEN,
        // Of UDP it is one that has no other end.
        Protocol::Udp => CLOSE,
    };
    let netlink = Netlink::open(libc::NETLINK_SOCK_DIAG as isize, deadline)?;
    let what = format!("reading who listens on {protocol}");
    let mut found = Vec::new();
    for family in families(family) {
        let all = request(*family as u8, protocol, states, &[0; 48]);
        let answers = netlink.dump(&what, SOCK_DIAG_BY_FAMILY, &all)?;
        let sockets = answers
            .iter()
            .filter_map(|answer| Socket::read(&answer.body));
        // One without a port was not bound yet.
        let bound = sockets.filter(|socket| socket.port != 0);
        found.extend(bound.map(|socket| Listener {
            protocol,
            ip: socket.bound,
            port: socket.port,
            v6_only: socket.v6_only,
            link: Some(socket.link).filter(|link| *link != 0),
        }));
    }
    Ok(found)
}

/// The families of sockets that an address can be the local one of.
fn families(family: Family) -> &'static [i32] {
    match family {
        Family::V4 => &[libc::AF_INET, libc::AF_INET6],
        Family::V6 => &[libc::AF_INET6],
    }
}

/// `struct inet_diag_req_v2`: the family, the protocol, nothing extra, a set of states, a socket.
fn request(family: u8, protocol: Protocol, states: u32, id: &[u8; 48]) -> Vec<u8> {
    let protocol = match protocol {
        Protocol::Tcp => libc::IPPROTO_TCP as u8,
        Protocol::Udp => libc::IPPROTO_UDP as u8,
    };
    let mut message = vec![family, protocol, 0, 0];
    message.extend_from_slice(&states.to_ne_bytes());
    message.extend_from_slice(id);
    message
}

struct Socket {
    /// `struct inet_diag_sockid`: ports, addresses, interface, cookie. It names the socket.
    id: [u8; 48],
    /// The local address as the socket is bound to it.
    bound: IpAddr,
    /// The same as a client sees it.
    local: IpAddr,
    port: u16,
    /// The interface it is bound to, or 0.
    link: u32,
    v6_only: bool,
}

impl Socket {
    /// Reads a `struct inet_diag_msg`.
    fn read(body: &[u8]) -> Option<Socket> {
        let family = *body.first()?;
        let id: [u8; 48] = *body.get(4..)?.first_chunk()?;
        let source: [u8; 16] = *id[4..].first_chunk()?;
        let bound = if i32::from(family) == libc::AF_INET {
            IpAddr::from(<[u8; 4]>::try_from(&source[..4]).ok()?)
        } else {
            Ipv6Addr::from(source).into()
        };
        let mut attributes = attributes_of(body.get(HEADER..).unwrap_or_default());
        let v6_only = attributes.find(|(kind, _)| *kind == INET_DIAG_SKV6ONLY);
        Some(Socket {
            bound,
            // An IPv4 client of an IPv6 socket appears as ::ffff:192.0.2.1.
            local: bound.to_canonical(),
            port: u16::from_be_bytes(*id.first_chunk()?),
            link: u32::from_ne_bytes(*id[36..].first_chunk()?),
            v6_only: v6_only.is_some_and(|(_, value)| value.first().is_some_and(|on| *on != 0)),
            id,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ipv4_client_of_an_ipv6_socket_is_seen_at_its_ipv4_address() {
        let mut body = vec![libc::AF_INET6 as u8, 1, 0, 0, 0x0c, 0xbc, 0x80, 0x01];
        body.extend_from_slice(&"::ffff:192.0.2.9".parse::<Ipv6Addr>().unwrap().octets());
        body.extend_from_slice(&[0; 48]);
        assert_eq!(
            Socket::read(&body).unwrap().local,
            "192.0.2.9".parse::<IpAddr>().unwrap()
        );
        assert!(Socket::read(&body[..40]).is_none());
        assert_eq!(Socket::read(&body).unwrap().port, 3260);
    }
}
