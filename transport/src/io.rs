//! Carriers out of whatever tokio can read and write.
//!
//! Knows how to get "try now" out of interfaces that only offer "wait for it": a read that is polled
//! for readiness keeps what it read, and a write that would wait is kept and counts as buffered.

use std::future::Future;
use std::io::{self, IoSlice};
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker, ready};

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};

use crate::carrier::{ByteRx, ByteTx};

/// The reading half over any [`AsyncRead`].
///
/// # Invariant
///
/// `waker` is that of the last `poll_readable` that had to wait, and every poll of the reader since
/// was made with it: a `try_read` in between never takes the wake-up away from who waits.
pub(crate) struct IoRx<R> {
    reader: Pin<Box<R>>,
    /// What `poll_readable` found; a few KiB at most, as an idle carrier keeps it.
    ahead: BytesMut,
    /// How the stream ended, if `poll_readable` found that. An error is told once, as tokio tells it.
    ended: Option<io::Result<()>>,
    waker: Waker,
}

impl<R: AsyncRead + Send + 'static> IoRx<R> {
    pub(crate) fn new(reader: R) -> Self {
        Self {
            reader: Box::pin(reader),
            ahead: BytesMut::new(),
            ended: None,
            waker: Waker::noop().clone(),
        }
    }
}

#[cfg(feature = "quic")]
impl<R: Unpin> IoRx<R> {
    /// The reader, for what else it can do.
    pub(crate) fn get_mut(&mut self) -> &mut R {
        &mut self.reader
    }
}

impl<R: AsyncRead + Send + 'static> ByteRx for IoRx<R> {
    fn try_read(&mut self, into: &mut BytesMut) -> io::Result<usize> {
        reserve_some(into);
        if !self.ahead.is_empty() {
            let count = self.ahead.len().min(into.capacity() - into.len());
            into.extend_from_slice(&self.ahead.split_to(count));
            return Ok(count);
        }
        match self.ended.take() {
            Some(Ok(())) => {
                self.ended = Some(Ok(()));
                return Ok(0);
            }
            Some(Err(error)) => return Err(error),
            None => {}
        }
        match poll_read(&mut self.reader, into, &mut Context::from_waker(&self.waker)) {
            Poll::Ready(read) => read,
            Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
        }
    }

    fn poll_readable(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.ahead.is_empty() || self.ended.is_some() {
            return Poll::Ready(Ok(()));
        }
        self.waker.clone_from(cx.waker());
        self.ahead.reserve(AHEAD);
        match ready!(poll_read(&mut self.reader, &mut self.ahead, cx)) {
            Ok(0) => self.ended = Some(Ok(())),
            Ok(_) => {}
            Err(error) => self.ended = Some(Err(error)),
        }
        Poll::Ready(Ok(()))
    }
}

/// The writing half over any [`AsyncWrite`].
///
/// # Invariant
///
/// As [`IoRx`] has it for `waker`. Bytes in `kept` come before all that is written later: nothing is
/// taken while it is not empty.
pub(crate) struct IoTx<W> {
    writer: Pin<Box<W>>,
    /// Taken, but not by the writer yet; at most `KEPT` bytes.
    kept: BytesMut,
    /// Whether the writer was written to since it was last flushed.
    unflushed: bool,
    phase: Phase,
    waker: Waker,
}

/// How far a writer is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    Open,
    /// `poll_close` was called: nothing more is taken.
    Closing,
    Closed,
}

impl<W: AsyncWrite + Send + 'static> IoTx<W> {
    pub(crate) fn new(writer: W) -> Self {
        Self {
            writer: Box::pin(writer),
            kept: BytesMut::new(),
            unflushed: false,
            phase: Phase::Open,
            waker: Waker::noop().clone(),
        }
    }

    /// Ready when nothing is kept.
    fn poll_kept(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.kept.is_empty() {
            let count = ready!(self.writer.as_mut().poll_write(cx, &self.kept))?;
            if count == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.kept.advance(count.min(self.kept.len()));
            self.unflushed = true;
        }
        Poll::Ready(Ok(()))
    }

    /// A writer that takes one slice at a time gets small ones together, since each write may be a
    /// record or a system call.
    fn poll_write(&mut self, bufs: &[IoSlice<'_>], cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let mut filled = bufs.iter().filter(|buf| !buf.is_empty());
        match (filled.next(), filled.next()) {
            (Some(first), None) => self.writer.as_mut().poll_write(cx, first),
            (Some(first), Some(_)) if !self.writer.is_write_vectored() && first.len() < KEPT => {
                let mut together = BytesMut::new();
                gather(bufs, &mut together);
                self.writer.as_mut().poll_write(cx, &together)
            }
            _ => self.writer.as_mut().poll_write_vectored(cx, bufs),
        }
    }
}

impl<W: AsyncWrite + Send + 'static> ByteTx for IoTx<W> {
    fn try_write(&mut self, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
        if self.phase != Phase::Open {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        if bufs.iter().all(|buf| buf.is_empty()) {
            return Ok(0);
        }
        let waker = self.waker.clone();
        let cx = &mut Context::from_waker(&waker);
        match self.poll_kept(cx) {
            Poll::Ready(Ok(())) => {}
            Poll::Ready(Err(error)) => return Err(error),
            Poll::Pending => return Err(io::ErrorKind::WouldBlock.into()),
        }
        match self.poll_write(bufs, cx) {
            Poll::Ready(Ok(0)) => Err(io::ErrorKind::WriteZero.into()),
            Poll::Ready(Ok(count)) => {
                self.unflushed = true;
                Ok(count)
            }
            Poll::Ready(Err(error)) => Err(error),
            // Only a write tells when the writer can be written to again; so there must be one pending.
            Poll::Pending => Ok(gather(bufs, &mut self.kept)),
        }
    }

    fn poll_writable(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.waker.clone_from(cx.waker());
        self.poll_kept(cx)
    }

    fn is_buffering(&self) -> bool {
        self.unflushed || !self.kept.is_empty()
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.waker.clone_from(cx.waker());
        ready!(self.poll_kept(cx))?;
        if self.unflushed {
            ready!(self.writer.as_mut().poll_flush(cx))?;
            self.unflushed = false;
        }
        Poll::Ready(Ok(()))
    }

    fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.phase == Phase::Closed {
            return Poll::Ready(Ok(()));
        }
        self.phase = Phase::Closing;
        ready!(self.poll_flush(cx))?;
        match ready!(self.writer.as_mut().poll_shutdown(cx)) {
            Err(error) if error.kind() != io::ErrorKind::NotConnected => Poll::Ready(Err(error)),
            _ => {
                self.phase = Phase::Closed;
                Poll::Ready(Ok(()))
            }
        }
    }
}

/// Makes room for what a caller of `try_read` should have made room for.
pub(crate) fn reserve_some(into: &mut BytesMut) {
    if into.len() == into.capacity() {
        into.reserve(64);
    }
}

/// One read into the spare capacity of `into`, which is not empty.
fn poll_read<R: AsyncRead>(
    reader: &mut Pin<Box<R>>,
    into: &mut BytesMut,
    cx: &mut Context<'_>,
) -> Poll<io::Result<usize>> {
    // `read_buf` loses nothing when it is dropped before it is ready.
    pin!(reader.read_buf(into)).poll(cx)
}

/// Copies from the front of `bufs` until `into` holds `KEPT` bytes; says how many.
fn gather(bufs: &[IoSlice<'_>], into: &mut BytesMut) -> usize {
    let before = into.len();
    for buf in bufs {
        let room = KEPT.saturating_sub(into.len());
        into.extend_from_slice(buf.get(..room).unwrap_or(buf));
    }
    into.len() - before
}

/// Room for what a wait for bytes finds. Small: what follows is read straight into the caller's buffer.
const AHEAD: usize = 4 * 1024;

/// The most that is taken while the writer is busy.
const KEPT: usize = 16 * 1024;

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Wake;

    use proptest::prelude::*;
    use tokio::io::{AsyncWriteExt, BufWriter};

    use super::*;
    use crate::testing::{block_on, read_all, talk, write_all};
    use crate::{CarrierInfo, StreamCarrier};

    /// A writer that takes one slice at a time, as most do, and counts how often it is asked.
    struct Plain<W>(W, Arc<AtomicUsize>);

    impl<W: AsyncWrite + Unpin> AsyncWrite for Plain<W> {
        fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
            self.1.fetch_add(1, Ordering::Relaxed);
            Pin::new(&mut self.0).poll_write(cx, buf)
        }
        fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            Pin::new(&mut self.0).poll_flush(cx)
        }
        fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            Pin::new(&mut self.0).poll_shutdown(cx)
        }
    }

    fn would_block<T: std::fmt::Debug>(result: io::Result<T>) -> bool {
        result.is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
    }

    #[test]
    fn two_talkers_on_a_pipe_of_16_bytes_are_both_heard() {
        let (near, far) = tokio::io::duplex(16);
        let near = StreamCarrier::from_io(near, CarrierInfo::new("duplex"));
        let far = StreamCarrier::from_io(far, CarrierInfo::new("duplex"));
        block_on(talk(near, far, 512 * 1024));
    }

    #[test]
    fn a_try_that_finds_nothing_does_not_take_the_wake_up_away() {
        struct Count(AtomicUsize);
        impl Wake for Count {
            fn wake(self: Arc<Self>) {
                self.0.fetch_add(1, Ordering::SeqCst);
            }
        }
        block_on(async {
            let (near, mut far) = tokio::io::duplex(64);
            let mut rx = IoRx::new(near);
            let count = Arc::new(Count(AtomicUsize::new(0)));
            let waker = Waker::from(Arc::clone(&count));
            assert!(rx.poll_readable(&mut Context::from_waker(&waker)).is_pending());
            assert!(would_block(rx.try_read(&mut BytesMut::with_capacity(8))));
            far.write_all(b"hello").await.unwrap();
            assert_eq!(count.0.load(Ordering::SeqCst), 1);
            assert!(rx.poll_readable(&mut Context::from_waker(&waker)).is_ready());
            let mut into = BytesMut::with_capacity(2);
            assert_eq!(rx.try_read(&mut into).unwrap(), 2);
            into.reserve(64);
            assert_eq!(rx.try_read(&mut into).unwrap(), 3);
            assert_eq!(into, "hello");
            drop(far);
            assert_eq!(rx.try_read(&mut into).unwrap(), 0);
            assert!(rx.poll_readable(&mut Context::from_waker(&waker)).is_ready());
            assert_eq!(rx.try_read(&mut into).unwrap(), 0);
        });
    }

    #[test]
    fn what_a_buffering_writer_holds_is_known_and_flushed() {
        block_on(async {
            let (near, far) = tokio::io::duplex(64);
            let mut tx = IoTx::new(BufWriter::new(near));
            let mut rx = IoRx::new(far);
            assert!(!tx.is_buffering());
            assert_eq!(
                tx.try_write(&[IoSlice::new(b"ab"), IoSlice::new(b"cd")]).unwrap(),
                4
            );
            assert!(tx.is_buffering());
            assert!(would_block(rx.try_read(&mut BytesMut::with_capacity(8))));
            poll_fn(|cx| tx.poll_flush(cx)).await.unwrap();
            assert!(!tx.is_buffering());
            let mut into = BytesMut::with_capacity(8);
            assert_eq!(rx.try_read(&mut into).unwrap(), 4);
        });
    }

    #[test]
    fn a_full_writer_keeps_one_write_and_refuses_the_next() {
        let (near, far) = tokio::io::duplex(4);
        let (mut tx, mut rx) = (IoTx::new(near), IoRx::new(far));
        assert_eq!(tx.try_write(&[IoSlice::new(b"1234")]).unwrap(), 4);
        assert_eq!(tx.try_write(&[IoSlice::new(b"5678")]).unwrap(), 4);
        assert!(tx.is_buffering());
        assert!(would_block(tx.try_write(&[IoSlice::new(b"9")])));
        assert!(
            tx.poll_writable(&mut Context::from_waker(Waker::noop()))
                .is_pending()
        );
        let mut into = BytesMut::with_capacity(8);
        assert_eq!(rx.try_read(&mut into).unwrap(), 4);
        assert!(
            tx.poll_writable(&mut Context::from_waker(Waker::noop()))
                .is_ready()
        );
        assert_eq!(rx.try_read(&mut into).unwrap(), 4);
        assert_eq!(into, "12345678");
    }

    #[test]
    fn a_close_takes_along_what_was_kept() {
        block_on(async {
            let (near, far) = tokio::io::duplex(4);
            let (mut tx, mut rx) = (IoTx::new(near), IoRx::new(far));
            assert_eq!(tx.try_write(&[IoSlice::new(b"1234")]).unwrap(), 4);
            assert_eq!(tx.try_write(&[IoSlice::new(b"5678")]).unwrap(), 4);
            let (closed, heard) = tokio::join!(poll_fn(|cx| tx.poll_close(cx)), read_all(&mut rx));
            closed.unwrap();
            assert_eq!(heard.unwrap(), b"12345678");
            poll_fn(|cx| tx.poll_close(cx)).await.unwrap();
            assert_eq!(
                tx.try_write(&[IoSlice::new(b"9")]).unwrap_err().kind(),
                io::ErrorKind::BrokenPipe
            );
        });
    }

    #[test]
    fn small_slices_reach_a_plain_writer_in_one_write() {
        let asked = Arc::new(AtomicUsize::new(0));
        let (near, _far) = tokio::io::duplex(64);
        let mut tx = IoTx::new(Plain(near, Arc::clone(&asked)));
        let bufs = [IoSlice::new(b"head"), IoSlice::new(b""), IoSlice::new(b"body")];
        assert_eq!(tx.try_write(&bufs).unwrap(), 8);
        assert_eq!(asked.load(Ordering::Relaxed), 1);
        assert_eq!(tx.try_write(&[IoSlice::new(b"")]).unwrap(), 0);
    }

    #[test]
    fn an_error_is_told_by_the_read_after_the_wait() {
        struct Failing;
        impl AsyncRead for Failing {
            fn poll_read(
                self: Pin<&mut Self>,
                _: &mut Context<'_>,
                _: &mut tokio::io::ReadBuf<'_>,
            ) -> Poll<io::Result<()>> {
                Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()))
            }
        }
        let mut rx = IoRx::new(Failing);
        assert!(matches!(
            rx.poll_readable(&mut Context::from_waker(Waker::noop())),
            Poll::Ready(Ok(()))
        ));
        let error = rx.try_read(&mut BytesMut::with_capacity(8)).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn any_cut_of_the_bytes_arrives_whole(
            pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..40),
            pipe in 1_usize..70,
            plain in any::<bool>(),
        ) {
            let sent = pieces.concat();
            let heard = block_on(async {
                let (near, far) = tokio::io::duplex(pipe);
                let mut rx = IoRx::new(far);
                let asked = Arc::new(AtomicUsize::new(0));
                let mut tx: Box<dyn ByteTx> =
                    if plain { Box::new(IoTx::new(Plain(near, asked))) } else { Box::new(IoTx::new(near)) };
                let write = async {
                    for piece in &pieces {
                        write_all(&mut *tx, piece).await.unwrap();
                    }
                    poll_fn(|cx| tx.poll_close(cx)).await.unwrap();
                };
                tokio::join!(write, read_all(&mut rx)).1.unwrap()
            });
            prop_assert_eq!(heard, sent);
        }
    }
}
