//! `fence_hastor_ipmi` against simulated BMCs, as Pacemaker's fencer, people and its peers' users
//! call it.
//!
//! Each test takes its thread into a network namespace of its own, so that the BMCs can be at their
//! usual port, and into a mount namespace with the agent in /usr/sbin. The BMC is OpenIPMI's
//! `ipmi_sim`; behind it is a chassis that does as a test tells it. [`sessions`] needs none of
//! that: there the BMC is the one that crates/ipmi has for tests.

#![expect(clippy::disallowed_methods, reason = "tests run programs")]
#![expect(
    clippy::unwrap_used,
    reason = "a test may, but clippy does not take what it calls for one"
)]

mod bmc;
mod called;
mod fencer;
mod peers;
mod secrets;
mod sessions;
