//! Frames of a byte stream, and the messages in them.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| farref_framing::fuzzing::frames(data));
