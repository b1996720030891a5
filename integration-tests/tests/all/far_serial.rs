//! Serial ports of the machine over there: read and written, used as a medium, and by programs that know nothing of it.

use std::future::IntoFuture;
use std::io::{self, Read, Write};
use std::path::Path;
use std::time::Duration;

use farref::keys::{Psk, Trust};
use farref::serial_ports::{self, SerialPorts, Settings};
use farref::stream::Sender;
use farref::{ByteStream, Connection, Netref, Server, connect};
use farref_integration_tests::bench::{Bench, Rig};
use farref_integration_tests::line::{End, Line, LineConfig};
use farref_integration_tests::media::{Pair, pair, runtime, within};
use tokio::io::AsyncReadExt;

/// A line whose right end is at the machine over there.
fn on_a_line<F: Future<Output = ()>>(
    config: LineConfig,
    test: impl FnOnce(Line, Pair, Netref<dyn SerialPorts>) -> F,
) {
    let line = Line::new(config);
    runtime().block_on(async {
        let pair = pair::<dyn SerialPorts>("unix", serial_ports::share()).await;
        let ports = pair.root().await;
        test(line, pair, ports).await;
    });
}

fn name(port: &Path) -> String {
    port.display().to_string()
}

fn address(port: &Path) -> String {
    format!("serial:{}", port.display())
}

async fn open(
    ports: &Netref<dyn SerialPorts>,
    port: &Path,
) -> io::Result<(Sender<bytes::Bytes>, ByteStream)> {
    let (sender, bytes) = ByteStream::channel(1);
    let received = within(ports.call().open(name(port), Settings::default(), bytes)).await?;
    Ok((sender, received))
}

/// Opens a port that somebody may just have closed.
async fn open_again(ports: &Netref<dyn SerialPorts>, port: &Path) -> (Sender<bytes::Bytes>, ByteStream) {
    within(async {
        loop {
            if let Ok(opened) = open(ports, port).await {
                return opened;
            }
        }
    })
    .await
}

async fn adds(connection: &Connection) {
    let bench: Netref<dyn Bench> = within(connection.root()).await.unwrap();
    assert_eq!(within(bench.call().add(20, 22)).await.unwrap(), 42);
}

#[test]
fn a_port_is_read_and_written_and_closed_again() {
    on_a_line(LineConfig::default(), async |line, pair, ports| {
        let (mut near, mut heard_near) = open(&ports, line.left()).await.unwrap();
        let (mut far, mut heard_far) = open(&ports, line.right()).await.unwrap();
        let mut heard = [0; 5];
        for _ in 0..3 {
            within(near.send("hello".into())).await.unwrap();
            within(heard_far.read_exact(&mut heard)).await.unwrap();
            assert_eq!(&heard, b"hello");
            within(far.send("world".into())).await.unwrap();
            within(heard_near.read_exact(&mut heard)).await.unwrap();
            assert_eq!(&heard, b"world");
        }
        let busy = open(&ports, line.right()).await.map(drop).unwrap_err();
        assert_eq!(busy.kind(), io::ErrorKind::ResourceBusy, "{busy}");
        // Who sends no more still hears.
        drop(far);
        within(near.send("hello".into())).await.unwrap();
        within(heard_far.read_exact(&mut heard)).await.unwrap();
        assert_eq!(&heard, b"hello");
        drop(heard_far);
        drop(open_again(&ports, line.right()).await);
        drop((near, heard_near, ports));
        pair.at_rest().await;
    });
}

#[test]
fn what_cannot_be_opened_says_why() {
    on_a_line(LineConfig::default(), async |line, _pair, ports| {
        let missing = open(&ports, Path::new("/dev/no-such-port"))
            .await
            .map(drop)
            .unwrap_err();
        assert_eq!(missing.kind(), io::ErrorKind::NotFound, "{missing}");
        let no_port = open(&ports, Path::new("/etc/passwd"))
            .await
            .map(drop)
            .unwrap_err();
        assert!(no_port.to_string().contains("no serial port"), "{no_port}");
        let unknown = open(&ports, Path::new("usb(ffff:ffff)"))
            .await
            .map(drop)
            .unwrap_err();
        assert_eq!(unknown.kind(), io::ErrorKind::NotFound, "{unknown}");
        let odd = Settings::default().data_bits(12);
        let (_sender, bytes) = ByteStream::channel(1);
        let odd = within(ports.call().open(name(line.left()), odd, bytes))
            .await
            .map(drop)
            .unwrap_err();
        assert_eq!(odd.kind(), io::ErrorKind::InvalidInput, "{odd}");
        // Whichever there are.
        within(ports.call().list()).await.unwrap();
    });
}

#[test]
fn ports_that_are_not_exposed_are_denied() {
    let line = Line::new(LineConfig::default());
    runtime().block_on(async {
        let only = serial_ports::share_only([name(line.left())]);
        let pair = pair::<dyn SerialPorts>("unix", only).await;
        let ports: Netref<dyn SerialPorts> = pair.root().await;
        let dotted = line.left().parent().unwrap().join("./left");
        for other in [line.right(), &dotted] {
            let denied = open(&ports, other).await.map(drop).unwrap_err();
            assert_eq!(denied.kind(), io::ErrorKind::PermissionDenied, "{denied}");
        }
        assert!(within(ports.call().list()).await.unwrap().is_empty());
        open(&ports, line.left()).await.unwrap();
    });
}

#[test]
fn a_port_that_is_unplugged_ends_what_is_read() {
    on_a_line(LineConfig::default(), async |line, _pair, ports| {
        let (_sender, mut heard) = open(&ports, line.right()).await.unwrap();
        line.unplug(End::Right);
        let end = within(heard.next()).await;
        assert!(end.is_none_or(|read| read.is_err()));
    });
}

#[test]
fn a_connection_is_made_through_a_port_over_there() {
    let noisy = LineConfig {
        bit_error_rate: 1e-4,
        drop_rate: 1e-4,
        latency: Duration::from_millis(2),
        ..LineConfig::default()
    };
    on_a_line(noisy, async |line, pair, ports| {
        let server = Server::of::<dyn Bench>(Rig::new().0);
        within(server.listen(address(line.left()))).await.unwrap();
        let connect = connect(address(line.right())).media(serial_ports::media(&ports));
        let connection = within(connect.into_future()).await.unwrap();
        adds(&connection).await;
        let bench: Netref<dyn Bench> = within(connection.root()).await.unwrap();
        let bytes: Vec<u8> = (0..5_000_u32).map(|n| (n * 7 % 251) as u8).collect();
        let echo = within(bench.call().bytes(bytes.clone().into())).await.unwrap();
        assert!(echo == bytes);
        within(connection.close()).await;
        drop((bench, connection));
        drop(open_again(&ports, line.right()).await);
        drop(ports);
        pair.at_rest().await;
    });
}

#[test]
fn the_machine_in_between_does_not_read_what_is_encrypted() {
    on_a_line(LineConfig::default(), async |line, _pair, ports| {
        let secret = || Trust::of_psk(Psk::new([1; 32]));
        let encrypted = |port: &Path| format!("noise+{}", address(port));
        let server = Server::of::<dyn Bench>(Rig::new().0).trust(secret());
        within(server.listen(encrypted(line.left()))).await.unwrap();
        let connect = connect(encrypted(line.right())).media(serial_ports::media(&ports));
        let connection = within(connect.trust(secret()).into_future()).await.unwrap();
        adds(&connection).await;
    });
}

#[test]
fn any_program_opens_a_port_over_there_as_a_terminal() {
    on_a_line(LineConfig::default(), async |line, _pair, ports| {
        let bridge = within(serial_ports::bridge(
            &ports,
            &name(line.right()),
            Settings::default(),
        ))
        .await
        .unwrap();
        let path = bridge.path().to_owned();
        let (mut near, mut heard) = open(&ports, line.left()).await.unwrap();
        let says: Vec<u8> = (0..=255).collect();
        let said = says.clone();
        let program = std::thread::spawn(move || {
            let mut terminal = std::fs::OpenOptions::new()
                .read(true)
                .write(true)
                .open(path)
                .unwrap();
            let mut heard = vec![0; said.len()];
            terminal.read_exact(&mut heard).unwrap();
            terminal.write_all(&heard).unwrap();
            heard == said
        });
        within(near.send(says.clone().into())).await.unwrap();
        let mut echo = vec![0; says.len()];
        within(heard.read_exact(&mut echo)).await.unwrap();
        assert!(echo == says);
        assert!(program.join().unwrap());
        drop(bridge);
        drop(open_again(&ports, line.right()).await);
    });
}

#[test]
fn a_terminal_ends_when_its_port_is_gone() {
    on_a_line(LineConfig::default(), async |line, _pair, ports| {
        let mut bridge = within(serial_ports::bridge(
            &ports,
            &name(line.right()),
            Settings::default(),
        ))
        .await
        .unwrap();
        line.unplug(End::Right);
        within(bridge.ended()).await;
    });
}
