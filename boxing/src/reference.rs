//! References on their way through serde: collected while a value is encoded, given out while one is decoded.
//!
//! serde hands no context down, so the table of the message at hand lives in a thread-local. A message inside a
//! message (a value that encodes another one while it is encoded) has a table of its own: tables form a stack, and
//! a guard takes each one off, also when user code panics. Encoding and decoding never wait, so no table is on the
//! stack while a task sleeps.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

use ::bytes::Bytes;

use crate::encoder::SHARE_FROM;

/// A reference, as boxing sees it: something to keep alive and to hand on.
pub type Reference = Arc<dyn Any + Send + Sync>;

/// Puts `reference` into the table of the message that is being encoded on this thread, and returns its slot.
///
/// For `Serialize` implementations of reference types, which write the slot as a `u32` (PROTOCOL.md § 9.7), and right
/// away: by that number [`to_value`](crate::to_value) knows the reference. Each call takes a slot of its own, also for a
/// reference that has one: whoever receives the message counts them.
/// `None` if no message is being encoded, and no [`Value`](crate::Value) is being made.
pub fn lend(reference: Reference) -> Option<u32> {
    let mut reference = Some(reference);
    with_top(|scope| match scope {
        Scope::Boxing { references, .. } => {
            let slot = u32::try_from(references.len()).ok()?;
            references.extend(reference.take());
            Some(slot)
        }
        Scope::Unboxing { .. } | Scope::Reading { .. } | Scope::Tracing { .. } => None,
    })
}

/// The reference in slot `index` of the message that is being decoded on this thread.
///
/// For `Deserialize` implementations of reference types. A slot may be asked for more than once.
///
/// # Errors
///
/// No message is being decoded, or the message has no such slot.
pub fn slot(index: u32) -> Result<Reference, SlotError> {
    let found = with_top(|scope| match scope {
        Scope::Unboxing { references, .. } => {
            let reference = usize::try_from(index)
                .ok()
                .and_then(|index| references.get(index));
            Some(reference.cloned().ok_or(SlotError::NoSuchSlot {
                index,
                slots: references.len(),
            }))
        }
        Scope::Reading { held, .. } => {
            let slots = held.len();
            let found = usize::try_from(index).ok().and_then(|index| held.get_mut(index));
            Some(found.map_or(Err(SlotError::NoSuchSlot { index, slots }), |held| {
                held.wanted = false;
                Ok(Arc::clone(&held.reference))
            }))
        }
        Scope::Tracing { stand_in, asked } => {
            *asked = true;
            stand_in.clone().map(Ok)
        }
        Scope::Boxing { .. } => None,
    });
    found.unwrap_or(Err(SlotError::Outside))
}

/// Why there is no reference.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum SlotError {
    /// No message is being decoded on this thread: a reference was read from bytes that are no message, or after
    /// the message.
    Outside,
    /// The message has fewer references.
    NoSuchSlot {
        /// The slot asked for.
        index: u32,
        /// How many there are.
        slots: usize,
    },
}

impl fmt::Display for SlotError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Outside => f.write_str("references can be decoded only as a part of a call or its result"),
            Self::NoSuchSlot { index, slots } => {
                write!(
                    f,
                    "the value names the reference {index}, and its message has {slots}"
                )
            }
        }
    }
}

impl std::error::Error for SlotError {}

/// A message at hand.
enum Scope {
    Boxing {
        references: Vec<Reference>,
        /// Bytes that are about to be written, and may be shared.
        offer: Option<Bytes>,
    },
    Unboxing {
        references: Vec<Reference>,
        /// The body, if it is long enough for a piece of it to be shared.
        body: Option<Bytes>,
        /// How deeply a value in it may be nested.
        depth: u32,
    },
    /// No message, but a [`Value`](crate::Value) that is read as another type.
    Reading {
        held: Vec<Held>,
        /// The bytes that are read, if they are long enough to be shared.
        bytes: Option<Bytes>,
    },
    /// No message, but a type that is asked for its shape.
    Tracing {
        /// What every reference in a made-up value is.
        stand_in: Option<Reference>,
        /// Whether it was taken since somebody looked.
        asked: bool,
    },
}

/// A reference that was given out as a number.
struct Held {
    reference: Reference,
    /// Whether it was taken for a number if nobody asks for it.
    wanted: bool,
}

thread_local! {
    static SCOPES: RefCell<Vec<Scope>> = const { RefCell::new(Vec::new()) };
    /// The innermost message, if it is not on the stack yet.
    static UNMADE: Cell<Option<Unmade>> = const { Cell::new(None) };
}

/// A message that likely has no references, nor bytes to be shared: it gets a table when one is asked for. Small values
/// come by the million, and each is a message.
///
/// # Invariant
///
/// Whoever looks at the stack, or puts something on it, calls [`make`] before.
#[derive(Clone, Copy)]
enum Unmade {
    Boxing,
    Unboxing { depth: u32 },
    Reading,
}

/// Puts the table of the innermost message on the stack, if that has none yet.
#[inline]
fn make() {
    if let Some(unmade) = UNMADE.take() {
        make_of(unmade);
    }
}

#[cold]
fn make_of(unmade: Unmade) {
    let references = Vec::new();
    push_made(match unmade {
        Unmade::Boxing => Scope::Boxing {
            references,
            offer: None,
        },
        Unmade::Unboxing { depth } => Scope::Unboxing {
            references,
            body: None,
            depth,
        },
        Unmade::Reading => Scope::Reading {
            held: Vec::new(),
            bytes: None,
        },
    });
}

/// Runs `run` on the innermost message at hand, if there is one.
///
/// `run` calls no user code and drops nothing of the user's: the stack is borrowed meanwhile.
fn with_top<R>(run: impl FnOnce(&mut Scope) -> Option<R>) -> Option<R> {
    make();
    // Where the thread is about to end and the stack is gone already, no message is at hand.
    SCOPES
        .try_with(|scopes| scopes.borrow_mut().last_mut().and_then(run))
        .ok()
        .flatten()
}

fn push(scope: Scope) -> bool {
    make();
    push_made(scope)
}

#[cold]
fn push_made(scope: Scope) -> bool {
    SCOPES.try_with(|scopes| scopes.borrow_mut().push(scope)).is_ok()
}

fn pop() -> Option<Scope> {
    SCOPES.try_with(|scopes| scopes.borrow_mut().pop()).ok().flatten()
}

/// A message at hand, until this is dropped.
///
/// # Invariant
///
/// Guards are dropped in reverse order, on the thread that made them: each is a local variable of one function that
/// does not wait.
pub(crate) struct Guard {
    begun: Begun,
    not_send: PhantomData<*const ()>,
}

/// What became of a message that was begun.
#[derive(Clone, Copy)]
enum Begun {
    /// It is on the stack.
    Pushed,
    /// It is [`Unmade`], or on the stack by now.
    Bare,
    /// It is over, or never was.
    Over,
}

impl Guard {
    fn new(scope: Scope) -> Self {
        let begun = if push(scope) { Begun::Pushed } else { Begun::Over };
        Self {
            begun,
            not_send: PhantomData,
        }
    }

    #[inline]
    fn bare(unmade: Unmade) -> Self {
        make();
        UNMADE.set(Some(unmade));
        Self {
            begun: Begun::Bare,
            not_send: PhantomData,
        }
    }

    /// Takes the message off the stack, and returns its references.
    #[inline]
    pub(crate) fn finish(mut self) -> Vec<Reference> {
        match self.take_off() {
            Some(Scope::Boxing { references, .. } | Scope::Unboxing { references, .. }) => references,
            Some(Scope::Reading { .. } | Scope::Tracing { .. }) | None => Vec::new(),
        }
    }

    /// Takes the reading off the stack, and returns whether each reference was taken for one.
    pub(crate) fn finish_reading(mut self) -> bool {
        match self.take_off() {
            Some(Scope::Reading { held, .. }) => held.iter().all(|held| !held.wanted),
            _ => true,
        }
    }

    #[inline]
    fn take_off(&mut self) -> Option<Scope> {
        match std::mem::replace(&mut self.begun, Begun::Over) {
            Begun::Bare if UNMADE.take().is_some() => None,
            Begun::Bare | Begun::Pushed => pop(),
            Begun::Over => None,
        }
    }
}

impl Drop for Guard {
    #[inline]
    fn drop(&mut self) {
        // Outside of the borrow: dropping a reference may run the user's code, which may encode something.
        drop(self.take_off());
    }
}

/// Begins a message that is encoded, with an empty table in `room`.
#[inline]
pub(crate) fn boxing(room: Vec<Reference>) -> Guard {
    if room.capacity() == 0 {
        return Guard::bare(Unmade::Boxing);
    }
    Guard::new(Scope::Boxing {
        references: room,
        offer: None,
    })
}

/// Begins a message that is decoded.
#[inline]
pub(crate) fn unboxing(references: &[Reference], body: &Bytes, depth: u32) -> Guard {
    let is_long = body.len() >= SHARE_FROM;
    if references.is_empty() && !is_long {
        return Guard::bare(Unmade::Unboxing { depth });
    }
    Guard::new(Scope::Unboxing {
        references: references.to_vec(),
        body: is_long.then(|| body.clone()),
        depth,
    })
}

/// Begins to read a value as another type.
pub(crate) fn reading() -> Guard {
    Guard::bare(Unmade::Reading)
}

/// Begins to ask a type for its shape. Messages that are at hand are not seen meanwhile.
pub(crate) fn tracing(stand_in: Option<&Reference>) -> Guard {
    Guard::new(Scope::Tracing {
        stand_in: stand_in.cloned(),
        asked: false,
    })
}

/// Whether a reference was asked for since this was called last.
pub(crate) fn was_traced() -> bool {
    with_top(|scope| match scope {
        Scope::Tracing { asked, .. } => Some(std::mem::take(asked)),
        Scope::Boxing { .. } | Scope::Unboxing { .. } | Scope::Reading { .. } => None,
    })
    .unwrap_or(false)
}

/// How deeply a value in the message that is being decoded may be nested.
pub(crate) fn depth() -> Option<u32> {
    with_top(|scope| match scope {
        Scope::Unboxing { depth, .. } => Some(*depth),
        Scope::Boxing { .. } | Scope::Reading { .. } | Scope::Tracing { .. } => None,
    })
}

/// Makes `reference` one of the value that is being read, and returns its number. If it is `wanted`, it is an error
/// that nobody asks for it.
pub(crate) fn hold(reference: &Reference, wanted: bool) -> Option<u32> {
    with_top(|scope| match scope {
        Scope::Reading { held, .. } => {
            let index = u32::try_from(held.len()).ok()?;
            held.push(Held {
                reference: Arc::clone(reference),
                wanted,
            });
            Some(index)
        }
        Scope::Boxing { .. } | Scope::Unboxing { .. } | Scope::Tracing { .. } => None,
    })
}

/// The bytes that are read next, of which pieces may be shared.
pub(crate) fn hold_bytes(shared: &Bytes) {
    let mut shared = Some(shared.clone());
    let before = with_top(|scope| match scope {
        Scope::Reading { bytes, .. } => std::mem::replace(bytes, shared.take()),
        Scope::Boxing { .. } | Scope::Unboxing { .. } | Scope::Tracing { .. } => None,
    });
    drop((shared, before));
}

/// The reference in `slot` of the table that is being filled, if that is `from` or later.
pub(crate) fn lent(from: u32, slot: u32) -> Option<Reference> {
    with_top(|scope| match scope {
        Scope::Boxing { references, .. } if slot >= from => {
            references.get(usize::try_from(slot).ok()?).map(Arc::clone)
        }
        _ => None,
    })
}

/// Says that the bytes written next may be these, and may then be shared.
pub(crate) fn offer(bytes: &Bytes) {
    let mut bytes = Some(bytes.clone());
    let before = with_top(|scope| match scope {
        Scope::Boxing { offer, .. } => std::mem::replace(offer, bytes.take()),
        Scope::Unboxing { .. } | Scope::Reading { .. } | Scope::Tracing { .. } => None,
    });
    drop((bytes, before));
}

/// The bytes that were offered, if `written` is that very piece of memory.
pub(crate) fn claim(written: &[u8]) -> Option<Bytes> {
    with_top(|scope| match scope {
        Scope::Boxing { offer, .. } => offer.take_if(|offer| std::ptr::eq::<[u8]>(offer.as_ref(), written)),
        Scope::Unboxing { .. } | Scope::Reading { .. } | Scope::Tracing { .. } => None,
    })
}

/// `piece` as a shared part of the body that is being decoded, if it is one and is long.
pub(crate) fn share(piece: &[u8]) -> Option<Bytes> {
    if piece.len() < SHARE_FROM {
        return None;
    }
    with_top(|scope| {
        let (Scope::Unboxing { body: Some(body), .. }
        | Scope::Reading {
            bytes: Some(body), ..
        }) = scope
        else {
            return None;
        };
        let start = piece.as_ptr().addr().checked_sub(body.as_ptr().addr())?;
        let end = start.checked_add(piece.len())?;
        (end <= body.len()).then(|| body.slice(start..end))
    })
}
