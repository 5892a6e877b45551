//! A rightly signed message that may be anything.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| ipmi::testing::fuzz::signed(bytes));
