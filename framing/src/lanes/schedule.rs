//! Which of the lanes beside lane 0 sends its next fragment: deficit round robin over the classes, plain round robin
//! within a class.
//!
//! Knows numbers of lanes and sizes of fragments, not what makes a lane ready. Lane 0 is not scheduled: it is first.

use std::collections::VecDeque;

use farref_transport::Class;

/// Shares of the three classes, in fragments per turn.
const SHARES: [usize; 3] = [8, 4, 1];

/// The lanes that have something to send now.
///
/// # Invariant
///
/// A lane is in at most one queue, at most once: whoever puts one in remembers that. The deficit of a class with an
/// empty queue is 0.
#[derive(Debug, Default)]
pub(crate) struct Schedule {
    /// Nothing until there is a lane: most links never have one.
    classes: Option<Box<[Ready; 3]>>,
    /// The class whose turn it is.
    turn: usize,
}

#[derive(Debug, Default)]
struct Ready {
    lanes: VecDeque<u64>,
    /// Bytes it may still send in this turn.
    deficit: usize,
}

impl Schedule {
    /// Adds a lane that is not in.
    pub(crate) fn add(&mut self, class: Class, lane: u64) {
        if let Some(ready) = self.classes.get_or_insert_default().get_mut(index(class)) {
            ready.lanes.push_back(lane);
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        let classes = self.classes.as_ref();
        classes.is_none_or(|classes| classes.iter().all(|ready| ready.lanes.is_empty()))
    }

    /// Gives memory back.
    pub(crate) fn rest(&mut self) {
        if self.is_empty() {
            self.clear();
        }
    }

    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }

    /// Takes out the lane whose turn it is, where a full fragment has `fragment` bytes. Whoever takes it says with
    /// [`charge`](Self::charge) what it sent, and adds it again if it has more.
    pub(crate) fn take(&mut self, fragment: usize) -> Option<u64> {
        if self.is_empty() {
            return None;
        }
        let classes = self.classes.as_mut()?;
        loop {
            let ready = classes.get_mut(self.turn)?;
            if ready.deficit > 0
                && let Some(lane) = ready.lanes.pop_front()
            {
                return Some(lane);
            }
            ready.deficit = 0;
            self.turn = self.turn.saturating_add(1).checked_rem(SHARES.len())?;
            let next = classes.get_mut(self.turn)?;
            if !next.lanes.is_empty() {
                next.deficit = SHARES.get(self.turn)?.saturating_mul(fragment.max(1));
            }
        }
    }

    /// Counts `n` bytes against the class whose turn it is.
    pub(crate) fn charge(&mut self, n: usize) {
        let classes = self.classes.as_mut();
        if let Some(ready) = classes.and_then(|classes| classes.get_mut(self.turn)) {
            ready.deficit = ready.deficit.saturating_sub(n.max(1));
        }
    }
}

const fn index(class: Class) -> usize {
    match class {
        Class::Interactive => 0,
        Class::Normal => 1,
        Class::Bulk => 2,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(schedule: &mut Schedule, classes: &[Class], rounds: usize) -> Vec<u64> {
        let mut order = Vec::new();
        for _ in 0..rounds {
            let lane = schedule.take(10).unwrap();
            schedule.charge(10);
            schedule.add(classes[lane as usize], lane);
            order.push(lane);
        }
        order
    }

    #[test]
    fn classes_share_eight_to_four_to_one() {
        let classes = [Class::Bulk, Class::Normal, Class::Interactive];
        let mut schedule = Schedule::default();
        for (lane, class) in classes.iter().enumerate() {
            schedule.add(*class, lane as u64);
        }
        let order = run(&mut schedule, &classes, 13 * 5);
        let count = |lane| order.iter().filter(|l| **l == lane).count();
        assert_eq!((count(0), count(1), count(2)), (5, 20, 40));
    }

    #[test]
    fn lanes_of_a_class_take_turns() {
        let classes = [Class::Bulk; 3];
        let mut schedule = Schedule::default();
        for lane in 0..3 {
            schedule.add(Class::Bulk, lane);
        }
        assert_eq!(run(&mut schedule, &classes, 6), [0, 1, 2, 0, 1, 2]);
    }

    #[test]
    fn an_idle_class_saves_nothing_up() {
        let classes = [Class::Bulk, Class::Interactive];
        let mut schedule = Schedule::default();
        schedule.add(Class::Bulk, 0);
        assert_eq!(run(&mut schedule, &classes, 3), [0, 0, 0]);
        schedule.add(Class::Interactive, 1);
        let order = run(&mut schedule, &classes, 9);
        assert_eq!(order.iter().filter(|lane| **lane == 0).count(), 1);
    }

    #[test]
    fn an_empty_schedule_has_no_lane() {
        let mut schedule = Schedule::default();
        assert!(schedule.is_empty() && schedule.take(10).is_none());
    }
}
