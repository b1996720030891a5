//! A wire that breaks: what it carries is passed on until so many bytes have gone by, then both ends are cut off.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;

/// A relay in front of a TCP listener.
pub struct Relay {
    /// Where to dial.
    pub address: SocketAddr,
    shared: Arc<Shared>,
    task: tokio::task::JoinHandle<()>,
}

struct Shared {
    /// Bytes until the next cut; never, if negative.
    left: AtomicI64,
    cut: Notify,
    cuts: AtomicU64,
    to: Mutex<SocketAddr>,
}

impl Relay {
    /// In front of `to`; nothing is cut yet.
    pub async fn new(to: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            left: AtomicI64::new(-1),
            cut: Notify::new(),
            cuts: AtomicU64::new(0),
            to: Mutex::new(to),
        });
        let task = {
            let shared = Arc::clone(&shared);
            tokio::spawn(async move {
                while let Ok((near, _)) = listener.accept().await {
                    tokio::spawn(carry(near, Arc::clone(&shared)));
                }
            })
        };
        Self {
            address,
            shared,
            task,
        }
    }

    /// Cuts when that many bytes more have passed, both ways together.
    pub fn cut_after(&self, bytes: u32) {
        self.shared.left.store(i64::from(bytes) + 1, Ordering::SeqCst);
    }

    /// From now on carriers lead elsewhere.
    pub fn lead_to(&self, to: SocketAddr) {
        *self.shared.to.lock().unwrap() = to;
    }

    /// How often it was cut.
    pub fn cuts(&self) -> u64 {
        self.shared.cuts.load(Ordering::SeqCst)
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.shared.cut.notify_waiters();
        self.task.abort();
    }
}

async fn carry(near: TcpStream, shared: Arc<Shared>) {
    let to = *shared.to.lock().unwrap();
    let Ok(far) = TcpStream::connect(to).await else {
        return;
    };
    let _ = (near.set_nodelay(true), far.set_nodelay(true));
    let (near_rx, near_tx) = near.into_split();
    let (far_rx, far_tx) = far.into_split();
    let mut cut = std::pin::pin!(shared.cut.notified());
    cut.as_mut().enable();
    tokio::select! {
        _ = async { tokio::join!(pass(near_rx, far_tx, &shared), pass(far_rx, near_tx, &shared)) } => {}
        () = cut => {}
    }
}

async fn pass(
    mut from: impl AsyncReadExt + Unpin,
    mut to: impl AsyncWriteExt + Unpin,
    shared: &Shared,
) -> io::Result<()> {
    let mut buffer = vec![0; 4096];
    loop {
        let count = from.read(&mut buffer).await?;
        if count == 0 {
            return to.shutdown().await;
        }
        let left = shared.left.load(Ordering::SeqCst);
        let passes = match usize::try_from(left) {
            Ok(left) if left > 0 && count >= left => left - 1,
            _ => count,
        };
        to.write_all(&buffer[..passes]).await?;
        if passes < count {
            shared.left.store(-1, Ordering::SeqCst);
            shared.cuts.fetch_add(1, Ordering::SeqCst);
            shared.cut.notify_waiters();
            return Ok(());
        }
        if left > 0 {
            shared
                .left
                .fetch_sub(i64::try_from(count).unwrap_or(0), Ordering::SeqCst);
        }
    }
}
