//! Values that say what they are, as bytes and as text.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| farref_boxing::fuzzing::value(data));
