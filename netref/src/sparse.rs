//! Maps and queues that are empty in most connections: [`SparseMap`], [`SparseQueue`].

use std::collections::VecDeque;
use std::hash::Hash;

use rustc_hash::FxHashMap;

/// A hash map that takes no more than a word until something is in it. A connection has many tables that it may never need, and
/// there may be very many connections.
#[derive(Debug)]
pub(crate) struct SparseMap<K, V>(Option<Box<FxHashMap<K, V>>>);

impl<K, V> Default for SparseMap<K, V> {
    fn default() -> Self {
        Self(None)
    }
}

impl<K: Eq + Hash, V> SparseMap<K, V> {
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.0.as_ref().is_none_or(|map| map.is_empty())
    }

    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.0.as_ref().map_or(0, |map| map.len())
    }

    pub(crate) fn get(&self, key: &K) -> Option<&V> {
        self.0.as_ref()?.get(key)
    }

    pub(crate) fn get_mut(&mut self, key: &K) -> Option<&mut V> {
        self.0.as_mut()?.get_mut(key)
    }

    pub(crate) fn contains_key(&self, key: &K) -> bool {
        self.get(key).is_some()
    }

    /// The map itself, to put something in.
    pub(crate) fn map(&mut self) -> &mut FxHashMap<K, V> {
        self.0.get_or_insert_default()
    }

    pub(crate) fn insert(&mut self, key: K, value: V) -> Option<V> {
        self.map().insert(key, value)
    }

    pub(crate) fn remove(&mut self, key: &K) -> Option<V> {
        self.0.as_mut()?.remove(key)
    }

    #[cfg(any(test, fuzzing))]
    pub(crate) fn values(&self) -> impl Iterator<Item = &V> {
        self.0.iter().flat_map(|map| map.values())
    }

    pub(crate) fn values_mut(&mut self) -> impl Iterator<Item = &mut V> {
        self.0.iter_mut().flat_map(|map| map.values_mut())
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = (&K, &mut V)> {
        self.0.iter_mut().flat_map(|map| map.iter_mut())
    }

    pub(crate) fn clear(&mut self) {
        self.0 = None;
    }

    /// Gives the memory of an empty map back.
    pub(crate) fn rest(&mut self) {
        self.0.take_if(|map| map.is_empty());
    }
}

impl<K: Eq + Hash, V> IntoIterator for SparseMap<K, V> {
    type Item = (K, V);
    type IntoIter = std::iter::Flatten<std::option::IntoIter<FxHashMap<K, V>>>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.map(|map| *map).into_iter().flatten()
    }
}

/// A queue of which the same is true.
#[derive(Debug)]
#[expect(
    clippy::box_collection,
    reason = "a word rather than four while there is none"
)]
pub(crate) struct SparseQueue<T>(Option<Box<VecDeque<T>>>);

impl<T> Default for SparseQueue<T> {
    fn default() -> Self {
        Self(None)
    }
}

impl<T> SparseQueue<T> {
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.0.as_ref().is_none_or(|queue| queue.is_empty())
    }

    /// The queue itself, to put something in.
    pub(crate) fn queue(&mut self) -> &mut VecDeque<T> {
        self.0.get_or_insert_default()
    }

    pub(crate) fn pop_front(&mut self) -> Option<T> {
        self.0.as_mut()?.pop_front()
    }

    /// Takes the first out that `is_it` says yes to.
    pub(crate) fn take(&mut self, is_it: impl FnMut(&T) -> bool) -> Option<T> {
        let queue = self.0.as_mut()?;
        let at = queue.iter().position(is_it)?;
        queue.remove(at)
    }

    pub(crate) fn clear(&mut self) {
        self.0 = None;
    }

    /// Gives the memory of an empty queue back.
    pub(crate) fn rest(&mut self) {
        self.0.take_if(|queue| queue.is_empty());
    }
}
