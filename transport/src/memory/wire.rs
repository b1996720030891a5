//! The bytes between the two ends of a memory carrier.
//!
//! Knows pipes (one direction of one stream each), who waits for them, and which streams wait to be
//! accepted. One lock for all of it: every act of either end, and every cut, is one step. No waker is
//! woken or dropped under that lock, for that may run anything.

use std::collections::{BTreeMap, VecDeque};
use std::io::{self, IoSlice, IoSliceMut, Read};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use bytes::BytesMut;

use super::cutter::{Cut, End, Plan};
use crate::error::Aborted;

/// Everything between two ends.
pub(super) struct Wire {
    state: Mutex<State>,
}

impl Wire {
    pub(super) fn new(buffer: usize, has_native_streams: bool) -> Arc<Self> {
        Arc::new(Self {
            state: Mutex::new(State {
                buffer: buffer.max(1),
                has_native_streams,
                pipes: BTreeMap::new(),
                next: 0,
                over: None,
                plan: None,
                passed: 0,
                first: Incoming::default(),
                second: Incoming::default(),
            }),
        })
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One step: `act` under the lock, then the wake-ups that it asked for.
    pub(super) fn step<T>(&self, act: impl FnOnce(&mut State, &mut Wakers) -> T) -> T {
        let mut wakers = Wakers::default();
        let outcome = act(&mut self.lock(), &mut wakers);
        wakers.wake();
        outcome
    }

    /// Ends the carrier for both sides, or plans to.
    pub(super) fn cut(&self, cut: Cut) {
        self.step(|state, wakers| match cut {
            Cut::Now { losing } => state.end(Over::Cut, losing, wakers),
            Cut::Later(plan) if plan.left == 0 => state.end(Over::Cut, false, wakers),
            Cut::Later(plan) => state.plan = Some(plan),
        });
    }

    pub(super) fn is_cut(&self) -> bool {
        matches!(self.lock().over, Some(Over::Cut))
    }

    pub(super) fn passed(&self) -> u64 {
        self.lock().passed
    }
}

/// Names a pipe among those of a wire.
pub(super) type PipeId = u64;

/// What the lock of a wire is about.
pub(super) struct State {
    /// Room of each pipe, in bytes.
    buffer: usize,
    pub(super) has_native_streams: bool,
    pub(super) pipes: BTreeMap<PipeId, Pipe>,
    next: PipeId,
    over: Option<Over>,
    plan: Option<Plan>,
    /// Bytes that were let through, both directions together.
    passed: u64,
    /// What waits to be accepted at each end.
    first: Incoming,
    second: Incoming,
}

/// How the whole carrier ended.
#[derive(Clone, Copy)]
pub(super) enum Over {
    Cut,
    Closed(u32),
}

impl Over {
    fn error(self) -> io::Error {
        match self {
            Self::Cut => io::ErrorKind::ConnectionReset.into(),
            Self::Closed(code) => Aborted::Closed(code).into(),
        }
    }
}

/// One direction of one stream.
///
/// # Invariant
///
/// `bytes` never holds more than the wire's `buffer`. The pipe is in the table while either half is
/// alive or may still be made by an accept.
#[derive(Default)]
pub(super) struct Pipe {
    bytes: VecDeque<u8>,
    /// Who writes it.
    from: End,
    /// The writer has closed: after `bytes` comes the end.
    is_finished: bool,
    /// A cut lost bytes: after `bytes` comes no end but the error.
    is_torn: bool,
    reset: Option<u32>,
    stopped: Option<u32>,
    is_reader_gone: bool,
    is_writer_gone: bool,
    /// How the peer learns of the stream, by the first act of its writer.
    announce: Option<Stream>,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

/// A stream that its opener wrote on `out`; `back` is the other direction, if it has one.
#[derive(Clone, Copy)]
pub(super) struct Stream {
    pub(super) out: PipeId,
    pub(super) back: Option<PipeId>,
}

/// The streams that one end may accept.
#[derive(Default)]
struct Incoming {
    both_ways: Queue,
    one_way: Queue,
    /// The end's handle was dropped: nobody will accept.
    is_gone: bool,
}

#[derive(Default)]
struct Queue {
    announced: VecDeque<Stream>,
    /// Streams opened but not accepted, announced or not; at most `PENDING`.
    pending: usize,
    acceptors: Vec<Waker>,
    openers: Vec<Waker>,
}

impl State {
    /// A new pipe that `from` writes.
    pub(super) fn pipe(&mut self, from: End) -> PipeId {
        let id = self.next;
        self.next += 1;
        self.pipes.insert(
            id,
            Pipe {
                from,
                ..Pipe::default()
            },
        );
        id
    }

    fn incoming(&mut self, end: End) -> &mut Incoming {
        match end {
            End::First => &mut self.first,
            End::Second => &mut self.second,
        }
    }

    pub(super) fn try_read(
        &mut self,
        id: PipeId,
        into: &mut BytesMut,
        wakers: &mut Wakers,
    ) -> io::Result<usize> {
        self.try_take(id, wakers, |bytes| {
            let count = bytes.len().min(into.capacity() - into.len());
            let (front, back) = bytes.as_slices();
            let front = front.get(..count).unwrap_or(front);
            into.extend_from_slice(front);
            into.extend_from_slice(back.get(..count - front.len()).unwrap_or(back));
            bytes.drain(..count);
            count
        })
    }

    pub(super) fn try_read_vectored(
        &mut self,
        id: PipeId,
        bufs: &mut [IoSliceMut<'_>],
        wakers: &mut Wakers,
    ) -> io::Result<usize> {
        self.try_take(id, wakers, |bytes| {
            let before = bytes.len();
            for buf in bufs {
                let mut rest = &mut buf[..];
                // Each reads as far as the ring goes.
                while let Ok(count @ 1..) = bytes.read(rest) {
                    rest = rest.get_mut(count..).unwrap_or_default();
                }
            }
            before - bytes.len()
        })
    }

    /// Has `take` take bytes of a pipe, if there are any.
    fn try_take(
        &mut self,
        id: PipeId,
        wakers: &mut Wakers,
        take: impl FnOnce(&mut VecDeque<u8>) -> usize,
    ) -> io::Result<usize> {
        let over = self.over;
        let Some(pipe) = self.pipes.get_mut(&id) else {
            return Ok(0);
        };
        if let Some(code) = pipe.reset {
            return Err(Aborted::Reset(code).into());
        }
        if !pipe.bytes.is_empty() {
            let count = take(&mut pipe.bytes);
            wakers.add(pipe.writer.take());
            return Ok(count);
        }
        match over {
            _ if pipe.is_finished && !pipe.is_torn => Ok(0),
            Some(over) => Err(over.error()),
            None if pipe.stopped.is_some() => Ok(0),
            None => Err(io::ErrorKind::WouldBlock.into()),
        }
    }

    pub(super) fn poll_readable(
        &mut self,
        id: PipeId,
        cx: &Context<'_>,
        wakers: &mut Wakers,
    ) -> Poll<io::Result<()>> {
        let is_over = self.over.is_some();
        match self.pipes.get_mut(&id) {
            Some(pipe) if !is_over && pipe.is_silent() => {
                wakers.exchange(&mut pipe.reader, cx);
                Poll::Pending
            }
            _ => Poll::Ready(Ok(())),
        }
    }

    pub(super) fn try_write(
        &mut self,
        id: PipeId,
        bufs: &[IoSlice<'_>],
        wakers: &mut Wakers,
    ) -> io::Result<usize> {
        let (over, buffer, plan) = (self.over, self.buffer, self.plan);
        let Some(pipe) = self.pipes.get_mut(&id) else {
            return Err(io::ErrorKind::BrokenPipe.into());
        };
        let wanted: usize = bufs.iter().map(|buf| buf.len()).sum();
        if wanted == 0 {
            return Ok(0);
        }
        if pipe.is_finished {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        if let Some(over) = over {
            return Err(over.error());
        }
        if let Some(code) = pipe.stopped {
            return Err(Aborted::Stopped(code).into());
        }
        if pipe.is_reader_gone {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        let fits = wanted.min(buffer - pipe.bytes.len());
        if fits == 0 {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let passes = plan
            .filter(|plan| plan.counts(pipe.from))
            .map_or(fits, |plan| plan.allows(fits));
        let mut left = passes;
        for buf in bufs {
            let part = buf.get(..left).unwrap_or(buf);
            pipe.bytes.extend(part);
            left -= part.len();
        }
        wakers.add(pipe.reader.take());
        let from = pipe.from;
        self.announce(id, wakers);
        self.passed += passes as u64;
        let Some(plan) = self.plan.as_mut().filter(|plan| plan.counts(from)) else {
            return Ok(passes);
        };
        plan.left -= passes as u64;
        if plan.left > 0 {
            return Ok(passes);
        }
        // A losing cut lets the writer believe that all of it went through, as a real network does.
        let (taken, is_torn) = if plan.losing {
            (fits, fits > passes)
        } else {
            (passes, false)
        };
        if let Some(pipe) = self.pipes.get_mut(&id) {
            pipe.is_torn = is_torn;
        }
        self.end(Over::Cut, false, wakers);
        Ok(taken)
    }

    pub(super) fn poll_writable(
        &mut self,
        id: PipeId,
        cx: &Context<'_>,
        wakers: &mut Wakers,
    ) -> Poll<io::Result<()>> {
        let (is_over, buffer) = (self.over.is_some(), self.buffer);
        match self.pipes.get_mut(&id) {
            Some(pipe) if !is_over && pipe.is_full(buffer) => {
                wakers.exchange(&mut pipe.writer, cx);
                Poll::Pending
            }
            _ => Poll::Ready(Ok(())),
        }
    }

    /// The writer says no more: properly, or with the code of a reset.
    pub(super) fn finish(&mut self, id: PipeId, reset: Option<u32>, wakers: &mut Wakers) {
        let is_over = self.over.is_some();
        let Some(pipe) = self.pipes.get_mut(&id) else {
            return;
        };
        // An end that was said after a cut does not pass any more.
        pipe.is_torn |= is_over && !pipe.is_finished;
        let is_all_heard = pipe.is_finished && pipe.bytes.is_empty();
        if reset.is_some() && !is_over && !is_all_heard {
            pipe.reset = reset;
            pipe.bytes.clear();
        }
        pipe.is_finished = true;
        wakers.add(pipe.reader.take());
        self.announce(id, wakers);
    }

    /// The reader wants no more.
    pub(super) fn stop(&mut self, id: PipeId, code: u32, wakers: &mut Wakers) {
        let Some(pipe) = self.pipes.get_mut(&id) else {
            return;
        };
        pipe.stopped.get_or_insert(code);
        pipe.bytes.clear();
        wakers.add(pipe.writer.take());
    }

    pub(super) fn drop_reader(&mut self, id: PipeId, wakers: &mut Wakers) {
        let Some(pipe) = self.pipes.get_mut(&id) else {
            return;
        };
        pipe.is_reader_gone = true;
        pipe.bytes = VecDeque::new();
        wakers.add(pipe.writer.take());
        wakers.add(pipe.reader.take());
        if pipe.is_writer_gone {
            self.pipes.remove(&id);
        }
    }

    pub(super) fn drop_writer(&mut self, id: PipeId, wakers: &mut Wakers) {
        self.finish(id, None, wakers);
        let Some(pipe) = self.pipes.get_mut(&id) else {
            return;
        };
        pipe.is_writer_gone = true;
        wakers.add(pipe.writer.take());
        if pipe.is_reader_gone {
            self.pipes.remove(&id);
        }
    }

    /// Tells the peer of a stream whose opener did something for the first time.
    fn announce(&mut self, id: PipeId, wakers: &mut Wakers) {
        let Some(pipe) = self.pipes.get_mut(&id) else {
            return;
        };
        let Some(stream) = pipe.announce.take() else {
            return;
        };
        let to = pipe.from.other();
        let incoming = self.incoming(to);
        if incoming.is_gone {
            return self.refuse(stream, wakers);
        }
        let queue = incoming.queue(stream.back.is_some());
        queue.announced.push_back(stream);
        wakers.add_all(&mut queue.acceptors);
    }

    /// Drops the halves of a stream that nobody will accept.
    fn refuse(&mut self, stream: Stream, wakers: &mut Wakers) {
        self.drop_reader(stream.out, wakers);
        if let Some(back) = stream.back {
            self.drop_writer(back, wakers);
        }
    }

    pub(super) fn poll_open(
        &mut self,
        from: End,
        both_ways: bool,
        cx: &Context<'_>,
    ) -> Poll<io::Result<Stream>> {
        if let Some(over) = self.over {
            return Poll::Ready(Err(over.error()));
        }
        let incoming = self.incoming(from.other());
        if incoming.is_gone {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let queue = incoming.queue(both_ways);
        if queue.pending >= PENDING {
            note(&mut queue.openers, cx);
            return Poll::Pending;
        }
        queue.pending += 1;
        let out = self.pipe(from);
        let back = both_ways.then(|| self.pipe(from.other()));
        let stream = Stream { out, back };
        if let Some(pipe) = self.pipes.get_mut(&out) {
            pipe.announce = Some(stream);
        }
        Poll::Ready(Ok(stream))
    }

    pub(super) fn poll_accept(
        &mut self,
        at: End,
        both_ways: bool,
        cx: &Context<'_>,
        wakers: &mut Wakers,
    ) -> Poll<io::Result<Stream>> {
        let over = self.over;
        let is_peer_gone = self.incoming(at.other()).is_gone;
        let queue = self.incoming(at).queue(both_ways);
        if let Some(stream) = queue.announced.pop_front() {
            queue.pending -= 1;
            wakers.add_all(&mut queue.openers);
            return Poll::Ready(Ok(stream));
        }
        if let Some(over) = over {
            return Poll::Ready(Err(over.error()));
        }
        if is_peer_gone && queue.pending == 0 {
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        note(&mut queue.acceptors, cx);
        Poll::Pending
    }

    /// The handle of `end` is dropped: its streams go on, but there will be no new ones.
    pub(super) fn leave(&mut self, end: End, wakers: &mut Wakers) {
        let incoming = self.incoming(end);
        incoming.is_gone = true;
        let mut refused = Vec::new();
        for queue in [&mut incoming.both_ways, &mut incoming.one_way] {
            refused.extend(queue.announced.drain(..));
            wakers.add_all(&mut queue.openers);
        }
        for stream in refused {
            self.refuse(stream, wakers);
        }
        let peer = self.incoming(end.other());
        wakers.add_all(&mut peer.both_ways.acceptors);
        wakers.add_all(&mut peer.one_way.acceptors);
    }

    /// Ends the whole carrier, once, and wakes all who wait.
    pub(super) fn end(&mut self, over: Over, losing: bool, wakers: &mut Wakers) {
        if self.over.is_some() {
            return;
        }
        self.over = Some(over);
        for pipe in self.pipes.values_mut() {
            if losing {
                pipe.is_torn = true;
                pipe.bytes.clear();
            }
            wakers.add(pipe.reader.take());
            wakers.add(pipe.writer.take());
        }
        for end in [End::First, End::Second] {
            let incoming = self.incoming(end);
            for queue in [&mut incoming.both_ways, &mut incoming.one_way] {
                if losing {
                    queue.announced.clear();
                }
                wakers.add_all(&mut queue.acceptors);
                wakers.add_all(&mut queue.openers);
            }
        }
    }
}

impl Incoming {
    fn queue(&mut self, both_ways: bool) -> &mut Queue {
        if both_ways {
            &mut self.both_ways
        } else {
            &mut self.one_way
        }
    }
}

impl Pipe {
    /// Whether a reader has to wait, the carrier being alive.
    fn is_silent(&self) -> bool {
        self.bytes.is_empty() && !self.is_finished && self.reset.is_none() && self.stopped.is_none()
    }

    /// Whether a writer has to wait, the carrier being alive.
    fn is_full(&self, buffer: usize) -> bool {
        self.bytes.len() >= buffer && !self.is_finished && self.stopped.is_none() && !self.is_reader_gone
    }
}

/// Who is to be woken when the lock is free. One is the rule and costs no allocation.
#[derive(Default)]
pub(super) struct Wakers {
    one: Option<Waker>,
    more: Vec<Waker>,
    /// Not to be woken, only dropped.
    stale: Option<Waker>,
}

impl Wakers {
    fn add(&mut self, waker: Option<Waker>) {
        match (waker, &self.one) {
            (Some(waker), None) => self.one = Some(waker),
            (Some(waker), Some(_)) => self.more.push(waker),
            (None, _) => {}
        }
    }

    fn add_all(&mut self, wakers: &mut Vec<Waker>) {
        self.more.append(wakers);
    }

    /// Puts the waker of `cx` into `slot`.
    fn exchange(&mut self, slot: &mut Option<Waker>, cx: &Context<'_>) {
        if !slot.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
            self.stale = slot.replace(cx.waker().clone());
        }
    }

    fn wake(self) {
        self.one.into_iter().chain(self.more).for_each(Waker::wake);
    }
}

/// Adds the waker of `cx`, unless it is there already.
fn note(wakers: &mut Vec<Waker>, cx: &Context<'_>) {
    if !wakers.iter().any(|waker| waker.will_wake(cx.waker())) {
        wakers.push(cx.waker().clone());
    }
}

/// Streams of one kind that may be open but not accepted, from one end.
pub(super) const PENDING: usize = 256;
