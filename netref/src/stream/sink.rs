//! Places where a stream is wanted.

use std::fmt;
use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::Mutex;
use std::task::{Context, Poll, ready};

use farref_boxing::{Error, ErrorKind, Result, ShapeType, Shaped, Shapes};
use farref_macros::remote;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use tokio::sync::oneshot;

use super::flow::{Flow, Unit};
use super::supply::reader_gone;
use super::{ByteStream, Item, Source, Stream};
use crate::lock::lock;
use crate::netref::Netref;

/// What a sink crosses as.
#[remote(name = "farref.Drain")]
pub(crate) trait Drain {
    /// Reads `source` from now on; once.
    async fn take(&self, source: Netref<dyn Source>) -> Result<()>;
}

/// A stream that is wanted: it crosses, as a result for instance, and whoever gets it sends the stream.
///
/// `S` is [`Stream<T>`] or [`ByteStream`].
///
/// ```
/// # extern crate farref_netref as farref;
/// use farref::stream::Sink;
/// use farref::{Netref, Result, Stream, remote};
///
/// #[remote]
/// trait Plotter {
///     async fn plot(&self) -> Result<Sink<Stream<f64>>>;
/// }
///
/// struct Paper;
///
/// #[remote]
/// impl Plotter for Paper {
///     async fn plot(&self) -> Result<Sink<Stream<f64>>> {
///         let (sink, mut points) = Sink::<Stream<f64>>::new();
///         tokio::spawn(async move { while let Some(Ok(_point)) = points.next().await {} });
///         Ok(sink)
///     }
/// }
///
/// # #[tokio::main]
/// # async fn main() -> Result<()> {
/// let plotter: Netref<dyn Plotter> = Netref::of(Paper);
/// let (mut points, stream) = Stream::channel(16);
/// plotter.call().plot().await?.send(stream).await?;
/// points.send(3.5).await?;
/// points.finish().await?; // everything was received
/// # Ok(())
/// # }
/// ```
pub struct Sink<S> {
    drain: Netref<dyn Drain>,
    of: PhantomData<fn(S)>,
}

impl<S: Streamed> Sink<S> {
    /// A sink to be given away, and the stream that will be sent to it.
    ///
    /// The stream fails as [`Disconnected`](ErrorKind::Disconnected) if nobody holds the sink any more and nothing was
    /// sent.
    #[must_use]
    pub fn new() -> (Self, S) {
        let (send, sent) = oneshot::channel();
        let drain = Netref::of(Waiting(Mutex::new(Some(send))));
        let sink = Self {
            drain,
            of: PhantomData,
        };
        (sink, S::later(sent))
    }

    /// Sends the stream, which is read over there from then on.
    ///
    /// # Errors
    ///
    /// [`Misuse`](ErrorKind::Misuse) if one was sent already, or `stream` was given away; that of the connection.
    ///
    /// # Cancel safety
    ///
    /// The stream may be sent or not.
    pub async fn send(self, stream: S) -> Result<()> {
        self.drain.call().take(stream.into_source()?).await
    }
}

/// A kind of stream.
pub trait Streamed: Sized + sealed::Sealed {
    #[doc(hidden)]
    #[expect(private_interfaces, reason = "implemented here only")]
    fn into_source(self) -> Result<Netref<dyn Source>>;

    #[doc(hidden)]
    #[expect(private_interfaces, reason = "implemented here only")]
    fn later(source: oneshot::Receiver<Netref<dyn Source>>) -> Self;
}

mod sealed {
    #[expect(unnameable_types, reason = "so that nobody else implements it")]
    pub trait Sealed {}
    impl<T: super::Item> Sealed for super::Stream<T> {}
    impl Sealed for super::ByteStream {}
}

#[expect(private_interfaces, reason = "implemented here only")]
impl<T: Item> Streamed for Stream<T> {
    fn into_source(self) -> Result<Netref<dyn Source>> {
        self.0.give_away()
    }

    fn later(source: oneshot::Receiver<Netref<dyn Source>>) -> Self {
        Self(Later::flow(source))
    }
}

#[expect(private_interfaces, reason = "implemented here only")]
impl Streamed for ByteStream {
    fn into_source(self) -> Result<Netref<dyn Source>> {
        self.check_whole()?;
        self.flow.give_away()
    }

    fn later(source: oneshot::Receiver<Netref<dyn Source>>) -> Self {
        Self::over(Later::flow(source))
    }
}

/// A stream that begins when its source is there.
enum Later<U: Unit> {
    Waiting(oneshot::Receiver<Netref<dyn Source>>),
    There(Flow<U>),
}

impl<U: Unit> Later<U> {
    fn flow(source: oneshot::Receiver<Netref<dyn Source>>) -> Flow<U> {
        Flow::here(Box::pin(Self::Waiting(source)), None)
    }
}

/// Nothing in it is pinned: items are moved out.
impl<U: Unit> Unpin for Later<U> {}

impl<U: Unit> futures_core::Stream for Later<U> {
    type Item = Result<U::Item>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<U::Item>>> {
        let this = self.get_mut();
        loop {
            match this {
                Self::Waiting(source) => match ready!(Pin::new(source).poll(context)) {
                    Ok(source) => *this = Self::There(Flow::there(source)),
                    Err(_) => return Poll::Ready(Some(Err(reader_gone()))),
                },
                Self::There(flow) => return flow.poll(context),
            }
        }
    }
}

/// Waits for the stream.
struct Waiting(Mutex<Option<oneshot::Sender<Netref<dyn Source>>>>);

#[remote]
impl Drain for Waiting {
    async fn take(&self, source: Netref<dyn Source>) -> Result<()> {
        let twice = || Error::new(ErrorKind::Misuse, "the sink has got its stream already");
        let send = lock(&self.0).take().ok_or_else(twice)?;
        send.send(source).map_err(|_| reader_gone())
    }
}

impl<S> Serialize for Sink<S> {
    fn serialize<Z: Serializer>(&self, serializer: Z) -> std::result::Result<Z::Ok, Z::Error> {
        self.drain.serialize(serializer)
    }
}

impl<'de, S> Deserialize<'de> for Sink<S> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        Netref::deserialize(deserializer).map(|drain| Self {
            drain,
            of: PhantomData,
        })
    }
}

impl<S: Shaped> Shaped for Sink<S> {
    fn shape(shapes: &mut Shapes) -> ShapeType {
        // It is a reference, too.
        S::shape(shapes)
    }
}

impl<S> fmt::Debug for Sink<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.drain.is_local() {
            "Sink(local)"
        } else {
            "Sink(remote)"
        })
    }
}
