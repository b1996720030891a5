//! An oscilloscope in Rust that Python subscribes to: an unmodified RPyC client (4.1 to 6.0) gives it a function, and gets samples as
//! they come.
//!
//! ```sh
//! cargo run --example python_client          # serves, and runs examples/python_client.py against itself
//! cargo run --example python_client serve    # serves alone, on port 18861 of this machine
//! ```
//!
//! The Python needs `pip install rpyc`; `PYTHON` names it, if it is not `python3`.

#![expect(clippy::print_stdout, reason = "an example talks to whoever runs it")]

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use farref::rpyc::Exception;
use farref::{Error, Netref, Result, Server, remote};

/// An oscilloscope with two channels.
#[remote]
trait Scope {
    /// What to call it.
    #[property]
    fn title(&self) -> Result<String>;
    /// The names of its channels.
    fn channels(&self) -> Result<Vec<String>>;
    /// Calls `on_sample(at, volts)` with each sample, until the subscription is closed.
    fn subscribe(
        &self,
        channel: String,
        on_sample: Netref<dyn OnSample>,
        every_ms: Option<u64>,
    ) -> Result<Netref<dyn Subscription>>;
    /// The last samples, at most so many.
    fn latest(&self, most: usize) -> Result<Vec<f64>>;
}

/// A function of the subscriber's.
#[remote(closure)]
trait OnSample {
    fn sample(&self, at: u64, volts: f64) -> Result<()>;
}

/// Samples that come until it is closed, or dropped: `with` does in Python.
#[remote]
trait Subscription {
    /// So many samples were sent.
    #[property]
    fn sent(&self) -> Result<u64>;
    /// Ends it.
    fn close(&self) -> Result<()>;
}

#[derive(Clone, Default)]
struct Simulated(Arc<Mutex<VecDeque<f64>>>);

impl Scope for Simulated {
    fn title(&self) -> Result<String> {
        Ok("scope 1".to_owned())
    }

    fn channels(&self) -> Result<Vec<String>> {
        Ok(vec!["A".to_owned(), "B".to_owned()])
    }

    fn subscribe(
        &self,
        channel: String,
        on_sample: Netref<dyn OnSample>,
        every_ms: Option<u64>,
    ) -> Result<Netref<dyn Subscription>> {
        if !self.channels()?.contains(&channel) {
            return Err(Exception::new("KeyError", [format!("no channel {channel}")]).into());
        }
        let every = Duration::from_millis(every_ms.unwrap_or(100).max(1));
        let (latest, sent) = (Arc::clone(&self.0), Arc::new(AtomicU64::new(0)));
        let counted = Arc::clone(&sent);
        let sampling = tokio::spawn(async move {
            for at in 0_u32.. {
                tokio::time::sleep(every).await;
                let volts = f64::from(at % 100) / 100.0;
                keep(&latest, volts);
                counted.fetch_add(1, Ordering::Relaxed);
                // Waiting for it is what keeps this side from running ahead of a slow subscriber.
                on_sample.call().sample(at.into(), volts).await?;
            }
            Ok::<(), Error>(())
        });
        Ok(Netref::of(Sampling { sampling, sent }))
    }

    fn latest(&self, most: usize) -> Result<Vec<f64>> {
        let latest = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(latest.iter().rev().take(most).copied().collect())
    }
}

fn keep(latest: &Mutex<VecDeque<f64>>, volts: f64) {
    let mut latest = latest.lock().unwrap_or_else(PoisonError::into_inner);
    if latest.len() == 1000 {
        latest.pop_front();
    }
    latest.push_back(volts);
}

struct Sampling {
    sampling: tokio::task::JoinHandle<Result<()>>,
    sent: Arc<AtomicU64>,
}

impl Subscription for Sampling {
    fn sent(&self) -> Result<u64> {
        Ok(self.sent.load(Ordering::Relaxed))
    }

    fn close(&self) -> Result<()> {
        self.sampling.abort();
        Ok(())
    }
}

/// Python lets go of it, or is gone.
impl Drop for Sampling {
    fn drop(&mut self) {
        self.sampling.abort();
    }
}

#[tokio::main]
async fn main() -> Result<()> {
    let server = Server::of::<dyn Scope>(Simulated::default());
    if std::env::args().nth(1).as_deref() == Some("serve") {
        println!("listening at {}", server.listen("rpyc://127.0.0.1:18861").await?);
        server.closed().await;
        return Ok(());
    }
    let local = server.listen("rpyc://127.0.0.1:0").await?.to_string();
    let port = local.rsplit(':').next().unwrap_or_default();
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/python_client.py");
    let python = std::env::var("PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let client = tokio::process::Command::new(python)
        .args([script, "127.0.0.1", port])
        .status()
        .await?;
    server.shutdown(Duration::from_secs(1)).await;
    if client.success() {
        Ok(())
    } else {
        Err(Error::msg(format!("the client ended with {client}")))
    }
}
