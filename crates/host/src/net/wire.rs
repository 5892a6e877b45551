//! Sends and hears ARP and neighbour discovery. IPv4 goes over a packet socket, as only that
//! reaches ARP; IPv6 over a raw ICMPv6 socket, which leaves checksum and multicast to the kernel.

use std::io::{self, IoSliceMut};
use std::mem;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::socket::{ControlMessageOwned, MsgFlags, RecvMsg, recvmsg, setsockopt, sockopt};

use super::frames::{self, Arp};
use super::netlink::{now, readable};
use super::{Announcement, Link, Mac, NetError};

/// How often a question is repeated, as one frame may be lost.
const QUESTIONS: u32 = 2;
const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
/// RFC 4861 discards neighbour discovery with any other hop limit.
const HOPS: libc::c_int = 255;

/// Tells the neighbours that an address is at an interface. Kept open between announcements:
/// the kernel takes some ten milliseconds to close a packet socket.
pub struct Announcer {
    link: Link,
    ip: IpAddr,
    socket: Speaker,
}

enum Speaker {
    Arp(ArpSocket, Ipv4Addr),
    Neighbour(NeighbourSocket, Ipv6Addr),
}

impl Announcer {
    pub fn open(link: &Link, ip: IpAddr) -> Result<Announcer, NetError> {
        let socket = match ip {
            IpAddr::V4(ip) => ArpSocket::open(link).map(|socket| Speaker::Arp(socket, ip)),
            IpAddr::V6(ip) => {
                NeighbourSocket::open(link, Some(ip)).map(|socket| Speaker::Neighbour(socket, ip))
            }
        };
        let socket = socket.map_err(|error| failed(announcing(link, ip), &error))?;
        Ok(Announcer {
            link: link.clone(),
            ip,
            socket,
        })
    }

    /// Is it the one for this address on this interface?
    pub fn is_for(&self, link: &Link, ip: IpAddr) -> bool {
        self.ip == ip && self.link == *link
    }

    /// Tells them once. A form of the other family is [`Errno::EAFNOSUPPORT`].
    pub fn announce(&self, form: Announcement) -> Result<(), NetError> {
        let mac = &self.link.mac;
        let sent = match (&self.socket, form) {
            (Speaker::Arp(socket, ip), Announcement::Request) => {
                socket.send(&Arp::gratuitous_request(mac, *ip))
            }
            (Speaker::Arp(socket, ip), Announcement::Reply) => {
                socket.send(&Arp::gratuitous_reply(mac, *ip))
            }
            (Speaker::Neighbour(socket, ip), Announcement::Neighbour { router }) => {
                let message = frames::neighbour_advertisement(mac, *ip, router);
                socket.send(ALL_NODES, &message)
            }
            _ => Err(io::Error::from(Errno::EAFNOSUPPORT)),
        };
        sent.map_err(|error| failed(announcing(&self.link, self.ip), &error))
    }
}

fn announcing(link: &Link, ip: IpAddr) -> String {
    format!("announcing {ip} on {}", link.name)
}

/// Asks who has `ip` and returns everybody who answers within `limit`.
pub fn who_has(link: &Link, ip: IpAddr, limit: Duration) -> Result<Vec<Mac>, NetError> {
    let heard = match ip {
        IpAddr::V4(ip) => ask_arp(link, ip, limit),
        IpAddr::V6(ip) => ask_neighbours(link, ip, limit),
    };
    heard.map_err(|error| failed(format!("asking who has {ip} on {}", link.name), &error))
}

fn ask_arp(link: &Link, ip: Ipv4Addr, limit: Duration) -> io::Result<Vec<Mac>> {
    let socket = ArpSocket::open(link)?;
    socket.hear()?;
    let mut claims = Vec::new();
    for _ in 0..QUESTIONS {
        socket.send(&Arp::probe(&link.mac, ip))?;
        listen(&socket.0, limit / QUESTIONS, |packet, _| {
            let arp = Arp::read(packet);
            claims.extend(arp.filter(|arp| arp.sender.1 == ip).map(|arp| arp.sender.0));
        })?;
    }
    Ok(claims)
}

fn ask_neighbours(link: &Link, ip: Ipv6Addr, limit: Duration) -> io::Result<Vec<Mac>> {
    let socket = NeighbourSocket::open(link, None)?;
    let mut claims = Vec::new();
    for _ in 0..QUESTIONS {
        socket.send(
            frames::solicited_node(ip),
            &frames::neighbour_solicitation(&link.mac, ip),
        )?;
        listen(&socket.fd, limit / QUESTIONS, |message, hops| {
            // Less than 255 means that a router forwarded it: from far away, and forged.
            if hops == Some(HOPS) {
                claims.extend(frames::advertised(message, ip, link.mac.0.len()));
            }
        })?;
    }
    Ok(claims)
}

/// Hands everything that arrives within `limit` to `heard`, with the hop limit it came with
/// where the socket was told to say it.
fn listen(
    socket: &OwnedFd,
    limit: Duration,
    mut heard: impl FnMut(&[u8], Option<libc::c_int>),
) -> io::Result<()> {
    let until = now() + limit;
    let mut buffer = [0u8; 2048];
    let mut control = nix::cmsg_space!(libc::c_int);
    loop {
        let left = until.saturating_duration_since(now());
        if left.is_zero() || !readable(socket.as_fd(), left).map_err(io::Error::from)? {
            return Ok(());
        }
        let mut parts = [IoSliceMut::new(&mut buffer)];
        let fd = socket.as_raw_fd();
        let (length, hops) =
            match recvmsg::<()>(fd, &mut parts, Some(&mut control), MsgFlags::MSG_DONTWAIT) {
                Ok(message) => (message.bytes, hop_limit(&message)),
                // Another reader was faster, or an error was queued on the socket and is now taken.
                Err(Errno::EAGAIN | Errno::EINTR | Errno::ENETDOWN) => continue,
                Err(errno) => return Err(errno.into()),
            };
        heard(&buffer[..length], hops);
    }
}

fn hop_limit(message: &RecvMsg<'_, '_, ()>) -> Option<libc::c_int> {
    message.cmsgs().ok()?.find_map(|control| match control {
        ControlMessageOwned::Ipv6HopLimit(hops) => Some(hops),
        _ => None,
    })
}

/// A packet socket for ARP on one interface; the kernel makes the link header.
struct ArpSocket(OwnedFd, Link);

/// `struct sockaddr_ll` with room for the 20 bytes of an InfiniBand address. The kernel takes
/// up to 32 where the length says so; libc's structure has 8.
#[repr(C)]
struct LinkAddress {
    family: u16,
    protocol: u16,
    interface: i32,
    hardware: u16,
    packet: u8,
    length: u8,
    address: [u8; 32],
}

impl ArpSocket {
    /// Protocol 0: it hears nothing.
    fn open(link: &Link) -> io::Result<ArpSocket> {
        Ok(ArpSocket(
            socket(libc::AF_PACKET, libc::SOCK_DGRAM, 0)?,
            link.clone(),
        ))
    }

    /// From now on it hears the ARP of its interface.
    fn hear(&self) -> io::Result<()> {
        let (address, length) = self.address((libc::ETH_P_ARP as u16).to_be(), &Mac::default());
        #[expect(unsafe_code, reason = "nix has no way to build a link-layer address")]
        // SAFETY: `address` is a valid link-layer address of at least `length` bytes.
        check(unsafe { libc::bind(self.0.as_raw_fd(), (&raw const address).cast(), length) })?;
        Ok(())
    }

    fn address(&self, protocol: u16, mac: &Mac) -> (LinkAddress, libc::socklen_t) {
        let mut address = LinkAddress {
            family: libc::AF_PACKET as u16,
            protocol,
            interface: self.1.index as i32,
            hardware: 0,
            packet: 0,
            length: mac.0.len().min(32) as u8,
            address: [0; 32],
        };
        for (byte, value) in address.address.iter_mut().zip(&mac.0) {
            *byte = *value;
        }
        // At least as long as libc's structure, or the kernel refuses it.
        let length = mem::offset_of!(LinkAddress, address) + mac.0.len().clamp(8, 32);
        (address, length as libc::socklen_t)
    }

    /// Sends to everybody on the wire.
    fn send(&self, arp: &Arp) -> io::Result<()> {
        let Some(packet) = arp.bytes(self.1.kind) else {
            return Err(io::Error::from(Errno::EOPNOTSUPP));
        };
        let (address, length) = self.address((libc::ETH_P_ARP as u16).to_be(), &self.1.broadcast);
        send(&self.0, &packet, (&raw const address).cast(), length)
    }
}

/// A raw ICMPv6 socket on one interface that hears neighbour advertisements only.
struct NeighbourSocket {
    fd: OwnedFd,
    interface: u32,
}

impl NeighbourSocket {
    /// Messages go out with `source` as their sender, or with what the kernel chooses.
    fn open(link: &Link, source: Option<Ipv6Addr>) -> io::Result<NeighbourSocket> {
        const ICMPV6_FILTER: libc::c_int = 1;
        let fd = socket(libc::AF_INET6, libc::SOCK_RAW, libc::IPPROTO_ICMPV6)?;
        let socket = NeighbourSocket {
            fd,
            interface: link.index,
        };
        // A set bit blocks the type: all but one.
        let mut filter = [u32::MAX; 8];
        let kind = usize::from(frames::NEIGHBOUR_ADVERTISEMENT);
        filter[kind / 32] &= !(1 << (kind % 32));
        option(&socket.fd, libc::IPPROTO_ICMPV6, ICMPV6_FILTER, &filter)?;
        option(
            &socket.fd,
            libc::IPPROTO_IPV6,
            libc::IPV6_MULTICAST_HOPS,
            &HOPS,
        )?;
        option(
            &socket.fd,
            libc::IPPROTO_IPV6,
            libc::IPV6_MULTICAST_IF,
            &(link.index as libc::c_int),
        )?;
        // An answer counts only from this interface's own wire.
        setsockopt(&socket.fd, sockopt::BindToDevice, &link.name.clone().into())?;
        setsockopt(&socket.fd, sockopt::Ipv6RecvHopLimit, &true)?;
        // This host must not hear its own question, and answer it.
        option(
            &socket.fd,
            libc::IPPROTO_IPV6,
            libc::IPV6_MULTICAST_LOOP,
            &0,
        )?;
        if let Some(source) = source {
            let address = socket.address(source);
            #[expect(unsafe_code, reason = "nix needs a feature for what is one call here")]
            // SAFETY: `address` is a sockaddr_in6, of that length.
            check(unsafe {
                libc::bind(
                    socket.fd.as_raw_fd(),
                    (&raw const address).cast(),
                    size_of_val(&address) as u32,
                )
            })?;
        }
        Ok(socket)
    }

    fn address(&self, ip: Ipv6Addr) -> libc::sockaddr_in6 {
        libc::sockaddr_in6 {
            sin6_family: libc::AF_INET6 as u16,
            sin6_port: 0,
            sin6_flowinfo: 0,
            sin6_addr: libc::in6_addr {
                s6_addr: ip.octets(),
            },
            sin6_scope_id: self.interface,
        }
    }

    fn send(&self, to: Ipv6Addr, message: &[u8]) -> io::Result<()> {
        let address = self.address(to);
        send(
            &self.fd,
            message,
            (&raw const address).cast(),
            size_of_val(&address) as u32,
        )
    }
}

fn socket(family: libc::c_int, kind: libc::c_int, protocol: libc::c_int) -> io::Result<OwnedFd> {
    #[expect(
        unsafe_code,
        reason = "nix knows neither packet nor raw ICMPv6 sockets"
    )]
    // SAFETY: the descriptor is new and nobody else's.
    unsafe {
        let fd = check(libc::socket(family, kind | libc::SOCK_CLOEXEC, protocol))?;
        Ok(OwnedFd::from_raw_fd(fd))
    }
}

fn option<T>(socket: &OwnedFd, level: libc::c_int, name: libc::c_int, value: &T) -> io::Result<()> {
    #[expect(unsafe_code, reason = "nix lacks ICMPV6_FILTER")]
    // SAFETY: the kernel reads `value`, of that size.
    check(unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            level,
            name,
            (value as *const T).cast(),
            size_of::<T>() as u32,
        )
    })?;
    Ok(())
}

fn send(
    socket: &OwnedFd,
    bytes: &[u8],
    address: *const libc::sockaddr,
    length: libc::socklen_t,
) -> io::Result<()> {
    #[expect(unsafe_code, reason = "nix has no way to build a link-layer address")]
    // SAFETY: both callers pass a valid address of this length, which lives until the return.
    let sent = unsafe {
        libc::sendto(
            socket.as_raw_fd(),
            bytes.as_ptr().cast(),
            bytes.len(),
            libc::MSG_DONTWAIT,
            address,
            length,
        )
    };
    if sent < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}

fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(result)
    }
}

fn failed(what: String, error: &io::Error) -> NetError {
    NetError::refused(
        what,
        Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO)),
    )
}
