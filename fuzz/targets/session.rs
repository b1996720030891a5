//! A link with a session, whose peer knows the key and comes back with any claims.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| farref_framing::fuzzing::session(data));
