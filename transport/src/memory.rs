//! Carriers within one process: for programs that serve themselves, and above all for tests.
//!
//! Knows the names that are listened at. Halves and streams are in `ends`, the bytes
//! between them in `wire`; how a test takes a carrier away is in `cutter`. Needs no runtime: any executor will do.
//!
//! `mem:NAME` is a byte stream, `mem:NAME?mux=1` a carrier with native streams. The listener's
//! options hold; whoever dials may leave them out, and is refused if he contradicts them.
//!
//! | option    | default  | range       | meaning                                     |
//! |-----------|----------|-------------|---------------------------------------------|
//! | `buffer=` | 262144   | 1..16777216 | bytes on the way, each direction of a stream |
//! | `mux=`    | 0        | 0, 1        | native streams                              |

mod cutter;
mod ends;
mod wire;

use std::collections::{BTreeMap, VecDeque};
use std::future::poll_fn;
use std::io;
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};

use crate::address::{Address, Target};
use crate::carrier::{BoxFuture, Carrier, CarrierInfo, Muxed, StreamCarrier};
use crate::error::{AcceptError, DialError, ListenError};
use crate::medium::{Listener, Transport};

pub use cutter::{Cutter, End};

/// The medium `mem`.
#[derive(Clone, Debug, Default)]
pub struct Memory {
    names: Arc<Names>,
}

impl Memory {
    /// Names of its own, which nobody else can dial.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The names that the whole process shares.
    #[must_use]
    pub fn of_process() -> Self {
        static PROCESS: LazyLock<Memory> = LazyLock::new(Memory::new);
        PROCESS.clone()
    }
}

impl Transport for Memory {
    fn schemes(&self) -> &'static [&'static str] {
        &["mem"]
    }

    fn dial<'a>(&'a self, address: &'a Address) -> BoxFuture<'a, Result<Carrier, DialError>> {
        Box::pin(async move {
            let failed = |kind: io::ErrorKind| DialError::from_io(address, kind.into());
            let name = name(address).ok_or_else(|| failed(io::ErrorKind::InvalidInput))?;
            let port = self.names.lock().get(name).cloned();
            let port = port.ok_or_else(|| failed(io::ErrorKind::ConnectionRefused))?;
            if let Some(contradiction) = port.options.contradiction(address) {
                let source = io::Error::new(io::ErrorKind::InvalidInput, contradiction);
                return Err(DialError::from_io(address, source));
            }
            port.dial().map_err(|full| match full {
                Unavailable::Full => DialError::Busy {
                    address: Box::new(address.clone()),
                },
                Unavailable::Closed => failed(io::ErrorKind::ConnectionRefused),
            })
        })
    }

    fn listen<'a>(&'a self, address: &'a Address) -> BoxFuture<'a, Result<Box<dyn Listener>, ListenError>> {
        Box::pin(async move {
            let failed = |kind: io::ErrorKind| ListenError::from_io(address, kind.into());
            let name = name(address).ok_or_else(|| failed(io::ErrorKind::InvalidInput))?;
            let mut names = self.names.lock();
            if names.contains_key(name) {
                return Err(failed(io::ErrorKind::AddrInUse));
            }
            let port = Arc::new(Port::new(address.clone(), Options::of(address)));
            names.insert(name.to_owned(), Arc::clone(&port));
            let listener = MemoryListener {
                name: name.to_owned(),
                port,
                names: Arc::clone(&self.names),
            };
            Ok(Box::new(listener) as Box<dyn Listener>)
        })
    }
}

/// The two ends of a byte stream with room for `buffer` bytes (at least one) each way.
#[must_use]
pub fn pair(buffer: usize) -> (StreamCarrier, StreamCarrier) {
    let (first, second, _) = cuttable_pair(buffer);
    (first, second)
}

/// As [`pair`], with the means to take the carrier away.
#[must_use]
pub fn cuttable_pair(buffer: usize) -> (StreamCarrier, StreamCarrier, Cutter) {
    let (first, second, wire) = ends::stream_pair(buffer);
    let carrier = |(rx, tx)| StreamCarrier::new(rx, tx, info());
    (carrier(first), carrier(second), Cutter::new(wire))
}

/// The two ends of a carrier with native streams, each with room for `buffer` bytes (at least one)
/// each way.
#[must_use]
pub fn muxed_pair(buffer: usize) -> (Box<dyn Muxed>, Box<dyn Muxed>) {
    let (first, second, _) = cuttable_muxed_pair(buffer);
    (first, second)
}

/// As [`muxed_pair`], with the means to take the carrier away.
#[must_use]
pub fn cuttable_muxed_pair(buffer: usize) -> (Box<dyn Muxed>, Box<dyn Muxed>, Cutter) {
    let (first, second, wire) = ends::muxed_pair(buffer, info(), info());
    (Box::new(first), Box::new(second), Cutter::new(wire))
}

/// Who listens, by name.
#[derive(Debug, Default)]
struct Names(Mutex<BTreeMap<String, Arc<Port>>>);

impl Names {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Arc<Port>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One name that is listened at: carriers go in at `dial` and out at `accept`.
#[derive(Debug)]
struct Port {
    address: Address,
    options: Options,
    waiting: Mutex<Waiting>,
}

#[derive(Debug, Default)]
struct Waiting {
    carriers: VecDeque<Carrier>,
    acceptor: Option<Waker>,
    is_closed: bool,
}

/// Why a port takes no carrier.
enum Unavailable {
    Full,
    Closed,
}

impl Port {
    fn new(address: Address, options: Options) -> Self {
        Self {
            address,
            options,
            waiting: Mutex::default(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Leaves one end of a new carrier with the listener and returns the other.
    fn dial(&self) -> Result<Carrier, Unavailable> {
        let (dialled, accepted) = self.carriers();
        let mut waiting = self.lock();
        if waiting.is_closed {
            return Err(Unavailable::Closed);
        }
        if waiting.carriers.len() >= BACKLOG {
            return Err(Unavailable::Full);
        }
        waiting.carriers.push_back(accepted);
        let acceptor = waiting.acceptor.take();
        drop(waiting);
        if let Some(acceptor) = acceptor {
            acceptor.wake();
        }
        Ok(dialled)
    }

    fn carriers(&self) -> (Carrier, Carrier) {
        let mut dialled = info();
        dialled.remote = Some(self.address.clone());
        let mut accepted = info();
        accepted.local = Some(self.address.clone());
        let Options { buffer, is_muxed } = self.options;
        if is_muxed {
            let (first, second, _) = ends::muxed_pair(buffer, dialled, accepted);
            return (Carrier::Muxed(Box::new(first)), Carrier::Muxed(Box::new(second)));
        }
        let (first, second, _) = ends::stream_pair(buffer);
        let carrier = |(rx, tx), info| Carrier::Stream(StreamCarrier::new(rx, tx, info));
        (carrier(first, dialled), carrier(second, accepted))
    }
}

/// What the options of a `mem:` address say.
#[derive(Clone, Copy, Debug)]
struct Options {
    buffer: usize,
    is_muxed: bool,
}

impl Options {
    fn of(address: &Address) -> Self {
        Self {
            buffer: address
                .number("buffer")
                .and_then(|n| usize::try_from(n).ok())
                .unwrap_or(BUFFER),
            is_muxed: address.is_set("mux"),
        }
    }

    /// What a dialler says otherwise than the listener, if anything.
    fn contradiction(self, dialled: &Address) -> Option<&'static str> {
        let said = Self::of(dialled);
        if dialled.option("mux").is_some() && said.is_muxed != self.is_muxed {
            return Some("the listener has another `mux`");
        }
        if dialled.option("buffer").is_some() && said.buffer != self.buffer {
            return Some("the listener has another `buffer`");
        }
        None
    }
}

struct MemoryListener {
    name: String,
    port: Arc<Port>,
    names: Arc<Names>,
}

impl Listener for MemoryListener {
    fn accept(&mut self) -> BoxFuture<'_, Result<Carrier, AcceptError>> {
        // Cancel-safe: a carrier leaves the queue only in the poll that returns it.
        Box::pin(poll_fn(|cx| {
            let mut waiting = self.port.lock();
            if let Some(carrier) = waiting.carriers.pop_front() {
                return Poll::Ready(Ok(carrier));
            }
            let stale = waiting.acceptor.replace(cx.waker().clone());
            // Dropping a waker may run anything, so not under the lock.
            drop(waiting);
            drop(stale);
            Poll::Pending
        }))
    }

    fn local_addresses(&self) -> Vec<Address> {
        vec![self.port.address.clone()]
    }
}

impl Drop for MemoryListener {
    fn drop(&mut self) {
        self.names.lock().remove(&self.name);
        let mut waiting = self.port.lock();
        waiting.is_closed = true;
        let carriers = std::mem::take(&mut waiting.carriers);
        let acceptor = waiting.acceptor.take();
        // Dropping a carrier wakes who dialled it, so not under the lock.
        drop(waiting);
        drop((carriers, acceptor));
    }
}

fn name(address: &Address) -> Option<&str> {
    match address.target() {
        Target::Memory { name } => Some(name),
        _ => None,
    }
}

fn info() -> CarrierInfo {
    let mut info = CarrierInfo::new("mem");
    info.confidential = true;
    info
}

/// Room on the way unless `buffer=` says otherwise.
const BUFFER: usize = 256 * 1024;

/// Carriers that may wait to be accepted.
const BACKLOG: usize = 1024;

#[cfg(test)]
mod tests {
    use std::io::IoSlice;

    use bytes::BytesMut;
    use proptest::prelude::*;

    use super::*;
    use crate::testing::{block_on, read_all, read_some, talk, write_all};

    fn address(text: &str) -> Address {
        text.parse().unwrap()
    }

    fn stream(carrier: Carrier) -> StreamCarrier {
        match carrier {
            Carrier::Stream(stream) => stream,
            Carrier::Muxed(_) => panic!("native streams, but a byte stream was asked for"),
        }
    }

    #[test]
    fn a_stream_reads_into_several_buffers() {
        for buffer in [1, 3, 100] {
            let (near, far) = pair(buffer);
            block_on(crate::testing::read_into_several(near, far));
        }
    }

    #[test]
    fn two_talkers_on_a_pipe_of_16_bytes_are_both_heard() {
        let (near, far) = pair(16);
        block_on(talk(near, far, 512 * 1024));
    }

    #[test]
    fn two_threads_without_a_runtime_hear_each_other() {
        use std::future::Future;
        use std::pin::pin;
        use std::sync::Arc;
        use std::task::{Context, Wake};
        use std::thread::{self, Thread};

        struct Unpark(Thread);
        impl Wake for Unpark {
            fn wake(self: Arc<Self>) {
                self.0.unpark();
            }
        }
        fn wait<T>(future: impl Future<Output = T>) -> T {
            let mut future = pin!(future);
            let waker = Waker::from(Arc::new(Unpark(thread::current())));
            loop {
                match future.as_mut().poll(&mut Context::from_waker(&waker)) {
                    Poll::Ready(output) => return output,
                    Poll::Pending => thread::park(),
                }
            }
        }

        let (near, far) = pair(16);
        let said = vec![7; 100_000];
        let StreamCarrier {
            rx: _near_rx, mut tx, ..
        } = near;
        let StreamCarrier {
            mut rx, tx: _far_tx, ..
        } = far;
        let heard = thread::scope(|scope| {
            scope.spawn(|| {
                wait(write_all(&mut *tx, &said)).unwrap();
                wait(poll_fn(|cx| tx.poll_close(cx))).unwrap();
            });
            wait(read_all(&mut *rx)).unwrap()
        });
        assert!(heard == said);
    }

    #[test]
    fn what_was_dialled_is_what_is_accepted() {
        block_on(async {
            let memory = Memory::new();
            let at = address("mem:bench?buffer=16");
            let mut listener = memory.listen(&at).await.unwrap();
            assert_eq!(listener.local_addresses(), std::slice::from_ref(&at));
            let dialled = stream(memory.dial(&address("mem:bench")).await.unwrap());
            let accepted = stream(listener.accept().await.unwrap());
            assert_eq!(dialled.info.remote, Some(at.clone()));
            assert_eq!(accepted.info.local, Some(at));
            talk(dialled, accepted, 10_000).await;
        });
    }

    #[test]
    fn an_accept_waits_for_a_dial_and_may_be_dropped() {
        block_on(async {
            let memory = Memory::new();
            let at = address("mem:bench");
            let mut listener = memory.listen(&at).await.unwrap();
            for _ in 0..3 {
                let mut accept = listener.accept();
                let pending = poll_fn(|cx| Poll::Ready(accept.as_mut().poll(cx).is_pending())).await;
                assert!(pending);
                drop(accept);
                let (dialled, accepted) = tokio::join!(memory.dial(&at), listener.accept());
                drop((dialled.unwrap(), accepted.unwrap()));
            }
        });
    }

    #[test]
    fn a_name_is_free_again_when_its_listener_is_dropped() {
        block_on(async {
            let memory = Memory::new();
            let at = address("mem:bench");
            assert!(matches!(
                memory.dial(&at).await,
                Err(DialError::NotListening { .. })
            ));
            let listener = memory.listen(&at).await.unwrap();
            assert!(matches!(memory.listen(&at).await, Err(ListenError::InUse { .. })));
            let mut dialled = stream(memory.dial(&at).await.unwrap());
            drop(listener);
            assert_eq!(read_all(&mut *dialled.rx).await.unwrap(), b"");
            assert!(matches!(
                memory.dial(&at).await,
                Err(DialError::NotListening { .. })
            ));
            memory.listen(&at).await.unwrap();
        });
    }

    #[test]
    fn the_backlog_is_bounded() {
        block_on(async {
            let memory = Memory::new();
            let at = address("mem:bench?buffer=1");
            let mut listener = memory.listen(&at).await.unwrap();
            let mut dialled = Vec::new();
            for _ in 0..BACKLOG {
                dialled.push(memory.dial(&at).await.unwrap());
            }
            assert!(matches!(memory.dial(&at).await, Err(DialError::Busy { .. })));
            listener.accept().await.unwrap();
            memory.dial(&at).await.unwrap();
        });
    }

    #[test]
    fn the_listeners_options_hold() {
        block_on(async {
            let memory = Memory::new();
            let mut listener = memory
                .listen(&address("mem:bench?mux=1&buffer=64"))
                .await
                .unwrap();
            for same in ["mem:bench", "mem:bench?mux", "mem:bench?buffer=64"] {
                let dialled = memory.dial(&address(same)).await.unwrap();
                assert!(matches!(dialled, Carrier::Muxed(_)), "{same}");
                assert!(matches!(listener.accept().await.unwrap(), Carrier::Muxed(_)));
            }
            for other in ["mem:bench?mux=0", "mem:bench?buffer=65"] {
                let refused = memory.dial(&address(other)).await.unwrap_err();
                assert!(matches!(refused, DialError::Address { .. }), "{other}: {refused}");
            }
        });
    }

    #[test]
    fn memories_do_not_know_each_others_names_but_the_process_has_one() {
        block_on(async {
            let at = address("mem:memories-do-not-know");
            let _ours = Memory::new().listen(&at).await.unwrap();
            let _theirs = Memory::new().listen(&at).await.unwrap();
            let _shared = Memory::of_process().listen(&at).await.unwrap();
            Memory::of_process().dial(&at).await.unwrap();
        });
    }

    #[test]
    fn a_pipe_takes_what_fits_and_gives_what_is_there() {
        block_on(async {
            let (mut near, mut far) = pair(8);
            let mut into = BytesMut::with_capacity(3);
            let nothing = far.rx.try_read(&mut into).unwrap_err();
            assert_eq!(nothing.kind(), io::ErrorKind::WouldBlock);
            assert_eq!(near.tx.try_write(&[]).unwrap(), 0);
            let bufs = [IoSlice::new(b"hello"), IoSlice::new(b""), IoSlice::new(b"world")];
            assert_eq!(near.tx.try_write(&bufs).unwrap(), 8);
            let full = near.tx.try_write(&bufs).unwrap_err();
            assert_eq!(full.kind(), io::ErrorKind::WouldBlock);
            assert_eq!(far.rx.try_read(&mut into).unwrap(), 3);
            assert_eq!(into, "hel");
            assert_eq!(near.tx.try_write(&bufs).unwrap(), 3);
            assert_eq!(read_some(&mut *far.rx).await.unwrap(), "loworhel");
        });
    }

    #[test]
    fn one_direction_may_end_before_the_other() {
        block_on(async {
            let (mut near, mut far) = pair(64);
            write_all(&mut *near.tx, b"question").await.unwrap();
            poll_fn(|cx| near.tx.poll_close(cx)).await.unwrap();
            poll_fn(|cx| near.tx.poll_close(cx)).await.unwrap();
            let late = near.tx.try_write(&[IoSlice::new(b"x")]).unwrap_err();
            assert_eq!(late.kind(), io::ErrorKind::BrokenPipe);
            assert_eq!(read_all(&mut *far.rx).await.unwrap(), b"question");
            write_all(&mut *far.tx, b"answer").await.unwrap();
            drop(far.tx);
            assert_eq!(read_all(&mut *near.rx).await.unwrap(), b"answer");
            assert_eq!(near.rx.try_read(&mut BytesMut::new()).unwrap(), 0);
        });
    }

    #[test]
    fn nobody_left_to_read_is_told_to_the_writer() {
        block_on(async {
            let (mut near, far) = pair(4);
            write_all(&mut *near.tx, b"full").await.unwrap();
            let (broken, ()) = tokio::join!(write_all(&mut *near.tx, b"more"), async { drop(far.rx) });
            assert_eq!(broken.unwrap_err().kind(), io::ErrorKind::BrokenPipe);
        });
    }

    proptest! {
        #[test]
        fn a_pipe_is_a_bounded_queue(
            buffer in 1_usize..40,
            steps in prop::collection::vec((any::<bool>(), 0_usize..30), 0..60),
        ) {
            let (near, far) = pair(buffer);
            let (mut tx, mut rx) = (near.tx, far.rx);
            let (mut sent, mut heard) = (Vec::<u8>::new(), BytesMut::new());
            for (is_write, len) in steps {
                let inside = sent.len() - heard.len();
                if is_write {
                    let bytes: Vec<u8> = (sent.len()..).map(|n| n as u8).take(len).collect();
                    let (one, two) = bytes.split_at(len / 3);
                    let fits = len.min(buffer - inside);
                    match tx.try_write(&[IoSlice::new(one), IoSlice::new(two)]) {
                        Ok(count) => {
                            prop_assert_eq!(count, fits);
                            sent.extend_from_slice(&bytes[..count]);
                        }
                        Err(error) => {
                            prop_assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
                            prop_assert!(len > 0 && fits == 0);
                        }
                    }
                } else {
                    let mut into = BytesMut::with_capacity(len + 1);
                    let room = into.capacity();
                    match rx.try_read(&mut into) {
                        Ok(count) => {
                            prop_assert_eq!(count, inside.min(room));
                            prop_assert_eq!(into.len(), count);
                        }
                        Err(error) => {
                            prop_assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
                            prop_assert_eq!(inside, 0);
                        }
                    }
                    heard.extend_from_slice(&into);
                }
                prop_assert_eq!(&heard[..], &sent[..heard.len()]);
            }
            drop(tx);
            let rest = block_on(read_all(&mut *rx)).unwrap();
            heard.extend_from_slice(&rest);
            prop_assert_eq!(&heard[..], &sent[..]);
        }
    }
}
