//! A whole link, at once or in the middle of a session.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| farref_framing::fuzzing::link(data));
