//! Datagrams into the BMC for tests.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| ipmi::testing::fuzz::server(bytes));
