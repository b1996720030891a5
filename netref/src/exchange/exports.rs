//! Objects of ours that the peer may call, and how many copies of each it holds (PROTOCOL.md § 6.2).

use rustc_hash::FxHashMap;

use super::Breach;
use crate::message::Handed;
use crate::protocol::{Handles, Held};

/// The root: what the hello shows. It stays until the session ends.
pub(super) const ROOT: u64 = 0;

/// What an export takes in the table, in bytes: there may be a million.
#[cfg(test)]
pub(super) const ENTRY: usize = size_of::<(u64, Export<crate::remote::EngineHandles>)>();

/// Exports by number, and their numbers by object.
///
/// # Invariant
///
/// `copies` is how many copies of an export left this side minus how many came back; `pins` is how many calls lend
/// it. One of the two is above zero, or the entry is gone. A release says how many copies it gives back, so one
/// that crosses a fresh copy on the wire can't free an object in use.
///
/// Each export is named in `names` under its object's key, and nothing else is.
pub(super) struct Exports<H: Handles> {
    by_number: FxHashMap<u64, Export<H>>,
    names: FxHashMap<usize, Names>,
    next: u64,
}

/// An object under one interface.
pub(super) struct Export<H: Handles> {
    pub(super) object: H::Object,
    pub(super) interface: u64,
    key: usize,
    copies: u32,
    pins: u32,
}

/// The exports of one object.
enum Names {
    /// One, which gave the object its number, too: so it is with most objects.
    One(u64),
    /// Several, or one that is not the first.
    Several(Box<Several>),
}

struct Several {
    /// The object's own number: that of the first of its exports. Kept until the last of them is gone.
    object: u64,
    exports: Vec<u64>,
}

impl Names {
    fn object(&self) -> u64 {
        match self {
            Self::One(export) => *export,
            Self::Several(several) => several.object,
        }
    }

    fn all(&self) -> &[u64] {
        match self {
            Self::One(export) => std::slice::from_ref(export),
            Self::Several(several) => &several.exports,
        }
    }

    fn add(&mut self, export: u64) {
        match self {
            Self::One(first) => {
                let exports = vec![*first, export];
                *self = Self::Several(Box::new(Several {
                    object: *first,
                    exports,
                }));
            }
            Self::Several(several) => several.exports.push(export),
        }
    }

    /// Takes an export out; whether none is left.
    fn remove(&mut self, export: u64) -> bool {
        match self {
            Self::One(only) => *only == export,
            Self::Several(several) => {
                several.exports.retain(|other| *other != export);
                several.exports.is_empty()
            }
        }
    }
}

/// Gives memory back when a table has shrunk to a small part of what it once held.
pub(super) fn shrink<K: Eq + std::hash::Hash, V>(table: &mut FxHashMap<K, V>) {
    const SMALL: usize = 64;
    if table.capacity() > SMALL && table.len() < table.capacity() >> 3 {
        table.shrink_to(table.len().saturating_mul(2));
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
    pub(super) fn new() -> Self {
        Self {
            by_number: FxHashMap::default(),
            names: FxHashMap::default(),
            next: ROOT,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.by_number.len()
    }

    pub(super) fn get(&self, number: u64) -> Option<&Export<H>> {
        self.by_number.get(&number)
    }

    /// What is known of each.
    pub(super) fn all(&self) -> impl Iterator<Item = Held<H>> {
        self.by_number.iter().map(|(number, export)| {
            let copies = u64::from(export.copies).saturating_add(export.pins.into());
            let object = Some(export.object.clone());
            Held::new(*number, export.interface, copies, object)
        })
    }

    /// Whether the number was given out once.
    pub(super) const fn was_given(&self, number: u64) -> bool {
        number < self.next
    }

    /// No number is used for the root if there is none.
    pub(super) fn without_root(&mut self) {
        self.next = self.next.max(ROOT + 1);
    }

    /// Counts one more copy of an object under an interface. The object comes back if more than `limit` would be held,
    /// or more copies of one than can be counted.
    pub(super) fn hand_out(
        &mut self,
        object: H::Object,
        key: usize,
        interface: u64,
        handing: Handing,
        limit: u64,
    ) -> Result<Handed, H::Object> {
        let found = self.names.get(&key).and_then(|names| {
            let named = |number: &u64| {
                self.by_number
                    .get(number)
                    .is_some_and(|export| export.interface == interface)
            };
            Some((
                names.object(),
                names.all().iter().copied().find(|number| named(number))?,
            ))
        });
        if let Some((of, number)) = found
            && let Some(export) = self.by_number.get_mut(&number)
        {
            let counter = match handing {
                Handing::Owned => &mut export.copies,
                Handing::Lent => &mut export.pins,
            };
            // At the limit of counting, as at that of the table.
            let Some(counted) = counter.checked_add(1) else {
                return Err(object);
            };
            *counter = counted;
            return Ok(Handed {
                export: number,
                object: of,
                interface,
            });
        }
        if self.by_number.len() as u64 >= limit {
            return Err(object);
        }
        let number = self.next;
        self.next = number.wrapping_add(1);
        let (copies, pins) = match handing {
            Handing::Owned => (1, 0),
            Handing::Lent => (0, 1),
        };
        self.by_number.insert(
            number,
            Export {
                object,
                interface,
                key,
                copies,
                pins,
            },
        );
        let names = self.names.entry(key);
        let names = names
            .and_modify(|names| names.add(number))
            .or_insert(Names::One(number));
        Ok(Handed {
            export: number,
            object: names.object(),
            interface,
        })
    }

    /// Copies came back. The object, if it was the last hold on it.
    pub(super) fn give_back(&mut self, number: u64, copies: u64) -> Result<Option<H::Object>, Breach> {
        let Some(export) = self.by_number.get_mut(&number) else {
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
            .by_number
            .get_mut(&number)
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
        if let Some(export) = self.by_number.get_mut(&number) {
            export.pins = export.pins.saturating_add(1);
        }
    }

    /// A call that lent it is over. The object, if it was the last hold on it.
    pub(super) fn unpin(&mut self, number: u64) -> Option<H::Object> {
        let export = self.by_number.get_mut(&number)?;
        export.pins = export.pins.saturating_sub(1);
        self.unlink_if_free(number)
    }

    fn unlink_if_free(&mut self, number: u64) -> Option<H::Object> {
        let export = self.by_number.get(&number)?;
        if export.copies != 0 || export.pins != 0 {
            return None;
        }
        let Export { object, key, .. } = self.by_number.remove(&number)?;
        if self.names.get_mut(&key).is_some_and(|names| names.remove(number)) {
            drop(self.names.remove(&key));
            shrink(&mut self.names);
        }
        shrink(&mut self.by_number);
        Some(object)
    }

    /// Takes all objects out.
    pub(super) fn drain(&mut self) -> impl Iterator<Item = H::Object> + use<H> {
        self.names = FxHashMap::default();
        std::mem::take(&mut self.by_number)
            .into_values()
            .map(|export| export.object)
    }
}
