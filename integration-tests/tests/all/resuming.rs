//! How long a session takes to go on once there is another carrier: measured, not judged.
//!
//! `cargo test --release -p farref-integration-tests resuming -- --ignored --nocapture`

use std::future::IntoFuture;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use farref::keys::{Authorized, Identity, Trust};
use farref::transport::{Address, BoxFuture, Carrier, DialError, ListenError, Listener, Media, Transport};
use farref::{Config, Fixed, Netref, Server, ServerLimits, Status, connect};
use farref_integration_tests::bench::{Bench, Rig};
use farref_integration_tests::brittle::Brittle;
use farref_integration_tests::media::{runtime, within};
use farref_integration_tests::relay::Relay;

#[test]
#[ignore = "measures, and says nothing about right and wrong"]
fn how_long_a_session_takes_to_go_on() {
    for scheme in ["plain+tcp", "tcp", "quic"] {
        let mut times = runtime().block_on(resumes(scheme, 300));
        times.sort();
        let at = |part: usize| times[(times.len() - 1) * part / 100];
        println!(
            "{scheme}: from dialled to going on: median {:?}, 90 % {:?}, most {:?}",
            at(50),
            at(90),
            at(100)
        );
    }
}

async fn resumes(scheme: &str, count: u32) -> Vec<Duration> {
    let (listener, dialer) = (Identity::generate().unwrap(), Identity::generate().unwrap());
    let authorized = Authorized::keys([dialer.public()]);
    let brittle = Brittle::default();
    let root = Fixed::new::<dyn Bench>(Rig::new().0);
    let media = brittle.media(listener.clone());
    let server = Server::with(root, Config::default(), ServerLimits::default(), media);
    let server = server.trust(Trust::new(listener).authorizing(authorized));
    let mut address = within(server.listen(format!("{scheme}://127.0.0.1:0")))
        .await
        .unwrap();
    let relay = if scheme == "quic" {
        None
    } else {
        let text = address.to_string();
        let (there, key) = text.split_once("://").unwrap().1.split_once('#').unzip();
        let there = there.unwrap_or_else(|| text.split_once("://").unwrap().1);
        let relay = Relay::new(there.parse().unwrap()).await;
        let key = key.map(|key| format!("#{key}")).unwrap_or_default();
        address = format!("{scheme}://{}{key}", relay.address).parse().unwrap();
        Some(relay)
    };
    let timed = Timed {
        media: brittle.media(dialer.clone()),
        dialled: Arc::default(),
    };
    let dialled = Arc::clone(&timed.dialled);
    let connecting = connect(address)
        .media(Media::none().with(timed))
        .trust(Trust::new(dialer));
    let client = within(connecting.into_future()).await.unwrap();
    let bench: Netref<dyn Bench> = within(client.root()).await.unwrap();
    let mut watch = client.watch();
    assert_eq!(within(watch.next()).await, Status::Up);
    let mut times = Vec::new();
    let carriers = || client.stats().traffic.carriers;
    for _ in 0..count {
        let before = carriers();
        assert_eq!(within(bench.call().add(20, 22)).await.unwrap(), 42);
        let cut = async {
            match &relay {
                Some(relay) => relay.cut_now(),
                None => {
                    drop(bench.call().add(20, 22).start());
                    brittle.cut(0).await;
                }
            }
        };
        within(cut).await;
        while within(watch.next()).await != Status::Up || carriers() == before {}
        times.push(dialled.lock().unwrap().unwrap().elapsed());
    }
    times
}

/// Media that remember when they have last dialled.
struct Timed {
    media: Media,
    dialled: Arc<Mutex<Option<Instant>>>,
}

impl Transport for Timed {
    fn schemes(&self) -> &'static [&'static str] {
        &["tcp", "quic"]
    }

    fn dial<'a>(&'a self, address: &'a Address) -> BoxFuture<'a, Result<Carrier, DialError>> {
        Box::pin(async move {
            let carrier = self.media.dial(address).await?;
            *self.dialled.lock().unwrap() = Some(Instant::now());
            Ok(carrier)
        })
    }

    fn listen<'a>(&'a self, address: &'a Address) -> BoxFuture<'a, Result<Box<dyn Listener>, ListenError>> {
        Box::pin(async move { self.media.listen(address).await })
    }
}
