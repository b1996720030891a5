//! Values and references in bytes, and back: no IO, no knowledge of connections.
//!
//! ```text
//!   value ── Serialize ──► Encoder ──► body:  bytes, in one piece or several
//!                             └──────► table: the references met on the way, in order
//!
//!   body + table ── decode ──► value     exact, within limits, borrowing from the body
//! ```
//!
//! A value crosses **by value** if its type is serde's, and **by reference** where it holds a netref: the netref
//! puts its handle into the table of the message and writes the number of its slot. So the bytes hold no
//! reference, relays need no types, and a reference may sit wherever serde reaches.
//!
//! | what                                 | how it crosses                              | copies |
//! |--------------------------------------|---------------------------------------------|--------|
//! | any `Serialize` type                 | by value, PROTOCOL.md § 9                   | one    |
//! | `Bytes` of 4 KiB and more, adapted   | by value, as a part of its own              | none   |
//! | `&str`, `&[u8]`, `Bytes`, decoded    | as a piece of the body                      | none   |
//! | a netref, in any position            | by reference: handle in table, slot in body |        |
//! | a failure                            | by value: [`Error`]                         | one    |
//! | data whose type is not known         | by value: [`Value`], with its references    | one    |
//!
//! "Adapted" is what the `#[remote]` macro does by itself at the top level of arguments and results
//! ([`adapt`]), and what [`#[serde(with = "farref::bytes")]`](mod@crate::bytes) does for a field.
//!
//! Reading order: `wire` and `sink` (the bytes), [`Encoder`] and `spare`, [`decode`], [`Reference`],
//! [`mod@bytes`] and [`adapt`], [`Error`], [`Value`], [`Shape`]; and apart from all that [`rpyc`], the values of Python peers.
#![warn(clippy::arithmetic_side_effects)]

mod sink;
mod spare;
mod wire;

mod decoder;
mod encoder;
mod error;
mod items;
mod limits;

mod reference;

pub mod adapt;
pub mod bytes;

mod fault;
mod kind;
mod transit;

mod value;

mod shape;

pub mod rpyc;

#[doc(hidden)]
pub mod fuzzing;

pub use adapt::{As, Blob, DeserializeAs, Each, FromAs, Maybe, Outcome, Plain, SerializeAs};
pub use decoder::decode;
pub use encoder::{EncodedBody, Encoder, SHARE_FROM};
pub use error::CodecError;
pub use fault::{Chain, Context, Error, Result};
pub use items::{Items, ItemsWriter};
pub use kind::{Certainty, ErrorKind};
pub use limits::DecodeLimits;
pub use reference::{Reference, SlotError, lend, slot};
pub use shape::{Shape, ShapeFields, ShapeMismatch, ShapeType, Shaped, Shapes, decode_by_shape};
pub use transit::Fault;
pub use value::{ParseValueError, Record, Value, ValueError, from_value, to_value};
