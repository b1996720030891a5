//! Calls, counted by connection and by method, with how long they took.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use farref_boxing::{Error, Result};
use farref_netref::guard::{Access, Guard};

use super::MethodState;

/// So many methods are told apart; a peer can make up names.
const MOST_METHODS: usize = 1024;

/// What all others are counted as.
const OTHERS: &str = "(others)";

/// Calls of all peers, by method.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    methods: Mutex<HashMap<String, Times>>,
    #[cfg(feature = "metrics")]
    pub(super) published: super::metrics::Published,
}

impl Counts {
    #[cfg(feature = "metrics")]
    pub(super) fn published_as(server: String) -> Self {
        Self {
            published: super::metrics::Published::of(server),
            ..Self::default()
        }
    }

    /// The methods, those that took the most time in all first.
    pub(super) fn methods(&self, most: usize) -> Vec<MethodState> {
        let mut methods: Vec<MethodState> = self
            .lock()
            .iter()
            .map(|(name, times)| times.state(name))
            .collect();
        methods.sort_by(|a, b| (b.micros, &a.name).cmp(&(a.micros, &b.name)));
        methods.truncate(most);
        methods
    }

    fn add(&self, name: String, failed: bool, took: Duration) {
        let mut methods = self.lock();
        let is_known = methods.len() < MOST_METHODS || methods.contains_key(&name);
        let name = if is_known { name } else { OTHERS.to_owned() };
        #[cfg(feature = "metrics")]
        self.published.call(&name, failed, took);
        methods.entry(name).or_default().add(failed, took);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Times>> {
        self.methods.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How long the calls of one method took.
#[derive(Debug, Clone)]
struct Times {
    calls: u64,
    failed: u64,
    micros: u64,
    /// How many took so long: four to each doubling.
    buckets: [u64; BUCKETS],
}

/// Up to four hours.
const BUCKETS: usize = 128;

impl Default for Times {
    fn default() -> Self {
        Self {
            calls: 0,
            failed: 0,
            micros: 0,
            buckets: [0; BUCKETS],
        }
    }
}

impl Times {
    fn add(&mut self, failed: bool, took: Duration) {
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.calls = self.calls.saturating_add(1);
        self.failed = self.failed.saturating_add(u64::from(failed));
        self.micros = self.micros.saturating_add(micros);
        if let Some(bucket) = self.buckets.get_mut(bucket_of(micros)) {
            *bucket = bucket.saturating_add(1);
        }
    }

    /// How long `of_hundred` of a hundred calls took at most.
    fn quantile(&self, of_hundred: u64) -> u64 {
        let mut left = self.calls.saturating_mul(of_hundred).div_ceil(100);
        for (index, count) in self.buckets.iter().enumerate() {
            left = left.saturating_sub(*count);
            if left == 0 {
                return end_of(index);
            }
        }
        end_of(BUCKETS - 1)
    }

    fn state(&self, name: &str) -> MethodState {
        MethodState {
            name: name.to_owned(),
            calls: self.calls,
            failed: self.failed,
            micros: self.micros,
            median_micros: self.quantile(50),
            p99_micros: self.quantile(99),
        }
    }
}

/// Below 4 µs each has its own; from there on, four to each doubling.
fn bucket_of(micros: u64) -> usize {
    let power = u64::from(micros.max(1).ilog2());
    let index = if power < 2 {
        micros
    } else {
        (power - 1) * 4 + ((micros >> (power - 2)) & 3)
    };
    usize::try_from(index).unwrap_or(BUCKETS).min(BUCKETS - 1)
}

/// The longest that is counted in a bucket.
fn end_of(bucket: usize) -> u64 {
    let bucket = u64::try_from(bucket).unwrap_or(u64::MAX);
    if bucket < 4 {
        bucket
    } else {
        let (power, quarter) = (bucket / 4 + 1, bucket % 4);
        ((4 + quarter + 1) << (power - 2)) - 1
    }
}

/// The calls of one peer.
#[derive(Debug)]
pub(crate) struct CountedCalls {
    of_all: Arc<Counts>,
    calls: AtomicU64,
    failed: AtomicU64,
}

impl CountedCalls {
    pub(crate) fn new(of_all: &Arc<Counts>) -> Arc<Self> {
        Arc::new(Self {
            of_all: Arc::clone(of_all),
            calls: AtomicU64::new(0),
            failed: AtomicU64::new(0),
        })
    }

    /// Calls that were made, and those of them that failed.
    pub(crate) fn numbers(&self) -> (u64, u64) {
        let failed = self.failed.load(Ordering::Relaxed);
        (self.calls.load(Ordering::Relaxed), failed)
    }

    pub(crate) fn guard(self: &Arc<Self>) -> impl Guard + use<> {
        Counting(Arc::clone(self))
    }
}

struct Counting(Arc<CountedCalls>);

impl Guard for Counting {
    fn admit(&self, _access: &Access) -> Result<()> {
        self.0.calls.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    fn ended(&self, access: &Access, outcome: Result<(), &Error>, took: Duration) {
        if outcome.is_err() {
            self.0.failed.fetch_add(1, Ordering::Relaxed);
        }
        self.0.of_all.add(name_of(access), outcome.is_err(), took);
    }
}

/// What a call is counted as: those that no method takes are one, however they are called.
fn name_of(access: &Access) -> String {
    match access.interface() {
        Some(interface) if access.is_unknown_method() => format!("{}.(unknown)", interface.name),
        _ => access.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_bucket_begins_where_the_one_before_ends() {
        let mut before = 0;
        for bucket in 1..BUCKETS - 1 {
            let end = end_of(bucket);
            assert_eq!(bucket_of(end), bucket);
            assert_eq!(bucket_of(before + 1), bucket);
            assert!(
                end - before <= ((before + 1) / 4).max(1),
                "no wider than a quarter"
            );
            before = end;
        }
        assert_eq!((bucket_of(0), bucket_of(u64::MAX)), (0, BUCKETS - 1));
    }

    #[test]
    fn half_and_ninety_nine_of_a_hundred_are_told_to_within_a_quarter() {
        let mut times = Times::default();
        for micros in 1..=1000 {
            times.add(micros == 7, Duration::from_micros(micros));
        }
        let state = times.state("Bench.voltage");
        assert_eq!((state.calls, state.failed, state.micros), (1000, 1, 500_500));
        assert!((500..=625).contains(&state.median_micros), "{state:?}");
        assert!((990..=1240).contains(&state.p99_micros), "{state:?}");
    }

    #[test]
    fn names_that_peers_make_up_take_no_more_room_than_there_is() {
        let counts = Counts::default();
        for number in 0..3 * MOST_METHODS {
            counts.add(format!("made up {number}"), true, Duration::from_micros(1));
        }
        let methods = counts.methods(usize::MAX);
        assert_eq!(methods.len(), MOST_METHODS + 1);
        assert_eq!(methods.first().map(|method| method.name.as_str()), Some(OTHERS));
    }
}
