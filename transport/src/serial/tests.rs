//! Ports as pseudo terminals have them: the master is the far end of the line.

use std::ffi::OsStr;
use std::future::{Future, poll_fn};
use std::io::{self, IoSlice};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use bytes::BytesMut;
use rustix::fs::{FlockOperation, Mode, OFlags, flock};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{ControlModes, InputModes, LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};
use tempfile::TempDir;
use tokio::io::unix::AsyncFd;

use super::*;
use crate::carrier::{ByteRx, ByteTx};
use crate::medium::Media;
use crate::testing::{block_on, read_some, write_all};

/// A line whose far end is in the hands of the test.
struct Line {
    far: AsyncFd<OwnedFd>,
    /// Keeps the terminal as it is while nobody has the port open.
    near: OwnedFd,
    path: PathBuf,
}

impl Line {
    #[expect(deprecated, reason = "as for the port itself")]
    fn new() -> Self {
        let far = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&far).unwrap();
        unlockpt(&far).unwrap();
        let path = PathBuf::from(OsStr::from_bytes(ptsname(&far, Vec::new()).unwrap().as_bytes()));
        rustix::fs::fcntl_setfl(&far, OFlags::NONBLOCK).unwrap();
        let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
        let near = rustix::fs::open(&path, flags, Mode::empty()).unwrap();
        let mut modes = tcgetattr(&near).unwrap();
        modes.make_raw();
        tcsetattr(&near, OptionalActions::Now, &modes).unwrap();
        let far = AsyncFd::new(far).unwrap();
        Self { far, near, path }
    }

    fn address(&self) -> Address {
        address(&self.path, "")
    }

    fn modes(&self) -> Termios {
        tcgetattr(&self.near).unwrap()
    }

    async fn write(&self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let mut ready = self.far.writable().await.unwrap();
            match ready.try_io(|far| Ok(rustix::io::write(far, bytes)?)) {
                Ok(count) => bytes = &bytes[count.unwrap()..],
                Err(_would_block) => {}
            }
        }
    }

    async fn read(&self, count: usize) -> Vec<u8> {
        let mut heard = vec![0; count];
        let mut at = 0;
        while at < count {
            let mut ready = self.far.readable().await.unwrap();
            match ready.try_io(|far| Ok(rustix::io::read(far, &mut heard[at..])?)) {
                Ok(count) => at += count.unwrap(),
                Err(_would_block) => {}
            }
        }
        heard
    }
}

fn address(path: &Path, options: &str) -> Address {
    format!("serial:{}{options}", path.display()).parse().unwrap()
}

async fn dial(address: &Address) -> Result<StreamCarrier, DialError> {
    within(Media::standard().dial(address)).await.map(stream)
}

async fn listen(address: &Address) -> Result<Box<dyn Listener>, ListenError> {
    within(Media::standard().listen(address)).await
}

async fn accept(listener: &mut dyn Listener) -> StreamCarrier {
    stream(within(listener.accept()).await.unwrap())
}

fn stream(carrier: Carrier) -> StreamCarrier {
    match carrier {
        Carrier::Stream(stream) => stream,
        Carrier::Muxed(_) => panic!("a line has one stream"),
    }
}

/// What a test waits for comes within a minute, or the test fails.
async fn within<F: Future>(future: F) -> F::Output {
    let patience = Duration::from_secs(60);
    tokio::time::timeout(patience, future)
        .await
        .unwrap_or_else(|_| panic!("nothing came within {patience:?}"))
}

/// Reads until `count` bytes are there.
async fn read(rx: &mut dyn ByteRx, count: usize) -> Vec<u8> {
    let mut heard = Vec::new();
    while heard.len() < count {
        heard.extend_from_slice(&within(read_some(rx)).await.unwrap());
    }
    heard
}

/// Writes until no more is taken now; says how much that was.
fn fill(tx: &mut dyn ByteTx) -> usize {
    let mut taken = 0;
    loop {
        match tx.try_write(&[IoSlice::new(&[0x55; 600]), IoSlice::new(&[0xaa; 7])]) {
            Ok(count) => taken += count,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return taken,
            Err(error) => panic!("{error}"),
        }
    }
}

fn is_hang_up(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::ConnectionReset && error.to_string().contains("unplugged")
}

/// Whether `future` has to wait when it is polled once.
fn waits(future: impl Future) -> bool {
    pin!(future)
        .poll(&mut Context::from_waker(Waker::noop()))
        .is_pending()
}

#[test]
fn every_byte_value_passes_both_ways() {
    block_on(async {
        let line = Line::new();
        let StreamCarrier { mut rx, mut tx, .. } = dial(&line.address()).await.unwrap();
        let all: Vec<u8> = (0..=255).chain((0..=255).rev()).collect();
        within(write_all(&mut *tx, &all)).await.unwrap();
        assert_eq!(within(line.read(all.len())).await, all);
        within(line.write(&all)).await;
        assert_eq!(read(&mut *rx, all.len()).await, all);
    });
}

#[test]
fn a_carrier_says_what_a_line_is() {
    block_on(async {
        let line = Line::new();
        let at = address(&line.path, "?baud=57600&parity=even&payload=100");
        let dialled = dial(&at).await.unwrap();
        let info = &dialled.info;
        assert_eq!((info.medium, info.remote.as_ref()), ("serial", Some(&at)));
        assert!(!info.reliable && info.may_be_lost && !info.half_close && !info.confidential);
        assert_eq!((info.fragment_hint, info.rate_hint), (100, Some(57600 / 11)));
        drop(dialled);
        let mut listener = listen(&line.address()).await.unwrap();
        assert_eq!(listener.local_addresses(), [line.address()]);
        let accepted = accept(&mut *listener).await;
        assert_eq!(accepted.info.local, Some(line.address()));
        assert_eq!(
            (accepted.info.fragment_hint, accepted.info.rate_hint),
            (240, Some(11_520))
        );
    });
}

#[test]
fn the_terminal_is_set_as_the_address_says() {
    block_on(async {
        let line = Line::new();
        let carrier = dial(&address(&line.path, "?baud=12345&stop=2&flow=xon"))
            .await
            .unwrap();
        let modes = line.modes();
        assert_eq!(modes.output_speed(), 12345);
        assert!(modes.control_modes.contains(ControlModes::CSTOPB));
        assert!(modes.input_modes.contains(InputModes::IXON | InputModes::IXOFF));
        drop(carrier);
        let _carrier = dial(&line.address()).await.unwrap();
        let modes = line.modes();
        assert_eq!(modes.output_speed(), 115_200);
        assert!(!modes.control_modes.contains(ControlModes::CSTOPB));
        assert!(!modes.input_modes.intersects(InputModes::IXON | InputModes::IXOFF));
        assert!(
            !modes
                .local_modes
                .intersects(LocalModes::ECHO | LocalModes::ICANON)
        );
    });
}

#[test]
fn the_close_leaves_dtr_alone_unless_the_address_says_more() {
    block_on(async {
        for (options, hangs_up) in [
            ("", false),
            ("?dtr=keep", false),
            ("?dtr=on", true),
            ("?dtr=off", true),
        ] {
            let line = Line::new();
            let mut modes = line.modes();
            modes.control_modes |= ControlModes::HUPCL;
            tcsetattr(&line.near, OptionalActions::Now, &modes).unwrap();
            let _carrier = dial(&address(&line.path, options)).await.unwrap();
            let is_set = line.modes().control_modes.contains(ControlModes::HUPCL);
            assert_eq!(is_set, hangs_up, "{options}");
        }
    });
}

#[test]
fn a_port_that_somebody_has_is_refused_by_name() {
    block_on(async {
        let line = Line::new();
        let held = dial(&line.address()).await.unwrap();
        let (alone, shared) = (line.address(), address(&line.path, "?exclusive=0"));
        let (one, other, listened) = tokio::join!(dial(&alone), dial(&shared), listen(&alone));
        for error in [one.unwrap_err(), other.unwrap_err()] {
            assert!(matches!(error, DialError::InUse { .. }), "{error}");
            assert!(error.to_string().contains(line.path.to_str().unwrap()), "{error}");
        }
        assert!(matches!(listened.err().unwrap(), ListenError::InUse { .. }));
        drop(held);
        dial(&line.address()).await.unwrap();
    });
}

#[test]
fn those_who_share_a_port_have_it_together() {
    block_on(async {
        let line = Line::new();
        let at = address(&line.path, "?exclusive=0");
        let (one, other) = (dial(&at).await.unwrap(), dial(&at).await.unwrap());
        let error = dial(&line.address()).await.unwrap_err();
        assert!(matches!(error, DialError::InUse { .. }), "{error}");
        drop((one, other));
    });
}

#[test]
fn what_came_in_before_is_not_read() {
    block_on(async {
        let line = Line::new();
        within(line.write(b"boot: 1.2.3\r\n")).await;
        // Until it is there, there is nothing to discard.
        assert!(crate::descriptor::wait_readable(&line.near, None, Some(Duration::from_secs(60))).unwrap());
        let mut carrier = dial(&line.address()).await.unwrap();
        within(line.write(b"new")).await;
        assert_eq!(read(&mut *carrier.rx, 3).await, b"new");
    });
}

#[test]
fn a_hang_up_is_heard_by_both_halves_and_stays() {
    block_on(async {
        let line = Line::new();
        let StreamCarrier { mut rx, mut tx, .. } = dial(&line.address()).await.unwrap();
        fill(&mut *tx);
        let Line { far, near, .. } = line;
        let (read, written, ()) = tokio::join!(
            within(read_some(&mut *rx)),
            within(write_all(&mut *tx, &[0; 10_000])),
            async { drop((far, near)) },
        );
        assert!(is_hang_up(&read.unwrap_err()) && is_hang_up(&written.unwrap_err()));
        for _ in 0..3 {
            within(poll_fn(|cx| rx.poll_readable(cx))).await.unwrap();
            assert!(is_hang_up(
                &rx.try_read(&mut BytesMut::with_capacity(8)).unwrap_err()
            ));
            within(poll_fn(|cx| tx.poll_writable(cx))).await.unwrap();
            assert!(is_hang_up(&tx.try_write(&[IoSlice::new(b"x")]).unwrap_err()));
        }
    });
}

#[test]
fn a_port_that_is_not_there_is_an_error_that_lists_those_that_are() {
    block_on(async {
        let directory = tempfile::tempdir().unwrap();
        let at = address(&directory.path().join("ttyUSB7"), "");
        let error = dial(&at).await.unwrap_err();
        assert!(matches!(error, DialError::Missing { .. }), "{error}");
        let source = std::error::Error::source(&error).unwrap().to_string();
        assert!(source.contains("plug it in"), "{source}");
        for there in name::paths() {
            assert!(source.contains(&there), "{source}");
        }
        let error = listen(&at).await.err().unwrap();
        assert!(matches!(error, ListenError::Address { .. }), "{error}");
        let usb: Address = "serial:usb(ffff:ffff:none)".parse().unwrap();
        assert!(matches!(dial(&usb).await.unwrap_err(), DialError::Missing { .. }));
        let usb: Address = "serial:usb(nonsense)".parse().unwrap();
        assert!(matches!(dial(&usb).await.unwrap_err(), DialError::Address { .. }));
    });
}

#[test]
fn a_file_that_is_no_port_is_refused() {
    block_on(async {
        let file = tempfile::NamedTempFile::new().unwrap();
        for path in [Path::new("/dev/null"), file.path()] {
            let error = dial(&address(path, "")).await.unwrap_err();
            assert!(matches!(error, DialError::Address { .. }), "{error}");
        }
        assert!(dial(&address(Path::new("/"), "")).await.is_err());
    });
}

#[test]
fn no_more_than_two_frames_wait_in_the_driver() {
    block_on(async {
        let line = Line::new();
        // 120 bytes a second.
        let mut carrier = dial(&address(&line.path, "?baud=1200")).await.unwrap();
        let begun = Instant::now();
        let taken = fill(&mut *carrier.tx);
        let sent = begun.elapsed().as_millis() as usize * 120 / 1000;
        assert!(
            (512..=512 + sent + 1).contains(&taken),
            "{taken} with {sent} sent"
        );
        assert!(!carrier.tx.is_buffering());
        let waiting = poll_fn(|cx| carrier.tx.poll_writable(cx));
        assert!(begun.elapsed() > Duration::from_secs(2) || waits(waiting));
    });
}

#[test]
fn a_long_message_goes_at_the_speed_of_the_line() {
    block_on(async {
        let line = Line::new();
        let mut carrier = dial(&address(&line.path, "?baud=400000")).await.unwrap();
        let message: Vec<u8> = (0..20_000_u32).map(|i| (i % 251) as u8).collect();
        let begun = Instant::now();
        let (written, heard) = tokio::join!(
            within(write_all(&mut *carrier.tx, &message)),
            within(line.read(message.len()))
        );
        written.unwrap();
        assert_eq!(heard, message);
        // All but the last 20 ms has left by now.
        assert!(begun.elapsed() >= Duration::from_millis(500 - 20));
    });
}

#[test]
fn a_peer_that_does_not_read_holds_up_its_writer_alone() {
    block_on(async {
        let line = Line::new();
        let carrier = dial(&address(&line.path, "?baud=100000000")).await.unwrap();
        let StreamCarrier { mut rx, mut tx, .. } = carrier;
        let more = vec![7; 10_000_000];
        let ticks = async {
            for _ in 0..50 {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
            line.write(b"still here").await;
            read(&mut *rx, 10).await
        };
        tokio::select! {
            written = write_all(&mut *tx, &more) => panic!("10 MB fit into a terminal: {written:?}"),
            heard = within(ticks) => assert_eq!(heard, b"still here"),
        }
        within(poll_fn(|cx| tx.poll_flush(cx))).await.unwrap();
        within(poll_fn(|cx| tx.poll_close(cx))).await.unwrap();
        let error = tx.try_write(&[IoSlice::new(b"x")]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
    });
}

#[test]
fn a_writer_goes_on_when_the_peer_reads_again() {
    block_on(async {
        let line = Line::new();
        let mut carrier = dial(&address(&line.path, "?baud=100000000")).await.unwrap();
        let message: Vec<u8> = (0..1_000_000_u32).map(|i| (i % 241) as u8).collect();
        let mut writing = pin!(write_all(&mut *carrier.tx, &message));
        // Until the terminal is full; how much that is, is its own business.
        for _ in 0..20 {
            let pause = tokio::time::sleep(Duration::from_millis(2));
            tokio::select! {
                written = &mut writing => panic!("1 MB fits into a terminal: {written:?}"),
                () = pause => {}
            }
        }
        let (written, heard) = within(async { tokio::join!(writing, line.read(message.len())) }).await;
        written.unwrap();
        assert!(heard == message, "what was heard is not what was said");
    });
}

#[test]
fn a_reader_with_nothing_to_read_sleeps() {
    block_on(async {
        let line = Line::new();
        let mut rx = dial(&line.address()).await.unwrap().rx;
        for _ in 0..3 {
            let mut asked = 0;
            let reading = tokio::spawn(async move {
                let mut into = BytesMut::with_capacity(64);
                let read = poll_fn(|cx| {
                    asked += 1;
                    rx.poll_read(cx, &mut into)
                });
                (read.await, asked, rx)
            });
            for _ in 0..20 {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
            line.write(b"x").await;
            let (read, asked, returned) = within(reading).await.unwrap();
            assert_eq!(read.unwrap(), 1);
            // At first, with the byte, and for what the reactor saw before.
            assert!(asked <= 4, "asked {asked} times");
            rx = returned;
        }
    });
}

#[test]
fn what_was_written_is_sent_though_the_carrier_is_dropped() {
    block_on(async {
        let line = Line::new();
        // 480 bytes a second: more than one second.
        let at = address(&line.path, "?baud=4800");
        let mut carrier = dial(&at).await.unwrap();
        let begun = Instant::now();
        let taken = fill(&mut *carrier.tx);
        drop(carrier);
        // A close would throw away, or wait for, what the driver has not sent: so there is none yet.
        let is_free = flock(&line.near, FlockOperation::NonBlockingLockExclusive).is_ok();
        assert!(!is_free || begun.elapsed() > Duration::from_secs(1));
        flock(&line.near, FlockOperation::Unlock).unwrap();
        let heard = within(line.read(taken)).await;
        assert!(heard.starts_with(&[0x55; 500]) && heard.len() == taken);
        within(async { while dial(&at).await.is_err() {} }).await;
    });
}

#[test]
fn a_listener_has_one_carrier_at_a_time() {
    block_on(async {
        let line = Line::new();
        let mut listener = listen(&line.address()).await.unwrap();
        let error = dial(&line.address()).await.unwrap_err();
        assert!(matches!(error, DialError::InUse { .. }), "{error}");
        let mut first = accept(&mut *listener).await;
        assert!(waits(listener.accept()));
        within(write_all(&mut *first.tx, b"one")).await.unwrap();
        assert_eq!(within(line.read(3)).await, b"one");
        // A half still has the port.
        drop(first.tx);
        assert!(waits(listener.accept()));
        drop(first.rx);
        let mut second = accept(&mut *listener).await;
        within(line.write(b"two")).await;
        assert_eq!(read(&mut *second.rx, 3).await, b"two");
        drop(listener);
        within(line.write(b"three")).await;
        assert_eq!(read(&mut *second.rx, 5).await, b"three");
    });
}

/// A port that keeps its path when it is plugged in anew.
struct Plug {
    directory: TempDir,
}

impl Plug {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        Self { directory }
    }

    fn path(&self) -> PathBuf {
        self.directory.path().join("port")
    }

    fn plug_in(&self) -> Line {
        let line = Line::new();
        symlink(&line.path, self.path()).unwrap();
        line
    }

    fn unplug(&self, line: Line) {
        std::fs::remove_file(self.path()).unwrap();
        drop(line);
    }
}

#[test]
fn a_listener_waits_for_a_port_that_was_unplugged() {
    block_on(async {
        let plug = Plug::new();
        let mut line = plug.plug_in();
        let mut listener = listen(&address(&plug.path(), "")).await.unwrap();
        for round in 0..2_u8 {
            let mut carrier = accept(&mut *listener).await;
            within(line.write(&[round])).await;
            assert_eq!(read(&mut *carrier.rx, 1).await, [round]);
            plug.unplug(line);
            assert!(is_hang_up(
                &within(read_some(&mut *carrier.rx)).await.unwrap_err()
            ));
            drop(carrier);
            // It looks for the port and finds none.
            let nothing = tokio::time::timeout(Duration::from_millis(300), listener.accept()).await;
            assert!(nothing.is_err());
            line = plug.plug_in();
        }
        accept(&mut *listener).await;
    });
}

#[test]
fn an_accept_that_is_dropped_loses_no_carrier() {
    block_on(async {
        let plug = Plug::new();
        let line = plug.plug_in();
        let mut listener = listen(&address(&plug.path(), "")).await.unwrap();
        for round in 0..2_u8 {
            // Abandoned as often as it takes, wherever it is: no accept is polled twice.
            let mut carrier = within(async {
                loop {
                    let accepting = listener.accept();
                    let mut accepting = pin!(accepting);
                    let once = poll_fn(|cx| Poll::Ready(accepting.as_mut().poll(cx)));
                    if let Poll::Ready(accepted) = once.await {
                        return stream(accepted.unwrap());
                    }
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
            })
            .await;
            within(line.write(&[round])).await;
            assert_eq!(read(&mut *carrier.rx, 1).await, [round]);
        }
    });
}

#[test]
fn a_dial_that_is_dropped_leaves_the_port_free() {
    block_on(async {
        let line = Line::new();
        for _ in 0..20 {
            let media = Media::standard();
            // Mostly while a thread opens the port.
            let _ = waits(media.dial(&line.address()));
        }
        dial(&line.address()).await.unwrap();
    });
}

#[test]
fn without_a_runtime_there_is_an_error_and_no_panic() {
    let at: Address = "serial:/dev/ttyUSB0".parse().unwrap();
    let media = Media::standard();
    let mut dialling = pin!(media.dial(&at));
    match dialling.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(Err(DialError::System { .. })) => {}
        other => panic!("{other:?}"),
    }
}
