//! The far side of tests that need another process: `serve` shows a bench on `stdio:`, `relay PATH` joins `stdio:` with
//! a Unix socket, `noisy` serves and prints, `exit CODE` does that, `deaf` neither speaks nor ends.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::panic,
    reason = "tests alone use this"
)]

use std::future::poll_fn;
use std::io::{self, IoSlice};

use bytes::{Buf, BytesMut};
use farref::transport::{ByteRx, ByteTx, Carrier, Media, StreamCarrier};
use farref_integration_tests::bench::{Bench, Rig};

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["serve"] => runtime
            .block_on(farref::serve::<dyn Bench>("stdio:", Rig::new().0))
            .unwrap(),
        ["noisy"] => runtime.block_on(async {
            let serving = farref::serve::<dyn Bench>("stdio:", Rig::new().0);
            let printing = async {
                loop {
                    println!("this would fall into the protocol");
                    tokio::task::yield_now().await;
                }
            };
            tokio::select! {
                biased; // nothing is printed before the descriptors are taken
                served = serving => served.unwrap(),
                () = printing => {}
            }
        }),
        ["relay", path] => runtime.block_on(relay(path)),
        ["exit", code] => std::process::exit(code.parse().unwrap()),
        ["deaf", ..] => loop {
            std::thread::park();
        },
        _ => panic!("usage: farref-test-agent serve|noisy|relay PATH|exit CODE|deaf"),
    }
}

async fn relay(path: &str) {
    let media = Media::standard();
    let stream = async |address: &str| match media.dial(&address.parse().unwrap()).await.unwrap() {
        Carrier::Stream(stream) => stream,
        other => panic!("{other:?}"),
    };
    let (near, far) = (stream("stdio:").await, stream(&format!("unix:{path}")).await);
    let (
        StreamCarrier {
            rx: near_rx,
            tx: near_tx,
            ..
        },
        StreamCarrier {
            rx: far_rx,
            tx: far_tx,
            ..
        },
    ) = (near, far);
    let _ = tokio::join!(pass(near_rx, far_tx), pass(far_rx, near_tx));
}

/// Passes on what comes, and the end.
async fn pass(mut rx: Box<dyn ByteRx>, mut tx: Box<dyn ByteTx>) -> io::Result<()> {
    let mut bytes = BytesMut::new();
    loop {
        bytes.reserve(64 * 1024);
        if poll_fn(|cx| rx.poll_read(cx, &mut bytes)).await? == 0 {
            return poll_fn(|cx| tx.poll_close(cx)).await;
        }
        while !bytes.is_empty() {
            match tx.try_write(&[IoSlice::new(&bytes)]) {
                Ok(count) => bytes.advance(count),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    poll_fn(|cx| tx.poll_writable(cx)).await?;
                }
                Err(error) => return Err(error),
            }
        }
        if tx.is_buffering() {
            poll_fn(|cx| tx.poll_flush(cx)).await?;
        }
    }
}
