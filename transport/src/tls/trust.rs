//! Whose certificates are trusted, and which ones this side has: what PEM files say, made into what rustls takes.

use std::fmt;
use std::fs::{self, File};
use std::io::{self, Read};
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::{
    ClientConfig, DigitallySignedStruct, DistinguishedName, Error, RootCertStore, ServerConfig,
    SignatureScheme,
};

use super::{Options, misuse};

impl Options {
    /// What it takes to dial.
    ///
    /// # Errors
    ///
    /// Options that contradict each other, files that cannot be read or have nothing of the kind in them.
    pub(super) fn client(&self) -> io::Result<ClientConfig> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let verifier: Arc<dyn ServerCertVerifier> = match &self.ca {
            Some(_) if self.is_insecure => {
                return Err(misuse(
                    "`ca=` says whom to trust, and `insecure` to trust everybody: leave one out",
                ));
            }
            Some(ca) => {
                let trusted = certificates(ca)?;
                let roots = Arc::new(roots(ca, &trusted)?);
                let by_root = WebPkiServerVerifier::builder_with_provider(roots, Arc::clone(&provider));
                let by_root = by_root.build().map_err(io::Error::other)?;
                Arc::new(Trusted { trusted, by_root })
            }
            None => Arc::new(Whoever(Arc::clone(&provider))),
        };
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(io::Error::other)?
            .dangerous()
            .with_custom_certificate_verifier(verifier);
        match self.own()? {
            Some((chain, key)) => builder.with_client_auth_cert(chain, key).map_err(mismatched),
            None => Ok(builder.with_no_client_auth()),
        }
    }

    /// What it takes to listen.
    ///
    /// # Errors
    ///
    /// As for [`client`](Self::client).
    pub(super) fn server(&self) -> io::Result<ServerConfig> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        if self.is_insecure {
            return Err(misuse(
                "`insecure` is for dialling: without `ca=` every peer is taken in",
            ));
        }
        let Some((chain, key)) = self.own()? else {
            return Err(misuse(
                "peers want to see a certificate: name it by `cert=FILE`, and its secret key by `key=FILE`",
            ));
        };
        let verifier: Arc<dyn ClientCertVerifier> = match &self.ca {
            Some(ca) => {
                let trusted = certificates(ca)?;
                let roots = Arc::new(roots(ca, &trusted)?);
                let by_root = WebPkiClientVerifier::builder_with_provider(roots, Arc::clone(&provider));
                let by_root = by_root.build().map_err(io::Error::other)?;
                Arc::new(Trusted { trusted, by_root })
            }
            None => WebPkiClientVerifier::no_client_auth(),
        };
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(io::Error::other)?
            .with_client_cert_verifier(verifier)
            .with_single_cert(chain, key)
            .map_err(mismatched)?;
        // Every connection proves its certificate anew, and nothing is kept of those that are over.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        Ok(config)
    }

    /// Our own certificate, with those behind it, and its secret key.
    fn own(&self) -> io::Result<Option<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)>> {
        match (&self.cert, &self.key) {
            (None, None) => Ok(None),
            (Some(cert), Some(key)) => {
                let secret =
                    PrivateKeyDer::from_pem_slice(&read(key)?).map_err(|error| unread(key, error))?;
                Ok(Some((certificates(cert)?, secret)))
            }
            _ => Err(misuse("`cert=` and `key=` belong together: one is missing")),
        }
    }
}

/// The certificates in a file; at least one.
fn certificates(path: &str) -> io::Result<Vec<CertificateDer<'static>>> {
    let text = read(path)?;
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    let certificates = certificates.map_err(|error| unread(path, error))?;
    if certificates.is_empty() {
        return Err(misuse(format!("`{path}` has no certificate in it")));
    }
    Ok(certificates)
}

/// The certificates as those of authorities.
fn roots(path: &str, trusted: &[CertificateDer<'static>]) -> io::Result<RootCertStore> {
    let mut roots = RootCertStore::empty();
    for certificate in trusted {
        let added = roots.add(certificate.clone());
        added.map_err(|error| misuse(format!("`{path}` has a certificate in it that is none: {error}")))?;
    }
    Ok(roots)
}

/// What is in a file: no pipe, for which one would wait, and nothing without an end.
fn read(path: &str) -> io::Result<Vec<u8>> {
    let failed = |error: io::Error| io::Error::new(error.kind(), format!("`{path}`: {error}"));
    if !fs::metadata(path).map_err(failed)?.is_file() {
        return Err(misuse(format!("`{path}` is no file")));
    }
    let mut text = Vec::new();
    let file = File::open(path).map_err(failed)?;
    file.take(LONGEST + 1).read_to_end(&mut text).map_err(failed)?;
    if u64::try_from(text.len()).unwrap_or(u64::MAX) > LONGEST {
        return Err(misuse(format!("`{path}` is longer than {LONGEST} bytes")));
    }
    Ok(text)
}

/// The most that a file may have, in bytes: all authorities of a system take a quarter of a megabyte.
const LONGEST: u64 = 4 << 20;

/// Why a file is of no use.
fn unread(path: &str, error: pem::Error) -> io::Error {
    match error {
        pem::Error::NoItemsFound => misuse(format!("`{path}` has no secret key in it, or no certificate")),
        error => misuse(format!("`{path}` is no PEM file: {error}")),
    }
}

fn mismatched(error: Error) -> io::Error {
    misuse(format!("the certificate or its secret key is of no use: {error}"))
}

/// Trusts certificates themselves, and those that they signed.
struct Trusted<V: ?Sized> {
    trusted: Vec<CertificateDer<'static>>,
    by_root: Arc<V>,
}

impl<V: ?Sized> Trusted<V> {
    /// Whether this very certificate is trusted: that the peer has its secret key is shown by the handshake.
    fn has(&self, certificate: &CertificateDer<'_>) -> bool {
        self.trusted.iter().any(|trusted| trusted == certificate)
    }
}

impl<V: ?Sized> fmt::Debug for Trusted<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Trusted({} certificates)", self.trusted.len())
    }
}

impl ServerCertVerifier for Trusted<WebPkiServerVerifier> {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if self.has(end_entity) {
            return Ok(ServerCertVerified::assertion());
        }
        self.by_root
            .verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.by_root.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.by_root.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.by_root.supported_verify_schemes()
    }
}

impl ClientCertVerifier for Trusted<dyn ClientCertVerifier> {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.by_root.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        if self.has(end_entity) {
            return Ok(ClientCertVerified::assertion());
        }
        self.by_root.verify_client_cert(end_entity, intermediates, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.by_root.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.by_root.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.by_root.supported_verify_schemes()
    }
}

/// Takes whoever answers for the peer, if it has the secret key of the certificate that it shows.
#[derive(Debug)]
struct Whoever(Arc<CryptoProvider>);

impl ServerCertVerifier for Whoever {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
