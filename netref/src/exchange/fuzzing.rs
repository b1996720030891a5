//! Bodies of fuzz targets; also run as property tests.

/// Messages of a hostile peer, made of `data`: whatever they are, they end in events or one error.
pub fn exchange(_data: &[u8]) {}
