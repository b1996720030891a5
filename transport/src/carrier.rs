//! What a medium hands up: one open connection, as owned halves that never wait.
//!
//! Knows the shape of a carrier and the facts about it. How one comes to be (dial, accept) is in
//! [`medium`](crate::medium); what its bytes mean is for the layers above.

use std::any::Any;
use std::fmt;
use std::future::Future;
use std::io::{self, IoSlice, IoSliceMut};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncWrite};

use crate::address::{Address, PeerKey};
use crate::descriptor::Descriptor;
use crate::io::{IoRx, IoTx};

/// A future in a box, as the object-safe traits of this crate return it.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// One open connection over some medium.
#[non_exhaustive]
#[expect(
    clippy::large_enum_variant,
    reason = "made once per connection, and taken apart at once"
)]
pub enum Carrier {
    /// One ordered stream of bytes each way.
    Stream(StreamCarrier),
    /// Many independent streams, made and scheduled by the medium itself.
    Muxed(Box<dyn Muxed>),
}

impl Carrier {
    /// The facts about this carrier.
    #[must_use]
    pub fn info(&self) -> &CarrierInfo {
        match self {
            Self::Stream(stream) => &stream.info,
            Self::Muxed(muxed) => muxed.info(),
        }
    }
}

impl From<StreamCarrier> for Carrier {
    fn from(stream: StreamCarrier) -> Self {
        Self::Stream(stream)
    }
}

impl fmt::Debug for Carrier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let form = match self {
            Self::Stream(_) => "Stream",
            Self::Muxed(_) => "Muxed",
        };
        f.debug_tuple(form).field(self.info()).finish()
    }
}

/// A carrier that is one ordered stream of bytes each way, in two owned halves.
///
/// The halves may live on different threads. Dropping both closes the carrier. Dropping `tx` alone
/// ends that direction, as [`poll_close`](ByteTx::poll_close) does, except over one object that reads
/// and writes ([`from_io`](Self::from_io)), which goes with the last half. Dropping `rx` alone may tell
/// the peer nothing.
pub struct StreamCarrier {
    /// The reading half.
    pub rx: Box<dyn ByteRx>,
    /// The writing half.
    pub tx: Box<dyn ByteTx>,
    /// The facts about this carrier.
    pub info: CarrierInfo,
    /// What must outlive both halves. Whoever takes the carrier apart keeps it and drops it last.
    pub guard: Guard,
}

impl StreamCarrier {
    /// A carrier of two halves that belong together and need no guard.
    #[must_use]
    pub fn new(rx: impl ByteRx, tx: impl ByteTx, info: CarrierInfo) -> Self {
        Self {
            rx: Box::new(rx),
            tx: Box::new(tx),
            info,
            guard: Guard::none(),
        }
    }

    /// Makes a carrier of anything that tokio can read and write: a TLS stream, a pipe of your own.
    ///
    /// The halves share a lock; where reader and writer come apart, [`from_halves`](Self::from_halves)
    /// does without.
    ///
    /// ```
    /// use farref_transport::{CarrierInfo, StreamCarrier};
    ///
    /// let (ours, _theirs) = tokio::io::duplex(1024);
    /// let carrier = StreamCarrier::from_io(ours, CarrierInfo::new("duplex"));
    /// assert_eq!(carrier.info.medium, "duplex");
    /// ```
    #[must_use]
    pub fn from_io(io: impl AsyncRead + AsyncWrite + Send + 'static, info: CarrierInfo) -> Self {
        let (reader, writer) = tokio::io::split(io);
        Self::from_halves(reader, writer, info)
    }

    /// Makes a carrier of a reader and a writer, as of the two pipes of a child process.
    #[must_use]
    pub fn from_halves(
        reader: impl AsyncRead + Send + 'static,
        writer: impl AsyncWrite + Send + 'static,
        info: CarrierInfo,
    ) -> Self {
        Self::new(IoRx::new(reader), IoTx::new(writer), info)
    }

    /// The same carrier, with `guard` dropped after its halves.
    #[must_use]
    pub fn with_guard(mut self, guard: impl Any + Send + Sync) -> Self {
        self.guard = Guard::new(guard);
        self
    }
}

impl fmt::Debug for StreamCarrier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StreamCarrier")
            .field("info", &self.info)
            .finish_non_exhaustive()
    }
}

/// The reading half of a byte stream. Nothing in it waits.
pub trait ByteRx: Send + 'static {
    /// Reads what is there into the spare capacity of `into`, at its end, and says how many bytes
    /// that were. `Ok(0)` is the end of the stream.
    ///
    /// The caller reserves first, at least one byte; a buffer without spare capacity may be grown by
    /// a little. At most the spare capacity is read otherwise. May be called at any time, from any
    /// thread, without [`poll_readable`](Self::poll_readable) first.
    ///
    /// # Errors
    ///
    /// [`WouldBlock`](io::ErrorKind::WouldBlock) if nothing is there now. Any other error is final;
    /// on native streams [`aborted`](crate::aborted) tells the peer's code.
    fn try_read(&mut self, into: &mut BytesMut) -> io::Result<usize>;

    /// Ready when [`try_read`](Self::try_read) may make progress, has reached the end, or fails.
    /// May be ready for nothing now and then. The waker of the last call is the one that is woken.
    ///
    /// # Errors
    ///
    /// If readiness itself cannot be had any more, as after the shutdown of the runtime.
    fn poll_readable(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;

    /// [`try_read`](Self::try_read) where there is something, else a promise to wake.
    ///
    /// For whoever reads in a loop: a medium that knows by the last read that nothing is left asks no second time.
    ///
    /// # Errors
    ///
    /// Those of the two methods it stands for, but never `WouldBlock`.
    fn poll_read(&mut self, cx: &mut Context<'_>, into: &mut BytesMut) -> Poll<io::Result<usize>> {
        loop {
            match self.try_read(into) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                read => return Poll::Ready(read),
            }
            ready!(self.poll_readable(cx))?;
        }
    }

    /// Whether [`try_read_vectored`](Self::try_read_vectored) may be used. Default false.
    fn is_read_vectored(&self) -> bool {
        false
    }

    /// [`try_read`](Self::try_read) into `bufs`, which are filled one after the other: for whoever knows where what comes
    /// belongs. There must be room for a byte at least.
    ///
    /// # Errors
    ///
    /// As for [`try_read`](Self::try_read); [`Unsupported`](io::ErrorKind::Unsupported) where
    /// [`is_read_vectored`](Self::is_read_vectored) is false.
    fn try_read_vectored(&mut self, bufs: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        let _ = bufs;
        Err(io::ErrorKind::Unsupported.into())
    }

    /// [`try_read_vectored`](Self::try_read_vectored) where there is something, else a promise to wake.
    ///
    /// # Errors
    ///
    /// Those of the methods it stands for, but never `WouldBlock`.
    fn poll_read_vectored(
        &mut self,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
    ) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.poll_readable(cx))?;
            match self.try_read_vectored(bufs) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                read => return Poll::Ready(read),
            }
        }
    }

    /// A descriptor on which a thread may wait without the runtime, if the medium has one.
    fn descriptor(&self) -> Option<&dyn Descriptor> {
        None
    }

    /// Takes the medium, with both its halves, out of the reactor, for a thread that reads and waits by itself: gives
    /// what that waits on, and `None` where the medium cannot leave. Until [`join_reactor`](Self::join_reactor)
    /// neither half is ready by polling; `try_read` and `try_write` are as before.
    ///
    /// # Errors
    ///
    /// The carrier is lost by that.
    fn leave_reactor(&mut self) -> io::Result<Option<Arc<dyn Descriptor>>> {
        Ok(None)
    }

    /// [`try_read`](Self::try_read), but where the medium has [left](Self::leave_reactor) the reactor it waits for a moment,
    /// some milliseconds, for something to read: a system call less than to wait by the descriptor.
    ///
    /// # Errors
    ///
    /// As for [`try_read`](Self::try_read).
    fn read_soon(&mut self, into: &mut BytesMut) -> io::Result<usize> {
        self.try_read(into)
    }

    /// Brings a medium that left back to the reactor of the runtime that this is called in. What
    /// [`leave_reactor`](Self::leave_reactor) gave must have been dropped.
    ///
    /// # Errors
    ///
    /// The carrier is lost by that.
    fn join_reactor(&mut self) -> io::Result<()> {
        Ok(())
    }

    /// Nothing has come for a while: gives back memory that is of use only while something does. By default nothing.
    fn rest(&mut self) {}

    /// Tells the peer that the rest is not wanted (native streams only).
    fn stop(&mut self, code: u32) {
        let _ = code;
    }
}

/// The writing half of a byte stream. Nothing in it waits.
pub trait ByteTx: Send + 'static {
    /// Takes as many bytes from the front of `bufs` as fit now, and says how many. `Ok(0)` only if
    /// there were none. May be called at any time, from any thread, without
    /// [`poll_writable`](Self::poll_writable) first.
    ///
    /// # Errors
    ///
    /// [`WouldBlock`](io::ErrorKind::WouldBlock) if nothing fits now. Any other error is final;
    /// [`BrokenPipe`](io::ErrorKind::BrokenPipe) after [`poll_close`](Self::poll_close).
    fn try_write(&mut self, bufs: &[IoSlice<'_>]) -> io::Result<usize>;

    /// Ready when [`try_write`](Self::try_write) may make progress or fails. May be ready for nothing
    /// now and then. The waker of the last call is the one that is woken.
    ///
    /// # Errors
    ///
    /// As for [`ByteRx::poll_readable`].
    fn poll_writable(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;

    /// Whether bytes that `try_write` took may still be inside, as in a buffering writer brought by
    /// the user. Then [`poll_flush`](Self::poll_flush) must be driven until it is ready.
    fn is_buffering(&self) -> bool {
        false
    }

    /// Passes on what is inside. Never waits until the peer, or a slow line, has got it.
    ///
    /// # Errors
    ///
    /// Those of writing.
    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let _ = cx;
        Poll::Ready(Ok(()))
    }

    /// Passes on what is inside, then ends this direction: the peer reads what was written, and the
    /// end behind it. The other direction goes on where [`CarrierInfo::half_close`] says so. Closing
    /// twice is as closing once.
    ///
    /// # Errors
    ///
    /// Those of writing. A connection that is gone already counts as closed.
    fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;

    /// A descriptor on which a thread may wait without the runtime, if the medium has one.
    fn descriptor(&self) -> Option<&dyn Descriptor> {
        None
    }

    /// There has been nothing to do for a while: gives back memory that is of use only while there is. By default nothing.
    fn rest(&mut self) {}

    /// Abandons the stream: what is under way may be lost, and the peer's reads fail with `code`
    /// (native streams only).
    fn reset(&mut self, code: u32) {
        let _ = code;
    }

    /// Changes the priority of what is written from now on (native streams only).
    fn set_class(&mut self, class: Class) {
        let _ = class;
    }
}

/// The two halves of a native stream that goes both ways.
pub type StreamHalves = (Box<dyn ByteRx>, Box<dyn ByteTx>);

/// A carrier whose medium makes independent streams by itself.
///
/// A stream may reach the peer only with its first byte. The streams end with the carrier:
/// dropping this handle lets those that are open go on, but no new one can be made.
///
/// # Cancel safety
///
/// Every future here may be dropped; a stream that was about to be handed out is handed out by the
/// next call, or was never opened.
pub trait Muxed: Send + Sync + 'static {
    /// Opens a stream that goes both ways, waiting for the peer's limit of streams if need be.
    fn open(&self) -> BoxFuture<'_, io::Result<StreamHalves>>;

    /// Waits for the next stream both ways that the peer opened.
    fn accept(&self) -> BoxFuture<'_, io::Result<StreamHalves>>;

    /// Opens a stream that we write, waiting for the peer's limit of streams if need be.
    fn open_uni(&self, class: Class) -> BoxFuture<'_, io::Result<Box<dyn ByteTx>>>;

    /// Waits for the next stream that the peer opened to write on.
    fn accept_uni(&self) -> BoxFuture<'_, io::Result<Box<dyn ByteRx>>>;

    /// Takes as much at once as the medium is made for. Until then what a listener has accepted takes little: peers
    /// that are not let in must not fill the memory. Dropping and closing need no such leave. By default nothing.
    fn widen(&self) {}

    /// Closes all streams at once, on both sides. What is under way may be lost, so whoever wants it
    /// heard waits until the peer has closed first. [`aborted`](crate::aborted) tells the peer `code`.
    fn close(&self, code: u32, reason: &str);

    /// The facts about this carrier.
    fn info(&self) -> &CarrierInfo;
}

/// How urgent the bytes of a native stream are, most urgent first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[expect(
    clippy::exhaustive_enums,
    reason = "the classes are part of the wire format; code is meant to know all"
)]
pub enum Class {
    /// Somebody waits for these bytes.
    Interactive,
    /// Neither urgent nor bulky.
    #[default]
    Normal,
    /// Large transfers, which use what the others leave.
    Bulk,
}

/// What is known about a carrier before a byte has passed.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct CarrierInfo {
    /// The medium, in the word of its address scheme: `tcp`, `unix`, `mem`.
    pub medium: &'static str,
    /// Our end.
    pub local: Option<Address>,
    /// The peer's end.
    pub remote: Option<Address>,
    /// Whether bytes arrive complete, in order and unaltered, or not at all. Default true.
    pub reliable: bool,
    /// Whether nobody else can read or alter the bytes. Default false.
    pub confidential: bool,
    /// Whether the carrier may break while both processes live (tcp, quic, ssh, serial): then the
    /// session above it is kept by default. Default false.
    pub may_be_lost: bool,
    /// Whether one direction may end while the other goes on. Default true.
    pub half_close: bool,
    /// Who the peer is, as far as the medium itself vouches for it.
    pub peer: PeerEvidence,
    /// The size of fragment that suits the medium, in bytes: what connections take in place of their default, up to 64 KiB; a
    /// smaller one bounds what they are set to as well. Default 16 KiB.
    pub fragment_hint: u32,
    /// The rate of the medium in bytes per second, where it is known beforehand.
    pub rate_hint: Option<u64>,
    /// A value that only the two ends of this very carrier share (of TLS or Noise).
    pub channel_binding: Option<[u8; 32]>,
    /// Where the carrier's own numbers are read, if it keeps any.
    pub gauge: Option<Gauge>,
}

impl CarrierInfo {
    /// The facts about a local, dependable, readable carrier of `medium` whose peer is unknown: all
    /// fields at their defaults.
    #[must_use]
    pub const fn new(medium: &'static str) -> Self {
        Self {
            medium,
            local: None,
            remote: None,
            reliable: true,
            confidential: false,
            may_be_lost: false,
            half_close: true,
            peer: PeerEvidence::None,
            fragment_hint: 16 * 1024,
            rate_hint: None,
            channel_binding: None,
            gauge: None,
        }
    }
}

/// What a carrier that makes up for losses counts, since it was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct CarrierStats {
    /// Bytes on the wire, with all that the carrier adds.
    pub bytes_sent: u64,
    /// The same the other way, damaged ones included.
    pub bytes_received: u64,
    /// Packets or frames that were lost, and sent again.
    pub repeated: u64,
    /// What came and was damaged, where that can be told from what never came.
    pub damaged: u64,
    /// The smoothed round trip, once there is one.
    pub round_trip: Option<Duration>,
}

/// Reads the numbers of a carrier, from any thread, also when the carrier is gone; it keeps no carrier open.
#[derive(Clone)]
pub struct Gauge(Arc<dyn Fn() -> CarrierStats + Send + Sync>);

impl Gauge {
    /// A gauge that reads with `read`, which is quick.
    pub fn new(read: impl Fn() -> CarrierStats + Send + Sync + 'static) -> Self {
        Self(Arc::new(read))
    }

    /// The numbers now.
    #[must_use]
    pub fn read(&self) -> CarrierStats {
        (self.0)()
    }
}

impl fmt::Debug for Gauge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.read().fmt(f)
    }
}

/// Who the peer is, as far as the medium itself vouches for it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum PeerEvidence {
    /// The medium does not know.
    #[default]
    None,
    /// The operating system names the account at the other end of a local socket.
    Unix {
        /// The effective user when the socket was connected.
        uid: u32,
        /// The effective group when the socket was connected.
        gid: u32,
        /// The process, where the system tells. Ids are reused: good for a log, not for a decision.
        pid: Option<u32>,
    },
    /// The peer proved that it has the secret half of this key.
    Key([u8; 32]),
    /// The peer proved that it has the secret key of a certificate that is trusted here.
    Certificate {
        /// The SHA-256 digest of the certificate, in DER.
        sha256: [u8; 32],
    },
    /// An ssh server let us in, or ssh let the peer in, as this account.
    Ssh {
        /// The account.
        user: String,
        /// The host, as it was named to ssh.
        host: String,
    },
}

impl fmt::Display for PeerEvidence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("unknown"),
            Self::Unix { uid, gid, pid: None } => write!(f, "uid {uid}, gid {gid}"),
            Self::Unix {
                uid,
                gid,
                pid: Some(pid),
            } => write!(f, "uid {uid}, gid {gid}, pid {pid}"),
            Self::Key(key) => PeerKey::new(*key).fmt(f),
            Self::Certificate { sha256 } => {
                f.write_str("certificate sha256.")?;
                sha256.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
            Self::Ssh { user, host } => write!(f, "{user}@{host} by ssh"),
        }
    }
}

/// Something that must live as long as a carrier: a child process, a lock file, a temporary
/// directory. Nothing can be done with it but dropping it.
#[derive(Default)]
pub struct Guard(Option<Box<dyn Any + Send + Sync>>);

impl Guard {
    /// Guards nothing.
    #[must_use]
    pub const fn none() -> Self {
        Self(None)
    }

    /// Keeps `guarded` until the guard is dropped.
    #[must_use]
    pub fn new(guarded: impl Any + Send + Sync) -> Self {
        Self(Some(Box::new(guarded)))
    }
}

impl fmt::Debug for Guard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() {
            "Guard(something)"
        } else {
            "Guard(nothing)"
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn evidence_reads_as_a_person_would_say_it() {
        let told = [
            (PeerEvidence::None, "unknown"),
            (
                PeerEvidence::Unix {
                    uid: 1000,
                    gid: 100,
                    pid: None,
                },
                "uid 1000, gid 100",
            ),
            (
                PeerEvidence::Unix {
                    uid: 0,
                    gid: 0,
                    pid: Some(7),
                },
                "uid 0, gid 0, pid 7",
            ),
            (
                PeerEvidence::Key([0; 32]),
                "ed25519.aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
            ),
            (
                PeerEvidence::Certificate { sha256: [0xa5; 32] },
                "certificate sha256.a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5",
            ),
            (
                PeerEvidence::Ssh {
                    user: "eva".into(),
                    host: "rig7".into(),
                },
                "eva@rig7 by ssh",
            ),
        ];
        for (evidence, text) in told {
            assert_eq!(evidence.to_string(), text);
        }
    }

    #[test]
    fn the_most_urgent_class_sorts_first() {
        assert!(Class::Interactive < Class::Normal && Class::Normal < Class::Bulk);
    }

    #[test]
    fn a_guard_is_dropped_after_the_halves() {
        use std::sync::{Arc, Mutex};

        struct Noted(&'static str, Arc<Mutex<Vec<&'static str>>>);
        impl Drop for Noted {
            fn drop(&mut self) {
                self.1.lock().unwrap().push(self.0);
            }
        }
        impl ByteRx for Noted {
            fn try_read(&mut self, _: &mut BytesMut) -> io::Result<usize> {
                Ok(0)
            }
            fn poll_readable(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
                Poll::Ready(Ok(()))
            }
        }
        impl ByteTx for Noted {
            fn try_write(&mut self, _: &[IoSlice<'_>]) -> io::Result<usize> {
                Ok(0)
            }
            fn poll_writable(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
                Poll::Ready(Ok(()))
            }
            fn poll_close(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
                Poll::Ready(Ok(()))
            }
        }

        let dropped = Arc::new(Mutex::new(Vec::new()));
        let noted = |name| Noted(name, Arc::clone(&dropped));
        let carrier = StreamCarrier::new(noted("rx"), noted("tx"), CarrierInfo::new("test"));
        drop(carrier.with_guard(noted("guard")));
        assert_eq!(*dropped.lock().unwrap(), ["rx", "tx", "guard"]);
    }
}
