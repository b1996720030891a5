//! What imports of one interface have in common: kept once, as there may be a million of them.

use std::sync::{Arc, Mutex, Weak};

use crate::lock::lock;
use crate::protocol::Imported;
use crate::remote::Conduit;
use crate::sparse::SparseMap;

/// Where imports came from, and as what.
pub(crate) struct Origin {
    pub(crate) conduit: Arc<dyn Conduit>,
    /// The interface as handed out.
    pub(crate) interface: u64,
    /// The peer's number for the object, where it is not that of the import: then this is of the one import alone.
    pub(crate) object: Option<u64>,
}

impl Origin {
    pub(crate) fn new(conduit: Arc<dyn Conduit>, imported: Imported) -> Arc<Self> {
        let object = (imported.object != imported.id).then_some(imported.object);
        Arc::new(Self {
            conduit,
            interface: imported.interface,
            object,
        })
    }
}

/// The origins of one connection, by interface.
///
/// # Invariant
///
/// At most half of the entries, and some, are of origins that are gone.
#[derive(Default)]
pub(crate) struct Origins(Mutex<SparseMap<u64, Weak<Origin>>>);

impl Origins {
    /// The origin of `imported`, which came by way of the conduit that `conduit` tells.
    pub(crate) fn of(&self, imported: Imported, conduit: impl FnOnce() -> Arc<dyn Conduit>) -> Arc<Origin> {
        if imported.object != imported.id {
            return Origin::new(conduit(), imported);
        }
        let mut origins = lock(&self.0);
        if let Some(origin) = origins.get(&imported.interface).and_then(Weak::upgrade) {
            return origin;
        }
        let origin = Origin::new(conduit(), imported);
        let origins = origins.map();
        if origins.len() == origins.capacity() {
            origins.retain(|_, origin| origin.strong_count() > 0);
            let room = origins.len().saturating_mul(2);
            origins.shrink_to(room);
        }
        origins.insert(imported.interface, Arc::downgrade(&origin));
        origin
    }

    /// Forgets those that are gone, and gives their memory back.
    pub(crate) fn rest(&self) {
        let mut origins = lock(&self.0);
        if !origins.is_empty() {
            let kept = origins.map();
            kept.retain(|_, origin| origin.strong_count() > 0);
            kept.shrink_to_fit();
            origins.rest();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nowhere::Nowhere;

    fn of(origins: &Origins, id: u64, object: u64, interface: u64) -> Arc<Origin> {
        let imported = Imported {
            id,
            generation: 0,
            object,
            interface,
        };
        origins.of(imported, || Arc::new(Nowhere))
    }

    #[test]
    fn what_is_the_same_for_all_imports_of_an_interface_is_there_once() {
        let origins = Origins::default();
        let (first, second, other) = (
            of(&origins, 1, 1, 7),
            of(&origins, 2, 2, 7),
            of(&origins, 3, 3, 8),
        );
        assert!(Arc::ptr_eq(&first, &second) && !Arc::ptr_eq(&first, &other));
        assert_eq!((first.interface, other.interface, first.object), (7, 8, None));
        let of_second_export = of(&origins, 4, 2, 7);
        assert_eq!(
            (of_second_export.interface, of_second_export.object),
            (7, Some(2))
        );
        assert!(
            Arc::ptr_eq(&of(&origins, 5, 5, 7), &first),
            "nor is that in the way"
        );
    }

    #[test]
    fn origins_that_are_gone_do_not_pile_up() {
        let origins = Origins::default();
        let kept = of(&origins, 0, 0, 0);
        for interface in 1..10_000 {
            drop(of(&origins, interface, interface, interface));
        }
        assert!(lock(&origins.0).len() < 64);
        assert!(Arc::ptr_eq(&of(&origins, 1, 1, 0), &kept));
    }

    /// They stayed until the table was full again.
    #[test]
    fn none_that_is_gone_is_kept_at_rest() {
        let origins = Origins::default();
        let kept = of(&origins, 0, 0, 0);
        let gone: Vec<_> = (1..1000)
            .map(|interface| of(&origins, interface, interface, interface))
            .collect();
        drop(gone);
        origins.rest();
        assert_eq!(lock(&origins.0).len(), 1);
        assert!(lock(&origins.0).map().capacity() < 8);
        assert!(Arc::ptr_eq(&of(&origins, 1, 1, 0), &kept));
        drop(kept);
        origins.rest();
        assert!(lock(&origins.0).is_empty());
    }
}
