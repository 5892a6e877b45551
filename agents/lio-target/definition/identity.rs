//! Who a logical unit is to initiators: the serial number, and the NAA identifier that the kernel makes of it.

use crate::digest;

/// The kernel's own IEEE company number (OpenFabrics), where no other is set.
pub const KERNELS_COMPANY: u32 = 0x00_1405;
/// Sun Microsystems' number, which COMSTAR and stmf-ha use.
const SUN: u32 = 0x00_144f;
/// How many hex digits of the serial number are part of the NAA identifier: 100 bits.
const SERIAL_DIGITS: usize = 25;
/// The longest serial number, in bytes (INQUIRY_VPD_SERIAL_LEN of 254, with the NUL).
const LONGEST_SERIAL: usize = 253;

/// A unit's identity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// VPD page 0x80.
    pub serial: String,
    /// The company number in the NAA identifier; the kernel's own if None, which every kernel has.
    pub company_id: Option<u32>,
}

impl Identity {
    /// The identity of a GUID as COMSTAR shows it: 32 hex digits, the NAA identifier itself. The serial number is the
    /// last 25 of them, in lower case.
    pub fn of_guid(text: &str) -> Result<Identity, String> {
        let expected = "is not a GUID; expected 32 hex digits, the first of them 6: an NAA identifier, IEEE Registered Extended";
        let digits = text.to_ascii_lowercase();
        if digits.len() != 32
            || !digits.starts_with('6')
            || !digits.bytes().all(|c| c.is_ascii_hexdigit())
        {
            return Err(expected.into());
        }
        let company = u32::from_str_radix(&digits[1..7], 16).map_err(|_| expected.to_owned())?;
        Ok(Identity {
            serial: digits[7..].to_owned(),
            company_id: Some(company).filter(|company| *company != KERNELS_COMPANY),
        })
    }

    /// The identity that stmf-ha gives to a volume that has none yet: Sun's company number, and the beginning of the MD5
    /// sum of the volume's name.
    pub fn of_volume(name: &str) -> Identity {
        Identity {
            serial: digest::hex(name, SERIAL_DIGITS),
            company_id: Some(SUN),
        }
    }

    /// The identity of a device or a file that is given none: it goes with the path, which is the same on every node.
    pub fn of_path(path: &str) -> Identity {
        Identity {
            serial: digest::hex(path, SERIAL_DIGITS),
            company_id: None,
        }
    }

    /// The identity with that serial number.
    pub fn of_serial(text: &str, company_id: Option<u32>) -> Result<Identity, String> {
        match is_line(text, LONGEST_SERIAL) && !text.is_empty() {
            true => Ok(Identity {
                serial: text.to_owned(),
                company_id,
            }),
            false => Err(format!(
                "is not a serial number; expected 1 to {LONGEST_SERIAL} printable ASCII characters, none of them blank at the ends"
            )),
        }
    }

    /// The GUID that this is, if it is one: then [`Identity::of_guid`] makes the same of it.
    pub fn guid(&self) -> Option<String> {
        let company = self.company_id?;
        let is_digits = self.serial.len() == SERIAL_DIGITS
            && self
                .serial
                .bytes()
                .all(|c| matches!(c, b'0'..=b'9' | b'a'..=b'f'));
        (is_digits && company != KERNELS_COMPANY).then(|| format!("6{company:06x}{}", self.serial))
    }

    /// The NAA identifier in VPD page 0x83, as 32 hex digits: the company number, then the hex digits among the first
    /// characters of the serial number, with zeros where it has too few (spc_gen_naa_6h_vendor_specific).
    pub fn naa(&self) -> String {
        let company = self.company_id.unwrap_or(KERNELS_COMPANY);
        let digits: String = self
            .serial
            .chars()
            .filter(char::is_ascii_hexdigit)
            .take(SERIAL_DIGITS)
            .collect();
        let digits = digits.to_ascii_lowercase();
        format!("6{company:06x}{digits:0<SERIAL_DIGITS$}")
    }
}

/// Is it text that can be written into an attribute and comes back the same: printable ASCII, no blanks at the ends?
pub fn is_line(text: &str, longest: usize) -> bool {
    text.len() <= longest && text.trim() == text && text.bytes().all(|c| (b' '..=b'~').contains(&c))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The 16 bytes of the designator, built as the kernel builds them: half a byte at a time.
    fn kernel(serial: &str, company: u32) -> String {
        let mut bytes = [0u8; 16];
        bytes[0] = 0x60 | (company >> 20 & 0xf) as u8;
        bytes[1] = (company >> 12) as u8;
        bytes[2] = (company >> 4) as u8;
        bytes[3] = ((company & 0xf) << 4) as u8;
        let digits = serial.chars().filter_map(|c| c.to_digit(16));
        for (half, digit) in (7..32).zip(digits) {
            let shift = if half % 2 == 0 { 4 } else { 0 };
            bytes[half / 2] |= (digit as u8) << shift;
        }
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    #[test]
    fn a_guid_of_comstar_is_the_kernels_designator() {
        let guid = "600144F0C73A5D0000004F1A2B3C0001";
        let identity = Identity::of_guid(guid).unwrap();
        assert_eq!(identity.company_id, Some(0x00144f));
        assert_eq!(identity.serial, "0c73a5d0000004f1a2b3c0001");
        assert_eq!(
            kernel(&identity.serial, 0x00144f),
            guid.to_ascii_lowercase()
        );
        assert_eq!(identity.guid(), Some(guid.to_ascii_lowercase()));
    }

    #[test]
    fn a_new_volume_has_the_guid_that_stmf_ha_would_give_it() {
        // printf %s tank/vm/VM_A | md5sum: without a line feed.
        assert_eq!(
            Identity::of_volume("tank/vm/VM_A").naa(),
            "600144f5df7853ea7f64438bc6806dc3"
        );
    }

    #[test]
    fn a_guid_with_the_kernels_own_company_needs_no_attribute() {
        let identity = Identity::of_guid("60014050123456789abcdef012345678").unwrap();
        assert_eq!(identity.company_id, None);
        assert_eq!(identity.naa(), "60014050123456789abcdef012345678");
        assert_eq!(identity.guid(), None);
    }

    #[test]
    fn what_is_no_guid_is_refused() {
        for wrong in [
            "",
            "600144f",
            "500144F0C73A5D0000004F1A2B3C0001",
            "600144F0C73A5D0000004F1A2B3C000g",
            "600144F0C73A5D0000004F1A2B3C00011",
            "6é0144F0C73A5D0000004F1A2B3C0001",
        ] {
            assert!(Identity::of_guid(wrong).is_err(), "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn the_naa_is_the_kernels(serial in "[ -~]{0,60}", company in 0u32..0x100_0000) {
            let identity = Identity { serial: serial.clone(), company_id: Some(company) };
            prop_assert_eq!(identity.naa(), kernel(&serial, company));
        }

        #[test]
        fn a_guid_is_kept(guid in "6[0-9a-fA-F]{31}") {
            let identity = Identity::of_guid(&guid).unwrap();
            let company = identity.company_id.unwrap_or(KERNELS_COMPANY);
            prop_assert_eq!(kernel(&identity.serial, company), guid.to_ascii_lowercase());
        }
    }
}
