//! One end of a lossy line.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| farref_framing::fuzzing::line(data));
