//! The far side of tests that need another process: `serve` shows a bench on `stdio:`, `relay ADDRESS` joins `stdio:`
//! with what is there, `start ADDRESS` has a process started there and says its number, `files DIRECTORY` shows that
//! directory and the machine on `stdio:`, `agent [MILLISECONDS]` serves a bench to whoever started it by ssh, `noisy` serves
//! and prints, `fort DIRECTORY` is besieged there, `exit CODE` does that, `deaf` neither speaks nor ends, `activated` and `inetd` serve what is handed over. Any
//! other manner takes an address, `stdio:` unless it is given, and says what it hears; some do something of their own before.

#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    clippy::print_stdout,
    clippy::panic,
    reason = "tests alone use this"
)]

use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::time::Duration;

use bytes::{Buf, BytesMut};
use farref::Fixed;
use farref::Netref;
use farref::Server;
use farref::agent::{self, Options};
use farref::files::FilesRoot;
use farref::host::Exposed;
use farref::processes::{Command, Processes};
use farref::transport::{Address, ByteRx, ByteTx, Carrier, Media, StreamCarrier};
use farref_integration_tests::bench::{Bench, Rig};
use farref_integration_tests::program::{Here, Whereabouts, read, write_all};
use farref_integration_tests::siege;

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
        ["files", directory] => runtime.block_on(async {
            let exposed = Exposed::nothing().files(FilesRoot::at(directory)).system();
            let server = Server::new(exposed);
            server.listen("stdio:").await.unwrap();
            server.closed().await;
        }),
        ["agent"] => runtime.block_on(agent("60000")),
        ["agent", linger] => runtime.block_on(agent(linger)),
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
        ["activated"] => runtime.block_on(async {
            let server = Server::of::<dyn Whereabouts>(Here);
            server.listen_inherited(true).await.unwrap();
            server.closed().await;
        }),
        ["inetd"] => runtime.block_on(async {
            let server = Server::of::<dyn Whereabouts>(Here);
            server.serve_inherited(true).await.unwrap();
            server.closed().await;
        }),
        ["fort", directory] => runtime.block_on(siege::stand(directory)),
        ["relay", address] => runtime.block_on(relay(address)),
        ["start", address] => runtime.block_on(start(address)),
        ["exit", code] => std::process::exit(code.parse().unwrap()),
        ["deaf", ..] => loop {
            std::thread::park();
        },
        [manner] => echo_alone("stdio:", manner),
        [manner, address] => echo_alone(address, manner),
        _ => panic!("usage: farref-test-agent MANNER [..]"),
    }
}

/// Holds a process over there for ever.
async fn start(address: &str) {
    let connection = farref::connect(address).await.unwrap();
    let machine: Netref<dyn Processes> = connection.root().await.unwrap();
    let command = Command::new("sleep").arg("1000");
    let started = machine.call().spawn(command, None).await.unwrap();
    println!("{}", started.id);
    std::future::pending::<()>().await;
    drop(started);
}

/// As a program that is brought by ssh does; `linger` is how long it waits for the next connection.
async fn agent(linger: &str) {
    let options = Options::default().linger(Duration::from_millis(linger.parse().unwrap()));
    let served = agent::run(Fixed::new::<dyn Bench>(Rig::new().0), options).await;
    served.unwrap_or_else(|error| panic!("{error}"));
}

/// On one thread, as a small program would.
fn echo_alone(address: &str, manner: &str) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(echo(&address.parse().unwrap(), manner));
}

async fn echo(address: &Address, manner: &str) {
    let media = Media::standard();
    if manner == "dial" {
        let StreamCarrier { rx, tx, guard, .. } = stream(media.dial(address).await.unwrap());
        pass(rx, tx).await.unwrap();
        return drop(guard);
    }
    let mut listener = media.listen(address).await.unwrap();
    if manner == "address" {
        // The same over another medium, to compare.
        println!("{}", listener.local_addresses().first().unwrap());
    }
    let mut carrier = stream(listener.accept().await.unwrap());
    let tx = &mut *carrier.tx;
    match manner {
        "address" | "echo" => {}
        // Says who it is, then as the others.
        "pid" => write_all(tx, format!("{}\n", std::process::id()).as_bytes())
            .await
            .unwrap(),
        // What a dependency may do that knows nothing of the protocol.
        "stray" => {
            println!("stray");
            let mut line = String::new();
            io::stdin().read_line(&mut line).unwrap();
            assert!(line.is_empty(), "somebody else reads the protocol");
        }
        "twice" => {
            let dialled = media.dial(address).await.unwrap_err();
            let listened = media.listen(address).await.err().unwrap();
            let told = std::error::Error::source(&listened).unwrap().to_string();
            write_all(tx, format!("{dialled}\n{told}\n").as_bytes())
                .await
                .unwrap();
        }
        "token" => {
            let at: Address = "exec:sh?arg=-c&arg=echo%20${FARREF_TOKEN-none}".parse().unwrap();
            let mut child = stream(media.dial(&at).await.unwrap());
            write_all(tx, &read(&mut *child.rx).await.unwrap()).await.unwrap();
        }
        // Says something, then fails.
        "fail" => {
            write_all(tx, b"so far so good\n").await.unwrap();
            eprintln!("out of paper");
            std::process::exit(3);
        }
        other => panic!("there is no manner `{other}`"),
    }
    // Whoever waits for the next one hears that there is none, but only when this one is gone.
    let next = tokio::spawn(async move { listener.accept().await.unwrap_err() });
    tokio::task::yield_now().await;
    assert!(manner == "address" || !next.is_finished());
    let StreamCarrier { rx, tx, guard, .. } = carrier;
    pass(rx, tx).await.unwrap();
    drop(guard);
    if manner != "address" {
        assert!(!next.await.unwrap().is_transient());
    }
}

fn stream(carrier: Carrier) -> StreamCarrier {
    match carrier {
        Carrier::Stream(stream) => stream,
        other => panic!("{other:?} is no stream"),
    }
}

async fn relay(address: &str) {
    let media = Media::standard();
    let dial = async |address: &str| stream(media.dial(&address.parse().unwrap()).await.unwrap());
    let (near, far) = (dial("stdio:").await, dial(address).await);
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
