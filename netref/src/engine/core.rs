//! One connection: what all its users share, and how they commit to it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use farref_boxing::{Encoder, Error, ErrorKind, Value, decode};
use farref_framing::{Batch, CloseReason, Gauge, Guard, Inlet, Nanos, Outlet, Written};
use tokio::runtime::Handle;
use tokio::sync::Notify;

use crate::baton::{Baton, Turn};
use crate::chain;
use crate::clock;
use crate::config::Config;
use crate::connection::{Parts, Redial};
use crate::context;
use crate::engine::dispatch::Dispatch;
use crate::engine::down::{Down, Gain};
use crate::engine::lead::{Lead, Leader, Led};
use crate::engine::looking::yield_to_others;
use crate::engine::pace::Pace;
use crate::invocation::Invocation;
use crate::lock::lock;
use crate::origin::Origins;
use crate::peer::Peer;
use crate::place;
use crate::protocol::{
    BodyRef, CallOptions, CallStart, CancelReason, Chain, Event, Factory, Imported, Op, Outgoing, PeerShape,
    Protocol, Received, Refs, Reply, Request, TableStats, Target,
};
use crate::references;
use crate::releases::{Release, Releases};
use crate::remote::{Blocked, Conduit, EngineHandles, Import, Outcome, Remote, TellShape};
use crate::role::{self, Role};
use crate::signal::{Signal, Wishes};
use crate::trace;
use crate::until::until;
use crate::waiter::{Callback, ThreadWaiter, Waiter, Woken};

/// A connection, as its driver, its calls and its netrefs share it.
pub(crate) struct Core<P: Protocol<EngineHandles>> {
    pub(crate) state: Mutex<State<P>>,
    /// The reading half of the carrier: locked by the driver that holds the role.
    pub(crate) inlet: Mutex<Option<Inlet>>,
    pub(crate) role: Role,
    /// What threads that have the role share with the driver.
    pub(crate) lead: Lead,
    pub(crate) signal: Signal,
    pub(crate) dispatch: Dispatch,
    /// Netrefs that were dropped.
    pub(super) releases: Releases,
    /// Woken when `State::opening`, `over` or `round_trip` changes.
    pub(crate) changed: Notify,
    anchor: Mutex<Weak<Anchor<P>>>,
    pub(super) origins: Origins,
    /// Who was at the other end of the first carrier.
    pub(crate) peer: Arc<Peer>,
    /// Where other carriers come from, on the side that dialled.
    pub(crate) redial: Option<Arc<dyn Redial>>,
    /// Shared with other connections of the same server.
    pub(crate) config: Arc<Config>,
    /// Default deadline of calls, in nanoseconds; 0 is none.
    call_timeout: AtomicU64,
    pub(crate) runtime: Handle,
    /// Whether the peer was shown a root, which counts among the exports.
    pub(crate) shows_root: bool,
    /// Whether the peer is called by name.
    is_by_name: bool,
    /// Whether the connection stays when nobody on this side holds it: the peer may still call the root.
    keep_open: bool,
}

/// Told why a connection is over, when it is.
pub(crate) type Notice = Box<dyn FnOnce(Error) + Send>;

/// What is under the connection's lock.
pub(crate) struct State<P> {
    pub(crate) protocol: P,
    /// Boxed, as it moves with every write.
    pub(crate) baton: Baton<Box<Writer>>,
    /// The peer's root, once it has introduced itself; nothing when nobody can ask for it any more.
    pub(crate) opened: Option<Received<EngineHandles>>,
    /// There is a handle with which the root can be asked for.
    has_handle: bool,
    /// Why the connection is over.
    pub(crate) over: Option<Error>,
    /// The peer said goodbye, or we did: the end of the stream is no loss.
    pub(crate) goodbye: Option<Error>,
    /// The latest round trip, and how many were measured.
    pub(crate) round_trip: (u64, Nanos),
    /// No further calls are made: either side has asked for that.
    pub(crate) draining: bool,
    /// The peer makes none either: all that it made have come.
    pub(crate) peer_drained: bool,
    /// The carrier brings no more, and why; what it brought is handled first.
    pub(crate) lost: Option<Error>,
    /// The carrier takes no more, and never will.
    pub(crate) write_error: Option<std::io::Error>,
    /// The driver has left, and the carrier is closed.
    pub(crate) ended: bool,
    /// Who wants to be told of that.
    notices: Vec<Notice>,
    /// When the driver wakes up by itself.
    pub(crate) armed: Option<Nanos>,
    /// How soon the outcomes came lately of calls that tasks have made one at a time.
    pub(super) outcomes: Pace,
    /// The event that is the next, if somebody has looked at it and left it to the driver.
    next_event: Option<Box<Event<EngineHandles>>>,
    /// Where releases are moved to, so that their list is never locked while one is handled.
    spare: Vec<Release>,
    /// Somebody waits for the last answer.
    watched: bool,
    /// It is noted since when what is held, and the protocol is to be told the time of each call.
    is_tracked: bool,
    /// What must outlive the halves of the carrier.
    pub(crate) guard: Option<Guard>,
    /// Who is at the other end of the carrier that there is, or was last.
    pub(crate) peer: Arc<Peer>,
    /// Where the carrier's own numbers are read.
    pub(crate) gauge: Option<Gauge>,
    /// Number of the carrier: a writer with another one has no carrier any more.
    pub(crate) carrier: u64,
    /// There is no carrier on which both sides have agreed.
    pub(crate) down: Option<Box<Down>>,
    /// Somebody is about to find another carrier.
    pub(crate) redialling: bool,
    /// How often the status has changed.
    pub(crate) changes: u64,
    /// What the carriers were good for.
    pub(crate) gain: Gain,
}

impl<P: Protocol<EngineHandles>> State<P> {
    /// The peer has introduced itself. Its root comes back if nobody can ask for it.
    pub(crate) fn open(&mut self, root: Received<EngineHandles>) -> Option<Received<EngineHandles>> {
        let (kept, unwanted) = if self.has_handle {
            (root, None)
        } else {
            (Received::Null, Some(root))
        };
        self.opened = Some(kept);
        unwanted
    }

    /// The time, for a protocol to which it matters: to look at the clock takes as long as a part of a call.
    pub(super) fn now(&self) -> Nanos {
        if self.protocol.is_timed() { clock::now() } else { 0 }
    }

    /// Hands what there is to write to `writer`; false if there is nothing.
    pub(super) fn fill(&mut self, writer: &mut Writer) -> bool {
        let now = self.now();
        self.protocol.poll_transmit(&mut writer.batch, now)
    }

    /// The next event, for whoever has the role.
    pub(super) fn poll_event(&mut self) -> Option<Event<EngineHandles>> {
        let next = self.next_event.take().map(|event| *event);
        next.or_else(|| self.protocol.poll_event())
    }

    pub(super) fn has_events(&self) -> bool {
        self.next_event.is_some() || self.protocol.has_events()
    }

    /// The next event, if that is an outcome for the task of `waker`, which can be taken from here on.
    pub(super) fn poll_ready(&mut self, waker: &Waker) -> Option<Waiter> {
        match self.poll_event()? {
            Event::Ready(waiter) if waiter.is_task(waker) => Some(waiter),
            event => {
                self.next_event = Some(Box::new(event));
                None
            }
        }
    }

    /// Nobody can ask for the root any more: it would keep the connection in use. To be dropped outside the lock.
    pub(crate) fn forget_root(&mut self) -> Option<Received<EngineHandles>> {
        self.has_handle = false;
        self.opened
            .as_mut()
            .map(|root| std::mem::replace(root, Received::Null))
    }

    /// Gives memory back.
    pub(crate) fn rest(&mut self) {
        self.protocol.rest();
        self.spare.shrink_to_fit();
    }

    /// Notes from now on since when what is held.
    pub(crate) fn track(&mut self) {
        self.is_tracked = true;
        self.protocol.track();
    }

    /// Whether somebody waits for the last answer, and it has gone.
    pub(crate) fn is_drained(&self) -> bool {
        self.watched && self.has_no_answers()
    }

    /// Whether no call of the peer's is under way; once either side drains, also whether none is on its way.
    pub(crate) fn has_no_answers(&self) -> bool {
        (self.peer_drained || !self.draining) && self.protocol.stats().answers == 0
    }

    /// Makes no further calls, and asks the peer for none: once.
    fn drain(&mut self) {
        if !std::mem::replace(&mut self.draining, true) {
            self.protocol.drain();
            self.peer_drained |= !self.protocol.is_told_to_drain();
        }
    }
}

/// The writing half of the carrier, and what is on its way to it.
pub(crate) struct Writer {
    pub(crate) outlet: Outlet,
    pub(crate) batch: Batch,
    carrier: u64,
}

impl Writer {
    pub(crate) fn new(outlet: Outlet, carrier: u64) -> Box<Self> {
        Box::new(Self {
            outlet,
            batch: Batch::default(),
            carrier,
        })
    }

    /// Whether its carrier is the one that the connection is on.
    pub(crate) fn is_of<P>(&self, state: &State<P>) -> bool {
        self.carrier == state.carrier
    }
}

impl<P: Protocol<EngineHandles>> Core<P> {
    /// A connection over an open carrier; nothing moves before it is driven.
    pub(crate) fn new(protocol: P, parts: Parts, shows_root: bool, config: Arc<Config>) -> Arc<Self> {
        let Parts {
            inlet,
            outlet,
            peer,
            keep_open,
            guard,
            gauge,
            opened: _,
            redial,
        } = parts;
        let peer = Arc::new(peer);
        let is_by_name = protocol.is_by_name();
        Arc::new(Self {
            state: Mutex::new(State {
                protocol,
                baton: Baton::new(Writer::new(outlet, 0)),
                opened: None,
                has_handle: true,
                over: None,
                goodbye: None,
                round_trip: (0, 0),
                draining: false,
                peer_drained: false,
                lost: None,
                write_error: None,
                ended: false,
                notices: Vec::new(),
                armed: None,
                outcomes: Pace::default(),
                next_event: None,
                spare: Vec::new(),
                watched: false,
                is_tracked: config.track_holdings,
                guard: Some(guard),
                peer: Arc::clone(&peer),
                gauge,
                carrier: 0,
                down: None,
                redialling: false,
                changes: 0,
                gain: Gain::new(clock::now()),
            }),
            inlet: Mutex::new(Some(inlet)),
            role: Role::default(),
            lead: Lead::default(),
            signal: Signal::default(),
            dispatch: Dispatch::default(),
            releases: Releases::default(),
            changed: Notify::new(),
            anchor: Mutex::default(),
            origins: Origins::default(),
            peer,
            redial,
            call_timeout: AtomicU64::new(config.call_timeout.map_or(0, clock::nanos)),
            config,
            runtime: crate::runtime::handle(),
            shows_root,
            is_by_name,
            keep_open,
        })
    }

    /// The connection's handle, as proxies and calls hold it.
    pub(crate) fn anchor(self: &Arc<Self>) -> Arc<Anchor<P>> {
        let mut kept = lock(&self.anchor);
        if let Some(anchor) = kept.upgrade() {
            return anchor;
        }
        let anchor = Arc::new(Anchor {
            core: Arc::clone(self),
        });
        *kept = Arc::downgrade(&anchor);
        anchor
    }

    pub(crate) fn set_call_timeout(&self, timeout: Option<Duration>) {
        self.call_timeout
            .store(timeout.map_or(0, clock::nanos), Ordering::Relaxed);
    }

    /// The deadline of a call: the earliest of its own, that of the call it is made for, and the default.
    fn deadline(&self, own: Option<Nanos>) -> Option<Nanos> {
        let default = match self.call_timeout.load(Ordering::Relaxed) {
            0 => None,
            timeout => Some(clock::now().saturating_add(timeout)),
        };
        // The last moment is for those who wait for ever, whatever the default.
        let own = own.or(default).filter(|own| *own != Nanos::MAX);
        [own, context::deadline()].into_iter().flatten().min()
    }

    /// Commits a call and sees to it that it is written. The protocol may take the waiter.
    fn commit(
        &self,
        target: Target,
        op: &Op,
        options: &CallOptions,
        body: BodyRef<'_>,
        refs: Refs<Outgoing<EngineHandles>>,
        waiter: &mut Option<Waiter>,
    ) -> Result<u64, Error> {
        if self.is_by_name && matches!(op, Op::Method { .. }) {
            return Err(Error::new(
                ErrorKind::Unsupported,
                "the object is of a peer that knows no methods by number: it has to be handed on as a trait",
            ));
        }
        let (number, turn, wish, looks) = {
            let mut state = lock(&self.state);
            if let Some(error) = &state.over {
                return Err(not_sent(error));
            }
            if state.down.is_some() && !self.config.wait_while_down && is_new_work(target) {
                let kind = ErrorKind::Disconnected(farref_boxing::Certainty::NotSent);
                return Err(Error::new(kind, "the connection is without a carrier for now"));
            }
            if state.draining && is_new_work(target) {
                let kind = ErrorKind::Disconnected(farref_boxing::Certainty::NotSent);
                return Err(Error::new(
                    kind,
                    "the connection is shutting down: no further calls are made",
                ));
            }
            self.take_releases(&mut state);
            let waits = waiter.is_some();
            let looks = waits && self.may_look(&state);
            let start = CallStart {
                target,
                op,
                options,
                body,
                refs,
                waiter,
            };
            // To look at the clock takes as long as a part of the call.
            let now = if options.deadline.is_some() || state.is_tracked {
                clock::now()
            } else {
                0
            };
            let number = state.protocol.call(start, now);
            let alone = !options.followed && state.protocol.stats().calls <= 1;
            if let (true, Ok(number)) = (looks, &number) {
                self.lead.will_look_for(*number);
            } else if waits && alone {
                state.outcomes.has_read(self.address());
            } else {
                state.outcomes.has_read_much();
            }
            let (turn, mut wish) = self.follow_up(&mut state, alone);
            // A thread that leads, and has not settled down to wait, looks for itself.
            wish.times = !self.lead.looks_by_itself(&self.role)
                && options
                    .deadline
                    .is_some_and(|deadline| state.armed.is_none_or(|armed| deadline < armed));
            (number, turn, wish, looks)
        };
        self.take_turn(turn, looks);
        self.signal.wish(wish);
        number
    }

    /// What follows from a command: whose turn it is to write, and what the driver is woken for. Commands make events too,
    /// and these are the driver's to handle. If it is this thread, it looks for both by itself after the batch that it is
    /// handling.
    #[inline]
    fn follow_up(&self, state: &mut State<P>, alone: bool) -> (Turn<Box<Writer>>, Wishes) {
        if self.is_driven_here() {
            return (Turn::Nothing, Wishes::default());
        }
        let turn = self.turn(state, alone);
        let wish = Wishes {
            events: state.has_events(),
            releases: state.protocol.has_unhurried() && self.releases.asks(&self.role),
            ..Wishes::default()
        };
        (turn, wish)
    }

    /// Changes the protocol's state and sees to it that what follows is written.
    pub(crate) fn update<R>(&self, change: impl FnOnce(&mut P) -> R) -> R {
        let (result, turn, wish, drained, ended) = {
            let mut state = lock(&self.state);
            let result = change(&mut state.protocol);
            let stats = state.protocol.stats();
            let alone = stats.answers == 0 && stats.calls <= 1;
            let (turn, wish) = self.follow_up(&mut state, alone);
            (result, turn, wish, state.is_drained(), state.ended)
        };
        self.take_turn(turn, false);
        self.signal.wish(wish);
        if ended {
            self.handle_last_events();
        }
        if drained {
            self.changed.notify_waiters();
        }
        result
    }

    /// Handles what has become of commands that came after the driver has left: an answer to a call that is over
    /// by then, for one, leaves the objects in it to be dropped.
    pub(crate) fn handle_last_events(&self) {
        loop {
            let event = lock(&self.state).poll_event();
            match event {
                None => return,
                Some(Event::Ready(waiter)) => waiter.wake(),
                Some(event) => self.discard(event),
            }
        }
    }

    /// Tells `notice` when the driver has left.
    pub(crate) fn when_ended(&self, notice: Notice) {
        let mut state = lock(&self.state);
        state.notices.reserve_exact(1);
        state.notices.push(notice);
        let has_ended = state.ended;
        drop(state);
        if has_ended {
            self.tell_end();
        }
    }

    /// The driver has left: tells whoever waits for that.
    pub(crate) fn tell_end(&self) {
        self.changed.notify_waiters();
        let (notices, why) = {
            let mut state = lock(&self.state);
            (std::mem::take(&mut state.notices), state.over.clone())
        };
        for notice in notices {
            let why = why.clone().unwrap_or_else(|| closed_here().1);
            self.runtime.spawn(async { notice(why) });
        }
    }

    /// Makes no further calls, and asks the peer for none.
    pub(crate) fn make_no_calls(&self) {
        let (turn, wish) = {
            let mut state = lock(&self.state);
            state.drain();
            self.follow_up(&mut state, true)
        };
        self.take_turn(turn, false);
        self.signal.wish(wish);
    }

    /// The peer makes no further calls, and asks for none. It is told when there are none, so that it knows that it
    /// has got the last one.
    pub(crate) fn peer_drains(&self) {
        let drained = {
            let mut state = lock(&self.state);
            state.peer_drained = true;
            state.drain();
            state.is_drained()
        };
        if drained {
            self.changed.notify_waiters();
        }
    }

    /// From now on the end of the last answer is a change.
    pub(crate) fn watch_answers(&self) {
        lock(&self.state).watched = true;
    }

    /// Whose turn it is to write, unless this thread drives.
    #[inline]
    fn turn(&self, state: &mut State<P>, alone: bool) -> Turn<Box<Writer>> {
        if state.baton.is_spoken_for() || !state.protocol.wants_write() {
            return Turn::Nothing;
        }
        // A thread that leads is not woken for that.
        match state.baton.committed(alone || self.role.is_led()) {
            Turn::Write(mut writer) => {
                state.fill(&mut writer);
                Turn::Write(writer)
            }
            turn => turn,
        }
    }

    /// Writes, or wakes who does. `looks`: whoever has committed something comes back and takes a role that is parked.
    #[inline]
    fn take_turn(&self, turn: Turn<Box<Writer>>, looks: bool) {
        match turn {
            Turn::Write(writer) => {
                self.write(writer);
                // Whoever has something to say is answered soon: the next call may be long in coming.
                if !looks && self.role.is_parked() {
                    self.lead.recall_for_others();
                }
            }
            Turn::WakeDriver => self.signal.wish(Wishes::FLUSH),
            Turn::Nothing => {}
        }
    }

    #[inline]
    pub(crate) fn is_driven_here(&self) -> bool {
        role::is_driving(self.address())
    }

    /// Where it is in memory, to compare.
    pub(super) fn address(&self) -> usize {
        std::ptr::from_ref(self).addr()
    }

    /// Writes until there is nothing left or the carrier takes no more. Never waits.
    pub(crate) fn write(&self, mut writer: Box<Writer>) {
        loop {
            let written = if writer.batch.is_empty() {
                Ok(Written::All)
            } else {
                writer.outlet.write(&mut writer.batch)
            };
            let mut state = lock(&self.state);
            if state.ended || !writer.is_of(&state) {
                // Nobody writes there any more: the carrier ends with its last half.
                drop(state);
                return drop(writer);
            }
            match written {
                Ok(Written::All) if state.protocol.wants_write() && state.fill(&mut writer) => {}
                Ok(Written::All) if !writer.outlet.is_buffering() => return state.baton.give_back(writer),
                Ok(_) => {
                    state.baton.give_back_blocked(writer);
                    drop(state);
                    return self.signal.wish(Wishes::BLOCKED);
                }
                Err(error) => {
                    // What the peer had still to say is read first: the driver ends the connection after that.
                    state.write_error = Some(error);
                    drop(state);
                    drop(writer);
                    return self.signal.wish(Wishes::LOOK);
                }
            }
        }
    }

    /// Moves the releases of dropped netrefs into the protocol.
    #[inline]
    pub(crate) fn take_releases(&self, state: &mut State<P>) {
        let State { protocol, spare, .. } = state;
        self.releases
            .take(spare, |(import, generation)| protocol.release(import, generation));
    }

    /// The time has come to look for releases, and for what else is in no hurry.
    pub(crate) fn look_at_releases(&self, state: &mut State<P>) {
        let State { protocol, spare, .. } = state;
        self.releases
            .look(spare, |(import, generation)| protocol.release(import, generation));
        protocol.hurry();
    }

    /// Whether nobody on this side can use the connection, and nobody over there uses anything of ours.
    pub(crate) fn is_abandoned(&self) -> bool {
        if self.keep_open || lock(&self.anchor).strong_count() > 0 {
            return false;
        }
        let stats = self.stats();
        stats.exports == usize::from(self.shows_root) && stats.answers == 0 && stats.calls == 0
    }

    /// Closes if the connection is of no use to anybody any more.
    pub(crate) fn close_if_abandoned(&self) {
        if self.is_abandoned() {
            self.close();
        }
    }

    /// Runs `wait` while this thread is known as waiting in `chain`: it is given the callbacks of that.
    fn waiting_in<R>(
        self: &Arc<Self>,
        chain: Option<Chain>,
        wait: impl FnOnce(&crate::sync::Arc<ThreadWaiter>) -> R,
    ) -> R {
        with_thread(|thread| {
            let registered = chain.map(|chain| chain::register(chain, thread));
            if let Some(chain) = chain {
                self.dispatch.hand_over(chain, thread);
            }
            let result = wait(thread);
            drop(registered);
            for job in thread.take_jobs() {
                self.run_on_pool(None, None, job);
            }
            result
        })
    }

    /// Waits for the outcome of a call on this thread, and runs the callbacks of its chain.
    fn wait_here(
        self: &Arc<Self>,
        number: u64,
        thread: &crate::sync::Arc<ThreadWaiter>,
        patience: Option<Duration>,
        leader: Option<Leader<'_, P>>,
    ) -> Option<Outcome> {
        let until = patience.map(clock::after).map(clock::instant);
        let outcome = || {
            if context::is_cancelled() {
                self.drop_call(number, CancelReason::Upstream);
                return Some(Outcome::Error(ErrorKind::Cancelled.into()));
            }
            let waiter = &mut || Waiter::Thread(crate::sync::Arc::clone(thread));
            match self.poll_outcome(number, waiter) {
                Poll::Ready(outcome) => Some(outcome),
                Poll::Pending => None,
            }
        };
        // Whoever reads by itself is not woken, but looks.
        let led = || {
            let is_ready = context::is_cancelled() || lock(&self.state).protocol.is_ready(number);
            is_ready.then(&outcome).flatten()
        };
        if let Some(leader) = leader
            && let Led::Done(outcome) = leader.drive(Some(thread), led)
        {
            return Some(outcome);
        }
        loop {
            if let Some(outcome) = outcome() {
                return Some(outcome);
            }
            match thread.wait(until) {
                Woken::Notified => {}
                Woken::Job(job) => job(),
                Woken::TimedOut => return None,
            }
        }
    }

    /// [`wait_here`](Self::wait_here), woken also when the call that is served here is given up. The call is cancelled
    /// then at once, though this thread may be busy with a callback: what that waits for may be cancelled by it.
    fn wait_watched(
        self: &Arc<Self>,
        number: u64,
        thread: &crate::sync::Arc<ThreadWaiter>,
        patience: Option<Duration>,
        leader: Option<Leader<'_, P>>,
    ) -> Option<Outcome> {
        let serving = context::serving();
        if let Some((conduit, answer)) = &serving {
            let conduit_of_call = self.anchor() as Arc<dyn Conduit>;
            conduit.wake_on_cancel(
                *answer,
                Some((crate::sync::Arc::clone(thread), conduit_of_call, number)),
            );
        }
        let outcome = self.wait_here(number, thread, patience, leader);
        if let Some((conduit, answer)) = &serving {
            conduit.wake_on_cancel(*answer, None);
        }
        outcome
    }

    /// Ends everything: every call gets its outcome, every reference breaks. What follows from that comes out as
    /// events.
    pub(crate) fn sever(&self, error: Error) {
        let mut state = lock(&self.state);
        if state.over.is_none() {
            state.protocol.sever(&error);
            state.over = Some(error);
        }
    }

    /// Says that the peer holds many objects, and of which types.
    pub(crate) fn warn_of(&self, exports: u64) {
        let (tables, peer) = {
            let state = lock(&self.state);
            (state.protocol.tables(MANY_ROWS), Arc::clone(&state.peer))
        };
        let types = crate::holdings::top_types(&tables);
        tracing::warn!(%peer, exports, types, "the peer holds many objects of this side");
        self.discard(tables);
    }

    pub(crate) fn stats(&self) -> TableStats {
        lock(&self.state).protocol.stats()
    }
}

/// So many rows of a table are told at most: the lock is held meanwhile.
pub(crate) const MANY_ROWS: usize = 1 << 16;

/// Whether a call is no part of anything that is under way: of no call that is served here, and of no pipe.
fn is_new_work(target: Target) -> bool {
    matches!(target, Target::Import(_)) && context::serving().is_none()
}

/// A call that was made after the end was certainly not sent.
fn not_sent(error: &Error) -> Error {
    let kind = ErrorKind::Disconnected(farref_boxing::Certainty::NotSent);
    Error::new(kind, format!("the connection is over: {}", error.message()))
}

/// Makes the proxies of one connection.
pub(crate) struct Proxies<'a, P: Protocol<EngineHandles>>(pub(crate) &'a Arc<Core<P>>);

impl<P: Protocol<EngineHandles>> Factory<EngineHandles> for Proxies<'_, P> {
    fn proxy(&self, imported: Imported) -> Arc<Import> {
        let origin = self.0.origins.of(imported, || self.0.anchor());
        Arc::new(Import::new(origin, imported))
    }
}

/// What keeps a connection in use: handles, calls and proxies hold it, the driver does not.
pub(crate) struct Anchor<P: Protocol<EngineHandles>> {
    pub(crate) core: Arc<Core<P>>,
}

impl<P: Protocol<EngineHandles>> Drop for Anchor<P> {
    fn drop(&mut self) {
        self.core.signal.wish(Wishes::LOOK);
    }
}

impl<P: Protocol<EngineHandles>> Conduit for Anchor<P> {
    fn begin(
        &self,
        target: Target,
        op: &Op,
        options: CallOptions,
        encoder: &mut Encoder,
    ) -> Result<u64, Error> {
        self.commit(target, op, options, encoder, &mut None)
    }

    fn begin_waiting(
        &self,
        target: Target,
        op: &Op,
        options: CallOptions,
        encoder: &mut Encoder,
        waker: &Waker,
    ) -> Result<(u64, bool), Error> {
        let mut waiter = Some(Waiter::Task(waker.clone()));
        let number = self.commit(target, op, options, encoder, &mut waiter)?;
        let is_kept = waiter.is_none();
        if is_kept && self.core.lead.is_looked_for(number) {
            yield_to_others(waker);
        }
        Ok((number, is_kept))
    }

    fn block(
        &self,
        target: Target,
        op: &Op,
        mut options: CallOptions,
        encoder: &mut Encoder,
    ) -> Result<Outcome, Error> {
        place::check()?;
        let refs = references::outgoing(encoder.references(), self);
        options.deadline = self.core.deadline(options.deadline);
        options.blocking = true;
        options.no_pipeline = true;
        let chain = chain::next();
        options.chain = Some(chain);
        options.trace = options.trace.or_else(trace::on_wire);
        place::sleep(|| {
            // Before the call is sent: a callback may be here before this thread sleeps.
            self.core.waiting_in(Some(chain), |thread| {
                let leader = self.core.lead();
                let number = self
                    .core
                    .commit(target, op, &options, body(encoder), refs, &mut None)?;
                let outcome = self.core.wait_watched(number, thread, None, leader);
                Ok(outcome.unwrap_or_else(|| Outcome::Error(ErrorKind::Deadline.into())))
            })
        })?
    }

    fn poll_outcome(&self, call: u64, context: &mut Context<'_>) -> Poll<Outcome> {
        if let Some(outcome) = self.core.look_for(call, context.waker()) {
            return Poll::Ready(outcome);
        }
        self.core
            .poll_outcome(call, &mut || Waiter::Task(context.waker().clone()))
    }

    fn wait(&self, call: u64, patience: Option<Duration>) -> Result<Option<Outcome>, Error> {
        let chain = context::chain();
        place::sleep(|| {
            self.core.waiting_in(chain, |thread| {
                self.core.wait_watched(call, thread, patience, None)
            })
        })
    }

    fn is_ready(&self, call: u64) -> bool {
        lock(&self.core.state).protocol.is_ready(call)
    }

    fn drop_call(&self, call: u64, reason: CancelReason) {
        self.core.drop_call(call, reason);
    }

    fn release(&self, import: u64, generation: u32) {
        let core = &self.core;
        core.releases.push((import, generation));
        if core.releases.asks(&core.role) {
            core.signal.wish(Wishes::RELEASES);
        }
    }

    fn answer_value(&self, answer: u64, failure: Option<Error>, shape: u32, encoder: &mut Encoder) {
        let refs = references::outgoing(encoder.references(), self);
        let reply = Reply::Value {
            failure: failure.map(P::failure),
            shape,
            body: body(encoder),
            refs,
        };
        self.core.update(|protocol| protocol.answer(answer, reply));
    }

    fn answer_plain(&self, answer: u64, value: Value) -> Result<(), Value> {
        if !self.core.is_by_name {
            return Err(value);
        }
        self.core.update(|protocol| protocol.answer_plain(answer, value))
    }

    fn answer_error(&self, answer: u64, error: Error, started: bool) {
        let error = P::failure(error);
        let reply = Reply::Error { error, started };
        self.core.update(|protocol| protocol.answer(answer, reply));
    }

    fn answer_outcome(&self, answer: u64, outcome: Outcome) {
        match outcome {
            Outcome::Value {
                failed,
                shape,
                body,
                refs,
                writer: _,
            } => {
                let references = references::received(refs);
                let refs = references::passed_on(&references, self);
                let failure = failed.then(|| {
                    let told = Error::new(ErrorKind::Remote, "the method returned an error");
                    if !self.core.is_by_name {
                        return told;
                    }
                    // Calls by name are answered by an error value (PROTOCOL.md § 13.1).
                    P::failure(decode(&body, &references, &references::limits()).unwrap_or(told))
                });
                let pieces = [body];
                let reply = Reply::Value {
                    failure,
                    shape,
                    body: BodyRef::Rope(&pieces),
                    refs,
                };
                self.core.update(|protocol| protocol.answer(answer, reply));
            }
            Outcome::Error(error) => self.answer_error(answer, error, true),
        }
    }

    fn forward(self: Arc<Self>, target: Target, mut options: CallOptions, invocation: Invocation) {
        let Invocation {
            conduit: back,
            answer,
            request,
            references,
            ..
        } = invocation;
        let Request { op, body, .. } = *request;
        let refs = references::passed_on(&references, &*self);
        drop(references);
        options.no_pipeline = false;
        if let Op::Method { shape, .. } = op {
            self.passes(shape, &back);
        }
        let pieces: [Bytes; 1] = [body.unwrap_or_default()];
        match self
            .core
            .commit(target, &op, &options, BodyRef::Rope(&pieces), refs, &mut None)
        {
            Ok(number) => {
                back.drop_on_cancel(answer, Some((Arc::clone(&self) as Arc<dyn Conduit>, number)));
                self.pass_back(number, back, answer);
            }
            Err(error) => back.answer_error(answer, error, false),
        }
    }

    fn wake_on_cancel(&self, answer: u64, blocked: Option<Blocked>) {
        self.core.dispatch.wake_on_cancel(answer, blocked);
    }

    fn drop_on_cancel(&self, answer: u64, passed_on: Option<(Arc<dyn Conduit>, u64)>) {
        self.core.dispatch.drop_on_cancel(answer, passed_on);
    }

    fn is_cancelled(&self, answer: u64) -> bool {
        self.core.dispatch.is_cancelled(answer)
    }

    fn shape(&self, fingerprint: u32) -> PeerShape {
        self.core.update(|protocol| protocol.shape(fingerprint))
    }

    fn when_shape(&self, fingerprint: u32, tell: TellShape) {
        self.core.when_shape(fingerprint, tell);
    }

    fn passes(&self, fingerprint: u32, source: &Arc<dyn Conduit>) {
        self.core.dispatch.passes(fingerprint, source);
    }

    fn is_home_of(&self, remote: &Arc<dyn Remote>) -> bool {
        Arc::clone(remote).import_over(self).is_some()
    }

    fn is_by_name(&self) -> bool {
        self.core.is_by_name
    }

    fn peer(&self) -> &Arc<Peer> {
        &self.core.peer
    }

    fn lost(&self) -> crate::call::BoxFuture<'static, Error> {
        // Of the core alone: who waits does not keep the connection in use.
        let core = Arc::clone(&self.core);
        Box::pin(async move { until(&core.changed, || lock(&core.state).over.clone()).await })
    }
}

impl<P: Protocol<EngineHandles>> Anchor<P> {
    /// Commits a call that is not waited for on this thread.
    fn commit(
        &self,
        target: Target,
        op: &Op,
        mut options: CallOptions,
        encoder: &mut Encoder,
        waiter: &mut Option<Waiter>,
    ) -> Result<u64, Error> {
        let refs = references::outgoing(encoder.references(), self);
        options.deadline = self.core.deadline(options.deadline);
        options.chain = options.chain.or_else(|| context::chain().map(chain::nested));
        options.trace = options.trace.or_else(trace::on_wire);
        self.core.lead.is_not_next();
        self.core
            .commit(target, op, &options, body(encoder), refs, waiter)
    }

    /// Answers a call with the outcome of the call `number`, as soon as that is there.
    fn pass_back(self: Arc<Self>, number: u64, back: Arc<dyn Conduit>, answer: u64) {
        let mut waiter = || {
            let (this, back) = (Arc::clone(&self), Arc::clone(&back));
            Waiter::Callback(Callback(Box::new(move || this.pass_back(number, back, answer))))
        };
        if let Poll::Ready(outcome) = self.core.poll_outcome(number, &mut waiter) {
            back.drop_on_cancel(answer, None);
            if let Outcome::Value { shape, .. } = outcome {
                back.passes(shape, &(Arc::clone(&self) as Arc<dyn Conduit>));
            }
            back.answer_outcome(answer, outcome);
        }
    }
}

impl<P: Protocol<EngineHandles>> Core<P> {
    pub(crate) fn drop_call(&self, call: u64, reason: CancelReason) {
        // What the outcome held is dropped outside the lock by way of events.
        let waiter = self.update(|protocol| protocol.drop_call(call, reason));
        drop(waiter);
    }

    pub(super) fn poll_outcome(&self, call: u64, waiter: &mut dyn FnMut() -> Waiter) -> Poll<Outcome> {
        let mut replaced = None;
        let outcome = self.update(|protocol| {
            protocol.poll_outcome(call, &mut |before| {
                replaced = before;
                waiter()
            })
        });
        // Outside the lock: it may be the last that holds a task.
        drop(replaced);
        outcome
    }
}

/// What was encoded, as the protocol takes it.
fn body(encoder: &Encoder) -> BodyRef<'_> {
    match encoder.body() {
        farref_boxing::EncodedBody::Slice(slice) => BodyRef::Slice(slice),
        farref_boxing::EncodedBody::Rope(rope) => BodyRef::Rope(rope),
    }
}

/// Runs `run` with a waiter of this thread; nested calls get one each.
fn with_thread<R>(run: impl FnOnce(&crate::sync::Arc<ThreadWaiter>) -> R) -> R {
    thread_local! {
        static SPARE: std::cell::RefCell<Vec<crate::sync::Arc<ThreadWaiter>>> =
            const { std::cell::RefCell::new(Vec::new()) };
    }
    let thread = SPARE.with(|spare| spare.borrow_mut().pop()).unwrap_or_default();
    let result = run(&thread);
    SPARE.with(|spare| spare.borrow_mut().push(thread));
    result
}

/// How the connection ends when nobody needs it any more, or its user closes it.
pub(crate) fn closed_here() -> (CloseReason, Error) {
    let error = Error::new(
        ErrorKind::Disconnected(farref_boxing::Certainty::NotSent),
        "the connection was closed on this side",
    );
    (CloseReason::done(), error)
}
