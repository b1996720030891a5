//! Queues that most links never need: [`Queue`].

use std::collections::VecDeque;

/// A queue that takes no more than a word until something is in it.
#[derive(Debug)]
#[expect(
    clippy::box_collection,
    reason = "a word rather than four while there is none"
)]
pub(crate) struct Queue<T>(Option<Box<VecDeque<T>>>);

impl<T> Default for Queue<T> {
    fn default() -> Self {
        Self(None)
    }
}

impl<T> Queue<T> {
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.0.as_ref().is_none_or(|queue| queue.is_empty())
    }

    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.0.as_ref().map_or(0, |queue| queue.len())
    }

    pub(crate) fn push_back(&mut self, item: T) {
        self.0.get_or_insert_default().push_back(item);
    }

    pub(crate) fn front(&self) -> Option<&T> {
        self.0.as_ref()?.front()
    }

    #[inline]
    pub(crate) fn pop_front(&mut self) -> Option<T> {
        self.0.as_mut()?.pop_front()
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.0.iter_mut().flat_map(|queue| queue.iter_mut())
    }

    /// Lets those go for which `stays` says no.
    pub(crate) fn retain(&mut self, stays: impl FnMut(&T) -> bool) {
        if let Some(queue) = &mut self.0 {
            queue.retain(stays);
        }
    }

    pub(crate) fn clear(&mut self) {
        self.0 = None;
    }

    /// Gives the memory of an empty queue back.
    pub(crate) fn rest(&mut self) {
        self.0.take_if(|queue| queue.is_empty());
    }
}

#[cfg(test)]
impl<T: PartialEq, const N: usize> PartialEq<[T; N]> for Queue<T> {
    fn eq(&self, other: &[T; N]) -> bool {
        self.0.as_ref().map_or(N == 0, |queue| **queue == *other)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn at_rest_an_empty_queue_takes_no_memory_and_another_keeps_what_is_in_it() {
        let mut queue = Queue::default();
        queue.push_back(1);
        queue.rest();
        assert_eq!(queue.pop_front(), Some(1));
        assert!(queue.0.is_some());
        queue.rest();
        assert!(queue.0.is_none() && queue.is_empty());
    }
}
