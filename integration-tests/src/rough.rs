//! Rough lines: memory carriers whose bytes come in seeded pieces, can be held up, counted and cut.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker, ready};

use bytes::BytesMut;
use farref::transport::memory::{self, Cutter, End};
use farref::transport::{
    AcceptError, Address, BoxFuture, ByteRx, ByteTx, Carrier, DialError, ListenError, Listener, Media,
    StreamCarrier, Transport,
};

/// The medium `mem:` with rough lines. Clones are the same medium.
#[derive(Clone)]
pub struct Rough {
    shared: Arc<Shared>,
}

struct Shared {
    /// Bytes come in pieces and with pauses drawn from this seed; without one they come as they were written.
    seed: Option<u64>,
    buffer: usize,
    port: Mutex<Port>,
}

#[derive(Default)]
struct Port {
    waiting: VecDeque<Carrier>,
    acceptor: Option<Waker>,
    lines: Vec<Line>,
}

/// One connection's bytes, for a test to handle.
#[derive(Clone)]
pub struct Line {
    pub cutter: Cutter,
    /// What the dialer writes.
    pub there: Way,
    /// What the listener writes.
    pub back: Way,
}

/// One direction of a line.
#[derive(Clone, Default)]
pub struct Way(Arc<Mutex<Flow>>);

#[derive(Default)]
struct Flow {
    /// The reader gets nothing.
    held: bool,
    /// The writer is rid of nothing.
    stopped: bool,
    /// Bytes read.
    arrived: u64,
    /// Bytes written.
    written: u64,
    /// Writes that were refused as it was stopped.
    refused: u64,
    wakers: Vec<Waker>,
}

impl Way {
    /// From now on what is written does not arrive. The writer does not notice before the line is full.
    pub fn hold(&self) {
        self.change(|flow| flow.held = true);
    }

    /// From now on nothing can be written.
    pub fn stop(&self) {
        self.change(|flow| flow.stopped = true);
    }

    /// Everything passes again.
    pub fn release(&self) {
        self.change(|flow| {
            flow.held = false;
            flow.stopped = false;
        });
    }

    /// Bytes that have arrived.
    pub fn arrived(&self) -> u64 {
        self.0.lock().unwrap().arrived
    }

    /// Bytes that were written.
    pub fn written(&self) -> u64 {
        self.0.lock().unwrap().written
    }

    /// Waits until more than `before` bytes were written.
    pub async fn written_beyond(&self, before: u64) {
        poll_fn(|context| {
            let mut flow = self.0.lock().unwrap();
            if flow.written > before {
                return Poll::Ready(());
            }
            flow.wakers.push(context.waker().clone());
            Poll::Pending
        })
        .await;
    }

    /// Waits until somebody has tried to write although nothing can be written.
    pub async fn refused(&self) {
        poll_fn(|context| {
            let mut flow = self.0.lock().unwrap();
            if flow.refused > 0 {
                return Poll::Ready(());
            }
            flow.wakers.push(context.waker().clone());
            Poll::Pending
        })
        .await;
    }

    fn change(&self, change: impl FnOnce(&mut Flow)) {
        let mut flow = self.0.lock().unwrap();
        change(&mut flow);
        let wakers = std::mem::take(&mut flow.wakers);
        drop(flow);
        wakers.into_iter().for_each(Waker::wake);
    }

    /// Whether it is closed for readers or for writers; then `context` is woken when that changes.
    fn is_closed(&self, closed: impl Fn(&Flow) -> bool, context: Option<&Context<'_>>) -> bool {
        let mut flow = self.0.lock().unwrap();
        let is_closed = closed(&flow);
        if is_closed && let Some(context) = context {
            flow.wakers.push(context.waker().clone());
        }
        is_closed
    }
}

impl Rough {
    /// Lines that hold `buffer` bytes each way, and cut up what passes if there is a seed.
    pub fn new(buffer: usize, seed: Option<u64>) -> Self {
        Self {
            shared: Arc::new(Shared {
                seed,
                buffer,
                port: Mutex::default(),
            }),
        }
    }

    /// These lines as the only medium.
    pub fn media(&self) -> Media {
        Media::none().with(self.clone())
    }

    /// The latest line.
    pub fn line(&self) -> Line {
        self.shared.port.lock().unwrap().lines.last().unwrap().clone()
    }
}

impl Transport for Rough {
    fn schemes(&self) -> &'static [&'static str] {
        &["mem"]
    }

    fn dial<'a>(&'a self, _address: &'a Address) -> BoxFuture<'a, Result<Carrier, DialError>> {
        Box::pin(async move {
            let (dialled, accepted, cutter) = memory::cuttable_pair(self.shared.buffer);
            let line = Line {
                cutter,
                there: Way::default(),
                back: Way::default(),
            };
            let mut port = self.shared.port.lock().unwrap();
            let number = port.lines.len() as u64;
            let carrier = |carrier: StreamCarrier, out: &Way, back: &Way, end: End| {
                let dice = |salt: u64| {
                    self.shared
                        .seed
                        .map(|seed| Random::new(seed ^ (number << 8) ^ salt))
                };
                let StreamCarrier { rx, tx, info, .. } = carrier;
                let side = end as u64 * 2;
                let rx = RoughRx {
                    inner: rx,
                    way: back.clone(),
                    dice: dice(side),
                    pauses: Pauses::default(),
                };
                let tx = RoughTx {
                    inner: tx,
                    way: out.clone(),
                    dice: dice(side + 1),
                    pauses: Pauses::default(),
                };
                Carrier::Stream(StreamCarrier::new(rx, tx, info))
            };
            let accepted = carrier(accepted, &line.back, &line.there, End::Second);
            port.waiting.push_back(accepted);
            let acceptor = port.acceptor.take();
            let dialled = carrier(dialled, &line.there, &line.back, End::First);
            port.lines.push(line);
            drop(port);
            acceptor.into_iter().for_each(Waker::wake);
            Ok(dialled)
        })
    }

    fn listen<'a>(&'a self, address: &'a Address) -> BoxFuture<'a, Result<Box<dyn Listener>, ListenError>> {
        let listener = RoughListener {
            rough: self.clone(),
            address: address.clone(),
        };
        Box::pin(async move { Ok(Box::new(listener) as Box<dyn Listener>) })
    }
}

struct RoughListener {
    rough: Rough,
    address: Address,
}

impl Listener for RoughListener {
    fn accept(&mut self) -> BoxFuture<'_, Result<Carrier, AcceptError>> {
        Box::pin(poll_fn(|context| {
            let mut port = self.rough.shared.port.lock().unwrap();
            if let Some(carrier) = port.waiting.pop_front() {
                return Poll::Ready(Ok(carrier));
            }
            port.acceptor = Some(context.waker().clone());
            Poll::Pending
        }))
    }

    fn local_addresses(&self) -> Vec<Address> {
        vec![self.address.clone()]
    }
}

struct RoughRx {
    inner: Box<dyn ByteRx>,
    way: Way,
    dice: Option<Random>,
    pauses: Pauses,
}

impl ByteRx for RoughRx {
    fn try_read(&mut self, into: &mut BytesMut) -> io::Result<usize> {
        if self.way.is_closed(|flow| flow.held, None) || self.pauses.begin(&mut self.dice) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let room = into.capacity() - into.len();
        let read = match &mut self.dice {
            Some(dice) if room > 0 => {
                let mut piece = BytesMut::with_capacity(dice.piece(room));
                let read = self.inner.try_read(&mut piece)?;
                into.extend_from_slice(&piece);
                read
            }
            _ => self.inner.try_read(into)?,
        };
        self.way.change(|flow| flow.arrived += read as u64);
        Ok(read)
    }

    fn poll_readable(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.way.is_closed(|flow| flow.held, Some(context)) {
            return Poll::Pending;
        }
        ready!(self.pauses.poll(context));
        self.inner.poll_readable(context)
    }
}

struct RoughTx {
    inner: Box<dyn ByteTx>,
    way: Way,
    dice: Option<Random>,
    pauses: Pauses,
}

impl ByteTx for RoughTx {
    fn try_write(&mut self, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
        if self.way.is_closed(|flow| flow.stopped, None) {
            self.way.change(|flow| flow.refused += 1);
            return Err(io::ErrorKind::WouldBlock.into());
        }
        if self.pauses.begin(&mut self.dice) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let length: usize = pieces.iter().map(|piece| piece.len()).sum();
        let written = match &mut self.dice {
            Some(dice) if length > 0 => {
                let all: Vec<u8> = pieces.iter().flat_map(|piece| piece.iter().copied()).collect();
                let length = dice.piece(length);
                self.inner.try_write(&[IoSlice::new(&all[..length])])?
            }
            _ => self.inner.try_write(pieces)?,
        };
        self.way.change(|flow| flow.written += written as u64);
        Ok(written)
    }

    fn poll_writable(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.way.is_closed(|flow| flow.stopped, Some(context)) {
            return Poll::Pending;
        }
        ready!(self.pauses.poll(context));
        self.inner.poll_writable(context)
    }

    fn poll_close(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.way.is_closed(|flow| flow.stopped, Some(context)) {
            return Poll::Pending;
        }
        self.inner.poll_close(context)
    }
}

/// Times at which nothing passes, never two in a row.
#[derive(Default)]
struct Pauses {
    passed: bool,
    begun: bool,
}

impl Pauses {
    /// Whether nothing passes this time.
    fn begin(&mut self, dice: &mut Option<Random>) -> bool {
        let Some(dice) = dice else { return false };
        self.begun = !self.begun && self.passed && dice.below(4) == 0;
        self.passed = !self.begun;
        self.begun
    }

    /// Lets other tasks have their turn in a pause.
    fn poll(&mut self, context: &Context<'_>) -> Poll<()> {
        if std::mem::take(&mut self.begun) {
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        Poll::Ready(())
    }
}

/// A small generator, so that a seed is all there is to a run.
pub struct Random(u64);

impl Random {
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// A number below `bound`, which is at least 1.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }

    /// How much of `length` bytes passes: often very little, often all.
    fn piece(&mut self, length: usize) -> usize {
        let most = [1, 7, 64, 1500, length][self.below(5) as usize];
        most.min(length)
    }
}
