//! The tests, apart from those of the files that they are about.

use std::collections::VecDeque;
use std::sync::Arc as Shared;
use std::task::{Poll, Waker};

use loom::future::block_on;
use loom::thread;

use crate::baton::{Baton, Turn};
use crate::releases::{Release, Releases};
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
        /// So many numbers are written in a row; what there is then is the driver's.
        in_a_row: usize,
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
        fn new(room: usize, in_a_row: usize) -> Self {
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
                in_a_row,
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
                Turn::Write(carrier) => self.signal.wish(self.write(carrier)),
                Turn::WakeDriver => self.signal.wish(Wishes::FLUSH),
                Turn::Nothing => {}
            }
        }

        /// `Core::write`: what the driver is to be asked for.
        fn write(&self, mut carrier: Carrier) -> Wishes {
            let mut written = 0;
            loop {
                written += carrier.batch.len();
                let all = carrier.write();
                let mut state = lock(&self.state);
                if !all {
                    state.baton.give_back_blocked(carrier);
                    return Wishes::BLOCKED;
                }
                if state.queue.is_empty() {
                    state.baton.give_back(carrier);
                    return Wishes::default();
                }
                if written >= self.in_a_row {
                    state.baton.give_back_for_more(carrier);
                    return Wishes::FLUSH;
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
                        self.signal.note(self.write(carrier));
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
                        self.signal.note(self.write(carrier));
                    }
                }
            }
        }
    }

    /// Two callers with two numbers each beside the driver; the carrier is full after `room` of them, and so many are written
    /// in a row.
    fn callers_and_driver(alone: [bool; 2], room: usize, in_a_row: usize) {
        explore(3, move || {
            let connection = Arc::new(Connection::new(room, in_a_row));
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
        callers_and_driver([true, true], usize::MAX, usize::MAX);
    }

    #[test]
    fn loom_nothing_is_forgotten_between_callers_that_wake_the_driver() {
        callers_and_driver([false, false], usize::MAX, usize::MAX);
    }

    #[test]
    fn loom_nothing_is_forgotten_between_a_lone_caller_and_one_of_many() {
        callers_and_driver([true, false], usize::MAX, usize::MAX);
    }

    #[test]
    fn loom_a_full_carrier_is_waited_for_and_keeps_the_order() {
        callers_and_driver([true, true], 1, usize::MAX);
        callers_and_driver([true, false], 1, usize::MAX);
    }

    #[test]
    fn loom_what_is_left_after_a_long_write_is_the_drivers() {
        callers_and_driver([true, true], usize::MAX, 1);
        callers_and_driver([true, false], usize::MAX, 1);
        callers_and_driver([true, true], 2, 1);
    }
}

mod changing_carriers {
    use super::*;

    /// A connection that goes from carrier to carrier, and whose peer asks for everything again on each: numbers are
    /// committed and written, and what its carriers bring is counted.
    struct Connection {
        inlet: Mutex<Option<Inlet>>,
        state: Mutex<State>,
        signal: Signal,
        role: Role,
        /// So many numbers are written in a row; what there is then is the driver's.
        in_a_row: usize,
    }

    struct State {
        /// Everything that was committed, in order.
        committed: Vec<u8>,
        /// How many of them were handed to a writer of this carrier.
        sent: usize,
        baton: Baton<Writer>,
        carrier: u64,
        /// What was read, by carrier.
        heard: Vec<u64>,
        /// Threads beside the driver that are done.
        gone: usize,
    }

    /// The writing half of a carrier.
    struct Writer {
        carrier: u64,
        batch: Vec<u8>,
        written: Vec<u8>,
        room: usize,
    }

    /// The reading half of a carrier.
    struct Inlet {
        carrier: u64,
        left: u8,
    }

    impl Writer {
        const fn new(carrier: u64, room: usize) -> Self {
            Self {
                carrier,
                batch: Vec::new(),
                written: Vec::new(),
                room,
            }
        }

        /// Whether everything was taken.
        fn write(&mut self) -> bool {
            let taken = self.room.min(self.batch.len());
            self.room -= taken;
            self.written.extend(self.batch.drain(..taken));
            self.batch.is_empty()
        }
    }

    impl State {
        /// `Protocol::poll_transmit`.
        fn transmit(&mut self, writer: &mut Writer) {
            assert_eq!(
                writer.carrier, self.carrier,
                "only the writer of this carrier gets anything"
            );
            writer.batch.extend(&self.committed[self.sent..]);
            self.sent = self.committed.len();
        }

        fn has_unsent(&self) -> bool {
            self.sent < self.committed.len()
        }

        fn give_back(&mut self, writer: Writer) {
            assert_eq!(writer.carrier, self.carrier, "no other writer is given back");
            self.baton.give_back(writer);
        }

        /// `State::change_carrier`, and the protocol that goes back to what the peer has got: nothing.
        fn change_carrier(&mut self, slot: &mut Option<Inlet>, halves: Option<(Inlet, usize)>) {
            self.carrier += 1;
            self.sent = 0;
            let (inlet, writer) = match halves {
                Some((inlet, room)) => {
                    let writer = Writer::new(self.carrier, room);
                    (Some(inlet), Some(writer))
                }
                None => (None, None),
            };
            *slot = inlet.map(|inlet| Inlet {
                carrier: self.carrier,
                ..inlet
            });
            drop(self.baton.replace(writer));
        }
    }

    impl Connection {
        /// Over a carrier that is full after `room` numbers and brings `left`.
        fn new(room: usize, left: u8, in_a_row: usize) -> Self {
            let state = State {
                committed: Vec::new(),
                sent: 0,
                baton: Baton::new(Writer::new(0, room)),
                carrier: 0,
                heard: Vec::new(),
                gone: 0,
            };
            Self {
                inlet: Mutex::new(Some(Inlet { carrier: 0, left })),
                state: Mutex::new(state),
                signal: Signal::default(),
                role: Role::default(),
                in_a_row,
            }
        }

        /// `Core::commit`, `turn` and `take_turn`.
        fn commit(&self, number: u8, alone: bool) {
            let turn = {
                let mut state = lock(&self.state);
                state.committed.push(number);
                match state.baton.committed(alone) {
                    Turn::Write(mut writer) => {
                        state.transmit(&mut writer);
                        Turn::Write(writer)
                    }
                    turn => turn,
                }
            };
            match turn {
                Turn::Write(writer) => self.signal.wish(self.write(writer)),
                Turn::WakeDriver => self.signal.wish(Wishes::FLUSH),
                Turn::Nothing => {}
            }
        }

        /// `Core::write`: what the driver is to be asked for.
        fn write(&self, mut writer: Writer) -> Wishes {
            let mut written = 0;
            loop {
                written += writer.batch.len();
                let all = writer.write();
                let mut state = lock(&self.state);
                if writer.carrier != state.carrier {
                    return Wishes::default();
                }
                if !all {
                    state.baton.give_back_blocked(writer);
                    return Wishes::BLOCKED;
                }
                if !state.has_unsent() {
                    state.give_back(writer);
                    return Wishes::default();
                }
                if written >= self.in_a_row {
                    state.baton.give_back_for_more(writer);
                    return Wishes::FLUSH;
                }
                state.transmit(&mut writer);
            }
        }

        /// `Core::lose`.
        fn lose(&self) {
            let mut slot = lock(&self.inlet);
            lock(&self.state).change_carrier(&mut slot, None);
        }

        /// `Core::resume` and `Core::attach`.
        fn go_on(&self, room: usize, left: u8) {
            {
                let mut slot = lock(&self.inlet);
                lock(&self.state).change_carrier(&mut slot, Some((Inlet { carrier: 0, left }, room)));
            }
            self.signal.wish(Wishes {
                flush: true,
                events: true,
                ..Wishes::default()
            });
        }

        fn leave(&self) {
            lock(&self.state).gone += 1;
            self.signal.wish(Wishes::LOOK);
        }

        /// `Driver::poll_read`: everything that is there.
        fn read(&self) {
            let mut slot = lock(&self.inlet);
            while let Some(inlet) = &mut *slot
                && let Some(left) = inlet.left.checked_sub(1)
            {
                inlet.left = left;
                let mut state = lock(&self.state);
                assert_eq!(
                    inlet.carrier, state.carrier,
                    "nothing of another carrier is handled"
                );
                state.heard.push(inlet.carrier);
            }
        }

        /// `Driver::poll_writer`: a full carrier takes two more.
        fn unblock(&self) {
            let Some(mut writer) = lock(&self.state).baton.take_blocked() else {
                return;
            };
            writer.room += 2;
            {
                let mut state = lock(&self.state);
                if writer.carrier != state.carrier {
                    return;
                }
                assert!(state.baton.unblock().is_none(), "there is one writer");
                state.transmit(&mut writer);
            }
            self.signal.note(self.write(writer));
        }

        /// `Core::flush`.
        fn flush(&self) {
            let writer = {
                let mut state = lock(&self.state);
                let has_some = state.has_unsent();
                state.baton.flush().and_then(|mut writer| {
                    if has_some {
                        state.transmit(&mut writer);
                        return Some(writer);
                    }
                    state.give_back(writer);
                    None
                })
            };
            if let Some(writer) = writer {
                self.signal.note(self.write(writer));
            }
        }

        /// The driver with this number. It reads and writes only when it was woken, and leaves when the others have.
        fn drive(&self, number: u64, others: usize) {
            loop {
                let wishes = if lock(&self.state).gone < others {
                    wait_for_wishes(&self.signal)
                } else if let Some(wishes) = self.signal.poll(Waker::noop()) {
                    wishes
                } else {
                    return;
                };
                if !self.role.is_held_by(number) {
                    return self.signal.wish(wishes);
                }
                if wishes.events {
                    self.read();
                }
                if wishes.flush {
                    self.flush();
                }
                if wishes.blocked {
                    self.unblock();
                }
            }
        }

        /// Everything was written to the last carrier, in order, and everything that it brought was read.
        fn check(&self, left: u8) {
            let mut state = lock(&self.state);
            let writer = state
                .baton
                .flush()
                .expect("nobody writes, and the carrier is not full");
            assert_eq!(writer.carrier, state.carrier);
            assert_eq!(writer.written, state.committed, "all of it, once and in order");
            let heard = state.heard.iter().filter(|carrier| **carrier == state.carrier);
            assert_eq!(heard.count(), usize::from(left));
        }
    }

    /// A caller with two numbers, the driver, and one who changes the carrier, which is full after `room`.
    fn one_change(alone: bool, room: [usize; 2], is_lost_first: bool) {
        one_change_by(alone, room, is_lost_first, ANY);
    }

    /// The same, and so many are written in a row.
    fn one_change_by(alone: bool, room: [usize; 2], is_lost_first: bool, in_a_row: usize) {
        explore(3, move || {
            let connection = Arc::new(Connection::new(room[0], 1, in_a_row));
            connection.signal.wish(Wishes {
                events: true,
                ..Wishes::default()
            });
            let caller = Arc::clone(&connection);
            let caller = thread::spawn(move || {
                caller.commit(1, alone);
                caller.commit(2, alone);
                caller.leave();
            });
            let changer = Arc::clone(&connection);
            let changer = thread::spawn(move || {
                if is_lost_first {
                    changer.lose();
                }
                changer.go_on(room[1], 1);
                changer.leave();
            });
            connection.drive(0, 2);
            caller.join().unwrap();
            changer.join().unwrap();
            connection.check(1);
        });
    }

    const ANY: usize = usize::MAX;

    #[test]
    fn loom_a_carrier_that_looks_alive_is_fenced_off() {
        one_change(true, [ANY, ANY], false);
        one_change(false, [ANY, ANY], false);
    }

    #[test]
    fn loom_what_is_committed_without_a_carrier_goes_over_the_next() {
        one_change(true, [ANY, ANY], true);
        one_change(false, [ANY, ANY], true);
    }

    #[test]
    fn loom_a_full_carrier_does_not_hold_up_the_next() {
        one_change(true, [1, ANY], false);
        one_change(true, [0, ANY], true);
    }

    #[test]
    fn loom_the_next_carrier_may_be_full_as_well() {
        one_change(true, [ANY, 1], false);
        one_change(false, [1, 1], false);
    }

    #[test]
    fn loom_what_is_left_after_a_long_write_goes_over_the_next_carrier() {
        one_change_by(true, [ANY, ANY], false, 1);
        one_change_by(true, [1, ANY], true, 1);
    }

    /// Who reads changes together with what is read from.
    #[test]
    fn loom_the_successor_of_a_driver_reads_and_writes_the_new_carrier() {
        explore(3, || {
            let connection = Arc::new(Connection::new(ANY, 0, ANY));
            connection.commit(1, false);
            let changer = Arc::clone(&connection);
            let changer = thread::spawn(move || {
                changer.go_on(ANY, 1);
                changer.leave();
            });
            // The first driver: a method that it polls is about to sleep, before it has done what it was woken for.
            let wishes = connection
                .signal
                .poll(Waker::noop())
                .expect("something was committed");
            let number = connection.role.pass_on(0).expect("nobody else takes it");
            let successor = Arc::clone(&connection);
            let successor = thread::spawn(move || successor.drive(number, 2));
            assert!(!connection.role.is_held_by(0));
            connection.signal.wish(wishes);
            connection.leave();
            changer.join().unwrap();
            successor.join().unwrap();
            connection.check(1);
        });
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
            let address = Shared::as_ptr(&connection).addr();
            role::driving(driven, 0, || {
                assert!(role::is_driving(address));
                role::give_away();
                assert!(!role::is_driving(address));
                role::give_away(); // a second time gives nothing
            });
            assert!(!connection.role.is_held_by(0) && connection.role.is_held_by(1));
            wisher.join().unwrap();
            let successor = lock(&connection.successor).take();
            successor.unwrap().join().unwrap();
            assert_eq!(*lock(&connection.handled), 1);
        });
    }

    /// Recalls the driver of a parked role.
    #[derive(Default)]
    struct Recall(Signal);

    impl std::task::Wake for Recall {
        fn wake(self: Shared<Self>) {
            self.0.wish(Wishes::LOOK);
        }
    }

    /// The driver of a connection whose role a thread may take: until something was granted.
    fn drive(connection: &Connection, recall: &Recall, unwatches: bool) {
        block_on(std::future::poll_fn(|context| {
            loop {
                if *lock(&connection.handled) > 0 {
                    return Poll::Ready(());
                }
                match connection.role.wake(0) {
                    role::Woken::Drives => match connection.signal.poll(context.waker()) {
                        Some(wishes) => assert!(connection.handle(0, wishes)),
                        None => {
                            connection.role.sleep(0);
                            return Poll::Pending;
                        }
                    },
                    role::Woken::Led => {
                        if unwatches {
                            connection.role.unwatch(0);
                        }
                        match recall.0.poll(context.waker()) {
                            Some(_) => drop(connection.role.take_back(0)),
                            None => return Poll::Pending,
                        }
                    }
                    role::Woken::Gone => panic!("nobody has passed the role on"),
                }
            }
        }));
    }

    /// A thread leads, if it gets the role, for as long as it takes to look once.
    fn lead(connection: &Connection, recall: &Shared<Recall>, parks: bool) {
        let Some(number) = connection.role.take() else {
            return;
        };
        // The driver is to keep an eye on it.
        connection.signal.wish(Wishes::LOOK);
        let wishes = connection.signal.take();
        assert!(connection.handle(number, wishes));
        if parks {
            let recalls = Waker::from(Shared::clone(recall));
            if !connection.role.park(number, &connection.signal, &recalls) {
                connection.role.hand_back(number);
                recall.0.wish(Wishes::LOOK);
            }
        } else {
            connection.role.hand_back(number);
            recall.0.wish(Wishes::LOOK);
        }
    }

    fn a_wish_made_while_a_thread_leads_is_granted(parks: bool, unwatched: bool) {
        explore(3, move || {
            let connection = Shared::new(Connection::default());
            let recall = Shared::new(Recall::default());
            let driver = thread::spawn({
                let (connection, recall) = (Shared::clone(&connection), Shared::clone(&recall));
                move || drive(&connection, &recall, unwatched)
            });
            let leader = thread::spawn({
                let (connection, recall) = (Shared::clone(&connection), Shared::clone(&recall));
                move || lead(&connection, &recall, parks)
            });
            connection.signal.wish(Wishes::FLUSH);
            leader.join().unwrap();
            if *lock(&connection.handled) > 0 {
                // By the thread: then nobody has to tell the driver.
                recall.0.wish(Wishes::LOOK);
                connection.signal.wish(Wishes::LOOK);
            }
            driver.join().unwrap();
            assert_eq!(*lock(&connection.handled), 1, "once");
        });
    }

    #[test]
    fn loom_a_wish_made_while_a_thread_leads_and_parks_the_role_is_granted() {
        a_wish_made_while_a_thread_leads_is_granted(true, false);
    }

    #[test]
    fn loom_a_wish_made_while_a_thread_leads_and_gives_the_role_back_is_granted() {
        a_wish_made_while_a_thread_leads_is_granted(false, false);
    }

    #[test]
    fn loom_a_wish_made_while_a_thread_leads_after_which_nobody_looks_is_granted() {
        a_wish_made_while_a_thread_leads_is_granted(true, true);
        a_wish_made_while_a_thread_leads_is_granted(false, true);
    }

    /// A call whose outcome has come, and lies on the carrier until somebody reads.
    #[derive(Default)]
    struct Asked {
        /// Read, and not taken; and who waits for it.
        table: Mutex<(bool, Option<Waiter>)>,
    }

    impl Asked {
        /// `Core::take_in`.
        fn read(&self) {
            lock(&self.table).0 = true;
        }

        /// `Core::handle_events`.
        fn wake(&self) {
            let waiter = lock(&self.table).1.take();
            if let Some(waiter) = waiter {
                waiter.wake();
            }
        }
    }

    /// The driver of a role that was parked: it looks once by the clock, and then only when it is recalled.
    fn look_after(connection: &Connection, recall: &Recall, asked: &Asked, by_the_clock: bool) {
        if !(by_the_clock && connection.role.take_back(0)) {
            block_on(std::future::poll_fn(|context| {
                match recall.0.poll(context.waker()) {
                    Some(_) => Poll::Ready(()),
                    None => Poll::Pending,
                }
            }));
            let drives = connection.role.wake(0) == role::Woken::Drives || connection.role.take_back(0);
            // Whoever has found the outcome parks the role again.
            if !drives {
                return;
            }
        }
        asked.read();
        asked.wake();
    }

    /// A task that has made a call while the role was parked, and looks for the outcome at its second poll; in vain, if it
    /// gives the role back.
    fn an_outcome_is_found_by_the_task_or_the_driver(by_the_clock: bool, in_vain: bool) {
        explore(4, move || {
            let (connection, recall) = (Shared::new(Connection::default()), Shared::new(Recall::default()));
            let asked = Shared::new(Asked::default());
            connection.role.sleep(0);
            let number = connection.role.take().unwrap();
            let recalls = Waker::from(Shared::clone(&recall));
            assert!(connection.role.park(number, &connection.signal, &recalls));
            let driver = thread::spawn({
                let (connection, recall, asked) = (
                    Shared::clone(&connection),
                    Shared::clone(&recall),
                    Shared::clone(&asked),
                );
                move || look_after(&connection, &recall, &asked, by_the_clock)
            });
            // `Core::look_for`.
            if let Some(number) = connection.role.take() {
                if in_vain {
                    connection.role.hand_back(number);
                    recall.0.wish(Wishes::LOOK);
                } else {
                    asked.read();
                    assert!(connection.role.park(number, &connection.signal, &recalls));
                }
            } else if connection.role.is_parked() {
                recall.0.wish(Wishes::LOOK);
            }
            // `Core::poll_outcome`.
            block_on(std::future::poll_fn(|context| {
                let mut table = lock(&asked.table);
                if table.0 {
                    return Poll::Ready(());
                }
                table.1 = Some(Waiter::Task(context.waker().clone()));
                Poll::Pending
            }));
            recall.0.wish(Wishes::LOOK);
            driver.join().unwrap();
        });
    }

    #[test]
    fn loom_an_outcome_that_a_task_looks_for_is_found_by_it_or_by_the_driver() {
        for by_the_clock in [false, true] {
            for in_vain in [false, true] {
                an_outcome_is_found_by_the_task_or_the_driver(by_the_clock, in_vain);
            }
        }
    }

    #[test]
    fn loom_a_wish_reaches_the_thread_that_leads_after_the_one_that_parks() {
        explore(4, || {
            let connection = Shared::new(Connection::default());
            let recall = Shared::new(Recall::default());
            connection.role.sleep(0);
            let number = connection.role.take().unwrap();
            let next = thread::spawn({
                let connection = Shared::clone(&connection);
                move || {
                    let Some(number) = connection.role.take() else {
                        return false;
                    };
                    // It settles down to wait.
                    while *lock(&connection.handled) == 0 {
                        let wishes = wait_for_wishes(&connection.signal);
                        assert!(connection.handle(number, wishes));
                    }
                    true
                }
            });
            let recalls = Waker::from(Shared::clone(&recall));
            assert!(connection.role.park(number, &connection.signal, &recalls));
            connection.signal.wish(Wishes::FLUSH);
            if !next.join().unwrap() {
                assert!(recall.0.is_asked(), "the driver hears of it");
            }
        });
    }
}

mod releases {
    use super::*;

    /// A connection that gives back what was dropped.
    #[derive(Default)]
    struct Connection {
        releases: Releases,
        role: Role,
        /// What the protocol was told, under the connection's lock.
        state: Mutex<Vec<Release>>,
        signal: Signal,
        /// Threads that are done.
        gone: Mutex<usize>,
    }

    impl Connection {
        /// `Conduit::release`: what a destructor does, wherever it runs.
        fn release(&self, import: u64) {
            self.releases.push((import, 0));
            if self.releases.asks(&self.role) {
                self.signal.wish(Wishes::RELEASES);
            }
        }

        /// `Core::take_releases`.
        fn take(&self) {
            let mut told = lock(&self.state);
            self.releases.take(&mut Vec::new(), |release| told.push(release));
        }

        /// `Core::look_at_releases`.
        fn look(&self) {
            let mut told = lock(&self.state);
            self.releases.look(&mut Vec::new(), |release| told.push(release));
        }

        /// The driver: it takes them when it is asked to, until `others` are gone and nothing is asked.
        fn drive(&self, others: usize) {
            loop {
                let wishes = if *lock(&self.gone) < others {
                    wait_for_wishes(&self.signal)
                } else if let Some(wishes) = self.signal.poll(Waker::noop()) {
                    wishes
                } else {
                    return;
                };
                // When the time has come.
                if wishes.releases {
                    self.look();
                }
            }
        }

        /// The last that a thread does: it helps nobody but the driver that wants to end.
        fn leave(&self) {
            *lock(&self.gone) += 1;
            self.signal.wish(Wishes::LOOK);
        }

        fn assert_given_back(&self, expected: &[u64]) {
            let mut told: Vec<u64> = lock(&self.state).iter().map(|(import, _)| *import).collect();
            told.sort_unstable();
            assert_eq!(told, expected, "each once, and none is forgotten");
        }
    }

    #[test]
    fn loom_what_is_dropped_beside_a_call_is_given_back_once() {
        explore(4, || {
            let connection = Arc::new(Connection::default());
            let dropper = thread::spawn({
                let connection = Arc::clone(&connection);
                move || {
                    connection.release(1);
                    connection.release(2);
                    connection.leave();
                }
            });
            // A call takes along what is there.
            let caller = thread::spawn({
                let connection = Arc::clone(&connection);
                move || {
                    connection.take();
                    connection.leave();
                }
            });
            connection.drive(2);
            dropper.join().unwrap();
            caller.join().unwrap();
            connection.assert_given_back(&[1, 2]);
        });
    }
}
