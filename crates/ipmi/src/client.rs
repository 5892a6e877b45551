//! The driver: one UDP socket, the clock, and what to do when nothing comes back.

mod link;
mod opening;
mod socket;

use std::time::{Duration, Instant};

use crate::command::{
    ChassisStatus, Command, Control, DeviceId, Guid, RestartCause, cipher_suite_ids,
    completion_text,
};
use crate::config::{Config, Privilege, Refused};
use crate::error::{Error, ErrorKind};
use crate::handshake::Proposal;
use crate::message::Answer;

use link::{Heard, Link};
use opening::Opening;

/// First wait for an answer, and the longest.
const FIRST_WAIT: Duration = Duration::from_millis(250);
/// First wait for an answer while a session is opened: a new attempt costs the BMC more than a
/// repetition, and old BMCs take long for their hashes.
const FIRST_OPENING_WAIT: Duration = Duration::from_millis(500);
const LONGEST_WAIT: Duration = Duration::from_secs(2);
/// A session in which so many datagrams in a row are not answered is given up for a new one.
const TRIES: u32 = 4;
/// How long to wait for the answer to a command that is sent only once.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long [`Client::cipher_suites`] waits at most: many BMCs never answer it.
const CURIOSITY: Duration = Duration::from_secs(2);

/// The clock. Deadlines are on it.
#[expect(
    clippy::disallowed_methods,
    reason = "the one place where this crate looks at the clock"
)]
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// A session with a BMC.
///
/// It is opened again by itself if the BMC loses it. Every call takes the moment by which it has
/// to be back, and is back by then. The session is closed when this is dropped; [`Client::close`]
/// also waits for the BMC to say so.
pub struct Client {
    config: Config,
    opening: Opening,
    link: Link,
    privilege: Privilege,
    /// The slowest answer so far.
    slowest: Duration,
}

impl Client {
    /// Opens a session: negotiates, logs in and takes the privilege.
    ///
    /// # Errors
    /// Any kind but those of single commands; see [`ErrorKind`]. A BMC without a free session is
    /// asked again until the deadline.
    pub fn open(config: &Config, deadline: Instant) -> Result<Client, Error> {
        config.check()?;
        let mut opening = Opening::new(config, deadline)?;
        let link = opening
            .link(config, deadline)
            .map_err(|error| error.about(config.place()))?;
        let mut client = Client {
            config: config.clone(),
            opening,
            link,
            privilege: Privilege::User,
            slowest: Duration::ZERO,
        };
        match client.take_privilege(deadline) {
            Ok(()) => Ok(client),
            Err(error) => Err(error.about(config.place())),
        }
    }

    /// The state of the power.
    ///
    /// # Errors
    /// See [`ErrorKind`]. It is asked again until the deadline if no answer comes or the BMC is
    /// busy, in a new session if need be.
    pub fn chassis_status(&mut self, deadline: Instant) -> Result<ChassisStatus, Error> {
        self.ask(&Command::chassis_status(), ChassisStatus::decode, deadline)
    }

    /// Switches power. That the BMC says yes does not mean that it is done, or ever will be: read
    /// the state until it is.
    ///
    /// # Errors
    /// See [`ErrorKind`]. Off and on are sent again until the deadline if no answer comes, in a
    /// new session if need be. Cycle, reset and diag are sent once; if their answer does not come
    /// within 5 s, or the BMC does not tell whether it obeyed, the error is
    /// [`ErrorKind::PossiblyExecuted`].
    ///
    /// A network that holds datagrams back can deliver the first of two copies after everything
    /// that followed. So leave some seconds between an off and the on after it, and look again.
    pub fn chassis_control(&mut self, control: Control, deadline: Instant) -> Result<(), Error> {
        self.ask(&Command::chassis_control(control), |_| Some(()), deadline)
    }

    /// Why the machine last started.
    ///
    /// # Errors
    /// See [`ErrorKind`].
    pub fn restart_cause(&mut self, deadline: Instant) -> Result<RestartCause, Error> {
        self.ask(&Command::restart_cause(), RestartCause::decode, deadline)
    }

    /// Which BMC this is.
    ///
    /// # Errors
    /// See [`ErrorKind`].
    pub fn device_id(&mut self, deadline: Instant) -> Result<DeviceId, Error> {
        self.ask(&Command::device_id(), DeviceId::decode, deadline)
    }

    /// The GUID of the machine, as the BMC tells it when asked. Optional in IPMI:
    /// [`ErrorKind::Completion`] if the BMC has none.
    ///
    /// # Errors
    /// See [`ErrorKind`].
    pub fn system_guid(&mut self, deadline: Instant) -> Result<Guid, Error> {
        self.ask(&Command::system_guid(), Guid::decode, deadline)
    }

    /// The ids of the cipher suites the BMC says it has, for diagnosis only: some do not answer,
    /// others list what they refuse.
    ///
    /// # Errors
    /// See [`ErrorKind`]. Waits for 2 s at most.
    pub fn cipher_suites(&mut self, deadline: Instant) -> Result<Vec<u8>, Error> {
        let deadline = deadline.min(now() + CURIOSITY);
        let mut records = Vec::new();
        for piece in 0..64 {
            let part = self.ask(
                &Command::cipher_suites(piece),
                |data| data.get(1..).map(<[u8]>::to_vec),
                deadline,
            )?;
            records.extend(&part);
            if part.len() < 16 {
                break;
            }
        }
        Ok(cipher_suite_ids(&records))
    }

    /// The BMC's identity, signed with the password when the session was opened (unlike
    /// [`Client::system_guid`] it costs nothing). It stays the same while this client lives.
    pub fn guid(&self) -> Guid {
        Guid(self.link.session().guid())
    }

    /// The cipher suite in use.
    pub fn suite(&self) -> u8 {
        self.proposal().suite.id()
    }

    /// The privilege the session has: less than configured if [`Config::or_operator`] was needed.
    pub fn privilege(&self) -> Privilege {
        self.privilege
    }

    /// The address that answered.
    pub fn peer(&self) -> std::net::SocketAddr {
        self.link.peer()
    }

    /// Closes the session, and waits for the BMC to say so: 0.5 s, or up to 4 s if it has been slow.
    ///
    /// # Errors
    /// See [`ErrorKind`]. The session is then left to the BMC, which ends it after about a minute.
    pub fn close(mut self, deadline: Instant) -> Result<(), Error> {
        let deadline = deadline.min(now() + 2 * self.first_wait());
        // Closing is what an interrupted program still has to do.
        self.config.interrupted = None;
        let close = Command::close_session(self.link.session().managed());
        let outcome = self.in_session(&close, deadline, &mut 0);
        // Once said, it need not be said again by dropping.
        self.link.closed();
        match outcome {
            Ok(Some(_)) => Ok(()),
            Ok(None) => Err(self.silence(&close)),
            Err(error) => Err(error),
        }
        .map_err(|error| error.about(self.config.place()))
    }

    fn proposal(&self) -> Proposal {
        self.link.proposal()
    }

    /// A command, and its answer decoded.
    fn ask<T>(
        &mut self,
        command: &Command,
        decode: impl Fn(&[u8]) -> Option<T>,
        deadline: Instant,
    ) -> Result<T, Error> {
        let decoded = self.call(command, deadline).and_then(|data| {
            decode(&data).ok_or_else(|| {
                ErrorKind::Protocol.because(format!(
                    "{}: an answer of {} bytes is too short",
                    command.name,
                    data.len()
                ))
            })
        });
        decoded.map_err(|error| error.about(self.config.place()))
    }

    /// A command and the data of its answer; the session is opened again if need be.
    fn call(&mut self, command: &Command, deadline: Instant) -> Result<Vec<u8>, Error> {
        let mut sent = 0;
        let outcome = loop {
            match self.in_session(command, deadline, &mut sent) {
                Ok(Some(data)) => break Ok(data),
                Ok(None) => {}
                Err(error) => break Err(error),
            }
            if let Err(error) = self.reopen(deadline) {
                break Err(error.about(command.name));
            }
        };
        outcome.map_err(|error| {
            // One refusal of one datagram is the only way to know that nothing was done.
            let refused = matches!(
                error.kind(),
                ErrorKind::PrivilegeTooLow | ErrorKind::NotInThisState | ErrorKind::Completion(_)
            );
            if command.controls && sent > 0 && !(refused && sent == 1) {
                error.after_sending()
            } else {
                error
            }
        })
    }

    /// A command within the present session; `sent` counts its datagrams. None: the session
    /// seems to be lost.
    fn in_session(
        &mut self,
        command: &Command,
        deadline: Instant,
        sent: &mut u32,
    ) -> Result<Option<Vec<u8>>, Error> {
        let mut unanswered = 0;
        let mut wait = self.first_wait();
        let mut trouble = None;
        let mut request = self.link.request(command);
        while unanswered < TRIES {
            if now() >= deadline {
                return Err(trouble.unwrap_or_else(|| self.silence(command)));
            }
            self.link.send(&request)?;
            *sent += 1;
            let begin = now();
            let patience = if command.repeatable { wait } else { PATIENCE };
            let until = deadline.min(begin + patience);
            match self.link.listen(&request, until, self.config.interrupted) {
                Heard::Answer(answer) => {
                    self.slowest = self.slowest.max(now() - begin);
                    match judge(command, answer)? {
                        Verdict::Done(data) => return Ok(Some(data)),
                        Verdict::Busy(error) => trouble = Some(error),
                    }
                    (unanswered, wait) = (0, self.first_wait());
                    self.pause(FIRST_WAIT, deadline)?;
                    request = self.link.request(command);
                }
                Heard::Interrupted => return Err(socket::interrupted()),
                Heard::Silence | Heard::Refused(_) if !command.repeatable => {
                    return Err(ErrorKind::PossiblyExecuted.because(format!(
                        "{}: no answer: it may have been executed or not",
                        command.name
                    )));
                }
                Heard::Refused(error) => {
                    let error = socket::unreachable(&error);
                    if self.config.refused == Refused::Fail {
                        return Err(error);
                    }
                    trouble = Some(error);
                    self.pause(until.saturating_duration_since(now()), deadline)?;
                    unanswered += 1;
                }
                Heard::Silence => {
                    unanswered += 1;
                    wait = (wait * 2).min(LONGEST_WAIT);
                }
            }
        }
        Ok(None)
    }

    /// Sets the session's privilege: it begins as user's, whatever was asked for (section 22.18).
    fn take_privilege(&mut self, deadline: Instant) -> Result<(), Error> {
        let wanted = self.proposal().privilege;
        match self.set_privilege(wanted, deadline) {
            Err(error)
                if error.kind() == ErrorKind::PrivilegeTooLow
                    && self.config.or_operator
                    && wanted > Privilege::Operator =>
            {
                self.set_privilege(Privilege::Operator, deadline)
            }
            outcome => outcome,
        }
    }

    fn set_privilege(&mut self, wanted: Privilege, deadline: Instant) -> Result<(), Error> {
        // There is no level to ask for below user's.
        if wanted > Privilege::Callback {
            let answer = self.call(&Command::set_privilege(wanted), deadline);
            granted(wanted, answer)?;
        }
        self.privilege = wanted;
        Ok(())
    }

    /// A new session in place of one that is not answered any more, with the same privilege.
    fn reopen(&mut self, deadline: Instant) -> Result<(), Error> {
        let before = self.guid();
        loop {
            // If it was only the network, this frees the BMC's slot.
            self.link.say_goodbye();
            self.link = self.opening.link(&self.config, deadline)?;
            if self.guid() != before {
                return Err(ErrorKind::Protocol.because(format!(
                    "another BMC answers than before: GUID {} where it was {before}",
                    self.guid()
                )));
            }
            // A new session has user's privilege.
            if self.privilege <= Privilege::User {
                return Ok(());
            }
            let set = Command::set_privilege(self.privilege);
            if let Some(data) = self.in_session(&set, deadline, &mut 0).transpose() {
                return granted(self.privilege, data);
            }
        }
    }

    /// Long enough for a slow BMC not to be asked twice.
    fn first_wait(&self) -> Duration {
        (self.slowest * 3).clamp(FIRST_WAIT, LONGEST_WAIT)
    }

    fn pause(&self, time: Duration, deadline: Instant) -> Result<(), Error> {
        socket::pause(deadline.min(now() + time), self.config.interrupted)
    }

    /// Nothing came until the deadline.
    fn silence(&self, command: &Command) -> Error {
        ErrorKind::Unreachable.because(format!("{}: the BMC does not answer", command.name))
    }
}

/// What an answer means.
enum Verdict {
    Done(Vec<u8>),
    Busy(Error),
}

fn judge(command: &Command, answer: Answer) -> Result<Verdict, Error> {
    let code = answer.completion;
    let said = format!("{}: {} ({code:02X}h)", command.name, completion_text(code));
    let kind = match code {
        0x00 => return Ok(Verdict::Done(answer.data)),
        // Not even begun.
        0xc0 | 0xd0..=0xd2 => ErrorKind::Busy,
        // Begun or not.
        0xc3 | 0xce | 0xff if command.repeatable => ErrorKind::Busy,
        0xc3 | 0xce | 0xff => {
            let message = format!("{said}: it may have been executed or not");
            return Err(ErrorKind::PossiblyExecuted.because(message));
        }
        0xd4 => ErrorKind::PrivilegeTooLow,
        0xd5 => ErrorKind::NotInThisState,
        code => ErrorKind::Completion(code),
    };
    match kind {
        ErrorKind::Busy => Ok(Verdict::Busy(
            kind.because(format!("{said} until the deadline")),
        )),
        _ => Err(kind.because(said)),
    }
}

/// Is this the answer to Set Session Privilege Level that grants it?
fn granted(wanted: Privilege, answer: Result<Vec<u8>, Error>) -> Result<(), Error> {
    let too_low = |what: String| {
        ErrorKind::PrivilegeTooLow.because(format!("{wanted} privilege is not granted: {what}"))
    };
    match answer {
        Ok(data) => match data.first().map(|level| level & 0x0f) {
            Some(level) if level >= wanted.level() => Ok(()),
            Some(level) => Err(too_low(format!("the BMC grants level {level}"))),
            None => Err(too_low("the BMC does not tell the level".to_owned())),
        },
        Err(error) => Err(match error.kind() {
            // Not for this user; above the limit of the channel or of the user.
            ErrorKind::Completion(0x80 | 0x81) | ErrorKind::PrivilegeTooLow => {
                too_low(error.to_string())
            }
            _ => error,
        }),
    }
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client")
            .field("peer", &self.peer())
            .field("suite", &self.suite())
            .field("privilege", &self.privilege)
            .field("guid", &self.guid())
            .finish_non_exhaustive()
    }
}
