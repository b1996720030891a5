//! What farref promises, through its public API, over every medium.
#![cfg(test)]

#[path = "all/calls.rs"]
mod calls;
#[path = "all/hostile.rs"]
mod hostile;
#[path = "all/manners.rs"]
mod manners;
#[path = "all/scenario.rs"]
mod scenario;
#[path = "all/servers.rs"]
mod servers;
#[path = "all/stress.rs"]
mod stress;
#[path = "all/third_parties.rs"]
mod third_parties;
