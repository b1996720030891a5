//! What is done by whoever has the reading role: events are handled in the order of the wire, and what follows from
//! them is written at once.

use std::sync::Arc;
use std::task::Waker;
use std::time::Duration;

use farref_boxing::{Certainty, Error, ErrorKind};
use farref_framing::{CloseReason, Inlet, Nanos, PLACE_LEAST, ReadFrom, StreamKey};

use smallvec::SmallVec;

use crate::clock;
use crate::engine::anchor::{Anchor, Proxies};
use crate::engine::core::{BYTES_IN_A_ROW, Core};
use crate::engine::dispatch::{Kept, WentOn};
use crate::engine::pace::{Between, Pace};
use crate::engine::state::State;
use crate::engine::together;
use crate::lock::lock;
use crate::protocol::{Event, Protocol};
use crate::remote::EngineHandles;
use crate::role::{self, Driven};
use crate::signal::Wishes;
use crate::waiter::Waiter;

/// Releases wait that long for a call to ride along with.
pub(super) const RELEASE_DELAY: Duration = Duration::from_millis(1);

/// So many that wait for calls are found under one lock.
const TOGETHER: usize = 128;
type Ready = SmallVec<[Waiter; TOGETHER]>;

/// What so many calls were answered is written before the next: the peer goes on with it meanwhile. Not once that has taken
/// [`BYTES_IN_A_ROW`], which were those of a transfer.
const REPLIES: u32 = 64;

/// A thread that spins does nothing else.
const LONGEST_SPIN: Duration = Duration::from_millis(100);

/// Pauses between two looks.
const PAUSES: u32 = 8;

/// What became of the events.
pub(super) enum Handled {
    /// All are done.
    All {
        /// Calls that were handed on.
        calls: u32,
        /// Waiters that were woken.
        woken: u32,
        /// Bytes that were written.
        written: usize,
    },
    /// The role was given away: somebody else goes on.
    Left,
}

/// What there was to write.
pub(super) struct Flushed {
    pub(super) bytes: usize,
    /// The connection was over before that: there is nothing to follow.
    pub(super) is_over: bool,
}

/// What comes after those who can go on.
enum Next {
    Event(Event<EngineHandles>),
    /// More of them.
    More,
    Nothing,
}

impl Next {
    fn of<P: Protocol<EngineHandles>>(state: &mut State<P>, ready: &mut Ready) -> Self {
        while ready.len() < TOGETHER {
            match state.poll_event() {
                Some(Event::Ready(waiter)) => ready.push(waiter),
                Some(event) => return Self::Event(event),
                None => return Self::Nothing,
            }
        }
        Self::More
    }
}

impl<P: Protocol<EngineHandles>> Core<P> {
    /// Handles the events one by one, in the order of the wire, and goes on with the method that is kept if that was woken by
    /// them. `own` is of the driver's task, if that does.
    pub(super) fn handle_events(
        self: &Arc<Self>,
        number: u64,
        own: Option<&Waker>,
        mut kept: Option<&mut Kept<P>>,
    ) -> Handled {
        role::driving(Arc::clone(self) as Arc<dyn Driven>, number, || {
            // Found once for all calls that came together.
            let mut found = None;
            let mut anchor = || Arc::clone(found.get_or_insert_with(|| self.anchor()));
            // Woken together: who is woken wants the lock as well.
            let mut ready = Ready::new();
            let (mut calls, mut woken, mut written) = (0_u32, 0_u32, 0_usize);
            // Its task waits for its turn on this thread, as those do that are woken.
            let let_go = |kept: &mut Option<&mut Kept<P>>, woken: &mut u32| {
                let is_one = kept.as_mut().is_some_and(|kept| kept.let_go());
                *woken = woken.saturating_add(is_one.into());
            };
            loop {
                let (next, said_goodbye) = {
                    let mut state = lock(&self.state);
                    if !self.role.is_held_by(number) {
                        return Handled::Left;
                    }
                    (Next::of(&mut state, &mut ready), state.goodbye.is_some())
                };
                // Nobody waits for what is done next, which may take long.
                let is_next = matches!(next, Next::Event(_));
                if is_next {
                    together::wake_now();
                }
                if !ready.is_empty() {
                    let is_kept = |waiter| kept.as_ref().is_some_and(|kept| kept.is_woken_by(waiter));
                    let others = ready.iter().filter(|waiter| !is_kept(waiter)).count();
                    woken = woken.saturating_add(others as u32);
                    if others > 0 {
                        let_go(&mut kept, &mut woken);
                    }
                    match own {
                        Some(own) if !is_next && together::are_many(ready.len()) => {
                            together::wake(ready.drain(..), own);
                        }
                        _ => ready.drain(..).for_each(Waiter::wake),
                    }
                }
                match next {
                    Next::Nothing => match kept.as_mut().and_then(|kept| kept.go_on()) {
                        Some(WentOn::Here) => {}
                        Some(WentOn::InTask) => woken = woken.saturating_add(1),
                        None => {
                            return Handled::All {
                                calls,
                                woken,
                                written,
                            };
                        }
                    },
                    Next::More => {}
                    // The peer takes what it said since our goodbye for unknown; it was given up with that.
                    Next::Event(Event::Call(incoming)) if said_goodbye => self.discard(incoming),
                    Next::Event(event) => {
                        let is_call = matches!(event, Event::Call(_));
                        // It is not to wait for that, nor that for it.
                        let_go(&mut kept, &mut woken);
                        self.handle(event, &mut anchor, kept.as_deref_mut());
                        calls = calls.saturating_add(u32::from(is_call));
                        let is_due = is_call && calls.is_multiple_of(REPLIES) && written < BYTES_IN_A_ROW;
                        if is_due && self.role.is_held_by(number) {
                            written = written.saturating_add(self.flush().bytes);
                        }
                    }
                }
            }
        })
    }

    #[inline]
    fn handle(
        self: &Arc<Self>,
        event: Event<EngineHandles>,
        anchor: impl FnOnce() -> Arc<Anchor<P>>,
        kept: Option<&mut Kept<P>>,
    ) {
        match event {
            Event::Call(incoming) => self.deliver(incoming, anchor, kept),
            Event::Ready(waiter) => waiter.wake(),
            Event::Body { answer, body, refs } => self.body_arrived(answer, body, refs),
            Event::Cancelled { answer, .. } => self.give_up(answer),
            Event::Unexported(object) => self.discard(object),
            Event::ShapeCame(shape) => self.shape_came(shape),
            Event::ShapeWanted(shape) => self.shape_wanted(shape),
            Event::Opened(root) => {
                let unwanted = lock(&self.state).open(root);
                self.discard(unwanted);
                self.changed.notify_waiters();
            }
            Event::Pong(round_trip) => {
                let mut state = lock(&self.state);
                state.round_trip = (state.round_trip.0.wrapping_add(1), round_trip);
                drop(state);
                self.changed.notify_waiters();
            }
            Event::Closed(reason) => {
                let error = lock(&self.state)
                    .goodbye
                    .get_or_insert_with(|| closed_there(&reason))
                    .clone();
                self.sever(error);
            }
            Event::Draining => self.peer_drains(),
            Event::Crowded { exports } => self.warn_of(exports),
            Event::Resumed => self.is_up_again(),
        }
    }

    /// Writes what there is; what the carrier does not take now is waited for by the driver.
    pub(super) fn flush(&self) -> Flushed {
        let (writer, asks, is_over) = {
            let mut state = lock(&self.state);
            let has_some = state.protocol.wants_write();
            if has_some {
                self.take_releases(&mut state);
            }
            let asks = state.protocol.has_unhurried() && self.releases.asks(&self.role);
            let writer = state.baton.flush().and_then(|mut writer| {
                if has_some || state.ended || writer.outlet.is_buffering() {
                    state.fill(&mut writer);
                    return Some(writer);
                }
                // One that lies there has written all it had, unless it was left to the driver for more.
                state.baton.give_back(writer);
                None
            });
            (writer, asks, state.over.is_some())
        };
        let bytes = writer.map_or(0, |writer| self.write_here(writer));
        if asks {
            self.signal.note(Wishes::RELEASES);
        }
        Flushed { bytes, is_over }
    }

    /// Nothing has come for a while: gives back memory that is of use only while something comes or goes.
    pub(super) fn rest(&self) {
        if let Some(inlet) = &mut *lock(&self.inlet) {
            inlet.rest();
        }
        let writer = {
            let mut state = lock(&self.state);
            state.rest();
            state.baton.flush()
        };
        if let Some(mut writer) = writer {
            writer.batch.rest();
            writer.outlet.rest();
            self.write_here(writer);
        }
        self.dispatch.rest();
        self.origins.rest();
    }

    /// Whether to spin rather than to fall asleep.
    pub(super) fn spins(&self, pace: &Pace) -> bool {
        pace.is_quick() && !self.config.spin.is_zero()
    }

    /// Reads what comes while it spins, for so many moments, or until something is due. In vain, it is as if there were
    /// nothing now.
    pub(super) fn spin(
        &self,
        inlet: &mut Inlet,
        pace: &mut Pace,
        moments: u32,
        between: Between,
        due: Nanos,
    ) -> std::io::Result<Option<ReadFrom>> {
        let begun = clock::now();
        let moment = clock::nanos(self.config.spin.saturating_mul(moments).min(LONGEST_SPIN));
        let patience = between.patience(moment);
        let left = due.saturating_sub(begun);
        let mut last = begun;
        // The longest look that has found nothing: one that has takes as long as there is to read.
        let mut idle = None;
        loop {
            if between == Between::Yielding {
                std::thread::yield_now();
            }
            let read = inlet.try_read();
            let now = clock::now();
            let (took, look) = (now.saturating_sub(begun), now.saturating_sub(last));
            last = now;
            let is_over = !matches!(&read, Err(error) if error.kind() == std::io::ErrorKind::WouldBlock);
            // A look takes less than a microsecond, unless others have the CPU meanwhile.
            if look > patience && between == Between::Yielding {
                pace.was_crowded_out();
                return read;
            }
            if look > patience || (took >= moment && !is_over) {
                pace.was_in_vain();
                return read;
            }
            if is_over {
                pace.has_spun(between, took, idle.unwrap_or(look), moment);
                return read;
            }
            idle = idle.max(Some(look));
            if took >= left || self.signal.is_asked() {
                return read;
            }
            if between == Between::Pausing {
                for _ in 0..PAUSES {
                    std::hint::spin_loop();
                }
            }
        }
    }

    /// Hands what was read to the protocol; the number of the carrier and why, if that ends it.
    pub(super) fn take_in(
        self: &Arc<Self>,
        slot: &mut Option<Inlet>,
        from: ReadFrom,
        pace: &mut Pace,
    ) -> Result<(), (u64, Error)> {
        let Some(inlet) = slot else {
            return Ok(());
        };
        let (carrier, handled, drained) = {
            let mut state = lock(&self.state);
            let now = state.now();
            let lent = inlet.lent();
            let mut handled = lent.map_or(Ok(()), |lent| state.protocol.handle_placed(lent, now));
            let input = inlet.buffer(from.stream);
            if handled.is_ok() {
                handled = state
                    .protocol
                    .handle_bytes(from.stream, input, from.end, &Proxies(self), now);
            }
            if from.len >= PLACE_LEAST
                && handled.is_ok()
                && input.is_empty()
                && let Some(placement) = inlet.placement()
            {
                state.protocol.place(placement);
            }
            if from.end && from.stream == StreamKey::MAIN {
                *slot = None;
                // Found when the events of this read are handled, by whoever reads then.
                state.lost.get_or_insert_with(|| lost(None));
            }
            if state.protocol.stats().answers > 0 {
                state.outcomes.has_read_much();
            }
            if state.has_events() {
                pace.has_read(Arc::as_ptr(self).addr());
            } else {
                pace.has_read_part();
            }
            (state.carrier, handled, state.is_drained())
        };
        if drained {
            self.changed.notify_waiters();
        }
        handled.map_err(|error| (carrier, error))
    }
}

/// Why the connection is over when its carrier brings no more.
pub(super) fn lost(error: Option<&std::io::Error>) -> Error {
    let kind = ErrorKind::Disconnected(Certainty::Unknown);
    match error {
        Some(error) => Error::new(kind, format!("the connection was lost: {error}")),
        None => Error::new(
            kind,
            "the connection was lost: the peer ended it without a goodbye",
        ),
    }
}

/// The peer closed in order.
fn closed_there(reason: &CloseReason) -> Error {
    if reason.code == CloseReason::DENIED {
        let text = if reason.text.is_empty() {
            "the peer does not let this side in"
        } else {
            &reason.text
        };
        return Error::new(ErrorKind::Denied, text.to_owned());
    }
    let kind = ErrorKind::Disconnected(Certainty::Unknown);
    Error::new(kind, format!("the peer closed the connection: {reason}"))
}
