//! Frames out: what goes next, and in which order (PROTOCOL.md § 3.6).

use farref_transport::Class;

use super::{Begun, Core, Phase};
use crate::batch::Batch;
use crate::frame::{HeaderBytes, Kind};
use crate::lanes::buffer::{length, size};
use crate::lanes::incoming::Note;
use crate::lanes::outgoing::Turn;
use crate::limits::{ACK_ALONE, ACK_ANYWAY, ACK_RIDING, EARLY_BYTES, MIN_FRAGMENT};
use crate::link::{Nanos, Role, StreamKey};
use crate::varint;

/// How the lanes beside lane 0 travel: what differs between the two forms of link on the way out.
pub(crate) trait PutLanes {
    /// Puts the next bytes of a lane.
    fn put_turn(&mut self, turn: Turn<'_>, batch: &mut Batch);

    /// Gives up the stream of a lane of which something was sent, if it has one. The frame that tells is put
    /// elsewhere.
    fn put_reset(&mut self, lane: u64, class: Class, code: u64, batch: &mut Batch);
}

impl Core {
    /// How much of lane 0 may be sent, and in pieces of what size; `None`: nothing.
    #[inline]
    fn allowance(&self) -> Option<(u64, usize)> {
        match self.phase {
            Phase::Open => Some((u64::MAX, self.carrier.fragment)),
            Phase::Joining if !self.resuming => Some((u64::MAX, self.carrier.fragment)),
            Phase::Greeting if !self.resuming && self.role == Role::Dialer => {
                Some((EARLY_BYTES, MIN_FRAGMENT))
            }
            _ => None,
        }
    }

    /// Whether lanes beside lane 0, and what is said about lanes, may be sent.
    fn is_flowing(&self) -> bool {
        self.phase == Phase::Open || (self.phase == Phase::Joining && !self.resuming)
    }

    #[inline]
    pub(crate) fn wants_write(&self) -> bool {
        debug_assert!(!self.calm || self.is_calm());
        if self.calm {
            self.out.may_send_messages() || self.acks_due()
        } else {
            self.wants_write_any()
        }
    }

    /// What `calm` says.
    fn is_calm(&self) -> bool {
        self.phase == Phase::Open
            && self.carrier.greeting.is_empty()
            && self.closing.is_none()
            && !self.abandoned
            && self.inc.notes.is_empty()
            && !self.out.has_turns()
            && self.out.resets.is_empty()
            && !self.pulse.wants_to_speak()
    }

    #[cold]
    fn wants_write_any(&self) -> bool {
        if self.finished {
            return false;
        }
        if !self.carrier.greeting.is_empty() {
            return true;
        }
        let Some((limit, _)) = self.allowance() else {
            return false;
        };
        if self.abandoned {
            return self.closing.is_some();
        }
        (self.out.may_send_messages() && self.out.messages.sent() < limit)
            || (self.is_flowing() && (self.out.may_send_lanes() || self.speaks()))
            || self.wants_close()
    }

    /// Whether there is something to say about lanes, or a sign of life to give, that should not wait.
    fn speaks(&self) -> bool {
        self.inc.notes.len() > self.inc.dones
            || !self.out.resets.is_empty()
            || self.pulse.wants_to_speak()
            || self.acks_due()
            || self.dones_due()
    }

    #[inline]
    fn acks_due(&self) -> bool {
        let unacked = self.inc.unacked();
        let is_due = self.pulse.is_due() || (unacked >= ACK_ALONE && self.acks_go_alone(unacked));
        is_due && unacked != 0 && self.joined().is_some()
    }

    /// Whether so much is acknowledged by itself: later while more follows of a body that needs no credit.
    #[cold]
    fn acks_go_alone(&self, unacked: u64) -> bool {
        let follows = |begun: Begun| self.inc.is_granted(begun.lane);
        unacked >= ACK_ANYWAY || !self.carrier.begun.is_some_and(follows)
    }

    /// The peer needs to know before it runs out of lanes; otherwise there is time.
    fn dones_due(&self) -> bool {
        let dones = self.inc.dones;
        dones != 0 && (self.pulse.is_due() || dones >= size(u64::from(self.limits.lanes >> 2).max(1)))
    }

    fn wants_close(&self) -> bool {
        self.closing
            .as_ref()
            .is_some_and(|reason| !reason.is_done() || self.out.is_drained())
    }

    pub(crate) fn poll_transmit(&mut self, lanes: &mut impl PutLanes, batch: &mut Batch, now: Nanos) -> bool {
        if !self.wants_write() {
            return false;
        }
        let fresh = batch.is_empty();
        let before = batch.len();
        batch.begin_urgent();
        if self.calm {
            self.put_acks(batch, now);
            self.put_messages(batch, u64::MAX, self.carrier.fragment);
        } else {
            self.put_any(lanes, batch, fresh, now);
            self.calm = self.is_calm();
        }
        batch.end_urgent();
        let put = batch.len().saturating_sub(before);
        self.counts.bytes_sent = self.counts.bytes_sent.saturating_add(length(put));
        put != 0 || (fresh && !batch.is_empty())
    }

    /// Puts all that there is to say, and may be said now. `fresh`: the batch was empty.
    #[cold]
    fn put_any(&mut self, lanes: &mut impl PutLanes, batch: &mut Batch, fresh: bool, now: Nanos) {
        let goes_alone = !self.carrier.greeting.is_empty() && self.counts.carriers > 1;
        batch.put(&self.carrier.greeting);
        self.carrier.greeting = Vec::new();
        if goes_alone && self.phase == Phase::Open {
            // By itself, so that a carrier which is cut soon after has brought that much: of an encrypted record that is
            // cut nothing comes.
            return;
        }
        if self.phase == Phase::Over {
            self.finished = true;
        }
        let abandoned = self.abandoned;
        let closing = self.closing.take_if(|reason| !reason.is_done() || abandoned);
        let is_all = closing.is_some() || abandoned;
        if let Some((limit, fragment)) = self.allowance().filter(|_| !is_all) {
            if self.is_flowing() {
                self.put_signs(batch);
                self.put_acks(batch, now);
                self.put_notes(batch);
            }
            self.put_messages(batch, limit, fragment);
            batch.end_urgent();
            if fresh && self.is_flowing() {
                self.put_lanes(lanes, batch, fragment);
            }
            if self.wants_close()
                && let Some(reason) = self.closing.take()
            {
                self.put_close(&reason, batch);
                self.closing = Some(reason);
            }
        }
        batch.end_urgent();
        if let Some(reason) = closing {
            self.put_close(&reason, batch);
            self.closing = Some(reason);
        }
    }

    fn put_messages(&mut self, batch: &mut Batch, limit: u64, fragment: usize) {
        while self.out.may_send_messages() && batch.has_room() {
            let messages = &mut self.out.messages;
            let left = limit.saturating_sub(messages.sent()).min(messages.unsent());
            let n = size(left).min(fragment);
            if n == 0 {
                return;
            }
            batch.put(HeaderBytes::new(Kind::Data, 0, n).as_slice());
            messages.transmit(n, batch, StreamKey::MAIN, Class::Interactive);
        }
    }

    fn put_lanes(&mut self, lanes: &mut impl PutLanes, batch: &mut Batch, fragment: usize) {
        while let Some((lane, class, code, begun)) = self.out.next_reset() {
            put_number(Kind::LaneReset, lane, code, batch);
            if begun {
                lanes.put_reset(lane, class, code, batch);
            }
        }
        while batch.has_room_for_bodies() {
            let Some(turn) = self.out.next_turn(fragment) else {
                return;
            };
            batch.begin_yielding();
            lanes.put_turn(turn, batch);
        }
    }

    fn put_signs(&mut self, batch: &mut Batch) {
        if let Some(signs) = self.pulse.signs() {
            for stamp in signs.pongs.drain(..) {
                put_frame(Kind::Pong, &stamp, batch);
            }
            for stamp in signs.pings.drain(..) {
                put_frame(Kind::Ping, &stamp.to_le_bytes(), batch);
            }
        }
    }

    /// Acknowledges what came, if that has waited long enough to ride along.
    fn put_acks(&mut self, batch: &mut Batch, now: Nanos) {
        let unacked = self.inc.unacked();
        let rides = unacked >= ACK_RIDING || self.pulse.is_due() || self.pulse.is_old(now);
        if rides && unacked != 0 && self.joined().is_some() {
            self.acknowledge(batch);
        }
    }

    #[cold]
    fn acknowledge(&mut self, batch: &mut Batch) {
        self.inc
            .acknowledge(|lane, upto| put_number(Kind::Ack, lane, upto, batch));
        self.pulse.acknowledged();
    }

    /// What is said about lanes of the peer's.
    fn put_notes(&mut self, batch: &mut Batch) {
        while let Some(note) = self.inc.notes.pop_front() {
            match note {
                Note::Credit { lane, upto } => put_number(Kind::Credit, lane, upto, batch),
                Note::Stop { lane, code } => put_number(Kind::LaneStop, lane, code, batch),
                Note::Done { lane } => batch.put(HeaderBytes::new(Kind::LaneDone, lane, 0).as_slice()),
            }
        }
        self.inc.dones = 0;
        if self.inc.unacked() == 0 || self.joined().is_none() {
            self.pulse.acknowledged();
        }
    }
}

fn put_frame(kind: Kind, payload: &[u8], batch: &mut Batch) {
    batch.put(HeaderBytes::new(kind, 0, payload.len()).as_slice());
    batch.put(payload);
}

fn put_number(kind: Kind, lane: u64, number: u64, batch: &mut Batch) {
    let mut payload = [0; varint::MAX_LEN];
    let mut rest = &mut payload[..];
    varint::put(&mut rest, number);
    let len = varint::MAX_LEN.saturating_sub(rest.len());
    batch.put(HeaderBytes::new(kind, lane, len).as_slice());
    batch.put(payload.get(..len).unwrap_or_default());
}
