//! What a child reads: a stream from elsewhere, written to its pipe or terminal as fast as it takes it.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use bytes::Bytes;
use farref_netref::ByteStream;
use rustix::termios::{LocalModes, SpecialCodeIndex, tcgetattr};
use tokio::net::unix::pipe::Sender;
use tokio::sync::Notify;

use super::child::Child;
use super::output::set_nonblocking;

/// Writes `bytes` to `fd` up to their end, that of the child, or that it is told to `close`; where there are none, it is for
/// that alone. Within a runtime.
pub(super) fn feed(
    fd: OwnedFd,
    bytes: Option<ByteStream>,
    child: &Arc<Child>,
    close: Arc<Notify>,
) -> io::Result<()> {
    set_nonblocking(&fd)?;
    let input = Input {
        pipe: Sender::from_owned_fd_unchecked(fd)?,
        is_terminal: child.has_terminal(),
        is_in_line: false,
    };
    let mut ended = child.ended();
    drop(tokio::spawn(async move {
        tokio::select! {
            _ = ended.wait_for(Option::is_some) => {}
            // Nobody reads any more, or there is no more: both end it.
            _ = input.take(bytes, &close) => {}
        }
    }));
    Ok(())
}

struct Input {
    pipe: Sender,
    is_terminal: bool,
    /// A line was begun, and not ended.
    is_in_line: bool,
}

impl Input {
    async fn take(mut self, mut bytes: Option<ByteStream>, close: &Notify) -> io::Result<()> {
        loop {
            let next = async {
                match &mut bytes {
                    Some(bytes) => bytes.next().await,
                    None => std::future::pending().await,
                }
            };
            let piece = tokio::select! {
                piece = next => piece,
                () = close.notified() => None,
            };
            // One that fails ends as well: there is no other way to tell a child.
            let Some(Ok(piece)) = piece else { break };
            self.write(&piece).await?;
        }
        drop(bytes);
        if self.is_terminal {
            self.end_of_file().await?;
        }
        Ok(())
    }

    async fn write(&mut self, bytes: &Bytes) -> io::Result<()> {
        if let Some(last) = bytes.last() {
            self.is_in_line = *last != b'\n' && *last != b'\r';
        }
        self.write_all(bytes).await
    }

    /// Not by the way on which a short write tells the reactor that there is no room: of a terminal that is not true.
    async fn write_all(&self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            match self.pipe.try_write(bytes) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => bytes = bytes.get(count..).unwrap_or_default(),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.pipe.writable().await?,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// A terminal has no end but the character for it, while somebody reads it by lines: at the beginning of one.
    async fn end_of_file(&self) -> io::Result<()> {
        let modes = tcgetattr(self.pipe.as_fd())?;
        if !modes.local_modes.contains(LocalModes::ICANON) {
            return Ok(());
        }
        let end = modes.special_codes[SpecialCodeIndex::VEOF];
        if self.is_in_line {
            self.write_all(&[end]).await?;
        }
        self.write_all(&[end]).await
    }
}
