//! Two hosts on one wire: this thread's namespace, and a neighbour's.

use std::fs::File;
use std::net::TcpStream;
use std::process::{Command, Output};
use std::thread;

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, setns, unshare};
use ocf::testing::Executable;

/// Two hosts, each with an `eth0`: we are 192.0.2.1 and 2001:db8::1, the neighbour is .254 and
/// ::254, in the network namespace `neighbour`.
pub struct Lan;

impl Lan {
    /// Takes this thread, for good, to a host of its own.
    pub fn new() -> Lan {
        unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS)
            .expect("new namespaces (this needs root)");
        let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
        mount(None::<&str>, "/", None::<&str>, private, None::<&str>)
            .expect("making mounts private");
        mount(
            Some("run"),
            "/run",
            Some("tmpfs"),
            MsFlags::empty(),
            None::<&str>,
        )
        .expect("an empty /run");
        let lan = Lan;
        lan.ip("netns add neighbour");
        lan.ip("link add eth0 type veth peer name eth0 netns neighbour");
        for host in ["", "-n neighbour "] {
            let end = if host.is_empty() { "1" } else { "254" };
            lan.ip(&format!("{host}link set lo up"));
            lan.ip(&format!("{host}link set eth0 up"));
            lan.ip(&format!("{host}addr add 192.0.2.{end}/24 dev eth0"));
            lan.ip(&format!("{host}addr add 2001:db8::{end}/64 dev eth0 nodad"));
        }
        lan
    }

    /// Another interface here, on a network of its own; `NAME-peer` is its other end.
    pub fn another_nic(&self, name: &str, address: &str) {
        self.ip(&format!("link add {name} type veth peer name {name}-peer"));
        self.ip(&format!("link set {name} up"));
        self.ip(&format!("link set {name}-peer up"));
        self.ip(&format!("addr add {address} dev {name}"));
    }

    /// Runs `ip` with these words, and returns what it prints.
    pub fn ip(&self, words: &str) -> String {
        let output = command("ip", words);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "ip {words}: {stderr}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Sets a sysctl, given as a path under /proc/sys, here.
    pub fn sysctl(&self, path: &str, value: &str) {
        std::fs::write(format!("/proc/sys/{path}"), value).expect(path);
    }

    /// Sets a sysctl of the neighbour's.
    pub fn neighbours_sysctl(&self, path: &str, value: &str) {
        let set = "netns exec neighbour sh -c";
        let output = Command::new("ip")
            .args(set.split(' '))
            .arg(format!("echo {value} > /proc/sys/{path}"))
            .output()
            .expect("running ip");
        assert!(output.status.success(), "{path}: {output:?}");
    }

    /// The lines of `ip -o addr` that have this text.
    pub fn addresses(&self, text: &str) -> Vec<String> {
        let all = self.ip("-o addr");
        all.lines()
            .filter(|line| line.contains(text))
            .map(str::to_owned)
            .collect()
    }

    /// How many frames the neighbour has got from us.
    pub fn neighbours_frames(&self) -> u64 {
        let statistics = self.ip("-n neighbour -s -o link show eth0");
        let received = statistics.split("RX:").nth(1).expect("statistics");
        let numbers = received.split('\\').nth(1).expect("a line of numbers");
        numbers
            .split_whitespace()
            .nth(1)
            .expect("packets")
            .parse()
            .expect("a number")
    }

    /// Forbids, or allows again, to change anything in /run.
    pub fn run_is_read_only(&self, yes: bool) {
        let flags = MsFlags::MS_REMOUNT
            | if yes {
                MsFlags::MS_RDONLY
            } else {
                MsFlags::empty()
            };
        mount(None::<&str>, "/run", None::<&str>, flags, None::<&str>).expect("remounting /run");
    }

    /// The neighbour connects to an address of ours.
    pub fn neighbour_connects(&self, to: &'static str) -> TcpStream {
        let connect = move || {
            let there = File::open("/run/netns/neighbour").expect("the neighbour's namespace");
            setns(there, CloneFlags::CLONE_NEWNET).expect("entering the neighbour's namespace");
            TcpStream::connect(to).expect(to)
        };
        thread::spawn(connect).join().expect("connecting")
    }

    /// Does the neighbour reach an address of ours?
    pub fn reachable(&self, address: &str) -> bool {
        command(
            "ip",
            &format!("netns exec neighbour ping -c 1 -W 2 {address}"),
        )
        .status
        .success()
    }
}

fn command(program: &str, words: &str) -> Output {
    Command::new(program)
        .args(words.split_whitespace())
        .output()
        .expect(program)
}

/// The `vip` that was built with these tests, with these parameters.
pub fn vip(params: &[(&str, &str)]) -> Executable {
    Executable::new(env!("CARGO_BIN_EXE_vip"), "resource", params)
}
