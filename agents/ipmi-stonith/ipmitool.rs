//! Access to a BMC by ipmitool: for IPMI 1.5, for bridging, and for whoever trusts it more.
//!
//! Each question is a process, and a session, of its own. The password is in the process's
//! environment, which only its owner can read, and never on its command line.

use std::cell::Cell;
use std::time::Instant;

use host::{Cmd, CmdError, Host, Output};
use ocf::fence::Power;

use crate::bmc::{Bmc, Chassis, Control, Fault, Kind, Opener, Patience};
use crate::guid::Guid;
use crate::ipmi::{Access, Auth, Privilege};

/// How often it sends a message again.
const RETRIES: u32 = 2;
/// The suites that are tried, best first, where none is configured.
const SUITES: &[u32] = &[17, 3];

/// ipmitool, and how to call it.
pub struct Ipmitool<'a> {
    access: Access,
    host: &'a Host,
    /// The suite that worked.
    suite: Cell<Option<u32>>,
}

impl<'a> Ipmitool<'a> {
    pub fn new(access: Access, host: &'a Host) -> Ipmitool<'a> {
        Ipmitool {
            suite: Cell::new(access.cipher),
            access,
            host,
        }
    }

    /// Runs it with these words; what it printed on standard output.
    fn ask(&self, words: &[&str], by: Instant) -> Result<String, Fault> {
        let suites = match self.suite.get() {
            Some(suite) => vec![suite],
            None => SUITES.to_vec(),
        };
        let mut outcome = Err(Kind::NoCommonSuite.because(""));
        for suite in suites {
            outcome = self.ask_with(suite, words, by);
            match &outcome {
                Err(fault) if fault.kind == Kind::NoCommonSuite => {}
                // Silence says nothing about a suite.
                Err(fault) if fault.kind.is_silence() => break,
                _ => {
                    self.suite.set(Some(suite));
                    break;
                }
            }
        }
        outcome
    }

    fn ask_with(&self, suite: u32, words: &[&str], by: Instant) -> Result<String, Fault> {
        let left = by.saturating_duration_since(self.host.now());
        let cmd = self.cmd(suite)?.args(words).at_most(left);
        match self.host.ask(&cmd) {
            Ok(output) if output.success() => Ok(output.stdout),
            Ok(output) => Err(fault(&output)),
            Err(CmdError::TimedOut { .. }) => {
                Err(Kind::TimedOut.because(format!("no answer within {:.1} s", left.as_secs_f32())))
            }
            Err(error) => Err(Kind::Setup.because(error.to_string())),
        }
    }

    fn cmd(&self, suite: u32) -> Result<Cmd, Fault> {
        let access = &self.access;
        let program = access.program.as_deref().unwrap_or("ipmitool");
        // -v: without it, a wrong password and a BMC that is not there look the same.
        let mut cmd = Cmd::new(program).arg("-v");
        cmd = match access.lanplus {
            true => cmd.args(["-I", "lanplus", "-C"]).arg(suite),
            false => cmd.args(["-I", "lan"]),
        };
        cmd = cmd
            .args(["-H", &access.address, "-p"])
            .arg(access.port)
            .args(["-U", &access.username, "-E"])
            .secret_env("IPMITOOL_PASSWORD", access.password.reveal())
            .args(["-L", privilege(access.privilege), "-N"])
            .arg(access.resend.as_secs().max(1))
            .arg("-R")
            .arg(RETRIES);
        if let Some(kg) = &access.kg {
            // -y would take hexadecimal, on the command line.
            let text = String::from_utf8(kg.clone())
                .ok()
                .filter(|text| !text.contains('\0'));
            let Some(text) = text else {
                return Err(Kind::Setup.because(
                    "hexadecimal_kg: ipmitool takes no key with such bytes; expected backend native",
                ));
            };
            cmd = cmd.arg("-K").secret_env("IPMI_KGKEY", text);
        }
        if let Some(auth) = access.auth.filter(|_| !access.lanplus) {
            cmd = cmd.args(["-A", auth_word(auth)]);
        }
        if let Some(target) = &access.target {
            cmd = cmd.args(["-t", target]);
        }
        Ok(cmd)
    }
}

impl Opener for Ipmitool<'_> {
    /// There is no session to open: whether one can be opened shows with the first question.
    fn open(&self, _: Patience, _: Instant) -> Result<Box<dyn Bmc + '_>, Fault> {
        Ok(Box::new(Session(self)))
    }
}

/// As much of a session as separate processes have.
struct Session<'a>(&'a Ipmitool<'a>);

impl Bmc for Session<'_> {
    fn chassis(&mut self, by: Instant) -> Result<Chassis, Fault> {
        let said = self.0.ask(&["chassis", "power", "status"], by)?;
        Ok(Chassis {
            power: power(&said)?,
            control_fault: false,
        })
    }

    fn control(&mut self, control: Control, by: Instant) -> Result<(), Fault> {
        let outcome = self.0.ask(&["chassis", "power", &control.to_string()], by);
        let repeatable = matches!(control, Control::On | Control::Off);
        outcome.map(drop).map_err(|fault| match fault.kind {
            Kind::TimedOut | Kind::Unreachable if !repeatable => Kind::Unsure.because(fault.said),
            _ => fault,
        })
    }

    fn session_guid(&self) -> Option<Guid> {
        None
    }

    fn system_guid(&mut self, by: Instant) -> Result<Option<Guid>, Fault> {
        let said = self.0.ask(&["mc", "guid"], by)?;
        let guid = value(&said, "System GUID").and_then(|text| text.parse().ok());
        Ok(guid)
    }

    fn restart_cause(&mut self, by: Instant) -> Result<u8, Fault> {
        let said = self.0.ask(&["chassis", "restart_cause"], by)?;
        match value(&said, "System restart cause") {
            // Its words for the first two numbers; the others it does not number either.
            Some("chassis power control command") => Ok(1),
            Some(_) => Ok(0),
            None => Err(Kind::Protocol.because("ipmitool did not name a cause")),
        }
    }

    fn may_control(&self) -> Option<bool> {
        (self.0.access.privilege < Privilege::Operator).then_some(false)
    }

    fn session(&self) -> String {
        match (self.0.access.lanplus, self.0.suite.get()) {
            (false, _) => "ipmitool, IPMI 1.5".into(),
            (true, Some(suite)) => format!("ipmitool, cipher suite {suite}"),
            (true, None) => "ipmitool".into(),
        }
    }

    fn survey(&mut self, by: Instant) -> Vec<(&'static str, String)> {
        let questions: [(&'static str, &[&str]); 4] = [
            ("System GUID", &["mc", "guid"]),
            ("Chassis", &["chassis", "status"]),
            ("Restart cause", &["chassis", "restart_cause"]),
            ("BMC", &["mc", "info"]),
        ];
        let answer = |words| match self.0.ask(words, by) {
            Ok(said) => said.lines().map(tidy).collect::<Vec<_>>().join("; "),
            Err(fault) => fault.to_string(),
        };
        questions.map(|(name, words)| (name, answer(words))).into()
    }

    fn close(&mut self, _: Instant) {}
}

/// A line of a table, without its padding.
fn tidy(line: &str) -> String {
    line.split_whitespace()
        .collect::<Vec<_>>()
        .join(" ")
        .replace(" :", ":")
}

/// What ipmitool says the power is. These words and no others: an error in the middle of its output
/// must not pass for a state.
fn power(said: &str) -> Result<Power, Fault> {
    let mut states = said.lines().filter_map(|line| match line.trim_end() {
        "Chassis Power is on" => Some(Power::On),
        "Chassis Power is off" => Some(Power::Off),
        _ => None,
    });
    match (states.next(), states.next()) {
        (Some(power), None) => Ok(power),
        _ => Err(Kind::Protocol.because("ipmitool did not say whether the power is on or off")),
    }
}

/// The value in a line `Name : value`.
fn value<'a>(said: &'a str, name: &str) -> Option<&'a str> {
    said.lines().find_map(|line| {
        let (before, value) = line.split_once(':')?;
        (before.trim() == name).then_some(value.trim())
    })
}

/// What ipmitool says when it fails, and what that means. The first that is found counts. From
/// ipmitool 1.8.19; some are of both `lan` and `lanplus`.
const COMPLAINTS: &[(&str, Kind)] = &[
    ("RAKP 2 HMAC is invalid", Kind::WrongPassword),
    (
        "RAKP 4 message has invalid integrity check value",
        Kind::WrongKg,
    ),
    ("unauthorized name", Kind::UnknownUser),
    ("Invalid user name", Kind::UnknownUser),
    ("unauthorized role", Kind::Privilege),
    ("invalid role", Kind::Privilege),
    ("unauthorized GUID", Kind::WrongBmc),
    ("no matching cipher suite", Kind::NoCommonSuite),
    ("invalid authentication algorithm", Kind::NoCommonSuite),
    ("invalid integrity algorithm", Kind::NoCommonSuite),
    ("invalid confidentiality algorithm", Kind::NoCommonSuite),
    ("no matching authentication payload", Kind::NoCommonSuite),
    ("no matching integrity payload", Kind::NoCommonSuite),
    ("Authentication type", Kind::NoCommonSuite),
    ("insufficient resources", Kind::NoSession),
    ("No available session slot", Kind::NoSession),
    ("No slot available", Kind::NoSession),
    ("Insufficient privilege", Kind::Privilege),
    ("exceeds user or channel limits", Kind::Privilege),
    ("not supported in present state", Kind::NotNow),
    ("Node busy", Kind::Busy),
    ("initialization in progress", Kind::Busy),
    ("Invalid command", Kind::Refused),
    ("Unspecified error", Kind::Refused),
    ("Activate Session command failed", Kind::WrongPassword),
    ("Activate Session error", Kind::WrongPassword),
    ("Address lookup for", Kind::Unreachable),
    ("Get Auth Capabilities error", Kind::Unreachable),
    ("Unable to establish", Kind::Unreachable),
    ("compcode = d4", Kind::Privilege),
];

/// The fault behind an exit status other than 0.
fn fault(output: &Output) -> Fault {
    let said = [output.stderr.as_str(), output.stdout.as_str()].concat();
    for (complaint, kind) in COMPLAINTS {
        if let Some(line) = said.lines().find(|line| line.contains(complaint)) {
            return kind.because(format!("ipmitool: {}", line.trim()));
        }
    }
    Kind::Protocol.because(format!("ipmitool: {output}"))
}

fn privilege(level: Privilege) -> &'static str {
    match level {
        Privilege::Callback => "CALLBACK",
        Privilege::User => "USER",
        Privilege::Operator => "OPERATOR",
        Privilege::Administrator => "ADMINISTRATOR",
    }
}

fn auth_word(auth: Auth) -> &'static str {
    match auth {
        Auth::Md5 => "MD5",
        Auth::Password => "PASSWORD",
        Auth::None => "NONE",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use host::cmd::Status;

    #[test]
    fn only_its_exact_words_are_a_state() {
        assert_eq!(power("Chassis Power is off\n").unwrap(), Power::Off);
        assert_eq!(
            power("Loading IANA PEN Registry...\nChassis Power is on\n").unwrap(),
            Power::On
        );
        for doubtful in [
            "",
            "off",
            "Chassis Power is offline",
            "Chassis Power is off?",
            "The Chassis Power is off",
            "Chassis Power is off\nChassis Power is on\n",
            "Chassis Power is off\nChassis Power is off\n",
        ] {
            assert_eq!(
                power(doubtful).unwrap_err().kind,
                Kind::Protocol,
                "{doubtful}"
            );
        }
    }

    /// The texts are those of ipmitool 1.8.19 against ipmi_sim.
    #[test]
    fn complaints_are_understood() {
        for (stderr, kind) in [
            (
                "> RAKP 2 HMAC is invalid\nError: Unable to establish IPMI v2 / RMCP+ session\n",
                Kind::WrongPassword,
            ),
            (
                "RAKP 2 message indicates an error : unauthorized name\nError: Unable to establish IPMI v2 / RMCP+ session\n",
                Kind::UnknownUser,
            ),
            (
                "> RAKP 4 message has invalid integrity check value\nError: Unable to establish\n",
                Kind::WrongKg,
            ),
            (
                "Error in open session response message : invalid authentication algorithm\n\nError: Unable to establish IPMI v2 / RMCP+ session\n",
                Kind::NoCommonSuite,
            ),
            (
                "Get Auth Capabilities error\nError issuing Get Channel Authentication Capabilities request\nError: Unable to establish IPMI v2 / RMCP+ session\n",
                Kind::Unreachable,
            ),
            (
                "Address lookup for nosuch.invalid failed\nCould not open socket!\n",
                Kind::Unreachable,
            ),
            (
                "Get HPM.x Capabilities request failed, compcode = d4\nSet Chassis Power Control to Down/Off failed: Insufficient privilege level\n",
                Kind::Privilege,
            ),
            (
                "Get Chassis Power Status failed: Unspecified error\n",
                Kind::Refused,
            ),
            (
                "Set Chassis Power Control to Down/Off failed: Command not supported in present state\n",
                Kind::NotNow,
            ),
            (
                "Invalid user name\nError: Unable to establish LAN session\n",
                Kind::UnknownUser,
            ),
            ("a riddle\n", Kind::Protocol),
        ] {
            let output = Output {
                status: Status::Exited(1),
                stdout: String::new(),
                stderr: stderr.into(),
            };
            assert_eq!(fault(&output).kind, kind, "{stderr}");
        }
    }
}
