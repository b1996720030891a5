//! RETURN, byte by byte (PROTOCOL.md § 5.3).

use bytes::{BufMut, Bytes};
use farref_framing::varint;

use super::descriptor::{self, Descriptor};
use super::reader::{Reader, put_bytes};
use super::{MessageError, Refs, kind, take};

mod mark {
    /// Which of the three verdicts.
    pub(super) const VERDICT: u8 = 0b11;
    pub(super) const STARTED: u8 = 1 << 2;
    pub(super) const SHAPE: u8 = 1 << 3;
    pub(super) const DESCRIPTORS: u8 = 1 << 4;
    pub(super) const STREAMS: u8 = 1 << 5;
    pub(super) const UNKNOWN: u8 = 0b1100_0000;

    pub(super) const VALUE: u8 = 0;
    pub(super) const FAILED: u8 = 1;
    pub(super) const FAULT: u8 = 2;
}

/// How a call ended, without the value or error, which is the body.
#[derive(Debug, Clone, PartialEq)]
#[expect(clippy::exhaustive_structs, reason = "the fields on the wire")]
pub struct Return {
    /// The receiver's number for the call.
    pub call: u64,
    /// What the body is.
    pub verdict: Verdict,
    /// Fingerprint of the type of the body; 0 if it has none.
    pub shape: u32,
    /// The references in the body.
    pub descriptors: Refs<Descriptor>,
    /// The streams in the body, for later versions: unread.
    pub streams: Bytes,
}

/// What the body of a return is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "a call ends in exactly one of these")]
pub enum Verdict {
    /// What the method returned.
    Value,
    /// The error value of the method's own type that it returned.
    Failed,
    /// Why the call failed (PROTOCOL.md § 9.8).
    Fault {
        /// Whether the method was started: if not, it certainly did not run.
        started: bool,
    },
}

/// A [`Return`] about to be written, of what is kept elsewhere.
pub(crate) struct Returning<'a> {
    pub(crate) call: u64,
    pub(crate) verdict: Verdict,
    pub(crate) shape: u32,
    pub(crate) descriptors: &'a [Descriptor],
    pub(crate) streams: &'a [u8],
}

impl Returning<'_> {
    /// Appends the message to `out`.
    #[inline]
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        out.push(kind::RETURN);
        varint::put(out, self.call);
        let mut marks = match self.verdict {
            Verdict::Value => mark::VALUE,
            Verdict::Failed => mark::FAILED,
            Verdict::Fault { started: false } => mark::FAULT,
            Verdict::Fault { started: true } => mark::FAULT | mark::STARTED,
        };
        if self.shape != 0 {
            marks |= mark::SHAPE;
        }
        if !self.descriptors.is_empty() {
            marks |= mark::DESCRIPTORS;
        }
        if !self.streams.is_empty() {
            marks |= mark::STREAMS;
        }
        out.push(marks);
        if self.shape != 0 {
            out.put_u32_le(self.shape);
        }
        if marks & (mark::DESCRIPTORS | mark::STREAMS) != 0 {
            encode_rare(self.descriptors, self.streams, out);
        }
    }
}

#[inline(never)]
fn encode_rare(descriptors: &[Descriptor], streams: &[u8], out: &mut Vec<u8>) {
    if !descriptors.is_empty() {
        descriptor::encode_all(descriptors, out);
    }
    if !streams.is_empty() {
        put_bytes(out, streams);
    }
}

impl Return {
    pub(super) fn borrowed(&self) -> Returning<'_> {
        Returning {
            call: self.call,
            verdict: self.verdict,
            shape: self.shape,
            descriptors: &self.descriptors,
            streams: &self.streams,
        }
    }

    /// Takes the message off the front of `bytes`, which begin with one of this kind; what is left is its body.
    #[inline]
    pub(crate) fn take(bytes: &mut Bytes, references: u32) -> (Self, Result<(), MessageError>) {
        take(bytes, references, |_, reader| Self::decode(reader))
    }

    #[inline]
    fn decode(reader: &mut Reader<'_>) -> Self {
        let call = reader.number();
        let marks = reader.byte();
        let has = |mark| marks & mark != 0;
        let mut returned = Self {
            call,
            verdict: Verdict::Value,
            shape: 0,
            descriptors: Refs::new(),
            streams: Bytes::new(),
        };
        if has(!mark::SHAPE) {
            returned.verdict = judge(marks, reader);
        }
        if has(mark::SHAPE) {
            returned.shape = reader.u32();
        }
        if has(mark::DESCRIPTORS | mark::STREAMS) {
            returned.decode_rare(marks, reader);
        }
        returned
    }

    #[inline(never)]
    fn decode_rare(&mut self, marks: u8, reader: &mut Reader<'_>) {
        if marks & mark::DESCRIPTORS != 0 {
            self.descriptors = descriptor::decode_all(reader);
        }
        if marks & mark::STREAMS != 0 {
            self.streams = Bytes::copy_from_slice(reader.bytes());
        }
    }
}

/// What these marks say, which are not those of a value without references, as most are.
#[inline(never)]
fn judge(marks: u8, reader: &mut Reader<'_>) -> Verdict {
    let has = |mark| marks & mark != 0;
    let started = has(mark::STARTED);
    match marks & mark::VERDICT {
        _ if has(mark::UNKNOWN) => {}
        mark::VALUE if !started => return Verdict::Value,
        mark::FAILED if !started => return Verdict::Failed,
        mark::FAULT if !has(mark::DESCRIPTORS | mark::STREAMS | mark::SHAPE) => {
            return Verdict::Fault { started };
        }
        _ => {}
    }
    reader.fail(MessageError::UnknownMark { marks: marks.into() });
    Verdict::Value
}
