//! CALL, byte by byte (PROTOCOL.md § 5.2).

use bytes::{BufMut, Bytes};
use farref_framing::{Nanos, varint};

use super::descriptor::{self, Descriptor};
use super::reader::{Reader, put_bytes};
use super::{MessageError, Operation, Refs, kind, take};
use crate::protocol::{CallOptions, Chain, ResultShapes};

/// What a call has and how it is meant. The first seven keep most calls at one byte.
mod mark {
    pub(super) const ANSWER: u64 = 1 << 0;
    pub(super) const NO_PIPELINE: u64 = 1 << 1;
    pub(super) const BLOCKING: u64 = 1 << 2;
    pub(super) const CHAIN: u64 = 1 << 3;
    pub(super) const TIME_LEFT: u64 = 1 << 4;
    pub(super) const DESCRIPTORS: u64 = 1 << 5;
    pub(super) const OPERATION: u64 = 1 << 6;
    pub(super) const ONE_WAY: u64 = 1 << 7;
    pub(super) const IDEMPOTENT: u64 = 1 << 8;
    pub(super) const DETACHED: u64 = 1 << 9;
    pub(super) const HOPS: u64 = 1 << 10;
    pub(super) const PRIORITY: u64 = 1 << 11;
    pub(super) const TRACE: u64 = 1 << 12;
    pub(super) const STREAMS: u64 = 1 << 13;
    pub(super) const UNKNOWN: u64 = !((1 << 14) - 1);
    /// Those that few calls have, as most are a target and a method.
    pub(super) const RARE: u64 = CHAIN | TIME_LEFT | DESCRIPTORS | HOPS | PRIORITY | TRACE | STREAMS;
}

/// A call, without its arguments.
#[derive(Debug, Clone, PartialEq)]
#[expect(clippy::exhaustive_structs, reason = "the fields on the wire")]
pub struct Call<'a> {
    /// The caller's number for it.
    pub call: u64,
    /// What it is made on.
    pub target: Target,
    /// What is to be done.
    pub operation: Operation<'a>,
    /// How. The deadline is not used: [`time_left`](Self::time_left) is.
    pub options: CallOptions,
    /// How long the caller will wait, in nanoseconds.
    pub time_left: Option<Nanos>,
    /// Urgency, for later versions.
    pub priority: Option<u8>,
    /// The references among the arguments.
    pub descriptors: Refs<Descriptor>,
    /// The streams among the arguments, for later versions: unread.
    pub streams: Bytes,
}

/// What a call is made on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(
    clippy::exhaustive_enums,
    reason = "these two are all that the exchange knows"
)]
pub enum Target {
    /// An object of the receiver's.
    Export(u64),
    /// What an earlier call of the sender's returns or will return.
    Answer {
        /// That call.
        call: u64,
        /// Which of the references in its result.
        slot: u32,
    },
}

/// A [`Call`] about to be written, of what is kept elsewhere.
pub(crate) struct Calling<'a> {
    pub(crate) call: u64,
    pub(crate) target: Target,
    pub(crate) operation: &'a Operation<'a>,
    pub(crate) options: &'a CallOptions,
    pub(crate) time_left: Option<Nanos>,
    pub(crate) priority: Option<u8>,
    pub(crate) descriptors: &'a [Descriptor],
    pub(crate) streams: &'a [u8],
}

impl Calling<'_> {
    #[inline]
    fn marks(&self) -> u64 {
        let options = self.options;
        let if_set = |set: bool, mark: u64| if set { mark } else { 0 };
        if_set(matches!(self.target, Target::Answer { .. }), mark::ANSWER)
            | if_set(options.no_pipeline, mark::NO_PIPELINE)
            | if_set(options.blocking, mark::BLOCKING)
            | if_set(options.chain.is_some(), mark::CHAIN)
            | if_set(self.time_left.is_some(), mark::TIME_LEFT)
            | if_set(!self.descriptors.is_empty(), mark::DESCRIPTORS)
            | if_set(!self.operation.is_method(), mark::OPERATION)
            | if_set(options.one_way, mark::ONE_WAY)
            | if_set(options.idempotent, mark::IDEMPOTENT)
            | if_set(options.detached, mark::DETACHED)
            | if_set(options.hops != 0, mark::HOPS)
            | if_set(self.priority.is_some(), mark::PRIORITY)
            | if_set(options.trace.is_some(), mark::TRACE)
            | if_set(!self.streams.is_empty(), mark::STREAMS)
    }

    /// Appends the message to `out`.
    #[inline]
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        let marks = self.marks();
        out.push(kind::CALL);
        varint::put(out, self.call);
        varint::put(out, marks);
        match self.target {
            Target::Export(export) => varint::put(out, export),
            Target::Answer { call, slot } => {
                varint::put(out, call);
                varint::put(out, u64::from(slot));
            }
        }
        self.operation.encode(out);
        if marks & mark::RARE != 0 {
            let Self {
                options,
                time_left,
                priority,
                descriptors,
                streams,
                ..
            } = *self;
            encode_rare(options, time_left, priority, descriptors, streams, out);
        }
    }
}

/// Apart from the call, which need not be in memory so.
#[inline(never)]
fn encode_rare(
    options: &CallOptions,
    time_left: Option<Nanos>,
    priority: Option<u8>,
    descriptors: &[Descriptor],
    streams: &[u8],
    out: &mut Vec<u8>,
) {
    if let Some(time_left) = time_left {
        varint::put(out, time_left);
    }
    if let Some(chain) = options.chain {
        out.put_u128_le(chain.id());
        varint::put(out, u64::from(chain.depth));
    }
    if options.hops != 0 {
        out.push(options.hops);
    }
    out.extend(priority);
    if let Some(trace) = &options.trace {
        out.extend_from_slice(&**trace);
    }
    if !descriptors.is_empty() {
        descriptor::encode_all(descriptors, out);
    }
    if !streams.is_empty() {
        put_bytes(out, streams);
    }
}

impl Call<'_> {
    pub(super) fn borrowed(&self) -> Calling<'_> {
        Calling {
            call: self.call,
            target: self.target,
            operation: &self.operation,
            options: &self.options,
            time_left: self.time_left,
            priority: self.priority,
            descriptors: &self.descriptors,
            streams: &self.streams,
        }
    }

    /// Takes the message off the front of `bytes`, which begin with one of this kind; what is left is its body.
    #[inline]
    pub(crate) fn take(bytes: &mut Bytes, references: u32) -> (Call<'static>, Result<(), MessageError>) {
        take(bytes, references, |_, reader| Self::decode(reader))
    }

    #[inline]
    fn decode(reader: &mut Reader<'_>) -> Call<'static> {
        let call = reader.number();
        let marks = reader.number();
        let has = |mark| marks & mark != 0;
        if has(mark::UNKNOWN) {
            reader.fail(MessageError::UnknownMark { marks });
        }
        let target = reader.number();
        let target = if has(mark::ANSWER) {
            Target::Answer {
                call: target,
                slot: reader.small(),
            }
        } else {
            Target::Export(target)
        };
        let operation = if has(mark::OPERATION) {
            Operation::decode_other(reader)
        } else {
            Operation::decode_method(reader)
        };
        let options = CallOptions {
            no_pipeline: has(mark::NO_PIPELINE),
            one_way: has(mark::ONE_WAY),
            idempotent: has(mark::IDEMPOTENT),
            detached: has(mark::DETACHED),
            blocking: has(mark::BLOCKING),
            followed: false,
            deadline: None,
            chain: None,
            hops: 0,
            trace: None,
            results: ResultShapes::default(),
            fetch: 0,
        };
        let mut call = Call {
            call,
            target,
            operation,
            options,
            time_left: None,
            priority: None,
            descriptors: Refs::new(),
            streams: Bytes::new(),
        };
        if has(mark::RARE) {
            call.decode_rare(marks, reader);
        }
        call
    }

    #[inline(never)]
    fn decode_rare(&mut self, marks: u64, reader: &mut Reader<'_>) {
        let has = |mark| marks & mark != 0;
        if has(mark::TIME_LEFT) {
            self.time_left = Some(reader.number());
        }
        if has(mark::CHAIN) {
            self.options.chain = Some(decode_chain(reader));
        }
        if has(mark::HOPS) {
            self.options.hops = reader.byte();
        }
        if has(mark::PRIORITY) {
            self.priority = Some(reader.byte());
        }
        if has(mark::TRACE) {
            self.options.trace = Some(Box::new(reader.array()));
        }
        if has(mark::DESCRIPTORS) {
            self.descriptors = descriptor::decode_all(reader);
        }
        if has(mark::STREAMS) {
            self.streams = Bytes::copy_from_slice(reader.bytes());
        }
    }
}

fn decode_chain(reader: &mut Reader<'_>) -> Chain {
    let id = u128::from_le_bytes(reader.array());
    let depth = reader.number();
    let depth = u16::try_from(depth).unwrap_or_else(|_| {
        reader.fail(MessageError::TooLarge { number: depth });
        0
    });
    Chain::new(id, depth)
}
