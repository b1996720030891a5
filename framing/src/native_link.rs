//! The link over a carrier with streams of its own: lane 0 in frames on the main stream, every other lane raw on a
//! stream in one direction (PROTOCOL.md § 3.8).

use std::collections::BTreeMap;

use bytes::{Buf, BytesMut};
use farref_transport::Class;

use crate::batch::Batch;
use crate::core::Core;
use crate::core::transmit::PutLanes;
use crate::error::{Breach, LinkError};
use crate::frame::Kind;
use crate::lanes::buffer::size;
use crate::lanes::outgoing::Turn;
use crate::link::{LaneId, LinkConfig, Nanos, StreamKey};
use crate::varint::{self, VarintError};

/// First byte of a stream that carries a lane.
const LANE: u8 = 0x01;
/// Longest header of such a stream.
const HEADER: usize = 1 + 9 + 9;

/// A link over native streams.
///
/// Used like a [`StreamLink`](crate::StreamLink), with as many streams to read as the peer opens.
#[derive(Debug)]
pub struct NativeLink {
    core: Core,
    streams: BTreeMap<StreamKey, Source>,
}

/// A stream of the peer's.
#[derive(Debug, Default)]
struct Source {
    /// The lane it carries, once its header is there.
    lane: Option<u64>,
    /// How many of the next bytes we have already.
    known: u64,
    /// A part of the header, or what came before the peer was known.
    held: BytesMut,
    ended: bool,
}

impl NativeLink {
    /// Bodies have streams of their own.
    const IS_FRAMED: bool = false;

    /// A link over a fresh carrier.
    #[must_use]
    pub fn new(config: LinkConfig, now: Nanos) -> Self {
        Self::over(Core::new(config, now))
    }

    /// Goes on, over native streams, with what a link of any form has left.
    #[must_use]
    pub fn over(core: Core) -> Self {
        Self {
            core,
            streams: BTreeMap::new(),
        }
    }

    fn put(&mut self, batch: &mut Batch, now: Nanos) -> bool {
        self.core.poll_transmit(&mut Native, batch, now)
    }

    fn take(
        &mut self,
        stream: StreamKey,
        input: &mut BytesMut,
        end: bool,
        now: Nanos,
    ) -> Result<(), LinkError> {
        if stream == StreamKey::MAIN {
            self.core.handle_main(input, end, false, now)?;
            return self.take_held(now);
        }
        if stream.is_lost() {
            input.clear();
            self.streams.remove(&stream.found()); // why, the main stream tells
            return Ok(());
        }
        self.core.heard(now)?;
        let source = self.streams.entry(stream).or_default();
        source.held.unsplit(input.split());
        source.ended = end;
        if self.core.is_open() {
            self.take_lane(stream)?;
            self.core.owe(now);
        } else if let Some(breach) = self.too_early(stream) {
            return Err(self.core.fail(breach.into()));
        }
        Ok(())
    }

    /// What came on the other streams before the peer was known.
    fn take_held(&mut self, now: Nanos) -> Result<(), LinkError> {
        if !self.core.is_open() {
            return Ok(());
        }
        let held =
            |(key, source): (&StreamKey, &Source)| (!source.held.is_empty() || source.ended).then_some(*key);
        let waiting: Vec<StreamKey> = self.streams.iter().filter_map(held).collect();
        for stream in waiting {
            self.take_lane(stream)?;
            self.core.owe(now);
        }
        Ok(())
    }

    /// Whether more came on a stream before the peer was known, or its answer to a resume, than it may send of that lane.
    fn too_early(&self, stream: StreamKey) -> Option<Breach> {
        let (lanes, credit) = self.core.unasked();
        let held = &self.streams.get(&stream)?.held;
        let mut allowed = credit;
        if let Some((lane, offset)) = header(held) {
            allowed = size(self.core.granted(lane).saturating_sub(offset));
            let mut others = self.streams.iter().filter(|(key, _)| **key != stream);
            if others.any(|(_, other)| header(&other.held).is_some_and(|(also, _)| also == lane)) {
                let lane = LaneId::new(lane);
                return Some(Breach::LaneNamedTwice { lane });
            }
        }
        (self.streams.len() > lanes || held.len() > allowed.saturating_add(HEADER)).then_some(
            Breach::Unexpected {
                kind: Kind::Data as u8,
            },
        )
    }

    /// Takes what is there of one stream.
    fn take_lane(&mut self, stream: StreamKey) -> Result<(), LinkError> {
        self.begin_lane(stream)
            .map_err(|breach| self.core.fail(breach.into()))?;
        let Some(source) = self.streams.get_mut(&stream) else {
            return Ok(());
        };
        let ended = source.ended;
        if let Some(lane) = source.lane {
            let known = usize::try_from(source.known)
                .unwrap_or(usize::MAX)
                .min(source.held.len());
            source.held.advance(known);
            source.known = source
                .known
                .saturating_sub(u64::try_from(known).unwrap_or(u64::MAX));
            let bytes = source.held.split().freeze();
            // of a lane that was reset, some bytes may still be under way
            if !self.core.is_done(lane) {
                if !bytes.is_empty() {
                    self.core.handle_lane_data(lane, bytes)?;
                }
                if ended {
                    self.core.handle_lane_end(lane)?;
                }
            }
        }
        if ended {
            self.streams.remove(&stream);
        }
        Ok(())
    }

    /// Reads the header of a stream, if it is not known and is there.
    fn begin_lane(&mut self, stream: StreamKey) -> Result<(), Breach> {
        let Some(source) = self.streams.get(&stream).filter(|source| source.lane.is_none()) else {
            return Ok(());
        };
        let Some((&kind, mut rest)) = source.held.split_first() else {
            return Ok(());
        };
        if kind != LANE {
            return Err(Breach::UnknownFrame { kind });
        }
        let numbers = varint::take(&mut rest).and_then(|lane| Ok((lane, varint::take(&mut rest)?)));
        let (number, offset) = match numbers {
            Ok(numbers) => numbers,
            Err(VarintError::Truncated) => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        let lane = LaneId::new(number);
        if self.streams.values().any(|other| other.lane == Some(number)) {
            return Err(Breach::LaneNamedTwice { lane });
        }
        let received = self.core.received(number);
        if number == 0 || (offset > received && !self.core.is_done(number)) {
            return Err(Breach::Offset { lane, offset });
        }
        let left = rest.len();
        if let Some(source) = self.streams.get_mut(&stream) {
            source.lane = Some(number);
            source.known = received.saturating_sub(offset);
            source.held.advance(source.held.len().saturating_sub(left));
        }
        Ok(())
    }

    fn forget(&mut self) {
        self.streams.clear();
    }
}

crate::link::link_over_core!(NativeLink);

/// Lane and offset that a stream begins with, if they are there.
fn header(bytes: &[u8]) -> Option<(u64, u64)> {
    let mut rest = bytes.strip_prefix(&[LANE])?;
    let lane = varint::take(&mut rest).ok()?;
    Some((lane, varint::take(&mut rest).ok()?))
}

/// Lanes on streams of their own.
struct Native;

impl PutLanes for Native {
    fn put_turn(&mut self, turn: Turn<'_>, batch: &mut Batch) {
        let (stream, class, end) = (StreamKey::new(turn.lane), turn.class, turn.end);
        if turn.first {
            let mut header = [LANE; HEADER];
            let mut rest = header.get_mut(1..).unwrap_or_default();
            varint::put(&mut rest, turn.lane);
            varint::put(&mut rest, turn.offset);
            let len = HEADER.saturating_sub(rest.len());
            batch.copy(stream, class, header.get(..len).unwrap_or_default());
        }
        turn.transmit(batch, stream);
        if end {
            batch.end(stream, class);
        }
    }

    fn put_reset(&mut self, lane: u64, class: Class, code: u64, batch: &mut Batch) {
        batch.reset(
            StreamKey::new(lane),
            class,
            u32::try_from(code).unwrap_or(u32::MAX),
        );
    }
}
