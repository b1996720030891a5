//! The streams of a QUIC connection as halves that never wait, and an end that loses nothing.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::BytesMut;
use quinn::{ConnectionError, ReadError, RecvStream, SendStream, VarInt, WriteError};

use super::WINDOW;
use crate::carrier::{
    BoxFuture, ByteRx, ByteTx, CarrierInfo, CarrierStats, Class, Gauge, Muxed, StreamHalves,
};
use crate::error::{Aborted, aborted};
use crate::io::IoRx;

/// A connection, for as long as any of its halves lives.
///
/// The connection is closed when the last is gone; then what was written may still be on its way, and a close takes
/// back what has not arrived. So the end waits, on a task, until the peer has got everything or is gone.
struct Shared {
    connection: quinn::Connection,
    /// Streams that are over for us, and perhaps not yet for the peer.
    leaving: Mutex<Vec<SendStream>>,
    runtime: tokio::runtime::Handle,
}

/// How long what was written may take to arrive after everything was dropped.
const LINGER: Duration = Duration::from_secs(5);
/// Streams that are over, from which on it is worth looking whether they have arrived.
const LEAVING: usize = 16;

impl Shared {
    fn leave(&self, stream: SendStream) {
        let mut leaving = self.leaving.lock().unwrap_or_else(PoisonError::into_inner);
        if leaving.len() >= LEAVING {
            leaving.retain(|stream| {
                let arrived = std::pin::pin!(stream.stopped());
                arrived.poll(&mut Context::from_waker(Waker::noop())).is_pending()
            });
        }
        leaving.push(stream);
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        let leaving = std::mem::take(&mut *self.leaving.lock().unwrap_or_else(PoisonError::into_inner));
        let connection = self.connection.clone();
        self.runtime.spawn(async move {
            let arrived = async {
                for stream in &leaving {
                    // An error means that the peer is gone, and that is an answer too.
                    let _ = stream.stopped().await;
                }
            };
            let _ = tokio::time::timeout(LINGER, arrived).await;
            connection.close(VarInt::from_u32(0), b"");
        });
    }
}

/// A connection as a carrier of streams.
pub(super) struct QuicMuxed {
    shared: Arc<Shared>,
    info: CarrierInfo,
}

impl QuicMuxed {
    /// Must be made on a runtime.
    pub(super) fn new(connection: quinn::Connection, mut info: CarrierInfo) -> Self {
        let shared = Arc::new(Shared {
            connection,
            leaving: Mutex::default(),
            runtime: tokio::runtime::Handle::current(),
        });
        let counted = Arc::downgrade(&shared);
        info.gauge = Some(Gauge::new(move || {
            let shared = counted.upgrade();
            shared.map_or_else(CarrierStats::default, |shared| stats(&shared.connection))
        }));
        Self { shared, info }
    }

    fn halves(&self, (tx, rx): (SendStream, RecvStream)) -> StreamHalves {
        // Lane 0 goes this way, and is more urgent than any other.
        (Box::new(self.rx(rx)), Box::new(self.tx(tx, Class::Interactive)))
    }

    fn rx(&self, stream: RecvStream) -> QuicRx {
        QuicRx {
            stream: IoRx::new(stream),
            failure: None,
            _shared: Arc::clone(&self.shared),
        }
    }

    fn tx(&self, stream: SendStream, class: Class) -> QuicTx {
        let mut tx = QuicTx {
            stream: Some(stream),
            waker: Waker::noop().clone(),
            is_closed: false,
            shared: Arc::clone(&self.shared),
        };
        tx.set_class(class);
        tx
    }
}

impl Muxed for QuicMuxed {
    fn open(&self) -> BoxFuture<'_, io::Result<StreamHalves>> {
        Box::pin(async {
            let stream = self.shared.connection.open_bi().await.map_err(lost)?;
            Ok(self.halves(stream))
        })
    }

    fn accept(&self) -> BoxFuture<'_, io::Result<StreamHalves>> {
        Box::pin(async {
            let stream = self.shared.connection.accept_bi().await.map_err(lost)?;
            Ok(self.halves(stream))
        })
    }

    fn open_uni(&self, class: Class) -> BoxFuture<'_, io::Result<Box<dyn ByteTx>>> {
        Box::pin(async move {
            let stream = self.shared.connection.open_uni().await.map_err(lost)?;
            Ok(Box::new(self.tx(stream, class)) as Box<dyn ByteTx>)
        })
    }

    fn accept_uni(&self) -> BoxFuture<'_, io::Result<Box<dyn ByteRx>>> {
        Box::pin(async {
            let stream = self.shared.connection.accept_uni().await.map_err(lost)?;
            Ok(Box::new(self.rx(stream)) as Box<dyn ByteRx>)
        })
    }

    fn widen(&self) {
        let connection = &self.shared.connection;
        connection.set_receive_window(VarInt::from_u32(WINDOW));
    }

    fn close(&self, code: u32, reason: &str) {
        self.shared
            .connection
            .close(VarInt::from_u32(code), reason.as_bytes());
    }

    fn info(&self) -> &CarrierInfo {
        &self.info
    }
}

struct QuicRx {
    stream: IoRx<RecvStream>,
    /// Why it failed: quinn tells a reset once, and an end afterwards.
    failure: Option<Aborted>,
    _shared: Arc<Shared>,
}

impl ByteRx for QuicRx {
    fn try_read(&mut self, into: &mut BytesMut) -> io::Result<usize> {
        if let Some(failure) = self.failure {
            return Err(failure.into());
        }
        self.stream.try_read(into).map_err(|error| {
            let error = read_error(error);
            self.failure = aborted(&error);
            error
        })
    }

    fn poll_readable(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream.poll_readable(cx)
    }

    fn stop(&mut self, code: u32) {
        // It fails if the stream has ended already: then there is nothing to stop.
        let _ = self.stream.get_mut().stop(VarInt::from_u32(code));
    }
}

/// # Invariant
///
/// `waker` is that of the last `poll_writable` that had to wait, and every write since was polled with it: a
/// `try_write` in between never takes the wake-up away from who waits.
struct QuicTx {
    /// There until it is dropped.
    stream: Option<SendStream>,
    waker: Waker,
    is_closed: bool,
    shared: Arc<Shared>,
}

impl QuicTx {
    fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let Some(stream) = self.stream.as_mut().filter(|_| !self.is_closed) else {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        };
        Pin::new(stream).poll_write(cx, bytes).map_err(write_error)
    }
}

impl ByteTx for QuicTx {
    fn try_write(&mut self, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
        let waker = self.waker.clone();
        let mut written = 0_usize;
        for buf in bufs.iter().filter(|buf| !buf.is_empty()) {
            match self.poll_write(&mut Context::from_waker(&waker), buf) {
                Poll::Ready(Ok(count)) => {
                    written = written.saturating_add(count);
                    if count < buf.len() {
                        break;
                    }
                }
                Poll::Ready(Err(error)) if written == 0 => return Err(error),
                Poll::Pending if written == 0 => return Err(io::ErrorKind::WouldBlock.into()),
                // The next write tells.
                Poll::Ready(Err(_)) | Poll::Pending => break,
            }
        }
        Ok(written)
    }

    fn poll_writable(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.waker.clone_from(cx.waker());
        // Nothing is written by this, and it waits as a write would.
        self.poll_write(cx, &[]).map_ok(drop)
    }

    fn poll_close(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !std::mem::replace(&mut self.is_closed, true)
            && let Some(stream) = &mut self.stream
        {
            // It fails if the peer does not want the rest: then it is closed as well.
            let _ = stream.finish();
        }
        Poll::Ready(Ok(()))
    }

    fn reset(&mut self, code: u32) {
        if let Some(stream) = &mut self.stream {
            let _ = stream.reset(VarInt::from_u32(code));
        }
        self.is_closed = true;
    }

    fn set_class(&mut self, class: Class) {
        if let Some(stream) = &self.stream {
            let priority = match class {
                Class::Interactive => 2,
                Class::Normal => 1,
                Class::Bulk => 0,
            };
            let _ = stream.set_priority(priority);
        }
    }
}

impl Drop for QuicTx {
    fn drop(&mut self) {
        if let Some(mut stream) = self.stream.take() {
            let _ = stream.finish();
            self.shared.leave(stream);
        }
    }
}

/// The numbers of a connection.
fn stats(connection: &quinn::Connection) -> CarrierStats {
    let counted = connection.stats();
    CarrierStats {
        bytes_sent: counted.udp_tx.bytes,
        bytes_received: counted.udp_rx.bytes,
        repeated: counted.path.lost_packets,
        damaged: 0, // a packet that is damaged is no packet
        round_trip: Some(counted.path.rtt),
    }
}

/// Why a read failed, in the words of the carrier traits.
fn read_error(error: io::Error) -> io::Error {
    match error
        .get_ref()
        .and_then(|inner| inner.downcast_ref::<ReadError>())
    {
        Some(ReadError::Reset(code)) => Aborted::Reset(code_of(*code)).into(),
        Some(ReadError::ConnectionLost(error)) => lost(error.clone()),
        _ => error,
    }
}

fn write_error(error: WriteError) -> io::Error {
    match error {
        WriteError::Stopped(code) => Aborted::Stopped(code_of(code)).into(),
        WriteError::ConnectionLost(error) => lost(error),
        WriteError::ClosedStream => io::ErrorKind::BrokenPipe.into(),
        error @ WriteError::ZeroRttRejected => error.into(),
    }
}

/// Why a connection is over.
pub(super) fn lost(error: ConnectionError) -> io::Error {
    match error {
        ConnectionError::ApplicationClosed(closed) => Aborted::Closed(code_of(closed.error_code)).into(),
        ConnectionError::LocallyClosed => io::ErrorKind::ConnectionAborted.into(),
        error => error.into(),
    }
}

/// Codes of farref have 32 bits; a peer that sends longer ones speaks something else.
fn code_of(code: VarInt) -> u32 {
    u32::try_from(code.into_inner()).unwrap_or(u32::MAX)
}
