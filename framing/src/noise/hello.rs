//! What is said in the clear before a handshake (PROTOCOL.md § 10.2).

use crate::noise::{Pattern, Suite};

/// First bytes of everything that is said in the clear. The first is that of a preface, too.
pub(super) const MAGIC: [u8; 4] = [0xa9, b'F', b'A', b'N'];
pub(super) const VERSION: u8 = 1;
/// Length of a hello.
pub(super) const LEN: usize = 10;
/// Longest message of a handshake.
pub(super) const MAX_MESSAGE: usize = 1024;

/// What a hello is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// A message of the handshake follows.
    Message = 1,
    /// The listener takes another pattern, which it names.
    OtherPattern = 2,
    /// The listener cannot read what was meant for its key: the dialer begins again, without assuming one.
    Again = 3,
    /// The listener does not encrypt.
    NotHere = 4,
}

/// What stands before a message of the handshake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Hello {
    pub(super) kind: Kind,
    /// A [`Pattern`].
    pub(super) pattern: u8,
    /// A [`Suite`].
    pub(super) suite: u8,
    /// How long the message is.
    pub(super) len: u16,
}

impl Hello {
    pub(super) const fn message(pattern: Pattern, suite: Suite, len: u16) -> Self {
        Self {
            kind: Kind::Message,
            pattern: pattern as u8,
            suite: suite as u8,
            len,
        }
    }

    pub(super) const fn encoded(self) -> [u8; LEN] {
        let [m0, m1, m2, m3] = MAGIC;
        let [low, high] = self.len.to_le_bytes();
        [
            m0,
            m1,
            m2,
            m3,
            VERSION,
            self.kind as u8,
            self.pattern,
            self.suite,
            low,
            high,
        ]
    }

    /// Reads a hello whose magic was looked at. The version comes back if it is another.
    pub(super) fn decode(bytes: [u8; LEN]) -> Result<Self, Option<u8>> {
        let [_, _, _, _, version, kind, pattern, suite, low, high] = bytes;
        if version != VERSION {
            return Err(Some(version));
        }
        let kind = match kind {
            1 => Kind::Message,
            2 => Kind::OtherPattern,
            3 => Kind::Again,
            4 => Kind::NotHere,
            _ => return Err(None),
        };
        let len = u16::from_le_bytes([low, high]);
        let is_sound = usize::from(len) <= MAX_MESSAGE && (kind == Kind::Message) == (len > 0);
        is_sound
            .then_some(Self {
                kind,
                pattern,
                suite,
                len,
            })
            .ok_or(None)
    }
}
