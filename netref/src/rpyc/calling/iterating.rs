//! Iterations over objects of the peer's, in batches.

use super::*;

/// An iteration over an object of the peer's, which goes on where the last batch of it ended.
#[derive(Debug)]
pub(in crate::rpyc) struct Cursor {
    /// The object.
    import: u64,
    iterator: Arc<Import>,
    at: u64,
}

impl Cursor {
    pub(in crate::rpyc) const fn is_of(&self, import: u64) -> bool {
        self.import == import
    }
}

/// A batch of an iteration that is being fetched.
#[derive(Debug)]
pub(in crate::rpyc) struct Iterating {
    pub(super) call: u64,
    import: u64,
    /// Not known before the first reply.
    iterator: Option<Arc<Import>>,
    /// How far the iterator is.
    at: u64,
    from: u64,
    most: u32,
}

impl Rpyc {
    pub(super) fn iterate(&mut self, call: u64, import: u64, from: u64, most: u32) -> Result<(), Error> {
        let most = most.clamp(1, LARGEST_BATCH);
        let known = self
            .cursors
            .iter()
            .position(|cursor| cursor.import == import && cursor.at == from);
        let mut iterating = Iterating {
            call,
            import,
            iterator: None,
            at: 0,
            from,
            most,
        };
        if let Some(known) = known {
            let cursor = self.cursors.swap_remove(known);
            iterating.at = from;
            iterating.iterator = Some(cursor.iterator);
            return self.next_batch(iterating);
        }
        let arguments = ["__iter__".into(), tuple([]), tuple([])];
        let pending = Pending::Iterate(Box::new(iterating));
        self.send(handler::CALLATTR, import, &arguments, pending)
    }

    pub(super) fn next_batch(&mut self, iterating: Iterating) -> Result<(), Error> {
        let Some(iterator) = iterating.iterator.as_ref().map(|iterator| iterator.id()) else {
            return Ok(());
        };
        let skipped = iterating.from.saturating_sub(iterating.at);
        let many = if skipped > 0 {
            skipped.min(LARGEST_BATCH.into())
        } else {
            iterating.most.into()
        };
        let pending = Pending::Iterate(Box::new(iterating));
        self.send(handler::BUFFITER, iterator, &[many.into()], pending)
    }

    pub(super) fn iterated(&mut self, mut iterating: Iterating, result: Result<Value>) {
        let call = iterating.call;
        if !self.calls.contains_key(&call) {
            return self.discard((result.ok(), iterating.iterator));
        }
        let value = match result {
            Ok(value) => value,
            Err(error) => return self.finish(call, Err(error)),
        };
        if iterating.iterator.is_none() {
            let Some(Link::Import(iterator)) = link(&value) else {
                return self.finish(call, Err(other_than("an iterator")));
            };
            iterating.iterator = Some(Arc::clone(iterator));
            if let Err(error) = self.next_batch(iterating) {
                self.finish(call, Err(error));
            }
            return;
        }
        let Value::Tuple(items) = value else {
            return self.finish(call, Err(other_than("a batch of an iteration")));
        };
        let many = items.len() as u64;
        let is_skipping = iterating.at < iterating.from;
        iterating.at = iterating.at.saturating_add(many);
        if is_skipping && many > 0 {
            self.discard(items);
            if let Err(error) = self.next_batch(iterating) {
                self.finish(call, Err(error));
            }
            return;
        }
        let is_end = is_skipping || many < u64::from(iterating.most);
        let Iterating {
            import, at, iterator, ..
        } = iterating;
        if let (false, Some(iterator)) = (is_end, iterator) {
            if self.cursors.len() >= MOST_CURSORS {
                let oldest = self.cursors.remove(0);
                self.discard(oldest.iterator);
            }
            self.cursors.push(Cursor { import, iterator, at });
        }
        self.finish(call, Ok(tuple([Value::List(items), is_end.into()])));
    }
}

/// Elements that are asked for at once, at most.
const LARGEST_BATCH: u32 = 4096;
/// Iterations that are kept open, at most.
const MOST_CURSORS: usize = 16;
