//! From carrier to carrier: losing one, going on over the next, and giving up (PROTOCOL.md § 4.3 to 4.7).

use super::{Core, Introduction, Membership, Phase};
use crate::batch::Batch;
use crate::error::{LinkError, Loss, Mismatch, Misuse};
use crate::event::{CloseReason, LinkEvent};
use crate::frame::{HeaderBytes, Kind};
use crate::limits::{MAX_CLOSE_TEXT, MAX_FRAGMENT, MIN_FRAGMENT};
use crate::link::{AttachConfig, Nanos, Role};
use crate::session::{Attach, RejectCode, Rejection, ResumeRequest, Tombstone};
use crate::varint;

impl Core {
    /// The carrier is gone.
    pub(crate) fn detach(&mut self, now: Nanos) -> Result<(), LinkError> {
        if self.phase == Phase::Detached {
            return Ok(());
        }
        if self.closing.is_some() {
            return Err(Misuse::NoSession.into()); // the reason may still be written, if it is not the carrier that failed
        }
        let over = self.phase == Phase::Over || self.peer_closed;
        self.stir();
        if over || self.joined().is_none() {
            self.phase = Phase::Over;
            return Err(Misuse::NoSession.into()); // the last words stay, for whoever can still be told
        }
        self.carrier.greeting.clear();
        self.carrier.begun = None;
        if !self.resuming {
            self.carrier.down_since = now; // one that was lost before it was agreed on does not count
        }
        self.phase = Phase::Detached;
        self.inc.spare = Default::default(); // while nothing comes, nothing is kept
        Ok(())
    }

    /// Goes on over a carrier that this side dialled.
    pub(crate) fn attach(&mut self, config: AttachConfig, now: Nanos) -> Result<(), LinkError> {
        let down = self.down(now);
        let Membership::On(session) = &mut self.membership else {
            return Err(Misuse::NoSession.into());
        };
        if self.role == Role::Listener {
            return Err(Misuse::NoSession.into());
        }
        if self.phase != Phase::Detached {
            return Err(Misuse::Attached.into());
        }
        session.epoch = session.epoch.saturating_add(1);
        let epoch = session.epoch;
        self.resuming = true;
        self.phase = Phase::Greeting;
        self.carrier.introduction = Some(Introduction::new(config.nonce, config.channel_binding));
        let fragment = config.fragment.unwrap_or(self.limits.fragment);
        self.carrier.accepts = fragment.clamp(MIN_FRAGMENT, MAX_FRAGMENT);
        self.carrier.since = now;
        self.write_preface();
        self.carrier.greeting = self.carrier.preface().to_vec();
        let attach = Attach {
            epoch,
            down,
            offsets: self.inc.offsets(),
        };
        let binding = crate::session::Binding::new(self.carrier.preface(), &[], config.channel_binding);
        if let Some(session) = self.joined() {
            let payload = attach.resume(session, &binding);
            self.greet(Kind::Resume, &payload);
        }
        Ok(())
    }

    /// Goes on over a carrier whose dialer has asked to.
    pub(crate) fn resume(&mut self, request: ResumeRequest, now: Nanos) -> Result<(), Rejection> {
        let refuse = |code| Err(Rejection::new(code));
        let is_ending = self.closing.is_some() || self.peer_closed;
        let is_over = self.phase == Phase::Over || self.expiry().is_some_and(|end| now >= end);
        let session = match &mut self.membership {
            Membership::On(session) if session.id == request.session() => session,
            _ => return refuse(RejectCode::Unknown),
        };
        if self.role == Role::Dialer {
            return refuse(RejectCode::Unknown);
        }
        if is_over {
            return Err(Tombstone::new(session, self.inc.messages()).reject(&request)); // nothing is received any more
        }
        if !request.is_proven(&session.key) {
            return refuse(RejectCode::NotYours);
        }
        if is_ending {
            return refuse(RejectCode::Unknown); // last words are on the old carrier
        }
        if request.attach.epoch <= session.epoch {
            return refuse(RejectCode::Stale);
        }
        if !self.out.admits(&request.attach.offsets) {
            return refuse(RejectCode::Gap);
        }
        session.epoch = request.attach.epoch;
        let carrier = request.carrier;
        let ours = Attach {
            epoch: session.epoch,
            down: self.down(now),
            offsets: self.inc.offsets(),
        };
        if let Some(session) = self.joined() {
            let payload = ours.resumed(session, &carrier.binding);
            self.carrier.greeting = carrier.preface;
            self.greet(Kind::Resumed, &payload);
        }
        self.carrier.fragment = carrier.fragment;
        self.carrier.accepts = carrier.accepts;
        self.carrier.begun = None;
        self.go_on(&request.attach, now);
        Ok(())
    }

    /// How long there has been no carrier, in milliseconds.
    fn down(&self, now: Nanos) -> u64 {
        let down = matches!(self.phase, Phase::Detached) || self.resuming;
        if down {
            now.saturating_sub(self.carrier.down_since)
                .checked_div(1_000_000)
                .unwrap_or(0)
        } else {
            0
        }
    }

    /// Both sides have agreed: everything flows again, each lane from where the other side has it.
    pub(super) fn go_on(&mut self, theirs: &Attach, now: Nanos) {
        self.out.rewind(&theirs.offsets);
        self.out.suit(self.carrier.fragment);
        self.inc.resumed();
        self.pulse.restart(now);
        self.resuming = false;
        self.phase = Phase::Open;
        self.carrier.introduction = None;
        self.counts.carriers = self.counts.carriers.saturating_add(1);
        let down = std::time::Duration::from_millis(theirs.down);
        self.events.push_back(LinkEvent::Resumed { down });
    }

    /// Refuses the request that came with this fresh carrier.
    pub(crate) fn reject(&mut self, rejection: Rejection) {
        self.carrier.greeting = self.carrier.preface().to_vec();
        self.greet(Kind::Reject, &rejection.encode());
        self.phase = Phase::Over;
    }

    /// Adds a frame to what goes out before anything else.
    pub(super) fn greet(&mut self, kind: Kind, payload: &[u8]) {
        self.stir();
        let header = HeaderBytes::new(kind, 0, payload.len());
        self.carrier.greeting.extend_from_slice(header.as_slice());
        self.carrier.greeting.extend_from_slice(payload);
    }

    /// Ends the link for `error`, which is returned, unless a new carrier can mend it. The last words for the peer
    /// are ready then.
    #[cold]
    pub(crate) fn fail(&mut self, error: LinkError) -> LinkError {
        if let LinkError::Incompatible(Mismatch::Foreign(foreign)) = error
            && self.resuming
            && self.role == Role::Dialer
        {
            return Loss::Foreign(foreign).into(); // a portal on the way, or a proxy whose server is away: it may pass
        }
        let reason = match &error {
            LinkError::Misbehaved(breach) => CloseReason::new(CloseReason::BREACH, breach.to_string()),
            LinkError::Incompatible(mismatch) => {
                CloseReason::new(CloseReason::MISMATCH, mismatch.to_string())
            }
            LinkError::Session(_) => CloseReason::new(CloseReason::FAILED, ""),
            LinkError::Carrier(_) | LinkError::Misuse(_) => return error,
        };
        // It is a listener's first word, also to a request.
        let is_asked = self.phase == Phase::Joining && self.resuming;
        let unheard = self.role == Role::Listener && (self.phase == Phase::Greeting || is_asked);
        let silent = self.phase == Phase::Detached;
        self.phase = Phase::Over;
        if let LinkError::Incompatible(Mismatch::Foreign(foreign)) = &error {
            self.carrier.greeting.clear();
            if unheard {
                self.carrier
                    .greeting
                    .extend_from_slice(foreign.reply().unwrap_or_default());
            }
        } else if !silent {
            if unheard {
                self.carrier.greeting = self.carrier.preface().to_vec();
            }
            let mut payload = Vec::new();
            close_payload(&reason, &mut payload);
            self.greet(Kind::Close, &payload);
        }
        error
    }

    /// Puts CLOSE into `batch`.
    pub(super) fn put_close(&mut self, reason: &CloseReason, batch: &mut Batch) {
        let mut payload = Vec::new();
        close_payload(reason, &mut payload);
        batch.put(HeaderBytes::new(Kind::Close, 0, payload.len()).as_slice());
        batch.put(&payload);
        self.finished = true;
    }
}

fn close_payload(reason: &CloseReason, out: &mut Vec<u8>) {
    varint::put(out, reason.code);
    let text = &reason.text;
    out.extend_from_slice(
        text.get(..text.floor_char_boundary(MAX_CLOSE_TEXT))
            .unwrap_or_default()
            .as_bytes(),
    );
}
