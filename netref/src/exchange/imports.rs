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
///
/// What an import is known by is in its proxy alone.
pub(super) struct Imports<H: Handles> {
    by_number: FxHashMap<u64, Import<H>>,
    generation: u32,
}

struct Import<H: Handles> {
    weak: H::WeakProxy,
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

    /// What is known of each, but for those that are about to be given back.
    pub(super) fn all(&self) -> impl Iterator<Item = Held<H>> {
        self.by_number.iter().filter_map(|(number, import)| {
            let interface = H::imported(&H::upgrade(&import.weak)?).interface;
            Some(Held::new(*number, interface, import.copies.into(), None))
        })
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
        let generation = self.generation.wrapping_add(1);
        let imported = Imported {
            id: export,
            generation,
            object,
            interface,
        };
        match self.by_number.entry(export) {
            std::collections::hash_map::Entry::Occupied(entry) => {
                let import = entry.into_mut();
                import.copies = import
                    .copies
                    .checked_add(1)
                    .ok_or(Breach::TooManyObjects { limit })?;
                if let Some(proxy) = H::upgrade(&import.weak) {
                    let known = H::imported(&proxy);
                    return if (known.object, known.interface) == (object, interface) {
                        Ok(proxy)
                    } else {
                        Err(Breach::Contradiction { export })
                    };
                }
                let proxy = factory.proxy(imported);
                import.weak = H::downgrade(&proxy);
                import.generation = generation;
                self.generation = generation;
                Ok(proxy)
            }
            std::collections::hash_map::Entry::Vacant(entry) => {
                if held >= limit {
                    return Err(Breach::TooManyObjects { limit });
                }
                let proxy = factory.proxy(imported);
                entry.insert(Import {
                    weak: H::downgrade(&proxy),
                    copies: 1,
                    generation,
                });
                self.generation = generation;
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
