//! An IPMI 2.0 client over LAN (RMCP+): what fencing needs of it, and no more.
//!
//! ```no_run
//! # #![allow(clippy::disallowed_methods)]
//! use std::time::{Duration, Instant};
//!
//! let deadline = Instant::now() + Duration::from_secs(20);
//! let config = ipmi::Config::new("192.0.2.9", "fence", "a password");
//! let mut bmc = ipmi::Client::open(&config, deadline)?;
//! bmc.chassis_control(ipmi::Control::Off, deadline)?;
//! while bmc.chassis_status(deadline)?.power_on {
//!     std::thread::sleep(Duration::from_millis(500));
//! }
//! bmc.close(deadline)?;
//! # Ok::<(), ipmi::Error>(())
//! ```
//!
//! # The protocol in one screen
//!
//! Everything is a UDP datagram to port 623. A session is opened by six of them:
//!
//! ```text
//! us                                  BMC
//! Open Session Request  ----------->       three algorithms (the cipher suite), our session id
//!          <-----------  Open Session Response     the same three or an error, the BMC's id
//! RAKP message 1  ----------------->       random number, privilege, user name
//!          <-----------------  RAKP message 2      random number, GUID, HMAC with the password
//! RAKP message 3  ----------------->       HMAC with the password
//!          <-----------------  RAKP message 4      HMAC with the session's key
//! ```
//!
//! The session's key is an HMAC over both random numbers, with the BMC's key (Kg) or, where there
//! is none, the password. So a wrong password shows in RAKP message 2, and a wrong Kg in RAKP
//! message 4. From there on every datagram is encrypted (AES-CBC), signed (truncated HMAC) and
//! numbered, and carries an IPMI message: network function, command, data, and a number that ties
//! the answer to the request. Set Session Privilege Level comes first, because every session
//! begins with user privilege, and Close Session last, because a BMC has room for few of them.
//!
//! Cipher suite 17 is SHA-256, 3 is SHA-1, both with AES. 16 and 2 are the same without
//! encryption, 15 and 1 have no signatures either, and are used only where they are configured.
//!
//! # What is believed
//!
//! - **An answer** is from the connected peer, of this session, signed rightly (looked at before
//!   it is decrypted), not seen before, and to this very request. Everything else is dropped, and
//!   waiting goes on.
//! - **No answer means nothing.** Lost datagrams of the opening begin a new one with new numbers.
//!   In a session the request is sent again with a new sequence number, and after a few of those
//!   in a new session; but commands that must not be executed twice are sent once, and the caller
//!   is told that they [may have been](ErrorKind::PossiblyExecuted).
//! - **A refused opening is tried again** before it is believed: nothing in it is signed.
//! - **Time** is the caller's. Every call is back by the deadline it was given.
//!
//! # How it is built
//!
//! Bytes to meaning and back is pure: datagrams, messages, one attempt to open a session, a
//! session, the choice of the next attempt. Only the client has a socket, a clock and random
//! numbers. With the feature `testing` there is a BMC of our own, and a network that
//! loses, repeats, reorders, delays and damages datagrams. `fuzz/README.md` tells how to fuzz.
//!
//! Facts are from the *IPMI Specification v2.0 rev. 1.1*; sections are given where they are used.

#![forbid(unsafe_code)]

mod address;
mod client;
mod command;
mod config;
mod crypto;
mod error;
mod handshake;
mod message;
mod plan;
mod session;
mod suite;
#[cfg(feature = "testing")]
pub mod testing;
mod wire;

pub use client::Client;
pub use command::{ChassisStatus, Control, DeviceId, Guid, RestartCause};
pub use config::{Config, KG_MAX, PASSWORD_MAX, Privilege, Refused, Secret, USERNAME_MAX};
pub use error::{Error, ErrorKind};
