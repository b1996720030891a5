//! Queues of lanes that most links never need.

use std::collections::VecDeque;

/// A queue of lanes, by their numbers, that takes no more than a word until something is in it.
#[derive(Debug, Default)]
#[expect(
    clippy::box_collection,
    reason = "a word rather than four while there is none"
)]
pub(crate) struct Queue(Option<Box<VecDeque<u64>>>);

impl Queue {
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.0.as_ref().is_none_or(|lanes| lanes.is_empty())
    }

    pub(crate) fn push_back(&mut self, lane: u64) {
        self.0.get_or_insert_default().push_back(lane);
    }

    pub(crate) fn front(&self) -> Option<u64> {
        self.0.as_ref()?.front().copied()
    }

    pub(crate) fn pop_front(&mut self) -> Option<u64> {
        self.0.as_mut()?.pop_front()
    }

    pub(crate) fn clear(&mut self) {
        self.0 = None;
    }

    /// Gives the memory of an empty queue back.
    pub(crate) fn rest(&mut self) {
        self.0.take_if(|lanes| lanes.is_empty());
    }
}
