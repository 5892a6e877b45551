//! The commands, and what their answers mean. Sections are those of the IPMI 2.0 specification.

use std::fmt;
use std::str::FromStr;

use crate::config::Privilege;
use crate::error::{Error, ErrorKind};
use crate::message::{APP, CHASSIS};

/// A command, as it is asked of a BMC.
#[derive(Clone, Debug)]
pub(crate) struct Command {
    pub(crate) name: &'static str,
    pub(crate) function: u8,
    pub(crate) number: u8,
    pub(crate) data: Vec<u8>,
    /// May it be sent again if no answer comes?
    pub(crate) repeatable: bool,
    /// Does it change the power state?
    pub(crate) controls: bool,
}

pub(crate) const GET_DEVICE_ID: u8 = 0x01;
pub(crate) const GET_SYSTEM_GUID: u8 = 0x37;
pub(crate) const GET_AUTH_CAPABILITIES: u8 = 0x38;
pub(crate) const SET_PRIVILEGE: u8 = 0x3b;
pub(crate) const CLOSE_SESSION: u8 = 0x3c;
pub(crate) const GET_CIPHER_SUITES: u8 = 0x54;
pub(crate) const GET_CHASSIS_STATUS: u8 = 0x01;
pub(crate) const CHASSIS_CONTROL: u8 = 0x02;
pub(crate) const GET_RESTART_CAUSE: u8 = 0x07;
/// "The channel this came by."
pub(crate) const THIS_CHANNEL: u8 = 0x0e;

impl Command {
    fn look(name: &'static str, function: u8, number: u8, data: &[u8]) -> Command {
        Command {
            name,
            function,
            number,
            data: data.to_vec(),
            repeatable: true,
            controls: false,
        }
    }

    pub(crate) fn chassis_status() -> Command {
        Command::look("Get Chassis Status", CHASSIS, GET_CHASSIS_STATUS, &[])
    }

    pub(crate) fn chassis_control(control: Control) -> Command {
        Command {
            repeatable: control.is_idempotent(),
            controls: true,
            ..Command::look(
                control.command_name(),
                CHASSIS,
                CHASSIS_CONTROL,
                &[control as u8],
            )
        }
    }

    pub(crate) fn restart_cause() -> Command {
        Command::look("Get System Restart Cause", CHASSIS, GET_RESTART_CAUSE, &[])
    }

    pub(crate) fn device_id() -> Command {
        Command::look("Get Device ID", APP, GET_DEVICE_ID, &[])
    }

    pub(crate) fn system_guid() -> Command {
        Command::look("Get System GUID", APP, GET_SYSTEM_GUID, &[])
    }

    pub(crate) fn set_privilege(privilege: Privilege) -> Command {
        let level = [privilege.level()];
        Command::look("Set Session Privilege Level", APP, SET_PRIVILEGE, &level)
    }

    pub(crate) fn close_session(id: u32) -> Command {
        Command::look("Close Session", APP, CLOSE_SESSION, &id.to_le_bytes())
    }

    /// The list comes in pieces of 16 bytes.
    pub(crate) fn cipher_suites(piece: u8) -> Command {
        // Payload type IPMI; list by cipher suite.
        let data = [THIS_CHANNEL, 0x00, 0x80 | piece];
        Command::look("Get Channel Cipher Suites", APP, GET_CIPHER_SUITES, &data)
    }
}

/// What to do with the power of the machine (section 28.3).
///
/// The soft shutdown by ACPI is left out: it asks the operating system, which is the one thing
/// that cannot be relied on where this is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Control {
    /// Power off at once.
    Off = 0,
    /// Power on.
    On = 1,
    /// Power off, and on again after a while.
    Cycle = 2,
    /// Hard reset.
    Reset = 3,
    /// A diagnostic interrupt (NMI).
    Diag = 4,
}

impl Control {
    /// Is it the same to do it twice? Only then is it sent again when no answer comes.
    pub fn is_idempotent(self) -> bool {
        matches!(self, Control::Off | Control::On)
    }

    fn command_name(self) -> &'static str {
        match self {
            Control::Off => "Chassis Control (off)",
            Control::On => "Chassis Control (on)",
            Control::Cycle => "Chassis Control (cycle)",
            Control::Reset => "Chassis Control (reset)",
            Control::Diag => "Chassis Control (diagnostic interrupt)",
        }
    }
}

/// The state of the power (section 28.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChassisStatus {
    /// Power is on.
    pub power_on: bool,
    /// Power was shut down because of an overload.
    pub overload: bool,
    /// Power was shut down because a panel was opened.
    pub interlock: bool,
    /// A fault was detected in the main power.
    pub power_fault: bool,
    /// The BMC could not switch power on or off as it was told.
    pub power_control_fault: bool,
    /// What happens when mains power returns: 0 stays off, 1 as before, 2 on, 3 unknown.
    pub restore_policy: u8,
    /// Why the power last changed, as bits: 0 mains failed, 1 overload, 2 interlock, 3 fault, 4 on
    /// by IPMI command.
    pub last_event: u8,
}

impl ChassisStatus {
    pub(crate) fn decode(data: &[u8]) -> Option<ChassisStatus> {
        // A fourth byte, front panel buttons, is optional; the third is not.
        let [power, last_event, _, ..] = *data else {
            return None;
        };
        let bit = |n: u8| power >> n & 1 == 1;
        Some(ChassisStatus {
            power_on: bit(0),
            overload: bit(1),
            interlock: bit(2),
            power_fault: bit(3),
            power_control_fault: bit(4),
            restore_policy: power >> 5 & 3,
            last_event: last_event & 0x1f,
        })
    }
}

/// Why the machine last started (section 28.11).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RestartCause(pub u8);

impl RestartCause {
    pub(crate) fn decode(data: &[u8]) -> Option<RestartCause> {
        data.first().map(|cause| RestartCause(cause & 0x0f))
    }
}

impl fmt::Display for RestartCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            0x0 => "unknown",
            0x1 => "chassis control command",
            0x2 => "reset button",
            0x3 => "power button",
            0x4 => "watchdog",
            0x5 => "OEM",
            0x6 => "power restored, policy always on",
            0x7 => "power restored, policy as before",
            0x8 => "reset by event filter",
            0x9 => "power cycle by event filter",
            0xa => "soft reset",
            0xb => "real-time clock",
            _ => "reserved",
        })
    }
}

/// Which BMC this is (section 20.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeviceId {
    /// Chosen by the manufacturer.
    pub device: u8,
    /// Firmware revision, major and minor; the minor is two decimal digits in BCD.
    pub firmware: (u8, u8),
    /// The BMC is starting or being updated.
    pub initializing: bool,
    /// IPMI version, major and minor.
    pub ipmi: (u8, u8),
    /// IANA enterprise number.
    pub manufacturer: u32,
    /// Chosen by the manufacturer.
    pub product: u16,
}

impl DeviceId {
    pub(crate) fn decode(data: &[u8]) -> Option<DeviceId> {
        let [device, _, major, minor, ipmi, _, m0, m1, m2, p0, p1] = *data.first_chunk::<11>()?;
        Some(DeviceId {
            device,
            firmware: (major & 0x7f, minor),
            initializing: major & 0x80 != 0,
            ipmi: (ipmi & 0x0f, ipmi >> 4),
            manufacturer: u32::from_le_bytes([m0, m1, m2 & 0x0f, 0]),
            product: u16::from_le_bytes([p0, p1]),
        })
    }
}

impl fmt::Display for DeviceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "manufacturer {}, product {}, device {}, firmware {}.{:02x}, IPMI {}.{}",
            self.manufacturer,
            self.product,
            self.device,
            self.firmware.0,
            self.firmware.1,
            self.ipmi.0,
            self.ipmi.1
        )
    }
}

/// Identity of a machine or its BMC, in the order of bytes in which it was received.
///
/// Tools and firmware do not agree on the order in which the sixteen bytes are written down:
/// [`Guid::is_same`] accepts the three in use.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Guid(pub [u8; 16]);

impl Guid {
    pub(crate) fn decode(data: &[u8]) -> Option<Guid> {
        data.first_chunk().copied().map(Guid)
    }

    /// All zeros or all ones: the BMC was not given one.
    pub fn is_unset(&self) -> bool {
        self.0 == [0; 16] || self.0 == [0xff; 16]
    }

    /// Is it the same, if the order of bytes is disregarded: as received, all sixteen reversed
    /// (IPMI 2.0, section 20.8), or the first three groups reversed (SMBIOS)?
    pub fn is_same(&self, other: &Guid) -> bool {
        let mut reversed = self.0;
        reversed.reverse();
        [self.0, reversed, swap_groups(self.0)].contains(&other.0)
    }
}

fn swap_groups(bytes: [u8; 16]) -> [u8; 16] {
    let [a, b, c, d, e, f, g, h, rest @ ..] = bytes;
    let mut out = [d, c, b, a, f, e, h, g, 0, 0, 0, 0, 0, 0, 0, 0];
    out[8..].copy_from_slice(&rest);
    out
}

impl fmt::Display for Guid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, byte) in self.0.iter().enumerate() {
            let dash = if matches!(n, 4 | 6 | 8 | 10) { "-" } else { "" };
            write!(f, "{dash}{byte:02x}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Guid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Guid({self})")
    }
}

impl FromStr for Guid {
    type Err = Error;

    /// 32 hexadecimal digits, with or without dashes.
    fn from_str(text: &str) -> Result<Guid, Error> {
        let digits: Option<Vec<u8>> = text
            .chars()
            .filter(|c| *c != '-')
            .map(|c| c.to_digit(16).map(|digit| digit as u8))
            .collect();
        let bytes: Option<Vec<u8>> = digits
            .filter(|digits| digits.len() == 32)
            .map(|digits| digits.chunks(2).map(|p| p[0] << 4 | p[1]).collect());
        bytes.and_then(|bytes| Guid::decode(&bytes)).ok_or_else(|| {
            ErrorKind::Config.because(format!(
                "GUID {text:?}: expected 32 hexadecimal digits, with or without dashes"
            ))
        })
    }
}

/// Does the BMC speak IPMI 2.0? From the answer to Get Channel Authentication Capabilities
/// (section 22.13). None: the answer is too short.
pub(crate) fn speaks_ipmi20(data: &[u8]) -> Option<bool> {
    let [_, support, _, extended, ..] = *data else {
        return None;
    };
    Some(support & 0x80 != 0 && extended & 0x02 != 0)
}

/// The ids in a list of cipher suite records (section 22.15.1). What comes after something that
/// is not a record is left out.
pub(crate) fn cipher_suite_ids(mut records: &[u8]) -> Vec<u8> {
    let mut ids = Vec::new();
    while let [kind, id, rest @ ..] = records {
        match kind {
            0xc0 => records = rest,
            // OEM: an enterprise number follows.
            0xc1 => records = rest.get(3..).unwrap_or_default(),
            _ => break,
        }
        ids.push(*id);
        // The algorithms of the suite have the two top bits that a record's start has not.
        let next = records.iter().position(|byte| byte & 0xc0 == 0xc0);
        records = next.and_then(|at| records.get(at..)).unwrap_or_default();
    }
    ids
}

/// Names of completion codes (table 5-2).
pub(crate) fn completion_text(code: u8) -> &'static str {
    match code {
        0xc0 => "node busy",
        0xc1 => "invalid command",
        0xc2 => "command invalid for this LUN",
        0xc3 => "timeout while processing",
        0xc4 => "out of space",
        0xc7 => "request data length invalid",
        0xc9 => "parameter out of range",
        0xcc => "invalid data field in request",
        0xce => "response could not be provided",
        0xd0 => "initialization in progress",
        0xd1 => "firmware update in progress",
        0xd2 => "BMC initialization in progress",
        0xd3 => "destination unavailable",
        0xd4 => "insufficient privilege",
        0xd5 => "not supported in present state",
        0xd6 => "disabled or unavailable",
        0xff => "unspecified error",
        _ => "no success",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn chassis_status() {
        let status = ChassisStatus::decode(&[0x71, 0x10, 0x40]).unwrap();
        assert!(status.power_on && status.power_control_fault && !status.power_fault);
        assert_eq!((status.restore_policy, status.last_event), (3, 0x10));
        assert!(!ChassisStatus::decode(&[0x60, 0, 0, 0]).unwrap().power_on);
        assert_eq!(ChassisStatus::decode(&[0x01, 0]), None);
    }

    #[test]
    fn guids_in_any_order_of_bytes() {
        let guid: Guid = "33221100-5544-7766-8899-aabbccddeeff".parse().unwrap();
        assert_eq!(guid.to_string(), "33221100-5544-7766-8899-aabbccddeeff");
        for other in [
            "332211005544776688 99AABBCCDDEEFF",
            "00112233-4455-6677-8899-aabbccddeeff",
            "ffeeddcc-bbaa-9988-6677-445500112233",
        ] {
            let other: Guid = other.replace(' ', "").parse().unwrap();
            assert!(guid.is_same(&other) && other.is_same(&guid), "{other}");
        }
        let other: Guid = "00112233-4455-6677-8899-aabbccddee00".parse().unwrap();
        assert!(!guid.is_same(&other));
        assert!(Guid([0; 16]).is_unset() && Guid([255; 16]).is_unset() && !guid.is_unset());
        let error = "x".parse::<Guid>().unwrap_err();
        assert_eq!(
            error.to_string(),
            "GUID \"x\": expected 32 hexadecimal digits, with or without dashes"
        );
    }

    #[test]
    fn device_id() {
        let id = DeviceId::decode(&[0, 3, 0x89, 0x08, 0x02, 0x9f, 0x91, 0x12, 0, 2, 0x0f, 0]);
        let id = id.unwrap();
        assert_eq!(
            id.to_string(),
            "manufacturer 4753, product 3842, device 0, firmware 9.08, IPMI 2.0"
        );
        assert!(id.initializing);
    }

    #[test]
    fn cipher_suites_of_a_list() {
        let list = [
            0xc0, 0, 0x00, 0x40, 0x80, 0xc0, 3, 0x01, 0x41, 0x81, 0xc1, 0x80, 1, 2, 3, 0x01, 0xc0,
            17, 0x03, 0x44, 0x81,
        ];
        assert_eq!(cipher_suite_ids(&list), [0, 3, 0x80, 17]);
        assert_eq!(cipher_suite_ids(&list[..1]), []);
    }

    #[test]
    fn ipmi_version() {
        assert_eq!(
            speaks_ipmi20(&[1, 0x80 | 0x15, 0x04, 0x03, 0, 0, 0, 0]),
            Some(true)
        );
        assert_eq!(
            speaks_ipmi20(&[1, 0x80 | 0x15, 0x04, 0x01, 0, 0, 0, 0]),
            Some(false)
        );
        assert_eq!(
            speaks_ipmi20(&[1, 0x15, 0x04, 0x03, 0, 0, 0, 0]),
            Some(false)
        );
        assert_eq!(speaks_ipmi20(&[1, 0x80]), None);
    }

    proptest! {
        #[test]
        fn any_bytes(data in prop::collection::vec(any::<u8>(), 0..64)) {
            let long = data.len() >= 3;
            prop_assert_eq!(ChassisStatus::decode(&data).is_some(), long);
            prop_assert_eq!(DeviceId::decode(&data).is_some(), data.len() >= 11);
            prop_assert_eq!(Guid::decode(&data).is_some(), data.len() >= 16);
            prop_assert_eq!(RestartCause::decode(&data).is_some(), !data.is_empty());
            prop_assert_eq!(speaks_ipmi20(&data).is_some(), data.len() >= 4);
            prop_assert!(cipher_suite_ids(&data).len() <= data.len() / 2);
        }

        #[test]
        fn any_text_is_a_guid_or_not(text in ".{0,40}") {
            if let Ok(guid) = text.parse::<Guid>() {
                prop_assert_eq!(guid.to_string().parse::<Guid>().unwrap(), guid);
            }
        }
    }
}
