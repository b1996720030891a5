//! Calls of the peer's, from their arrival until the peer has finished with their results (PROTOCOL.md § 7.1).

use std::collections::VecDeque;

use farref_boxing::{Error, ErrorKind};
use farref_framing::{LaneId, Nanos};

use crate::protocol::{CallOptions, Handles, IncomingTarget, Refs, Request};

/// One call of the peer's.
///
/// # Invariant
///
/// Exactly one return is written for it, when its stage becomes [`Stage::Returned`]. `queue` holds calls on its
/// result, in the order in which they came: all of them while it runs; afterwards only those that cannot go on
/// because the first of them is to be passed on and its arguments are not complete.
pub(super) struct Answer<H: Handles> {
    pub(super) stage: Stage<H>,
    pub(super) no_pipeline: bool,
    pub(super) one_way: bool,
    pub(super) detached: bool,
    /// Nothing more will be called on the result.
    pub(super) finished: bool,
    pub(super) depth: u16,
    pub(super) bytes: u64,
    pub(super) deadline: Option<Nanos>,
    pub(super) queue: VecDeque<u64>,
    /// The peer waits to be told that all calls on the result were handed on.
    pub(super) flush: Option<u64>,
    /// It will be, in its turn among the events.
    pub(super) passing: bool,
    /// Where the arguments come in, while they are not complete.
    pub(super) lane: Option<LaneId>,
}

/// How far a call of the peer's has come.
pub(super) enum Stage<H: Handles> {
    /// It waits for the result that it is made on.
    Queued(Box<Queued<H>>),
    /// The engine has it.
    Running,
    /// Answered. The result, by slot, is frozen: calls on it go where they would have gone at the return.
    Returned(Result<Refs<Kept<H>>, Error>),
}

/// A call that waits for its target.
pub(super) struct Queued<H: Handles> {
    /// The call whose result it is made on.
    pub(super) parent: u64,
    pub(super) slot: u32,
    pub(super) request: Box<Request<H>>,
}

/// A reference in a result, kept for calls on it.
#[derive(Debug, Clone)]
pub(super) enum Kept<H: Handles> {
    Null,
    Broken(Error),
    Object {
        object: H::Object,
        export: u64,
        interface: u64,
    },
    Import(H::Proxy),
}

impl<H: Handles> Answer<H> {
    pub(super) fn new(options: &CallOptions, depth: u16, bytes: u64, lane: Option<LaneId>) -> Self {
        Self {
            stage: Stage::Running,
            no_pipeline: options.no_pipeline || options.one_way,
            one_way: options.one_way,
            detached: options.detached,
            finished: false,
            depth,
            bytes,
            deadline: None,
            queue: VecDeque::new(),
            flush: None,
            passing: false,
            lane,
        }
    }

    /// What was to be done, if it waits for its target: it does so no longer.
    #[inline]
    pub(super) fn take_queued(&mut self) -> Option<Box<Queued<H>>> {
        if !matches!(self.stage, Stage::Queued(_)) {
            return None;
        }
        match std::mem::replace(&mut self.stage, Stage::Running) {
            Stage::Queued(queued) => Some(queued),
            Stage::Running | Stage::Returned(_) => None,
        }
    }

    pub(super) fn is_over(&self) -> bool {
        matches!(self.stage, Stage::Returned(_))
    }

    /// The wire has the acknowledgement of the flush.
    pub(super) fn flushed(&mut self) {
        self.flush = None;
        self.passing = false;
    }
}

/// What a call on `slot` of a result is made on.
pub(super) fn resolve<H: Handles>(
    result: &Result<Refs<Kept<H>>, Error>,
    slot: u32,
) -> Result<IncomingTarget<H>, Error> {
    let kept = match result {
        Ok(kept) => kept.get(slot as usize),
        Err(cause) => return Err(because_of(cause)),
    };
    match kept {
        Some(Kept::Object {
            object,
            export,
            interface,
        }) => {
            let object = object.clone();
            Ok(IncomingTarget::Object {
                object,
                export: *export,
                interface: *interface,
            })
        }
        Some(Kept::Import(proxy)) => Ok(IncomingTarget::Import(proxy.clone())),
        Some(Kept::Broken(cause)) => Err(because_of(cause)),
        Some(Kept::Null) | None => Err(Error::new(
            ErrorKind::Broken,
            "the result that the call was made on holds no such reference",
        )),
    }
}

/// The failure of a call on a result that never came. The calls on its result fail with the same, so that the
/// causes of a long line of calls do not pile up.
fn because_of(cause: &Error) -> Error {
    const TEXT: &str = "a call whose result was called failed";
    if cause.kind() == ErrorKind::Broken && cause.message() == TEXT {
        return cause.clone();
    }
    cause.clone().context(TEXT).with_kind(ErrorKind::Broken)
}
