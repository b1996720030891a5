//! Two honest links in a session, and carriers that are lost.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| farref_framing::fuzzing::carriers(data));
