//! What lies between both processes where that is looked at: a relay that counts bytes, and can cut.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;

use crate::Result;
use crate::client::Server;
use crate::contender::Client;
use crate::job::Job;
use crate::measure::Work;
use crate::meter::Figures;
use crate::workload::Workload;

/// A relay in front of a TCP server.
pub(super) struct Relay {
    /// That of the server, with the port of the relay.
    pub(super) address: String,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    /// Bytes to the server, and from it.
    passed: [AtomicUsize; 2],
    cut: Notify,
}

impl Relay {
    pub(super) async fn start(address: &str) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let at = listener.local_addr()?.to_string();
        // Without a scheme and without a key.
        let far = address.rsplit('/').next().unwrap_or_default();
        let far = far.split('#').next().unwrap_or_default().to_owned();
        let shared = Arc::<Shared>::default();
        let relay = Self {
            address: address.replace(&far, &at),
            shared: Arc::clone(&shared),
        };
        tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                let Ok(far) = TcpStream::connect(&far).await else {
                    return;
                };
                let _ = (near.set_nodelay(true), far.set_nodelay(true));
                let shared = Arc::clone(&shared);
                tokio::spawn(async move {
                    let ((near_rx, near_tx), (far_rx, far_tx)) = (near.into_split(), far.into_split());
                    tokio::select! {
                        () = shared.cut.notified() => {}
                        () = pass(near_rx, far_tx, &shared.passed[0]) => {}
                        () = pass(far_rx, near_tx, &shared.passed[1]) => {}
                    }
                });
            }
        });
        Ok(relay)
    }

    /// Closes what it has open.
    pub(super) fn cut(&self) {
        self.shared.cut.notify_waiters();
    }

    fn passed(&self) -> [usize; 2] {
        self.shared
            .passed
            .each_ref()
            .map(|bytes| bytes.load(Ordering::SeqCst))
    }
}

async fn pass(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, count: &AtomicUsize) {
    let mut buffer = vec![0; 1 << 16];
    while let Ok(read @ 1..) = from.read(&mut buffer).await {
        count.fetch_add(read, Ordering::SeqCst);
        if to.write_all(&buffer[..read]).await.is_err() {
            return;
        }
    }
}

/// How many bytes one round trip of the workload puts on the wire each way.
pub(crate) async fn sizes<C: Client>(job: Job) -> Result<Figures> {
    let server = Server::start(&job)?;
    let relay = Relay::start(&server.address).await?;
    let mut work = Work::new(&job, C::connect(&job, &relay.address).await?);
    let runs = match job.workload {
        Workload::Bytes(_) | Workload::Callbacks | Workload::Structs => 20,
        _ => 2000,
    };
    for _ in 0..20 {
        work.run().await?;
    }
    let before = relay.passed();
    for _ in 0..runs {
        work.run().await?;
    }
    let after = relay.passed();
    let round_trips = (runs * job.workload.round_trips()) as f64 * work.steps() as f64;
    let mut sizes =
        [0, 1].map(|way: usize| ((after[way] - before[way]) as f64 / round_trips).round().max(1.0));
    if job.workload == Workload::Callbacks {
        // There the server asks and the client replies.
        sizes.reverse();
    }
    Ok(Figures::from([
        ("request".into(), sizes[0]),
        ("reply".into(), sizes[1]),
    ]))
}
