//! Values of a Python peer.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| farref_boxing::fuzzing::brine(data));
