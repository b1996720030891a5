//! Calls of ours, from their start until nothing is left to be said about them (PROTOCOL.md § 7.1).

use farref_framing::{LaneId, Nanos};
use smallvec::SmallVec;

use super::credit::Credit;
use super::waiting::{Waiting, WaitingList};
use super::window::{Slab, Window};
use crate::message::Verdict;
use crate::protocol::{CallOptions, CancelReason, Handles, Outcome, Received, Refs, ResultShapes};

/// Our calls, under the numbers that the engine knows them by, and by their numbers on the wire.
///
/// The two differ because a call that waits for the peer's limits has none on the wire yet.
pub(super) struct Questions<H: Handles> {
    pub(super) table: Slab<Question<H>>,
    /// Those that were sent and have not returned.
    pub(super) sent: Window<u64>,
    /// What is under way, by the peer's limits.
    pub(super) credit: Credit,
    pub(super) waiting: WaitingList,
    /// How many answers the peer keeps or will keep for us until we say that we are finished with them.
    pub(super) kept: u64,
}

/// One call of ours.
///
/// # Invariant
///
/// `number` is 0 until the call is sent. `children` are the calls made on its result that have not returned;
/// `unsent` of them wait for the peer's limits. Nothing is called on the result once the outcome was taken or the
/// handle is gone; what was started before is still sent, so the entry stays until `unsent` is 0.
pub(super) struct Question<H: Handles> {
    pub(super) number: u64,
    pub(super) progress: Progress<H>,
    pub(super) outcome: Slot<H>,
    /// Everything that came before the outcome was handed on (PROTOCOL.md § 7.2): it may be taken.
    pub(super) visible: bool,
    pub(super) flushing: bool,
    pub(super) cancel_sent: bool,
    /// The peer keeps nothing after its return.
    pub(super) no_pipeline: bool,
    pub(super) reason: CancelReason,
    pub(super) depth: u16,
    pub(super) children: u32,
    pub(super) unsent: u32,
    /// Slots of the result that were called on since the last flush.
    pub(super) piped: Slots,
    pub(super) bytes: u64,
    /// What the result is going to be read as.
    pub(super) results: ResultShapes,
    /// The call on whose result this one is made.
    pub(super) parent: Option<u64>,
    pub(super) deadline: Option<Nanos>,
    pub(super) waiter: Option<H::Waiter>,
    /// Exports that the call lends.
    pub(super) pins: SmallVec<[u64; 1]>,
    /// Where the message ends on the wire; `None` while it is not there.
    pub(super) position: Option<u64>,
    /// Where the arguments go out, if by themselves.
    pub(super) lane: Option<LaneId>,
}

/// How far a call has come on the wire.
pub(super) enum Progress<H: Handles> {
    /// The peer's limits do not admit it yet.
    Waiting(Box<Waiting<H>>),
    /// On its way, or running over there.
    Sent,
    /// Returned, or given up before it was sent.
    Returned,
}

/// The outcome of a call.
pub(super) enum Slot<H: Handles> {
    Empty,
    /// All but the body is here.
    Incoming(Box<Parts<H>>),
    /// It is here, but written with a type that is not known yet.
    Unread(Box<Outcome<H>>),
    Full(Outcome<H>),
    /// Taken, or not wanted any more.
    Taken,
}

/// A result without its body.
pub(super) struct Parts<H: Handles> {
    pub(super) lane: LaneId,
    pub(super) verdict: Verdict,
    pub(super) shape: u32,
    pub(super) refs: Refs<Received<H>>,
}

impl<H: Handles> Questions<H> {
    pub(super) fn new() -> Self {
        Self {
            table: Slab::default(),
            sent: Window::starting_at(1),
            credit: Credit::default(),
            waiting: WaitingList::default(),
            kept: 0,
        }
    }

    /// Gives memory back.
    pub(super) fn rest(&mut self) {
        self.table.rest();
        self.sent.rest();
        self.credit.rest();
    }
}

impl<H: Handles> Question<H> {
    pub(super) fn new(options: &CallOptions, bytes: u64, parent: Option<u64>) -> Self {
        Self {
            number: 0,
            progress: Progress::Sent,
            outcome: Slot::Empty,
            visible: false,
            flushing: false,
            cancel_sent: false,
            no_pipeline: options.no_pipeline || options.one_way,
            reason: CancelReason::Dropped,
            depth: depth(options),
            children: 0,
            unsent: 0,
            piped: Slots::default(),
            bytes,
            results: options.results,
            parent,
            deadline: options.deadline,
            waiter: None,
            pins: SmallVec::new(),
            position: None,
            lane: None,
        }
    }

    /// Whether the outcome can be taken.
    pub(super) fn is_ready(&self) -> bool {
        self.visible && !self.flushing && matches!(self.outcome, Slot::Full(_)) && !self.needs_flush()
    }

    /// Whether something was called on a result that turned out to live here: those calls come back to us through
    /// the peer, and must be here before the result is used directly (PROTOCOL.md § 7.4).
    #[inline]
    pub(super) fn needs_flush(&self) -> bool {
        !self.piped.is_empty() && self.is_piped_home()
    }

    #[inline(never)]
    fn is_piped_home(&self) -> bool {
        match &self.outcome {
            Slot::Full(Outcome::Value {
                refs, failed: false, ..
            }) => refs
                .iter()
                .enumerate()
                .any(|(slot, received)| matches!(received, Received::Home(_)) && self.piped.contains(slot)),
            _ => false,
        }
    }

    pub(super) fn is_wanted(&self) -> bool {
        !matches!(self.outcome, Slot::Taken)
    }

    pub(super) fn is_over(&self) -> bool {
        matches!(self.progress, Progress::Returned)
    }
}

/// How deep a call is nested.
pub(super) fn depth(options: &CallOptions) -> u16 {
    options.chain.map_or(0, |chain| chain.depth)
}

/// A set of slots: exact for the first 63, all others together.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Slots(u64);

impl Slots {
    const REST: usize = 63;

    pub(super) const fn insert(&mut self, slot: u32) {
        let slot = slot as usize;
        self.0 |= 1 << if slot < Self::REST { slot } else { Self::REST };
    }

    pub(super) const fn contains(self, slot: usize) -> bool {
        self.0 & (1 << if slot < Self::REST { slot } else { Self::REST }) != 0
    }

    pub(super) const fn is_empty(self) -> bool {
        self.0 == 0
    }

    pub(super) const fn clear(&mut self) {
        self.0 = 0;
    }
}
