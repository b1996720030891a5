//! A task that has made a call may *look* for the outcome by itself, for a moment, rather than fall asleep: it takes the
//! reading role, spins, and parks the role for the next call. So neither the driver nor the task has to be woken, which
//! costs more than many a peer takes to answer.
//!
//! ```text
//!   commit, write ──▶ give way, at times ──▶ take the role, spin ──▶ the outcome; park
//!                                                        └─ in vain, or there is anything else to do: the driver's
//! ```
//!
//! It looks only where calls follow one another, each alone on its connection, and the outcomes have come soon: [`pace`]
//! learns that. The first time and now and then others have their turn before, so calls that are made together are together on
//! their way from then on. No code of the user's runs here: what has come besides the outcome is left to the driver.
//!
//! [`pace`]: super::pace

use std::sync::Arc;
use std::task::{Poll, Waker};

use smallvec::SmallVec;

use crate::clock::{self, NEVER};
use crate::engine::core::Core;
use crate::engine::lead::{How, Leader};
use crate::engine::state::State;
use crate::lock::lock;
use crate::protocol::Protocol;
use crate::remote::{EngineHandles, Outcome};
use crate::waiter::Waiter;

/// Twice as long as the driver spins: two would have to be woken otherwise, the driver and the task.
const MOMENTS: u32 = 2;

/// The outcome of a call may take so many reads, and more are the driver's: a poll is to be short.
const READS: u32 = 8;

impl<P: Protocol<EngineHandles>> Core<P> {
    /// Whether a task that is about to make a call is to look for the outcome.
    pub(super) fn may_look(&self, state: &State<P>) -> bool {
        self.spins(&state.outcomes)
            && !self.lead.has_owner()
            && self.role.is_free()
            && !state.is_busy()
            && state.can_be_led(&self.lead)
    }

    /// The outcome of a call, if the task that waits for it is to look for that, and it comes soon.
    pub(super) fn look_for(self: &Arc<Self>, call: u64, waker: &Waker) -> Option<Outcome> {
        if !self.lead.takes_up(call) {
            return None;
        }
        let is_alone = {
            let state = lock(&self.state);
            // It may have come while others had their turn.
            let is_over = state.protocol.is_ready(call);
            !is_over && state.is_quiet() && state.can_be_led(&self.lead)
        };
        if let Some(leader) = is_alone.then(|| self.take_role()).flatten() {
            return leader.look_for(call, waker);
        }
        // Nobody comes back for it before the outcome is there.
        if self.role.is_parked() {
            self.lead.recall_for_others();
        }
        None
    }
}

impl<P: Protocol<EngineHandles>> Leader<'_, P> {
    /// Spins until the call is over, for the task of `waker`; nothing if that is in vain, or there is more to do.
    fn look_for(mut self, call: u64, waker: &Waker) -> Option<Outcome> {
        let core = self.core;
        let due = {
            let mut state = lock(&core.state);
            state.armed = state.protocol.poll_timeout().unwrap_or(NEVER);
            if let Some(away) = &mut self.away {
                away.pace.clone_from(&state.outcomes);
            }
            state.armed
        };
        if due <= clock::now() {
            return None;
        }
        for _ in 0..READS {
            let (ready, has_events, is_over) = {
                let mut state = lock(&core.state);
                // In this order: it makes outcomes known.
                let ready = std::iter::from_fn(|| state.poll_ready(waker)).collect::<SmallVec<[_; 1]>>();
                (ready, state.has_events(), state.protocol.is_ready(call))
            };
            if has_events {
                // Who is called while it waits, or is told more than the outcome, had better be woken.
                lock(&core.state).outcomes.has_read_much();
            }
            if is_over {
                // This task has what the waiters that are ready would be woken for.
                let outcome = core.poll_outcome(call, &mut || Waiter::Task(waker.clone()));
                if !has_events {
                    self.park();
                }
                return match outcome {
                    Poll::Ready(outcome) => Some(outcome),
                    Poll::Pending => None,
                };
            }
            ready.into_iter().for_each(Waiter::wake);
            let away = self.away.take()?;
            let is_quick = core.spins(&away.pace);
            if has_events || !is_quick || !self.grant(core.signal.take()) {
                self.away = Some(away);
                return None;
            }
            if !self.read(away, How::Spinning(MOMENTS)) {
                return None;
            }
            if let Some(away) = &self.away {
                lock(&core.state).outcomes.clone_from(&away.pace);
            }
            core.flush();
        }
        None
    }
}
