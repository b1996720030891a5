//! The memory of a body while it comes.

use bytes::{Bytes, BytesMut};

/// What has come of a body, and room for more.
///
/// # Invariant
///
/// The first `filled` bytes of `memory` have come. Behind them may be others, which mean nothing: room that need not be cleared
/// before it is read into.
#[derive(Debug, Default)]
pub(super) struct Filling {
    memory: BytesMut,
    filled: usize,
}

impl Filling {
    /// A body of which `bytes` have come.
    pub(super) fn of(bytes: BytesMut) -> Self {
        Self {
            filled: bytes.len(),
            memory: bytes,
        }
    }

    /// Whether it has no memory yet.
    pub(super) fn is_bare(&self) -> bool {
        self.capacity() == 0
    }

    /// Takes `memory`, whatever is in it, to begin with.
    pub(super) fn begin_in(&mut self, memory: BytesMut) {
        self.memory = memory;
        self.filled = 0;
    }

    /// Adds `bytes`. There is room for them.
    pub(super) fn put(&mut self, bytes: &[u8]) {
        let cleared = self.memory.len().saturating_sub(self.filled).min(bytes.len());
        let (here, behind) = bytes.split_at(cleared);
        let end = self.filled.saturating_add(cleared);
        if let Some(room) = self.memory.get_mut(self.filled..end) {
            room.copy_from_slice(here);
        }
        self.memory.extend_from_slice(behind);
        self.filled = self.filled.saturating_add(bytes.len());
    }

    /// Lends all the room behind what has come.
    pub(super) fn lend(&mut self) -> BytesMut {
        self.memory.split_off(self.filled)
    }

    /// Takes the room back, in which the first `came` bytes have come.
    pub(super) fn take_back(&mut self, room: BytesMut, came: usize) {
        self.memory.unsplit(room);
        self.filled = self.filled.saturating_add(came).min(self.memory.len());
    }

    /// Makes room for `n` more bytes of a body of `len`. With its first bytes comes room for as much as may come unasked, which
    /// is bounded over all lanes: so most bodies stay where they are, and their memory is of one size, which allocators keep.
    /// From there on the room is never more than doubled.
    pub(super) fn grow(&mut self, n: usize, len: usize, unasked: usize) {
        let room = self.memory.capacity().saturating_sub(self.filled);
        if room < n {
            let left = len.saturating_sub(self.filled);
            let wanted = self.filled.max(unasked).min(left).max(n);
            let cleared = self.memory.len().saturating_sub(self.filled);
            self.memory.reserve(wanted.saturating_sub(cleared));
        }
    }

    /// All that has come, and how much memory it is in.
    pub(super) fn finish(mut self) -> (Bytes, usize) {
        let capacity = self.capacity();
        self.memory.truncate(self.filled);
        (self.memory.freeze(), capacity)
    }

    /// How much memory it has.
    pub(super) fn capacity(&self) -> usize {
        self.memory.capacity()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_put_and_what_is_placed_follow_each_other(
            spare in prop::option::of(0_usize..200),
            steps in prop::collection::vec((any::<bool>(), 1_usize..60, 0_usize..60), 1..20),
        ) {
            let (mut filling, mut expected, mut next) = (Filling::default(), Vec::new(), 0_u8);
            if let Some(spare) = spare {
                filling.begin_in(BytesMut::from(&vec![0xee; spare][..]));
            }
            for (is_placed, n, more) in steps {
                let bytes: Vec<u8> = (0..n).map(|_| { next = next.wrapping_add(1); next }).collect();
                filling.grow(n + more, 2000, 100);
                if is_placed {
                    let mut room = filling.lend();
                    room.resize(room.len().max(n + more), 0);
                    room[..n].copy_from_slice(&bytes);
                    filling.take_back(room, n);
                } else {
                    filling.put(&bytes);
                }
                expected.extend_from_slice(&bytes);
            }
            prop_assert_eq!(&filling.finish().0[..], &expected[..]);
        }
    }

    #[test]
    fn room_that_is_lent_and_taken_back_stays_where_it_is() {
        let mut filling = Filling::default();
        filling.grow(10, 1000, 100);
        filling.put(b"0123456789");
        let (at, capacity) = (filling.memory.as_ptr(), filling.capacity());
        for came in [0, 3, 7] {
            let mut room = filling.lend();
            room.resize(room.len().max(20), 0);
            filling.take_back(room, came);
        }
        assert_eq!((filling.memory.as_ptr(), filling.capacity()), (at, capacity));
        assert_eq!((filling.filled, filling.memory.len()), (20, 33));
    }
}
