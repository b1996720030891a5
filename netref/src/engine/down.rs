//! From one carrier to the next: losing one, finding another, going on (PROTOCOL.md § 4).
//!
//! The order that keeps a late carrier out: whoever changes carriers holds the lock of the reading half and, within it,
//! that of the connection. So no byte of the old one is handled after the protocol has agreed to go on, and what a
//! writer of the old one still writes goes nowhere.

use std::sync::Arc;
use std::time::Duration;

use farref_boxing::{Error, ErrorKind};
use farref_framing::{Guard, Inlet, Nanos, RejectCode, Rejection, ResumeRequest};

use crate::clock;
use crate::connection::{NextCarrier, Parts, Redial, Status};
use crate::engine::core::Core;
use crate::engine::state::{State, Writer};
use crate::lock::lock;
use crate::protocol::Protocol;
use crate::remote::EngineHandles;
use crate::signal::Wishes;
use crate::until::until;

/// A connection without a carrier on which both sides have agreed.
#[derive(Debug)]
pub(crate) struct Down {
    /// Why the last one was lost.
    pub(crate) why: Error,
    /// There is one on which they have not agreed yet: on how many they had before.
    attached: Option<u64>,
    /// Why the latest attempt to find another has failed.
    failed: Option<Error>,
    /// How many attempts there were.
    attempts: u32,
}

/// Whether carriers are worth the dialling: something on the way may cut each of them off for what we say on it, and
/// sessions would go on with no pause and no end.
#[derive(Debug)]
pub(crate) struct Gain {
    /// When the present one was agreed on, and how many messages of the peer's had come by then.
    since: (Nanos, u64),
    /// Carriers in a row that were lost at once and brought nothing.
    vain: u32,
}

/// So many of them are no reason to pause.
const VAIN: u32 = 3;
/// A carrier that lasts so long is worth it.
const LASTING: Duration = Duration::from_secs(1);

impl Gain {
    pub(crate) const fn new(now: Nanos) -> Self {
        Self {
            since: (now, 0),
            vain: 0,
        }
    }

    /// One is agreed on.
    const fn begin(&mut self, now: Nanos, received: u64) {
        self.since = (now, received);
    }

    /// It is lost.
    fn end(&mut self, now: Nanos, received: u64) {
        let (begun, before) = self.since;
        let is_vain = received == before && now.saturating_sub(begun) < clock::nanos(LASTING);
        self.vain = if is_vain { self.vain.saturating_add(1) } else { 0 };
    }
}

/// A carrier that is not used any more: to be dropped outside the locks, the halves first.
struct Old(
    #[expect(dead_code, reason = "dropped")] Option<Inlet>,
    #[expect(dead_code, reason = "dropped")] Option<Box<Writer>>,
    #[expect(dead_code, reason = "dropped")] Option<Guard>,
);

impl<P: Protocol<EngineHandles>> State<P> {
    /// Whether a carrier is missing, and nobody has brought one yet.
    fn wants_carrier(&self) -> bool {
        self.over.is_none() && self.down.as_ref().is_some_and(|down| down.attached.is_none())
    }
}

impl<P: Protocol<EngineHandles>> Core<P> {
    /// Where the connection stands, and a number that is another whenever that has changed.
    pub(crate) fn status(&self) -> (Status, u64) {
        let state = lock(&self.state);
        match (&state.over, &state.down) {
            (Some(error), _) => (Status::Over(error.clone()), u64::MAX),
            (None, Some(down)) => (Status::Down(down.why.clone()), state.changes),
            (None, None) => (Status::Up, state.changes),
        }
    }

    /// The carrier of this number is lost, for `error`: goes on without one if the session can, and ends otherwise.
    pub(crate) fn lose(self: &Arc<Self>, carrier: u64, error: Error) {
        let lost = {
            let mut slot = lock(&self.inlet);
            let mut state = lock(&self.state);
            if state.carrier != carrier {
                return; // there is another already, which is none the worse for it
            }
            let can_go_on = state.over.is_none() && state.protocol.detach(clock::now());
            if can_go_on {
                let traffic = state.protocol.traffic();
                let before = state.down.take().filter(|down| !down.is_mended(traffic.carriers));
                if before.is_none() {
                    state.gain.end(clock::now(), traffic.messages_received);
                }
                let attempts = state.gain.vain.saturating_sub(VAIN);
                let down = Down::after(before.map(|down| *down), attempts, error);
                let old = state.change_carrier(&mut slot, None);
                state.down = Some(Box::new(down));
                Ok((old, !std::mem::replace(&mut state.redialling, true)))
            } else {
                Err(match &state.down {
                    Some(down) => down.explain(&error),
                    None => error,
                })
            }
        };
        match lost {
            Err(error) => self.sever(error),
            Ok((old, is_first)) => {
                drop(old);
                tracing::debug!(peer = %self.peer, "the carrier was lost; the session waits for another");
                self.changed.notify_waiters();
                if let (true, Some(redial)) = (is_first, self.redial.clone()) {
                    self.runtime.spawn(Arc::clone(self).find_carriers(redial));
                }
            }
        }
    }

    /// Both sides have agreed to go on.
    pub(crate) fn is_up_again(&self) {
        {
            let mut state = lock(&self.state);
            let agreed = state.protocol.traffic().carriers;
            if !state.down.as_ref().is_some_and(|down| down.is_mended(agreed)) {
                return; // the carrier that this is about is lost again already, or this side knew before
            }
            state.down = None;
            state.changes = state.changes.wrapping_add(1);
            let received = state.protocol.traffic().messages_received;
            state.gain.begin(clock::now(), received);
        }
        tracing::debug!(peer = %self.peer, "the session goes on over another carrier");
        self.changed.notify_waiters();
        self.signal.wish(Wishes::FLUSH);
    }

    /// Finds carriers until the session goes on over one, or is over.
    async fn find_carriers(self: Arc<Self>, redial: Arc<dyn Redial>) {
        while let Some(attempt) = self.wait_for_need().await {
            let dialling = redial.redial(attempt);
            // Cancel-safe: a carrier that was about to be there is dropped.
            let dialled = tokio::select! {
                biased;
                () = self.end_of_need() => continue,
                dialled = dialling => dialled,
            };
            if let Err(error) = dialled.and_then(|next| self.attach(next)) {
                tracing::debug!(peer = %self.peer, %error, attempt, "no other carrier yet");
                if let Some(down) = &mut lock(&self.state).down {
                    down.failed = Some(error);
                }
            }
        }
    }

    /// Waits until a carrier is missing, and counts the attempt to find one; none if none will be missing any more.
    async fn wait_for_need(&self) -> Option<u32> {
        self.look(|state| match &mut state.down {
            Some(down) if state.over.is_none() => {
                (down.attached.is_none()).then(|| Some(down.count_attempt()))
            }
            _ => {
                // Under the lock: whoever loses the next carrier starts anew.
                state.redialling = false;
                Some(None)
            }
        })
        .await
    }

    /// Waits until no carrier is missing.
    async fn end_of_need(&self) {
        self.look(|state| (!state.wants_carrier()).then_some(())).await;
    }

    async fn look<R>(&self, mut ready: impl FnMut(&mut State<P>) -> Option<R>) -> R {
        until(&self.changed, || ready(&mut lock(&self.state))).await
    }

    /// Goes on over a carrier that was dialled.
    fn attach(&self, next: NextCarrier) -> Result<(), Error> {
        let NextCarrier {
            parts,
            attach,
            native,
        } = next;
        let old = {
            let mut slot = lock(&self.inlet);
            let mut state = lock(&self.state);
            if !state.wants_carrier() {
                return Err(Error::new(ErrorKind::Misuse, "no carrier is missing any more"));
            }
            state.protocol.attach(attach, native, clock::now())?;
            let agreed = state.protocol.traffic().carriers;
            if let Some(down) = &mut state.down {
                down.attached = Some(agreed);
            }
            state.change_carrier(&mut slot, Some(parts))
        };
        drop(old);
        self.drive_on();
        Ok(())
    }

    /// Goes on over a carrier whose dialer has asked to. The old one is given up before that.
    ///
    /// # Errors
    ///
    /// What to tell the dialer, and the carrier for that.
    pub(crate) fn resume(
        &self,
        request: ResumeRequest,
        parts: Parts,
        native: bool,
    ) -> Result<(), Box<(Rejection, Parts)>> {
        let old = {
            let mut slot = lock(&self.inlet);
            let mut state = lock(&self.state);
            if state.over.is_some() {
                let unknown = Rejection::new(RejectCode::Unknown);
                let tombstone = state.protocol.tombstone();
                let rejection = tombstone.map_or(unknown, |tombstone| tombstone.reject(&request));
                return Err(Box::new((rejection, parts)));
            }
            if let Err(rejection) = state.protocol.resume(request, native, clock::now()) {
                return Err(Box::new((rejection, parts)));
            }
            let old = state.change_carrier(&mut slot, Some(parts));
            state.down = None;
            old
        };
        drop(old);
        self.drive_on();
        Ok(())
    }

    /// The driver has a new carrier to read from and to write to.
    fn drive_on(&self) {
        self.changed.notify_waiters();
        self.signal.wish(Wishes {
            flush: true,
            events: true,
            times: true,
            ..Wishes::NONE
        });
    }
}

impl<P: Protocol<EngineHandles>> State<P> {
    /// Takes these halves, or none, in place of those that there are.
    fn change_carrier(&mut self, slot: &mut Option<Inlet>, parts: Option<Parts>) -> Old {
        self.carrier = self.carrier.wrapping_add(1);
        self.changes = self.changes.wrapping_add(1);
        self.lost = None;
        self.write_error = None;
        let (inlet, writer, guard, gauge) = match parts {
            None => (None, None, None, None),
            Some(parts) => {
                self.peer = Arc::new(parts.peer);
                let writer = Writer::new(parts.outlet, self.carrier);
                (Some(parts.inlet), Some(writer), Some(parts.guard), parts.gauge)
            }
        };
        self.gauge = gauge;
        Old(
            std::mem::replace(slot, inlet),
            self.baton.replace(writer),
            std::mem::replace(&mut self.guard, guard),
        )
    }
}

impl Down {
    /// Without a carrier for `error`, or still so; the next attempt has the number `attempts` then.
    fn after(before: Option<Self>, attempts: u32, error: Error) -> Self {
        match before {
            Some(before) => Self {
                attached: None,
                failed: Some(error),
                ..before
            },
            None => Self {
                why: error,
                attached: None,
                failed: None,
                attempts,
            },
        }
    }

    /// Whether both sides have agreed on the carrier that was brought.
    fn is_mended(&self, agreed: u64) -> bool {
        self.attached.is_some_and(|before| before != agreed)
    }

    /// The number of the attempt that is about to be made.
    const fn count_attempt(&mut self) -> u32 {
        let attempt = self.attempts;
        self.attempts = attempt.saturating_add(1);
        attempt
    }

    /// Why the session is over that could not go on.
    fn explain(&self, end: &Error) -> Error {
        let mut text = format!("{end}; it had lost its carrier: {}", self.why.message());
        if let Some(failed) = &self.failed {
            text = format!("{text}; the last attempt to go on: {}", failed.message());
        }
        Error::new(end.kind(), text)
    }
}

#[cfg(test)]
mod tests;
