//! How much a peer makes containers of this side hold: what it puts into them, and what it has copied.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, Weak};

use farref_boxing::Value;
use rustc_hash::FxHashMap;

use super::data::{Container, Shared};
use super::exception::Exception;
use super::link::Link;
use crate::hosted::address;
use crate::lock::lock;
use crate::object::weigh;

/// What all containers together have grown by, over one connection.
#[derive(Debug, Clone, Default)]
pub(super) struct Growth(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    bytes: AtomicUsize,
    /// Containers that hold others, by their addresses: they may hold each other, so that nothing else would ever drop them.
    tangled: Mutex<FxHashMap<usize, Weak<Mutex<Container>>>>,
}

/// What one container has grown by. It is given back when that is dropped.
#[derive(Debug, Default)]
pub(super) struct Grown {
    bytes: usize,
    of: Option<Growth>,
}

impl Growth {
    /// A container grows by so much; `weight` tells what all of it takes, if need be.
    ///
    /// # Errors
    ///
    /// All of them would take more than [`MOST`].
    pub(super) fn add(
        &self,
        grown: &mut Grown,
        bytes: usize,
        weight: impl FnOnce() -> usize,
    ) -> Result<(), Exception> {
        let Inner { bytes: all, .. } = &*self.0;
        if all.load(Ordering::Relaxed).saturating_add(bytes) > MOST {
            // What counts may be out again, by ways that are not looked at one by one.
            self.less(grown, grown.bytes.saturating_sub(weight()));
            if all.load(Ordering::Relaxed).saturating_add(bytes) > MOST {
                let text = format!("containers of this side grow by at most {} MiB", MOST >> 20);
                return Err(Exception::new("MemoryError", [text]));
            }
        }
        all.fetch_add(bytes, Ordering::Relaxed);
        grown.bytes = grown.bytes.saturating_add(bytes);
        grown.of.get_or_insert_with(|| self.clone());
        Ok(())
    }

    /// A container has lost so much.
    pub(super) fn less(&self, grown: &mut Grown, bytes: usize) {
        let less = bytes.min(grown.bytes);
        grown.bytes = grown.bytes.saturating_sub(less);
        self.0.bytes.fetch_sub(less, Ordering::Relaxed);
    }

    /// Something that may hold containers is put into that one: whether that is new.
    pub(super) fn tangle(&self, container: &Shared) -> bool {
        let mut tangled = lock(&self.0.tangled);
        if tangled.len() == tangled.capacity() {
            tangled.retain(|_, weak| weak.strong_count() > 0);
        }
        let weak = Arc::downgrade(container);
        let before = tangled.insert(address(container), weak);
        // While a weak one is left, its address is not another's.
        before.is_none()
    }

    /// All that containers hold which may hold each other, to be dropped elsewhere.
    pub(super) fn untangle(&self) -> Vec<Value> {
        let tangled = std::mem::take(&mut *lock(&self.0.tangled));
        let left = tangled.into_values().filter_map(|weak| weak.upgrade());
        left.flat_map(|container| lock(&container).take()).collect()
    }
}

impl Drop for Grown {
    fn drop(&mut self) {
        if let Some(growth) = &self.of {
            growth.0.bytes.fetch_sub(self.bytes, Ordering::Relaxed);
        }
    }
}

/// Bytes that values take in a container.
pub(super) fn room<'a>(values: impl IntoIterator<Item = &'a Value>) -> usize {
    let each = |value| weigh(value).saturating_add(size_of::<Value>());
    values.into_iter().map(each).fold(0, usize::saturating_add)
}

/// Whether something in a value may hold containers of this side.
pub(super) fn holds(value: &Value) -> bool {
    match value {
        Value::Tuple(items) => items.iter().any(holds),
        Value::Reference(reference) => matches!(
            Link::of(reference),
            Some(Link::Data(_) | Link::Iteration(_) | Link::Method(_))
        ),
        _ => false,
    }
}

/// Bytes that a peer may make all containers of this side grow by, copies included.
const MOST: usize = 64 << 20;
