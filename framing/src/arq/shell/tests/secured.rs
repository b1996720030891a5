//! Encryption over a noisy line, in simulated time: a wire paced by the baud rate, and the clock of tokio turned by hand.

use std::collections::VecDeque;

use farref_transport::Identity;

use super::*;
use crate::noise::{self, Pattern};

/// How much later than its last bit a byte is there.
const LATENCY: Duration = Duration::from_millis(1);
/// Bytes that the driver of a port takes ahead of the line.
const DRIVER: usize = 256;
const MIB: usize = 1 << 20;

/// One direction of a line of [`RATE`] bytes a second.
struct Wire {
    /// When the last byte that the driver holds is on the line.
    free_at: Instant,
    /// Bytes that were not read, and when they are there.
    flying: VecDeque<(Instant, u8)>,
    reader: Option<Waker>,
    /// Chance that a bit is flipped.
    flip: f64,
    random: u64,
}

impl Wire {
    fn byte() -> Duration {
        Duration::from_secs(1) / u32::try_from(RATE).unwrap()
    }

    /// How many bytes the driver takes now.
    fn room(&self, now: Instant) -> usize {
        let held = self.free_at.saturating_duration_since(now).as_nanos();
        DRIVER.saturating_sub(usize::try_from(held.div_ceil(Self::byte().as_nanos())).unwrap())
    }

    fn carry(&mut self, byte: u8, now: Instant) {
        let mut damaged = byte;
        for bit in 0..8 {
            damaged ^= u8::from(self.chance() < self.flip) << bit;
        }
        self.free_at = self.free_at.max(now) + Self::byte();
        self.flying.push_back((self.free_at + LATENCY, damaged));
    }

    /// A number from 0 to 1 (splitmix64).
    fn chance(&mut self) -> f64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.random;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
    }
}

/// A half of a port, and its timer.
struct Half {
    wire: Arc<Mutex<Wire>>,
    sleep: Pin<Box<Sleep>>,
}

impl Half {
    fn new(wire: &Arc<Mutex<Wire>>) -> Self {
        Self {
            wire: Arc::clone(wire),
            sleep: Box::pin(tokio::time::sleep(Duration::ZERO)),
        }
    }

    /// Whether it is `at` already; else the task is woken then.
    fn is_past(&mut self, at: Instant, cx: &mut Context<'_>) -> bool {
        self.sleep.as_mut().reset(at);
        self.sleep.as_mut().poll(cx).is_ready()
    }
}

impl ByteRx for Half {
    fn try_read(&mut self, into: &mut BytesMut) -> io::Result<usize> {
        let mut wire = self.wire.lock().unwrap();
        let now = Instant::now();
        let room = into.capacity() - into.len();
        let is_there = |(at, _): &&(Instant, u8)| *at <= now;
        let count = wire.flying.iter().take(room).take_while(is_there).count();
        if count == 0 {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        into.extend(wire.flying.drain(..count).map(|(_, byte)| byte));
        Ok(count)
    }

    fn poll_readable(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let next = {
            let mut wire = self.wire.lock().unwrap();
            wire.reader = Some(cx.waker().clone());
            wire.flying.front().map(|(at, _)| *at)
        };
        match next {
            Some(at) if self.is_past(at, cx) => Poll::Ready(Ok(())),
            _ => Poll::Pending,
        }
    }
}

impl ByteTx for Half {
    fn try_write(&mut self, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
        let mut wire = self.wire.lock().unwrap();
        let now = Instant::now();
        let room = wire.room(now);
        let mut count = 0;
        for byte in bufs.iter().flat_map(|buf| buf.iter()).take(room) {
            wire.carry(*byte, now);
            count += 1;
        }
        if count == 0 {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        wire.reader.take().into_iter().for_each(Waker::wake);
        Ok(count)
    }

    fn poll_writable(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let room_at = {
            let wire = self.wire.lock().unwrap();
            if wire.room(Instant::now()) > 0 {
                return Poll::Ready(Ok(()));
            }
            wire.free_at - Wire::byte() * u32::try_from(DRIVER - 1).unwrap()
        };
        match self.is_past(room_at, cx) {
            true => Poll::Ready(Ok(())),
            false => Poll::Pending,
        }
    }

    fn poll_close(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// Both ends of a line on which each bit is wrong with that chance.
fn line(flip: f64, seed: u64) -> (StreamCarrier, StreamCarrier) {
    println!("seed {seed}");
    let [one, other] = [seed, !seed].map(|random| {
        Arc::new(Mutex::new(Wire {
            free_at: Instant::now(),
            flying: VecDeque::new(),
            reader: None,
            flip,
            random,
        }))
    });
    let end = |rx, tx| {
        let mut info = CarrierInfo::new("test");
        info.reliable = false;
        StreamCarrier::new(Half::new(rx), Half::new(tx), info)
    };
    (end(&other, &one), end(&one, &other))
}

/// Both ends, encrypted.
async fn secured(flip: f64, seed: u64) -> (StreamCarrier, StreamCarrier) {
    let (near, far) = line(flip, seed);
    let (near, far) = open(near, far).await;
    let secure = |end: Reliable, seed| {
        let config = noise::Config::new(Identity::from_secret(&[seed; 32]).unwrap());
        noise::secure(end.carrier, end.role, config)
    };
    let (near, far) = tokio::join!(secure(near, 1), secure(far, 2));
    let (near, far) = (near.unwrap(), far.unwrap());
    assert!(near.pattern == Pattern::Xx && near.carrier.info.confidential);
    (near.carrier, far.carrier)
}

/// One bit in ten thousand, as in the tests of the line alone. The keys are new each time: a seed tells which bits are
/// wrong, not what they were.
#[tokio::test(start_paused = true)]
async fn encryption_over_a_noisy_line_leaves_most_of_its_rate_and_every_byte() {
    for seed in [21, 22] {
        let (mut near, mut far) = secured(1e-4, seed).await;
        let says: Vec<u8> = (0..MIB).map(|n| (n * 31 + n / 251) as u8).collect();
        let begun = Instant::now();
        let writing = async {
            write(&mut *near.tx, &says).await.unwrap();
            // The last record is only sealed by now.
            poll_fn(|cx| near.tx.poll_flush(cx)).await.unwrap();
        };
        let ((), heard) = tokio::join!(writing, read(&mut *far.rx, MIB));
        assert!(heard == says);
        let share = MIB as f64 / begun.elapsed().as_secs_f64() / RATE as f64;
        println!(
            "{:.1} % of the line, {:?}",
            share * 100.0,
            near.info.gauge.map(|gauge| gauge.read())
        );
        assert!(share >= 0.58, "{share}");
    }
}
