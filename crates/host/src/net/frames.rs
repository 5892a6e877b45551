//! ARP packets (RFC 826, RFC 5227) and neighbour discovery messages (RFC 4861): bytes only.

use std::net::{Ipv4Addr, Ipv6Addr};

use super::Mac;

const ARPHRD_ETHER: u16 = 1;
const ARPHRD_INFINIBAND: u16 = 32;
const ETH_P_IP: u16 = 0x0800;
const REQUEST: u16 = 1;
const REPLY: u16 = 2;

pub const NEIGHBOUR_SOLICITATION: u8 = 135;
pub const NEIGHBOUR_ADVERTISEMENT: u8 = 136;
const OPTION_SOURCE: u8 = 1;
const OPTION_TARGET: u8 = 2;
/// The receiver shall replace what it has in its cache.
const OVERRIDE: u8 = 0x20;
/// The sender is a router.
const ROUTER: u8 = 0x80;

/// An ARP packet: who says that an address is where.
#[derive(Debug, PartialEq, Eq)]
pub struct Arp {
    pub reply: bool,
    pub sender: (Mac, Ipv4Addr),
    pub target: (Mac, Ipv4Addr),
}

impl Arp {
    /// The gratuitous request: "who has `ip`? tell `ip`".
    pub fn gratuitous_request(mac: &Mac, ip: Ipv4Addr) -> Arp {
        Arp {
            reply: false,
            sender: (mac.clone(), ip),
            target: (zeros(mac), ip),
        }
    }

    /// The reply nobody asked for: "`ip` is at `mac`", to everybody. Its target is its sender (RFC 5944, 4.6): Linux takes no
    /// other reply for gratuitous, and lets an entry that is younger than a second be.
    pub fn gratuitous_reply(mac: &Mac, ip: Ipv4Addr) -> Arp {
        Arp {
            reply: true,
            sender: (mac.clone(), ip),
            target: (mac.clone(), ip),
        }
    }

    /// The probe: a request from nobody (0.0.0.0), so that it changes no cache.
    pub fn probe(mac: &Mac, ip: Ipv4Addr) -> Arp {
        Arp {
            reply: false,
            sender: (mac.clone(), Ipv4Addr::UNSPECIFIED),
            target: (zeros(mac), ip),
        }
    }

    /// The bytes, for an interface of hardware type `kind`; None where ARP has no form for it.
    pub fn bytes(&self, kind: u16) -> Option<Vec<u8>> {
        let hardware = has_arp(kind).then_some(kind)?;
        let length = u8::try_from(self.sender.0.0.len()).ok()?;
        let mut packet = Vec::with_capacity(64);
        packet.extend_from_slice(&hardware.to_be_bytes());
        packet.extend_from_slice(&ETH_P_IP.to_be_bytes());
        packet.extend_from_slice(&[length, 4]);
        packet.extend_from_slice(&(if self.reply { REPLY } else { REQUEST }).to_be_bytes());
        for (mac, ip) in [&self.sender, &self.target] {
            packet.extend_from_slice(&mac.0);
            packet.extend_from_slice(&ip.octets());
        }
        Some(packet)
    }

    /// Reads a packet that came in; None if it is not ARP for IPv4.
    pub fn read(packet: &[u8]) -> Option<Arp> {
        let protocol = u16::from_be_bytes(*packet.get(2..)?.first_chunk()?);
        let length = usize::from(*packet.get(4)?);
        let operation = u16::from_be_bytes(*packet.get(6..)?.first_chunk()?);
        if protocol != ETH_P_IP || *packet.get(5)? != 4 || !(REQUEST..=REPLY).contains(&operation) {
            return None;
        }
        let pair = |at: usize| {
            let mac = Mac(packet.get(at..at + length)?.to_vec());
            let ip: [u8; 4] = *packet.get(at + length..)?.first_chunk()?;
            Some((mac, Ipv4Addr::from(ip)))
        };
        Some(Arp {
            reply: operation == REPLY,
            sender: pair(8)?,
            target: pair(8 + length + 4)?,
        })
    }
}

/// Does ARP run over interfaces of this hardware type? Nearly all that it runs over (bridges,
/// bonds, VLANs, veth) say they are Ethernet.
pub fn has_arp(kind: u16) -> bool {
    matches!(kind, ARPHRD_ETHER | ARPHRD_INFINIBAND)
}

fn zeros(like: &Mac) -> Mac {
    Mac(vec![0; like.0.len()])
}

/// "`ip` is at `mac`, whatever you thought", to all nodes. The kernel adds the checksum.
pub fn neighbour_advertisement(mac: &Mac, ip: Ipv6Addr, router: bool) -> Vec<u8> {
    let flags = if router { ROUTER | OVERRIDE } else { OVERRIDE };
    neighbour_message(NEIGHBOUR_ADVERTISEMENT, flags, OPTION_TARGET, mac, ip)
}

/// "Who has `ip`? Tell `mac`."
pub fn neighbour_solicitation(mac: &Mac, ip: Ipv6Addr) -> Vec<u8> {
    neighbour_message(NEIGHBOUR_SOLICITATION, 0, OPTION_SOURCE, mac, ip)
}

fn neighbour_message(kind: u8, flags: u8, option: u8, mac: &Mac, ip: Ipv6Addr) -> Vec<u8> {
    let mut message = vec![kind, 0, 0, 0, flags, 0, 0, 0];
    message.extend_from_slice(&ip.octets());
    if !mac.0.is_empty() {
        // Options come in units of eight bytes, and their length says how many.
        let units = (2 + mac.0.len()).div_ceil(8);
        message.extend_from_slice(&[option, units as u8]);
        message.extend_from_slice(&mac.0);
        message.resize(24 + units * 8, 0);
    }
    message
}

/// Who claims `ip` in a neighbour advertisement; None if it is none, or for another address.
pub fn advertised(message: &[u8], ip: Ipv6Addr, mac_length: usize) -> Option<Mac> {
    let [kind, code, ..] = *message else {
        return None;
    };
    if (kind, code) != (NEIGHBOUR_ADVERTISEMENT, 0) || message.get(8..24)? != ip.octets() {
        return None;
    }
    let mut options = message.get(24..)?;
    while let [kind, units, ..] = *options {
        let length = usize::from(units) * 8;
        if length == 0 || length > options.len() {
            return None;
        }
        if kind == OPTION_TARGET {
            return Some(Mac(options.get(2..2 + mac_length)?.to_vec()));
        }
        options = &options[length..];
    }
    None
}

/// The multicast address at which whoever has `ip` listens (RFC 4291, 2.7.1).
pub fn solicited_node(ip: Ipv6Addr) -> Ipv6Addr {
    let [.., a, b, c] = ip.octets();
    Ipv6Addr::new(
        0xff02,
        0,
        0,
        0,
        0,
        1,
        0xff00 | u16::from(a),
        u16::from_be_bytes([b, c]),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mac() -> Mac {
        Mac(vec![2, 0, 0, 0, 0, 7])
    }

    #[test]
    fn a_gratuitous_request_is_these_bytes() {
        let packet = Arp::gratuitous_request(&mac(), Ipv4Addr::new(192, 0, 2, 7))
            .bytes(ARPHRD_ETHER)
            .unwrap();
        let expected = [
            0, 1, 8, 0, 6, 4, 0, 1, // Ethernet, IPv4, their lengths, request
            2, 0, 0, 0, 0, 7, 192, 0, 2, 7, // sender
            0, 0, 0, 0, 0, 0, 192, 0, 2, 7, // target
        ];
        assert_eq!(packet, expected);
    }

    #[test]
    fn arp_is_read_as_it_is_written_on_ethernet_and_infiniband() {
        let long = Mac((0..20).collect());
        let reply = Arp::gratuitous_reply(&long, Ipv4Addr::new(192, 0, 2, 7));
        assert_eq!(
            Arp::read(&reply.bytes(ARPHRD_INFINIBAND).unwrap()),
            Some(reply)
        );
        let probe = Arp::probe(&mac(), Ipv4Addr::new(192, 0, 2, 7));
        let bytes = probe.bytes(ARPHRD_ETHER).unwrap();
        for length in 0..bytes.len() {
            assert_eq!(Arp::read(&bytes[..length]), None);
        }
        assert_eq!(Arp::read(&bytes), Some(probe));
    }

    #[test]
    fn interfaces_without_arp_have_no_packet() {
        assert_eq!(
            Arp::probe(&Mac::default(), Ipv4Addr::LOCALHOST).bytes(772),
            None
        );
    }

    #[test]
    fn an_advertisement_names_its_hardware_address() {
        let ip: Ipv6Addr = "2001:db8::7".parse().unwrap();
        let message = neighbour_advertisement(&mac(), ip, false);
        assert_eq!(message.len(), 32);
        assert_eq!(advertised(&message, ip, 6), Some(mac()));
        assert_eq!(advertised(&message, Ipv6Addr::LOCALHOST, 6), None);
        assert_eq!(advertised(&neighbour_solicitation(&mac(), ip), ip, 6), None);
        for length in 0..message.len() {
            assert_eq!(advertised(&message[..length], ip, 6), None);
        }
    }

    #[test]
    fn a_solicited_node_address_ends_like_the_address() {
        let ip: Ipv6Addr = "2001:db8::12:3456".parse().unwrap();
        assert_eq!(
            solicited_node(ip),
            "ff02::1:ff12:3456".parse::<Ipv6Addr>().unwrap()
        );
    }

    proptest::proptest! {
        #[test]
        fn whatever_comes_from_the_network_is_read_or_passed_over(bytes: Vec<u8>, length in 0usize..40) {
            let _ = (Arp::read(&bytes), advertised(&bytes, Ipv6Addr::LOCALHOST, length));
        }

        #[test]
        fn an_advertisement_with_any_options_is_read_or_passed_over(options: Vec<u8>) {
            let mut message = neighbour_advertisement(&Mac::default(), Ipv6Addr::LOCALHOST, true);
            message.extend_from_slice(&options);
            let _ = advertised(&message, Ipv6Addr::LOCALHOST, 6);
        }
    }
}
