//! The client against BMCs of two makes, and over a bad network; our BMC against another client.

#![expect(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "tests start programs, wait for them, and end where they cannot go on"
)]

mod bmc;
mod hostile;
mod sim;
mod tool;
