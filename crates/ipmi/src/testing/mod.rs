//! A BMC that misbehaves as told, and a network that loses, repeats, reorders, delays and damages
//! datagrams.
//!
//! ```
//! # #![allow(clippy::disallowed_methods)]
//! use std::time::{Duration, Instant};
//! use ipmi::testing::{Bmc, Setup};
//!
//! let bmc = Bmc::start(Setup::new("admin", "secret"));
//! let deadline = Instant::now() + Duration::from_secs(10);
//! let mut client = ipmi::Client::open(&bmc.config("admin", "secret"), deadline)?;
//! client.chassis_control(ipmi::Control::Off, deadline)?;
//! assert!(!bmc.power());
//! client.close(deadline)?;
//! assert_eq!((bmc.sessions().opened, bmc.sessions().closed), (1, 1));
//! # Ok::<(), ipmi::Error>(())
//! ```

#![expect(
    clippy::disallowed_methods,
    reason = "a BMC and a network are not bound by an agent's deadline, and have threads"
)]

mod bmc;
mod chassis;
pub mod fuzz;
mod proxy;
mod server;

pub use bmc::Bmc;
pub use proxy::{Chaos, Proxy};
pub use server::{Faults, Sessions, Setup, User};
