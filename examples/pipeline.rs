//! Pipelining: calls on a result that is not there yet. Two calls, of which one needs the other, in one round trip.
//!
//! Run it with `cargo run --example pipeline`.

#![expect(clippy::print_stdout, reason = "an example talks to whoever runs it")]

use std::time::{Duration, Instant};

use farref::{Netref, Result, Server, connect, remote};

#[path = "tour/slow_line.rs"]
mod slow_line;

#[remote]
trait Library {
    fn book(&self, title: &str) -> Result<Netref<dyn Book>>;
}

#[remote]
trait Book {
    fn first_line(&self) -> Result<String>;
}

struct Shelf;
struct Volume(&'static str);

impl Library for Shelf {
    fn book(&self, title: &str) -> Result<Netref<dyn Book>> {
        Ok(Netref::of(Volume(match title {
            "Emma" => "Emma Woodhouse, handsome, clever, and rich",
            _ => "Call me Ishmael. Some years ago",
        })))
    }
}

impl Book for Volume {
    fn first_line(&self) -> Result<String> {
        Ok(self.0.to_owned())
    }
}

#[tokio::main]
async fn main() -> Result<()> {
    let server = Server::of::<dyn Library>(Shelf);
    let address = server.listen("plain+tcp://127.0.0.1:0").await?;
    let slow = slow_line::start(&address, Duration::from_millis(25)).await?; // 50 ms there and back
    let library: Netref<dyn Library> = connect(slow.address()).await?.root().await?;

    let start = Instant::now();
    let book = library.call().book("Emma").await?;
    let line = book.call().first_line().await?;
    println!("{line} ({:.0?}, two round trips)", start.elapsed());

    let start = Instant::now();
    let book = library.call().book("Moby Dick"); // the call, not its result
    let line = book.pipe().first_line().await?;
    println!("{line} ({:.0?}, one round trip)", start.elapsed());
    Ok(())
}
