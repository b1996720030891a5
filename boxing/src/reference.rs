//! References on their way through serde: collected while a value is encoded, given out while one is decoded.
//!
//! serde hands no context down, so the table of the message at hand lives in a thread-local. A message inside a
//! message (a value that encodes another one while it is encoded) has a table of its own: tables form a stack, and
//! a guard takes each one off, also when user code panics. Encoding and decoding never wait, so no table is on the
//! stack while a task sleeps.

use std::any::Any;
use std::cell::RefCell;
use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

use ::bytes::Bytes;

use crate::encoder::SHARE_FROM;

/// A reference, as boxing sees it: something to keep alive and to hand on.
pub type Reference = Arc<dyn Any + Send + Sync>;

/// Puts `reference` into the table of the message that is being encoded on this thread, and returns its slot.
///
/// For `Serialize` implementations of reference types, which write the slot as an integer (PROTOCOL.md § 9.7).
/// Each call takes a slot of its own, also for a reference that has one: whoever receives the message counts them.
/// `None` if no message is being encoded.
pub fn lend(reference: Reference) -> Option<u32> {
    let mut reference = Some(reference);
    with_top(|scope| match scope {
        Scope::Boxing { references, .. } => {
            let slot = u32::try_from(references.len()).ok()?;
            references.extend(reference.take());
            Some(slot)
        }
        Scope::Unboxing { .. } => None,
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
    },
}

thread_local! {
    static SCOPES: RefCell<Vec<Scope>> = const { RefCell::new(Vec::new()) };
}

/// Runs `run` on the innermost message at hand, if there is one.
///
/// `run` calls no user code and drops nothing of the user's: the stack is borrowed meanwhile.
fn with_top<R>(run: impl FnOnce(&mut Scope) -> Option<R>) -> Option<R> {
    // Where the thread is about to end and the stack is gone already, no message is at hand.
    SCOPES
        .try_with(|scopes| scopes.borrow_mut().last_mut().and_then(run))
        .ok()
        .flatten()
}

fn push(scope: Scope) -> bool {
    SCOPES.try_with(|scopes| scopes.borrow_mut().push(scope)).is_ok()
}

fn pop() -> Option<Scope> {
    SCOPES.try_with(|scopes| scopes.borrow_mut().pop()).ok().flatten()
}

/// A message on the stack, taken off when this is dropped.
///
/// # Invariant
///
/// Guards are dropped in reverse order, on the thread that made them: each is a local variable of one function that
/// does not wait.
pub(crate) struct Guard {
    pushed: bool,
    not_send: PhantomData<*const ()>,
}

impl Guard {
    fn new(scope: Scope) -> Self {
        Self {
            pushed: push(scope),
            not_send: PhantomData,
        }
    }

    /// Takes the message off the stack, and returns its references.
    pub(crate) fn finish(mut self) -> Vec<Reference> {
        match self.take_off() {
            Some(Scope::Boxing { references, .. } | Scope::Unboxing { references, .. }) => references,
            None => Vec::new(),
        }
    }

    fn take_off(&mut self) -> Option<Scope> {
        if std::mem::take(&mut self.pushed) {
            pop()
        } else {
            None
        }
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        // Outside of the borrow: dropping a reference may run the user's code, which may encode something.
        drop(self.take_off());
    }
}

/// Begins a message that is encoded, with an empty table in `room`.
pub(crate) fn boxing(room: Vec<Reference>) -> Guard {
    Guard::new(Scope::Boxing {
        references: room,
        offer: None,
    })
}

/// Begins a message that is decoded.
pub(crate) fn unboxing(references: &[Reference], body: &Bytes) -> Guard {
    let body = (body.len() >= SHARE_FROM).then(|| body.clone());
    Guard::new(Scope::Unboxing {
        references: references.to_vec(),
        body,
    })
}

/// Says that the bytes written next may be these, and may then be shared.
pub(crate) fn offer(bytes: &Bytes) {
    let mut bytes = Some(bytes.clone());
    let before = with_top(|scope| match scope {
        Scope::Boxing { offer, .. } => std::mem::replace(offer, bytes.take()),
        Scope::Unboxing { .. } => None,
    });
    drop((bytes, before));
}

/// The bytes that were offered, if `written` is that very piece of memory.
pub(crate) fn claim(written: &[u8]) -> Option<Bytes> {
    with_top(|scope| match scope {
        Scope::Boxing { offer, .. } => offer.take_if(|offer| std::ptr::eq::<[u8]>(offer.as_ref(), written)),
        Scope::Unboxing { .. } => None,
    })
}

/// `piece` as a shared part of the body that is being decoded, if it is one and is long.
pub(crate) fn share(piece: &[u8]) -> Option<Bytes> {
    if piece.len() < SHARE_FROM {
        return None;
    }
    with_top(|scope| {
        let Scope::Unboxing { body: Some(body), .. } = scope else {
            return None;
        };
        let start = piece.as_ptr().addr().checked_sub(body.as_ptr().addr())?;
        let end = start.checked_add(piece.len())?;
        (end <= body.len()).then(|| body.slice(start..end))
    })
}
