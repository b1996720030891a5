//! Messages of the exchange.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| farref_netref::exchange::fuzzing::exchange(data));
