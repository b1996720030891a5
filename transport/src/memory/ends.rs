//! What a user holds of a memory carrier: halves of streams, and the handle that makes streams.
//!
//! Knows the carrier traits; every act is one step of the `wire` between the ends.

use std::future::poll_fn;
use std::io::{self, IoSlice, IoSliceMut};
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::BytesMut;

use super::cutter::End;
use super::wire::{Over, PipeId, Wire};
use crate::carrier::{BoxFuture, ByteRx, ByteTx, CarrierInfo, Class, Muxed, StreamHalves};
use crate::io::reserve_some;

/// The two ends of one byte stream, and what is between them.
pub(super) fn stream_pair(buffer: usize) -> ((WireRx, WireTx), (WireRx, WireTx), Arc<Wire>) {
    let wire = Wire::new(buffer, false);
    let mut state = wire.lock();
    let (out, back) = (state.pipe(End::First), state.pipe(End::Second));
    drop(state);
    (
        (WireRx::new(&wire, back), WireTx::new(&wire, out)),
        (WireRx::new(&wire, out), WireTx::new(&wire, back)),
        wire,
    )
}

/// The two ends of a carrier with native streams, and what is between them.
pub(super) fn muxed_pair(
    buffer: usize,
    first: CarrierInfo,
    second: CarrierInfo,
) -> (WireEnd, WireEnd, Arc<Wire>) {
    let wire = Wire::new(buffer, true);
    let end = |end, info| WireEnd {
        wire: Arc::clone(&wire),
        end,
        info,
    };
    (
        end(End::First, first),
        end(End::Second, second),
        Arc::clone(&wire),
    )
}

/// The reading half of a pipe.
pub(super) struct WireRx {
    wire: Arc<Wire>,
    pipe: PipeId,
}

impl WireRx {
    fn new(wire: &Arc<Wire>, pipe: PipeId) -> Self {
        Self {
            wire: Arc::clone(wire),
            pipe,
        }
    }
}

impl ByteRx for WireRx {
    fn try_read(&mut self, into: &mut BytesMut) -> io::Result<usize> {
        reserve_some(into);
        self.wire
            .step(|state, wakers| state.try_read(self.pipe, into, wakers))
    }

    fn is_read_vectored(&self) -> bool {
        true
    }

    fn try_read_vectored(&mut self, bufs: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        self.wire
            .step(|state, wakers| state.try_read_vectored(self.pipe, bufs, wakers))
    }

    fn poll_readable(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.wire
            .step(|state, wakers| state.poll_readable(self.pipe, cx, wakers))
    }

    fn stop(&mut self, code: u32) {
        self.wire.step(|state, wakers| {
            if state.has_native_streams {
                state.stop(self.pipe, code, wakers);
            }
        });
    }
}

impl Drop for WireRx {
    fn drop(&mut self) {
        self.wire
            .step(|state, wakers| state.drop_reader(self.pipe, wakers));
    }
}

/// The writing half of a pipe.
pub(super) struct WireTx {
    wire: Arc<Wire>,
    pipe: PipeId,
}

impl WireTx {
    fn new(wire: &Arc<Wire>, pipe: PipeId) -> Self {
        Self {
            wire: Arc::clone(wire),
            pipe,
        }
    }
}

impl ByteTx for WireTx {
    fn try_write(&mut self, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
        self.wire
            .step(|state, wakers| state.try_write(self.pipe, bufs, wakers))
    }

    fn poll_writable(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.wire
            .step(|state, wakers| state.poll_writable(self.pipe, cx, wakers))
    }

    fn poll_close(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.wire
            .step(|state, wakers| state.finish(self.pipe, None, wakers));
        Poll::Ready(Ok(()))
    }

    fn reset(&mut self, code: u32) {
        self.wire.step(|state, wakers| {
            if state.has_native_streams {
                state.finish(self.pipe, Some(code), wakers);
            }
        });
    }
}

impl Drop for WireTx {
    fn drop(&mut self) {
        self.wire
            .step(|state, wakers| state.drop_writer(self.pipe, wakers));
    }
}

/// One end of a carrier with native streams.
pub(super) struct WireEnd {
    wire: Arc<Wire>,
    end: End,
    info: CarrierInfo,
}

impl WireEnd {
    /// Cancel-safe: the stream is made in the poll that returns it.
    async fn opened(&self, both_ways: bool) -> io::Result<(Option<WireRx>, WireTx)> {
        let stream = poll_fn(|cx| self.wire.lock().poll_open(self.end, both_ways, cx)).await?;
        Ok((
            stream.back.map(|back| WireRx::new(&self.wire, back)),
            WireTx::new(&self.wire, stream.out),
        ))
    }

    /// Cancel-safe: the stream leaves the queue in the poll that returns it.
    async fn accepted(&self, both_ways: bool) -> io::Result<(WireRx, Option<WireTx>)> {
        let stream = poll_fn(|cx| {
            self.wire
                .step(|state, wakers| state.poll_accept(self.end, both_ways, cx, wakers))
        })
        .await?;
        Ok((
            WireRx::new(&self.wire, stream.out),
            stream.back.map(|back| WireTx::new(&self.wire, back)),
        ))
    }
}

impl Muxed for WireEnd {
    fn open(&self) -> BoxFuture<'_, io::Result<StreamHalves>> {
        Box::pin(async {
            let (rx, tx) = self.opened(true).await?;
            let rx = rx.ok_or(io::ErrorKind::BrokenPipe)?;
            Ok((Box::new(rx) as Box<dyn ByteRx>, Box::new(tx) as Box<dyn ByteTx>))
        })
    }

    fn accept(&self) -> BoxFuture<'_, io::Result<StreamHalves>> {
        Box::pin(async {
            let (rx, tx) = self.accepted(true).await?;
            let tx = tx.ok_or(io::ErrorKind::BrokenPipe)?;
            Ok((Box::new(rx) as Box<dyn ByteRx>, Box::new(tx) as Box<dyn ByteTx>))
        })
    }

    /// All streams are equal here: priorities do not matter without a bottleneck.
    fn open_uni(&self, _: Class) -> BoxFuture<'_, io::Result<Box<dyn ByteTx>>> {
        Box::pin(async { Ok(Box::new(self.opened(false).await?.1) as Box<dyn ByteTx>) })
    }

    fn accept_uni(&self) -> BoxFuture<'_, io::Result<Box<dyn ByteRx>>> {
        Box::pin(async { Ok(Box::new(self.accepted(false).await?.0) as Box<dyn ByteRx>) })
    }

    fn close(&self, code: u32, _: &str) {
        self.wire
            .step(|state, wakers| state.end(Over::Closed(code), true, wakers));
    }

    fn info(&self) -> &CarrierInfo {
        &self.info
    }
}

impl Drop for WireEnd {
    fn drop(&mut self) {
        self.wire.step(|state, wakers| state.leave(self.end, wakers));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::{Aborted, aborted};
    use crate::memory::wire::PENDING;
    use crate::memory::{muxed_pair, pair};
    use crate::testing::{block_on, read_all, read_some, talk, write_all};
    use crate::{Guard, StreamCarrier};

    async fn is_pending<T>(future: &mut BoxFuture<'_, T>) -> bool {
        poll_fn(|cx| Poll::Ready(future.as_mut().poll(cx).is_pending())).await
    }

    #[test]
    fn streams_do_not_hold_each_other_up() {
        block_on(async {
            let (near, far) = muxed_pair(4);
            let (mut near_rx, mut near_tx) = near.open().await.unwrap();
            let mut first = near.open_uni(Class::Bulk).await.unwrap();
            let mut second = near.open_uni(Class::Interactive).await.unwrap();
            write_all(&mut *first, b"full").await.unwrap();
            let blocked = first.try_write(&[IoSlice::new(b"!")]).unwrap_err();
            assert_eq!(blocked.kind(), io::ErrorKind::WouldBlock);
            write_all(&mut *second, b"go").await.unwrap();
            write_all(&mut *near_tx, b"ping").await.unwrap();
            drop((first, second));
            let (mut far_rx, mut far_tx) = far.accept().await.unwrap();
            assert_eq!(read_some(&mut *far_rx).await.unwrap(), "ping");
            write_all(&mut *far_tx, b"pong").await.unwrap();
            assert_eq!(read_some(&mut *near_rx).await.unwrap(), "pong");
            for said in ["full", "go"] {
                let mut stream = far.accept_uni().await.unwrap();
                assert_eq!(read_all(&mut *stream).await.unwrap(), said.as_bytes());
            }
        });
    }

    #[test]
    fn two_talkers_on_streams_of_16_bytes_are_both_heard() {
        block_on(async {
            let (near, far) = muxed_pair(16);
            let carrier = |(rx, tx), muxed: &dyn Muxed| {
                let (info, guard) = (muxed.info().clone(), Guard::none());
                StreamCarrier { rx, tx, info, guard }
            };
            let (mut rx, mut tx) = near.open().await.unwrap();
            write_all(&mut *tx, b"hello").await.unwrap();
            let mut accepted = far.accept().await.unwrap();
            assert_eq!(read_some(&mut *accepted.0).await.unwrap(), "hello");
            assert_eq!(
                rx.try_read(&mut BytesMut::new()).unwrap_err().kind(),
                io::ErrorKind::WouldBlock
            );
            talk(carrier((rx, tx), &*near), carrier(accepted, &*far), 256 * 1024).await;
        });
    }

    #[test]
    fn a_stream_is_seen_with_its_first_byte_or_its_end() {
        block_on(async {
            let (near, far) = muxed_pair(4);
            let mut tx = near.open_uni(Class::Normal).await.unwrap();
            let mut accept = far.accept_uni();
            assert!(is_pending(&mut accept).await);
            let (accepted, ()) = tokio::join!(accept, async { drop(tx.try_write(&[IoSlice::new(b"x")])) });
            assert_eq!(read_some(&mut *accepted.unwrap()).await.unwrap(), "x");
            drop(near.open_uni(Class::Normal).await.unwrap());
            let mut silent = far.accept_uni().await.unwrap();
            assert_eq!(read_all(&mut *silent).await.unwrap(), b"");
        });
    }

    #[test]
    fn a_reset_is_told_with_its_code_and_a_stop_too() {
        block_on(async {
            let (near, far) = muxed_pair(64);
            let mut tx = near.open_uni(Class::Normal).await.unwrap();
            write_all(&mut *tx, b"never read").await.unwrap();
            let mut rx = far.accept_uni().await.unwrap();
            tx.reset(7);
            assert_eq!(
                aborted(&read_some(&mut *rx).await.unwrap_err()),
                Some(Aborted::Reset(7))
            );
            let mut tx = near.open_uni(Class::Normal).await.unwrap();
            write_all(&mut *tx, b"part").await.unwrap();
            far.accept_uni().await.unwrap().stop(8);
            let refused = write_all(&mut *tx, b"rest").await.unwrap_err();
            assert_eq!(aborted(&refused), Some(Aborted::Stopped(8)));
        });
    }

    #[test]
    fn a_reset_after_all_was_heard_says_nothing() {
        block_on(async {
            let (near, far) = muxed_pair(64);
            let mut tx = near.open_uni(Class::Normal).await.unwrap();
            write_all(&mut *tx, b"all").await.unwrap();
            poll_fn(|cx| tx.poll_close(cx)).await.unwrap();
            let mut rx = far.accept_uni().await.unwrap();
            assert_eq!(read_all(&mut *rx).await.unwrap(), b"all");
            tx.reset(7);
            assert_eq!(read_all(&mut *rx).await.unwrap(), b"");
        });
    }

    #[test]
    fn byte_streams_know_neither_reset_nor_stop() {
        block_on(async {
            let (mut near, mut far) = pair(64);
            write_all(&mut *near.tx, b"kept").await.unwrap();
            near.tx.reset(1);
            far.rx.stop(2);
            write_all(&mut *near.tx, b" all").await.unwrap();
            assert_eq!(read_some(&mut *far.rx).await.unwrap(), "kept all");
        });
    }

    #[test]
    fn unaccepted_streams_are_bounded() {
        block_on(async {
            let (near, far) = muxed_pair(1);
            let mut opened = Vec::new();
            for _ in 0..PENDING {
                let mut tx = near.open_uni(Class::Bulk).await.unwrap();
                assert_eq!(tx.try_write(&[IoSlice::new(b"x")]).unwrap(), 1);
                opened.push(tx);
            }
            let mut more = near.open_uni(Class::Bulk);
            assert!(is_pending(&mut more).await);
            let (accepted, more) = tokio::join!(far.accept_uni(), more);
            drop((accepted.unwrap(), more.unwrap()));
        });
    }

    #[test]
    fn a_close_ends_everything_on_both_sides() {
        block_on(async {
            let (near, far) = muxed_pair(64);
            let (mut near_rx, mut near_tx) = near.open().await.unwrap();
            write_all(&mut *near_tx, b"lost").await.unwrap();
            let (mut far_rx, mut far_tx) = far.accept().await.unwrap();
            let mut accept = near.accept_uni();
            assert!(is_pending(&mut accept).await);
            far.close(9, "enough");
            let closed = Some(Aborted::Closed(9));
            assert_eq!(aborted(&accept.await.err().unwrap()), closed);
            assert_eq!(aborted(&read_some(&mut *near_rx).await.unwrap_err()), closed);
            assert_eq!(aborted(&read_some(&mut *far_rx).await.unwrap_err()), closed);
            for tx in [&mut near_tx, &mut far_tx] {
                assert_eq!(aborted(&write_all(&mut **tx, b"x").await.unwrap_err()), closed);
                poll_fn(|cx| tx.poll_close(cx)).await.unwrap();
            }
            assert_eq!(aborted(&near.open().await.err().unwrap()), closed);
        });
    }

    #[test]
    fn without_the_handle_open_streams_go_on_and_new_ones_are_refused() {
        block_on(async {
            let (near, far) = muxed_pair(64);
            let mut open = near.open_uni(Class::Normal).await.unwrap();
            write_all(&mut *open, b"a").await.unwrap();
            let mut taken = far.accept_uni().await.unwrap();
            let mut left = near.open_uni(Class::Normal).await.unwrap();
            let mut unseen = near.open_uni(Class::Normal).await.unwrap();
            write_all(&mut *left, b"b").await.unwrap();
            drop(far);
            write_all(&mut *open, b"c").await.unwrap();
            assert_eq!(read_some(&mut *taken).await.unwrap(), "ac");
            assert_eq!(
                write_all(&mut *left, b"d").await.unwrap_err().kind(),
                io::ErrorKind::BrokenPipe
            );
            write_all(&mut *unseen, b"e").await.unwrap();
            assert_eq!(
                write_all(&mut *unseen, b"f").await.unwrap_err().kind(),
                io::ErrorKind::BrokenPipe
            );
            assert_eq!(near.open().await.err().unwrap().kind(), io::ErrorKind::BrokenPipe);
            assert_eq!(
                near.accept().await.err().unwrap().kind(),
                io::ErrorKind::ConnectionAborted
            );
        });
    }

    #[test]
    fn nothing_is_left_of_streams_that_are_done() {
        block_on(async {
            let (near, far, wire) = super::muxed_pair(64, CarrierInfo::new("mem"), CarrierInfo::new("mem"));
            for _ in 0..10 {
                let (rx, mut tx) = near.open().await.unwrap();
                write_all(&mut *tx, b"x").await.unwrap();
                let accepted = far.accept().await.unwrap();
                drop((rx, tx, accepted));
                drop(near.open_uni(Class::Bulk).await.unwrap());
                drop(far.accept_uni().await.unwrap());
            }
            assert!(wire.lock().pipes.is_empty());
        });
    }
}
