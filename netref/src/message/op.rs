//! What is to be done with an object, as a call carries it (PROTOCOL.md § 5.2).

use std::borrow::Cow;

use bytes::BufMut;

use super::reader::{Reader, put_bytes};
use crate::protocol::{Op, Ordering};

/// Longest name in an operation, in bytes.
pub(crate) const MAX_NAME: usize = 64 << 10;

/// The name in an operation, which is empty if it needs none.
pub(crate) fn name_of(op: &Op) -> &str {
    match op {
        Op::Named(name) | Op::Get(name) | Op::Set(name) | Op::Delete(name) | Op::IsInstance(name) => name,
        _ => "",
    }
}

/// What is to be done: something known here, or not.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "an operation is known or it is not")]
pub enum Operation<'a> {
    /// A known operation.
    Known(Cow<'a, Op>),
    /// An operation of a later version: the call fails.
    Unknown(UnknownOperation),
}

/// An operation of a later version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "its number is all that is known of it")]
pub struct UnknownOperation {
    /// Its number.
    pub code: u8,
}

impl Operation<'_> {
    /// A call of a method by its number has a form of its own, the shortest; it is marked as such in the call.
    pub(super) fn is_method(&self) -> bool {
        matches!(self, Self::Known(op) if matches!(**op, Op::Method { .. }))
    }

    #[inline]
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        if let Self::Known(op) = self
            && let Op::Method {
                interface,
                method,
                shape,
            } = **op
        {
            let method = u128::from(method) << 64;
            let shape = u128::from(shape) << 96;
            out.put_u128_le(shape | method | u128::from(interface));
        } else {
            self.encode_other(out);
        }
    }

    #[inline(never)]
    fn encode_other(&self, out: &mut Vec<u8>) {
        let op = match self {
            Self::Known(op) => &**op,
            Self::Unknown(UnknownOperation { code }) => {
                out.push(*code);
                return put_bytes(out, &[]);
            }
        };
        let code = match op {
            // It has the form without a number.
            Op::Method { .. } => return,
            Op::Named(_) => 1,
            Op::Get(_) => 2,
            Op::Set(_) => 3,
            Op::Delete(_) => 4,
            Op::Index => 5,
            Op::Len => 6,
            Op::Compare => 7,
            Op::Hash => 8,
            Op::Text => 9,
            Op::Iterate => 10,
            Op::Enter => 11,
            Op::Exit => 12,
            Op::IsInstance(_) => 13,
            Op::Describe => 14,
            Op::Copy => 15,
            Op::Invoke => 16,
            Op::SetIndex => 17,
            Op::DeleteIndex => 18,
            Op::Repr => 19,
            Op::Order(Ordering::Less) => 20,
            Op::Order(Ordering::LessEqual) => 21,
            Op::Order(Ordering::Greater) => 22,
            Op::Order(Ordering::GreaterEqual) => 23,
        };
        out.push(code);
        put_bytes(out, name_of(op).as_bytes());
    }

    #[inline]
    pub(super) fn decode_method(reader: &mut Reader<'_>) -> Self {
        // The three numbers at once.
        let numbers = u128::from_le_bytes(reader.array());
        Self::Known(Cow::Owned(Op::Method {
            interface: numbers as u64,
            method: (numbers >> 64) as u32,
            shape: (numbers >> 96) as u32,
        }))
    }

    /// Every other operation has a name, which may be empty: so an unknown one can be skipped.
    pub(super) fn decode_other(reader: &mut Reader<'_>) -> Self {
        let code = reader.byte();
        let name = reader.text(MAX_NAME);
        let op = match code {
            1 => Op::Named(name),
            2 => Op::Get(name),
            3 => Op::Set(name),
            4 => Op::Delete(name),
            5 => Op::Index,
            6 => Op::Len,
            7 => Op::Compare,
            8 => Op::Hash,
            9 => Op::Text,
            10 => Op::Iterate,
            11 => Op::Enter,
            12 => Op::Exit,
            13 => Op::IsInstance(name),
            14 => Op::Describe,
            15 => Op::Copy,
            16 => Op::Invoke,
            17 => Op::SetIndex,
            18 => Op::DeleteIndex,
            19 => Op::Repr,
            20 => Op::Order(Ordering::Less),
            21 => Op::Order(Ordering::LessEqual),
            22 => Op::Order(Ordering::Greater),
            23 => Op::Order(Ordering::GreaterEqual),
            code => return Self::Unknown(UnknownOperation { code }),
        };
        Self::Known(Cow::Owned(op))
    }
}
