//! Bounds of a server, and its numbers.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use farref_boxing::{Error, ErrorKind, Result};
use farref_netref::Config;
use farref_netref::guard::{Access, Guard};

/// Bounds of a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct ServerLimits {
    /// Connections at once; more are closed as they come. Default 1,024, at least 1.
    pub connections: usize,
    /// Connections that have not introduced themselves yet, at once. Default 512, at least 1.
    pub opening: u64,
    /// Those of them that one address of a network may have: one IPv4 address, or the first 64 bits of an IPv6 one.
    /// Default 128, at least 1.
    pub opening_per_source: u64,
    /// Open connections that one address of a network may have. Default as many as there may be; at least 1.
    pub connections_per_source: usize,
    /// Connections that are let in since the start. When they are over, the server is at its end: 1 serves one peer, which may
    /// come back to its session. Default as many as come.
    pub in_all: Option<u64>,
    /// Calls that are under way at once, of all peers together; further ones fail as
    /// [`Overloaded`](ErrorKind::Overloaded). Reading a stream is a call; one of an object that went through several
    /// connections counts for each. What the server shows is [guarded](farref_netref::guard) for that: objects of its own that
    /// peers pass back to it count as far. Default as many as each connection may have ([`Config::max_calls`]); at least 1.
    pub calls: Option<usize>,
    /// Bytes that all peers together may make the server keep, for arguments, large bodies and what waits to be sent. Each
    /// connection may take an equal share: its limits are lowered to that, those of [`Config::limits`] too, and there
    /// are no more connections than shares of 2 MiB. Default no such bound.
    pub memory: Option<u64>,
    /// Peers in Python that have a thread of their own at once, as each has with RPyC's threaded server: such a peer calls and waits
    /// in turn, and [that](Config::own_thread) is less work for each call. Further ones share the runtime. Default 64; zero is
    /// none.
    pub python_threads: usize,
}

impl Default for ServerLimits {
    fn default() -> Self {
        Self {
            connections: 1024,
            opening: 512,
            opening_per_source: 128,
            connections_per_source: usize::MAX,
            in_all: None,
            calls: None,
            memory: None,
            python_threads: 64,
        }
    }
}

/// The smallest share of the memory that a connection can do with.
const SHARE: u64 = 2 << 20;

/// With less of a body unasked, fewer bodies at a time are better.
const LEAST_CREDIT: u64 = 32 << 10;

impl ServerLimits {
    /// Lowers the limits of each connection to its share of the memory.
    pub(super) fn share_out(&mut self, config: &mut Config) {
        let Some(memory) = self.memory else { return };
        let shares = usize::try_from(memory / SHARE).unwrap_or(usize::MAX);
        self.connections = self.connections.min(shares).max(1);
        let connections = u64::try_from(self.connections).unwrap_or(u64::MAX);
        // For arguments, for large bodies on their way in, for what comes of them unasked, for what is sent, for what is sent and
        // not acknowledged, and for what cannot be sent yet.
        let part = memory / connections / 6;
        config.max_call_bytes = config.max_call_bytes.min(part);
        config.max_unread = config.max_unread.min(part);
        let limits = &mut config.limits;
        for limit in [
            &mut limits.message,
            &mut limits.receive_pool,
            &mut limits.backlog,
            &mut limits.retained,
        ] {
            *limit = (*limit).min(part);
        }
        let lanes = u64::from(limits.lanes).max(1);
        limits.first_credit = limits.first_credit.min((part / lanes).max(LEAST_CREDIT));
        let lanes = part / limits.first_credit.max(1);
        limits.lanes = limits.lanes.min(u32::try_from(lanes).unwrap_or(u32::MAX));
        limits.reserve = limits.reserve.min(limits.retained / 2);
        config.limits = config.limits.clone().legal();
    }
}

/// Counts the calls that are under way, of all peers.
#[derive(Debug)]
pub(super) struct Calls {
    most: usize,
    under_way: AtomicUsize,
}

impl Calls {
    pub(super) const fn new(most: usize) -> Self {
        Self {
            most: if most == 0 { 1 } else { most },
            under_way: AtomicUsize::new(0),
        }
    }
}

/// What one connection is guarded by.
#[derive(Debug)]
pub(super) struct Counted(pub(super) std::sync::Arc<Calls>);

impl Guard for Counted {
    fn admit(&self, _access: &Access) -> Result<()> {
        let Calls { most, under_way } = &*self.0;
        let entered = under_way.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |calls| {
            (calls < *most).then_some(calls + 1)
        });
        entered.map(drop).map_err(|calls| {
            let text = format!("the server has {calls} calls under way, and takes no more: try again later");
            Error::new(ErrorKind::Overloaded, text)
        })
    }

    fn ended(&self, _access: &Access, _outcome: Result<(), &Error>, _took: Duration) {
        self.0.under_way.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Numbers of a server.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ServerStats {
    /// Connections that are open.
    pub connections: usize,
    /// Connections that are being set up.
    pub opening: u64,
    /// Carriers accepted since the start.
    pub accepted: u64,
    /// Of these, those that were turned away: by a limit, by the service, or since they spoke something else.
    pub refused: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_share_the_memory_and_are_no_more_than_it_has_room_for() {
        let mut limits = ServerLimits {
            memory: Some(384 << 20),
            connections: 16,
            ..ServerLimits::default()
        };
        let mut config = Config::default();
        limits.share_out(&mut config);
        assert_eq!((limits.connections, config.max_call_bytes), (16, 4 << 20));
        let kept = |config: &Config| {
            let of = &config.limits;
            let unasked = u64::from(of.lanes) * of.first_credit;
            config.max_call_bytes + of.receive_pool + unasked + of.backlog + of.retained + config.max_unread
        };
        let of = &config.limits;
        assert_eq!((of.lanes, of.first_credit), (32, 128 << 10));
        assert!(
            kept(&config) * 16 <= 384 << 20 && of.message <= of.receive_pool,
            "{config:?}"
        );
        limits.connections = 1024;
        limits.share_out(&mut config);
        assert_eq!(limits.connections, 192);
        let of = &config.limits;
        assert_eq!((of.lanes, of.first_credit), (10, 32 << 10));
        assert!(kept(&config) * 192 <= 384 << 20, "{config:?}");
        limits.memory = Some(1);
        limits.share_out(&mut config);
        assert_eq!(limits.connections, 1);
        let (before, mut config) = (limits, Config::default());
        limits.memory = None;
        limits.share_out(&mut config);
        assert_eq!(config, Config::default());
        assert_eq!(before.connections, limits.connections);
    }
}
