//! A slow line: passes bytes on to a TCP address, each after a delay, so that round trips can be seen.
//!
//! Knows bytes alone. Latency is what it adds, not a lower rate: any number of bytes may be on their way.

use std::io;
use std::time::Duration;

use farref::transport::Address;
use farref::transport::address::Target;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::Instant;

/// A line that is there until it is dropped, which cuts it.
pub(crate) struct SlowLine {
    address: Address,
    accepting: JoinHandle<()>,
}

/// Listens on a port of the system's choice, and passes everything on to `to`, `delay` later in either direction.
pub(crate) async fn start(to: &Address, delay: Duration) -> io::Result<SlowLine> {
    let Target::Tcp { host, port } = to.target() else {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "a slow line leads to a TCP address",
        ));
    };
    let to = (host.to_string(), *port);
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = Address::tcp(listener.local_addr()?);
    let accepting = tokio::spawn(async move {
        // Cut with the line.
        let mut joined = tokio::task::JoinSet::new();
        while let Ok((near, _)) = listener.accept().await {
            joined.spawn(join(near, to.clone(), delay));
        }
    });
    Ok(SlowLine { address, accepting })
}

impl SlowLine {
    /// Where to dial.
    pub(crate) const fn address(&self) -> &Address {
        &self.address
    }
}

impl Drop for SlowLine {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

/// Joins the two ends until both have closed, or one fails.
async fn join(near: TcpStream, to: (String, u16), delay: Duration) -> io::Result<()> {
    let far = TcpStream::connect((to.0.as_str(), to.1)).await?;
    near.set_nodelay(true)?;
    far.set_nodelay(true)?;
    let ((near_read, near_write), (far_read, far_write)) = (near.into_split(), far.into_split());
    tokio::try_join!(
        pass(near_read, far_write, delay),
        pass(far_read, near_write, delay)
    )?;
    Ok(())
}

/// Passes bytes on in one direction.
async fn pass(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    delay: Duration,
) -> io::Result<()> {
    let (send, mut due) = mpsc::channel::<(Instant, Vec<u8>)>(1024);
    let read = async move {
        let mut chunk = vec![0; 16 * 1024];
        loop {
            let len = from.read(&mut chunk).await?;
            let bytes = chunk.get(..len).unwrap_or_default().to_vec();
            // An empty chunk stands for the end, which is delayed like everything else.
            if send.send((Instant::now() + delay, bytes)).await.is_err() || len == 0 {
                return Ok(());
            }
        }
    };
    let write = async move {
        while let Some((at, bytes)) = due.recv().await {
            tokio::time::sleep_until(at).await;
            if bytes.is_empty() {
                to.shutdown().await?;
                break;
            }
            to.write_all(&bytes).await?;
        }
        Ok(())
    };
    tokio::try_join!(read, write).map(drop)
}
