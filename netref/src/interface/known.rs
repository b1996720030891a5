//! Interfaces by their id, for people: those whose objects have crossed.

use std::cell::Cell;
use std::sync::{Mutex, PoisonError};

use rustc_hash::FxHashMap;

use super::{Interface, Method};

static KNOWN: Mutex<Option<FxHashMap<u64, &'static Interface>>> = Mutex::new(None);

thread_local! {
    /// The last that this thread has noted: most often it is the same again.
    static LAST: Cell<u64> = const { Cell::new(0) };
}

/// Notes an interface whose object crosses, and those that it extends.
pub(crate) fn note(interface: &'static Interface) {
    if LAST.replace(interface.id) == interface.id {
        return;
    }
    let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    insert(known.get_or_insert_default(), interface);
}

fn insert(known: &mut FxHashMap<u64, &'static Interface>, interface: &'static Interface) {
    if known.insert(interface.id, interface).is_none() {
        for parent in interface.parents {
            insert(known, parent);
        }
    }
}

/// The interface with that id, if one of its objects has crossed.
pub(crate) fn find(id: u64) -> Option<&'static Interface> {
    let known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    known.as_ref()?.get(&id).copied()
}

/// The method with that number.
pub(crate) fn find_method(interface: u64, number: u32) -> Option<&'static Method> {
    let methods = find(interface)?.methods;
    methods.iter().find(|method| method.number == number)
}
