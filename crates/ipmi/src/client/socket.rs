//! A UDP socket that never waits beyond what it is told, and hears from one peer only.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::client::now;
use crate::error::{Error, ErrorKind};
use crate::wire::DATAGRAM_MAX;

/// How often an interruption is looked for; a signal that ends a system call is noticed at once.
const SLICE: Duration = Duration::from_millis(200);

pub(super) struct Socket {
    socket: UdpSocket,
    peer: SocketAddr,
    buffer: Box<[u8; DATAGRAM_MAX]>,
    /// Why the last datagram could not be sent.
    unsent: Option<io::Error>,
}

/// What came of waiting.
pub(super) enum Received<'a> {
    Datagram(&'a [u8]),
    Silence,
    /// The network says that nobody is there.
    Refused(io::Error),
    Interrupted,
}

impl Socket {
    /// Connected, so that the kernel drops what others send, and reports refusals.
    pub(super) fn connect(peer: SocketAddr) -> io::Result<Socket> {
        let any = match peer {
            SocketAddr::V4(_) => SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)),
            SocketAddr::V6(_) => SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)),
        };
        let socket = UdpSocket::bind(any)?;
        socket.connect(peer)?;
        socket.set_write_timeout(Some(SLICE))?;
        Ok(Socket {
            socket,
            peer,
            buffer: Box::new([0; DATAGRAM_MAX]),
            unsent: None,
        })
    }

    pub(super) fn peer(&self) -> SocketAddr {
        self.peer
    }

    /// Sends, or makes the next [`receive`](Socket::receive) say why not.
    pub(super) fn send(&mut self, datagram: &[u8]) {
        // The first error may be about an earlier datagram; it takes the place of sending this.
        let sent = self
            .socket
            .send(datagram)
            .or_else(|_| self.socket.send(datagram));
        self.unsent = sent.err();
    }

    pub(super) fn receive(
        &mut self,
        until: Instant,
        interrupted: Option<&AtomicBool>,
    ) -> Received<'_> {
        if let Some(error) = self.unsent.take() {
            return Received::Refused(error);
        }
        loop {
            if is_set(interrupted) {
                return Received::Interrupted;
            }
            let left = until.saturating_duration_since(now());
            if left.is_zero() {
                return Received::Silence;
            }
            let wait = left.min(SLICE).max(Duration::from_millis(1));
            if let Err(error) = self.socket.set_read_timeout(Some(wait)) {
                return Received::Refused(error);
            }
            match self.socket.recv(&mut self.buffer[..]) {
                Ok(len) => return Received::Datagram(self.buffer.get(..len).unwrap_or_default()),
                Err(error) => match error.kind() {
                    io::ErrorKind::WouldBlock
                    | io::ErrorKind::TimedOut
                    | io::ErrorKind::Interrupted => {}
                    _ => return Received::Refused(error),
                },
            }
        }
    }
}

pub(super) fn is_set(interrupted: Option<&AtomicBool>) -> bool {
    interrupted.is_some_and(|flag| flag.load(Ordering::Relaxed))
}

/// Does nothing until then.
#[expect(
    clippy::disallowed_methods,
    reason = "bounded by the caller's deadline, and ended by an interruption"
)]
pub(super) fn pause(until: Instant, interrupted: Option<&AtomicBool>) -> Result<(), Error> {
    loop {
        if is_set(interrupted) {
            return Err(self::interrupted());
        }
        let left = until.saturating_duration_since(now());
        if left.is_zero() {
            return Ok(());
        }
        std::thread::sleep(left.min(SLICE));
    }
}

pub(super) fn interrupted() -> Error {
    ErrorKind::Interrupted.because("interrupted by a signal")
}

pub(super) fn unreachable(error: &io::Error) -> Error {
    ErrorKind::Unreachable.because(format!("nothing answers there: {error}"))
}
