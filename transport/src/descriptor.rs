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
    /// has passed (false). Without a timeout it waits for ever; with zero it only looks.
    ///
    /// # Errors
    ///
    /// If the system refuses to wait, as for want of memory.
    fn wait_readable(&self, timeout: Option<Duration>) -> io::Result<bool>;

    /// Blocks this thread until the half may be written or failed (true), or until `timeout` has
    /// passed (false).
    ///
    /// # Errors
    ///
    /// As for [`wait_readable`](Self::wait_readable).
    fn wait_writable(&self, timeout: Option<Duration>) -> io::Result<bool>;
}

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
    use std::io;
    use std::os::fd::AsFd;
    use std::time::{Duration, Instant};

    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    use rustix::io::Errno;

    /// [`wait_readable`](super::Descriptor::wait_readable) for any descriptor.
    pub(crate) fn wait_readable(fd: impl AsFd, timeout: Option<Duration>) -> io::Result<bool> {
        wait(fd, PollFlags::IN, timeout)
    }

    /// [`wait_writable`](super::Descriptor::wait_writable) for any descriptor.
    pub(crate) fn wait_writable(fd: impl AsFd, timeout: Option<Duration>) -> io::Result<bool> {
        wait(fd, PollFlags::OUT, timeout)
    }

    /// Errors and hang-ups of the handle end the wait too: the next read or write tells them.
    fn wait(fd: impl AsFd, events: PollFlags, timeout: Option<Duration>) -> io::Result<bool> {
        let until = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        loop {
            let left = until.map(|until| until.saturating_duration_since(Instant::now()).min(LONGEST));
            let left = left.and_then(|left| Timespec::try_from(left).ok());
            match poll(&mut [PollFd::new(&fd, events)], left.as_ref()) {
                Ok(0) if until.is_some_and(|until| Instant::now() < until) => {}
                Ok(0) => return Ok(false),
                Ok(_) => return Ok(true),
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
            assert!(!wait_readable(&near, Some(Duration::ZERO)).unwrap());
            thread::scope(|scope| {
                scope.spawn(|| far.write_all(b"x").unwrap());
                assert!(wait_readable(&near, None).unwrap());
            });
        }

        #[test]
        fn a_wait_ends_when_its_time_is_up() {
            let (near, _far) = UnixStream::pair().unwrap();
            let begun = Instant::now();
            assert!(!wait_readable(&near, Some(Duration::from_millis(20))).unwrap());
            assert!(begun.elapsed() >= Duration::from_millis(20));
            assert!(wait_writable(&near, None).unwrap());
        }

        #[test]
        fn a_timeout_beyond_all_clocks_is_for_ever() {
            let (near, far) = UnixStream::pair().unwrap();
            drop(far);
            assert!(wait_readable(&near, Some(Duration::MAX)).unwrap());
        }
    }
}
