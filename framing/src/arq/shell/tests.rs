//! A dependable line over carriers that stall, flood, keep bytes to themselves, or go away.

use std::sync::atomic::{AtomicUsize, Ordering};

use farref_transport::{CarrierInfo, memory};
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::*;

#[cfg(feature = "noise")]
mod secured;

const RATE: u64 = 11_520;
/// Far more than anything here takes; the clock of these tests jumps where it can.
const LONG: Duration = Duration::from_secs(600);

fn both() -> (Config, Config) {
    (Config::new(Role::Dialer, RATE), Config::new(Role::Listener, RATE))
}

async fn open(near: StreamCarrier, far: StreamCarrier) -> (Reliable, Reliable) {
    let (one, other) = both();
    let (near, far) = tokio::join!(reliable(near, one), reliable(far, other));
    (near.unwrap(), far.unwrap())
}

async fn write(tx: &mut dyn ByteTx, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match tx.try_write(&[IoSlice::new(bytes)]) {
            Ok(count) => bytes = &bytes[count..],
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                poll_fn(|cx| tx.poll_writable(cx)).await?;
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

async fn read(rx: &mut dyn ByteRx, count: usize) -> Vec<u8> {
    let mut into = BytesMut::new();
    while into.len() < count {
        into.reserve(64);
        if poll_fn(|cx| rx.poll_read(cx, &mut into)).await.unwrap() == 0 {
            break;
        }
    }
    into.to_vec()
}

/// Tells when it is dropped.
struct Told(Option<oneshot::Sender<()>>);

impl Drop for Told {
    fn drop(&mut self) {
        let _ = self.0.take().map(|told| told.send(()));
    }
}

/// A writing half that takes so many bytes more.
struct Jammed(Box<dyn ByteTx>, Arc<AtomicUsize>);

impl ByteTx for Jammed {
    fn try_write(&mut self, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
        let left = self.1.load(Ordering::SeqCst);
        let buf = bufs.iter().find(|buf| !buf.is_empty()).map_or(&[][..], |buf| buf);
        if left == 0 {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let count = self.0.try_write(&[IoSlice::new(&buf[..buf.len().min(left)])])?;
        self.1.fetch_sub(count, Ordering::SeqCst);
        Ok(count)
    }

    fn poll_writable(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.1.load(Ordering::SeqCst) == 0 {
            return Poll::Pending;
        }
        self.0.poll_writable(cx)
    }

    fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.poll_close(cx)
    }
}

/// The task of a line whose carrier took nothing any more used to spin for ever once both halves were dropped.
#[tokio::test(start_paused = true)]
async fn a_line_whose_carrier_takes_nothing_lets_go_of_it_after_a_while() {
    let (near, far) = memory::pair(64);
    let left = Arc::new(AtomicUsize::new(usize::MAX));
    let (told, mut is_gone) = oneshot::channel();
    let StreamCarrier { rx, tx, info, .. } = near;
    let near = StreamCarrier {
        rx,
        tx: Box::new(Jammed(tx, Arc::clone(&left))),
        info,
        guard: farref_transport::Guard::new(Told(Some(told))),
    };
    let (mut near, far) = open(near, far).await;
    // It stops in the middle of a frame.
    left.store(7, Ordering::SeqCst);
    near.carrier.tx.try_write(&[IoSlice::new(&[7; 100])]).unwrap();
    tokio::task::yield_now().await;
    drop(near);
    assert!(is_gone.try_recv().is_err(), "what was written has its time");
    timeout(LONG, is_gone).await.unwrap().unwrap();
    drop(far);
}

/// A reading half that always has noise.
struct Flood;

impl ByteRx for Flood {
    fn try_read(&mut self, into: &mut BytesMut) -> io::Result<usize> {
        into.extend_from_slice(b"\x80noise\0");
        Ok(7)
    }

    fn poll_readable(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// A carrier that always had something to read used to keep its thread for ever, and no timer ran.
#[tokio::test]
async fn a_flood_of_noise_leaves_others_their_turn_and_patience_ends() {
    let (near, _far) = memory::pair(1 << 16);
    let near = StreamCarrier {
        rx: Box::new(Flood),
        ..near
    };
    let (mut config, _) = both();
    config.patience = Some(Duration::from_millis(30));
    let mut opening = std::pin::pin!(reliable(near, config));
    assert!(
        poll_fn(|cx| Poll::Ready(opening.as_mut().poll(cx)))
            .await
            .is_pending()
    );
    assert_eq!(opening.await.unwrap_err(), Failure::Nonsense);
}

/// A carrier that keeps what it is given until it is flushed used to keep it for ever.
#[tokio::test(start_paused = true)]
async fn a_carrier_that_buffers_is_flushed() {
    let (near, far) = tokio::io::duplex(4096);
    let buffered = |io| {
        let (reader, writer) = tokio::io::split(io);
        let mut info = CarrierInfo::new("test");
        info.reliable = false;
        StreamCarrier::from_halves(reader, tokio::io::BufWriter::new(writer), info)
    };
    let (mut near, mut far) = timeout(LONG, open(buffered(near), buffered(far))).await.unwrap();
    let says = vec![3; 5000];
    let (written, heard) = tokio::join!(
        write(&mut *near.carrier.tx, &says),
        timeout(LONG, read(&mut *far.carrier.rx, says.len())),
    );
    written.unwrap();
    assert_eq!(heard.unwrap(), says);
}

/// A reader used to wait for ever if the runtime of its line was shut down.
#[test]
fn a_line_whose_runtime_is_gone_wakes_who_waits() {
    let theirs = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let (near, far) = memory::pair(4096);
    let (mut near, _far) = theirs.block_on(open(near, far));
    let ours = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    ours.block_on(async {
        let mut waiting = std::pin::pin!(poll_fn(|cx| near.carrier.rx.poll_readable(cx)));
        assert!(
            poll_fn(|cx| Poll::Ready(waiting.as_mut().poll(cx)))
                .await
                .is_pending()
        );
        theirs.shutdown_background();
        timeout(LONG, waiting).await.unwrap().unwrap();
        let error = near
            .carrier
            .rx
            .try_read(&mut BytesMut::with_capacity(10))
            .unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
    });
}

/// Both ends say much at once over a pipe of sixteen bytes, end in order, and lose nothing.
#[tokio::test(start_paused = true)]
async fn two_talkers_on_a_tiny_pipe_are_both_heard_to_the_end() {
    let (near, far) = memory::pair(16);
    let (near, far) = timeout(LONG, open(near, far)).await.unwrap();
    let says: Vec<u8> = (0..100_000_u32).map(|n| (n * 7 % 251) as u8).collect();
    let talk = |carrier: StreamCarrier| {
        let says = says.clone();
        async move {
            let StreamCarrier { mut rx, mut tx, .. } = carrier;
            let speaking = async {
                write(&mut *tx, &says).await.unwrap();
                poll_fn(|cx| tx.poll_close(cx)).await.unwrap();
            };
            // One byte more is asked for than there is: the end is heard.
            let ((), heard) = tokio::join!(speaking, read(&mut *rx, says.len() + 1));
            assert!(heard == says);
        }
    };
    timeout(LONG, async {
        tokio::join!(talk(near.carrier), talk(far.carrier))
    })
    .await
    .unwrap();
}

/// What was written before both halves were dropped arrives, and the end behind it.
#[tokio::test(start_paused = true)]
async fn what_was_written_before_the_drop_arrives() {
    let (near, far) = memory::pair(64);
    let (mut near, mut far) = open(near, far).await;
    write(&mut *near.carrier.tx, &[5; 1000]).await.unwrap();
    drop(near);
    assert_eq!(
        timeout(LONG, read(&mut *far.carrier.rx, 1001)).await.unwrap(),
        [5; 1000]
    );
}
