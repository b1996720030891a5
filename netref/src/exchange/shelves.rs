//! A table for what stays long and may be very much, under numbers that we choose: [`Shelves`].
//!
//! Knows places and numbers, nothing of what is kept there.

use super::window::HALF_WORN;

/// Places of a shelf: as many as a word has bits.
const PLACES: u32 = u64::BITS;

/// Entries under numbers that are never given out twice: the place in the low bits, above them how often that was taken
/// before. So the first entries have the numbers 0, 1, 2 and so on.
///
/// Places are on shelves. One that is emptied gives its memory back, unless no other is empty: entries that come and go allocate
/// nothing, and a table that was long once is not long for ever. One with a place that was taken 2^31 times keeps it, so that every
/// place can be taken as often.
///
/// # Invariant
///
/// A shelf with room is in the list that begins with `roomy`, and no other is. `values` and `taken` of a shelf are equally long;
/// a place beyond both was taken `spent` times, or less often: such numbers are not given out any more.
#[derive(Debug)]
pub(super) struct Shelves<T> {
    shelves: Vec<Shelf<T>>,
    /// The first shelf with room.
    roomy: Option<u32>,
    /// An empty shelf that still has its memory.
    empty: Option<u32>,
    len: usize,
    /// How many bits of a number are the place.
    bits: u32,
}

#[derive(Debug)]
struct Shelf<T> {
    /// A bit for each place that is taken.
    occupied: u64,
    values: Vec<Option<T>>,
    taken: Vec<u32>,
    spent: u32,
    /// The next shelf with room.
    next: Option<u32>,
}

impl<T> Shelves<T> {
    /// What an entry takes, in bytes.
    #[cfg(test)]
    pub(super) const ENTRY: usize = size_of::<Option<T>>() + size_of::<u32>();

    /// An empty table for up to `most` entries, 2^32 at most.
    pub(super) fn with_room_for(most: u64) -> Self {
        let most = most.clamp(PLACES.into(), 1 << u32::BITS);
        Self {
            shelves: Vec::new(),
            roomy: None,
            empty: None,
            len: 0,
            bits: most.next_power_of_two().trailing_zeros(),
        }
    }

    pub(super) const fn len(&self) -> usize {
        self.len
    }

    /// Puts an entry in and returns its number, which nothing else ever has. The entry comes back if there is no room.
    pub(super) fn insert(&mut self, value: T) -> Result<u64, T> {
        let Some((at, shelf)) = self.shelf_with_room() else {
            return Err(value);
        };
        let index = shelf.occupied.trailing_ones();
        let taken = shelf.put(index, value);
        if shelf.occupied == u64::MAX {
            let next = shelf.next.take();
            self.roomy = next;
        }
        if self.empty == Some(at) {
            self.empty = None;
        }
        self.len = self.len.saturating_add(1);
        Ok(self.number(at.saturating_mul(PLACES).saturating_add(index), taken))
    }

    /// The number 0 is not given out: its place stays empty.
    pub(super) fn skip_first(&mut self) {
        if let Some((_, shelf)) = self.shelf_with_room()
            && shelf.taken.is_empty()
        {
            shelf.occupied |= 1;
            shelf.values.push(None);
            shelf.taken.push(1);
        }
    }

    fn shelf_with_room(&mut self) -> Option<(u32, &mut Shelf<T>)> {
        let at = match self.roomy {
            Some(at) => at,
            None => {
                let at = u32::try_from(self.shelves.len()).ok()?;
                if u64::from(at) >= 1 << self.bits.saturating_sub(PLACES.trailing_zeros()) {
                    return None;
                }
                if self.shelves.len() == self.shelves.capacity() {
                    // Most tables have one shelf.
                    self.shelves.reserve_exact(self.shelves.len().max(1));
                }
                self.shelves.push(Shelf::new());
                self.roomy = Some(at);
                at
            }
        };
        Some((at, self.shelves.get_mut(at as usize)?))
    }

    pub(super) fn get(&self, number: u64) -> Option<&T> {
        let (known, value) = self.at(self.place_of(number))?;
        (known == number).then_some(value)
    }

    pub(super) fn get_mut(&mut self, number: u64) -> Option<&mut T> {
        let (place, taken) = self.parts(number);
        let shelf = self.shelves.get_mut(shelf_of(place))?;
        let index = index_of(place);
        if u64::from(*shelf.taken.get(index)?) == taken {
            shelf.values.get_mut(index)?.as_mut()
        } else {
            None
        }
    }

    /// What is at a place, and its number.
    pub(super) fn at(&self, place: u32) -> Option<(u64, &T)> {
        let shelf = self.shelves.get(shelf_of(place))?;
        let index = index_of(place);
        let (taken, value) = (shelf.taken.get(index)?, shelf.values.get(index)?);
        Some((self.number(place, *taken), value.as_ref()?))
    }

    /// Where the entry of a number is, or was.
    pub(super) const fn place_of(&self, number: u64) -> u32 {
        self.parts(number).0
    }

    pub(super) fn remove(&mut self, number: u64) -> Option<T> {
        let (place, _) = self.parts(number);
        self.get(number)?;
        let at = shelf_of(place);
        let shelf = self.shelves.get_mut(at)?;
        let was_full = shelf.occupied == u64::MAX;
        let value = shelf.take(index_of(place));
        if was_full && shelf.occupied != u64::MAX {
            shelf.next = self.roomy;
            self.roomy = Some(at as u32);
        }
        if shelf.occupied == 0
            && let Some(before) = self.empty.replace(at as u32)
            && let Some(before) = self.shelves.get_mut(before as usize)
        {
            before.give_back();
        }
        self.len = self.len.saturating_sub(1);
        value
    }

    /// Whether the number was given out once, or could not be any more.
    pub(super) fn was_given(&self, number: u64) -> bool {
        let (place, taken) = self.parts(number);
        self.shelves.get(shelf_of(place)).is_some_and(|shelf| {
            let index = index_of(place);
            let is_taken = shelf.values.get(index).is_some_and(Option::is_some);
            let before = u64::from(*shelf.taken.get(index).unwrap_or(&shelf.spent));
            taken < before || (is_taken && taken == before)
        })
    }

    /// All entries, with their numbers.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u64, &T)> {
        let places = 0..u32::try_from(self.shelves.len())
            .unwrap_or(u32::MAX)
            .saturating_mul(PLACES);
        places.filter_map(|place| self.at(place))
    }

    /// Takes all entries out. No number is given out after that.
    pub(super) fn drain(&mut self) -> impl Iterator<Item = T> + use<T> {
        let shelves = std::mem::take(&mut self.shelves);
        (self.roomy, self.empty, self.len) = (None, None, 0);
        shelves
            .into_iter()
            .flat_map(|shelf| shelf.values.into_iter().flatten())
    }

    const fn number(&self, place: u32, taken: u32) -> u64 {
        ((taken as u64) << self.bits) | place as u64
    }

    /// The place of a number, and how often it was taken before.
    const fn parts(&self, number: u64) -> (u32, u64) {
        let place = number & !(u64::MAX << self.bits);
        (place as u32, number >> self.bits)
    }
}

impl<T> Shelf<T> {
    const fn new() -> Self {
        Self {
            occupied: 0,
            values: Vec::new(),
            taken: Vec::new(),
            spent: 0,
            next: None,
        }
    }

    /// Puts a value to the first free place, which is `index`. How often that was taken before.
    fn put(&mut self, index: u32, value: T) -> u32 {
        self.occupied |= 1 << index;
        let index = index as usize;
        if let (Some(place), Some(taken)) = (self.values.get_mut(index), self.taken.get(index)) {
            *place = Some(value);
            return *taken;
        }
        if self.values.len() == self.values.capacity() {
            // To 1, 4, 16 and 64.
            let more = self.values.len().saturating_mul(3).max(1);
            self.values.reserve_exact(more);
            self.taken.reserve_exact(more);
        }
        self.values.push(Some(value));
        self.taken.push(self.spent);
        self.spent
    }

    fn take(&mut self, index: usize) -> Option<T> {
        let value = self.values.get_mut(index)?.take();
        let taken = self.taken.get_mut(index)?;
        *taken = taken.saturating_add(1);
        // One that was taken as often as can be counted is not used again.
        if *taken != u32::MAX {
            self.occupied &= !(1 << index);
        }
        value
    }

    /// It is empty.
    fn give_back(&mut self) {
        let taken = self.taken.iter().copied().max().unwrap_or(self.spent);
        if taken <= HALF_WORN {
            self.spent = taken;
            self.taken = Vec::new();
            self.values = Vec::new();
        }
    }
}

const fn shelf_of(place: u32) -> usize {
    (place / PLACES) as usize
}

const fn index_of(place: u32) -> usize {
    (place % PLACES) as usize
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_first_numbers_are_small_and_none_comes_twice() {
        let mut shelves = Shelves::with_room_for(1 << 20);
        let first: Vec<u64> = (0..200).map(|n| shelves.insert(n).unwrap()).collect();
        assert_eq!(first, (0..200).collect::<Vec<u64>>());
        assert_eq!(shelves.remove(70), Some(70));
        let again = shelves.insert(0).unwrap();
        assert_eq!((shelves.place_of(again), again), (70, 70 + (1 << 20)));
        assert_eq!((shelves.get(70), shelves.get(again)), (None, Some(&0)));
        assert!(shelves.was_given(70) && shelves.was_given(again));
        assert!(!shelves.was_given(again + (1 << 20)) && !shelves.was_given(200));
        assert!(!shelves.was_given(u64::MAX) && shelves.get(u64::MAX).is_none());
    }

    #[test]
    fn there_is_room_for_as_many_as_were_asked_for_and_no_more() {
        let mut shelves = Shelves::with_room_for(100);
        let numbers: Vec<u64> = (0..128).map(|n| shelves.insert(n).unwrap()).collect();
        assert_eq!(shelves.insert(7), Err(7));
        shelves.remove(numbers[3]);
        assert!(shelves.insert(7).is_ok() && shelves.insert(8).is_err());
    }

    #[test]
    fn a_number_that_is_skipped_is_nobodys() {
        let mut shelves = Shelves::with_room_for(100);
        shelves.skip_first();
        assert_eq!(shelves.insert(()), Ok(1));
        assert!(shelves.was_given(0) && shelves.get(0).is_none() && shelves.len() == 1);
    }

    /// Memory of a table that was long once was kept for as long as the connection.
    #[test]
    fn what_was_emptied_gives_its_memory_back_and_its_numbers_do_not_come_again() {
        let mut shelves = Shelves::with_room_for(1 << 20);
        let numbers: Vec<u64> = (0..6400).map(|n| shelves.insert(n).unwrap()).collect();
        for number in &numbers[1..] {
            shelves.remove(*number);
        }
        let kept: usize = shelves.shelves.iter().map(|shelf| shelf.values.capacity()).sum();
        assert_eq!(kept, 2 * 64, "the one in use, and one for what comes");
        assert!(numbers.iter().all(|number| shelves.was_given(*number)));
        let again: Vec<u64> = (1..6400).map(|n| shelves.insert(n).unwrap()).collect();
        assert!(again.iter().all(|number| !numbers.contains(number)));
        assert_eq!(shelves.shelves.len(), 100, "old places are taken again");
    }

    /// All places of such a shelf began where the one had ended.
    #[test]
    fn one_place_that_is_worn_wears_no_others() {
        let mut shelves = Shelves::with_room_for(128);
        let held: Vec<u64> = (0..128).map(|n| shelves.insert(n).unwrap()).collect();
        shelves.shelves[1].taken[0] = u32::MAX - 2;
        assert_eq!(shelves.remove(shelves.number(64, u32::MAX - 2)), Some(64));
        for number in held.iter().rev().filter(|number| **number != 64) {
            shelves.remove(*number);
        }
        let again: Vec<u64> = (0..128).map(|n| shelves.insert(n).unwrap()).collect();
        let worn = shelves.number(64, u32::MAX - 1);
        assert_eq!(
            again
                .iter()
                .filter(|number| **number > u64::from(u32::MAX))
                .count(),
            1
        );
        for number in &again {
            assert!(shelves.remove(*number).is_some());
        }
        assert!(shelves.was_given(worn) && shelves.get(worn).is_none());
        let more: Vec<u64> = (0..127).map(|n| shelves.insert(n).unwrap()).collect();
        assert_eq!(shelves.insert(7), Err(7), "all but the one");
        assert!(
            more.iter()
                .all(|number| !again.contains(number) && !held.contains(number))
        );
    }

    #[test]
    fn entries_that_come_and_go_allocate_nothing() {
        let mut shelves = Shelves::with_room_for(1 << 20);
        let mut held: Vec<u64> = (0..64).map(|n| shelves.insert(n).unwrap()).collect();
        held.push(shelves.insert(64).unwrap());
        let memory = |shelves: &Shelves<u64>| shelves.shelves[1].values.as_ptr();
        let before = memory(&shelves);
        for _ in 0..100 {
            shelves.remove(held.pop().unwrap());
            held.push(shelves.insert(64).unwrap());
        }
        assert_eq!(memory(&shelves), before);
    }

    proptest! {
        #[test]
        fn shelves_are_a_map(steps in proptest::collection::vec((any::<bool>(), any::<u16>()), 0..600)) {
            let mut shelves = Shelves::with_room_for(1 << 16);
            let mut map = std::collections::BTreeMap::new();
            let mut given = Vec::new();
            for (insert, pick) in steps {
                if insert || given.is_empty() {
                    let number = shelves.insert(pick).unwrap();
                    prop_assert!(!given.contains(&number));
                    given.push(number);
                    map.insert(number, pick);
                } else {
                    let number = given[usize::from(pick) % given.len()];
                    prop_assert_eq!(shelves.get(number), map.get(&number));
                    prop_assert!(shelves.was_given(number));
                    prop_assert_eq!(shelves.remove(number), map.remove(&number));
                }
                prop_assert_eq!(shelves.len(), map.len());
            }
            let mut all: Vec<_> = shelves.iter().map(|(number, value)| (number, *value)).collect();
            all.sort_unstable();
            prop_assert_eq!(all, map.into_iter().collect::<Vec<_>>());
        }
    }
}
