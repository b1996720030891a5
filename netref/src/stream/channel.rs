//! Streams that are fed by hand.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use farref_boxing::{Error, Result};
use tokio::io::AsyncWrite;
use tokio::sync::mpsc;
use tokio_util::sync::PollSender;

use super::supply::{Ended, Ending, reader_gone};
use crate::call::BoxFuture;

/// Where the items of a stream are sent from: a `futures::Sink`, and tokio's `AsyncWrite` for a
/// [`ByteStream`](crate::ByteStream). Clones send to the same stream, which ends when the last of them is dropped.
pub struct Sender<T> {
    items: PollSender<Result<T>>,
    ending: Arc<Ending>,
    /// Waits for the end to be received.
    closing: Option<BoxFuture<'static, Result<()>>>,
}

/// What is sent, as a stream.
pub(super) struct Received<T>(mpsc::Receiver<Result<T>>);

pub(super) fn new<T: Send + 'static>(capacity: usize) -> (Sender<T>, Received<T>, Arc<Ending>) {
    let (items, received) = mpsc::channel(capacity.clamp(1, tokio::sync::Semaphore::MAX_PERMITS));
    let ending = Arc::<Ending>::default();
    let sender = Sender {
        items: PollSender::new(items),
        ending: Arc::clone(&ending),
        closing: None,
    };
    (sender, Received(received), ending)
}

impl<T: Send + 'static> Sender<T> {
    /// Sends an item, once there is room for it.
    ///
    /// # Errors
    ///
    /// [`Disconnected`](farref_boxing::ErrorKind::Disconnected): nobody reads any more.
    ///
    /// # Cancel safety
    ///
    /// The item was not sent.
    pub async fn send(&mut self, item: T) -> Result<()> {
        self.put(Ok(item)).await
    }

    /// Ends the stream with an error, behind what was sent.
    ///
    /// # Errors
    ///
    /// Nobody reads any more.
    ///
    /// # Cancel safety
    ///
    /// The stream ends without the error.
    pub async fn fail(mut self, error: Error) -> Result<()> {
        self.put(Err(error)).await
    }

    async fn put(&mut self, item: Result<T>) -> Result<()> {
        let room = std::future::poll_fn(|context| self.items.poll_reserve(context));
        room.await.map_err(|_| reader_gone())?;
        self.items.send_item(item).map_err(|_| reader_gone())
    }

    /// Ends the stream, if this is its last sender, and waits until whoever reads has got everything that was sent.
    ///
    /// # Errors
    ///
    /// [`Disconnected`](farref_boxing::ErrorKind::Disconnected): whoever read is gone, and what it got is not known.
    ///
    /// # Cancel safety
    ///
    /// Safe: the stream ends all the same.
    pub async fn finish(mut self) -> Result<()> {
        std::future::poll_fn(|context| self.poll_finish(context)).await
    }

    /// Waits until nobody reads any more: for whoever waits for what there is to be sent.
    ///
    /// # Cancel safety
    ///
    /// Safe.
    pub async fn closed(&mut self) {
        if let Some(items) = self.items.get_ref() {
            items.closed().await;
        }
    }

    /// Whether nobody reads any more.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.items.is_closed() || self.ending.get() != Ended::NotYet
    }

    fn poll_finish(&mut self, context: &mut Context<'_>) -> Poll<Result<()>> {
        self.items.close();
        let ending = Arc::clone(&self.ending);
        let closing = self
            .closing
            .get_or_insert_with(|| Box::pin(async move { ending.received().await }));
        closing.as_mut().poll(context)
    }
}

impl<T: Send + 'static> futures_sink::Sink<T> for Sender<T> {
    type Error = Error;

    fn poll_ready(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<()>> {
        self.items.poll_reserve(context).map_err(|_| reader_gone())
    }

    fn start_send(mut self: Pin<&mut Self>, item: T) -> Result<()> {
        self.items.send_item(Ok(item)).map_err(|_| reader_gone())
    }

    /// What was sent is on its way as soon as it is asked for: there is nothing to flush.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<()>> {
        Poll::Ready(Ok(()))
    }

    /// Waits until whoever reads has got everything, as [`Sender::finish`] does.
    fn poll_close(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<()>> {
        self.poll_finish(context)
    }
}

/// Most bytes that are copied at a time.
const PIECE: usize = 64 << 10;

impl AsyncWrite for Sender<Bytes> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let broken = || io::Error::new(io::ErrorKind::BrokenPipe, reader_gone());
        ready!(self.items.poll_reserve(context)).map_err(|_| broken())?;
        let piece = bytes.get(..PIECE.min(bytes.len())).unwrap_or_default();
        let sent = self.items.send_item(Ok(Bytes::copy_from_slice(piece)));
        Poll::Ready(sent.map(|()| piece.len()).map_err(|_| broken()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    /// Waits until whoever reads has got everything, as [`Sender::finish`] does.
    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_finish(context)
            .map_err(|error| io::Error::new(io::ErrorKind::BrokenPipe, error))
    }
}

impl<T: Send + 'static> Clone for Sender<T> {
    fn clone(&self) -> Self {
        Self {
            items: self.items.clone(),
            ending: Arc::clone(&self.ending),
            closing: None,
        }
    }
}

impl<T> fmt::Debug for Sender<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sender")
            .field("ended", &self.ending.get())
            .finish_non_exhaustive()
    }
}

impl<T> futures_core::Stream for Received<T> {
    type Item = Result<T>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<T>>> {
        let item = ready!(self.0.poll_recv(context));
        if !matches!(item, Some(Ok(_))) {
            self.0.close();
        }
        Poll::Ready(item)
    }
}
