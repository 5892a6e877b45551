//! `block_ports`: what a client sees of it, and what is left of it. What is closed is looked at
//! with `nft`.

use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::process::Command;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use host::net::portblock::{Protocol, lift};
use host::{Deadline, Host};
use nix::sched::{CloneFlags, setns};

use super::lan::{Lan, vip};

/// The kernel opens what the test does not, ten times later.
const CLOSED: &[(&str, &str)] = &[
    ("ip", "192.0.2.7"),
    ("arp_count", "1"),
    ("block_ports", "tcp/3260,tcp/2049-2051"),
    ("ready", "later"),
    ("ready_timeout", "200"),
];
const CLOSED6: &[(&str, &str)] = &[
    ("ip", "2001:db8::7"),
    ("arp_count", "1"),
    ("nodad", "true"),
    ("block_ports", "tcp/3260"),
    ("ready", "later"),
    ("ready_timeout", "200"),
];
/// Ten times what a connection takes that TCP has to try twice.
const LONG: Duration = Duration::from_secs(30);

/// The rules of this namespace, as `nft` shows them.
fn ruleset() -> String {
    let output = Command::new("nft").args(["list", "ruleset"]).output();
    let output = output.expect("nft (Debian: nftables)");
    assert!(output.status.success(), "{output:?}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn nft(words: &str) {
    let output = Command::new("nft").arg(words).output();
    let output = output.expect("nft (Debian: nftables)");
    assert!(output.status.success(), "{words}: {output:?}");
}

/// What becomes of a connection from the neighbour, as soon as that is known.
fn neighbour_tries(to: &str) -> Receiver<std::io::Result<TcpStream>> {
    let to: SocketAddr = to.parse().expect("an address with a port");
    let (result, receiver) = mpsc::channel();
    thread::spawn(move || {
        let there = File::open("/run/netns/neighbour").expect("the neighbour's namespace");
        setns(there, CloneFlags::CLONE_NEWNET).expect("entering the neighbour's namespace");
        let _ = result.send(TcpStream::connect_timeout(&to, LONG));
    });
    receiver
}

/// Nobody has answered the neighbour, in whatever way, although it has asked: an answer would
/// take less than a millisecond.
fn is_unanswered(attempt: &Receiver<std::io::Result<TcpStream>>) {
    let answer = attempt.recv_timeout(Duration::from_millis(300));
    assert_eq!(answer.err(), Some(RecvTimeoutError::Timeout));
}

fn ends(attempt: &Receiver<std::io::Result<TcpStream>>) -> std::io::Result<TcpStream> {
    attempt.recv_timeout(LONG).expect("an end of the attempt")
}

/// A closed socket may live on for a moment in a process that another test is starting.
fn is_refused(to: &str) {
    let begun = Instant::now();
    loop {
        match ends(&neighbour_tries(to)) {
            Ok(_) if begun.elapsed() < LONG => thread::sleep(Duration::from_millis(10)),
            Ok(_) => panic!("somebody listens at {to}"),
            Err(error) => return assert_eq!(error.kind(), ErrorKind::ConnectionRefused),
        }
    }
}

/// A service, once nobody has its port any more.
fn listen(at: &str) -> TcpListener {
    let begun = Instant::now();
    loop {
        match TcpListener::bind(at) {
            Err(error) if error.kind() == ErrorKind::AddrInUse && begun.elapsed() < LONG => {
                thread::sleep(Duration::from_millis(10));
            }
            other => return other.expect(at),
        }
    }
}

#[test]
#[ignore = "needs root and nftables: cargo lab test"]
fn a_client_waits_for_the_service_and_is_not_refused() {
    let _lan = Lan::new();
    for (params, ip) in [(CLOSED, "192.0.2.7"), (CLOSED6, "[2001:db8::7]")] {
        let vip = vip(params);
        vip.expect("probe", 7);
        vip.expect("start", 0);
        let client = neighbour_tries(&format!("{ip}:3260"));
        is_refused(&format!("{ip}:3261"));
        is_unanswered(&client);
        vip.expect("monitor", 0);
        vip.expect("start", 0);
        is_unanswered(&client);
        let service = listen("[::]:3260");
        is_unanswered(&client);
        let monitor = vip.expect("monitor", 0);
        assert!(
            monitor.stderr.contains("opened tcp/3260 of "),
            "{monitor:?}"
        );
        let mut client = ends(&client).expect("the same attempt");
        let mut served = service.accept().expect("the client").0;
        served.write_all(b"x").expect("writing");
        assert_eq!(client.read(&mut [0]).expect("reading"), 1);
        drop(service);
        is_refused(&format!("{ip}:3260"));
        vip.expect("stop", 0);
        vip.expect("monitor", 7);
        assert_eq!(ruleset(), "");
    }
}

#[test]
#[ignore = "needs root and nftables: cargo lab test"]
fn start_opens_at_once_what_is_served_already() {
    let lan = Lan::new();
    let params = [
        ("ip", "192.0.2.7"),
        ("block_ports", "tcp/3260,tcp/2049-2051,udp/111"),
    ];
    let vip = vip(&params).with_param("CRM_meta_timeout", "200000");
    let vip = vip.with_param("ready_timeout", "150");
    lan.sysctl("net/ipv4/ip_nonlocal_bind", "1");
    let _one = listen("192.0.2.7:3260");
    let _two = listen("0.0.0.0:2050");
    let _three = UdpSocket::bind("[::]:111").expect("listening");
    let begun = Instant::now();
    let start = vip.expect("start", 0);
    assert!(
        begun.elapsed() < Duration::from_secs(100),
        "it did not wait"
    );
    assert!(!start.stderr.contains("WARN"), "{start:?}");
    assert_eq!(ruleset(), "");
    ends(&neighbour_tries("192.0.2.7:3260")).expect("a connection");
    vip.expect("stop", 0);
    assert_eq!(ruleset(), "");
}

#[test]
#[ignore = "needs root and nftables: cargo lab test"]
fn sockets_that_do_not_serve_the_address_open_nothing() {
    let lan = Lan::new();
    let vip = vip(&[CLOSED, &[("block_ports", "tcp/3260")]].concat());
    vip.expect("start", 0);
    let closed = |why: &str| {
        vip.expect("monitor", 0);
        assert!(ruleset().contains("tcp dport 3260 drop"), "{why}");
    };
    let another_address = listen("192.0.2.1:3260");
    let another_protocol = UdpSocket::bind("0.0.0.0:3260").expect("listening");
    let another_port = listen("0.0.0.0:3261");
    closed("other addresses, protocols and ports");
    drop((another_address, another_protocol, another_port));
    lan.sysctl("net/ipv6/bindv6only", "1");
    let another_family = listen("[::]:3260");
    closed("IPv6 only");
    drop(another_family);
    lan.sysctl("net/ipv6/bindv6only", "0");
    let _both_families = listen("[::]:3260");
    vip.expect("monitor", 0);
    assert_eq!(ruleset(), "");
}

#[test]
#[ignore = "needs root and nftables: cargo lab test"]
fn the_kernel_opens_the_ports_by_itself() {
    let _lan = Lan::new();
    let vip = vip(&[CLOSED, &[("ready_timeout", "1")]].concat());
    vip.expect("start", 0);
    let refused = ends(&neighbour_tries("192.0.2.7:3260")).expect_err("nobody listens");
    assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
    assert!(
        ruleset().contains("hastor-vip-resource"),
        "nobody has looked yet"
    );
    let monitor = vip.expect("monitor", 0);
    let told =
        "nothing answered on tcp/3260, tcp/2049-2051 of 192.0.2.7 within 1 s (ready_timeout)";
    assert!(monitor.stderr.contains(told), "{monitor:?}");
    assert_eq!(ruleset(), "");

    let waits = vip.with_param("ready", "now");
    waits.expect("stop", 0);
    let start = waits.expect("start", 0);
    assert!(start.stderr.contains(told), "{start:?}");
    assert_eq!(ruleset(), "");
}

#[test]
#[ignore = "needs root and nftables: cargo lab test"]
fn a_service_opens_its_port_itself() {
    let _lan = Lan::new();
    vip(CLOSED).expect("start", 0);
    let client = neighbour_tries("192.0.2.7:3260");
    is_unanswered(&client);
    let _service = listen("192.0.2.7:3260");
    let host = Host::linux(Deadline::after(Instant::now(), LONG));
    let net = host.net(None).expect("the network tables");
    let open = |ip: &str, port| {
        let ip = ip.parse().expect("an address");
        lift(&*net, ip, Protocol::Tcp, port).expect("opening")
    };
    assert_eq!(open("192.0.2.8", 3260), 0);
    assert_eq!(open("192.0.2.7", 3260), 1);
    ends(&client).expect("the same attempt");
    assert!(!ruleset().contains("3260"), "{}", ruleset());
    assert!(
        ruleset().contains("tcp dport 2049-2051 drop"),
        "{}",
        ruleset()
    );
    assert_eq!(open("0.0.0.0", 2050), 1);
    assert_eq!(ruleset(), "");
    assert_eq!(open("::", 2050), 0);
}

#[test]
#[ignore = "needs root and nftables: cargo lab test"]
fn tables_of_others_stay_as_they_are() {
    let _lan = Lan::new();
    nft(
        "table inet hastor-vip-other { chain c { type filter hook input priority 5; tcp dport 1 drop comment \"192.0.2.8 tcp/1\"; }; }",
    );
    nft(
        "table ip hastor-vip-resource { set address { type ipv4_addr; elements = { 192.0.2.7 }; }; }",
    );
    nft(
        "table inet filter { chain prerouting { tcp dport 3260 drop comment \"192.0.2.7 tcp/3260\"; }; }",
    );
    let before = ruleset();
    let vip = vip(CLOSED);
    vip.expect("start", 0);
    let with = ruleset();
    assert!(
        with.starts_with(&before) && with.len() > before.len(),
        "{with}"
    );
    vip.expect("stop", 0);
    assert_eq!(ruleset(), before);
    // Whatever somebody has made of our own: it is replaced, and it goes.
    nft("table inet hastor-vip-resource { chain prerouting { tcp dport 1 drop; }; }");
    vip.expect("monitor", 1);
    vip.expect("start", 0);
    nft("add rule inet hastor-vip-resource prerouting tcp dport 1 drop");
    vip.expect("monitor", 0);
    nft("flush chain inet hastor-vip-resource prerouting");
    vip.expect("monitor", 0);
    assert_eq!(ruleset(), before);
    vip.expect("stop", 0);
    vip.expect("start", 0);
    let _service = listen("0.0.0.0:3260");
    vip.expect("monitor", 0);
    assert!(
        !ruleset().contains("@address tcp dport 3260"),
        "it was opened"
    );
    let _other = listen("0.0.0.0:2049");
    vip.expect("monitor", 0);
    assert_eq!(ruleset(), before);
}

#[test]
#[ignore = "needs root and nftables: cargo lab test"]
fn killed_at_any_system_call_of_start_it_leaves_nothing_closed_after_a_stop() {
    let lan = Lan::new();
    let vip = vip(CLOSED);
    let without = vip
        .with("OCF_RESKEY_block_ports", "")
        .with("OCF_RESKEY_ready", "now");
    let calls = vip.killed_at_every_call(
        "start",
        || {},
        |call| {
            match call % 3 {
                // Right at the next action, whichever that is.
                0 => drop(vip.expect("start", 0)),
                1 => drop(without.expect("start", 0)),
                _ => {}
            }
            if call % 3 == 1 {
                assert_eq!(ruleset(), "", "after a kill at call {call}");
            }
            if call % 2 == 1 { &vip } else { &without }.expect("stop", 0);
            assert_eq!(ruleset(), "", "after a kill at call {call}");
            assert!(lan.addresses("192.0.2.7/").is_empty(), "call {call}");
            vip.expect("monitor", 7);
        },
    );
    assert!(calls > 20, "a start makes more than {calls} system calls");
}

#[test]
#[ignore = "needs root and nftables: cargo lab test"]
fn killed_at_any_system_call_of_stop_it_leaves_nothing_closed_after_a_stop() {
    let lan = Lan::new();
    let vip = vip(CLOSED6);
    let calls = vip.killed_at_every_call(
        "stop",
        || drop(vip.expect("start", 0)),
        |call| {
            if call % 2 == 1 {
                vip.expect("start", 0);
                vip.expect("monitor", 0);
            }
            vip.expect("stop", 0);
            assert_eq!(ruleset(), "", "after a kill at call {call}");
            assert!(lan.addresses("2001:db8::7/").is_empty(), "call {call}");
            vip.expect("monitor", 7);
        },
    );
    assert!(calls > 20, "a stop makes more than {calls} system calls");
}

#[test]
#[ignore = "needs root and nftables: cargo lab test"]
fn connections_end_on_this_host_and_the_client_hears_nothing_of_it() {
    let lan = Lan::new();
    let service = listen("[::]:3260");
    for (params, at) in [(CLOSED, "192.0.2.7:3260"), (CLOSED6, "[2001:db8::7]:3260")] {
        let vip = vip(&[params, &[("block_ports", "tcp/3260")]].concat());
        vip.expect("start", 0);
        let mut client = lan.neighbour_connects(at);
        let mut served = service.accept().expect("the client").0;
        let stop = vip.expect("stop", 0);
        assert!(stop.stderr.contains("ended 1 connections of "), "{stop:?}");
        let ended = served.read(&mut [0]).expect_err("the connection is over");
        assert_eq!(ended.kind(), ErrorKind::ConnectionAborted);
        let patience = Some(Duration::from_millis(300));
        client.set_read_timeout(patience).expect("a timeout");
        let nothing = client.read(&mut [0]).expect_err("nothing was sent");
        assert_eq!(nothing.kind(), ErrorKind::WouldBlock, "{at}");
        // The next host has the address, and not the connection.
        vip.expect("start", 0);
        client.set_read_timeout(Some(LONG)).expect("a timeout");
        client.write_all(b"x").expect("sending");
        let reset = client.read(&mut [0]).expect_err("the connection is over");
        assert_eq!(reset.kind(), ErrorKind::ConnectionReset);

        // Where that is wanted, it hears of it at once.
        let mut client = lan.neighbour_connects(at);
        vip.with_param("kill_connections", "true").expect("stop", 0);
        client.set_read_timeout(Some(LONG)).expect("a timeout");
        let reset = client.read(&mut [0]).expect_err("the connection is over");
        assert_eq!(reset.kind(), ErrorKind::ConnectionReset);
        drop(service.accept().expect("the second client"));
    }
}

#[test]
#[ignore = "needs root and nftables: cargo lab test"]
fn the_ports_are_closed_in_the_namespace_of_the_address() {
    let _lan = Lan::new();
    let there = vip(&[CLOSED, &[("network_namespace", "neighbour")]].concat());
    let in_there = || {
        let words = ["netns", "exec", "neighbour", "nft", "list", "ruleset"];
        let output = Command::new("ip").args(words).output().expect("ip");
        assert!(output.status.success(), "{output:?}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    there.expect("start", 0);
    assert!(in_there().contains("ip daddr @address tcp dport 3260 drop"));
    assert_eq!(ruleset(), "");
    there.expect("monitor", 0);
    vip(CLOSED).expect("start", 0);
    assert_eq!(in_there(), "");
    assert!(ruleset().contains("ip daddr @address tcp dport 3260 drop"));
    vip(CLOSED).expect("stop", 0);
    assert_eq!(ruleset(), "");
}
