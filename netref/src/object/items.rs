//! The elements of an object, fetched some at a time.

use std::collections::VecDeque;

use farref_boxing::{Result, Value};

use super::{ByValue, Object};
use crate::call::Call;
use crate::protocol::Op;

/// The elements of an object, fetched some at a time.
#[must_use = "nothing is fetched before it is asked for"]
#[derive(Debug)]
pub struct Items {
    object: Object,
    fetched: VecDeque<Value>,
    /// The first element that was not fetched.
    from: u64,
    most: u32,
    is_end: bool,
}

/// Some elements, and whether they are the last ones.
type Fetched = Result<(Vec<Value>, bool)>;

impl Items {
    pub(super) const fn new(object: Object) -> Self {
        Self {
            object,
            fetched: VecDeque::new(),
            from: 0,
            most: FIRST_BATCH,
            is_end: false,
        }
    }

    /// The next element; `None` behind the last one. An error is the last one as well.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses no element.
    pub async fn next(&mut self) -> Option<Result<Value>> {
        loop {
            if let Some(item) = self.fetched.pop_front() {
                return Some(Ok(item));
            }
            let batch = self.batch()?.await;
            if let Err(error) = self.take(batch) {
                return Some(Err(error));
            }
        }
    }

    /// The same for a thread that waits.
    pub fn wait(mut self) -> impl Iterator<Item = Result<Value>> {
        std::iter::from_fn(move || {
            loop {
                if let Some(item) = self.fetched.pop_front() {
                    return Some(Ok(item));
                }
                let batch = self.batch()?.wait();
                if let Err(error) = self.take(batch) {
                    return Some(Err(error));
                }
            }
        })
    }

    fn batch(&self) -> Option<Call<Fetched>> {
        let asked = || {
            self.object
                .ask::<ByValue, _>(Op::Iterate, &(self.from, self.most))
        };
        (!self.is_end).then(asked)
    }

    fn take(&mut self, batch: Fetched) -> Result<()> {
        self.is_end = true;
        let (items, is_end) = batch?;
        // Nothing, and no end: that would go on for ever.
        self.is_end = is_end || items.is_empty();
        self.from = self
            .from
            .saturating_add(items.len().try_into().unwrap_or(u64::MAX));
        self.most = self.most.saturating_mul(2).min(LARGEST_BATCH);
        self.fetched = items.into();
        Ok(())
    }
}

/// Elements asked for at first; then twice as many each time.
const FIRST_BATCH: u32 = 32;
/// Elements asked for at once, at most.
const LARGEST_BATCH: u32 = 1024;
