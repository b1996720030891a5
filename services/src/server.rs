//! Servers: listeners, limits, and an end that loses nothing.

mod coming;
#[cfg(all(unix, feature = "activation"))]
mod inherited;
mod limits;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use farref_boxing::{Error, ErrorKind, Result};
use farref_netref::{Config, Connection, RemoteTrait, Status};
use farref_transport::{Address, Dialect, ListenError, Media, PerSource};
use tokio::sync::{Notify, Semaphore, watch};
use tokio::task::JoinSet;

use crate::connect::IntoAddress;
use crate::monitor::{CountedCalls, Monitoring, Seen, Visitor};
use crate::protect::{Admitted, Protection, Trust, may_keep};
use crate::service::{Fixed, Service, Share};
use crate::sessions::Sessions;
use crate::source;

use self::coming::{Entrance, accept};
use self::limits::Calls;
pub use self::limits::{ServerLimits, ServerStats};

/// Shows `object` to everybody who connects to `address`, for as long as the future is polled.
///
/// # Errors
///
/// The address is none, or cannot be listened on.
///
/// # Cancel safety
///
/// Dropping the future stops the server and closes its connections.
pub async fn serve<T: ?Sized + RemoteTrait>(address: impl IntoAddress, object: impl Share<T>) -> Result<()> {
    let server = Server::new(Fixed::new(object));
    server.listen(address).await?;
    server.closed().await;
    Ok(())
}

/// A server: any number of listeners in front of one service.
///
/// It serves from the first [`listen`](Self::listen) on, on tasks of the runtime, until it is
/// [shut down](Self::shutdown) or dropped; dropping closes its connections at once.
pub struct Server {
    shared: Arc<Shared>,
    accepting: Mutex<JoinSet<()>>,
    stop: watch::Sender<Stop>,
}

/// Whether a server goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stop {
    No,
    /// It takes nobody in any more. Who is in already may end what is under way.
    Drain,
    /// Connections are closed as they are.
    Now,
}

struct Shared {
    service: Box<dyn Service>,
    config: Arc<Config>,
    limits: ServerLimits,
    media: Media,
    trust: Mutex<Option<Trust>>,
    connections: Mutex<BTreeMap<u64, Arc<Entry>>>,
    calls: Option<Arc<Calls>>,
    /// What peers in Python may have of threads of their own.
    python_threads: Arc<Semaphore>,
    monitoring: Mutex<Option<Monitoring>>,
    /// Connections that were let in since the start.
    let_in: AtomicU64,
    /// How often rights were looked up again.
    reloads: AtomicU64,
    /// Whether nobody can come back here: the next carrier meets another process.
    is_once: AtomicBool,
    sessions: Sessions,
    /// Connections that are being set up.
    opening: AtomicU64,
    /// Where these come from.
    sources: PerSource,
    accepted: AtomicU64,
    refused: AtomicU64,
    next: AtomicU64,
    /// Listeners since the start, and those of them that cannot accept any more.
    listeners: AtomicU64,
    broken: AtomicU64,
    changed: Notify,
}

/// A connection whose peer was let in.
struct Entry {
    connection: Connection,
    since: Instant,
    visit: Visit,
}

/// By which rights a peer is here.
struct Visit {
    visitor: source::Visitor,
    entrance: Arc<Entrance>,
    admitted: Admitted,
    /// How often rights had been looked up again when these were looked up.
    as_of: u64,
    /// Its calls, if they are counted.
    calls: Option<Arc<CountedCalls>>,
}

impl Visit {
    /// Whether the peer would get the same rights now.
    async fn holds(&self) -> bool {
        let now = self.entrance.protection.admit(&self.visitor).await;
        now.is_ok_and(|now| may_keep(&self.admitted, &now))
    }
}

impl Shared {
    /// The settings of a connection.
    fn config(&self) -> Arc<Config> {
        let mut config = Arc::clone(&self.config);
        if self.is_once.load(Ordering::Relaxed) {
            Arc::make_mut(&mut config).resume = Some(false);
        }
        config
    }

    fn stats(&self) -> ServerStats {
        // Against the way of a carrier, so that none is missed on its way from one number to the next.
        let refused = self.refused.load(Ordering::Acquire);
        let accepted = self.accepted.load(Ordering::Acquire);
        let opening = self.opening.load(Ordering::Acquire);
        let connections = lock(&self.connections).len();
        ServerStats {
            connections,
            opening,
            accepted,
            refused,
        }
    }

    /// The connections, the oldest first.
    fn visitors(&self) -> Vec<Visitor> {
        let connections = lock(&self.connections);
        let visitors = connections.iter().map(|(number, entry)| Visitor {
            number: *number,
            since: entry.since,
            connection: entry.connection.clone(),
            calls: entry.visit.calls.clone(),
        });
        visitors.collect()
    }

    /// Counts one more peer in.
    fn count_in(&self) -> Result<()> {
        let most = self.limits.in_all.unwrap_or(u64::MAX);
        let counted = self
            .let_in
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |count| {
                (count < most).then_some(count.saturating_add(1))
            });
        counted.map(drop).map_err(|_| {
            let text = format!("the server was started for {most} connections, and has had them");
            Error::new(ErrorKind::Denied, text)
        })
    }

    /// Counts one out that was not let in after all.
    fn count_out(&self) {
        self.let_in.fetch_sub(1, Ordering::AcqRel);
    }

    /// Whether nobody else is let in.
    fn is_used_up(&self) -> bool {
        let most = self.limits.in_all;
        most.is_some_and(|most| self.let_in.load(Ordering::Acquire) >= most)
    }
}

/// How long a service may hold up the end of a shutdown.
const A_MOMENT: Duration = Duration::from_secs(1);

impl Server {
    /// A server for `service`, with default settings, limits and media; it does not listen yet.
    #[must_use]
    pub fn new(service: impl Service) -> Self {
        Self::with(
            service,
            Config::default(),
            ServerLimits::default(),
            Media::standard(),
        )
    }

    /// A server that shows `object` to everybody.
    #[must_use]
    pub fn of<T: ?Sized + RemoteTrait>(object: impl Share<T>) -> Self {
        Self::new(Fixed::new(object))
    }

    /// A server with these settings, limits and media.
    #[must_use]
    pub fn with(service: impl Service, mut config: Config, mut limits: ServerLimits, media: Media) -> Self {
        limits.share_out(&mut config);
        let per_source = usize::try_from(limits.opening_per_source).unwrap_or(usize::MAX);
        let shared = Arc::new(Shared {
            service: Box::new(service),
            config: Arc::new(config),
            limits,
            media,
            trust: Mutex::default(),
            connections: Mutex::default(),
            calls: limits.calls.map(|most| Arc::new(Calls::new(most))),
            python_threads: Arc::new(Semaphore::new(limits.python_threads.min(Semaphore::MAX_PERMITS))),
            monitoring: Mutex::default(),
            let_in: AtomicU64::new(0),
            reloads: AtomicU64::new(0),
            is_once: AtomicBool::new(false),
            sessions: Sessions::default(),
            opening: AtomicU64::new(0),
            sources: PerSource::new(usize::MAX, per_source),
            accepted: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            next: AtomicU64::new(0),
            listeners: AtomicU64::new(0),
            broken: AtomicU64::new(0),
            changed: Notify::new(),
        });
        Self {
            shared,
            accepting: Mutex::default(),
            stop: watch::channel(Stop::No).0,
        }
    }

    /// Proves and demands this of peers, at addresses that ask for encryption, from the next
    /// [`listen`](Self::listen) on. Default: by the files of the user, see [`keys`](crate::keys).
    #[cfg(feature = "noise")]
    #[must_use]
    pub fn trust(self, trust: Trust) -> Self {
        *lock(&self.shared.trust) = Some(trust);
        self
    }

    /// Counts what goes on here, from now on, for the monitor of `monitoring`. What the server shows is
    /// [guarded](farref_netref::guard) for that: objects of its own that peers pass back to it count as far.
    #[must_use]
    pub fn with_monitoring(self, monitoring: &Monitoring) -> Self {
        // The monitor is among what the server shows: it must not keep the server.
        let (stats, connections) = (Arc::downgrade(&self.shared), Arc::downgrade(&self.shared));
        monitoring.watch_over(Seen {
            stats: Box::new(move || stats.upgrade().map(|shared| shared.stats()).unwrap_or_default()),
            connections: Box::new(move || {
                connections
                    .upgrade()
                    .map(|shared| shared.visitors())
                    .unwrap_or_default()
            }),
        });
        *lock(&self.shared.monitoring) = Some(monitoring.clone());
        self
    }

    /// Listens at `address` as well; where to dial to get here, with the real port if the system chose it.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Address`] if the address is none, or asks for encryption in a build without;
    /// [`ErrorKind::Misuse`] if it needs keys that cannot be used; [`ErrorKind::Unsupported`] for a medium that this build or system
    /// lacks; [`ErrorKind::Carrier`] if it cannot be listened on; [`ErrorKind::Misuse`] after a shutdown.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves the address alone.
    pub async fn listen(&self, address: impl IntoAddress) -> Result<Address> {
        let address = address.into_address()?;
        if *self.stop.borrow() != Stop::No {
            return Err(Error::new(ErrorKind::Misuse, "the server was shut down"));
        }
        let trust = lock(&self.shared.trust).clone();
        let protection = Protection::of(&address, trust).await?;
        let media = protection.media(self.shared.media.clone());
        let dialect = address.dialect();
        let bare = match dialect {
            Dialect::Rpyc => crate::rpyc::bare(address.clone()),
            _ => protection.bare(&address),
        };
        let listener = media.listen(&bare).await;
        let listener = listener.map_err(|error| listen_error(&error, &bare, &address))?;
        let local = listener.local_addresses().into_iter().next().unwrap_or(bare);
        let local = protection.full(local.with_dialect(dialect));
        self.shared.listeners.fetch_add(1, Ordering::Relaxed);
        let accept = accept(
            Arc::clone(&self.shared),
            listener,
            Arc::new(Entrance { dialect, protection }),
            self.stop.subscribe(),
        );
        lock(&self.accepting).spawn(accept);
        Ok(local)
    }

    /// The connections that are open.
    #[must_use]
    pub fn connections(&self) -> Vec<Connection> {
        let connections = lock(&self.shared.connections);
        connections
            .values()
            .map(|entry| entry.connection.clone())
            .collect()
    }

    /// Looks up again who is let in, as after a change of `authorized_peers`: connections whose peers are not any more, or
    /// would get other rights now, are closed. How many, but for those that were about to come in. Whoever comes is looked up
    /// in any case.
    ///
    /// # Cancel safety
    ///
    /// What was looked up until then was acted upon.
    pub async fn reload(&self) -> usize {
        // First: who comes in later, and was looked up earlier, sees it and looks again.
        self.shared.reloads.fetch_add(1, Ordering::AcqRel);
        let entries: Vec<_> = lock(&self.shared.connections).values().cloned().collect();
        let mut closed = 0;
        for entry in entries {
            if !entry.visit.holds().await {
                withdraw(&entry.connection);
                closed += 1;
            }
        }
        closed
    }

    /// Numbers.
    #[must_use]
    pub fn stats(&self) -> ServerStats {
        self.shared.stats()
    }

    /// Stops accepting, tells the peers to make no further calls, lets those under way end for at most `grace`,
    /// then closes every connection in order. A peer that has lost its carrier is not waited for: it finds nobody to
    /// come back to.
    ///
    /// # Cancel safety
    ///
    /// Nothing is accepted any more; dropping the server closes what is left.
    pub async fn shutdown(self, grace: Duration) {
        self.stop.send_replace(Stop::Drain);
        let mut accepting = std::mem::take(&mut *lock(&self.accepting));
        // With them go the listeners: their addresses are free afterwards.
        while accepting.join_next().await.is_some() {}
        let drained = async {
            // Those that are being set up turn back, or are open a moment later.
            self.wait_for(|stats| stats.opening == 0).await;
            let connections = self.connections();
            for connection in &connections {
                connection.drain();
            }
            for connection in &connections {
                // Nobody comes back any more. Cancel-safe: both only wait.
                tokio::select! {
                    () = connection.drained() => {}
                    () = loss(connection) => {}
                }
            }
        };
        // Whoever is not done within the grace is cut off below.
        let _ = tokio::time::timeout(grace, drained).await;
        let connections = self.connections();
        // All at once: a peer that does not answer holds up no other.
        for connection in &connections {
            connection.start_close();
        }
        for connection in &connections {
            connection.closed().await;
        }
        drop(connections);
        // They are off the list a moment later, unless the service is still busy with being told that they were there.
        let off_the_list = self.wait_for(|stats| stats.connections == 0);
        let _ = tokio::time::timeout(A_MOMENT, off_the_list).await;
    }

    /// Waits until the server has stopped accepting: by a shutdown elsewhere, since no listener is left, or since all
    /// connections that it may have [in all](ServerLimits::in_all) are over.
    ///
    /// # Cancel safety
    ///
    /// Safe.
    pub async fn closed(&self) {
        let mut stopped = self.stop.subscribe();
        let shared = &self.shared;
        let deserted = self.wait_for(|stats| {
            let broken = shared.broken.load(Ordering::Relaxed);
            let is_deserted = broken > 0 && broken == shared.listeners.load(Ordering::Relaxed);
            is_deserted || (shared.is_used_up() && stats.opening == 0 && stats.connections == 0)
        });
        tokio::select! {
            // The sender lives as long as the server: an error cannot come.
            () = stop_of(&mut stopped) => {}
            _ = deserted => {}
        }
    }

    /// Waits until `met` holds of the numbers.
    ///
    /// # Cancel safety
    ///
    /// Safe.
    pub async fn wait_for(&self, mut met: impl FnMut(&ServerStats) -> bool) -> ServerStats {
        loop {
            let mut changed = std::pin::pin!(self.shared.changed.notified());
            changed.as_mut().enable();
            let stats = self.stats();
            if met(&stats) {
                return stats;
            }
            changed.await;
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.send_replace(Stop::Now);
        for connection in self.connections() {
            connection.start_close();
        }
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server")
            .field("stats", &self.stats())
            .finish_non_exhaustive()
    }
}

/// Closes a connection whose peer is not to have it any more.
fn withdraw(connection: &Connection) {
    tracing::warn!(peer = %connection.peer(), "its rights were withdrawn: the connection is closed");
    connection.start_close();
}

/// Waits until a connection has lost its carrier.
async fn loss(connection: &Connection) {
    let mut watch = connection.watch();
    while watch.next().await == Status::Up {}
}

/// Waits until the server stops.
async fn stop_of(stop: &mut watch::Receiver<Stop>) {
    // An error means that the server is gone.
    let _ = stop.wait_for(|stop| *stop != Stop::No).await;
}

/// In the words of the one who listens at `address`, of which `bare` was made.
fn listen_error(error: &ListenError, bare: &Address, address: &Address) -> Error {
    let kind = match error {
        ListenError::Unsupported { .. } => ErrorKind::Unsupported,
        ListenError::NotEncrypted { .. } => ErrorKind::Address,
        _ => ErrorKind::Carrier,
    };
    let why = std::error::Error::source(error)
        .map(|why| format!(": {why}"))
        .unwrap_or_default();
    let text = format!("{error}{why}").replace(&bare.to_string(), &address.to_string());
    Error::new(kind, text)
}

fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
