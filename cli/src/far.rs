//! Services of a machine, from this side: found behind an address, with errors that say what to do.

use std::io;

use farref::files::Files;
use farref::host::Host;
use farref::{Config, Connection, Error, ErrorKind, Netref};

use crate::context::Global;
use crate::failure::{Code, Failure, Outcome, code_of};

/// A machine that is connected.
pub(crate) struct Far {
    pub(crate) connection: Connection,
    pub(crate) host: Netref<dyn Host>,
    address: String,
}

impl Far {
    /// Connects, and takes what is shown there for a machine.
    pub(crate) async fn connect(address: &str, global: &Global) -> Outcome<Self> {
        let connection = global.connect_with(address, Config::default()).await?;
        let host = connection.root().await.map_err(|error| {
            Failure::of(format_args!("`{address}` shows no machine"), &error)
                .hint("`farref serve` shows one; `farref shell` and `farref call` work with anything else")
        })?;
        Ok(Self {
            connection,
            host,
            address: address.to_owned(),
        })
    }

    /// A call failed that asks for a service called `service`.
    pub(crate) fn failed(&self, what: impl std::fmt::Display, error: &Error) -> Failure {
        let failure = Failure::of(what, error);
        match error.kind() {
            ErrorKind::Denied if !error.message().contains("authorized_peers") => failure.hint(format_args!(
                "farref call {} services  shows what may be used",
                self.address
            )),
            _ => failure,
        }
    }

    pub(crate) async fn files(&self) -> Outcome<Netref<dyn Files>> {
        let files = self.host.call().files().await;
        files.map_err(|error| self.failed("cannot use the files there", &error))
    }
}

/// Something failed over there, or on the way: with the code for its kind.
pub(crate) fn failed(what: impl std::fmt::Display, failure: impl Into<io::Error>) -> Failure {
    let error = failure.into();
    let inner = error
        .get_ref()
        .and_then(|inner| inner.downcast_ref::<farref::file::Failure>());
    let kind = inner.map_or(error.kind(), farref::file::Failure::kind);
    let code = match kind {
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => Code::Denied,
        io::ErrorKind::TimedOut => Code::TimedOut,
        io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset | io::ErrorKind::NotConnected => {
            Code::Connection
        }
        _ => Code::Remote,
    };
    Failure::new(code, format_args!("{what}: {error}"))
}

/// A stream ended early.
pub(crate) fn broken(what: impl std::fmt::Display, error: &Error) -> Failure {
    Failure::new(code_of(error), format_args!("{what}: {error:#}"))
}

/// Splits `ADDRESS::PATH`, where a name may stand for an address; the path is empty where there is none, and there is no
/// address without `::`. What begins with `/` or `.` is a path of this machine.
///
/// The last `::` counts that has no `]` behind it, so that `[::1]` stays whole.
pub(crate) fn split(text: &str) -> Option<(&str, &str)> {
    text.match_indices("::")
        .map(|(at, _)| at)
        .filter(|at| {
            let (before, behind) = text.split_at_checked(*at).unwrap_or_default();
            let is_number = before.rfind('[') > before.rfind(']') && behind.contains(']');
            let has_scheme = before.contains(':') && !before.starts_with(['/', '.']);
            (has_scheme || farref::names::is_name(before)) && !is_number
        })
        .map(|at| {
            let (address, path) = text.split_at_checked(at).unwrap_or_default();
            (address, path.strip_prefix("::").unwrap_or(path))
        })
        .next()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_and_a_path_are_told_apart() {
        for (text, expected) in [
            ("tcp://h:7::/a/b", Some(("tcp://h:7", "/a/b"))),
            ("tcp://h:7::", Some(("tcp://h:7", ""))),
            ("tcp://[::1]:7::a::b", Some(("tcp://[::1]:7", "a::b"))),
            ("tcp://h:7#ed25519.x::/", Some(("tcp://h:7#ed25519.x", "/"))),
            ("rig7::/a", Some(("rig7", "/a"))),
            ("rig7.lab::", Some(("rig7.lab", ""))),
            ("unix:/run/x::notes", Some(("unix:/run/x", "notes"))),
            ("tcp://[::1]:7", None),
            ("./a::b", None),
            ("/tmp/a:b::c", None),
            ("plain", None),
        ] {
            assert_eq!(split(text), expected, "{text}");
        }
    }
}
