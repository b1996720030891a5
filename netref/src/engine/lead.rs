//! A thread that waits for a call can lead: it takes the reading role from the sleeping driver, writes and reads the
//! carrier by itself, and handles what comes, so that nobody else is woken.
//!
//! ```text
//!            take                    park
//!   driver ───────▶ thread leads ─────────▶ parked ──take──▶ the next call leads
//!     ▲                │ hand back             │ nobody has come back for it for a while, or something is to be done
//!     └────────────────┴───────────────────────┘
//! ```
//!
//! The carrier leaves the reactor meanwhile: else whatever came would wake that as well. Therefore a thread leads only
//! where blocking calls follow one another, each alone; and the driver, which keeps an eye on it, takes over as soon as
//! anything else is to be done: a second caller, a callback that this thread runs, a full carrier, a time that is due,
//! the end.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Wake, Waker};
use std::thread::Thread;
use std::time::Duration;

use farref_framing::{Alarm, Descriptor, Inlet, Nanos};
use tokio::sync::Notify;

use crate::clock::{self, NEVER};
use crate::context;
use crate::engine::core::{BYTES_IN_A_ROW, Core};
use crate::engine::pace::Pace;
use crate::engine::reading::{Handled, RELEASE_DELAY, lost};
use crate::engine::state::State;
use crate::lock::lock;
use crate::protocol::Protocol;
use crate::remote::EngineHandles;
use crate::role::Role;
use crate::signal::Wishes;
use crate::sync::{Arc as SharedArc, Mutex};
use crate::waiter::ThreadWaiter;

/// So many blocking calls in a row, each alone, before a thread leads: to leave the reactor and to come back costs as
/// much as a few calls.
const STREAK: u32 = 16;

/// The driver takes a parked role back if nobody has come for it between two looks that are so far apart.
pub(super) const LOOK_EVERY: Duration = Duration::from_millis(2);

/// No call has that number.
const NONE: u64 = u64::MAX;

/// What threads that lead share with the driver of a connection.
pub(crate) struct Lead {
    /// Blocking calls in a row that were alone.
    streak: AtomicU32,
    /// Calls that were led, so that the driver sees whether any was.
    calls: AtomicU64,
    /// The carrier is out of the reactor.
    is_away: AtomicBool,
    /// The thread that leads has settled down to wait.
    is_waiting: AtomicBool,
    /// The carrier of this number cannot leave the reactor.
    unfit: AtomicU64,
    /// The call for whose outcome a task is about to look.
    looked_for: AtomicU64,
    /// That task gives way to others before.
    gives_way: AtomicBool,
    /// What the thread waits on: here while it does not.
    away: Mutex<Option<Box<Away>>>,
    /// Tells the driver to take the role back. Nothing until somebody leads.
    recall: OnceLock<Box<(Arc<Recall>, Waker)>>,
    /// The thread that leads whenever the driver sleeps, if there is one.
    owner: OnceLock<Thread>,
}

pub(super) struct Away {
    carrier: u64,
    descriptor: Arc<dyn Descriptor>,
    /// There is something to read of which the descriptor does not know.
    more: bool,
    /// Whether to spin before waiting.
    pub(super) pace: Pace,
}

/// How a thread that leads reads.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum How {
    /// What is there.
    Now,
    /// What comes while it looks again and again, for so many moments.
    Spinning(u32),
    /// What comes within a moment of sleep.
    Soon,
}

struct Recall(Notify);

impl Wake for Recall {
    fn wake(self: Arc<Self>) {
        self.0.notify_one();
    }
}

impl Default for Lead {
    fn default() -> Self {
        Self {
            streak: AtomicU32::new(0),
            calls: AtomicU64::new(0),
            is_away: AtomicBool::new(false),
            is_waiting: AtomicBool::new(false),
            unfit: AtomicU64::new(u64::MAX),
            looked_for: AtomicU64::new(NONE),
            gives_way: AtomicBool::new(false),
            away: Mutex::default(),
            recall: OnceLock::new(),
            owner: OnceLock::new(),
        }
    }
}

impl Lead {
    pub(super) fn calls(&self) -> u64 {
        self.calls.load(Ordering::Relaxed)
    }

    fn recalls(&self) -> &(Arc<Recall>, Waker) {
        self.recall.get_or_init(|| {
            let recall = Arc::new(Recall(Notify::new()));
            Box::new((Arc::clone(&recall), recall.into()))
        })
    }

    /// A task is about to look for the outcome of that call, and gives way to others before.
    pub(super) fn will_look_for(&self, call: u64, gives_way: bool) {
        self.gives_way.store(gives_way, Ordering::Relaxed);
        self.looked_for.store(call, Ordering::Release);
    }

    /// Whether the task that is to look for a call gives way to others before.
    pub(super) fn gives_way(&self) -> bool {
        self.gives_way.load(Ordering::Relaxed)
    }

    pub(super) fn is_looked_for(&self, call: u64) -> bool {
        self.looked_for.load(Ordering::Acquire) == call
    }

    /// Whether this is the call to look for: once.
    pub(super) fn takes_up(&self, call: u64) -> bool {
        self.is_looked_for(call)
            && self
                .looked_for
                .compare_exchange(call, NONE, Ordering::AcqRel, Ordering::Relaxed)
                .is_ok()
    }

    /// Tells a driver that the role may be its own again.
    pub(super) fn recall(&self) {
        self.recalls().0.0.notify_one();
    }

    /// There are others than the thread that has parked the role.
    pub(super) fn recall_for_others(&self) {
        self.streak.store(0, Ordering::Relaxed);
        self.recall();
    }

    /// The next call is not that of a thread that has just made one.
    pub(super) fn is_not_next(&self) {
        if self.streak.load(Ordering::Relaxed) > 0 {
            self.streak.store(0, Ordering::Relaxed);
        }
    }

    /// Waits until the driver is to take the role back.
    pub(super) async fn recalled(&self) {
        self.recalls().0.0.notified().await;
    }

    /// The driver goes to sleep.
    pub(super) fn driver_sleeps(&self) {
        if let Some(owner) = self.owner.get() {
            owner.unpark();
        }
    }

    /// `owner` leads whenever the driver sleeps, and nobody else does. Before there are calls.
    pub(super) fn belongs_to(&self, owner: Thread) {
        let _ = self.owner.set(owner);
        // It may have looked already.
        self.driver_sleeps();
    }

    /// Whether a thread leads whenever the driver sleeps.
    pub(super) fn has_owner(&self) -> bool {
        self.owner.get().is_some()
    }

    /// Whether a thread leads that will look at everything before it settles down to wait.
    pub(super) fn looks_by_itself(&self, role: &Role) -> bool {
        role.is_led() && !self.is_waiting.load(Ordering::Acquire)
    }

    /// Nobody leads any more: what a thread would wait on is let go of.
    pub(super) fn end(&self) {
        drop(lock(&self.away).take());
        self.driver_sleeps();
    }

    pub(super) fn is_away(&self) -> bool {
        self.is_away.load(Ordering::Acquire)
    }

    /// Whether no thread is about to lead.
    pub(super) fn is_left_to_driver(&self) -> bool {
        !self.has_owner() && self.streak.load(Ordering::Relaxed) < STREAK
    }

    /// Takes the carrier of that number out of the reactor; nothing if it cannot leave that.
    pub(super) fn leave_reactor(
        &self,
        inlet: &mut Inlet,
        carrier: u64,
    ) -> std::io::Result<Option<Box<Away>>> {
        let more = inlet.descriptor().is_none();
        let left = inlet.leave_reactor();
        self.is_away.store(true, Ordering::Release);
        let Some(descriptor) = left? else {
            self.unfit.store(carrier, Ordering::Relaxed);
            return Ok(None);
        };
        Ok(Some(Box::new(Away {
            carrier,
            descriptor,
            more,
            pace: Pace::default(),
        })))
    }
}

/// What reaches a thread that waits on a carrier.
struct Bell {
    alarm: Alarm,
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.alarm.ring();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.alarm.ring();
    }
}

thread_local! {
    /// This thread's bell; nothing where the system has none.
    static BELL: Option<(Arc<Bell>, Waker)> = Alarm::new().ok().map(|alarm| {
        let bell = Arc::new(Bell { alarm });
        (Arc::clone(&bell), bell.into())
    });
}

/// A thread that has the reading role.
pub(super) struct Leader<'a, P: Protocol<EngineHandles>> {
    pub(super) core: &'a Arc<Core<P>>,
    number: u64,
    pub(super) away: Option<Box<Away>>,
    bell: Arc<Bell>,
    waker: Waker,
    /// When releases go by themselves if nothing else is sent before.
    releasing: Option<Nanos>,
    /// How it has last read, if it has got nothing since.
    tried: How,
    /// The role is somebody else's by now.
    has_left: bool,
}

/// How leading ended.
pub(super) enum Led<R> {
    /// With what was waited for.
    Done(R),
    /// Somebody else drives.
    Left,
}

impl<P: Protocol<EngineHandles>> State<P> {
    /// Whether calls are under way, of either side.
    pub(super) fn is_busy(&self) -> bool {
        let stats = self.protocol.stats();
        stats.calls > 0 || stats.answers > 0
    }

    /// Whether one call is under way at most, of ours.
    pub(super) fn is_quiet(&self) -> bool {
        let stats = self.protocol.stats();
        stats.calls <= 1 && stats.answers == 0
    }

    /// Whether there is nothing to do but to read and to write, by a carrier that a thread can wait on.
    pub(super) fn can_be_led(&self, lead: &Lead) -> bool {
        self.carrier != lead.unfit.load(Ordering::Relaxed)
            && self.opened.is_some()
            && self.over.is_none()
            && self.goodbye.is_none()
            && self.lost.is_none()
            && self.write_error.is_none()
            && self.down.is_none()
            && !self.ended
            && !self.baton.is_blocked()
    }
}

impl<P: Protocol<EngineHandles>> Core<P> {
    /// The reading role, for a thread that is about to make a blocking call.
    pub(super) fn lead(self: &Arc<Self>) -> Option<Leader<'_, P>> {
        // Who would park it before its owner has come for it would leave it to nobody.
        if self.lead.has_owner() {
            return None;
        }
        if self.lead.streak.load(Ordering::Relaxed) < STREAK {
            self.lead.streak.fetch_add(1, Ordering::Relaxed);
            return None;
        }
        let alone = {
            let state = lock(&self.state);
            !state.is_busy() && state.can_be_led(&self.lead)
        };
        if !alone {
            self.lead.streak.store(0, Ordering::Relaxed);
            return None;
        }
        self.take_role()
    }

    /// The reading role, if the driver sleeps or it is parked, and the carrier can leave the reactor.
    pub(super) fn take_role(self: &Arc<Self>) -> Option<Leader<'_, P>> {
        // A thread that ends may have lost it already.
        let (bell, waker) = BELL.try_with(Clone::clone).ok().flatten()?;
        let number = self.role.take()?;
        let mut leader = Leader {
            core: self,
            number,
            away: None,
            bell,
            waker,
            // Whoever was asked for it sleeps, or has parked the role.
            releasing: self.releases.are_asked_for().then(|| clock::after(RELEASE_DELAY)),
            tried: How::Now,
            has_left: false,
        };
        leader.leave_reactor().then_some(leader)
    }

    /// Leads whenever the driver sleeps, until the connection is over.
    pub(super) fn lead_always(self: &Arc<Self>) {
        let _in_runtime = self.runtime.enter();
        loop {
            if let Some(leader) = self.take_over() {
                let _: Led<()> = leader.drive(None, || None);
            }
            // After that: a method that was polled here may have slept, and taken for its own what woke this thread.
            if lock(&self.state).ended {
                return;
            }
            // The driver tells when it falls asleep: until then the role is its own, whatever it was given back for.
            std::thread::park();
        }
    }

    /// The reading role, for the thread that leads whenever the driver sleeps.
    fn take_over(self: &Arc<Self>) -> Option<Leader<'_, P>> {
        let can_be_led = lock(&self.state).can_be_led(&self.lead);
        can_be_led.then(|| self.take_role()).flatten()
    }

    /// Brings the carrier back to the reactor. Called by the driver that has got the role back.
    pub(super) fn come_back(&self) {
        drop(lock(&self.lead.away).take());
        let joined = {
            let mut slot = lock(&self.inlet);
            let joined = slot.as_mut().map_or(Ok(()), Inlet::join_reactor);
            if joined.is_err() {
                *slot = None;
            }
            joined
        };
        self.lead.is_away.store(false, Ordering::Release);
        if let Err(error) = joined {
            lock(&self.state).lost.get_or_insert_with(|| lost(Some(&error)));
        }
    }
}

impl<P: Protocol<EngineHandles>> Leader<'_, P> {
    /// Takes the carrier out of the reactor, unless it is already; false if it cannot.
    fn leave_reactor(&mut self) -> bool {
        let core = self.core;
        let carrier = lock(&core.state).carrier;
        let kept = lock(&core.lead.away)
            .take()
            .filter(|away| away.carrier == carrier);
        if kept.is_some() {
            self.away = kept;
            return true;
        }
        let left = match &mut *lock(&core.inlet) {
            None => Ok(None),
            Some(inlet) => core.lead.leave_reactor(inlet, carrier),
        };
        // The driver becomes one that keeps an eye on this, or takes the role back.
        core.signal.wish(Wishes::LOOK);
        match left {
            Ok(away) => {
                self.away = away;
                self.away.is_some()
            }
            Err(error) => {
                lock(&core.state).lost.get_or_insert_with(|| lost(Some(&error)));
                false
            }
        }
    }

    /// Reads and handles until `done` has what is waited for, or there is more to do than that.
    pub(super) fn drive<R>(
        mut self,
        thread: Option<&SharedArc<ThreadWaiter>>,
        done: impl Fn() -> Option<R>,
    ) -> Led<R> {
        let core = self.core;
        loop {
            if lock(&core.state).has_events() {
                self.put_away();
                let handle = || core.handle_events(self.number, None, None);
                let handled = if thread.is_some() {
                    // What the driver would poll in its runtime.
                    let _in_runtime = core.runtime.enter();
                    // Not in the name of the call that this thread may serve.
                    context::serve(&mut None, handle)
                } else {
                    handle()
                };
                if matches!(handled, Handled::Left) {
                    self.has_left = true;
                    return Led::Left;
                }
            }
            // Whoever waits for a call holds the connection.
            if thread.is_none() {
                core.close_if_abandoned();
            }
            let flushed = core.flush();
            if let Some(result) = done() {
                self.park();
                return Led::Done(result);
            }
            // Where there is always more to write, the driver reads in between.
            if flushed.bytes >= BYTES_IN_A_ROW || !self.step(thread) {
                return Led::Left;
            }
        }
    }

    /// What it waits on lies where whoever takes the role from it finds it.
    fn put_away(&mut self) {
        if let Some(away) = self.away.take() {
            *lock(&self.core.lead.away) = Some(away);
        }
    }

    /// Waits and reads once; false if it is the driver's turn.
    fn step(&mut self, thread: Option<&SharedArc<ThreadWaiter>>) -> bool {
        let core = self.core;
        let wishes = core.signal.take();
        if wishes != Wishes::NONE {
            return self.grant(wishes);
        }
        // Callbacks of its own chain: they may take their time.
        if thread.is_some_and(|thread| thread.has_jobs()) {
            return false;
        }
        let Some(mut away) = self.away.take().or_else(|| lock(&core.lead.away).take()) else {
            return false;
        };
        let (left, how) = {
            let mut state = lock(&core.state);
            if state.carrier != away.carrier || !state.can_be_led(&core.lead) {
                return false;
            }
            let due = state.protocol.poll_timeout();
            state.armed = due.unwrap_or(NEVER);
            let due = [due, self.releasing].into_iter().flatten().min();
            let left = due.map(|due| Duration::from_nanos(due.saturating_sub(clock::now())));
            let may_rest = state.is_quiet() && left.is_none_or(|left| left > LOOK_EVERY);
            let how = match self.tried {
                How::Now if may_rest && core.spins(&away.pace) => Some(How::Spinning(1)),
                How::Now | How::Spinning(_) if may_rest => Some(How::Soon),
                _ if away.more || left.is_some_and(|left| left.is_zero()) => Some(How::Now),
                _ => None,
            };
            // Under the lock: whoever has an earlier time from here on says so.
            core.lead.is_waiting.store(how.is_none(), Ordering::Release);
            (left, how)
        };
        if left.is_some_and(|left| left.is_zero()) {
            self.away = Some(away);
            return self.is_due();
        }
        if let Some(how) = how {
            away.more = false;
            self.tried = how;
            return self.read(away, how);
        }
        let is_readable = self.wait(&away, thread, left);
        match is_readable {
            Some(true) => self.read(away, How::Now),
            Some(false) => {
                self.away = Some(away);
                true
            }
            None => false,
        }
    }

    /// Does what was asked for; false if that is the driver's, which is to wait until the carrier takes more.
    pub(super) fn grant(&mut self, wishes: Wishes) -> bool {
        let core = self.core;
        if wishes.look {
            core.close_if_abandoned();
        }
        if wishes.releases && self.releasing.is_none() {
            self.releasing = Some(clock::after(RELEASE_DELAY));
        }
        if wishes.blocked {
            core.signal.note(Wishes::BLOCKED);
        }
        !wishes.blocked
    }

    /// A time has come: releases go, all else is the driver's.
    fn is_due(&mut self) -> bool {
        let core = self.core;
        if self.releasing.take().is_none_or(|due| due > clock::now()) {
            return false;
        }
        core.look_at_releases(&mut lock(&core.state));
        true
    }

    /// Settles down to wait; whether there is something to read, or nothing if it is the driver's turn.
    fn wait(
        &self,
        away: &Away,
        thread: Option<&SharedArc<ThreadWaiter>>,
        left: Option<Duration>,
    ) -> Option<bool> {
        let core = self.core;
        let readable = match core.signal.poll(&self.waker) {
            // Since it was last asked.
            Some(wishes) => {
                core.signal.wish(wishes);
                Ok(false)
            }
            None if thread.is_some_and(|thread| !thread.rests_elsewhere(&self.waker)) => Ok(false),
            None => away.descriptor.wait_readable(Some(&self.bell.alarm), left),
        };
        core.lead.is_waiting.store(false, Ordering::Release);
        let has_jobs = thread.is_some_and(|thread| thread.is_back());
        match readable {
            Ok(_) if has_jobs => None,
            Ok(true) => Some(true),
            Ok(false) => {
                self.bell.alarm.silence();
                Some(false)
            }
            Err(_) => None,
        }
    }

    /// Reads once, and hands what came to the protocol.
    pub(super) fn read(&mut self, mut away: Box<Away>, how: How) -> bool {
        let core = self.core;
        let mut slot = lock(&core.inlet);
        let Some(inlet) = &mut *slot else {
            return false;
        };
        let read = match how {
            How::Now => inlet.try_read(),
            How::Spinning(moments) => {
                let (due, between) = (lock(&core.state).armed, away.pace.between());
                core.spin(inlet, &mut away.pace, moments, between, due)
            }
            How::Soon => inlet.read_soon(),
        };
        let taken = match read {
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => Ok(()),
            Err(error) => {
                // As at the end; and what a further read would say of it is no news.
                drop(away);
                let _in_runtime = core.runtime.enter();
                let _ = inlet.join_reactor();
                *slot = None;
                lock(&core.state).lost.get_or_insert_with(|| lost(Some(&error)));
                return false;
            }
            Ok(None) => return false,
            Ok(Some(from)) if from.end => {
                // The other half is the driver's to close, by way of the reactor.
                drop(away);
                let _in_runtime = core.runtime.enter();
                let _ = inlet.join_reactor();
                let taken = core.take_in(&mut slot, from, &mut Pace::default());
                drop(slot);
                if let Err((carrier, error)) = taken {
                    core.lose(carrier, error);
                }
                return false;
            }
            Ok(Some(from)) => {
                self.tried = How::Now;
                away.more = inlet.descriptor().is_none();
                core.take_in(&mut slot, from, &mut away.pace)
            }
        };
        drop(slot);
        self.away = Some(away);
        match taken {
            Ok(()) => true,
            Err((carrier, error)) => {
                core.lose(carrier, error);
                false
            }
        }
    }

    /// Leaves the role to the next call, unless somebody waits for something else, or there is more to do.
    pub(super) fn park(mut self) {
        let core = self.core;
        {
            let state = lock(&core.state);
            if state.is_busy() || !state.can_be_led(&core.lead) {
                return;
            }
        }
        self.put_away();
        core.lead.calls.fetch_add(1, Ordering::Relaxed);
        // Releases ride along with the next call, or the driver sends them when it takes the role back.
        core.releases.forget();
        self.has_left = core.role.park(self.number, &core.signal, &core.lead.recalls().1);
        let (is_busy, ended) = {
            let state = lock(&core.state);
            (state.is_busy(), state.ended)
        };
        // Who has called before that has found a thread that leads, and relies on that.
        if is_busy {
            core.lead.recall_for_others();
        }
        // The end may have come before that, and has found nothing to let go of.
        if ended {
            drop(lock(&core.lead.away).take());
        }
    }
}

impl<P: Protocol<EngineHandles>> Drop for Leader<'_, P> {
    /// Gives the role back to the driver.
    fn drop(&mut self) {
        if !self.has_left {
            let core = self.core;
            self.put_away();
            if lock(&core.state).ended {
                drop(lock(&core.lead.away).take());
            }
            core.lead.streak.store(0, Ordering::Relaxed);
            core.role.hand_back(self.number);
            core.lead.recall();
        }
    }
}

#[cfg(unix)]
#[cfg(test)]
mod tests;
