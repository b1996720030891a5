//! The frames of a lossy line (PROTOCOL.md § 11.2).

use crc32fast::Hasher;

use super::cobs;

/// Least that a side must take in a frame.
pub(super) const MIN_PAYLOAD: usize = 16;
/// Longest payload of a frame.
pub(super) const MAX_PAYLOAD: usize = 1024;
/// Longest frame as it is on the line: its header, payload and sum, stuffed.
pub(super) const MAX_STUFFED: usize = MAX_PAYLOAD + 32 + 8;
/// Version of what is said on the line.
pub(super) const VERSION: u8 = 1;

/// What tells one start of a side from another.
pub(super) type Nonce = [u8; 8];

/// What a side says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Hello {
    pub(super) version: u8,
    /// 1: would like to be the dialer; 2: the listener.
    pub(super) wish: u8,
    pub(super) nonce: Nonce,
    /// Longest payload that it takes.
    pub(super) payload: u16,
    /// Frames that it takes out of turn.
    pub(super) window: u8,
}

/// One frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Frame<'a> {
    /// "Is somebody there?"
    Syn(Hello),
    /// "Yes, and I have heard the side with this nonce."
    SynAck(Hello, Nonce),
    /// The next bytes, or one of those before them again.
    Data { seq: u8, ack: Ack, payload: &'a [u8] },
    /// Nothing comes behind this.
    Fin { seq: u8, ack: Ack },
    /// What has come, and what came behind what is missing.
    Ack { ack: Ack, behind: u32 },
    /// The same, and an answer is wanted.
    Poll { ack: Ack, behind: u32 },
    /// The side is gone.
    Reset,
}

/// How far everything has come, and how many more frames there is room for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ack {
    pub(super) next: u8,
    pub(super) room: u8,
}

const SYN: u8 = 1;
const SYN_ACK: u8 = 2;
const DATA: u8 = 3;
const FIN: u8 = 4;
const ACK: u8 = 5;
const POLL: u8 = 6;
const RESET: u8 = 7;

/// What all frames between two starts of two sides are summed with, so that none of another time passes: the nonce of
/// the sender, then that of the receiver.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Tag(pub(super) Nonce, pub(super) Nonce);

impl Frame<'_> {
    /// Appends the frame as it is on the line, with the zero that ends it.
    pub(super) fn encode(&self, tag: Option<Tag>, out: &mut Vec<u8>) {
        let mut bytes = Vec::with_capacity(64);
        match self {
            Self::Syn(hello) => hello.encode(SYN, &mut bytes),
            Self::SynAck(hello, heard) => {
                hello.encode(SYN_ACK, &mut bytes);
                bytes.extend_from_slice(heard);
            }
            Self::Data { seq, ack, payload } => {
                bytes.extend_from_slice(&[DATA, *seq, ack.next, ack.room]);
                bytes.extend_from_slice(payload);
            }
            Self::Fin { seq, ack } => bytes.extend_from_slice(&[FIN, *seq, ack.next, ack.room]),
            Self::Ack { ack, behind } | Self::Poll { ack, behind } => {
                let kind = if matches!(self, Self::Ack { .. }) {
                    ACK
                } else {
                    POLL
                };
                bytes.extend_from_slice(&[kind, ack.next, ack.room]);
                bytes.extend_from_slice(&behind.to_le_bytes());
            }
            Self::Reset => bytes.push(RESET),
        }
        let sum = sum(&bytes, tag.filter(|_| !self.is_hello()));
        bytes.extend_from_slice(&sum.to_le_bytes());
        cobs::stuff(&bytes, out);
        out.push(0);
    }

    const fn is_hello(&self) -> bool {
        matches!(self, Self::Syn(_) | Self::SynAck(..))
    }
}

impl Hello {
    /// Whether anything can be sent to a side that takes this much. What is above the limits is no harm: the lower of
    /// both sides' is used.
    pub(super) fn is_within_limits(&self) -> bool {
        usize::from(self.payload) >= MIN_PAYLOAD && self.window > 0 && matches!(self.wish, 1 | 2)
    }

    fn encode(&self, kind: u8, out: &mut Vec<u8>) {
        out.extend_from_slice(&[kind, self.version, self.wish]);
        out.extend_from_slice(&self.nonce);
        out.extend_from_slice(&self.payload.to_le_bytes());
        out.push(self.window);
    }

    /// Reads a hello at the beginning of `bytes`: it and what is behind it. Later versions may say more.
    fn decode(bytes: &[u8]) -> Option<(Self, &[u8])> {
        let [version, wish, rest @ ..] = bytes else {
            return None;
        };
        let (nonce, rest) = rest.split_first_chunk()?;
        let [low, high, window, rest @ ..] = rest else {
            return None;
        };
        let payload = u16::from_le_bytes([*low, *high]);
        Some((
            Self {
                version: *version,
                wish: *wish,
                nonce: *nonce,
                payload,
                window: *window,
            },
            rest,
        ))
    }
}

/// The bytes of a frame without its sum, if the sum is right: with `tag`, or, for hellos, with none.
pub(super) fn check(mut bytes: Vec<u8>, tag: Option<Tag>) -> Option<Vec<u8>> {
    let at = bytes.len().checked_sub(4)?;
    let told = u32::from_le_bytes(*bytes.get(at..)?.first_chunk()?);
    bytes.truncate(at);
    let is_hello = matches!(bytes.first(), Some(&(SYN | SYN_ACK)));
    let tag = if is_hello { None } else { Some(tag?) };
    (sum(&bytes, tag) == told).then_some(bytes)
}

/// Reads what [`check`] has let pass.
pub(super) fn decode(bytes: &[u8]) -> Option<Frame<'_>> {
    let (kind, rest) = bytes.split_first()?;
    match (*kind, rest) {
        (SYN, rest) => Some(Frame::Syn(Hello::decode(rest)?.0)),
        (SYN_ACK, rest) => {
            let (hello, rest) = Hello::decode(rest)?;
            Some(Frame::SynAck(hello, *rest.first_chunk()?))
        }
        (DATA, [seq, next, room, payload @ ..]) if !payload.is_empty() => Some(Frame::Data {
            seq: *seq,
            ack: Ack {
                next: *next,
                room: *room,
            },
            payload,
        }),
        (FIN, [seq, next, room]) => Some(Frame::Fin {
            seq: *seq,
            ack: Ack {
                next: *next,
                room: *room,
            },
        }),
        (ACK | POLL, [next, room, behind @ ..]) => {
            let (ack, behind) = (
                Ack {
                    next: *next,
                    room: *room,
                },
                u32::from_le_bytes(behind.try_into().ok()?),
            );
            Some(if *kind == ACK {
                Frame::Ack { ack, behind }
            } else {
                Frame::Poll { ack, behind }
            })
        }
        (RESET, []) => Some(Frame::Reset),
        _ => None,
    }
}

/// CRC-32 (ISO-HDLC).
fn sum(bytes: &[u8], tag: Option<Tag>) -> u32 {
    let mut hasher = Hasher::new();
    if let Some(Tag(sender, receiver)) = tag {
        hasher.update(&sender);
        hasher.update(&receiver);
    }
    hasher.update(bytes);
    hasher.finalize()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TAG: Tag = Tag([1; 8], [2; 8]);
    const HELLO: Hello = Hello {
        version: 1,
        wish: 2,
        nonce: [9, 8, 7, 6, 5, 4, 3, 2],
        payload: 240,
        window: 16,
    };
    const ACK3: super::Ack = super::Ack { next: 3, room: 16 };

    fn frames() -> [Frame<'static>; 7] {
        [
            Frame::Syn(HELLO),
            Frame::SynAck(HELLO, [1; 8]),
            Frame::Data {
                seq: 7,
                ack: ACK3,
                payload: b"hello",
            },
            Frame::Fin { seq: 8, ack: ACK3 },
            Frame::Ack {
                ack: ACK3,
                behind: 0b101,
            },
            Frame::Poll { ack: ACK3, behind: 0 },
            Frame::Reset,
        ]
    }

    fn on_the_line(frame: &Frame<'_>) -> Vec<u8> {
        let mut out = Vec::new();
        frame.encode(Some(TAG), &mut out);
        out
    }

    #[test]
    fn a_frame_is_read_as_it_was_written_and_ends_with_the_only_zero() {
        for frame in frames() {
            let line = on_the_line(&frame);
            let (zero, stuffed) = line.split_last().unwrap();
            assert!(*zero == 0 && !stuffed.contains(&0));
            let bytes = check(cobs::unstuff(stuffed).unwrap(), Some(TAG)).unwrap();
            assert_eq!(decode(&bytes), Some(frame));
        }
    }

    #[test]
    fn the_bytes_are_those_of_the_protocol() {
        let line = on_the_line(&Frame::Ack { ack: ACK3, behind: 5 });
        let bytes = cobs::unstuff(&line[..line.len() - 1]).unwrap();
        assert_eq!(bytes[..7], [5, 3, 16, 5, 0, 0, 0]);
        let mut hasher = Hasher::new();
        hasher.update(&[[1; 8], [2; 8]].concat());
        hasher.update(&bytes[..7]);
        assert_eq!(bytes[7..], hasher.finalize().to_le_bytes());
        let line = on_the_line(&Frame::Syn(HELLO));
        let bytes = cobs::unstuff(&line[..line.len() - 1]).unwrap();
        assert_eq!(bytes[..14], [1, 1, 2, 9, 8, 7, 6, 5, 4, 3, 2, 240, 0, 16]);
        assert_eq!(bytes[14..], crc32fast::hash(&bytes[..14]).to_le_bytes());
    }

    #[test]
    fn a_frame_of_another_time_or_of_ones_own_does_not_pass() {
        for frame in frames().into_iter().filter(|frame| !frame.is_hello()) {
            let line = on_the_line(&frame);
            for tag in [None, Some(Tag(TAG.1, TAG.0)), Some(Tag([1; 8], [3; 8]))] {
                assert_eq!(check(cobs::unstuff(&line[..line.len() - 1]).unwrap(), tag), None);
            }
        }
    }
}
