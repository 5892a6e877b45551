//! Bytes from anywhere, into everything that takes bytes from the network. Nothing here may
//! panic, and nothing may be believed.

use std::time::Instant;

use crate::command::{
    ChassisStatus, DeviceId, Guid, RestartCause, cipher_suite_ids, speaks_ipmi20,
};
use crate::config::{Privilege, Secret};
use crate::crypto::Keys;
use crate::handshake::{Handshake, Login, Nonces, Proposal, Step};
use crate::message::{APP, Answer, CHASSIS, Request};
use crate::session::Session;
use crate::suite::Suite;
use crate::testing::server::{Server, Setup};
use crate::wire::{self, Packet};

/// One datagram into every decoder.
pub fn decoders(bytes: &[u8]) {
    let request = Request {
        number: 1,
        function: APP,
        command: 1,
        data: Vec::new(),
    };
    for message in [Some(bytes), payload(bytes)].into_iter().flatten() {
        let answer = request.answer(message, true);
        let data = answer.as_ref().map_or(message, |answer| &answer.data);
        let _ = ChassisStatus::decode(data);
        let _ = DeviceId::decode(data);
        let _ = Guid::decode(data);
        let _ = RestartCause::decode(data);
        let _ = speaks_ipmi20(data);
        let _ = cipher_suite_ids(data);
        let _ = Request::decode(message);
    }
}

fn payload(bytes: &[u8]) -> Option<&[u8]> {
    match wire::decode(bytes)? {
        Packet::V15(message) => Some(message),
        Packet::V20(packet) => packet.sessionless(),
    }
}

/// Datagrams into an attempt to open a session, at each of its states, and into the session it
/// becomes. The first byte chooses state and suite; the rest are datagrams, each with its length
/// in one byte before it.
///
/// # Panics
/// If anything is believed that did not come from the BMC: a session is opened, or an answer taken.
pub fn client(bytes: &[u8]) {
    let Some((choice, mut rest)) = bytes.split_first() else {
        return;
    };
    let suite = if choice & 0x10 == 0 {
        Suite::S17
    } else {
        Suite::S3
    };
    let login = login();
    let (mut server, mut handshake, mut datagram) = beginning(&login, suite);
    let mut session = None;
    for _ in 0..choice & 0x03 {
        let Some(answer) = server.receive(&datagram, now()).pop() else {
            break;
        };
        match handshake.receive(&answer) {
            Step::Send(next) => datagram = next,
            Step::Open(open) => session = Some(*open),
            Step::Ignored | Step::Refused(_) => break,
        }
    }
    let mut request = session.as_mut().map(|open| open.request(CHASSIS, 1, &[]));
    while let Some((len, more)) = rest.split_first() {
        let (datagram, more) = more.split_at(usize::from(*len).min(more.len()));
        rest = more;
        // With and without a header, which is hard to guess.
        for datagram in [datagram.to_vec(), in_header(*choice, datagram)] {
            if let (Some(open), Some(request)) = (&mut session, &mut request) {
                assert_eq!(
                    open.receive(request, &datagram),
                    None,
                    "an answer from nobody"
                );
            } else if let Step::Open(_) = handshake.receive(&datagram) {
                panic!("a session with nobody");
            }
        }
    }
}

/// Datagrams into the BMC for tests, in the form of [`client`].
pub fn server(bytes: &[u8]) {
    let login = login();
    let (mut server, ..) = beginning(&login, Suite::S17);
    let mut rest = bytes;
    while let Some((len, more)) = rest.split_first() {
        let (datagram, more) = more.split_at(usize::from(*len).min(more.len()));
        rest = more;
        for answer in server.receive(&in_header(*len, datagram), now()) {
            assert!(
                wire::decode(&answer).is_some(),
                "it answers what it cannot read"
            );
        }
    }
}

/// A message of a session that is signed rightly, and may be anything.
pub fn signed(bytes: &[u8]) {
    for suite in Suite::ALL {
        let keys = Keys::derive(suite, b"key");
        let mut session = Session::new(1, 2, [0; 16], keys.clone());
        session.wind_on(u32::MAX, 63);
        let request = session.request(CHASSIS, 1, &[]);
        let datagram = wire::sealed(&keys, 1, 1, bytes, [3; 16]);
        let answer = session.receive(&request, &datagram);
        let expected = request.answer(bytes, keys.signs());
        assert_eq!(answer, expected);
        if let Some(Answer { data, .. }) = answer {
            let _ = ChassisStatus::decode(&data);
        }
        assert_eq!(session.receive(&request, &datagram), None, "a replay");
    }
}

fn login() -> Login {
    Login {
        username: b"admin".to_vec(),
        password: Secret::from("secret"),
        kg: Secret::default(),
    }
}

fn beginning(login: &Login, suite: Suite) -> (Server, Handshake<'_>, Vec<u8>) {
    let server = Server::new(Setup::new("admin", "secret"), || [7; 16]);
    let proposal = Proposal {
        suite,
        privilege: Privilege::Administrator,
        explicit: false,
        name_only: true,
    };
    let nonces = Nonces {
        tag: 1,
        console: 2,
        random: [3; 16],
    };
    let (handshake, datagram) = Handshake::new(login, proposal, nonces);
    (server, handshake, datagram)
}

/// The bytes as payload of the type that `choice` chooses.
fn in_header(choice: u8, payload: &[u8]) -> Vec<u8> {
    let types = [
        wire::OPEN_REQUEST,
        wire::OPEN_RESPONSE,
        wire::RAKP1,
        wire::RAKP2,
        wire::RAKP3,
        wire::RAKP4,
        wire::IPMI,
        0xc0,
    ];
    let kind = types.get(usize::from(choice & 0x07)).copied();
    wire::sessionless(kind.unwrap_or_default(), payload)
}

fn now() -> Instant {
    Instant::now()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn any_bytes(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            decoders(&bytes);
            client(&bytes);
            server(&bytes);
            signed(&bytes);
        }

        #[test]
        fn any_answers_at_each_state(
            choice in any::<u8>(),
            answers in prop::collection::vec((0u8..4, prop::collection::vec(any::<u8>(), 0..90)), 1..4),
        ) {
            let mut bytes = vec![choice];
            for (tag, answer) in answers {
                // Tag, status and the console's session id are right more often than by chance.
                let head = [tag, 0, 0, 0, 2, 0, 0, 0];
                bytes.push((head.len() + answer.len()) as u8);
                bytes.extend(head);
                bytes.extend(answer);
            }
            client(&bytes);
            server(&bytes);
        }
    }

    #[test]
    fn all_states_are_reached() {
        let login = login();
        for suite in Suite::ALL {
            let (mut server, mut handshake, mut datagram) = beginning(&login, suite);
            if suite.id() == 0 {
                continue;
            }
            let mut opened = false;
            for _ in 0..3 {
                let answer = server.receive(&datagram, now()).pop().unwrap();
                match handshake.receive(&answer) {
                    Step::Send(next) => datagram = next,
                    Step::Open(_) => opened = true,
                    _ => panic!("suite {}", suite.id()),
                }
            }
            assert!(opened, "suite {}", suite.id());
        }
    }
}
