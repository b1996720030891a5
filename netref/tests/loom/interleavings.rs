//! The tests, apart from those of the files that they are about.

use std::collections::VecDeque;
use std::sync::Arc as Shared;
use std::task::{Poll, Waker};

use loom::future::block_on;
use loom::thread;

use crate::baton::{Baton, Turn};
use crate::role::{self, Driven, Role};
use crate::signal::{Signal, Wishes};
use crate::sync::{Arc, Mutex, lock};
use crate::waiter::{Job, ThreadWaiter, Waiter, Woken};

/// Runs `body` under every interleaving in which threads are interrupted at most `interruptions` times.
fn explore(interruptions: usize, body: impl Fn() + Send + Sync + 'static) {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(interruptions);
    model.check(body);
}

/// Waits until something was wished for, as the driver does.
fn wait_for_wishes(signal: &Signal) -> Wishes {
    block_on(std::future::poll_fn(|context| {
        match signal.poll(context.waker()) {
            Some(wishes) => Poll::Ready(wishes),
            None => Poll::Pending,
        }
    }))
}

mod baton {
    use super::*;

    /// A connection without a protocol: numbers are committed and written.
    struct Connection {
        state: Mutex<State>,
        signal: Signal,
    }

    struct State {
        /// Committed, and not yet taken by a writer.
        queue: VecDeque<u8>,
        /// Everything that was committed, in order.
        committed: Vec<u8>,
        baton: Baton<Carrier>,
        /// Callers that are done.
        gone: usize,
    }

    /// The writer. It is moved from holder to holder, so there is only ever one.
    struct Carrier {
        batch: VecDeque<u8>,
        written: Vec<u8>,
        /// How much it takes before it is full.
        room: usize,
    }

    impl Carrier {
        /// Whether everything was taken.
        fn write(&mut self) -> bool {
            let taken = self.room.min(self.batch.len());
            self.room -= taken;
            self.written.extend(self.batch.drain(..taken));
            self.batch.is_empty()
        }
    }

    impl Connection {
        fn new(room: usize) -> Self {
            let carrier = Carrier {
                batch: VecDeque::new(),
                written: Vec::new(),
                room,
            };
            let baton = Baton::new(carrier);
            let state = State {
                queue: VecDeque::new(),
                committed: Vec::new(),
                baton,
                gone: 0,
            };
            Self {
                state: Mutex::new(state),
                signal: Signal::default(),
            }
        }

        /// `Core::commit`, `turn` and `take_turn`.
        fn commit(&self, number: u8, alone: bool) {
            let turn = {
                let mut state = lock(&self.state);
                state.queue.push_back(number);
                state.committed.push(number);
                match state.baton.committed(alone) {
                    Turn::Write(mut carrier) => {
                        carrier.batch.append(&mut state.queue);
                        Turn::Write(carrier)
                    }
                    turn => turn,
                }
            };
            match turn {
                Turn::Write(carrier) => self.write(carrier),
                Turn::WakeDriver => self.signal.wish(Wishes::FLUSH),
                Turn::Nothing => {}
            }
        }

        /// `Core::write`.
        fn write(&self, mut carrier: Carrier) {
            loop {
                let all = carrier.write();
                let mut state = lock(&self.state);
                if !all {
                    state.baton.give_back_blocked(carrier);
                    drop(state);
                    return self.signal.wish(Wishes::BLOCKED);
                }
                if state.queue.is_empty() {
                    return state.baton.give_back(carrier);
                }
                carrier.batch.append(&mut state.queue);
            }
        }

        /// The last that a caller does: it helps nobody but the driver that wants to end.
        fn leave(&self) {
            lock(&self.state).gone += 1;
            self.signal.wish(Wishes::LOOK);
        }

        /// The driver, stricter than the real one: it writes only when it was asked to.
        fn drive(&self, callers: usize) {
            loop {
                let wishes = if lock(&self.state).gone < callers {
                    wait_for_wishes(&self.signal)
                } else if let Some(wishes) = self.signal.poll(Waker::noop()) {
                    wishes
                } else {
                    return;
                };
                if wishes.flush {
                    let carrier = lock(&self.state).baton.flush();
                    if let Some(carrier) = carrier {
                        self.write(carrier);
                    }
                }
                if wishes.blocked {
                    let carrier = {
                        let mut state = lock(&self.state);
                        if let Some(mut carrier) = state.baton.take_blocked() {
                            carrier.room += 2;
                            state.baton.give_back_blocked(carrier);
                        }
                        state.baton.unblock()
                    };
                    if let Some(carrier) = carrier {
                        self.write(carrier);
                    }
                }
            }
        }
    }

    /// Two callers with two numbers each beside the driver; the carrier is full after `room` of them.
    fn callers_and_driver(alone: [bool; 2], room: usize) {
        explore(3, move || {
            let connection = Arc::new(Connection::new(room));
            let callers = [(1, alone[0]), (3, alone[1])].map(|(first, alone)| {
                let connection = Arc::clone(&connection);
                thread::spawn(move || {
                    connection.commit(first, alone);
                    connection.commit(first + 1, alone);
                    connection.leave();
                })
            });
            connection.drive(callers.len());
            for caller in callers {
                caller.join().unwrap();
            }
            let mut state = lock(&connection.state);
            assert!(state.queue.is_empty());
            let carrier = state
                .baton
                .flush()
                .expect("nobody writes, and the carrier is not full");
            assert_eq!(carrier.written, state.committed, "all of it, in order");
        });
    }

    #[test]
    fn loom_nothing_is_forgotten_between_callers_that_write_themselves() {
        callers_and_driver([true, true], usize::MAX);
    }

    #[test]
    fn loom_nothing_is_forgotten_between_callers_that_wake_the_driver() {
        callers_and_driver([false, false], usize::MAX);
    }

    #[test]
    fn loom_nothing_is_forgotten_between_a_lone_caller_and_one_of_many() {
        callers_and_driver([true, false], usize::MAX);
    }

    #[test]
    fn loom_a_full_carrier_is_waited_for_and_keeps_the_order() {
        callers_and_driver([true, true], 1);
        callers_and_driver([true, false], 1);
    }
}

mod signal {
    use super::*;

    #[test]
    fn loom_no_wish_is_slept_through() {
        explore(4, || {
            let signal = Arc::new(Signal::default());
            let wishers = [Wishes::FLUSH, Wishes::LOOK].map(|wish| {
                let signal = Arc::clone(&signal);
                thread::spawn(move || signal.wish(wish))
            });
            let mut seen = Wishes::default();
            while !(seen.flush && seen.look) {
                let wishes = wait_for_wishes(&signal);
                let again = (wishes.flush && seen.flush) || (wishes.look && seen.look);
                assert!(!again, "a wish comes once");
                seen = Wishes {
                    flush: seen.flush || wishes.flush,
                    look: seen.look || wishes.look,
                    ..wishes
                };
                assert!(!seen.blocked && !seen.releases);
            }
            for wisher in wishers {
                wisher.join().unwrap();
            }
        });
    }
}

mod waiter {
    use super::*;

    #[test]
    fn loom_a_thread_sleeps_through_neither_a_notification_nor_a_job() {
        explore(4, || {
            let waiter = Arc::new(ThreadWaiter::default());
            let (ran, notified) = (Arc::new(Mutex::new(0)), Arc::clone(&waiter));
            let notifier = thread::spawn(move || notified.notify());
            let (pushed, counter) = (Arc::clone(&waiter), Arc::clone(&ran));
            let pusher = thread::spawn(move || pushed.push(Box::new(move || *lock(&counter) += 1)));
            let (mut jobs, mut notifications) = (0, 0);
            while jobs + notifications < 2 {
                match waiter.wait(None) {
                    Woken::Job(job) => {
                        job();
                        jobs += 1;
                    }
                    Woken::Notified => notifications += 1,
                    Woken::TimedOut => unreachable!("there is no time limit"),
                }
            }
            notifier.join().unwrap();
            pusher.join().unwrap();
            assert_eq!((jobs, notifications, *lock(&ran)), (1, 1, 1));
        });
    }

    /// Threads that wait within chains, as `chain` keeps them: one chain is enough here.
    #[derive(Default)]
    struct Waiting(Mutex<Option<Arc<ThreadWaiter>>>);

    impl Waiting {
        fn hand_over(&self, job: Job) -> Result<(), Job> {
            match &*lock(&self.0) {
                Some(thread) => {
                    thread.push(job);
                    Ok(())
                }
                None => Err(job),
            }
        }
    }

    #[test]
    fn loom_a_callback_that_comes_as_its_thread_stops_waiting_runs_once() {
        explore(3, || {
            let (waiting, ran) = (Arc::new(Waiting::default()), Arc::new(Mutex::new(0)));
            let waiter = Arc::new(ThreadWaiter::default());
            *lock(&waiting.0) = Some(Arc::clone(&waiter));
            let over = Arc::clone(&waiter);
            let driver = thread::spawn(move || over.notify());
            let (registry, counter) = (Arc::clone(&waiting), Arc::clone(&ran));
            let dispatch = thread::spawn(move || {
                let job: Job = Box::new(move || *lock(&counter) += 1);
                if let Err(job) = registry.hand_over(job) {
                    job(); // on the pool
                }
            });
            // `Anchor::block`: callbacks run here until the call is over, those that were too late on the pool.
            while let Woken::Job(job) = waiter.wait(None) {
                job();
            }
            *lock(&waiting.0) = None;
            waiter.take_jobs().into_iter().for_each(|job| job());
            driver.join().unwrap();
            dispatch.join().unwrap();
            assert_eq!(*lock(&ran), 1);
        });
    }
}

mod completion {
    use super::*;

    /// A call in the table of calls: `Protocol::poll_outcome` and `Event::Ready` under the connection's lock.
    #[derive(Default)]
    struct Entry {
        outcome: Option<u8>,
        waiter: Option<Waiter>,
    }

    fn poll_outcome(entry: &Mutex<Entry>, waiter: impl FnOnce() -> Waiter) -> Poll<u8> {
        let mut entry = lock(entry);
        if let Some(outcome) = entry.outcome.take() {
            return Poll::Ready(outcome);
        }
        entry.waiter = Some(waiter());
        Poll::Pending
    }

    /// The driver: completes under the lock, wakes outside.
    fn complete(entry: &Mutex<Entry>) {
        let waiter = {
            let mut entry = lock(entry);
            entry.outcome = Some(7);
            entry.waiter.take()
        };
        if let Some(waiter) = waiter {
            waiter.wake();
        }
    }

    #[test]
    fn loom_a_task_gets_its_outcome() {
        explore(4, || {
            let entry = Arc::new(Mutex::new(Entry::default()));
            let completed = Arc::clone(&entry);
            let driver = thread::spawn(move || complete(&completed));
            let outcome = block_on(std::future::poll_fn(|context| {
                poll_outcome(&entry, || Waiter::Task(context.waker().clone()))
            }));
            driver.join().unwrap();
            assert_eq!(outcome, 7);
        });
    }

    #[test]
    fn loom_a_call_that_moves_to_another_task_wakes_that_one() {
        explore(4, || {
            let entry = Arc::new(Mutex::new(Entry::default()));
            let completed = Arc::clone(&entry);
            let driver = thread::spawn(move || complete(&completed));
            // Polled once by a task that forgets it, as `select!` does.
            let first = poll_outcome(&entry, || Waiter::Task(Waker::noop().clone()));
            let outcome = match first {
                Poll::Ready(outcome) => outcome,
                Poll::Pending => block_on(std::future::poll_fn(|context| {
                    poll_outcome(&entry, || Waiter::Task(context.waker().clone()))
                })),
            };
            driver.join().unwrap();
            assert_eq!(outcome, 7);
        });
    }

    #[test]
    fn loom_a_thread_gets_its_outcome_also_when_its_waiter_was_used_before() {
        explore(4, || {
            let entry = Arc::new(Mutex::new(Entry::default()));
            let waiter = Arc::new(ThreadWaiter::default());
            waiter.notify(); // left over from another call
            let completed = Arc::clone(&entry);
            let driver = thread::spawn(move || complete(&completed));
            let outcome = loop {
                if let Poll::Ready(outcome) = poll_outcome(&entry, || Waiter::Thread(Arc::clone(&waiter))) {
                    break outcome;
                }
                assert!(matches!(waiter.wait(None), Woken::Notified));
            };
            driver.join().unwrap();
            assert_eq!(outcome, 7);
        });
    }
}

mod reading_role {
    use super::*;

    #[test]
    fn loom_the_role_has_one_successor() {
        explore(4, || {
            let role = Arc::new(Role::default());
            let other = Arc::clone(&role);
            let rival = thread::spawn(move || other.pass_on(0));
            let mine = role.pass_on(0);
            let theirs = rival.join().unwrap();
            assert!(mine.is_some() != theirs.is_some(), "{mine:?} {theirs:?}");
            assert!(role.is_held_by(1) && !role.is_held_by(0));
        });
    }

    /// A connection that only counts what it was asked for.
    #[derive(Default)]
    struct Connection {
        role: Role,
        signal: Signal,
        handled: Mutex<usize>,
        successor: Mutex<Option<thread::JoinHandle<()>>>,
    }

    impl Connection {
        /// One turn of `Driver::poll_step`; false: the role is somebody else's.
        fn handle(&self, number: u64, wishes: Wishes) -> bool {
            if !self.role.is_held_by(number) {
                self.signal.wish(wishes);
                return false;
            }
            *lock(&self.handled) += usize::from(wishes.flush);
            true
        }
    }

    impl Driven for Connection {
        fn pass_on(self: Shared<Self>, from: u64) {
            if let Some(number) = self.role.pass_on(from) {
                let this = Shared::clone(&self);
                let successor = thread::spawn(move || {
                    while *lock(&this.handled) == 0 {
                        let wishes = wait_for_wishes(&this.signal);
                        assert!(this.handle(number, wishes), "nobody takes the role from the last");
                    }
                });
                *lock(&self.successor) = Some(successor);
            }
        }

        fn address(&self) -> usize {
            std::ptr::from_ref(self).addr()
        }
    }

    #[test]
    fn loom_a_wish_made_while_the_role_is_given_away_is_heard_by_its_holder() {
        explore(4, || {
            let connection = Shared::new(Connection::default());
            let wished = Shared::clone(&connection);
            let wisher = thread::spawn(move || wished.signal.wish(Wishes::FLUSH));
            // The first driver: looks for wishes, then polls a method which is about to sleep.
            if let Some(wishes) = connection.signal.poll(Waker::noop()) {
                connection.handle(0, wishes);
            }
            let driven = Shared::clone(&connection) as Shared<dyn Driven>;
            role::driving(driven, 0, || {
                assert!(role::is_driving(connection.address()));
                role::give_away();
                assert!(!role::is_driving(connection.address()));
                role::give_away(); // a second time gives nothing
            });
            assert!(!connection.role.is_held_by(0) && connection.role.is_held_by(1));
            wisher.join().unwrap();
            let successor = lock(&connection.successor).take();
            successor.unwrap().join().unwrap();
            assert_eq!(*lock(&connection.handled), 1);
        });
    }
}
