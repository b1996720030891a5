//! `Connection`: one peer, whatever leads to it.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use farref_boxing::{Error, ErrorKind};
use farref_framing::{
    AttachConfig, CarrierStats, Gauge, Guard, Inlet, Link, Nanos, Negotiated, Outlet, Rejection,
    ResumeRequest, SessionId, Tombstone,
};

use crate::call::BoxFuture;
use crate::clock;
use crate::config::Config;
use crate::engine::anchor::Anchor;
use crate::engine::core::{Core, MANY_ROWS};
use crate::engine::driver;
use crate::engine::state::Notice;
use crate::holdings::Holdings;
use crate::hosted::Exported;
use crate::interface::RemoteTrait;
use crate::lock::lock;
use crate::native::Native;
use crate::netref::{Netref, typed};
use crate::object::Object;
use crate::peer::Peer;
use crate::protocol::{Outgoing, Protocol, Received, TableStats, Traffic};
use crate::references;
use crate::remote::{EngineHandles, Import};
use crate::until::until;

/// A connection to one peer. Both ends are equal: either may have a root, and either may call.
///
/// Clones are handles on the same connection. It stays open while anybody on this side holds a handle or a netref
/// of the peer's, or the peer holds something of ours.
#[derive(Clone)]
pub struct Connection {
    inner: Arc<dyn Controls>,
}

/// What a connection offers, whatever protocol it speaks.
trait Controls: Watched {
    fn opened(&self) -> BoxFuture<'_, Result<Received<EngineHandles>, Error>>;
    fn ping(&self) -> BoxFuture<'_, Result<Duration, Error>>;
    fn close(&self);
    fn drain(&self);
    fn closed(&self) -> BoxFuture<'_, Error>;
    fn on_closed(&self, notice: Notice);
    fn drained(&self) -> BoxFuture<'_, ()>;
    fn over(&self) -> Option<Error>;
    fn stats(&self) -> Stats;
    fn track(&self);
    fn holdings(&self) -> Holdings;
    fn set_call_timeout(&self, timeout: Option<Duration>);
    fn peer(&self) -> Arc<Peer>;
    fn status_now(&self) -> (Status, u64);
    fn session(&self) -> Option<SessionId>;
    fn tombstone(&self) -> Option<Tombstone>;
    fn resume(
        &self,
        request: ResumeRequest,
        parts: Parts,
        native: bool,
    ) -> Result<(), Box<(Rejection, Parts)>>;
}

/// What a connection is made of.
#[non_exhaustive]
pub struct Parts {
    /// The reading half of the carrier.
    pub inlet: Inlet,
    /// The writing half.
    pub outlet: Outlet,
    /// Who is at the other end.
    pub peer: Peer,
    /// Whether the connection stays open when nobody on this side holds it: on the side that serves. Default false.
    pub keep_open: bool,
    /// What must outlive the halves. Default nothing.
    pub guard: Guard,
    /// Where the carrier's own numbers are read. Default nowhere.
    pub gauge: Option<Gauge>,
    /// What was agreed with the peer, if the link has told that already. Default not.
    pub opened: Option<Negotiated>,
    /// Where other carriers come from when this one is lost, on the side that dialled. Default nowhere.
    pub redial: Option<Arc<dyn Redial>>,
}

/// Another carrier for a session, on the side that dialled.
#[derive(Debug)]
#[non_exhaustive]
pub struct NextCarrier {
    /// Its halves, and who is at its other end.
    pub parts: Parts,
    /// What the link must know of it.
    pub attach: AttachConfig,
    /// Whether it has streams of its own.
    pub native: bool,
}

impl NextCarrier {
    /// A carrier of one stream each way, or of many if `native`.
    #[must_use]
    pub const fn new(parts: Parts, attach: AttachConfig, native: bool) -> Self {
        Self {
            parts,
            attach,
            native,
        }
    }
}

/// Where the carriers of a session come from.
pub trait Redial: Send + Sync + 'static {
    /// Dials once, after a pause if it likes: `attempt` counts from 0 since the last carrier was lost, or from more if
    /// the last ones were lost as soon as they were there. Whatever the error, it is asked again until the session's
    /// time is over.
    ///
    /// # Cancel safety
    ///
    /// The future is dropped when the session ends.
    fn redial(&self, attempt: u32) -> BoxFuture<'static, Result<NextCarrier, Error>>;
}

/// Where a connection stands.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Status {
    /// It has a carrier.
    Up,
    /// It has lost its carrier, for this reason, and waits for another. Calls wait too.
    Down(Error),
    /// It is over, for this reason.
    Over(Error),
}

/// Tells how a connection fares: see [`Connection::watch`]. It is a handle on the connection as any other, and keeps it
/// open.
pub struct Watch {
    of: Arc<dyn Watched>,
    seen: Option<u64>,
}

/// What can be watched.
pub(crate) trait Watched: Send + Sync {
    /// The status, and a number that is another whenever that has changed; waits while it is `other_than`.
    fn status(&self, other_than: Option<u64>) -> BoxFuture<'_, (Status, u64)>;
}

impl Watch {
    pub(crate) fn on(of: Arc<dyn Watched>) -> Self {
        Self { of, seen: None }
    }

    /// The status: at once the first time, then whenever it has changed. What came in between is passed over.
    /// After [`Status::Over`] nothing changes, and this waits for ever.
    ///
    /// # Cancel safety
    ///
    /// Safe.
    pub async fn next(&mut self) -> Status {
        let (status, changes) = self.of.status(self.seen).await;
        self.seen = Some(changes);
        status
    }
}

impl Parts {
    /// The halves of a carrier, and who is at its other end.
    #[must_use]
    pub fn new(inlet: Inlet, outlet: Outlet, peer: Peer) -> Self {
        Self {
            inlet,
            outlet,
            peer,
            keep_open: false,
            guard: Guard::none(),
            gauge: None,
            opened: None,
            redial: None,
        }
    }
}

impl fmt::Debug for Parts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Parts")
            .field("peer", &self.peer)
            .finish_non_exhaustive()
    }
}

/// What is shown to a peer first.
#[derive(Clone)]
pub struct Root(Option<Arc<dyn Exported>>);

impl Root {
    /// Nothing.
    pub const NONE: Self = Self(None);

    /// This object, under this interface.
    #[must_use]
    pub fn of<T: ?Sized + RemoteTrait>(netref: &Netref<T>) -> Self {
        Self(Some(netref.exported()))
    }

    /// This object, which is called by name or as what it is handed out.
    #[must_use]
    pub fn of_object(object: &Object) -> Self {
        Self(Some(object.exported()))
    }

    /// The object, shown as another one.
    pub(crate) fn map(self, show: impl FnOnce(Arc<dyn Exported>) -> Arc<dyn Exported>) -> Self {
        Self(self.0.map(show))
    }

    /// The object, for a protocol that is not farref's own.
    #[must_use]
    pub fn into_object(self) -> Option<Arc<dyn Exported>> {
        self.0
    }

    fn into_outgoing(self) -> Outgoing<EngineHandles> {
        self.0.map_or(Outgoing::Null, references::local)
    }
}

impl fmt::Debug for Root {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Some(object) => write!(f, "Root({object:?})"),
            None => f.write_str("Root(none)"),
        }
    }
}

impl Connection {
    /// Speaks farref's own protocol over the link that `link` makes; it is told the time.
    #[must_use]
    pub fn native(
        link: impl FnOnce(Nanos) -> Box<dyn Link>,
        parts: Parts,
        root: Root,
        config: impl Into<Arc<Config>>,
    ) -> Self {
        let config = config.into();
        let shows_root = root.0.is_some();
        let now = clock::now();
        let mut native = Native::new(link(now), &config, root.into_outgoing(), now);
        if let Some(negotiated) = &parts.opened {
            native.opened(negotiated);
        }
        Self::over(native, parts, shows_root, config)
    }

    /// Speaks `protocol`; `shows_root` says whether an object of ours is among its exports from the start.
    #[must_use]
    pub fn over<P: Protocol<EngineHandles>>(
        protocol: P,
        parts: Parts,
        shows_root: bool,
        config: impl Into<Arc<Config>>,
    ) -> Self {
        let core = Core::new(protocol, parts, shows_root, config.into());
        let inner = Arc::new(Handle(core.anchor()));
        driver::start(&core);
        Self { inner }
    }

    /// The object that the peer shows first.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Incompatible`] if the peer shows none, or one with another interface; otherwise why the
    /// connection could not be established or was lost.
    ///
    /// # Cancel safety
    ///
    /// Safe.
    pub async fn root<T: ?Sized + RemoteTrait>(&self) -> Result<Netref<T>, Error> {
        match self.inner.opened().await? {
            Received::Null => Err(self.shows_none()),
            root => typed(&references::handle(root)),
        }
    }

    /// The object that the peer shows first, by name.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Incompatible`] if the peer shows none; otherwise why the connection could not be established or
    /// was lost.
    ///
    /// # Cancel safety
    ///
    /// Safe.
    pub async fn object(&self) -> Result<Object, Error> {
        match self.inner.opened().await? {
            Received::Null => Err(self.shows_none()),
            root => Object::of_handle(&references::handle(root)),
        }
    }

    /// The peer's root as an import, whatever its interface.
    pub(crate) async fn import(&self) -> Result<Arc<Import>, Error> {
        match self.inner.opened().await? {
            Received::Import(root) => Ok(root),
            Received::Broken(error) => Err(error),
            Received::Null => Err(self.shows_none()),
            Received::Home(_) => {
                let text = format!("{} shows an object of this side as its root", self.peer());
                Err(Error::new(ErrorKind::Incompatible, text))
            }
        }
    }

    fn shows_none(&self) -> Error {
        let text = format!("{} shows no root object: it only calls", self.peer());
        Error::new(ErrorKind::Incompatible, text)
    }

    /// Waits until the peer has introduced itself.
    ///
    /// # Errors
    ///
    /// Why the connection could not be established: the other end speaks another protocol or version, or was
    /// silent for [`Config::setup_timeout`].
    ///
    /// # Cancel safety
    ///
    /// Safe.
    pub async fn established(&self) -> Result<(), Error> {
        self.inner.opened().await.map(drop)
    }

    /// Asks the peer for a sign of life; the round trip.
    ///
    /// # Errors
    ///
    /// The connection is over.
    ///
    /// # Cancel safety
    ///
    /// Safe.
    pub async fn ping(&self) -> Result<Duration, Error> {
        self.inner.ping().await
    }

    /// Closes in order: what was sent before is still written, the peer is told, and waits for both.
    ///
    /// Calls that are under way end as [`ErrorKind::Disconnected`], those of the peer's are given up.
    ///
    /// # Cancel safety
    ///
    /// Safe: the close goes on.
    pub async fn close(&self) {
        self.inner.close();
        self.inner.closed().await;
    }

    /// Starts to [`close`](Self::close), and does not wait for it.
    pub fn start_close(&self) {
        self.inner.close();
    }

    /// Makes no further calls, and asks the peer for none; those under way go on, and so do those that they make.
    ///
    /// New ones fail on either side as [`Disconnected`](ErrorKind::Disconnected), not sent.
    pub fn drain(&self) {
        self.inner.drain();
    }

    /// Waits until no call of the peer's is under way, or the connection is over. After a
    /// [`drain`](Self::drain) by either side: until none can come any more.
    ///
    /// # Cancel safety
    ///
    /// Safe.
    pub async fn drained(&self) {
        self.inner.drained().await;
    }

    /// Waits until the connection is over, and says why.
    ///
    /// # Cancel safety
    ///
    /// Safe.
    pub async fn closed(&self) -> Error {
        self.inner.closed().await
    }

    /// Runs `notice` once when the connection is [over](Self::closed), which is told why: at once if it is over already. It runs
    /// on a task, and must not block. It takes less memory than a task that waits. If the runtime is shut down first, `notice` is
    /// dropped.
    pub fn on_closed(&self, notice: impl FnOnce(Error) + Send + 'static) {
        self.inner.on_closed(Box::new(notice));
    }

    /// Whether the connection is over.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.inner.over().is_some()
    }

    /// Tells whether the connection has a carrier, and whether it is over, now and whenever that changes.
    #[must_use]
    pub fn watch(&self) -> Watch {
        Watch::on(Arc::clone(&self.inner) as Arc<dyn Watched>)
    }

    /// Where the connection stands.
    #[must_use]
    pub fn status(&self) -> Status {
        self.inner.status_now().0
    }

    /// The session, if the connection outlives its carrier.
    #[must_use]
    pub fn session(&self) -> Option<SessionId> {
        self.inner.session()
    }

    /// What is left of the session when it is over: enough to tell a dialer that comes back what was received.
    #[must_use]
    pub fn tombstone(&self) -> Option<Tombstone> {
        self.inner.tombstone()
    }

    /// Goes on over another carrier, whose dialer has asked to; `native` if it has streams of its own. Whoever calls
    /// has made sure that the peer is the same, and may still come in. The old carrier is given up first.
    ///
    /// # Errors
    ///
    /// What to tell the dialer, and the carrier for that; nothing has changed then.
    pub fn resume(
        &self,
        request: ResumeRequest,
        parts: Parts,
        native: bool,
    ) -> Result<(), Box<(Rejection, Parts)>> {
        self.inner.resume(request, parts, native)
    }

    /// Who is at the other end, by what the carrier tells that there is now, or was last. A session that goes on over
    /// another carrier is the same peer's, and may know more of it then.
    #[must_use]
    pub fn peer(&self) -> Arc<Peer> {
        self.inner.peer()
    }

    /// Numbers: what either side holds of the other, what is under way, and what has gone over the wire.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.inner.stats()
    }

    /// Who holds what over this connection, and what is under way: for people who look for what is kept too long.
    ///
    /// Types and counts are always known. Age, last use, origin, calls and candidates for cycles are known of what came
    /// since they are tracked: from the start with [`Config::track_holdings`], or since
    /// [`track_holdings`](Self::track_holdings). At most 65,536 of each table are told; [`stats`](Self::stats) has the numbers.
    ///
    /// ```
    /// # fn example(connection: &farref_netref::Connection) {
    /// connection.track_holdings();
    /// // ... and later:
    /// print!("{}", connection.holdings());
    /// # }
    /// ```
    #[must_use]
    pub fn holdings(&self) -> Holdings {
        self.inner.holdings()
    }

    /// Notes from now on where references come from and when they are used, for [`holdings`](Self::holdings). That costs some
    /// 100 bytes for each object and call.
    pub fn track_holdings(&self) {
        self.inner.track();
    }

    /// Sets how long calls made from now on may take if they do not say otherwise; `None`, the default, is for
    /// ever. Resolution: nanoseconds.
    pub fn call_timeout(&self, timeout: Option<Duration>) {
        self.inner.set_call_timeout(timeout);
    }
}

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watch")
            .field("seen", &self.seen)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection")
            .field("peer", &self.inner.peer())
            .field("over", &self.inner.over())
            .finish_non_exhaustive()
    }
}

/// Numbers of a connection.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Objects of ours that the peer holds, without the root.
    pub exports: usize,
    /// Objects of the peer's that this side holds, its root included once it was asked for.
    pub imports: usize,
    /// Calls to the peer that are not over.
    pub calls: usize,
    /// Calls of the peer's that are not over.
    pub answers: usize,
    /// The latest measured round trip.
    pub round_trip: Option<Duration>,
    /// Bytes and messages, as the layer above the carriers counts them.
    pub traffic: Traffic,
    /// What the carrier counts itself, if it makes up for losses: QUIC and serial lines do.
    pub carrier: Option<CarrierStats>,
}

/// What all clones of a [`Connection`] share.
struct Handle<P: Protocol<EngineHandles>>(Arc<Anchor<P>>);

impl<P: Protocol<EngineHandles>> Drop for Handle<P> {
    fn drop(&mut self) {
        let root = lock(&self.0.core.state).forget_root();
        drop(root);
    }
}

impl<P: Protocol<EngineHandles>> Handle<P> {
    fn core(&self) -> &Core<P> {
        &self.0.core
    }

    /// Waits until `ready` finds something, looking again whenever the connection changes.
    async fn changed<R>(&self, mut ready: impl FnMut(&Core<P>) -> Option<R>) -> R {
        until(&self.core().changed, || ready(self.core())).await
    }
}

impl<P: Protocol<EngineHandles>> Watched for Handle<P> {
    fn status(&self, other_than: Option<u64>) -> BoxFuture<'_, (Status, u64)> {
        Box::pin(self.changed(move |core| {
            let (status, changes) = core.status();
            (other_than != Some(changes)).then_some((status, changes))
        }))
    }
}

impl<P: Protocol<EngineHandles>> Controls for Handle<P> {
    fn opened(&self) -> BoxFuture<'_, Result<Received<EngineHandles>, Error>> {
        Box::pin(self.changed(|core| {
            let state = lock(&core.state);
            let opened = state.opened.as_ref().map(|root| Ok(root.clone()));
            opened.or_else(|| state.over.as_ref().map(|error| Err(error.clone())))
        }))
    }

    fn ping(&self) -> BoxFuture<'_, Result<Duration, Error>> {
        Box::pin(async {
            let before = lock(&self.core().state).round_trip.0;
            self.core().update(|protocol| protocol.ping(clock::now()));
            self.changed(|core| {
                let state = lock(&core.state);
                match &state.over {
                    Some(error) => Some(Err(error.clone())),
                    None if state.round_trip.0 != before => {
                        Some(Ok(Duration::from_nanos(state.round_trip.1)))
                    }
                    None => None,
                }
            })
            .await
        })
    }

    fn close(&self) {
        self.core().close();
    }

    fn drain(&self) {
        self.core().make_no_calls();
    }

    fn closed(&self) -> BoxFuture<'_, Error> {
        Box::pin(self.changed(|core| {
            let state = lock(&core.state);
            if state.ended { state.over.clone() } else { None }
        }))
    }

    fn on_closed(&self, notice: Notice) {
        self.core().when_ended(notice);
    }

    fn drained(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {
            self.core().watch_answers();
            self.changed(|core| {
                let state = lock(&core.state);
                (state.over.is_some() || state.has_no_answers()).then_some(())
            })
            .await;
        })
    }

    fn over(&self) -> Option<Error> {
        lock(&self.core().state).over.clone()
    }

    fn stats(&self) -> Stats {
        let state = lock(&self.core().state);
        let TableStats {
            exports,
            imports,
            calls,
            answers,
            ..
        } = state.protocol.stats();
        Stats {
            exports: exports.saturating_sub(usize::from(self.core().shows_root)),
            imports,
            calls,
            answers,
            round_trip: (state.round_trip.0 > 0).then(|| Duration::from_nanos(state.round_trip.1)),
            traffic: state.protocol.traffic(),
            carrier: state.gauge.as_ref().map(Gauge::read),
        }
    }

    fn track(&self) {
        lock(&self.core().state).track();
    }

    fn holdings(&self) -> Holdings {
        let (tables, peer) = {
            let state = lock(&self.core().state);
            (state.protocol.tables(MANY_ROWS), Arc::clone(&state.peer))
        };
        let holdings = Holdings::new(peer, &tables);
        // The last hold on an object may be here by now: it goes as those do that are given back.
        self.core().discard(tables);
        holdings
    }

    fn set_call_timeout(&self, timeout: Option<Duration>) {
        self.core().set_call_timeout(timeout);
    }

    fn peer(&self) -> Arc<Peer> {
        Arc::clone(&lock(&self.core().state).peer)
    }

    fn status_now(&self) -> (Status, u64) {
        self.core().status()
    }

    fn session(&self) -> Option<SessionId> {
        lock(&self.core().state).protocol.session()
    }

    fn tombstone(&self) -> Option<Tombstone> {
        lock(&self.core().state).protocol.tombstone()
    }

    fn resume(
        &self,
        request: ResumeRequest,
        parts: Parts,
        native: bool,
    ) -> Result<(), Box<(Rejection, Parts)>> {
        self.core().resume(request, parts, native)
    }
}
