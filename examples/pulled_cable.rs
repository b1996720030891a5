//! A bench whose cable is pulled: a transfer and a subscription go on, and move from TCP to QUIC.
//!
//! ```sh
//! cargo run --example pulled_cable
//! ```
//!
//! All in one process, so that there is a cable to pull: a TCP line from the desk to the bench. Between two hosts it is
//! the same, and nothing has to be written for it but a second address, if there is one.

#![expect(clippy::print_stdout, reason = "an example talks to whoever runs it")]

use std::time::Duration;

use bytes::Bytes;
use farref::keys::{Authorized, Identity, Trust};
use farref::transport::Address;
use farref::transport::address::Target;
use farref::{Error, Netref, Result, Server, Status, connect, remote};
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

#[remote]
trait Bench {
    /// Measures `count` times, and tells `listener` of each.
    async fn subscribe(&self, count: u32, listener: Netref<dyn Listener>) -> Result<()>;
    /// All that it has recorded.
    async fn recording(&self) -> Result<Bytes>;
}

#[remote(closure)]
trait Listener {
    fn measured(&self, number: u32) -> Result<()>;
}

struct Rig;

#[remote]
impl Bench for Rig {
    async fn subscribe(&self, count: u32, listener: Netref<dyn Listener>) -> Result<()> {
        for number in 1..=count {
            tokio::time::sleep(Duration::from_millis(2)).await;
            listener.call().measured(number).await?;
        }
        Ok(())
    }

    async fn recording(&self) -> Result<Bytes> {
        Ok(recording())
    }
}

fn recording() -> Bytes {
    (0..8 << 20_u32).map(|at| (at / 1021) as u8).collect()
}

#[tokio::main]
async fn main() -> Result<()> {
    let (bench, desk) = (Identity::generate()?, Identity::generate()?);
    let trust = Trust::new(bench).authorizing(Authorized::keys([desk.public()]));
    let server = Server::of::<dyn Bench>(Rig).trust(trust);
    let tcp = server.listen("tcp://127.0.0.1:0").await?;
    let quic = server.listen("quic://127.0.0.1:0").await?;

    let cable = Cable::lay(&tcp).await?;
    let connection = connect(&cable.address)
        .also_at(quic)
        .trust(Trust::new(desk))
        .await?;
    let bench: Netref<dyn Bench> = connection.root().await?;
    println!("joined over {}", connection.peer().medium);

    let (tell, mut told) = mpsc::unbounded_channel();
    let listener = move |number| Ok(tell.send(number)?);
    let subscription = bench.call().subscribe(200, Netref::of(listener)).start();
    let mut heard = Vec::new();
    while heard.len() < 50 {
        heard.extend(told.recv().await);
    }
    let transfer = bench.call().recording().start();
    heard.extend(told.recv().await);
    println!(
        "{} measurements heard, a transfer of 8 MiB under way: the cable is pulled",
        heard.len()
    );
    let mut watch = connection.watch();
    drop(cable);
    while watch.next().await != Status::Up || connection.peer().medium != "quic" {}
    println!("joined over {}, in the same session", connection.peer().medium);

    subscription.await?;
    while let Ok(number) = told.try_recv() {
        heard.push(number);
    }
    if !heard.iter().copied().eq(1..=200) {
        return Err(Error::msg("a measurement was lost, repeated or overtaken"));
    }
    println!("200 measurements heard, each once and in order");
    if transfer.await? != recording() {
        return Err(Error::msg("the recording is damaged"));
    }
    println!("8 MiB received as they were recorded");
    connection.close().await;
    Ok(())
}

/// A line of TCP, which is cut when it is dropped.
struct Cable {
    address: String,
    carrying: JoinHandle<()>,
}

impl Cable {
    async fn lay(to: &Address) -> Result<Self> {
        let (Target::Tcp { host, port }, Some(key)) = (to.target(), to.peer_key()) else {
            return Err(Error::msg("the cable leads to a TCP address with a key"));
        };
        let to = (host.to_string(), *port);
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = format!("tcp://{}#{key}", listener.local_addr()?);
        let carrying = tokio::spawn(async move {
            // One after the other: nobody dials twice while it is whole.
            while let Ok((mut near, _)) = listener.accept().await {
                if let Ok(mut far) = TcpStream::connect((to.0.as_str(), to.1)).await {
                    let _ = copy_bidirectional(&mut near, &mut far).await;
                }
            }
        });
        Ok(Self { address, carrying })
    }
}

impl Drop for Cable {
    fn drop(&mut self) {
        self.carrying.abort();
    }
}
