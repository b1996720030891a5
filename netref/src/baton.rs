//! The write baton: who writes to the carrier.
//!
//! There is one writer per connection, and whoever holds it writes. A caller that is
//! alone takes it and writes at once, from its own thread. Where more is going on, the driver is woken and takes
//! all there is in few large writes. Whoever comes while the baton is out leaves its message behind: the holder
//! looks again before it gives the baton back.

/// The slot in which the baton lies while nobody writes.
///
/// # Invariant
///
/// Whenever there is something to write and the carrier can take it, the baton is out, or the driver was asked to
/// take it: nothing that was committed is forgotten. All methods are called under one lock.
#[derive(Debug)]
pub(crate) struct Baton<W> {
    writer: Option<W>,
    /// The carrier takes no more for now: only the driver waits for that to change.
    blocked: bool,
    /// The driver was asked to flush.
    asked: bool,
}

/// What is to be done by whoever committed something.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Turn<W> {
    /// Write: this is the baton.
    Write(W),
    /// Wake the driver.
    WakeDriver,
    /// Nothing: somebody writes already, or will.
    Nothing,
}

impl<W> Baton<W> {
    pub(crate) const fn new(writer: W) -> Self {
        Self {
            writer: Some(writer),
            blocked: false,
            asked: false,
        }
    }

    /// Whether what is committed now is written by somebody who writes or will.
    #[inline]
    pub(crate) const fn is_spoken_for(&self) -> bool {
        self.blocked || self.asked || self.writer.is_none()
    }

    /// Something was committed. `alone`: nothing else is in flight, so it is best written at once.
    pub(crate) fn committed(&mut self, alone: bool) -> Turn<W> {
        if self.is_spoken_for() {
            return Turn::Nothing;
        }
        if alone {
            return self.writer.take().map_or(Turn::Nothing, Turn::Write);
        }
        self.asked = true;
        Turn::WakeDriver
    }

    /// The carrier takes no more for now.
    pub(crate) const fn is_blocked(&self) -> bool {
        self.blocked
    }

    /// The driver's turn to flush.
    pub(crate) fn flush(&mut self) -> Option<W> {
        self.asked = false;
        if self.blocked { None } else { self.writer.take() }
    }

    /// The carrier can take more.
    pub(crate) fn unblock(&mut self) -> Option<W> {
        self.blocked = false;
        self.writer.take()
    }

    /// The writer of a full carrier, for the driver to ask whether it can take more. If not, it is given back.
    pub(crate) fn take_blocked(&mut self) -> Option<W> {
        if self.blocked { self.writer.take() } else { None }
    }

    /// Another writer takes the place of the one that lies here or is out; the latter's holder must not give it back.
    pub(crate) fn replace(&mut self, writer: Option<W>) -> Option<W> {
        self.blocked = false;
        self.asked = false;
        std::mem::replace(&mut self.writer, writer)
    }

    /// The holder is done: everything was written.
    pub(crate) fn give_back(&mut self, writer: W) {
        self.writer = Some(writer);
    }

    /// The holder has written for long, and there is more: the driver's turn. It must be woken.
    pub(crate) fn give_back_for_more(&mut self, writer: W) {
        self.asked = true;
        self.writer = Some(writer);
    }

    /// The holder is done for now: the carrier takes no more. The driver must be woken.
    pub(crate) fn give_back_blocked(&mut self, writer: W) {
        self.blocked = true;
        self.writer = Some(writer);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lone_caller_writes_by_itself() {
        let mut baton = Baton::new("writer");
        assert_eq!(baton.committed(true), Turn::Write("writer"));
        assert_eq!(
            baton.committed(true),
            Turn::Nothing,
            "the holder will take it along"
        );
        baton.give_back("writer");
        assert_eq!(baton.committed(true), Turn::Write("writer"), "at rest again");
    }

    #[test]
    fn many_callers_wake_the_driver_once() {
        let mut baton = Baton::new("writer");
        assert_eq!(baton.committed(false), Turn::WakeDriver);
        assert_eq!(baton.committed(false), Turn::Nothing);
        assert_eq!(
            baton.committed(true),
            Turn::Nothing,
            "order: what came before is written before"
        );
        assert_eq!(baton.flush(), Some("writer"));
        baton.give_back("writer");
        assert_eq!(baton.committed(false), Turn::WakeDriver);
    }

    #[test]
    fn who_has_written_for_long_leaves_the_rest_to_the_driver() {
        let mut baton = Baton::new("writer");
        assert_eq!(baton.committed(true), Turn::Write("writer"));
        baton.give_back_for_more("writer");
        assert_eq!(baton.committed(true), Turn::Nothing);
        assert_eq!(baton.flush(), Some("writer"));
        baton.give_back("writer");
        assert_eq!(baton.committed(true), Turn::Write("writer"));
    }

    #[test]
    fn a_full_carrier_is_the_drivers_to_wait_for() {
        let mut baton = Baton::new("writer");
        assert_eq!(baton.committed(true), Turn::Write("writer"));
        baton.give_back_blocked("writer");
        assert_eq!(baton.committed(true), Turn::Nothing);
        assert_eq!(baton.flush(), None);
        assert_eq!(baton.take_blocked(), Some("writer"));
        assert_eq!(baton.committed(true), Turn::Nothing);
        baton.give_back_blocked("writer");
        assert_eq!(baton.unblock(), Some("writer"));
    }

    #[test]
    fn the_next_writer_is_free_whatever_became_of_the_one_before() {
        let mut full = Baton::new("old");
        assert_eq!(full.committed(true), Turn::Write("old"));
        full.give_back_blocked("old");
        let mut asked = Baton::new("old");
        assert_eq!(asked.committed(false), Turn::WakeDriver);
        for mut baton in [full, asked] {
            assert_eq!(baton.replace(Some("new")), Some("old"));
            assert_eq!(baton.committed(true), Turn::Write("new"));
        }
    }
}
