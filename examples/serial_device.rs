//! A device behind a serial line: both sides open their port, in any order, and whoever starts anew is found again.
//!
//! ```sh
//! cargo run --example serial_device device serial:/dev/ttyUSB0        # on the device
//! cargo run --example serial_device host serial:/dev/ttyUSB1          # on the desk
//! ```

#![expect(clippy::print_stdout, reason = "an example talks to whoever runs it")]

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use farref::{Error, Netref, Result, connect, remote};

/// A device with a lamp and a counter.
#[remote]
trait Device {
    async fn blink(&self, times: u32) -> Result<u32>;
    async fn log(&self, lines: u32) -> Result<Vec<String>>;
}

#[derive(Default)]
struct Lamp(AtomicU32);

#[remote]
impl Device for Lamp {
    async fn blink(&self, times: u32) -> Result<u32> {
        Ok(self.0.fetch_add(times, Ordering::Relaxed) + times)
    }

    async fn log(&self, lines: u32) -> Result<Vec<String>> {
        Ok((1..=lines)
            .map(|line| format!("line {line}: all is well"))
            .collect())
    }
}

#[tokio::main]
async fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["device", port] => farref::serve::<dyn Device>(port, Lamp::default()).await,
        ["host", port] => host(port).await,
        _ => Err(Error::msg(
            "usage: serial_device device|host serial:PORT?baud=115200",
        )),
    }
}

async fn host(port: &str) -> Result<()> {
    let connection = connect(port).call_timeout(Duration::from_secs(20)).await?;
    let device: Netref<dyn Device> = connection.root().await?;
    println!("it has blinked {} times", device.call().blink(3).await?);
    // A transfer, and a small call beside it to another object would not wait for it.
    let log = device.call().log(500).await?;
    println!(
        "{} lines of its log, the last: {}",
        log.len(),
        log.last().map_or("", String::as_str)
    );
    connection.close().await;
    Ok(())
}
