//! What tests of farref that cross its crates have in common.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::missing_errors_doc,
    missing_docs,
    reason = "tests alone use this"
)]

pub mod bench;
pub mod media;
