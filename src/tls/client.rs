//! Whom a client trusts: the system's certificate authorities, those in a file, or one certificate by its fingerprint.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    CertificateError, ClientConfig, DEFAULT_VERSIONS, DigitallySignedStruct, Error, OtherError,
    RootCertStore, SignatureScheme,
};

use super::error::TlsError;
use super::fingerprint::Fingerprint;
use super::problem::WrongFingerprint;
use super::{ALPN_HTTP, pem, provider};
use crate::limits::TLS_SESSIONS_KEPT;

/// Whom a client trusts.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Trust {
    /// The certificate authorities of this system (`SSL_CERT_FILE` and `SSL_CERT_DIR` name others).
    #[default]
    System,
    /// Only the certificates in this PEM file, and what they issued.
    CaFile(PathBuf),
    /// Only the certificate with this fingerprint, whatever its names, dates and issuer.
    Fingerprint(Fingerprint),
}

/// The client's side of TLS: TLS 1.2 at least, session resumption, no early data. Cheap to clone: one that trusts the
/// system's authorities holds all of them, so share it among clients.
#[derive(Clone)]
pub struct ClientTls {
    config: Arc<ClientConfig>,
    /// The one in `config`, which does not give it out.
    verifier: Arc<dyn ServerCertVerifier>,
}

impl fmt::Debug for ClientTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ClientTls")
    }
}

impl ClientTls {
    /// Reads what is trusted.
    ///
    /// # Errors
    /// The CA file cannot be used, or the system trusts nobody.
    pub fn new(trust: &Trust) -> Result<ClientTls, TlsError> {
        let verifier = match trust {
            Trust::System => by_roots(system_roots()?),
            Trust::CaFile(file) => by_roots(roots_of(file)?),
            Trust::Fingerprint(pinned) => Arc::new(Pinned::new(*pinned)),
        };
        let mut config = ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(DEFAULT_VERSIONS)
            .expect("the provider has suites for these versions")
            .dangerous()
            .with_custom_certificate_verifier(verifier.clone())
            .with_no_client_auth();
        config.alpn_protocols = vec![ALPN_HTTP.to_vec()];
        config.resumption = Resumption::in_memory_sessions(TLS_SESSIONS_KEPT);
        Ok(ClientTls { config: Arc::new(config), verifier })
    }

    /// For rustls.
    pub(crate) fn config(&self) -> Arc<ClientConfig> {
        self.config.clone()
    }

    /// What decides whether a certificate is accepted.
    pub(super) fn verifier(&self) -> Arc<dyn ServerCertVerifier> {
        self.verifier.clone()
    }
}

/// The name that a certificate must be for, from the host of a URL; `None` when it can be no such name.
pub(crate) fn server_name(host: &str) -> Option<ServerName<'static>> {
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    ServerName::try_from(bare.to_owned()).ok()
}

fn by_roots(roots: RootCertStore) -> Arc<dyn ServerCertVerifier> {
    WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider())
        .build()
        .expect("there are roots, and no lists of revoked certificates that could be wrong")
}

fn system_roots() -> Result<RootCertStore, TlsError> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    // A system's bundle may hold a certificate that is too odd to parse; the others count all the same.
    roots.add_parsable_certificates(found.certs);
    if roots.is_empty() {
        let detail = found.errors.first().map(|error| format!(" ({error})")).unwrap_or_default();
        return Err(TlsError::NoRoots { detail });
    }
    Ok(roots)
}

fn roots_of(file: &Path) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in pem::certificates(file)? {
        roots.add(certificate).map_err(|error| TlsError::BadCertificate {
            file: file.to_path_buf(),
            detail: error.to_string(),
        })?;
    }
    Ok(roots)
}

/// Accepts one certificate. That the server holds its key is still proven by the handshake's signature.
#[derive(Debug)]
struct Pinned {
    fingerprint: Fingerprint,
    algorithms: WebPkiSupportedAlgorithms,
}

impl Pinned {
    fn new(fingerprint: Fingerprint) -> Pinned {
        Pinned { fingerprint, algorithms: provider().signature_verification_algorithms }
    }
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let presented = Fingerprint::of(end_entity);
        if presented == self.fingerprint {
            return Ok(ServerCertVerified::assertion());
        }
        let wrong = WrongFingerprint { presented, pinned: self.fingerprint };
        Err(Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(wrong)))))
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, signature, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
