//! A BMC on a UDP port of this machine.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::command::Guid;
use crate::config::{Config, Secret};
use crate::testing::server::{Faults, Server, Sessions, Setup};
use crate::wire::DATAGRAM_MAX;

/// A BMC that answers as long as this lives.
pub struct Bmc {
    server: Arc<Mutex<Server>>,
    address: SocketAddr,
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Bmc {
    /// Starts one.
    ///
    /// # Panics
    /// If the address is not to be had.
    pub fn start(setup: Setup) -> Bmc {
        Bmc::bind(setup).expect("a UDP port for the BMC")
    }

    /// Starts one.
    ///
    /// # Errors
    /// If the address is not to be had.
    pub fn bind(setup: Setup) -> io::Result<Bmc> {
        let socket = UdpSocket::bind(setup.bind)?;
        socket.set_read_timeout(Some(Duration::from_millis(500)))?;
        let address = socket.local_addr()?;
        let server = Arc::new(Mutex::new(Server::new(setup, random)));
        let over = Arc::new(AtomicBool::new(false));
        let thread = std::thread::Builder::new().name("bmc".to_owned()).spawn({
            let (server, over) = (Arc::clone(&server), Arc::clone(&over));
            move || serve(&socket, &server, &over)
        })?;
        Ok(Bmc {
            server,
            address,
            over,
            thread: Some(thread),
        })
    }

    /// Where it answers.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// How to reach it.
    pub fn config(&self, username: &str, password: impl Into<Secret>) -> Config {
        let mut config = Config::new(self.address.ip().to_string(), username, password);
        config.port = self.address.port();
        config
    }

    /// Lets things go wrong, or right again.
    pub fn faults(&self, change: impl FnOnce(&mut Faults)) {
        change(&mut self.server().faults);
    }

    /// Is power on?
    pub fn power(&self) -> bool {
        self.server().chassis.is_on(Instant::now())
    }

    /// Switches power as somebody in front of the machine would.
    pub fn set_power(&self, on: bool) {
        self.server().chassis.set(on);
    }

    /// The data byte of every Chassis Control command that was acknowledged, in order.
    pub fn controls(&self) -> Vec<u8> {
        self.server().chassis.controls.clone()
    }

    /// How many sessions there were.
    pub fn sessions(&self) -> Sessions {
        self.server().sessions()
    }

    /// Loses all sessions, as by a restart.
    pub fn forget_sessions(&self) {
        self.server().forget_sessions();
    }

    /// Becomes another BMC at the same address.
    pub fn set_guid(&self, guid: Guid) {
        self.server().guid = guid.0;
    }

    fn server(&self) -> MutexGuard<'_, Server> {
        self.server.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Bmc {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        // Wakes it. If that is impossible it wakes by itself, half a second later.
        let wake = UdpSocket::bind((self.address.ip(), 0));
        let _ = wake.and_then(|socket| socket.send_to(&[], self.address));
        if let Some(thread) = self.thread.take() {
            // It panicked if a hook did; that has been reported.
            let _ = thread.join();
        }
    }
}

fn serve(socket: &UdpSocket, server: &Mutex<Server>, over: &AtomicBool) {
    let mut buffer = [0; DATAGRAM_MAX];
    while !over.load(Ordering::Relaxed) {
        let Ok((len, peer)) = socket.recv_from(&mut buffer) else {
            continue;
        };
        let datagram = buffer.get(..len).unwrap_or_default();
        let mut locked = server.lock().unwrap_or_else(PoisonError::into_inner);
        let answers = locked.receive(datagram, Instant::now());
        let delay = locked.faults.answer_delay;
        drop(locked);
        if !answers.is_empty() {
            std::thread::sleep(delay);
        }
        for answer in answers {
            // Who has gone away needs no answer.
            let _ = socket.send_to(&answer, peer);
        }
    }
}

fn random() -> [u8; 16] {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).expect("random numbers of the kernel");
    bytes
}
