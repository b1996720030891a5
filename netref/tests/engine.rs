//! The engine under abuse: handles dropped in every order, cancels that cross, panics, carriers that end.
//!
//! Each test says in one sentence what used to happen.

#![cfg(test)]

extern crate farref_netref as farref;

mod native;

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use bytes::BytesMut;
use farref::{
    BoxFuture, Config, Connection, ErrorKind, Netref, Reconnecting, RemoteTrait, Restore, Result, Root,
    remote,
};
use farref_framing::Role;
use farref_transport::{ByteRx, CarrierInfo, StreamCarrier};
use tokio::io::AsyncWrite;
use tokio::sync::{Notify, mpsc};

use native::side;

/// What a test waits for comes soon, or the test fails.
async fn within<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(Duration::from_secs(10), future)
        .await
        .expect("it comes within 10 s")
}

/// Waits until `met` holds of the connection's numbers.
async fn until(connection: &Connection, mut met: impl FnMut(&farref::Stats) -> bool) {
    within(async {
        while !met(&connection.stats()) {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

/// A server that shows `root`, and a client.
async fn joined<T: ?Sized + RemoteTrait>(root: &Netref<T>) -> (Connection, Connection) {
    let (a, b) = farref_transport::memory::pair(1 << 16);
    let server = side(a, Role::Listener, Root::of(root), Config::default()).await;
    let client = side(b, Role::Dialer, Root::NONE, Config::default()).await;
    within(client.established()).await.unwrap();
    (server, client)
}

#[remote]
trait Bench {
    async fn ok(&self) -> Result<u32>;
    /// Calls back, then waits for ever.
    async fn calls_back_and_hangs(&self, to: Netref<dyn Probe>) -> Result<()>;
    /// Waits for ever.
    async fn hangs(&self) -> Result<()>;
    /// Waits for ever, alone.
    #[serial]
    async fn hangs_alone(&self) -> Result<()>;
    /// Keeps a callback until it is told to let go.
    async fn keep(&self, probe: Netref<dyn Probe>) -> Result<()>;
    async fn child(&self) -> Result<Netref<dyn Bench>>;
    /// An object whose destructor panics.
    async fn bomb(&self) -> Result<Netref<dyn Bench>>;
    /// Blocks until it may go on, then returns an object that tells when it is dropped.
    fn blocks(&self) -> Result<Netref<dyn Bench>>;
}

#[remote]
trait Probe {
    /// Waits for ever.
    async fn hit(&self) -> Result<()>;
}

/// Tells when it is entered and when it is left.
#[derive(Clone)]
struct Rig {
    tell: mpsc::UnboundedSender<&'static str>,
    kept: Arc<Mutex<Option<Netref<dyn Probe>>>>,
    go: Arc<Notify>,
    /// Dropped with the object.
    _last: Option<Arc<dyn Send + Sync>>,
}

fn rig() -> (Rig, mpsc::UnboundedReceiver<&'static str>) {
    let (tell, told) = mpsc::unbounded_channel();
    let rig = Rig {
        tell,
        kept: Arc::default(),
        go: Arc::default(),
        _last: None,
    };
    (rig, told)
}

/// Tells when it is dropped.
struct Left(mpsc::UnboundedSender<&'static str>, &'static str);

impl Drop for Left {
    fn drop(&mut self) {
        let _ = self.0.send(self.1);
    }
}

impl Rig {
    fn enter(&self, name: &'static str, left: &'static str) -> Left {
        let _ = self.tell.send(name);
        Left(self.tell.clone(), left)
    }
}

#[remote]
impl Bench for Rig {
    async fn ok(&self) -> Result<u32> {
        Ok(7)
    }

    async fn calls_back_and_hangs(&self, to: Netref<dyn Probe>) -> Result<()> {
        let _left = self.enter("entered", "left");
        // In its first poll, on the thread that reads: the reading is given away.
        let _ = to.blocking().hit();
        let _ = self.tell.send("hangs");
        std::future::pending().await
    }

    async fn hangs(&self) -> Result<()> {
        let _left = self.enter("entered", "left");
        std::future::pending().await
    }

    async fn hangs_alone(&self) -> Result<()> {
        let _left = self.enter("entered", "left");
        std::future::pending().await
    }

    async fn keep(&self, probe: Netref<dyn Probe>) -> Result<()> {
        *self.kept.lock().unwrap() = Some(probe);
        Ok(())
    }

    async fn child(&self) -> Result<Netref<dyn Bench>> {
        Ok(Netref::of(self.clone()))
    }

    async fn bomb(&self) -> Result<Netref<dyn Bench>> {
        let last: Arc<dyn Send + Sync> = Arc::new(Bomb(self.tell.clone()));
        Ok(Netref::of(Rig {
            _last: Some(last),
            ..self.clone()
        }))
    }

    fn blocks(&self) -> Result<Netref<dyn Bench>> {
        let _ = self.tell.send("entered");
        farref::place::block_on(self.go.notified())?;
        let last: Arc<dyn Send + Sync> = Arc::new(Left(self.tell.clone(), "dropped"));
        Ok(Netref::of(Rig {
            _last: Some(last),
            ..self.clone()
        }))
    }
}

struct Bomb(mpsc::UnboundedSender<&'static str>);

impl Drop for Bomb {
    fn drop(&mut self) {
        let _ = self.0.send("boom");
        panic!("the destructor of an object panics, as the test wants");
    }
}

#[remote]
impl Probe for Rig {
    async fn hit(&self) -> Result<()> {
        let _left = self.enter("hit", "unhit");
        self.go.notified().await;
        Ok(())
    }
}

// ---- lifetime of connections

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_closes_when_its_last_handle_is_dropped() {
    // The root that the engine kept for later askers kept the connection open for ever.
    let (object, _told) = rig();
    let (server, client) = joined::<dyn Bench>(&Netref::of(object)).await;
    drop(client);
    within(server.closed()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_netref_keeps_its_connection_open_and_the_last_one_closes_it() {
    let (object, _told) = rig();
    let (server, client) = joined::<dyn Bench>(&Netref::of(object)).await;
    let bench: Netref<dyn Bench> = within(client.root()).await.unwrap();
    drop(client);
    assert_eq!(within(bench.call().ok()).await.unwrap(), 7);
    drop(bench);
    within(server.closed()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_that_waits_for_the_end_of_a_dropped_call_closes_after_it() {
    // The tables were looked at when the last handle was dropped, and never again.
    let (object, mut told) = rig();
    let (server, client) = joined::<dyn Bench>(&Netref::of(object)).await;
    let bench: Netref<dyn Bench> = within(client.root()).await.unwrap();
    let call = bench.call().hangs().start();
    assert_eq!(within(told.recv()).await, Some("entered"));
    drop((call, bench, client));
    assert_eq!(within(told.recv()).await, Some("left"));
    within(server.closed()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_callback_keeps_the_connection_open_and_its_release_closes_it() {
    let (object, _told) = rig();
    let (probe, mut probed) = rig();
    let (server, client) = joined::<dyn Bench>(&Netref::of(object.clone())).await;
    let bench: Netref<dyn Bench> = within(client.root()).await.unwrap();
    probe.go.notify_one();
    within(bench.call().keep(Netref::of(probe))).await.unwrap();
    drop((bench, client));
    let kept = object.kept.lock().unwrap().take().unwrap();
    within(kept.call().hit()).await.unwrap();
    assert_eq!(within(probed.recv()).await, Some("hit"));
    drop(kept);
    within(server.closed()).await;
}

// ---- cancellation

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_method_that_blocked_in_its_first_poll_can_be_cancelled_afterwards() {
    // It was not known as running before it waited, so the cancel that came meanwhile was lost.
    let (object, mut told) = rig();
    let (probe, mut probed) = rig();
    let (_server, client) = joined::<dyn Bench>(&Netref::of(object)).await;
    let bench: Netref<dyn Bench> = within(client.root()).await.unwrap();
    let call = bench.call().calls_back_and_hangs(Netref::of(probe)).start();
    assert_eq!(within(told.recv()).await, Some("entered"));
    assert_eq!(within(probed.recv()).await, Some("hit"));
    drop(call);
    assert_eq!(
        within(told.recv()).await,
        Some("hangs"),
        "the blocking call inside was given up"
    );
    assert_eq!(within(told.recv()).await, Some("left"));
    assert_eq!(within(probed.recv()).await, Some("unhit"));
    assert_eq!(within(bench.call().ok()).await.unwrap(), 7);
}

// ---- calls of objects in this process

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_started_call_of_a_local_object_goes_on_by_itself() {
    // It waited until somebody polled it, unlike a call of a far object.
    let (object, mut told) = rig();
    let bench: Netref<dyn Bench> = Netref::of(object);
    let call = bench.call().hangs().start();
    assert_eq!(
        told.try_recv().unwrap(),
        "entered",
        "its place in the order is fixed by the start"
    );
    drop(call);
    assert_eq!(
        within(told.recv()).await,
        Some("left"),
        "and it is cancelled by the drop"
    );

    let ready = bench.call().ok().start();
    while !ready.is_ready() {
        tokio::task::yield_now().await;
    }
    assert_eq!(ready.await.unwrap(), 7);

    let child = bench.call().child().start();
    let piped = child.pipe().ok().start();
    assert_eq!(
        within(piped).await.unwrap(),
        7,
        "what was started can still be piped"
    );
    assert!(within(child).await.is_ok());

    let hangs = bench.call().hangs().timeout(Duration::from_millis(1)).start();
    assert_eq!(within(hangs).await.unwrap_err().kind(), ErrorKind::Deadline);
}

// ---- user code that panics, or calls back where nobody expects it

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_destructor_that_panics_when_a_call_is_given_up_harms_nobody() {
    // It ran on the driver, which died of it, and the connection with it.
    let (object, mut told) = rig();
    let go = Arc::clone(&object.go);
    let (a, b) = farref_transport::memory::pair(1 << 16);
    let mut narrow = Config::default();
    narrow.max_blocking = 1;
    let root = Root::of(&Netref::<dyn Bench>::of(object));
    let server = side(a, Role::Listener, root, narrow).await;
    let client = side(b, Role::Dialer, Root::NONE, Config::default()).await;
    let bench: Netref<dyn Bench> = within(client.root()).await.unwrap();
    let bomb = within(bench.call().bomb()).await.unwrap();
    let blocking = bench.call().blocks().start();
    assert_eq!(within(told.recv()).await, Some("entered"));
    let queued = bomb.call().blocks().start();
    drop(bomb);
    until(&server, |stats| stats.exports == 0 && stats.answers == 2).await;
    drop(queued);
    assert_eq!(within(told.recv()).await, Some("boom"));
    within(client.ping()).await.unwrap();
    go.notify_one();
    drop(within(blocking).await.unwrap());
    assert_eq!(within(told.recv()).await, Some("dropped"));
}

/// A writer that looks at the connection whenever it is asked to flush.
struct Nosy<W>(W, Arc<OnceLock<Connection>>, Arc<AtomicUsize>);

impl<W: AsyncWrite + Unpin> AsyncWrite for Nosy<W> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if let Some(connection) = self.1.get() {
            let _ = connection.stats();
            self.2.fetch_add(1, Ordering::SeqCst);
        }
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_carrier_of_the_users_own_is_never_run_under_the_lock() {
    // Flushing it was: a carrier that looked at its own connection waited for itself.
    let (object, _told) = rig();
    let (ours, theirs) = tokio::io::duplex(1 << 12);
    let looked = Arc::new(AtomicUsize::new(0));
    let own = Arc::new(OnceLock::new());
    let (reader, writer) = tokio::io::split(ours);
    let writer = Nosy(writer, Arc::clone(&own), Arc::clone(&looked));
    let nosy = StreamCarrier::from_halves(reader, writer, CarrierInfo::new("duplex"));
    let plain = StreamCarrier::from_io(theirs, CarrierInfo::new("duplex"));
    let root = Root::of(&Netref::<dyn Bench>::of(object));
    let server = side(nosy, Role::Listener, root, Config::default()).await;
    own.set(server).unwrap();
    let client = side(plain, Role::Dialer, Root::NONE, Config::default()).await;
    let bench: Netref<dyn Bench> = within(client.root()).await.unwrap();
    for _ in 0..10 {
        assert_eq!(within(bench.call().ok()).await.unwrap(), 7);
    }
    assert!(looked.load(Ordering::SeqCst) > 0);
}

/// A waker that looks at the connection.
struct Looker(Connection, AtomicUsize);

impl Wake for Looker {
    fn wake(self: Arc<Self>) {
        let _ = self.0.stats();
        self.1.fetch_add(1, Ordering::SeqCst);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_waits_for_the_last_answer_is_not_woken_under_the_lock() {
    // A cancel that ended the last answer woke them under it: a waker that looked at the connection waited for itself.
    let (object, mut told) = rig();
    let (server, client) = joined::<dyn Bench>(&Netref::of(object)).await;
    let bench: Netref<dyn Bench> = within(client.root()).await.unwrap();
    let call = bench.call().hangs().start();
    assert_eq!(within(told.recv()).await, Some("entered"));
    let looker = Arc::new(Looker(server.clone(), AtomicUsize::new(0)));
    let mut drained = Box::pin(server.drained());
    let waker = Waker::from(Arc::clone(&looker));
    assert!(
        drained
            .as_mut()
            .poll(&mut Context::from_waker(&waker))
            .is_pending()
    );
    drop(call);
    within(async {
        while looker.1.load(Ordering::SeqCst) == 0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    within(drained).await;
}

// ---- the end

/// Reads what comes, to the end.
async fn read_all(carrier: &mut StreamCarrier) -> Vec<u8> {
    let mut all = BytesMut::new();
    loop {
        all.reserve(64);
        std::future::poll_fn(|context| carrier.rx.poll_readable(context))
            .await
            .unwrap();
        match carrier.rx.try_read(&mut all) {
            Ok(0) => return all.to_vec(),
            Ok(_) => {}
            Err(error) => assert_eq!(error.kind(), io::ErrorKind::WouldBlock),
        }
    }
}

/// Tells when it is asked for a connection, and when nobody waits for one any more.
struct Waits(mpsc::UnboundedSender<&'static str>);

impl Restore for Waits {
    fn restore(&self, _: u32) -> BoxFuture<'static, Result<Connection>> {
        let _ = self.0.send("asked");
        let given_up = Left(self.0.clone(), "given up");
        Box::pin(async move {
            let _given_up = given_up;
            std::future::pending().await
        })
    }
}

#[tokio::test]
async fn a_root_that_is_closed_while_it_is_looked_for_is_looked_for_no_more() {
    let (server, client) = joined::<dyn Bench>(&Netref::of(rig().0)).await;
    let (tell, mut told) = mpsc::unbounded_channel();
    let restore = Arc::new(Waits(tell));
    let peer = within(Reconnecting::new(client, restore, None, Config::default()))
        .await
        .unwrap();
    server.start_close();
    assert_eq!(within(told.recv()).await, Some("asked"));
    within(peer.close()).await;
    assert_eq!(within(told.recv()).await, Some("given up"));
}

#[tokio::test]
async fn whoever_asked_is_told_of_the_end_although_others_panic_when_they_are() {
    let (object, _told) = rig();
    let (server, client) = joined::<dyn Bench>(&Netref::of(object)).await;
    let (tell, mut told) = mpsc::unbounded_channel();
    let notice = |name: &'static str| {
        let tell = tell.clone();
        move |_| {
            tell.send(name).unwrap();
            panic!("on purpose");
        }
    };
    for name in ["first", "second", "third"] {
        client.on_closed(notice(name));
    }
    within(server.close()).await;
    within(client.closed()).await;
    client.on_closed(notice("late"));
    drop(tell);
    let mut names = Vec::new();
    while let Some(name) = within(told.recv()).await {
        names.push(name);
    }
    names.sort_unstable();
    assert_eq!(names, ["first", "late", "second", "third"]);
}

#[tokio::test]
async fn a_carrier_that_ends_after_the_goodbye_is_no_loss() {
    let (ours, theirs) = farref_transport::memory::pair(1 << 16);
    let connection = side(ours, Role::Dialer, Root::NONE, Config::default()).await;
    connection.start_close();
    drop(theirs);
    let why = within(connection.closed()).await.to_string();
    assert!(!why.contains("lost"), "{why}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_last_words_are_not_cut_off_by_a_narrow_carrier() {
    // What a full carrier had not taken when the connection was over was forgotten.
    let mut heard = Vec::new();
    for buffer in [1 << 16, 16] {
        let (ours, mut theirs) = farref_transport::memory::pair(buffer);
        let connection = side(ours, Role::Listener, Root::NONE, Config::default()).await;
        let said = b"GET / HTTP/1.1\r\n\r\n";
        let mut left = &said[..];
        while !left.is_empty() {
            std::future::poll_fn(|context| theirs.tx.poll_writable(context))
                .await
                .unwrap();
            let taken = theirs.tx.try_write(&[io::IoSlice::new(left)]).unwrap();
            left = &left[taken..];
        }
        heard.push(within(read_all(&mut theirs)).await);
        assert_eq!(within(connection.closed()).await.kind(), ErrorKind::Incompatible);
    }
    assert_eq!(heard[0], heard[1]);
}

#[test]
fn a_driver_that_is_dropped_closes_a_carrier_that_is_full() {
    // The writer of a full carrier was forgotten, and went with the last handle.
    let (ours, mut theirs) = farref_transport::memory::pair(16);
    let serving = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let reading = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let connection = serving.block_on(side(ours, Role::Dialer, Root::NONE, Config::default()));
    // Its preface alone is longer than what the carrier takes.
    let mut begin = BytesMut::with_capacity(8);
    reading
        .block_on(within(std::future::poll_fn(|context| {
            theirs.rx.poll_readable(context)
        })))
        .unwrap();
    serving.shutdown_timeout(Duration::from_secs(10));
    assert!(connection.is_closed());
    theirs.rx.try_read(&mut begin).unwrap();
    reading.block_on(within(read_all(&mut theirs)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_that_comes_after_the_end_leaves_nothing_behind() {
    // Its objects waited for the driver, which had left.
    let (object, mut told) = rig();
    let go = Arc::clone(&object.go);
    let (server, client) = joined::<dyn Bench>(&Netref::of(object)).await;
    let bench: Netref<dyn Bench> = within(client.root()).await.unwrap();
    let call = bench.call().blocks().start();
    assert_eq!(within(told.recv()).await, Some("entered"));
    within(client.close()).await;
    assert!(matches!(
        within(call).await.unwrap_err().kind(),
        ErrorKind::Disconnected(_)
    ));
    within(server.closed()).await;
    go.notify_one();
    assert_eq!(within(told.recv()).await, Some("dropped"));
}

#[test]
fn a_runtime_is_shut_down_with_a_long_queue_of_serial_calls() {
    // Each call that was dropped ran the next one from its destructor: the stack overflowed.
    const CALLS: usize = 16_000;
    let build = || {
        tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap()
    };
    let (serving, calling) = (build(), build());
    let (object, mut told) = rig();
    let (a, b) = farref_transport::memory::pair(1 << 16);
    let root = Netref::<dyn Bench>::of(object);
    let server = serving.block_on(side(a, Role::Listener, Root::of(&root), Config::default()));
    let client = calling.block_on(side(b, Role::Dialer, Root::NONE, Config::default()));
    let calls: Vec<_> = calling.block_on(async {
        let bench: Netref<dyn Bench> = within(client.root()).await.unwrap();
        let calls = (0..CALLS).map(|_| bench.call().hangs_alone().start()).collect();
        assert_eq!(within(told.recv()).await, Some("entered"));
        until(&server, |stats| stats.answers == CALLS).await;
        calls
    });
    serving.shutdown_timeout(Duration::from_secs(10));
    calling.block_on(async {
        for call in calls {
            let error = within(call).await.unwrap_err();
            assert!(
                matches!(error.kind(), ErrorKind::Disconnected(_) | ErrorKind::Cancelled),
                "{error}"
            );
        }
    });
}

/// How what a carrier brings is read: not at all, then a little at once, and something broken behind it.
struct Gate {
    rx: Box<dyn ByteRx>,
    came: BytesMut,
    is_shut: Arc<AtomicBool>,
    broken: &'static [u8],
}

impl ByteRx for Gate {
    fn try_read(&mut self, into: &mut BytesMut) -> io::Result<usize> {
        self.came.reserve(1 << 12);
        let _ = self.rx.try_read(&mut self.came);
        if self.is_shut.load(Ordering::Acquire) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        if self.came.len() > 1 << 10 {
            self.came.extend_from_slice(std::mem::take(&mut self.broken));
        }
        let most = self.came.len().min(512);
        into.extend_from_slice(&self.came.split_to(most));
        if most == 0 {
            Err(io::ErrorKind::WouldBlock.into())
        } else {
            Ok(most)
        }
    }

    fn poll_readable(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.came.is_empty() || self.is_shut.load(Ordering::Acquire) {
            self.rx.poll_readable(context)
        } else {
            Poll::Ready(Ok(()))
        }
    }
}

#[tokio::test]
async fn what_runs_is_given_up_when_a_breach_is_read_before_replies_are_written() {
    // The driver reads on before it writes what a few calls are answered. What followed from the end that it found there was
    // dropped with the connection, and the method ran on for ever.
    let (object, mut told) = rig();
    let (mut a, b) = farref_transport::memory::pair(1 << 16);
    let is_shut = Arc::new(AtomicBool::new(false));
    a.rx = Box::new(Gate {
        rx: a.rx,
        came: BytesMut::new(),
        is_shut: Arc::clone(&is_shut),
        broken: &[0xff; 64],
    });
    let root = Netref::<dyn Bench>::of(object);
    let (server, client) = tokio::join!(
        side(a, Role::Listener, Root::of(&root), Config::default()),
        side(b, Role::Dialer, Root::NONE, Config::default()),
    );
    let bench: Netref<dyn Bench> = within(client.root()).await.unwrap();
    let hangs = bench.call().hangs().start();
    assert_eq!(within(told.recv()).await, Some("entered"));
    is_shut.store(true, Ordering::Release);
    let mut calls = Vec::new();
    let written = |client: &Connection| client.stats().traffic.bytes_sent;
    let begin = written(&client);
    while written(&client) < begin + (1 << 11) {
        let before = written(&client);
        calls.push(bench.call().ok().start());
        // Each in a frame of its own.
        until(&client, |stats| stats.traffic.bytes_sent > before).await;
    }
    is_shut.store(false, Ordering::Release);
    calls.push(bench.call().ok().start());
    assert_eq!(within(server.closed()).await.kind(), ErrorKind::Malformed);
    assert_eq!(within(told.recv()).await, Some("left"));
    drop(hangs);
}

#[test]
fn very_many_who_asked_are_forgotten_with_the_runtime_that_would_tell_them() {
    // Each held the one before it: the stack overflowed.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let (object, _told) = rig();
    let root = Netref::<dyn Bench>::of(object);
    let kept = runtime.block_on(async {
        let (server, client) = joined::<dyn Bench>(&root).await;
        for _ in 0..100_000 {
            client.on_closed(|_| {});
        }
        (server, client)
    });
    drop(runtime);
    drop(kept);
}
