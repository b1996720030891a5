//! A serial line between two pseudo terminals: as slow, as noisy and as loose as a real one.
//!
//! Knows the speed of the line, its noise from a seed, and its plugs. Whatever an end sends is carried
//! character by character at the baud rate, damaged as the configuration says, and lost if the far end is
//! unplugged or does not read. What either end does to its terminal (speed, parity, stop bits) means nothing
//! here: a pseudo terminal does not pass it on, nor has it modem lines.

use std::collections::VecDeque;
use std::ffi::OsStr;
use std::fs;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, Sender, TryRecvError, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Mode, OFlags, fcntl_setfl};
use rustix::io::Errno;
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{OptionalActions, tcgetattr, tcsetattr};

/// What a line is like. The default is 115200 baud, 8N1, clean, with a seed of its own.
#[derive(Clone, Debug)]
pub struct LineConfig {
    /// Bits per second.
    pub baud: u32,
    /// Bits that a byte takes, with start, parity and stop bits.
    pub bits_per_byte: u32,
    /// How much later than its last bit a byte is delivered. Adapters wait up to 16 ms for more.
    pub latency: Duration,
    /// The chance that a bit is flipped.
    pub bit_error_rate: f64,
    /// The chance that a byte is lost.
    pub drop_rate: f64,
    /// The chance that a byte which nobody sent comes before one.
    pub insert_rate: f64,
    /// The chance that a break comes instead of a byte, and swallows up to 15 more: it is read as a zero.
    pub break_rate: f64,
    /// Whether an end hears what it sends, as on a bus of two wires.
    pub echo: bool,
    /// All that is left to chance: same seed, same damage to the same bytes.
    pub seed: u64,
}

impl Default for LineConfig {
    /// The seed is that of `FARREF_LINE_SEED`, or a new one.
    fn default() -> Self {
        let seed = std::env::var("FARREF_LINE_SEED").ok();
        Self {
            baud: 115_200,
            bits_per_byte: 10,
            latency: Duration::ZERO,
            bit_error_rate: 0.0,
            drop_rate: 0.0,
            insert_rate: 0.0,
            break_rate: 0.0,
            echo: false,
            seed: seed.and_then(|seed| seed.parse().ok()).unwrap_or_else(any_seed),
        }
    }
}

impl LineConfig {
    /// How long a byte takes.
    #[must_use]
    pub fn byte_time(&self) -> Duration {
        Duration::from_secs_f64(f64::from(self.bits_per_byte) / f64::from(self.baud))
    }
}

/// One end of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    Left,
    Right,
}

/// What has become of the bytes that one end sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Bytes that the line took from the end.
    pub sent: u64,
    /// Bits that were flipped.
    pub flipped: u64,
    /// Bytes that were lost to noise.
    pub dropped: u64,
    /// Bytes that nobody sent.
    pub inserted: u64,
    /// Breaks.
    pub breaks: u64,
    /// Bytes that reached the far end.
    pub delivered: u64,
    /// Bytes that were lost because the far end did not read, or was unplugged.
    pub unheard: u64,
}

/// A line that works until it is dropped.
#[derive(Debug)]
pub struct Line {
    /// Where the ports have their names; goes away with the line.
    _directory: tempfile::TempDir,
    ports: [PathBuf; 2],
    orders: Sender<Order>,
    /// A byte here tells the line to look at its orders.
    bell: UnixStream,
    counts: Arc<Mutex<[Counts; 2]>>,
    thread: Option<JoinHandle<()>>,
}

impl Line {
    /// Both ends are plugged in. Prints the configuration, and so the seed.
    #[must_use]
    pub fn new(config: LineConfig) -> Self {
        println!("{config:?}");
        let directory = tempfile::tempdir().unwrap();
        let ports = ["left", "right"].map(|name| directory.path().join(name));
        let counts = Arc::new(Mutex::new([Counts::default(); 2]));
        let (orders, received) = channel();
        let (bell, heard) = UnixStream::pair().unwrap();
        heard.set_nonblocking(true).unwrap();
        let plug_in = |port: &PathBuf| Some(Plug::new(port));
        let simulator = Simulator {
            plugs: [plug_in(&ports[0]), plug_in(&ports[1])],
            wires: [Wire::new(&config, 0), Wire::new(&config, 1)],
            ports: ports.clone(),
            orders: received,
            bell: heard,
            counts: Arc::clone(&counts),
            config,
        };
        let thread = std::thread::Builder::new().name("line".to_owned());
        Self {
            _directory: directory,
            ports,
            orders,
            bell,
            counts,
            thread: Some(thread.spawn(|| simulator.run()).unwrap()),
        }
    }

    /// The path of one port. It stays the same when the end is unplugged and plugged in again.
    #[must_use]
    pub fn left(&self) -> &Path {
        &self.ports[0]
    }

    /// The path of the other port.
    #[must_use]
    pub fn right(&self) -> &Path {
        &self.ports[1]
    }

    /// Pulls the plug of an end: its path is gone, and who has the port open is hung up.
    pub fn unplug(&self, end: End) {
        self.order(|done| Order::Unplug(end, done));
    }

    /// Plugs an end in again, as a new terminal at the same path. Who is plugged in already is unplugged before.
    pub fn replug(&self, end: End) {
        self.order(|done| Order::Replug(end, done));
    }

    /// What has become of the bytes that `end` sent until now.
    #[must_use]
    pub fn sent_by(&self, end: End) -> Counts {
        let counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        counts[end as usize]
    }

    /// Returns when the order has been carried out.
    fn order(&self, order: impl FnOnce(Sender<()>) -> Order) {
        let (done, is_done) = channel();
        self.orders.send(order(done)).unwrap();
        (&self.bell).write_all(&[0]).unwrap();
        is_done.recv().unwrap();
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        let _ = self.orders.send(Order::Stop);
        let _ = (&self.bell).write_all(&[0]);
        let ended = self.thread.take().map(JoinHandle::join);
        if matches!(ended, Some(Err(_))) && !std::thread::panicking() {
            panic!("the line broke down");
        }
    }
}

enum Order {
    Unplug(End, Sender<()>),
    Replug(End, Sender<()>),
    Stop,
}

/// The terminal behind a port.
struct Plug {
    master: OwnedFd,
    /// Keeps the terminal raw, and the master from hearing a hang-up, while nobody has the port open.
    _held: OwnedFd,
    port: PathBuf,
}

impl Plug {
    fn new(port: &Path) -> Self {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        fcntl_setfl(&master, OFlags::NONBLOCK).unwrap();
        let name = ptsname(&master, Vec::new()).unwrap();
        let path = Path::new(OsStr::from_bytes(name.as_bytes()));
        let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
        let held = rustix::fs::open(path, flags, Mode::empty()).unwrap();
        let mut modes = tcgetattr(&held).unwrap();
        modes.make_raw();
        tcsetattr(&held, OptionalActions::Now, &modes).unwrap();
        symlink(path, port).unwrap();
        Self {
            master,
            _held: held,
            port: port.to_owned(),
        }
    }

    /// What the end sends, at most `into` of it; 0 if it sends nothing.
    fn read(&self, into: &mut [u8]) -> usize {
        match rustix::io::read(&self.master, into) {
            Ok(count) => count,
            Err(Errno::AGAIN | Errno::INTR | Errno::IO) => 0,
            Err(error) => panic!("the line cannot read: {error}"),
        }
    }

    /// How many of `bytes` the terminal took; the rest overruns it.
    fn write(&self, bytes: &[u8]) -> usize {
        let mut taken = 0;
        while taken < bytes.len() {
            match rustix::io::write(&self.master, &bytes[taken..]) {
                Ok(0) | Err(Errno::AGAIN | Errno::IO) => break,
                Ok(count) => taken += count,
                Err(Errno::INTR) => {}
                Err(error) => panic!("the line cannot write: {error}"),
            }
        }
        taken
    }
}

impl Drop for Plug {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.port);
    }
}

/// One direction of a line.
struct Wire {
    noise: Noise,
    /// When the last byte that was taken has passed.
    free_at: Instant,
    /// Whether the sender had less than it could have sent.
    is_idle: bool,
    /// When the sender is asked for more.
    asked_at: Instant,
    /// What is on its way, and when it arrives.
    under_way: VecDeque<(Instant, Vec<u8>)>,
}

impl Wire {
    fn new(config: &LineConfig, direction: u64) -> Self {
        let now = Instant::now();
        Self {
            noise: Noise::new(config, direction),
            free_at: now,
            is_idle: true,
            asked_at: now,
            under_way: VecDeque::new(),
        }
    }

    /// Takes from the sender what the line can have begun to send within the next quantum.
    fn take(&mut self, from: &Plug, config: &LineConfig, now: Instant, counts: &mut Counts) {
        if now < self.asked_at {
            return;
        }
        // A line that is late, because this thread was, catches up; one that was idle does not.
        if self.is_idle {
            self.free_at = self.free_at.max(now);
        }
        let time = (now + QUANTUM).saturating_duration_since(self.free_at);
        let mut bytes = [0; 4096];
        let room = (time.as_secs_f64() / config.byte_time().as_secs_f64()) as usize;
        let room = room.clamp(1, bytes.len());
        let count = from.read(&mut bytes[..room]);
        self.is_idle = count < room;
        if count == 0 {
            return;
        }
        self.free_at += config.byte_time() * count as u32;
        self.asked_at = self.free_at.max(now + QUANTUM);
        counts.sent += count as u64;
        let mut carried = Vec::with_capacity(count + 16);
        for byte in &bytes[..count] {
            self.noise.carry(*byte, &mut carried, counts);
        }
        self.under_way.push_back((self.free_at + config.latency, carried));
    }

    /// Delivers what has arrived.
    fn deliver(&mut self, to: Option<&Plug>, echo: Option<&Plug>, now: Instant, counts: &mut Counts) {
        while let Some((_, bytes)) = self.under_way.pop_front_if(|(at, _)| *at <= now) {
            let taken = to.map_or(0, |to| to.write(&bytes));
            counts.delivered += taken as u64;
            counts.unheard += (bytes.len() - taken) as u64;
            if let Some(echo) = echo {
                echo.write(&bytes);
            }
        }
    }
}

/// What a line does to bytes.
struct Noise {
    random: Random,
    config: LineConfig,
    /// How many bytes the break goes on for.
    swallowing: u64,
}

impl Noise {
    fn new(config: &LineConfig, direction: u64) -> Self {
        Self {
            random: Random(config.seed ^ (direction << 63)),
            config: config.clone(),
            swallowing: 0,
        }
    }

    fn carry(&mut self, byte: u8, into: &mut Vec<u8>, counts: &mut Counts) {
        if self.swallowing > 0 {
            self.swallowing -= 1;
            counts.dropped += 1;
            return;
        }
        if self.random.is(self.config.insert_rate) {
            counts.inserted += 1;
            into.push(self.random.next() as u8);
        }
        if self.random.is(self.config.break_rate) {
            counts.breaks += 1;
            self.swallowing = self.random.next() % 16;
            into.push(0);
            return;
        }
        if self.random.is(self.config.drop_rate) {
            counts.dropped += 1;
            return;
        }
        let mut damaged = byte;
        for bit in 0..8 {
            if self.random.is(self.config.bit_error_rate) {
                counts.flipped += 1;
                damaged ^= 1 << bit;
            }
        }
        into.push(damaged);
    }
}

/// A small generator (splitmix64), so that a seed is all there is to a line.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn is(&mut self, chance: f64) -> bool {
        chance > 0.0 && ((self.next() >> 11) as f64) < chance * (1_u64 << 53) as f64
    }
}

/// The thread in between.
struct Simulator {
    plugs: [Option<Plug>; 2],
    /// The direction from the end of that place to the other.
    wires: [Wire; 2],
    ports: [PathBuf; 2],
    orders: Receiver<Order>,
    bell: UnixStream,
    counts: Arc<Mutex<[Counts; 2]>>,
    config: LineConfig,
}

impl Simulator {
    fn run(mut self) {
        while self.obey() {
            self.carry(Instant::now());
            self.wait();
        }
    }

    /// Carries out the orders that are there. False if the last was to stop.
    fn obey(&mut self) -> bool {
        while (&self.bell).read(&mut [0; 64]).is_ok_and(|count| count > 0) {}
        loop {
            match self.orders.try_recv() {
                Ok(Order::Unplug(end, done)) => {
                    self.unplug(end);
                    let _ = done.send(());
                }
                Ok(Order::Replug(end, done)) => {
                    self.unplug(end);
                    self.plugs[end as usize] = Some(Plug::new(&self.ports[end as usize]));
                    let _ = done.send(());
                }
                Ok(Order::Stop) | Err(TryRecvError::Disconnected) => return false,
                Err(TryRecvError::Empty) => return true,
            }
        }
    }

    /// What the end has not sent yet goes with it; what is on its way arrives.
    fn unplug(&mut self, end: End) {
        self.plugs[end as usize] = None;
    }

    fn carry(&mut self, now: Instant) {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        for (from, wire) in self.wires.iter_mut().enumerate() {
            let (near, far) = (self.plugs[from].as_ref(), self.plugs[1 - from].as_ref());
            if let Some(near) = near {
                wire.take(near, &self.config, now, &mut counts[from]);
            }
            wire.deliver(far, near.filter(|_| self.config.echo), now, &mut counts[from]);
        }
    }

    /// Waits for what comes first: an order, bytes of an end that is asked for some, an arrival.
    fn wait(&self) {
        let now = Instant::now();
        let mut until: Option<Instant> = None;
        let mut sources = vec![PollFd::new(&self.bell, PollFlags::IN)];
        for (from, wire) in self.wires.iter().enumerate() {
            let arrival = wire.under_way.front().map(|(at, _)| *at);
            let asked = (wire.asked_at > now).then_some(wire.asked_at);
            if let (Some(plug), None) = (&self.plugs[from], asked) {
                sources.push(PollFd::new(&plug.master, PollFlags::IN));
            }
            until = [until, arrival, asked].into_iter().flatten().min();
        }
        let left = until.map(|until| until.saturating_duration_since(now));
        let left = left.and_then(|left| Timespec::try_from(left).ok());
        match poll(&mut sources, left.as_ref()) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => panic!("the line cannot wait: {error}"),
        }
    }
}

fn any_seed() -> u64 {
    use std::hash::{BuildHasher, RandomState};

    RandomState::new().hash_one(0)
}

/// How often a busy sender is asked for more; less would be work for a fast line.
const QUANTUM: Duration = Duration::from_millis(1);

#[cfg(test)]
mod tests {
    use std::future::{Future, poll_fn};
    use std::io::{self, IoSlice};

    use bytes::BytesMut;
    use farref_transport::{Address, ByteRx, ByteTx, Carrier, Media, StreamCarrier};

    use super::*;
    use crate::media::within;

    fn block_on<T>(future: impl Future<Output = T>) -> T {
        let mut builder = tokio::runtime::Builder::new_current_thread();
        builder.enable_all().build().unwrap().block_on(future)
    }

    fn address(port: &Path, baud: u32) -> Address {
        format!("serial:{}?baud={baud}", port.display()).parse().unwrap()
    }

    fn stream(carrier: Carrier) -> StreamCarrier {
        match carrier {
            Carrier::Stream(stream) => stream,
            other => panic!("a line has one stream: {other:?}"),
        }
    }

    async fn dial(port: &Path, baud: u32) -> StreamCarrier {
        stream(
            within(Media::standard().dial(&address(port, baud)))
                .await
                .unwrap(),
        )
    }

    async fn both(line: &Line, baud: u32) -> (StreamCarrier, StreamCarrier) {
        (dial(line.left(), baud).await, dial(line.right(), baud).await)
    }

    async fn write(tx: &mut dyn ByteTx, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            match tx.try_write(&[IoSlice::new(bytes)]) {
                Ok(count) => bytes = &bytes[count..],
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    within(poll_fn(|cx| tx.poll_writable(cx))).await?;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    async fn read(rx: &mut dyn ByteRx, count: usize) -> io::Result<Vec<u8>> {
        let mut into = BytesMut::new();
        while into.len() < count {
            into.reserve(count - into.len());
            within(poll_fn(|cx| rx.poll_read(cx, &mut into))).await?;
        }
        Ok(into.to_vec())
    }

    fn message(length: usize) -> Vec<u8> {
        (0..length).map(|i| (i * 31 + i / 251) as u8).collect()
    }

    /// Sends a message from left to right, and returns what is heard once the line has delivered all.
    async fn pass(line: &Line, carriers: &mut (StreamCarrier, StreamCarrier), says: &[u8]) -> Vec<u8> {
        let (left, right) = carriers;
        let mut heard = Vec::new();
        let listening = async {
            loop {
                let counts = line.sent_by(End::Left);
                // A break stands for a byte.
                let carried = counts.sent + counts.inserted - counts.dropped;
                if counts.sent == says.len() as u64 && heard.len() as u64 == carried {
                    return;
                }
                if let Ok(more) =
                    tokio::time::timeout(Duration::from_millis(20), read(&mut *right.rx, 1)).await
                {
                    heard.extend(more.unwrap());
                }
            }
        };
        let (written, ()) = tokio::join!(write(&mut *left.tx, says), within(listening));
        written.unwrap();
        heard
    }

    #[test]
    fn a_clean_line_carries_every_byte_both_ways() {
        block_on(async {
            let line = Line::new(LineConfig::default());
            let (mut left, mut right) = both(&line, 115_200).await;
            let says = message(2000);
            let (one, other, heard, answered) = tokio::join!(
                write(&mut *left.tx, &says),
                write(&mut *right.tx, &says),
                read(&mut *right.rx, says.len()),
                read(&mut *left.rx, says.len()),
            );
            one.and(other).unwrap();
            assert!(heard.unwrap() == says && answered.unwrap() == says);
            let expected = Counts {
                sent: 2000,
                delivered: 2000,
                ..Counts::default()
            };
            assert_eq!(
                (line.sent_by(End::Left), line.sent_by(End::Right)),
                (expected, expected)
            );
        });
    }

    #[test]
    fn a_line_is_as_slow_as_its_speed_says() {
        block_on(async {
            let baud = 400_000;
            let line = Line::new(LineConfig {
                baud,
                latency: Duration::from_millis(16),
                ..LineConfig::default()
            });
            // The sender believes in a faster one.
            let mut carriers = both(&line, 4_000_000).await;
            let begun = Instant::now();
            let says = message(20_000);
            assert_eq!(pass(&line, &mut carriers, &says).await, says);
            assert!(begun.elapsed() >= Duration::from_millis(500 + 16 - 2));
        });
    }

    #[test]
    fn the_same_seed_does_the_same_damage() {
        block_on(async {
            let config = LineConfig {
                baud: 4_000_000,
                bit_error_rate: 1e-3,
                drop_rate: 1e-3,
                insert_rate: 1e-3,
                break_rate: 1e-3,
                seed: 7,
                ..LineConfig::default()
            };
            let mut heard = Vec::new();
            for seed in [7, 7, 8] {
                let line = Line::new(LineConfig {
                    seed,
                    ..config.clone()
                });
                let mut carriers = both(&line, 4_000_000).await;
                heard.push(pass(&line, &mut carriers, &message(20_000)).await);
                let counts = line.sent_by(End::Left);
                // 160 are expected, and 20 of the others.
                assert!((80..320).contains(&counts.flipped), "{counts:?}");
                let others = [counts.dropped, counts.inserted, counts.breaks];
                assert!(others.iter().all(|count| (3..400).contains(count)), "{counts:?}");
                assert_eq!(line.sent_by(End::Right), Counts::default());
            }
            assert!(heard[0] == heard[1] && heard[0] != heard[2]);
        });
    }

    #[test]
    fn an_end_with_an_echo_hears_itself() {
        block_on(async {
            let line = Line::new(LineConfig {
                echo: true,
                ..LineConfig::default()
            });
            let (mut left, mut right) = both(&line, 115_200).await;
            write(&mut *left.tx, b"hello").await.unwrap();
            assert_eq!(read(&mut *left.rx, 5).await.unwrap(), b"hello");
            assert_eq!(read(&mut *right.rx, 5).await.unwrap(), b"hello");
        });
    }

    #[test]
    fn an_end_that_does_not_read_loses_bytes_and_stops_nobody() {
        block_on(async {
            let line = Line::new(LineConfig {
                baud: 20_000_000,
                ..LineConfig::default()
            });
            let (mut left, _right) = both(&line, 20_000_000).await;
            write(&mut *left.tx, &message(400_000)).await.unwrap();
            within(async {
                while line.sent_by(End::Left).sent < 400_000 {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            })
            .await;
            assert!(line.sent_by(End::Left).unheard > 0);
        });
    }

    #[test]
    fn a_port_that_was_unplugged_is_found_again_by_its_path() {
        block_on(async {
            let line = Line::new(LineConfig::default());
            let media = Media::standard();
            let mut listener = media.listen(&address(line.left(), 115_200)).await.unwrap();
            let mut right = dial(line.right(), 115_200).await;
            for round in 0..2 {
                let mut left = stream(within(listener.accept()).await.unwrap());
                write(&mut *right.tx, &[round]).await.unwrap();
                assert_eq!(read(&mut *left.rx, 1).await.unwrap(), [round]);
                line.unplug(End::Left);
                assert!(!line.left().exists());
                let error = read(&mut *left.rx, 1).await.unwrap_err();
                assert!(error.to_string().contains("unplugged"), "{error}");
                // Nobody hears this.
                write(&mut *right.tx, &[0xff]).await.unwrap();
                drop(left);
                within(async {
                    while line.sent_by(End::Right).unheard <= u64::from(round) {
                        tokio::time::sleep(Duration::from_millis(5)).await;
                    }
                })
                .await;
                line.replug(End::Left);
            }
            within(listener.accept()).await.unwrap();
        });
    }
}
