//! A handshake, garbled or altered on the way, and encrypted records.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| farref_framing::fuzzing::noise(data));
