//! A service that panics loses the one connection it panicked for.

#![cfg(test)]

use std::future::{Future, IntoFuture};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use farref_boxing::Result;
use farref_netref::{Connection, Peer, Root};
use farref_services::{Server, Service, connect};

async fn within<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(Duration::from_secs(10), future)
        .await
        .expect("it comes within 10 s")
}

/// Panics when the first peer has come.
struct Jumpy(AtomicBool);

impl Service for Jumpy {
    fn root(&self, _: &Peer) -> Result<Root> {
        Ok(Root::NONE)
    }

    fn connected(&self, _: &Connection) {
        assert!(
            self.0.swap(true, Ordering::SeqCst),
            "the service panics, as the test wants"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_for_which_the_service_panicked_is_closed_and_no_longer_counted() {
    // It stayed open, and counted against the limit for ever.
    let server = Server::new(Jumpy(AtomicBool::new(false)));
    within(server.listen("mem:services-that-panic")).await.unwrap();
    let first = within(connect("mem:services-that-panic").into_future())
        .await
        .unwrap();
    within(first.closed()).await;
    within(server.wait_for(|stats| stats.accepted == 1 && stats.connections == 0)).await;
    let second = within(connect("mem:services-that-panic").into_future())
        .await
        .unwrap();
    within(server.wait_for(|stats| stats.connections == 1)).await;
    within(second.ping()).await.unwrap();
    within(server.shutdown(Duration::from_secs(5))).await;
    within(second.closed()).await;
}
