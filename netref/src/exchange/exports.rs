//! Objects of ours that the peer may call, and how many copies of each it holds (PROTOCOL.md § 6.2).

use std::hash::{BuildHasher, Hash};

use hashbrown::HashTable;
use rustc_hash::{FxBuildHasher, FxHashMap};

use super::Breach;
use super::shelves::Shelves;
use crate::message::Handed;
use crate::protocol::{Handles, Held};
use crate::sparse::SparseMap;

/// The root: what the hello shows. It stays until the session ends.
pub(super) const ROOT: u64 = 0;

/// What an export takes in the table, in bytes: there may be a million.
#[cfg(test)]
pub(super) const ENTRY: usize = Shelves::<Export<crate::remote::EngineHandles>>::ENTRY;

/// Exports by number, and their places by object.
///
/// # Invariant
///
/// `copies` is how many copies of an export left this side minus how many came back; `pins` is how many calls lend
/// it. One of the two is above zero, or the entry is gone. A release says how many copies it gives back, so one
/// that crosses a fresh copy on the wire can't free an object in use.
///
/// The place of each export is in `named` under its object's key, and nothing else is. The number of an object is that of the
/// first of its exports, as long as any of them is there; those that are not the first have it in `objects`.
pub(super) struct Exports<H: Handles> {
    table: Shelves<Export<H>>,
    named: HashTable<u32>,
    objects: SparseMap<u64, u64>,
}

/// An object under one interface.
pub(super) struct Export<H: Handles> {
    pub(super) object: H::Object,
    pub(super) interface: u64,
    copies: u32,
    pins: u32,
}

/// Gives memory back when a table has shrunk to a small part of what it once held.
pub(super) fn shrink<K: Eq + Hash, V>(table: &mut FxHashMap<K, V>) {
    if is_loose(table.len(), table.capacity()) {
        table.shrink_to(table.len().saturating_mul(2));
    }
}

const fn is_loose(len: usize, capacity: usize) -> bool {
    const SMALL: usize = 64;
    capacity > SMALL && len < capacity >> 3
}

fn hash_of(key: usize) -> u64 {
    FxBuildHasher.hash_one(key)
}

/// What the export at a place is found by.
fn hash_at<H: Handles>(table: &Shelves<Export<H>>) -> impl Fn(&u32) -> u64 {
    |place| {
        let export = table.at(*place);
        export.map_or(0, |(_, export)| hash_of(H::key(&export.object)))
    }
}

/// How a copy of an export leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Handing {
    /// The peer gives it back with a release.
    Owned,
    /// It ends when the call returns.
    Lent,
}

impl<H: Handles> Exports<H> {
    /// A table for up to `most` exports.
    pub(super) fn with_room_for(most: u64) -> Self {
        Self {
            table: Shelves::with_room_for(most),
            named: HashTable::new(),
            objects: SparseMap::default(),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.table.len()
    }

    pub(super) fn get(&self, number: u64) -> Option<&Export<H>> {
        self.table.get(number)
    }

    /// What is known of each.
    pub(super) fn all(&self) -> impl Iterator<Item = Held<H>> {
        self.table.iter().map(|(number, export)| {
            let copies = u64::from(export.copies).saturating_add(export.pins.into());
            let object = Some(export.object.clone());
            Held::new(number, export.interface, copies, object)
        })
    }

    /// Whether the number was given out once.
    pub(super) fn was_given(&self, number: u64) -> bool {
        self.table.was_given(number)
    }

    /// No number is used for the root if there is none.
    pub(super) fn without_root(&mut self) {
        self.table.skip_first();
    }

    /// Counts one more copy of an object under an interface. The object comes back if more than `limit` would be held,
    /// or more copies of one than can be counted.
    pub(super) fn hand_out(
        &mut self,
        object: H::Object,
        interface: u64,
        handing: Handing,
        limit: u64,
    ) -> Result<Handed, H::Object> {
        let key = H::key(&object);
        let hash = hash_of(key);
        let others = self
            .named
            .iter_hash(hash)
            .filter_map(|place| self.table.at(*place))
            .filter(|(_, export)| H::key(&export.object) == key);
        let mut of = None;
        for (number, export) in others {
            of = Some(number);
            if export.interface == interface {
                return self.count(number, handing).ok_or(object);
            }
        }
        let of = of.map(|other| self.object_of(other));
        if self.table.len() as u64 >= limit {
            return Err(object);
        }
        let (copies, pins) = match handing {
            Handing::Owned => (1, 0),
            Handing::Lent => (0, 1),
        };
        let export = Export {
            object,
            interface,
            copies,
            pins,
        };
        let number = self.table.insert(export).map_err(|export| export.object)?;
        let place = self.table.place_of(number);
        self.named.insert_unique(hash, place, hash_at(&self.table));
        if let Some(of) = of {
            self.objects.insert(number, of);
        }
        Ok(Handed {
            export: number,
            object: of.unwrap_or(number),
            interface,
        })
    }

    /// Counts one more copy of an export, if it can be counted.
    fn count(&mut self, number: u64, handing: Handing) -> Option<Handed> {
        let object = self.object_of(number);
        let export = self.table.get_mut(number)?;
        let counter = match handing {
            Handing::Owned => &mut export.copies,
            Handing::Lent => &mut export.pins,
        };
        *counter = counter.checked_add(1)?;
        Some(Handed {
            export: number,
            object,
            interface: export.interface,
        })
    }

    /// The number of the object of an export.
    fn object_of(&self, number: u64) -> u64 {
        self.objects.get(&number).copied().unwrap_or(number)
    }

    /// Copies came back. The object, if it was the last hold on it.
    pub(super) fn give_back(&mut self, number: u64, copies: u64) -> Result<Option<H::Object>, Breach> {
        let Some(export) = self.table.get_mut(number) else {
            return Err(Breach::UnknownExport { export: number });
        };
        match u32::try_from(copies)
            .ok()
            .and_then(|copies| export.copies.checked_sub(copies))
        {
            Some(left) => export.copies = left,
            None => {
                return Err(Breach::TooManyReleased {
                    export: number,
                    copies,
                    held: export.copies.into(),
                });
            }
        }
        Ok(self.unlink_if_free(number))
    }

    /// Keeps what a call lends. The peer may do so only while the call is under way.
    pub(super) fn retain(&mut self, number: u64) -> Result<(), Breach> {
        let export = self
            .table
            .get_mut(number)
            .ok_or(Breach::UnknownExport { export: number })?;
        if export.pins == 0 {
            return Err(Breach::NotLent { export: number });
        }
        export.copies = export
            .copies
            .checked_add(1)
            .ok_or(Breach::NotLent { export: number })?;
        Ok(())
    }

    /// Holds an export whatever comes back.
    pub(super) fn pin(&mut self, number: u64) {
        if let Some(export) = self.table.get_mut(number) {
            export.pins = export.pins.saturating_add(1);
        }
    }

    /// A call that lent it is over. The object, if it was the last hold on it.
    pub(super) fn unpin(&mut self, number: u64) -> Option<H::Object> {
        let export = self.table.get_mut(number)?;
        export.pins = export.pins.saturating_sub(1);
        self.unlink_if_free(number)
    }

    fn unlink_if_free(&mut self, number: u64) -> Option<H::Object> {
        let export = self.table.get(number)?;
        if export.copies != 0 || export.pins != 0 {
            return None;
        }
        let Export { object, .. } = self.table.remove(number)?;
        let place = self.table.place_of(number);
        let named = self
            .named
            .find_entry(hash_of(H::key(&object)), |other| *other == place);
        if let Ok(named) = named {
            named.remove();
        }
        if is_loose(self.named.len(), self.named.capacity()) {
            let room = self.named.len().saturating_mul(2);
            self.named.shrink_to(room, hash_at(&self.table));
        }
        if !self.objects.is_empty() {
            self.objects.remove(&number);
            self.objects.rest();
        }
        Some(object)
    }

    /// Takes all objects out.
    pub(super) fn drain(&mut self) -> impl Iterator<Item = H::Object> + use<H> {
        self.named = HashTable::new();
        self.objects.clear();
        self.table.drain().map(|export| export.object)
    }
}
