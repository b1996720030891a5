//! Two connected sides over every medium, and waits that end.

use std::future::{Future, IntoFuture};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use farref::keys::{Authorized, Identity, Trust};
use farref::transport::Media;
use farref::{
    Config, Connect, Connection, Fixed, Netref, RemoteTrait, Result, Server, ServerLimits, Share, connect,
};

#[cfg(unix)]
use crate::line::{Line, LineConfig};
#[cfg(unix)]
use crate::program::agent;
use crate::rough::Rough;
#[cfg(unix)]
use crate::sshd::Sshd;

/// A server and a client of it, joined.
pub struct Pair {
    pub server: Server,
    pub client: Connection,
    /// Where the socket is.
    directory: Option<tempfile::TempDir>,
    /// The cable.
    #[cfg(unix)]
    _line: Option<Line>,
    #[cfg(unix)]
    _sshd: Option<Sshd>,
}

impl Pair {
    /// The root that the server shows.
    pub async fn root<T: ?Sized + RemoteTrait>(&self) -> Netref<T> {
        within(self.client.root()).await.unwrap()
    }

    /// The server's side of the connection.
    pub async fn host(&self) -> Connection {
        within(self.server.wait_for(|stats| stats.connections > 0)).await;
        self.server.connections().pop().unwrap()
    }

    /// Waits until neither side holds anything of the other but the root, and nothing is under way.
    pub async fn at_rest(&self) {
        let host = self.host().await;
        for (side, connection) in [("client", &self.client), ("server", &host)] {
            let empty = || {
                let stats = connection.stats();
                stats.exports == 0 && stats.calls == 0 && stats.answers == 0
            };
            let rest = async {
                // A round trip behind everything that was sent: what it set off has been handled over there.
                while !empty() {
                    connection.ping().await.unwrap();
                }
            };
            if tokio::time::timeout(PATIENCE, rest).await.is_err() {
                panic!("the {side} still holds {:?}", connection.stats());
            }
        }
    }
}

const PATIENCE: Duration = Duration::from_secs(60);

/// What a test waits for comes within a minute, or the test fails.
pub async fn within<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(PATIENCE, future)
        .await
        .unwrap_or_else(|_| panic!("nothing came within {PATIENCE:?}"))
}

/// Every medium of this build, by address.
pub const MEDIA: [&str; 11] = [
    "mem",
    "mem?buffer=16",
    "mem?mux=1",
    "unix",
    "noise+unix",
    "plain+tcp",
    "tcp",
    "quic",
    "serial",
    "exec",
    "ssh",
];

/// Whether this machine has what a medium needs. Under CI it must have.
pub fn is_there(medium: &str) -> bool {
    match medium {
        #[cfg(unix)]
        "ssh" => Sshd::is_there(),
        _ => cfg!(unix) || !matches!(medium, "unix" | "noise+unix" | "serial" | "exec" | "ssh"),
    }
}

/// Whether a medium is too slow for megabytes.
pub fn is_slow(medium: &str) -> bool {
    medium == "serial"
}

/// A pair over the medium of that name.
pub async fn pair<T: ?Sized + RemoteTrait>(medium: &str, root: impl Share<T>) -> Pair {
    pair_with(medium, Server::of::<T>(root)).await.unwrap()
}

/// A pair in which either side serves a root, with these settings.
pub async fn pair_of<S: ?Sized + RemoteTrait, C: ?Sized + RemoteTrait>(
    medium: &str,
    (server, at_server): (impl Share<S>, Config),
    (client, at_client): (impl Share<C>, Config),
) -> Pair {
    let server = Server::with(
        Fixed::new::<S>(server),
        at_server,
        ServerLimits::default(),
        Media::standard(),
    );
    let with = |connect: Connect| connect.serving::<C>(client).config(at_client);
    connected(medium, server, with).await.unwrap()
}

/// A pair with this server.
pub async fn pair_with(medium: &str, server: Server) -> Result<Pair> {
    connected(medium, server, |connect| connect).await
}

/// A pair over a rough line.
pub async fn rough_pair<T: ?Sized + RemoteTrait>(rough: &Rough, root: impl Share<T>) -> Pair {
    rough_pair_of::<T>(rough, root, Config::default(), Config::default()).await
}

/// A pair over a rough line, with settings of the server and of the client.
pub async fn rough_pair_of<T: ?Sized + RemoteTrait>(
    rough: &Rough,
    root: impl Share<T>,
    at_server: Config,
    at_client: Config,
) -> Pair {
    let root = Fixed::new::<T>(root);
    let server = Server::with(root, at_server, ServerLimits::default(), rough.media());
    let with = |connect: Connect| connect.config(at_client).media(rough.media());
    join("mem:rough", server, with).await.unwrap()
}

/// A listener that lets in nobody but the dialer, whom its address tells which key to expect.
pub fn acquainted() -> (Trust, Trust) {
    let (listener, dialer) = (Identity::generate().unwrap(), Identity::generate().unwrap());
    let authorized = Authorized::keys([dialer.public()]);
    (Trust::new(listener).authorizing(authorized), Trust::new(dialer))
}

async fn connected(medium: &str, server: Server, with: impl FnOnce(Connect) -> Connect) -> Result<Pair> {
    static NAMES: AtomicU64 = AtomicU64::new(0);
    let directory = tempfile::tempdir()?;
    let name = NAMES.fetch_add(1, Ordering::Relaxed);
    let address = match medium.split_once('?') {
        Some(("mem", options)) => format!("mem:test-{name}?{options}"),
        _ => match medium {
            "mem" => format!("mem:test-{name}"),
            "unix" | "noise+unix" => format!("{medium}:{}", directory.path().join("socket").display()),
            "plain+tcp" | "tcp" | "quic" => format!("{medium}://127.0.0.1:0"),
            "serial" | "exec" | "ssh" => String::new(),
            other => panic!("no medium is called {other}"),
        },
    };
    let (at_server, at_client) = acquainted();
    let with = |connect| with(connect).trust(at_client);
    #[cfg(unix)]
    if medium == "serial" {
        // Faster than real ones, as everything is to run over it; still a line that is paced.
        let line = Line::new(LineConfig {
            baud: 12_000_000,
            ..LineConfig::default()
        });
        let [left, right] = [line.left(), line.right()]
            .map(|port| format!("serial:{}?baud=4000000&window=32&payload=1000", port.display()));
        within(server.listen(left)).await?;
        let client = within(with(connect(right)).into_future()).await?;
        return Ok(Pair {
            server,
            client,
            directory: None,
            _line: Some(line),
            _sshd: None,
        });
    }
    #[cfg(unix)]
    if let "exec" | "ssh" = medium {
        // A process that joins its standard input and output with the server's socket.
        let socket = directory.path().join("socket");
        within(server.listen(format!("unix:{}", socket.display()))).await?;
        let (agent, socket) = (
            agent().display().to_string(),
            format!("unix:{}", socket.display()),
        );
        let sshd = if medium == "ssh" { Sshd::start(&[]) } else { None };
        let address = match &sshd {
            Some(sshd) => sshd.address(&format!("{agent} relay {socket}")).to_string(),
            None => format!("exec:{agent}?arg=relay&arg={socket}"),
        };
        let client = within(with(connect(address)).into_future()).await?;
        return Ok(Pair {
            server,
            client,
            directory: Some(directory),
            _line: None,
            _sshd: sshd,
        });
    }
    let mut pair = join(&address, server.trust(at_server), with).await?;
    pair.directory = Some(directory);
    Ok(pair)
}

async fn join(address: &str, server: Server, with: impl FnOnce(Connect) -> Connect) -> Result<Pair> {
    let address = within(server.listen(address)).await?;
    let client = within(with(connect(address)).into_future()).await?;
    Ok(Pair {
        server,
        client,
        directory: None,
        #[cfg(unix)]
        _line: None,
        #[cfg(unix)]
        _sshd: None,
    })
}

/// Runs `run` on a thread that no runtime knows, with a stack for deep nesting. What it waits for comes within a
/// minute, or the test fails.
pub fn on_plain_thread<R: Send + 'static>(run: impl FnOnce() -> R + Send + 'static) -> R {
    let (tell, told) = std::sync::mpsc::channel();
    let thread = std::thread::Builder::new().stack_size(64 << 20);
    let thread = thread.spawn(move || tell.send(run())).unwrap();
    match told.recv_timeout(PATIENCE) {
        Ok(result) => result,
        Err(std::sync::mpsc::RecvTimeoutError::Timeout) => panic!("the thread hangs after {PATIENCE:?}"),
        Err(std::sync::mpsc::RecvTimeoutError::Disconnected) => match thread.join() {
            Err(panic) => std::panic::resume_unwind(panic),
            Ok(_) => panic!("the thread said nothing"),
        },
    }
}

/// Runs a test over every medium, one after the other, on a runtime of two threads.
pub fn over_every_medium<F: Future<Output = ()>>(test: impl Fn(&'static str) -> F) {
    let runtime = runtime();
    for medium in media_here() {
        runtime.block_on(test(medium));
    }
}

/// Every medium that this machine has, one after the other; says which.
pub fn media_here() -> impl Iterator<Item = &'static str> {
    MEDIA.into_iter().filter(|medium| {
        let is_there = is_there(medium);
        if is_there {
            println!("over {medium}");
        } else {
            println!("not over {medium}: tools/test-needs.sh installs what it needs");
        }
        is_there
    })
}

/// A runtime of two threads.
pub fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap()
}
