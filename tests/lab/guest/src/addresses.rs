//! Which addresses a kernel holds, as it says itself below `/proc/net`: nothing needs to be asked, and no process started.

use std::net::IpAddr;

/// The file below `/proc/net` that tells of addresses of this family.
pub fn file(address: IpAddr) -> &'static str {
    match address {
        IpAddr::V4(_) => "fib_trie",
        IpAddr::V6(_) => "if_inet6",
    }
}

/// Whether a kernel answers to an address; `text` is what its [`file`] says.
pub fn holds(text: &str, address: IpAddr) -> bool {
    match address {
        IpAddr::V4(_) => in_fib_trie(text, &address.to_string()),
        IpAddr::V6(address) => in_if_inet6(text, &format!("{:032x}", u128::from(address))),
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

    fn has(text: &str, address: &str) -> bool {
        holds(text, address.parse().unwrap())
    }

    #[test]
    fn fib_trie() {
        assert!(has(TRIE, "192.0.2.1"));
        assert!(!has(TRIE, "192.0.2.255"));
        assert!(!has(TRIE, "192.0.2.10"));
        assert!(!has("", "192.0.2.10"));
    }

    #[test]
    fn if_inet6() {
        let text = "20010db8000000000000000000000001 02 40 00 80     lan0\n";
        assert!(has(text, "2001:db8::1"));
        assert!(!has(text, "2001:db8::10"));
    }

    #[test]
    fn each_family_has_its_file() {
        let of = |address: &str| file(address.parse().unwrap());
        assert_eq!(
            (of("192.0.2.1"), of("2001:db8::1")),
            ("fib_trie", "if_inet6")
        );
    }
}
