//! A callback: a long job over there reports its progress to an object over here.
//!
//! Run it with `cargo run --example callback`.

#![expect(clippy::print_stdout, reason = "an example talks to whoever runs it")]

use farref::{Netref, Result, Server, connect, remote};

/// Finds prime numbers, for anybody who asks.
#[remote]
trait Sieve {
    /// The largest prime below `end`; `progress` hears of each quarter of the work.
    fn largest_prime(&self, end: usize, progress: Netref<dyn Progress>) -> Result<Option<usize>>;
}

/// What the far side calls meanwhile. A closure will do.
#[remote(closure)]
trait Progress {
    fn at(&self, percent: usize, found: usize) -> Result<()>;
}

struct Eratosthenes;

impl Sieve for Eratosthenes {
    fn largest_prime(&self, end: usize, progress: Netref<dyn Progress>) -> Result<Option<usize>> {
        let mut composite = vec![false; end];
        let (mut primes, mut largest) = (0, None);
        for percent in [25, 50, 75, 100] {
            for n in (end * (percent - 25) / 100).max(2)..end * percent / 100 {
                if composite.get(n) == Some(&false) {
                    (primes, largest) = (primes + 1, Some(n));
                    let multiples = composite.iter_mut().skip(n * n).step_by(n);
                    multiples.for_each(|multiple| *multiple = true);
                }
            }
            progress.at(percent, primes)?; // runs on the side that called us
        }
        Ok(largest)
    }
}

#[tokio::main]
async fn main() -> Result<()> {
    let server = Server::of::<dyn Sieve>(Eratosthenes);
    let address = server.listen("mem:sieve").await?;

    let sieve: Netref<dyn Sieve> = connect(address).await?.root().await?;
    let show = |percent: usize, found: usize| -> Result<()> {
        println!("{percent:>3} %  {found} primes so far");
        Ok(())
    };
    let largest = sieve.call().largest_prime(1_000_000, Netref::of(show)).await?;
    println!("the largest is {}", largest.unwrap_or_default());
    Ok(())
}
