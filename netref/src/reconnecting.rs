//! Roots that come back: a netref that outlives the process at its other end.
//!
//! A session outlives its carrier, and ends with either process. What is above it here outlives sessions: when one is
//! over, the peer is connected to again and asked for its root, and calls that certainly have not run, or that may run
//! twice, are made again. Everything else that was held of the old peer is gone, as its objects are.

mod calls;

use std::fmt;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use farref_boxing::{Error, ErrorKind};
use tokio::sync::oneshot;

use crate::call::BoxFuture;
use crate::clock;
use crate::config::Config;
use crate::connection::{Connection, Status, Watch, Watched};
use crate::engine::core::closed_here;
use crate::interface::RemoteTrait;
use crate::netref::Netref;
use crate::protocol::{Imported, Target};
use crate::remote::{Conduit, Import, Remote};
use crate::runtime;
use crate::until::until;

use calls::Calls;

/// A connection that lasted so long was a good one: the next is made without a pause. Else the pauses grow on, so that a
/// call that its peer does not survive is no reason to start it anew all the time.
const STEADY: Duration = Duration::from_secs(10);

/// How to connect to the same peer again.
pub trait Restore: Send + Sync + 'static {
    /// Connects once, after a pause if it likes: `attempt` counts from 0 since there was last a connection that lasted.
    /// Whatever the error, it is asked again until the time for that is over.
    ///
    /// # Cancel safety
    ///
    /// The future is dropped when nobody needs the connection any more.
    fn restore(&self, attempt: u32) -> BoxFuture<'static, Result<Connection, Error>>;
}

/// A connection to a peer that may be started anew, and the root that is found again then.
///
/// # What lasts
///
/// Netrefs of the [`root`](Self::root), and the calls made on them. While there is no connection they wait (or fail
/// as not sent, by [`Config::wait_while_down`]), and their deadlines run. A call that was under way is made again if it
/// was certainly not handed to the old object, or if its method is `#[idempotent]`; else it fails as
/// [`Disconnected`](ErrorKind::Disconnected), unknown. Calls that are made again come in the order in which they were
/// started, to an object that knows nothing of those before.
///
/// Other netrefs from that peer break with their connection: ask the root for new ones. To do so as soon as there is
/// a new connection, [`watch`](Self::watch) it.
#[derive(Clone)]
pub struct Reconnecting {
    root: Arc<Restored>,
}

impl Reconnecting {
    /// Goes on from `connection` by way of `restore`, until nobody holds the handle or a netref of its root, or for
    /// `give_up_after` without a connection. Settings that are about calls, in `config`, hold here too.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Incompatible`] if the peer shows no root; otherwise why there is no connection.
    ///
    /// # Cancel safety
    ///
    /// Safe: nothing has begun.
    pub async fn new(
        connection: Connection,
        restore: Arc<dyn Restore>,
        give_up_after: Option<Duration>,
        config: Config,
    ) -> Result<Self, Error> {
        let root = connection.import().await?;
        let (in_use, mut no_longer) = oneshot::channel();
        let calls = Calls::new(root, connection.clone(), config, in_use);
        let keeper = Keeper {
            calls: Arc::downgrade(&calls),
            restore,
            give_up_after,
            steady: STEADY,
        };
        runtime::handle().spawn(async move {
            let kept = keeper.keep(connection);
            // Cancel-safe: nobody is left who could see a difference.
            tokio::select! {
                biased;
                _ = &mut no_longer => {}
                () = kept => {}
            }
        });
        let conduit = Arc::clone(&calls) as Arc<dyn Conduit>;
        Ok(Self {
            root: Arc::new(Restored { calls, conduit }),
        })
    }

    /// The peer's root, whichever process it lives in.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Incompatible`] if the root has another interface.
    pub fn root<T: ?Sized + RemoteTrait>(&self) -> Result<Netref<T>, Error> {
        let root = Arc::clone(&self.root) as Arc<dyn Remote>;
        crate::netref::typed(&crate::hosted::Handle::Remote(root, None))
    }

    /// The connection that there is now, or was last.
    #[must_use]
    pub fn connection(&self) -> Connection {
        self.calls().connection().0
    }

    /// How many connections there were: more than before if the peer was started anew.
    #[must_use]
    pub fn connections(&self) -> u64 {
        self.calls().connection().1
    }

    /// Where it stands: [`Status::Down`] without a carrier as without a connection, [`Status::Over`] when it is not
    /// coming back.
    #[must_use]
    pub fn status(&self) -> Status {
        self.calls().status().0
    }

    /// Tells how it fares, now and whenever that changes; [`connections`](Self::connections) tells whether it is
    /// another connection. The watch keeps the connection open.
    #[must_use]
    pub fn watch(&self) -> Watch {
        Watch::on(Arc::new(self.clone()))
    }

    /// Closes in order, and does not come back.
    ///
    /// # Cancel safety
    ///
    /// Safe: the close goes on.
    pub async fn close(&self) {
        self.calls().end(&closed_here().1);
        self.connection().close().await;
    }

    fn calls(&self) -> &Calls {
        &self.root.calls
    }
}

impl Watched for Reconnecting {
    fn status(&self, other_than: Option<u64>) -> BoxFuture<'_, (Status, u64)> {
        Box::pin(async move {
            let status = || Some(self.calls().status()).filter(|(_, changes)| other_than != Some(*changes));
            until(&self.calls().changed, status).await
        })
    }
}

impl fmt::Debug for Reconnecting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (connection, connections) = self.calls().connection();
        f.debug_struct("Reconnecting")
            .field("peer", &connection.peer())
            .field("connections", &connections)
            .field("status", &self.status())
            .finish_non_exhaustive()
    }
}

/// The root that is found again.
struct Restored {
    calls: Arc<Calls>,
    /// The same.
    conduit: Arc<dyn Conduit>,
}

impl Remote for Restored {
    fn conduit(&self) -> &Arc<dyn Conduit> {
        &self.conduit
    }

    fn target(&self) -> Target {
        self.calls.root().target()
    }

    fn imported(&self) -> Option<Imported> {
        self.calls.root().imported()
    }

    fn import_over(self: Arc<Self>, conduit: &dyn Conduit) -> Option<Arc<Import>> {
        self.calls.root().import_over(conduit)
    }
}

/// Sees to it that there is a connection.
struct Keeper {
    calls: Weak<Calls>,
    restore: Arc<dyn Restore>,
    give_up_after: Option<Duration>,
    /// How long a good connection lasts.
    steady: Duration,
}

impl Keeper {
    async fn keep(self, mut connection: Connection) {
        let mut attempt = 0;
        loop {
            let since = Instant::now();
            let Some(why) = self.watch(&connection).await else {
                return;
            };
            let Some(calls) = self.calls.upgrade() else { return };
            tracing::debug!(peer = %connection.peer(), %why, "the connection is over; another is made");
            calls.set_status(Status::Down(why.clone()));
            calls.lost().await;
            drop(calls);
            if since.elapsed() >= self.steady {
                attempt = 0;
            }
            let Some((root, next)) = self.find(&mut attempt, &why).await else {
                return;
            };
            connection = next.clone();
            let Some(calls) = self.calls.upgrade() else { return };
            calls.restored(root, next);
        }
    }

    /// Waits until `connection` is over, and why it is; `None` if nobody wants to know.
    async fn watch(&self, connection: &Connection) -> Option<Error> {
        let mut watch = connection.watch();
        loop {
            match watch.next().await {
                Status::Over(why) => return Some(why),
                status => self.calls.upgrade()?.set_status(status),
            }
        }
    }

    /// Another connection, and its root; `None` if there will be none.
    async fn find(&self, attempt: &mut u32, why: &Error) -> Option<(Arc<Import>, Connection)> {
        let until = self
            .give_up_after
            .map(|patience| tokio::time::Instant::now() + patience);
        let mut failed = None;
        loop {
            let number = *attempt;
            *attempt = attempt.saturating_add(1);
            // Cancel-safe: a connection that was about to be made is dropped.
            let tried = tokio::select! {
                biased;
                () = self.tend() => return None,
                tried = self.attempt(number) => tried,
                () = at(until) => {
                    self.calls.upgrade()?.end(&given_up(self.give_up_after, why, failed.as_ref()));
                    return None;
                }
            };
            match tried {
                Ok(found) => return Some(found),
                Err(error) => {
                    tracing::debug!(%error, attempt = number, "no connection yet");
                    failed = Some(error);
                }
            }
        }
    }

    async fn attempt(&self, number: u32) -> Result<(Arc<Import>, Connection), Error> {
        let connection = self.restore.restore(number).await?;
        let root = connection.import().await?;
        let gone = || Error::new(ErrorKind::Misuse, "nobody needs the connection any more");
        let calls = self.calls.upgrade().ok_or_else(gone)?;
        let is_other =
            root.imported().map(|root| root.interface) != calls.root().imported().map(|root| root.interface);
        if is_other {
            let text = "the peer's root has another interface than before";
            return Err(Error::new(ErrorKind::Incompatible, text));
        }
        Ok((root, connection))
    }

    /// Fails calls that have waited for too long, until no connection is wanted any more.
    async fn tend(&self) {
        while let Some(calls) = self.calls.upgrade() {
            let changed = Arc::clone(&calls.changed);
            let mut changed = std::pin::pin!(changed.notified());
            // Registered before looking: a call that is queued after the look is not missed.
            changed.as_mut().enable();
            if calls.is_over() {
                return;
            }
            let next = calls.expire();
            drop(calls);
            // Cancel-safe: both only wait.
            tokio::select! {
                () = changed => {}
                () = at(next.map(|next| clock::instant(next).into())) => {}
            }
        }
    }
}

async fn at(time: Option<tokio::time::Instant>) {
    match time {
        Some(time) => tokio::time::sleep_until(time).await,
        None => std::future::pending().await,
    }
}

fn given_up(after: Option<Duration>, why: &Error, failed: Option<&Error>) -> Error {
    let mut text = format!(
        "no connection for {:?}, since {}",
        after.unwrap_or_default(),
        why.message()
    );
    if let Some(failed) = failed {
        text = format!("{text}; the last attempt: {}", failed.message());
    }
    Error::new(ErrorKind::Carrier, text)
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;
    use crate::lock::lock;

    /// Notes which attempts it is asked for, and makes a connection that is over at once by every second one.
    struct Notes {
        attempts: Mutex<Vec<u32>>,
        no_more: Mutex<Option<oneshot::Sender<()>>>,
    }

    impl Restore for Notes {
        fn restore(&self, attempt: u32) -> BoxFuture<'static, Result<Connection, Error>> {
            let mut attempts = lock(&self.attempts);
            attempts.push(attempt);
            let fails = attempts.len() % 2 == 1;
            if attempts.len() == 5 {
                drop(lock(&self.no_more).take());
                return Box::pin(std::future::pending());
            }
            Box::pin(async move {
                if fails {
                    return Err(ErrorKind::Carrier.into());
                }
                Ok(calls::tests::shows_a_root().await)
            })
        }
    }

    #[test]
    fn only_a_connection_that_lasts_is_a_reason_to_come_back_without_a_pause() {
        for (steady, attempts) in [
            (Duration::ZERO, [0, 1, 0, 1, 0]),
            (Duration::MAX, [0, 1, 2, 3, 4]),
        ] {
            let (tell, told) = oneshot::channel();
            let notes = Arc::new(Notes {
                attempts: Mutex::default(),
                no_more: Mutex::new(Some(tell)),
            });
            runtime::background().block_on(async {
                let connection = calls::tests::shows_a_root().await;
                let root = connection.import().await.unwrap();
                let (in_use, _no_longer) = oneshot::channel();
                let calls = Calls::new(root, connection.clone(), Config::default(), in_use);
                let keeper = Keeper {
                    calls: Arc::downgrade(&calls),
                    restore: Arc::clone(&notes) as Arc<dyn Restore>,
                    give_up_after: None,
                    steady,
                };
                let kept = tokio::time::timeout(Duration::from_secs(30), async {
                    tokio::select! {
                        () = keeper.keep(connection) => {}
                        _ = told => {}
                    }
                });
                kept.await.expect("it comes back again and again");
            });
            assert_eq!(*lock(&notes.attempts), attempts);
        }
    }
}
