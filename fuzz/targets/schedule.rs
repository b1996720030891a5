//! Two exchanges and more under any schedule, and an oracle that sees them all.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| farref_netref::exchange::fuzzing::schedule(data));
