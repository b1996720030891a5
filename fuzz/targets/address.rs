//! Addresses.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| farref_transport::fuzzing::address(data));
