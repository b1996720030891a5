//! The life of one child: who waits for its end, and who brings it about.

use std::collections::VecDeque;
use std::io;
use std::process::Child;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::Duration;

use rustix::io::Errno;
use rustix::process::{
    Pid, Signal, WaitId, WaitIdOptions, kill_process, kill_process_group, test_kill_process_group, waitid,
};

use super::{Ended, Explain, LINGER, Outcome, TERM_TO_KILL};

/// What is known about a child, by whoever deals with it.
///
/// # Invariant
///
/// The child is a zombie, and its id nobody else's, until `is_reaped`: signals are sent only before that,
/// under the lock. It is reaped after its carrier was dropped, so what is left of its group can be found
/// until then.
pub(crate) struct Life {
    name: String,
    explain: Explain,
    own_group: bool,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    outcome: Option<Outcome>,
    /// Whether the child's standard error may still tell something.
    is_stderr_open: bool,
    last_words: VecDeque<String>,
    has_output_ended: bool,
    /// Whether what was to be waited for after the first end has had its time.
    has_lingered: bool,
    /// The same for who writes.
    has_writer_lingered: bool,
    has_spoken: bool,
    is_input_closed: bool,
    /// Whether the carrier is gone.
    is_released: bool,
    is_reaped: bool,
    /// Whether nothing is left of its group either.
    is_all_gone: bool,
    wakers: [Option<Waker>; 3],
}

/// Who waits: at most one each.
#[derive(Clone, Copy)]
enum Waiting {
    Reader,
    Writer,
    Stderr,
}

impl State {
    /// Whether all is known that will be.
    fn is_told(&self) -> bool {
        self.has_lingered || self.outcome.is_some() && !self.is_stderr_open
    }

    /// Whether all is known that the writer will be told.
    fn is_told_to_writer(&self) -> bool {
        self.has_writer_lingered || self.outcome.is_some() && !self.is_stderr_open
    }

    /// Whether the child is gone, and what it left behind had its time to say something.
    fn is_over(&self) -> bool {
        self.has_lingered && self.outcome.is_some()
    }
}

impl Life {
    pub(super) fn new(name: String, explain: Explain, own_group: bool, is_stderr_open: bool) -> Self {
        let state = State {
            is_stderr_open,
            ..State::default()
        };
        Self {
            name,
            explain,
            own_group,
            state: Mutex::new(state),
            changed: Condvar::new(),
        }
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// The child has said something.
    pub(super) fn heard(&self) {
        self.lock().has_spoken = true;
    }

    pub(super) fn input_closed(&self) {
        self.lock().is_input_closed = true;
    }

    /// The child's output has ended; its own end should follow at once.
    pub(super) fn output_ended(self: &Arc<Self>) {
        let mut state = self.lock();
        if std::mem::replace(&mut state.has_output_ended, true) {
            return;
        }
        let is_told = state.is_told();
        drop(state);
        self.changed.notify_all();
        if is_told {
            return;
        }
        let life = Arc::clone(self);
        let waiting = thread::Builder::new()
            .name("farref-linger".into())
            .spawn(move || life.linger());
        if waiting.is_err() {
            self.change(|state| state.has_lingered = true);
        }
    }

    /// Waits until all is told and read, or the time for that is up.
    fn linger(&self) {
        self.wait(Some(LINGER), |state| {
            state.is_released || state.has_output_ended && state.is_told()
        });
        self.change(|state| state.has_lingered = true);
    }

    /// Nobody reads the child's input any more; its own end may follow at once.
    pub(super) fn input_broke(self: &Arc<Self>) {
        if self.lock().is_told_to_writer() {
            return;
        }
        let life = Arc::clone(self);
        let waiting = thread::Builder::new()
            .name("farref-linger".into())
            .spawn(move || {
                life.wait(Some(LINGER), |state| {
                    state.is_released || state.is_told_to_writer()
                });
                life.change(|state| state.has_writer_lingered = true);
            });
        if waiting.is_err() {
            self.change(|state| state.has_writer_lingered = true);
        }
    }

    pub(super) fn stderr_line(&self, line: String) {
        let mut state = self.lock();
        if state.last_words.len() == MOST_LINES {
            state.last_words.pop_front();
        }
        state.last_words.push_back(line);
    }

    pub(super) fn stderr_ended(&self) {
        self.change(|state| state.is_stderr_open = false);
    }

    pub(super) fn is_told(&self) -> bool {
        self.lock().is_told()
    }

    pub(super) fn is_over(&self) -> bool {
        self.lock().is_over()
    }

    pub(super) fn poll_told(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.poll(cx, Waiting::Reader, State::is_told)
    }

    pub(super) fn is_told_to_writer(&self) -> bool {
        self.lock().is_told_to_writer()
    }

    pub(super) fn poll_told_to_writer(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.poll(cx, Waiting::Writer, State::is_told_to_writer)
    }

    pub(super) fn wait_told_to_writer(&self, timeout: Option<Duration>) -> bool {
        self.wait(timeout, State::is_told_to_writer)
    }

    pub(super) fn poll_over(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.poll(cx, Waiting::Reader, State::is_over)
    }

    /// Ready when the child has been reaped.
    pub(super) fn poll_gone(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.poll(cx, Waiting::Stderr, |state| state.is_reaped)
    }

    fn poll(&self, cx: &mut Context<'_>, who: Waiting, met: impl Fn(&State) -> bool) -> Poll<()> {
        let mut state = self.lock();
        if met(&state) {
            return Poll::Ready(());
        }
        let [reader, writer, stderr] = &mut state.wakers;
        let waker = match who {
            Waiting::Reader => reader,
            Waiting::Writer => writer,
            Waiting::Stderr => stderr,
        };
        match waker {
            Some(waker) => waker.clone_from(cx.waker()),
            None => *waker = Some(cx.waker().clone()),
        }
        Poll::Pending
    }

    pub(super) fn wait_told(&self, timeout: Option<Duration>) -> bool {
        self.wait(timeout, State::is_told)
    }

    /// What the reader is told when there is nothing more to read.
    pub(super) fn verdict(&self) -> io::Result<usize> {
        let state = self.lock();
        match state.outcome {
            // It may have been told nothing that was worth an answer.
            Some(Outcome::Exited(0)) if state.has_spoken || state.is_input_closed => Ok(0),
            None | Some(Outcome::Unknown) => Ok(0),
            Some(outcome) => Err(io::Error::new(
                io::ErrorKind::ConnectionAborted,
                self.ended(&state, outcome),
            )),
        }
    }

    /// What the writer is told when nobody reads any more.
    pub(super) fn broken_pipe(&self) -> io::Error {
        let state = self.lock();
        match state.outcome {
            Some(outcome) => io::Error::new(io::ErrorKind::BrokenPipe, self.ended(&state, outcome)),
            None => io::ErrorKind::BrokenPipe.into(),
        }
    }

    fn ended(&self, state: &State, outcome: Outcome) -> Ended {
        let words: Vec<_> = state.last_words.iter().map(String::as_str).collect();
        let last_words = words.join(" | ");
        let meaning = (self.explain)(outcome, &last_words);
        Ended::new(&self.name, outcome, state.has_spoken, last_words, meaning)
    }

    /// Blocks until the child has ended; its id stays its own.
    fn wait_for_exit(&self, pid: Pid) {
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
        let outcome = loop {
            match waitid(WaitId::Pid(pid), options) {
                Ok(Some(status)) => match (status.exit_status(), status.terminating_signal()) {
                    (Some(code), _) => break Outcome::Exited(code),
                    (None, Some(signal)) => break Outcome::Killed(signal),
                    (None, None) => break Outcome::Unknown,
                },
                Err(Errno::INTR) | Ok(None) => {}
                // Somebody else in this process waits for every child there is.
                Err(_) => break Outcome::Unknown,
            }
        };
        self.change(|state| state.outcome = Some(outcome));
    }

    /// Sends `signal` to the child and its group, if they are there.
    fn signal(&self, pid: Pid, signal: Signal) {
        let state = self.lock();
        if state.is_reaped || state.outcome == Some(Outcome::Unknown) {
            return;
        }
        let _ = if self.own_group {
            kill_process_group(pid, signal)
        } else {
            kill_process(pid, signal)
        };
    }

    /// Changes the state, and tells whoever waits.
    fn change(&self, change: impl FnOnce(&mut State)) {
        let mut state = self.lock();
        change(&mut state);
        let wakers = std::mem::take(&mut state.wakers);
        drop(state);
        self.changed.notify_all();
        wakers.into_iter().flatten().for_each(Waker::wake);
    }

    /// Blocks until `met` holds (true), or `timeout` has passed (false).
    fn wait(&self, timeout: Option<Duration>, met: impl Fn(&State) -> bool) -> bool {
        let (state, goes_on) = (self.lock(), |state: &mut State| !met(state));
        let Some(timeout) = timeout else {
            drop(self.changed.wait_while(state, goes_on));
            return true;
        };
        let waited = self.changed.wait_timeout_while(state, timeout, goes_on);
        let (_state, ended) = waited.unwrap_or_else(PoisonError::into_inner);
        !ended.timed_out()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Ends the child when it is dropped.
pub(crate) struct Lifeline {
    life: Arc<Life>,
    pid: Pid,
    patience: Duration,
}

impl Lifeline {
    /// Watches over `child` from a thread of its own. Where there can be no thread, the child is killed.
    pub(super) fn of(mut child: Child, life: &Arc<Life>, patience: Duration) -> io::Result<Self> {
        let pid = Pid::from_child(&child);
        let (hand_over, handed_over) = std::sync::mpsc::sync_channel(1);
        let watched = Arc::clone(life);
        let watching = thread::Builder::new()
            .name("farref-child".into())
            .spawn(move || handed_over.recv().map(|child| watch(&watched, child, pid)));
        if let Err(error) = watching {
            life.signal(pid, Signal::KILL);
            let _ = child.wait();
            return Err(error);
        }
        // The thread waits for it.
        let _ = hand_over.send(child);
        Ok(Self {
            life: Arc::clone(life),
            pid,
            patience,
        })
    }

    /// Will end the child without waiting for it to end by itself; the patience that it had.
    #[cfg(feature = "ssh")]
    pub(crate) const fn hurry(&mut self) -> Duration {
        std::mem::replace(&mut self.patience, Duration::ZERO)
    }

    /// Will have that much patience with the child.
    #[cfg(feature = "ssh")]
    pub(crate) const fn take_time(&mut self, patience: Duration) {
        self.patience = patience;
    }
}

impl Drop for Lifeline {
    fn drop(&mut self) {
        *lock(&ENDING.0) += 1;
        let mut has_ended = false;
        self.life.change(|state| {
            state.is_released = true;
            has_ended = state.outcome.is_some();
        });
        if has_ended {
            hold_runtime(&self.life, Duration::ZERO);
            // The watching thread does what is left to do; but it may not get that far if we end now.
            self.life.signal(self.pid, Signal::TERM);
            return;
        }
        let (life, pid, patience) = (Arc::clone(&self.life), self.pid, self.patience);
        let ending = thread::Builder::new()
            .name("farref-child-end".into())
            .spawn(move || end(&life, pid, patience));
        if ending.is_err() {
            self.life.signal(self.pid, Signal::KILL);
        }
        hold_runtime(&self.life, self.patience);
    }
}

/// A runtime that is dropped, as at the end of `main`, waits for what it runs on its threads for blocking: a child
/// has the time to end that it was promised, and none is left behind. Where the runtime is on its way out already,
/// this waits in place; the halves of the carrier are gone by now.
fn hold_runtime(life: &Arc<Life>, patience: Duration) {
    let Ok(runtime) = tokio::runtime::Handle::try_current() else {
        return;
    };
    let waiting = Farewell {
        life: Arc::clone(life),
        most: patience.saturating_add(TERM_TO_KILL * 2 + LINGER),
    };
    runtime.spawn_blocking(move || drop(waiting));
}

/// Waits for the last of a child where it is dropped.
struct Farewell {
    life: Arc<Life>,
    most: Duration,
}

impl Drop for Farewell {
    fn drop(&mut self) {
        self.life.wait(Some(self.most), |state| state.is_all_gone);
    }
}

/// Sees the child end, and after its carrier is gone reaps it and ends what is left of its group.
fn watch(life: &Arc<Life>, mut child: Child, pid: Pid) {
    life.wait_for_exit(pid);
    life.linger();
    life.wait(None, |state| state.is_released);
    life.signal(pid, Signal::TERM);
    // From here on nobody sends it a signal.
    life.change(|state| state.is_reaped = true);
    let _ = child.wait();
    if life.own_group && life.lock().outcome != Some(Outcome::Unknown) {
        end_group(pid);
    }
    life.change(|state| state.is_all_gone = true);
    *lock(&ENDING.0) -= 1;
    ENDING.1.notify_all();
}

/// Sees the rest of a group end, which was told to.
fn end_group(pid: Pid) {
    // The id of a group is not given away while it has members, and who looks often enough sees it empty
    // before all ids there are have been given out once.
    let mut waited = Duration::ZERO;
    while test_kill_process_group(pid).is_ok() {
        if waited >= TERM_TO_KILL {
            let _ = kill_process_group(pid, Signal::KILL);
            return;
        }
        thread::sleep(LOOK);
        waited += LOOK;
    }
}

/// Blocks this thread until every child whose carrier was dropped has ended, with its whole group (true),
/// or `timeout` has passed (false).
///
/// For an end of the program that drops no runtime, such as `exit`: children are ended by threads of this process,
/// which end with it.
#[must_use]
pub fn all_ended(timeout: Duration) -> bool {
    let waited = ENDING
        .1
        .wait_timeout_while(lock(&ENDING.0), timeout, |ending| *ending > 0);
    let (ending, _) = waited.unwrap_or_else(PoisonError::into_inner);
    *ending == 0
}

/// How many children are being ended.
static ENDING: (Mutex<usize>, Condvar) = (Mutex::new(0), Condvar::new());

/// Brings the end about.
fn end(life: &Life, pid: Pid, patience: Duration) {
    let has_ended = |state: &State| state.outcome.is_some();
    if life.wait(Some(patience), has_ended) {
        return;
    }
    life.signal(pid, Signal::TERM);
    if !life.wait(Some(TERM_TO_KILL), has_ended) {
        life.signal(pid, Signal::KILL);
    }
}

/// How many lines of a child's standard error are kept for the error that tells its end.
const MOST_LINES: usize = 8;

/// How often to look whether a group is empty.
const LOOK: Duration = Duration::from_millis(10);
