//! A wire that breaks: what it carries is passed on until so many bytes have gone by, then both ends are cut off.

use std::collections::{HashMap, HashSet};
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;

/// A relay in front of a listener at an address of that kind.
pub struct Relay<A = SocketAddr> {
    /// Where to dial.
    pub address: A,
    shared: Arc<Shared<A>>,
    task: tokio::task::JoinHandle<()>,
}

struct Shared<A> {
    fuse: Fuse,
    /// How often the ends that lead to the listener were cut off.
    far: watch::Sender<u64>,
    to: Mutex<A>,
}

/// Counts bytes down to the next cut.
pub(crate) struct Fuse {
    /// One more than the bytes that pass before it; never, if negative.
    left: AtomicI64,
    cut: Notify,
    cuts: AtomicU64,
}

impl Default for Fuse {
    fn default() -> Self {
        Self {
            left: AtomicI64::new(-1),
            cut: Notify::new(),
            cuts: AtomicU64::new(0),
        }
    }
}

impl Fuse {
    pub(crate) fn cut_after(&self, bytes: u32) {
        self.left.store(i64::from(bytes) + 1, Ordering::SeqCst);
    }

    /// How many of `count` bytes pass; fewer, and it is cut here.
    pub(crate) fn pass(&self, count: usize) -> usize {
        let signed = i64::try_from(count).unwrap();
        let spent = |left: i64| match left {
            ..=0 => None,
            left if signed >= left => Some(-1),
            left => Some(left - signed),
        };
        match self.left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, spent) {
            Ok(left) if signed >= left => {
                self.blow();
                usize::try_from(left - 1).unwrap()
            }
            _ => count,
        }
    }

    fn blow(&self) {
        self.cuts.fetch_add(1, Ordering::SeqCst);
        self.cut.notify_waiters();
    }

    pub(crate) fn cuts(&self) -> u64 {
        self.cuts.load(Ordering::SeqCst)
    }

    /// Waits for the next cut, from now on: also if it is polled later.
    pub(crate) fn next(&self) -> std::pin::Pin<Box<tokio::sync::futures::Notified<'_>>> {
        let mut cut = Box::pin(self.cut.notified());
        cut.as_mut().enable();
        cut
    }
}

impl<A: Clone> Relay<A> {
    fn over<S: Future<Output = ()> + Send + 'static>(
        address: A,
        to: A,
        serve: impl FnOnce(Arc<Shared<A>>) -> S,
    ) -> Self {
        let shared = Arc::new(Shared {
            fuse: Fuse::default(),
            far: watch::Sender::default(),
            to: Mutex::new(to),
        });
        Self {
            address,
            task: tokio::spawn(serve(Arc::clone(&shared))),
            shared,
        }
    }

    /// Where carriers lead to.
    pub fn leads_to(&self) -> A {
        self.shared.to.lock().unwrap().clone()
    }

    /// Cuts when that many bytes more have passed, both ways together.
    pub fn cut_after(&self, bytes: u32) {
        self.shared.fuse.cut_after(bytes);
    }

    /// Cuts when that many bytes more have passed, and waits for that.
    pub async fn cut(&self, bytes: u32) {
        let cut = self.shared.fuse.next();
        self.cut_after(bytes);
        cut.await;
    }

    /// Cuts here and now.
    pub fn cut_now(&self) {
        self.shared.fuse.blow();
    }

    /// Cuts the ends off that lead to the listener, and keeps the others open without a word. Nothing that is written from now on
    /// comes there.
    pub fn cut_far(&self) {
        self.shared.far.send_modify(|cuts| *cuts += 1);
    }

    /// From now on carriers lead elsewhere.
    pub fn lead_to(&self, to: A) {
        *self.shared.to.lock().unwrap() = to;
    }

    /// How often it was cut.
    pub fn cuts(&self) -> u64 {
        self.shared.fuse.cuts()
    }
}

impl Relay {
    /// In front of the TCP listener at `to`; nothing is cut yet.
    pub async fn new(to: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        Self::over(address, to, async move |shared: Arc<Shared<_>>| {
            let mut carrying = JoinSet::new();
            while let Ok((near, _)) = listener.accept().await {
                carrying.spawn(carry_tcp(near, Arc::clone(&shared)));
            }
        })
    }

    /// In front of the UDP socket at `to`. A cut tells nobody: what has passed until then never passes again.
    pub async fn udp(to: SocketAddr) -> Self {
        let near = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let address = near.local_addr().unwrap();
        Self::over(address, to, |shared| carry_datagrams(Arc::new(near), shared))
    }
}

#[cfg(unix)]
impl Relay<std::path::PathBuf> {
    /// At `address`, in front of the Unix socket at `to`; nothing is cut yet.
    pub async fn unix(address: std::path::PathBuf, to: std::path::PathBuf) -> Self {
        use tokio::net::{UnixListener, UnixStream};

        let listener = UnixListener::bind(&address).unwrap();
        Self::over(address, to, async move |shared: Arc<Shared<_>>| {
            let mut carrying = JoinSet::new();
            while let Ok((near, _)) = listener.accept().await {
                let shared = Arc::clone(&shared);
                carrying.spawn(async move {
                    let to: std::path::PathBuf = shared.to.lock().unwrap().clone();
                    let Ok(far) = UnixStream::connect(to).await else {
                        return;
                    };
                    carry(near.into_split(), far.into_split(), &shared).await;
                });
            }
        })
    }
}

impl<A> Drop for Relay<A> {
    fn drop(&mut self) {
        self.shared.fuse.cut.notify_waiters();
        self.task.abort();
    }
}

async fn carry_tcp(near: TcpStream, shared: Arc<Shared<SocketAddr>>) {
    let to = *shared.to.lock().unwrap();
    let Ok(far) = TcpStream::connect(to).await else {
        return;
    };
    let _ = (near.set_nodelay(true), far.set_nodelay(true));
    carry(near.into_split(), far.into_split(), &shared).await;
}

async fn carry<A>(
    mut near: (impl AsyncRead + Unpin, impl AsyncWrite + Unpin),
    mut far: (impl AsyncRead + Unpin, impl AsyncWrite + Unpin),
    shared: &Shared<A>,
) {
    let cut = shared.fuse.next();
    let fuse = &shared.fuse;
    let mut cuts = shared.far.subscribe();
    let carrying = async {
        let far_is_cut = cuts.clone();
        let far_is_cut = || far_is_cut.has_changed().unwrap_or(true);
        let there = pass(&mut near.0, &mut far.1, fuse, far_is_cut);
        let back = pass(&mut far.0, &mut near.1, fuse, || false);
        tokio::select! {
            biased;
            _ = cuts.changed() => {}
            _ = async { tokio::join!(there, back) } => return,
        }
        drop(far);
        std::future::pending().await
    };
    tokio::select! {
        () = carrying => {}
        () = cut => {}
    }
}

/// Passes bytes on until their end, and then the end; nothing that came after it was cut.
async fn pass(
    from: &mut (impl AsyncRead + Unpin),
    to: &mut (impl AsyncWrite + Unpin),
    fuse: &Fuse,
    is_cut: impl Fn() -> bool,
) -> io::Result<()> {
    let mut buffer = vec![0; 4096];
    loop {
        let read = from.read(&mut buffer).await;
        if is_cut() {
            return std::future::pending().await;
        }
        let Ok(count @ 1..) = read else {
            return to.shutdown().await;
        };
        let passes = fuse.pass(count);
        to.write_all(&buffer[..passes]).await?;
        if passes < count {
            return Ok(());
        }
    }
}

/// One way there and back for each who has sent something; none any more for whom was cut off.
async fn carry_datagrams(near: Arc<UdpSocket>, shared: Arc<Shared<SocketAddr>>) {
    let mut ways: HashMap<SocketAddr, Arc<UdpSocket>> = HashMap::new();
    let mut dead = HashSet::new();
    let mut backward = JoinSet::new();
    let mut buffer = vec![0; 65_536];
    let mut cut = shared.fuse.next();
    loop {
        let received = tokio::select! {
            biased;
            () = &mut cut => {
                cut = shared.fuse.next();
                dead.extend(ways.drain().map(|(from, _)| from));
                backward.abort_all();
                continue;
            }
            received = near.recv_from(&mut buffer) => received,
        };
        let Ok((count, from)) = received else { continue };
        if dead.contains(&from) {
            continue;
        }
        let far = match ways.get(&from) {
            Some(far) => Arc::clone(far),
            None => {
                let to = *shared.to.lock().unwrap();
                let far = Arc::new(UdpSocket::bind("127.0.0.1:0").await.unwrap());
                far.connect(to).await.unwrap();
                ways.insert(from, Arc::clone(&far));
                let (near, shared, back) = (Arc::clone(&near), Arc::clone(&shared), Arc::clone(&far));
                backward.spawn(async move {
                    let mut buffer = vec![0; 65_536];
                    loop {
                        let Ok(count) = back.recv(&mut buffer).await else {
                            continue;
                        };
                        if shared.fuse.pass(count) < count {
                            return;
                        }
                        let _ = near.send_to(&buffer[..count], from).await;
                    }
                });
                far
            }
        };
        if shared.fuse.pass(count) == count {
            let _ = far.send(&buffer[..count]).await;
        }
    }
}
