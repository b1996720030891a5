//! A live stream, plotted as text: the far side measures, this side draws each sample as it comes and stops when it has
//! seen enough, which ends the measuring.
//!
//! Run it with `cargo run --example plot`.

#![expect(clippy::print_stdout, reason = "an example talks to whoever runs it")]

use std::sync::Arc;
use std::time::Duration;

use farref::{Netref, Result, Server, Stream, connect, remote};
use tokio::sync::Notify;

#[remote]
trait Scope {
    /// Samples of a channel, one every so many milliseconds, for as long as anybody reads them.
    async fn samples(&self, channel: u8, every: u64) -> Result<Stream<Sample>>;

    /// Waits until a measurement has ended.
    async fn ended(&self) -> Result<()>;
}

#[derive(serde::Serialize, serde::Deserialize)]
struct Sample {
    at: u64,
    volts: f64,
}

#[derive(Default)]
struct Simulated {
    ended: Arc<Notify>,
}

#[remote]
impl Scope for Simulated {
    async fn samples(&self, channel: u8, every: u64) -> Result<Stream<Sample>> {
        let (mut sender, stream) = Stream::channel(1);
        let ended = Arc::clone(&self.ended);
        tokio::spawn(async move {
            let mut clock = tokio::time::interval(Duration::from_millis(every));
            for number in 0.. {
                clock.tick().await;
                let at = number * every;
                let volts = (at as f64 / 40.0).sin() * f64::from(channel);
                if sender.send(Sample { at, volts }).await.is_err() {
                    break; // nobody reads any more
                }
            }
            ended.notify_one();
        });
        Ok(stream)
    }

    async fn ended(&self) -> Result<()> {
        self.ended.notified().await;
        Ok(())
    }
}

/// Draws one sample, from -2 to 2 volts.
fn draw(Sample { at, volts }: &Sample) {
    let column = ((volts + 2.0) * 12.0).round().clamp(0.0, 48.0) as usize;
    let mut line = vec![b' '; 49];
    for (column, mark) in [(24, b'|'), (column, b'*')] {
        if let Some(place) = line.get_mut(column) {
            *place = mark;
        }
    }
    println!("{at:>4} ms  {}", String::from_utf8_lossy(&line).trim_end());
}

#[tokio::main]
async fn main() -> Result<()> {
    let server = Server::of::<dyn Scope>(Simulated::default());
    let address = server.listen("mem:scope").await?;

    let scope: Netref<dyn Scope> = connect(address).await?.root().await?;
    let mut samples = scope.call().samples(2, 10).await?;
    for _ in 0..30 {
        match samples.next().await {
            Some(sample) => draw(&sample?),
            None => break,
        }
    }
    drop(samples); // that is enough
    scope.call().ended().await?;
    println!("the far side measures no more");
    Ok(())
}
