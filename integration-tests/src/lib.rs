//! What tests of farref that cross its crates have in common.
#![allow(
    clippy::exhaustive_enums,
    clippy::indexing_slicing,
    clippy::large_enum_variant,
    clippy::missing_errors_doc,
    clippy::panic,
    clippy::print_stdout,
    clippy::unwrap_used,
    missing_docs,
    reason = "tests alone use this"
)]

pub mod bench;
pub mod brittle;
#[cfg(unix)]
pub mod line;
pub mod media;
#[cfg(unix)]
pub mod program;
#[cfg(unix)]
pub mod python;
#[cfg(unix)]
pub mod raw_peer;
pub mod relay;
pub mod rough;
pub mod rpyc_service;
#[cfg(unix)]
pub mod siege;
#[cfg(unix)]
pub mod sshd;
