//! Bounds of servers: how many peers, how many calls, how much memory, for how long, and in which process.

use std::future::IntoFuture;
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::process::Stdio;
use std::sync::{Mutex, mpsc};
use std::time::Duration;

use bytes::Bytes;
use farref::isolated::Isolated;
use farref::keys::{Authorized, Identity, KnownPeers, Trust};
use farref::transport::{Address, Media};
use farref::{
    Config, Connection, Error, ErrorKind, Fixed, Netref, Peer, Result, Root, Server, ServerLimits, Service,
    connect, remote,
};
use farref_integration_tests::media::{runtime, within};
use farref_integration_tests::program::{Whereabouts, agent};
use tokio::process::Command;
use tokio::sync::Semaphore;

#[remote]
trait Hall {
    async fn wait(&self) -> Result<()>;
    async fn weigh(&self, load: Bytes) -> Result<usize>;
}

struct Open(&'static Semaphore);

#[remote]
impl Hall for Open {
    async fn wait(&self) -> Result<()> {
        let pass = self
            .0
            .acquire()
            .await
            .map_err(|error| Error::msg(error.to_string()))?;
        pass.forget();
        Ok(())
    }

    async fn weigh(&self, load: Bytes) -> Result<usize> {
        Ok(load.len())
    }
}

static NOBODY_WAITS: Semaphore = Semaphore::const_new(0);

fn server(gate: &'static Semaphore, change: impl FnOnce(&mut ServerLimits)) -> Server {
    let mut limits = ServerLimits::default();
    change(&mut limits);
    let service = Fixed::new::<dyn Hall>(Open(gate));
    Server::with(service, Config::default(), limits, Media::standard())
}

async fn join(address: &Address) -> Result<Connection> {
    within(connect(address).into_future()).await
}

#[track_caller]
fn refused<T: std::fmt::Debug>(outcome: Result<T>, kind: ErrorKind, text: &str) {
    let error = outcome.unwrap_err();
    assert_eq!(error.kind(), kind, "{error}");
    assert!(error.message().contains(text), "{error}");
}

#[test]
fn one_address_of_a_network_has_no_more_connections_than_it_may() {
    runtime().block_on(async {
        let server = server(&NOBODY_WAITS, |limits| limits.connections_per_source = 2);
        let address = within(server.listen("plain+tcp://127.0.0.1:0")).await.unwrap();
        let other = within(server.listen("mem:bounds-per-source")).await.unwrap();
        let first = join(&address).await.unwrap();
        let second = join(&address).await.unwrap();
        within(server.wait_for(|stats| stats.connections == 2)).await;
        refused(join(&address).await, ErrorKind::Denied, "from this address");
        // What comes by no network has no such address.
        let third = join(&other).await.unwrap();
        within(first.close()).await;
        within(server.wait_for(|stats| stats.connections == 2)).await;
        let fourth = join(&address).await.unwrap();
        drop((second, third, fourth));
    });
}

#[test]
fn a_server_for_one_connection_is_at_its_end_with_that() {
    runtime().block_on(async {
        let server = server(&NOBODY_WAITS, |limits| limits.in_all = Some(1));
        let address = within(server.listen("plain+tcp://127.0.0.1:0")).await.unwrap();
        let only = join(&address).await.unwrap();
        refused(join(&address).await, ErrorKind::Denied, "has had them");
        let closed = server.closed();
        let mut closed = std::pin::pin!(closed);
        let early = tokio::time::timeout(Duration::ZERO, closed.as_mut()).await;
        assert!(early.is_err(), "the one connection is still open");
        within(only.close()).await;
        within(closed).await;
    });
}

#[test]
fn calls_of_all_peers_together_are_bounded() {
    static GATE: Semaphore = Semaphore::const_new(0);
    runtime().block_on(async {
        let server = server(&GATE, |limits| limits.calls = Some(2));
        let address = within(server.listen("mem:bounds-calls")).await.unwrap();
        let (one, two) = (join(&address).await.unwrap(), join(&address).await.unwrap());
        let first: Netref<dyn Hall> = one.root().await.unwrap();
        let second: Netref<dyn Hall> = two.root().await.unwrap();
        let waiting = (first.call().wait().start(), second.call().wait().start());
        // Behind them on each connection: they are under way.
        let (_, _) = (
            within(one.ping()).await.unwrap(),
            within(two.ping()).await.unwrap(),
        );
        let outcome = within(second.call().weigh(Bytes::new())).await;
        refused(outcome, ErrorKind::Overloaded, "2 calls under way");
        GATE.add_permits(2);
        within(waiting.0).await.unwrap();
        within(waiting.1).await.unwrap();
        assert_eq!(within(second.call().weigh(Bytes::new())).await.unwrap(), 0);
        drop(server);
    });
}

#[test]
fn a_peer_has_its_share_of_the_memory_and_no_more() {
    runtime().block_on(async {
        let server = server(&NOBODY_WAITS, |limits| {
            limits.memory = Some(8 << 20);
            limits.connections = 1;
        });
        let address = within(server.listen("mem:bounds-memory")).await.unwrap();
        let connection = join(&address).await.unwrap();
        let hall: Netref<dyn Hall> = connection.root().await.unwrap();
        let load = |bytes: usize| Bytes::from(vec![0; bytes]);
        assert_eq!(within(hall.call().weigh(load(1 << 20))).await.unwrap(), 1 << 20);
        refused(
            within(hall.call().weigh(load(3 << 20))).await,
            ErrorKind::Limit,
            "",
        );
        assert_eq!(within(hall.call().weigh(load(0))).await.unwrap(), 0);
    });
}

#[test]
fn a_peer_whose_key_is_taken_out_is_gone_with_the_next_reload() {
    runtime().block_on(async {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("authorized_peers");
        let (stays, goes) = (Identity::generate().unwrap(), Identity::generate().unwrap());
        std::fs::write(&path, format!("{}\n{}\n", stays.public(), goes.public())).unwrap();
        let own = Trust::new(Identity::generate().unwrap()).authorizing(Authorized::file(&path));
        let server = server(&NOBODY_WAITS, |_| {}).trust(own);
        let address = within(server.listen("tcp://127.0.0.1:0")).await.unwrap();
        let join = |identity: &Identity| {
            let trust = Trust::new(identity.clone()).knowing(KnownPeers::none());
            within(connect(&address).trust(trust).into_future())
        };
        let (staying, going) = (join(&stays).await.unwrap(), join(&goes).await.unwrap());
        within(server.wait_for(|stats| stats.connections == 2)).await;
        assert_eq!(within(server.reload()).await, 0, "nothing has changed");
        std::fs::write(&path, format!("{}\n", stays.public())).unwrap();
        assert_eq!(within(server.reload()).await, 1);
        within(going.closed()).await;
        within(staying.ping()).await.unwrap();
        refused(join(&goes).await, ErrorKind::Denied, "authorized_peers");
        // Other rights than it got: it has to come again.
        std::fs::write(&path, format!("readonly {}\n", stays.public())).unwrap();
        assert_eq!(within(server.reload()).await, 1);
        within(staying.closed()).await;
    });
}

/// Lets a peer in when the test says so.
struct Porter {
    asked: mpsc::Sender<()>,
    go: Mutex<mpsc::Receiver<()>>,
}

impl Service for Porter {
    fn root(&self, _: &Peer) -> Result<Root> {
        self.asked.send(()).unwrap();
        self.go.lock().unwrap().recv().unwrap();
        Ok(Root::of(&Netref::<dyn Hall>::of(Open(&NOBODY_WAITS))))
    }
}

/// Whoever was looked up before a reload, and was in after it, kept rights that had been withdrawn.
#[test]
fn a_reload_goes_for_those_who_are_on_their_way_in() {
    runtime().block_on(async {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("authorized_peers");
        let goes = Identity::generate().unwrap();
        std::fs::write(&path, format!("{}\n", goes.public())).unwrap();
        let own = Trust::new(Identity::generate().unwrap()).authorizing(Authorized::file(&path));
        let ((asked, was_asked), (go, may_go)) = (mpsc::channel(), mpsc::channel());
        let go_when = Mutex::new(may_go);
        let server = Server::new(Porter { asked, go: go_when }).trust(own);
        let address = within(server.listen("tcp://127.0.0.1:0")).await.unwrap();
        let trust = Trust::new(goes).knowing(KnownPeers::none());
        let joining = tokio::spawn(connect(&address).trust(trust).into_future());
        let asked = tokio::task::spawn_blocking(move || was_asked.recv());
        within(asked).await.unwrap().unwrap();
        std::fs::write(&path, "").unwrap();
        assert_eq!(within(server.reload()).await, 0, "nobody is in");
        go.send(()).unwrap();
        match within(joining).await.unwrap() {
            Ok(connection) => drop(within(connection.closed()).await),
            Err(error) => assert_ne!(error.kind(), ErrorKind::Misuse, "{error}"),
        }
        within(server.wait_for(|stats| stats.opening == 0 && stats.connections == 0)).await;
    });
}

async fn pid(connection: &Connection) -> u32 {
    let whereabouts: Netref<dyn Whereabouts> = within(connection.root()).await.unwrap();
    within(whereabouts.call().pid()).await.unwrap()
}

#[test]
fn sockets_that_a_supervisor_has_opened_are_listened_on() {
    runtime().block_on(async {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("socket");
        let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
        let unix = UnixListener::bind(&path).unwrap();
        let address: Address = format!("plain+tcp://{}", tcp.local_addr().unwrap())
            .parse()
            .unwrap();
        // As systemd does it: from the third descriptor on, told by the environment.
        let line = "exec 3<&0 4<&1 0</dev/null 1>/dev/null; LISTEN_FDS=2 LISTEN_PID=$$ exec \"$0\" activated";
        let mut child = Command::new("sh")
            .args(["-c", line])
            .arg(agent())
            .stdin(OwnedFd::from(tcp))
            .stdout(OwnedFd::from(unix))
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let by_tcp = join(&address).await.unwrap();
        let by_unix = join(&Address::unix(path.to_str().unwrap()).unwrap())
            .await
            .unwrap();
        let expected = child.id().unwrap();
        assert_eq!((pid(&by_tcp).await, pid(&by_unix).await), (expected, expected));
        let whereabouts: Netref<dyn Whereabouts> = by_tcp.root().await.unwrap();
        assert_eq!(within(whereabouts.call().sockets_of_a_child()).await.unwrap(), 0);
        child.kill().await.unwrap();
    });
}

#[test]
fn each_connection_has_a_process_of_its_own() {
    runtime().block_on(async {
        let directory = tempfile::tempdir().unwrap();
        for address in [
            "plain+tcp://127.0.0.1:0",
            &format!("unix:{}/socket", directory.path().display()),
        ] {
            let mut limits = ServerLimits::default();
            limits.in_all = Some(3);
            let command = || {
                let mut command = Command::new(agent());
                command.arg("inetd").stderr(Stdio::inherit());
                command
            };
            let mut isolated = within(Isolated::listen(address, limits, command)).await.unwrap();
            let address = isolated.address().clone();
            let serving = tokio::spawn(async move { isolated.serve().await });
            let (one, two) = (join(&address).await.unwrap(), join(&address).await.unwrap());
            let (first, second) = (pid(&one).await, pid(&two).await);
            assert!(first != second && first != std::process::id(), "{first} {second}");
            // What kills one is nothing to the other.
            let whereabouts: Netref<dyn Whereabouts> = one.root().await.unwrap();
            let died = within(whereabouts.call().abort()).await.unwrap_err();
            assert!(matches!(died.kind(), ErrorKind::Disconnected(_)), "{died}");
            assert_eq!(pid(&two).await, second);
            let three = join(&address).await.unwrap();
            assert!(![first, second].contains(&pid(&three).await));
            drop((whereabouts, one));
            within(two.close()).await;
            within(three.close()).await;
            within(serving).await.unwrap().unwrap();
        }
    });
}

#[test]
fn a_child_that_cannot_be_started_is_a_connection_that_ends() {
    runtime().block_on(async {
        let command = || Command::new("/nowhere/at/all");
        let limits = ServerLimits::default();
        let listening = Isolated::listen("plain+tcp://127.0.0.1:0", limits, command);
        let mut isolated = within(listening).await.unwrap();
        let address = isolated.address().clone();
        let serving = tokio::spawn(async move { isolated.serve().await });
        join(&address).await.unwrap_err();
        serving.abort();
        let wrong = Isolated::listen("mem:isolated", ServerLimits::default(), command);
        let error = within(wrong).await.unwrap_err();
        assert!(error.message().contains("tcp and unix"), "{error}");
    });
}
