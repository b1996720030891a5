//! Memory of bodies that came, for those that come next.
//!
//! A body goes to whoever wants it, and its memory comes back when that is done with it: a handle on it stays here, and
//! tells when it is the last. Bulk that goes on and on so needs no fresh memory, whose pages the system would have to clear.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};

use crate::link::Nanos;

/// Shorter bodies are not worth it: allocators keep memory of that size themselves.
const LEAST: usize = 32 * 1024;
/// Longer ones are rare, and would keep much for nothing: what they were in is in no cache any more, which costs as much as to
/// clear fresh memory.
const MOST: usize = 1024 * 1024 + 4 * 1024;
/// Bytes that are kept, all together.
const KEPT: usize = 2 * MOST;
/// They are kept that long after the last body.
const PATIENCE: Nanos = 1_000_000_000;

/// Bodies that may be done with; nothing if there are none.
#[derive(Debug, Default)]
pub(crate) struct Spare(Option<Box<Bodies>>);

/// # Invariant
///
/// `kept` is the sum of the memory of the bodies, at most [`KEPT`]. `until` is some time if they were not touched since it was
/// set.
#[derive(Debug, Default)]
struct Bodies {
    bodies: VecDeque<Body>,
    kept: usize,
    until: Option<Nanos>,
}

#[derive(Debug)]
struct Body {
    body: Bytes,
    /// The memory that it is in, in bytes.
    memory: usize,
}

impl Spare {
    /// Memory for a body of `len`, if a fitting one is done with: the one that was used last, as it was left. None is much longer,
    /// for a short body may be held for long.
    pub(crate) fn take(&mut self, len: usize) -> Option<BytesMut> {
        let fits =
            |spare: &Body| (len..=len.saturating_mul(2)).contains(&spare.memory) && spare.body.is_unique();
        let spare = self.0.as_mut()?;
        let at = spare.bodies.iter().rposition(fits)?;
        let Body { body, memory } = spare.bodies.remove(at)?;
        spare.kept = spare.kept.saturating_sub(memory);
        body.try_into_mut().ok()
    }

    /// A body that lies in so much `memory` is about to be handed out.
    pub(crate) fn put(&mut self, body: &Bytes, memory: usize) {
        if !(LEAST..=MOST).contains(&memory) {
            return;
        }
        let spare = self.0.get_or_insert_default();
        spare.kept = spare.kept.saturating_add(memory);
        spare.bodies.push_back(Body {
            body: body.clone(),
            memory,
        });
        while spare.kept > KEPT
            && let Some(oldest) = spare.bodies.pop_front()
        {
            spare.kept = spare.kept.saturating_sub(oldest.memory);
        }
        spare.until = None;
    }

    /// Gives up what nobody has asked for in a while.
    pub(crate) fn tidy(&mut self, now: Nanos) {
        self.0.take_if(|spare| {
            let until = spare.until.get_or_insert(now.saturating_add(PATIENCE));
            spare.bodies.is_empty() || *until <= now
        });
    }

    /// When [`tidy`](Self::tidy) should be called.
    pub(crate) fn poll_timeout(&self) -> Option<Nanos> {
        self.0.as_ref()?.until
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        self.0.as_ref().map_or(0, |spare| spare.bodies.len())
    }

    #[cfg(test)]
    fn kept(&self) -> usize {
        self.0.as_ref().map_or(0, |spare| spare.kept)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Hands out a body of `len`.
    fn put(spare: &mut Spare, len: usize) -> Bytes {
        let body = Bytes::from(vec![1; len]);
        spare.put(&body, len);
        body
    }

    #[test]
    fn memory_is_used_again_once_its_body_is_done_with() {
        let mut spare = Spare::default();
        let handed_out = put(&mut spare, LEAST);
        let at = handed_out.as_ptr();
        let piece = handed_out.slice(7..);
        drop(handed_out);
        assert!(spare.take(LEAST).is_none(), "a piece of it is in use");
        drop(piece);
        let memory = spare.take(LEAST).unwrap();
        assert_eq!((memory.as_ptr(), memory.len()), (at, LEAST));
        assert!(spare.take(LEAST).is_none());
        assert_eq!(spare.kept(), 0);
    }

    #[test]
    fn a_body_gets_memory_that_is_not_much_longer() {
        let mut spare = Spare::default();
        put(&mut spare, 4 * LEAST);
        assert!(spare.take(2 * LEAST - 1).is_none() && spare.take(4 * LEAST + 1).is_none());
        assert!(spare.take(2 * LEAST).is_some());
    }

    #[test]
    fn what_is_kept_has_a_bound() {
        let mut spare = Spare::default();
        put(&mut spare, LEAST - 1);
        put(&mut spare, MOST + 1);
        assert_eq!(spare.len(), 0);
        for _ in 0..3 {
            put(&mut spare, MOST);
        }
        assert_eq!((spare.len(), spare.kept()), (2, KEPT));
        for _ in 0..1000 {
            put(&mut spare, LEAST);
        }
        assert!(spare.kept() <= KEPT);
    }

    /// Memory that ever shorter bodies had was counted as if it were as short.
    #[test]
    fn a_short_body_in_much_memory_counts_as_much() {
        let mut spare = Spare::default();
        let mut memory = BytesMut::zeroed(4 * LEAST);
        for len in [4 * LEAST, 2 * LEAST] {
            memory.truncate(len);
            let capacity = memory.capacity();
            spare.put(&memory.freeze(), capacity);
            assert_eq!(spare.kept(), 4 * LEAST);
            memory = spare.take(2 * LEAST).unwrap();
            assert_eq!((memory.capacity(), spare.kept()), (4 * LEAST, 0));
        }
        spare.put(&memory.freeze(), 4 * LEAST);
        assert!(spare.take(LEAST).is_none());
    }

    #[test]
    fn nothing_is_kept_for_long() {
        let mut spare = Spare::default();
        put(&mut spare, LEAST);
        spare.tidy(5);
        assert_eq!(spare.poll_timeout(), Some(5 + PATIENCE));
        put(&mut spare, LEAST);
        spare.tidy(7);
        spare.tidy(6 + PATIENCE);
        assert_eq!((spare.len(), spare.poll_timeout()), (2, Some(7 + PATIENCE)));
        spare.tidy(7 + PATIENCE);
        assert_eq!((spare.len(), spare.kept(), spare.poll_timeout()), (0, 0, None));
    }
}
