//! Brine: the values of Python's RPyC in bytes, and back.
//!
//! ```text
//!   payload ── decode ──►  Brine  ── encode ──► payload      any value, as a tree
//!   payload ── Reader ──►  numbers, texts, counts            what is known beforehand, without a tree
//!              put_*  ──►                         payload
//!   Value   ◄── From ────  Brine                             what is by value on both sides
//!           ── put_value ─────────────────────► payload
//! ```
//!
//! Brine holds what Python passes by value, which are the immutable types alone. One byte, the tag, says what a value
//! is; all numbers are big-endian (PROTOCOL.md § 15.3; `rpyc/core/brine.py`, of which 4.1 to 6.0 write the same bytes):
//!
//! | tag         | value                  | what follows                                          |
//! |-------------|------------------------|-------------------------------------------------------|
//! | `00`        | `None`                 |                                                       |
//! | `01`        | no bytes               |                                                       |
//! | `02`        | the empty tuple        |                                                       |
//! | `03` `04`   | `True` `False`         |                                                       |
//! | `05` `06`   | `NotImplemented` `...` |                                                       |
//! | `08`        | text                   | bytes, a value with its own tag, in UTF-8             |
//! | `09`        | `long` of Python 2     | an integer with its own tag                           |
//! | `0A`-`0D`   | 1 to 4 bytes           | the bytes                                             |
//! | `0E` `0F`   | bytes                  | how many, in 1 or 4 bytes; the bytes                  |
//! | `10`-`13`   | a tuple of 1 to 4      | the items                                             |
//! | `14` `15`   | a tuple                | how many, in 1 or 4 bytes; the items                  |
//! | `16` `17`   | an integer             | how many digits, in 1 or 4 bytes; decimal ASCII       |
//! | `18`        | a float                | IEEE 754, 8 bytes                                     |
//! | `19`        | a slice                | a tuple of 3: start, stop, step                       |
//! | `1A`        | a frozenset            | a tuple of its members, in any order                  |
//! | `1B`        | a complex number       | two floats: real, imaginary                           |
//! | `20`-`EF`   | -48 to 159             |                                                       |
//!
//! What is written is canonical, which is what Python writes: the shortest form of each. What is read may have
//! another. Bytes and numbers of a peer never panic, never overflow the stack, and reserve nothing by the counts they
//! announce: [`BrineLimits`].
//!
//! Reading order: [`Brine`], `read`, `build` (what is made of what is read), `write`, `integer` (integers beyond 128 bits),
//! `convert` (from and to [`Value`](crate::Value)), `python` (Python's types for those who write typed calls).

mod brine;
mod build;
mod convert;
mod error;
mod integer;
mod limits;
mod python;
mod read;
mod write;

pub use brine::Brine;
pub use convert::{is_by_value, put_value};
pub use error::BrineError;
pub use integer::BigInt;
pub use limits::BrineLimits;
pub use python::{Complex, Ellipsis, FrozenSet, NotImplemented, Slice};
pub use read::{Reader, decode, decode_prefix};
pub use write::{
    encode, put_big_int, put_bool, put_bytes, put_complex, put_ellipsis, put_float, put_frozenset, put_int,
    put_none, put_not_implemented, put_slice, put_str, put_tuple,
};
