//! Frames that are written one by one, for media that hand on as one piece what is written together.
//!
//! Knows where a frame ends in what is written, and that over TLS a record must not hold more than one: Python's RPyC
//! asks the socket whether there is something to read, takes one frame, and never learns that the next one is in its TLS
//! library already. It waits for it until something else comes (RPyC 4.1.5, 5.3.1 and 6.0.2, as observed).

use std::io::{self, IoSlice};
use std::task::{Context, Poll};

use farref_transport::{ByteTx, Carrier, Class, Descriptor};

use super::HEADER;

/// The same carrier, which writes frames of RPyC one by one if its medium is TLS. What is written to it must be frames.
#[must_use]
pub fn frame_by_frame(carrier: Carrier) -> Carrier {
    match carrier {
        Carrier::Stream(mut stream) if stream.info.medium == "ssl" => {
            let tx = stream.tx;
            stream.tx = Box::new(FrameByFrame {
                tx,
                place: Place::default(),
            });
            Carrier::Stream(stream)
        }
        other => other,
    }
}

/// Writes no more than the rest of one frame at a time.
struct FrameByFrame {
    tx: Box<dyn ByteTx>,
    /// Where the next byte belongs.
    place: Place,
}

/// A place in a frame.
///
/// # Invariant
///
/// `left` counts what follows the header, and is 0 until that is whole. At the end of a frame both are 0.
#[derive(Debug, Clone, Default)]
struct Place {
    header: [u8; HEADER],
    /// Bytes of the header that are there.
    seen: usize,
    left: usize,
}

impl Place {
    const fn is_between_frames(&self) -> bool {
        self.seen == 0
    }

    /// Goes on by these bytes, but not beyond the end of the frame; by how many.
    fn pass(&mut self, bytes: &[u8]) -> usize {
        let mut passed = 0;
        for (place, byte) in self.header.iter_mut().skip(self.seen).zip(bytes) {
            *place = *byte;
            passed = usize::saturating_add(passed, 1);
        }
        self.seen = self.seen.saturating_add(passed);
        if passed > 0 && self.seen == HEADER {
            let [a, b, c, d, _] = self.header;
            let payload = usize::try_from(u32::from_be_bytes([a, b, c, d])).unwrap_or(usize::MAX);
            self.left = payload.saturating_add(1);
        }
        let of_rest = self.left.min(bytes.len().saturating_sub(passed));
        self.left = self.left.saturating_sub(of_rest);
        if self.seen == HEADER && self.left == 0 {
            self.seen = 0;
        }
        passed.saturating_add(of_rest)
    }
}

impl ByteTx for FrameByFrame {
    fn try_write(&mut self, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
        let mut place = self.place.clone();
        let mut frame = Vec::with_capacity(1);
        for buf in bufs.iter().filter(|buf| !buf.is_empty()) {
            let passed = place.pass(buf);
            frame.extend(buf.get(..passed).map(IoSlice::new));
            if place.is_between_frames() {
                break;
            }
        }
        let taken = self.tx.try_write(&frame)?;
        let mut left = taken;
        for piece in &frame {
            let passed = piece.get(..left.min(piece.len())).unwrap_or_default();
            left = left.saturating_sub(self.place.pass(passed));
        }
        Ok(taken)
    }

    fn poll_writable(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.tx.poll_writable(cx)
    }

    fn is_buffering(&self) -> bool {
        self.tx.is_buffering()
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.tx.poll_flush(cx)
    }

    fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.tx.poll_close(cx)
    }

    fn descriptor(&self) -> Option<&dyn Descriptor> {
        self.tx.descriptor()
    }

    fn reset(&mut self, code: u32) {
        self.tx.reset(code);
    }

    fn set_class(&mut self, class: Class) {
        self.tx.set_class(class);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use bytes::BytesMut;

    use super::*;
    use crate::rpyc::{Compress, put_frame};

    /// Notes what is written together, and takes so many bytes at once.
    struct Noting(Arc<Mutex<Vec<Vec<u8>>>>, usize);

    impl ByteTx for Noting {
        fn try_write(&mut self, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
            let all: Vec<u8> = bufs
                .iter()
                .flat_map(|buf| buf.iter().copied())
                .take(self.1)
                .collect();
            let taken = all.len();
            self.0.lock().unwrap().push(all);
            Ok(taken)
        }

        fn poll_writable(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_close(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    #[test]
    fn no_write_holds_bytes_of_two_frames_however_they_are_cut() {
        let mut all = BytesMut::new();
        let mut ends = Vec::new();
        for size in [0, 1, 7, 300, 0, 2] {
            put_frame(&vec![0; size], Compress::Never, &mut all).unwrap();
            ends.push(all.len());
        }
        for (slice, at_once) in [(1, 1), (3, 100), (7, 4), (1000, 1000), (1000, 6), (64, 9)] {
            let noted = Arc::default();
            let mut tx = FrameByFrame {
                tx: Box::new(Noting(Arc::clone(&noted), at_once)),
                place: Place::default(),
            };
            let mut written = 0;
            while written < all.len() {
                let slices: Vec<_> = all[written..].chunks(slice).map(IoSlice::new).collect();
                written += tx.try_write(&slices).unwrap();
            }
            assert!(tx.place.is_between_frames());
            let noted = noted.lock().unwrap();
            assert_eq!(noted.concat(), all);
            let mut at = 0;
            for piece in noted.iter() {
                let within = ends
                    .iter()
                    .filter(|end| (at + 1..at + piece.len()).contains(*end));
                assert_eq!(within.count(), 0, "cut by {slice}, taken by {at_once}");
                at += piece.len();
            }
        }
    }
}
