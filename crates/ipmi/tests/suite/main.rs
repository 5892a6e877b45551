//! The client against BMCs of three makes, and our BMC against another client.

// The rules for agents do not bind tests, which start programs and wait for them.
#![allow(clippy::disallowed_methods)]

mod bmc;
mod sim;
mod tool;
