//! Many calls at once.

#![cfg(test)]

extern crate farref_netref as farref;

mod native;

use std::future::Future;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use farref::{Config, Connection, Netref, Result, Root, remote};
use farref_framing::Role;
use tokio::sync::Barrier;

use native::side;

const CALLS: u32 = 200;

/// More than are woken together, and more bytes than their results take.
const MORE: u32 = 1000;
const LONG: usize = 32 * 1024;

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

/// Two sides, of which the second is in a thread of its own, and what they show.
async fn linked(here: Root, there: Root) -> (Connection, Connection) {
    let (a, b) = farref_transport::memory::pair(1 << 16);
    let (sender, server) = tokio::sync::oneshot::channel();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.unwrap().block_on(async move {
            let server = side(a, Role::Listener, there, Config::default()).await;
            let _ = sender.send(server.clone());
            server.closed().await;
        });
    });
    let client = side(b, Role::Dialer, here, Config::default()).await;
    within(client.established()).await.unwrap();
    (client, server.await.unwrap())
}

/// A desk, and what its clerk is told and tells.
async fn desk() -> (Connection, Connection, Sender<()>, Receiver<u32>) {
    let ((waits, waiting), (go_on, goes_on)) = (channel(), channel());
    let goes_on = Mutex::new(goes_on);
    let root = Netref::<dyn Desk>::of(Clerk { waits, goes_on });
    let (client, server) = linked(Root::NONE, Root::of(&root)).await;
    (client, server, go_on, waiting)
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
        let until = Instant::now() + SOON;
        while server.stats().answers > 0 {
            assert!(Instant::now() < until, "they come within 10 s");
            std::thread::yield_now();
        }
        for caller in callers {
            assert_eq!(within(caller).await.unwrap(), Ok(true));
        }
    }
}

#[remote]
trait Gate {
    /// Waits until all have come.
    async fn pass(&self) -> Result<()>;
    /// Keeps everybody waiting until so many have passed; whether they have.
    async fn close(&self, passed: u32, luggage: Vec<u8>) -> Result<bool>;
}

struct Keeper {
    all: Arc<Barrier>,
    has_closed: Sender<()>,
    passed: Mutex<Receiver<()>>,
}

#[remote]
impl Gate for Keeper {
    async fn pass(&self) -> Result<()> {
        self.all.wait().await;
        Ok(())
    }

    async fn close(&self, passed: u32, _: Vec<u8>) -> Result<bool> {
        let _ = self.has_closed.send(());
        let who = self.passed.lock().unwrap();
        Ok((0..passed).all(|_| who.recv_timeout(SOON).is_ok()))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_whose_results_come_at_once_do_not_wait_for_a_method_that_is_called_after_them() {
    // They were woken when the runtime had its turn, and whatever else had come was done before.
    let ((has_closed, closed), (pass, passed)) = (channel(), channel());
    let (all, passed) = (Arc::new(Barrier::new(MORE as usize + 1)), Mutex::new(passed));
    let keeper = Keeper {
        all: Arc::clone(&all),
        has_closed,
        passed,
    };
    let root = Netref::<dyn Gate>::of(keeper);
    let (client, server) = linked(Root::of(&root), Root::of(&root)).await;
    let there: Netref<dyn Gate> = within(client.root()).await.unwrap();
    let here: Netref<dyn Gate> = within(server.root()).await.unwrap();
    let callers: Vec<_> = (0..MORE)
        .map(|_| {
            let (there, pass) = (there.clone(), pass.clone());
            tokio::spawn(async move {
                let result = there.call().pass().await;
                let _ = pass.send(());
                result
            })
        })
        .collect();
    within(async {
        while server.stats().answers < MORE as usize {
            tokio::task::yield_now().await;
        }
    })
    .await;
    // Nothing is read here until all results have been written, and one call after them.
    let first = here.call().close(1, Vec::new()).start();
    assert_eq!(closed.recv_timeout(SOON), Ok(()));
    let before = server.stats().traffic.bytes_sent;
    within(all.wait()).await;
    within(async {
        while server.stats().answers > 0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    // The runtime keeps the last of them for the thread that has woken it.
    let last = here.call().close(MORE - 1, vec![0; LONG]).start();
    have_been_written(&server, before, LONG as u64).await;
    pass.send(()).unwrap();
    assert_eq!(within(first).await, Ok(true));
    assert_eq!(within(last).await, Ok(true), "all but one have passed");
    for caller in callers {
        assert_eq!(within(caller).await.unwrap(), Ok(()));
    }
}
