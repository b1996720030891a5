//! Streams of bytes.

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use farref_boxing::{Error, ErrorKind, Result, ShapeType, Shaped, Shapes};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use tokio::io::{AsyncBufRead, AsyncRead, ReadBuf};
use tokio_util::io::ReaderStream;

use super::channel::{self, Sender};
use super::flow::{Flow, Unit, Writer};
use super::pull::SHARE;
use super::{Body, Form, Pieces};
use crate::place;

/// Bytes that come as they are made, here or elsewhere: in arguments and results, for what is too long for one message,
/// or has no end.
///
/// It reads as tokio's `AsyncRead` and `AsyncBufRead`, as `std::io::Read` and `BufRead` by way of
/// [`blocking`](Self::blocking), and in pieces as a `futures::Stream<Item = Result<Bytes>>`. Otherwise it is like
/// [`Stream`](crate::Stream): read once, given away by passing it on, at the reader's pace.
///
/// # Cancel safety
///
/// Waiting for more may be given up at any time; nothing is lost.
pub struct ByteStream {
    pub(super) flow: Flow<Raw>,
    /// What was received and not read yet.
    piece: Bytes,
}

/// So many bytes are read at a time from whatever a stream is made of: what is pulled at a time.
const PIECE: usize = SHARE as usize;

impl ByteStream {
    /// The bytes of `reader`, up to its end.
    #[must_use]
    pub fn read(reader: impl AsyncRead + Send + 'static) -> Self {
        Self::pieces(Chunks(Box::pin(ReaderStream::with_capacity(reader, PIECE))))
    }

    /// The bytes of pieces, up to the first error.
    #[must_use]
    pub fn pieces(pieces: impl futures_core::Stream<Item = Result<Bytes>> + Send + 'static) -> Self {
        Self::over(Flow::here(Box::pin(pieces), None))
    }

    /// A stream, and where its pieces are sent from; `capacity` of them may wait, at least 1.
    #[must_use]
    pub fn channel(capacity: usize) -> (Sender<Bytes>, Self) {
        let (sender, pieces, ending) = channel::new(capacity);
        (sender, Self::over(Flow::here(Box::pin(pieces), Some(ending))))
    }

    pub(super) const fn over(flow: Flow<Raw>) -> Self {
        Self {
            flow,
            piece: Bytes::new(),
        }
    }

    /// Lets so many bytes be on their way, if the stream comes from elsewhere. Default 1 MiB; a quarter of it is asked for
    /// at a time. Has an effect on what is asked for from now on.
    #[must_use]
    pub fn credit(mut self, bytes: u64) -> Self {
        self.flow.set_credit(bytes);
        self
    }

    /// The next piece, never empty; `None` after the end.
    ///
    /// # Errors
    ///
    /// What the stream ends with: its maker's error, or that of the connection. Nothing follows.
    ///
    /// # Cancel safety
    ///
    /// Safe.
    pub async fn next(&mut self) -> Option<Result<Bytes>> {
        std::future::poll_fn(|context| self.poll_piece(context)).await
    }

    /// The same for a thread, which waits; see [`crate::place`] for where it may.
    #[must_use]
    pub const fn blocking(self) -> Reader {
        Reader(self)
    }

    pub(super) fn check_whole(&self) -> Result<()> {
        if self.piece.is_empty() {
            return Ok(());
        }
        let text = "a stream of bytes that was read in the middle of a piece cannot be given away";
        Err(Error::new(ErrorKind::Misuse, text))
    }

    fn poll_piece(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Bytes>>> {
        if !self.piece.is_empty() {
            return Poll::Ready(Some(Ok(std::mem::take(&mut self.piece))));
        }
        loop {
            match ready!(self.flow.poll(context)) {
                Some(Ok(piece)) if piece.is_empty() => {}
                other => return Poll::Ready(other),
            }
        }
    }

    /// Waits until there is a piece, or nothing will follow.
    fn poll_fill(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.piece.is_empty() {
            match ready!(self.poll_piece(context)) {
                Some(Ok(piece)) => self.piece = piece,
                Some(Err(error)) => return Poll::Ready(Err(io::Error::other(error))),
                None => {}
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl futures_core::Stream for ByteStream {
    type Item = Result<Bytes>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Bytes>>> {
        self.get_mut().poll_piece(context)
    }
}

impl AsyncRead for ByteStream {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if into.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        ready!(this.poll_fill(context))?;
        let count = this.piece.len().min(into.remaining());
        into.put_slice(&this.piece.split_to(count));
        Poll::Ready(Ok(()))
    }
}

impl AsyncBufRead for ByteStream {
    fn poll_fill_buf(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<&[u8]>> {
        let this = self.get_mut();
        ready!(this.poll_fill(context))?;
        Poll::Ready(Ok(&this.piece))
    }

    fn consume(self: Pin<&mut Self>, count: usize) {
        let this = self.get_mut();
        this.piece.advance(count.min(this.piece.len()));
    }
}

impl Serialize for ByteStream {
    /// Gives the stream away: the reference of its source goes into the message that is being boxed.
    ///
    /// # Errors
    ///
    /// It was given away before, no message is being boxed, or a piece of it was read in part.
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        self.check_whole().map_err(serde::ser::Error::custom)?;
        self.flow.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for ByteStream {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        Flow::deserialize(deserializer).map(Self::over)
    }
}

impl Shaped for ByteStream {
    fn shape(_shapes: &mut Shapes) -> ShapeType {
        ShapeType::REFERENCE
    }
}

impl fmt::Debug for ByteStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ByteStream({})", self.flow)
    }
}

/// A stream of bytes as `std::io` reads: each method waits on its thread.
#[derive(Debug)]
pub struct Reader(ByteStream);

impl Reader {
    fn fill(&mut self) -> io::Result<()> {
        if self.0.piece.is_empty() {
            let filled = place::block_on(std::future::poll_fn(|context| self.0.poll_fill(context)));
            filled.map_err(io::Error::other)??;
        }
        Ok(())
    }
}

impl io::Read for Reader {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if into.is_empty() {
            return Ok(0);
        }
        self.fill()?;
        let count = self.0.piece.len().min(into.len());
        self.0
            .piece
            .split_to(count)
            .copy_to_slice(into.get_mut(..count).unwrap_or_default());
        Ok(count)
    }
}

impl io::BufRead for Reader {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.fill()?;
        Ok(&self.0.piece)
    }

    fn consume(&mut self, count: usize) {
        self.0.piece.advance(count.min(self.0.piece.len()));
    }
}

/// Bytes that cross in pieces, as they are.
pub(super) struct Raw;

/// Pieces for the next batch.
#[derive(Default)]
pub(super) struct Pile {
    pieces: Vec<Bytes>,
    len: usize,
}

/// So many pieces are in a batch at most, however short they are.
const MANY: usize = 1024;

impl Unit for Raw {
    type Item = Bytes;
    type Incoming = VecDeque<Bytes>;
    type Outgoing = Pile;

    fn form() -> Form {
        Form::Bytes
    }

    fn description() -> Bytes {
        Bytes::new()
    }

    fn form_of(_description: Bytes) -> Result<(Form, Writer)> {
        Err(Form::Items(0).mismatch(Form::Bytes))
    }

    fn receive(incoming: &mut VecDeque<Bytes>, body: Body, _writer: Option<&Writer>) -> Result<()> {
        match body {
            Body::Bytes(Pieces(pieces)) => {
                *incoming = pieces.into();
                Ok(())
            }
            Body::Items(_) => Err(Form::Items(0).mismatch(Form::Bytes)),
        }
    }

    fn is_nothing(incoming: &VecDeque<Bytes>) -> bool {
        incoming.is_empty()
    }

    fn next(incoming: &mut VecDeque<Bytes>) -> Option<Result<Bytes>> {
        incoming.pop_front().map(Ok)
    }

    fn push(outgoing: &mut Pile, piece: Bytes) -> Result<()> {
        outgoing.len = outgoing.len.saturating_add(piece.len());
        outgoing.pieces.push(piece);
        Ok(())
    }

    fn is_empty(outgoing: &Pile) -> bool {
        outgoing.pieces.is_empty()
    }

    fn is_full(outgoing: &Pile, credit: usize) -> bool {
        outgoing.len >= credit || outgoing.pieces.len() >= MANY
    }

    fn take(outgoing: &mut Pile) -> Body {
        Body::Bytes(Pieces(std::mem::take(outgoing).pieces))
    }
}

/// What is read, with errors of this crate.
struct Chunks<R>(Pin<Box<ReaderStream<R>>>);

impl<R: AsyncRead> futures_core::Stream for Chunks<R> {
    type Item = Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Bytes>>> {
        let piece = ready!(self.0.as_mut().poll_next(context));
        Poll::Ready(piece.map(|piece| piece.map_err(Error::from)))
    }
}
