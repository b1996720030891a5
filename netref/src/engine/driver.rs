//! The driver: the one task of a connection that waits.
//!
//! It handles every whole message of a read before it writes the replies, in one write, and those of a few more reads if a
//! few messages came and more are there. It never waits for writing while there is something to read, nor for the
//! application.

use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use farref_boxing::{Certainty, Error, ErrorKind};
use farref_framing::{CloseReason, Inlet, Nanos, ReadFrom, StreamKey};
use tokio::time::Instant;

use crate::clock;
use crate::config::Config;
use crate::context;
use crate::engine::anchor::Proxies;
use crate::engine::core::{BYTES_IN_A_ROW, Core, closed_here};
use crate::engine::lead::LOOK_EVERY;
use crate::engine::pace::{Courtesy, Pace};
use crate::engine::reading::{Handled, RELEASE_DELAY, lost};
use crate::engine::state::{State, Writer};
use crate::lock::lock;
use crate::protocol::{Event, Protocol};
use crate::remote::EngineHandles;
use crate::role::{Driven, Woken};
use crate::signal::Wishes;
use crate::timer::Timer;

/// After that many reads in a row others have their turn, and so has what is due; or after [`BYTES_IN_A_ROW`].
const READS_IN_A_ROW: u32 = 32;

/// Or after that many bytes if somebody waits: no other thread may take over whom this one has woken.
const BYTES_BESIDE_OTHERS: usize = 128 * 1024;

/// Where so many calls and outcomes came, what follows from them is worth less than the write that it takes: it is written
/// together with what follows from those that have come meanwhile. One alone is waited for by one caller, and there is nothing
/// more.
const FEW: std::ops::Range<u32> = 3..64;

/// So many further reads are made at most before it is written, and none after one that has left more bytes than that to be
/// handled: much may follow from them.
const READS_TOGETHER: u32 = 4;
const SHORT: usize = 8 * 1024;

/// After so long without anything to read the connection rests; a busy one looks ever more rarely whether it should.
const REST_SOON: Nanos = 20_000_000;
const REST_LATE: Nanos = 1_280_000_000;

/// So many looks in vain at a thread that leads, and it is to tell by itself when it is done.
const LOOKS: u32 = 8;

/// Starts the first driver of a connection.
pub(crate) fn start<P: Protocol<EngineHandles>>(core: &Arc<Core<P>>) {
    Driver::new(Arc::clone(core), 0).start();
    if core.config.own_thread {
        let leading = Arc::clone(core);
        let thread = std::thread::Builder::new().name("farref-connection".to_owned());
        match thread.spawn(move || leading.lead_always()) {
            Ok(owner) => core.lead.belongs_to(owner.thread().clone()),
            Err(error) => {
                tracing::warn!(peer = %core.peer, %error, "no thread for the connection: a task drives it");
            }
        }
    }
}

pub(super) struct Driver<P: Protocol<EngineHandles>> {
    core: Arc<Core<P>>,
    /// The number of the role under which this driver reads.
    number: u64,
    times: Times,
    /// Wakes it when the first of these has come.
    timer: Timer,
    /// How long it was until then.
    patience: Nanos,
    /// Something has come since that was set.
    is_busy: bool,
    /// Calls and outcomes that came with the last read that brought any, and with the further ones.
    came: u32,
    /// Further reads since then.
    together: u32,
    /// Reads since there was last nothing to read.
    reads: u32,
    /// Bytes read and written since others had their turn.
    bytes: usize,
    /// Whether it has woken somebody since then.
    has_woken: bool,
    /// It has gone on for long, and there is more.
    is_long: bool,
    /// Whether it spins before it falls asleep.
    pace: Pace,
    /// Whether it gives way to others before.
    courtesy: Courtesy,
    /// The number of the carrier that is out of the reactor, as this driver spins.
    spins: Option<u64>,
    /// It has left in order: somebody else drives, or the connection has ended.
    has_left: bool,
}

/// When the driver has something to do by itself, besides what is due by the protocol.
#[derive(Default)]
struct Times {
    /// When the peer must have introduced itself.
    setup: Option<Nanos>,
    /// When an orderly close stops waiting for the peer.
    closing: Option<Nanos>,
    /// When releases go by themselves if nothing else is sent before.
    releasing: Option<Nanos>,
    /// When it is looked whether nothing has come since, and then memory is given back.
    resting: Option<Nanos>,
}

impl Times {
    /// The first of them, or of the protocol's.
    fn due<P: Protocol<EngineHandles>>(&mut self, state: &State<P>, config: &Config) -> Option<Nanos> {
        if state.goodbye.is_some() && self.closing.is_none() {
            self.closing = Some(clock::after(config.close_timeout));
        }
        let setup = if state.opened.is_some() { None } else { self.setup };
        let of_protocol = state.protocol.poll_timeout();
        [of_protocol, self.releasing, setup, self.closing, self.resting]
            .into_iter()
            .flatten()
            .min()
    }
}

/// A driver that is dropped in the middle takes the connection with it: its runtime was shut down, or it panicked.
/// Whoever waits is told, as nobody else would.
impl<P: Protocol<EngineHandles>> Drop for Driver<P> {
    fn drop(&mut self) {
        let core = &self.core;
        if self.has_left || !core.role.is_held_by(self.number) {
            return;
        }
        core.say_goodbye();
        let kind = ErrorKind::Disconnected(Certainty::Unknown);
        core.sever(Error::new(
            kind,
            "the runtime that drives the connection was shut down",
        ));
        loop {
            let event = lock(&core.state).poll_event();
            match event {
                None => break,
                Some(Event::Ready(waiter)) => waiter.wake(),
                Some(Event::Cancelled { answer, .. }) => core.give_up(answer),
                Some(Event::ShapeCame(shape)) => core.shape_came(shape),
                Some(event) => core.discard(event),
            }
        }
        // The carrier ends with it, so that the peer hears of it at once.
        drop(lock(&core.inlet).take());
        let (writer, guard) = {
            let mut state = lock(&core.state);
            state.ended = true;
            (state.baton.unblock(), state.guard.take())
        };
        drop(writer);
        drop(guard);
        core.lead.end();
        core.signal.wish(Wishes::LOOK);
        core.tell_end();
    }
}

/// What the driver woke up for.
enum Step {
    /// Something was read and handled; there may be events.
    Read,
    /// There is nothing to do, but soon there will be.
    Spin,
    /// Callers committed something.
    FlushSoon,
    /// The carrier can take more.
    Writable,
    /// A time was reached.
    Timeout,
    /// Somebody wants the tables looked at.
    Look,
    /// A thread has taken the role.
    Led,
    /// The carrier of this number has ended or failed, or the peer broke the protocol.
    Ended(u64, Error),
}

impl<P: Protocol<EngineHandles>> Driver<P> {
    pub(super) fn new(core: Arc<Core<P>>, number: u64) -> Self {
        let times = Times {
            setup: Some(clock::after(core.config.setup_timeout)),
            // Its predecessor may have been told of some.
            releasing: (number > 0).then(|| clock::after(RELEASE_DELAY)),
            ..Times::default()
        };
        Self {
            core,
            number,
            times,
            timer: Timer::default(),
            patience: REST_SOON,
            is_busy: true,
            came: 0,
            together: 0,
            reads: 0,
            bytes: 0,
            has_woken: false,
            is_long: false,
            pace: Pace::default(),
            courtesy: Courtesy::default(),
            spins: None,
            has_left: false,
        }
    }

    fn start(mut self) {
        let runtime = self.core.runtime.clone();
        // By reference: the arguments of an async function are in its future twice.
        runtime.spawn(async move { self.drive().await });
    }

    async fn drive(&mut self) {
        if self.number == 0 {
            self.take_what_was_heard();
        }
        loop {
            // Not behind the back of a thread that has the role from a successor.
            if self.is_away() && self.core.role.is_held_by(self.number) {
                self.core.come_back();
                // The thread may have read much, and may have been told of some.
                self.is_busy = true;
                self.times
                    .releasing
                    .get_or_insert_with(|| clock::after(RELEASE_DELAY));
            }
            let Handled::All { calls, woken } = self.core.handle_events(self.number) else {
                self.has_left = true;
                return;
            };
            if woken > 0 {
                self.has_woken = true;
                // These first.
                self.courtesy.renew();
            }
            if self.together > 0 && woken > 0 {
                // What they have to say is written together as well.
                self.give_way().await;
            }
            match self.read_on(calls.saturating_add(woken)) {
                Ok(true) => continue,
                Ok(false) => {}
                // What came before it counts, and what follows from the end are events as well.
                Err((carrier, error)) => {
                    self.lose(carrier, error);
                    continue;
                }
            }
            self.core.close_if_abandoned();
            let flushed = self.core.flush();
            self.bytes = self.bytes.saturating_add(flushed.bytes);
            if flushed.is_over {
                self.stop_spinning();
                Box::pin(self.end()).await;
                self.has_left = true;
                return;
            }
            if std::mem::take(&mut self.is_long) {
                self.reads = 0;
                self.give_way().await;
                self.handle_due();
            }
            // Cancel-safe: what a step took it has handled before it is ready.
            let step = std::future::poll_fn(|context| self.poll_step(context)).await;
            match step {
                // What follows from it comes first.
                Step::Read => self.is_long = self.has_gone_on_for_long(),
                Step::Writable | Step::Look => {}
                // Woken directly, this task would run after one of many callers: let the others commit first.
                Step::FlushSoon => self.give_way().await,
                Step::Spin => {
                    if self.courtesy.is_due() {
                        self.give_way().await;
                    }
                    if let Err((carrier, error)) = self.spin() {
                        self.lose(carrier, error);
                    }
                    self.is_long = self.has_gone_on_for_long();
                }
                // Boxed, as the end is: what few connections need, and none for long, makes no task larger.
                Step::Led => Box::pin(self.keep_an_eye_on_it()).await,
                Step::Timeout => self.handle_timeout(),
                Step::Ended(carrier, error) => self.lose(carrier, error),
            }
        }
    }

    /// Others have their turn.
    async fn give_way(&mut self) {
        (self.bytes, self.has_woken) = (0, false);
        tokio::task::yield_now().await;
    }

    /// Whether others should have their turn, although there is more to do.
    fn has_gone_on_for_long(&self) -> bool {
        if self.reads >= READS_IN_A_ROW || self.bytes >= BYTES_IN_A_ROW {
            return true;
        }
        let others_wait = || self.has_woken || self.core.runtime.metrics().global_queue_depth() > 0;
        self.bytes >= BYTES_BESIDE_OTHERS && others_wait()
    }

    fn lose(&mut self, carrier: u64, error: Error) {
        self.stop_spinning();
        self.core.lose(carrier, error);
    }

    /// What the peer has said before there was a connection waits in the protocol.
    fn take_what_was_heard(&self) {
        let core = &self.core;
        let handled = {
            let mut state = lock(&core.state);
            let nothing = &mut bytes::BytesMut::new();
            state
                .protocol
                .handle_bytes(StreamKey::MAIN, nothing, false, &Proxies(core), clock::now())
        };
        if let Err(error) = handled {
            core.sever(error);
        }
    }

    /// A thread leads: waits until it gives the role back, or does not come back for it.
    async fn keep_an_eye_on_it(&mut self) {
        let lead = &self.core.lead;
        let mut calls = lead.calls();
        let mut in_vain = 0_u32;
        loop {
            // To look after a thread that waits for long would cost more than to be told.
            let is_long = in_vain >= LOOKS && self.core.role.unwatch(self.number);
            let recalled = if lead.has_owner() || is_long {
                lead.recalled().await;
                true
            } else {
                tokio::time::timeout(LOOK_EVERY, lead.recalled()).await.is_ok()
            };
            match self.core.role.wake(self.number) {
                Woken::Led => {}
                Woken::Drives => break,
                // It may have been meant for the successor.
                Woken::Gone => return lead.recall(),
            }
            let before = std::mem::replace(&mut calls, lead.calls());
            let nobody_came = !recalled && calls == before;
            in_vain = if nobody_came { in_vain.saturating_add(1) } else { 0 };
            if (recalled || nobody_came) && self.core.role.take_back(self.number) {
                if nobody_came {
                    lead.is_not_next();
                    lock(&self.core.state).outcomes.has_read_much();
                }
                break;
            }
        }
        // Nobody was told of those that came while the role was parked.
        self.times.releasing = Some(clock::after(RELEASE_DELAY));
    }

    fn poll_step(&mut self, context: &mut Context<'_>) -> Poll<Step> {
        let core = &self.core;
        match core.role.wake(self.number) {
            Woken::Drives if self.is_away() => return Poll::Ready(Step::Read),
            Woken::Drives => {}
            Woken::Led => return Poll::Ready(Step::Led),
            // The loop finds out and leaves.
            Woken::Gone => return Poll::Ready(Step::Read),
        }
        while let Some(wishes) = core.signal.poll(context.waker()) {
            if !core.role.is_held_by(self.number) {
                // Not ours any more: the successor may have slept through it.
                core.signal.wish(wishes);
                return Poll::Ready(Step::Read);
            }
            if wishes.releases {
                self.times.releasing = Some(clock::after(RELEASE_DELAY));
            }
            // Whatever the step, the loop flushes after it.
            if wishes.look {
                return Poll::Ready(Step::Look);
            }
            if wishes.events {
                return Poll::Ready(Step::Read);
            }
            if wishes.flush {
                return Poll::Ready(Step::FlushSoon);
            }
        }
        if let Some(step) = self.poll_writer(context) {
            return Poll::Ready(step);
        }
        if let Poll::Ready(step) = self.poll_read(context) {
            return Poll::Ready(step);
        }
        self.reads = 0;
        if self.is_busy && self.times.resting.is_none() {
            self.times.resting = Some(clock::now().saturating_add(self.patience));
            self.is_busy = false;
        }
        if let Some(step) = self.look_at_the_clock(context.waker()) {
            return Poll::Ready(step);
        }
        if self.may_spin() {
            return Poll::Ready(Step::Spin);
        }
        if self.stop_spinning() {
            return Poll::Ready(Step::Read);
        }
        (self.bytes, self.has_woken) = (0, false);
        self.core.role.sleep(self.number);
        self.core.lead.driver_sleeps();
        Poll::Pending
    }

    /// Sees to it that the driver wakes up when something is due, or does not sleep if that is now.
    fn look_at_the_clock(&mut self, waker: &Waker) -> Option<Step> {
        let core = &self.core;
        let armed = self.timer.at();
        let (due, earlier) = {
            let mut state = lock(&core.state);
            if let Some(error) = carrier_error(&state) {
                return Some(Step::Ended(state.carrier, error));
            }
            let due = self.times.due(&state, &core.config);
            // A later time than the armed one is found out when that comes: re-arming costs more than waking once.
            let earlier = due.filter(|due| armed.is_none_or(|armed| *due < armed));
            state.armed = earlier.or(armed);
            (due, earlier)
        };
        if self.timer.has_rung() && due.is_some_and(|due| due <= clock::now()) {
            return Some(Step::Timeout);
        }
        if let Err(error) = self.timer.set(earlier?, waker) {
            let text = format!("the system has no thread left for the clock: {error}");
            core.sever(Error::new(ErrorKind::Carrier, text));
            return Some(Step::Read);
        }
        None
    }

    /// Whether a thread has left the carrier out of the reactor.
    fn is_away(&self) -> bool {
        self.core.lead.is_away() && self.spins.is_none()
    }

    /// Whether there will be more to read before this driver could be asleep.
    fn may_spin(&self) -> bool {
        if !self.core.spins(&self.pace) || !self.core.lead.is_left_to_driver() {
            return false;
        }
        let state = lock(&self.core.state);
        // An answer that waits for no call of ours may be up to a task that waits for its turn on this thread.
        let stats = state.protocol.stats();
        // Tasks that look for their outcomes take the role while the driver sleeps.
        stats.running <= stats.calls && !state.outcomes.is_quick() && state.can_be_led(&self.core.lead)
    }

    /// Looks again and again whether more comes, for a moment, if nothing is due. Out of the reactor, which would be woken by it as well.
    pub(super) fn spin(&mut self) -> Result<(), (u64, Error)> {
        let core = Arc::clone(&self.core);
        let (carrier, due) = {
            let state = lock(&core.state);
            (state.carrier, self.times.due(&state, &core.config))
        };
        if due.is_some_and(|due| due <= clock::now()) {
            self.handle_timeout();
            return Ok(());
        }
        let mut slot = lock(&core.inlet);
        let Some(inlet) = &mut *slot else {
            return Ok(());
        };
        if self.spins != Some(carrier) {
            match core.lead.leave_reactor(inlet, carrier) {
                Ok(left) => self.spins = left.map(|_| carrier),
                Err(error) => {
                    self.spins = None;
                    lock(&core.state).lost.get_or_insert_with(|| lost(Some(&error)));
                }
            }
            if self.spins.is_none() {
                return Ok(());
            }
        }
        let read = core.spin(inlet, &mut self.pace, 1, due);
        self.take(&mut slot, read).map(|_| ())
    }

    /// Reads on, if there is something to write which is better written together with what follows from what is there to be
    /// read. Whether there was anything; so many calls and outcomes `came` just now.
    fn read_on(&mut self, came: u32) -> Result<bool, (u64, Error)> {
        let together = std::mem::take(&mut self.together);
        if together > 0 {
            self.came = self.came.saturating_add(came);
        } else if came > 0 {
            self.came = came;
        }
        if !FEW.contains(&self.came) || together >= READS_TOGETHER {
            return Ok(false);
        }
        let core = Arc::clone(&self.core);
        let writes = {
            let state = lock(&core.state);
            state.over.is_none() && !state.baton.is_blocked() && state.protocol.wants_write()
        };
        let mut slot = lock(&core.inlet);
        let Some(inlet) = slot.as_mut().filter(|_| writes) else {
            return Ok(false);
        };
        let read = inlet.try_read();
        let is_short = match &read {
            Ok(Some(from)) => inlet.buffer(from.stream).len() <= SHORT,
            _ => true,
        };
        let has_read = self.take(&mut slot, read)?;
        if has_read {
            self.together = if is_short {
                together.saturating_add(1)
            } else {
                READS_TOGETHER
            };
        }
        Ok(has_read)
    }

    /// Takes what was read, or found out, without waiting. Whether there was anything.
    fn take(
        &mut self,
        slot: &mut Option<Inlet>,
        read: std::io::Result<Option<ReadFrom>>,
    ) -> Result<bool, (u64, Error)> {
        let core = Arc::clone(&self.core);
        match &read {
            Ok(Some(from)) if !from.end => {
                if let Some(inlet) = slot {
                    self.bytes = self.bytes.saturating_add(inlet.buffer(from.stream).len());
                }
                self.is_busy = true;
                return core.take_in(slot, *from, &mut self.pace).map(|()| true);
            }
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return Ok(false),
            _ => {}
        }
        // The other half may have something to write still, and is waited for by way of the reactor.
        if let Some(inlet) = slot {
            let _ = inlet.join_reactor();
        }
        match read {
            Ok(Some(from)) => return core.take_in(slot, from, &mut self.pace).map(|()| true),
            Ok(None) => {}
            Err(error) => lock(&core.state).lost = Some(lost(Some(&error))),
        }
        *slot = None;
        Ok(true)
    }

    /// Brings the carrier back to the reactor, if this driver has taken it out.
    fn stop_spinning(&mut self) -> bool {
        let spun = self.spins.take().is_some();
        if spun {
            self.core.come_back();
        }
        spun
    }

    /// Does what is due, also while there is always something to read.
    fn handle_due(&mut self) {
        let core = &self.core;
        let due = self.times.due(&lock(&core.state), &core.config);
        if due.is_some_and(|due| due <= clock::now()) {
            self.handle_timeout();
        }
    }

    /// Waits until a full carrier takes more.
    fn poll_writer(&self, context: &mut Context<'_>) -> Option<Step> {
        let mut writer = lock(&self.core.state).baton.take_blocked()?;
        // Outside the lock: a carrier may be anything that the user has made.
        let polled = if writer.outlet.is_buffering() {
            writer.outlet.poll_flush(context)
        } else {
            writer.outlet.poll_writable(context)
        };
        let mut state = lock(&self.core.state);
        if !writer.is_of(&state) {
            drop(state);
            drop(writer);
            return Some(Step::Writable);
        }
        match polled {
            Poll::Pending => {
                state.baton.give_back_blocked(writer);
                return None;
            }
            Poll::Ready(Ok(())) => {
                drop(state.baton.unblock());
                // What is urgent goes before what is left of the batch.
                state.fill(&mut writer);
                drop(state);
                self.core.write(writer);
            }
            Poll::Ready(Err(error)) => {
                state.write_error = Some(error);
                drop(state);
                drop(writer);
            }
        }
        Some(Step::Writable)
    }

    /// Reads once, and hands what came to the protocol.
    fn poll_read(&mut self, context: &mut Context<'_>) -> Poll<Step> {
        let core = &self.core;
        let mut slot = lock(&core.inlet);
        let Some(inlet) = &mut *slot else {
            return Poll::Pending;
        };
        let from = match inlet.poll_read(context) {
            Poll::Pending => return Poll::Pending,
            Poll::Ready(Ok(Some(from))) => from,
            Poll::Ready(Ok(None)) => {
                *slot = None;
                return Poll::Ready(Step::Read);
            }
            Poll::Ready(Err(error)) => {
                *slot = None;
                lock(&core.state).lost = Some(lost(Some(&error)));
                return Poll::Ready(Step::Read);
            }
        };
        self.reads = self.reads.saturating_add(1);
        self.bytes = self.bytes.saturating_add(inlet.buffer(from.stream).len());
        self.is_busy = true;
        let taken = core.take_in(&mut slot, from, &mut self.pace);
        Poll::Ready(taken.map_or_else(|(carrier, error)| Step::Ended(carrier, error), |()| Step::Read))
    }

    fn handle_timeout(&mut self) {
        let now = clock::now();
        let core = &self.core;
        let (carrier, failed, drained) = {
            let mut state = lock(&core.state);
            core.look_at_releases(&mut state);
            let failed = state.protocol.handle_timeout(now).err();
            (state.carrier, failed, state.is_drained())
        };
        if drained {
            core.changed.notify_waiters();
        }
        self.times.releasing = None;
        if self.times.resting.take_if(|resting| *resting <= now).is_some() {
            if self.is_busy {
                self.patience = self.patience.saturating_mul(2).min(REST_LATE);
            } else {
                self.patience = REST_SOON;
                core.rest();
            }
        }
        let unopened = lock(&core.state).opened.is_none();
        if let Some(error) = failed {
            self.lose(carrier, error);
        } else if unopened && self.times.setup.is_some_and(|setup| setup <= now) {
            let text = format!(
                "the peer did not introduce itself within {:?}",
                core.config.setup_timeout
            );
            core.sever(Error::new(ErrorKind::Incompatible, text));
        } else if self.times.closing.is_some_and(|closing| closing <= now) {
            core.sever(closed_here().1);
        }
    }

    /// The connection is over: says so to whoever waits, after what was committed has been written.
    async fn end(&self) {
        let core = &self.core;
        let deadline = Instant::now()
            .checked_add(core.config.close_timeout)
            .unwrap_or_else(Instant::now);
        let written = async {
            while let Some(mut writer) = self.take_writer().await {
                if !writer.batch.is_empty() || lock(&core.state).protocol.wants_write() {
                    core.write(writer);
                    // The time limit has its turn.
                    tokio::task::yield_now().await;
                    continue;
                }
                let _ = std::future::poll_fn(|context| writer.outlet.poll_close(context)).await;
                return;
            }
        };
        // Bounded: a peer that takes nothing more does not keep the carrier open.
        let _ = tokio::time::timeout_at(deadline, written).await;
        let blocked = lock(&core.state).baton.replace(None);
        drop(blocked);
        drop(lock(&core.inlet).take());
        // After both halves: a child process, a lock file.
        drop(lock(&core.state).guard.take());
        let error = lock(&core.state).over.clone();
        tracing::debug!(peer = %core.peer, reason = error.as_ref().map(tracing::field::display), "connection over");
        lock(&core.state).ended = true;
        core.lead.end();
        core.handle_last_events();
        core.tell_end();
    }
}

impl<P: Protocol<EngineHandles>> Driver<P> {
    /// The writer, once its carrier takes something and nobody else writes; `None` if it is broken.
    async fn take_writer(&self) -> Option<Box<Writer>> {
        std::future::poll_fn(|context| {
            // A caller that holds the baton gives it back at once: ask again after the others had their turn.
            let mut state = lock(&self.core.state);
            if state.write_error.is_some() || state.down.is_some() {
                return Poll::Ready(None);
            }
            let Some(mut writer) = state.baton.take_blocked() else {
                let writer = state.baton.flush();
                if writer.is_none() {
                    context.waker().wake_by_ref();
                    return Poll::Pending;
                }
                return Poll::Ready(writer);
            };
            drop(state);
            let polled = writer.outlet.poll_writable(context);
            let mut state = lock(&self.core.state);
            if polled.is_pending() {
                state.baton.give_back_blocked(writer);
                return Poll::Pending;
            }
            drop(state.baton.unblock());
            Poll::Ready(Some(writer))
        })
        .await
    }
}

/// Why the connection is over, if its carrier is: nothing is lost by that after a goodbye.
fn carrier_error<P>(state: &State<P>) -> Option<Error> {
    let failed = || {
        let error = state.write_error.as_ref()?;
        Some(Error::new(ErrorKind::Carrier, format!("writing failed: {error}")))
    };
    let error = state.lost.clone().or_else(failed)?;
    Some(state.goodbye.clone().unwrap_or(error))
}

impl<P: Protocol<EngineHandles>> Driven for Core<P> {
    fn pass_on(self: Arc<Self>, from: u64) {
        if let Some(number) = self.role.pass_on(from) {
            // The one before may be keeping an eye on a thread that leads: it has nothing to wait for any more.
            self.lead.recall();
            // The method that is about to sleep is polled for the first time: it was not known as running.
            if let Some((_, answer)) = context::serving() {
                drop(self.dispatch.enter(answer));
            }
            Driver::new(self, number).start();
        }
    }
}

impl<P: Protocol<EngineHandles>> Core<P> {
    /// Tells the peer that nobody drives this side any more, if the carrier takes that at once: else a session would
    /// wait for a process that has ended.
    fn say_goodbye(&self) {
        let writer = {
            let mut state = lock(&self.state);
            if state.goodbye.is_some() || state.over.is_some() || state.down.is_some() {
                return;
            }
            let reason = CloseReason::new(CloseReason::FAILED, "the runtime that drives it was shut down");
            state.protocol.close(reason);
            let writer = state.baton.flush();
            writer.map(|mut writer| {
                state.fill(&mut writer);
                writer
            })
        };
        if let Some(mut writer) = writer {
            // Nobody is left to be told of a failure.
            let _ = writer.outlet.write(&mut writer.batch);
            if writer.outlet.is_buffering() {
                let _ = writer.outlet.poll_flush(&mut Context::from_waker(Waker::noop()));
            }
        }
    }

    /// Closes in order: what was committed is written, then the peer is told.
    pub(crate) fn close(&self) {
        let (reason, error) = closed_here();
        {
            let mut state = lock(&self.state);
            if state.goodbye.is_some() || state.over.is_some() {
                return;
            }
            state.goodbye = Some(error.clone());
            state.protocol.close(reason);
            if state.down.is_some() {
                // There is nobody to tell.
                state.protocol.sever(&error);
                state.over = Some(error);
            }
        }
        self.signal.wish(Wishes {
            flush: true,
            look: true,
            ..Wishes::default()
        });
    }
}
