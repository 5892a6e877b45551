//! Sessions of ipmitool, replayed: from the same numbers come the same datagrams, and what the
//! BMC answered then is accepted.

use super::Session;
use crate::command::CHASSIS_CONTROL;
use crate::config::{Privilege, Secret};
use crate::crypto::BLOCK;
use crate::handshake::{Handshake, Login, Nonces, Proposal, Step};
use crate::message::{CHASSIS, Request};
use crate::suite::Suite;
use crate::wire::{self, Packet};

/// Where a login message has its tag. ipmitool has 0 in all of them, we have not.
const TAG: usize = 16;

/// The datagrams to the BMC and from it, in turn, without those of IPMI 1.5.
fn exchanges(text: &str) -> Vec<(Vec<u8>, Vec<u8>)> {
    let datagrams: Vec<(char, Vec<u8>)> = text
        .lines()
        .filter_map(|line| line.split_at_checked(2))
        .filter(|(way, _)| matches!(*way, "> " | "< "))
        .map(|(way, hex)| {
            let bytes = Secret::from_hex(hex).unwrap();
            (way.chars().next().unwrap(), bytes.as_bytes().to_vec())
        })
        .filter(|(_, bytes)| matches!(wire::decode(bytes), Some(Packet::V20(_))))
        .collect();
    datagrams
        .chunks(2)
        .map(|pair| match pair {
            [('>', request), ('<', answer)] => (request.clone(), answer.clone()),
            _ => panic!("not in turn"),
        })
        .collect()
}

fn replay(text: &str, login: &Login, suite: Suite) {
    let all = exchanges(text);
    let (opening, inside) = all.split_at(3);
    let rakp1 = &opening[1].0;
    let nonces = Nonces {
        tag: 0,
        console: u32::from_le_bytes(opening[0].0[20..24].try_into().unwrap()),
        random: rakp1[24..40].try_into().unwrap(),
    };
    let proposal = Proposal {
        suite,
        privilege: Privilege::Administrator,
        explicit: false,
        name_only: true,
    };
    let (mut handshake, mut datagram) = Handshake::new(login, proposal, nonces);
    let mut session = None;
    for (tag, (request, answer)) in (0..).zip(opening) {
        let (mut request, mut answer) = (request.clone(), answer.clone());
        request[TAG] = tag;
        answer[TAG] = tag;
        assert_eq!(datagram, request, "message {tag}");
        match handshake.receive(&answer) {
            Step::Send(next) => datagram = next,
            Step::Open(open) => session = Some(*open),
            Step::Ignored => panic!("answer {tag} is ignored"),
            Step::Refused(refusal) => panic!("answer {tag} is refused: {refusal:?}"),
        }
    }
    let mut session: Session = session.expect("a session");
    let mut controls = Vec::new();
    for (datagram, answer) in inside {
        let Some(Packet::V20(packet)) = wire::decode(datagram) else {
            panic!("not decoded")
        };
        let message = packet.open(&session.keys).expect("signed by ipmitool");
        let request = Request::decode(&message).unwrap();
        let iv: [u8; BLOCK] = datagram[16..32].try_into().unwrap();
        session.wind_on(packet.sequence - 1, request.number);
        assert_eq!(&session.send(&request, iv), datagram);
        let mut late = session.clone();
        let answer_taken = session.receive(&request, answer).expect("an answer");
        if (request.function, request.command) == (CHASSIS, CHASSIS_CONTROL) {
            controls.push((request.data.clone(), answer_taken.completion));
        }
        assert_eq!(session.receive(&request, answer), None, "a replay");
        let other = Request {
            number: (request.number + 1) % 64,
            ..request
        };
        assert_eq!(late.receive(&other, answer), None, "to another request");
    }
    assert!(inside.len() >= 3, "privilege, command, end");
    assert_eq!(controls, [(vec![0], 0)]);
}

#[test]
fn suite_17() {
    let login = Login {
        username: b"admin".to_vec(),
        password: "secret".into(),
        kg: Secret::default(),
    };
    let text = include_str!("../../tests/recorded/suite17.txt");
    replay(text, &login, Suite::S17);
}

#[test]
fn suite_3_with_a_key() {
    let login = Login {
        username: b"admin".to_vec(),
        password: "test".into(),
        kg: "abcdefghijklmnopqrs".into(),
    };
    let text = include_str!("../../tests/recorded/suite3.txt");
    replay(text, &login, Suite::S3);
}
