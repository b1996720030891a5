//! A far file for threads.

use std::future::poll_fn;
use std::io::{self, BufRead, Read, Seek, SeekFrom, Write};
use std::pin::Pin;
use std::task::{Context, Poll};

use farref_netref::place::block_on;
use tokio::io::{AsyncSeek, AsyncWrite};

use super::Handle;

/// A far file as `std::io` reads, writes and seeks: see [`Handle`]. Each method waits on its thread, if there is something
/// to wait for.
#[derive(Debug)]
pub struct Blocking(pub(super) Handle);

impl Blocking {
    /// The same for tasks.
    #[must_use]
    pub fn into_async(self) -> Handle {
        self.0
    }

    /// Cuts the file off, or fills it up with zeros; see [`Handle::set_len`].
    ///
    /// # Errors
    ///
    /// As for [`Handle::set_len`].
    pub fn set_len(&mut self, len: u64) -> io::Result<()> {
        block_on(self.0.set_len(len))?
    }

    /// Returns when what was written is on the disk over there; see [`Handle::sync`].
    ///
    /// # Errors
    ///
    /// As for [`Handle::sync`].
    pub fn sync(&mut self) -> io::Result<()> {
        block_on(self.0.sync())?
    }

    fn fill(&mut self) -> io::Result<()> {
        if self.0.buffered().is_empty() {
            return self.wait(Handle::poll_fill);
        }
        Ok(())
    }

    fn wait<R>(
        &mut self,
        mut poll: impl FnMut(&mut Handle, &mut Context<'_>) -> Poll<io::Result<R>>,
    ) -> io::Result<R> {
        block_on(poll_fn(|context| poll(&mut self.0, context)))?
    }
}

impl Read for Blocking {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if into.is_empty() {
            return Ok(0);
        }
        self.fill()?;
        let count = self.0.buffered().read(into)?;
        self.0.use_up(count);
        Ok(count)
    }
}

impl BufRead for Blocking {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.fill()?;
        Ok(self.0.buffered())
    }

    fn consume(&mut self, count: usize) {
        self.0.use_up(count);
    }
}

impl Write for Blocking {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.0.only_gathers(bytes.len()) {
            self.0.gather(bytes);
            return Ok(bytes.len());
        }
        self.wait(|handle, context| Pin::new(handle).poll_write(context, bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.wait(|handle, context| Pin::new(handle).poll_flush(context))
    }
}

impl Seek for Blocking {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        Pin::new(&mut self.0).start_seek(to)?;
        self.wait(|handle, context| Pin::new(handle).poll_complete(context))
    }
}
