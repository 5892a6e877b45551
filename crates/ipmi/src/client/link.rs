//! A session and the socket it runs over. It says goodbye when it goes.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use crate::client::socket::{Received, Socket};
use crate::command::Command;
use crate::error::{Error, ErrorKind};
use crate::handshake::Proposal;
use crate::message::{Answer, Request};
use crate::session::Session;

pub(super) struct Link {
    socket: Socket,
    session: Session,
    proposal: Proposal,
    open: bool,
}

/// What came of waiting for an answer.
pub(super) enum Heard {
    Answer(Answer),
    Silence,
    Refused(io::Error),
    Interrupted,
}

impl Link {
    pub(super) fn new(socket: Socket, session: Session, proposal: Proposal) -> Link {
        Link {
            socket,
            session,
            proposal,
            open: true,
        }
    }

    pub(super) fn session(&self) -> &Session {
        &self.session
    }

    pub(super) fn peer(&self) -> SocketAddr {
        self.socket.peer()
    }

    /// What was asked for and granted.
    pub(super) fn proposal(&self) -> Proposal {
        self.proposal
    }

    pub(super) fn request(&mut self, command: &Command) -> Request {
        self.session
            .request(command.function, command.number, &command.data)
    }

    pub(super) fn send(&mut self, request: &Request) -> Result<(), Error> {
        let datagram = self.session.send(request, random()?);
        self.socket.send(&datagram);
        Ok(())
    }

    /// Waits for the answer to this request, whatever else comes.
    pub(super) fn listen(
        &mut self,
        request: &Request,
        until: Instant,
        interrupted: Option<&AtomicBool>,
    ) -> Heard {
        loop {
            match self.socket.receive(until, interrupted) {
                Received::Datagram(datagram) => {
                    if let Some(answer) = self.session.receive(request, datagram) {
                        return Heard::Answer(answer);
                    }
                }
                Received::Silence => return Heard::Silence,
                Received::Refused(error) => return Heard::Refused(error),
                Received::Interrupted => return Heard::Interrupted,
            }
        }
    }

    /// The session has been closed.
    pub(super) fn closed(&mut self) {
        self.open = false;
    }

    /// Asks the BMC to close the session, without waiting for it.
    pub(super) fn say_goodbye(&mut self) {
        if std::mem::replace(&mut self.open, false) {
            let close = self.request(&Command::close_session(self.session.managed()));
            // Without random numbers the BMC has to find out by itself.
            let _ = self.send(&close);
        }
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.say_goodbye();
    }
}

/// Random bytes of the kernel.
pub(super) fn random<const N: usize>() -> Result<[u8; N], Error> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|error| {
        ErrorKind::System.because(format!("the kernel gives no random numbers: {error}"))
    })?;
    Ok(bytes)
}
