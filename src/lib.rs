//! Remote objects for Rust, over any wire: two processes joined by farref work as if they shared one address
//! space.
//!
//! A value that is simple and immutable travels by value; every other object travels as a [`Netref`], a handle
//! that the other side uses as it would use the object itself. Either side may call the other; callbacks just
//! work; what is reachable is decided by the [`Service`] that each end exposes.
//!
#![doc = include_str!("../README.md")]

pub mod rpyc;

pub use farref_netref::*;
#[cfg(all(unix, feature = "ssh"))]
pub use farref_services::agent;
#[cfg(all(unix, feature = "activation"))]
pub use farref_services::isolated;
#[cfg(feature = "noise")]
pub use farref_services::keys;
pub use farref_services::{
    Connect, Destination, Fixed, IntoAddress, Reconnect, Server, ServerLimits, ServerStats, Service, Share,
    blocking, connect, file, files, health, host, logs, monitor, names, network, policy, processes,
    serial_ports, serve, speed, system,
};

/// Media, carriers and addresses.
pub use farref_transport as transport;
