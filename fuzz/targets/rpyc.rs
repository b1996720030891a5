//! A stream of a Python peer: frames, and what is compressed in them.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| farref_framing::fuzzing::rpyc(data));
