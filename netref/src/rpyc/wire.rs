//! Messages of RPyC, to and from payloads of frames, in both generations.
//!
//! Knows the bytes; what they are about is the business of the tables. Sources: RPyC 4.1.5, 5.3.1 and 6.0.2 as observed on
//! the wire.

use std::fmt;

use bytes::{Buf, Bytes, BytesMut};
use farref_boxing::rpyc::{self as brine, BrineError, BrineLimits, Reader};
use farref_boxing::{Error, ErrorKind};
use farref_framing::rpyc::{Compress, begin_frame, finish_frame};
use smallvec::SmallVec;

/// How a peer's RPyC writes its messages. The two do not understand each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(clippy::exhaustive_enums, reason = "there are two")]
pub enum Generation {
    /// 4.1 to 5.3: the kind is a part of the message.
    Five,
    /// From 6.0 on: the kind stands before it.
    Six,
}

impl fmt::Display for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Five => "RPyC 4 or 5",
            Self::Six => "RPyC 6",
        })
    }
}

/// The peer speaks the other generation: dial again with that.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct OtherGeneration {
    /// What the peer speaks.
    pub speaks: Generation,
}

impl fmt::Display for OtherGeneration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the peer speaks {}, and was spoken to otherwise", self.speaks)
    }
}

impl std::error::Error for OtherGeneration {}

/// What kind of message it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Request,
    Reply,
    Exception,
}

impl Kind {
    const fn number(self) -> u8 {
        match self {
            Self::Request => 1,
            Self::Reply => 2,
            Self::Exception => 3,
        }
    }

    const fn from_number(number: u8) -> Option<Self> {
        match number {
            1 => Some(Self::Request),
            2 => Some(Self::Reply),
            3 => Some(Self::Exception),
            _ => None,
        }
    }
}

/// The operations that peers ask for.
pub(super) mod handler {
    pub(in super::super) const PING: i128 = 1;
    pub(in super::super) const CLOSE: i128 = 2;
    pub(in super::super) const GETROOT: i128 = 3;
    pub(in super::super) const GETATTR: i128 = 4;
    pub(in super::super) const DELATTR: i128 = 5;
    pub(in super::super) const SETATTR: i128 = 6;
    pub(in super::super) const CALL: i128 = 7;
    pub(in super::super) const CALLATTR: i128 = 8;
    pub(in super::super) const REPR: i128 = 9;
    pub(in super::super) const STR: i128 = 10;
    pub(in super::super) const CMP: i128 = 11;
    pub(in super::super) const HASH: i128 = 12;
    pub(in super::super) const DIR: i128 = 13;
    pub(in super::super) const PICKLE: i128 = 14;
    pub(in super::super) const DEL: i128 = 15;
    pub(in super::super) const INSPECT: i128 = 16;
    pub(in super::super) const BUFFITER: i128 = 17;
    pub(in super::super) const OLDSLICING: i128 = 18;
    pub(in super::super) const CTXEXIT: i128 = 19;
    pub(in super::super) const INSTANCECHECK: i128 = 20;
}

/// How a value is boxed.
pub(super) mod label {
    /// By value.
    pub(in super::super) const VALUE: i128 = 1;
    /// A tuple of boxes.
    pub(in super::super) const TUPLE: i128 = 2;
    /// An object of the receiver's.
    pub(in super::super) const YOURS: i128 = 3;
    /// An object of the sender's.
    pub(in super::super) const MINE: i128 = 4;
}

/// The threads of a message, where both sides bind threads: whose it is, and for whom, 0 for whoever is free.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Threads {
    pub(super) from: u64,
    pub(super) to: u64,
}

/// The number of a request of the peer's, as it came: a reply has the same.
pub(super) type Number = SmallVec<[u8; 16]>;

/// Which message it is.
#[derive(Debug)]
pub(super) enum Head {
    Request(Number),
    /// To a request of ours, if it has the number of one.
    Reply(Option<u64>),
    Exception(Option<u64>),
}

/// A message as it came.
#[derive(Debug)]
pub(super) struct Message<'a> {
    pub(super) head: Head,
    pub(super) threads: Option<Threads>,
    /// What it says comes next.
    pub(super) content: Reader<'a>,
}

/// Bytes before the message where threads are bound.
const THREADS: usize = 16;

/// How the peer that has sent this payload writes its messages, and whether it binds threads; `None` if that is no message.
pub(super) fn recognise(payload: &[u8]) -> Option<(Generation, bool)> {
    let generation = |at: usize| {
        let head = (payload.get(at)?, payload.get(at.checked_add(1)?)?);
        match head {
            (1..=3, 0x11) => Some(Generation::Six),
            (0x12, 0x51..=0x53) => Some(Generation::Five),
            _ => None,
        }
    };
    let plain = generation(0).map(|generation| (generation, false));
    plain.or_else(|| generation(THREADS).map(|generation| (generation, true)))
}

/// Takes a payload apart, as far as all messages are alike.
pub(super) fn read<'a>(
    payload: &'a mut Bytes,
    generation: Generation,
    bound: bool,
    limits: &BrineLimits,
) -> Result<Message<'a>, Error> {
    let threads = if bound {
        let mut next = || payload.try_get_u64();
        let (Ok(from), Ok(to)) = (next(), next()) else {
            return Err(broken("a message without its threads"));
        };
        Some(Threads { from, to })
    } else {
        None
    };
    let before = match generation {
        Generation::Six => Some(payload.try_get_u8().unwrap_or_default()),
        Generation::Five => None,
    };
    let mut content = Reader::new(payload, limits);
    let parts = if before.is_some() { 2 } else { 3 };
    content
        .tuple_of(parts)
        .and_then(|()| content.enter())
        .map_err(malformed)?;
    let kind = match before {
        Some(kind) => Some(kind),
        None => content
            .index()
            .map_err(malformed)?
            .and_then(|kind| u8::try_from(kind).ok()),
    };
    let kind = kind.and_then(Kind::from_number);
    let kind = kind.ok_or_else(|| broken("a message that is no request, reply or exception"))?;
    let mut own = || -> Result<_, Error> {
        let number = content.index().map_err(malformed)?;
        Ok(number.and_then(|number| u64::try_from(number).ok()))
    };
    let head = match kind {
        Kind::Reply => Head::Reply(own()?),
        Kind::Exception => Head::Exception(own()?),
        Kind::Request => Head::Request(Number::from_slice(content.raw().map_err(malformed)?)),
    };
    Ok(Message {
        head,
        threads,
        content,
    })
}

/// Writes one message: its head here, its number by `number`, what it says by `content`.
///
/// # Errors
///
/// Those of `content`, and that it is too long: nothing of it is left in `out` then.
pub(super) fn write(
    out: &mut BytesMut,
    generation: Generation,
    threads: Option<Threads>,
    kind: Kind,
    number: impl FnOnce(&mut BytesMut),
    content: impl FnOnce(&mut BytesMut) -> Result<(), Error>,
) -> Result<(), Error> {
    let before = out.len();
    let start = begin_frame(out);
    if let Some(Threads { from, to }) = threads {
        out.extend_from_slice(&from.to_be_bytes());
        out.extend_from_slice(&to.to_be_bytes());
    }
    match generation {
        Generation::Six => {
            out.extend_from_slice(&[kind.number()]);
            brine::put_tuple(2, out);
        }
        Generation::Five => {
            brine::put_tuple(3, out);
            brine::put_int(kind.number(), out);
        }
    }
    number(out);
    let written = content(out).and_then(|()| {
        finish_frame(start, Compress::Auto, out).map_err(|error| Error::wrap(ErrorKind::Limit, error))
    });
    if written.is_err() {
        out.truncate(before);
    }
    written
}

/// Bytes are not what they should be.
pub(super) fn malformed(error: BrineError) -> Error {
    Error::wrap(ErrorKind::Malformed, error)
}

/// What the peer did wrong.
pub(super) fn broken(what: &str) -> Error {
    Error::new(ErrorKind::Malformed, format!("the peer has sent {what}"))
}

/// What the peer has sent is not what was asked for.
pub(super) fn other_than(what: &str) -> Error {
    broken(&format!("something else than {what}"))
}
