//! The driver: the one task of a connection that waits.
//!
//! It handles every whole message of a read before it writes the replies, in one write, and those of a few more reads if a
//! few messages came and more are there. It never waits for writing while there is something to read, nor for the
//! application.

mod ending;
#[cfg(all(test, target_pointer_width = "64"))]
mod tests;
mod times;

use std::future::Future;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use farref_boxing::Error;
use farref_framing::{Inlet, Nanos, ReadFrom, StreamKey};

use self::times::{REST_SOON, Times};
use crate::clock::{self, NEVER};
use crate::context;
use crate::engine::anchor::Proxies;
use crate::engine::core::{BYTES_IN_A_ROW, Core};
use crate::engine::dispatch::Kept;
use crate::engine::lead::LOOK_EVERY;
use crate::engine::pace::{Between, Courtesy, Pace};
use crate::engine::reading::{Handled, RELEASE_DELAY, lost};
use crate::engine::together;
use crate::lock::lock;
use crate::protocol::Protocol;
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
    /// After how long without anything to read the connection rests.
    patience: Nanos,
    /// Something has come since the time for that was set.
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
    /// What was read last has woken somebody.
    is_followed: bool,
    /// It has gone on for long, and there is more.
    is_long: bool,
    /// The carrier takes no more, as far as it was told.
    waits_to_write: bool,
    /// Whether it spins before it falls asleep.
    pace: Pace,
    /// Whether it gives way to others before.
    courtesy: Courtesy,
    /// The method that goes on here while this driver spins.
    kept: Kept<P>,
    /// The number of the carrier that is out of the reactor, as this driver spins.
    spins: Option<u64>,
    /// It has left in order: somebody else drives, or the connection has ended.
    has_left: bool,
}

/// What the driver woke up for.
enum Step {
    /// Something was read and handled; there may be events.
    Read,
    /// There is nothing to do, but soon there will be.
    Spin,
    /// Callers committed something, or there is more after a long write.
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
            setup: clock::after(core.config.setup_timeout),
            // Its predecessor may have been told of some.
            releasing: if number > 0 {
                clock::after(RELEASE_DELAY)
            } else {
                NEVER
            },
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
            is_followed: false,
            is_long: false,
            // Its predecessor may have been told.
            waits_to_write: true,
            pace: Pace::default(),
            courtesy: Courtesy::default(),
            kept: Kept::default(),
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
                if self.times.releasing == NEVER {
                    self.times.releasing = clock::after(RELEASE_DELAY);
                }
            }
            let handle = |context: &mut Context<'_>| Poll::Ready(self.handle_events(context.waker()));
            let handled = std::future::poll_fn(handle).await;
            let Handled::All {
                calls,
                woken,
                written,
            } = handled
            else {
                self.has_left = true;
                return;
            };
            self.bytes = self.bytes.saturating_add(written);
            if calls > 0 || woken > 0 {
                self.is_followed = woken > 0;
            }
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
                self.let_go();
                Box::pin(self.end()).await;
                self.has_left = true;
                return;
            }
            if std::mem::take(&mut self.is_long) {
                self.give_way().await;
                self.handle_due();
            }
            // Cancel-safe: what a step took it has handled before it is ready.
            let step = std::future::poll_fn(|context| self.poll_step(context)).await;
            match step {
                // What follows from it comes first.
                Step::Read => self.is_long = self.has_gone_on_for_long(),
                // Whoever was woken has mostly had its turn while the carrier was full.
                Step::Writable => self.is_long = self.bytes >= BYTES_IN_A_ROW,
                Step::Look => {}
                // Woken directly, this task would run after one of many callers: let the others commit first.
                Step::FlushSoon => {
                    let is_long = self.has_gone_on_for_long();
                    self.give_way().await;
                    if is_long {
                        self.handle_due();
                    }
                }
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

    /// Handles what was read, and keeps a method that waits if it spins.
    fn handle_events(&mut self, own: &Waker) -> Handled {
        let spins = self.spins.is_some() && self.core.spins(&self.pace);
        if !spins {
            self.let_go();
        }
        let kept = spins.then_some(&mut self.kept);
        self.core.handle_events(self.number, Some(own), kept)
    }

    /// Leaves the method that it keeps to a task, which has its turn first.
    fn let_go(&mut self) {
        if self.kept.let_go() {
            self.has_woken = true;
            self.courtesy.renew();
        }
    }

    /// Others have their turn. No async function, which would make the driver's task larger.
    fn give_way(&mut self) -> impl Future<Output = ()> + use<P> {
        (self.bytes, self.has_woken) = (0, false);
        together::give_way(&self.core.runtime)
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
        self.let_go();
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
        self.times.releasing = clock::after(RELEASE_DELAY);
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
        let mut flushes = false;
        // From here on it is woken, also while it gives way: whoever commits something first has it run next.
        while let Some(wishes) = self.core.signal.poll(context.waker()) {
            if let Some(step) = self.grant(wishes) {
                return Poll::Ready(step);
            }
            flushes |= wishes.flush;
        }
        // Who has always more to write, and a carrier that takes it, reads as well.
        let written = self.poll_writer(context);
        let read = self.poll_read(context);
        match read.or(written) {
            Some(Step::Ended(carrier, error)) => return Poll::Ready(Step::Ended(carrier, error)),
            // What was read is handled after those had their turn for whom there was none while it wrote.
            _ if flushes => return Poll::Ready(Step::FlushSoon),
            Some(step) => return Poll::Ready(step),
            None => {}
        }
        if let Some(step) = self.poll_idle(context) {
            return Poll::Ready(step);
        }
        self.let_go();
        (self.bytes, self.has_woken) = (0, false);
        self.core.role.sleep(self.number);
        self.core.lead.driver_sleeps();
        Poll::Pending
    }

    /// What was asked for, if that is a step.
    fn grant(&mut self, wishes: Wishes) -> Option<Step> {
        let core = &self.core;
        if !core.role.is_held_by(self.number) {
            // Not ours any more: the successor may have slept through it.
            core.signal.wish(wishes);
            return Some(Step::Read);
        }
        self.waits_to_write |= wishes.blocked;
        if wishes.events {
            self.let_go();
        }
        if wishes.releases {
            self.times.releasing = clock::after(RELEASE_DELAY);
        }
        // Whatever the step, the loop flushes after it.
        if wishes.look {
            return Some(Step::Look);
        }
        if wishes.events {
            return Some(Step::Read);
        }
        (wishes.flush && self.bytes < BYTES_IN_A_ROW).then_some(Step::FlushSoon)
    }

    /// There is nothing to read and nothing to write: what else there is to be done before it falls asleep.
    fn poll_idle(&mut self, context: &Context<'_>) -> Option<Step> {
        self.reads = 0;
        if self.is_busy && self.times.resting == NEVER {
            self.times.resting = clock::now().saturating_add(self.patience);
            self.is_busy = false;
        }
        if let Some(step) = self.look_at_the_clock(context.waker()) {
            return Some(step);
        }
        if self.may_spin() {
            return Some(Step::Spin);
        }
        self.stop_spinning().then_some(Step::Read)
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
        let (carrier, due, is_quiet) = {
            let state = lock(&core.state);
            let due = self.times.due(&state, &core.config);
            (state.carrier, due, state.protocol.stats().calls <= 1)
        };
        if due <= clock::now() {
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
        // Several tasks that were woken have another thread of the runtime woken, which wants a CPU: it is not known whether
        // the peer does. The one that has made the only call has had its turn here.
        let between = if self.is_followed && !is_quiet {
            Between::Pausing
        } else {
            self.pace.between()
        };
        let read = core.spin(inlet, &mut self.pace, 1, between, due);
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
            Ok(Some(from)) => from.len <= SHORT,
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
                self.bytes = self.bytes.saturating_add(from.len);
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

    /// Waits until a full carrier takes more.
    fn poll_writer(&mut self, context: &mut Context<'_>) -> Option<Step> {
        if !self.waits_to_write {
            return None;
        }
        let Some(mut writer) = lock(&self.core.state).baton.take_blocked() else {
            self.waits_to_write = false;
            return None;
        };
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
                self.bytes = self.bytes.saturating_add(self.core.write_here(writer));
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
    fn poll_read(&mut self, context: &mut Context<'_>) -> Option<Step> {
        let core = &self.core;
        let mut slot = lock(&core.inlet);
        let inlet = slot.as_mut()?;
        let from = match inlet.poll_read(context) {
            Poll::Pending => return None,
            Poll::Ready(Ok(Some(from))) => from,
            Poll::Ready(Ok(None)) => {
                *slot = None;
                return Some(Step::Read);
            }
            Poll::Ready(Err(error)) => {
                *slot = None;
                lock(&core.state).lost = Some(lost(Some(&error)));
                return Some(Step::Read);
            }
        };
        self.reads = self.reads.saturating_add(1);
        self.bytes = self.bytes.saturating_add(from.len);
        self.is_busy = true;
        let taken = core.take_in(&mut slot, from, &mut self.pace);
        Some(taken.map_or_else(|(carrier, error)| Step::Ended(carrier, error), |()| Step::Read))
    }
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
