//! Whoever waits for a call: a task, or a thread that runs the callbacks of its own chain meanwhile.

use std::collections::VecDeque;
use std::task::Waker;
use std::time::Instant;

use crate::sync::{Arc, Condvar, Mutex, lock};

/// Wakes whoever waits for a call.
#[derive(Debug)]
#[non_exhaustive]
pub enum Waiter {
    /// A task.
    Task(Waker),
    /// A thread.
    Thread(Arc<ThreadWaiter>),
    /// Something to run, quickly.
    Callback(Callback),
}

/// A closure that is called once when a call is over.
pub struct Callback(pub(crate) Box<dyn FnOnce() + Send>);

impl std::fmt::Debug for Callback {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Callback")
    }
}

impl Waiter {
    /// Whether it is the task of `waker`.
    pub(crate) fn is_task(&self, waker: &Waker) -> bool {
        matches!(self, Self::Task(own) if own.will_wake(waker))
    }

    /// Wakes; never under a lock.
    pub(crate) fn wake(self) {
        match self {
            Self::Task(waker) => waker.wake(),
            Self::Thread(thread) => thread.notify(),
            Self::Callback(callback) => callback.0(),
        }
    }
}

/// A piece of work for a thread.
pub(crate) type Job = Box<dyn FnOnce() + Send>;

/// A thread that waits for a call.
///
/// # Invariant
///
/// A notification or a job that comes before the thread sleeps is seen before it sleeps: both are kept under the
/// lock that the sleep gives up.
#[derive(Default)]
pub struct ThreadWaiter {
    state: Mutex<Waiting>,
    wake: Condvar,
}

#[derive(Default)]
struct Waiting {
    notified: bool,
    jobs: VecDeque<Job>,
    rest: Rest,
}

/// How the thread rests.
#[derive(Default)]
enum Rest {
    /// Not at all.
    #[default]
    None,
    /// Under the condition variable.
    Asleep,
    /// Elsewhere: this ends it.
    Elsewhere(Waker),
}

impl Waiting {
    /// Something has come; whether the condition variable is to be told, and who else.
    fn stir(&mut self) -> (bool, Option<Waker>) {
        match std::mem::take(&mut self.rest) {
            Rest::None => (false, None),
            Rest::Asleep => (true, None),
            Rest::Elsewhere(waker) => (false, Some(waker)),
        }
    }
}

/// Why a waiting thread woke up.
pub(crate) enum Woken {
    /// The call may be over.
    Notified,
    /// A callback of the thread's own chain is to be run.
    Job(Job),
    /// The time is over.
    TimedOut,
}

impl ThreadWaiter {
    /// Wakes the thread, or keeps it from falling asleep.
    pub(crate) fn notify(&self) {
        self.stir(|state| state.notified = true);
    }

    /// Gives the thread a callback to run.
    pub(crate) fn push(&self, job: Job) {
        self.stir(|state| state.jobs.push_back(job));
    }

    fn stir(&self, change: impl FnOnce(&mut Waiting)) {
        let (asleep, elsewhere) = {
            let mut state = lock(&self.state);
            change(&mut state);
            state.stir()
        };
        if asleep {
            self.wake.notify_one();
        }
        if let Some(waker) = elsewhere {
            waker.wake();
        }
    }

    /// The thread is about to rest elsewhere, where `waker` reaches it; false if there is something to do first.
    pub(crate) fn rests_elsewhere(&self, waker: &Waker) -> bool {
        let mut state = lock(&self.state);
        if state.notified || !state.jobs.is_empty() {
            return false;
        }
        state.rest = Rest::Elsewhere(waker.clone());
        true
    }

    /// Whether there are callbacks to run.
    pub(crate) fn has_jobs(&self) -> bool {
        !lock(&self.state).jobs.is_empty()
    }

    /// The thread is back. Whether it has callbacks to run; that it was notified is forgotten.
    pub(crate) fn is_back(&self) -> bool {
        let mut state = lock(&self.state);
        state.rest = Rest::None;
        state.notified = false;
        !state.jobs.is_empty()
    }

    /// Sleeps until there is something to do. Callbacks come first.
    pub(crate) fn wait(&self, until: Option<Instant>) -> Woken {
        let mut state = lock(&self.state);
        loop {
            if let Some(job) = state.jobs.pop_front() {
                return Woken::Job(job);
            }
            if std::mem::take(&mut state.notified) {
                return Woken::Notified;
            }
            state.rest = Rest::Asleep;
            state = match until {
                None => crate::sync::wait(&self.wake, state),
                Some(until) => {
                    let left = until.saturating_duration_since(Instant::now());
                    if left.is_zero() {
                        state.rest = Rest::None;
                        return Woken::TimedOut;
                    }
                    crate::sync::wait_timeout(&self.wake, state, left)
                }
            };
        }
    }

    /// Callbacks that came too late to be run here.
    pub(crate) fn take_jobs(&self) -> VecDeque<Job> {
        std::mem::take(&mut lock(&self.state).jobs)
    }
}

impl std::fmt::Debug for ThreadWaiter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ThreadWaiter")
    }
}
