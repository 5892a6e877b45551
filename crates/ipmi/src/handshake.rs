//! One attempt to open a session (section 13.14): Open Session, and RAKP messages 1 to 4.
//!
//! Bytes come in, bytes or a verdict come out; there is no socket, no clock and no randomness in
//! here. An attempt that gets no answer is dropped, and another one begins with new numbers: a
//! BMC that has seen half of one does not take the same numbers again.

use crate::config::{Privilege, Secret};
use crate::crypto::{Bytes, Exchanged, Keys, equal};
use crate::error::ErrorKind;
use crate::session::Session;
use crate::suite::Suite;
use crate::wire::{self, Packet};

/// Bit of the role: look the user up by name, whatever the privilege.
const NAME_ONLY: u8 = 0x10;

/// What attempts have in common.
#[derive(Clone, Debug)]
pub(crate) struct Login {
    pub(crate) username: Vec<u8>,
    pub(crate) password: Secret,
    /// Empty if there is none.
    pub(crate) kg: Secret,
}

/// What one attempt asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Proposal {
    pub(crate) suite: Suite,
    pub(crate) privilege: Privilege,
    /// Name the privilege in Open Session, instead of asking for the highest there is.
    pub(crate) explicit: bool,
    /// Let the BMC look the user up by name only.
    pub(crate) name_only: bool,
}

/// The random numbers of one attempt.
#[derive(Clone, Copy)]
pub(crate) struct Nonces {
    /// Tags of the three messages are this one and the next two.
    pub(crate) tag: u8,
    /// Our session id; 0 is not one, and is replaced.
    pub(crate) console: u32,
    pub(crate) random: [u8; 16],
}

/// An attempt.
pub(crate) struct Handshake<'a> {
    login: &'a Login,
    proposal: Proposal,
    nonces: Nonces,
    stage: Stage,
}

/// What it waits for.
enum Stage {
    OpenResponse,
    Rakp2 { managed: u32 },
    Rakp4(Box<Proven>),
    Nothing,
}

/// The BMC has proved that it knows the password.
struct Proven {
    exchanged: Exchanged,
    sik: Bytes,
}

/// What came of a datagram.
pub(crate) enum Step {
    /// It is not for this attempt; wait on.
    Ignored,
    /// Send this and wait on.
    Send(Vec<u8>),
    /// The session is open.
    Open(Box<Session>),
    /// It will not be.
    Refused(Refusal),
}

/// Why it will not be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) kind: RefusalKind,
    pub(crate) message: String,
    /// To send, so that the BMC frees what it has reserved.
    pub(crate) farewell: Option<Vec<u8>>,
}

/// What could be tried next depends on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RefusalKind {
    /// Not with this suite.
    Suite,
    /// Not with this privilege, said to Open Session.
    OpenPrivilege,
    /// Not with this role or name, said to RAKP message 1 or 3.
    Role(ErrorKind),
    /// Nothing can be changed about it.
    Final(ErrorKind),
    /// Perhaps a little later.
    Later(ErrorKind),
}

impl<'a> Handshake<'a> {
    /// An attempt, and its first datagram.
    pub(crate) fn new(
        login: &'a Login,
        proposal: Proposal,
        mut nonces: Nonces,
    ) -> (Handshake<'a>, Vec<u8>) {
        nonces.console = nonces.console.max(1);
        let privilege = if proposal.explicit {
            proposal.privilege.level()
        } else {
            0
        };
        let mut request = vec![nonces.tag, privilege, 0, 0];
        request.extend(nonces.console.to_le_bytes());
        for (kind, number) in (0..).zip(proposal.suite.numbers()) {
            request.extend([kind, 0, 0, 8, number, 0, 0, 0]);
        }
        let handshake = Handshake {
            login,
            proposal,
            nonces,
            stage: Stage::OpenResponse,
        };
        (handshake, wire::sessionless(wire::OPEN_REQUEST, &request))
    }

    /// Takes in a datagram.
    pub(crate) fn receive(&mut self, datagram: &[u8]) -> Step {
        let Some(Packet::V20(packet)) = wire::decode(datagram) else {
            return Step::Ignored;
        };
        let Some(payload) = packet.sessionless() else {
            return Step::Ignored;
        };
        let step = match (&self.stage, packet.payload_type) {
            (Stage::OpenResponse, wire::OPEN_RESPONSE) => self.open_response(payload),
            (Stage::Rakp2 { managed }, wire::RAKP2) => self.rakp2(*managed, payload),
            (Stage::Rakp4(proven), wire::RAKP4) => self.rakp4(proven, payload),
            _ => None,
        };
        let Some((step, stage)) = step else {
            return Step::Ignored;
        };
        self.stage = stage;
        step
    }

    /// None: not for this attempt.
    fn open_response(&self, payload: &[u8]) -> Option<(Step, Stage)> {
        let (head, rest) = self.head(payload, 0)?;
        if head.status != 0 {
            return Some(self.refused(Message::Open, head.status, None));
        }
        let (managed, algorithms) = rest.split_first_chunk::<4>()?;
        let managed = u32::from_le_bytes(*managed);
        let chosen = algorithms.first_chunk::<24>()?;
        let wanted = self.proposal.suite.numbers();
        // The number stands at the fifth of eight bytes.
        let given = [chosen[4], chosen[12], chosen[20]].map(|number| number & 0x3f);
        if given != wanted {
            return Some(self.failed(
                RefusalKind::Final(ErrorKind::Protocol),
                format!(
                    "the BMC answered algorithms {given:?} where {wanted:?} (suite {}) were asked for",
                    self.proposal.suite.id()
                ),
                None,
            ));
        }
        if managed == 0 {
            return Some(self.failed(
                RefusalKind::Final(ErrorKind::Protocol),
                "the BMC opened a session with the reserved id 0".to_owned(),
                None,
            ));
        }
        let mut request = vec![self.nonces.tag.wrapping_add(1), 0, 0, 0];
        request.extend(managed.to_le_bytes());
        request.extend(self.nonces.random);
        request.extend([self.role(), 0, 0, self.login.username.len() as u8]);
        request.extend(&self.login.username);
        Some((
            Step::Send(wire::sessionless(wire::RAKP1, &request)),
            Stage::Rakp2 { managed },
        ))
    }

    fn rakp2(&self, managed: u32, payload: &[u8]) -> Option<(Step, Stage)> {
        let (head, rest) = self.head(payload, 1)?;
        if head.status != 0 {
            return Some(self.refused(Message::Rakp2, head.status, None));
        }
        let (managed_random, rest) = rest.split_first_chunk::<16>()?;
        let (guid, proof) = rest.split_first_chunk::<16>()?;
        let exchanged = Exchanged {
            auth: self.proposal.suite.auth,
            console: self.nonces.console,
            managed,
            console_random: self.nonces.random,
            managed_random: *managed_random,
            guid: *guid,
            role: self.role(),
            username: self.login.username.clone(),
        };
        let password = self.login.password.as_bytes();
        if !equal(&exchanged.rakp2(password), proof) {
            return Some(self.failed(
                RefusalKind::Final(ErrorKind::WrongPassword),
                format!("wrong password for {}", self.user()),
                Some(self.rakp3(managed, INVALID_PROOF, &[])),
            ));
        }
        let key = match self.login.kg.as_bytes() {
            [] => password,
            kg => kg,
        };
        let sik = exchanged.sik(key);
        let request = self.rakp3(managed, 0, &exchanged.rakp3(password));
        Some((
            Step::Send(request),
            Stage::Rakp4(Box::new(Proven { exchanged, sik })),
        ))
    }

    fn rakp4(&self, proven: &Proven, payload: &[u8]) -> Option<(Step, Stage)> {
        let (head, proof) = self.head(payload, 2)?;
        if head.status != 0 {
            return Some(self.refused(Message::Rakp4, head.status, None));
        }
        let Proven { exchanged, sik } = proven;
        if !equal(&exchanged.rakp4(sik), proof) {
            let key = if self.login.kg.as_bytes().is_empty() {
                "the password is right, but the BMC wants a key (Kg) too, and none is configured"
            } else {
                "the password is right, but the key (Kg) is wrong"
            };
            let kind = RefusalKind::Final(ErrorKind::WrongKg);
            return Some(self.failed(kind, key.to_owned(), None));
        }
        let session = Session::new(
            exchanged.console,
            exchanged.managed,
            exchanged.guid,
            Keys::derive(self.proposal.suite, sik),
        );
        Some((Step::Open(Box::new(session)), Stage::Nothing))
    }

    fn rakp3(&self, managed: u32, status: u8, proof: &[u8]) -> Vec<u8> {
        let mut request = vec![self.nonces.tag.wrapping_add(2), status, 0, 0];
        request.extend(managed.to_le_bytes());
        request.extend(proof);
        wire::sessionless(wire::RAKP3, &request)
    }

    /// What all answers begin with, if this one is ours.
    fn head<'p>(&self, payload: &'p [u8], nth: u8) -> Option<(Head, &'p [u8])> {
        let (&[tag, status], rest) = payload.split_first_chunk()?;
        if tag != self.nonces.tag.wrapping_add(nth) {
            return None;
        }
        let (id, rest) = match rest.split_first_chunk::<6>() {
            Some((&[_, _, a, b, c, d], rest)) => (u32::from_le_bytes([a, b, c, d]), rest),
            None => (0, &[][..]),
        };
        // A BMC that refuses does not always tell whom; OpenIPMI's simulator ends with the status.
        let ours = id == self.nonces.console || (status != 0 && id == 0);
        ours.then_some((Head { status }, rest))
    }

    fn role(&self) -> u8 {
        let by_name = if self.proposal.name_only {
            NAME_ONLY
        } else {
            0
        };
        self.proposal.privilege.level() | by_name
    }

    fn user(&self) -> String {
        match self.login.username.as_slice() {
            [] => "the anonymous user".to_owned(),
            name => format!("user {:?}", String::from_utf8_lossy(name)),
        }
    }

    fn failed(
        &self,
        kind: RefusalKind,
        message: String,
        farewell: Option<Vec<u8>>,
    ) -> (Step, Stage) {
        let refusal = Refusal {
            kind,
            message,
            farewell,
        };
        (Step::Refused(refusal), Stage::Nothing)
    }

    fn refused(&self, to: Message, status: u8, farewell: Option<Vec<u8>>) -> (Step, Stage) {
        let Proposal {
            suite, privilege, ..
        } = self.proposal;
        let (kind, what) = match (status, to) {
            (0x01 | 0x0b, _) => (
                RefusalKind::Later(ErrorKind::SessionsExhausted),
                "the BMC has no free session".to_owned(),
            ),
            (0x02 | 0x08, _) => (
                RefusalKind::Later(ErrorKind::Deadline),
                "the BMC has forgotten the session that was being opened".to_owned(),
            ),
            (0x03..=0x07 | 0x10 | 0x11, _) => (
                RefusalKind::Suite,
                format!("the BMC does not have cipher suite {}", suite.id()),
            ),
            (0x09 | 0x0a | 0x12, Message::Open) => (
                RefusalKind::OpenPrivilege,
                format!("the BMC opens no session with {privilege} privilege"),
            ),
            (0x09 | 0x0a, _) => (
                RefusalKind::Role(ErrorKind::PrivilegeTooLow),
                format!("{} may not have {privilege} privilege", self.user()),
            ),
            (0x0c | 0x0d, _) => (
                RefusalKind::Role(ErrorKind::UnknownUser),
                format!("the BMC does not let in {}", self.user()),
            ),
            // Intel's BMCs compute this proof without the bit for lookup by name.
            (0x0f, _) => (
                RefusalKind::Role(ErrorKind::WrongPassword),
                format!("the BMC does not accept the password of {}", self.user()),
            ),
            (0x12, _) => (
                RefusalKind::Role(ErrorKind::Protocol),
                "the BMC does not understand a parameter of the login".to_owned(),
            ),
            _ => (
                RefusalKind::Final(ErrorKind::Protocol),
                "the BMC refuses the session".to_owned(),
            ),
        };
        self.failed(kind, format!("{what} ({to} says {status:02X}h)"), farewell)
    }
}

/// RAKP message 3 may say that what the BMC has proved is wrong: it ends the attempt there.
const INVALID_PROOF: u8 = 0x0f;

struct Head {
    status: u8,
}

/// The BMC's messages.
#[derive(Clone, Copy)]
enum Message {
    Open,
    Rakp2,
    Rakp4,
}

impl std::fmt::Display for Message {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Message::Open => "Open Session Response",
            Message::Rakp2 => "RAKP message 2",
            Message::Rakp4 => "RAKP message 4",
        })
    }
}
