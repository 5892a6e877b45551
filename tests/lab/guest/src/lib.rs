//! A writer that knows what storage promised, and what finds out whether the promise was kept.
//!
//! Inside a guest, `hastor-guest write` writes numbered records into a ring of slots on a disk or in a file. Outside of
//! all guests a [`Collector`] keeps a log of every record that the guest's kernel called durable. After storage has
//! been moved, cut and killed, `hastor-guest verify` reads the ring back, and [`verdict`] compares: what was
//! acknowledged has to be there.
//!
//! And a watch that tells which pools and addresses the kernel of a guest has ([`sight`]).

// The rules for agents (all ways to the world lead through one place) do not bind what tests them.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

mod acks;
pub mod addresses;
mod collector;
pub mod record;
mod ring;
pub mod sight;
mod verdict;

pub use acks::{Ack, Acks, End, Fault, Gap, Latencies, Session, Writer};
pub use collector::Collector;
pub use ring::{Ring, State};
pub use verdict::{Instead, Problem, Report, verdict};
