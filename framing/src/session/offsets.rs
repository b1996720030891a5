//! How far one side has received: what a session goes on from (PROTOCOL.md § 4.4).

use crate::error::Breach;
use crate::varint;

/// How far each lane of the peer's was received.
///
/// # Invariant
///
/// `open` is strictly ascending, from 1 to `highest`. A lane up to `highest` that is not in it is done; one above
/// has not been seen.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Offsets {
    /// Bytes of lane 0.
    pub(crate) messages: u64,
    /// Highest lane seen.
    pub(crate) highest: u64,
    /// Lanes that are not done, and the bytes received of each.
    pub(crate) open: Vec<(u64, u64)>,
}

/// What a peer's offsets say about one lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Progress {
    /// It goes on here.
    At(u64),
    /// The peer is done with it.
    Done,
}

impl Offsets {
    /// What they say about `lane`.
    pub(crate) fn lane(&self, lane: u64) -> Progress {
        match self.open.binary_search_by_key(&lane, |(open, _)| *open) {
            Ok(at) => Progress::At(self.open.get(at).map_or(0, |(_, received)| *received)),
            Err(_) if lane > self.highest => Progress::At(0),
            Err(_) => Progress::Done,
        }
    }

    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        varint::put(out, self.messages);
        varint::put(out, self.highest);
        varint::put(out, u64::try_from(self.open.len()).unwrap_or(u64::MAX));
        let mut last = 0_u64;
        for (lane, received) in &self.open {
            varint::put(out, lane.saturating_sub(last));
            varint::put(out, *received);
            last = *lane;
        }
    }

    /// Takes offsets off the front of `bytes`; `form` is the error for those that make no sense.
    pub(crate) fn decode(bytes: &mut &[u8], form: &Breach) -> Result<Self, Breach> {
        let messages = varint::take(bytes)?;
        let highest = varint::take(bytes)?;
        let count = varint::take(bytes)?;
        let mut open = Vec::new(); // grows with what is there, not with what is announced
        let mut last = 0_u64;
        for _ in 0..count {
            let step = varint::take(bytes)?;
            let received = varint::take(bytes)?;
            let lane = last
                .checked_add(step)
                .filter(|lane| step != 0 && *lane <= highest);
            last = lane.ok_or_else(|| form.clone())?;
            open.push((last, received));
        }
        Ok(Self {
            messages,
            highest,
            open,
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const FORM: Breach = Breach::FrameForm { kind: 0x0b };

    fn drawn() -> (Offsets, &'static [u8]) {
        let offsets = Offsets {
            messages: 300,
            highest: 9,
            open: vec![(2, 0), (7, 251)],
        };
        (offsets, &[251, 0x2c, 1, 9, 2, 2, 0, 5, 251, 251, 0])
    }

    #[test]
    fn offsets_have_their_bytes_both_ways() {
        let (offsets, bytes) = drawn();
        let mut out = Vec::new();
        offsets.encode(&mut out);
        assert_eq!(out, bytes);
        let mut rest = bytes;
        assert_eq!(Offsets::decode(&mut rest, &FORM), Ok(offsets));
        assert!(rest.is_empty());
        for cut in 0..bytes.len() {
            assert!(Offsets::decode(&mut &bytes[..cut], &FORM).is_err());
        }
    }

    #[test]
    fn a_lane_is_open_done_or_not_seen() {
        let (offsets, _) = drawn();
        let told: Vec<_> = [1, 2, 7, 9, 10].map(|lane| offsets.lane(lane)).into();
        let want = [
            Progress::Done,
            Progress::At(0),
            Progress::At(251),
            Progress::Done,
            Progress::At(0),
        ];
        assert_eq!(told, want);
    }

    #[test]
    fn lanes_twice_or_above_the_highest_are_refused() {
        for bytes in [&[0, 9, 1, 0, 0][..], &[0, 9, 2, 3, 0, 0, 0], &[0, 9, 1, 10, 0]] {
            assert_eq!(Offsets::decode(&mut &bytes[..], &FORM), Err(FORM));
        }
    }

    proptest! {
        #[test]
        fn garbage_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..60)) {
            let _ = Offsets::decode(&mut &bytes[..], &FORM);
        }
    }
}
