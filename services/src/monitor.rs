//! What goes on in a server, told to whoever may ask: connections, calls and how long they take, who holds what since when.
//!
//! ```text
//!   Monitoring ──┬── Server::with_monitoring    each root is guarded by what counts its calls
//!                └── Netref<dyn Monitor>        to be shown to peers, as one more service
//! ```
//!
//! Counting costs an allocation and two looks at the clock for each call, so it is asked for.

mod counts;
mod hosted;
#[cfg(feature = "metrics")]
mod metrics;

use std::fmt;
use std::sync::Arc;

use farref_netref::{Netref, Result, Stream, remote};
use serde::{Deserialize, Serialize};

pub(crate) use counts::{CountedCalls, Counts};
pub(crate) use hosted::{Seen, Visitor};

use self::hosted::Board;

/// A server, seen from outside.
#[remote(name = "farref.Monitor")]
pub trait Monitor {
    /// How it stands now.
    #[reads]
    async fn snapshot(&self) -> Result<Snapshot>;

    /// How it stands now and every `millis` milliseconds from then on, 100 at least, as fast as that is read.
    #[reads]
    async fn watch(&self, millis: u32) -> Result<Stream<Snapshot>>;

    /// Who holds what over a connection, and what is under way there; nothing if there is no such connection any more.
    /// Ages and origins are told of what came after this was asked first, or if the server keeps track from the start.
    #[reads]
    async fn holdings(&self, connection: u64) -> Result<Option<Holdings>>;

    /// Closes a connection; whether there was one.
    async fn close(&self, connection: u64) -> Result<bool>;
}

/// A server at one moment.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
#[expect(
    clippy::exhaustive_structs,
    reason = "peers read each other's by their shapes"
)]
pub struct Snapshot {
    /// Milliseconds since the server was made.
    pub age_millis: u64,
    /// Connections that are being set up.
    pub opening: u64,
    /// Carriers accepted since the start.
    pub accepted: u64,
    /// Of these, those that were turned away.
    pub refused: u64,
    /// The connections that are open, the oldest first; at most 1,000.
    pub connections: Vec<ConnectionState>,
    /// The methods that were called, those that took the most time in all first; at most 200.
    pub methods: Vec<MethodState>,
}

/// A connection at one moment.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
#[expect(
    clippy::exhaustive_structs,
    reason = "peers read each other's by their shapes"
)]
pub struct ConnectionState {
    /// Its number on the server.
    pub number: u64,
    /// Who is at the other end, in words.
    pub peer: String,
    /// The medium of its carrier.
    pub medium: String,
    /// Milliseconds since it was let in.
    pub age_millis: u64,
    /// Whether it has a carrier now.
    pub is_up: bool,
    /// The latest round trip, in microseconds. Each look measures it anew, for the first 256 connections.
    pub round_trip_micros: Option<u64>,
    /// Carriers that it has had.
    pub carriers: u64,
    /// Bytes handed to carriers.
    pub bytes_sent: u64,
    /// Bytes that carriers brought.
    pub bytes_received: u64,
    /// Calls of the peer's since it was let in.
    pub calls: u64,
    /// Of these, those that failed or were refused.
    pub failed: u64,
    /// Of these, those that are not over.
    pub answers: u64,
    /// Calls to the peer that are not over.
    pub asked: u64,
    /// Objects of the server's that the peer holds.
    pub exports: u64,
    /// Objects of the peer's that the server holds.
    pub imports: u64,
}

/// How a method was called since the start, by all peers.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
#[expect(
    clippy::exhaustive_structs,
    reason = "peers read each other's by their shapes"
)]
pub struct MethodState {
    /// The interface and the method: `Bench.voltage`.
    pub name: String,
    /// Calls that are over.
    pub calls: u64,
    /// Of these, those that failed or were given up.
    pub failed: u64,
    /// How long they took in all, in microseconds.
    pub micros: u64,
    /// How long half of them took at most, in microseconds, to within a quarter.
    pub median_micros: u64,
    /// How long 99 of 100 of them took at most, in microseconds, to within a quarter.
    pub p99_micros: u64,
}

/// Who holds what over one connection.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
#[expect(
    clippy::exhaustive_structs,
    reason = "peers read each other's by their shapes"
)]
pub struct Holdings {
    /// Objects of the server's that the peer holds, those that are held longest first; at most 1,000.
    pub exports: Vec<Held>,
    /// Objects of the peer's that the server holds, in the same way.
    pub imports: Vec<Held>,
    /// Calls of the peer's that are not over; at most 1,000.
    pub answers: Vec<Underway>,
    /// Calls to the peer that are not over; at most 1,000.
    pub asked: Vec<Underway>,
}

/// An object that one side holds of the other's.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
#[expect(
    clippy::exhaustive_structs,
    reason = "peers read each other's by their shapes"
)]
pub struct Held {
    /// Its number on the connection.
    pub number: u64,
    /// The interface, where the server has the trait.
    pub interface: Option<String>,
    /// How often it was sent and not given back.
    pub count: u64,
    /// Milliseconds since it is held, if that was tracked.
    pub age_millis: Option<u64>,
    /// Milliseconds since it was called or sent, if that was tracked.
    pub idle_millis: Option<u64>,
    /// The method by which it was sent first, if that was tracked.
    pub origin: Option<String>,
}

/// A call that is not over.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
#[expect(
    clippy::exhaustive_structs,
    reason = "peers read each other's by their shapes"
)]
pub struct Underway {
    /// What is called, where the server has the trait.
    pub method: Option<String>,
    /// Milliseconds since it began.
    pub age_millis: u64,
}

/// Counts what goes on in one server, for its [`Monitor`].
#[derive(Clone, Default)]
pub struct Monitoring(Arc<Board>);

impl Monitoring {
    /// Of a server that is about to be made: see [`Server::with_monitoring`](crate::Server::with_monitoring).
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// [`new`](Self::new) of one of several servers: `name` tells its metrics from those of others. Default `farref`.
    #[cfg(feature = "metrics")]
    #[must_use]
    pub fn named(name: impl Into<String>) -> Self {
        Self(Arc::new(Board::named(name.into())))
    }

    /// What tells of it, to be shown to peers. Of a server that is gone, or was not made yet, it tells nothing.
    #[must_use]
    pub fn monitor(&self) -> Netref<dyn Monitor> {
        Netref::share(&self.0)
    }

    /// Tells the `metrics` facade how the server stands now, under these names; to be called by a timer, or before each
    /// scrape. Calls are told by themselves as they end.
    ///
    /// | name | kind | labels |
    /// |---|---|---|
    /// | `farref_calls_total` | counter | `server`, `method`, `outcome`: `ok` or `failed` |
    /// | `farref_call_duration_seconds` | histogram | `server`, `method` |
    /// | `farref_carriers_accepted_total`, `farref_carriers_refused_total` | counter | `server` |
    /// | `farref_connections`, `farref_connections_opening` | gauge | `server` |
    /// | `farref_calls_under_way` | gauge | `server`, `direction`: `in` or `out` |
    /// | `farref_objects` | gauge | `server`, `direction`: `out` (held by peers) or `in` (held of peers') |
    ///
    /// At most 1,024 methods are told apart, as a peer can make up names; the others are one, `(others)`.
    #[cfg(feature = "metrics")]
    pub fn publish(&self) {
        self.0.publish();
    }

    pub(crate) fn watch_over(&self, server: Seen) {
        self.0.watch_over(server);
    }

    pub(crate) fn counts(&self) -> &Arc<Counts> {
        self.0.counts()
    }
}

impl fmt::Debug for Monitoring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Monitoring")
    }
}
