//! Descriptors that this process inherited, and may share with others.

use std::io;
use std::os::fd::OwnedFd;

use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};

use super::{is_watched, set_nonblocking};

/// What is done with an inherited descriptor.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    Read,
    Write,
}

/// Makes an inherited descriptor one that does not wait. The other part is kept until neither half is
/// used any more: halves may share one open file.
pub(crate) fn adopt(fd: OwnedFd, access: Access) -> io::Result<(OwnedFd, Option<PutBack>)> {
    if !is_watched(&fd)? || fcntl_getfl(&fd)?.contains(OFlags::NONBLOCK) {
        return Ok((fd, None));
    }
    match open_anew(&fd, access) {
        Some(anew) => Ok((anew, None)),
        None => {
            let put_back = PutBack::of(&fd)?;
            set_nonblocking(&fd)?;
            Ok((fd, Some(put_back)))
        }
    }
}

/// Puts an open file that others share back as it was.
///
/// Not done when the process ends without dropping it.
pub(crate) struct PutBack {
    fd: OwnedFd,
    flags: OFlags,
}

impl PutBack {
    fn of(fd: &OwnedFd) -> io::Result<Self> {
        Ok(Self {
            fd: fd.try_clone()?,
            flags: fcntl_getfl(fd)?,
        })
    }
}

impl Drop for PutBack {
    fn drop(&mut self) {
        let _ = fcntl_setfl(&self.fd, self.flags);
    }
}

/// The same pipe or terminal, as an open file of our own, whose flags nobody shares.
#[cfg(target_os = "linux")]
fn open_anew(fd: &OwnedFd, access: Access) -> Option<OwnedFd> {
    use std::os::fd::AsRawFd;

    use rustix::fs::{Mode, open};

    use super::Kind;

    if matches!(Kind::of(fd), Ok(Kind::Socket) | Err(_)) {
        return None;
    }
    let access = match access {
        Access::Read => OFlags::RDONLY,
        Access::Write => OFlags::WRONLY,
    };
    let flags = access | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOCTTY;
    // Not permitted where the account was changed since it was opened.
    open(format!("/proc/self/fd/{}", fd.as_raw_fd()), flags, Mode::empty()).ok()
}

#[cfg(not(target_os = "linux"))]
fn open_anew(_: &OwnedFd, _: Access) -> Option<OwnedFd> {
    None
}
