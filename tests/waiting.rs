//! Who waits for a call is woken in time, runs the callbacks that are his, and is heard to the end.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::sync::{Arc, Mutex, mpsc};
use std::thread::{self, ThreadId};
use std::time::{Duration, Instant};

use farref::{ErrorKind, Netref, Result, Server, connect, remote};

/// Longer than any of this takes.
const PATIENCE: Duration = Duration::from_secs(20);

#[remote]
trait Host {
    /// Calls back and waits for it.
    fn call_back(&self, to: Netref<dyn Guest>) -> Result<()>;
    /// Takes for ever; says goodbye to the guest when it is dropped.
    async fn linger(&self, guest: Netref<dyn Guest>) -> Result<()>;
}

#[remote]
trait Guest {
    fn hello(&self) -> Result<()>;
}

struct Here;

#[remote]
impl Host for Here {
    fn call_back(&self, to: Netref<dyn Guest>) -> Result<()> {
        to.hello()
    }

    async fn linger(&self, guest: Netref<dyn Guest>) -> Result<()> {
        let _goodbye = Goodbye(guest);
        std::future::pending().await
    }
}

struct Goodbye(Netref<dyn Guest>);

impl Drop for Goodbye {
    fn drop(&mut self) {
        self.0.call().hello().detach();
    }
}

/// Notes the threads on which it was called, and tells of each call.
struct Noting(Mutex<Vec<ThreadId>>, mpsc::Sender<()>);

impl Guest for Noting {
    fn hello(&self) -> Result<()> {
        self.0.lock().unwrap().push(thread::current().id());
        Ok(self.1.send(())?)
    }
}

fn noting() -> (Arc<Noting>, mpsc::Receiver<()>) {
    let (tell, told) = mpsc::channel();
    (Arc::new(Noting(Mutex::default(), tell)), told)
}

async fn host(name: &str) -> (Server, Netref<dyn Host>) {
    let server = Server::of::<dyn Host>(Here);
    let address = server.listen(format!("mem:{name}")).await.unwrap();
    (server, connect(address).await.unwrap().root().await.unwrap())
}

/// Only `.call().wait()` used to be marked as made by a blocked thread; a plain `host.call_back(..)` was not, and
/// its callback ran on the pool.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_blocking_callback_runs_on_the_thread_that_waits() {
    let (_server, host) = host("waiting-callback").await;
    let on_thread = thread::spawn(move || {
        let (guest, _told) = noting();
        host.call_back(Netref::share(&guest)).unwrap();
        host.blocking().call_back(Netref::share(&guest)).unwrap();
        host.call().call_back(Netref::share(&guest)).wait().unwrap();
        assert_eq!(*guest.0.lock().unwrap(), [thread::current().id(); 3]);
    });
    tokio::task::spawn_blocking(|| on_thread.join())
        .await
        .unwrap()
        .unwrap();
}

/// The destructors of a method that is dropped since its time is up used to inherit that time: nothing they sent
/// arrived.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_method_that_runs_out_of_time_can_still_say_goodbye() {
    let (_server, host) = host("waiting-goodbye").await;
    let (guest, told) = noting();
    let error = host
        .call()
        .linger(Netref::share(&guest))
        .timeout(Duration::from_millis(20))
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Deadline);
    tokio::task::spawn_blocking(move || told.recv_timeout(PATIENCE))
        .await
        .unwrap()
        .unwrap();
}

/// The driver used to learn of a deadline only when it woke up for another reason, so that a silent peer could
/// make a call take for ever.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deadline_is_kept_although_the_peer_is_silent() {
    let (go_on, stopped) = mpsc::channel::<()>();
    let (ready, listening) = tokio::sync::oneshot::channel();
    let (silence, silent) = tokio::sync::oneshot::channel::<()>();
    let peer = thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            let (_server, _host) = host("waiting-silent").await;
            ready.send(()).unwrap();
            silent.await.unwrap();
            // The only thread of this runtime: nothing is read or answered from here on.
            let _ = stopped.recv();
        });
    });
    listening.await.unwrap();
    let host: Netref<dyn Host> = connect("mem:waiting-silent").await.unwrap().root().await.unwrap();
    // Idle, so that the driver sleeps.
    tokio::time::sleep(Duration::from_millis(50)).await;
    silence.send(()).unwrap();

    let (guest, _told) = noting();
    let start = Instant::now();
    let call = host
        .call()
        .linger(Netref::share(&guest))
        .timeout(Duration::from_millis(20));
    // Less than the 10 s after which the driver wakes up anyway, to look whether the peer has introduced itself.
    let error = tokio::time::timeout(PATIENCE / 4, call)
        .await
        .expect("the deadline is kept")
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Deadline);
    assert!(start.elapsed() >= Duration::from_millis(20));
    go_on.send(()).unwrap();
    tokio::task::spawn_blocking(|| peer.join())
        .await
        .unwrap()
        .unwrap();
}
