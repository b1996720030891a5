//! What two exchanges say to each other, byte by byte (PROTOCOL.md § 5).
//!
//! A message is a head, which this file and its children know, and for calls and returns a body, which nobody here
//! looks into. Knows bytes and numbers only: what a message does is told in [`exchange`](crate::exchange).

mod call;
mod descriptor;
mod error;
mod hello;
mod op;
mod reader;
mod returned;

use std::borrow::Cow;

use bytes::{Buf, BufMut, Bytes};
use farref_boxing::Error;
use farref_framing::varint;

pub(crate) use call::Calling;
pub use call::{Call, Target};
pub use descriptor::{Descriptor, Handed};
pub use error::MessageError;
pub use hello::{Hello, PeerLimits};
pub(crate) use op::{MAX_NAME, name_of};
pub use op::{Operation, UnknownOperation};
pub(crate) use returned::Returning;
pub use returned::{Return, Verdict};

use crate::protocol::{CancelReason, Refs};
pub(crate) use descriptor::{MAX_ERROR, error_bytes, read_error};
use descriptor::{put_error, take_error};
use reader::Reader;

/// The kinds of messages: the first byte of each.
mod kind {
    pub(super) const HELLO: u8 = 0x01;
    pub(super) const CALL: u8 = 0x02;
    pub(super) const RETURN: u8 = 0x03;
    pub(super) const CANCEL: u8 = 0x04;
    pub(super) const FINISH: u8 = 0x05;
    pub(super) const RELEASE: u8 = 0x06;
    pub(super) const RETAIN: u8 = 0x07;
    pub(super) const REVOKED: u8 = 0x08;
    pub(super) const FLUSH: u8 = 0x09;
    pub(super) const FLUSH_ACK: u8 = 0x0a;
    pub(super) const CALL_CREDIT: u8 = 0x0b;
    pub(super) const GET_SHAPE: u8 = 0x0c;
    pub(super) const SHAPE: u8 = 0x0d;
    pub(super) const STREAMS: std::ops::RangeInclusive<u8> = 0x10..=0x15;
    pub(super) const HAND_OFF: std::ops::RangeInclusive<u8> = 0x20..=0x25;
    pub(super) const DRAIN: u8 = 0x30;
    pub(super) const ABORT: u8 = 0x31;
    /// From here on, kinds that are not known are ignored.
    pub(super) const OPTIONAL: u8 = 0x80;
}

/// The version of the exchange that is spoken here.
pub const VERSION: u64 = 1;

/// The feature of a peer that describes its types when it is asked, and may ask.
pub const SHAPES: u64 = 1;

/// Longest name of a peer, and longest text of an [`Abort`](Message::Abort), in bytes.
pub const MAX_TEXT: usize = 256;

/// Which message it is, as far as its reader has to know before: calls and returns are read where they are handled, as most
/// are of these, and they are large.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Call,
    Return,
    Other,
}

impl Kind {
    /// The kind of the message that begins so.
    #[inline]
    pub(crate) fn of(bytes: &[u8]) -> Self {
        match bytes.first() {
            Some(&kind::CALL) => Self::Call,
            Some(&kind::RETURN) => Self::Return,
            _ => Self::Other,
        }
    }
}

/// One message, without its body.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Message<'a> {
    /// Introduces its sender. The first message each way, and only the first.
    Hello(Hello),
    /// Calls an object of the receiver's. The arguments are the body.
    Call(Call<'a>),
    /// Answers a call. The result is the body.
    Return(Return),
    /// Gives a call up.
    Cancel {
        /// The call.
        call: u64,
        /// Why.
        reason: CancelReason,
    },
    /// Nothing will be called on the result of a call any more.
    Finish {
        /// The call.
        call: u64,
    },
    /// Gives copies of references back.
    Release {
        /// Exports of the receiver's, and how many copies of each.
        exports: Cow<'a, [(u64, u64)]>,
    },
    /// Keeps a reference that was lent.
    Retain {
        /// The export.
        export: u64,
    },
    /// An export was taken back: calls to it fail from now on.
    Revoked {
        /// The export of the sender's.
        export: u64,
        /// Why.
        error: Error,
    },
    /// Asks to be told when everything that was called on the result of a call has been passed on.
    Flush {
        /// The sender's number for this.
        flush: u64,
        /// The call.
        call: u64,
    },
    /// Everything has been passed on.
    FlushAck {
        /// The receiver's number for it.
        flush: u64,
    },
    /// Raises what the receiver may have under way.
    CallCredit {
        /// Calls.
        calls: u64,
        /// Bytes of arguments.
        bytes: u64,
    },
    /// Asks what a type looks like.
    GetShape {
        /// Its fingerprint.
        shape: u32,
    },
    /// What a type looks like. The description is the body.
    Shape {
        /// Its fingerprint.
        shape: u32,
    },
    /// The sender will make no further calls, and asks the receiver to make none.
    Drain,
    /// The sender gives the session up.
    Abort {
        /// Number of the reason, as in a close of the link.
        code: u64,
        /// A short text for people.
        text: String,
    },
    /// A message that has a place in the protocol and no meaning to this version.
    Reserved {
        /// Its kind.
        kind: u8,
    },
}

impl Message<'_> {
    /// Appends the message to `out`.
    ///
    /// [`Reserved`](Self::Reserved) is written as its kind alone.
    pub fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Hello(hello) => {
                out.push(kind::HELLO);
                hello.encode(out);
            }
            Self::Call(call) => call.borrowed().encode(out),
            Self::Return(returned) => returned.borrowed().encode(out),
            Self::Cancel { call, reason } => {
                put_numbers(out, kind::CANCEL, [*call]);
                out.push(reason_number(*reason));
            }
            Self::Finish { call } => put_numbers(out, kind::FINISH, [*call]),
            Self::Release { exports } => {
                put_numbers(out, kind::RELEASE, [exports.len() as u64]);
                for (export, copies) in exports.iter() {
                    varint::put(out, *export);
                    varint::put(out, *copies);
                }
            }
            Self::Retain { export } => put_numbers(out, kind::RETAIN, [*export]),
            Self::Revoked { export, error } => {
                put_numbers(out, kind::REVOKED, [*export]);
                put_error(out, error);
            }
            Self::Flush { flush, call } => put_numbers(out, kind::FLUSH, [*flush, *call]),
            Self::FlushAck { flush } => put_numbers(out, kind::FLUSH_ACK, [*flush]),
            Self::CallCredit { calls, bytes } => put_numbers(out, kind::CALL_CREDIT, [*calls, *bytes]),
            Self::GetShape { shape } => {
                out.push(kind::GET_SHAPE);
                out.put_u32_le(*shape);
            }
            Self::Shape { shape } => {
                out.push(kind::SHAPE);
                out.put_u32_le(*shape);
            }
            Self::Drain => out.push(kind::DRAIN),
            Self::Abort { code, text } => {
                put_numbers(out, kind::ABORT, [*code]);
                reader::put_text(out, text);
            }
            Self::Reserved { kind } => out.push(*kind),
        }
    }

    /// Takes the message off the front of `bytes`; what is left is its body.
    ///
    /// `references` is how many descriptors one message may have.
    ///
    /// # Errors
    ///
    /// The bytes are no message, or hold more than it. Nothing of it should be acted on.
    pub fn decode(bytes: &mut Bytes, references: u32) -> Result<Message<'static>, MessageError> {
        match Kind::of(bytes) {
            Kind::Call => {
                let (call, read) = Call::take(bytes, references);
                read.map(|()| Message::Call(call))
            }
            Kind::Return => {
                let (returned, read) = Return::take(bytes, references);
                read.map(|()| Message::Return(returned))
            }
            Kind::Other => {
                let (message, read) = take(bytes, references, read);
                read?;
                let has_body = matches!(message, Message::Shape { .. } | Message::Reserved { .. });
                if !has_body && !bytes.is_empty() {
                    let bytes = bytes.len() as u64;
                    return Err(MessageError::Trailing { bytes });
                }
                Ok(message)
            }
        }
    }
}

/// Takes a message off the front of `bytes`; `read` reads what follows its kind. It is nothing to act on if something was wrong;
/// that is told beside it, as a message is large, and would be moved once more out of a result.
#[inline]
fn take<T>(
    bytes: &mut Bytes,
    references: u32,
    read: impl FnOnce(u8, &mut Reader<'_>) -> T,
) -> (T, Result<(), MessageError>) {
    let mut reader = Reader::new(bytes, references);
    let kind = reader.byte();
    let message = read(kind, &mut reader);
    let read = reader.finish().map(|left| {
        bytes.advance(bytes.len().saturating_sub(left));
    });
    (message, read)
}

fn put_numbers<const N: usize>(out: &mut Vec<u8>, kind: u8, numbers: [u64; N]) {
    out.push(kind);
    for number in numbers {
        varint::put(out, number);
    }
}

/// Any message but a call or a return.
fn read(kind: u8, reader: &mut Reader<'_>) -> Message<'static> {
    match kind {
        kind::FINISH => Message::Finish {
            call: reader.number(),
        },
        kind::RELEASE => Message::Release {
            exports: Cow::Owned(read_releases(reader)),
        },
        kind::CANCEL => {
            let call = reader.number();
            Message::Cancel {
                call,
                reason: reason(reader.byte()),
            }
        }
        kind::RETAIN => Message::Retain {
            export: reader.number(),
        },
        kind::REVOKED => {
            let export = reader.number();
            Message::Revoked {
                export,
                error: take_error(reader),
            }
        }
        kind::FLUSH => {
            let flush = reader.number();
            Message::Flush {
                flush,
                call: reader.number(),
            }
        }
        kind::FLUSH_ACK => Message::FlushAck {
            flush: reader.number(),
        },
        kind::CALL_CREDIT => {
            let calls = reader.number();
            Message::CallCredit {
                calls,
                bytes: reader.number(),
            }
        }
        kind::GET_SHAPE => Message::GetShape { shape: reader.u32() },
        kind::SHAPE => Message::Shape { shape: reader.u32() },
        kind::HELLO => Message::Hello(Hello::decode(reader)),
        kind::DRAIN => Message::Drain,
        kind::ABORT => {
            let code = reader.number();
            Message::Abort {
                code,
                text: reader.text(MAX_TEXT),
            }
        }
        kind => {
            let is_known =
                kind >= kind::OPTIONAL || kind::STREAMS.contains(&kind) || kind::HAND_OFF.contains(&kind);
            if !is_known {
                reader.fail(MessageError::UnknownKind { kind });
            }
            Message::Reserved { kind }
        }
    }
}

fn read_releases(reader: &mut Reader<'_>) -> Vec<(u64, u64)> {
    let count = reader.count(2);
    (0..count).map(|_| (reader.number(), reader.number())).collect()
}

const fn reason_number(reason: CancelReason) -> u8 {
    match reason {
        CancelReason::Dropped => 0,
        CancelReason::Deadline => 1,
        CancelReason::Upstream => 2,
        CancelReason::Shutdown => 3,
    }
}

/// A reason that is not known is as good as none.
const fn reason(number: u8) -> CancelReason {
    match number {
        1 => CancelReason::Deadline,
        2 => CancelReason::Upstream,
        3 => CancelReason::Shutdown,
        _ => CancelReason::Dropped,
    }
}

#[cfg(test)]
mod tests;
