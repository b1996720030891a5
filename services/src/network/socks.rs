//! SOCKS5: whoever connects says where to (RFC 1928), without a password.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use farref_netref::Netref;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::forward::{Failed, accepted};
use super::link::{Link, Socket};
use super::{Connected, Forwarding, Network, Target, Trouble};
use crate::file::Failure;

/// Connects everybody who connects to `listener` with the target over there that they ask for by SOCKS5, as `ssh -D` does.
///
/// Names are looked up over there. It goes on until the [`Forwarding`] is dropped; `report` is told of each connection that
/// could not be made, or broke.
#[must_use = "it ends when it is dropped"]
pub fn forward_socks(
    listener: TcpListener,
    network: &Netref<dyn Network>,
    report: impl Fn(Trouble) + Send + Sync + 'static,
) -> Forwarding {
    let (network, lost) = (network.clone(), network.lost());
    accepted(listener.into(), lost, report, move |socket| {
        let network = network.clone();
        async move {
            match socket {
                Socket::Tcp(stream) => serve(stream, &network).await,
                #[cfg(unix)]
                Socket::Unix(_) => Ok(()),
            }
        }
    })
}

async fn serve(mut stream: TcpStream, network: &Netref<dyn Network>) -> Result<(), Failed> {
    let asked = tokio::time::timeout(PATIENCE, ask(&mut stream)).await;
    let target = asked
        .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
        .map_err(|error| (None, error.into()))?;
    let link = Link::new(stream.into(), None);
    let passing = async {
        let connected = network.call().connect(target.clone(), link.received()).await;
        let code = connected.as_ref().map_or_else(code, |_| SUCCEEDED);
        // Where it is bound over there is nobody's business.
        link.write_all(&[VERSION, code, 0, IPV4, 0, 0, 0, 0, 0, 0])
            .await?;
        let Connected { bytes, .. } = connected?;
        link.join(bytes).await.map_err(Failure::from)
    };
    passing.await.map_err(|failure| (Some(target.clone()), failure))
}

/// Where to: the greeting and the request.
async fn ask(stream: &mut TcpStream) -> io::Result<Target> {
    let [version, count] = read(stream).await?;
    if version != VERSION {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "whoever connected does not speak SOCKS5",
        ));
    }
    let mut methods = vec![0; count.into()];
    stream.read_exact(&mut methods).await?;
    if !methods.contains(&NO_PASSWORD) {
        stream.write_all(&[VERSION, NONE_FITS]).await?;
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "whoever connected wants a password",
        ));
    }
    stream.write_all(&[VERSION, NO_PASSWORD]).await?;
    let [_, command, _, kind] = read(stream).await?;
    let host = match kind {
        IPV4 => Ipv4Addr::from(read(stream).await?).to_string(),
        IPV6 => Ipv6Addr::from(read(stream).await?).to_string(),
        NAME => {
            let mut name = vec![0; stream.read_u8().await?.into()];
            stream.read_exact(&mut name).await?;
            String::from_utf8(name).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?
        }
        _ => return refuse(stream, NO_SUCH_KIND, "an address of an unknown kind").await,
    };
    let port = stream.read_u16().await?;
    if command != CONNECT {
        return refuse(
            stream,
            NO_SUCH_COMMAND,
            "a command of SOCKS5 other than to connect",
        )
        .await;
    }
    Ok(Target::tcp(host, port))
}

async fn refuse(stream: &mut TcpStream, code: u8, what: &'static str) -> io::Result<Target> {
    stream
        .write_all(&[VERSION, code, 0, IPV4, 0, 0, 0, 0, 0, 0])
        .await?;
    Err(io::Error::new(io::ErrorKind::Unsupported, what))
}

async fn read<const N: usize>(stream: &mut TcpStream) -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    stream.read_exact(&mut bytes).await?;
    Ok(bytes)
}

/// What a failure is called there.
fn code(failure: &Failure) -> u8 {
    match failure.kind() {
        io::ErrorKind::PermissionDenied => 2,
        io::ErrorKind::ConnectionRefused => 5,
        io::ErrorKind::TimedOut => 6,
        _ => 1,
    }
}

const VERSION: u8 = 5;
const NO_PASSWORD: u8 = 0;
const NONE_FITS: u8 = 0xff;
const CONNECT: u8 = 1;
const IPV4: u8 = 1;
const NAME: u8 = 3;
const IPV6: u8 = 4;
const SUCCEEDED: u8 = 0;
const NO_SUCH_COMMAND: u8 = 7;
const NO_SUCH_KIND: u8 = 8;

/// How long somebody may take to say where to.
const PATIENCE: Duration = Duration::from_secs(30);
