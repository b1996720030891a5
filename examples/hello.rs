//! Hello: an object over there, used as if it were here.
//!
//! ```sh
//! cargo run --example hello                              # within this process
//! cargo run --example hello plain+tcp://127.0.0.1:0      # or by any other address
//! ```

#![expect(clippy::print_stdout, reason = "an example talks to whoever runs it")]

use std::sync::atomic::{AtomicU32, Ordering};

use farref::{Netref, Result, Server, connect, remote};

/// The trait is all that both sides share.
#[remote]
trait Greeter {
    /// Greets somebody by name.
    fn greet(&self, name: &str) -> Result<String>;
    /// How many were greeted so far.
    fn count(&self) -> Result<u32>;
}

/// The object: an ordinary implementation of an ordinary trait.
#[derive(Default)]
struct Polite(AtomicU32);

impl Greeter for Polite {
    fn greet(&self, name: &str) -> Result<String> {
        self.0.fetch_add(1, Ordering::Relaxed);
        Ok(format!("good day, {name}"))
    }

    fn count(&self) -> Result<u32> {
        Ok(self.0.load(Ordering::Relaxed))
    }
}

/// Written for the trait; knows nothing of connections.
fn greet_all(greeter: &dyn Greeter, names: &[&str]) -> Result<Vec<String>> {
    names.iter().map(|name| greeter.greet(name)).collect()
}

#[tokio::main]
async fn main() -> Result<()> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "mem:hello".to_owned());

    // The side that has the object.
    let server = Server::of::<dyn Greeter>(Polite::default());
    let address = server.listen(address).await?;

    // The side that wants it.
    let greeter: Netref<dyn Greeter> = connect(&address).await?.root().await?;
    println!("{greeter:?} at {address}");
    println!("{}", greet_all(&*greeter, &["Ada", "Grace"])?.join("\n"));
    println!("{}", greeter.call().greet("Alan").await?); // the asynchronous way
    println!("{} were greeted over there", greeter.count()?);
    Ok(())
}
