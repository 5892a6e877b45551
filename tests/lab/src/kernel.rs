//! Which node holds an address, read from outside through /proc: no process is started on the
//! node. In a guest it is the guest's agent that reads.

use std::fs;
use std::net::IpAddr;

use crate::layout;
use crate::vm;
use crate::vm::room::Setup;

/// Whether the kernel of a node answers to an address. False for a node without power.
pub fn holds(node: &str, address: IpAddr) -> bool {
    let read = |file: &str| -> String {
        if Setup::file().exists() {
            return vm::read(node, &format!("/proc/net/{file}")).unwrap_or_default();
        }
        let init = fs::read_to_string(layout::pid_file(node)).unwrap_or_default();
        fs::read_to_string(format!("/proc/{}/net/{file}", init.trim())).unwrap_or_default()
    };
    match address {
        IpAddr::V4(_) => in_fib_trie(&read("fib_trie"), &address.to_string()),
        IpAddr::V6(address) => {
            in_if_inet6(&read("if_inet6"), &format!("{:032x}", u128::from(address)))
        }
    }
}

fn in_fib_trie(text: &str, address: &str) -> bool {
    let leaf = format!("|-- {address}");
    let mut here = false;
    for line in text.lines().map(str::trim) {
        if line.starts_with("|-- ") || line.starts_with("+-- ") {
            here = line == leaf;
        } else if here && line == "/32 host LOCAL" {
            return true;
        }
    }
    false
}

fn in_if_inet6(text: &str, address: &str) -> bool {
    text.lines().any(|line| line.starts_with(address))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRIE: &str = "Main:
  +-- 0.0.0.0/0 3 0 5
     |-- 192.0.2.0
        /24 link UNICAST
Local:
  +-- 0.0.0.0/0 3 0 5
     |-- 192.0.2.1
        /32 host LOCAL
     |-- 192.0.2.255
        /32 link BROADCAST
";

    #[test]
    fn fib_trie() {
        assert!(in_fib_trie(TRIE, "192.0.2.1"));
        assert!(!in_fib_trie(TRIE, "192.0.2.255"));
        assert!(!in_fib_trie(TRIE, "192.0.2.10"));
        assert!(!in_fib_trie("", "192.0.2.10"));
    }

    #[test]
    fn if_inet6() {
        let text = "20010db8000000000000000000000001 02 40 00 80     lan0\n";
        assert!(in_if_inet6(text, "20010db8000000000000000000000001"));
        assert!(!in_if_inet6(text, "20010db8000000000000000000000010"));
    }
}
