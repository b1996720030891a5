//! Objects of the peer's that we hold, and how many copies of each came (PROTOCOL.md § 6.3).

use rustc_hash::FxHashMap;

use super::Breach;
use crate::message::Handed;
use crate::protocol::{Factory, Handles, Held, Imported};

/// What an import takes in the table, in bytes: there may be a million.
#[cfg(test)]
pub(super) const ENTRY: usize = size_of::<(u64, Import<crate::remote::EngineHandles>)>();

/// Imports by the peer's number.
///
/// # Invariant
///
/// An entry is there while copies have come that were not given back. The proxy that `weak` leads to, if any, is
/// the only one that is alive, and the youngest: it has the entry's generation. When it dies, its release gives
/// back *all* copies that have come; a release of an older generation gives back none, as a younger proxy holds
/// them. Generations are counted for the whole table: an entry that is made anew never meets an old release.
pub(super) struct Imports<H: Handles> {
    by_number: FxHashMap<u64, Import<H>>,
    generation: u32,
}

struct Import<H: Handles> {
    weak: H::WeakProxy,
    object: u64,
    interface: u64,
    copies: u32,
    generation: u32,
}

impl<H: Handles> Imports<H> {
    pub(super) fn new() -> Self {
        Self {
            by_number: FxHashMap::default(),
            generation: 0,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.by_number.len()
    }

    pub(super) fn is_held(&self, number: u64) -> bool {
        self.by_number.contains_key(&number)
    }

    /// What is known of each.
    pub(super) fn all(&self) -> impl Iterator<Item = Held<H>> {
        self.by_number
            .iter()
            .map(|(number, import)| Held::new(*number, import.interface, import.copies.into(), None))
    }

    /// One more copy came: the proxy of the import.
    pub(super) fn take_in(
        &mut self,
        handed: Handed,
        factory: &dyn Factory<H>,
        limit: u64,
    ) -> Result<H::Proxy, Breach> {
        let Handed {
            export,
            object,
            interface,
        } = handed;
        let held = self.by_number.len() as u64;
        match self.by_number.entry(export) {
            std::collections::hash_map::Entry::Occupied(entry) => {
                let import = entry.into_mut();
                if (import.object, import.interface) != (object, interface) {
                    return Err(Breach::Contradiction { export });
                }
                import.copies = import
                    .copies
                    .checked_add(1)
                    .ok_or(Breach::TooManyObjects { limit })?;
                if let Some(proxy) = H::upgrade(&import.weak) {
                    return Ok(proxy);
                }
                self.generation = self.generation.wrapping_add(1);
                import.generation = self.generation;
                let proxy = factory.proxy(Imported {
                    id: export,
                    generation: self.generation,
                    object,
                    interface,
                });
                import.weak = H::downgrade(&proxy);
                Ok(proxy)
            }
            std::collections::hash_map::Entry::Vacant(entry) => {
                if held >= limit {
                    return Err(Breach::TooManyObjects { limit });
                }
                self.generation = self.generation.wrapping_add(1);
                let generation = self.generation;
                let proxy = factory.proxy(Imported {
                    id: export,
                    generation,
                    object,
                    interface,
                });
                let weak = H::downgrade(&proxy);
                entry.insert(Import {
                    weak,
                    object,
                    interface,
                    copies: 1,
                    generation,
                });
                Ok(proxy)
            }
        }
    }

    /// The proxy of that generation is gone: how many copies are to be given back. Without a generation, whichever it
    /// was.
    pub(super) fn give_back(&mut self, number: u64, generation: Option<u32>) -> Option<u64> {
        let import = self.by_number.get(&number)?;
        if generation.is_some_and(|generation| import.generation != generation) {
            return None;
        }
        let copies = self.by_number.remove(&number).map(|import| import.copies.into());
        super::exports::shrink(&mut self.by_number);
        copies
    }

    /// Forgets all.
    pub(super) fn clear(&mut self) {
        self.by_number = FxHashMap::default();
    }
}
