//! Waiting on a carrier from a plain thread, without the runtime.
//!
//! Knows how to wait until an operating-system handle may be read or written. Reading and writing
//! themselves are those of the halves, which never wait.

use std::io;
use std::time::Duration;

/// What a thread waits on that reads or writes a carrier by itself.
///
/// Whoever waits must be the one that may read (or write) the half it belongs to; a wait by the
/// runtime on the same half at the same time is harmless, but both may then be woken.
pub trait Descriptor: Send + Sync {
    /// Blocks this thread until the half may be read, has ended or failed (true), or until `timeout`
    /// has passed or `alarm` was rung (false). Without a timeout it waits for ever; with zero it only looks.
    ///
    /// # Errors
    ///
    /// If the system refuses to wait, as for want of memory.
    fn wait_readable(&self, alarm: Option<&Alarm>, timeout: Option<Duration>) -> io::Result<bool>;

    /// Blocks this thread until the half may be written or failed (true), or until `timeout` has
    /// passed (false).
    ///
    /// # Errors
    ///
    /// As for [`wait_readable`](Self::wait_readable).
    fn wait_writable(&self, timeout: Option<Duration>) -> io::Result<bool>;
}

/// Wakes a thread that waits on a [`Descriptor`].
///
/// It goes on ringing until it is [silenced](Self::silence): a ring that comes before the wait ends that at once.
#[derive(Debug)]
pub struct Alarm(imp::Alarm);

impl Alarm {
    /// An alarm that does not ring.
    ///
    /// # Errors
    ///
    /// The system has no descriptor left, or no thread waits for descriptors on this one.
    pub fn new() -> io::Result<Self> {
        imp::Alarm::new().map(Self)
    }

    /// Rings. May be called by any thread, also when it rings already.
    pub fn ring(&self) {
        self.0.ring();
    }

    /// Ends the ringing.
    pub fn silence(&self) {
        self.0.silence();
    }
}

#[cfg(not(all(
    unix,
    any(feature = "pipe", feature = "serial", feature = "tcp", feature = "unix")
)))]
mod imp {
    use std::io;

    #[derive(Debug)]
    pub(super) enum Alarm {}

    impl Alarm {
        pub(super) fn new() -> io::Result<Self> {
            Err(io::ErrorKind::Unsupported.into())
        }

        pub(super) fn ring(&self) {
            match *self {}
        }

        pub(super) fn silence(&self) {
            match *self {}
        }
    }
}

#[cfg(all(
    unix,
    any(feature = "pipe", feature = "serial", feature = "tcp", feature = "unix")
))]
use unix as imp;
#[cfg(all(
    unix,
    any(feature = "pipe", feature = "serial", feature = "tcp", feature = "unix")
))]
pub(crate) use unix::{wait_readable, wait_writable};

#[cfg(all(
    unix,
    any(feature = "pipe", feature = "serial", feature = "tcp", feature = "unix")
))]
mod unix {
    use std::io::{self, Read, Write};
    use std::os::fd::AsFd;
    use std::os::unix::net::UnixStream;
    use std::time::{Duration, Instant};

    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    use rustix::io::Errno;

    /// Two ends of a socket, as every system has them: a byte in it is a ring.
    #[derive(Debug)]
    pub(super) struct Alarm {
        bell: UnixStream,
        ear: UnixStream,
    }

    impl Alarm {
        pub(super) fn new() -> io::Result<Self> {
            let (bell, ear) = UnixStream::pair()?;
            bell.set_nonblocking(true)?;
            ear.set_nonblocking(true)?;
            Ok(Self { bell, ear })
        }

        pub(super) fn ring(&self) {
            // Full: it rings already.
            let _ = (&self.bell).write(&[1]);
        }

        pub(super) fn silence(&self) {
            while matches!((&self.ear).read(&mut [0; 64]), Ok(64)) {}
        }
    }

    /// [`wait_readable`](super::Descriptor::wait_readable) for any descriptor.
    pub(crate) fn wait_readable(
        fd: impl AsFd,
        alarm: Option<&super::Alarm>,
        timeout: Option<Duration>,
    ) -> io::Result<bool> {
        let fd = PollFd::new(&fd, PollFlags::IN);
        match alarm {
            None => wait(&mut [fd], timeout),
            Some(alarm) => wait(&mut [fd, PollFd::new(&alarm.0.ear, PollFlags::IN)], timeout),
        }
    }

    /// [`wait_writable`](super::Descriptor::wait_writable) for any descriptor.
    pub(crate) fn wait_writable(fd: impl AsFd, timeout: Option<Duration>) -> io::Result<bool> {
        wait(&mut [PollFd::new(&fd, PollFlags::OUT)], timeout)
    }

    /// Waits for any of `fds`; whether it was the first. Errors and hang-ups end the wait too: the next read or write
    /// tells them.
    fn wait(fds: &mut [PollFd<'_>], timeout: Option<Duration>) -> io::Result<bool> {
        let until = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        loop {
            let left = until.map(|until| until.saturating_duration_since(Instant::now()).min(LONGEST));
            let left = left.and_then(|left| Timespec::try_from(left).ok());
            match poll(fds, left.as_ref()) {
                Ok(0) if until.is_some_and(|until| Instant::now() < until) => {}
                Ok(0) => return Ok(false),
                Ok(_) => return Ok(fds.first().is_some_and(|fd| !fd.revents().is_empty())),
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Some systems count the timeout in milliseconds of an `int`: 24 days. A day is less.
    const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);

    #[cfg(test)]
    mod tests {
        use std::io::Write;
        use std::os::unix::net::UnixStream;
        use std::thread;

        use super::*;

        #[test]
        fn a_wait_ends_when_bytes_come() {
            let (near, mut far) = UnixStream::pair().unwrap();
            assert!(!wait_readable(&near, None, Some(Duration::ZERO)).unwrap());
            thread::scope(|scope| {
                scope.spawn(|| far.write_all(b"x").unwrap());
                assert!(wait_readable(&near, None, None).unwrap());
            });
        }

        #[test]
        fn a_wait_ends_when_its_time_is_up() {
            let (near, _far) = UnixStream::pair().unwrap();
            let begun = Instant::now();
            assert!(!wait_readable(&near, None, Some(Duration::from_millis(20))).unwrap());
            assert!(begun.elapsed() >= Duration::from_millis(20));
            assert!(wait_writable(&near, None).unwrap());
        }

        #[test]
        fn a_wait_ends_when_the_alarm_rings() {
            let (near, mut far) = UnixStream::pair().unwrap();
            let alarm = super::super::Alarm::new().unwrap();
            thread::scope(|scope| {
                scope.spawn(|| alarm.ring());
                assert!(!wait_readable(&near, Some(&alarm), None).unwrap());
            });
            alarm.ring();
            far.write_all(b"x").unwrap();
            assert!(
                wait_readable(&near, Some(&alarm), None).unwrap(),
                "it may be read as well"
            );
            let (quiet, _far) = UnixStream::pair().unwrap();
            assert!(
                !wait_readable(&quiet, Some(&alarm), None).unwrap(),
                "it still rings"
            );
            alarm.silence();
            let none = Some(Duration::ZERO);
            assert!(!wait_readable(&quiet, Some(&alarm), none).unwrap());
            assert!(wait_readable(&near, Some(&alarm), none).unwrap());
        }

        #[test]
        fn a_timeout_beyond_all_clocks_is_for_ever() {
            let (near, far) = UnixStream::pair().unwrap();
            drop(far);
            assert!(wait_readable(&near, None, Some(Duration::MAX)).unwrap());
        }
    }
}
