//! Media to carriers of bytes: the bottom layer of farref.
//!
//! ```text
//!      Address            "plain+tcp://rig7:7000", "unix:/run/x.sock", "mem:bench"
//!         |  Media        finds the medium by scheme
//!         v
//!     Transport           dial | listen -> Listener -> accept
//!         |
//!         v
//!      Carrier  --------- CarrierInfo: medium, both addresses, evidence of the peer, hints
//!       /    \
//!   Stream   Muxed        one ordered byte stream each way | many native streams
//!      \      /
//!    ByteRx, ByteTx       owned halves: try now, or be told when; nothing waits
//! ```
//!
//! | scheme   | example                         | form           | peer         | feature |
//! |----------|---------------------------------|----------------|--------------|---------|
//! | `tcp`    | `plain+tcp://rig7:7000`         | stream         | unknown      | `tcp`   |
//! | `ssl`    | `ssl://rig7:7000?ca=ca.pem`     | stream         | certificate  | `tls`   |
//! | `unix`   | `unix:/run/x.sock`, `unix:@x`   | stream         | uid, gid, pid | `unix` |
//! | `quic`   | `quic://rig7:7000`              | muxed          | key          | `quic`  |
//! | `stdio`  | `stdio:`                        | stream         | unknown      | `stdio` |
//! | `exec`   | `exec:/usr/bin/agent?arg=-v`    | stream         | unknown      | `exec`  |
//! | `ssh`    | `ssh://eva@rig7`, `ssh://rig7?command=agent` | stream         | account, host | `ssh`  |
//! | `serial` | `serial:/dev/ttyUSB0?baud=921600` | stream, lossy | unknown    | `serial` |
//! | `mem`    | `mem:bench`, `mem:bench?mux=1`  | stream, muxed  | unknown      |         |
//! | (yours)  | `x-own:anything`                | as you make it | as you know  |         |
//!
//! A medium that this build is without says [`Unsupported`](DialError::Unsupported). A medium of your own implements
//! [`Transport`], or, for a single connection, [`StreamCarrier::from_io`] takes anything that tokio can read and write.
//!
//! Nothing here knows what the bytes mean, encrypts them, or tries again. Sockets need a tokio
//! runtime with its IO and time drivers; `mem` needs no runtime at all.
//!
//! Read on in [`carrier`], then [`medium`] and [`address`]; [`tcp`] is the plainest medium.

pub mod address;
pub mod carrier;
pub mod descriptor;
mod error;
#[cfg(all(unix, feature = "exec"))]
pub mod exec;
#[doc(hidden)]
pub mod fuzzing;
#[cfg(all(unix, feature = "activation"))]
pub mod handover;
#[cfg(feature = "keys")]
mod identity;
mod io;
pub mod medium;
pub mod memory;
mod per_source;
#[cfg(all(unix, feature = "pipe"))]
mod pipe;
#[cfg(all(unix, feature = "exec"))]
pub mod process;
#[cfg(feature = "quic")]
pub mod quic;
#[cfg(any(feature = "tcp", feature = "quic"))]
mod resolve;
#[cfg(all(unix, feature = "serial"))]
pub mod serial;
#[cfg(any(feature = "tcp", all(unix, feature = "unix")))]
mod socket;
mod sparing;
#[cfg(all(unix, feature = "ssh"))]
pub mod ssh;
#[cfg(all(unix, any(feature = "pipe", feature = "serial")))]
mod stack;
#[cfg(all(unix, feature = "stdio"))]
pub mod stdio;
#[cfg(feature = "tcp")]
pub mod tcp;
#[cfg(test)]
mod testing;
#[cfg(feature = "tls")]
pub mod tls;
#[cfg(all(unix, feature = "pipe"))]
mod token;
#[cfg(all(unix, feature = "unix"))]
pub mod unix;

pub use address::{Address, AddressError, Dialect, Security};
pub use carrier::{
    BoxFuture, ByteRx, ByteTx, Carrier, CarrierInfo, CarrierStats, Class, Gauge, Guard, Muxed, PeerEvidence,
    StreamCarrier, StreamHalves,
};
pub use descriptor::{Alarm, Descriptor};
pub use error::{Aborted, Absence, AcceptError, DialError, ListenError, aborted};
#[cfg(feature = "keys")]
pub use identity::Identity;
pub use medium::{Listener, Media, Transport};
pub use per_source::{PerSource, Place};
pub use sparing::{Sparing, warn_of_stranger};
