//! What is under the lock of a connection: the protocol, and what the engine has to know of it.

use std::sync::Arc;
use std::task::Waker;

use farref_boxing::Error;
use farref_framing::{Batch, Gauge, Guard, Nanos, Outlet};

use crate::baton::Baton;
use crate::clock;
use crate::engine::down::{Down, Gain};
use crate::engine::pace::{Courtesy, Pace};
use crate::peer::Peer;
use crate::protocol::{Event, Protocol, Received, Timing};
use crate::releases::Release;
use crate::remote::EngineHandles;
use crate::waiter::Waiter;

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
    pub(super) has_handle: bool,
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
    pub(super) notices: Vec<Notice>,
    /// When the driver wakes up by itself, or a thread that leads; at [`NEVER`](clock::NEVER) not at all.
    pub(crate) armed: Nanos,
    /// How soon the outcomes came lately of calls that tasks have made one at a time.
    pub(super) outcomes: Pace,
    /// Whether the tasks that have made them, and look for the outcomes, give way to others.
    pub(super) courtesy: Courtesy,
    /// The event that is the next, if somebody has looked at it and left it to the driver.
    pub(super) next_event: Option<Box<Event<EngineHandles>>>,
    /// Where releases are moved to, so that their list is never locked while one is handled.
    pub(super) spare: Vec<Release>,
    /// Somebody waits for the last answer.
    pub(super) watched: bool,
    /// It is noted since when what is held, and the protocol is to be told the time of each call.
    pub(super) is_tracked: bool,
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

    /// The time, as exactly as the protocol needs it.
    pub(super) fn now(&self) -> Nanos {
        match self.protocol.timing() {
            Timing::Untimed => 0,
            Timing::Rough => clock::soon(),
            Timing::Exact => clock::now(),
        }
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
    pub(super) fn drain(&mut self) {
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
