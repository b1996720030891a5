//! The async method that the driver keeps, rather than have a task made for it.
//!
//! A method that calls back waits for what is read next, as a rule. In a task of its own it would have to be woken for that, and
//! the driver, which then has to leave it the thread, as well. So while the driver spins, and nothing else is under way that
//! would have to wait, it polls the method once more with a waker of the connection, and again when it has woken that. With
//! anything else that comes, or wakes it, and before the driver falls asleep, the method is left to a task: nothing that the
//! driver does meanwhile, which may be to block in code of the user's, keeps it from going on.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Wake, Waker};

use super::methods::Served;
use crate::clock;
use crate::engine::core::Core;
use crate::lock::lock;
use crate::protocol::Protocol;
use crate::remote::EngineHandles;
use crate::signal::Wishes;
use crate::waiter::Waiter;

/// A method that waits, if the driver keeps one.
pub(in crate::engine) struct Kept<P: Protocol<EngineHandles>>(Option<Box<Served<P>>>);

/// Where a method went on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::engine) enum WentOn {
    Here,
    /// It has got a task, which waits for its turn.
    InTask,
}

impl<P: Protocol<EngineHandles>> Default for Kept<P> {
    fn default() -> Self {
        Self(None)
    }
}

impl<P: Protocol<EngineHandles>> Kept<P> {
    /// Keeps a method that waits, or has a task made for it.
    pub(super) fn keep(&mut self, served: Served<P>) {
        let core = &served.core;
        if self.0.is_some() || !core.is_driven_here() || !core.is_alone_with_its_call() {
            return served.spawn();
        }
        self.poll(Box::new(served));
    }

    /// Whether that is the waker of the method.
    pub(in crate::engine) fn is_woken_by(&self, waiter: &Waiter) -> bool {
        let core = self.0.as_ref().map(|served| Arc::as_ptr(&served.core));
        matches!((core, waiter), (Some(core), Waiter::Task(waker)) if std::ptr::addr_eq(waker.data(), core))
    }

    /// Goes on with the method if this driver has woken it: what has become of it then.
    pub(in crate::engine) fn go_on(&mut self) -> Option<WentOn> {
        let was_woken = |served: &mut Box<Served<P>>| {
            let core = &served.core;
            core.is_driven_here() && core.dispatch.goes_on.load(Ordering::Relaxed)
        };
        self.0.take_if(was_woken).map(|served| self.poll(served))
    }

    /// Leaves the method to a task. Whether there was one.
    pub(in crate::engine) fn let_go(&mut self) -> bool {
        let served = self.0.take();
        let is_one = served.is_some();
        if let Some(served) = served {
            served.spawn();
        }
        is_one
    }

    fn poll(&mut self, mut served: Box<Served<P>>) -> WentOn {
        let core = Arc::clone(&served.core);
        let goes_on = &core.dispatch.goes_on;
        goes_on.store(false, Ordering::Relaxed);
        let waker = Waker::from(Arc::clone(&core));
        let begun = clock::now();
        let polled = Pin::new(&mut *served).poll(&mut Context::from_waker(&waker));
        if polled.is_ready() {
            return WentOn::Here;
        }
        let is_short = clock::now().saturating_sub(begun) <= clock::nanos(core.config.spin);
        // One that wakes itself would keep the driver busy, and so would one that takes long.
        let is_still = is_short && !goes_on.load(Ordering::Relaxed);
        if is_still && core.is_driven_here() && core.is_alone_with_its_call() {
            self.0 = Some(served);
            return WentOn::Here;
        }
        served.spawn();
        WentOn::InTask
    }
}

impl<P: Protocol<EngineHandles>> Core<P> {
    /// Whether a method of this side, and the call that it waits for, are all that is under way.
    fn is_alone_with_its_call(&self) -> bool {
        let stats = lock(&self.state).protocol.stats();
        stats.answers == 1 && stats.calls == 1
    }
}

/// Wakes the method that the driver keeps: there and then, if that is who wakes it.
impl<P: Protocol<EngineHandles>> Wake for Core<P> {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if self.is_driven_here() {
            self.dispatch.goes_on.store(true, Ordering::Relaxed);
        } else {
            // It does not wait for what is read next: let it have a task.
            self.signal.wish(Wishes::EVENTS);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::sync::atomic::{AtomicBool, AtomicUsize};
    use std::task::Poll;

    use farref_framing::Role as Side;
    use farref_transport::memory;

    use super::*;
    use crate::context::Serving;
    use crate::engine::testing::{Spoken, undriven};
    use crate::remote::Conduit;
    use crate::role;
    use crate::served::ServedFuture;

    /// The call that the method answers.
    const ANSWER: u64 = 7;

    async fn subject() -> Arc<Core<Spoken>> {
        undriven(memory::pair(1024).0, Side::Dialer).await
    }

    /// What a method does, seen from outside.
    #[derive(Default)]
    struct Seen {
        polls: AtomicUsize,
        waker: Mutex<Option<Waker>>,
        is_over: AtomicBool,
    }

    impl Seen {
        fn polls(&self) -> usize {
            self.polls.load(Ordering::SeqCst)
        }

        fn wake(&self) {
            lock(&self.waker).take().unwrap().wake();
        }

        /// A method that waits until it is over.
        fn method(self: &Arc<Self>) -> ServedFuture {
            let seen = Arc::clone(self);
            ServedFuture::new(std::future::poll_fn(move |context| {
                seen.polls.fetch_add(1, Ordering::SeqCst);
                *lock(&seen.waker) = Some(context.waker().clone());
                if seen.is_over.load(Ordering::SeqCst) {
                    Poll::Ready(())
                } else {
                    Poll::Pending
                }
            }))
        }
    }

    /// The method as it is kept, polled once.
    fn kept(core: &Arc<Core<Spoken>>, future: ServedFuture) -> Kept<Spoken> {
        let serving = Serving {
            conduit: core.anchor() as Arc<dyn Conduit>,
            answer: ANSWER,
            chain: None,
            deadline: None,
            hops: 0,
            traced: None,
        };
        let mut served = Box::new(Served::new(core, future, (ANSWER, Some(serving)), None));
        let waker = Waker::from(Arc::clone(core));
        let polled = Pin::new(&mut *served).poll(&mut Context::from_waker(&waker));
        assert!(polled.is_pending());
        Kept(Some(served))
    }

    /// Does it as whoever reads the connection.
    fn driving<R>(core: &Arc<Core<Spoken>>, run: impl FnOnce() -> R) -> R {
        role::driving(Arc::clone(core) as Arc<dyn role::Driven>, 0, run)
    }

    #[tokio::test]
    async fn a_method_that_is_kept_goes_on_when_the_driver_wakes_it() {
        let (core, seen) = (subject().await, Arc::<Seen>::default());
        let mut kept = kept(&core, seen.method());
        seen.is_over.store(true, Ordering::SeqCst);
        driving(&core, || {
            assert!(kept.go_on().is_none() && seen.polls() == 1);
            seen.wake();
            assert!(!core.signal.is_asked(), "it looks by itself");
            assert_eq!(kept.go_on(), Some(WentOn::Here));
            assert!(kept.go_on().is_none(), "it is over");
        });
        assert_eq!(seen.polls(), 2);
    }

    #[tokio::test]
    async fn a_method_that_somebody_else_wakes_goes_on_in_a_task() {
        let (core, seen) = (subject().await, Arc::<Seen>::default());
        let mut kept = kept(&core, seen.method());
        seen.wake();
        assert!(core.signal.take().events, "the driver is told");
        assert!(driving(&core, || kept.go_on()).is_none());
        assert!(kept.let_go() && !kept.let_go());
        while seen.polls() < 2 {
            tokio::task::yield_now().await;
        }
        seen.is_over.store(true, Ordering::SeqCst);
        seen.wake();
        assert!(!core.signal.is_asked());
        while seen.polls() < 3 {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn a_method_that_is_no_longer_alone_goes_on_in_a_task() {
        let (core, seen) = (subject().await, Arc::<Seen>::default());
        let mut kept = kept(&core, seen.method());
        // None of its calls is under way.
        driving(&core, || {
            seen.wake();
            assert_eq!(kept.go_on(), Some(WentOn::InTask));
        });
        while seen.polls() < 3 {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn a_method_that_is_given_up_while_it_is_kept_is_dropped() {
        let (core, seen) = (subject().await, Arc::<Seen>::default());
        let mut kept = kept(&core, seen.method());
        driving(&core, || {
            core.give_up(ANSWER);
            assert_eq!(kept.go_on(), Some(WentOn::Here));
        });
        assert_eq!((seen.polls(), Arc::strong_count(&seen)), (1, 1));
        assert!(!core.dispatch.is_cancelled(ANSWER), "it has left");
    }
}
