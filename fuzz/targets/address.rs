//! Addresses: what can be read is printed so that it reads the same.
#![no_main]

use farref_transport::Address;

libfuzzer_sys::fuzz_target!(|text: &str| {
    match text.parse::<Address>() {
        Ok(address) => {
            let printed = address.to_string();
            assert_eq!(
                printed.parse().as_ref(),
                Ok(&address),
                "{text:?} printed as {printed:?}"
            );
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
});
