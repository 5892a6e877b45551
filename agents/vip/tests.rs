use std::net::IpAddr;

use host::net::Net;
use host::net::portblock::{self, Listener, Protocol};
use host::net::{Address, AddressFlags, Announcement, LinkState, Mac};
use host::testing::{Fault, Script, Tables};
use ocf::testing::{act, conformance};
use ocf::{Exit, Outcome};

use crate::vip::Vip;

/// A machine with two interfaces, each on a network of its own.
fn machine() -> Script {
    let script = Script::empty();
    script.network().edit(|tables| {
        let lo = tables.add_loopback();
        let (eth0, eth1) = (tables.add_link("eth0"), tables.add_link("eth1"));
        tables.addresses.push(Address::new(ip("127.0.0.1"), 8, lo));
        tables.add_route("192.0.2.0/24", eth0, 0);
        tables.add_route("198.51.100.0/24", eth1, 0);
        tables.add_route("2001:db8::/64", eth0, 0);
    });
    script
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn edit<T>(script: &Script, edit: impl FnOnce(&mut Tables) -> T) -> T {
    script.network().edit(edit)
}

/// The addresses, as `ip/prefix interface label`.
fn addresses(script: &Script) -> Vec<String> {
    edit(script, |tables| {
        let name = |index| {
            tables
                .links
                .iter()
                .find(|link| link.index == index)
                .unwrap()
                .name
                .clone()
        };
        let line = |address: &Address| {
            format!(
                "{address} {} {}",
                name(address.link),
                address.label.as_deref().unwrap_or("-")
            )
        };
        tables
            .addresses
            .iter()
            .filter(|address| !address.ip.is_loopback())
            .map(line)
            .collect()
    })
}

fn reason(script: &Script, action: &str, params: &[(&str, &str)], exit: Exit) -> String {
    let outcome = act::<Vip>(script, action, params);
    assert_eq!(outcome.exit, exit, "{action} {params:?}: {outcome:?}");
    outcome.reason.unwrap_or_default()
}

fn ok(script: &Script, action: &str, params: &[(&str, &str)]) {
    reason(script, action, params, Exit::Success);
}

const V4: &[(&str, &str)] = &[("ip", "192.0.2.7")];
const V6: &[(&str, &str)] = &[("ip", "2001:db8::7")];

#[test]
fn conforms_with_an_ipv4_address() {
    conformance::<Vip>(machine, V4);
}

#[test]
fn conforms_with_everything_configured() {
    let params = [
        ("ip", "192.0.2.7"),
        ("nic", "eth0"),
        ("cidr_netmask", "25"),
        ("iflabel", "vip"),
        ("run_arping", "true"),
        ("arp_count_refresh", "1"),
        ("kill_connections", "true"),
    ];
    conformance::<Vip>(machine, &params);
}

#[test]
fn conforms_with_an_ipv6_address() {
    conformance::<Vip>(
        machine,
        &[("ip", "2001:db8::7"), ("lvs_ipv6_addrlabel", "true")],
    );
}

#[test]
fn conforms_where_the_address_moves_to_and_from_the_loopback_interface() {
    let with_loopback = || {
        let script = machine();
        edit(&script, |tables| {
            let mut address = Address::new(ip("192.0.2.7"), 32, 1);
            (address.scope, address.label) = (254, Some("lo".into()));
            address.flags.0 = AddressFlags::PERMANENT;
            tables.addresses.push(address);
        });
        script
    };
    conformance::<Vip>(
        with_loopback,
        &[
            ("ip", "192.0.2.7"),
            ("lvs_support", "true"),
            ("nic", "eth0"),
        ],
    );
}

#[test]
fn conforms_in_a_network_namespace() {
    let with_namespace = || {
        let script = machine();
        script.network().edit_in("blue", |tables| {
            let link = tables.add_link("eth0");
            tables.add_route("192.0.2.0/24", link, 0);
        });
        script
    };
    conformance::<Vip>(
        with_namespace,
        &[("ip", "192.0.2.7"), ("network_namespace", "blue")],
    );
}

#[test]
fn conforms_with_ports_that_are_opened_in_start() {
    let params = [
        ("ip", "192.0.2.7"),
        ("block_ports", "tcp/3260,tcp/2049-2051,udp/111"),
        ("kill_connections", "true"),
    ];
    let served = || {
        let script = machine();
        for (protocol, port) in [
            (Protocol::Tcp, 3260),
            (Protocol::Tcp, 2050),
            (Protocol::Udp, 111),
        ] {
            listen(&script, "0.0.0.0", protocol, port);
        }
        script
    };
    conformance::<Vip>(served, &params);
}

#[test]
fn conforms_with_ports_that_stay_closed() {
    let params = [
        ("ip", "2001:db8::7"),
        ("block_ports", "tcp/3260,tcp/2049"),
        ("ready_ports", "tcp/3260"),
        ("ready", "later"),
        ("ready_timeout", "60"),
    ];
    conformance::<Vip>(machine, &params);
}

#[test]
fn conforms_with_ports_that_nobody_serves_in_a_network_namespace() {
    let with_namespace = || {
        let script = machine();
        script.network().edit_in("blue", |tables| {
            let link = tables.add_link("eth0");
            tables.add_route("192.0.2.0/24", link, 0);
        });
        script
    };
    let params = [
        ("ip", "192.0.2.7"),
        ("network_namespace", "blue"),
        ("block_ports", "tcp/3260"),
        ("ready_timeout", "2"),
    ];
    conformance::<Vip>(with_namespace, &params);
}

#[test]
fn start_finds_interface_prefix_and_broadcast() {
    let script = machine();
    ok(&script, "start", V4);
    assert_eq!(addresses(&script), ["192.0.2.7/24 eth0 eth0"]);
    edit(&script, |tables| {
        let address = tables
            .addresses
            .iter()
            .find(|address| address.ip == ip("192.0.2.7"))
            .unwrap();
        assert_eq!(address.broadcast.unwrap().to_string(), "192.0.2.255");
    });
}

#[test]
fn monitor_needs_no_route() {
    let script = machine();
    ok(&script, "start", V4);
    edit(&script, |tables| tables.routes.clear());
    ok(&script, "monitor", V4);
    ok(&script, "stop", V4);
    assert!(addresses(&script).is_empty());
}

#[test]
fn another_prefix_label_or_interface_is_a_failure_and_goes_with_a_stop() {
    let table: [(&[(&str, &str)], &str); 3] = [
        (
            &[("ip", "192.0.2.7"), ("cidr_netmask", "25")],
            "192.0.2.7 on eth0 has prefix length 24, expected 25",
        ),
        (
            &[("ip", "192.0.2.7"), ("iflabel", "x")],
            "192.0.2.7 on eth0 has label eth0, expected eth0:x",
        ),
        (
            &[("ip", "192.0.2.7"), ("nic", "eth1")],
            "192.0.2.7 is on eth0, expected on eth1",
        ),
    ];
    for (params, expected) in table {
        let script = machine();
        ok(&script, "start", V4);
        assert_eq!(reason(&script, "monitor", params, Exit::Generic), expected);
        let mut probe = ocf::testing::call("monitor", Default::default());
        probe.params = params
            .iter()
            .map(|(a, b)| (a.to_string(), b.to_string()))
            .collect();
        probe.meta.clear();
        let outcome = ocf::execute::<Vip>(&probe, &script.host(std::time::Duration::from_secs(20)));
        assert_eq!(outcome.exit, Exit::Generic, "a probe too");
        ok(&script, "stop", params);
        assert!(addresses(&script).is_empty(), "{params:?}");
    }
}

#[test]
fn start_replaces_what_is_there_in_another_form() {
    let script = machine();
    ok(&script, "start", V4);
    ok(
        &script,
        "start",
        &[
            ("ip", "192.0.2.7"),
            ("cidr_netmask", "25"),
            ("iflabel", "x"),
        ],
    );
    assert_eq!(addresses(&script), ["192.0.2.7/25 eth0 eth0:x"]);
}

#[test]
fn an_address_that_somebody_else_put_on_another_interface_stays() {
    let script = machine();
    edit(&script, |tables| {
        tables.addresses.push(Address::new(ip("192.0.2.7"), 32, 3))
    });
    let params = [("ip", "192.0.2.7"), ("nic", "eth0")];
    assert_eq!(
        reason(&script, "monitor", &params, Exit::Generic),
        "192.0.2.7 is on eth1, expected on eth0"
    );
    let refused = reason(&script, "start", &params, Exit::Generic);
    assert_eq!(
        refused,
        "192.0.2.7 is on eth1 already, expected on eth0 only"
    );
    ok(&script, "stop", &params);
    assert_eq!(addresses(&script), ["192.0.2.7/32 eth1 -"]);
}

/// An action of the resource of that name.
fn as_instance(script: &Script, instance: &str, action: &str, params: &[(&str, &str)]) -> Outcome {
    let params = params
        .iter()
        .map(|(name, value)| (name.to_string(), value.to_string()));
    let mut call = ocf::testing::call(action, params.collect());
    call.instance = instance.into();
    ocf::execute::<Vip>(&call, &script.host(std::time::Duration::from_secs(20)))
}

#[test]
fn two_resources_may_have_one_address_on_two_interfaces() {
    let script = machine();
    let run = |instance: &str, action: &str, nic: &str| {
        let params = [("ip", "192.0.2.7"), ("nic", nic), ("cidr_netmask", "24")];
        as_instance(&script, instance, action, &params).exit
    };
    assert_eq!(run("a", "start", "eth0"), Exit::Success);
    assert_eq!(run("b", "monitor", "eth1"), Exit::NotRunning);
    assert_eq!(run("b", "start", "eth1"), Exit::Success);
    assert_eq!(run("a", "stop", "eth0"), Exit::Success);
    assert_eq!(run("a", "monitor", "eth0"), Exit::NotRunning);
    assert_eq!(run("b", "monitor", "eth1"), Exit::Success);
    assert_eq!(addresses(&script), ["192.0.2.7/24 eth1 eth1"]);
}

#[test]
fn an_address_is_never_not_running_while_it_is_where_it_belongs() {
    // As after a resource was renamed while nobody managed it.
    let script = machine();
    assert_eq!(as_instance(&script, "old", "start", V4).exit, Exit::Success);
    assert_eq!(
        as_instance(&script, "new", "monitor", V4).exit,
        Exit::Success
    );
    assert_eq!(as_instance(&script, "new", "start", V4).exit, Exit::Success);
    assert_eq!(as_instance(&script, "new", "stop", V4).exit, Exit::Success);
    assert!(addresses(&script).is_empty());
}

#[test]
fn copies_on_other_interfaces_are_told_of_and_stay_where_nic_says_so() {
    let copy = |script: &Script, nic: u32| {
        edit(script, |tables| {
            tables
                .addresses
                .push(Address::new(ip("192.0.2.7"), 32, nic))
        });
    };
    let told_of = "192.0.2.7 is on eth1 too, where this resource did not put it";
    let with_nic = [("ip", "192.0.2.7"), ("nic", "eth0")];
    for (params, left) in [(&with_nic[..], 1), (V4, 0)] {
        let script = machine();
        ok(&script, "start", params);
        copy(&script, 3);
        assert_eq!(reason(&script, "monitor", params, Exit::Degraded), told_of);
        ok(&script, "stop", params);
        assert_eq!(addresses(&script).len(), left, "{params:?}");
    }
    // Without nic, what stop has removed no probe finds again.
    let script = machine();
    copy(&script, 3);
    ok(&script, "monitor", V4);
    ok(&script, "stop", V4);
    reason(&script, "monitor", V4, Exit::NotRunning);

    // On the loopback interface it is not in service.
    let script = machine();
    copy(&script, 1);
    reason(&script, "monitor", V4, Exit::NotRunning);
    ok(&script, "start", V4);
    ok(&script, "monitor", V4);
    ok(&script, "stop", V4);
    assert_eq!(addresses(&script), ["192.0.2.7/32 lo -"]);
}

#[test]
fn what_was_started_with_other_parameters_is_found_and_stopped() {
    let changed = [("ip", "192.0.2.8")];
    let script = machine();
    ok(&script, "start", V4);
    let told = reason(&script, "monitor", &changed, Exit::Generic);
    assert_eq!(
        told,
        "what was started here with other parameters is still here"
    );
    ok(&script, "stop", &changed);
    assert!(addresses(&script).is_empty());

    ok(&script, "start", V4);
    ok(&script, "start", &changed);
    assert_eq!(addresses(&script), ["192.0.2.8/24 eth0 eth0"]);

    let script = machine();
    script.network().edit_in("blue", |tables| {
        let link = tables.add_link("eth0");
        tables.add_route("192.0.2.0/24", link, 0);
    });
    ok(
        &script,
        "start",
        &[("ip", "192.0.2.7"), ("network_namespace", "blue")],
    );
    let blue = |script: &Script| {
        script
            .network()
            .edit_in("blue", |tables| tables.addresses.len())
    };
    assert_eq!(blue(&script), 1);
}

#[test]
fn what_runs_already_is_taken_over_with_all_that_a_start_knows() {
    // As when the type of a running resource is changed.
    let script = machine();
    edit(&script, |tables| {
        tables.addresses.push(Address::new(ip("192.0.2.7"), 24, 2))
    });
    ok(&script, "start", V4);
    edit(&script, |tables| tables.add_route("192.0.2.0/28", 3, 0));
    ok(&script, "monitor", V4);
    ok(&script, "stop", V4);
    assert!(addresses(&script).is_empty());

    // What was started before with other parameters does not stay behind.
    let script = machine();
    ok(&script, "start", V4);
    edit(&script, |tables| {
        tables.addresses.push(Address::new(ip("192.0.2.8"), 24, 2))
    });
    ok(&script, "start", &[("ip", "192.0.2.8")]);
    ok(&script, "stop", &[("ip", "192.0.2.8")]);
    assert!(addresses(&script).is_empty(), "{:?}", addresses(&script));
}

#[test]
fn notes_that_are_lost_between_two_actions_change_nothing() {
    let script = machine();
    let lose = || {
        for note in ["parameters", "placement"] {
            script.remove(&format!("/run/hastor/vip/resource/{note}"));
        }
    };
    ok(&script, "start", V4);
    lose();
    ok(&script, "monitor", V4);
    lose();
    ok(&script, "start", V4);
    lose();
    ok(&script, "stop", V4);
    reason(&script, "monitor", V4, Exit::NotRunning);
}

#[test]
fn a_stop_that_knows_neither_parameters_nor_notes_says_so() {
    let script = machine();
    ok(&script, "start", V4);
    script.write_file(
        "/run/hastor/vip/resource/parameters",
        "ip=192.0.2.7\narp_count=many\n",
    );
    let doubt = reason(&script, "stop", &[], Exit::Generic);
    assert!(
        doubt.ends_with("what was started here is noted in a way that cannot be read"),
        "{doubt}"
    );
    ok(&script, "stop", V4);
}

#[test]
fn a_network_of_the_loopback_interface_is_no_place_for_a_floating_address() {
    let script = machine();
    edit(&script, |tables| {
        tables
            .addresses
            .push(Address::new(ip("203.0.113.1"), 24, 1))
    });
    reason(&script, "start", &[("ip", "203.0.113.7")], Exit::Generic);
    assert_eq!(addresses(&script), ["203.0.113.1/24 lo -"]);
}

#[test]
fn link_local_addresses_are_each_links_own() {
    let script = machine();
    edit(&script, |tables| {
        tables.addresses.push(Address::new(ip("fe80::7"), 64, 3))
    });
    let params = [("ip", "fe80::7"), ("nic", "eth0"), ("cidr_netmask", "64")];
    reason(&script, "monitor", &params, Exit::NotRunning);
    ok(&script, "start", &params);
    ok(&script, "monitor", &params);
    ok(&script, "stop", &params);
    assert_eq!(addresses(&script), ["fe80::7/64 eth1 -"]);
}

#[test]
fn an_address_that_the_loopback_interface_has_lent_is_owed() {
    let script = machine();
    edit(&script, |tables| {
        tables.addresses.push(Address::new(ip("192.0.2.7"), 32, 1))
    });
    let params = [
        ("ip", "192.0.2.7"),
        ("lvs_support", "true"),
        ("nic", "eth0"),
    ];
    ok(&script, "start", &params);
    edit(&script, |tables| {
        tables
            .addresses
            .retain(|address| address.ip != ip("192.0.2.7"))
    });
    let owed = reason(&script, "monitor", &params, Exit::Generic);
    assert_eq!(
        owed,
        "192.0.2.7 was taken from the loopback interface and is nowhere now"
    );
    // A start that was interrupted there and is repeated still knows.
    ok(&script, "start", &params);
    ok(&script, "stop", &params);
    assert_eq!(addresses(&script), ["192.0.2.7/32 lo lo"]);
}

#[test]
fn without_a_place_for_notes_everything_works_all_the_same() {
    let script = machine();
    script.write_file("/run/hastor", "in the way of the directory");
    ok(&script, "start", V4);
    ok(&script, "start", V4);
    ok(&script, "monitor", V4);
    ok(&script, "stop", V4);
    reason(&script, "monitor", V4, Exit::NotRunning);
    assert!(addresses(&script).is_empty());
}

#[test]
fn an_alternative_name_and_the_older_label_form_work() {
    let script = machine();
    edit(&script, |tables| {
        tables
            .link_mut("eth1")
            .altnames
            .push("enp9s0f1np1-a-long-name".into())
    });
    let params = [
        ("ip", "192.0.2.7"),
        ("nic", "enp9s0f1np1-a-long-name"),
        ("cidr_netmask", "24"),
    ];
    ok(&script, "start", &params);
    ok(&script, "monitor", &params);
    ok(&script, "stop", &params);
    let params = [("ip", "192.0.2.7"), ("nic", "eth0:old")];
    ok(&script, "start", &params);
    assert_eq!(addresses(&script), ["192.0.2.7/24 eth0 eth0:old"]);
    ok(&script, "monitor", &params);
}

#[test]
fn a_dead_link_fails_start_and_monitor_unless_nobody_watches() {
    let script = machine();
    ok(&script, "start", V4);
    edit(&script, |tables| {
        tables.link_mut("eth0").state = LinkState::LowerLayerDown
    });
    let dead = reason(&script, "monitor", V4, Exit::Generic);
    assert_eq!(
        dead,
        "eth0, which has 192.0.2.7, has no link below it (operational state LOWERLAYERDOWN)"
    );
    ok(
        &script,
        "monitor",
        &[("ip", "192.0.2.7"), ("check_link_status", "false")],
    );
    ok(&script, "stop", V4);
    reason(&script, "start", V4, Exit::Generic);
    assert!(addresses(&script).is_empty());
}

#[test]
fn start_brings_the_interface_up_if_it_may() {
    let script = machine();
    edit(&script, |tables| tables.link_mut("eth0").up = false);
    let refused = reason(
        &script,
        "start",
        &[("ip", "192.0.2.7"), ("bring_up", "no")],
        Exit::Generic,
    );
    assert_eq!(refused, "eth0, where 192.0.2.7 belongs, is down");
    ok(&script, "start", V4);
}

#[test]
fn another_host_with_the_address_is_found() {
    let neighbour = |script: &Script, address: &str| {
        edit(script, |tables| {
            tables
                .neighbours
                .insert(ip(address), vec![Mac(vec![2, 0, 0, 0, 0, 0x99])])
        });
    };
    let script = machine();
    neighbour(&script, "192.0.2.7");
    let params = [("ip", "192.0.2.7"), ("run_arping", "true")];
    let taken = reason(&script, "start", &params, Exit::Generic);
    assert_eq!(
        taken,
        "another host has 192.0.2.7: 02:00:00:00:00:99 answers for it on eth0"
    );
    assert!(addresses(&script).is_empty());
    ok(&script, "start", V4);
    let mut deep = ocf::testing::call(
        "monitor",
        [("ip".to_string(), "192.0.2.7".to_string())].into(),
    );
    deep.level = 10;
    let outcome = ocf::execute::<Vip>(&deep, &script.host(std::time::Duration::from_secs(20)));
    assert_eq!(
        (outcome.exit, outcome.reason.unwrap()),
        (Exit::Generic, taken)
    );

    let script = machine();
    neighbour(&script, "2001:db8::7");
    let taken = reason(&script, "start", V6, Exit::Generic);
    assert_eq!(
        taken,
        "another host has 2001:db8::7: duplicate address detection failed on eth0"
    );
    assert!(addresses(&script).is_empty(), "taken back");
}

#[test]
fn ipv6_that_stays_tentative_fails_in_time_and_is_taken_back() {
    let script = machine();
    edit(&script, |tables| tables.link_mut("eth0").carrier = false);
    let params = [("ip", "2001:db8::7"), ("check_link_status", "false")];
    let reason = reason(&script, "start", &params, Exit::Generic);
    assert!(reason.contains("did not finish in time"), "{reason}");
    assert!(addresses(&script).is_empty());
    ok(
        &script,
        "start",
        &[
            ("ip", "2001:db8::7"),
            ("check_link_status", "false"),
            ("nodad", "true"),
        ],
    );
}

#[test]
fn announcements_have_the_form_and_number_asked_for() {
    let announced = |params: &[(&str, &str)]| {
        let script = machine();
        ok(&script, "start", params);
        edit(&script, |tables| {
            tables
                .announced
                .iter()
                .map(|(_, _, form)| *form)
                .collect::<Vec<_>>()
        })
    };
    use Announcement::{Reply, Request};
    assert_eq!(
        announced(&[("ip", "192.0.2.7"), ("arp_count", "2")]),
        [Request, Reply, Request, Reply]
    );
    assert_eq!(
        announced(&[
            ("ip", "192.0.2.7"),
            ("arp_count", "1"),
            ("arp_mode", "reply")
        ]),
        [Reply]
    );
    assert_eq!(announced(&[("ip", "192.0.2.7"), ("arp_count", "0")]), []);
    assert_eq!(
        announced(&[("ip", "2001:db8::7"), ("arp_count", "3")]).len(),
        3
    );
    assert_eq!(
        announced(&[("ip", "127.0.0.7")]),
        [],
        "nobody listens on the loopback interface"
    );
}

#[test]
fn a_monitor_announces_again_only_where_asked_and_never_in_a_probe() {
    let script = machine();
    let params = [
        ("ip", "192.0.2.7"),
        ("arp_count", "0"),
        ("arp_count_refresh", "2"),
        ("arp_mode", "request"),
    ];
    ok(&script, "start", &params);
    assert!(edit(&script, |tables| tables.announced.is_empty()));
    ok(&script, "monitor", &params);
    assert_eq!(edit(&script, |tables| tables.announced.len()), 2);
}

#[test]
fn announcements_end_when_the_address_is_gone() {
    let script = machine();
    edit(&script, |tables| tables.gone_after_announcements = Some(3));
    let params = [
        ("ip", "192.0.2.7"),
        ("arp_count", "50"),
        ("arp_mode", "reply"),
    ];
    reason(&script, "start", &params, Exit::Generic);
    assert_eq!(edit(&script, |tables| tables.announced.len()), 3);
}

#[test]
fn a_router_announces_itself_as_one() {
    let script = machine();
    for (forwarding, router) in [("0\n", false), ("1\n", true)] {
        script.write_file("/proc/sys/net/ipv6/conf/eth0/forwarding", forwarding);
        edit(&script, |tables| tables.announced.clear());
        ok(&script, "start", V6);
        let said = edit(&script, |tables| tables.announced[0].2);
        assert_eq!(said, Announcement::Neighbour { router });
        ok(&script, "stop", V6);
    }
}

#[test]
fn a_refresh_that_cannot_be_sent_leaves_the_resource_running() {
    let params = [("ip", "192.0.2.7"), ("arp_count_refresh", "1")];
    let script = machine();
    ok(&script, "start", &params);
    script.clear_steps();
    ok(&script, "monitor", &params);
    let at = script
        .steps()
        .iter()
        .position(|step| step.starts_with("announcing"))
        .unwrap();
    script.clear_steps();
    script.inject(at, Fault::Fail);
    ok(&script, "monitor", &params);
}

#[test]
fn detection_that_runs_again_after_a_link_flap_is_waited_for() {
    let script = machine();
    ok(&script, "start", V6);
    let tentative = |script: &Script| {
        edit(script, |tables| {
            let address = tables
                .addresses
                .iter_mut()
                .find(|address| address.ip == ip("2001:db8::7"));
            address.unwrap().flags.0 |= AddressFlags::TENTATIVE;
        });
    };
    tentative(&script);
    ok(&script, "monitor", V6);
    tentative(&script);
    edit(&script, |tables| tables.link_mut("eth0").carrier = false);
    let params = [V6, &[("check_link_status", "false")]].concat();
    let told = reason(&script, "monitor", &params, Exit::Generic);
    assert!(told.contains("did not finish in time"), "{told}");
}

#[test]
fn an_announcement_that_cannot_be_sent_is_a_warning() {
    let script = machine();
    act::<Vip>(&script, "start", V4);
    let at = script
        .steps()
        .iter()
        .position(|step| step.starts_with("announcing"))
        .unwrap();
    let script = machine();
    script.inject(at, Fault::Fail);
    ok(&script, "start", V4);
    ok(&script, "monitor", V4);
}

#[test]
fn other_addresses_of_the_network_outlive_the_first_one() {
    let script = machine();
    for nic in ["all", "eth0"] {
        script.write_file(
            &format!("/proc/sys/net/ipv4/conf/{nic}/promote_secondaries"),
            "0\n",
        );
    }
    ok(&script, "start", V4);
    let other = as_instance(&script, "other", "start", &[("ip", "192.0.2.8")]);
    assert_eq!(other.exit, Exit::Success);
    ok(&script, "stop", V4);
    assert_eq!(addresses(&script), ["192.0.2.8/24 eth0 eth0"]);
    let set = script
        .read_file("/proc/sys/net/ipv4/conf/eth0/promote_secondaries")
        .unwrap();
    assert_eq!(set.trim(), "1");
}

#[test]
fn without_its_namespace_nothing_is_here() {
    let script = machine();
    let params = [("ip", "192.0.2.7"), ("network_namespace", "gone")];
    reason(&script, "monitor", &params, Exit::Generic);
    ok(&script, "stop", &params);
    let refused = reason(&script, "start", &params, Exit::Args);
    assert!(
        refused.starts_with("parameter network_namespace: \"gone\" is not on this host"),
        "{refused}"
    );
}

#[test]
fn connections_end_with_the_address_where_asked() {
    let script = machine();
    let connected = |script: &Script| {
        edit(script, |tables| {
            tables.connections.insert(ip("192.0.2.7"), 3)
        })
    };
    ok(&script, "start", V4);
    connected(&script);
    ok(&script, "stop", V4);
    assert_eq!(edit(&script, |tables| tables.connections.len()), 1);
    let params = [("ip", "192.0.2.7"), ("kill_connections", "1")];
    ok(&script, "start", &params);
    ok(&script, "stop", &params);
    assert_eq!(edit(&script, |tables| tables.connections.len()), 0);
}

/// A service of this host.
fn listen(script: &Script, ip: &str, protocol: Protocol, port: u16) {
    let listener = Listener {
        protocol,
        ip: self::ip(ip),
        port,
        v6_only: false,
        link: None,
    };
    edit(script, |tables| tables.listeners.push(listener));
}

/// What is closed, with the tables' names.
fn closed(script: &Script) -> Vec<String> {
    edit(script, |tables| {
        let blocks = tables.blocks.values();
        let lines = blocks.flat_map(|block| {
            let lines = block.closed.iter();
            lines.map(|closed| format!("{}: {closed}", block.table))
        });
        lines.collect()
    })
}

fn seconds(seconds: u64) -> std::time::Duration {
    std::time::Duration::from_secs(seconds)
}

fn position(steps: &[String], step: &str) -> usize {
    let at = steps.iter().position(|other| other == step);
    at.unwrap_or_else(|| panic!("no \"{step}\" in {steps:?}"))
}

const CLOSED: &[(&str, &str)] = &[("ip", "192.0.2.7"), ("block_ports", "tcp/3260,tcp/2049")];
const LATER: &[(&str, &str)] = &[
    ("ip", "192.0.2.7"),
    ("block_ports", "tcp/3260,tcp/2049"),
    ("ready", "later"),
];

#[test]
fn ports_are_closed_before_the_address_comes_and_until_it_has_gone() {
    let script = machine();
    listen(&script, "192.0.2.7", Protocol::Tcp, 3260);
    listen(&script, "::", Protocol::Tcp, 2049);
    ok(&script, "start", CLOSED);
    assert!(closed(&script).is_empty());
    let steps = script.steps();
    let made = position(&steps, "making the nft table hastor-vip-resource");
    let added = position(&steps, "adding 192.0.2.7/24");
    let opened = position(&steps, "removing the nft table hastor-vip-resource");
    let announced = position(&steps, "announcing 192.0.2.7 on eth0");
    assert!(
        made < added && added < opened && opened < announced,
        "{steps:?}"
    );

    script.clear_steps();
    ok(&script, "stop", CLOSED);
    assert!(closed(&script).is_empty());
    let steps = script.steps();
    let made = position(&steps, "making the nft table hastor-vip-resource");
    let removed = position(&steps, "removing 192.0.2.7/24");
    let ended = position(&steps, "ending the connections of 192.0.2.7");
    let opened = position(&steps, "removing the nft table hastor-vip-resource");
    assert!(
        made < removed && removed < ended && ended < opened,
        "{steps:?}"
    );
}

#[test]
fn each_port_is_opened_when_it_is_served_or_all_when_those_named_are() {
    let table_of = |ports: &str| format!("hastor-vip-resource: 192.0.2.7 {ports}");
    let script = machine();
    ok(&script, "start", LATER);
    assert_eq!(
        closed(&script),
        [table_of("tcp/3260"), table_of("tcp/2049")]
    );
    ok(&script, "monitor", LATER);
    assert_eq!(closed(&script).len(), 2);
    listen(&script, "192.0.2.8", Protocol::Tcp, 3260);
    listen(&script, "192.0.2.7", Protocol::Udp, 3260);
    ok(&script, "monitor", LATER);
    assert_eq!(
        closed(&script).len(),
        2,
        "another address, another protocol"
    );
    listen(&script, "192.0.2.7", Protocol::Tcp, 3260);
    ok(&script, "monitor", LATER);
    assert_eq!(closed(&script), [table_of("tcp/2049")]);
    listen(&script, "192.0.2.7", Protocol::Tcp, 2049);
    ok(&script, "monitor", LATER);
    assert!(edit(&script, |tables| tables.blocks.is_empty()));

    let together = [LATER, &[("ready_ports", "tcp/2049,udp/111")]].concat();
    let script = machine();
    listen(&script, "0.0.0.0", Protocol::Tcp, 3260);
    listen(&script, "0.0.0.0", Protocol::Tcp, 2049);
    ok(&script, "start", &together);
    assert_eq!(closed(&script).len(), 2);
    listen(&script, "0.0.0.0", Protocol::Udp, 111);
    ok(&script, "monitor", &together);
    assert!(edit(&script, |tables| tables.blocks.is_empty()));
}

#[test]
fn a_probe_opens_nothing() {
    let script = machine();
    ok(&script, "start", LATER);
    listen(&script, "192.0.2.7", Protocol::Tcp, 3260);
    let params = LATER
        .iter()
        .map(|(name, value)| (name.to_string(), value.to_string()));
    let mut probe = ocf::testing::call("monitor", params.collect());
    probe.meta.clear();
    assert_eq!(
        ocf::execute::<Vip>(&probe, &script.host(seconds(20))).exit,
        Exit::Success
    );
    assert_eq!(closed(&script).len(), 2);
}

#[test]
fn start_waits_for_the_service_but_not_for_ever() {
    let script = machine();
    let begun = script.host(seconds(20)).now();
    ok(&script, "start", CLOSED);
    let took = script.host(seconds(20)).now() - begun;
    assert!((seconds(15)..seconds(16)).contains(&took), "{took:?}");
    assert!(edit(&script, |tables| tables.blocks.is_empty()));

    // No longer than the action may take: a monitor does the rest.
    let script = machine();
    let patient = [CLOSED, &[("ready_timeout", "100")]].concat();
    ok(&script, "start", &patient);
    assert_eq!(closed(&script).len(), 2);
    ok(&script, "monitor", &patient);
    assert_eq!(closed(&script).len(), 2);
    script.advance(seconds(100));
    ok(&script, "monitor", &patient);
    assert!(edit(&script, |tables| tables.blocks.is_empty()));
}

#[test]
fn a_start_that_cannot_see_who_listens_is_no_failure() {
    let script = machine();
    listen(&script, "192.0.2.7", Protocol::Tcp, 3260);
    ok(&script, "start", LATER);
    let step = "reading who listens on tcp";
    let at = position(&script.steps(), step);
    let script = machine();
    listen(&script, "192.0.2.7", Protocol::Tcp, 3260);
    listen(&script, "192.0.2.7", Protocol::Tcp, 2049);
    script.inject(at, Fault::Fail);
    ok(&script, "start", CLOSED);
    assert!(edit(&script, |tables| tables.blocks.is_empty()));
}

#[test]
fn an_interrupted_start_is_seen_and_taken_up() {
    let killed_before = |step: &str| {
        let script = machine();
        ok(&script, "start", LATER);
        let at = position(&script.steps(), step);
        let script = machine();
        script.inject(at, Fault::Kill);
        let start = || act::<Vip>(&script, "start", LATER);
        let killed = std::panic::catch_unwind(std::panic::AssertUnwindSafe(start));
        assert!(killed.is_err_and(|panic| panic.is::<host::testing::Killed>()));
        script.clear_steps();
        script
    };
    let script = killed_before("adding 192.0.2.7/24");
    let left = reason(&script, "monitor", LATER, Exit::Generic);
    assert_eq!(
        left,
        "192.0.2.7 is not here, but the nft table hastor-vip-resource, which closes ports of it, is"
    );
    // Also by a stop that knows nothing of it, or with another configuration.
    ok(&script, "stop", V4);
    assert!(edit(&script, |tables| tables.blocks.is_empty()));
    let script = killed_before("adding 192.0.2.7/24");
    ok(&script, "start", V4);
    assert!(edit(&script, |tables| tables.blocks.is_empty()));

    let script = killed_before("announcing 192.0.2.7 on eth0");
    listen(&script, "192.0.2.7", Protocol::Tcp, 3260);
    ok(&script, "start", LATER);
    assert_eq!(closed(&script), ["hastor-vip-resource: 192.0.2.7 tcp/2049"]);
    ok(&script, "start", V4);
    assert!(edit(&script, |tables| tables.blocks.is_empty()));
}

#[test]
fn a_reload_opens_what_need_not_be_closed_any_more() {
    let script = machine();
    ok(&script, "start", LATER);
    let less = [LATER, &[("block_ports", "tcp/2049,tcp/80")]].concat();
    ok(&script, "reload-agent", &less);
    assert_eq!(closed(&script), ["hastor-vip-resource: 192.0.2.7 tcp/2049"]);
    ok(&script, "reload-agent", V4);
    assert!(edit(&script, |tables| tables.blocks.is_empty()));
}

#[test]
fn without_nf_tables_only_a_start_that_needs_them_fails() {
    let script = machine();
    edit(&script, |tables| tables.no_nf_tables = true);
    ok(&script, "start", V4);
    ok(&script, "stop", V4);
    let refused = reason(&script, "start", CLOSED, Exit::NotInstalled);
    assert_eq!(
        refused,
        "the kernel has no nf_tables (CONFIG_NF_TABLES, CONFIG_NF_TABLES_INET), which block_ports needs"
    );
    assert!(addresses(&script).is_empty());
    ok(&script, "start", V4);
    ok(&script, "monitor", CLOSED);
    ok(&script, "stop", CLOSED);
}

#[test]
fn without_blocked_ports_a_monitor_asks_nothing_about_them() {
    let script = machine();
    ok(&script, "start", V4);
    script.clear_steps();
    ok(&script, "monitor", V4);
    let steps = script.steps();
    assert!(
        !steps.is_empty() && !steps.iter().any(|step| step.contains("nft")),
        "{steps:?}"
    );
}

#[test]
fn a_service_opens_its_own_port_and_no_other() {
    let script = machine();
    ok(&script, "start", LATER);
    let six = [
        ("ip", "2001:db8::7"),
        ("block_ports", "tcp/3260-3269"),
        ("ready", "later"),
    ];
    assert_eq!(
        as_instance(&script, "six", "start", &six).exit,
        Exit::Success
    );
    let host = script.host(seconds(20));
    let net: std::rc::Rc<dyn Net> = host.net(None).unwrap();
    let lift = |ip: &str, port| portblock::lift(&*net, self::ip(ip), Protocol::Tcp, port).unwrap();
    assert_eq!(lift("192.0.2.8", 3260), 0);
    assert_eq!(lift("192.0.2.7", 3261), 0);
    assert_eq!(closed(&script).len(), 3);
    assert_eq!(lift("0.0.0.0", 3260), 1);
    assert_eq!(
        closed(&script),
        [
            "hastor-vip-resource: 192.0.2.7 tcp/2049",
            "hastor-vip-six: 2001:db8::7 tcp/3260-3269"
        ]
    );
    assert_eq!(lift("::ffff:192.0.2.7", 2049), 1);
    assert_eq!(lift("::", 3265), 1);
    assert!(edit(&script, |tables| tables.blocks.is_empty()));
}

#[test]
fn a_reload_changes_the_preference_of_the_address_that_is_there() {
    let script = machine();
    reason(&script, "reload-agent", V4, Exit::Generic);
    ok(&script, "start", V4);
    ok(
        &script,
        "reload-agent",
        &[("ip", "192.0.2.7"), ("preferred_lft", "0")],
    );
    let deprecated = |script: &Script| {
        edit(script, |tables| {
            tables
                .addresses
                .iter()
                .any(|address| address.flags.has(AddressFlags::DEPRECATED))
        })
    };
    assert!(deprecated(&script));
    ok(&script, "reload-agent", V4);
    assert!(!deprecated(&script));
}

#[test]
fn a_clone_is_refused() {
    let script = machine();
    let mut call = ocf::testing::call(
        "start",
        [("ip".to_string(), "192.0.2.7".to_string())].into(),
    );
    call.meta.insert("clone_max".into(), "2".into());
    let outcome = ocf::execute::<Vip>(&call, &script.host(std::time::Duration::from_secs(20)));
    assert_eq!(outcome.exit, Exit::NotConfigured);
    assert_eq!(
        outcome.reason.unwrap(),
        "an address is on one node at a time: a clone with clone-max=2 is not possible"
    );
}

#[test]
fn bad_parameters_are_named_with_what_was_expected() {
    let long = "x".repeat(200);
    let many: Vec<String> = (1..=33).map(|port| format!("tcp/{port}")).collect();
    let many = many.join(",");
    type Case<'a> = (&'a [(&'a str, &'a str)], Exit, &'a str);
    let table: &[Case] = &[
        (
            &[],
            Exit::NotConfigured,
            "parameter ip: required, but not given",
        ),
        (
            &[("ip", "1.2.3")],
            Exit::NotConfigured,
            "parameter ip: \"1.2.3\" is not an IP address; expected the address of a host, such as 192.0.2.1 or 2001:db8::1",
        ),
        (
            &[("ip", "224.0.0.1")],
            Exit::NotConfigured,
            "parameter ip: \"224.0.0.1\" is a multicast address; expected the address of a host, such as 192.0.2.1 or 2001:db8::1",
        ),
        (
            &[("ip", "192.0.2.7"), ("cidr_netmask", "33")],
            Exit::NotConfigured,
            "parameter cidr_netmask: \"33\" is too long for 192.0.2.7; expected 1 to 32",
        ),
        (
            &[("ip", "192.0.2.7"), ("cidr_netmask", "255.0.255.0")],
            Exit::NotConfigured,
            "parameter cidr_netmask: \"255.0.255.0\" is not a prefix length; expected 1 to 32 (IPv4) or 1 to 128 (IPv6)",
        ),
        (
            &[
                ("ip", "192.0.2.7"),
                ("netmask", "16"),
                ("cidr_netmask", "24"),
            ],
            Exit::NotConfigured,
            "parameter netmask: \"16\" contradicts cidr_netmask \"24\"; expected one of them",
        ),
        (
            &[("ip", "192.0.2.7"), ("nic", &long)],
            Exit::NotConfigured,
            &format!(
                "parameter nic: \"{long}\" is too long for an interface's name; expected at most 127 characters"
            ),
        ),
        (
            &[("ip", "192.0.2.7"), ("nic", "eth9")],
            Exit::Args,
            "parameter nic: \"eth9\" is not on this host; expected one of its interfaces",
        ),
        (
            &[("ip", "203.0.113.7")],
            Exit::Generic,
            "no interface is on a network with 203.0.113.7, and nic is not given; expected one of the two",
        ),
        (
            &[("ip", "203.0.113.7"), ("nic", "eth0")],
            Exit::Generic,
            "eth0 is on no network with 203.0.113.7, and cidr_netmask is not given; expected one of the two",
        ),
        (
            &[("ip", "192.0.2.7"), ("cidr_netmask", "16")],
            Exit::Generic,
            "no interface is on a network with 192.0.2.7/16, and nic is not given; expected one of the two",
        ),
        (
            &[("ip", "fe80::7")],
            Exit::NotConfigured,
            "parameter nic: not given, but fe80::7 is link-local; expected the interface it is for",
        ),
        (
            &[("ip", "2001:db8::7"), ("iflabel", "x")],
            Exit::NotConfigured,
            "parameter iflabel: \"x\" is for 2001:db8::7, but IPv6 addresses have no label; expected none",
        ),
        (
            &[
                ("ip", "192.0.2.7"),
                ("nic", "eth0"),
                ("iflabel", "12345678901"),
            ],
            Exit::NotConfigured,
            "parameter iflabel: \"12345678901\" makes the label eth0:12345678901; expected at most 15 characters in all",
        ),
        (
            &[("ip", "192.0.2.7"), ("iflabel", "12345678901")],
            Exit::Args,
            "parameter iflabel: makes the label eth0:12345678901 on this host; expected at most 15 characters in all",
        ),
        (
            &[("ip", "192.0.2.7"), ("arp_count", "10001")],
            Exit::NotConfigured,
            "parameter arp_count: \"10001\" is not a whole number from 0 to 10000",
        ),
        (
            &[("ip", "192.0.2.7"), ("metric", "-1")],
            Exit::NotConfigured,
            "parameter metric: \"-1\" is not a whole number from 0 to 4294967295",
        ),
        (
            &[("ip", "192.0.2.7"), ("arp_mode", "loud")],
            Exit::NotConfigured,
            "parameter arp_mode: \"loud\" is not one of both, request, reply",
        ),
        (
            &[("ip", "192.0.2.7"), ("block_ports", "tcp/3260,http")],
            Exit::NotConfigured,
            "parameter block_ports: \"tcp/3260,http\" has \"http\" in it; expected ports such as tcp/3260,udp/2049-2051, from 1 to 65535",
        ),
        (
            &[("ip", "192.0.2.7"), ("block_ports", &many)],
            Exit::NotConfigured,
            &format!("parameter block_ports: \"{many}\" has 33 entries; expected at most 32"),
        ),
        (
            &[("ip", "192.0.2.7"), ("ready_ports", "tcp/3260")],
            Exit::NotConfigured,
            "parameter block_ports: not given, but ready_ports is; expected the ports to open then",
        ),
        (
            &[("ip", "192.0.2.7"), ("ready", "soon")],
            Exit::NotConfigured,
            "parameter ready: \"soon\" is not one of now, later",
        ),
        (
            &[("ip", "192.0.2.7"), ("ready_timeout", "0")],
            Exit::NotConfigured,
            "parameter ready_timeout: \"0\" is not a time from 1 to 3600 seconds",
        ),
        (
            &[("ip", "192.0.2.7"), ("nodad", "perhaps")],
            Exit::NotConfigured,
            "parameter nodad: \"perhaps\" is neither true nor false",
        ),
        (
            &[("ip", "192.0.2.7"), ("preferred_lft", "long")],
            Exit::NotConfigured,
            "parameter preferred_lft: \"long\" is not a lifetime; expected a number of seconds, or forever",
        ),
    ];
    for (params, exit, expected) in table {
        assert_eq!(reason(&machine(), "start", params, *exit), *expected);
    }
}
