//! What a program exposes, and to whom: connections by address, servers, services.
//!
//! ```text
//!   connect("unix:/run/bench")              serve::<dyn Bench>("unix:/run/bench", bench)
//!          │                                          │
//!          ▼                                          ▼
//!      Connect ── dial ── carrier ─────────── accept ── Server ── Service::root(peer)
//!          │                                          │
//!          └──────────────── Connection ──────────────┘        both ends are equal from here on
//! ```
//!
//! Mechanism lies below; here are the decisions: which root a peer gets ([`Service`]), how many peers there may
//! be ([`ServerLimits`]), how a server ends ([`Server::shutdown`]). [`blocking`] is for programs without a runtime.

// The macro names the crate by the name that its users give it.
extern crate farref_netref as farref;

mod connect;
mod denied;
mod dependable;
mod dial;
mod establish;
mod home;
#[cfg(all(unix, feature = "activation"))]
pub mod isolated;
mod places;
#[cfg_attr(not(feature = "noise"), path = "unprotected.rs")]
mod protect;
mod refuse;
mod server;
mod service;
mod sessions;
mod source;
#[cfg_attr(not(feature = "noise"), expect(dead_code, reason = "keys need more of it"))]
mod trusted_file;

#[cfg(all(unix, feature = "ssh"))]
pub mod agent;
pub mod blocking;
pub mod file;
pub mod files;
#[doc(hidden)]
pub mod fuzzing;
pub mod health;
pub mod host;
#[cfg(feature = "noise")]
pub mod keys;
pub mod logs;
pub mod monitor;
pub mod names;
pub mod network;
pub mod policy;
pub mod processes;
pub mod rpyc;
pub mod serial_ports;
pub mod speed;
pub mod system;

pub use connect::{Connect, Destination, IntoAddress, Reconnect, connect};
pub use server::{Server, ServerLimits, ServerStats, serve};
pub use service::{Fixed, Service, Share};
