//! Frames in: what each does, and in which phase it may come (PROTOCOL.md § 3, § 4.2).

use bytes::{Buf, Bytes, BytesMut};

use super::{Begun, Core, Membership, Phase};
use crate::error::{Breach, LinkError, Loss, Mismatch, Misuse, SessionEnd};
use crate::event::{CloseReason, LinkEvent, Negotiated};
use crate::frame::{Header, Kind, number};
use crate::io::Placement;
use crate::link::{LaneId, Nanos, Role};
use crate::preface::{Preface, VERSION};
use crate::session::{
    Attach, Binding, Greeted, RejectCode, Rejected, Rejection, ResumeRequest, Secrets, Session, SessionKey,
};
use crate::varint;

impl Core {
    /// Consumes frames of the main stream. `lanes`: other lanes travel in frames, too.
    pub(crate) fn handle_main(
        &mut self,
        input: &mut BytesMut,
        end: bool,
        lanes: bool,
        now: Nanos,
    ) -> Result<(), LinkError> {
        if matches!(self.phase, Phase::Over | Phase::Detached) {
            return Err(Misuse::Closed.into());
        }
        let before = input.len();
        if before != 0 {
            self.pulse.heard(now);
        }
        let handled = self.handle_frames(input, lanes, now);
        let consumed = before.saturating_sub(input.len());
        self.counts.bytes_received = self.counts.bytes_received.saturating_add(count(consumed));
        if let Err(error) = handled {
            return Err(self.fail(error));
        }
        self.owe(now);
        if end && !self.peer_closed && !self.finished {
            return Err(Loss::Ended.into()); // the session, if there is one, may go on
        }
        Ok(())
    }

    /// Takes what was read straight to where it belongs.
    pub(crate) fn handle_placed(&mut self, placement: &mut Placement, now: Nanos) -> Result<(), LinkError> {
        if matches!(self.phase, Phase::Over | Phase::Detached) {
            return Err(Misuse::Closed.into());
        }
        let Some(placed) = placement.take() else {
            return Ok(());
        };
        if placed.read != 0 {
            self.pulse.heard(now);
            self.counts.bytes_received = self.counts.bytes_received.saturating_add(count(placed.read));
            self.carrier.begun = Begun::new(placed.lane, placed.frame, placed.left);
        }
        if placed.came == 0 {
            self.inc.give_back(placed.lane, placed.room);
            return Ok(());
        }
        self.inc
            .placed(placed.lane, placed.room, placed.came, &mut self.events)
            .map_err(|breach| self.fail(breach.into()))?;
        self.calm &= self.inc.notes.is_empty();
        self.owe(now);
        Ok(())
    }

    /// Tells where what comes next belongs, if all that was read is consumed and more of a body follows.
    pub(crate) fn place(&mut self, placement: &mut Placement) {
        if self.phase != Phase::Open || self.peer_closed {
            return;
        }
        let begun = self.carrier.begun;
        let begun = begun.map(|begun| (begun.lane, begun.len as usize, begun.left()));
        let between = || placement.next().map(|(lane, frame)| (lane, frame, 0));
        if let Some((lane, frame, left)) = begun.or_else(between)
            && Placement::is_worth(frame)
            && let Some((room, rest)) = self.inc.lend(lane)
        {
            placement.expect(lane, room, left, frame, rest);
        }
    }

    /// Remembers that there is something to acknowledge, and since when memory was not asked for.
    pub(crate) fn owe(&mut self, now: Nanos) {
        self.inc.spare.tidy(now);
        if self.inc.dones != 0 || (self.inc.unacked() != 0 && self.joined().is_some()) {
            self.pulse.owe(now);
        }
    }

    fn handle_frames(&mut self, input: &mut BytesMut, lanes: bool, now: Nanos) -> Result<(), LinkError> {
        while !input.is_empty() {
            let is_plain = self.phase == Phase::Open && !self.peer_closed && self.carrier.begun.is_none();
            if !is_plain && !self.handle_before(input, lanes)? {
                return Ok(());
            }
            let Some((header, at)) = Header::decode(input, self.carrier.accepts)? else {
                return Ok(());
            };
            let total = at.saturating_add(header.len);
            if header.kind == Some(Kind::Data) && self.phase == Phase::Open && input.len() >= total {
                let mut frame = input.split_to(total).freeze();
                frame.advance(at);
                self.handle_data(header.lane, frame, lanes)?;
            } else if !self.handle_other(header, at, input, lanes, now)? {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Any frame but a whole one of data; its payload begins `at`. False if more of it is needed.
    #[cold]
    fn handle_other(
        &mut self,
        header: Header,
        at: usize,
        input: &mut BytesMut,
        lanes: bool,
        now: Nanos,
    ) -> Result<bool, LinkError> {
        let total = at.saturating_add(header.len);
        if input.len() >= total {
            // small: the payload is looked at in place
            self.handle_frame(header, input.get(at..total).unwrap_or_default(), lanes, now)?;
            input.advance(total);
            return Ok(true);
        }
        let takes_parts = self.takes_parts(header);
        if takes_parts {
            input.advance(at);
            self.carrier.begun = Begun::new(header.lane, header.len, header.len);
        }
        Ok(takes_parts)
    }

    /// What comes before the next frame: the peer's preface, or more of a frame that has begun. False if no frame is
    /// to be looked at now.
    #[cold]
    fn handle_before(&mut self, input: &mut BytesMut, lanes: bool) -> Result<bool, LinkError> {
        if self.phase == Phase::Greeting {
            let Some((preface, len)) = Preface::decode(input)? else {
                return Ok(false);
            };
            let raw = input.split_to(len);
            self.greeted(&preface, &raw)?;
        }
        if let Some(begun) = self.carrier.begun {
            let part = input.split_to(begun.left().min(input.len())).freeze();
            self.carrier.begun = begun.without(part.len());
            self.handle_data(begun.lane, part, lanes)?;
        }
        match self.phase {
            Phase::Asked => Ok(false),
            Phase::Over => {
                input.clear(); // of one that was refused already
                Ok(false)
            }
            _ if self.peer_closed && !input.is_empty() => Err(Breach::AfterClose.into()),
            _ => Ok(true),
        }
    }

    /// Whether a frame that has begun is taken in parts, as they come: what is kept until the rest has come is moved.
    fn takes_parts(&self, header: Header) -> bool {
        header.kind == Some(Kind::Data)
            && self.phase == Phase::Open
            && self.inc.takes_parts(header.lane, header.len)
    }

    #[inline]
    fn handle_data(&mut self, lane: u64, payload: Bytes, lanes: bool) -> Result<(), LinkError> {
        if lane == 0 {
            let messages = self.inc.read_messages(payload, &mut self.events)?;
            self.counts.messages_received = self.counts.messages_received.saturating_add(messages);
        } else if lanes {
            self.inc.data(lane, payload, &mut self.events)?;
        } else {
            return Err(Breach::Unexpected {
                kind: Kind::Data as u8,
            }
            .into());
        }
        self.calm &= self.inc.notes.is_empty();
        Ok(())
    }

    /// Bytes of a lane that has a stream of its own.
    pub(crate) fn handle_lane_data(&mut self, lane: u64, bytes: Bytes) -> Result<(), LinkError> {
        self.stir();
        self.inc
            .data(lane, bytes, &mut self.events)
            .map_err(|breach| self.fail(breach.into()))
    }

    /// The end of such a lane.
    pub(crate) fn handle_lane_end(&mut self, lane: u64) -> Result<(), LinkError> {
        self.stir();
        self.inc
            .end(lane, &mut self.events)
            .map_err(|breach| self.fail(breach.into()))
    }

    fn handle_frame(
        &mut self,
        header: Header,
        payload: &[u8],
        lanes: bool,
        now: Nanos,
    ) -> Result<(), LinkError> {
        let Some(kind) = header.kind else { return Ok(()) };
        self.stir();
        let lane = header.lane;
        let unexpected = Breach::Unexpected { kind: kind as u8 };
        match (self.phase, kind) {
            (_, Kind::Close) => self.handle_close(payload)?,
            (Phase::Joining, Kind::SessionNew) if !self.resuming => self.join(payload)?,
            (Phase::Joining, Kind::Resume) if self.resuming && self.role == Role::Listener => {
                self.asked(payload)?;
            }
            (Phase::Joining, Kind::Resumed) if self.resuming && self.role == Role::Dialer => {
                self.handle_resumed(payload, now)?;
            }
            (Phase::Joining, Kind::Reject) if self.resuming && self.role == Role::Dialer => {
                self.handle_reject(payload)?;
            }
            (Phase::Open, Kind::SessionNew) if std::mem::take(&mut self.carrier.ignore_new) => {}
            (Phase::Open, Kind::Credit) => {
                self.out.credit(lane, number(kind, payload)?, &mut self.events)?;
            }
            (Phase::Open, Kind::Ack) => {
                if self.joined().is_some() {
                    self.out.acknowledged(lane, number(kind, payload)?)?;
                }
            }
            (Phase::Open, Kind::LaneEnd) if lanes => self.inc.end(lane, &mut self.events)?,
            (Phase::Open, Kind::LaneReset) => {
                self.inc.reset(lane, number(kind, payload)?, &mut self.events)?;
            }
            (Phase::Open, Kind::LaneStop) => {
                self.out.stopped(lane, number(kind, payload)?, &mut self.events)?;
            }
            (Phase::Open, Kind::LaneDone) => self.out.done(lane)?,
            (Phase::Open, Kind::Ping) => self.pulse.pinged(stamp(payload))?,
            (Phase::Open, Kind::Pong) => {
                if let Some(rtt) = self.pulse.ponged(stamp(payload), now) {
                    self.events.push_back(LinkEvent::Pong { rtt });
                }
            }
            _ => return Err(unexpected.into()),
        }
        Ok(())
    }

    fn handle_close(&mut self, mut payload: &[u8]) -> Result<(), Breach> {
        let code = varint::take(&mut payload)?;
        let text = std::str::from_utf8(payload).map_err(|_| Breach::FrameForm {
            kind: Kind::Close as u8,
        })?;
        self.peer_closed = true;
        self.events
            .push_back(LinkEvent::PeerClosing(CloseReason::new(code, text)));
        Ok(())
    }

    /// The peer's preface is there.
    fn greeted(&mut self, preface: &Preface, raw: &[u8]) -> Result<(), LinkError> {
        if self
            .carrier
            .introduction
            .as_ref()
            .is_some_and(|ours| ours.nonce == preface.nonce)
        {
            return Err(Mismatch::Oneself.into());
        }
        if preface.role == self.role {
            return Err(Mismatch::SameRole.into());
        }
        self.carrier.fragment = self.carrier.accepts.min(preface.declared.fragment);
        let wanted = !matches!(self.membership, Membership::Off);
        if wanted && let Some(introduction) = &mut self.carrier.introduction {
            let ours = &introduction.preface;
            let (dialer, listener) = match self.role {
                Role::Dialer => (&ours[..], raw),
                Role::Listener => (raw, &ours[..]),
            };
            introduction.binding = Some(Binding::new(dialer, listener, introduction.channel_binding));
        }
        if self.role == Role::Listener && preface.resuming {
            self.resuming = true;
            self.phase = Phase::Joining;
            if !wanted {
                self.reject(Rejection::new(RejectCode::Unsupported));
            }
            return Ok(()); // our preface goes with the answer
        }
        if self.resuming {
            self.phase = Phase::Joining;
            return Ok(());
        }
        if self.role == Role::Listener {
            self.carrier.greeting = self.carrier.preface().to_vec();
        }
        self.out
            .open(preface.declared)
            .map_err(|(len, limit)| Mismatch::EarlyMessage { len, limit })?;
        self.limits.resume_window = self.limits.resume_window.min(preface.declared.resume_window);
        match &self.membership {
            Membership::Wanted { secret } if preface.session => {
                self.phase = Phase::Joining;
                if self.role == Role::Listener {
                    let secret = secret.0;
                    self.greet(Kind::SessionNew, &secret);
                }
            }
            _ => {
                self.membership = Membership::Off;
                self.out.stop_retaining();
                self.carrier.ignore_new = preface.session && self.role == Role::Listener;
                self.opened();
            }
        }
        Ok(())
    }

    /// Both secrets are there: the session begins.
    fn join(&mut self, payload: &[u8]) -> Result<(), LinkError> {
        let form = Breach::FrameForm {
            kind: Kind::SessionNew as u8,
        };
        let theirs = *payload.first_chunk().ok_or(form)?;
        if let (Membership::Wanted { secret }, Some(binding)) = (&self.membership, self.carrier.binding()) {
            let secrets = Secrets {
                ours: secret.0,
                theirs,
            };
            let (key, id) = SessionKey::derive(self.role, &secrets, binding);
            self.membership = Membership::On(Session { id, key, epoch: 1 });
        }
        self.opened();
        Ok(())
    }

    fn opened(&mut self) {
        self.phase = Phase::Open;
        self.carrier.introduction = None;
        self.events.push_back(LinkEvent::Opened(Negotiated {
            version: VERSION,
            session: self.session(),
            resume_window: self.limits.resume_window,
            fragment: self.carrier.fragment,
            message: self.out.message_limit(),
        }));
    }

    /// The dialer of a fresh carrier goes on with a session.
    fn asked(&mut self, payload: &[u8]) -> Result<(), LinkError> {
        let Some(binding) = self.carrier.binding().copied() else {
            return Err(Breach::Unexpected {
                kind: Kind::Resume as u8,
            }
            .into());
        };
        let carrier = Greeted {
            binding,
            preface: self.carrier.preface().to_vec(),
            fragment: self.carrier.fragment,
            accepts: self.carrier.accepts,
        };
        let request = ResumeRequest::read(payload, carrier)?;
        self.phase = Phase::Asked;
        self.events
            .push_back(LinkEvent::ResumeRequested(Box::new(request)));
        Ok(())
    }

    /// The listener goes on with our session.
    fn handle_resumed(&mut self, payload: &[u8], now: Nanos) -> Result<(), LinkError> {
        let form = Breach::FrameForm {
            kind: Kind::Resumed as u8,
        };
        let (Some(session), Some(binding)) = (self.joined(), self.carrier.binding()) else {
            return Err(form.into());
        };
        let attach = Attach::read_resumed(payload, session, binding)?.ok_or(SessionEnd::Forged)?;
        if attach.epoch != session.epoch {
            return Err(form.into());
        }
        if !self.out.admits(&attach.offsets) {
            let offset = attach.offsets.messages;
            return Err(Breach::Offset {
                lane: LaneId::MESSAGES,
                offset,
            }
            .into());
        }
        self.go_on(&attach, now);
        Ok(())
    }

    /// The listener does not.
    fn handle_reject(&mut self, payload: &[u8]) -> Result<(), LinkError> {
        let (Some(session), Some(binding)) = (self.joined(), self.carrier.binding()) else {
            return Err(Breach::FrameForm {
                kind: Kind::Reject as u8,
            }
            .into());
        };
        let Rejected { code, received } = Rejected::read(payload, session, binding)?;
        Err(SessionEnd::Rejected { code, received }.into())
    }
}

/// The stamp of a PING or PONG; its length was checked with the header.
fn stamp(payload: &[u8]) -> [u8; 8] {
    payload.first_chunk().copied().unwrap_or_default()
}

fn count(n: usize) -> u64 {
    u64::try_from(n).unwrap_or(u64::MAX)
}
