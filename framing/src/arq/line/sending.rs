//! The half of a line that sends: frames under way, what of them has come, and what is sent again
//! (PROTOCOL.md § 11.4, § 11.5).
//!
//! A line is not a network: it keeps what it carries in order, so a frame is lost as soon as one that was sent after it
//! has come.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::{Bytes, BytesMut};

use super::{Nanos, Terms, low};
use crate::arq::frame::Ack;

/// Longest time until something lost is sent again, but for lines on which a window takes longer.
const MAX_RTO: Nanos = 2_000_000_000;
/// What adapters and drivers may add to the time on the line, until it was measured.
const LATENCY: Nanos = 20_000_000;

/// What is sent, until it has come.
///
/// # Invariants
///
/// `flight` holds the frames `base .. next`; the first of them is not acknowledged. `outgoing` holds at most one frame.
#[derive(Debug)]
pub(super) struct Sending {
    terms: Terms,
    outgoing: BytesMut,
    flight: VecDeque<Flying>,
    base: u64,
    next: u64,
    /// The first frame that the peer has no room for.
    room_until: u64,
    /// Number of the next transmission.
    transmissions: u64,
    fin: Fin,
    rto: Nanos,
    max_rto: Nanos,
    rto_at: Option<Nanos>,
    /// Mean and deviation.
    round_trip: Option<(Nanos, Nanos)>,
    /// Frames that were sent again.
    again: u64,
}

/// A frame that was sent and not acknowledged.
#[derive(Debug)]
struct Flying {
    /// Nothing for the end.
    payload: Option<Bytes>,
    sent_at: Nanos,
    /// Number of its last transmission.
    transmission: u64,
    tries: u32,
    has_come: bool,
    is_lost: bool,
}

/// How far this side's end is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fin {
    No,
    Wanted,
    Sent,
    Heard,
}

/// A frame for the line: its number, and what it carries; nothing for the end.
pub(super) struct Numbered {
    pub(super) seq: u8,
    pub(super) payload: Option<Bytes>,
}

impl Sending {
    pub(super) fn new(terms: Terms) -> Self {
        let window = terms.frame_time.saturating_mul(u64::from(terms.window));
        let rto = window.saturating_add(LATENCY.saturating_mul(2));
        let rto = rto.saturating_add(rto / 2);
        Self {
            terms,
            outgoing: BytesMut::new(),
            flight: VecDeque::new(),
            base: 0,
            next: 0,
            room_until: 0,
            transmissions: 0,
            fin: Fin::No,
            rto,
            // On a slow line a window alone takes longer.
            max_rto: rto.max(MAX_RTO),
            rto_at: None,
            round_trip: None,
            again: 0,
        }
    }

    /// Both sides are there, on these terms.
    pub(super) fn open(&mut self, terms: Terms) {
        self.terms = terms;
        self.room_until = self.base.saturating_add(u64::from(terms.window));
    }

    /// How many bytes of the stream are taken now. Little is kept: what is urgent must not wait behind much.
    pub(super) fn write_room(&self) -> usize {
        if self.fin != Fin::No {
            return 0;
        }
        self.terms.payload.saturating_sub(self.outgoing.len())
    }

    pub(super) fn write(&mut self, bytes: &[u8]) {
        self.outgoing.extend_from_slice(bytes);
    }

    /// Ends the stream behind what was written.
    pub(super) fn close(&mut self) {
        if self.fin == Fin::No {
            self.fin = Fin::Wanted;
        }
    }

    /// Whether the peer has everything, the end included.
    pub(super) fn is_closed(&self) -> bool {
        self.fin == Fin::Heard
    }

    /// Whether something is to be said, and the peer has no room, nor anything to acknowledge.
    pub(super) fn waits_for_room(&self) -> bool {
        self.flight.is_empty() && (!self.outgoing.is_empty() || self.fin == Fin::Wanted)
    }

    /// Bytes that are kept.
    pub(super) fn kept(&self) -> usize {
        let flying = self.flight.iter().filter_map(|flying| flying.payload.as_ref());
        flying
            .map(Bytes::len)
            .sum::<usize>()
            .saturating_add(self.outgoing.len())
    }

    pub(super) const fn again(&self) -> u64 {
        self.again
    }

    pub(super) fn round_trip(&self) -> Option<Duration> {
        self.round_trip.map(|(mean, _)| Duration::from_nanos(mean))
    }

    pub(super) const fn rto(&self) -> Nanos {
        self.rto
    }

    /// When [`handle_timeout`](Self::handle_timeout) is wanted.
    pub(super) const fn timeout(&self) -> Option<Nanos> {
        self.rto_at
    }

    /// Takes what the peer says has come.
    pub(super) fn acknowledged(&mut self, ack: Ack, behind: u32, now: Nanos) {
        let came = u64::from(ack.next.wrapping_sub(low(self.base)));
        if came > self.next.saturating_sub(self.base) {
            return; // of long ago
        }
        let upto = self.base.saturating_add(came);
        self.room_until = self.room_until.max(upto.saturating_add(u64::from(ack.room)));
        let mut newest = None;
        for _ in 0..came {
            let Some(flying) = self.flight.pop_front() else {
                break;
            };
            self.base = self.base.saturating_add(1);
            newest = newest.max(Some(flying.transmission));
            if flying.tries == 1 && !flying.has_come {
                self.measure(now.saturating_sub(flying.sent_at));
            }
            if flying.payload.is_none() {
                self.fin = Fin::Heard;
            }
        }
        for (index, flying) in self.flight.iter_mut().enumerate().skip(1) {
            if index <= 32 && behind >> (index.saturating_sub(1)) & 1 == 1 {
                flying.has_come = true;
                flying.is_lost = false;
                newest = newest.max(Some(flying.transmission));
            }
        }
        // The line keeps the order: what was sent before something that has come, and has not come, is lost.
        if let Some(newest) = newest {
            for flying in &mut self.flight {
                flying.is_lost |= !flying.has_come && flying.transmission < newest;
            }
        }
        if came > 0 {
            self.rto = self.measured_rto();
            self.rto_at = None;
        }
        if self.rto_at.is_none() && !self.flight.is_empty() {
            self.rto_at = Some(now.saturating_add(self.rto));
        }
        if self.flight.is_empty() {
            self.rto_at = None;
        }
    }

    /// Jacobson's estimate; only of frames that were sent once (Karn).
    fn measure(&mut self, sample: Nanos) {
        self.round_trip = Some(match self.round_trip {
            None => (sample, sample / 2),
            Some((mean, deviation)) => {
                let off = mean.abs_diff(sample);
                let mean = mean.saturating_mul(7).saturating_add(sample) / 8;
                (mean, deviation.saturating_mul(3).saturating_add(off) / 4)
            }
        });
    }

    fn measured_rto(&self) -> Nanos {
        let Some((mean, deviation)) = self.round_trip else {
            return self.rto;
        };
        let frames = self.terms.frame_time.saturating_mul(2);
        let spread = deviation.saturating_mul(4).max(frames).saturating_add(5_000_000);
        mean.saturating_add(spread).min(self.max_rto)
    }

    /// The next frame for the line: the first that is lost, else a new one if the peer has room.
    pub(super) fn poll_frame(&mut self, now: Nanos) -> Option<Numbered> {
        if let Some(at) = self.flight.iter().position(|flying| flying.is_lost) {
            self.again = self.again.saturating_add(1);
            return self.send(at, now);
        }
        let is_full = self.flight.len() >= usize::from(self.terms.window) || self.next >= self.room_until;
        let payload = if is_full {
            return None;
        } else if !self.outgoing.is_empty() {
            let len = self.outgoing.len().min(self.terms.payload);
            Some(self.outgoing.split_to(len).freeze())
        } else if self.fin == Fin::Wanted {
            self.fin = Fin::Sent;
            None
        } else {
            return None;
        };
        self.next = self.next.saturating_add(1);
        self.flight.push_back(Flying {
            payload,
            sent_at: now,
            transmission: 0,
            tries: 0,
            has_come: false,
            is_lost: false,
        });
        self.send(self.flight.len().saturating_sub(1), now)
    }

    fn send(&mut self, at: usize, now: Nanos) -> Option<Numbered> {
        let seq = low(self.base.saturating_add(u64::try_from(at).unwrap_or(u64::MAX)));
        let transmission = self.transmissions;
        self.transmissions = transmission.saturating_add(1);
        let flying = self.flight.get_mut(at)?;
        flying.sent_at = now;
        flying.transmission = transmission;
        flying.tries = flying.tries.saturating_add(1);
        flying.is_lost = false;
        self.rto_at.get_or_insert(now.saturating_add(self.rto));
        let payload = flying.payload.clone();
        Some(Numbered { seq, payload })
    }

    /// Nothing was acknowledged for a while: the first frame that has not come counts as lost.
    pub(super) fn handle_timeout(&mut self, now: Nanos) {
        if self.rto_at.is_some_and(|at| at <= now) {
            // The answer to the first will tell of the others.
            if let Some(first) = self.flight.iter_mut().find(|flying| !flying.has_come) {
                first.is_lost = true;
            }
            self.rto = self.rto.saturating_mul(2).min(self.max_rto);
            self.rto_at = Some(now.saturating_add(self.rto));
        }
    }
}
