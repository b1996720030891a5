//! What the tests of several media share: a runtime, and talkers over any carrier.

use std::future::{Future, poll_fn};
use std::io::{self, IoSlice, IoSliceMut};

use bytes::BytesMut;

use crate::carrier::{ByteRx, ByteTx, StreamCarrier};

/// Runs `future` on a runtime of its own thread.
pub(crate) fn block_on<T>(future: impl Future<Output = T>) -> T {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.enable_all().build().unwrap().block_on(future)
}

/// Writes all of `bytes` and flushes them.
pub(crate) async fn write_all(tx: &mut dyn ByteTx, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match tx.try_write(&[IoSlice::new(bytes)]) {
            Ok(count) => bytes = &bytes[count..],
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                poll_fn(|cx| tx.poll_writable(cx)).await?;
            }
            Err(error) => return Err(error),
        }
    }
    if tx.is_buffering() {
        poll_fn(|cx| tx.poll_flush(cx)).await
    } else {
        Ok(())
    }
}

/// Reads once, waiting for it. Empty at the end of the stream.
pub(crate) async fn read_some(rx: &mut dyn ByteRx) -> io::Result<BytesMut> {
    let mut into = BytesMut::with_capacity(4096);
    loop {
        match rx.try_read(&mut into) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                poll_fn(|cx| rx.poll_readable(cx)).await?;
            }
            result => return result.map(|_| into),
        }
    }
}

/// Reads to the end of the stream.
pub(crate) async fn read_all(rx: &mut dyn ByteRx) -> io::Result<Vec<u8>> {
    let mut heard = Vec::new();
    loop {
        let some = read_some(rx).await?;
        if some.is_empty() {
            return Ok(heard);
        }
        heard.extend_from_slice(&some);
    }
}

/// `near` reads into several buffers, which are filled in order; and what comes after a read that has left some room wakes it.
pub(crate) async fn read_into_several(mut near: StreamCarrier, mut far: StreamCarrier) {
    /// Reads once into buffers of 2, 0 and 5 bytes.
    async fn read(rx: &mut dyn ByteRx) -> io::Result<Vec<u8>> {
        let (mut first, mut last) = ([0; 2], [0; 5]);
        let bufs = &mut [&mut first[..], &mut [], &mut last].map(IoSliceMut::new);
        let count = poll_fn(|cx| rx.poll_read_vectored(cx, bufs)).await?;
        let mut all = [&first[..], &last].concat();
        assert!(all.split_off(count).iter().all(|byte| *byte == 0));
        Ok(all)
    }
    assert!(near.rx.is_read_vectored());
    let nothing = near.rx.try_read_vectored(&mut [IoSliceMut::new(&mut [0; 3])]);
    assert_eq!(nothing.unwrap_err().kind(), io::ErrorKind::WouldBlock);
    for said in [&b"a"[..], b"bcd", b"efghijk", b"lmnopqrst", b"u"] {
        let (wrote, heard) = tokio::join!(write_all(&mut *far.tx, said), async {
            let mut heard = Vec::new();
            while heard.len() < said.len() {
                heard.extend(read(&mut *near.rx).await?);
            }
            io::Result::Ok(heard)
        });
        wrote.unwrap();
        assert_eq!(heard.unwrap(), said);
    }
    drop(far);
    assert!(read(&mut *near.rx).await.unwrap().is_empty(), "the end");
}

/// `near` leaves the reactor and comes back, twice, and both halves go on meanwhile.
#[cfg(unix)]
pub(crate) async fn leave_and_come_back(mut near: StreamCarrier, mut far: StreamCarrier) {
    for round in 0..2_u8 {
        let waited = near.rx.leave_reactor().unwrap().unwrap();
        let mut into = BytesMut::with_capacity(64);
        let nothing = near.rx.read_soon(&mut into).unwrap_err();
        assert_eq!(
            nothing.kind(),
            io::ErrorKind::WouldBlock,
            "it waits for a moment only"
        );
        write_all(&mut *far.tx, &[round; 3]).await.unwrap();
        assert!(waited.wait_readable(None, None).unwrap());
        assert_eq!(near.rx.read_soon(&mut into).unwrap(), 3);
        assert_eq!(
            near.rx.try_read(&mut into).unwrap_err().kind(),
            io::ErrorKind::WouldBlock
        );
        let nothing = near.rx.try_read_vectored(&mut [IoSliceMut::new(&mut [0; 3])]);
        assert_eq!(nothing.unwrap_err().kind(), io::ErrorKind::WouldBlock);
        assert_eq!(near.tx.try_write(&[IoSlice::new(b"reply")]).unwrap(), 5);
        assert_eq!(read_some(&mut *far.rx).await.unwrap(), "reply");
        // It never waits for room, either.
        let flood = vec![round; 1 << 16];
        let mut flooded = 0;
        let full = loop {
            match near.tx.try_write(&[IoSlice::new(&flood)]) {
                Ok(count) => flooded += count,
                Err(error) => break error,
            }
        };
        assert_eq!(full.kind(), io::ErrorKind::WouldBlock);

        while flooded > 0 {
            flooded -= read_some(&mut *far.rx).await.unwrap().len();
        }
        drop(waited);
        near.rx.join_reactor().unwrap();
        let (wrote, heard) = tokio::join!(write_all(&mut *far.tx, b"more"), read_some(&mut *near.rx));
        wrote.unwrap();
        assert_eq!(heard.unwrap(), "more");
        let flood = vec![round; 1 << 22];
        let (wrote, ()) = tokio::join!(write_all(&mut *near.tx, &flood), async {
            let mut heard = 0;
            while heard < flood.len() {
                heard += read_some(&mut *far.rx).await.unwrap().len();
            }
        });
        wrote.unwrap();
    }
    drop(near.rx.leave_reactor().unwrap());
    drop(near);
    assert!(
        read_all(&mut *far.rx).await.unwrap().is_empty(),
        "its end is heard from there as well"
    );
}

/// Both ends send `amount` bytes at once, each before it is heard, then close; both must be heard.
pub(crate) async fn talk(near: StreamCarrier, far: StreamCarrier, amount: usize) {
    async fn one(carrier: StreamCarrier, says: Vec<u8>) -> io::Result<Vec<u8>> {
        let StreamCarrier {
            mut rx,
            mut tx,
            guard,
            ..
        } = carrier;
        let write = async {
            write_all(&mut *tx, &says).await?;
            poll_fn(|cx| tx.poll_close(cx)).await
        };
        let (written, heard) = tokio::join!(write, read_all(&mut *rx));
        drop(guard);
        written.and(heard)
    }
    let says = |salt: usize| {
        (0..amount)
            .map(|i| (i * 31 + i / 251 + salt) as u8)
            .collect::<Vec<_>>()
    };
    let (near, far) = tokio::join!(one(near, says(1)), one(far, says(2)));
    assert!(
        near.unwrap() == says(2) && far.unwrap() == says(1),
        "what was heard is not what was said"
    );
}
