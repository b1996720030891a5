//! A port that is open: how it is opened, set up, and let go of.
//!
//! Two descriptors of one terminal: ours, which never waits, reads and writes; the other belongs to the
//! serial library, which holds the locks and knows the settings, the lines and the count of the driver.
//!
//! Opening and closing may take the time of a few USB transfers, closing also that of the bytes which the
//! driver still holds (up to 30 s on Linux, if the peer has stopped them). So a port is opened on a thread
//! for what blocks, and closed only when its driver is empty, or has been emptied.

use std::fs;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::thread;
use std::time::Duration;

use rustix::fs::{FlockOperation, Mode, OFlags, flock};
use rustix::io::Errno;
use rustix::termios::{ControlModes, OptionalActions, QueueSelector, isatty, tcflush, tcgetattr, tcsetattr};
use tokio::io::unix::AsyncFd;
use tokio::sync::oneshot;
use tokio::time::Instant;
use tokio_serial::SerialPort;

use super::error::{PortError, hung_up};
use super::name::{paths, resolve};
use super::settings::Settings;
use crate::descriptor::{wait_readable, wait_writable};

/// A port that was opened and set up; no reactor knows it yet.
pub(super) struct Opened {
    fd: OwnedFd,
    control: Box<dyn SerialPort>,
}

/// Opens the port of that name and sets it up. Blocks; for how long is up to the driver.
pub(super) fn open(port: &str, settings: &Settings) -> Result<Opened, PortError> {
    let path = resolve(port)?;
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let fd = rustix::fs::open(&path, flags, Mode::empty()).map_err(|errno| sorted(errno, &path))?;
    if !isatty(&fd) {
        return Err(PortError::NoPort);
    }
    check_free(&fd, settings).map_err(|errno| sorted(errno, &path))?;
    // Before anything else: until then the terminal answers the peer with its own words.
    make_raw(&fd, settings).map_err(|errno| sorted(errno, &path))?;
    let control = control(&path, &fd, settings)?;
    check_speed(&fd, settings)?;
    // What came in before may have been read at another speed.
    tcflush(&fd, QueueSelector::IFlush).map_err(|errno| sorted(errno, &path))?;
    Ok(Opened { fd, control })
}

/// Looks whether the port could be locked. The library locks it, but sets its own mark first and, when the
/// lock fails, takes away the mark of who holds it.
fn check_free(fd: &OwnedFd, settings: &Settings) -> rustix::io::Result<()> {
    flock(
        fd,
        if settings.exclusive {
            FlockOperation::NonBlockingLockExclusive
        } else {
            FlockOperation::NonBlockingLockShared
        },
    )?;
    flock(fd, FlockOperation::Unlock)
}

/// No line editing, no signals, no translation: bytes. And no hang-up at the close, unless the address has
/// a say in DTR: boards take its fall for a reset.
fn make_raw(fd: &OwnedFd, settings: &Settings) -> rustix::io::Result<()> {
    let mut modes = tcgetattr(fd)?;
    modes.make_raw();
    if settings.dtr.is_none() {
        modes.control_modes -= ControlModes::HUPCL;
    }
    tcsetattr(fd, OptionalActions::Now, &modes)
}

/// The library's own descriptor of the same terminal, with which it locks it and sets it up.
fn control(path: &Path, fd: &OwnedFd, settings: &Settings) -> Result<Box<dyn SerialPort>, PortError> {
    // The very terminal that is open, even if its path leads elsewhere by now.
    let same = PathBuf::from(format!("/proc/self/fd/{}", fd.as_raw_fd()));
    let path = if cfg!(target_os = "linux") && same.exists() {
        &same
    } else {
        path
    };
    let builder = tokio_serial::new(path.to_string_lossy(), settings.baud)
        .data_bits(settings.data)
        .parity(settings.parity)
        .stop_bits(settings.stop)
        .flow_control(settings.flow)
        .exclusive(settings.exclusive);
    let builder = match settings.dtr {
        Some(is_on) => builder.dtr_on_open(is_on),
        None => builder.preserve_dtr_on_open(),
    };
    Ok(builder.open()?)
}

/// Drivers take another speed in silence. A receiver follows up to about one part in twenty. Only Linux
/// tells what it took.
fn check_speed(fd: &OwnedFd, settings: &Settings) -> Result<(), PortError> {
    if !cfg!(target_os = "linux") {
        return Ok(());
    }
    let asked = settings.baud;
    let taken = tcgetattr(fd)
        .map_err(|errno| PortError::System(errno.into()))?
        .output_speed();
    if asked.abs_diff(taken) > asked / 20 {
        return Err(PortError::OtherSpeed { asked, taken });
    }
    Ok(())
}

/// Sorts what opening `path` failed with.
fn sorted(errno: Errno, path: &Path) -> PortError {
    match errno {
        // EIO is what a port without hardware says, and one that was unplugged just now.
        Errno::NOENT | Errno::NXIO | Errno::NODEV | Errno::IO => PortError::Missing { there: paths() },
        Errno::BUSY | Errno::WOULDBLOCK => PortError::InUse,
        Errno::ACCESS | Errno::PERM => PortError::NotPermitted { group: group(path) },
        Errno::NOTTY => PortError::NoPort,
        errno => PortError::System(errno.into()),
    }
}

/// The group whose members may open `path`, if there is one.
fn group(path: &Path) -> Option<String> {
    let found = fs::metadata(path).ok()?;
    let members_may = found.mode() & 0o060 == 0o060;
    let groups = fs::read_to_string("/etc/group").unwrap_or_default();
    members_may.then(|| group_named(found.gid(), &groups)).flatten()
}

/// The name of a group, out of the lines `name:password:id:members` (group(5)).
fn group_named(id: u32, groups: &str) -> Option<String> {
    groups.lines().find_map(|line| {
        let mut fields = line.split(':');
        let (name, _, number) = (fields.next()?, fields.next()?, fields.next()?);
        (number.parse() == Ok(id)).then(|| name.to_owned())
    })
}

/// A port that is open, shared by its halves.
pub(super) struct Port {
    fd: AsyncFd<OwnedFd>,
    control: Mutex<Box<dyn SerialPort>>,
    /// Whether it hung up. It does not come back: what is opened later is another port.
    is_gone: AtomicBool,
    /// Dropped after the descriptors: who holds the other end knows that the port is free.
    _closed: oneshot::Sender<()>,
}

impl Port {
    #[expect(
        deprecated,
        reason = "what replaced it is unsafe, for types that change their descriptor; an `OwnedFd` never does"
    )]
    /// Registers the port with the reactor of this runtime. The receiver ends when the port is closed.
    pub(super) fn new(opened: Opened) -> io::Result<(Self, oneshot::Receiver<()>)> {
        let (closed, is_closed) = oneshot::channel();
        let port = Self {
            fd: AsyncFd::new(opened.fd)?,
            control: Mutex::new(opened.control),
            is_gone: AtomicBool::new(false),
            _closed: closed,
        };
        Ok((port, is_closed))
    }

    pub(super) fn fd(&self) -> &OwnedFd {
        self.fd.get_ref()
    }

    pub(super) fn is_gone(&self) -> bool {
        self.is_gone.load(Ordering::Relaxed)
    }

    /// One half has found out; the other hears of it too.
    pub(super) fn hang_up(&self) -> io::Error {
        self.is_gone.store(true, Ordering::Relaxed);
        hung_up()
    }

    /// How many bytes the driver says it has not sent yet.
    pub(super) fn queued(&self) -> usize {
        let control = self.control.lock().unwrap_or_else(PoisonError::into_inner);
        control
            .bytes_to_write()
            .map_or(0, |count| usize::try_from(count).unwrap_or(usize::MAX))
    }

    /// Ready when a read finds something, or fails.
    pub(super) fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            let mut guard = ready!(self.fd.poll_read_ready(cx))?;
            // What the reactor has seen may be read by now.
            if wait_readable(self.fd(), None, Some(Duration::ZERO))? {
                return Poll::Ready(Ok(()));
            }
            guard.clear_ready();
        }
    }

    /// Ready when the driver takes something, or fails.
    pub(super) fn poll_writable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            let mut guard = ready!(self.fd.poll_write_ready(cx))?;
            if wait_writable(self.fd(), Some(Duration::ZERO))? {
                return Poll::Ready(Ok(()));
            }
            guard.clear_ready();
        }
    }

    /// Keeps the port open until what was written has left the driver, whose clock says `idle_at`; or gives
    /// up a while later, and throws the rest away. Returns at once.
    pub(super) fn linger(self: Arc<Self>, idle_at: Instant) {
        if self.queued() == 0 && idle_at <= Instant::now() {
            return;
        }
        let lingering = Arc::clone(&self);
        let spawned = thread::Builder::new()
            .name("serial close".to_owned())
            .spawn(move || lingering.wait_until_sent(idle_at));
        if spawned.is_err() {
            self.discard_output();
        }
    }

    fn wait_until_sent(&self, idle_at: Instant) {
        loop {
            let now = Instant::now();
            let until_idle = idle_at.saturating_duration_since(now);
            if until_idle.is_zero() && self.queued() == 0 {
                return;
            }
            if now.saturating_duration_since(idle_at) > PATIENCE {
                return self.discard_output();
            }
            thread::sleep(until_idle.max(Duration::from_millis(5)));
        }
    }

    fn discard_output(&self) {
        let _ = tcflush(self.fd(), QueueSelector::OFlush);
    }
}

/// How much longer than the clock says a driver may need to empty itself before a close.
const PATIENCE: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_is_named_by_its_number() {
        let groups = "root:x:0:\ndialout:x:20:eva,otto\nbroken\nuucp:x:2o:\nplugdev:x:46:\n";
        assert_eq!(group_named(20, groups).as_deref(), Some("dialout"));
        assert_eq!(group_named(46, groups).as_deref(), Some("plugdev"));
        assert_eq!(group_named(2, groups), None);
        assert_eq!(group_named(20, ""), None);
    }

    #[test]
    fn only_a_group_that_may_is_worth_joining() {
        use std::os::unix::fs::PermissionsExt;

        let file = tempfile::NamedTempFile::new().unwrap();
        let with_mode = |mode| {
            fs::set_permissions(file.path(), fs::Permissions::from_mode(mode)).unwrap();
            group(file.path())
        };
        assert_eq!(with_mode(0o600), None);
        assert_eq!(with_mode(0o640), None);
        let groups = fs::read_to_string("/etc/group").unwrap_or_default();
        let gid = file.path().metadata().unwrap().gid();
        assert_eq!(with_mode(0o660), group_named(gid, &groups));
    }
}
