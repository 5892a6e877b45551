//! Names of iSCSI nodes, and the addresses they listen on. Each error ends the sentence that begins with the value.

use std::net::{IpAddr, Ipv6Addr};

use crate::wanted::Portal;

/// The longest iSCSI name, in bytes (RFC 7143, 4.2.7.1).
const LONGEST: usize = 223;
/// The port that IANA gave to iSCSI.
pub const PORT: u16 = 3260;

/// An iSCSI name (RFC 7143, 4.2.7): `iqn.YYYY-MM.reversed.domain[:text]`, `eui.` with 16 hex digits, or `naa.` with 16
/// or 32. In lower case, as RFC 3722 has it and as initiators send theirs: the kernel compares byte by byte.
pub fn iqn(text: &str) -> Result<String, String> {
    let name = text.to_ascii_lowercase();
    if name.len() > LONGEST {
        return Err(format!(
            "is too long for an iSCSI name; expected at most {LONGEST} bytes"
        ));
    }
    let is_hex = |digits: &str, lengths: &[usize]| {
        lengths.contains(&digits.len()) && digits.bytes().all(|c| c.is_ascii_hexdigit())
    };
    let good = match name.split_once('.') {
        Some(("iqn", rest)) => is_qualified(rest),
        Some(("eui", digits)) => is_hex(digits, &[16]),
        Some(("naa", digits)) => is_hex(digits, &[16, 32]),
        _ => false,
    };
    match good {
        true => Ok(name),
        false => Err(
            "is not an iSCSI name; expected iqn.YYYY-MM.reversed.domain, mostly with a colon and a text after it, such as \
             iqn.2025-01.com.example:vm1, or eui. with 16 hex digits, or naa. with 16 or 32"
                .into(),
        ),
    }
}

/// What comes after "iqn."
fn is_qualified(rest: &str) -> bool {
    let (authority, text) = match rest.split_once(':') {
        Some((authority, text)) => (authority, Some(text)),
        None => (rest, None),
    };
    let Some((date, domain)) = authority.split_once('.') else {
        return false;
    };
    let is_date = match date.as_bytes() {
        [year @ .., b'-', a, b] if year.len() == 4 => {
            year.iter().chain([a, b]).all(u8::is_ascii_digit)
                && matches!((a, b), (b'0', b'1'..=b'9') | (b'1', b'0'..=b'2'))
        }
        _ => false,
    };
    // RFC 3722 knows no underscore, and yet there are such names, which kernels and initiators take.
    let is_in = |text: &str, more: &str| {
        !text.is_empty()
            && text
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || more.contains(c))
    };
    is_date
        && domain.split('.').all(|label| is_in(label, "-_"))
        && text.is_none_or(|text| is_in(text, "-_.:"))
}

/// A portal: `192.0.2.1`, `192.0.2.1:3260`, `2001:db8::1`, `[2001:db8::1]`, `[2001:db8::1]:3260`, each with `iser:`
/// before it if it is to be reached over RDMA. Port 3260 if there is none.
pub fn portal(text: &str) -> Result<Portal, String> {
    let (iser, place) = match text.strip_prefix("iser:") {
        Some(place) => (true, place),
        None => (false, text),
    };
    let (address, port) = split(place).ok_or_else(|| {
        "is not a portal; expected an IP address, with a port if it is not 3260: 192.0.2.1, 192.0.2.1:3260 or \
         [2001:db8::1]:3260; iser: before it for RDMA"
            .to_owned()
    })?;
    if address.is_multicast() {
        return Err("is a multicast address; expected one that a host can listen on".into());
    }
    Ok(Portal {
        address,
        port,
        iser,
    })
}

fn split(place: &str) -> Option<(IpAddr, u16)> {
    if let Ok(address) = place.parse() {
        return Some((address, PORT));
    }
    if let Some(rest) = place.strip_prefix('[') {
        let (address, port) = rest.split_once(']')?;
        let address: Ipv6Addr = address.parse().ok()?;
        return match port {
            "" => Some((address.into(), PORT)),
            port => Some((address.into(), number(port.strip_prefix(':')?)?)),
        };
    }
    let (address, port) = place.split_once(':')?;
    Some((IpAddr::V4(address.parse().ok()?), number(port)?))
}

/// A TCP port. Without a sign, which `parse` would take.
fn number(text: &str) -> Option<u16> {
    let digits = text.bytes().all(|c| c.is_ascii_digit());
    text.parse().ok().filter(|port| digits && *port != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn iscsi_names_are_in_lower_case() {
        for (given, name) in [
            ("iqn.2025-01.com.example:VM1", "iqn.2025-01.com.example:vm1"),
            (
                "IQN.1998-01.com.vmware:esx-1.a:b",
                "iqn.1998-01.com.vmware:esx-1.a:b",
            ),
            (
                "iqn.2010-08.org.illumos:stmf-ha:vm_pool",
                "iqn.2010-08.org.illumos:stmf-ha:vm_pool",
            ),
            ("iqn.2025-12.com.example", "iqn.2025-12.com.example"),
            ("eui.02004567A425678D", "eui.02004567a425678d"),
            ("naa.52004567BA64678D", "naa.52004567ba64678d"),
            (
                "naa.62004567BA64678D0123456789ABCDEF",
                "naa.62004567ba64678d0123456789abcdef",
            ),
        ] {
            assert_eq!(iqn(given).as_deref(), Ok(name));
        }
    }

    #[test]
    fn what_is_no_iscsi_name_is_refused() {
        for wrong in [
            "",
            "iqn",
            "iqn.",
            "vm1",
            "iqn.2025-13.com.example:a",
            "iqn.2025-00.com.example:a",
            "iqn.25-01.com.example:a",
            "iqn.2025-01",
            "iqn.2025-01.",
            "iqn.2025-01..com:a",
            "iqn.2025-01.com.example:",
            "iqn.2025-01.com.example:a b",
            "iqn.2025-01.com.example:a/b",
            "iqn.2025-01.com.example:ä",
            "eui.0200",
            "naa.52004567BA64678Dff",
            "wwn.52004567BA64678D",
        ] {
            assert!(iqn(wrong).is_err(), "{wrong}");
        }
        let longest = format!("iqn.2025-01.com.example:{}", "a".repeat(199));
        assert_eq!(longest.len(), 223);
        assert_eq!(iqn(&longest), Ok(longest.clone()));
        assert!(
            iqn(&(longest + "a"))
                .unwrap_err()
                .contains("at most 223 bytes")
        );
    }

    #[test]
    fn portals_with_and_without_port() {
        for (given, shown, iser) in [
            ("192.0.2.1", "192.0.2.1:3260", false),
            ("192.0.2.1:860", "192.0.2.1:860", false),
            ("iser:192.0.2.1", "192.0.2.1:3260", true),
            ("2001:db8::1", "[2001:db8::1]:3260", false),
            ("[2001:db8::1]", "[2001:db8::1]:3260", false),
            ("iser:[2001:db8::1]:65535", "[2001:db8::1]:65535", true),
            ("::", "[::]:3260", false),
            ("0.0.0.0:3260", "0.0.0.0:3260", false),
        ] {
            let portal = portal(given).unwrap();
            assert_eq!((portal.to_string().as_str(), portal.iser), (shown, iser));
        }
    }

    #[test]
    fn what_is_no_portal_is_refused() {
        for wrong in [
            "",
            "storage.example.com",
            "storage:3260",
            "192.0.2.1:",
            "192.0.2.1:0",
            "192.0.2.1:+1",
            "192.0.2.1:65536",
            "192.0.2",
            "[192.0.2.1]:3260",
            "[2001:db8::1]3260",
            "[2001:db8::1",
            "fe80::1%eth0",
            "iser:iser:192.0.2.1",
            "ISER:192.0.2.1",
            "224.0.0.1",
            "192.0.2.1 ",
        ] {
            assert!(portal(wrong).is_err(), "{wrong}");
        }
    }
}
