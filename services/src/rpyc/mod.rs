//! What a program has of its own towards peers that speak RPyC, Python's protocol of remote objects.
//!
//! How they are dialled is in the addresses that begin with `rpyc` ([`farref_transport::address`]).

pub mod classic;
pub mod registry;
mod way;

pub(crate) use way::{Manner, bare, suspicion};

#[cfg(test)]
mod tests;
