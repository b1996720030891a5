//! What QUIC's handshake proves: that each side has the secret half of a raw public key (RFC 7250).
//!
//! Whose keys are trusted is not decided here, except where an address names the key that the peer must have.

use std::any::Any;
use std::sync::{Arc, Mutex, PoisonError};

use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{AlwaysResolvesClientRawPublicKeys, Resumption};
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls13_signature_with_raw_key};
use rustls::pki_types::{
    CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, SubjectPublicKeyInfoDer, UnixTime,
};
use rustls::server::AlwaysResolvesServerRawPublicKeys;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::sign::CertifiedKey;
use rustls::version::TLS13;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, DistinguishedName, Error, ServerConfig,
    SignatureScheme,
};
use zeroize::Zeroizing;

use crate::address::PeerKey;
use crate::identity::Identity;

/// The protocol and its version, in the handshake: a peer that speaks something else fails there.
const ALPN: &[u8] = b"farref/1";
/// Raw keys have no name; the client must send one all the same.
pub(super) const SERVER_NAME: &str = "farref.invalid";
/// What the two ends of a connection share is made under this label (RFC 8446 § 7.5).
pub(super) const BINDING_LABEL: &[u8] = b"EXPORTER-farref-channel-binding";

/// A private Ed25519 key up to its 32 bytes (RFC 8410 § 7, RFC 5958).
const PKCS8: [u8; 16] = [
    0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20,
];
/// A public Ed25519 key up to its 32 bytes (RFC 8410 § 4).
const SPKI: [u8; 12] = [
    0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00,
];

/// The side that dials, and what it learns of the other's key.
pub(super) fn client(
    identity: &Identity,
    pinned: Option<PeerKey>,
) -> Result<(QuicClientConfig, Arc<Peers>), Error> {
    let (config, peers) = client_showing(identity, &identity.public(), pinned)?;
    let config = QuicClientConfig::try_from(config).map_err(|error| Error::General(error.to_string()))?;
    Ok((config, peers))
}

/// A side that dials, to be changed: it shows a key of which it may not have the secret half.
#[cfg(test)]
pub(super) fn client_of(identity: &Identity, shown: &PeerKey) -> Result<ClientConfig, Error> {
    client_showing(identity, shown, None).map(|(config, _)| config)
}

fn client_showing(
    identity: &Identity,
    shown: &PeerKey,
    pinned: Option<PeerKey>,
) -> Result<(ClientConfig, Arc<Peers>), Error> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let peers = Arc::new(Peers::new(pinned, &provider));
    let certified = certified(identity, shown, &provider)?;
    let mut config = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&[&TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(Arc::clone(&peers) as Arc<dyn ServerCertVerifier>)
        .with_client_cert_resolver(Arc::new(AlwaysResolvesClientRawPublicKeys::new(certified)));
    config.alpn_protocols = vec![ALPN.to_vec()];
    // A resumed handshake would prove no key.
    config.resumption = Resumption::disabled();
    Ok((config, peers))
}

/// The side that listens.
pub(super) fn server(identity: &Identity) -> Result<QuicServerConfig, Error> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let peers = Arc::new(Peers::new(None, &provider));
    let mut config = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&[&TLS13])?
        .with_client_cert_verifier(peers)
        .with_cert_resolver(Arc::new(AlwaysResolvesServerRawPublicKeys::new(certified(
            identity,
            &identity.public(),
            &provider,
        )?)));
    config.alpn_protocols = vec![ALPN.to_vec()];
    config.send_tls13_tickets = 0;
    QuicServerConfig::try_from(config).map_err(|error| Error::General(error.to_string()))
}

/// The key pair as rustls takes it: the raw public key stands where a certificate would.
fn certified(
    identity: &Identity,
    public: &PeerKey,
    provider: &CryptoProvider,
) -> Result<Arc<CertifiedKey>, Error> {
    let private = Zeroizing::new([&PKCS8[..], &identity.secret()[..]].concat());
    let private = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(private.to_vec()));
    let key = provider.key_provider.load_private_key(private)?;
    let public = [&SPKI[..], &public.as_bytes()[..]].concat();
    Ok(Arc::new(CertifiedKey::new(
        vec![CertificateDer::from(public)],
        key,
    )))
}

/// The key that the peer of a connection has proved to have.
pub(super) fn peer_key(proved: Option<Box<dyn Any>>) -> Option<PeerKey> {
    let chain = proved?.downcast::<Vec<CertificateDer<'static>>>().ok()?;
    key_of(chain.first()?)
}

fn key_of(public: &[u8]) -> Option<PeerKey> {
    let key = public.strip_prefix(&SPKI)?;
    key.try_into().ok().map(PeerKey::new)
}

/// Takes every peer that has the key it shows, or only the pinned one.
#[derive(Debug)]
pub(super) struct Peers {
    pinned: Option<PeerKey>,
    /// The key that a peer showed which should have had another.
    found: Mutex<Option<PeerKey>>,
    provider: Arc<CryptoProvider>,
}

impl Peers {
    fn new(pinned: Option<PeerKey>, provider: &Arc<CryptoProvider>) -> Self {
        Self {
            pinned,
            found: Mutex::default(),
            provider: Arc::clone(provider),
        }
    }

    /// The key of a peer that should have had another.
    pub(super) fn wrong_key(&self) -> Option<PeerKey> {
        *self.found.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn check(&self, shown: &[u8]) -> Result<(), Error> {
        let key = key_of(shown).ok_or(CertificateError::BadEncoding)?;
        if self.pinned.is_none_or(|pinned| pinned == key) {
            return Ok(());
        }
        *self.found.lock().unwrap_or_else(PoisonError::into_inner) = Some(key);
        Err(CertificateError::ApplicationVerificationFailure.into())
    }

    fn check_signature(
        &self,
        message: &[u8],
        shown: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let public = SubjectPublicKeyInfoDer::from(shown.as_ref());
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature_with_raw_key(message, &public, signature, algorithms)
    }
}

/// TLS 1.2 is not offered, so that this is never asked for.
fn no_tls12() -> Result<HandshakeSignatureValid, Error> {
    Err(Error::General("TLS 1.2 is not spoken".to_owned()))
}

impl ServerCertVerifier for Peers {
    fn verify_server_cert(
        &self,
        shown: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.check(shown).map(|()| ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        no_tls12()
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        shown: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.check_signature(message, shown, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }

    fn requires_raw_public_keys(&self) -> bool {
        true
    }
}

impl ClientCertVerifier for Peers {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        shown: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.check(shown).map(|()| ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        no_tls12()
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        shown: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.check_signature(message, shown, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }

    fn requires_raw_public_keys(&self) -> bool {
        true
    }
}
