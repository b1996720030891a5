//! What the driver does by itself when its time has come.

use std::task::Waker;

use farref_boxing::{Error, ErrorKind};
use farref_framing::Nanos;

use super::{Driver, Step};
use crate::clock::{self, NEVER};
use crate::config::Config;
use crate::engine::core::closed_here;
use crate::engine::state::State;
use crate::lock::lock;
use crate::protocol::Protocol;
use crate::remote::EngineHandles;

/// After so long without anything to read the connection rests; a busy one looks ever more rarely whether it should.
pub(super) const REST_SOON: Nanos = 20_000_000;
const REST_LATE: Nanos = 1_280_000_000;

/// When the driver has something to do by itself, besides what is due by the protocol; [`NEVER`] for what it has not.
pub(super) struct Times {
    /// When the peer must have introduced itself.
    pub(super) setup: Nanos,
    /// When an orderly close stops waiting for the peer.
    pub(super) closing: Nanos,
    /// When releases go by themselves if nothing else is sent before.
    pub(super) releasing: Nanos,
    /// When it is looked whether nothing has come since, and then memory is given back.
    pub(super) resting: Nanos,
}

impl Default for Times {
    fn default() -> Self {
        Self {
            setup: NEVER,
            closing: NEVER,
            releasing: NEVER,
            resting: NEVER,
        }
    }
}

impl Times {
    /// The first of them, or of the protocol's.
    pub(super) fn due<P: Protocol<EngineHandles>>(&mut self, state: &State<P>, config: &Config) -> Nanos {
        if state.goodbye.is_some() && self.closing == NEVER {
            self.closing = clock::after(config.close_timeout);
        }
        if state.opened.is_some() {
            self.setup = NEVER;
        }
        state
            .protocol
            .poll_timeout()
            .unwrap_or(NEVER)
            .min(self.releasing)
            .min(self.setup)
            .min(self.closing)
            .min(self.resting)
    }
}

impl<P: Protocol<EngineHandles>> Driver<P> {
    /// Sees to it that the driver wakes up when something is due, or does not sleep if that is now.
    pub(super) fn look_at_the_clock(&mut self, waker: &Waker) -> Option<Step> {
        let core = &self.core;
        let armed = self.timer.at();
        let (due, is_earlier) = {
            let mut state = lock(&core.state);
            if let Some(error) = carrier_error(&state) {
                return Some(Step::Ended(state.carrier, error));
            }
            let due = self.times.due(&state, &core.config);
            // A later time than the armed one is found out when that comes: re-arming costs more than waking once.
            state.armed = due.min(armed);
            (due, due < armed)
        };
        if self.timer.has_rung() && due <= clock::now() {
            return Some(Step::Timeout);
        }
        if is_earlier && let Err(error) = self.timer.set(due, waker) {
            let text = format!("the system has no thread left for the clock: {error}");
            core.sever(Error::new(ErrorKind::Carrier, text));
            return Some(Step::Read);
        }
        None
    }

    /// Does what is due, also while there is always something to read: from here on reads are counted anew.
    pub(super) fn handle_due(&mut self) {
        self.reads = 0;
        let core = &self.core;
        let due = self.times.due(&lock(&core.state), &core.config);
        if due <= clock::now() {
            self.handle_timeout();
        }
    }

    pub(super) fn handle_timeout(&mut self) {
        let now = clock::now();
        let core = &self.core;
        let (carrier, failed, drained) = {
            let mut state = lock(&core.state);
            core.look_at_releases(&mut state);
            let failed = state.protocol.handle_timeout(now).err();
            (state.carrier, failed, state.is_drained())
        };
        if drained {
            core.changed.notify_waiters();
        }
        self.times.releasing = NEVER;
        if self.times.resting <= now {
            self.times.resting = NEVER;
            if self.is_busy {
                self.patience = self.patience.saturating_mul(2).min(REST_LATE);
            } else {
                self.patience = REST_SOON;
                core.rest();
            }
        }
        let unopened = lock(&core.state).opened.is_none();
        if let Some(error) = failed {
            self.lose(carrier, error);
        } else if unopened && self.times.setup <= now {
            let text = format!(
                "the peer did not introduce itself within {:?}",
                core.config.setup_timeout
            );
            core.sever(Error::new(ErrorKind::Incompatible, text));
        } else if self.times.closing <= now {
            core.sever(closed_here().1);
        }
    }
}

/// Why the connection is over, if its carrier is: nothing is lost by that after a goodbye.
fn carrier_error<P>(state: &State<P>) -> Option<Error> {
    let failed = || {
        let error = state.write_error.as_ref()?;
        Some(Error::new(ErrorKind::Carrier, format!("writing failed: {error}")))
    };
    let error = state.lost.clone().or_else(failed)?;
    Some(state.goodbye.clone().unwrap_or(error))
}
