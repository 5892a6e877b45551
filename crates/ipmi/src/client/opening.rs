//! Opening a session over the network: attempts, one after another, until one succeeds or no
//! other can.

use std::net::SocketAddr;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use crate::address;
use crate::client::link::{Link, random};
use crate::client::socket::{self, Received, Socket};
use crate::client::{FIRST_OPENING_WAIT, LONGEST_WAIT, now};
use crate::command::{GET_AUTH_CAPABILITIES, THIS_CHANNEL, speaks_ipmi20};
use crate::config::{Config, Refused, Secret};
use crate::error::{Error, ErrorKind};
use crate::handshake::{Handshake, Login, Nonces, Proposal, Refusal, Step};
use crate::message::{APP, Request};
use crate::plan::{Next, Plan};
use crate::session::Session;
use crate::wire::{self, Packet};

/// A slow BMC answers an attempt after the next one has begun: so many are listened for.
const ALIVE: usize = 4;
/// After so many attempts without an answer, a BMC that says it lacks IPMI 2.0 is believed.
const SILENT: u32 = 3;

/// Where and as whom sessions are opened.
pub(super) struct Opening {
    login: Login,
    targets: Vec<SocketAddr>,
    /// The target that answered last.
    target: usize,
    /// With what worked last.
    plan: Plan,
}

impl Opening {
    pub(super) fn new(config: &Config, deadline: Instant) -> Result<Opening, Error> {
        Ok(Opening {
            login: Login {
                username: config.username.clone().into_bytes(),
                password: config.password.clone(),
                kg: Secret::new(config.kg().to_vec()),
            },
            targets: address::resolve(&config.address, config.port, deadline)?,
            target: 0,
            plan: Plan::new(config.suites()?, config.privilege, config.or_operator),
        })
    }

    /// A session. All addresses take turns until one answers.
    pub(super) fn link(&mut self, config: &Config, deadline: Instant) -> Result<Link, Error> {
        let begin = now();
        let mut plan = self.plan.fresh();
        let mut doors: Vec<Door> = self.targets.iter().map(|_| Door::default()).collect();
        let mut at = self.target;
        let mut wait = FIRST_OPENING_WAIT;
        let mut attempts = 0;
        let mut trouble = None;
        while now() < deadline {
            let (Some(proposal), Some(door), Some(target)) =
                (plan.proposal(), doors.get_mut(at), self.targets.get(at))
            else {
                return Err(ErrorKind::Config.because("no cipher suite and no address to try"));
            };
            attempts += 1;
            let until = deadline.min(now() + wait);
            let mut again_at_once = false;
            match door.knock(
                &self.login,
                *target,
                proposal,
                wait,
                deadline,
                config.interrupted,
            )? {
                Knock::Open(session, proposal) => {
                    if let Some(socket) = door.socket.take() {
                        self.plan = plan;
                        self.target = at;
                        return Ok(Link::new(socket, *session, proposal));
                    }
                }
                Knock::Refused(refusal) => {
                    again_at_once = true;
                    let message = refusal.message.clone();
                    match plan.refused(&refusal) {
                        Next::Again => {
                            trouble = Some(ErrorKind::Deadline.because(format!(
                                "no session was opened before the deadline; heard once: {message}"
                            )));
                        }
                        Next::Later(kind, time) => {
                            trouble = Some(kind.because(message));
                            socket::pause(deadline.min(now() + time), config.interrupted)?;
                        }
                        Next::GiveUp(error) => return Err(error),
                    }
                }
                Knock::Silence => {
                    wait = (wait * 2).min(LONGEST_WAIT);
                    if door.silent >= SILENT {
                        plan.unanswered();
                    }
                    if door.lacks_ipmi20() {
                        trouble = Some(ErrorKind::NoIpmi20.because(
                            "the BMC says that it does not speak IPMI 2.0, or that it is disabled",
                        ));
                    }
                }
                Knock::Unreachable(error) => {
                    trouble = Some(socket::unreachable(&error));
                    door.refused = true;
                    if config.refused == Refused::KeepTrying {
                        socket::pause(until, config.interrupted)?;
                    }
                }
            }
            if doors.iter().all(Door::is_hopeless) && config.refused == Refused::Fail {
                break;
            }
            // Whoever has answered is asked again.
            if !again_at_once && !doors.get(at).is_some_and(|door| door.heard) {
                at = (at + 1) % self.targets.len();
            }
        }
        Err(trouble.unwrap_or_else(|| {
            let time = (now() - begin).as_secs_f64();
            if doors.iter().any(|door| door.heard) {
                return ErrorKind::Deadline.because(format!(
                    "no session was opened before the deadline ({attempts} attempts in {time:.1} s)"
                ));
            }
            ErrorKind::Unreachable
                .because(format!("no answer ({attempts} attempts in {time:.1} s)"))
        }))
    }
}

/// One address, and the attempts that it may still answer.
#[derive(Default)]
struct Door<'a> {
    socket: Option<Socket>,
    attempts: Vec<(Proposal, Handshake<'a>)>,
    /// Attempts in a row that were not answered.
    silent: u32,
    /// Something of IPMI came from there.
    heard: bool,
    /// The network says that nobody is there.
    refused: bool,
    /// How often it said that it does not speak IPMI 2.0.
    no_ipmi20: u32,
}

/// What came of one attempt.
enum Knock {
    /// And what that was asked for: it may have been an earlier attempt.
    Open(Box<Session>, Proposal),
    Refused(Refusal),
    Silence,
    Unreachable(std::io::Error),
}

impl<'a> Door<'a> {
    /// Makes an attempt, and waits for it and for earlier ones; `wait` for each message.
    fn knock(
        &mut self,
        login: &'a Login,
        target: SocketAddr,
        proposal: Proposal,
        wait: std::time::Duration,
        deadline: Instant,
        interrupted: Option<&AtomicBool>,
    ) -> Result<Knock, Error> {
        let socket = match &mut self.socket {
            Some(socket) => socket,
            None => match Socket::connect(target) {
                Ok(socket) => self.socket.insert(socket),
                Err(error) => return Ok(Knock::Unreachable(error)),
            },
        };
        self.refused = false;
        let (handshake, request) = Handshake::new(login, proposal, nonces()?);
        self.attempts.push((proposal, handshake));
        if self.attempts.len() > ALIVE {
            self.attempts.remove(0);
        }
        socket.send(&request);
        // Is it there at all? Only asked where the right question was not answered.
        let probe = capabilities(proposal);
        if self.silent > 0 {
            socket.send(&wire::v15(&probe.encode()));
        }
        let mut until = deadline.min(now() + wait);
        loop {
            let datagram = match socket.receive(until, interrupted) {
                Received::Datagram(datagram) => datagram,
                Received::Silence => {
                    self.silent += 1;
                    return Ok(Knock::Silence);
                }
                Received::Refused(error) => return Ok(Knock::Unreachable(error)),
                Received::Interrupted => return Err(socket::interrupted()),
            };
            if let Some(Packet::V15(message)) = wire::decode(datagram) {
                if let Some(answer) = probe.answer(message, false) {
                    self.heard = true;
                    let lacks = match answer.completion {
                        0 => speaks_ipmi20(&answer.data) == Some(false),
                        // IPMI 1.5 does not know the bit that asks for IPMI 2.0.
                        code => matches!(code, 0xc7 | 0xc9 | 0xcc),
                    };
                    self.no_ipmi20 += u32::from(lacks);
                }
                continue;
            }
            let mut said = None;
            for (n, (asked, handshake)) in self.attempts.iter_mut().enumerate() {
                match handshake.receive(datagram) {
                    Step::Ignored => {}
                    step => {
                        said = Some((n, *asked, step));
                        break;
                    }
                }
            }
            let Some((n, asked, step)) = said else {
                continue;
            };
            (self.heard, self.silent) = (true, 0);
            match step {
                Step::Ignored => {}
                Step::Send(datagram) => {
                    socket.send(&datagram);
                    until = deadline.min(now() + wait);
                }
                Step::Open(session) => {
                    self.attempts.clear();
                    return Ok(Knock::Open(session, asked));
                }
                Step::Refused(refusal) => {
                    if let Some(farewell) = &refusal.farewell {
                        socket.send(farewell);
                    }
                    self.attempts.remove(n);
                    // What was asked for otherwise has been given up already.
                    if asked == proposal {
                        return Ok(Knock::Refused(refusal));
                    }
                }
            }
        }
    }

    fn lacks_ipmi20(&self) -> bool {
        self.silent >= SILENT && self.no_ipmi20 >= 2
    }

    /// Trying on is of no use, unless it comes back.
    fn is_hopeless(&self) -> bool {
        self.refused || self.lacks_ipmi20()
    }
}

fn nonces() -> Result<Nonces, Error> {
    let [tag] = random()?;
    Ok(Nonces {
        tag,
        console: u32::from_le_bytes(random()?),
        random: random()?,
    })
}

fn capabilities(proposal: Proposal) -> Request {
    Request {
        number: 0,
        function: APP,
        command: GET_AUTH_CAPABILITIES,
        // The top bit asks for what is new in IPMI 2.0.
        data: vec![0x80 | THIS_CHANNEL, proposal.privilege.level()],
    }
}
