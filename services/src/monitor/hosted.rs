//! Looks at a server for those who ask.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use farref_boxing::Result;
use farref_netref::{Connection, Holding, Pending, Status, Stream, remote};

use super::{ConnectionState, Counts, Held, Holdings, Monitor, Snapshot, Underway};
use crate::monitor::CountedCalls;
use crate::server::ServerStats;

/// So many of each are told at most.
const MOST_CONNECTIONS: usize = 1000;
const MOST_METHODS: usize = 200;
/// So many are asked for signs of life at each look.
const MOST_ASKED: usize = 256;
const MOST_ROWS: usize = 1000;

/// The least time between two looks, in milliseconds.
const OFTEN: u32 = 100;

/// A server, as its monitor looks at it; it keeps nothing of it.
pub(crate) struct Seen {
    pub(crate) stats: Box<dyn Fn() -> ServerStats + Send + Sync>,
    pub(crate) connections: Box<dyn Fn() -> Vec<Visitor> + Send + Sync>,
}

/// A connection of a server.
pub(crate) struct Visitor {
    pub(crate) number: u64,
    pub(crate) since: Instant,
    pub(crate) connection: Connection,
    pub(crate) calls: Option<Arc<CountedCalls>>,
}

/// What is known of one server.
pub(super) struct Board {
    since: Instant,
    counts: Arc<Counts>,
    server: Mutex<Option<Arc<Seen>>>,
    asked: Asked,
}

/// Connections whose peers were asked for a sign of life that has not come yet.
type Asked = Arc<Mutex<HashSet<u64>>>;

impl Default for Board {
    fn default() -> Self {
        Self {
            since: Instant::now(),
            counts: Arc::default(),
            server: Mutex::default(),
            asked: Asked::default(),
        }
    }
}

impl Board {
    #[cfg(feature = "metrics")]
    pub(super) fn named(name: String) -> Self {
        Self {
            counts: Arc::new(Counts::published_as(name)),
            ..Self::default()
        }
    }

    #[cfg(feature = "metrics")]
    pub(super) fn publish(&self) {
        if let Some(server) = self.server() {
            self.counts
                .published
                .server(&(server.stats)(), &(server.connections)());
        }
    }

    pub(super) fn watch_over(&self, server: Seen) {
        *self.server.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(server));
    }

    pub(super) const fn counts(&self) -> &Arc<Counts> {
        &self.counts
    }

    fn server(&self) -> Option<Arc<Seen>> {
        self.server.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn look(&self) -> Snapshot {
        let server = self.server();
        let stats = server.as_ref().map(|server| (server.stats)()).unwrap_or_default();
        let mut connections = server.map(|server| (server.connections)()).unwrap_or_default();
        connections.truncate(MOST_CONNECTIONS);
        for visitor in connections.iter().take(MOST_ASKED) {
            self.ask(visitor);
        }
        Snapshot {
            age_millis: millis(self.since.elapsed()),
            opening: stats.opening,
            accepted: stats.accepted,
            refused: stats.refused,
            connections: connections.iter().map(state).collect(),
            methods: self.counts.methods(MOST_METHODS),
        }
    }

    /// Asks for a sign of life, so that the next look tells how long that takes. Whoever is silent is asked once.
    fn ask(&self, visitor: &Visitor) {
        let (number, connection) = (visitor.number, visitor.connection.clone());
        if !waiting(&self.asked).insert(number) {
            return;
        }
        let asked = Arc::clone(&self.asked);
        tokio::spawn(async move {
            // What it tells is in the numbers of the connection.
            let _ = connection.ping().await;
            waiting(&asked).remove(&number);
        });
    }

    fn find(&self, number: u64) -> Option<Connection> {
        let connections = (self.server()?.connections)();
        let found = connections.into_iter().find(|visitor| visitor.number == number);
        found.map(|visitor| visitor.connection)
    }
}

#[remote]
impl Monitor for Board {
    async fn snapshot(&self) -> Result<Snapshot> {
        Ok(self.look())
    }

    async fn watch(&self, millis: u32) -> Result<Stream<Snapshot>> {
        let pause = Duration::from_millis(millis.max(OFTEN).into());
        let (mut sender, stream) = Stream::channel(1);
        let board = Self {
            since: self.since,
            counts: Arc::clone(&self.counts),
            server: Mutex::new(self.server()),
            asked: Arc::clone(&self.asked),
        };
        tokio::spawn(async move {
            // It ends when nobody reads any more.
            while sender.send(board.look()).await.is_ok() {
                // Cancel-safe: both only wait.
                tokio::select! {
                    () = tokio::time::sleep(pause) => {}
                    () = sender.closed() => return,
                }
            }
        });
        Ok(stream)
    }

    async fn holdings(&self, connection: u64) -> Result<Option<Holdings>> {
        Ok(self.find(connection).map(|connection| {
            connection.track_holdings();
            holdings(&connection)
        }))
    }

    async fn close(&self, connection: u64) -> Result<bool> {
        let found = self.find(connection);
        if let Some(connection) = &found {
            connection.start_close();
        }
        Ok(found.is_some())
    }
}

fn waiting(asked: &Asked) -> MutexGuard<'_, HashSet<u64>> {
    asked.lock().unwrap_or_else(PoisonError::into_inner)
}

fn state(visitor: &Visitor) -> ConnectionState {
    let Visitor {
        number,
        since,
        connection,
        calls,
    } = visitor;
    let (stats, peer) = (connection.stats(), connection.peer());
    let (calls, failed) = calls.as_ref().map(|calls| calls.numbers()).unwrap_or_default();
    let carrier = stats.carrier.and_then(|carrier| carrier.round_trip);
    let round_trip = stats.round_trip.or(carrier);
    ConnectionState {
        number: *number,
        peer: peer.to_string(),
        medium: peer.medium.to_owned(),
        age_millis: millis(since.elapsed()),
        is_up: connection.status() == Status::Up,
        round_trip_micros: round_trip.map(|time| u64::try_from(time.as_micros()).unwrap_or(u64::MAX)),
        carriers: stats.traffic.carriers,
        bytes_sent: stats.traffic.bytes_sent,
        bytes_received: stats.traffic.bytes_received,
        calls,
        failed,
        answers: count(stats.answers),
        asked: count(stats.calls),
        exports: count(stats.exports),
        imports: count(stats.imports),
    }
}

fn holdings(connection: &Connection) -> Holdings {
    let all = connection.holdings();
    let held = |of: Vec<Holding>| {
        let mut held: Vec<Held> = of.into_iter().map(held).collect();
        held.sort_by_key(|held| (std::cmp::Reverse(held.age_millis), held.number));
        held.truncate(MOST_ROWS);
        held
    };
    let calls = |of: Vec<Pending>| of.into_iter().take(MOST_ROWS).map(underway).collect();
    Holdings {
        exports: held(all.exports),
        imports: held(all.imports),
        answers: calls(all.answers),
        asked: calls(all.calls),
    }
}

fn held(of: Holding) -> Held {
    Held {
        number: of.number,
        interface: of.interface.map(str::to_owned),
        count: of.count,
        age_millis: of.age.map(millis),
        idle_millis: of.idle.map(millis),
        origin: of.origin.map(|origin| origin.to_string()),
    }
}

fn underway(of: Pending) -> Underway {
    Underway {
        method: of.method.map(|method| method.to_string()),
        age_millis: millis(of.age),
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

fn count(of: usize) -> u64 {
    u64::try_from(of).unwrap_or(u64::MAX)
}
