//! Shapes, and bodies read by them.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| farref_boxing::fuzzing::shape(data));
