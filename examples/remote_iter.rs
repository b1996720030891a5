//! A far iterator: this side asks for primes until it has seen enough, and the far side makes hardly more.
//!
//! Run it with `cargo run --example remote_iter`.

#![expect(clippy::print_stdout, reason = "an example talks to whoever runs it")]

use farref::{Netref, RemoteIter, Result, Server, blocking, remote, runtime};

#[remote]
trait Numbers {
    /// All primes from `start` on. There is no last one.
    fn primes(&self, start: u64) -> Result<RemoteIter<u64>>;
}

struct Sieve;

impl Numbers for Sieve {
    fn primes(&self, start: u64) -> Result<RemoteIter<u64>> {
        let is_prime = |n: &u64| (2..).take_while(|d| d * d <= *n).all(|d| !n.is_multiple_of(d));
        Ok(RemoteIter::new((start.max(2)..).filter(is_prime)))
    }
}

fn main() -> Result<()> {
    let server = Server::of::<dyn Numbers>(Sieve);
    let address = runtime::background().block_on(server.listen("mem:numbers"))?;

    let numbers: Netref<dyn Numbers> = blocking::connect(address)?.root()?;
    let mut before = None;
    for prime in numbers.primes(1_000_000)? {
        let prime = prime?;
        if before == Some(prime - 2) {
            println!("{} and {prime} are the first twins beyond a million", prime - 2);
            break;
        }
        before = Some(prime);
    }
    Ok(())
}
