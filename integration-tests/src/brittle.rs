//! Carriers that break: they go on until so many bytes have gone by, then one side closes them at once.
//!
//! Both sides notice, and what was under way is lost: what was not read, and with QUIC also what was not sent.

use std::io::{self, IoSlice, IoSliceMut};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use bytes::BytesMut;
use farref::transport::quic::Quic;
use farref::transport::{
    AcceptError, Address, BoxFuture, ByteRx, ByteTx, Carrier, CarrierInfo, Class, DialError, Identity,
    ListenError, Listener, Media, Muxed, StreamCarrier, StreamHalves, Transport,
};

use crate::relay::Fuse;

/// What breaks the carriers of all media that were made from it.
#[derive(Clone, Default)]
pub struct Brittle(Arc<Fuse>);

/// The media that break.
const SCHEMES: [&str; 5] = ["mem", "quic", "serial", "tcp", "unix"];

impl Brittle {
    /// The standard media, and QUIC for whoever has this identity.
    pub fn media(&self, identity: Identity) -> Media {
        Media::standard().with(BrittleMedia {
            media: Media::standard().with(Quic::new(identity)),
            brittle: self.clone(),
        })
    }

    /// From now on the carrier over which the last of that many bytes more is read or written is closed.
    pub fn cut_after(&self, bytes: u32) {
        self.0.cut_after(bytes);
    }

    /// Closes the carrier over which the last of that many bytes more is read or written, and waits for that.
    pub async fn cut(&self, bytes: u32) {
        let cut = self.0.next();
        self.cut_after(bytes);
        cut.await;
    }

    /// How often a carrier was closed.
    pub fn cuts(&self) -> u64 {
        self.0.cuts()
    }

    fn carrier(&self, carrier: Carrier) -> Carrier {
        match carrier {
            Carrier::Muxed(inner) => Carrier::Muxed(Box::new(BrittleMuxed(Inner {
                muxed: inner.into(),
                brittle: self.clone(),
            }))),
            Carrier::Stream(StreamCarrier { rx, tx, info, guard }) => {
                let of = Stream {
                    ends: Arc::default(),
                    brittle: self.clone(),
                };
                let mut carrier = StreamCarrier::new(StreamRx(rx, of.clone()), StreamTx(tx, of), info);
                carrier.guard = guard;
                Carrier::Stream(carrier)
            }
            other => other,
        }
    }
}

struct BrittleMedia {
    media: Media,
    brittle: Brittle,
}

impl Transport for BrittleMedia {
    fn schemes(&self) -> &'static [&'static str] {
        &SCHEMES
    }

    fn dial<'a>(&'a self, address: &'a Address) -> BoxFuture<'a, Result<Carrier, DialError>> {
        Box::pin(async move { Ok(self.brittle.carrier(self.media.dial(address).await?)) })
    }

    fn listen<'a>(&'a self, address: &'a Address) -> BoxFuture<'a, Result<Box<dyn Listener>, ListenError>> {
        Box::pin(async move {
            let inner = self.media.listen(address).await?;
            let brittle = self.brittle.clone();
            Ok(Box::new(BrittleListener { inner, brittle }) as Box<dyn Listener>)
        })
    }
}

struct BrittleListener {
    inner: Box<dyn Listener>,
    brittle: Brittle,
}

impl Listener for BrittleListener {
    fn accept(&mut self) -> BoxFuture<'_, Result<Carrier, AcceptError>> {
        Box::pin(async { Ok(self.brittle.carrier(self.inner.accept().await?)) })
    }

    fn local_addresses(&self) -> Vec<Address> {
        self.inner.local_addresses()
    }
}

#[derive(Clone)]
struct Inner {
    muxed: Arc<dyn Muxed>,
    brittle: Brittle,
}

impl Inner {
    /// How many of `count` bytes pass; after fewer the connection is closed.
    fn pass(&self, count: usize) -> usize {
        let passes = self.brittle.0.pass(count);
        if passes < count {
            self.muxed.close(0, "cut");
        }
        passes
    }

    fn rx(&self, inner: Box<dyn ByteRx>) -> Box<dyn ByteRx> {
        let of = self.clone();
        let is_cut = false;
        Box::new(BrittleRx { inner, of, is_cut })
    }

    fn tx(&self, inner: Box<dyn ByteTx>) -> Box<dyn ByteTx> {
        let of = self.clone();
        Box::new(BrittleTx { inner, of })
    }
}

struct BrittleMuxed(Inner);

impl Muxed for BrittleMuxed {
    fn open(&self) -> BoxFuture<'_, io::Result<StreamHalves>> {
        Box::pin(async {
            let (rx, tx) = self.0.muxed.open().await?;
            Ok((self.0.rx(rx), self.0.tx(tx)))
        })
    }

    fn accept(&self) -> BoxFuture<'_, io::Result<StreamHalves>> {
        Box::pin(async {
            let (rx, tx) = self.0.muxed.accept().await?;
            Ok((self.0.rx(rx), self.0.tx(tx)))
        })
    }

    fn open_uni(&self, class: Class) -> BoxFuture<'_, io::Result<Box<dyn ByteTx>>> {
        Box::pin(async move { Ok(self.0.tx(self.0.muxed.open_uni(class).await?)) })
    }

    fn accept_uni(&self) -> BoxFuture<'_, io::Result<Box<dyn ByteRx>>> {
        Box::pin(async { Ok(self.0.rx(self.0.muxed.accept_uni().await?)) })
    }

    fn widen(&self) {
        self.0.muxed.widen();
    }

    fn close(&self, code: u32, reason: &str) {
        self.0.muxed.close(code, reason);
    }

    fn info(&self) -> &CarrierInfo {
        self.0.muxed.info()
    }
}

struct BrittleRx {
    inner: Box<dyn ByteRx>,
    of: Inner,
    /// It has kept bytes back: quinn would give those behind them.
    is_cut: bool,
}

impl ByteRx for BrittleRx {
    fn try_read(&mut self, into: &mut BytesMut) -> io::Result<usize> {
        if self.is_cut {
            return Err(io::ErrorKind::ConnectionAborted.into());
        }
        let before = into.len();
        let count = self.inner.try_read(into)?;
        let passes = self.of.pass(count);
        if passes < count {
            self.is_cut = true;
            into.truncate(before + passes);
            if passes == 0 {
                return self.try_read(into);
            }
        }
        Ok(passes)
    }

    fn poll_readable(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.inner.poll_readable(context)
    }

    fn stop(&mut self, code: u32) {
        self.inner.stop(code);
    }
}

struct BrittleTx {
    inner: Box<dyn ByteTx>,
    of: Inner,
}

impl ByteTx for BrittleTx {
    fn try_write(&mut self, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
        let count = self.inner.try_write(pieces)?;
        // What it took is lost with the connection, from wherever it had got to.
        self.of.pass(count);
        Ok(count)
    }

    fn poll_writable(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.inner.poll_writable(context)
    }

    fn poll_close(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.inner.poll_close(context)
    }

    fn reset(&mut self, code: u32) {
        self.inner.reset(code);
    }

    fn set_class(&mut self, class: Class) {
        self.inner.set_class(class);
    }
}

/// What both halves of a stream know.
#[derive(Clone)]
struct Stream {
    ends: Arc<Ends>,
    brittle: Brittle,
}

#[derive(Default)]
struct Ends {
    is_cut: AtomicBool,
    /// Who waits for reading, and for writing.
    waiting: Mutex<[Option<Waker>; 2]>,
}

impl Stream {
    /// How many of `count` bytes pass; after fewer it is cut.
    fn pass(&self, count: usize) -> usize {
        let passes = self.brittle.0.pass(count);
        if passes < count {
            self.ends.is_cut.store(true, Ordering::SeqCst);
            let waiting = std::mem::take(&mut *self.ends.waiting.lock().unwrap());
            waiting.into_iter().flatten().for_each(Waker::wake);
        }
        passes
    }

    fn check(&self) -> io::Result<()> {
        if self.ends.is_cut.load(Ordering::SeqCst) {
            return Err(io::ErrorKind::ConnectionAborted.into());
        }
        Ok(())
    }

    /// Whether it is whole. Then who asks is woken when it is cut.
    fn watch(&self, half: usize, context: &Context<'_>) -> io::Result<()> {
        self.ends.waiting.lock().unwrap()[half] = Some(context.waker().clone());
        self.check()
    }
}

struct StreamRx(Box<dyn ByteRx>, Stream);

impl ByteRx for StreamRx {
    fn try_read(&mut self, into: &mut BytesMut) -> io::Result<usize> {
        self.1.check()?;
        let before = into.len();
        let count = self.0.try_read(into)?;
        let passes = self.1.pass(count);
        into.truncate(before + passes);
        if passes == 0 {
            self.1.check()?;
        }
        Ok(passes)
    }

    fn is_read_vectored(&self) -> bool {
        self.0.is_read_vectored()
    }

    fn try_read_vectored(&mut self, bufs: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        self.1.check()?;
        let count = self.0.try_read_vectored(bufs)?;
        let passes = self.1.pass(count);
        if passes == 0 {
            self.1.check()?;
        }
        Ok(passes)
    }

    fn poll_readable(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.1.watch(0, context)?;
        self.0.poll_readable(context)
    }
}

struct StreamTx(Box<dyn ByteTx>, Stream);

impl ByteTx for StreamTx {
    fn try_write(&mut self, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
        self.1.check()?;
        let count = self.0.try_write(pieces)?;
        // What the medium has taken may still arrive.
        self.1.pass(count);
        Ok(count)
    }

    fn poll_writable(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.1.watch(1, context)?;
        self.0.poll_writable(context)
    }

    fn is_buffering(&self) -> bool {
        self.0.is_buffering()
    }

    fn poll_flush(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.1.watch(1, context)?;
        self.0.poll_flush(context)
    }

    fn poll_close(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.poll_close(context)
    }
}
