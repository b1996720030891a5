use std::fs::File;
use std::future::poll_fn;
use std::os::unix::net::UnixStream;

use super::*;
use crate::testing::{block_on, read_all, read_some, talk, write_all};
use crate::{CarrierInfo, StreamCarrier};

fn pipe() -> (OwnedFd, OwnedFd) {
    rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).unwrap()
}

/// Both halves over inherited descriptors, as at the start of a program.
fn adopted(input: OwnedFd, output: OwnedFd) -> (StreamCarrier, Vec<PutBack>) {
    let (input, first) = adopt(input, Access::Read).unwrap();
    let (output, second) = adopt(output, Access::Write).unwrap();
    let rx = PipeRx::new(input).unwrap();
    let tx = PipeTx::new(output).unwrap();
    let carrier = StreamCarrier::new(rx, tx, CarrierInfo::new("pipe"));
    (carrier, first.into_iter().chain(second).collect())
}

fn waits(fd: impl AsFd) -> bool {
    !fcntl_getfl(fd).unwrap().contains(OFlags::NONBLOCK)
}

#[test]
fn two_talkers_over_pipes_are_both_heard() {
    block_on(async {
        let ((near_in, far_out), (far_in, near_out)) = (pipe(), pipe());
        let (near, _) = adopted(near_in, near_out);
        let (far, _) = adopted(far_in, far_out);
        talk(near, far, 4 * 1024 * 1024).await;
    });
}

#[test]
fn two_talkers_over_a_socket_are_both_heard() {
    block_on(async {
        let (near, far) = UnixStream::pair().unwrap();
        let (near, near_back) = adopted(near.try_clone().unwrap().into(), near.into());
        let (far, far_back) = adopted(far.try_clone().unwrap().into(), far.into());
        talk(near, far, 4 * 1024 * 1024).await;
        drop((near_back, far_back));
    });
}

#[test]
fn what_others_share_is_left_as_it_was() {
    block_on(async {
        let (reader, writer) = pipe();
        let (ours, theirs) = (reader.try_clone().unwrap(), reader);
        let (adopted_pipe, put_back) = adopt(ours, Access::Read).unwrap();
        assert!(!waits(&adopted_pipe));
        if cfg!(target_os = "linux") {
            assert!(
                waits(&theirs),
                "the flags of a pipe that others share were changed"
            );
        }
        drop((adopted_pipe, put_back));
        assert!(waits(&theirs));

        let (socket, _far) = UnixStream::pair().unwrap();
        let (carrier, put_back) = adopted(
            socket.try_clone().unwrap().into(),
            socket.try_clone().unwrap().into(),
        );
        assert!(!waits(&socket));
        drop(carrier);
        assert!(!waits(&socket), "halves come first");
        drop(put_back);
        assert!(waits(&socket));
        drop(writer);
    });
}

#[test]
fn a_file_is_read_and_written_in_place() {
    block_on(async {
        let directory = tempfile::tempdir().unwrap();
        let (from, to) = (directory.path().join("from"), directory.path().join("to"));
        let says: Vec<u8> = (0..100_000_u32).map(|i| (i * 31) as u8).collect();
        std::fs::write(&from, &says).unwrap();
        let (mut carrier, _) = adopted(
            File::open(&from).unwrap().into(),
            File::create(&to).unwrap().into(),
        );
        assert!(read_all(&mut *carrier.rx).await.unwrap() == says);
        write_all(&mut *carrier.tx, &says).await.unwrap();
        drop(carrier);
        assert!(std::fs::read(&to).unwrap() == says);
    });
}

#[test]
fn devices_that_nobody_can_watch_work_too() {
    block_on(async {
        let null = || OwnedFd::from(File::options().read(true).write(true).open("/dev/null").unwrap());
        let (mut carrier, _) = adopted(null(), null());
        assert_eq!(read_all(&mut *carrier.rx).await.unwrap(), b"");
        write_all(&mut *carrier.tx, &[0; 100_000]).await.unwrap();
    });
}

#[test]
fn a_directory_is_an_error_and_no_stream() {
    block_on(async {
        let directory = tempfile::tempdir().unwrap();
        let (fd, _) = adopt(File::open(directory.path()).unwrap().into(), Access::Read).unwrap();
        assert!(read_all(&mut PipeRx::new(fd).unwrap()).await.is_err());
    });
}

/// A pseudo terminal: the side of whoever shows it, and that of the program in it.
#[cfg(target_os = "linux")]
fn terminal() -> (OwnedFd, OwnedFd) {
    use rustix::pty::{OpenptFlags, grantpt, ioctl_tiocgptpeer, openpt, unlockpt};
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let shown = openpt(flags).unwrap();
    grantpt(&shown).unwrap();
    unlockpt(&shown).unwrap();
    let inside = ioctl_tiocgptpeer(&shown, flags).unwrap();
    (shown, inside)
}

#[cfg(target_os = "linux")]
#[test]
fn a_terminal_is_read_line_by_line_to_its_hang_up() {
    block_on(async {
        let (shown, inside) = terminal();
        assert_eq!(Kind::of(&inside).unwrap(), Kind::Terminal);
        let others = inside.try_clone().unwrap();
        let (carrier, _) = adopted(inside.try_clone().unwrap(), inside);
        assert!(
            waits(&others),
            "the flags of a terminal that a shell shares were changed"
        );
        let StreamCarrier { mut rx, mut tx, .. } = carrier;
        // A terminal hands out one line at a time: reading less than there was room for is no sign of the end.
        rustix::io::write(&shown, b"one\ntwo\nthree\n").unwrap();
        let mut heard = BytesMut::new();
        while heard.len() < 14 {
            heard.reserve(64);
            assert!(poll_fn(|cx| rx.poll_read(cx, &mut heard)).await.unwrap() > 0);
        }
        assert_eq!(&heard[..], b"one\ntwo\nthree\n");
        drop(shown);
        assert!(read_some(&mut *rx).await.unwrap().is_empty());
        let error = write_all(&mut *tx, b"x").await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
    });
}

#[test]
fn a_reader_that_went_away_is_a_broken_pipe() {
    block_on(async {
        let (reader, writer) = pipe();
        set_nonblocking(&writer).unwrap();
        let mut tx = PipeTx::new(writer).unwrap();
        write_all(&mut tx, &[0; 60_000]).await.unwrap();
        let full = async { write_all(&mut tx, &[0; 60_000]).await.unwrap_err() };
        let (error, ()) = tokio::join!(full, async { drop(reader) });
        assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
    });
}

#[test]
fn nothing_is_written_after_the_close() {
    block_on(async {
        let (reader, writer) = pipe();
        for fd in [&reader, &writer] {
            set_nonblocking(fd).unwrap();
        }
        let (mut rx, mut tx) = (PipeRx::new(reader).unwrap(), PipeTx::new(writer).unwrap());
        let many = [IoSlice::new(b"a"), IoSlice::new(b""), IoSlice::new(b"bc")];
        assert_eq!(tx.try_write(&many).unwrap(), 3);
        poll_fn(|cx| tx.poll_close(cx)).await.unwrap();
        poll_fn(|cx| tx.poll_close(cx)).await.unwrap();
        assert_eq!(tx.try_write(&many).unwrap_err().kind(), io::ErrorKind::BrokenPipe);
        assert_eq!(read_all(&mut rx).await.unwrap(), b"abc");
    });
}

#[test]
fn more_slices_than_the_system_takes_are_written_in_part() {
    block_on(async {
        let (reader, writer) = pipe();
        set_nonblocking(&writer).unwrap();
        let mut tx = PipeTx::new(writer).unwrap();
        let many = vec![IoSlice::new(b"x"); 5000];
        assert!(tx.try_write(&many).unwrap() <= 1024);
        drop(reader);
    });
}

#[test]
fn a_thread_reads_without_the_runtime() {
    block_on(async {
        let (reader, writer) = pipe();
        set_nonblocking(&reader).unwrap();
        let mut rx = PipeRx::new(reader).unwrap();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let mut into = BytesMut::with_capacity(64);
                while rx.try_read(&mut into).is_err() {
                    rx.descriptor().unwrap().wait_readable(None, None).unwrap();
                }
                assert_eq!(&into[..], b"hello");
            });
            rustix::io::write(&writer, b"hello").unwrap();
        });
    });
}
