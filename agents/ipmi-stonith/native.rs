//! Access to a BMC by the agent itself: RMCP+ with one session for a whole action.

use std::time::Instant;

use ipmi::{Client, Config, Error, ErrorKind, Refused, Secret};
use ocf::fence::{Power, interrupt_flag};

use crate::bmc::{Bmc, Chassis, Control, Fault, Kind, Opener, Patience};
use crate::guid::Guid;
use crate::ipmi::{Access, Privilege};

/// How to open a session.
pub struct Native {
    config: Config,
    address: String,
}

impl Native {
    pub fn new(access: Access) -> Native {
        let password = access.password.reveal();
        let mut config = Config::new(access.address.as_str(), access.username, password);
        config.port = access.port;
        config.kg = access.kg.map(Secret::new);
        config.cipher = access.cipher.and_then(|cipher| u8::try_from(cipher).ok());
        config.privilege = match access.privilege {
            Privilege::Callback => ipmi::Privilege::Callback,
            Privilege::User => ipmi::Privilege::User,
            Privilege::Operator => ipmi::Privilege::Operator,
            Privilege::Administrator => ipmi::Privilege::Administrator,
        };
        config.interrupted = Some(interrupt_flag());
        Native {
            config,
            address: access.address,
        }
    }
}

impl Opener for Native {
    fn open(&self, patience: Patience, by: Instant) -> Result<Box<dyn Bmc + '_>, Fault> {
        let mut config = self.config.clone();
        config.refused = match patience {
            Patience::None => Refused::Fail,
            Patience::Some => Refused::KeepTrying,
        };
        let client = Client::open(&config, by).map_err(|error| fault(&error, &self.address))?;
        Ok(Box::new(Session {
            client: Some(client),
            address: &self.address,
        }))
    }
}

struct Session<'a> {
    /// None once it was closed.
    client: Option<Client>,
    address: &'a str,
}

impl Session<'_> {
    fn ask<T>(
        &mut self,
        question: impl FnOnce(&mut Client) -> Result<T, Error>,
    ) -> Result<T, Fault> {
        let Some(client) = &mut self.client else {
            return Err(Kind::Unreachable.because("the session is closed"));
        };
        question(client).map_err(|error| fault(&error, self.address))
    }
}

impl Bmc for Session<'_> {
    fn chassis(&mut self, by: Instant) -> Result<Chassis, Fault> {
        let status = self.ask(|client| client.chassis_status(by))?;
        Ok(Chassis {
            power: if status.power_on {
                Power::On
            } else {
                Power::Off
            },
            control_fault: status.power_control_fault,
        })
    }

    fn control(&mut self, control: Control, by: Instant) -> Result<(), Fault> {
        let control = match control {
            Control::On => ipmi::Control::On,
            Control::Off => ipmi::Control::Off,
            Control::Cycle => ipmi::Control::Cycle,
            Control::Reset => ipmi::Control::Reset,
        };
        self.ask(|client| client.chassis_control(control, by))
    }

    fn session_guid(&self) -> Option<Guid> {
        self.client.as_ref().map(|client| Guid(client.guid().0))
    }

    fn system_guid(&mut self, by: Instant) -> Result<Option<Guid>, Fault> {
        self.ask(|client| client.system_guid(by))
            .map(|guid| Some(Guid(guid.0)))
    }

    fn restart_cause(&mut self, by: Instant) -> Result<u8, Fault> {
        self.ask(|client| client.restart_cause(by))
            .map(|cause| cause.0)
    }

    fn may_control(&self) -> Option<bool> {
        let client = self.client.as_ref()?;
        Some(client.privilege() >= ipmi::Privilege::Operator)
    }

    fn session(&self) -> String {
        let Some(client) = &self.client else {
            return "closed".into();
        };
        format!(
            "IPMI 2.0, cipher suite {}, privilege {}, {}",
            client.suite(),
            client.privilege(),
            client.peer()
        )
    }

    fn survey(&mut self, by: Instant) -> Vec<(&'static str, String)> {
        let or_fault =
            |answer: Result<String, Fault>| answer.unwrap_or_else(|fault| fault.to_string());
        let status = self.ask(|client| client.chassis_status(by));
        let policy = status.as_ref().map(|status| match status.restore_policy {
            0 => "stays off".to_owned(),
            1 => "as before".to_owned(),
            2 => "always on".to_owned(),
            _ => "unknown".to_owned(),
        });
        let faults = status.as_ref().map(|status| {
            let faults = [
                (status.overload, "overload"),
                (status.interlock, "interlock"),
                (status.power_fault, "power fault"),
                (status.power_control_fault, "power control fault"),
            ];
            let named: Vec<&str> = faults
                .iter()
                .filter(|(present, _)| *present)
                .map(|(_, name)| *name)
                .collect();
            match named.is_empty() {
                true => "none".to_owned(),
                false => named.join(", "),
            }
        });
        let (policy, faults) = (policy.map_err(Fault::clone), faults.map_err(Fault::clone));
        let suites = self.ask(|client| client.cipher_suites(by)).map(|suites| {
            let suites: Vec<String> = suites.iter().map(ToString::to_string).collect();
            suites.join(", ")
        });
        let guid = self.system_guid(by).map(|guid| match guid {
            Some(guid) => guid.to_string(),
            None => "none".to_owned(),
        });
        let cause = self.ask(|client| client.restart_cause(by));
        let device = self.ask(|client| client.device_id(by));
        vec![
            ("Power faults", or_fault(faults)),
            ("When mains returns", or_fault(policy)),
            (
                "Last start by",
                or_fault(cause.map(|cause| cause.to_string())),
            ),
            ("System GUID", or_fault(guid)),
            ("Cipher suites", or_fault(suites)),
            ("BMC", or_fault(device.map(|device| device.to_string()))),
        ]
    }

    fn close(&mut self, by: Instant) {
        if let Some(client) = self.client.take() {
            if let Err(error) = client.close(by) {
                log::debug!("closing the session: {error}");
            }
        }
    }
}

/// What an error of the protocol means here. It begins with the address, which every message of
/// this agent does.
fn fault(error: &Error, address: &str) -> Fault {
    let kind = match error.kind() {
        ErrorKind::Config | ErrorKind::System => Kind::Setup,
        // Names may be resolved again.
        ErrorKind::Address | ErrorKind::Unreachable => Kind::Unreachable,
        ErrorKind::NoIpmi20 => Kind::NoIpmi20,
        ErrorKind::NoCommonSuite => Kind::NoCommonSuite,
        ErrorKind::UnknownUser => Kind::UnknownUser,
        ErrorKind::WrongPassword => Kind::WrongPassword,
        ErrorKind::WrongKg => Kind::WrongKg,
        ErrorKind::PrivilegeTooLow => Kind::Privilege,
        ErrorKind::SessionsExhausted => Kind::NoSession,
        ErrorKind::Busy => Kind::Busy,
        ErrorKind::NotInThisState => Kind::NotNow,
        ErrorKind::Completion(_) => Kind::Refused,
        ErrorKind::Protocol => Kind::Protocol,
        ErrorKind::Deadline => Kind::TimedOut,
        ErrorKind::PossiblyExecuted => Kind::Unsure,
        ErrorKind::Interrupted => Kind::Interrupted,
    };
    let text = error.to_string();
    let rest = text
        .strip_prefix(address)
        .and_then(|rest| rest.split_once(": "));
    kind.because(rest.map_or(text.as_str(), |(_, rest)| rest))
}
