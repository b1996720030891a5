//! Values to bytes: a reused buffer, and the references met on the way.

use std::fmt;
use std::vec::Drain;

use ::bytes::Bytes;
use serde::Serialize;

use crate::CodecError;
use crate::reference::{self, Reference};
use crate::sink::Sink;

/// From this length on, [`Bytes`] that go through an adapter are shared rather than copied: 4 KiB.
///
/// Below it, copying is cheaper than counting who holds them.
pub const SHARE_FROM: usize = 4096;

/// How much memory an encoder keeps between messages, in bytes. A contiguous body beyond it is handed over, and begins, if it can,
/// in the memory of the last one.
pub(crate) const KEEP: usize = 64 << 10;

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
/// Once `encode` has returned, either there are no parts in the sink, or nothing else is.
pub struct Encoder {
    sink: Sink,
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
            sink: Sink::new(true),
            references: Vec::new(),
        }
    }

    /// An encoder that holds a value already, as it was encoded elsewhere, without its references.
    #[must_use]
    pub fn of(body: Bytes) -> Self {
        let mut encoder = Self::new();
        encoder.sink.parts.push(body);
        encoder
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
        let result = value.serialize(&mut self.sink);
        self.references = scope.finish();
        match result {
            Ok(()) if self.sink.parts.is_empty() && self.sink.scratch.len() <= KEEP => Ok(()),
            Ok(()) => {
                self.sink.close();
                Ok(())
            }
            Err(error) => Err(self.refused(*error)),
        }
    }

    #[cold]
    fn refused(&mut self, error: CodecError) -> CodecError {
        self.clear();
        error
    }

    #[inline]
    fn is_clear(&self) -> bool {
        self.sink.scratch.is_empty() && self.sink.parts.is_empty() && self.references.is_empty()
    }

    /// The bytes of the value.
    #[must_use]
    pub fn body(&self) -> EncodedBody<'_> {
        if self.sink.parts.is_empty() {
            EncodedBody::Slice(&self.sink.scratch)
        } else {
            EncodedBody::Rope(&self.sink.parts)
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
        self.sink.scratch.clear();
        let has_more = !self.sink.parts.is_empty() || self.references.capacity() != 0;
        if has_more || self.sink.scratch.capacity() > KEEP {
            self.clear_more();
        }
    }

    /// What few values have.
    #[cold]
    fn clear_more(&mut self) {
        self.sink.parts.clear();
        self.sink.scratch.shrink_to(KEEP);
        self.references.clear();
        self.references.shrink_to(KEEP_REFERENCES);
    }
}

impl Default for Encoder {
    fn default() -> Self {
        Self::new()
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde::Serializer;

    use super::*;

    /// Lends many references and writes much, and refuses then.
    struct Refuses;

    impl Serialize for Refuses {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            for _ in 0..=KEEP_REFERENCES {
                reference::lend(Arc::new(())).unwrap();
            }
            serializer.serialize_bytes(&vec![0; KEEP])?;
            Err(serde::ser::Error::custom("no"))
        }
    }

    #[test]
    fn of_a_long_value_that_refused_no_more_memory_is_kept_than_of_others() {
        let mut encoder = Encoder::new();
        encoder.encode(&Refuses).unwrap_err();
        assert!((1..=KEEP).contains(&encoder.sink.scratch.capacity()));
        assert!((1..=KEEP_REFERENCES).contains(&encoder.references.capacity()));
    }
}
