//! How the driver of a connection is woken.

use std::sync::atomic::Ordering;
use std::task::Waker;

use crate::sync::{AtomicBool, Mutex, lock};

/// What the driver was woken for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Wishes {
    /// Something was committed by callers that were not alone.
    pub(crate) flush: bool,
    /// The carrier took no more: wait until it can.
    pub(crate) blocked: bool,
    /// Netrefs were dropped.
    pub(crate) releases: bool,
    /// A time is earlier than the one that the driver sleeps until.
    pub(crate) times: bool,
    /// A command has made events, or the method that the driver keeps was woken.
    pub(crate) events: bool,
    /// Look at the tables: the connection may have become superfluous, or is to be closed.
    pub(crate) look: bool,
}

impl Wishes {
    pub(crate) const NONE: Self = Self {
        flush: false,
        blocked: false,
        releases: false,
        times: false,
        events: false,
        look: false,
    };
    pub(crate) const FLUSH: Self = Self {
        flush: true,
        ..Self::NONE
    };
    pub(crate) const BLOCKED: Self = Self {
        blocked: true,
        ..Self::NONE
    };
    pub(crate) const RELEASES: Self = Self {
        releases: true,
        ..Self::NONE
    };
    pub(crate) const EVENTS: Self = Self {
        events: true,
        ..Self::NONE
    };
    pub(crate) const LOOK: Self = Self {
        look: true,
        ..Self::NONE
    };

    const fn add(&mut self, other: Self) {
        self.flush |= other.flush;
        self.blocked |= other.blocked;
        self.releases |= other.releases;
        self.times |= other.times;
        self.events |= other.events;
        self.look |= other.look;
    }
}

/// The driver's bell.
///
/// # Invariant
///
/// A wish that comes before the driver sleeps is seen before it sleeps: wishes and waker are under one lock.
#[derive(Debug, Default)]
pub(crate) struct Signal {
    bell: Mutex<Bell>,
    /// Whether there are wishes, for whoever looks often: changes under the lock.
    asked: AtomicBool,
}

#[derive(Debug, Default)]
struct Bell {
    wishes: Wishes,
    waker: Option<Waker>,
}

impl Signal {
    /// Asks for something, or for nothing.
    #[inline]
    pub(crate) fn wish(&self, wish: Wishes) {
        if wish != Wishes::NONE {
            self.ring(wish);
        }
    }

    /// Asks for something, for whoever does so itself: it looks once more before it sleeps, and need not be woken.
    pub(crate) fn note(&self, wish: Wishes) {
        if wish != Wishes::NONE {
            self.add(&mut lock(&self.bell), wish);
        }
    }

    fn ring(&self, wish: Wishes) {
        let waker = {
            let mut bell = lock(&self.bell);
            self.add(&mut bell, wish);
            bell.waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    fn add(&self, bell: &mut Bell, wish: Wishes) {
        bell.wishes.add(wish);
        self.asked.store(true, Ordering::Release);
    }

    /// What was asked for since the last time.
    #[inline]
    pub(crate) fn take(&self) -> Wishes {
        if self.is_asked() {
            self.take_from(&mut lock(&self.bell))
        } else {
            Wishes::NONE
        }
    }

    fn take_from(&self, bell: &mut Bell) -> Wishes {
        self.asked.store(false, Ordering::Relaxed);
        std::mem::take(&mut bell.wishes)
    }

    /// Whether something was asked for since the last time.
    #[inline]
    pub(crate) fn is_asked(&self) -> bool {
        self.asked.load(Ordering::Acquire)
    }

    /// The same, with what is asked for at this moment.
    pub(crate) fn is_asked_by_now(&self) -> bool {
        lock(&self.bell).wishes != Wishes::NONE
    }

    /// From now on `waker` hears. Releases that were asked for are forgotten: the next call takes them along.
    pub(crate) fn give_to(&self, waker: &Waker) {
        let mut bell = lock(&self.bell);
        bell.wishes.releases = false;
        self.asked.store(bell.wishes != Wishes::NONE, Ordering::Relaxed);
        match &mut bell.waker {
            Some(kept) => kept.clone_from(waker),
            none => *none = Some(waker.clone()),
        }
    }

    /// What was asked for since the last time, or `None` and a promise to wake.
    pub(crate) fn poll(&self, waker: &Waker) -> Option<Wishes> {
        let mut bell = lock(&self.bell);
        if bell.wishes != Wishes::NONE {
            return Some(self.take_from(&mut bell));
        }
        match &mut bell.waker {
            Some(kept) => kept.clone_from(waker),
            none => *none = Some(waker.clone()),
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::task::Wake;

    use super::*;

    #[test]
    fn a_wish_made_before_the_sleep_is_seen() {
        let signal = Signal::default();
        signal.wish(Wishes::FLUSH);
        signal.wish(Wishes::LOOK);
        let wishes = signal.poll(Waker::noop()).unwrap();
        assert!(wishes.flush && wishes.look && !wishes.blocked);
        assert_eq!(signal.poll(Waker::noop()), None);
    }

    /// A driver woke itself while it ran: it gave way to others, and went on before them.
    #[test]
    fn whoever_notes_what_is_its_own_to_do_wakes_nobody_and_finds_it() {
        struct Alarm(AtomicBool);
        impl Wake for Alarm {
            fn wake(self: Arc<Self>) {
                self.0.store(true, Ordering::Relaxed);
            }
        }
        let (signal, alarm) = (Signal::default(), Arc::new(Alarm(AtomicBool::new(false))));
        let waker = Waker::from(Arc::clone(&alarm));
        assert_eq!(signal.poll(&waker), None);
        signal.note(Wishes::FLUSH);
        assert!(!alarm.0.load(Ordering::Relaxed));
        assert_eq!(signal.poll(&waker), Some(Wishes::FLUSH));
        signal.wish(Wishes::LOOK);
        assert!(alarm.0.load(Ordering::Relaxed));
    }
}
