//! Calls that are given up: whoever serves one is told, wherever it is by then.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::task::Waker;

use super::Dispatch;
use crate::engine::core::Core;
use crate::lock::lock;
use crate::protocol::{CancelReason, Protocol};
use crate::remote::{Blocked, Conduit, EngineHandles};

/// How a running call is given up.
#[derive(Default)]
pub(crate) struct Cancel {
    given_up: AtomicBool,
    pub(super) watchers: Mutex<Watchers>,
}

#[derive(Default)]
pub(super) struct Watchers {
    pub(super) task: Option<Waker>,
    blocked: Option<Blocked>,
    passed_on: Option<(Arc<dyn Conduit>, u64)>,
}

impl Cancel {
    pub(super) fn is_given_up(&self) -> bool {
        self.given_up.load(Ordering::Acquire)
    }

    /// Tells whoever serves the call. Whether it was passed on: then nobody here will end it.
    fn give_up(&self) -> bool {
        self.given_up.store(true, Ordering::Release);
        let Watchers {
            task,
            blocked,
            passed_on,
        } = std::mem::take(&mut *lock(&self.watchers));
        let was_passed_on = passed_on.is_some();
        if let Some(task) = task {
            task.wake();
        }
        if let Some((thread, conduit, number)) = blocked {
            thread.notify();
            conduit.drop_call(number, CancelReason::Upstream);
        }
        if let Some((conduit, number)) = passed_on {
            conduit.drop_call(number, CancelReason::Upstream);
        }
        was_passed_on
    }
}

impl Dispatch {
    pub(crate) fn is_cancelled(&self, answer: u64) -> bool {
        lock(&self.state)
            .calls
            .get(&answer)
            .is_some_and(|cancel| cancel.is_given_up())
    }

    pub(crate) fn wake_on_cancel(&self, answer: u64, blocked: Option<Blocked>) {
        let cancel = lock(&self.state).calls.get(&answer).cloned();
        if let Some(cancel) = cancel {
            let replaced = std::mem::replace(&mut lock(&cancel.watchers).blocked, blocked);
            drop(replaced);
        }
    }

    pub(crate) fn drop_on_cancel(&self, answer: u64, passed_on: Option<(Arc<dyn Conduit>, u64)>) {
        let mut state = lock(&self.state);
        if passed_on.is_none() {
            drop(state.calls.remove(&answer));
            return;
        }
        let cancel = Arc::clone(state.calls.map().entry(answer).or_default());
        drop(state);
        lock(&cancel.watchers).passed_on = passed_on;
    }

    /// Notes that the method of `answer` is about to run, or that its first poll goes on beside the reading: from
    /// here on it can be given up.
    pub(crate) fn enter(&self, answer: u64) -> Arc<Cancel> {
        Arc::clone(lock(&self.state).calls.map().entry(answer).or_default())
    }

    pub(super) fn leave(&self, answer: u64) {
        let ended = lock(&self.state).calls.remove(&answer);
        drop(ended);
    }
}

impl<P: Protocol<EngineHandles>> Core<P> {
    /// A call was given up.
    pub(crate) fn give_up(self: &Arc<Self>, answer: u64) {
        let (cancel, waiting, queued, slot) = {
            let mut state = lock(&self.dispatch.state);
            let cancel = state.calls.get(&answer).cloned();
            let slot = state.bodies.remove(&answer);
            let mut waiting = None;
            for mailbox in state.mailboxes.values_mut() {
                if let Some(at) = mailbox
                    .queue
                    .iter()
                    .position(|incoming| incoming.answer == answer)
                {
                    waiting = mailbox.queue.remove(at);
                }
            }
            let queued = state.queue.take(|turn| turn.call == Some(answer));
            let unread = state.unread.remove(&answer);
            (cancel, (waiting, unread), queued, slot)
        };
        let (waiting, unread) = waiting;
        self.discard(waiting);
        if let Some(unread) = unread {
            let own = unread.own;
            self.dispatch.leave(answer);
            self.discard(unread);
            self.not_busy(own);
            self.drain(own);
        }
        if let Some(cancel) = cancel
            && cancel.give_up()
        {
            self.dispatch.leave(answer);
        }
        // Out of the queue at once, so that calls which are given up cannot pile up in it: it sees that it was
        // given up, and does not run.
        if let Some(turn) = queued {
            (turn.job)();
        }
        // What waited behind the arguments that will never come goes on.
        if let Some(slot) = slot {
            self.drain(slot);
        }
    }
}
