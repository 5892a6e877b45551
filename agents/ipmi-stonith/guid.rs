//! The GUID of a system, by which a BMC is told from another.

use std::fmt;
use std::str::FromStr;

/// A GUID, in the order in which its bytes were written or received.
///
/// Which order that is nobody agrees on: the specification sends it last byte first, SMBIOS has
/// three of its fields in little-endian order, and BMCs do either or neither. Hence [`Guid::is`].
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Guid(pub [u8; 16]);

impl Guid {
    /// Is it the same GUID, in whatever order either was written?
    pub fn is(self, other: Guid) -> bool {
        let (reversed, swapped) = (self.reversed(), self.swapped());
        [
            self,
            reversed,
            swapped,
            reversed.swapped(),
            swapped.reversed(),
        ]
        .contains(&other)
    }

    /// Does it say nothing? A BMC that knows no GUID sends zeros, some all ones.
    pub fn is_blank(self) -> bool {
        self.0 == [0; 16] || self.0 == [0xff; 16]
    }

    fn reversed(mut self) -> Guid {
        self.0.reverse();
        self
    }

    /// Time-low, time-mid and time-high in the other byte order.
    fn swapped(mut self) -> Guid {
        let (low, rest) = self.0.split_at_mut(4);
        let (mid, rest) = rest.split_at_mut(2);
        low.reverse();
        mid.reverse();
        if let Some(high) = rest.get_mut(..2) {
            high.reverse();
        }
        self
    }
}

impl FromStr for Guid {
    type Err = String;

    fn from_str(text: &str) -> Result<Guid, String> {
        let digits: String = text.chars().filter(|c| *c != '-').collect();
        let number = match digits.len() == 32 && digits.chars().all(|c| c.is_ascii_hexdigit()) {
            true => u128::from_str_radix(&digits, 16).ok(),
            false => None,
        };
        match number.map(|number| Guid(number.to_be_bytes())) {
            Some(guid) if !guid.is_blank() => Ok(guid),
            Some(_) => Err("says nothing; expected what the action diag prints".into()),
            None => {
                Err("is not a GUID; expected 32 hexadecimal digits, with or without dashes".into())
            }
        }
    }
}

impl fmt::Display for Guid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, byte) in self.0.iter().enumerate() {
            if matches!(index, 4 | 6 | 8 | 10) {
                f.write_str("-")?;
            }
            write!(f, "{byte:02x}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Guid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_order_of_bytes_does_not_matter_and_all_else_does() {
        let guid: Guid = "00112233-4455-6677-8899-aabbccddeeff".parse().unwrap();
        for same in [
            "00112233445566778899AABBCCDDEEFF",
            "33221100-5544-7766-8899-aabbccddeeff",
            "ffeeddcc-bbaa-9988-7766-554433221100",
            "ccddeeff-aabb-8899-7766-554433221100",
            "ffeeddcc-bbaa-9988-6677-445500112233",
        ] {
            let other = same.parse().unwrap();
            assert!(guid.is(other) && Guid::is(other, guid), "{same}");
        }
        for other in [
            "00112233-4455-6677-8899-aabbccddeefe",
            "11002233-4455-6677-8899-aabbccddeeff",
            "8899aabb-ccdd-eeff-0011-223344556677",
        ] {
            assert!(!guid.is(other.parse().unwrap()), "{other}");
        }
        assert_eq!(guid.to_string(), "00112233-4455-6677-8899-aabbccddeeff");
    }

    #[test]
    fn what_is_no_guid_is_refused() {
        for wrong in [
            "",
            "0011",
            "00112233-4455-6677-8899-aabbccddeefg",
            "+0112233-4455-6677-8899-aabbccddeeff",
            "00000000-0000-0000-0000-000000000000",
            "ffffffffffffffffffffffffffffffff",
        ] {
            assert!(wrong.parse::<Guid>().is_err(), "{wrong}");
        }
    }
}
