//! Datagrams into an attempt to open a session at each of its states, and into the session.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| ipmi::testing::fuzz::client(bytes));
