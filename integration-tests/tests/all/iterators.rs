//! Iterators by reference, over every medium: as far as they are used, and not much further.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use farref::{ErrorKind, Netref, RemoteIter, Result, remote};
use farref_integration_tests::bench::{Count, Counter};
use farref_integration_tests::media::{on_plain_thread, over_every_medium, pair, runtime, within};

#[remote]
trait Library {
    fn numbers(&self, to: u64) -> Result<RemoteIter<u64>>;
    /// Without an end.
    fn all_numbers(&self) -> Result<RemoteIter<u64>>;
    /// How many of them were made.
    fn made(&self) -> Result<u64>;
    fn sum(&self, of: RemoteIter<u64>) -> Result<u64>;
    fn back(&self, iter: RemoteIter<u64>) -> Result<RemoteIter<u64>>;
    fn counters(&self) -> Result<RemoteIter<Netref<dyn Counter>>>;
    fn panics_after(&self, count: u64) -> Result<RemoteIter<u64>>;
    fn long(&self) -> Result<RemoteIter<String>>;
}

#[derive(Default)]
struct Shelves {
    made: Arc<AtomicU64>,
}

impl Library for Shelves {
    fn numbers(&self, to: u64) -> Result<RemoteIter<u64>> {
        Ok(RemoteIter::new(0..to))
    }

    fn all_numbers(&self) -> Result<RemoteIter<u64>> {
        let made = Arc::clone(&self.made);
        Ok(RemoteIter::new((0..).inspect(move |_| {
            made.fetch_add(1, Ordering::SeqCst);
        })))
    }

    fn made(&self) -> Result<u64> {
        Ok(self.made.load(Ordering::SeqCst))
    }

    fn sum(&self, of: RemoteIter<u64>) -> Result<u64> {
        of.sum()
    }

    fn back(&self, iter: RemoteIter<u64>) -> Result<RemoteIter<u64>> {
        Ok(iter)
    }

    fn counters(&self) -> Result<RemoteIter<Netref<dyn Counter>>> {
        Ok(RemoteIter::new((0..3).map(|_| Netref::of(Count::default()))))
    }

    fn panics_after(&self, count: u64) -> Result<RemoteIter<u64>> {
        Ok(RemoteIter::new(
            (0..).inspect(move |at| assert!(*at < count, "as it was told")),
        ))
    }

    fn long(&self) -> Result<RemoteIter<String>> {
        Ok(RemoteIter::new((0..20).map(|at| at.to_string().repeat(20_000))))
    }
}

/// Runs `test` on a plain thread, with each medium.
fn everywhere(test: fn(&Netref<dyn Library>)) {
    over_every_medium(async |medium| {
        let pair = pair::<dyn Library>(medium, Shelves::default()).await;
        let library: Netref<dyn Library> = pair.root().await;
        let run = tokio::task::spawn_blocking(move || on_plain_thread(move || test(&library)));
        within(run).await.unwrap();
        pair.at_rest().await;
    });
}

#[test]
fn an_iterator_is_used_to_its_end_on_either_side() {
    everywhere(|library| {
        let numbers = library.numbers(5000).unwrap();
        assert_eq!(numbers.left(), (5000, Some(5000)));
        assert_eq!(
            Iterator::size_hint(&numbers).0,
            0,
            "room is made for what has come only"
        );
        let all: Vec<u64> = numbers.collect::<Result<_>>().unwrap();
        assert_eq!(all, Vec::from_iter(0..5000));
        assert_eq!(library.numbers(0).unwrap().count(), 0);
        assert_eq!(library.sum(RemoteIter::new(1..=100)).unwrap(), 5050);
        let counters = library
            .counters()
            .unwrap()
            .map(|counter| counter.unwrap().bump().unwrap());
        assert_eq!(Vec::from_iter(counters), [1, 1, 1]);
        let lens = library.long().unwrap().map(|text| text.unwrap().len());
        assert_eq!(lens.sum::<usize>(), 20_000 * 30);
    });
}

#[test]
fn not_much_more_is_made_than_is_used() {
    everywhere(|library| {
        let before = library.made().unwrap();
        let mut numbers = library.all_numbers().unwrap();
        assert_eq!(library.made().unwrap(), before);
        for number in 0..100 {
            assert_eq!(Iterator::next(&mut numbers).unwrap().unwrap(), number);
        }
        assert_eq!(numbers.left().1, None);
        drop(numbers);
        let made = library.made().unwrap() - before;
        assert!(made <= 400, "{made} were made for 100");
    });
}

#[test]
fn an_iterator_that_is_passed_on_goes_on_where_it_was() {
    everywhere(|library| {
        // Home again, untouched and begun.
        let whole = library.back(RemoteIter::new(0..10)).unwrap();
        assert_eq!(whole.map(Result::unwrap).sum::<u64>(), 45);
        let mut begun = library.numbers(10).unwrap();
        assert_eq!(Iterator::next(&mut begun).unwrap().unwrap(), 0);
        assert_eq!(Iterator::next(&mut begun).unwrap().unwrap(), 1);
        assert_eq!(library.sum(begun).unwrap(), 44);
        // Given away is gone.
        let untouched = library.numbers(4).unwrap();
        assert_eq!(library.sum(untouched).unwrap(), 6);
    });
}

#[test]
fn an_iterator_that_panics_fails_and_is_over() {
    everywhere(|library| {
        let mut numbers = library.panics_after(20).unwrap();
        let mut seen = 0;
        let error = loop {
            match Iterator::next(&mut numbers).unwrap() {
                Ok(number) => {
                    assert_eq!(number, seen);
                    seen += 1;
                }
                Err(error) => break error,
            }
        };
        assert!(seen <= 20, "{seen}");
        assert!(
            matches!(error.kind(), ErrorKind::Panicked | ErrorKind::Remote),
            "{error}"
        );
        assert!(Iterator::next(&mut numbers).is_none());
    });
}

#[test]
fn tasks_use_iterators_too() {
    runtime().block_on(async {
        let pair = pair::<dyn Library>("mem", Shelves::default()).await;
        let library: Netref<dyn Library> = pair.root().await;
        let mut numbers = within(library.call().numbers(100)).await.unwrap();
        let mut sum = 0;
        while let Some(number) = within(numbers.next_item()).await {
            sum += number.unwrap();
        }
        assert_eq!(sum, 4950);
        drop((library, numbers));
        pair.at_rest().await;
    });
}
