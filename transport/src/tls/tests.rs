use std::error::Error as _;
use std::future::poll_fn;
use std::path::Path;

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::version::TLS12;
use rustls::{ClientConfig, RootCertStore};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::*;
use crate::medium::Media;
use crate::testing::{block_on, read_all, read_some, talk, write_all};

/// An authority, and the files of those it signed: `ca`, `server`, `client`; `own` signed itself, and `other` is
/// another authority.
struct Files(TempDir);

impl Files {
    fn new() -> Self {
        let files = Self(tempfile::tempdir().unwrap());
        for authority in ["other", "ca"] {
            let mut params = CertificateParams::new([]).unwrap();
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            let key = KeyPair::generate().unwrap();
            files.write(authority, &params.self_signed(&key).unwrap().pem(), &key);
            if authority == "ca" {
                let issuer = Issuer::from_params(&params, &key);
                for (name, names) in [
                    ("server", &["localhost", "127.0.0.1"][..]),
                    ("client", &["eva"][..]),
                ] {
                    let names: Vec<_> = names.iter().map(ToString::to_string).collect();
                    let key = KeyPair::generate().unwrap();
                    let signed = CertificateParams::new(names).unwrap().signed_by(&key, &issuer);
                    files.write(name, &signed.unwrap().pem(), &key);
                }
            }
        }
        // As `openssl req -x509` makes them: an authority too, for a name that nobody dials.
        let mut params = CertificateParams::new(["nobody".to_owned()]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        files.write("own", &params.self_signed(&key).unwrap().pem(), &key);
        files
    }

    fn write(&self, name: &str, certificate: &str, key: &KeyPair) {
        std::fs::write(self.path(name), certificate).unwrap();
        std::fs::write(self.path(&format!("{name}.key")), key.serialize_pem()).unwrap();
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.0.path().join(name)
    }

    /// `address` with options: the values of files are their names.
    fn address(&self, address: &str, options: &[(&str, &str)]) -> Address {
        let address: Address = address.parse().unwrap();
        options.iter().fold(address, |address, (name, value)| {
            let path = self.path(value);
            let is_file = matches!(*name, "ca" | "cert" | "key");
            let value = if is_file { path.to_str().unwrap() } else { value };
            address.with_option(name, value).unwrap()
        })
    }

    /// A listener with the certificate `of`, and where to dial it.
    async fn listen(&self, of: &str, ca: Option<&str>) -> (Box<dyn Listener>, String) {
        let key = format!("{of}.key");
        let mut options = vec![("cert", of), ("key", key.as_str())];
        options.extend(ca.map(|ca| ("ca", ca)));
        let address = self.address("ssl://127.0.0.1:0", &options);
        let listener = Media::standard().listen(&address).await.unwrap();
        let local = listener.local_addresses().remove(0).to_string();
        (listener, local)
    }
}

fn stream(carrier: Carrier) -> StreamCarrier {
    match carrier {
        Carrier::Stream(stream) => stream,
        Carrier::Muxed(_) => panic!("TLS has one stream"),
    }
}

/// Both ends of a connection.
async fn connected(listener: &mut Box<dyn Listener>, address: &Address) -> (StreamCarrier, StreamCarrier) {
    let media = Media::standard();
    let (dialled, accepted) = tokio::join!(media.dial(address), listener.accept());
    (stream(dialled.unwrap()), stream(accepted.unwrap()))
}

/// Why a dial fails, in which nobody is let in.
async fn refused(listener: &mut Box<dyn Listener>, address: &Address) -> (DialError, String) {
    let media = Media::standard();
    let error = tokio::select! {
        dialled = media.dial(address) => dialled.unwrap_err(),
        accepted = listener.accept() => panic!("let in: {accepted:?}"),
    };
    let cause = error.source().unwrap().to_string();
    (error, cause)
}

fn evidence(path: &Path) -> PeerEvidence {
    let certificate = rustls::pki_types::pem::PemObject::from_pem_file(path).unwrap();
    PeerEvidence::Certificate {
        sha256: fingerprint(&certificate),
    }
}

#[test]
fn each_end_knows_the_certificate_of_the_other_and_what_only_both_know() {
    let files = Files::new();
    block_on(async {
        let (mut listener, local) = files.listen("server", Some("ca")).await;
        let options = [("ca", "ca"), ("cert", "client"), ("key", "client.key")];
        let address = files.address(&local, &options);
        let (dialled, accepted) = connected(&mut listener, &address).await;
        assert_eq!(dialled.info.peer, evidence(&files.path("server")));
        assert_eq!(accepted.info.peer, evidence(&files.path("client")));
        for info in [&dialled.info, &accepted.info] {
            assert!(info.confidential && info.may_be_lost && info.half_close && info.reliable);
            assert_eq!(info.medium, "ssl");
        }
        assert!(dialled.info.channel_binding.is_some());
        assert_eq!(dialled.info.channel_binding, accepted.info.channel_binding);
        assert_eq!(dialled.info.remote.as_ref(), Some(&address));
        assert_eq!(accepted.info.remote, dialled.info.local);
        assert_eq!(accepted.info.local.as_ref().unwrap().to_string(), local);
        talk(dialled, accepted, 1024 * 1024).await;
    });
}

#[test]
fn without_a_word_on_trust_nobody_is_dialled() {
    let files = Files::new();
    let error = block_on(Media::standard().dial(&files.address("ssl://localhost:1", &[]))).unwrap_err();
    assert!(matches!(error, DialError::Untrusted { .. }), "{error}");
    let cause = error.source().unwrap().to_string();
    assert!(
        cause.contains("`ca=FILE`") && cause.contains("`insecure`"),
        "{cause}"
    );
}

#[test]
fn who_is_signed_by_another_authority_or_for_another_name_is_not_trusted() {
    let files = Files::new();
    block_on(async {
        let (mut listener, local) = files.listen("server", None).await;
        for options in [&[("ca", "other")][..], &[("ca", "ca"), ("name", "rig7")][..]] {
            let (error, cause) = refused(&mut listener, &files.address(&local, options)).await;
            assert!(matches!(error, DialError::Untrusted { .. }), "{error}: {cause}");
        }
        // Nobody else is held up by that.
        let address = files.address(&local, &[("ca", "ca"), ("name", "localhost")]);
        let (dialled, accepted) = connected(&mut listener, &address).await;
        assert_eq!(accepted.info.peer, PeerEvidence::None);
        talk(dialled, accepted, 1000).await;
    });
}

#[test]
fn a_certificate_that_signed_itself_is_trusted_as_it_is() {
    let files = Files::new();
    block_on(async {
        let (mut listener, local) = files.listen("own", Some("own")).await;
        let options = [("ca", "own"), ("cert", "own"), ("key", "own.key")];
        let (dialled, accepted) = connected(&mut listener, &files.address(&local, &options)).await;
        assert_eq!(dialled.info.peer, evidence(&files.path("own")));
        assert_eq!(accepted.info.peer, dialled.info.peer);
        talk(dialled, accepted, 1000).await;
    });
}

#[test]
fn whoever_answers_is_taken_for_the_peer_only_where_that_is_said() {
    let files = Files::new();
    block_on(async {
        let (mut listener, local) = files.listen("own", None).await;
        let address = files.address(&local, &[("insecure", "1")]);
        let (dialled, accepted) = connected(&mut listener, &address).await;
        assert_eq!(dialled.info.peer, PeerEvidence::None);
        assert!(!dialled.info.confidential, "it may be read by who is in between");
        talk(dialled, accepted, 1000).await;
    });
}

#[test]
fn a_peer_without_the_certificate_that_is_demanded_is_not_let_in() {
    let files = Files::new();
    block_on(async {
        let (mut listener, local) = files.listen("server", Some("ca")).await;
        for options in [
            &[("ca", "ca")][..],
            &[("ca", "ca"), ("cert", "own"), ("key", "own.key")][..],
        ] {
            let media = Media::standard();
            let address = files.address(&local, options);
            let told = async {
                let mut dialled = stream(media.dial(&address).await.unwrap());
                read_some(&mut *dialled.rx).await.unwrap_err().to_string()
            };
            let told = tokio::select! {
                told = told => told,
                accepted = listener.accept() => panic!("let in: {accepted:?}"),
            };
            assert!(told.contains("alert"), "{told}");
        }
    });
}

#[test]
fn a_peer_that_speaks_something_else_or_nothing_holds_nobody_up() {
    let files = Files::new();
    block_on(async {
        let (mut listener, local) = files.listen("server", None).await;
        let at = local.strip_prefix("ssl://").unwrap();
        let _silent = TcpStream::connect(at).await.unwrap();
        let mut rude = TcpStream::connect(at).await.unwrap();
        rude.write_all(b"GET / HTTP/1.0\r\n\r\n").await.unwrap();
        let address = files.address(&local, &[("ca", "ca")]);
        let (dialled, accepted) = connected(&mut listener, &address).await;
        talk(dialled, accepted, 1000).await;
        // It is told that by TLS, and the connection ends.
        let mut told = Vec::new();
        let _ = rude.read_to_end(&mut told).await;
        assert!(told.len() < 16, "{told:?}");
    });
}

#[test]
fn who_takes_all_places_of_its_address_gets_no_further_one() {
    let files = Files::new();
    block_on(async {
        let (mut listener, local) = files.listen("server", None).await;
        let at = local.strip_prefix("ssl://").unwrap();
        let mut silent = Vec::new();
        for _ in 0..128 {
            silent.push(TcpStream::connect(at).await.unwrap());
        }
        let mut further = TcpStream::connect(at).await.unwrap();
        let mut into = [0; 8];
        tokio::select! {
            read = further.read(&mut into) => assert!(matches!(read, Ok(0) | Err(_)), "{read:?}"),
            accepted = listener.accept() => panic!("let in: {accepted:?}"),
        }
        drop(silent);
        let address = files.address(&local, &[("ca", "ca")]);
        let dialled = async {
            loop {
                // The places are free when the listener has seen that the others are gone.
                match Media::standard().dial(&address).await {
                    Ok(carrier) => return carrier,
                    Err(error) => assert!(error.is_transient(), "{error}"),
                }
            }
        };
        let (dialled, accepted) = tokio::join!(dialled, listener.accept());
        talk(stream(dialled), stream(accepted.unwrap()), 1000).await;
    });
}

#[test]
fn what_answers_without_tls_is_told_from_what_is_not_trusted() {
    let files = Files::new();
    block_on(async {
        let plain = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let local = format!("ssl://{}", plain.local_addr().unwrap());
        let address = files.address(&local, &[("ca", "ca")]);
        let media = Media::standard();
        let greets = async {
            let mut peer = plain.accept().await.unwrap().0;
            peer.write_all(b"220 mail ready\r\n").await.unwrap();
            peer
        };
        let (dialled, _peer) = tokio::join!(media.dial(&address), greets);
        let error = dialled.unwrap_err();
        assert!(
            matches!(error, DialError::Address { .. }) && !error.is_transient(),
            "{error}"
        );
        assert!(
            error.source().unwrap().to_string().contains("no TLS"),
            "{:?}",
            error.source()
        );
        let leaves = async {
            let mut peer = plain.accept().await.unwrap().0;
            let mut into = [0; 1024];
            let _ = peer.read(&mut into).await.unwrap();
        };
        let (dialled, ()) = tokio::join!(media.dial(&address), leaves);
        let error = dialled.unwrap_err();
        assert!(error.is_transient(), "{error}");
        drop(plain);
        let error = media.dial(&address).await.unwrap_err();
        assert!(matches!(error, DialError::NotListening { .. }), "{error}");
    });
}

#[test]
fn one_direction_ends_while_the_other_goes_on() {
    let files = Files::new();
    block_on(async {
        let (mut listener, local) = files.listen("server", None).await;
        let address = files.address(&local, &[("ca", "ca")]);
        let (mut dialled, mut accepted) = connected(&mut listener, &address).await;
        write_all(&mut *dialled.tx, b"question").await.unwrap();
        poll_fn(|cx| dialled.tx.poll_close(cx)).await.unwrap();
        assert_eq!(read_all(&mut *accepted.rx).await.unwrap(), b"question");
        write_all(&mut *accepted.tx, b"answer").await.unwrap();
        poll_fn(|cx| accepted.tx.poll_close(cx)).await.unwrap();
        assert_eq!(read_all(&mut *dialled.rx).await.unwrap(), b"answer");
    });
}

#[test]
fn the_version_before_is_spoken_too() {
    let files = Files::new();
    block_on(async {
        let (mut listener, local) = files.listen("server", None).await;
        let mut roots = RootCertStore::empty();
        let ca = rustls::pki_types::pem::PemObject::from_pem_file(files.path("ca")).unwrap();
        roots.add(ca).unwrap();
        let config = ClientConfig::builder_with_provider(Arc::new(provider()))
            .with_protocol_versions(&[&TLS12])
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let at = local.strip_prefix("ssl://").unwrap();
        let dialled = async {
            let stream = TcpStream::connect(at).await.unwrap();
            let name = ServerName::try_from("localhost").unwrap();
            TlsConnector::from(Arc::new(config))
                .connect(name, stream)
                .await
                .unwrap()
        };
        let (dialled, accepted) = tokio::join!(dialled, listener.accept());
        let accepted = stream(accepted.unwrap());
        assert_eq!(accepted.info.channel_binding, None);
        let dialled = StreamCarrier::from_io(dialled, CarrierInfo::new("test"));
        talk(dialled, accepted, 100_000).await;
    });
}

fn provider() -> rustls::crypto::CryptoProvider {
    rustls::crypto::aws_lc_rs::default_provider()
}

#[test]
fn options_that_cannot_be_meant_are_named() {
    let files = Files::new();
    std::fs::write(files.path("empty"), "no PEM").unwrap();
    let long = std::fs::File::create(files.path("long")).unwrap();
    long.set_len(5 << 20).unwrap();
    block_on(async {
        let media = Media::standard();
        for (options, told) in [
            (&[("ca", "ca"), ("insecure", "1")][..], "leave one out"),
            (&[("ca", "missing")][..], "missing`"),
            (&[("ca", "empty")][..], "no certificate"),
            (&[("ca", ".")][..], "no file"),
            (&[("ca", "long")][..], "longer than"),
            (&[("ca", "ca"), ("cert", "client")][..], "one is missing"),
            (
                &[("ca", "ca"), ("cert", "client"), ("key", "server.key")][..],
                "of no use",
            ),
            (&[("ca", "ca"), ("name", "a b")][..], "for that name"),
        ] {
            let address = files.address("ssl://localhost:1", options);
            let error = media.dial(&address).await.unwrap_err();
            assert!(matches!(error, DialError::Address { .. }), "{error}");
            let cause = error.source().unwrap().to_string();
            assert!(cause.contains(told), "{cause}");
        }
        for (options, told) in [
            (&[][..], "`cert=FILE`"),
            (&[("insecure", "1")][..], "for dialling"),
            (&[("cert", "server"), ("key", "empty")][..], "no secret key"),
        ] {
            let address = files.address("ssl://127.0.0.1:0", options);
            let error = media.listen(&address).await.err().unwrap();
            assert!(matches!(error, ListenError::Address { .. }), "{error}");
            let cause = error.source().unwrap().to_string();
            assert!(cause.contains(told), "{cause}");
        }
    });
}
