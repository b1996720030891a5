//! Packets to and from a registry of RPyC.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| farref_services::fuzzing::registry(data));
