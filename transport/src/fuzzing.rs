//! What a fuzz target runs, and property tests with it: any text, no panic, and what was read is what was meant.

use crate::Address;

/// Reads `data` as an address. What can be read is printed so that it reads the same; whatever is wrong, the proposal can
/// be read.
pub fn address(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    match text.parse::<Address>() {
        Ok(address) => {
            let printed = address.to_string();
            assert_eq!(
                printed.parse().as_ref(),
                Ok(&address),
                "{text:?} printed as {printed:?}"
            );
        }
        Err(error) => {
            assert!(!error.to_string().is_empty());
            assert!(text.is_char_boundary(error.position()));
            let nearest = error.nearest();
            assert!(
                nearest.parse::<Address>().is_ok(),
                "{nearest:?} is proposed for {text:?}"
            );
        }
    }
}
