//! Which targets may be connected to, and where may be listened.

use std::io;
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::str::FromStr;

use super::Target;
use crate::file::Failure;

/// Which targets may be connected to, and where may be listened; by default, nothing and nowhere.
///
/// A pattern is written as a [`Target`]. The host is a name, `*.example.org`, a number, a network as `10.0.0.0/8`, or `*`;
/// the port a number, a range as `8000-8099`, or `*`; a path of a Unix socket may end in `*`. Hosts are compared as they are
/// written: `localhost` is not `127.0.0.1`, and a name is in no network.
///
/// ```
/// use farref_services::network::NetworkRules;
///
/// let rules = NetworkRules::nothing()
///     .connect("*.lab.example.org:443")?
///     .connect("10.0.0.0/8:22")?
///     .connect("unix:/run/lab/*")?
///     .listen("127.0.0.1:8000-8099")?;
/// assert!(rules.may_connect(&"scope.lab.example.org:443".parse()?));
/// assert!(!rules.may_connect(&"example.com:443".parse()?));
/// # Ok::<(), farref_services::file::Failure>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetworkRules {
    connect: Vec<Pattern>,
    listen: Vec<Pattern>,
    pub(super) connections: usize,
    pub(super) listeners: usize,
}

impl Default for NetworkRules {
    fn default() -> Self {
        Self::nothing()
    }
}

impl NetworkRules {
    /// Nothing is allowed.
    #[must_use]
    pub const fn nothing() -> Self {
        Self {
            connect: Vec::new(),
            listen: Vec::new(),
            connections: 512,
            listeners: 32,
        }
    }

    /// Everything is allowed that the account of this program may do: for peers who have its full trust.
    #[must_use]
    pub fn everything() -> Self {
        Self {
            connect: vec![Pattern::Everything],
            listen: vec![Pattern::Everything],
            ..Self::nothing()
        }
    }

    /// Allows to connect to what fits the pattern.
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](io::ErrorKind::InvalidInput) if it is no pattern.
    pub fn connect(mut self, pattern: &str) -> Result<Self, Failure> {
        self.connect.push(pattern.parse()?);
        Ok(self)
    }

    /// Allows to listen at what fits the pattern. Any free port, which is asked for as port 0, fits `*` alone.
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](io::ErrorKind::InvalidInput) if it is no pattern.
    pub fn listen(mut self, pattern: &str) -> Result<Self, Failure> {
        self.listen.push(pattern.parse()?);
        Ok(self)
    }

    /// So many connections at a time, of which one peer may have half. Default 512. More are refused, or wait to be accepted.
    #[must_use]
    pub const fn connections(mut self, count: usize) -> Self {
        self.connections = count;
        self
    }

    /// So many listeners at a time, of which one peer may have half. Default 32.
    #[must_use]
    pub const fn listeners(mut self, count: usize) -> Self {
        self.listeners = count;
        self
    }

    /// Whether `target` may be connected to.
    #[must_use]
    pub fn may_connect(&self, target: &Target) -> bool {
        self.connect.iter().any(|pattern| pattern.fits(target))
    }

    /// Whether somebody may listen at `target`.
    #[must_use]
    pub fn may_listen(&self, target: &Target) -> bool {
        self.listen.iter().any(|pattern| pattern.fits(target))
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Pattern {
    Everything,
    Tcp {
        host: Host,
        ports: RangeInclusive<u16>,
    },
    Unix(String),
    /// What begins like that.
    UnixBelow(String),
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Host {
    Any,
    /// In lower case.
    Name(String),
    /// What a name ends with, from its dot on.
    Below(String),
    Network(IpAddr, u8),
}

impl Pattern {
    fn fits(&self, target: &Target) -> bool {
        match (self, target) {
            (Self::Everything, _) => true,
            (Self::Tcp { host, ports }, Target::Tcp { host: asked, port }) => {
                ports.contains(port) && host.fits(asked)
            }
            (Self::Unix(path), Target::Unix { path: asked }) => path == asked,
            (Self::UnixBelow(start), Target::Unix { path: asked }) => {
                asked.starts_with(start) && !asked.split('/').any(|part| part == "..")
            }
            _ => false,
        }
    }
}

impl Host {
    fn fits(&self, asked: &str) -> bool {
        let lower = asked.to_ascii_lowercase();
        match self {
            Self::Any => true,
            Self::Name(name) => *name == lower,
            Self::Below(end) => lower.len() > end.len() && lower.ends_with(end.as_str()),
            Self::Network(network, bits) => {
                let asked = asked.parse::<IpAddr>().map(|asked| asked.to_canonical());
                asked.is_ok_and(|asked| is_within(asked, *network, *bits))
            }
        }
    }
}

/// Whether the first `bits` of both are the same.
fn is_within(address: IpAddr, network: IpAddr, bits: u8) -> bool {
    let same =
        |a: u128, b: u128, len: u32| (a ^ b).checked_shr(len.saturating_sub(bits.into())).unwrap_or(0) == 0;
    match (address, network) {
        (IpAddr::V4(a), IpAddr::V4(b)) => same(a.to_bits().into(), b.to_bits().into(), 32),
        (IpAddr::V6(a), IpAddr::V6(b)) => same(a.to_bits(), b.to_bits(), 128),
        _ => false,
    }
}

impl FromStr for Pattern {
    type Err = Failure;

    fn from_str(text: &str) -> Result<Self, Failure> {
        let wrong = || {
            let text = format!(
                "`{text}` is no pattern of targets: write `host:port`, `*.example.org:80-90`, `10.0.0.0/8:*`, `*:*` or `unix:/path/*`"
            );
            Failure::from(io::Error::new(io::ErrorKind::InvalidInput, text))
        };
        if let Some(path) = text.strip_prefix("unix:") {
            return match path.strip_suffix('*') {
                Some(start) if !start.contains('*') => Ok(Self::UnixBelow(start.to_owned())),
                None if !path.is_empty() && !path.contains('*') => Ok(Self::Unix(path.to_owned())),
                _ => Err(wrong()),
            };
        }
        let (host, ports) = text.rsplit_once(':').ok_or_else(wrong)?;
        let port = |text: &str| text.parse::<u16>().map_err(|_| wrong());
        let ports = match ports.split_once('-') {
            None if ports == "*" => 0..=u16::MAX,
            None => port(ports)?..=port(ports)?,
            Some((first, last)) => port(first)?..=port(last)?,
        };
        let number = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        let host = match number {
            Some(number) => number,
            None if host.contains(':') => return Err(wrong()),
            None => host,
        };
        Ok(Self::Tcp {
            host: Host::read(host).ok_or_else(wrong)?,
            ports,
        })
    }
}

impl Host {
    fn read(text: &str) -> Option<Self> {
        if text == "*" {
            return Some(Self::Any);
        }
        if let Some((network, bits)) = text.split_once('/') {
            let (network, bits) = (network.parse::<IpAddr>().ok()?, bits.parse().ok()?);
            let most = if network.is_ipv4() { 32 } else { 128 };
            return (bits <= most).then_some(Self::Network(network, bits));
        }
        if let Ok(number) = text.parse::<IpAddr>() {
            let number = number.to_canonical();
            return Some(Self::Network(number, if number.is_ipv4() { 32 } else { 128 }));
        }
        let lower = text.to_ascii_lowercase();
        match lower.strip_prefix('*') {
            Some(end) if end.len() > 1 && end.starts_with('.') && !end.contains('*') => {
                Some(Self::Below(end.to_owned()))
            }
            None if !lower.is_empty() && !lower.contains(['*', ':', '/']) => Some(Self::Name(lower)),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fits(pattern: &str, target: &str) -> bool {
        let rules = NetworkRules::nothing().connect(pattern).unwrap();
        rules.may_connect(&target.parse().unwrap())
    }

    #[test]
    fn what_fits_a_pattern_may_be_reached() {
        for (pattern, target) in [
            ("localhost:80", "LocalHost:80"),
            ("*:80", "anything:80"),
            ("*:*", "[::1]:0"),
            ("*.example.org:1-9", "a.b.EXAMPLE.org:9"),
            ("10.0.0.0/8:*", "10.255.0.1:22"),
            ("0.0.0.0/0:*", "8.8.8.8:53"),
            ("[fd00::/8]:22", "[fd12::1]:22"),
            ("127.0.0.1:80", "127.0.0.1:80"),
            ("127.0.0.1:80", "[::ffff:127.0.0.1]:80"),
            ("[::1]:80", "[0:0::1]:80"),
            ("unix:/run/a", "unix:/run/a"),
            ("unix:/run/*", "unix:/run/a/b"),
        ] {
            assert!(fits(pattern, target), "{target} fits {pattern}");
        }
    }

    #[test]
    fn what_fits_none_may_not() {
        for (pattern, target) in [
            ("localhost:80", "localhost:81"),
            ("localhost:80", "127.0.0.1:80"),
            ("localhost:80", "localhost.:80"),
            ("127.0.0.1:80", "localhost:80"),
            ("127.0.0.1:80", "127.1:80"),
            ("127.0.0.1:80", "2130706433:80"),
            ("*.example.org:80", "example.org:80"),
            ("*.example.org:80", "evilexample.org:80"),
            ("*.example.org:80", ".example.org:80"),
            ("10.0.0.0/8:22", "11.0.0.1:22"),
            ("10.0.0.0/8:22", "10.example.org:22"),
            ("10.0.0.0/8:22", "[::a00:1]:22"),
            ("a:8000-8099", "a:8100"),
            ("a:8000-8099", "a:0"),
            ("*:*", "unix:/run/a"),
            ("unix:/run/a", "unix:/run/a/../b"),
            ("unix:/run/*", "unix:/run/../etc/a"),
            ("unix:/run/*", "unix:/etc/a"),
            ("unix:/run/*", "unix:run/a"),
        ] {
            assert!(!fits(pattern, target), "{target} fits {pattern}");
        }
        let nothing = NetworkRules::default();
        let target = "localhost:80".parse().unwrap();
        assert!(!nothing.may_connect(&target) && !nothing.may_listen(&target));
        let rules = NetworkRules::nothing().connect("*:*").unwrap();
        assert!(!rules.may_listen(&target), "to connect is not to listen");
        assert!(NetworkRules::everything().may_listen(&target));
    }

    #[test]
    fn what_is_no_pattern_is_refused() {
        for text in [
            "",
            "host",
            "host:",
            "*",
            "a*:80",
            "*.*:80",
            "10.0.0.0/33:80",
            "x/8:80",
            "host:9-",
            "unix:",
            "unix:/a/*/b",
            "::1:80",
        ] {
            assert!(NetworkRules::nothing().connect(text).is_err(), "{text}");
        }
    }
}
