//! Where there is always more to read or to write, whoever waits has its turn, and so has what is due.

#![cfg(test)]

extern crate farref_netref as farref;

use std::collections::VecDeque;
use std::future::Future;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::thread::ThreadId;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use farref::protocol::{
    CallOptions, CallStart, CancelReason, Event, Factory, Incoming, IncomingTarget, Op, Outcome, Protocol,
    Received, Refs, Reply, Request, TableStats,
};
use farref::{Config, Connection, EngineHandles, Error, ErrorKind, Parts, Peer, Result, Waiter};
use farref_framing::{Batch, CloseReason, Nanos, PeerEvidence, Role, StreamKey};
use farref_transport::{Alarm, ByteRx, ByteTx, CarrierInfo, Descriptor, StreamCarrier};

const KIB: usize = 1024;

/// What a test waits for comes soon, or the test fails.
async fn within<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(Duration::from_secs(10), future)
        .await
        .expect("it comes within 10 s")
}

/// A protocol in which something is due at once, if at all, and then the connection is over; and which writes while it has
/// more, until then.
#[derive(Default)]
struct Busy {
    is_due: bool,
    has_more: Arc<AtomicBool>,
    /// The peer is about to introduce itself.
    opens: bool,
    /// Calls under way.
    calls: usize,
    /// Calls that have come, none of which there is an object for.
    came: u64,
    /// Whose results have come, and where a read ends.
    ready: VecDeque<Option<Waiter>>,
}

impl Protocol<EngineHandles> for Busy {
    fn handle_bytes(
        &mut self,
        _: StreamKey,
        input: &mut BytesMut,
        _: bool,
        _: &dyn Factory<EngineHandles>,
        _: Nanos,
    ) -> Result<()> {
        input.clear();
        Ok(())
    }

    fn handle_timeout(&mut self, _: Nanos) -> Result<()> {
        if !self.is_due {
            return Ok(());
        }
        self.has_more.store(false, Ordering::SeqCst);
        Err(ErrorKind::Deadline.into())
    }

    fn poll_timeout(&self) -> Option<Nanos> {
        self.is_due.then_some(0)
    }

    fn poll_transmit(&mut self, batch: &mut Batch, _: Nanos) -> bool {
        let has_more = self.wants_write();
        if has_more {
            batch.put(&[0; 64 * KIB]);
        }
        has_more
    }

    fn wants_write(&self) -> bool {
        self.has_more.load(Ordering::SeqCst)
    }

    fn poll_event(&mut self) -> Option<Event<EngineHandles>> {
        if let Some(waiter) = self.ready.pop_front() {
            return waiter.map(Event::Ready);
        }
        if let Some(left) = self.came.checked_sub(1) {
            self.came = left;
            return Some(Event::Call(call(left)));
        }
        std::mem::take(&mut self.opens).then_some(Event::Opened(Received::Null))
    }

    fn call(&mut self, _: CallStart<'_, EngineHandles>, _: Nanos) -> Result<u64> {
        Err(ErrorKind::Unsupported.into())
    }

    fn poll_outcome(
        &mut self,
        _: u64,
        _: &mut dyn FnMut(Option<Waiter>) -> Waiter,
    ) -> Poll<Outcome<EngineHandles>> {
        Poll::Ready(Outcome::Error(ErrorKind::Unsupported.into()))
    }

    fn is_ready(&self, _: u64) -> bool {
        true
    }

    fn drop_call(&mut self, _: u64, _: CancelReason) -> Option<Waiter> {
        None
    }

    fn answer(&mut self, _: u64, _: Reply<'_, EngineHandles>) {}

    fn release(&mut self, _: u64, _: u32) {}

    fn ping(&mut self, _: Nanos) {}

    fn drain(&mut self) {}

    fn close(&mut self, _: CloseReason) {}

    fn sever(&mut self, _: &Error) {}

    fn stats(&self) -> TableStats {
        let mut stats = TableStats::default();
        stats.calls = self.calls;
        stats
    }
}

/// A call of nothing.
fn call(answer: u64) -> Incoming<EngineHandles> {
    let request = Request {
        op: Op::Len,
        options: CallOptions::default(),
        body: Some(Bytes::new()),
        plain: None,
        refs: Refs::default(),
    };
    Incoming {
        answer,
        target: IncomingTarget::Broken(ErrorKind::Unsupported.into()),
        request: Box::new(request),
    }
}

/// A reader that always has more, so much at a time; and how much it had.
struct Torrent(usize, Arc<AtomicUsize>);

impl ByteRx for Torrent {
    fn try_read(&mut self, into: &mut BytesMut) -> io::Result<usize> {
        into.resize(into.len() + self.0, 0);
        self.1.fetch_add(self.0, Ordering::SeqCst);
        Ok(self.0)
    }

    fn poll_readable(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// A reader that has nothing.
struct Silence;

impl ByteRx for Silence {
    fn try_read(&mut self, _: &mut BytesMut) -> io::Result<usize> {
        Err(io::ErrorKind::WouldBlock.into())
    }

    fn poll_readable(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Pending
    }
}

/// A writer that takes all, and notes how much that was; far too much is the last of it.
#[derive(Default)]
struct Abyss {
    has_more: Arc<AtomicBool>,
    taken: Arc<AtomicUsize>,
}

impl ByteTx for Abyss {
    fn try_write(&mut self, bufs: &[io::IoSlice<'_>]) -> io::Result<usize> {
        let taken = bufs.iter().map(|buf| buf.len()).sum();
        if self.taken.fetch_add(taken, Ordering::SeqCst) > 64 * 1024 * KIB {
            self.has_more.store(false, Ordering::SeqCst);
        }
        Ok(taken)
    }

    fn poll_writable(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

async fn busy(busy: Busy, rx: impl ByteRx + 'static, tx: impl ByteTx + 'static) -> Connection {
    busy_with(Config::default(), busy, rx, tx).await
}

async fn busy_with(
    config: Config,
    busy: Busy,
    rx: impl ByteRx + 'static,
    tx: impl ByteTx + 'static,
) -> Connection {
    let carrier = StreamCarrier::new(rx, tx, CarrierInfo::new("mem"));
    let (inlet, outlet, _, guard) = farref_framing::open(carrier.into(), Role::Listener)
        .await
        .unwrap();
    let peer = Peer::new("mem", None, PeerEvidence::None);
    let mut parts = Parts::new(inlet, outlet, peer);
    parts.keep_open = true;
    parts.guard = guard;
    Connection::over(busy, parts, false, config)
}

/// What a torrent of reads of so many bytes has brought when something else has its turn, which may be waiting already.
async fn brought_at_once(len: usize, somebody_waits: bool) -> usize {
    let (rain, abyss) = (Arc::default(), Abyss::default());
    let protocol = Busy {
        is_due: true,
        has_more: Arc::clone(&abyss.has_more),
        ..Busy::default()
    };
    let connection = busy(protocol, Torrent(len, Arc::clone(&rain)), abyss).await;
    if somebody_waits {
        let runtime = tokio::runtime::Handle::current();
        std::thread::spawn(move || runtime.spawn(async {}))
            .join()
            .unwrap();
    }
    assert_eq!(within(connection.closed()).await.kind(), ErrorKind::Deadline);
    rain.load(Ordering::SeqCst)
}

#[tokio::test]
async fn a_torrent_of_bytes_holds_up_neither_what_is_due_nor_other_tasks() {
    // Times were looked at only when there was nothing to read, and the driver never let others have their turn.
    assert!(
        brought_at_once(16, false).await <= 64 * 16,
        "small reads are counted"
    );
    // Then it did so by the number of reads, however large they were, and not sooner for those who waited.
    assert!(brought_at_once(1024 * KIB, false).await <= 8 * 1024 * KIB);
    assert!(brought_at_once(64 * KIB, true).await <= 512 * KIB);
}

/// A writer that is full after 64 KiB, and can take more at once.
struct Sips(Abyss, usize);

impl ByteTx for Sips {
    fn try_write(&mut self, bufs: &[io::IoSlice<'_>]) -> io::Result<usize> {
        if self.1 >= 64 * KIB {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let taken = self.0.try_write(bufs)?;
        self.1 += taken;
        Ok(taken)
    }

    fn poll_writable(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.1 = 0;
        self.0.poll_writable(context)
    }

    fn poll_close(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.poll_close(context)
    }
}

/// What a torrent of writes has taken with it when something has its turn that is due, and when something was read.
async fn taken_at_once<T: ByteTx + 'static>(tx: impl Fn(Abyss) -> T) -> [usize; 2] {
    let mut taken = [0; 2];
    for (is_due, taken) in [true, false].into_iter().zip(&mut taken) {
        let (rain, abyss) = (Arc::<AtomicUsize>::default(), Abyss::default());
        let (has_more, all) = (Arc::clone(&abyss.has_more), Arc::clone(&abyss.taken));
        has_more.store(true, Ordering::SeqCst);
        let protocol = Busy {
            is_due,
            has_more,
            ..Busy::default()
        };
        if is_due {
            let connection = busy(protocol, Silence, tx(abyss)).await;
            assert_eq!(within(connection.closed()).await.kind(), ErrorKind::Deadline);
        } else {
            let _connection = busy(protocol, Torrent(16, Arc::clone(&rain)), tx(abyss)).await;
            within(async {
                while rain.load(Ordering::SeqCst) == 0 {
                    tokio::task::yield_now().await;
                }
            })
            .await;
        }
        *taken = all.load(Ordering::SeqCst);
    }
    taken
}

#[tokio::test]
async fn a_torrent_that_is_written_holds_up_neither_what_is_due_nor_what_is_to_be_read() {
    // A driver that had more to write, and a carrier that took it, neither read nor looked at the clock.
    for taken in taken_at_once(|abyss| abyss).await {
        assert!(taken <= 16 * 1024 * KIB, "{taken} bytes");
    }
    // Nor when it was full now and then, and the driver did not even let other tasks have their turn.
    for taken in taken_at_once(|abyss| Sips(abyss, 0)).await {
        assert!(taken <= 16 * 1024 * KIB, "{taken} bytes");
    }
}

#[tokio::test]
async fn a_torrent_that_is_written_does_not_hold_up_many_calls() {
    // What the calls before were answered was written with all else that the carrier took, once for each 64 of them.
    let abyss = Abyss::default();
    let (has_more, taken) = (Arc::clone(&abyss.has_more), Arc::clone(&abyss.taken));
    has_more.store(true, Ordering::SeqCst);
    let protocol = Busy {
        is_due: true,
        has_more,
        came: 4096,
        ..Busy::default()
    };
    let connection = busy(protocol, Silence, abyss).await;
    assert_eq!(within(connection.closed()).await.kind(), ErrorKind::Deadline);
    let taken = taken.load(Ordering::SeqCst);
    assert!(taken <= 16 * 1024 * KIB, "{taken} bytes");
}

#[tokio::test]
async fn those_whose_results_come_have_their_turn_in_that_order() {
    // Many are woken together, and one of them, or few after them, was woken at once: whatever that did, they waited for it.
    for reads in [vec![150], vec![300], vec![60, 1], vec![60, 1, 150, 10]] {
        let count: usize = reads.iter().sum();
        let (waiting, order) = (
            Arc::<Mutex<Vec<Waker>>>::default(),
            Arc::<Mutex<Vec<usize>>>::default(),
        );
        let tasks: Vec<_> = (0..count)
            .map(|number| {
                let (waiting, order) = (Arc::clone(&waiting), Arc::clone(&order));
                tokio::spawn(async move {
                    let mut has_waited = false;
                    std::future::poll_fn(|context| {
                        if std::mem::replace(&mut has_waited, true) {
                            return Poll::Ready(());
                        }
                        waiting.lock().unwrap().push(context.waker().clone());
                        Poll::Pending
                    })
                    .await;
                    order.lock().unwrap().push(number);
                })
            })
            .collect();
        within(async {
            while waiting.lock().unwrap().len() < count {
                tokio::task::yield_now().await;
            }
        })
        .await;
        let mut wakers = std::mem::take(&mut *waiting.lock().unwrap()).into_iter();
        let mut ready = VecDeque::new();
        for read in reads {
            ready.extend(wakers.by_ref().take(read).map(Waiter::Task).map(Some));
            ready.push_back(None);
        }
        let protocol = Busy {
            is_due: true,
            ready,
            ..Busy::default()
        };
        let connection = busy(protocol, Torrent(16, Arc::default()), Abyss::default()).await;
        assert_eq!(within(connection.closed()).await.kind(), ErrorKind::Deadline);
        for task in tasks {
            within(task).await.unwrap();
        }
        let order = order.lock().unwrap();
        assert!(order.is_sorted(), "{order:?}");
    }
}

#[tokio::test]
async fn whoever_writes_for_others_as_well_does_not_do_so_for_ever() {
    // A caller that wrote took along what others had committed meanwhile, as long as they did so.
    let abyss = Abyss::default();
    let (has_more, taken) = (Arc::clone(&abyss.has_more), Arc::clone(&abyss.taken));
    let protocol = Busy {
        has_more: Arc::clone(&has_more),
        ..Busy::default()
    };
    let connection = busy(protocol, Silence, abyss).await;
    tokio::task::yield_now().await;
    has_more.store(true, Ordering::SeqCst);
    let mut ping = Box::pin(connection.ping());
    let polled = ping.as_mut().poll(&mut Context::from_waker(Waker::noop()));
    let at_once = taken.load(Ordering::SeqCst);
    assert!(polled.is_pending() && at_once > 0, "it writes for itself");
    assert!(at_once <= 8 * 1024 * KIB, "{at_once} bytes");
    within(async {
        while taken.load(Ordering::SeqCst) < 4 * at_once {
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert!(has_more.load(Ordering::SeqCst), "nor does the driver");
}

/// A reader that has nothing, and can leave the reactor: tells when a thread leads.
struct Hush(Arc<AtomicBool>);

impl ByteRx for Hush {
    fn try_read(&mut self, into: &mut BytesMut) -> io::Result<usize> {
        Silence.try_read(into)
    }

    fn poll_readable(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Silence.poll_readable(context)
    }

    fn leave_reactor(&mut self) -> io::Result<Option<Arc<dyn Descriptor>>> {
        self.0.store(true, Ordering::SeqCst);
        Ok(Some(Arc::new(Nothing)))
    }
}

/// Has nothing, and waits for nobody.
struct Nothing;

impl Descriptor for Nothing {
    fn wait_readable(&self, _: Option<&Alarm>, _: Option<Duration>) -> io::Result<bool> {
        std::thread::yield_now();
        Ok(false)
    }

    fn wait_writable(&self, _: Option<Duration>) -> io::Result<bool> {
        Ok(true)
    }
}

/// Notes how much one thread has written.
struct Of(ThreadId, Arc<AtomicUsize>, Abyss);

impl ByteTx for Of {
    fn try_write(&mut self, bufs: &[io::IoSlice<'_>]) -> io::Result<usize> {
        let taken = self.2.try_write(bufs)?;
        if std::thread::current().id() == self.0 {
            self.1.fetch_add(taken, Ordering::SeqCst);
        }
        Ok(taken)
    }

    fn poll_writable(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.2.poll_writable(context)
    }

    fn poll_close(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.2.poll_close(context)
    }
}

#[tokio::test]
async fn whoever_writes_while_a_thread_leads_does_not_do_so_for_ever() {
    // Where a thread led, a caller went on as long as others committed something.
    let (leads, own, abyss) = (Arc::default(), Arc::<AtomicUsize>::default(), Abyss::default());
    let (has_more, taken) = (Arc::clone(&abyss.has_more), Arc::clone(&abyss.taken));
    let protocol = Busy {
        has_more: Arc::clone(&has_more),
        opens: true,
        calls: 2,
        ..Busy::default()
    };
    let mut config = Config::default();
    config.own_thread = true;
    let tx = Of(std::thread::current().id(), Arc::clone(&own), abyss);
    let connection = busy_with(config, protocol, Hush(Arc::clone(&leads)), tx).await;
    within(async {
        while !leads.load(Ordering::SeqCst) {
            tokio::task::yield_now().await;
        }
    })
    .await;
    has_more.store(true, Ordering::SeqCst);
    let mut ping = Box::pin(connection.ping());
    let polled = ping.as_mut().poll(&mut Context::from_waker(Waker::noop()));
    assert!(polled.is_pending());
    let at_once = own.load(Ordering::SeqCst);
    assert!(at_once <= 8 * 1024 * KIB, "{at_once} bytes");
    // Nor does the thread, and what it leaves goes on.
    within(async {
        while taken.load(Ordering::SeqCst) < 48 * 1024 * KIB {
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert!(own.load(Ordering::SeqCst) > at_once, "the driver goes on");
}

/// A writer that keeps what it takes until it is asked to pass it on, and tells when it has.
#[derive(Default)]
struct Cellar {
    abyss: Abyss,
    kept: bool,
    passed_on: Arc<AtomicBool>,
}

impl ByteTx for Cellar {
    fn try_write(&mut self, bufs: &[io::IoSlice<'_>]) -> io::Result<usize> {
        self.kept = true;
        self.abyss.try_write(bufs)
    }

    fn poll_writable(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.abyss.poll_writable(context)
    }

    fn is_buffering(&self) -> bool {
        self.kept
    }

    fn poll_flush(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.kept = false;
        self.passed_on.store(true, Ordering::SeqCst);
        Poll::Ready(Ok(()))
    }

    fn poll_close(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.abyss.poll_close(context)
    }
}

#[tokio::test]
async fn what_a_carrier_keeps_is_passed_on_although_there_is_no_more_to_write_after_all() {
    // Whoever had written for long left the rest to the driver; if there was none by then, it passed on nothing either.
    let cellar = Cellar::default();
    let (has_more, passed_on) = (Arc::clone(&cellar.abyss.has_more), Arc::clone(&cellar.passed_on));
    let protocol = Busy {
        has_more: Arc::clone(&has_more),
        ..Busy::default()
    };
    let connection = busy(protocol, Silence, cellar).await;
    tokio::task::yield_now().await;
    has_more.store(true, Ordering::SeqCst);
    let mut ping = Box::pin(connection.ping());
    assert!(
        ping.as_mut()
            .poll(&mut Context::from_waker(Waker::noop()))
            .is_pending()
    );
    has_more.store(false, Ordering::SeqCst);
    within(async {
        while !passed_on.load(Ordering::SeqCst) {
            tokio::task::yield_now().await;
        }
    })
    .await;
}
