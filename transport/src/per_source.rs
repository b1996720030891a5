//! How many of something each source on a network has, so that none takes the places of all.
//!
//! Knows what counts as one source; where a peer comes from, and what is counted, is for others.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Places, of which each source may have some.
///
/// A source is one IPv4 address, or the first 64 bits of an IPv6 one: the rest is the peer's to choose. Clones share
/// the places.
///
/// ```
/// use farref_transport::PerSource;
///
/// let places = PerSource::new(3, 2);
/// let taken: Vec<_> = (0..2).map(|_| places.enter([10, 0, 0, 1].into())).collect();
/// assert!(taken.iter().all(Option::is_some));
/// assert!(places.enter([10, 0, 0, 1].into()).is_none());
/// let other = places.enter([10, 0, 0, 2].into());
/// assert!(other.is_some() && places.enter([10, 0, 0, 3].into()).is_none());
/// drop(taken);
/// assert!(places.enter([10, 0, 0, 1].into()).is_some());
/// ```
#[derive(Clone, Debug)]
pub struct PerSource {
    counts: Arc<Mutex<Counts>>,
    most: usize,
    most_of_one: usize,
}

/// # Invariant
///
/// `all` is the sum of `of`, in which there is no 0.
#[derive(Debug, Default)]
struct Counts {
    of: HashMap<IpAddr, usize>,
    all: usize,
}

/// A place, for as long as it is kept.
#[derive(Debug)]
pub struct Place {
    of: Arc<Mutex<Counts>>,
    source: IpAddr,
}

impl PerSource {
    /// `most` places, of which one source may have `most_of_one`; at least 1 each.
    #[must_use]
    pub fn new(most: usize, most_of_one: usize) -> Self {
        Self {
            counts: Arc::default(),
            most: most.max(1),
            most_of_one: most_of_one.max(1),
        }
    }

    /// A place for whoever comes from `address`, if there is one.
    #[must_use]
    pub fn enter(&self, address: IpAddr) -> Option<Place> {
        let source = Self::source_of(address);
        let mut counts = lock(&self.counts);
        let own = counts.of.get(&source).copied().unwrap_or(0);
        if counts.all >= self.most || own >= self.most_of_one {
            // Nothing is kept of a source that was not let in: addresses can be made up.
            return None;
        }
        counts.of.insert(source, own.saturating_add(1));
        counts.all = counts.all.saturating_add(1);
        Some(Place {
            of: Arc::clone(&self.counts),
            source,
        })
    }

    /// The source that `address` is one of: the address itself, or the network of an IPv6 one.
    #[must_use]
    pub const fn source_of(address: IpAddr) -> IpAddr {
        match address.to_canonical() {
            IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() >> 64 << 64)),
            v4 @ IpAddr::V4(_) => v4,
        }
    }

    /// How many places are taken.
    #[must_use]
    pub fn taken(&self) -> usize {
        lock(&self.counts).all
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut counts = lock(&self.of);
        counts.all = counts.all.saturating_sub(1);
        let left = counts
            .of
            .get(&self.source)
            .copied()
            .unwrap_or(0)
            .saturating_sub(1);
        if left == 0 {
            counts.of.remove(&self.source);
        } else {
            counts.of.insert(self.source, left);
        }
    }
}

fn lock(counts: &Mutex<Counts>) -> MutexGuard<'_, Counts> {
    counts.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_has_no_more_than_it_may_and_leaves_nothing_behind() {
        let places = PerSource::new(100, 3);
        let (one, other): (IpAddr, IpAddr) = ([127, 0, 0, 1].into(), [127, 0, 0, 2].into());
        let taken: Vec<_> = (0..3).map(|_| places.enter(one).unwrap()).collect();
        for _ in 0..10 {
            assert!(places.enter(one).is_none());
            assert!(places.enter(other).is_some());
        }
        assert_eq!(places.taken(), 3);
        drop(taken);
        assert!(places.taken() == 0 && lock(&places.counts).of.is_empty());
        // Who is turned away leaves no trace either.
        let full = PerSource::new(1, 1);
        let _place = full.enter(one).unwrap();
        for number in 0..100 {
            assert!(full.enter([10, 0, 0, number].into()).is_none());
        }
        assert_eq!(lock(&full.counts).of.len(), 1);
    }

    #[test]
    fn an_ipv6_source_is_its_network() {
        let of = |text: &str| PerSource::source_of(text.parse().unwrap());
        assert_eq!(of("2001:db8::1:2:3:4"), of("2001:db8::"));
        assert_ne!(of("2001:db8:0:1::"), of("2001:db8::"));
        assert_eq!(of("::ffff:10.0.0.1"), of("10.0.0.1"));
        assert_ne!(of("10.0.0.2"), of("10.0.0.1"));
    }
}
