//! Futures that wake one another, in one task.
//!
//! Knows which of them are due. Where one wakes another whose turn is yet to come, nothing is scheduled for that.

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker};

use tokio::sync::mpsc;

/// What runs in such a task.
pub(super) type Job = Pin<Box<dyn Future<Output = ()> + Send>>;

/// A task that ends once this is dropped and all that it was given has ended.
#[derive(Debug)]
pub(super) struct Together {
    given: mpsc::UnboundedSender<Job>,
}

impl Together {
    /// Must be called on a runtime.
    pub(super) fn start() -> Self {
        let (together, task) = Self::new();
        tokio::spawn(task);
        together
    }

    fn new() -> (Self, Task) {
        let (given, taken) = mpsc::unbounded_channel();
        let task = Task {
            taken,
            parts: Vec::new(),
            calls: Arc::default(),
        };
        (Self { given }, task)
    }

    /// Has `job` polled, in each turn behind those that came before.
    pub(super) fn run(&self, job: Job) {
        // It fails if the runtime is gone, and so would a task.
        let _ = self.given.send(job);
    }
}

struct Task {
    taken: mpsc::UnboundedReceiver<Job>,
    parts: Vec<Part>,
    calls: Arc<Calls>,
}

struct Part {
    job: Job,
    call: Arc<Call>,
    waker: Waker,
}

impl Part {
    fn new(job: Job, calls: &Arc<Calls>) -> Self {
        let call = Arc::new(Call {
            is_due: AtomicBool::new(true),
            calls: Arc::clone(calls),
        });
        Self {
            job,
            waker: Waker::from(Arc::clone(&call)),
            call,
        }
    }

    /// Whether it has ended.
    fn take_turn(&mut self) -> bool {
        let mut cx = Context::from_waker(&self.waker);
        self.call.is_due.swap(false, SeqCst) && self.job.as_mut().poll(&mut cx).is_ready()
    }
}

/// What all calls for a turn have in common.
struct Calls {
    /// Whether the task has its turn. When it is over, the task looks once more who is due.
    is_turn: AtomicBool,
    task: Mutex<Waker>,
}

impl Calls {
    fn task(&self) -> MutexGuard<'_, Waker> {
        self.task.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for Calls {
    fn default() -> Self {
        Self {
            is_turn: AtomicBool::new(false),
            task: Mutex::new(Waker::noop().clone()),
        }
    }
}

/// What wakes one part.
struct Call {
    is_due: AtomicBool,
    calls: Arc<Calls>,
}

impl Wake for Call {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    /// Either this finds that the turn is over, or the task finds that the part is due: hence `SeqCst`.
    fn wake_by_ref(self: &Arc<Self>) {
        if !self.is_due.swap(true, SeqCst) && !self.calls.is_turn.load(SeqCst) {
            let task = self.calls.task().clone();
            task.wake();
        }
    }
}

impl Future for Task {
    type Output = ();

    /// Polls each part once at most: one that stopped in the midst of its work, to let others run, is due again.
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let Self { taken, parts, calls } = &mut *self;
        calls.is_turn.store(true, SeqCst);
        calls.task().clone_from(cx.waker());
        let is_dropped = loop {
            match taken.poll_recv(cx) {
                Poll::Ready(Some(job)) => parts.push(Part::new(job, calls)),
                Poll::Ready(None) => break true,
                Poll::Pending => break false,
            }
        };
        parts.retain_mut(|part| !part.take_turn());
        calls.is_turn.store(false, SeqCst);
        if is_dropped && parts.is_empty() {
            return Poll::Ready(());
        }
        if parts.iter().any(|part| part.call.is_due.load(SeqCst)) {
            cx.waker().wake_by_ref();
        }
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use std::future::{pending, poll_fn, ready};
    use std::sync::atomic::AtomicUsize;
    use std::thread;

    use super::*;
    use crate::testing::block_on;

    #[derive(Default)]
    struct Counted(AtomicUsize);

    impl Wake for Counted {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, SeqCst);
        }
    }

    /// Polls by hand.
    struct Turns {
        task: Pin<Box<Task>>,
        wakes: Arc<Counted>,
    }

    impl Turns {
        fn of(task: Task) -> Self {
            let task = Box::pin(task);
            let wakes = Arc::default();
            Self { task, wakes }
        }

        /// What the turn gave, and how often the task was woken from its beginning on.
        fn turn(&mut self) -> (Poll<()>, usize) {
            self.wakes.0.store(0, SeqCst);
            let waker = Waker::from(Arc::clone(&self.wakes));
            let turn = self.task.as_mut().poll(&mut Context::from_waker(&waker));
            (turn, self.wakes.0.load(SeqCst))
        }
    }

    /// A job that never ends, counts its turns, and shows what wakes it.
    fn counting() -> (Job, Arc<AtomicUsize>, Arc<Mutex<Waker>>) {
        let (turns, waker) = (Arc::default(), Arc::new(Mutex::new(Waker::noop().clone())));
        let (counted, shown) = (Arc::clone(&turns), Arc::clone(&waker));
        let job = poll_fn(move |cx| {
            AtomicUsize::fetch_add(&counted, 1, SeqCst);
            shown.lock().unwrap().clone_from(cx.waker());
            Poll::Pending
        });
        (Box::pin(job), turns, waker)
    }

    /// A job that wakes another in each of its turns.
    fn waking(other: Arc<Mutex<Waker>>) -> (Job, Arc<Mutex<Waker>>) {
        let waker = Arc::new(Mutex::new(Waker::noop().clone()));
        let shown = Arc::clone(&waker);
        let job = poll_fn(move |cx| {
            shown.lock().unwrap().clone_from(cx.waker());
            other.lock().unwrap().wake_by_ref();
            Poll::Pending
        });
        (Box::pin(job), waker)
    }

    #[test]
    fn who_is_woken_by_one_before_it_runs_in_the_same_turn_and_nothing_is_scheduled() {
        let (together, task) = Together::new();
        let (counting, turns, waker) = counting();
        let (waking, first) = waking(waker);
        together.run(waking);
        together.run(counting);
        let mut task = Turns::of(task);
        assert_eq!(task.turn(), (Poll::Pending, 0));
        first.lock().unwrap().wake_by_ref();
        first.lock().unwrap().wake_by_ref();
        assert_eq!(task.wakes.0.load(SeqCst), 1);
        assert_eq!(task.turn(), (Poll::Pending, 0));
        assert_eq!(turns.load(SeqCst), 2);
    }

    #[test]
    fn who_is_woken_by_one_behind_it_runs_in_another_turn_and_the_others_rest() {
        let (together, task) = Together::new();
        let (counting, turns, waker) = counting();
        together.run(counting);
        together.run(waking(waker).0);
        let mut task = Turns::of(task);
        assert_eq!(task.turn(), (Poll::Pending, 1));
        assert_eq!(task.turn(), (Poll::Pending, 0));
        assert_eq!(turns.load(SeqCst), 2);
        assert_eq!(task.turn(), (Poll::Pending, 0));
        assert_eq!(turns.load(SeqCst), 2);
    }

    #[test]
    fn who_wakes_itself_lets_the_runtime_run_others_first() {
        let (together, task) = Together::new();
        let mut left = 3;
        together.run(Box::pin(poll_fn(move |cx| {
            left -= 1;
            cx.waker().wake_by_ref();
            if left == 0 { Poll::Ready(()) } else { Poll::Pending }
        })));
        let mut task = Turns::of(task);
        assert_eq!(task.turn(), (Poll::Pending, 1));
        assert_eq!(task.turn(), (Poll::Pending, 1));
        assert_eq!(task.turn(), (Poll::Pending, 0));
        drop(together);
        assert_eq!(task.turn(), (Poll::Ready(()), 0));
    }

    #[test]
    fn the_task_takes_more_until_nobody_can_give_it_any_and_ends_with_the_last() {
        let (together, task) = Together::new();
        let mut task = Turns::of(task);
        together.run(Box::pin(ready(())));
        assert_eq!(task.turn(), (Poll::Pending, 0));
        let (end, ended) = tokio::sync::oneshot::channel::<()>();
        together.run(Box::pin(async { drop(ended.await) }));
        assert_eq!(task.wakes.0.load(SeqCst), 1);
        drop(together);
        assert_eq!(task.turn(), (Poll::Pending, 0));
        drop(end);
        assert_eq!(task.wakes.0.load(SeqCst), 1);
        assert_eq!(task.turn(), (Poll::Ready(()), 0));
    }

    #[test]
    fn no_wake_from_another_thread_is_lost() {
        const TIMES: usize = 10_000;
        block_on(async {
            let together = Together::start();
            let woken = Arc::new(AtomicUsize::new(0));
            let (show, shown) = std::sync::mpsc::channel::<Waker>();
            let (done, is_done) = tokio::sync::oneshot::channel::<()>();
            let (seen, mut done) = (Arc::clone(&woken), Some(done));
            let mut asked = 0;
            // It asks to be woken, and asks again only when it is.
            together.run(Box::pin(poll_fn(move |cx| {
                while seen.load(SeqCst) == asked {
                    if asked == TIMES {
                        drop(done.take());
                        return Poll::Ready(());
                    }
                    asked += 1;
                    show.send(cx.waker().clone()).unwrap();
                    // So that wakes come before, at and after the end of the turn.
                    (0..asked % 500 * 10).for_each(|_| std::hint::spin_loop());
                }
                Poll::Pending
            })));
            together.run(Box::pin(pending()));
            let waking = thread::spawn(move || {
                for waker in shown {
                    woken.fetch_add(1, SeqCst);
                    waker.wake();
                }
            });
            let _ = is_done.await;
            waking.join().unwrap();
        });
    }
}
