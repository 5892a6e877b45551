//! An open session: which datagrams are part of it, and which of them is the answer.

#[cfg(test)]
mod recorded;

use crate::crypto::{BLOCK, Keys};
use crate::message::{Answer, Request};
use crate::wire::{self, Packet};

/// Answers are taken if their sequence number is at most this far ahead of the highest so far:
/// more than can get lost before a session is given up.
const AHEAD: u32 = 64;
/// And if they are less than this far behind, each once.
const BEHIND: u32 = 32;

/// An open session.
#[derive(Clone)]
pub(crate) struct Session {
    console: u32,
    managed: u32,
    guid: [u8; 16],
    keys: Keys,
    /// Sequence number of the last datagram sent.
    sent: u32,
    received: Window,
    /// Number of the next request.
    next: u8,
}

impl Session {
    pub(crate) fn new(console: u32, managed: u32, guid: [u8; 16], keys: Keys) -> Session {
        Session {
            console,
            managed,
            guid,
            keys,
            sent: 0,
            received: Window::default(),
            next: 0,
        }
    }

    /// The BMC's, as it was proved by RAKP message 2.
    pub(crate) fn guid(&self) -> [u8; 16] {
        self.guid
    }

    /// The BMC's id of this session.
    pub(crate) fn managed(&self) -> u32 {
        self.managed
    }

    /// A request with a number of its own.
    pub(crate) fn request(&mut self, function: u8, command: u8, data: &[u8]) -> Request {
        self.next = (self.next + 1) % 64;
        Request {
            number: self.next,
            function,
            command,
            data: data.to_vec(),
        }
    }

    /// A datagram with this request. A repetition gets a sequence number of its own: a BMC drops
    /// a number that it has seen. `iv` has to be random each time.
    pub(crate) fn send(&mut self, request: &Request, iv: [u8; BLOCK]) -> Vec<u8> {
        self.sent = following(self.sent);
        wire::sealed(&self.keys, self.managed, self.sent, &request.encode(), iv)
    }

    /// The answer to this request, if that is what the datagram is: of this session, signed,
    /// not seen before, and to this very request.
    pub(crate) fn receive(&mut self, request: &Request, datagram: &[u8]) -> Option<Answer> {
        let Packet::V20(packet) = wire::decode(datagram)? else {
            return None;
        };
        if packet.session != self.console || packet.payload_type != wire::IPMI {
            return None;
        }
        let message = packet.open(&self.keys)?;
        if !self.received.admit(packet.sequence) {
            return None;
        }
        request.answer(&message, self.keys.signs())
    }

    #[cfg(any(test, feature = "testing"))]
    pub(crate) fn wind_on(&mut self, sent: u32, number: u8) {
        self.sent = sent;
        self.next = number;
    }
}

/// The next sequence number; 0 is that of packets outside of any session.
pub(crate) fn following(sequence: u32) -> u32 {
    sequence.checked_add(1).unwrap_or(1)
}

/// Sequence numbers that have been received.
#[derive(Clone, Debug, Default)]
pub(crate) struct Window {
    highest: u32,
    /// Bit n: the number n below the highest was received.
    seen: u32,
}

impl Window {
    /// May a packet with this number be taken? Not twice.
    pub(crate) fn admit(&mut self, sequence: u32) -> bool {
        if sequence == 0 {
            return false;
        }
        // The keys are this session's, so the first packet is new whatever its number.
        let first = self.highest == 0;
        let ahead = sequence.wrapping_sub(self.highest);
        let behind = self.highest.wrapping_sub(sequence);
        if first || (ahead != 0 && ahead <= AHEAD) {
            self.seen = self.seen.checked_shl(ahead).unwrap_or(0) | 1;
            self.highest = sequence;
            return true;
        }
        let fresh = behind < BEHIND && self.seen >> behind & 1 == 0;
        if fresh {
            self.seen |= 1 << behind;
        }
        fresh
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn numbers_wrap_without_zero() {
        assert_eq!(following(0), 1);
        assert_eq!(following(u32::MAX), 1);
        let mut window = Window {
            highest: u32::MAX,
            seen: 1,
        };
        assert!(!window.admit(0));
        assert!(window.admit(1));
        assert!(window.admit(u32::MAX - 1));
        assert!(!window.admit(u32::MAX));
        assert!(!window.admit(u32::MAX - 1));
        assert!(!window.admit(1));
    }

    #[test]
    fn only_a_little_ahead_or_behind() {
        let mut window = Window::default();
        assert!(window.admit(1000));
        assert!(window.admit(1000 - BEHIND + 1));
        assert!(!window.admit(1000 - BEHIND));
        assert!(!window.admit(1000 + AHEAD + 1));
        assert!(window.admit(1000 + AHEAD));
        assert!(!window.admit(1000), "seen, and long ago");
    }

    proptest! {
        #[test]
        fn none_is_taken_twice(start in any::<u32>(), steps in prop::collection::vec(-80i32..80, 1..200)) {
            let mut window = Window { highest: start, seen: 1 };
            let mut taken = std::collections::HashSet::from([start]);
            let mut at = start;
            for step in steps {
                at = at.wrapping_add_signed(step);
                if window.admit(at) {
                    prop_assert!(at != 0 && taken.insert(at), "{} twice", at);
                }
            }
        }
    }
}
