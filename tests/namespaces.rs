//! `vip` on the real kernel, in network namespaces of its own.
//!
//! Each test takes its thread into a new network namespace and a new mount namespace with an
//! empty /run, and starts the real program there; what it did is checked with `ip`, which is
//! somebody else's program. The namespaces go with the thread.

#![expect(clippy::disallowed_methods, reason = "tests run programs")]

mod blocking;
mod lan;
mod vip;
