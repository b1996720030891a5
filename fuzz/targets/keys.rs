//! Files that say who a process is and whom it trusts.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| farref_services::fuzzing::keys(data));
