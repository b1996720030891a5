//! What imports of one interface have in common: kept once, as there may be a million of them.

use std::sync::{Arc, Mutex, Weak};

use rustc_hash::FxHashMap;

use crate::lock::lock;
use crate::protocol::Imported;
use crate::remote::Conduit;

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
pub(crate) struct Origins(Mutex<FxHashMap<u64, Weak<Origin>>>);

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
        if origins.len() == origins.capacity() {
            origins.retain(|_, origin| origin.strong_count() > 0);
            let room = origins.len().saturating_mul(2);
            origins.shrink_to(room);
        }
        origins.insert(imported.interface, Arc::downgrade(&origin));
        origin
    }
}
