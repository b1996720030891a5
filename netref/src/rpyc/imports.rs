//! Objects of the peer's that are held here, and how often each was handed over.

use std::sync::{Arc, Weak};

use farref_boxing::{Error, ErrorKind};
use rustc_hash::FxHashMap;

use super::packs::Pack;
use crate::protocol::{Factory, Held, Imported};
use crate::remote::{EngineHandles, Import};

/// Imports by number, which this side gives: the peer's are too long.
///
/// # Invariant
///
/// `by_pack` leads to every entry of `held` that has a pack, and to nothing else. As for farref's own: the proxy that `weak`
/// leads to is the only one alive, of the entry's generation; when it dies, its release gives back all copies that came.
#[derive(Debug, Default)]
pub(super) struct Imports {
    held: FxHashMap<u64, Entry>,
    by_pack: FxHashMap<Pack, u64>,
    last: u64,
    generation: u32,
}

#[derive(Debug)]
struct Entry {
    /// What the peer knows it by; not known of a root that was not asked for yet.
    pack: Option<Pack>,
    weak: Weak<Import>,
    generation: u32,
    copies: u64,
    /// What it is the promise of.
    keeps: Option<Arc<Import>>,
}

impl Imports {
    pub(super) fn len(&self) -> usize {
        self.held.len()
    }

    /// What the peer knows it by.
    pub(super) fn pack(&self, number: u64) -> Option<&Pack> {
        self.held.get(&number)?.pack.as_ref()
    }

    /// An object that is not known yet, and will be: the peer's root.
    pub(super) fn promise(&mut self, factory: &dyn Factory<EngineHandles>) -> Arc<Import> {
        self.add(None, 0, factory)
    }

    /// What the peer knows it by.
    ///
    /// # Errors
    ///
    /// It was given back.
    pub(super) fn known(&self, number: u64) -> Result<&Pack, Error> {
        self.pack(number).ok_or_else(gone)
    }

    /// What was promised is there: it has two numbers from now on, and is held as long as either is.
    pub(super) fn keep_promise(&mut self, number: u64, proxy: Arc<Import>) {
        let pack = self.pack(proxy.id()).cloned();
        if let Some(entry) = self.held.get_mut(&number) {
            entry.pack = pack;
            entry.keeps = Some(proxy);
        }
    }

    /// Another handle on what is held.
    pub(super) fn proxy(&self, number: u64) -> Option<Arc<Import>> {
        self.held.get(&number)?.weak.upgrade()
    }

    /// One more copy came; `None` if that are more than may be held.
    pub(super) fn take_in(
        &mut self,
        pack: Pack,
        most: usize,
        factory: &dyn Factory<EngineHandles>,
    ) -> Option<Arc<Import>> {
        let Some(number) = self.by_pack.get(&pack).copied() else {
            return (self.held.len() < most).then(|| self.add(Some(pack), 1, factory));
        };
        let entry = self.held.get_mut(&number)?;
        entry.copies = entry.copies.saturating_add(1);
        if let Some(proxy) = entry.weak.upgrade() {
            return Some(proxy);
        }
        self.generation = self.generation.wrapping_add(1);
        entry.generation = self.generation;
        let proxy = factory.proxy(imported(number, self.generation));
        entry.weak = Arc::downgrade(&proxy);
        Some(proxy)
    }

    fn add(&mut self, pack: Option<Pack>, copies: u64, factory: &dyn Factory<EngineHandles>) -> Arc<Import> {
        self.last = self.last.wrapping_add(1);
        self.generation = self.generation.wrapping_add(1);
        let proxy = factory.proxy(imported(self.last, self.generation));
        if let Some(pack) = &pack {
            self.by_pack.insert(pack.clone(), self.last);
        }
        let entry = Entry {
            pack,
            weak: Arc::downgrade(&proxy),
            generation: self.generation,
            copies,
            keeps: None,
        };
        self.held.insert(self.last, entry);
        proxy
    }

    /// The proxy of that generation is gone: what is to be given back, and how often it came.
    pub(super) fn give_back(&mut self, number: u64, generation: u32) -> Option<(Pack, u64)> {
        if self.held.get(&number)?.generation != generation {
            return None;
        }
        let entry = self.held.remove(&number)?;
        let pack = entry.pack?;
        if self.by_pack.get(&pack) == Some(&number) {
            self.by_pack.remove(&pack);
        }
        (entry.copies > 0).then_some((pack, entry.copies))
    }

    pub(super) fn clear(&mut self) {
        let Self { last, generation, .. } = *self;
        *self = Self {
            last,
            generation,
            ..Self::default()
        };
    }

    /// What is known of each.
    pub(super) fn all(&self) -> impl Iterator<Item = Held<EngineHandles>> {
        self.held
            .iter()
            .map(|(number, entry)| Held::new(*number, 0, entry.copies, None))
    }
}

/// A reference leads to nothing that the peer still hands out.
pub(super) fn gone() -> Error {
    Error::new(ErrorKind::Broken, "the peer's object is not there any more")
}

const fn imported(number: u64, generation: u32) -> Imported {
    Imported {
        id: number,
        generation,
        object: number,
        interface: 0,
    }
}
