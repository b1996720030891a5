//! When calls are given up, on either side.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use farref_framing::Nanos;

/// Whose call it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Timed {
    /// One of ours.
    Question(u64),
    /// One of the peer's.
    Answer(u64),
}

/// Deadlines, earliest first. Those of calls that are over are left in and thrown out from time to time, so that
/// setting one costs next to nothing and lifting one nothing at all.
///
/// # Invariant
///
/// `lifted` is how many entries belong to calls that are over; at most half of the heap and 64 more.
#[derive(Debug, Default)]
pub(super) struct Deadlines {
    heap: BinaryHeap<Reverse<(Nanos, Timed)>>,
    lifted: usize,
}

impl Deadlines {
    pub(super) fn set(&mut self, at: Nanos, timed: Timed) {
        self.heap.push(Reverse((at, timed)));
    }

    /// A call with a deadline is over. `is_set` tells which of the others are not.
    pub(super) fn lift(&mut self, is_set: impl Fn(Nanos, Timed) -> bool) {
        self.lifted = self.lifted.saturating_add(1);
        if self.lifted > self.heap.len().saturating_div(2).saturating_add(64) {
            self.heap.retain(|Reverse((at, timed))| is_set(*at, *timed));
            self.lifted = 0;
        }
    }

    pub(super) fn next(&self) -> Option<Nanos> {
        self.heap.peek().map(|Reverse((at, _))| *at)
    }

    /// The next call whose deadline has passed; it may be over.
    pub(super) fn pop_due(&mut self, now: Nanos) -> Option<(Nanos, Timed)> {
        let Reverse((at, _)) = self.heap.peek()?;
        if *at > now {
            return None;
        }
        self.heap.pop().map(|Reverse(due)| due)
    }

    /// An entry that was popped belonged to a call that is over.
    pub(super) fn was_lifted(&mut self) {
        self.lifted = self.lifted.saturating_sub(1);
    }

    /// Gives memory back.
    pub(super) fn rest(&mut self) {
        self.heap.shrink_to_fit();
    }

    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deadlines_of_calls_that_are_over_do_not_pile_up() {
        let mut deadlines = Deadlines::default();
        for number in 0..10_000 {
            deadlines.set(number, Timed::Question(number));
            deadlines.lift(|_, timed| timed == Timed::Question(0));
            assert!(deadlines.heap.len() <= 131, "{}", deadlines.heap.len());
        }
        assert_eq!(deadlines.next(), Some(0));
    }

    #[test]
    fn the_earliest_comes_first_and_none_before_its_time() {
        let mut deadlines = Deadlines::default();
        deadlines.set(20, Timed::Answer(1));
        deadlines.set(10, Timed::Question(2));
        assert_eq!(deadlines.next(), Some(10));
        assert_eq!(deadlines.pop_due(9), None);
        assert_eq!(deadlines.pop_due(15), Some((10, Timed::Question(2))));
        assert_eq!(deadlines.pop_due(15), None);
        assert_eq!(deadlines.pop_due(20), Some((20, Timed::Answer(1))));
    }
}
