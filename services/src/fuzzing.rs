//! What fuzz targets run, and property tests with them: any bytes, no panic, and what was read is what was meant.

/// The files that say who this process is and whom it trusts.
#[cfg(feature = "noise")]
pub fn keys(data: &[u8]) {
    if let Ok(text) = std::str::from_utf8(data) {
        crate::keys::fuzz(text);
    }
}

/// Packets to and from a registry of RPyC.
pub fn registry(data: &[u8]) {
    crate::rpyc::registry::fuzz(data);
}
