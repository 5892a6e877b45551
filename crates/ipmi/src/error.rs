//! What can go wrong, by what a caller would do about it.

use std::fmt;

/// What went wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// The configuration is impossible; nothing was sent.
    Config,
    /// The host name has no address, or the address is none.
    Address,
    /// Nothing was heard from the BMC, or the network says that nothing is there.
    Unreachable,
    /// Something answers, but it does not speak IPMI 2.0 (RMCP+).
    NoIpmi20,
    /// The BMC has none of the cipher suites asked for.
    NoCommonSuite,
    /// The BMC does not know the user, or the user may not log in over the network.
    UnknownUser,
    /// The BMC proved that it knows another password for this user.
    WrongPassword,
    /// The password is right, and the BMC's key (Kg) is not.
    WrongKg,
    /// The user may not have this privilege, or the command needs more.
    PrivilegeTooLow,
    /// The BMC has no free session; the deadline came before one was.
    SessionsExhausted,
    /// The BMC kept saying that it is busy, until the deadline.
    Busy,
    /// Completion code D5h: the command makes no sense in the present state, such as "off" where
    /// power is off on some BMCs. Read the state again.
    NotInThisState,
    /// Another completion code that says no.
    Completion(u8),
    /// What was heard contradicts the protocol: a weaker algorithm than asked for, an answer that
    /// is too short, another machine than before.
    Protocol,
    /// The deadline came while the BMC was answering, but had not yet answered this.
    Deadline,
    /// A command that must not be sent twice (cycle, reset, diagnostic interrupt) was sent, and
    /// its answer was lost: it may have been executed or not.
    PossiblyExecuted,
    /// [`crate::Config::interrupted`] became true.
    Interrupted,
    /// This machine could not do its part: no socket, no random numbers.
    System,
}

impl ErrorKind {
    pub(crate) fn because(self, message: impl Into<String>) -> Error {
        Error {
            kind: self,
            message: message.into(),
            possibly_executed: self == ErrorKind::PossiblyExecuted,
        }
    }
}

/// What went wrong: one line without secrets, and a [`kind`](Error::kind) to decide by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    kind: ErrorKind,
    message: String,
    possibly_executed: bool,
}

impl Error {
    /// What to decide by.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// Was a chassis control command sent whose answer is not known? Then the power state has to
    /// be read again before anything is concluded, whatever [`kind`](Error::kind) says.
    pub fn possibly_executed(&self) -> bool {
        self.possibly_executed
    }

    /// The same error, about a control command that has been sent.
    pub(crate) fn after_sending(mut self) -> Error {
        self.possibly_executed = true;
        self
    }

    /// The same error, saying of what.
    pub(crate) fn about(mut self, what: impl fmt::Display) -> Error {
        self.message = format!("{what}: {}", self.message);
        self
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {}
