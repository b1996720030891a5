//! The network as the machine over there sees it: connections made from it, and connections made to it.
//!
//! ```text
//!   local program ──▶ listener here ── connect ──▶ target over there          forward_local,  like ssh -L
//!   target here   ◀── accepted ◀────── listen ◀── program over there          forward_remote, like ssh -R
//! ```
//!
//! What may be reached is for [`NetworkRules`] to say; [`forward_socks`] asks whoever connects where to, like `ssh -D`.
//!
//! A connection is a stream of bytes each way. The end of one is the end of its direction alone; one that fails, or is
//! dropped before its end, resets the connection.

mod forward;
mod host;
mod link;
mod rules;
mod socks;

use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;

use farref_netref::stream::Sink;
use farref_netref::{ByteStream, Shape, Stream, remote};
use serde::{Deserialize, Serialize};

pub use forward::{Forwarding, LocalListener, Trouble, forward_local, forward_remote};
pub use host::share;
pub use rules::NetworkRules;
pub use socks::forward_socks;

use crate::file::Failure;

/// Connects, and is connected to.
#[remote(name = "farref.Network")]
pub trait Network {
    /// Connects to `target`, and sends it `bytes`.
    ///
    /// # Errors
    ///
    /// [`PermissionDenied`](std::io::ErrorKind::PermissionDenied) if the rules do not allow it,
    /// [`QuotaExceeded`](std::io::ErrorKind::QuotaExceeded) if too many are open, otherwise what connecting failed with over
    /// there.
    async fn connect(&self, target: Target, bytes: ByteStream) -> Result<Connected, Failure>;

    /// Listens at `at`, whose port 0 is any free one. It is closed when the stream of connections is dropped.
    ///
    /// # Errors
    ///
    /// As for [`connect`](Self::connect).
    async fn listen(&self, at: Target) -> Result<Listening, Failure>;
}

/// A connection that was made.
#[derive(Debug, Serialize, Deserialize, Shape)]
#[non_exhaustive]
pub struct Connected {
    /// What comes from there.
    pub bytes: ByteStream,
    /// Where it led to, after names were looked up.
    pub peer: Target,
}

/// Somebody listens over there.
#[derive(Debug, Serialize, Deserialize, Shape)]
#[non_exhaustive]
pub struct Listening {
    /// Where.
    pub address: Target,
    /// Who connects. Dropping it ends listening; connections that were accepted go on.
    pub connections: Stream<Incoming>,
}

/// A connection that was accepted over there.
#[derive(Debug, Serialize, Deserialize, Shape)]
#[non_exhaustive]
pub struct Incoming {
    /// Where it came from, as far as that is told.
    pub peer: Option<Target>,
    /// What comes from there.
    pub bytes: ByteStream,
    /// Where to send what goes back.
    pub reply: Sink<ByteStream>,
}

/// Where to connect to or listen: `host:port`, `[::1]:port`, or `unix:/path`.
///
/// ```
/// use farref_services::network::Target;
///
/// assert_eq!("localhost:80".parse::<Target>()?, Target::tcp("localhost", 80));
/// assert_eq!(Target::tcp("::1", 22).to_string(), "[::1]:22");
/// assert_eq!("unix:/run/docker.sock".parse::<Target>()?, Target::unix("/run/docker.sock"));
/// # Ok::<(), farref_services::file::Failure>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize, Shape)]
#[serde(try_from = "String", into = "String")]
#[non_exhaustive]
pub enum Target {
    /// A host, by name or number, and a port of it.
    Tcp {
        /// Without the brackets that a number of IPv6 is written in.
        host: String,
        /// 0 is any, where somebody listens.
        port: u16,
    },
    /// A socket of that machine.
    Unix {
        /// Its path.
        path: String,
    },
}

impl Target {
    /// A port of a host.
    #[must_use]
    pub fn tcp(host: impl Into<String>, port: u16) -> Self {
        let host = host.into();
        Self::Tcp { host, port }
    }

    /// A socket of that machine.
    #[must_use]
    pub fn unix(path: impl Into<String>) -> Self {
        Self::Unix { path: path.into() }
    }
}

impl FromStr for Target {
    type Err = Failure;

    fn from_str(text: &str) -> Result<Self, Failure> {
        let wrong = || {
            let text = format!("`{text}` is no target: write `host:port`, `[::1]:port` or `unix:/path`");
            Failure::from(std::io::Error::new(std::io::ErrorKind::InvalidInput, text))
        };
        if text.len() > LONGEST || text.contains('\0') {
            return Err(wrong());
        }
        if let Some(path) = text.strip_prefix("unix:") {
            return match path {
                "" => Err(wrong()),
                path => Ok(Self::unix(path)),
            };
        }
        let (host, port) = text.rsplit_once(':').ok_or_else(wrong)?;
        let port = port.parse().map_err(|_| wrong())?;
        let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        match bare {
            Some("") => Err(wrong()),
            Some(number) => Ok(Self::tcp(number, port)),
            None if host.is_empty() || host.contains([':', '[', ']', '/']) => Err(wrong()),
            None => Ok(Self::tcp(host, port)),
        }
    }
}

/// Bytes of a target, at most.
const LONGEST: usize = 4096;

impl From<SocketAddr> for Target {
    fn from(address: SocketAddr) -> Self {
        Self::tcp(address.ip().to_string(), address.port())
    }
}

impl TryFrom<String> for Target {
    type Error = Failure;

    fn try_from(text: String) -> Result<Self, Failure> {
        text.parse()
    }
}

impl From<Target> for String {
    fn from(target: Target) -> Self {
        target.to_string()
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            // Also a host whose name would be read as what begins a path.
            Self::Tcp { host, port } if host.contains(':') || host == "unix" => write!(f, "[{host}]:{port}"),
            Self::Tcp { host, port } => write!(f, "{host}:{port}"),
            Self::Unix { path } => write!(f, "unix:{path}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_read_as_it_is_written() {
        for text in [
            "localhost:80",
            "10.0.0.1:0",
            "[::1]:65535",
            "[fe80::1%eth0]:22",
            "unix:/run/x.sock",
            "[unix]:80",
        ] {
            assert_eq!(text.parse::<Target>().unwrap().to_string(), text);
        }
        for text in [
            "",
            ":80",
            "host",
            "host:",
            "host:65536",
            "::1:80",
            "[::1]",
            "[]:80",
            "unix:",
            "a/b:80",
            "a\0b:80",
        ] {
            assert!(text.parse::<Target>().is_err(), "{text}");
        }
        // A host of that name was taken for a socket.
        let host = Target::tcp("unix", 80);
        assert_eq!(host.to_string().parse::<Target>().unwrap(), host);
        assert!(format!("{}:1", "a".repeat(5000)).parse::<Target>().is_err());
    }
}
