//! TLS over TCP, with certificates: `ssl://`, for peers that prove who they are by X.509, as those of other
//! languages do.
//!
//! Knows how a connection of [`tcp`] becomes one of TLS 1.2 or 1.3 (RFC 5246, RFC 8446), and how to let
//! peers in without waiting for slow ones. Whose certificates are trusted is in `tls/trust`. Between two programs of
//! this project `tcp` and `quic` need no certificates.
//!
//! | option       | default | meaning                                                                               |
//! |--------------|---------|---------------------------------------------------------------------------------------|
//! | `ca=`        | none    | a PEM file of certificates: dialling, the peer must have one that these signed, or one of them itself; listening, it must present such a one |
//! | `cert=`      | none    | a PEM file of our own certificate and those between it and an authority; needed to listen |
//! | `insecure=`  | 0       | dialling, whoever answers is taken for the peer: keeps what is sent from who only listens, and from nobody else |
//! | `key=`       | none    | a PEM file of the secret key of `cert=`                                                 |
//! | `name=`      | the host | dialling, the name that the peer's certificate must be for, and that it is asked for (SNI)  |
//! | `bind=`, `keepalive=`, `lowat=`, `quickack=` |  | as for `tcp`                                                           |
//!
//! Files have at most 4 MiB. They are read at each dial, and once to listen. Dialling needs `ca=` or `insecure=`: the
//! roots of the system are not asked. A certificate that is itself in the file of `ca=` is trusted as it is, whatever it
//! says of names, times and uses: so one that its owner signed needs no authority. Who may read `key=` can pass for this
//! side: that is left to the permissions of the file, which are not looked at.
//!
//! A handshake may take 10 s. With TLS 1.3 who dials is told that its certificate is not good enough, or missing, only by
//! an error of the first read (RFC 8446 § 4.4.2.4). Who listens logs why a peer was turned away.

mod listener;
mod socket;
#[cfg(test)]
mod tests;
mod trust;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{AlertDescription, CommonState, Error, ProtocolVersion};
use tokio_rustls::TlsConnector;

use crate::address::{Address, Host, Target};
use crate::carrier::{BoxFuture, Carrier, CarrierInfo, PeerEvidence, StreamCarrier};
use crate::error::{DialError, ListenError};
use crate::medium::{Listener, Transport};
use crate::tcp;

use self::listener::Listening;
use self::socket::Socket;

/// How long a handshake may take.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// What the two ends of a connection share is made under this label (RFC 9266 § 4).
const BINDING_LABEL: &[u8] = b"EXPORTER-Channel-Binding";

/// The medium `ssl`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tls(());

impl Tls {
    /// TLS over TCP, with the certificates that addresses name.
    #[must_use]
    pub const fn new() -> Self {
        Self(())
    }
}

impl Transport for Tls {
    fn schemes(&self) -> &'static [&'static str] {
        &["ssl"]
    }

    fn dial<'a>(&'a self, address: &'a Address) -> BoxFuture<'a, Result<Carrier, DialError>> {
        Box::pin(async move {
            let trust = Options::of(address);
            if trust.ca.is_none() && !trust.is_insecure {
                let text = "no certificate is trusted here: name a file of those that are by `ca=FILE`, or say `insecure` to \
                            take whoever answers for the peer";
                return Err(DialError::Untrusted {
                    address: Box::new(address.clone()),
                    source: io::Error::new(io::ErrorKind::InvalidInput, text),
                });
            }
            let misused = |source| DialError::Address {
                address: Box::new(address.clone()),
                source,
            };
            let name = server_name(address).map_err(misused)?;
            let is_insecure = trust.is_insecure;
            let config = beside(move || trust.client()).await.map_err(misused)?;
            let (stream, local) = tcp::open(address).await?;
            let connecting = TlsConnector::from(Arc::new(config))
                .connect(name, Socket::new(stream, address.is_set("quickack")));
            let connected = match tokio::time::timeout(HANDSHAKE, connecting).await {
                Ok(connected) => connected,
                Err(_) => {
                    let text = format!("it did not speak TLS within {HANDSHAKE:?}");
                    Err(io::Error::new(io::ErrorKind::TimedOut, text))
                }
            };
            let stream = connected.map_err(|error| refused(address, error))?;
            let state = &stream.get_ref().1;
            let binding = binding(state, |out, label| state.export_keying_material(out, label, None));
            let mut info = info(state, !is_insecure, binding);
            // Who only listens on the way hears nothing, but nobody knows who is at the other end.
            info.confidential = !is_insecure;
            info.local = local.map(Address::ssl);
            info.remote = Some(address.clone());
            Ok(StreamCarrier::from_io(stream, info).into())
        })
    }

    fn listen<'a>(&'a self, address: &'a Address) -> BoxFuture<'a, Result<Box<dyn Listener>, ListenError>> {
        Box::pin(async move {
            let trust = Options::of(address);
            let proves_peers = trust.ca.is_some();
            let config = beside(move || trust.server()).await;
            let config = config.map_err(|source| ListenError::Address {
                address: Box::new(address.clone()),
                source,
            })?;
            let sockets = tcp::bind_at(address).await?;
            Ok(Box::new(Listening::new(sockets, config, proves_peers)) as Box<dyn Listener>)
        })
    }
}

/// What the options of an address say.
#[derive(Clone, Debug)]
struct Options {
    ca: Option<String>,
    cert: Option<String>,
    key: Option<String>,
    is_insecure: bool,
}

impl Options {
    fn of(address: &Address) -> Self {
        let text = |name| address.option(name).map(ToOwned::to_owned);
        Self {
            ca: text("ca"),
            cert: text("cert"),
            key: text("key"),
            is_insecure: address.is_set("insecure"),
        }
    }
}

/// The facts about a connection whose handshake is done; `is_proved` if the peer had to prove who it is.
fn info(state: &CommonState, is_proved: bool, binding: Option<[u8; 32]>) -> CarrierInfo {
    let mut info = CarrierInfo::new("ssl");
    info.confidential = true;
    info.may_be_lost = true;
    info.channel_binding = binding;
    let certificate = state.peer_certificates().and_then(<[_]>::first);
    if let Some(certificate) = certificate.filter(|_| is_proved) {
        info.peer = PeerEvidence::Certificate {
            sha256: fingerprint(certificate),
        };
    }
    info
}

fn fingerprint(certificate: &CertificateDer<'_>) -> [u8; 32] {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, certificate);
    let mut bytes = [0; 32];
    bytes.copy_from_slice(digest.as_ref());
    bytes
}

/// What only the two ends share. TLS 1.2 has it too, but not always so that nobody in between has it as well.
fn binding(
    state: &CommonState,
    export: impl FnOnce([u8; 32], &[u8]) -> Result<[u8; 32], Error>,
) -> Option<[u8; 32]> {
    let has_binding = state.protocol_version() == Some(ProtocolVersion::TLSv1_3);
    has_binding.then(|| export([0; 32], BINDING_LABEL).ok()).flatten()
}

/// The name that the certificate must be for.
fn server_name(address: &Address) -> io::Result<ServerName<'static>> {
    let named = match (address.option("name"), address.target()) {
        (Some(name), _) => ServerName::try_from(name.to_owned()),
        (None, Target::Ssl { host, .. }) => match host {
            Host::Name(name) => ServerName::try_from(name.clone()),
            Host::V4(ip) => return Ok(std::net::IpAddr::V4(*ip).into()),
            Host::V6(ip, _) => return Ok(std::net::IpAddr::V6(*ip).into()),
        },
        _ => return Err(misuse("not an address of TLS")),
    };
    named.map_err(|error| misuse(format!("no certificate can be for that name: {error}")))
}

/// Sorts a handshake that failed by who can act.
fn refused(address: &Address, error: io::Error) -> DialError {
    let address = Box::new(address.clone());
    let of_tls = error.get_ref().and_then(|error| error.downcast_ref());
    match of_tls {
        Some(Error::InvalidCertificate(_) | Error::NoCertificatesPresented) => DialError::Untrusted {
            address,
            source: error,
        },
        Some(Error::AlertReceived(
            AlertDescription::BadCertificate
            | AlertDescription::CertificateRequired
            | AlertDescription::CertificateUnknown
            | AlertDescription::UnknownCA
            | AlertDescription::AccessDenied
            | AlertDescription::HandshakeFailure,
        )) => {
            let text = format!(
                "{error}: it may want another certificate of this side, by `cert=FILE` and `key=FILE`, or older ciphers"
            );
            DialError::NotPermitted {
                address,
                source: io::Error::new(io::ErrorKind::PermissionDenied, text),
            }
        }
        Some(_) => {
            let text = format!("what answers there speaks no TLS that is spoken here: {error}");
            DialError::Address {
                address,
                source: io::Error::new(io::ErrorKind::InvalidData, text),
            }
        }
        None if error.kind() == io::ErrorKind::UnexpectedEof => {
            let text = "it closed the connection instead of speaking TLS";
            DialError::Unreachable {
                address,
                source: io::Error::new(error.kind(), text),
            }
        }
        None => DialError::from_io(&address, error),
    }
}

/// Reads files beside the tasks of the runtime.
async fn beside<T: Send + 'static>(read: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    crate::socket::check_runtime()?;
    let done = tokio::task::spawn_blocking(read).await;
    done.map_err(io::Error::other)?
}

fn misuse(text: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, text.into())
}
