//! References as they travel: descriptors, beside the body and never in it (PROTOCOL.md § 5.4).

use bytes::{BufMut, Bytes};
use farref_boxing::{DecodeLimits, EncodedBody, Encoder, Error, ErrorKind, Fault, decode};
use farref_framing::varint;

use super::reader::{Reader, put_bytes};
use super::{MessageError, Refs};

/// Longest error in a descriptor, in bytes: one that takes more is cut down to its message.
pub(crate) const MAX_ERROR: usize = 4096;
/// Longest message of an error that was cut down, in bytes.
const SHORT_MESSAGE: usize = 256;

mod kind {
    pub(super) const NULL: u8 = 0;
    pub(super) const BROKEN: u8 = 1;
    pub(super) const OWNED: u8 = 2;
    pub(super) const BORROWED: u8 = 3;
    pub(super) const HOME: u8 = 4;
    pub(super) const ANSWER: u8 = 5;
}

/// One reference, as a message carries it.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Descriptor {
    /// No reference.
    Null,
    /// A broken reference, and why.
    Broken(Error),
    /// An object of the sender's: one more copy, which the receiver gives back with a release.
    Owned(Handed),
    /// An object of the sender's, until the call returns.
    Borrowed(Handed),
    /// An object of the receiver's.
    Home {
        /// Its export.
        export: u64,
    },
    /// What a call of the sender's will return.
    Answer {
        /// The call.
        call: u64,
        /// Which of the references in its result.
        slot: u32,
    },
}

/// An object as it is handed out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "the three fields on the wire")]
pub struct Handed {
    /// The sender's number for the object under this interface.
    pub export: u64,
    /// The sender's number for the object itself.
    pub object: u64,
    /// The interface as handed out.
    pub interface: u64,
}

impl Descriptor {
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Null => out.push(kind::NULL),
            Self::Broken(error) => {
                out.push(kind::BROKEN);
                put_error(out, error);
            }
            Self::Owned(handed) => {
                out.push(kind::OWNED);
                handed.encode(out);
            }
            Self::Borrowed(handed) => {
                out.push(kind::BORROWED);
                handed.encode(out);
            }
            Self::Home { export } => {
                out.push(kind::HOME);
                varint::put(out, *export);
            }
            Self::Answer { call, slot } => {
                out.push(kind::ANSWER);
                varint::put(out, *call);
                varint::put(out, u64::from(*slot));
            }
        }
    }

    pub(super) fn decode(reader: &mut Reader<'_>) -> Self {
        match reader.byte() {
            kind::NULL => Self::Null,
            kind::BROKEN => Self::Broken(take_error(reader)),
            kind::OWNED => Self::Owned(Handed::decode(reader)),
            kind::BORROWED => Self::Borrowed(Handed::decode(reader)),
            kind::HOME => Self::Home {
                export: reader.number(),
            },
            kind::ANSWER => {
                let call = reader.number();
                Self::Answer {
                    call,
                    slot: reader.small(),
                }
            }
            kind => {
                reader.fail(MessageError::UnknownDescriptor { kind });
                Self::Null
            }
        }
    }
}

impl Handed {
    fn encode(&self, out: &mut Vec<u8>) {
        varint::put(out, self.export);
        varint::put(out, self.object);
        out.put_u64_le(self.interface);
    }

    fn decode(reader: &mut Reader<'_>) -> Self {
        let export = reader.number();
        let object = reader.number();
        Self {
            export,
            object,
            interface: reader.u64(),
        }
    }
}

pub(super) fn encode_all(descriptors: &[Descriptor], out: &mut Vec<u8>) {
    varint::put(out, descriptors.len() as u64);
    for descriptor in descriptors {
        descriptor.encode(out);
    }
}

pub(super) fn decode_all(reader: &mut Reader<'_>) -> Refs<Descriptor> {
    let count = reader.count(1);
    if count > reader.references as usize {
        reader.fail(MessageError::TooManyReferences { count: count as u64 });
        return Refs::new();
    }
    (0..count).map(|_| Descriptor::decode(reader)).collect()
}

/// Writes an error behind its length, cut down if it is long.
pub(super) fn put_error(out: &mut Vec<u8>, error: &Error) {
    put_bytes(out, &error_bytes(error, MAX_ERROR));
}

pub(super) fn take_error(reader: &mut Reader<'_>) -> Error {
    let bytes = Bytes::copy_from_slice(reader.bytes_within(MAX_ERROR));
    read_error(&bytes).unwrap_or_else(|| {
        reader.fail(MessageError::BadError);
        ErrorKind::Malformed.into()
    })
}

/// An error as a payload (PROTOCOL.md § 9.8); if that is longer than `limit`, the beginning of its message alone.
pub(crate) fn error_bytes(error: &Error, limit: usize) -> Bytes {
    let mut encoder = Encoder::new();
    if encoder.encode(&Fault(error.clone())).is_ok() && encoder.body().len() <= limit {
        return encoder.body().to_bytes();
    }
    let mut message = error.message().into_owned();
    message.truncate(message.floor_char_boundary(SHORT_MESSAGE));
    match encoder.encode(&Fault(Error::new(error.kind(), message))) {
        Ok(()) => encoder.body().to_bytes(),
        // An error of two texts and two numbers can be encoded.
        Err(_) => EncodedBody::Slice(&[]).to_bytes(),
    }
}

/// The error in a payload; `None` if there is none.
pub(crate) fn read_error(bytes: &Bytes) -> Option<Error> {
    decode::<Fault>(bytes, &[], &DecodeLimits::default())
        .ok()
        .map(|Fault(error)| error)
}
