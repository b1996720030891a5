//! Chains of nested calls: one logical thread through all the processes that it passes.
//!
//! A thread that blocks for a call runs the blocking callbacks of the same chain meanwhile, so depth costs stack
//! and no threads, and locks and thread-locals of the thread keep their meaning. The thread is registered before
//! the call is sent: a callback may be here before it sleeps. The name of a chain is unguessable, so no other
//! peer can have work done on the thread.

use std::cell::{Cell, RefCell};
use std::collections::hash_map::{Entry, RandomState};
use std::hash::BuildHasher;
use std::sync::{Arc, Mutex, OnceLock};

use rustc_hash::FxHashMap;
use smallvec::SmallVec;

use crate::context;
use crate::lock::lock;
use crate::protocol::Chain;
use crate::waiter::{Job, ThreadWaiter};

type Waiting = FxHashMap<u128, SmallVec<[Arc<ThreadWaiter>; 1]>>;

fn waiting() -> &'static Mutex<Waiting> {
    static WAITING: OnceLock<Mutex<Waiting>> = OnceLock::new();
    WAITING.get_or_init(Mutex::default)
}

/// The chain of a call that is about to be made by a blocked caller: that of the method which makes it, else a
/// new one.
pub(crate) fn next() -> Chain {
    match context::chain() {
        Some(chain) => nested(chain),
        None => fresh(),
    }
}

/// A chain that nothing belongs to yet.
pub(crate) fn fresh() -> Chain {
    Chain::new(name(), 0)
}

/// The chain of a call made from within `chain`.
pub(crate) const fn nested(chain: Chain) -> Chain {
    Chain::new(chain.id(), chain.depth.saturating_add(1))
}

/// A name that nobody can guess: a name of the thread, and a counter of its own under a keyed hash, whose key the
/// system gave at random. Whoever has seen one name would have to guess the other half of the next.
fn name() -> u128 {
    static KEY: OnceLock<RandomState> = OnceLock::new();
    thread_local! {
        static THREAD: u64 = RandomState::new().hash_one(std::thread::current().id());
        static COUNTER: Cell<u64> = const { Cell::new(0) };
    }
    let thread = THREAD.with(|thread| *thread);
    let count = COUNTER.get().wrapping_add(1);
    COUNTER.set(count);
    let hidden = KEY.get_or_init(RandomState::new).hash_one((thread, count));
    (u128::from(thread) << 64) | u128::from(hidden)
}

/// A thread registered as waiting within a chain, until this is dropped.
pub(crate) struct Registered {
    chain: u128,
    thread: Arc<ThreadWaiter>,
}

thread_local! {
    /// As what this thread is registered, innermost last.
    static NESTED: RefCell<Vec<Arc<ThreadWaiter>>> = const { RefCell::new(Vec::new()) };
}

/// Registers this thread as waiting within `chain`.
///
/// Callbacks that came while it was running another one are run now: nobody else would, and it may be these that it
/// is about to wait for.
pub(crate) fn register(chain: Chain, thread: &Arc<ThreadWaiter>) -> Registered {
    lock(waiting())
        .entry(chain.id())
        .or_default()
        .push(Arc::clone(thread));
    NESTED.with_borrow_mut(|nested| {
        for job in nested.iter().flat_map(|outer| outer.take_jobs()) {
            thread.push(job);
        }
        nested.push(Arc::clone(thread));
    });
    Registered {
        chain: chain.id(),
        thread: Arc::clone(thread),
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        let mut waiting = lock(waiting());
        if let Entry::Occupied(mut entry) = waiting.entry(self.chain) {
            let threads = entry.get_mut();
            if let Some(at) = threads
                .iter()
                .rposition(|thread| Arc::ptr_eq(thread, &self.thread))
            {
                threads.remove(at);
            }
            if threads.is_empty() {
                entry.remove();
            }
        }
        drop(waiting);
        NESTED.with_borrow_mut(|nested| nested.retain(|thread| !Arc::ptr_eq(thread, &self.thread)));
    }
}

/// Gives a callback to the thread that waits within `chain`; back if there is none.
pub(crate) fn hand_to_waiting_thread(chain: Chain, job: Job) -> Result<(), Job> {
    let waiting = lock(waiting());
    match waiting.get(&chain.id()).and_then(|threads| threads.last()) {
        // Under the lock: a thread that is registered looks at its jobs once more after it has unregistered.
        Some(thread) => {
            thread.push(job);
            Ok(())
        }
        None => Err(job),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_callback_goes_to_the_innermost_waiting_thread_of_its_chain_alone() {
        let chain = next();
        let (outer, inner) = (Arc::<ThreadWaiter>::default(), Arc::<ThreadWaiter>::default());
        let outer_registered = register(chain, &outer);
        let inner_registered = register(chain, &inner);
        assert!(hand_to_waiting_thread(chain, Box::new(|| {})).is_ok());
        assert_eq!((outer.take_jobs().len(), inner.take_jobs().len()), (0, 1));
        drop(inner_registered);
        assert!(hand_to_waiting_thread(chain, Box::new(|| {})).is_ok());
        assert_eq!((outer.take_jobs().len(), inner.take_jobs().len()), (1, 0));
        drop(outer_registered);
        assert!(hand_to_waiting_thread(chain, Box::new(|| {})).is_err());
        assert!(
            hand_to_waiting_thread(next(), Box::new(|| {})).is_err(),
            "another chain is another thread's"
        );
    }

    #[test]
    fn names_of_chains_differ() {
        let names: std::collections::HashSet<_> = (0..1000).map(|_| name()).collect();
        assert_eq!(names.len(), 1000);
    }
}
