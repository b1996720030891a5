//! Streams: items or bytes that come as they are made, in arguments and results.
//!
//! A stream crosses as a reference to an object that is *pulled* (`Source`). Whoever reads keeps a few pulls under way,
//! each for so many bytes: these are the credit. Each is answered with what is there, or waits for the first item. So
//! streams have what calls have: order, cancellation from either side, errors, references in items, relays to third
//! parties, and sessions that outlive their carrier. Large answers leave the way of small calls (PROTOCOL.md § 12).
//!
//! ```text
//!   futures::Stream ── Produce ── Supply: Source ◀── pull, pull, pull ── Puller ── Stream<T> ── futures::Stream
//! ```

mod bytes;
mod channel;
mod flow;
mod items;
mod pull;
mod sink;

mod supply;

use ::bytes::Bytes;
use farref_boxing::{As, Blob, Each, Error, ErrorKind, FromAs, Items, Result};
use farref_macros::remote;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

pub use bytes::{ByteStream, Reader};
pub use channel::Sender;
pub use items::{Item, Iter, Stream};
pub use sink::{Sink, Streamed};

/// What a stream crosses as.
#[remote(name = "farref.Source")]
pub(crate) trait Source {
    /// What is there of `form`, in about `credit` bytes: at least one item, which is waited for, or the end. Pulls are
    /// answered in the order in which they come, as they are first polled in that order.
    #[reads]
    async fn pull(&self, form: Form, credit: u64) -> Result<Batch>;

    /// Everything was read up to the end.
    #[one_way]
    #[reads]
    async fn received(&self) -> Result<()>;

    /// What the items look like, as a shape is on the wire; nothing if that is not known, or it is one of bytes.
    #[reads]
    async fn shape(&self) -> Result<Bytes>;
}

/// What a stream is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Form {
    /// Values of one type; the fingerprint of its shape, or 0 if that is not known.
    Items(u32),
    /// Bytes.
    Bytes,
}

/// What is pulled at a time.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Batch {
    body: Body,
    end: Option<End>,
}

#[derive(Debug, Serialize, Deserialize)]
enum Body {
    Items(Items),
    Bytes(Pieces),
}

/// Bytes in pieces, none of which is copied if it is long.
#[derive(Debug, Default)]
struct Pieces(Vec<Bytes>);

/// How a stream ends.
#[derive(Debug, Serialize, Deserialize)]
enum End {
    Done,
    Failed(Error),
}

impl Form {
    /// Whether a stream of `self` can be read as `other`.
    const fn is(self, other: Self) -> bool {
        match (self, other) {
            (Self::Items(a), Self::Items(b)) => a == b || a == 0 || b == 0,
            (Self::Bytes, Self::Bytes) => true,
            (Self::Items(_), Self::Bytes) | (Self::Bytes, Self::Items(_)) => false,
        }
    }

    /// A stream of `self` was to be read as `other`.
    fn mismatch(self, other: Self) -> Error {
        let name = |form| match form {
            Self::Items(_) => "items",
            Self::Bytes => "bytes",
        };
        let text = match (self, other) {
            (Self::Items(a), Self::Items(b)) => {
                format!("a stream of items with the shape {a:#010x} was read as one with {b:#010x}")
            }
            _ => format!("a stream of {} was read as one of {}", name(self), name(other)),
        };
        Error::new(ErrorKind::SchemaMismatch, text)
    }

    const fn nothing(self) -> Body {
        match self {
            Self::Items(_) => Body::Items(Items::NONE),
            Self::Bytes => Body::Bytes(Pieces(Vec::new())),
        }
    }
}

impl Serialize for Pieces {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        As::<Each<Blob>, _>::new(&self.0).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Pieces {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        FromAs::<Each<Blob>, Vec<Bytes>>::deserialize(deserializer).map(|pieces| Self(pieces.into_inner()))
    }
}
