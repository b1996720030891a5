//! One connection: what all its users share, and how they commit to it.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::task::Poll;
use std::time::Duration;

use farref_boxing::{Error, ErrorKind};
use farref_framing::{CloseReason, Inlet, Nanos, Written};
use tokio::runtime::Handle;
use tokio::sync::Notify;

use crate::baton::{Baton, Turn};
use crate::clock;
use crate::config::Config;
use crate::connection::{Parts, Redial};
use crate::context;
use crate::engine::anchor::Anchor;
use crate::engine::dispatch::Dispatch;
use crate::engine::down::Gain;
use crate::engine::lead::Lead;
use crate::engine::pace::{Courtesy, Pace};
use crate::engine::state::{Notice, State, Writer};
use crate::lock::lock;
use crate::origin::Origins;
use crate::peer::Peer;
use crate::protocol::{
    BodyRef, CallOptions, CallStart, CancelReason, Event, Op, Outgoing, Protocol, Refs, TableStats, Target,
};
use crate::releases::Releases;
use crate::remote::{EngineHandles, Outcome};
use crate::role::{self, Role};
use crate::signal::{Signal, Wishes};
use crate::waiter::Waiter;

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
    /// How many of these there are: another is made while the last is being dropped.
    pub(super) anchors: AtomicUsize,
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
    pub(super) is_by_name: bool,
    /// Whether the connection stays when nobody on this side holds it: the peer may still call the root.
    keep_open: bool,
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
                armed: clock::NEVER,
                outcomes: Pace::default(),
                courtesy: Courtesy::default(),
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
            anchors: AtomicUsize::new(0),
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
        self.anchors.fetch_add(1, Ordering::Relaxed);
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
    pub(super) fn deadline(&self, own: Option<Nanos>) -> Option<Nanos> {
        let default = match self.call_timeout.load(Ordering::Relaxed) {
            0 => None,
            timeout => Some(clock::now().saturating_add(timeout)),
        };
        // The last moment is for those who wait for ever, whatever the default.
        let own = own.or(default).filter(|own| *own != Nanos::MAX);
        [own, context::deadline()].into_iter().flatten().min()
    }

    /// Commits a call and sees to it that it is written. The protocol may take the waiter.
    pub(super) fn commit(
        &self,
        target: Target,
        op: &Op,
        options: &CallOptions,
        body: BodyRef<'_>,
        refs: Refs<Outgoing<EngineHandles>>,
        waiter: &mut Option<Waiter>,
    ) -> Result<u64, Error> {
        let (number, turn, wish, looks) = {
            let mut state = lock(&self.state);
            let may_refuse =
                self.is_by_name || state.over.is_some() || state.down.is_some() || state.draining;
            if may_refuse && let Some(error) = self.refuses(&state, target, op) {
                return Err(error);
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
                self.lead.will_look_for(*number, state.courtesy.is_due());
            } else {
                state.courtesy.renew();
                if waits && alone {
                    state.outcomes.has_read(self.address());
                } else {
                    state.outcomes.has_read_much();
                }
            }
            let (turn, mut wish) = self.follow_up(&mut state, alone);
            // A thread that leads, and has not settled down to wait, looks for itself.
            wish.times = !self.lead.looks_by_itself(&self.role)
                && options.deadline.is_some_and(|deadline| deadline < state.armed);
            (number, turn, wish, looks)
        };
        self.take_turn(turn, looks);
        self.signal.wish(wish);
        number
    }

    /// Why a call is not made, if it is one of those.
    #[cold]
    fn refuses(&self, state: &State<P>, target: Target, op: &Op) -> Option<Error> {
        if self.is_by_name && matches!(op, Op::Method { .. }) {
            return Some(Error::new(
                ErrorKind::Unsupported,
                "the object is of a peer that knows no methods by number: it has to be handed on as a trait",
            ));
        }
        if let Some(error) = &state.over {
            return Some(not_sent(error));
        }
        let is_down = state.down.is_some() && !self.config.wait_while_down;
        if !(is_down || state.draining) || !is_new_work(target) {
            return None;
        }
        let text = if is_down {
            "the connection is without a carrier for now"
        } else {
            "the connection is shutting down: no further calls are made"
        };
        let kind = ErrorKind::Disconnected(farref_boxing::Certainty::NotSent);
        Some(Error::new(kind, text))
    }

    /// What follows from a command: whose turn it is to write, and what the driver is woken for. Commands make events too,
    /// and these are the driver's to handle. If it is this thread, it looks for both by itself after the batch that it is
    /// handling.
    #[inline]
    fn follow_up(&self, state: &mut State<P>, alone: bool) -> (Turn<Box<Writer>>, Wishes) {
        if self.is_driven_here() {
            return (Turn::Nothing, Wishes::NONE);
        }
        let turn = self.turn(state, alone);
        let wish = Wishes {
            events: state.has_events(),
            releases: state.protocol.has_unhurried() && self.releases.asks(&self.role),
            ..Wishes::NONE
        };
        (turn, wish)
    }

    /// Changes the protocol's state and sees to it that what follows is written.
    pub(crate) fn update<R>(&self, change: impl FnOnce(&mut P) -> R) -> R {
        let (result, turn, wish, drained, ended) = {
            let mut state = lock(&self.state);
            let result = change(&mut state.protocol);
            let alone = state.is_quiet();
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
                let (_, wish) = self.write(writer);
                self.signal.wish(wish);
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

    /// Writes until there is nothing left, or the carrier takes no more, or that has gone on for long: then the driver goes
    /// on, and who called has its turn. Never waits. How many bytes there were, and what the driver is to be asked for.
    fn write(&self, mut writer: Box<Writer>) -> (usize, Wishes) {
        let mut bytes = 0_usize;
        loop {
            bytes = bytes.saturating_add(writer.batch.len());
            let written = if writer.batch.is_empty() {
                Ok(Written::All)
            } else {
                writer.outlet.write(&mut writer.batch)
            };
            let mut state = lock(&self.state);
            if state.ended || !writer.is_of(&state) {
                // Nobody writes there any more: the carrier ends with its last half.
                drop(state);
                drop(writer);
                return (bytes, Wishes::NONE);
            }
            let wish = match written {
                Ok(Written::All) if self.is_long(bytes, &state) && state.protocol.wants_write() => {
                    state.baton.give_back_for_more(writer);
                    Wishes::FLUSH
                }
                Ok(Written::All) if state.protocol.wants_write() && state.fill(&mut writer) => continue,
                Ok(Written::All) if !writer.outlet.is_buffering() => {
                    state.baton.give_back(writer);
                    Wishes::NONE
                }
                Ok(_) => {
                    state.baton.give_back_blocked(writer);
                    Wishes::BLOCKED
                }
                Err(error) => {
                    // What the peer had still to say is read first: the driver ends the connection after that.
                    state.write_error = Some(error);
                    drop(state);
                    drop(writer);
                    Wishes::LOOK
                }
            };
            return (bytes, wish);
        }
    }

    /// The same, for whoever has the role: what the driver is to be asked for it does itself. How many bytes there were.
    pub(super) fn write_here(&self, writer: Box<Writer>) -> usize {
        let (bytes, wish) = self.write(writer);
        self.signal.note(wish);
        bytes
    }

    /// Whether whoever has written so many bytes leaves more to the driver. While there is one call, which is what is written,
    /// a thread that leads may be waiting in a plain read.
    fn is_long(&self, bytes: usize, state: &State<P>) -> bool {
        bytes >= BYTES_IN_A_ROW && !(self.role.is_led() && state.is_quiet())
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
        if self.keep_open || self.anchors.load(Ordering::Acquire) > 0 {
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

/// After that many bytes, read or written in a row, others have their turn.
pub(super) const BYTES_IN_A_ROW: usize = 4 * 1024 * 1024;

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

/// How the connection ends when nobody needs it any more, or its user closes it.
pub(crate) fn closed_here() -> (CloseReason, Error) {
    let error = Error::new(
        ErrorKind::Disconnected(farref_boxing::Certainty::NotSent),
        "the connection was closed on this side",
    );
    (CloseReason::done(), error)
}
