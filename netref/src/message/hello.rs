//! HELLO, byte by byte (PROTOCOL.md § 5.1).

use farref_framing::varint;

use super::reader::{Reader, put_text};
use super::{Descriptor, MAX_TEXT};

/// What a peer says first.
#[derive(Debug, Clone, PartialEq)]
#[expect(clippy::exhaustive_structs, reason = "the fields on the wire")]
pub struct Hello {
    /// Version of the exchange; the lower of both sides' is spoken.
    pub version: u64,
    /// What its sender accepts.
    pub limits: PeerLimits,
    /// What its sender can do beyond this version, a set of bits: [`SHAPES`](super::SHAPES).
    pub features: u64,
    /// What its sender shows first.
    pub root: Descriptor,
    /// What its sender calls itself, for people.
    pub name: String,
}

/// What one side accepts of the other (PROTOCOL.md § 8.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "the fields on the wire")]
pub struct PeerLimits {
    /// Calls under way.
    pub calls: u64,
    /// Bytes of arguments of the calls under way.
    pub call_bytes: u64,
    /// References held, and results kept.
    pub objects: u64,
    /// Depth of nested calls.
    pub depth: u64,
    /// References in one message.
    pub references: u64,
    /// Streams under way.
    pub streams: u64,
}

impl Hello {
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        let PeerLimits {
            calls,
            call_bytes,
            objects,
            depth,
            references,
            streams,
        } = self.limits;
        for number in [
            self.version,
            calls,
            call_bytes,
            objects,
            depth,
            references,
            streams,
            self.features,
        ] {
            varint::put(out, number);
        }
        self.root.encode(out);
        put_text(out, &self.name);
    }

    /// Fields of later versions follow, each a type and bytes behind their length: they are skipped.
    pub(super) fn decode(reader: &mut Reader<'_>) -> Self {
        let version = reader.number();
        let limits = PeerLimits {
            calls: reader.number(),
            call_bytes: reader.number(),
            objects: reader.number(),
            depth: reader.number(),
            references: reader.number(),
            streams: reader.number(),
        };
        let features = reader.number();
        let root = Descriptor::decode(reader);
        let name = reader.text(MAX_TEXT);
        while reader.left() != 0 {
            reader.number();
            reader.bytes();
        }
        Self {
            version,
            limits,
            features,
            root,
            name,
        }
    }
}
