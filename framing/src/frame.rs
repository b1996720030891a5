//! The frame, byte by byte: `kind u8, lane varint, length varint, payload` (PROTOCOL.md § 3.1).
//!
//! Knows headers and which payload lengths each kind may have; what a frame does is the link's affair.

use crate::error::Breach;
use crate::limits::{MAX_CLOSE_TEXT, MAX_FRAGMENT, MAX_HEADER};
use crate::varint;

/// What a frame is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Kind {
    /// The next bytes of a lane.
    Data = 0x01,
    /// The peer may send on a lane up to an absolute offset.
    Credit = 0x02,
    /// A lane was received up to an absolute offset.
    Ack = 0x03,
    /// A lane is complete.
    LaneEnd = 0x04,
    /// A lane is given up by its sender.
    LaneReset = 0x05,
    /// A lane is not wanted by its receiver.
    LaneStop = 0x06,
    /// The receiver is done with a lane.
    LaneDone = 0x07,
    /// Asks for a sign of life.
    Ping = 0x08,
    /// The sign of life.
    Pong = 0x09,
    /// A new session.
    SessionNew = 0x0a,
    /// The dialer goes on with a session.
    Resume = 0x0b,
    /// The listener goes on with it.
    Resumed = 0x0c,
    /// The listener does not.
    Reject = 0x0d,
    /// Nothing follows.
    Close = 0x0e,
}

impl Kind {
    const ALL: [Self; 14] = [
        Self::Data,
        Self::Credit,
        Self::Ack,
        Self::LaneEnd,
        Self::LaneReset,
        Self::LaneStop,
        Self::LaneDone,
        Self::Ping,
        Self::Pong,
        Self::SessionNew,
        Self::Resume,
        Self::Resumed,
        Self::Reject,
        Self::Close,
    ];

    /// The kind with this number, or `None` for one to be skipped (0x80 and above).
    fn new(kind: u8) -> Result<Option<Self>, Breach> {
        match Self::ALL.get(usize::from(kind.wrapping_sub(1))) {
            Some(known) => Ok(Some(*known)),
            None if kind >= 0x80 => Ok(None),
            None => Err(Breach::UnknownFrame { kind }),
        }
    }

    /// Fewest and most bytes of payload, where a DATA frame carries at most `fragment`.
    const fn payload(self, fragment: usize) -> (usize, usize) {
        match self {
            Self::Data => (1, fragment),
            Self::Credit | Self::Ack | Self::LaneReset | Self::LaneStop => (1, varint::MAX_LEN),
            Self::LaneEnd | Self::LaneDone => (0, 0),
            Self::Ping | Self::Pong => (8, 8),
            Self::SessionNew => (32, 32),
            Self::Resume | Self::Resumed => (32, MAX_FRAGMENT),
            Self::Reject => (1, 1 + varint::MAX_LEN + 32),
            Self::Close => (1, varint::MAX_LEN + MAX_CLOSE_TEXT),
        }
    }

    /// Whether the frame speaks of one lane; the others have lane 0 in their header.
    const fn has_lane(self) -> bool {
        matches!(
            self,
            Self::Data
                | Self::Credit
                | Self::Ack
                | Self::LaneEnd
                | Self::LaneReset
                | Self::LaneStop
                | Self::LaneDone
        )
    }
}

/// The header of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Header {
    /// `None`: skip the frame.
    pub(crate) kind: Option<Kind>,
    pub(crate) lane: u64,
    /// Bytes of payload.
    pub(crate) len: usize,
}

impl Header {
    /// Reads the header at the beginning of `bytes`: what it says and its length, or `None` if more is needed.
    ///
    /// A payload longer than its kind may have is refused here, before anything is reserved.
    #[inline]
    pub(crate) fn decode(bytes: &[u8], fragment: usize) -> Result<Option<(Self, usize)>, Breach> {
        if let [0x01, lane @ 0..=250, len @ 1..=250, ..] = bytes {
            // fragments are never limited to less than that
            let header = Self {
                kind: Some(Kind::Data),
                lane: u64::from(*lane),
                len: usize::from(*len),
            };
            if header.len <= fragment {
                return Ok(Some((header, 3)));
            }
        }
        Self::decode_any(bytes, fragment)
    }

    #[cold]
    fn decode_any(bytes: &[u8], fragment: usize) -> Result<Option<(Self, usize)>, Breach> {
        let Some((&first, mut rest)) = bytes.split_first() else {
            return Ok(None);
        };
        let kind = Kind::new(first)?;
        let Some((lane, at)) = varint::decode(rest)? else {
            return Ok(None);
        };
        rest = rest.get(at..).unwrap_or_default();
        let Some((len, more)) = varint::decode(rest)? else {
            return Ok(None);
        };
        let (least, limit) = kind.map_or((0, MAX_FRAGMENT), |kind| kind.payload(fragment));
        let too_long = Breach::FrameTooLong {
            kind: first,
            len,
            limit,
        };
        let len = usize::try_from(len).map_err(|_| too_long.clone())?;
        if len > limit {
            return Err(too_long);
        }
        if len < least || (lane != 0 && kind.is_some_and(|kind| !kind.has_lane())) {
            return Err(Breach::FrameForm { kind: first });
        }
        Ok(Some((
            Self { kind, lane, len },
            at.saturating_add(more).saturating_add(1),
        )))
    }
}

/// A header about to be written.
#[derive(Debug)]
pub(crate) struct HeaderBytes {
    bytes: [u8; MAX_HEADER],
    len: usize,
}

impl HeaderBytes {
    /// The header of a frame of `kind` with `len` bytes of payload.
    #[inline]
    pub(crate) fn new(kind: Kind, lane: u64, len: usize) -> Self {
        if let (0..=250, 0..=250) = (lane, len) {
            // a byte each, as in most
            let mut bytes = [0; MAX_HEADER];
            let [kind_at, lane_at, len_at, ..] = &mut bytes;
            (*kind_at, *lane_at, *len_at) = (kind as u8, lane as u8, len as u8);
            return Self { bytes, len: 3 };
        }
        Self::new_any(kind, lane, len)
    }

    #[cold]
    fn new_any(kind: Kind, lane: u64, len: usize) -> Self {
        let mut bytes = [0; MAX_HEADER];
        let mut rest = &mut bytes[..];
        varint::put(&mut rest, u64::from(kind as u8));
        varint::put(&mut rest, lane);
        varint::put(&mut rest, u64::try_from(len).unwrap_or(u64::MAX));
        let left = rest.len();
        Self {
            bytes,
            len: MAX_HEADER.saturating_sub(left),
        }
    }

    /// Its bytes.
    #[inline]
    pub(crate) fn as_slice(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }
}

/// The one varint that is the whole payload of a frame of `kind`.
pub(crate) fn number(kind: Kind, mut payload: &[u8]) -> Result<u64, Breach> {
    let number = varint::take(&mut payload)?;
    if payload.is_empty() {
        Ok(number)
    } else {
        Err(Breach::FrameForm { kind: kind as u8 })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn drawn() -> Vec<(Kind, u64, usize, &'static [u8])> {
        vec![
            (Kind::Data, 0, 5, &[0x01, 0, 5]),
            (Kind::Data, 300, 16384, &[0x01, 251, 0x2c, 0x01, 251, 0x00, 0x40]),
            (Kind::Credit, 7, 5, &[0x02, 7, 5]),
            (Kind::Ack, 0, 1, &[0x03, 0, 1]),
            (Kind::LaneEnd, 7, 0, &[0x04, 7, 0]),
            (Kind::LaneReset, 7, 1, &[0x05, 7, 1]),
            (Kind::LaneStop, 7, 1, &[0x06, 7, 1]),
            (Kind::LaneDone, 7, 0, &[0x07, 7, 0]),
            (Kind::Ping, 0, 8, &[0x08, 0, 8]),
            (Kind::Pong, 0, 8, &[0x09, 0, 8]),
            (Kind::SessionNew, 0, 32, &[0x0a, 0, 32]),
            (Kind::Resume, 0, 100, &[0x0b, 0, 100]),
            (Kind::Resumed, 0, 100, &[0x0c, 0, 100]),
            (Kind::Reject, 0, 1, &[0x0d, 0, 1]),
            (Kind::Close, 0, 1, &[0x0e, 0, 1]),
        ]
    }

    #[test]
    fn each_kind_has_its_header_both_ways() {
        for (kind, lane, len, bytes) in drawn() {
            assert_eq!(HeaderBytes::new(kind, lane, len).as_slice(), bytes);
            let header = Header {
                kind: Some(kind),
                lane,
                len,
            };
            assert_eq!(Header::decode(bytes, 16384), Ok(Some((header, bytes.len()))));
            for cut in 0..bytes.len() {
                assert_eq!(Header::decode(&bytes[..cut], 16384), Ok(None));
            }
        }
    }

    #[test]
    fn a_payload_longer_than_agreed_is_refused_by_its_header_alone() {
        for (bytes, len, limit) in [
            (&[0x01, 0, 251, 0x01, 0x40][..], 16385, 16384),
            (&[0x01, 0, 253, 0, 0, 0, 0, 1, 0, 0, 0], 1 << 32, 16384),
            (&[0x02, 7, 10], 10, 9),
            (&[0x04, 7, 1], 1, 0),
            (&[0x08, 0, 9], 9, 8),
            (&[0x0b, 0, 252, 1, 0, 1, 0], 65537, 65536),
            (&[0x0e, 0, 251, 0x0a, 0x01], 266, 265),
            (&[0x99, 0, 252, 1, 0, 1, 0], 65537, 65536),
        ] {
            assert_eq!(
                Header::decode(bytes, 16384),
                Err(Breach::FrameTooLong {
                    kind: bytes[0],
                    len,
                    limit
                })
            );
        }
    }

    #[test]
    fn kinds_above_0x80_are_skipped_and_others_refused() {
        let header = Header {
            kind: None,
            lane: 3,
            len: 2,
        };
        assert_eq!(Header::decode(&[0x80, 3, 2, 9, 9], 240), Ok(Some((header, 3))));
        for kind in [0x00, 0x0f, 0x7f] {
            assert_eq!(
                Header::decode(&[kind, 0, 0], 240),
                Err(Breach::UnknownFrame { kind })
            );
        }
    }

    #[test]
    fn payloads_too_short_and_lanes_out_of_place_are_refused() {
        for bytes in [
            [0x01, 0, 0],
            [0x03, 0, 0],
            [0x08, 0, 7],
            [0x08, 1, 8],
            [0x0e, 1, 1],
        ] {
            assert_eq!(
                Header::decode(&bytes, 240),
                Err(Breach::FrameForm { kind: bytes[0] })
            );
        }
    }

    #[test]
    fn a_number_fills_its_payload() {
        assert_eq!(number(Kind::Ack, &[251, 0, 1]), Ok(256));
        assert_eq!(number(Kind::Ack, &[1, 1]), Err(Breach::FrameForm { kind: 3 }));
        assert!(number(Kind::Ack, &[251, 0]).is_err());
    }

    proptest! {
        #[test]
        fn a_header_survives_both_ways(kind in 0_usize..14, lane: u64, len in 0_usize..=16384) {
            let kind = Kind::ALL[kind];
            let (least, most) = kind.payload(16384);
            let len = len.clamp(least, most);
            let lane = if kind.has_lane() { lane } else { 0 };
            let bytes = HeaderBytes::new(kind, lane, len);
            let header = Header { kind: Some(kind), lane, len };
            prop_assert_eq!(Header::decode(bytes.as_slice(), 16384), Ok(Some((header, bytes.as_slice().len()))));
        }

        #[test]
        fn garbage_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..20)) {
            let _ = Header::decode(&bytes, 240);
        }
    }
}
