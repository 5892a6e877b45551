//! Networks: which contain an address, and where they are connected.

use std::net::{IpAddr, Ipv4Addr};

use host::net::{Address, Family, Route};

/// A network that is directly connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Connection {
    /// The index of the interface.
    pub link: u32,
    /// The length of the network's prefix.
    pub prefix: u8,
}

/// The directly connected networks that contain `ip`, best first: the longest prefix, then an
/// interface with a carrier, then the lowest metric. Where there is no route to one, as on the
/// loopback interface, the networks of the interfaces' own addresses count.
///
/// Two of equal rank are for the kernel to choose between ([`host::Net::route_to`]).
pub fn connected(ip: IpAddr, routes: &[Route], addresses: &[Address]) -> Vec<Connection> {
    let mut direct: Vec<(&Route, Connection)> = routes
        .iter()
        .filter(|route| !route.gateway && route.prefix < Family::of(ip).bits())
        .filter(|route| {
            route
                .destination
                .is_some_and(|network| contains(network, route.prefix, ip))
        })
        .filter_map(|route| {
            Some((
                route,
                Connection {
                    link: route.link?,
                    prefix: route.prefix,
                },
            ))
        })
        .collect();
    direct.sort_by_key(|(route, _)| (u8::MAX - route.prefix, route.linkdown, route.metric));
    let equal = |(a, _): &(&Route, _), (b, _): &(&Route, _)| {
        (a.prefix, a.linkdown, a.metric) == (b.prefix, b.linkdown, b.metric)
    };
    if let Some(best) = direct.first().copied() {
        // Only those that share the first place are a choice; behind them nothing is.
        return direct
            .iter()
            .filter(|other| equal(&best, other))
            .map(|(_, connection)| *connection)
            .collect();
    }
    let mut networks: Vec<Connection> = addresses
        .iter()
        .filter(|address| address.prefix < Family::of(ip).bits())
        .filter(|address| address.ip != ip && contains(address.ip, address.prefix, ip))
        .map(|address| Connection {
            link: address.link,
            prefix: address.prefix,
        })
        .collect();
    networks.sort_by_key(|connection| u8::MAX - connection.prefix);
    networks
}

/// Is `ip` in the network of `prefix` bits that `member` is in? Never across families.
pub fn contains(member: IpAddr, prefix: u8, ip: IpAddr) -> bool {
    let family = Family::of(ip);
    let host_bits = 128 - u32::from(prefix.min(family.bits()));
    let differing = (bits(member) ^ bits(ip))
        .checked_shr(host_bits)
        .unwrap_or(0);
    family == Family::of(member) && differing == 0
}

/// The broadcast address of an IPv4 network: all host bits set. Networks of one or two
/// addresses have none (RFC 3021).
pub fn broadcast(ip: Ipv4Addr, prefix: u8) -> Option<Ipv4Addr> {
    (prefix < 31)
        .then(|| Ipv4Addr::from(u32::from(ip) | u32::MAX.checked_shr(prefix.into()).unwrap_or(0)))
}

/// The prefix length that a netmask such as 255.255.255.0 stands for; None where it has holes.
pub fn prefix_of_netmask(mask: Ipv4Addr) -> Option<u8> {
    let mask = u32::from(mask);
    let ones = mask.leading_ones();
    (mask.count_ones() == ones).then_some(ones as u8)
}

fn bits(ip: IpAddr) -> u128 {
    match ip {
        // Shifted up, so that the network is on the same side as in IPv6.
        IpAddr::V4(ip) => u128::from(u32::from(ip)) << 96,
        IpAddr::V6(ip) => ip.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn route(network: &str, link: u32) -> Route {
        let (destination, prefix) = network.split_once('/').unwrap();
        Route {
            destination: Some(ip(destination)),
            prefix: prefix.parse().unwrap(),
            link: Some(link),
            gateway: false,
            metric: 0,
            linkdown: false,
        }
    }

    #[test]
    fn a_network_contains_its_addresses_and_no_others() {
        for (network, prefix, member, expected) in [
            ("192.0.2.0", 24, "192.0.2.255", true),
            ("192.0.2.0", 24, "192.0.3.0", false),
            ("192.0.2.7", 32, "192.0.2.7", true),
            ("192.0.2.7", 32, "192.0.2.6", false),
            ("10.0.0.0", 9, "10.128.0.0", false),
            ("0.0.0.0", 1, "127.255.255.255", true),
            ("2001:db8::", 64, "2001:db8::ffff:1", true),
            ("2001:db8::", 64, "2001:db8:0:1::1", false),
            ("2001:db8::7", 128, "2001:db8::7", true),
            ("::", 64, "192.0.2.1", false),
            ("0.0.0.0", 0, "255.255.255.255", true),
        ] {
            assert_eq!(
                contains(ip(network), prefix, ip(member)),
                expected,
                "{network}/{prefix} {member}"
            );
        }
    }

    #[test]
    fn the_longest_prefix_wins_then_a_carrier_then_the_metric() {
        let dead = Route {
            linkdown: true,
            ..route("192.0.2.0/24", 1)
        };
        let dear = Route {
            metric: 200,
            ..route("192.0.2.0/24", 2)
        };
        let cheap = Route {
            metric: 100,
            ..route("192.0.2.0/24", 3)
        };
        let wide = route("192.0.0.0/16", 4);
        let routes = [wide.clone(), dead.clone(), dear, cheap];
        let best = |routes: &[Route]| connected(ip("192.0.2.9"), routes, &[])[0];
        assert_eq!(
            best(&routes),
            Connection {
                link: 3,
                prefix: 24
            }
        );
        assert_eq!(
            best(&[wide, dead]),
            Connection {
                link: 1,
                prefix: 24
            }
        );
    }

    #[test]
    fn gateways_host_routes_and_default_routes_connect_nothing() {
        let routes = [
            Route {
                gateway: true,
                ..route("192.0.2.0/24", 1)
            },
            route("192.0.2.9/32", 2),
            Route {
                destination: None,
                prefix: 0,
                ..route("192.0.2.0/24", 3)
            },
        ];
        assert_eq!(connected(ip("192.0.2.9"), &routes, &[]), []);
    }

    #[test]
    fn without_a_route_the_interfaces_own_networks_count() {
        let loopback = Address::new(ip("127.0.0.1"), 8, 1);
        assert_eq!(
            connected(ip("127.0.0.3"), &[], &[loopback]),
            [Connection { link: 1, prefix: 8 }]
        );
    }

    #[test]
    fn two_of_equal_rank_are_both_named() {
        let routes = [
            route("192.0.2.0/24", 1),
            route("192.0.2.0/24", 2),
            route("192.0.0.0/16", 3),
        ];
        assert_eq!(connected(ip("192.0.2.9"), &routes, &[]).len(), 2);
    }

    #[test]
    fn netmasks_and_broadcast_addresses() {
        assert_eq!(
            prefix_of_netmask("255.255.255.0".parse().unwrap()),
            Some(24)
        );
        assert_eq!(
            prefix_of_netmask("255.255.255.255".parse().unwrap()),
            Some(32)
        );
        assert_eq!(prefix_of_netmask("0.0.0.0".parse().unwrap()), Some(0));
        assert_eq!(prefix_of_netmask("255.0.255.0".parse().unwrap()), None);
        let of = |prefix| broadcast("192.0.2.9".parse().unwrap(), prefix).map(|ip| ip.to_string());
        assert_eq!(of(24).as_deref(), Some("192.0.2.255"));
        assert_eq!(of(30).as_deref(), Some("192.0.2.11"));
        assert_eq!(of(31), None);
        assert_eq!(of(32), None);
    }

    proptest::proptest! {
        #[test]
        fn an_address_is_in_its_own_network(address: u128, prefix in 0u8..=255) {
            let six = IpAddr::from(std::net::Ipv6Addr::from(address));
            let four = IpAddr::from(Ipv4Addr::from(address as u32));
            proptest::prop_assert!(contains(six, prefix, six) && contains(four, prefix, four));
        }
    }
}
