//! QUIC that breaks: its connections go on until so many bytes have gone by, then one side closes them at once.
//!
//! Both sides notice, and what was under way is lost: quinn drops what it has not sent, and what was not read.

use std::io::{self, IoSlice};
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::BytesMut;
use farref::transport::quic::Quic;
use farref::transport::{
    AcceptError, Address, BoxFuture, ByteRx, ByteTx, Carrier, CarrierInfo, Class, DialError, Identity,
    ListenError, Listener, Media, Muxed, StreamHalves, Transport,
};

use crate::relay::Fuse;

/// What breaks the connections of all media that were made from it.
#[derive(Clone, Default)]
pub struct Brittle(Arc<Fuse>);

impl Brittle {
    /// The standard media, with QUIC that breaks for whoever has this identity.
    pub fn media(&self, identity: Identity) -> Media {
        Media::standard().with(BrittleQuic {
            quic: Quic::new(identity),
            brittle: self.clone(),
        })
    }

    /// Closes the connection over which the last of that many bytes more is read or written, and waits for that.
    pub async fn cut(&self, bytes: u32) {
        let cut = self.0.next();
        self.0.cut_after(bytes);
        cut.await;
    }

    /// How often a connection was closed.
    pub fn cuts(&self) -> u64 {
        self.0.cuts()
    }

    fn carrier(&self, carrier: Carrier) -> Carrier {
        match carrier {
            Carrier::Muxed(inner) => Carrier::Muxed(Box::new(BrittleMuxed(Inner {
                muxed: inner.into(),
                brittle: self.clone(),
            }))),
            other => other,
        }
    }
}

struct BrittleQuic {
    quic: Quic,
    brittle: Brittle,
}

impl Transport for BrittleQuic {
    fn schemes(&self) -> &'static [&'static str] {
        self.quic.schemes()
    }

    fn dial<'a>(&'a self, address: &'a Address) -> BoxFuture<'a, Result<Carrier, DialError>> {
        Box::pin(async move { Ok(self.brittle.carrier(self.quic.dial(address).await?)) })
    }

    fn listen<'a>(&'a self, address: &'a Address) -> BoxFuture<'a, Result<Box<dyn Listener>, ListenError>> {
        Box::pin(async move {
            let inner = self.quic.listen(address).await?;
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
