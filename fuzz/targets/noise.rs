//! A handshake of Noise, on either side.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| farref_framing::fuzzing::noise(data));
