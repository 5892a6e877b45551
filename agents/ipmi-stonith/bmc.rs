//! What fencing needs of a BMC, whatever speaks to it, and what can go wrong with that.

use std::fmt;
use std::time::{Duration, Instant};

use ocf::fence::Power;

use crate::guid::Guid;

/// A session with a BMC. Whatever it answers was authenticated by the BMC.
pub trait Bmc {
    /// The chassis's state, asked for now.
    fn chassis(&mut self, by: Instant) -> Result<Chassis, Fault>;
    /// Has the chassis do something. Ok: the BMC says that it will.
    fn control(&mut self, control: Control, by: Instant) -> Result<(), Fault>;
    /// The GUID that the BMC proved its identity with, if it did so.
    fn session_guid(&self) -> Option<Guid>;
    /// The GUID of the system, if the BMC knows it.
    fn system_guid(&mut self, by: Instant) -> Result<Option<Guid>, Fault>;
    /// Why the system last started, by the number in the specification (IPMI 2.0, table 28-11).
    fn restart_cause(&mut self, by: Instant) -> Result<u8, Fault>;
    /// May this session switch power? None where that shows only when it is tried.
    fn may_control(&self) -> Option<bool>;
    /// How the session is made up, for the log: cipher suite, privilege.
    fn session(&self) -> String;
    /// What the BMC offers, name by name, for an administrator.
    fn survey(&mut self, by: Instant) -> Vec<(&'static str, String)>;
    /// Ends the session. BMCs have few of them.
    fn close(&mut self, by: Instant);
}

/// Something that opens sessions with one BMC.
pub trait Opener {
    /// Opens a session; `by` is when to give up.
    fn open(&self, patience: Patience, by: Instant) -> Result<Box<dyn Bmc + '_>, Fault>;
}

/// What "nobody listens there" means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Patience {
    /// That is the answer.
    None,
    /// The BMC may be restarting: ask on.
    Some,
}

/// The chassis's state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Chassis {
    /// Has the system power?
    pub power: Power,
    /// The BMC reports that its power control failed.
    pub control_fault: bool,
}

/// What a chassis can be made to do. There is no graceful shutdown here: a node that has to be
/// fenced cannot be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Control {
    On,
    Off,
    /// Off, and on again, both by the BMC. Not repeatable.
    Cycle,
    /// Reset without taking the power. Not repeatable.
    Reset,
}

impl fmt::Display for Control {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Control::On => "on",
            Control::Off => "off",
            Control::Cycle => "cycle",
            Control::Reset => "reset",
        })
    }
}

/// Why a BMC did not do what it was asked for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{kind}{}{said}", if .said.is_empty() { "" } else { ": " })]
pub struct Fault {
    /// By what an administrator, and this agent, would do about it.
    pub kind: Kind,
    /// More about it, in one line; may be empty.
    pub said: String,
}

/// Kinds of faults.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// This node cannot ask at all.
    Setup,
    Unreachable,
    NoIpmi20,
    NoCommonSuite,
    UnknownUser,
    WrongPassword,
    WrongKg,
    Privilege,
    NoSession,
    Busy,
    /// The command makes no sense in the present state.
    NotNow,
    /// The BMC refuses for another reason.
    Refused,
    Protocol,
    TimedOut,
    /// A command that must not be repeated may or may not have been carried out.
    Unsure,
    WrongBmc,
    Interrupted,
}

/// What may follow from a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Prospect {
    /// It can pass by itself.
    MayPass,
    /// Somebody configured something wrong. A BMC in trouble says the same, so it is asked once
    /// more.
    Misconfigured,
    /// It stays so.
    Final,
}

impl Kind {
    /// A fault of this kind.
    pub fn because(self, said: impl Into<String>) -> Fault {
        Fault {
            kind: self,
            said: said.into(),
        }
    }

    pub fn prospect(self) -> Prospect {
        match self {
            Kind::Unreachable
            | Kind::NoSession
            | Kind::Busy
            | Kind::NotNow
            | Kind::Refused
            | Kind::Protocol
            | Kind::TimedOut
            | Kind::Unsure => Prospect::MayPass,
            Kind::NoIpmi20
            | Kind::NoCommonSuite
            | Kind::UnknownUser
            | Kind::WrongPassword
            | Kind::WrongKg
            | Kind::Privilege => Prospect::Misconfigured,
            Kind::Setup | Kind::WrongBmc | Kind::Interrupted => Prospect::Final,
        }
    }

    /// Did the BMC answer at all?
    pub fn is_silence(self) -> bool {
        matches!(self, Kind::Unreachable | Kind::TimedOut)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Kind::Setup => "cannot ask",
            Kind::Unreachable => "unreachable",
            Kind::NoIpmi20 => "does not speak IPMI 2.0",
            Kind::NoCommonSuite => "no common cipher suite",
            Kind::UnknownUser => "unknown user",
            Kind::WrongPassword => "wrong password",
            Kind::WrongKg => "wrong Kg",
            Kind::Privilege => "privilege too low",
            Kind::NoSession => "out of sessions",
            Kind::Busy => "busy",
            Kind::NotNow => "not possible in the present state",
            Kind::Refused => "refused",
            Kind::Protocol => "protocol violation",
            Kind::TimedOut => "timed out",
            Kind::Unsure => "possibly carried out",
            Kind::WrongBmc => "GUID mismatch",
            Kind::Interrupted => "interrupted by a signal",
        })
    }
}

/// The earlier of `by` and `time` from `now`.
pub fn within(by: Instant, now: Instant, time: Duration) -> Instant {
    by.min(now + time)
}
