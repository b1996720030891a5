//! Services and servers: who is let in, how many, and how it ends.

use std::future::IntoFuture;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use farref::{
    Config, Connection, Error, ErrorKind, Netref, Peer, Result, Root, Server, ServerLimits, Service, connect,
    transport::{Media, PeerEvidence},
};
use farref_integration_tests::bench::{Bench, Rig};
use farref_integration_tests::media::{pair, runtime, within};
use tokio::sync::mpsc;

/// Shows a bench to the first two peers, and nothing to others.
struct Doorkeeper {
    let_in: AtomicUsize,
    told: Mutex<mpsc::UnboundedSender<String>>,
}

impl Service for Doorkeeper {
    fn root(&self, peer: &Peer) -> Result<Root> {
        assert!(
            matches!(peer.evidence, PeerEvidence::Unix { .. }),
            "the system says who it is: {peer}"
        );
        if self.let_in.fetch_add(1, Ordering::SeqCst) >= 2 {
            return Err(Error::new(ErrorKind::Denied, "the house is full"));
        }
        Ok(Root::of::<dyn Bench>(&Netref::of(Rig::new().0)))
    }

    fn connected(&self, connection: &Connection) {
        let _ = self
            .told
            .lock()
            .unwrap()
            .send(format!("connected over {}", connection.peer().medium));
    }

    fn disconnected(&self, _peer: &Peer, reason: &Error) {
        let _ = self.told.lock().unwrap().send(format!("disconnected: {reason}"));
    }
}

#[test]
fn a_service_decides_per_peer_and_hears_of_their_coming_and_going() {
    runtime().block_on(async {
        let directory = tempfile::tempdir().unwrap();
        let address = format!("unix:{}", directory.path().join("socket").display());
        let (told, mut tells) = mpsc::unbounded_channel();
        let server = Server::new(Doorkeeper {
            let_in: AtomicUsize::new(0),
            told: Mutex::new(told),
        });
        within(server.listen(&address)).await.unwrap();
        let first = within(connect(&address).into_future()).await.unwrap();
        assert_eq!(within(tells.recv()).await.unwrap(), "connected over unix");
        let _second = within(connect(&address).into_future()).await.unwrap();
        assert!(within(tells.recv()).await.is_some());
        let refused = within(connect(&address).into_future()).await;
        assert!(refused.is_err(), "the third is not let in");
        within(first.close()).await;
        assert!(within(tells.recv()).await.unwrap().starts_with("disconnected: "));
        let stats = within(server.wait_for(|stats| stats.refused == 1 && stats.connections == 1)).await;
        assert_eq!(stats.accepted, 3);
    });
}

#[test]
fn connections_beyond_the_limit_are_turned_away() {
    runtime().block_on(async {
        let mut limits = ServerLimits::default();
        limits.connections = 1;
        let root = farref::Fixed::new::<dyn Bench>(Rig::new().0);
        let server = Server::with(root, Config::default(), limits, Media::standard());
        let address = within(server.listen("plain+tcp://127.0.0.1:0")).await.unwrap();
        let first = within(connect(&address).into_future()).await.unwrap();
        within(server.wait_for(|stats| stats.connections == 1)).await;
        assert!(within(connect(&address).into_future()).await.is_err());
        within(first.close()).await;
        within(server.wait_for(|stats| stats.connections == 0)).await;
        let again = within(connect(&address).into_future()).await.unwrap();
        assert!(within(again.ping()).await.is_ok(), "a place that is free is free");
    });
}

#[test]
fn a_shutdown_lets_calls_end_that_are_under_way() {
    runtime().block_on(async {
        let (rig, _tells, gate) = Rig::new();
        let joined = pair::<dyn Bench>("unix", rig).await;
        let bench: Netref<dyn Bench> = joined.root().await;
        let under_way = bench.call().slow_counter().start();
        assert_eq!(
            within(bench.call().add(1, 1)).await.unwrap(),
            2,
            "the call before it has arrived"
        );
        let server = joined.server;
        let shutdown = tokio::spawn(server.shutdown(Duration::from_secs(50)));
        let refused = async {
            loop {
                if let Err(error) = bench.call().add(1, 1).await {
                    return error;
                }
            }
        };
        let refused = within(refused).await;
        assert!(
            matches!(refused.kind(), ErrorKind::Disconnected(_)),
            "{refused:?}"
        );
        gate.send_replace(true);
        let ended = within(under_way).await;
        assert!(
            ended.is_ok(),
            "what was under way has not ended as it should: {ended:?}, {refused:?}"
        );
        within(shutdown).await.unwrap();
        within(joined.client.closed()).await;
    });
}

#[test]
fn addresses_that_cannot_be_used_say_what_to_write_instead() {
    runtime().block_on(async {
        let error = within(connect("tcp://127.0.0.1:7000").into_future())
            .await
            .unwrap_err();
        let text = error.to_string();
        assert!(
            text.contains("plain+tcp://127.0.0.1:7000") && text.contains("unix:"),
            "{text}"
        );
        let error = within(connect("unx:/run/x").into_future()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Address);
        assert!(error.to_string().contains("unix:"), "{error}");
        let error = within(connect("quic://127.0.0.1:7000").into_future())
            .await
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
        let error = within(connect("unix:/nowhere/at/all").into_future())
            .await
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Carrier, "{error}");
    });
}
