//! One datagram into every decoder.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| ipmi::testing::fuzz::decoders(bytes));
