//! What a server logs of hostile peers: who, what and why, and not without end.

use std::fmt::{Debug, Write as _};
use std::future::IntoFuture;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex};

use farref::host::{Exposed, Host};
use farref::{Netref, Server, connect};
use farref_integration_tests::bench::{Bench, Rig};
use farref_integration_tests::media::within;
use farref_integration_tests::raw_peer::{RawPeer, hello};
use tracing::field::{Field, Visit};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};

/// The lines of the log from the level `info` on, each with its level and fields.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<String>>>);

struct Line(String);

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        write!(self.0, " {}={value:?}", field.name()).unwrap();
    }
}

impl<S: tracing::Subscriber> Layer<S> for Lines {
    fn on_event(&self, event: &tracing::Event<'_>, _context: Context<'_, S>) {
        if *event.metadata().level() <= tracing::Level::INFO {
            let mut line = Line(event.metadata().level().to_string());
            event.record(&mut line);
            self.0.lock().unwrap().push(line.0);
        }
    }
}

impl Lines {
    fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().unwrap())
    }
}

/// Runs `test` on one thread, whose log is kept.
fn logged<F: Future<Output = ()>>(test: impl FnOnce(Lines) -> F) {
    let lines = Lines::default();
    let subscriber = tracing_subscriber::registry().with(lines.clone());
    tracing::subscriber::with_default(subscriber, || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.unwrap().block_on(test(lines));
    });
}

/// Each refusal was a line of its own, however many there were.
#[test]
fn a_peer_that_keeps_asking_does_not_fill_the_log_and_hides_nobody_else() {
    logged(async |lines| {
        let server = Server::new(Exposed::nothing());
        let address = within(server.listen("mem:hostile-log")).await.unwrap();
        let join = async || {
            let connection = within(connect(&address).into_future()).await.unwrap();
            let host: Netref<dyn Host> = within(connection.root()).await.unwrap();
            (connection, host)
        };
        let (_one, greedy) = join().await;
        for _ in 0..1000 {
            within(greedy.call().files()).await.unwrap_err();
        }
        let said = lines.take();
        assert_eq!(said.len(), 16, "{said:#?}");
        assert!(
            said.iter()
                .all(|line| line.starts_with("WARN") && line.contains("\"files\""))
        );
        let (_other, quiet) = join().await;
        within(quiet.call().processes()).await.unwrap_err();
        let said = lines.take();
        assert!(said.len() == 1 && said[0].contains("\"processes\""), "{said:#?}");
    });
}

/// The end of a connection was told to nobody who did not look for it, also if its peer had broken the protocol.
#[test]
fn a_breach_is_logged_with_the_peer_and_the_rule_and_so_is_who_is_turned_away() {
    logged(async |lines| {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("socket");
        let server = Server::of::<dyn Bench>(Rig::new().0);
        let address = format!("unix:{}", path.display());
        within(server.listen(address)).await.unwrap();
        let at = path.clone();
        let broken = tokio::task::spawn_blocking(move || {
            let mut peer = RawPeer::dial(&at);
            peer.say(&hello());
            peer.ending()
        });
        let told = within(broken).await.unwrap();
        within(server.wait_for(|stats| stats.accepted == 1 && stats.connections == 0)).await;
        let said = lines.take();
        let [line] = &said[..] else { panic!("{said:#?}") };
        assert!(
            line.starts_with("WARN") && line.contains("second hello") && line.contains("uid"),
            "{line}"
        );
        assert!(
            told.text.contains("second hello"),
            "the peer hears the same: {told}"
        );

        for _ in 0..200 {
            let at = path.clone();
            let stranger = tokio::task::spawn_blocking(move || {
                use std::io::{Read as _, Write as _};
                let mut stream = UnixStream::connect(at).unwrap();
                stream.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
                let _ = stream.read_to_end(&mut Vec::new());
            });
            within(stranger).await.unwrap();
        }
        within(server.wait_for(|stats| stats.refused == 200)).await;
        let said = lines.take();
        assert!(said.len() <= 64, "{} lines", said.len());
        assert!(
            said[0].contains("turned away") && said[0].contains("HTTP"),
            "{}",
            said[0]
        );
    });
}
