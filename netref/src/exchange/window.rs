//! Tables for what is numbered: [`Window`] for numbers that ascend, [`Slab`] for numbers that we choose.

use crate::sparse::SparseMap;

/// Entries under ascending numbers, most of which are gone soon after they came.
///
/// A ring whose place for a number is the number's low bits. An entry that is still there when its place is wanted
/// by a younger one moves to a map, if there are few such stragglers; otherwise the ring grows. So nothing is
/// hashed and nothing is allocated for an entry that does not outlive its surroundings.
///
/// # Invariant
///
/// Every number below `next` was inserted once. `ring` is empty or its length is a power of two. An entry is either
/// at its place in the ring or in `stragglers`.
#[derive(Debug)]
pub(super) struct Window<T> {
    ring: Vec<Option<(u64, T)>>,
    stragglers: SparseMap<u64, T>,
    next: u64,
    len: usize,
}

/// Places of a ring that has any.
const FIRST: usize = 2;

impl<T> Window<T> {
    /// An empty table whose first number will be `first`.
    pub(super) fn starting_at(first: u64) -> Self {
        Self {
            ring: Vec::new(),
            stragglers: SparseMap::default(),
            next: first,
            len: 0,
        }
    }

    /// The number that the next entry will have.
    pub(super) const fn next(&self) -> u64 {
        self.next
    }

    pub(super) const fn len(&self) -> usize {
        self.len
    }

    /// Whether the number was given out once, whatever became of its entry.
    pub(super) const fn was_given(&self, number: u64) -> bool {
        number < self.next
    }

    /// Puts the entry of the next number in.
    #[inline]
    pub(super) fn push(&mut self, value: T) -> u64 {
        self.push_with(|| value)
    }

    /// Puts the entry of the next number in, made where it stays.
    #[inline]
    pub(super) fn push_with(&mut self, make: impl FnOnce() -> T) -> u64 {
        let number = self.next;
        self.next = number.wrapping_add(1);
        self.len = self.len.saturating_add(1);
        if self.len.saturating_mul(2) > self.ring.len() {
            self.grow();
        }
        let place = place(number, self.ring.len());
        if let Some(slot) = self.ring.get_mut(place) {
            if slot.is_some() {
                put_aside(slot, &mut self.stragglers);
            }
            *slot = Some((number, make()));
        }
        number
    }

    #[cold]
    fn grow(&mut self) {
        let len = self.ring.len().saturating_mul(2).max(FIRST);
        let mut ring: Vec<Option<(u64, T)>> = Vec::new();
        ring.resize_with(len, || None);
        let old = std::mem::replace(&mut self.ring, ring);
        let stragglers = std::mem::take(&mut self.stragglers);
        for (number, value) in old.into_iter().flatten().chain(stragglers) {
            // Younger ones push older ones out, whichever comes first.
            match self.ring.get_mut(place(number, len)) {
                Some(slot @ None) => *slot = Some((number, value)),
                Some(Some((other, kept))) if *other < number => {
                    let older = (std::mem::replace(other, number), std::mem::replace(kept, value));
                    self.stragglers.insert(older.0, older.1);
                }
                _ => {
                    self.stragglers.insert(number, value);
                }
            }
        }
    }

    #[inline]
    pub(super) fn get(&self, number: u64) -> Option<&T> {
        match self.ring.get(place(number, self.ring.len())) {
            Some(Some((here, value))) if *here == number => Some(value),
            _ => straggler(&self.stragglers, number),
        }
    }

    #[inline]
    pub(super) fn get_mut(&mut self, number: u64) -> Option<&mut T> {
        let len = self.ring.len();
        match self.ring.get_mut(place(number, len)) {
            Some(Some((here, value))) if *here == number => Some(value),
            _ => straggler_mut(&mut self.stragglers, number),
        }
    }

    #[inline]
    pub(super) fn remove(&mut self, number: u64) -> Option<T> {
        let len = self.ring.len();
        let removed = match self.ring.get_mut(place(number, len)) {
            Some(slot) if slot.as_ref().is_some_and(|(here, _)| *here == number) => {
                slot.take().map(|(_, value)| value)
            }
            _ => take_straggler(&mut self.stragglers, number),
        };
        if removed.is_some() {
            self.len = self.len.saturating_sub(1);
        }
        removed
    }

    /// Drops an entry where it is.
    #[inline]
    pub(super) fn forget(&mut self, number: u64) {
        let len = self.ring.len();
        match self.ring.get_mut(place(number, len)) {
            Some(slot) if slot.as_ref().is_some_and(|(here, _)| *here == number) => {
                *slot = None;
                self.len = self.len.saturating_sub(1);
            }
            _ => drop(self.remove(number)),
        }
    }

    /// Gives the memory of an empty table back.
    pub(super) fn rest(&mut self) {
        if self.len == 0 {
            self.ring = Vec::new();
            self.stragglers.clear();
        }
    }

    /// Takes all entries out, in no order. Numbers go on from where they were.
    pub(super) fn drain(&mut self) -> impl Iterator<Item = (u64, T)> + use<T> {
        self.len = 0;
        let ring = std::mem::take(&mut self.ring);
        ring.into_iter()
            .flatten()
            .chain(std::mem::take(&mut self.stragglers))
    }
}

// What few numbers come to, apart from what is inlined for all.

#[cold]
#[inline(never)]
fn straggler<T>(stragglers: &SparseMap<u64, T>, number: u64) -> Option<&T> {
    stragglers.get(&number)
}

#[cold]
#[inline(never)]
fn straggler_mut<T>(stragglers: &mut SparseMap<u64, T>, number: u64) -> Option<&mut T> {
    stragglers.get_mut(&number)
}

#[cold]
#[inline(never)]
fn take_straggler<T>(stragglers: &mut SparseMap<u64, T>, number: u64) -> Option<T> {
    stragglers.remove(&number)
}

/// Makes room for a younger entry.
#[cold]
#[inline(never)]
fn put_aside<T>(slot: &mut Option<(u64, T)>, stragglers: &mut SparseMap<u64, T>) {
    if let Some((straggler, value)) = slot.take() {
        stragglers.insert(straggler, value);
    }
}

/// The place of a number in a ring of `len` places, which is a power of two or none.
#[inline]
const fn place(number: u64, len: usize) -> usize {
    (number as usize) & len.wrapping_sub(1)
}

/// Entries under numbers that are never given out twice: the place in the low half, how often that place was taken
/// in the high half.
///
/// A new place begins where any could have been when the table last rested, and it rests no more once one has come half way:
/// so every place can be taken 2^31 times.
#[derive(Debug)]
pub(super) struct Slab<T> {
    places: Vec<Place<T>>,
    free: Vec<u32>,
    /// Places that were taken as often as can be counted, and are empty.
    worn: usize,
    /// A place beyond `places` was taken less often.
    fresh: u32,
}

#[derive(Debug)]
struct Place<T> {
    taken: u32,
    value: Option<T>,
}

impl<T> Default for Slab<T> {
    fn default() -> Self {
        Self {
            places: Vec::new(),
            free: Vec::new(),
            worn: 0,
            fresh: 1,
        }
    }
}

impl<T> Slab<T> {
    pub(super) const fn len(&self) -> usize {
        self.places
            .len()
            .saturating_sub(self.free.len())
            .saturating_sub(self.worn)
    }

    /// Puts an entry in, made where it stays, and returns its number; `None` if there are 2^32 already.
    #[inline]
    pub(super) fn insert_with(&mut self, make: impl FnOnce() -> T) -> Option<u64> {
        let index = match self.free.pop() {
            Some(index) => index,
            None => self.add_place()?,
        };
        let place = self.places.get_mut(index as usize)?;
        place.value = Some(make());
        Some(key(place.taken, index))
    }

    #[cold]
    #[inline(never)]
    fn add_place(&mut self) -> Option<u32> {
        let index = u32::try_from(self.places.len()).ok()?;
        self.places.push(Place {
            taken: self.fresh,
            value: None,
        });
        Some(index)
    }

    #[inline]
    pub(super) fn get(&self, number: u64) -> Option<&T> {
        let place = self.places.get(number as u32 as usize)?;
        if place.taken == taken(number) {
            place.value.as_ref()
        } else {
            None
        }
    }

    #[inline]
    pub(super) fn get_mut(&mut self, number: u64) -> Option<&mut T> {
        let place = self.places.get_mut(number as u32 as usize)?;
        if place.taken == taken(number) {
            place.value.as_mut()
        } else {
            None
        }
    }

    #[inline]
    pub(super) fn remove(&mut self, number: u64) -> Option<T> {
        self.vacate(number)?.take()
    }

    /// Drops an entry where it is.
    #[inline]
    pub(super) fn forget(&mut self, number: u64) {
        if let Some(value) = self.vacate(number) {
            *value = None;
        }
    }

    /// The place of an entry, which is to be taken out of it.
    #[inline]
    fn vacate(&mut self, number: u64) -> Option<&mut Option<T>> {
        let place = self.places.get_mut(number as u32 as usize)?;
        if place.taken != taken(number) || place.value.is_none() {
            return None;
        }
        match place.taken.checked_add(1) {
            Some(next) => {
                place.taken = next;
                self.free.push(number as u32);
            }
            None => self.worn = self.worn.saturating_add(1),
        }
        Some(&mut place.value)
    }

    /// Gives the memory of an empty table back.
    pub(super) fn rest(&mut self) {
        if self.len() != 0 {
            return;
        }
        let taken = self.places.iter().map(|place| place.taken).max();
        let taken = taken.unwrap_or(self.fresh);
        if taken <= HALF_WORN {
            self.fresh = taken;
            self.places = Vec::new();
            self.free = Vec::new();
        }
    }

    /// The numbers of all entries.
    pub(super) fn numbers(&self) -> Vec<u64> {
        let taken = self
            .places
            .iter()
            .enumerate()
            .filter(|(_, place)| place.value.is_some());
        taken
            .map(|(index, place)| key(place.taken, index as u32))
            .collect()
    }
}

/// Places that were taken so often are kept: those that came in their stead would have to begin there.
pub(super) const HALF_WORN: u32 = u32::MAX / 2;

#[inline]
const fn key(taken: u32, index: u32) -> u64 {
    ((taken as u64) << 32) | index as u64
}

#[inline]
const fn taken(number: u64) -> u32 {
    (number >> 32) as u32
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_straggler_is_found_after_many_younger_ones_have_passed() {
        let mut window = Window::starting_at(1);
        let straggler = window.push("old");
        for _ in 0..1000 {
            let number = window.push("young");
            assert_eq!(window.remove(number), Some("young"));
        }
        assert_eq!(
            window.ring.len(),
            2 * FIRST,
            "one straggler is no reason to grow on"
        );
        assert_eq!((window.get(straggler), window.len()), (Some(&"old"), 1));
        assert_eq!(window.remove(straggler), Some("old"));
        assert_eq!((window.get(straggler), window.len()), (None, 0));
    }

    #[test]
    fn a_number_from_an_empty_place_is_absent() {
        let mut window = Window::<()>::starting_at(1);
        assert_eq!((window.get(0), window.get(u64::MAX)), (None, None));
        assert_eq!(window.remove(3), None);
        assert!(!window.was_given(1));
        window.push(());
        assert!(window.was_given(1) && !window.was_given(2));
    }

    #[test]
    fn tables_that_rest_keep_nothing_but_what_numbers_were_given() {
        let (mut window, mut slab) = (Window::starting_at(1), Slab::default());
        let (windowed, first) = (window.push('a'), slab.insert_with(|| 'a').unwrap());
        window.rest();
        slab.rest();
        assert_eq!((window.get(windowed), slab.get(first)), (Some(&'a'), Some(&'a')));
        window.remove(windowed);
        slab.remove(first);
        window.rest();
        slab.rest();
        assert_eq!((window.ring.capacity(), slab.places.capacity()), (0, 0));
        let (next, second) = (window.push('b'), slab.insert_with(|| 'b').unwrap());
        assert!(next == windowed + 1 && second != first);
        assert_eq!((window.get(windowed), slab.get(first)), (None, None));
    }

    /// After 2^32 calls, one after the other, each further place served a few only, and all counted as calls under way.
    #[test]
    fn a_table_whose_place_is_worn_goes_on_with_others_that_are_not() {
        let mut slab = Slab {
            fresh: HALF_WORN,
            ..Slab::default()
        };
        let once = |slab: &mut Slab<char>| {
            let number = slab.insert_with(|| 'a').unwrap();
            assert_eq!(slab.remove(number), Some('a'));
            slab.rest();
            number
        };
        assert_eq!(taken(once(&mut slab)), HALF_WORN);
        assert_eq!(slab.places.len(), 1, "nothing would be left of another");
        slab.places[0].taken = u32::MAX;
        assert_eq!(once(&mut slab), key(u32::MAX, 0));
        assert_eq!((slab.len(), slab.numbers()), (0, Vec::new()));
        for times in 0..10 {
            assert_eq!(once(&mut slab), key(HALF_WORN + times, 1));
        }
        assert_eq!((slab.len(), slab.places.len()), (0, 2));
        assert!(slab.get(key(u32::MAX, 0)).is_none() && slab.remove(key(u32::MAX, 0)).is_none());
    }

    #[test]
    fn a_place_that_is_taken_again_gives_another_number() {
        let mut slab = Slab::default();
        let first = slab.insert_with(|| 'a').unwrap();
        assert_eq!(slab.remove(first), Some('a'));
        let second = slab.insert_with(|| 'b').unwrap();
        assert_ne!(first, second);
        assert_eq!(
            (slab.get(first), slab.get(second), slab.len()),
            (None, Some(&'b'), 1)
        );
        assert_eq!(slab.numbers(), [second]);
        slab.forget(first);
        assert_eq!(slab.get(second), Some(&'b'), "that is gone already");
        slab.forget(second);
        assert_eq!((slab.get(second), slab.len()), (None, 0));
        assert!(slab.insert_with(|| 'c').is_some_and(|third| third != second));
    }

    proptest! {
        #[test]
        fn a_window_is_a_map(steps in proptest::collection::vec((any::<bool>(), any::<u16>()), 0..400)) {
            let mut window = Window::starting_at(1);
            let mut map = std::collections::BTreeMap::new();
            for (push, pick) in steps {
                if push {
                    map.insert(window.push(pick), pick);
                } else {
                    let number = u64::from(pick) % window.next();
                    prop_assert_eq!(window.get(number), map.get(&number));
                    prop_assert_eq!(window.get_mut(number).copied(), map.get(&number).copied());
                    if pick.is_multiple_of(2) {
                        prop_assert_eq!(window.remove(number), map.remove(&number));
                    } else {
                        window.forget(number);
                        map.remove(&number);
                    }
                }
                prop_assert_eq!(window.len(), map.len());
            }
            let mut all: Vec<_> = window.drain().collect();
            all.sort_unstable();
            prop_assert_eq!(all, map.into_iter().collect::<Vec<_>>());
        }
    }
}
