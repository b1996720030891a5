//! Unix sockets: between processes of one machine, where the system vouches for the peer's account.
//!
//! Knows the life of the socket file: made with its mode before anyone can connect, replaced if nobody
//! listens behind it, removed with the listener if it is still its own. `unix:@NAME` has no file
//! (Linux); every account of the machine may dial that.
//!
//! | option  | default | meaning                                                                  |
//! |---------|---------|--------------------------------------------------------------------------|
//! | `mode=` | 0600    | permissions of the file, octal; dialling needs the right to write         |

use std::fs::{self, File, Permissions, TryLockError};
use std::future::poll_fn;
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net;
use std::path::{Path, PathBuf};
use std::time::Duration;

use socket2::{Domain, SockAddr, SockRef, Socket, Type};
use tokio::net::{UnixListener, UnixStream};

use crate::address::{Address, Target, UnixName};
use crate::carrier::{BoxFuture, Carrier, CarrierInfo, PeerEvidence, StreamCarrier};
use crate::error::{AcceptError, DialError, ListenError};
use crate::medium::{Listener, Transport};
use crate::socket::{accept_error, check_runtime, halves};

/// Bytes of a fragment: a small message waits for one of a large message, and for this one less than 50 µs.
const FRAGMENT: u32 = 64 * 1024;
/// What a socket is asked to hold, in bytes, of which the system makes twice as much; of more than it allows, which is 208 KiB on
/// most, it takes that. With half of it a large message has to wait for its reader too often, with twice as much the caches
/// do not hold it.
const SEND_BUFFER: usize = 416 * 1024;

/// The medium `unix`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Unix(());

impl Unix {
    /// Unix sockets, as the system has them.
    #[must_use]
    pub const fn new() -> Self {
        Self(())
    }
}

impl Transport for Unix {
    fn schemes(&self) -> &'static [&'static str] {
        &["unix"]
    }

    fn dial<'a>(&'a self, address: &'a Address) -> BoxFuture<'a, Result<Carrier, DialError>> {
        Box::pin(async move {
            check_runtime().map_err(|source| DialError::System {
                address: Box::new(address.clone()),
                source,
            })?;
            let name = name(address).map_err(|source| DialError::from_io(address, source))?;
            let at = socket_address(name).map_err(|source| DialError::from_io(address, source))?;
            let stream = connect(&at).await.map_err(|source| match source.kind() {
                io::ErrorKind::WouldBlock => DialError::Busy {
                    address: Box::new(address.clone()),
                },
                // The directory is right; the file comes and goes with whoever listens.
                io::ErrorKind::NotFound if parent(name).is_some_and(|parent| parent.is_dir()) => {
                    DialError::NotListening {
                        address: Box::new(address.clone()),
                        source,
                    }
                }
                _ => DialError::from_io(address, source),
            })?;
            let mut info = info(&stream);
            info.remote = Some(address.clone());
            Ok(carrier(stream, info))
        })
    }

    fn listen<'a>(&'a self, address: &'a Address) -> BoxFuture<'a, Result<Box<dyn Listener>, ListenError>> {
        Box::pin(async move {
            check_runtime().map_err(|source| ListenError::System {
                address: Box::new(address.clone()),
                source,
            })?;
            Ok(Box::new(bind_at(address).await?) as Box<dyn Listener>)
        })
    }
}

/// Listens at a name.
pub(crate) async fn bind_at(address: &Address) -> Result<Listening, ListenError> {
    let failed = |source| ListenError::from_io(address, source);
    let name = name(address).map_err(failed)?;
    let (socket, file) = match name {
        UnixName::Abstract(_) => (
            bind(&socket_address(name).map_err(failed)?, None).map_err(failed)?,
            None,
        ),
        UnixName::Path(path) => {
            let (socket, file) = bind_file(Path::new(path), mode(address)).await.map_err(failed)?;
            (socket, Some(file))
        }
    };
    let socket = UnixListener::from_std(socket).map_err(failed)?;
    let address = Some(address.clone().without_options());
    Ok(Listening {
        _file: file,
        socket,
        address,
    })
}

/// Listens by a socket that somebody else has opened, whose file is that one's affair.
#[cfg(feature = "activation")]
pub(crate) fn adopt(socket: net::UnixListener) -> io::Result<Box<dyn Listener>> {
    socket.set_nonblocking(true)?;
    let address = socket
        .local_addr()?
        .as_pathname()
        .and_then(Path::to_str)
        .map(Address::unix);
    Ok(Box::new(Listening {
        _file: None,
        address: address.and_then(Result::ok),
        socket: UnixListener::from_std(socket)?,
    }))
}

/// A connection that somebody else has accepted.
#[cfg(feature = "activation")]
pub(crate) fn accepted(stream: UnixStream) -> Carrier {
    let info = info(&stream);
    carrier(stream, info)
}

pub(crate) struct Listening {
    /// Goes first: once the file is gone nobody comes to a socket that is about to close.
    _file: Option<SocketFile>,
    socket: UnixListener,
    /// Where it listens, unless somebody else has opened it and it has no name.
    address: Option<Address>,
}

#[cfg(feature = "activation")]
impl Listening {
    pub(crate) fn poll_accept(
        &self,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<io::Result<UnixStream>> {
        self.socket.poll_accept(cx).map_ok(|(stream, _)| stream)
    }
}

impl Listener for Listening {
    fn accept(&mut self) -> BoxFuture<'_, Result<Carrier, AcceptError>> {
        // Cancel-safe: the only wait is that of `poll_accept`, and a socket leaves it in the poll in which
        // this future is ready.
        Box::pin(async {
            let (stream, _) = poll_fn(|cx| self.socket.poll_accept(cx))
                .await
                .map_err(accept_error)?;
            let mut info = info(&stream);
            info.local.clone_from(&self.address);
            Ok(carrier(stream, info))
        })
    }

    fn local_addresses(&self) -> Vec<Address> {
        self.address.iter().cloned().collect()
    }
}

/// The file of a socket that listens.
///
/// # Invariant
///
/// Removed on drop only if it is still the one that was made here: another listener may have taken
/// the path over.
struct SocketFile {
    path: PathBuf,
    device: u64,
    inode: u64,
}

impl SocketFile {
    fn at(path: &Path) -> io::Result<Self> {
        let found = fs::symlink_metadata(path)?;
        // The path is followed from where the program was when it listened.
        let path = std::path::absolute(path)?;
        Ok(Self {
            path,
            device: found.dev(),
            inode: found.ino(),
        })
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if fs::symlink_metadata(&self.path)
            .is_ok_and(|found| (found.dev(), found.ino()) == (self.device, self.inode))
        {
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn carrier(stream: UnixStream, info: CarrierInfo) -> Carrier {
    let socket = SockRef::from(&stream);
    // Without it, it is slower and nothing else.
    if socket.send_buffer_size().is_ok_and(|size| size <= SEND_BUFFER) {
        let _ = socket.set_send_buffer_size(SEND_BUFFER);
    }
    let (rx, tx) = halves(stream);
    StreamCarrier::new(rx, tx, info).into()
}

fn info(stream: &UnixStream) -> CarrierInfo {
    let mut info = CarrierInfo::new("unix");
    info.confidential = true;
    info.fragment_hint = FRAGMENT;
    if let Ok(peer) = stream.peer_cred() {
        let pid = peer.pid().and_then(|pid| u32::try_from(pid).ok());
        info.peer = PeerEvidence::Unix {
            uid: peer.uid(),
            gid: peer.gid(),
            pid,
        };
    }
    info
}

fn name(address: &Address) -> io::Result<&UnixName> {
    match address.target() {
        Target::Unix(name) => Ok(name),
        _ => Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "not an address of a Unix socket",
        )),
    }
}

fn mode(address: &Address) -> u32 {
    address
        .option("mode")
        .and_then(|mode| u32::from_str_radix(mode, 8).ok())
        .unwrap_or(0o600)
}

fn socket_address(name: &UnixName) -> io::Result<SockAddr> {
    match name {
        UnixName::Path(path) => SockAddr::unix(path),
        UnixName::Abstract(name) if cfg!(any(target_os = "linux", target_os = "android")) => {
            SockAddr::unix(format!("\0{name}"))
        }
        UnixName::Abstract(_) => Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "sockets without a file exist on Linux only",
        )),
    }
}

fn parent(name: &UnixName) -> Option<&Path> {
    match name {
        UnixName::Path(path) => directory(Path::new(path)),
        UnixName::Abstract(_) => None,
    }
}

fn directory(path: &Path) -> Option<&Path> {
    let parent = path.parent()?;
    Some(if parent.as_os_str().is_empty() {
        Path::new(".")
    } else {
        parent
    })
}

/// Connects, waiting a while for a listener whose backlog is full: Linux says so at once instead of
/// waiting as it does for TCP.
async fn connect(at: &SockAddr) -> io::Result<UnixStream> {
    let mut pause = Duration::from_millis(1);
    let mut waited = Duration::ZERO;
    loop {
        let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
        socket.set_nonblocking(true)?;
        match socket.connect(at) {
            Ok(()) => return UnixStream::from_std(socket.into()),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock && waited < PATIENCE => {}
            Err(error) => return Err(error),
        }
        tokio::time::sleep(pause).await;
        waited += pause;
        pause = (pause * 2).min(Duration::from_millis(50));
    }
}

/// Listens at a file that is made for it. Two programs that do so at once find the same stale file,
/// and must not remove each other's new one: each holds the directory meanwhile.
async fn bind_file(path: &Path, mode: u32) -> io::Result<(net::UnixListener, SocketFile)> {
    let at = SockAddr::unix(path)?;
    let held = hold(directory(path)).await;
    let socket = match bind(&at, Some((path, mode))) {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
            remove_stale(path, &at)?;
            bind(&at, Some((path, mode)))?
        }
        result => result?,
    };
    let file = SocketFile::at(path)?;
    drop(held);
    Ok((socket, file))
}

/// A socket that listens, at a file whose permissions are set before anyone can connect.
fn bind(at: &SockAddr, file: Option<(&Path, u32)>) -> io::Result<net::UnixListener> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.bind(at)?;
    let listen = || {
        if let Some((path, mode)) = file {
            fs::set_permissions(path, Permissions::from_mode(mode))?;
        }
        socket.listen(BACKLOG)?;
        socket.set_nonblocking(true)
    };
    match (listen(), file) {
        (Ok(()), _) => Ok(socket.into()),
        (Err(error), Some((path, _))) => {
            let _ = fs::remove_file(path);
            Err(error)
        }
        (Err(error), None) => Err(error),
    }
}

/// Removes a socket file that nobody listens behind.
fn remove_stale(path: &Path, at: &SockAddr) -> io::Result<()> {
    if !fs::symlink_metadata(path)?.file_type().is_socket() {
        return Err(io::Error::new(
            io::ErrorKind::AlreadyExists,
            "there is a file that is no socket",
        ));
    }
    let probe = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    probe.set_nonblocking(true)?;
    match probe.connect(at) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(path),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Err(error),
        // It took us in, or is too busy to: somebody listens.
        _ => Err(io::ErrorKind::AddrInUse.into()),
    }
}

/// Holds a directory against others that do the same. Where that cannot be had (no right to read it, a
/// file system without locks, somebody who holds it for long) things go on without.
async fn hold(directory: Option<&Path>) -> Option<File> {
    let file = File::open(directory?).ok()?;
    let mut waited = Duration::ZERO;
    loop {
        match file.try_lock() {
            Ok(()) => return Some(file),
            Err(TryLockError::WouldBlock) if waited < HOLDING => {}
            Err(_) => return None,
        }
        let pause = Duration::from_millis(5);
        tokio::time::sleep(pause).await;
        waited += pause;
    }
}

/// How long to wait for room in a backlog.
const PATIENCE: Duration = Duration::from_secs(5);

/// How long to wait for who holds the directory: far longer than it takes to make a socket.
const HOLDING: Duration = Duration::from_secs(1);

/// Connections that may wait to be accepted; the system may allow fewer.
const BACKLOG: i32 = 1024;

#[cfg(test)]
mod tests {
    use std::io::IoSlice;
    use std::os::unix::fs::symlink;

    use tempfile::TempDir;

    use super::*;
    use crate::medium::Media;
    use crate::testing::{block_on, read_all, talk, write_all};

    fn stream(carrier: Carrier) -> StreamCarrier {
        match carrier {
            Carrier::Stream(stream) => stream,
            Carrier::Muxed(_) => panic!("a Unix socket has one stream"),
        }
    }

    /// A directory that goes away with the test, and an address in it.
    fn place() -> (TempDir, PathBuf, Address) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a socket");
        let address = Address::unix(path.to_str().unwrap()).unwrap();
        (directory, path, address)
    }

    async fn listen(address: &Address) -> Result<Box<dyn Listener>, ListenError> {
        Media::standard().listen(address).await
    }

    async fn connected(at: &Address) -> (StreamCarrier, StreamCarrier, Box<dyn Listener>) {
        let mut listener = listen(at).await.unwrap();
        let media = Media::standard();
        let (dialled, accepted) = tokio::join!(media.dial(at), listener.accept());
        (stream(dialled.unwrap()), stream(accepted.unwrap()), listener)
    }

    /// Both ends of a pair of sockets.
    fn pair() -> (StreamCarrier, StreamCarrier) {
        let (near, far) = UnixStream::pair().unwrap();
        let end = |socket: UnixStream| {
            let info = info(&socket);
            stream(carrier(socket, info))
        };
        (end(near), end(far))
    }

    #[test]
    fn a_socket_reads_into_several_buffers() {
        block_on(async {
            let (near, far) = pair();
            crate::testing::read_into_several(near, far).await;
        });
    }

    #[test]
    fn a_socket_leaves_the_reactor_and_comes_back() {
        block_on(async {
            let (near, far) = pair();
            crate::testing::leave_and_come_back(near, far).await;
        });
    }

    #[test]
    fn two_talkers_are_both_heard() {
        block_on(async {
            let (_directory, _, at) = place();
            let (dialled, accepted, _listener) = connected(&at).await;
            assert_eq!(dialled.info.remote.as_ref(), Some(&at));
            assert_eq!(accepted.info.local.as_ref(), Some(&at));
            assert!(!dialled.info.may_be_lost && dialled.info.confidential);
            talk(dialled, accepted, 4 * 1024 * 1024).await;
        });
    }

    #[test]
    fn the_system_vouches_for_the_account_of_either_peer() {
        block_on(async {
            let (directory, _, at) = place();
            let (dialled, accepted, _listener) = connected(&at).await;
            let ours = directory.path().metadata().unwrap();
            for carrier in [dialled, accepted] {
                let PeerEvidence::Unix { uid, gid, pid } = carrier.info.peer else {
                    panic!("no evidence")
                };
                assert_eq!((uid, gid), (ours.uid(), ours.gid()));
                if cfg!(target_os = "linux") {
                    assert_eq!(pid, Some(std::process::id()));
                }
            }
        });
    }

    #[test]
    fn the_file_lives_as_long_as_its_listener() {
        block_on(async {
            let (_directory, path, at) = place();
            let listener = listen(&at.clone().with_option("mode", "0660").unwrap())
                .await
                .unwrap();
            assert_eq!(listener.local_addresses(), std::slice::from_ref(&at));
            let mode = |path: &Path| path.symlink_metadata().unwrap().permissions().mode() & 0o777;
            assert_eq!(mode(&path), 0o660);
            drop(listener);
            assert!(!path.exists());
            let _listener = listen(&at).await.unwrap();
            assert_eq!(mode(&path), 0o600);
        });
    }

    #[test]
    fn a_stale_file_is_replaced_and_a_live_one_is_not() {
        block_on(async {
            let (_directory, path, at) = place();
            drop(net::UnixListener::bind(&path).unwrap());
            assert!(path.exists());
            let (dialled, accepted, listener) = connected(&at).await;
            let taken = listen(&at).await.err().unwrap();
            assert!(matches!(taken, ListenError::InUse { .. }), "{taken}");
            talk(dialled, accepted, 100).await;
            drop(listener);
        });
    }

    #[test]
    fn a_file_that_is_no_socket_is_left_alone() {
        block_on(async {
            let (_directory, path, at) = place();
            fs::write(&path, "precious").unwrap();
            let refused = listen(&at).await.err().unwrap();
            assert!(matches!(refused, ListenError::Address { .. }), "{refused}");
            assert_eq!(fs::read(&path).unwrap(), b"precious");
            fs::remove_file(&path).unwrap();
            symlink("elsewhere", &path).unwrap();
            assert!(matches!(listen(&at).await, Err(ListenError::Address { .. })));
        });
    }

    #[test]
    fn a_file_that_somebody_else_put_there_is_not_removed() {
        block_on(async {
            let (_directory, path, at) = place();
            let listener = listen(&at).await.unwrap();
            fs::remove_file(&path).unwrap();
            let _theirs = net::UnixListener::bind(&path).unwrap();
            drop(listener);
            assert!(path.exists());
        });
    }

    #[test]
    fn of_many_who_listen_at_a_stale_file_at_once_one_succeeds() {
        let (_directory, path, at) = place();
        for _ in 0..20 {
            drop(net::UnixListener::bind(&path).unwrap());
            let listening: Vec<_> = std::thread::scope(|scope| {
                let threads: Vec<_> = (0..8)
                    .map(|_| {
                        scope.spawn(|| {
                            let runtime = tokio::runtime::Builder::new_current_thread()
                                .enable_all()
                                .build()
                                .unwrap();
                            let listener = runtime.block_on(listen(&at)).ok();
                            listener.map(|listener| (listener, runtime))
                        })
                    })
                    .collect();
                threads
                    .into_iter()
                    .filter_map(|thread| thread.join().unwrap())
                    .collect()
            });
            assert_eq!(listening.len(), 1);
            net::UnixStream::connect(&path).unwrap();
            drop(listening);
            let _ = fs::remove_file(&path);
        }
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_name_without_a_file_works_the_same() {
        block_on(async {
            let at: Address = format!("unix:@farref-test-{}", std::process::id())
                .parse()
                .unwrap();
            let (dialled, accepted, listener) = connected(&at).await;
            assert!(matches!(listen(&at).await, Err(ListenError::InUse { .. })));
            talk(dialled, accepted, 100_000).await;
            drop(listener);
            assert!(matches!(
                Media::standard().dial(&at).await,
                Err(DialError::NotListening { .. })
            ));
        });
    }

    #[test]
    fn a_failed_dial_says_who_can_act() {
        block_on(async {
            let media = Media::standard();
            let (directory, path, at) = place();
            let absent = media.dial(&at).await.unwrap_err();
            assert!(matches!(absent, DialError::NotListening { .. }), "{absent}");
            drop(net::UnixListener::bind(&path).unwrap());
            let stale = media.dial(&at).await.unwrap_err();
            assert!(matches!(stale, DialError::NotListening { .. }), "{stale}");
            let nowhere = directory.path().join("none").join("x");
            let nowhere = media
                .dial(&Address::unix(nowhere.to_str().unwrap()).unwrap())
                .await
                .unwrap_err();
            assert!(matches!(nowhere, DialError::Address { .. }), "{nowhere}");
            let long = Address::unix(&format!("/{}", "x".repeat(200))).unwrap();
            assert!(matches!(media.dial(&long).await, Err(DialError::Address { .. })));
            assert!(matches!(
                media.listen(&long).await,
                Err(ListenError::Address { .. })
            ));
        });
    }

    #[test]
    fn a_full_backlog_is_waited_for() {
        block_on(async {
            let (_directory, path, at) = place();
            let socket = Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
            socket.bind(&SockAddr::unix(&path).unwrap()).unwrap();
            socket.listen(0).unwrap();
            let media = Media::standard();
            let first = media.dial(&at).await.unwrap();
            let (second, ()) = tokio::join!(media.dial(&at), async {
                tokio::time::sleep(Duration::from_millis(20)).await;
                drop(socket.accept().unwrap());
            });
            drop((first, second.unwrap()));
        });
    }

    #[test]
    fn one_direction_may_end_before_the_other() {
        block_on(async {
            let (_directory, _, at) = place();
            let (mut dialled, mut accepted, _listener) = connected(&at).await;
            write_all(&mut *dialled.tx, b"question").await.unwrap();
            poll_fn(|cx| dialled.tx.poll_close(cx)).await.unwrap();
            let late = dialled.tx.try_write(&[IoSlice::new(b"x")]).unwrap_err();
            assert_eq!(late.kind(), io::ErrorKind::BrokenPipe);
            assert_eq!(read_all(&mut *accepted.rx).await.unwrap(), b"question");
            write_all(&mut *accepted.tx, b"answer").await.unwrap();
            drop(accepted);
            assert_eq!(read_all(&mut *dialled.rx).await.unwrap(), b"answer");
        });
    }
}
