//! Ends TCP connections of one local address (linux/inet_diag.h, `SOCK_DESTROY`, kernel 4.5).

use std::net::{IpAddr, Ipv6Addr};

use nix::errno::Errno;

use super::NetError;
use super::netlink::Netlink;
use crate::Deadline;

const SOCK_DIAG_BY_FAMILY: u16 = 20;
const SOCK_DESTROY: u16 = 21;
/// Every state in which the other side believes in a connection, by its `TCP_` number:
/// established, SYN sent and received, FIN-WAIT-1 and -2, CLOSE-WAIT, LAST-ACK, closing.
const CONNECTED: u32 = 1 << 1 | 1 << 2 | 1 << 3 | 1 << 4 | 1 << 5 | 1 << 8 | 1 << 9 | 1 << 11;

/// Ends all connections whose local address is `ip`, also those of sockets that listen on IPv6
/// for both families, and returns how many there were.
pub fn destroy(ip: IpAddr, deadline: Deadline) -> Result<usize, NetError> {
    let netlink = Netlink::open(libc::NETLINK_SOCK_DIAG as isize, deadline)?;
    let families: &[i32] = if ip.is_ipv4() {
        &[libc::AF_INET, libc::AF_INET6]
    } else {
        &[libc::AF_INET6]
    };
    let (mut ended, mut refused) = (0, None);
    for family in families {
        let all = request(*family as u8, CONNECTED, &[0; 48]);
        let answers = netlink.dump("reading the TCP connections", SOCK_DIAG_BY_FAMILY, &all)?;
        for socket in answers
            .iter()
            .filter_map(|answer| Socket::read(&answer.body))
        {
            if socket.local != ip {
                continue;
            }
            let one = request(*family as u8, CONNECTED, &socket.id);
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

/// `struct inet_diag_req_v2`: the family, TCP, nothing extra, a set of states, a socket.
fn request(family: u8, states: u32, id: &[u8; 48]) -> Vec<u8> {
    let mut message = vec![family, libc::IPPROTO_TCP as u8, 0, 0];
    message.extend_from_slice(&states.to_ne_bytes());
    message.extend_from_slice(id);
    message
}

struct Socket {
    /// `struct inet_diag_sockid`: ports, addresses, interface, cookie. It names the socket.
    id: [u8; 48],
    local: IpAddr,
}

impl Socket {
    /// Reads a `struct inet_diag_msg`.
    fn read(body: &[u8]) -> Option<Socket> {
        let family = *body.first()?;
        let id: [u8; 48] = *body.get(4..)?.first_chunk()?;
        let source: [u8; 16] = *id[4..].first_chunk()?;
        let local = if i32::from(family) == libc::AF_INET {
            IpAddr::from(<[u8; 4]>::try_from(&source[..4]).ok()?)
        } else {
            // An IPv4 client of an IPv6 socket appears as ::ffff:192.0.2.1.
            Ipv6Addr::from(source).to_canonical()
        };
        Some(Socket { id, local })
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
    }
}
