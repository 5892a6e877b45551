//! The BMC's side of the protocol: bytes in, bytes out.

use std::time::{Duration, Instant};

use crate::command::{
    CHASSIS_CONTROL, CLOSE_SESSION, GET_AUTH_CAPABILITIES, GET_CHASSIS_STATUS, GET_CIPHER_SUITES,
    GET_DEVICE_ID, GET_RESTART_CAUSE, GET_SYSTEM_GUID, SET_PRIVILEGE,
};
use crate::config::Privilege;
use crate::crypto::{Bytes, Exchanged, Keys, equal};
use crate::message::{APP, Answer, CHASSIS, Request};
use crate::session::{Window, following};
use crate::suite::Suite;
use crate::testing::chassis::{Chassis, Hook};
use crate::wire::{self, Packet, V20};

/// Someone who may log in.
#[derive(Clone, Debug)]
pub struct User {
    /// Up to 16 bytes.
    pub name: String,
    /// Up to 20 bytes.
    pub password: String,
    /// The most the user may have.
    pub privilege: Privilege,
}

/// What a BMC is like.
pub struct Setup {
    /// Address and port to answer at; port 0 for any.
    pub bind: std::net::SocketAddr,
    /// Who may log in.
    pub users: Vec<User>,
    /// The BMC's key; empty for none.
    pub kg: Vec<u8>,
    /// Ids of the cipher suites it has, of 0, 1, 2, 3, 15, 16 and 17.
    pub suites: Vec<u8>,
    /// Its identity.
    pub guid: [u8; 16],
    /// How many sessions it has room for.
    pub slots: usize,
    /// Power at first.
    pub on: bool,
    /// Called with every change of the power.
    pub hook: Option<Box<dyn FnMut(bool) + Send>>,
}

impl Setup {
    /// One administrator, all suites but 0, four sessions, power on, at 127.0.0.1.
    pub fn new(name: &str, password: &str) -> Setup {
        let user = User {
            name: name.to_owned(),
            password: password.to_owned(),
            privilege: Privilege::Administrator,
        };
        Setup {
            bind: ([127, 0, 0, 1], 0).into(),
            users: vec![user],
            kg: Vec::new(),
            suites: vec![1, 2, 3, 15, 16, 17],
            guid: *b"\x44\x33\x22\x11hastor-guid\x01",
            slots: 4,
            on: true,
            hook: None,
        }
    }
}

/// What goes wrong. The default is nothing.
#[derive(Clone, Debug, Default)]
pub struct Faults {
    /// It answers nothing at all, and does nothing.
    pub silent: bool,
    /// It does what it is told, but the next so many answers in sessions get lost.
    pub lose_answers: u32,
    /// It takes so long for every answer.
    pub answer_delay: Duration,
    /// It sends the previous answer of the session again before each answer.
    pub stale_duplicates: bool,
    /// It does not answer Get Channel Cipher Suites.
    pub no_cipher_list: bool,
    /// It knows only IPMI 1.5.
    pub ipmi15: bool,
    /// It acknowledges power on, and nothing happens.
    pub ignore_on: bool,
    /// It acknowledges so many power offs, and nothing happens.
    pub ignore_offs: u32,
    /// Power goes off so long after it was told to.
    pub off_delay: Duration,
    /// It reports a power control fault.
    pub power_control_fault: bool,
    /// It refuses what is the case already, such as off when power is off, with D5h.
    pub strict: bool,
    /// Network function, command and completion code: the next such command is answered so, and
    /// not carried out. Each entry once.
    pub codes: Vec<(u8, u8, u8)>,
    /// As `codes`, for ever.
    pub always: Option<(u8, u8, u8)>,
    /// It has no free session.
    pub no_session: bool,
    /// Status of the next so many Open Session Responses.
    pub open_status: Vec<u8>,
    /// Status of the next so many RAKP messages 2.
    pub rakp2_status: Vec<u8>,
    /// Status of the next so many RAKP messages 4.
    pub rakp4_status: Vec<u8>,
    /// Status of its answer to algorithms that it does not have, instead of 11h; with 0 it does not answer.
    pub unknown_suite: Option<u8>,
    /// It opens sessions with this suite's algorithms, whatever was asked for.
    pub other_suite: Option<u8>,
    /// Its next so many proofs in RAKP message 2 are wrong.
    pub wrong_proofs: u32,
    /// It refuses to look users up by name only, as "unknown user".
    pub no_lookup_by_name: bool,
    /// It leaves the bit for lookup by name out of what RAKP message 3 proves.
    pub plain_role: bool,
    /// It refuses Open Session for the highest privilege, which is 0.
    pub explicit_privilege: bool,
    /// It opens sessions with more privilege than the user has, and refuses it afterwards.
    pub late_privilege: bool,
    /// It sends answers with a wrong checksum.
    pub wrong_checksums: bool,
    /// It refuses with tag and status alone.
    pub short_refusals: bool,
}

/// How many sessions there were.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sessions {
    /// Opened completely.
    pub opened: usize,
    /// Closed by command.
    pub closed: usize,
    /// Open now.
    pub open: usize,
    /// Begun and not (yet) opened.
    pub half_open: usize,
}

pub(super) struct Server {
    users: Vec<User>,
    kg: Vec<u8>,
    suites: Vec<u8>,
    pub(super) guid: [u8; 16],
    slots: usize,
    pub(super) chassis: Chassis,
    pub(super) faults: Faults,
    opened: usize,
    closed: usize,
    sessions: Vec<Slot>,
    /// Sets apart what has to be random.
    counter: u32,
    random: fn() -> [u8; 16],
}

struct Slot {
    console: u32,
    managed: u32,
    suite: Suite,
    stage: Stage,
}

enum Stage {
    Opened,
    Proving {
        exchanged: Exchanged,
        password: Bytes,
        user: Privilege,
    },
    Active(Active),
}

struct Active {
    keys: Keys,
    received: Window,
    sent: u32,
    privilege: u8,
    limit: u8,
    previous: Option<Vec<u8>>,
}

impl Server {
    pub(super) fn new(setup: Setup, random: fn() -> [u8; 16]) -> Server {
        let hook: Option<Hook> = setup.hook;
        Server {
            users: setup.users,
            kg: setup.kg,
            suites: setup.suites,
            guid: setup.guid,
            slots: setup.slots,
            chassis: Chassis::new(setup.on, hook),
            faults: Faults::default(),
            opened: 0,
            closed: 0,
            sessions: Vec::new(),
            counter: 0,
            random,
        }
    }

    pub(super) fn sessions(&self) -> Sessions {
        let active = |slot: &&Slot| matches!(slot.stage, Stage::Active(_));
        let open = self.sessions.iter().filter(active).count();
        Sessions {
            opened: self.opened,
            closed: self.closed,
            open,
            half_open: self.sessions.len() - open,
        }
    }

    pub(super) fn forget_sessions(&mut self) {
        self.sessions.clear();
    }

    /// Takes in a datagram; what to send.
    pub(super) fn receive(&mut self, datagram: &[u8], now: Instant) -> Vec<Vec<u8>> {
        if self.faults.silent {
            return Vec::new();
        }
        match wire::decode(datagram) {
            Some(Packet::V15(message)) => {
                let answer = self.outside(message);
                answer.iter().map(|answer| wire::v15(answer)).collect()
            }
            Some(Packet::V20(_)) if self.faults.ipmi15 => Vec::new(),
            Some(Packet::V20(packet)) => match packet.sessionless() {
                // ipmitool asks for the cipher suites in this format.
                Some(message) if packet.payload_type == wire::IPMI => {
                    let answer = self.outside(message);
                    let datagram = |answer: &Vec<u8>| wire::sessionless(wire::IPMI, answer);
                    answer.iter().map(datagram).collect()
                }
                Some(payload) => self
                    .login(packet.payload_type, payload)
                    .into_iter()
                    .collect(),
                None => self.inside(&packet, now),
            },
            None => Vec::new(),
        }
    }

    /// A message outside of any session.
    fn outside(&mut self, message: &[u8]) -> Option<Vec<u8>> {
        let request = Request::decode(message)?;
        let answer = match (request.function, request.command) {
            (APP, GET_AUTH_CAPABILITIES) => self.capabilities(&request.data),
            (APP, GET_CIPHER_SUITES) => self.cipher_suites(&request.data)?,
            _ => failure(0xd4),
        };
        Some(request.encode_answer(&answer))
    }

    fn capabilities(&self, data: &[u8]) -> Answer {
        let v20 = !self.faults.ipmi15 && data.first().is_some_and(|channel| channel & 0x80 != 0);
        let kg = u8::from(!self.kg.is_empty()) << 5;
        success(if v20 {
            vec![1, 0x80, 0x04 | kg, 0x03, 0, 0, 0, 0]
        } else {
            vec![1, 0x04, 0x04, 0, 0, 0, 0, 0]
        })
    }

    fn cipher_suites(&self, data: &[u8]) -> Option<Answer> {
        if self.faults.no_cipher_list {
            return None;
        }
        let suites = self.suites.iter().filter_map(|id| Suite::from_id(*id));
        let records: Vec<u8> = suites
            .flat_map(|suite| {
                let [auth, integrity, encryption] = suite.numbers();
                [0xc0, suite.id(), auth, 0x40 | integrity, 0x80 | encryption]
            })
            .collect();
        let piece = data.get(2).map_or(0, |index| usize::from(index & 0x3f));
        let mut answer = vec![1];
        answer.extend(records.chunks(16).nth(piece).unwrap_or_default());
        Some(success(answer))
    }

    /// A message of the login.
    fn login(&mut self, payload_type: u8, payload: &[u8]) -> Option<Vec<u8>> {
        let (&[tag, status, _, _, a, b, c, d], rest) = payload.split_first_chunk()?;
        let id = u32::from_le_bytes([a, b, c, d]);
        let (kind, outcome) = match payload_type {
            wire::OPEN_REQUEST => (wire::OPEN_RESPONSE, self.open(status, id, rest)),
            wire::RAKP1 => (wire::RAKP2, self.rakp1(id, rest)?),
            wire::RAKP3 if status != 0 => {
                self.sessions.retain(|slot| slot.managed != id);
                return None;
            }
            wire::RAKP3 => (wire::RAKP4, self.rakp3(id, rest)?),
            _ => return None,
        };
        if payload_type == wire::OPEN_REQUEST && outcome.status == 0 && outcome.rest.is_empty() {
            return None;
        }
        let console = match payload_type {
            wire::OPEN_REQUEST => id,
            _ => outcome.console,
        };
        let mut answer = vec![tag, outcome.status];
        if outcome.status == 0 || !self.faults.short_refusals {
            answer.extend([outcome.privilege, 0]);
            answer.extend(console.to_le_bytes());
        }
        answer.extend(outcome.rest);
        Some(wire::sessionless(kind, &answer))
    }

    fn open(&mut self, privilege: u8, console: u32, algorithms: &[u8]) -> Said {
        if let Some(status) = pop(&mut self.faults.open_status) {
            return Said::no(status, console);
        }
        if self.faults.explicit_privilege && privilege == 0 {
            return Said::no(0x09, console);
        }
        let Some(chosen) = algorithms.first_chunk::<24>() else {
            return Said::no(0x12, console);
        };
        let suite = Suite::from_numbers([chosen[4], chosen[12], chosen[20]]);
        let Some(mut suite) = suite.filter(|suite| self.suites.contains(&suite.id())) else {
            return Said::no(self.faults.unknown_suite.unwrap_or(0x11), console);
        };
        if let Some(other) = self.faults.other_suite.and_then(Suite::from_id) {
            suite = other;
        }
        if self.sessions.len() >= self.slots {
            // An opening that was given up makes room.
            let half = |slot: &Slot| !matches!(slot.stage, Stage::Active(_));
            if let Some(at) = self.sessions.iter().position(half) {
                self.sessions.remove(at);
            }
        }
        if self.faults.no_session || self.sessions.len() >= self.slots {
            return Said::no(0x01, console);
        }
        self.counter = self.counter.wrapping_add(1).max(1);
        let managed = 0x0200_0000 | self.counter;
        self.sessions.push(Slot {
            console,
            managed,
            suite,
            stage: Stage::Opened,
        });
        let mut rest = managed.to_le_bytes().to_vec();
        for (kind, number) in (0..).zip(suite.numbers()) {
            rest.extend([kind, 0, 0, 8, number, 0, 0, 0]);
        }
        Said {
            status: 0,
            console,
            privilege: Privilege::Administrator.level(),
            rest,
        }
    }

    fn rakp1(&mut self, managed: u32, rest: &[u8]) -> Option<Said> {
        let at = self.slot(managed)?;
        let (console_random, rest) = rest.split_first_chunk::<16>()?;
        let (&[role, _, _, len], name) = rest.split_first_chunk()?;
        let name = name.get(..usize::from(len))?;
        let managed_random = (self.random)();
        let guid = self.guid;
        let user = self.users.iter().find(|user| user.name.as_bytes() == name);
        let slot = self.sessions.get_mut(at)?;
        let console = slot.console;
        if !matches!(slot.stage, Stage::Opened) {
            return Some(Said::no(0x02, console));
        }
        if let Some(status) = pop(&mut self.faults.rakp2_status) {
            return Some(Said::no(status, console));
        }
        let by_name = role & 0x10 != 0;
        let Some(user) = user.filter(|_| !(by_name && self.faults.no_lookup_by_name)) else {
            self.sessions.remove(at);
            return Some(Said::no(0x0d, console));
        };
        if role & 0x0f > user.privilege.level() && !self.faults.late_privilege {
            self.sessions.remove(at);
            return Some(Said::no(0x0a, console));
        }
        let exchanged = Exchanged {
            auth: slot.suite.auth,
            console,
            managed,
            console_random: *console_random,
            managed_random,
            guid,
            role,
            username: name.to_vec(),
        };
        let password = Bytes::new(user.password.clone().into_bytes());
        let mut proof = exchanged.rakp2(&password);
        if self.faults.wrong_proofs > 0 {
            self.faults.wrong_proofs -= 1;
            proof.iter_mut().for_each(|byte| *byte ^= 0x55);
        }
        let rest = [&managed_random[..], &guid, &proof].concat();
        slot.stage = Stage::Proving {
            exchanged,
            password,
            user: user.privilege,
        };
        Some(Said::yes(console, rest))
    }

    fn rakp3(&mut self, managed: u32, proof: &[u8]) -> Option<Said> {
        let at = self.slot(managed)?;
        let slot = self.sessions.get_mut(at)?;
        let (suite, console) = (slot.suite, slot.console);
        let Stage::Proving {
            exchanged,
            password,
            user,
        } = &slot.stage
        else {
            return Some(Said::no(0x08, console));
        };
        if let Some(status) = pop(&mut self.faults.rakp4_status) {
            self.sessions.remove(at);
            return Some(Said::no(status, console));
        }
        let mut expected = exchanged.clone();
        if self.faults.plain_role {
            expected.role &= 0x0f;
        }
        if !equal(&expected.rakp3(password), proof) {
            self.sessions.remove(at);
            return Some(Said::no(0x0f, console));
        }
        let key = if self.kg.is_empty() {
            password
        } else {
            &self.kg[..]
        };
        let sik = exchanged.sik(key);
        let rest = exchanged.rakp4(&sik).to_vec();
        slot.stage = Stage::Active(Active {
            keys: Keys::derive(suite, &sik),
            received: Window::default(),
            sent: 0,
            privilege: Privilege::User.level(),
            limit: user.level().min(exchanged.role & 0x0f),
            previous: None,
        });
        self.opened += 1;
        Some(Said::yes(console, rest))
    }

    fn slot(&self, managed: u32) -> Option<usize> {
        self.sessions
            .iter()
            .position(|slot| slot.managed == managed)
    }

    /// A message inside a session.
    fn inside(&mut self, packet: &V20<'_>, now: Instant) -> Vec<Vec<u8>> {
        self.answer(packet, now).unwrap_or_default()
    }

    fn answer(&mut self, packet: &V20<'_>, now: Instant) -> Option<Vec<Vec<u8>>> {
        let at = self.slot(packet.session)?;
        let Stage::Active(active) = &mut self.sessions.get_mut(at)?.stage else {
            return None;
        };
        let message = packet.open(&active.keys)?;
        if packet.payload_type != wire::IPMI || !active.received.admit(packet.sequence) {
            return None;
        }
        let request = Request::decode(&message)?;
        let answer = self.execute(at, &request, now)?;
        let closing = request.command == CLOSE_SESSION && answer.completion == 0;
        let slot = self.sessions.get_mut(at)?;
        let console = slot.console;
        let Stage::Active(active) = &mut slot.stage else {
            return None;
        };
        active.sent = following(active.sent);
        let mut message = request.encode_answer(&answer);
        if self.faults.wrong_checksums {
            message.iter_mut().rev().take(1).for_each(|sum| *sum ^= 1);
        }
        let iv = (self.random)();
        let datagram = wire::sealed(&active.keys, console, active.sent, &message, iv);
        let previous = active.previous.replace(datagram.clone());
        if request.function == APP && closing {
            self.sessions.remove(at);
            self.closed += 1;
        }
        if self.faults.lose_answers > 0 {
            self.faults.lose_answers -= 1;
            return None;
        }
        let stale = previous.filter(|_| self.faults.stale_duplicates);
        Some(stale.into_iter().chain([datagram]).collect())
    }

    /// None: no answer.
    fn execute(&mut self, at: usize, request: &Request, now: Instant) -> Option<Answer> {
        let asked = (request.function, request.command);
        if let Some((.., code)) = self.faults.always.filter(|(f, c, _)| (*f, *c) == asked) {
            return Some(failure(code));
        }
        let mut codes = self.faults.codes.iter();
        if let Some(n) = codes.position(|(f, c, _)| (*f, *c) == asked) {
            return Some(failure(self.faults.codes.remove(n).2));
        }
        let slot = self.sessions.get_mut(at)?;
        let managed = slot.managed;
        let Stage::Active(active) = &mut slot.stage else {
            return None;
        };
        Some(match asked {
            (APP, GET_DEVICE_ID) => {
                success(vec![0x20, 1, 1, 0x23, 0x02, 0xbf, 0x91, 0x12, 0, 2, 0x0f])
            }
            (APP, GET_SYSTEM_GUID) => success(self.guid.to_vec()),
            (APP, GET_AUTH_CAPABILITIES) => self.capabilities(&request.data),
            (APP, GET_CIPHER_SUITES) => self.cipher_suites(&request.data)?,
            (APP, SET_PRIVILEGE) => match request.data.first().map(|level| level & 0x0f) {
                Some(0) => success(vec![active.privilege]),
                Some(level @ 2..=4) if level <= active.limit => {
                    active.privilege = level;
                    success(vec![level])
                }
                Some(2..=4) => failure(0x81),
                _ => failure(0xcc),
            },
            (APP, CLOSE_SESSION) if request.data == managed.to_le_bytes() => success(Vec::new()),
            (APP, CLOSE_SESSION) => failure(0x87),
            (CHASSIS, GET_CHASSIS_STATUS) => {
                let fault = u8::from(self.faults.power_control_fault) << 4;
                let on = u8::from(self.chassis.is_on(now));
                success(vec![0x60 | fault | on, 0x10, 0x40])
            }
            (CHASSIS, CHASSIS_CONTROL) if active.privilege < Privilege::Operator.level() => {
                failure(0xd4)
            }
            (CHASSIS, CHASSIS_CONTROL) => match request.data.first() {
                Some(control) => failure(self.chassis.control(*control, &mut self.faults, now)),
                None => failure(0xc7),
            },
            (CHASSIS, GET_RESTART_CAUSE) => success(vec![0x01, 0x01]),
            _ => failure(0xc1),
        })
    }
}

/// An answer of the login.
struct Said {
    status: u8,
    console: u32,
    privilege: u8,
    rest: Vec<u8>,
}

impl Said {
    fn yes(console: u32, rest: Vec<u8>) -> Said {
        Said {
            status: 0,
            console,
            privilege: 0,
            rest,
        }
    }

    fn no(status: u8, console: u32) -> Said {
        Said {
            status,
            console,
            privilege: 0,
            rest: Vec::new(),
        }
    }
}

fn success(data: Vec<u8>) -> Answer {
    Answer {
        completion: 0,
        data,
    }
}

fn failure(completion: u8) -> Answer {
    Answer {
        completion,
        data: Vec::new(),
    }
}

fn pop(statuses: &mut Vec<u8>) -> Option<u8> {
    (!statuses.is_empty()).then(|| statuses.remove(0))
}
