//! The life of one child: who waits for its end, and who brings it about.
//!
//! Two threads see to that, not the runtime, so a runtime that is shut down takes no child's end with it; and it waits for
//! them when it is dropped, so a program that ends leaves no child behind.

use std::io;
use std::process::Child as StdChild;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use rustix::io::Errno;
use rustix::process::{
    Pid, Signal, WaitId, WaitIdOptions, kill_process_group, test_kill_process_group, waitid,
};
use tokio::sync::watch;

use super::{Exit, signal};
use crate::places::Place;

/// A child that leads a process group.
///
/// # Invariant
///
/// Until `is_reaped` the child is a zombie at most, and its id nobody else's: signals are sent only before that, under the
/// lock.
pub(super) struct Child {
    pid: Pid,
    /// It leads a session, with a terminal.
    has_terminal: bool,
    is_detached: bool,
    state: Mutex<State>,
    changed: Condvar,
    ended: watch::Sender<Option<Ended>>,
}

struct State {
    /// Outputs that somebody may still read.
    outputs: usize,
    has_ended: bool,
    /// Whether nobody holds it any more.
    is_released: bool,
    is_reaped: bool,
    /// Whether nothing is left of its group either.
    is_all_gone: bool,
}

/// What is known of a child that is no more: nothing where somebody else in this program waited for it.
pub(super) type Ended = Option<Exit>;

impl Child {
    /// Watches over `child` until its end; `place` is given back then. Where there can be no thread, the child is killed.
    pub(super) fn watch(
        mut child: StdChild,
        has_terminal: bool,
        is_detached: bool,
        outputs: usize,
        place: Place,
    ) -> io::Result<Arc<Self>> {
        let this = Arc::new(Self {
            pid: Pid::from_child(&child),
            has_terminal,
            is_detached,
            state: Mutex::new(State {
                outputs,
                has_ended: false,
                is_released: false,
                is_reaped: false,
                is_all_gone: false,
            }),
            changed: Condvar::new(),
            ended: watch::Sender::new(None),
        });
        let (hand_over, handed_over) = std::sync::mpsc::sync_channel(1);
        let watched = Arc::clone(&this);
        let watching = small_thread("farref-process").spawn(move || {
            if let Ok(child) = handed_over.recv() {
                watched.see_to_the_end(child);
                drop(place);
            }
        });
        if let Err(error) = watching {
            this.signal(Signal::KILL);
            let _ = child.wait();
            return Err(error);
        }
        // The thread waits for it.
        let _ = hand_over.send(child);
        Ok(this)
    }

    pub(super) fn id(&self) -> u32 {
        self.pid.as_raw_nonzero().get().unsigned_abs()
    }

    pub(super) const fn has_terminal(&self) -> bool {
        self.has_terminal
    }

    /// How it ended, if it has.
    pub(super) fn ended(&self) -> watch::Receiver<Option<Ended>> {
        self.ended.subscribe()
    }

    /// Sends a signal to the child and its group; whether they are there.
    pub(super) fn signal(&self, signal: Signal) -> bool {
        let state = self.lock();
        !state.is_reaped && kill_process_group(self.pid, signal).is_ok()
    }

    /// One of its outputs has ended, or nobody reads it any more.
    pub(super) fn output_ended(&self) {
        self.change(|state| state.outputs = state.outputs.saturating_sub(1));
    }

    /// Nobody holds it any more: it is told to end, and made to, unless it is detached.
    pub(super) fn release(self: &Arc<Self>) {
        let mut has_ended = false;
        self.change(|state| {
            state.is_released = true;
            has_ended = state.has_ended;
        });
        if self.is_detached {
            return;
        }
        self.tell_to_end();
        if !has_ended {
            let ending = Arc::clone(self);
            let thread = small_thread("farref-process-end").spawn(move || {
                if !ending.wait(Some(GRACE), |state| state.has_ended) {
                    ending.signal(Signal::KILL);
                }
            });
            if thread.is_err() {
                self.signal(Signal::KILL);
            }
        }
        self.hold_runtime();
    }

    fn tell_to_end(&self) {
        self.signal(if self.has_terminal {
            Signal::HUP
        } else {
            Signal::TERM
        });
        // One that was stopped hears nothing until it goes on.
        self.signal(Signal::CONT);
    }

    /// A runtime that is dropped, as at the end of `main`, waits for what it runs on its threads for blocking: the child has
    /// the time that it was promised, and none is left behind.
    fn hold_runtime(self: &Arc<Self>) {
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            let waiting = Farewell(Arc::clone(self));
            drop(runtime.spawn_blocking(move || drop(waiting)));
        }
    }

    /// Waits for its end, and ends what is left of its group when nobody holds it any more, or can hear of it.
    fn see_to_the_end(&self, mut child: StdChild) {
        let ended = self.wait_for_exit();
        self.change(|state| state.has_ended = true);
        self.ended.send_replace(Some(ended.clone()));
        if !self.is_detached {
            self.wait(None, |state| state.is_released || state.outputs == 0);
            if ended.is_some() {
                self.tell_to_end();
            }
        }
        // From here on nobody sends it a signal.
        self.change(|state| state.is_reaped = true);
        let _ = child.wait();
        if !self.is_detached && ended.is_some() {
            self.end_group();
        }
        self.change(|state| state.is_all_gone = true);
    }

    /// Blocks until the child has ended; its id stays its own.
    fn wait_for_exit(&self) -> Ended {
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
        loop {
            match waitid(WaitId::Pid(self.pid), options) {
                Ok(Some(status)) => {
                    let killed = status
                        .terminating_signal()
                        .map(|number| Exit::Signal(signal::name(number)));
                    return killed.or_else(|| status.exit_status().map(Exit::Code));
                }
                Err(Errno::INTR) | Ok(None) => {}
                // Somebody else in this program waits for every child there is.
                Err(_) => return None,
            }
        }
    }

    /// Sees the rest of the group end, which was told to.
    fn end_group(&self) {
        // The id of a group is not given away while it has members, and who looks often enough sees it empty before all
        // ids there are have been given out once.
        let mut waited = Duration::ZERO;
        while test_kill_process_group(self.pid).is_ok() {
            if waited >= GRACE {
                let _ = kill_process_group(self.pid, Signal::KILL);
                return;
            }
            thread::sleep(LOOK);
            waited += LOOK;
        }
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.lock());
        self.changed.notify_all();
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
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Waits for the last of a child where it is dropped.
struct Farewell(Arc<Child>);

impl Drop for Farewell {
    fn drop(&mut self) {
        self.0.wait(Some(GRACE * 3), |state| state.is_all_gone);
    }
}

/// A thread that does no more than wait.
fn small_thread(name: &str) -> thread::Builder {
    thread::Builder::new().name(name.into()).stack_size(128 << 10)
}

/// How long after it was told to end a child is killed.
const GRACE: Duration = Duration::from_secs(2);

/// How often to look whether a group is empty.
const LOOK: Duration = Duration::from_millis(10);
