//! What a connection can be told: limits and times, each with its default and range.

use std::time::Duration;

/// Settings of one connection.
///
/// Limits are declared to the peer, which obeys them; a peer that does not is disconnected.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Config {
    /// How long a call may take if it does not say otherwise. Default none.
    pub call_timeout: Option<Duration>,
    /// Blocking methods that run at once for this peer; more wait their turn. Default 64, at least 1.
    pub max_blocking: usize,
    /// Calls of the peer's that may be under way at once. Default 16,384, at least 1.
    pub max_calls: u32,
    /// Bytes of arguments of the peer's calls that may be under way at once, with names; each reference counted as 32, or as 4096
    /// if it is broken. Default 64 MiB.
    pub max_call_bytes: u64,
    /// Bytes of results that may wait for a peer which does not read them, beyond
    /// [`Limits::backlog`](farref_framing::Limits::backlog). Default 256 MiB, at least 2 KiB. From half of it on, further calls of the peer's fail as
    /// [`Overloaded`](farref_boxing::ErrorKind::Overloaded); results that would exceed it fail as
    /// [`Limit`](farref_boxing::ErrorKind::Limit).
    pub max_unread: u64,
    /// Objects that may be held across the connection in either direction. Default 1,048,576.
    pub max_objects: u32,
    /// How many objects of this side the peer may hold before a warning says so, once, with their types. Default 100,000;
    /// none is never.
    pub warn_at_exports: Option<u32>,
    /// Whether [`Connection::holdings`](crate::Connection::holdings) tells age, origin and last use from the start. It costs
    /// some 100 bytes for each object and call. Default false.
    pub track_holdings: bool,
    /// How deep calls may be nested. Default 256.
    pub max_depth: u16,
    /// How long the peer may take to introduce itself. Default 10 s.
    pub setup_timeout: Duration,
    /// How long an orderly close may wait for the peer. Default 2 s.
    pub close_timeout: Duration,
    /// Whether the connection outlives its carrier: a lost one is replaced by another, and calls and references go
    /// on. Both sides must want it. Default: the side that dials wants it where a carrier can be lost (TCP, QUIC, ssh,
    /// serial lines), and the side that listens where it is asked for. How long without a carrier is
    /// [`Limits::resume_window`](farref_framing::Limits::resume_window).
    pub resume: Option<bool>,
    /// Whether calls that are made while there is no carrier wait for the next one, rather than fail as not sent.
    /// Default true.
    pub wait_while_down: bool,
    /// Whether the connection is driven by a thread of its own, where its carrier can be waited on (TCP and Unix sockets),
    /// rather than by a task: a quarter less work for each call of a peer that calls and waits in turn, for the price of a
    /// thread. Default false.
    pub own_thread: bool,
    /// How long a connection spins before it falls asleep: looks again and again for more, where that has paid lately, as the peer
    /// answers at once, and no other connection is in use on the thread. Where both may share a CPU, it is given to the peer
    /// before each look. A task whose calls follow one another, each alone, does so itself in place of the connection, for twice
    /// as long at most, while others can run that are not on its thread; those that are have their turn before the first such
    /// call, and before every 64th. Over TCP and Unix sockets only. What is due may be late by as much, or as long as others keep
    /// a CPU that was given away. Default 50 µs, at most 100 ms; zero is never.
    pub spin: Duration,
    /// Limits of messages, lanes and fragments.
    pub limits: farref_framing::Limits,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            call_timeout: None,
            max_blocking: 64,
            max_calls: 16_384,
            max_call_bytes: 64 << 20,
            max_unread: 256 << 20,
            max_objects: 1 << 20,
            warn_at_exports: Some(100_000),
            track_holdings: false,
            max_depth: 256,
            setup_timeout: Duration::from_secs(10),
            close_timeout: Duration::from_secs(2),
            resume: None,
            wait_while_down: true,
            own_thread: false,
            spin: Duration::from_micros(50),
            limits: farref_framing::Limits::default(),
        }
    }
}
