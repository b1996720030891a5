//! Many tasks that are woken at once.
//!
//! For each task that is woken while another runs, tokio may wake one more of the runtime's threads. That thread finds the few
//! that were woken by then, runs them, falls asleep, and is woken for the next: 256 calls whose results came together had it
//! woken seven times, which took as long as half of their work. What it is told of while it looks after its own affairs, it
//! takes for one heap, for which it wakes one thread once. So that is where they are woken: by a waker of ours, which it keeps
//! until then as it keeps those of tasks that give way.
//!
//! So they run once the thread has nothing else to do, and after 61 other tasks at the latest, as tokio has it: no later than
//! if what they wait for were still to be read.

use std::cell::Cell;
use std::future::Future;
use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};

use smallvec::SmallVec;
use tokio::runtime::{Handle, RuntimeFlavor};

use crate::lock::lock;
use crate::waiter::Waiter;

/// So many are many. Fewer are woken one by one: both sides of a connection with so many calls in flight are better off if the
/// first of them go on before the last are woken.
const MANY: usize = 48;

/// A thread keeps the memory for so many.
const KEPT: usize = 1024;

thread_local! {
    /// Whom this thread is to wake.
    static TOGETHER: Arc<Together> = Arc::default();

    /// Whether there is anybody: asked for each call that comes, and where few are woken.
    static IS_ANYBODY: Cell<bool> = const { Cell::new(false) };
}

/// Those who are woken together, and who goes after them.
#[derive(Default)]
struct Together(Mutex<Vec<Waker>>);

impl Wake for Together {
    fn wake(self: Arc<Self>) {
        IS_ANYBODY.set(false);
        let mut wakers = std::mem::take(&mut *lock(&self.0));
        wakers.drain(..).for_each(Waker::wake);
        let mut place = lock(&self.0);
        if place.capacity() == 0 && wakers.capacity() <= KEPT {
            *place = wakers;
        }
    }
}

/// Whether so many are to be woken together: they are many, or others wait here to be woken. Whoever is woken now runs before
/// those, and keeps them waiting meanwhile, as no other thread finds them.
pub(super) fn are_many(count: usize) -> bool {
    count >= MANY || IS_ANYBODY.get()
}

/// Wakes them together, once this thread has nothing else to do, or now, if it is none of a runtime. `own` is of the task that
/// runs: others that are not of its kind are woken now, as tokio would panic if their wakers let a task give way.
pub(super) fn wake(waiters: impl Iterator<Item = Waiter>, own: &Waker) {
    TOGETHER.with(|together| {
        let mut others = SmallVec::<[Waiter; 4]>::new();
        {
            let mut wakers = lock(&together.0);
            for waiter in waiters {
                match waiter {
                    Waiter::Task(waker) if std::ptr::eq(waker.vtable(), own.vtable()) => wakers.push(waker),
                    other => others.push(other),
                }
            }
        }
        IS_ANYBODY.set(true);
        together.put_off();
        others.into_iter().for_each(Waiter::wake);
    });
}

/// Wakes now whom this thread is to wake: what it does next may take long, and other threads can take them over meanwhile.
pub(super) fn wake_now() {
    if IS_ANYBODY.get() {
        TOGETHER.with(|together| Arc::clone(together).wake());
    }
}

/// Lets others have their turn, those who are to be woken on this thread among them.
pub(super) fn give_way(runtime: &Handle) -> impl Future<Output = ()> + use<> {
    let last_is_first = runtime.runtime_flavor() != RuntimeFlavor::CurrentThread;
    let mut has_waited = false;
    std::future::poll_fn(move |context| {
        if std::mem::replace(&mut has_waited, true) {
            return Poll::Ready(());
        }
        let own = context.waker();
        TOGETHER.with(|together| {
            if together.is_followed_by(own, last_is_first) {
                // They are put off already. Whoever waits here does not rely on others for that.
                together.put_off();
            } else {
                put_off(own);
            }
        });
        Poll::Pending
    })
}

impl Together {
    /// Whether there is anybody to be woken. If so, `waker` goes after them, where those run in turn, but for the last, if
    /// that is the first.
    fn is_followed_by(&self, waker: &Waker, last_is_first: bool) -> bool {
        let mut wakers = lock(&self.0);
        let Some(last) = wakers.len().checked_sub(1) else {
            return false;
        };
        wakers.push(waker.clone());
        if last_is_first {
            wakers.swap(last, last + 1);
        }
        true
    }

    fn put_off(self: &Arc<Self>) {
        put_off(&Waker::from(Arc::clone(self)));
    }
}

/// Has it woken once this thread has nothing else to do, or now, if it is none of a runtime.
pub(super) fn put_off(waker: &Waker) {
    // Polled for the first time, this has the waker put off, and that is all.
    let _ = pin!(tokio::task::yield_now()).poll(&mut Context::from_waker(waker));
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    /// Runs `act` in a task of a runtime in which so many others wait, with their wakers, the numbers of those that have gone on
    /// since, and its own waker; in which order they have gone on when all have.
    async fn with_many(
        count: usize,
        act: impl FnOnce(Vec<Waker>, &Arc<Mutex<Vec<usize>>>, Waker) -> Turn + Send + 'static,
    ) -> Vec<usize> {
        let (waiting, gone_on) = (
            Arc::<Mutex<Vec<Waker>>>::default(),
            Arc::<Mutex<Vec<usize>>>::default(),
        );
        let tasks: Vec<_> = (0..count)
            .map(|number| {
                let (waiting, gone_on) = (Arc::clone(&waiting), Arc::clone(&gone_on));
                tokio::spawn(async move {
                    let mut has_waited = false;
                    std::future::poll_fn(|context| {
                        if std::mem::replace(&mut has_waited, true) {
                            return Poll::Ready(());
                        }
                        lock(&waiting).push(context.waker().clone());
                        Poll::Pending
                    })
                    .await;
                    lock(&gone_on).push(number);
                })
            })
            .collect();
        let order = Arc::clone(&gone_on);
        let one = tokio::spawn(async move {
            while lock(&waiting).len() < count {
                tokio::task::yield_now().await;
            }
            let own = std::future::poll_fn(|context| Poll::Ready(context.waker().clone())).await;
            let wakers = std::mem::take(&mut *lock(&waiting));
            if let Turn::Given = act(wakers, &gone_on, own) {
                give_way(&Handle::current()).await;
                assert_eq!(lock(&gone_on).len(), count, "all others have had their turn");
            }
        });
        one.await.unwrap();
        for task in tasks {
            task.await.unwrap();
        }
        lock(&order).clone()
    }

    enum Turn {
        Given,
        Kept,
    }

    fn runtimes() -> [tokio::runtime::Runtime; 2] {
        let several = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .build();
        let one = tokio::runtime::Builder::new_current_thread().build();
        [one.unwrap(), several.unwrap()]
    }

    #[test]
    fn those_who_are_woken_run_before_whoever_gives_way_to_them() {
        for runtime in runtimes() {
            for count in [1, 2, 60, 200] {
                runtime.block_on(with_many(count, |wakers, gone_on, own| {
                    wake(wakers.into_iter().map(Waiter::Task), &own);
                    assert!(lock(gone_on).is_empty(), "not while this one runs");
                    Turn::Given
                }));
            }
        }
    }

    #[test]
    fn they_run_once_the_thread_has_nothing_else_to_do() {
        // All at once, so that one more thread is woken for all of them.
        for runtime in runtimes() {
            let order = runtime.block_on(with_many(50, |wakers, gone_on, own| {
                wake(wakers.into_iter().map(Waiter::Task), &own);
                // If those were in the queue by now, one of these would run after them.
                for number in [50, 51] {
                    let gone_on = Arc::clone(gone_on);
                    tokio::spawn(async move { lock(&gone_on).push(number) });
                }
                Turn::Kept
            }));
            // One of them goes first if the runtime happens to look after its affairs just then.
            let first = &order[..3];
            assert!([50, 51].iter().all(|number| first.contains(number)), "{order:?}");
        }
    }

    #[test]
    fn they_run_as_well_if_nobody_gives_way() {
        for runtime in runtimes() {
            runtime.block_on(with_many(2 * KEPT, |wakers, _, own| {
                wake(wakers.into_iter().map(Waiter::Task), &own);
                Turn::Kept
            }));
        }
    }

    /// Whoever is woken by it lets a task give way, which no waker may do that tokio has put off.
    #[derive(Default)]
    struct GivesWay(AtomicUsize);

    impl Wake for GivesWay {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
            put_off(Waker::noop());
        }
    }

    #[test]
    fn who_is_no_task_of_the_runtime_is_woken_now() {
        for runtime in runtimes() {
            runtime.block_on(with_many(100, |mut wakers, gone_on, own| {
                let other = Arc::new(GivesWay::default());
                wakers.insert(50, Waker::from(Arc::clone(&other)));
                wake(wakers.into_iter().map(Waiter::Task), &own);
                assert_eq!(other.0.load(Ordering::Relaxed), 1);
                assert!(lock(gone_on).is_empty());
                Turn::Given
            }));
        }
    }

    #[test]
    fn outside_a_runtime_all_are_woken_now() {
        let other = Arc::new(GivesWay::default());
        let own = Waker::from(Arc::clone(&other));
        wake(std::iter::repeat_n(own.clone(), 3).map(Waiter::Task), &own);
        assert_eq!(other.0.load(Ordering::Relaxed), 3);
    }
}
