use std::collections::BTreeSet;
use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::Command;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use super::lan::{Lan, vip};

const V4: &[(&str, &str)] = &[("ip", "192.0.2.7"), ("arp_count", "1")];
const V6: &[(&str, &str)] = &[("ip", "2001:db8::7"), ("arp_count", "1")];

#[test]
#[ignore = "needs root: cargo lab test"]
fn lives_with_an_ipv4_address() {
    let lan = Lan::new();
    let vip = vip(V4);
    vip.expect("probe", 7);
    vip.expect("stop", 0);
    vip.expect("start", 0);
    vip.expect("start", 0);
    let monitor = vip.expect("monitor", 0);
    assert_eq!(
        (monitor.stdout.as_str(), monitor.stderr.as_str()),
        ("", ""),
        "a healthy monitor is silent"
    );
    vip.with("OCF_CHECK_LEVEL", "10").expect("monitor", 0);
    vip.expect("status", 0);
    let [line] = &lan.addresses("192.0.2.7/")[..] else {
        panic!("not one line")
    };
    assert!(
        line.contains("eth0    inet 192.0.2.7/24 brd 192.0.2.255 scope global secondary eth0"),
        "{line}"
    );
    assert!(lan.reachable("192.0.2.7"));
    vip.expect("stop", 0);
    vip.expect("stop", 0);
    vip.expect("monitor", 7);
    assert!(lan.addresses("192.0.2.7/").is_empty());
    assert!(
        !std::path::Path::new("/run/hastor/vip/resource").exists(),
        "no note is left"
    );
}

#[test]
#[ignore = "needs root: cargo lab test"]
fn lives_with_an_ipv6_address_after_duplicate_address_detection() {
    let lan = Lan::new();
    let vip = vip(V6);
    vip.expect("probe", 7);
    vip.expect("start", 0);
    let [line] = &lan.addresses("2001:db8::7/")[..] else {
        panic!("not one line")
    };
    assert!(
        line.contains("2001:db8::7/64") && !line.contains("tentative"),
        "{line}"
    );
    vip.expect("start", 0);
    vip.expect("monitor", 0);
    vip.with("OCF_CHECK_LEVEL", "10").expect("monitor", 0);
    assert!(lan.reachable("2001:db8::7"));
    vip.expect("stop", 0);
    vip.expect("monitor", 7);
    assert!(lan.addresses("2001:db8::7/").is_empty());
}

#[test]
#[ignore = "needs root: cargo lab test"]
fn killed_at_any_system_call_of_start_it_stops_and_starts_again() {
    let lan = Lan::new();
    let vip = vip(V4);
    let calls = vip.killed_at_every_call(
        "start",
        || {},
        |call| {
            // Right at the next action, whichever that is.
            if call % 2 == 1 {
                vip.expect("start", 0);
                vip.expect("monitor", 0);
            }
            vip.expect("stop", 0);
            assert!(
                lan.addresses("192.0.2.7/").is_empty(),
                "after a kill at call {call}"
            );
            vip.expect("monitor", 7);
            vip.expect("start", 0);
            vip.expect("monitor", 0);
            vip.expect("stop", 0);
        },
    );
    assert!(calls > 20, "a start makes more than {calls} system calls");
}

#[test]
#[ignore = "needs root: cargo lab test"]
fn killed_at_any_system_call_of_stop_it_stops_and_starts_again() {
    let lan = Lan::new();
    let vip = vip(&[
        V6,
        &[
            ("nodad", "true"),
            ("kill_connections", "true"),
            ("lvs_ipv6_addrlabel", "true"),
        ],
    ]
    .concat());
    let calls = vip.killed_at_every_call(
        "stop",
        || drop(vip.expect("start", 0)),
        |call| {
            vip.expect("stop", 0);
            assert!(
                lan.addresses("2001:db8::7/").is_empty(),
                "after a kill at call {call}"
            );
            assert!(
                !lan.ip("-6 addrlabel list").contains("2001:db8::7"),
                "after a kill at call {call}"
            );
            vip.expect("start", 0);
            vip.expect("monitor", 0);
        },
    );
    assert!(calls > 20, "a stop makes more than {calls} system calls");
}

#[test]
#[ignore = "needs root: cargo lab test"]
fn killed_while_it_takes_the_address_from_the_loopback_interface_it_gives_it_back() {
    let lan = Lan::new();
    lan.ip("addr add 192.0.2.7/32 dev lo");
    let vip = vip(&[V4, &[("nic", "eth0"), ("lvs_support", "true")]].concat());
    vip.expect("probe", 7);
    let calls = vip.killed_at_every_call(
        "start",
        || {},
        |call| {
            if call % 2 == 1 {
                vip.expect("start", 0);
                vip.expect("monitor", 0);
            }
            vip.expect("stop", 0);
            let lines = lan.addresses("192.0.2.7/");
            let [line] = &lines[..] else {
                panic!("after a kill at call {call}: {lines:?}")
            };
            assert!(line.contains("lo    inet 192.0.2.7/32"), "{line}");
            vip.expect("probe", 7);
        },
    );
    assert!(calls > 20, "a start makes more than {calls} system calls");
}

/// 0 forks: what a program starts is what it waits for, leaks and times out on.
#[test]
#[ignore = "needs root and strace: cargo lab test"]
fn no_action_starts_a_process() {
    let _lan = Lan::new();
    for params in [V4, V6] {
        let vip = vip(params);
        for action in [
            "start",
            "monitor",
            "reload-agent",
            "stop",
            "validate-all",
            "meta-data",
        ] {
            let agent = vip.with("OCF_CHECK_LEVEL", "10").command(action);
            let mut strace = Command::new("strace");
            strace.args(["-f", "-qq", "-e", "trace=process", "-o", "/run/trace"]);
            strace.arg(agent.get_program()).args(agent.get_args());
            strace.env_clear();
            strace.envs(
                agent
                    .get_envs()
                    .filter_map(|(name, value)| Some((name, value?))),
            );
            assert!(
                strace.output().expect("strace").status.success(),
                "{action}"
            );
            let trace = std::fs::read_to_string("/run/trace").expect("the trace");
            let calls: BTreeSet<&str> = trace
                .lines()
                .filter_map(|line| line.split_whitespace().nth(1)?.split('(').next())
                .collect();
            assert_eq!(
                calls,
                BTreeSet::from(["execve", "exit_group"]),
                "{action}: {trace}"
            );
        }
    }
}

#[test]
#[ignore = "needs root: cargo lab test"]
fn found_in_another_form_it_is_a_failure_and_goes_with_a_stop() {
    let lan = Lan::new();
    lan.another_nic("eth1", "198.51.100.1/24");
    let table = [
        (
            "192.0.2.7/25 dev eth0",
            "192.0.2.7 on eth0 has prefix length 25, expected 24",
        ),
        (
            "192.0.2.7/24 dev eth0 label eth0:other",
            "192.0.2.7 on eth0 has label eth0:other, expected eth0:vip",
        ),
    ];
    let vip = vip(&[
        V4,
        &[("nic", "eth0"), ("cidr_netmask", "24"), ("iflabel", "vip")],
    ]
    .concat());
    for (there, expected) in table {
        lan.ip(&format!("addr add {there}"));
        for action in ["probe", "monitor"] {
            assert_eq!(vip.expect(action, 1).reason(), Some(expected));
        }
        vip.expect("stop", 0);
        assert!(lan.addresses("192.0.2.7/").is_empty(), "{there}");
        lan.ip(&format!("addr add {there}"));
        vip.expect("start", 0);
        let [line] = &lan.addresses("192.0.2.7/")[..] else {
            panic!("not one line")
        };
        assert!(
            line.contains("192.0.2.7/24") && line.contains("eth0:vip"),
            "{line}"
        );
        vip.expect("stop", 0);
    }
    lan.ip("addr add 192.0.2.7/24 dev eth1");
    assert_eq!(
        vip.expect("monitor", 1).reason(),
        Some("192.0.2.7 is on eth1, expected on eth0")
    );
    vip.expect("start", 1);
    vip.expect("stop", 0);
    assert_eq!(
        lan.addresses("192.0.2.7/").len(),
        1,
        "what somebody else put on another interface stays"
    );
}

#[test]
#[ignore = "needs root: cargo lab test"]
fn names_alternative_names_and_labels_of_interfaces_all_work() {
    let lan = Lan::new();
    lan.ip("link property add dev eth0 altname a-name-of-more-than-fifteen-bytes");
    for nic in ["eth0", "a-name-of-more-than-fifteen-bytes", "eth0:old"] {
        let vip = vip(&[V4, &[("nic", nic)]].concat());
        vip.expect("start", 0);
        vip.expect("monitor", 0);
        vip.expect("stop", 0);
        vip.expect("monitor", 7);
    }
    lan.ip("link set eth0 down");
    lan.ip("link set eth0 name renamed");
    lan.ip("link set renamed up");
    let vip = vip(&[
        V4,
        &[
            ("nic", "a-name-of-more-than-fifteen-bytes"),
            ("cidr_netmask", "24"),
        ],
    ]
    .concat());
    vip.expect("start", 0);
    vip.expect("stop", 0);
}

#[test]
#[ignore = "needs root: cargo lab test"]
fn the_interface_is_the_one_with_the_network_and_the_lowest_metric() {
    let lan = Lan::new();
    lan.another_nic("eth1", "192.0.2.2/24");
    lan.ip("route del 192.0.2.0/24 dev eth0");
    lan.ip("route add 192.0.2.0/24 dev eth0 metric 200");
    lan.ip("route del 192.0.2.0/24 dev eth1");
    lan.ip("route add 192.0.2.0/24 dev eth1 metric 100");
    let vip = vip(V4);
    vip.expect("start", 0);
    assert!(lan.addresses("192.0.2.7/24")[0].contains("eth1"));
    // Its own route, and every other change of routes, changes nothing about where it is.
    lan.ip("route flush dev eth0");
    lan.ip("route flush dev eth1");
    vip.expect("monitor", 0);
    vip.expect("stop", 0);
    assert!(lan.addresses("192.0.2.7/").is_empty());
}

/// What IPaddr2's own tests expect where nic or prefix are left out or do not fit: moving to
/// `vip` must not change which interface an address comes up on.
#[test]
#[ignore = "needs root: cargo lab test"]
fn interface_and_prefix_are_found_as_ipaddr2_finds_them() {
    let lan = Lan::new();
    lan.ip("link add eth1 type veth peer name eth1-peer");
    lan.ip("link set eth1 up");
    lan.ip("link set eth1-peer up");
    let (four, six) = ("192.0.2.7", "2001:db8::7");
    /// Parameters, and the interface and text that the address then has, if it starts at all.
    type Case<'a> = (&'a [(&'a str, &'a str)], Option<(&'a str, &'a str)>);
    let table: &[Case] = &[
        (&[("ip", four)], Some(("eth0", "192.0.2.7/24"))),
        (
            &[("ip", four), ("nic", "eth0")],
            Some(("eth0", "192.0.2.7/24")),
        ),
        (
            &[("ip", four), ("cidr_netmask", "24")],
            Some(("eth0", "192.0.2.7/24")),
        ),
        (
            &[("ip", four), ("cidr_netmask", "28")],
            Some(("eth0", "192.0.2.7/28")),
        ),
        (&[("ip", four), ("cidr_netmask", "16")], None),
        (&[("ip", four), ("nic", "eth1")], None),
        (
            &[("ip", four), ("nic", "eth1"), ("cidr_netmask", "16")],
            Some(("eth1", "192.0.2.7/16")),
        ),
        (
            &[("ip", four), ("broadcast", "192.0.255.255")],
            Some(("eth0", "brd 192.0.255.255")),
        ),
        (&[("ip", "198.51.100.7")], None),
        (&[("ip", six)], Some(("eth0", "2001:db8::7/64"))),
        (
            &[("ip", six), ("nic", "eth0")],
            Some(("eth0", "2001:db8::7/64")),
        ),
        (
            &[("ip", six), ("cidr_netmask", "64")],
            Some(("eth0", "2001:db8::7/64")),
        ),
        (
            &[("ip", six), ("cidr_netmask", "80")],
            Some(("eth0", "2001:db8::7/80")),
        ),
        (&[("ip", six), ("cidr_netmask", "48")], None),
        (&[("ip", six), ("nic", "eth1")], None),
        (
            &[("ip", six), ("nic", "eth1"), ("cidr_netmask", "48")],
            Some(("eth1", "2001:db8::7/48")),
        ),
        (&[("ip", "2001:db8:1::7")], None),
        (
            &[("ip", "fe80::7"), ("nic", "eth0")],
            Some(("eth0", "fe80::7/64")),
        ),
    ];
    for (params, expected) in table {
        let vip = vip(&[params, &[("nodad", "true"), ("arp_count", "0")][..]].concat());
        let start = vip.run("start");
        let there = lan.addresses(&format!("{}/", params[0].1)).join("\n");
        match expected {
            Some((nic, text)) => {
                assert_eq!(start.code, Some(0), "{params:?}: {start:?}");
                assert!(
                    there.contains(&format!(": {nic} ")) && there.contains(text),
                    "{params:?}: {there}"
                );
                vip.expect("monitor", 0);
            }
            None => {
                assert_eq!(start.code, Some(1), "{params:?}: {start:?}");
                assert_eq!(there, "", "{params:?}");
            }
        }
        vip.expect("stop", 0);
        assert!(
            lan.addresses(&format!("{}/", params[0].1)).is_empty(),
            "{params:?}"
        );
    }
}

#[test]
#[ignore = "needs root: cargo lab test"]
fn between_equal_interfaces_the_kernel_chooses() {
    let lan = Lan::new();
    lan.another_nic("eth1", "192.0.2.2/24");
    lan.ip("addr add 2001:db8::2/64 dev eth1 nodad");
    for (params, address) in [(V4, "192.0.2.7"), (V6, "2001:db8::7")] {
        let kernels = lan.ip(&format!("route get {address}"));
        let kernels = kernels
            .split("dev ")
            .nth(1)
            .unwrap()
            .split(' ')
            .next()
            .unwrap();
        let vip = vip(&[params, &[("nodad", "true")]].concat());
        vip.expect("start", 0);
        let [line] = &lan.addresses(&format!("{address}/"))[..] else {
            panic!("not one line")
        };
        assert!(
            line.contains(&format!(": {kernels} ")),
            "{line}, expected on {kernels}"
        );
        vip.expect("stop", 0);
    }
}

#[test]
#[ignore = "needs root: cargo lab test"]
fn other_addresses_of_the_network_outlive_the_primary_one() {
    let lan = Lan::new();
    lan.another_nic("eth1", "203.0.113.1/32");
    lan.sysctl("net/ipv4/conf/all/promote_secondaries", "0");
    lan.sysctl("net/ipv4/conf/eth1/promote_secondaries", "0");
    let first = vip(&[
        ("ip", "198.51.100.7"),
        ("nic", "eth1"),
        ("cidr_netmask", "24"),
        ("arp_count", "0"),
    ]);
    first.expect("start", 0);
    lan.ip("addr add 198.51.100.8/24 dev eth1");
    assert!(lan.addresses("198.51.100.8")[0].contains("secondary"));
    first.expect("stop", 0);
    assert_eq!(lan.addresses("198.51.100.8").len(), 1);
    assert!(lan.addresses("198.51.100.7").is_empty());
}

#[test]
#[ignore = "needs root: cargo lab test"]
fn the_neighbour_learns_of_the_address_from_each_form_of_announcement() {
    let lan = Lan::new();
    lan.neighbours_sysctl("net/ipv4/conf/eth0/arp_accept", "1");
    let ours = lan.ip("-o link show eth0");
    let mac = ours
        .split("link/ether ")
        .nth(1)
        .unwrap()
        .split(' ')
        .next()
        .unwrap()
        .to_owned();
    for mode in ["request", "reply", "both"] {
        let vip = vip(&[V4, &[("arp_mode", mode)]].concat());
        vip.expect("start", 0);
        let learnt = lan.ip("-n neighbour neigh show 192.0.2.7");
        assert!(learnt.contains(&mac), "{mode}: {learnt}");
        vip.expect("stop", 0);
        lan.ip("-n neighbour neigh flush all");
    }
    // An unsolicited advertisement changes what a neighbour has in its cache.
    lan.ip("-n neighbour neigh replace 2001:db8::7 lladdr 02:00:00:00:00:66 nud stale dev eth0");
    let six = vip(&[V6, &[("nodad", "true")]].concat());
    six.expect("start", 0);
    let learnt = lan.ip("-n neighbour neigh show 2001:db8::7");
    assert!(learnt.contains(&mac), "{learnt}");
}

#[test]
#[ignore = "needs root: cargo lab test"]
fn no_announcement_comes_after_the_address_is_gone() {
    let lan = Lan::new();
    // Without IPv6, all that the neighbour gets is the announcements.
    lan.sysctl("net/ipv6/conf/eth0/disable_ipv6", "1");
    lan.neighbours_sysctl("net/ipv6/conf/eth0/disable_ipv6", "1");
    let params = [
        ("ip", "192.0.2.7"),
        ("arp_count", "1000"),
        ("nic", "eth0"),
        ("cidr_netmask", "24"),
    ];
    let mut start = vip(&params).command("start").spawn().expect("starting vip");
    let pid = Pid::from_raw(start.id() as i32);
    let begun = Instant::now();
    while lan.addresses("192.0.2.7/").is_empty() {
        assert!(
            begun.elapsed() < Duration::from_secs(60),
            "the address never came"
        );
    }
    // Held, it cannot be faster than what happens to the address.
    kill(pid, Signal::SIGSTOP).expect("holding vip");
    let held = waitpid(pid, Some(WaitPidFlag::WUNTRACED)).expect("waiting for vip to be held");
    assert_eq!(
        held,
        WaitStatus::Stopped(pid, Signal::SIGSTOP),
        "it must not be over yet"
    );
    lan.ip("addr del 192.0.2.7/24 dev eth0");
    let before = lan.neighbours_frames();
    kill(pid, Signal::SIGCONT).expect("letting vip go on");
    start.wait().expect("waiting for vip");
    let after = lan.neighbours_frames();
    // It may have looked just before it was held: that one round, in both forms.
    assert!(
        after - before <= 2,
        "{} frames came afterwards",
        after - before
    );
}

#[test]
#[ignore = "needs root: cargo lab test"]
fn an_address_that_another_host_has_is_not_taken() {
    let lan = Lan::new();
    lan.ip("-n neighbour addr add 192.0.2.7/24 dev eth0");
    lan.ip("-n neighbour addr add 2001:db8::7/64 dev eth0 nodad");
    let theirs = lan.ip("-n neighbour -o link show eth0");
    let mac = theirs
        .split("link/ether ")
        .nth(1)
        .unwrap()
        .split(' ')
        .next()
        .unwrap()
        .to_owned();

    let asking = vip(&[V4, &[("run_arping", "true")]].concat());
    let reason = asking.expect("start", 1).reason().unwrap().to_owned();
    assert_eq!(
        reason,
        format!("another host has 192.0.2.7: {mac} answers for it on eth0")
    );
    assert!(lan.addresses("192.0.2.7/").is_empty());
    let reason = vip(V6).expect("start", 1).reason().unwrap().to_owned();
    assert_eq!(
        reason,
        "another host has 2001:db8::7: duplicate address detection failed on eth0"
    );
    assert!(lan.addresses("2001:db8::7/").is_empty(), "taken back");

    // Both have it, as after a partition: the deep monitor sees it.
    let both = vip(V4);
    both.expect("start", 0);
    both.expect("monitor", 0);
    let deep = both.with("OCF_CHECK_LEVEL", "10").expect("monitor", 1);
    assert_eq!(
        deep.reason().unwrap(),
        format!("another host has 192.0.2.7: {mac} answers for it on eth0")
    );
    let both = vip(&[V6, &[("nodad", "true")]].concat());
    both.expect("start", 0);
    let deep = both.with("OCF_CHECK_LEVEL", "10").expect("monitor", 1);
    assert_eq!(
        deep.reason().unwrap(),
        format!("another host has 2001:db8::7: {mac} answers for it on eth0")
    );
}

#[test]
#[ignore = "needs root: cargo lab test"]
fn a_second_interface_of_this_host_on_the_same_wire_is_no_other_host() {
    let lan = Lan::new();
    // A bridge as the wire, with two of our interfaces on it.
    lan.ip("netns add wire");
    lan.ip("-n wire link add br0 type bridge");
    lan.ip("-n wire link set br0 up");
    for nic in ["a", "b"] {
        lan.ip(&format!(
            "link add nic-{nic} type veth peer name port-{nic} netns wire"
        ));
        lan.ip(&format!("-n wire link set port-{nic} up master br0"));
        lan.ip(&format!("link set nic-{nic} up"));
    }
    lan.ip("addr add 198.51.100.1/24 dev nic-a");
    lan.ip("addr add 198.51.100.2/24 dev nic-b");
    let vip = vip(&[
        ("ip", "198.51.100.7"),
        ("nic", "nic-a"),
        ("cidr_netmask", "24"),
        ("run_arping", "true"),
    ]);
    vip.expect("start", 0);
    vip.with("OCF_CHECK_LEVEL", "10").expect("monitor", 0);
}

#[test]
#[ignore = "needs root: cargo lab test"]
fn a_host_with_the_address_on_another_wire_is_no_conflict() {
    let lan = Lan::new();
    // A gateway is fe80::1 on many networks, and this host talks to one of them.
    lan.ip("link add up0 type veth peer name up0 netns neighbour");
    lan.ip("link set up0 up");
    lan.ip("-n neighbour link set up0 up");
    lan.ip("-n neighbour addr add fe80::1/64 dev up0 nodad");
    let vip = vip(&[
        ("ip", "fe80::1"),
        ("nic", "eth0"),
        ("nodad", "true"),
        ("arp_count", "0"),
    ]);
    vip.expect("start", 0);
    let deep = vip
        .with("OCF_CHECK_LEVEL", "10")
        .with_param("CRM_meta_interval", "10000");
    for _ in 0..3 {
        let monitor = deep.command("monitor").spawn().expect("starting vip");
        for _ in 0..4 {
            lan.ip("neigh flush dev up0");
            let _ = Command::new("ping")
                .args(["-6", "-c", "1", "-W", "1", "fe80::1%up0"])
                .output();
        }
        let output = monitor.wait_with_output().expect("waiting for vip");
        assert_eq!(output.status.code(), Some(0), "{output:?}");
    }
}

#[test]
#[ignore = "needs root: cargo lab test"]
fn copies_on_other_interfaces_are_not_taken_for_it_and_stay() {
    let lan = Lan::new();
    lan.ip("addr add 192.0.2.7/32 dev lo");
    let vip = vip(&[V4, &[("nic", "eth0")]].concat());
    vip.expect("probe", 7);
    vip.expect("start", 0);
    vip.expect("monitor", 0);
    lan.another_nic("eth1", "198.51.100.1/24");
    lan.ip("addr add 192.0.2.7/32 dev eth1");
    let told = vip.expect("monitor", 190);
    assert_eq!(
        told.reason(),
        Some("192.0.2.7 is on eth1 too, where this resource did not put it")
    );
    vip.expect("stop", 0);
    let left = lan.addresses("192.0.2.7/").join("\n");
    assert!(
        left.contains("lo    inet 192.0.2.7/32") && left.contains("eth1    inet 192.0.2.7/32"),
        "{left}"
    );
    assert!(!left.contains("eth0"), "{left}");
}

#[test]
#[ignore = "needs root: cargo lab test"]
fn a_start_with_other_parameters_stops_what_was_started_before() {
    let lan = Lan::new();
    let (before, after) = (vip(V4), vip(&[("ip", "192.0.2.8"), ("arp_count", "1")]));
    before.expect("start", 0);
    after.expect("monitor", 1);
    after.expect("start", 0);
    assert!(lan.addresses("192.0.2.7/").is_empty());
    before.expect("stop", 0);
    assert!(lan.addresses("192.0.2.8/").is_empty());
}

#[test]
#[ignore = "needs root: cargo lab test"]
fn a_change_of_the_network_namespace_leaves_nothing_in_the_old_one() {
    let lan = Lan::new();
    lan.ip("netns add third");
    lan.ip("link add eth3 type veth peer name eth3 netns third");
    lan.ip("-n third link set eth3 up");
    lan.ip("link set eth3 up");
    lan.ip("-n third addr add 192.0.2.3/24 dev eth3");
    let here = vip(&[("ip", "192.0.2.7"), ("nic", "eth0"), ("arp_count", "1")]);
    let there = here.with_param("network_namespace", "neighbour");
    let third = there
        .with_param("network_namespace", "third")
        .with_param("nic", "eth3");
    let where_it_is = || {
        let is_in = |words: &str| lan.ip(&format!("{words}-o addr")).contains("192.0.2.7/24");
        [is_in(""), is_in("-n neighbour "), is_in("-n third ")]
    };
    let moves = [
        (&here, [true, false, false]),
        (&there, [false, true, false]),
        (&third, [false, false, true]),
        (&there, [false, true, false]),
        (&here, [true, false, false]),
    ];
    for (vip, expected) in moves {
        vip.expect("monitor", if where_it_is() == [false; 3] { 7 } else { 1 });
        vip.expect("start", 0);
        assert_eq!(where_it_is(), expected);
        vip.expect("monitor", 0);
    }
    third.expect("stop", 0);
    assert_eq!(where_it_is(), [false; 3]);
    third.expect("monitor", 7);
    here.expect("monitor", 7);
}

#[test]
#[ignore = "needs root: cargo lab test"]
fn a_routing_rule_that_forbids_the_address_is_no_reason_not_to_have_it() {
    let lan = Lan::new();
    lan.another_nic("eth1", "192.0.2.2/24");
    for rule in ["prohibit", "blackhole", "unreachable"] {
        lan.ip(&format!("rule add to 192.0.2.7 {rule}"));
        let vip = vip(V4);
        vip.expect("start", 0);
        vip.expect("stop", 0);
        lan.ip(&format!("rule del to 192.0.2.7 {rule}"));
    }
}

#[test]
#[ignore = "needs root: cargo lab test"]
fn notes_that_cannot_be_written_stop_nothing() {
    let lan = Lan::new();
    let vip = vip(V4);
    for started_before in [true, false] {
        if started_before {
            vip.expect("start", 0);
        }
        lan.run_is_read_only(true);
        vip.expect("start", 0);
        vip.expect("monitor", 0);
        vip.expect("stop", 0);
        vip.expect("monitor", 7);
        assert!(lan.addresses("192.0.2.7/").is_empty());
        lan.run_is_read_only(false);
    }
}

#[test]
#[ignore = "needs root: cargo lab test"]
fn after_a_link_flap_a_monitor_waits_for_duplicate_address_detection() {
    let lan = Lan::new();
    lan.sysctl("net/ipv6/conf/eth0/keep_addr_on_down", "1");
    let vip = vip(V6);
    vip.expect("start", 0);
    lan.ip("link set eth0 down");
    lan.ip("link set eth0 up");
    assert!(lan.addresses("2001:db8::7/")[0].contains("tentative"));
    vip.expect("monitor", 0);
}

#[test]
#[ignore = "needs root: cargo lab test"]
fn a_host_without_routes_has_its_interfaces_own_networks() {
    let lan = Lan::new();
    lan.ip("netns add empty");
    lan.ip("-n empty link set lo up");
    let vip = vip(&[("ip", "127.0.0.9"), ("network_namespace", "empty")]);
    vip.expect("probe", 7);
    vip.expect("start", 0);
    vip.expect("monitor", 0);
    vip.expect("stop", 0);
    let nowhere = vip.with_param("ip", "192.0.2.7").expect("start", 1);
    let expected = "no interface is on a network with 192.0.2.7, and nic is not given; expected one of the two";
    assert_eq!(nowhere.reason(), Some(expected));
}

#[test]
#[ignore = "needs root: cargo lab test"]
fn a_lost_link_is_a_failure_and_a_start_without_one_leaves_nothing() {
    let lan = Lan::new();
    for params in [V4, V6] {
        let vip = vip(&[params, &[("nic", "eth0"), ("nodad", "true")]].concat());
        vip.expect("start", 0);
        lan.ip("-n neighbour link set eth0 down");
        let reason = vip.expect("monitor", 1).reason().unwrap().to_owned();
        assert!(
            reason.starts_with("eth0, which has ") && reason.contains("DOWN"),
            "{reason}"
        );
        vip.with_param("check_link_status", "false")
            .expect("monitor", 0);
        vip.expect("stop", 0);
        vip.expect("start", 1);
        assert!(lan.addresses(params[0].1).is_empty());
        lan.ip("-n neighbour link set eth0 up");
        vip.expect("start", 0);
        vip.expect("stop", 0);
    }
}

#[test]
#[ignore = "needs root: cargo lab test"]
fn ipv6_without_a_link_stays_tentative_and_start_says_so_in_time() {
    let lan = Lan::new();
    // The kernel takes an interface that once had its link to have it; this one comes up without.
    lan.ip("-n neighbour link set eth0 down");
    lan.ip("link set eth0 down");
    lan.ip("link set eth0 up");
    let vip = vip(&[
        V6,
        &[
            ("nic", "eth0"),
            ("cidr_netmask", "64"),
            ("check_link_status", "false"),
        ],
    ]
    .concat());
    let start = vip
        .with_param("CRM_meta_timeout", "3000")
        .expect("start", 1);
    assert!(
        start.reason().unwrap().contains("did not finish in time"),
        "{start:?}"
    );
    assert!(lan.addresses("2001:db8::7").is_empty());
}

#[test]
#[ignore = "needs root: cargo lab test"]
fn an_interface_that_is_down_is_brought_up_or_not_as_configured() {
    let lan = Lan::new();
    lan.ip("link set eth0 down");
    let vip = vip(&[V4, &[("nic", "eth0"), ("cidr_netmask", "24")]].concat());
    let refused = vip.with_param("bring_up", "false").expect("start", 1);
    assert_eq!(
        refused.reason(),
        Some("eth0, where 192.0.2.7 belongs, is down")
    );
    vip.expect("start", 0);
    vip.expect("monitor", 0);
}

#[test]
#[ignore = "needs root: cargo lab test"]
fn connections_of_the_address_end_with_it_and_others_stay() {
    let lan = Lan::new();
    let vip = vip(&[V4, &[("kill_connections", "true")]].concat());
    vip.expect("start", 0);
    // One that listens for both families sees IPv4 clients as IPv6 ones.
    let listener = TcpListener::bind("[::]:7777").expect("listening");
    let mut leaving = lan.neighbour_connects("192.0.2.7:7777");
    let mut staying = lan.neighbour_connects("192.0.2.1:7777");
    let _ours = listener.accept().expect("the first client").0;
    let mut ours = listener.accept().expect("the second client").0;
    let stop = vip.expect("stop", 0);
    assert!(
        stop.stderr.contains("ended 1 connections of 192.0.2.7"),
        "{stop:?}"
    );
    let mut byte = [0];
    let reset = leaving.read(&mut byte).expect_err("the connection is over");
    assert_eq!(
        reset.kind(),
        ErrorKind::ConnectionReset,
        "the client was told"
    );
    ours.write_all(b"x").expect("writing to the other client");
    assert_eq!(staying.read(&mut byte).expect("the other connection"), 1);
    TcpStream::connect("192.0.2.1:7777").expect("the listener is still there");
}

#[test]
#[ignore = "needs root: cargo lab test"]
fn lives_in_a_network_namespace_and_is_not_in_one_that_is_gone() {
    let lan = Lan::new();
    let params = [
        ("ip", "192.0.2.7"),
        ("network_namespace", "neighbour"),
        ("arp_count", "1"),
    ];
    let there = vip(&params);
    there.expect("probe", 7);
    there.expect("start", 0);
    there.expect("monitor", 0);
    assert!(lan.addresses("192.0.2.7/").is_empty());
    assert!(lan.ip("-n neighbour -o addr").contains("192.0.2.7/24"));
    there.expect("stop", 0);
    there.expect("monitor", 7);
    let gone = there.with_param("network_namespace", "gone");
    gone.expect("probe", 7);
    gone.expect("stop", 0);
    assert_eq!(
        gone.expect("monitor", 1).reason(),
        Some("the network namespace gone is gone")
    );
    gone.expect("start", 2);
}

#[test]
#[ignore = "needs root: cargo lab test"]
fn addresses_have_the_attributes_asked_for() {
    let lan = Lan::new();
    let shows = |params: &[(&str, &str)], expected: &[&str]| {
        let vip = vip(&[params, &[("arp_count", "0")]].concat());
        vip.expect("start", 0);
        vip.expect("monitor", 0);
        let line = lan.addresses(params[0].1).join("\n");
        for text in expected {
            assert!(line.contains(text), "{params:?}: {line} has no {text}");
        }
        vip.expect("stop", 0);
    };
    let four = ("ip", "192.0.2.7");
    shows(&[four, ("preferred_lft", "0")], &["deprecated"]);
    shows(&[four, ("noprefixroute", "true")], &["noprefixroute"]);
    shows(&[four, ("metric", "77")], &["metric 77"]);
    shows(&[four, ("broadcast", "-")], &["brd 192.0.2.0 "]);
    shows(&[four, ("broadcast", "192.0.2.99")], &["brd 192.0.2.99 "]);
    shows(
        &[four, ("netmask", "255.255.255.128")],
        &["192.0.2.7/25 brd 192.0.2.127"],
    );
    let six = ("ip", "2001:db8::7");
    shows(
        &[six, ("preferred_lft", "0"), ("nodad", "true")],
        &["deprecated", "nodad"],
    );
    shows(
        &[six, ("noprefixroute", "true"), ("nodad", "true")],
        &["noprefixroute"],
    );
    shows(&[("ip", "127.0.0.7")], &["127.0.0.7/8", "scope host", "lo"]);

    let vip = vip(&[
        V6,
        &[
            ("nodad", "true"),
            ("lvs_ipv6_addrlabel", "true"),
            ("lvs_ipv6_addrlabel_value", "98"),
        ],
    ]
    .concat());
    vip.expect("start", 0);
    assert!(
        lan.ip("-6 addrlabel list")
            .contains("2001:db8::7/128 dev eth0 label 98")
    );
    vip.expect("stop", 0);
    assert!(!lan.ip("-6 addrlabel list").contains("2001:db8::7"));
}

#[test]
#[ignore = "needs root: cargo lab test"]
fn a_reload_changes_the_lifetime_in_place() {
    let lan = Lan::new();
    for (params, address) in [(V4, "192.0.2.7"), (V6, "2001:db8::7")] {
        let vip = vip(&[params, &[("nodad", "true"), ("noprefixroute", "true")]].concat());
        vip.expect("reload-agent", 1);
        vip.expect("start", 0);
        vip.with_param("preferred_lft", "0")
            .expect("reload-agent", 0);
        let line = lan.addresses(address).join("\n");
        assert!(
            line.contains("deprecated") && line.contains("noprefixroute"),
            "{line}"
        );
        vip.expect("reload-agent", 0);
        assert!(!lan.addresses(address).join("\n").contains("deprecated"));
        vip.expect("stop", 0);
    }
}

#[test]
#[ignore = "needs root: cargo lab test"]
fn among_a_thousand_addresses_it_finds_its_own_while_they_change() {
    let lan = Lan::new();
    let batch: String = (0..1000)
        .map(|n| format!("addr add 10.{}.{}.1/32 dev lo\n", n / 250, n % 250))
        .collect();
    std::fs::write("/run/batch", batch).expect("writing the batch");
    lan.ip("-batch /run/batch");
    let vip = vip(V4);
    vip.expect("start", 0);
    // Addresses that come and go make the kernel interrupt its listing, which is then repeated.
    let monitors: Vec<_> = (0..40)
        .map(|_| vip.command("monitor").spawn().expect("starting vip"))
        .collect();
    for n in 0..200 {
        lan.ip(&format!("addr add 10.99.0.{}/32 dev lo", n + 1));
    }
    for mut monitor in monitors {
        assert_eq!(monitor.wait().expect("waiting for vip").code(), Some(0));
    }
    vip.expect("stop", 0);
    vip.expect("monitor", 7);
}

#[test]
#[ignore = "needs root: cargo lab test"]
fn without_privileges_it_says_so_and_touches_nothing() {
    let lan = Lan::new();
    let agent = vip(V4).command("start");
    let mut as_nobody = Command::new("setpriv");
    as_nobody.args([
        "--reuid=65534",
        "--regid=65534",
        "--clear-groups",
        "--no-new-privs",
    ]);
    // The build directory may be closed to others.
    std::fs::copy(agent.get_program(), "/run/vip").expect("copying vip");
    as_nobody.args(["/run/vip", "start"]).env_clear();
    as_nobody.envs(
        agent
            .get_envs()
            .filter_map(|(name, value)| Some((name, value?))),
    );
    let output = as_nobody.output().expect("setpriv");
    assert_eq!(output.status.code(), Some(4), "{output:?}");
    assert!(lan.addresses("192.0.2.7/").is_empty());
}
