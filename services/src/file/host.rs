//! The side that has the file.

use std::io::{self, Read, Seek, SeekFrom, Write};
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use farref_netref::{Netref, remote};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncSeek, AsyncSeekExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::Mutex;

use super::{Failure, File, MOST, Whence};

/// Shares an open file.
#[must_use]
pub fn share(file: std::fs::File) -> Netref<dyn File> {
    host(file)
}

/// Shares what can be read, written and sought.
///
/// Whoever gets it writes where they like: a [`Cursor`](io::Cursor) over a vector fills it up with zeros to there, as far as
/// the memory of this process goes.
#[must_use]
pub fn seekable(io: impl Read + Write + Seek + Send + 'static) -> Netref<dyn File> {
    host(Seekable(io))
}

/// Shares what can be read and sought.
#[must_use]
pub fn read_only(io: impl Read + Seek + Send + 'static) -> Netref<dyn File> {
    host(ReadOnly(io))
}

/// Shares what can be read and written, and has no positions: a pipe, a socket, a port. Reading does not wait for writing
/// only where the two are shared one by one.
#[must_use]
pub fn duplex(io: impl Read + Write + Send + 'static) -> Netref<dyn File> {
    host(Duplex(io))
}

/// Shares what can be read.
#[must_use]
pub fn reader(io: impl Read + Send + 'static) -> Netref<dyn File> {
    host(Reader(io))
}

/// Shares what can be written.
#[must_use]
pub fn writer(io: impl Write + Send + 'static) -> Netref<dyn File> {
    host(Writer(io))
}

/// Shares what tokio reads and writes, and has no positions. Reading and writing do not wait for each other.
#[must_use]
pub fn async_duplex(io: impl AsyncRead + AsyncWrite + Send + 'static) -> Netref<dyn File> {
    let (read, write) = tokio::io::split(io);
    Netref::of(Halves {
        read: Mutex::new(read),
        write: Mutex::new(write),
    })
}

/// Shares what tokio reads, writes and seeks.
#[must_use]
pub fn async_seekable(
    io: impl AsyncRead + AsyncWrite + AsyncSeek + Unpin + Send + 'static,
) -> Netref<dyn File> {
    Netref::of(Positioned(Mutex::new(At { io, position: 0 })))
}

/// Shares an open file as far as it was opened for that; `held` is dropped with it.
pub(crate) fn held(
    file: std::fs::File,
    reads: bool,
    writes: bool,
    held: impl Send + 'static,
) -> Netref<dyn File> {
    host(Held {
        file,
        reads,
        writes,
        _held: held,
    })
}

fn host(device: impl Device) -> Netref<dyn File> {
    Netref::of(Hosted(Arc::new(Mutex::new(At {
        io: device,
        position: 0,
    }))))
}

/// What blocks, with what it can do.
trait Device: Send + 'static {
    const IS_SEEKABLE: bool = false;

    fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
        unsupported()
    }

    /// Reads up to the end, at most that much.
    fn fill(&mut self, _: u64, _: &mut Vec<u8>) -> io::Result<()> {
        unsupported()
    }

    fn write_all(&mut self, _: &[u8]) -> io::Result<()> {
        unsupported()
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn seek(&mut self, _: SeekFrom) -> io::Result<u64> {
        unsupported()
    }

    fn set_len(&mut self, _: u64) -> io::Result<()> {
        unsupported()
    }

    fn sync(&mut self) -> io::Result<()> {
        self.flush()
    }
}

fn unsupported<T>() -> io::Result<T> {
    Err(io::ErrorKind::Unsupported.into())
}

struct Seekable<T>(T);
struct ReadOnly<T>(T);
struct Duplex<T>(T);
struct Reader<T>(T);
struct Writer<T>(T);

macro_rules! reads {
    () => {
        fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
            self.0.read(into)
        }

        fn fill(&mut self, most: u64, into: &mut Vec<u8>) -> io::Result<()> {
            Read::by_ref(&mut self.0)
                .take(most)
                .read_to_end(into)
                .map(drop)
        }
    };
}

macro_rules! writes {
    () => {
        fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
            self.0.write_all(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            self.0.flush()
        }
    };
}

macro_rules! seeks {
    () => {
        const IS_SEEKABLE: bool = true;

        fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
            self.0.seek(to)
        }
    };
}

impl<T: Read + Write + Seek + Send + 'static> Device for Seekable<T> {
    reads!();
    writes!();
    seeks!();
}

impl<T: Read + Seek + Send + 'static> Device for ReadOnly<T> {
    reads!();
    seeks!();
}

impl<T: Read + Write + Send + 'static> Device for Duplex<T> {
    reads!();
    writes!();
}

impl<T: Read + Send + 'static> Device for Reader<T> {
    reads!();
}

impl<T: Write + Send + 'static> Device for Writer<T> {
    writes!();
}

impl Device for std::fs::File {
    const IS_SEEKABLE: bool = true;

    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        Read::read(self, into)
    }

    fn fill(&mut self, most: u64, into: &mut Vec<u8>) -> io::Result<()> {
        Read::by_ref(self).take(most).read_to_end(into).map(drop)
    }

    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        Write::write_all(self, bytes)
    }

    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        Seek::seek(self, to)
    }

    fn set_len(&mut self, len: u64) -> io::Result<()> {
        Self::set_len(self, len)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.sync_all()
    }
}

/// A file, for what it was opened for, and what is held as long as it is open.
struct Held<H> {
    file: std::fs::File,
    reads: bool,
    writes: bool,
    _held: H,
}

impl<H> Held<H> {
    fn for_reading(&mut self) -> io::Result<&mut std::fs::File> {
        opened_for(self.reads, "the file was not opened to be read")?;
        Ok(&mut self.file)
    }

    fn for_writing(&mut self) -> io::Result<&mut std::fs::File> {
        opened_for(self.writes, "the file was not opened to be written")?;
        Ok(&mut self.file)
    }
}

fn opened_for(that: bool, text: &'static str) -> io::Result<()> {
    match that {
        true => Ok(()),
        false => Err(io::Error::new(io::ErrorKind::PermissionDenied, text)),
    }
}

impl<H: Send + 'static> Device for Held<H> {
    const IS_SEEKABLE: bool = true;

    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        Device::read(self.for_reading()?, into)
    }

    fn fill(&mut self, most: u64, into: &mut Vec<u8>) -> io::Result<()> {
        self.for_reading()?.fill(most, into)
    }

    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        Device::write_all(self.for_writing()?, bytes)
    }

    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        Device::seek(&mut self.file, to)
    }

    fn set_len(&mut self, len: u64) -> io::Result<()> {
        Device::set_len(self.for_writing()?, len)
    }

    fn sync(&mut self) -> io::Result<()> {
        Device::sync(&mut self.file)
    }
}

/// Something with positions, and the one at which reads and writes go on that name none.
struct At<T> {
    io: T,
    position: u64,
}

impl<D: Device> At<D> {
    fn read_at(&mut self, at: u64, len: u32) -> io::Result<Bytes> {
        self.io.seek(SeekFrom::Start(at))?;
        let len = len.min(MOST);
        // No more than is there is made room for.
        let mut bytes = Vec::with_capacity(len as usize);
        self.io.fill(len.into(), &mut bytes)?;
        Ok(bytes.into())
    }

    fn write_at(&mut self, at: u64, bytes: &[u8]) -> io::Result<()> {
        self.io.seek(SeekFrom::Start(at))?;
        self.io.write_all(bytes)
    }

    fn read(&mut self, len: u32) -> io::Result<Bytes> {
        if D::IS_SEEKABLE {
            let bytes = self.read_at(self.position, len)?;
            self.position = self.position.saturating_add(bytes.len() as u64);
            return Ok(bytes);
        }
        let mut bytes = vec![0; len.min(PIECE) as usize];
        loop {
            match self.io.read(&mut bytes) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                read => {
                    bytes.truncate(read?);
                    return Ok(bytes.into());
                }
            }
        }
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        if D::IS_SEEKABLE {
            self.write_at(self.position, bytes)?;
            self.position = self.position.saturating_add(bytes.len() as u64);
            return Ok(());
        }
        self.io.write_all(bytes)
    }

    fn seek(&mut self, to: Whence) -> io::Result<u64> {
        let to = match to {
            Whence::Current(offset) => SeekFrom::Start(moved(self.position, offset)?),
            other => other.into(),
        };
        self.position = self.io.seek(to)?;
        Ok(self.position)
    }
}

/// So much room is made at a time for what has no known length.
const PIECE: u32 = 64 << 10;

/// A position so far from another.
pub(super) fn moved(from: u64, offset: i64) -> io::Result<u64> {
    let moved = from.checked_add_signed(offset);
    moved.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "a position before the beginning"))
}

/// Runs on a thread that may block, one at a time and in the order in which the calls came.
struct Hosted<D>(Arc<Mutex<At<D>>>);

impl<D: Device> Hosted<D> {
    async fn run<R: Send + 'static>(
        &self,
        run: impl FnOnce(&mut At<D>) -> io::Result<R> + Send + 'static,
    ) -> Result<R, Failure> {
        let mut at = Arc::clone(&self.0).lock_owned().await;
        let done = tokio::task::spawn_blocking(move || run(&mut at)).await;
        Ok(done.map_err(io::Error::from)??)
    }
}

#[remote]
impl<D: Device> File for Hosted<D> {
    async fn read_at(&self, at: u64, len: u32) -> Result<Bytes, Failure> {
        self.run(move |file| file.read_at(at, len)).await
    }

    async fn write_at(&self, at: u64, bytes: Bytes) -> Result<(), Failure> {
        self.run(move |file| file.write_at(at, &bytes)).await
    }

    async fn read(&self, len: u32) -> Result<Bytes, Failure> {
        self.run(move |file| file.read(len)).await
    }

    async fn write(&self, bytes: Bytes) -> Result<(), Failure> {
        self.run(move |file| file.write(&bytes)).await
    }

    async fn seek(&self, to: Whence) -> Result<u64, Failure> {
        self.run(move |file| file.seek(to)).await
    }

    async fn len(&self) -> Result<u64, Failure> {
        self.run(|file| file.io.seek(SeekFrom::End(0))).await
    }

    async fn set_len(&self, len: u64) -> Result<(), Failure> {
        self.run(move |file| file.io.set_len(len)).await
    }

    async fn flush(&self) -> Result<(), Failure> {
        self.run(|file| file.io.flush()).await
    }

    async fn sync(&self) -> Result<(), Failure> {
        self.run(|file| file.io.sync()).await
    }
}

/// Something of tokio's with positions.
struct Positioned<T>(Mutex<At<T>>);

/// Reads up to `len` bytes, or up to the end if that comes first and `whole` is wanted.
async fn read(io: &mut (impl AsyncRead + Unpin), len: u32, whole: bool) -> io::Result<Bytes> {
    let len = len.min(MOST);
    let mut bytes = BytesMut::with_capacity(len.min(PIECE) as usize);
    let mut some = io.take(len.into());
    while some.read_buf(&mut bytes).await? > 0 && whole {}
    Ok(bytes.freeze())
}

#[remote]
impl<T: AsyncRead + AsyncWrite + AsyncSeek + Unpin + Send + 'static> File for Positioned<T> {
    async fn read_at(&self, at: u64, len: u32) -> Result<Bytes, Failure> {
        let io = &mut self.0.lock().await.io;
        io.seek(SeekFrom::Start(at)).await?;
        Ok(read(io, len, true).await?)
    }

    async fn write_at(&self, at: u64, bytes: Bytes) -> Result<(), Failure> {
        let io = &mut self.0.lock().await.io;
        io.seek(SeekFrom::Start(at)).await?;
        Ok(io.write_all(&bytes).await?)
    }

    async fn read(&self, len: u32) -> Result<Bytes, Failure> {
        let At { io, position } = &mut *self.0.lock().await;
        io.seek(SeekFrom::Start(*position)).await?;
        let bytes = read(io, len, true).await?;
        *position = position.saturating_add(bytes.len() as u64);
        Ok(bytes)
    }

    async fn write(&self, bytes: Bytes) -> Result<(), Failure> {
        let At { io, position } = &mut *self.0.lock().await;
        io.seek(SeekFrom::Start(*position)).await?;
        io.write_all(&bytes).await?;
        *position = position.saturating_add(bytes.len() as u64);
        Ok(())
    }

    async fn seek(&self, to: Whence) -> Result<u64, Failure> {
        let At { io, position } = &mut *self.0.lock().await;
        let to = match to {
            Whence::Current(offset) => SeekFrom::Start(moved(*position, offset)?),
            other => other.into(),
        };
        *position = io.seek(to).await?;
        Ok(*position)
    }

    async fn len(&self) -> Result<u64, Failure> {
        Ok(self.0.lock().await.io.seek(SeekFrom::End(0)).await?)
    }

    async fn set_len(&self, _len: u64) -> Result<(), Failure> {
        Ok(unsupported()?)
    }

    async fn flush(&self) -> Result<(), Failure> {
        Ok(self.0.lock().await.io.flush().await?)
    }

    async fn sync(&self) -> Result<(), Failure> {
        self.flush().await
    }
}

/// Something of tokio's without positions.
struct Halves<R, W> {
    read: Mutex<R>,
    write: Mutex<W>,
}

#[remote]
impl<R, W> File for Halves<R, W>
where
    R: AsyncRead + Unpin + Send + 'static,
    W: AsyncWrite + Unpin + Send + 'static,
{
    async fn read_at(&self, _at: u64, _len: u32) -> Result<Bytes, Failure> {
        Ok(unsupported()?)
    }

    async fn write_at(&self, _at: u64, _bytes: Bytes) -> Result<(), Failure> {
        Ok(unsupported()?)
    }

    async fn read(&self, len: u32) -> Result<Bytes, Failure> {
        Ok(read(&mut *self.read.lock().await, len, false).await?)
    }

    async fn write(&self, bytes: Bytes) -> Result<(), Failure> {
        let mut write = self.write.lock().await;
        write.write_all(&bytes).await?;
        // Nothing is kept back: the other end may be waited for.
        Ok(write.flush().await?)
    }

    async fn seek(&self, _to: Whence) -> Result<u64, Failure> {
        Ok(unsupported()?)
    }

    async fn len(&self) -> Result<u64, Failure> {
        Ok(unsupported()?)
    }

    async fn set_len(&self, _len: u64) -> Result<(), Failure> {
        Ok(unsupported()?)
    }

    async fn flush(&self) -> Result<(), Failure> {
        Ok(self.write.lock().await.flush().await?)
    }

    async fn sync(&self) -> Result<(), Failure> {
        self.flush().await
    }
}
