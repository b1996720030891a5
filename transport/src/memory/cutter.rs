//! Taking a memory carrier away, as a network does: at once, or in the middle of a write.

use std::fmt;
use std::sync::Arc;

use super::wire::Wire;

/// Cuts a memory carrier, for tests of what outlives one.
///
/// After the cut both ends read what had passed before, then
/// [`ConnectionReset`](std::io::ErrorKind::ConnectionReset); writing fails with the same at once. A
/// cut happens once; later ones do nothing, and a plan replaces the one before.
///
/// ```
/// use std::io::{ErrorKind, IoSlice};
/// use farref_transport::memory;
///
/// let (mut near, mut far, cutter) = memory::cuttable_pair(64);
/// cutter.cut_after(3);
/// assert_eq!(near.tx.try_write(&[IoSlice::new(b"hello")]).unwrap(), 3);
/// assert_eq!(near.tx.try_write(&[IoSlice::new(b"lo")]).unwrap_err().kind(), ErrorKind::ConnectionReset);
/// let mut heard = bytes::BytesMut::with_capacity(8);
/// assert_eq!(far.rx.try_read(&mut heard).unwrap(), 3);
/// assert_eq!(far.rx.try_read(&mut heard).unwrap_err().kind(), ErrorKind::ConnectionReset);
/// ```
#[derive(Clone)]
pub struct Cutter {
    wire: Arc<Wire>,
}

impl Cutter {
    pub(super) const fn new(wire: Arc<Wire>) -> Self {
        Self { wire }
    }

    /// Cuts now. What is in the buffers can still be read.
    pub fn cut(&self) {
        self.wire.cut(Cut::Now { losing: false });
    }

    /// Cuts now. What is in the buffers is lost, though its writers were told that it was taken.
    pub fn cut_losing(&self) {
        self.wire.cut(Cut::Now { losing: true });
    }

    /// Cuts as soon as `bytes` more have passed, both directions and all streams together. The write
    /// that would pass more is taken in part. With zero it cuts now.
    pub fn cut_after(&self, bytes: u64) {
        self.wire.cut(Cut::Later(Plan {
            left: bytes,
            from: None,
            losing: false,
        }));
    }

    /// As [`cut_after`](Self::cut_after), but counting only what `end` writes.
    pub fn cut_after_from(&self, end: End, bytes: u64) {
        self.wire.cut(Cut::Later(Plan {
            left: bytes,
            from: Some(end),
            losing: false,
        }));
    }

    /// As [`cut_after`](Self::cut_after), but the write that would pass more is told that it was taken
    /// as far as the buffer reaches: its rest is lost.
    pub fn cut_after_losing(&self, bytes: u64) {
        self.wire.cut(Cut::Later(Plan {
            left: bytes,
            from: None,
            losing: true,
        }));
    }

    /// Whether the cut has happened.
    #[must_use]
    pub fn is_cut(&self) -> bool {
        self.wire.is_cut()
    }

    /// How many bytes have passed so far, both directions and all streams together.
    #[must_use]
    pub fn passed(&self) -> u64 {
        self.wire.passed()
    }
}

impl fmt::Debug for Cutter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cutter")
            .field("is_cut", &self.is_cut())
            .field("passed", &self.passed())
            .finish()
    }
}

/// One end of a pair, in the order in which the pair is returned: the first dials, the second accepts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[expect(clippy::exhaustive_enums, reason = "a carrier has two ends")]
pub enum End {
    /// The end that dialled.
    #[default]
    First,
    /// The end that accepted.
    Second,
}

impl End {
    /// The end across.
    #[must_use]
    pub const fn other(self) -> Self {
        match self {
            Self::First => Self::Second,
            Self::Second => Self::First,
        }
    }
}

/// When to cut.
pub(super) enum Cut {
    Now { losing: bool },
    Later(Plan),
}

/// A cut to come.
#[derive(Clone, Copy)]
pub(super) struct Plan {
    /// Bytes that may still pass; at least one, or the cut has happened.
    pub(super) left: u64,
    /// Whose bytes count, if not everybody's.
    pub(super) from: Option<End>,
    /// Whether the write that runs into the cut is told that it was taken.
    pub(super) losing: bool,
}

impl Plan {
    /// Whether what `end` writes counts.
    pub(super) fn counts(&self, end: End) -> bool {
        self.from.is_none_or(|from| from == end)
    }

    /// How many of `bytes` may pass.
    pub(super) fn allows(&self, bytes: usize) -> usize {
        usize::try_from(self.left).map_or(bytes, |left| left.min(bytes))
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::io::{self, IoSlice};

    use proptest::prelude::*;

    use super::*;
    use crate::carrier::{ByteRx, Class};
    use crate::memory::{cuttable_muxed_pair, cuttable_pair};
    use crate::testing::{block_on, read_some, write_all};

    const RESET: io::ErrorKind = io::ErrorKind::ConnectionReset;

    /// What was heard before the error that ended it.
    async fn heard_until_cut(rx: &mut dyn ByteRx) -> (Vec<u8>, io::ErrorKind) {
        let mut heard = Vec::new();
        loop {
            match read_some(rx).await {
                Ok(some) if some.is_empty() => return (heard, io::ErrorKind::UnexpectedEof),
                Ok(some) => heard.extend_from_slice(&some),
                Err(error) => return (heard, error.kind()),
            }
        }
    }

    #[test]
    fn a_cut_wakes_both_readers_and_a_blocked_writer() {
        block_on(async {
            let (mut near, mut far, cutter) = cuttable_pair(4);
            write_all(&mut *near.tx, b"full").await.unwrap();
            let (near_heard, written, ()) = tokio::join!(
                heard_until_cut(&mut *near.rx),
                write_all(&mut *near.tx, b"more"),
                async { cutter.cut() },
            );
            assert_eq!(near_heard, (vec![], RESET));
            assert_eq!(written.unwrap_err().kind(), RESET);
            assert_eq!(heard_until_cut(&mut *far.rx).await, (b"full".to_vec(), RESET));
            assert_eq!(far.tx.try_write(&[IoSlice::new(b"x")]).unwrap_err().kind(), RESET);
            assert!(cutter.is_cut());
        });
    }

    #[test]
    fn a_losing_cut_takes_what_was_on_the_way() {
        block_on(async {
            let (mut near, mut far, cutter) = cuttable_pair(64);
            write_all(&mut *near.tx, b"lost").await.unwrap();
            poll_fn(|cx| near.tx.poll_close(cx)).await.unwrap();
            cutter.cut_losing();
            assert_eq!(heard_until_cut(&mut *far.rx).await, (vec![], RESET));
        });
    }

    #[test]
    fn an_end_that_passed_before_the_cut_is_heard_and_one_after_it_is_not() {
        block_on(async {
            let (mut near, mut far, cutter) = cuttable_pair(64);
            poll_fn(|cx| near.tx.poll_close(cx)).await.unwrap();
            cutter.cut();
            poll_fn(|cx| far.tx.poll_close(cx)).await.unwrap();
            assert_eq!(
                heard_until_cut(&mut *far.rx).await,
                (vec![], io::ErrorKind::UnexpectedEof)
            );
            assert_eq!(heard_until_cut(&mut *near.rx).await, (vec![], RESET));
        });
    }

    #[test]
    fn only_the_bytes_of_one_end_may_count() {
        block_on(async {
            let (mut near, mut far, cutter) = cuttable_pair(64);
            cutter.cut_after_from(End::Second, 2);
            write_all(&mut *near.tx, b"does not count").await.unwrap();
            assert_eq!(far.tx.try_write(&[IoSlice::new(b"abc")]).unwrap(), 2);
            assert!(cutter.is_cut());
            assert_eq!(heard_until_cut(&mut *near.rx).await, (b"ab".to_vec(), RESET));
        });
    }

    #[test]
    fn a_cut_takes_all_streams_of_a_carrier() {
        block_on(async {
            let (near, far, cutter) = cuttable_muxed_pair(64);
            let mut one = near.open_uni(Class::Bulk).await.unwrap();
            let mut two = near.open_uni(Class::Bulk).await.unwrap();
            cutter.cut_after(5);
            write_all(&mut *one, b"one").await.unwrap();
            assert_eq!(two.try_write(&[IoSlice::new(b"two")]).unwrap(), 2);
            assert_eq!(one.try_write(&[IoSlice::new(b"!")]).unwrap_err().kind(), RESET);
            for heard in [b"one".as_slice(), b"tw"] {
                let mut rx = far.accept_uni().await.unwrap();
                assert_eq!(heard_until_cut(&mut *rx).await, (heard.to_vec(), RESET));
            }
            assert_eq!(far.accept_uni().await.err().unwrap().kind(), RESET);
            assert_eq!(near.open().await.err().unwrap().kind(), RESET);
        });
    }

    proptest! {
        #[test]
        fn what_passes_is_exactly_what_was_planned(
            writes in prop::collection::vec((any::<bool>(), 0_usize..20), 1..30),
            after in 0_u64..200,
            losing in any::<bool>(),
        ) {
            let (near, far, cutter) = cuttable_pair(1024);
            if losing { cutter.cut_after_losing(after) } else { cutter.cut_after(after) }
            let (mut near_tx, mut far_tx) = (near.tx, far.tx);
            let (mut asked, mut told) = (0, 0);
            for (by_near, len) in writes {
                let bytes = vec![7; len];
                let tx = if by_near { &mut near_tx } else { &mut far_tx };
                match tx.try_write(&[IoSlice::new(&bytes)]) {
                    Ok(count) => told += count as u64,
                    Err(error) => prop_assert_eq!(error.kind(), RESET),
                }
                asked += len as u64;
            }
            let passes = asked.min(after);
            prop_assert_eq!(cutter.passed(), passes);
            prop_assert_eq!(cutter.is_cut(), asked >= after);
            prop_assert!(told == passes || losing && told > passes);
            drop((near_tx, far_tx));
            let (mut near_rx, mut far_rx) = (near.rx, far.rx);
            let heard = block_on(async {
                heard_until_cut(&mut *near_rx).await.0.len() + heard_until_cut(&mut *far_rx).await.0.len()
            });
            prop_assert_eq!(heard as u64, passes);
        }
    }
}
