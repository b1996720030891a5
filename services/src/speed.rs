//! How fast a link is, measured over that very link.
//!
//! ```
//! # extern crate farref_netref as farref;
//! # use farref::{Netref, Result};
//! # use farref_services::speed::{self, Speed};
//! # #[tokio::main]
//! # async fn main() -> Result<()> {
//! let far: Netref<dyn Speed> = speed::share();
//! let mut zeros = far.call().source(1_000_000).await?;
//! let mut count = 0;
//! while let Some(piece) = zeros.next().await {
//!     count += piece?.len();
//! }
//! assert_eq!(count, 1_000_000);
//! # Ok(())
//! # }
//! ```

use std::pin::Pin;
use std::task::{Context, Poll};

use ::bytes::Bytes;
use farref_netref::{ByteStream, Netref, Result, remote};

/// Answers, makes bytes and takes them.
#[remote(name = "farref.Speed")]
pub trait Speed {
    /// What was sent.
    #[reads]
    async fn echo(&self, bytes: Bytes) -> Result<Bytes>;

    /// So many bytes, none of which means anything.
    #[reads]
    async fn source(&self, len: u64) -> Result<ByteStream>;

    /// Takes bytes up to their end; how many they were.
    #[reads]
    async fn sink(&self, bytes: ByteStream) -> Result<u64>;
}

/// Lets a peer measure the link to here.
#[must_use]
pub fn share() -> Netref<dyn Speed> {
    Netref::of(Link)
}

struct Link;

#[remote]
impl Speed for Link {
    async fn echo(&self, bytes: Bytes) -> Result<Bytes> {
        Ok(bytes)
    }

    async fn source(&self, len: u64) -> Result<ByteStream> {
        Ok(made(len))
    }

    async fn sink(&self, mut bytes: ByteStream) -> Result<u64> {
        let mut count = 0_u64;
        while let Some(piece) = bytes.next().await {
            count = count.saturating_add(piece?.len() as u64);
        }
        Ok(count)
    }
}

/// A stream of `len` bytes, which are nowhere in memory but for one piece.
#[must_use]
pub fn made(len: u64) -> ByteStream {
    ByteStream::pieces(Pieces {
        piece: Bytes::from_static(&PIECE),
        left: len,
    })
}

/// Not all alike, so that nothing on the way makes it short.
static PIECE: [u8; 256 << 10] = noise();

/// The numbers of a generator of Marsaglia's (xorshift).
const fn noise() -> [u8; 256 << 10] {
    let mut bytes = [0; 256 << 10];
    let mut state = 0x9e37_79b9_u32;
    let mut at = 0;
    while at < bytes.len() {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        let [byte, ..] = state.to_le_bytes();
        #[expect(
            clippy::indexing_slicing,
            reason = "constants cannot use `get_mut`; it is in range"
        )]
        {
            bytes[at] = byte;
        }
        at += 1;
    }
    bytes
}

struct Pieces {
    piece: Bytes,
    left: u64,
}

impl futures_core::Stream for Pieces {
    type Item = Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Bytes>>> {
        let len = self.left.min(self.piece.len() as u64);
        self.left -= len;
        let len = usize::try_from(len).unwrap_or(usize::MAX);
        Poll::Ready((len > 0).then(|| Ok(self.piece.slice(..len))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn as_many_bytes_come_as_were_asked_for_and_are_counted() {
        let far = share();
        for len in [0, 1, 1_000_000] {
            let bytes = far.call().source(len).await.unwrap();
            assert_eq!(far.call().sink(bytes).await.unwrap(), len);
        }
        let echoed = far.call().echo(Bytes::from_static(b"x")).await.unwrap();
        assert_eq!(echoed, b"x"[..]);
    }
}
