//! Where to dial or listen: one grammar for every medium.
//!
//! Knows every scheme, built or not, and does no IO. The grammar is in `parse`, the
//! proposals that errors make in `mend`, the options of each scheme in `option`.
//!
//! ```text
//! address  = [ ( "noise" | "plain" | "rpyc" ) "+" ] scheme ":" rest [ "?" option *( "&" option ) ] [ "#" peer-key ]
//! rest     = "//" [ user "@" ] host ":" port       tcp, ssl, quic, ssh (whose port may be left out)
//!          | text                                  unix, serial, exec, mem; none for stdio
//! host     = name | IPv4 | "[" IPv6 [ "%25" zone ] "]"
//! option   = name [ "=" text ]                     a switch needs no value
//! peer-key = "ed25519." 52base32                   RFC 4648, lower case, no padding
//! text     = UTF-8, in which  % ? # ! & , white space and control characters are written %XX
//! ```
//!
//! A bare `!` is kept for chains of addresses. Schemes of your own start with `x-`; their rest and
//! options are left to you.
//!
//! `rpyc+` leads to a peer that speaks RPyC, Python's protocol of remote objects, over a medium that is used bare:
//!
//! | address                      | the peer                                                                         |
//! |------------------------------|----------------------------------------------------------------------------------|
//! | `rpyc://HOST[:PORT]`         | the same as `rpyc+tcp://`; by default at port 18812, where classic servers are      |
//! | `rpyc+ssl://HOST[:PORT]`     | over TLS, by default at port 18821                                                |
//! | `rpyc+unix:PATH`             | at a Unix socket                                                                  |
//! | `rpyc+ssh://[USER@]HOST`     | at port `to=` of the far host's loopback (default 18812), or the program `command=` |
//! | `rpyc+exec:PROGRAM`, `rpyc+stdio:`, `rpyc+serial:PORT`, `rpyc+mem:NAME` | at the other end of these          |
//!
//! Besides those of its medium, such an address has two options:
//!
//! | option          | default  | meaning                                                                           |
//! |-----------------|----------|-----------------------------------------------------------------------------------|
//! | `generation=`   | found out | what the peer's messages look like: `5` as of RPyC 4.1 to 5.3, `6` as of RPyC 6.0   |
//! | `bind-threads=` | 0        | each message says which thread it is for, as where `bind_threads` is set over there |
//!
//! Over `tcp` and `ssl`, `quickack=1` and `keepalive=60s` are meant where nothing else is written: Python sends in small
//! pieces, and nothing in RPyC shows that a silent peer has vanished.
//!
//! RPyC proves no keys: a `#peer-key` is no part of such an address.

mod error;
mod key;
mod mend;
mod option;
mod parse;
mod rpyc;

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

pub use error::{AddressError, AddressProblem};
pub use key::{NotAKey, PeerKey};

/// Where to dial or listen. See the [module](self) for the grammar.
///
/// Parsing what is displayed gives the same address again. Two addresses are equal if they are
/// written the same, whatever they lead to.
///
/// ```
/// use farref_transport::Address;
///
/// let address: Address = "plain+tcp://rig7:7000?lowat=65536".parse()?;
/// assert_eq!(address.scheme(), "tcp");
/// assert_eq!(address.number("lowat"), Some(65536));
///
/// let error = "plain+tpc://rig7:7000".parse::<Address>().unwrap_err();
/// assert_eq!(error.position(), 6);
/// assert_eq!(error.nearest(), "plain+tcp://rig7:7000");
/// # Ok::<(), farref_transport::AddressError>(())
/// ```
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Address {
    dialect: Dialect,
    security: Option<Security>,
    target: Target,
    /// In the order in which they were written.
    options: Vec<(String, String)>,
    peer_key: Option<PeerKey>,
}

impl Address {
    /// Reads an address of at most 4096 bytes, also as it is displayed.
    ///
    /// # Errors
    ///
    /// If it is not one. The error names the position and the nearest address that is one.
    pub fn parse(text: &str) -> Result<Self, AddressError> {
        parse::parse(text)
    }

    /// `plain+tcp://` at a socket address.
    #[must_use]
    pub fn tcp(address: SocketAddr) -> Self {
        let target = Target::Tcp {
            host: Host::from(address),
            port: address.port(),
        };
        Self {
            security: Some(Security::Plain),
            ..Self::new(target)
        }
    }

    /// `ssl://` at a socket address.
    #[must_use]
    pub fn ssl(address: SocketAddr) -> Self {
        Self::new(Target::Ssl {
            host: Host::from(address),
            port: address.port(),
        })
    }

    /// `quic://` at a socket address.
    #[must_use]
    pub fn quic(address: SocketAddr) -> Self {
        Self::new(Target::Quic {
            host: Host::from(address),
            port: address.port(),
        })
    }

    /// `unix:` at a path. A leading `@` is part of the path here: abstract names are parsed.
    ///
    /// # Errors
    ///
    /// If the path is empty, too long for an address, or has a NUL in it.
    pub fn unix(path: &str) -> Result<Self, AddressError> {
        parse::checked(Self::new(Target::Unix(UnixName::Path(path.to_owned()))))
    }

    /// `mem:` by name.
    ///
    /// # Errors
    ///
    /// If the name is empty, too long for an address, or has a NUL in it.
    pub fn memory(name: &str) -> Result<Self, AddressError> {
        parse::checked(Self::new(Target::Memory {
            name: name.to_owned(),
        }))
    }

    const fn new(target: Target) -> Self {
        Self {
            dialect: Dialect::Native,
            security: None,
            target,
            options: Vec::new(),
            peer_key: None,
        }
    }

    /// The scheme, in lower case, without the security prefix.
    #[must_use]
    pub fn scheme(&self) -> &str {
        self.target.scheme()
    }

    /// What is spoken over the carrier.
    #[must_use]
    pub const fn dialect(&self) -> Dialect {
        self.dialect
    }

    /// The security prefix, if there is one. What none means depends on the medium.
    #[must_use]
    pub const fn security(&self) -> Option<Security> {
        self.security
    }

    /// What is behind the scheme.
    #[must_use]
    pub const fn target(&self) -> &Target {
        &self.target
    }

    /// The key that the peer must prove to have.
    #[must_use]
    pub const fn peer_key(&self) -> Option<&PeerKey> {
        self.peer_key.as_ref()
    }

    /// The options, in the order in which they were written. A switch without a value has `1`.
    pub fn options(&self) -> impl Iterator<Item = (&str, &str)> {
        self.options
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// The value of an option; the first, where it may be repeated.
    #[must_use]
    pub fn option(&self, name: &str) -> Option<&str> {
        self.options()
            .find(|(written, _)| *written == name)
            .map(|(_, value)| value)
    }

    /// The value of an option that is a number.
    #[must_use]
    pub fn number(&self, name: &str) -> Option<u64> {
        self.option(name)?.parse().ok()
    }

    /// The value of an option that is a time, such as `250ms`, `30s`, `5m`, `1h`.
    #[must_use]
    pub fn duration(&self, name: &str) -> Option<std::time::Duration> {
        option::duration(self.option(name)?)
    }

    /// Whether a switch is there and not `0`.
    #[must_use]
    pub fn is_set(&self, name: &str) -> bool {
        self.option(name).is_some_and(|value| value != "0")
    }

    /// The same address with one more option.
    ///
    /// # Errors
    ///
    /// If the scheme has no such option, it is there already and may not be repeated, or the value
    /// is not one of its values. The position is that in the address with the option at its end.
    pub fn with_option(mut self, name: &str, value: &str) -> Result<Self, AddressError> {
        self.options.push((name.to_owned(), value.to_owned()));
        parse::checked(self)
    }

    /// The same address without its options.
    #[must_use]
    pub fn without_options(mut self) -> Self {
        self.options.clear();
        self
    }

    /// The same address for a peer that speaks `dialect`.
    ///
    /// To speak RPyC, the address loses its security prefix, and gets the options that are understood where none are
    /// written. Over `quic` that is not spoken: such an address stays as it is. The other way, it loses the options of
    /// the dialect, and `tcp` becomes `plain+tcp`: the bare medium that RPyC is spoken over.
    #[must_use]
    pub fn with_dialect(mut self, dialect: Dialect) -> Self {
        match (self.dialect, dialect) {
            (Dialect::Native, Dialect::Rpyc) if rpyc::is_spoken_over(&self.target) => {
                self.security = None;
                rpyc::complete(&self.target, &mut self.options);
                self.dialect = dialect;
            }
            (Dialect::Rpyc, Dialect::Native) => {
                self.options
                    .retain(|(name, _)| rpyc::RULES.iter().all(|rule| rule.name != name));
                self.security = matches!(self.target, Target::Tcp { .. }).then_some(Security::Plain);
                self.dialect = dialect;
            }
            _ => {}
        }
        self
    }

    /// The same address with another security prefix, or none. `plain` drops the peer key, which
    /// nobody would prove. Schemes that bring their own security (`quic`, `ssl`) and peers that speak RPyC keep having no
    /// prefix.
    #[must_use]
    pub fn with_security(mut self, security: Option<Security>) -> Self {
        let takes_prefix = self.dialect == Dialect::Native && self.target.takes_prefix();
        self.security = security.filter(|_| takes_prefix);
        if self.security == Some(Security::Plain) {
            self.peer_key = None;
        }
        self
    }

    /// The same address for a peer that must prove to have `key`. Drops a `plain` prefix. Who speaks RPyC can prove
    /// none: then the address is dialled in vain, and its text is none of an address.
    #[must_use]
    pub fn with_peer_key(mut self, key: PeerKey) -> Self {
        self.security = self.security.filter(|security| *security != Security::Plain);
        self.peer_key = Some(key);
        self
    }

    /// The same address for whatever peer is there.
    #[must_use]
    pub fn without_peer_key(mut self) -> Self {
        self.peer_key = None;
        self
    }
}

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        Self::parse(text)
    }
}

impl TryFrom<&str> for Address {
    type Error = AddressError;

    fn try_from(text: &str) -> Result<Self, AddressError> {
        Self::parse(text)
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(security) = self.security {
            write!(f, "{}+", security.word())?;
        }
        match (self.dialect, &self.target) {
            (Dialect::Native, target) => write!(f, "{}:{target}", target.scheme())?,
            (Dialect::Rpyc, target @ Target::Tcp { .. }) => write!(f, "{}:{target}", rpyc::WORD)?,
            (Dialect::Rpyc, target) => write!(f, "{}+{}:{target}", rpyc::WORD, target.scheme())?,
        }
        for (index, (name, value)) in self.options.iter().enumerate() {
            let mark = if index == 0 { '?' } else { '&' };
            write!(f, "{mark}{name}={}", Escaped(value, is_marked))?;
        }
        match &self.peer_key {
            Some(key) => write!(f, "#{key}"),
            None => Ok(()),
        }
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Address({self})")
    }
}

/// What is spoken over a carrier, as the prefix of an address says it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Dialect {
    /// The protocol of this project.
    #[default]
    Native,
    /// RPyC, Python's protocol of remote objects, over a bare medium.
    Rpyc,
}

/// What protects the bytes of a carrier, as the prefix of an address says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Security {
    /// Encrypted and authenticated with Noise.
    Noise,
    /// Not at all, beyond what the medium does by itself.
    Plain,
}

impl Security {
    const ALL: [Self; 2] = [Self::Noise, Self::Plain];

    const fn word(self) -> &'static str {
        match self {
            Self::Noise => "noise",
            Self::Plain => "plain",
        }
    }
}

/// What an address leads to, by scheme.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Target {
    /// `tcp://HOST:PORT`
    Tcp {
        /// The host; the unspecified address listens on all of this host's.
        host: Host,
        /// The port; 0 to listen leaves the choice to the system.
        port: u16,
    },
    /// `ssl://HOST:PORT`
    Ssl {
        /// As for `tcp`.
        host: Host,
        /// As for `tcp`.
        port: u16,
    },
    /// `quic://HOST:PORT`
    Quic {
        /// As for `tcp`.
        host: Host,
        /// As for `tcp`.
        port: u16,
    },
    /// `unix:PATH` or `unix:@NAME`
    Unix(UnixName),
    /// `serial:PORT`, such as `serial:/dev/ttyUSB0` or `serial:COM3`
    Serial {
        /// The port, in the words of the system.
        port: String,
    },
    /// `stdio:`
    Stdio,
    /// `exec:PROGRAM`
    Exec {
        /// The program, by path or by name.
        program: String,
    },
    /// `ssh://[USER@]HOST[:PORT]`
    Ssh {
        /// The account; otherwise as ssh is configured.
        user: Option<String>,
        /// The host, which may be an alias of ssh's configuration.
        host: Host,
        /// The port; otherwise as ssh is configured.
        port: Option<u16>,
    },
    /// `mem:NAME`
    Memory {
        /// The name within this process.
        name: String,
    },
    /// `x-SCHEME:REST`, of a medium of your own
    Custom {
        /// The scheme, with its `x-`.
        scheme: String,
        /// The rest as it is written: escapes are left to the medium.
        rest: String,
    },
}

impl Target {
    /// The scheme, in lower case.
    #[must_use]
    pub fn scheme(&self) -> &str {
        match self {
            Self::Tcp { .. } => "tcp",
            Self::Ssl { .. } => "ssl",
            Self::Quic { .. } => "quic",
            Self::Unix(_) => "unix",
            Self::Serial { .. } => "serial",
            Self::Stdio => "stdio",
            Self::Exec { .. } => "exec",
            Self::Ssh { .. } => "ssh",
            Self::Memory { .. } => "mem",
            Self::Custom { scheme, .. } => scheme,
        }
    }

    /// Whether `noise+` or `plain+` may stand before the scheme. QUIC and TLS are always encrypted, by themselves.
    const fn takes_prefix(&self) -> bool {
        !matches!(self, Self::Quic { .. } | Self::Ssl { .. })
    }
}

/// The part of an address between the colon and the options.
impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { host, port } | Self::Ssl { host, port } | Self::Quic { host, port } => {
                write!(f, "//{host}:{port}")
            }
            Self::Unix(UnixName::Path(path)) => match path.strip_prefix('@') {
                Some(path) => write!(f, "%40{}", Escaped(path, is_marked)),
                None => fmt_opaque(path, f),
            },
            Self::Unix(UnixName::Abstract(name)) => {
                f.write_str("@")?;
                fmt_opaque(name, f)
            }
            Self::Serial { port: text } | Self::Exec { program: text } | Self::Memory { name: text } => {
                fmt_opaque(text, f)
            }
            Self::Stdio => Ok(()),
            Self::Ssh { user, host, port } => {
                f.write_str("//")?;
                if let Some(user) = user {
                    write!(f, "{user}@")?;
                }
                host.fmt(f)?;
                port.map_or(Ok(()), |port| write!(f, ":{port}"))
            }
            Self::Custom { rest, .. } => f.write_str(rest),
        }
    }
}

/// The name of a Unix socket.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[expect(clippy::exhaustive_enums, reason = "there is no third kind of name")]
pub enum UnixName {
    /// A file. Paths in addresses are UTF-8.
    Path(String),
    /// A name without a file (Linux).
    Abstract(String),
}

/// The host of an address.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[expect(clippy::exhaustive_enums, reason = "the grammar of hosts is complete")]
pub enum Host {
    /// A name: ASCII letters, digits, `-`, `_` and `.`, at most 253.
    Name(String),
    /// An IPv4 address.
    V4(Ipv4Addr),
    /// An IPv6 address, and the zone (interface) it is valid in.
    V6(Ipv6Addr, Option<String>),
}

impl From<SocketAddr> for Host {
    fn from(address: SocketAddr) -> Self {
        match address {
            SocketAddr::V4(v4) => Self::V4(*v4.ip()),
            SocketAddr::V6(v6) => Self::V6(*v6.ip(), (v6.scope_id() != 0).then(|| v6.scope_id().to_string())),
        }
    }
}

impl From<IpAddr> for Host {
    fn from(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(v4) => Self::V4(v4),
            IpAddr::V6(v6) => Self::V6(v6, None),
        }
    }
}

/// As it stands in an address: IPv6 in brackets.
impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::V4(address) => address.fmt(f),
            Self::V6(address, None) => write!(f, "[{address}]"),
            Self::V6(address, Some(zone)) => write!(f, "[{address}%25{zone}]"),
        }
    }
}

/// Text in which the characters that the predicate picks are written `%XX`.
struct Escaped<'a>(&'a str, fn(char) -> bool);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(text, is_escaped) = *self;
        let mut rest = text;
        while let Some((before, c)) = rest.find(is_escaped).and_then(|at| {
            let (before, behind) = rest.split_at_checked(at)?;
            Some((before, behind.chars().next()?))
        }) {
            f.write_str(before)?;
            for byte in c.encode_utf8(&mut [0; 4]).bytes() {
                write!(f, "%{byte:02X}")?;
            }
            rest = rest.get(before.len() + c.len_utf8()..).unwrap_or_default();
        }
        f.write_str(rest)
    }
}

/// A rest that must not look like one with an authority.
fn fmt_opaque(text: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    match text.strip_prefix("//") {
        Some(rest) => write!(f, "/%2F{}", Escaped(rest, is_marked)),
        None => write!(f, "{}", Escaped(text, is_marked)),
    }
}

/// Whether a character is written `%XX` in text.
fn is_marked(c: char) -> bool {
    matches!(c, '%' | '?' | '#' | '!' | '&') || is_unprintable(c)
}

/// Whether a character may stand nowhere in an address.
fn is_unprintable(c: char) -> bool {
    c.is_whitespace() || c.is_control()
}

#[cfg(test)]
mod tests;
