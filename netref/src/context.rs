//! The call that is being served on this thread: what `farref::caller()` tells, and what nested calls inherit.

use std::cell::RefCell;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use farref_framing::Nanos;

use crate::chain;
use crate::clock;
use crate::peer::Peer;
use crate::protocol::Chain;
use crate::remote::Conduit;
use crate::trace::{self, Traced};

/// The call being served.
#[derive(Clone)]
pub(crate) struct Serving {
    pub(crate) conduit: Arc<dyn Conduit>,
    pub(crate) answer: u64,
    pub(crate) chain: Option<Chain>,
    pub(crate) deadline: Option<Nanos>,
    pub(crate) hops: u8,
    /// Of what trace it is a part, and the span that tells of it.
    pub(crate) traced: Option<Box<Traced>>,
}

thread_local! {
    static SERVING: RefCell<Option<Serving>> = const { RefCell::new(None) };
}

/// Runs `run` with `serving` as the call being served. `serving` is moved in and back out: nothing is counted.
pub(crate) fn serve<R>(serving: &mut Option<Serving>, run: impl FnOnce() -> R) -> R {
    struct Swap<'a>(&'a mut Option<Serving>);
    impl Drop for Swap<'_> {
        fn drop(&mut self) {
            SERVING.with(|current| std::mem::swap(&mut *current.borrow_mut(), self.0));
        }
    }
    let traced = serving.as_ref().and_then(|serving| serving.traced.as_deref());
    let _trace = trace::enter(traced.and_then(|traced| traced.context));
    let _span = traced.map(|traced| traced.span.clone().entered());
    SERVING.with(|current| std::mem::swap(&mut *current.borrow_mut(), serving));
    let _swap = Swap(serving);
    run()
}

fn with<R>(read: impl FnOnce(&Serving) -> R) -> Option<R> {
    SERVING
        .try_with(|current| current.borrow().as_ref().map(read))
        .ok()
        .flatten()
}

/// The chain that calls made here belong to. A call that came without one begins it with the first that it makes.
pub(crate) fn chain() -> Option<Chain> {
    let chain = |serving: &mut Serving| *serving.chain.get_or_insert_with(chain::fresh);
    SERVING
        .try_with(|current| current.borrow_mut().as_mut().map(chain))
        .ok()
        .flatten()
}

/// The deadline that calls made here inherit.
pub(crate) fn deadline() -> Option<Nanos> {
    with(|serving| serving.deadline).flatten()
}

/// Whether the call being served was given up by its caller.
pub(crate) fn is_cancelled() -> bool {
    with(|serving| (Arc::clone(&serving.conduit), serving.answer))
        .is_some_and(|(conduit, answer)| conduit.is_cancelled(answer))
}

/// The call being served on this thread: for the connection and number of who waits on whose behalf.
pub(crate) fn serving() -> Option<(Arc<dyn Conduit>, u64)> {
    with(|serving| (Arc::clone(&serving.conduit), serving.answer))
}

/// Who called the method that runs here, and what is left of its time.
///
/// Inside a blocking method it holds on the thread of the method; inside an async method, between any two of its
/// awaits. Tasks that the method spawns are not the method.
#[derive(Clone)]
pub struct CallerInfo {
    serving: Serving,
}

/// The caller of the method that runs here; `None` outside of remote calls, and in calls of local objects.
#[must_use]
pub fn caller() -> Option<CallerInfo> {
    with(|serving| CallerInfo {
        serving: serving.clone(),
    })
}

impl CallerInfo {
    /// Who is at the other end of the connection on which the call came, as it was known when that began.
    #[must_use]
    pub fn peer(&self) -> Arc<Peer> {
        Arc::clone(self.serving.conduit.peer())
    }

    /// How much of the call's time is left; `None` if it has no deadline, zero if it has passed.
    #[must_use]
    pub fn time_left(&self) -> Option<Duration> {
        self.serving
            .deadline
            .map(|deadline| Duration::from_nanos(deadline.saturating_sub(clock::now())))
    }

    /// Whether the caller gave the call up. An async method is dropped then and need not ask; a blocking one
    /// that takes long should.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.serving.conduit.is_cancelled(self.serving.answer)
    }

    /// Over how many connections the call was passed on before this one.
    #[must_use]
    pub const fn hops(&self) -> u8 {
        self.serving.hops
    }
}

impl fmt::Debug for CallerInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CallerInfo")
            .field("peer", self.serving.conduit.peer())
            .field("time_left", &self.time_left())
            .field("hops", &self.serving.hops)
            .finish_non_exhaustive()
    }
}
