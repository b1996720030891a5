//! So many null calls, with so many in flight, both ends in one thread: for tools that count instructions or allocations.
//!
//! ```sh
//! cargo build --release --bin calls
//! for calls in 10000 20000; do
//!     valgrind --tool=callgrind --callgrind-out-file=calls.$calls.out target/release/calls 256 $calls
//! done
//! callgrind_annotate calls.20000.out
//! ```
//!
//! The difference of two runs is what the additional calls cost, without what it takes to begin.

use farref::{Fixed, Netref, Server, connect, remote};

/// What is called.
#[remote]
trait Bench {
    async fn null(&self) -> farref::Result<()>;
}

struct Served;

#[remote]
impl Bench for Served {
    async fn null(&self) -> farref::Result<()> {
        Ok(())
    }
}

fn main() -> farref::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let mut number = |default: usize| arguments.next().map_or(Ok(default), |number| number.parse());
    let wrong = |error: std::num::ParseIntError| farref::Error::msg(error.to_string());
    let (in_flight, calls) = (number(256).map_err(wrong)?, number(100_000).map_err(wrong)?);
    let address = arguments
        .next()
        .unwrap_or_else(|| "plain+tcp://127.0.0.1:0".into());
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let server = Server::new(Fixed::new::<dyn Bench>(Served));
        let address = server.listen(address).await?;
        let connection = connect(address).await?;
        let bench: Netref<dyn Bench> = connection.root().await?;
        let callers: Vec<_> = (0..in_flight)
            .map(|caller| {
                let bench = bench.clone();
                let times = calls / in_flight + usize::from(caller < calls % in_flight);
                tokio::spawn(async move {
                    for _ in 0..times {
                        bench.call().null().await?;
                    }
                    Ok::<_, farref::Error>(())
                })
            })
            .collect();
        for caller in callers {
            caller
                .await
                .map_err(|error| farref::Error::msg(error.to_string()))??;
        }
        Ok(())
    })
}
