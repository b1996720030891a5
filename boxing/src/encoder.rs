//! Values to bytes: a reused buffer, and the references met on the way.

use std::fmt;
use std::io;
use std::vec::Drain;

use ::bytes::Bytes;
use serde::Serialize;

use crate::reference::{self, Reference};
use crate::{CodecError, wire};

/// From this length on, [`Bytes`] that go through an adapter are shared rather than copied: 4 KiB.
///
/// Below it, copying is cheaper than counting who holds them.
pub const SHARE_FROM: usize = 4096;

/// How much memory an encoder keeps between messages, in bytes. A contiguous body beyond it is handed over.
const KEEP: usize = 64 << 10;

/// How many references an encoder keeps room for between messages.
const KEEP_REFERENCES: usize = 256;

/// Encodes one value after the other, in memory that it keeps.
///
/// ```
/// use farref_boxing::{EncodedBody, Encoder};
///
/// let mut encoder = Encoder::new();
/// encoder.encode(&(3_u16, "hello"))?;
/// assert!(matches!(encoder.body(), EncodedBody::Slice(b"\x03\x05hello")));
/// # Ok::<(), farref_boxing::CodecError>(())
/// ```
///
/// # Invariant
///
/// The body is `parts` and then `scratch`; once `encode` has returned, one of the two is empty.
#[derive(Default)]
pub struct Encoder {
    scratch: Vec<u8>,
    parts: Vec<Bytes>,
    references: Vec<Reference>,
}

/// An encoded value, as its [`Encoder`] lends it.
#[derive(Debug, Clone, Copy)]
#[expect(
    clippy::exhaustive_enums,
    reason = "one contiguous piece or several, there is no third"
)]
pub enum EncodedBody<'a> {
    /// In one piece.
    Slice(&'a [u8]),
    /// In several pieces, or in one large one: cheap to clone, and best not copied.
    Rope(&'a [Bytes]),
}

impl Encoder {
    /// An encoder that holds no memory yet.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            scratch: Vec::new(),
            parts: Vec::new(),
            references: Vec::new(),
        }
    }

    /// An encoder that holds a value already, as it was encoded elsewhere, without its references.
    #[must_use]
    pub fn of(body: Bytes) -> Self {
        Self {
            scratch: Vec::new(),
            parts: vec![body],
            references: Vec::new(),
        }
    }

    /// Encodes `value`, in place of what was encoded before.
    ///
    /// While this runs, [`lend`](crate::lend) on this thread puts references into this encoder's table.
    ///
    /// # Errors
    ///
    /// The value refuses, or has a sequence of unknown length. Nothing of it is kept, neither bytes nor references.
    pub fn encode<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), CodecError> {
        if !self.is_clear() {
            self.clear();
        }
        let scope = reference::boxing(std::mem::take(&mut self.references));
        let sink = Sink {
            scratch: &mut self.scratch,
            parts: &mut self.parts,
        };
        let result = wire::write(value, sink);
        self.references = scope.finish();
        match result {
            Ok(()) if self.parts.is_empty() && self.scratch.len() <= KEEP => {}
            Ok(()) => sink_rest(&mut self.scratch, &mut self.parts),
            Err(_) => self.clear(),
        }
        result
    }

    #[inline]
    fn is_clear(&self) -> bool {
        self.scratch.is_empty() && self.parts.is_empty() && self.references.is_empty()
    }

    /// The bytes of the value.
    #[must_use]
    pub fn body(&self) -> EncodedBody<'_> {
        if self.parts.is_empty() {
            EncodedBody::Slice(&self.scratch)
        } else {
            EncodedBody::Rope(&self.parts)
        }
    }

    /// The references in the value, to be taken: the one in slot 0 first.
    pub fn references(&mut self) -> &mut Vec<Reference> {
        &mut self.references
    }

    /// Takes the references in the value out: the one in slot 0 first.
    pub fn take_references(&mut self) -> Drain<'_, Reference> {
        self.references.drain(..)
    }

    /// Drops the value and its references, and keeps up to 64 KiB of memory.
    #[inline]
    pub fn clear(&mut self) {
        self.scratch.clear();
        if !self.parts.is_empty() {
            self.parts.clear();
        }
        if !self.references.is_empty() {
            self.references.clear();
        }
        if self.scratch.capacity() > KEEP {
            self.scratch.shrink_to(KEEP);
        }
        if self.references.capacity() > KEEP_REFERENCES {
            self.references.shrink_to(KEEP_REFERENCES);
        }
    }
}

impl fmt::Debug for Encoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Encoder")
            .field("len", &self.body().len())
            .field("references", &self.references.len())
            .finish_non_exhaustive()
    }
}

impl EncodedBody<'_> {
    /// The length in bytes.
    #[must_use]
    pub fn len(&self) -> usize {
        match self {
            Self::Slice(bytes) => bytes.len(),
            Self::Rope(parts) => parts.iter().map(Bytes::len).fold(0, usize::saturating_add),
        }
    }

    /// Whether there are no bytes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The bytes in one piece of their own: copied unless they are one large piece already.
    #[must_use]
    pub fn to_bytes(&self) -> Bytes {
        match self {
            Self::Slice(bytes) => Bytes::copy_from_slice(bytes),
            Self::Rope([only]) => only.clone(),
            Self::Rope(parts) => parts.concat().into(),
        }
    }
}

/// Where bincode writes to.
struct Sink<'a> {
    scratch: &'a mut Vec<u8>,
    parts: &'a mut Vec<Bytes>,
}

impl io::Write for Sink<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.write_all(bytes).map(|()| bytes.len())
    }

    #[inline]
    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        if bytes.len() < SHARE_FROM {
            self.scratch.extend_from_slice(bytes);
        } else {
            self.write_long(bytes);
        }
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Sink<'_> {
    #[cold]
    fn write_long(&mut self, bytes: &[u8]) {
        if let Some(shared) = reference::claim(bytes) {
            sink_rest(self.scratch, self.parts);
            self.parts.push(shared);
        } else {
            self.scratch.extend_from_slice(bytes);
        }
    }
}

/// Moves what was written to `scratch` to the end of `parts`.
fn sink_rest(scratch: &mut Vec<u8>, parts: &mut Vec<Bytes>) {
    if scratch.len() >= SHARE_FROM {
        parts.push(std::mem::take(scratch).into());
    } else if !scratch.is_empty() {
        parts.push(Bytes::copy_from_slice(scratch));
        scratch.clear();
    }
}
