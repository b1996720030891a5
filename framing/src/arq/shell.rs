//! The line over a carrier: one task that reads, writes and keeps the time, and two halves for whoever uses it.

use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use bytes::BytesMut;
use farref_transport::{ByteRx, ByteTx, CarrierStats, Gauge, StreamCarrier};
use tokio::time::{Instant, Sleep};

use super::line::Line;
use super::{Config, Failure, Stats};
use crate::link::{Nanos, Role};

/// Most that a lossy carrier is read at once.
const READ: usize = 4096;
/// How often the carrier is read and written before others have their turn.
const ROUNDS: usize = 64;
/// The least time between two looks at what is due, and between those while the carrier takes nothing.
const GRAIN: Nanos = 500_000;
const LOOK_AGAIN: Nanos = 50_000_000;

/// A dependable carrier over a lossy one.
#[derive(Debug)]
#[non_exhaustive]
pub struct Reliable {
    /// The carrier.
    pub carrier: StreamCarrier,
    /// Which side this is, as both have agreed.
    pub role: Role,
}

struct Shared {
    state: Mutex<State>,
}

struct State {
    line: Line,
    has_reader: bool,
    has_writer: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
    task: Option<Waker>,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Finds the other side of a lossy `carrier`, and returns a dependable one. Needs a tokio runtime with time.
///
/// # Errors
///
/// Why the other side was not found; see [`Failure`].
///
/// # Cancel safety
///
/// Dropping the future drops the carrier.
pub async fn reliable(carrier: StreamCarrier, config: Config) -> Result<Reliable, Failure> {
    let StreamCarrier {
        rx,
        tx,
        mut info,
        guard,
    } = carrier;
    let origin = Instant::now();
    info.reliable = true;
    info.half_close = true;
    info.rate_hint = Some(config.bytes_per_second);
    let shared = Arc::new(Shared {
        state: Mutex::new(State {
            line: Line::new(config, fresh_nonce(), 0),
            has_reader: true,
            has_writer: true,
            reader: None,
            writer: None,
            task: None,
        }),
    });
    let halves = (
        ArqRx(Arc::clone(&shared)),
        ArqTx {
            shared: Arc::clone(&shared),
            is_closed: false,
        },
    );
    let mut pump = Pump {
        shared: Arc::clone(&shared),
        rx,
        tx,
        origin,
        input: BytesMut::new(),
        output: Vec::new(),
        written: 0,
        is_busy: false,
        is_broken: false,
        sleep: Box::pin(tokio::time::sleep(Duration::ZERO)),
        ends_at: None,
    };
    let role = poll_fn(|cx| pump.poll_open(cx)).await?;
    let payload = shared.lock().line.payload();
    info.fragment_hint = u32::try_from(payload).unwrap_or(u32::MAX);
    tokio::spawn(async move {
        poll_fn(|cx| pump.poll(cx)).await;
        drop(guard);
    });
    info.gauge = Some(Gauge::new(move || numbers(shared.lock().line.stats())));
    let carrier = StreamCarrier::new(halves.0, halves.1, info);
    Ok(Reliable { carrier, role })
}

/// The numbers of a line, as those of a carrier.
fn numbers(line: Stats) -> CarrierStats {
    let mut numbers = CarrierStats::default();
    numbers.bytes_sent = line.bytes_sent;
    numbers.bytes_received = line.bytes_heard;
    numbers.repeated = line.frames_again;
    numbers.damaged = line.bad_frames;
    numbers.round_trip = line.round_trip;
    numbers
}

fn fresh_nonce() -> [u8; 8] {
    use std::hash::{BuildHasher, Hasher, RandomState};
    // Told apart, not kept secret: the keys of a hash map are random enough.
    RandomState::new().build_hasher().finish().to_le_bytes()
}

/// What carries frames between the line and its carrier.
struct Pump {
    shared: Arc<Shared>,
    rx: Box<dyn ByteRx>,
    tx: Box<dyn ByteTx>,
    origin: Instant,
    input: BytesMut,
    /// A frame that is being written.
    output: Vec<u8>,
    written: usize,
    /// The carrier takes nothing now.
    is_busy: bool,
    /// The carrier has failed: it is not asked again.
    is_broken: bool,
    sleep: Pin<Box<Sleep>>,
    /// When the task ends at the latest, once the line is over or nobody is left here.
    ends_at: Option<Nanos>,
}

impl Pump {
    fn now(&self) -> Nanos {
        Nanos::try_from(self.origin.elapsed().as_nanos()).unwrap_or(Nanos::MAX)
    }

    /// Ready when the other side is there, or why it is not.
    fn poll_open(&mut self, cx: &mut Context<'_>) -> Poll<Result<Role, Failure>> {
        loop {
            let due = self.carry(cx);
            {
                let state = self.shared.lock();
                if let Some(failure) = state.line.failure() {
                    return Poll::Ready(Err(failure.clone()));
                }
                if let Some(role) = state.line.role() {
                    return Poll::Ready(Ok(role));
                }
            }
            ready!(self.sleep_until(due, cx));
        }
    }

    /// Ready when there is nothing left to carry.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            let due = self.carry(cx);
            let now = self.now();
            let end = self.end(now);
            if let Some(end) = end {
                // The last word goes out, if the carrier takes it.
                while self.write(cx) {}
                self.flush(cx);
                self.wake();
                if self.is_done() || now >= end {
                    return Poll::Ready(());
                }
            }
            ready!(self.sleep_until(due.into_iter().chain(end).min(), cx));
        }
    }

    /// When the task ends at the latest, if nobody is left here or the line is over. Until then what was written goes
    /// out; then the peer is told.
    fn end(&mut self, now: Nanos) -> Option<Nanos> {
        let mut state = self.shared.lock();
        let has_user = state.has_reader || state.has_writer;
        if has_user && state.line.failure().is_none() {
            return None;
        }
        let end = now.saturating_add(state.line.linger());
        let end = *self.ends_at.get_or_insert(end);
        state.line.close();
        if state.line.is_closed() || now >= end {
            state.line.abandon();
        }
        Some(end)
    }

    /// Whether the line is over, and nothing of it is left to write.
    fn is_done(&self) -> bool {
        let has_failed = self.shared.lock().line.failure().is_some();
        let is_written = self.written == self.output.len() && !self.tx.is_buffering();
        has_failed && (is_written || self.is_broken)
    }

    /// Carries what can be carried now; when it is to be called again, if it is not woken before.
    fn carry(&mut self, cx: &mut Context<'_>) -> Option<Nanos> {
        self.shared.lock().task = Some(cx.waker().clone());
        for _ in 0..ROUNDS {
            let has_read = self.read(cx);
            let has_written = self.write(cx);
            let has_broken = self.flush(cx);
            let now = self.now();
            let due = {
                let mut state = self.shared.lock();
                state.line.handle_timeout(now);
                state.line.poll_timeout()
            };
            self.wake();
            if has_read || has_written || has_broken {
                continue;
            }
            // While the line is busy nothing that is due can be said; it wakes this task when it is not.
            let soonest = if self.is_busy { LOOK_AGAIN } else { GRAIN };
            return due.map(|due| due.max(now.saturating_add(soonest)));
        }
        // A carrier that has something all the time must not keep others from this thread.
        cx.waker().wake_by_ref();
        None
    }

    fn sleep_until(&mut self, at: Option<Nanos>, cx: &mut Context<'_>) -> Poll<()> {
        let at = at.and_then(|at| self.origin.checked_add(Duration::from_nanos(at)));
        let Some(at) = at else {
            return Poll::Pending;
        };
        if self.sleep.deadline() != at {
            self.sleep.as_mut().reset(at);
        }
        self.sleep.as_mut().poll(cx)
    }

    /// Takes what has come; false if there was nothing.
    fn read(&mut self, cx: &mut Context<'_>) -> bool {
        if self.is_broken || self.shared.lock().line.failure().is_some() {
            return false;
        }
        self.input.clear();
        self.input.reserve(READ);
        match self.rx.poll_read(cx, &mut self.input) {
            Poll::Pending => return false,
            Poll::Ready(Ok(0)) => self.break_off(io::ErrorKind::UnexpectedEof, "it has ended".to_owned()),
            Poll::Ready(Ok(_)) => {
                let now = self.now();
                self.shared.lock().line.handle_bytes(&self.input, now);
            }
            Poll::Ready(Err(error)) => self.break_off(error.kind(), error.to_string()),
        }
        true
    }

    /// Writes what the carrier takes; false if it takes no more, or there is nothing.
    fn write(&mut self, cx: &mut Context<'_>) -> bool {
        if self.is_broken {
            return false;
        }
        if self.written == self.output.len() {
            self.output.clear();
            self.written = 0;
            // No frame is cut before the line can take it: what is urgent may come until then.
            if !self.is_writable(cx) {
                return self.is_broken;
            }
            let now = self.now();
            if !self.shared.lock().line.poll_transmit(&mut self.output, now) {
                return false;
            }
        }
        while let Some(rest) = self.output.get(self.written..).filter(|rest| !rest.is_empty()) {
            match self.tx.try_write(&[IoSlice::new(rest)]) {
                Ok(count) => self.written = self.written.saturating_add(count),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    if !self.is_writable(cx) {
                        return self.is_broken;
                    }
                }
                Err(error) => {
                    self.break_off(error.kind(), error.to_string());
                    return true;
                }
            }
        }
        true
    }

    /// Whether the carrier takes something now; it has promised to wake this task if not.
    fn is_writable(&mut self, cx: &mut Context<'_>) -> bool {
        let writable = self.tx.poll_writable(cx);
        self.is_busy = writable.is_pending();
        if let Poll::Ready(Err(error)) = &writable {
            self.break_off(error.kind(), error.to_string());
        }
        matches!(writable, Poll::Ready(Ok(())))
    }

    /// Lets a carrier that keeps bytes pass them on; true if it broke.
    fn flush(&mut self, cx: &mut Context<'_>) -> bool {
        if self.is_broken || !self.tx.is_buffering() {
            return false;
        }
        if let Poll::Ready(Err(error)) = self.tx.poll_flush(cx) {
            self.break_off(error.kind(), error.to_string());
        }
        self.is_broken
    }

    fn break_off(&mut self, kind: io::ErrorKind, text: String) {
        self.is_broken = true;
        self.shared.lock().line.break_off(Failure::Carrier(kind, text));
    }

    /// Wakes whoever can go on.
    fn wake(&self) {
        let (reader, writer) = {
            let mut state = self.shared.lock();
            let has_failed = state.line.failure().is_some();
            let can_read = has_failed || state.line.has_input() || state.line.is_at_end();
            let can_write = has_failed || state.line.write_room() > 0 || state.line.is_closed();
            let reader = if can_read { state.reader.take() } else { None };
            (reader, if can_write { state.writer.take() } else { None })
        };
        reader.into_iter().chain(writer).for_each(Waker::wake);
    }
}

impl Drop for Pump {
    /// A task that goes away before the line is over, as with its runtime, leaves nobody waiting.
    fn drop(&mut self) {
        self.shared.lock().line.break_off(Failure::Abandoned);
        self.wake();
    }
}

/// The reading half.
struct ArqRx(Arc<Shared>);

impl ByteRx for ArqRx {
    fn try_read(&mut self, into: &mut BytesMut) -> io::Result<usize> {
        if into.capacity() == into.len() {
            into.reserve(READ);
        }
        let mut state = self.0.lock();
        let room = into.capacity().saturating_sub(into.len());
        let count = state.line.read(into, room);
        if count > 0 {
            let task = state.task.clone();
            drop(state);
            // There may be room now that the peer waits for.
            task.into_iter().for_each(Waker::wake);
            return Ok(count);
        }
        if state.line.is_at_end() {
            return Ok(0);
        }
        match state.line.failure() {
            Some(failure) => Err(failure.clone().into()),
            None => Err(io::ErrorKind::WouldBlock.into()),
        }
    }

    fn poll_readable(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut state = self.0.lock();
        if state.line.has_input() || state.line.is_at_end() || state.line.failure().is_some() {
            return Poll::Ready(Ok(()));
        }
        state.reader = Some(cx.waker().clone());
        Poll::Pending
    }
}

impl Drop for ArqRx {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.has_reader = false;
        let task = state.task.take();
        drop(state);
        task.into_iter().for_each(Waker::wake);
    }
}

/// The writing half.
struct ArqTx {
    shared: Arc<Shared>,
    is_closed: bool,
}

impl ArqTx {
    fn wake_task(&self) {
        let task = self.shared.lock().task.clone();
        task.into_iter().for_each(Waker::wake);
    }
}

impl ByteTx for ArqTx {
    fn try_write(&mut self, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
        if self.is_closed {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        let mut taken = 0_usize;
        {
            let mut state = self.shared.lock();
            if let Some(failure) = state.line.failure() {
                return Err(failure.clone().into());
            }
            for buf in bufs.iter().filter(|buf| !buf.is_empty()) {
                let count = state.line.write(buf);
                taken = taken.saturating_add(count);
                if count < buf.len() {
                    break;
                }
            }
        }
        if taken == 0 && bufs.iter().any(|buf| !buf.is_empty()) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        self.wake_task();
        Ok(taken)
    }

    fn poll_writable(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut state = self.shared.lock();
        if state.line.write_room() > 0 || state.line.failure().is_some() || self.is_closed {
            return Poll::Ready(Ok(()));
        }
        state.writer = Some(cx.waker().clone());
        Poll::Pending
    }

    fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.is_closed = true;
        let mut state = self.shared.lock();
        state.line.close();
        // A line that is gone counts as closed.
        if state.line.is_closed() || state.line.failure().is_some() {
            return Poll::Ready(Ok(()));
        }
        state.writer = Some(cx.waker().clone());
        let task = state.task.clone();
        drop(state);
        task.into_iter().for_each(Waker::wake);
        Poll::Pending
    }
}

impl Drop for ArqTx {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        state.has_writer = false;
        state.line.close();
        let task = state.task.take();
        drop(state);
        task.into_iter().for_each(Waker::wake);
    }
}

#[cfg(test)]
mod tests;
