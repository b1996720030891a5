//! Many calls at once.

#![cfg(test)]

extern crate farref_netref as farref;

use std::future::Future;
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use farref::{Config, Connection, Netref, Parts, Peer, Result, Root, remote};
use farref_framing::{LinkConfig, PeerEvidence, Role, StreamLink};
use farref_transport::StreamCarrier;

const CALLS: u32 = 200;

/// What a test waits for comes soon, or the test fails.
const SOON: Duration = Duration::from_secs(10);

async fn within<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(SOON, future)
        .await
        .expect("it comes within 10 s")
}

#[remote]
trait Desk {
    /// The one that is to wait keeps everybody waiting until it is told to go on; whether it was told.
    async fn call(&self, number: u32) -> Result<bool>;
}

struct Clerk {
    waits: Sender<u32>,
    goes_on: Mutex<Receiver<()>>,
}

#[remote]
impl Desk for Clerk {
    async fn call(&self, number: u32) -> Result<bool> {
        let waits = [0, CALLS - 1].contains(&number);
        let _ = self.waits.send(number);
        Ok(!waits || self.goes_on.lock().unwrap().recv_timeout(SOON).is_ok())
    }
}

async fn side(carrier: StreamCarrier, role: Role, root: Root) -> Connection {
    let (inlet, outlet, _, guard) = farref_framing::open(carrier.into(), role).await.unwrap();
    let peer = Peer::new("mem", None, PeerEvidence::None);
    let mut parts = Parts::new(inlet, outlet, peer);
    parts.keep_open = role == Role::Listener;
    parts.guard = guard;
    let link = LinkConfig::new(role, [role as u8; 16], [role as u8; 32]);
    Connection::native(
        |now| Box::new(StreamLink::new(link, now)),
        parts,
        root,
        Config::default(),
    )
}

/// A desk served in a thread of its own, and what its clerk is told and tells.
async fn desk() -> (Connection, Connection, Sender<()>, Receiver<u32>) {
    let ((a, b), (waits, waiting), (go_on, goes_on)) =
        (farref_transport::memory::pair(1 << 16), channel(), channel());
    let goes_on = Mutex::new(goes_on);
    let (sender, server) = tokio::sync::oneshot::channel();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.unwrap().block_on(async move {
            let root = Netref::<dyn Desk>::of(Clerk { waits, goes_on });
            let server = side(a, Role::Listener, Root::of(&root)).await;
            let _ = sender.send(server.clone());
            server.closed().await;
        });
    });
    let client = side(b, Role::Dialer, Root::NONE).await;
    within(client.established()).await.unwrap();
    (client, server.await.unwrap(), go_on, waiting)
}

/// So many bytes have been written since.
async fn have_been_written(connection: &Connection, since: u64, bytes: u64) {
    within(async {
        while connection.stats().traffic.bytes_sent < since + bytes {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test]
async fn the_first_of_many_calls_are_answered_before_the_last_are_executed() {
    // What answered all the calls of one read was written together: until the last of them was over, the peer had
    // nothing to go on with.
    let (client, _server, go_on, waiting) = desk().await;
    let desk: Netref<dyn Desk> = within(client.root()).await.unwrap();
    let before = client.stats().traffic.bytes_sent;
    let first = desk.call().call(0).start();
    have_been_written(&client, before, 1).await;
    assert_eq!(waiting.recv_timeout(SOON), Ok(0));
    // These wait in the carrier until the server reads again, and come in one read.
    let before = client.stats().traffic.bytes_sent;
    let mut calls: Vec<_> = (1..CALLS)
        .map(|number| desk.call().call(number).start())
        .collect();
    have_been_written(&client, before, u64::from(8 * CALLS)).await;
    go_on.send(()).unwrap();
    assert_eq!(within(first).await, Ok(true));
    let last = calls.pop().unwrap();
    assert_eq!(within(calls.remove(0)).await, Ok(true));
    go_on.send(()).unwrap();
    assert_eq!(within(last).await, Ok(true), "it was told in time");
}

#[tokio::test]
async fn many_whose_results_come_at_once_go_on() {
    // The tasks of many calls are woken together, at a moment of the runtime's choice.
    for _ in 0..10 {
        let (client, server, go_on, waiting) = desk().await;
        let desk: Netref<dyn Desk> = within(client.root()).await.unwrap();
        go_on.send(()).unwrap();
        let before = client.stats().traffic.bytes_sent;
        let callers: Vec<_> = (1..CALLS)
            .map(|number| {
                let desk = desk.clone();
                tokio::spawn(async move { desk.call().call(number).await })
            })
            .collect();
        have_been_written(&client, before, u64::from(8 * CALLS)).await;
        // Nothing is read here until all results are there.
        while waiting.recv_timeout(SOON).unwrap() != CALLS - 1 {}
        while server.stats().answers > 0 {
            std::thread::yield_now();
        }
        for caller in callers {
            assert_eq!(within(caller).await.unwrap(), Ok(true));
        }
    }
}
