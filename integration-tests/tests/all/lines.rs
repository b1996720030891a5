//! Serial lines as they are: slow, noisy, unplugged, and wired wrongly.

use std::future::IntoFuture;
use std::path::Path;
use std::time::Duration;

use farref::keys::{Psk, Trust};
use farref::{Config, Connection, ErrorKind, Netref, Result, Server, connect};
use farref_integration_tests::bench::{Bench, Rig};
use farref_integration_tests::line::{End, Line, LineConfig};
use farref_integration_tests::media::{runtime, within};

fn address(port: &Path) -> String {
    format!("serial:{}", port.display())
}

async fn dialled(port: &Path, patience: Duration) -> Result<Connection> {
    let mut config = Config::default();
    config.setup_timeout = patience;
    config.resume = Some(false); // what becomes of the line itself
    within(connect(address(port)).config(config).into_future()).await
}

async fn adds(connection: &Connection) {
    let bench: Netref<dyn Bench> = within(connection.root()).await.unwrap();
    assert_eq!(within(bench.call().add(20, 22)).await.unwrap(), 42);
}

#[test]
fn a_noisy_line_is_as_good_as_another() {
    let line = Line::new(LineConfig {
        bit_error_rate: 1e-4,
        drop_rate: 1e-4,
        insert_rate: 1e-4,
        break_rate: 1e-5,
        latency: Duration::from_millis(2),
        ..LineConfig::default()
    });
    runtime().block_on(async {
        let server = Server::of::<dyn Bench>(Rig::new().0);
        within(server.listen(address(line.left()))).await.unwrap();
        let connection = dialled(line.right(), Duration::from_secs(60)).await.unwrap();
        let bench: Netref<dyn Bench> = within(connection.root()).await.unwrap();
        let bytes: Vec<u8> = (0..20_000_u32).map(|n| (n * 7 % 251) as u8).collect();
        let echo = bench.call().bytes(bytes.clone().into()).start();
        let desk = within(bench.call().counter()).await.unwrap();
        for number in 1..=10 {
            assert_eq!(within(desk.call().bump()).await.unwrap(), number);
        }
        assert!(within(echo).await.unwrap() == bytes);
        let line = connection.stats().carrier.unwrap();
        assert!(
            line.damaged > 0 && line.repeated > 0,
            "its numbers tell of the noise: {line:?}"
        );
    });
}

#[test]
fn a_line_is_encrypted_for_whoever_has_the_secret() {
    let line = Line::new(LineConfig::default());
    let secret = |byte| Trust::of_psk(Psk::new([byte; 32]));
    let encrypted = |port: &Path| format!("noise+{}", address(port));
    runtime().block_on(async {
        let server = Server::of::<dyn Bench>(Rig::new().0).trust(secret(1));
        within(server.listen(encrypted(line.left()))).await.unwrap();
        let other = within(connect(encrypted(line.right())).trust(secret(2)).into_future()).await;
        assert!(other.is_err());
        let connection = within(connect(encrypted(line.right())).trust(secret(1)).into_future()).await;
        adds(&connection.unwrap()).await;
    });
}

#[test]
fn the_other_side_may_come_late_and_go_and_come_again() {
    let line = Line::new(LineConfig::default());
    runtime().block_on(async {
        // The dialer first.
        let first = async { dialled(line.right(), Duration::from_secs(60)).await };
        let server = async {
            let server = Server::of::<dyn Bench>(Rig::new().0);
            within(server.listen(address(line.left()))).await.unwrap();
            server
        };
        let (connection, server) = tokio::join!(first, server);
        adds(&connection.unwrap()).await;
        // Twice more, each from the beginning; the server has its port all the time.
        for _ in 0..2 {
            let again = dialled(line.right(), Duration::from_secs(60)).await.unwrap();
            adds(&again).await;
            again.close().await;
        }
        drop(server);
    });
}

#[test]
fn a_plug_that_is_pulled_is_noticed_and_one_that_is_put_back_is_found() {
    let line = Line::new(LineConfig::default());
    runtime().block_on(async {
        let server = Server::of::<dyn Bench>(Rig::new().0);
        within(server.listen(address(line.left()))).await.unwrap();
        let connection = dialled(line.right(), Duration::from_secs(60)).await.unwrap();
        adds(&connection).await;
        line.unplug(End::Right);
        let why = within(connection.closed()).await;
        assert!(why.to_string().contains("unplugged"), "{why}");
        assert!(matches!(dialled(line.right(), Duration::from_secs(5)).await, Err(error) if error.kind() == ErrorKind::Carrier));
        line.unplug(End::Left);
        line.replug(End::Left);
        line.replug(End::Right);
        adds(&dialled(line.right(), Duration::from_secs(60)).await.unwrap()).await;
    });
}

#[test]
fn a_session_outlives_a_plug_that_is_pulled() {
    let line = Line::new(LineConfig::default());
    runtime().block_on(async {
        let server = Server::of::<dyn Bench>(Rig::new().0);
        within(server.listen(address(line.left()))).await.unwrap();
        let connection = within(connect(address(line.right())).into_future())
            .await
            .unwrap();
        let bench: Netref<dyn Bench> = within(connection.root()).await.unwrap();
        let desk = within(bench.call().counter()).await.unwrap();
        assert_eq!(within(desk.call().bump()).await.unwrap(), 1);
        line.unplug(End::Right);
        let waiting = desk.call().bump().start();
        line.unplug(End::Left);
        line.replug(End::Left);
        line.replug(End::Right);
        assert_eq!(within(waiting).await.unwrap(), 2);
        assert_eq!(within(desk.call().bump()).await.unwrap(), 3);
    });
}

#[test]
fn what_is_wrong_with_a_line_is_told() {
    let runtime = runtime();
    let fails = |port: &Path, says: &str| {
        let error = runtime
            .block_on(dialled(port, Duration::from_secs(3)))
            .unwrap_err();
        assert!(error.to_string().contains(says), "{says}: {error}");
    };
    let quiet = Line::new(LineConfig::default());
    fails(quiet.right(), "nothing was heard");
    let echo = Line::new(LineConfig {
        echo: true,
        ..LineConfig::default()
    });
    fails(echo.right(), "comes back");
    let absent = Path::new("/dev/no-such-port");
    fails(absent, "/dev/no-such-port");
}
