//! Values to configure the agents with: a new parameter needs one here.

/// A valid value for every parameter of every agent.
pub(super) const EXAMPLES: &[(&str, &[(&str, &str)])] = &[(
    "vip",
    &[
        ("ip", "192.0.2.10"),
        ("nic", "eth0"),
        ("cidr_netmask", "24"),
        ("netmask", "24"),
        ("broadcast", "-"),
        ("iflabel", "vip1"),
        ("metric", "100"),
        ("noprefixroute", "true"),
        ("preferred_lft", "0"),
        ("bring_up", "false"),
        ("check_link_status", "no"),
        ("nodad", "true"),
        ("run_arping", "yes"),
        ("arp_count", "3"),
        ("arp_interval", "100"),
        ("arp_count_refresh", "1"),
        ("arp_mode", "reply"),
        ("network_namespace", "blue"),
        ("kill_connections", "1"),
        ("lvs_support", "false"),
        ("lvs_ipv6_addrlabel", "true"),
        ("lvs_ipv6_addrlabel_value", "98"),
        ("arp_sender", "send_arp"),
        ("send_arp_opts", "-q"),
        ("arp_bg", "true"),
        ("flush_routes", "false"),
    ],
)];
