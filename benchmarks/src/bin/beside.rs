//! How long a small call takes beside endless bulk: `beside serve ADDRESS`, `beside call ADDRESS`.
//!
//! [`slow-link.sh`](../../slow-link.sh) runs both ends on a link of 100 Mbit/s.

use std::time::{Duration, Instant};

use bytes::Bytes;
use farref::keys::KeyStore;
use farref::{Netref, Result, connect, remote};

/// Answers at once. Bulk goes to another object: calls to one object keep their order.
#[remote]
trait Desk {
    async fn small(&self, number: u64) -> Result<u64>;
    async fn sink(&self) -> Result<Netref<dyn Sink>>;
}

/// Takes what is sent.
#[remote]
trait Sink {
    async fn bulk(&self, bytes: Bytes) -> Result<()>;
}

struct House;

#[remote]
impl Desk for House {
    async fn small(&self, number: u64) -> Result<u64> {
        Ok(number)
    }

    async fn sink(&self) -> Result<Netref<dyn Sink>> {
        Ok(Netref::of(House))
    }
}

#[remote]
impl Sink for House {
    async fn bulk(&self, _bytes: Bytes) -> Result<()> {
        Ok(())
    }
}

/// Bytes of one bulk call, and how many are under way at once.
const BULK: usize = 4 << 20;
const AT_ONCE: usize = 4;
const WARM_UP: Duration = Duration::from_secs(3);
const MEASURED: Duration = Duration::from_secs(12);

#[tokio::main]
async fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["serve", address] => farref::serve::<dyn Desk>(address, House).await,
        ["call", address] => call(address).await,
        // For the file of those who are let in, and for addresses.
        ["key"] => {
            println!("{}", KeyStore::of_user()?.identity()?.public());
            Ok(())
        }
        _ => Err(farref::Error::msg(
            "usage: beside serve|call ADDRESS, or beside key",
        )),
    }
}

async fn call(address: &str) -> Result<()> {
    let connection = connect(address).await?;
    let desk: Netref<dyn Desk> = connection.root().await?;
    let sink = desk.call().sink().await?;
    let body = Bytes::from(vec![7; BULK]);
    let sent = std::sync::Arc::new(std::sync::atomic::AtomicU64::new(0));
    for _ in 0..AT_ONCE {
        let (sink, body, sent) = (sink.clone(), body.clone(), sent.clone());
        tokio::spawn(async move {
            while sink.call().bulk(body.clone()).await.is_ok() {
                sent.fetch_add(BULK as u64, std::sync::atomic::Ordering::Relaxed);
            }
        });
    }
    tokio::time::sleep(WARM_UP).await;
    let (begun, before) = (Instant::now(), sent.load(std::sync::atomic::Ordering::Relaxed));
    let mut times = Vec::new();
    while begun.elapsed() < MEASURED {
        let one = Instant::now();
        desk.call().small(1).await?;
        times.push(one.elapsed());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let bytes = sent.load(std::sync::atomic::Ordering::Relaxed) - before;
    let rate = bytes as f64 / begun.elapsed().as_secs_f64() / 1e6;
    times.sort();
    let at = |share: f64| times[((times.len() - 1) as f64 * share) as usize].as_secs_f64() * 1e3;
    println!(
        "| {} | {:.1} ms | {:.1} ms | {:.1} ms | {rate:.1} MB/s | {} |",
        address.split('#').next().unwrap_or(address),
        at(0.5),
        at(0.95),
        at(0.99),
        times.len()
    );
    Ok(())
}
