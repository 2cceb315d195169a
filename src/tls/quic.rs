//! A client's TLS inside QUIC, and the certificate that it refused: QUIC itself passes on no more than an alert's number.

use std::sync::Arc;

use parking_lot::Mutex;
use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, Error, SignatureScheme};

use super::problem::CertificateProblem;
use super::{ALPN_QUIC, ClientTls};
use crate::limits::TLS_SESSIONS_KEPT;

/// The client's side for one broker: the trust of a [`ClientTls`], sessions of its own, no early data.
#[derive(Clone)]
pub(crate) struct QuicTls {
    config: Arc<ClientConfig>,
    verifier: Arc<Noting>,
}

impl QuicTls {
    /// Trusts whom `tls` trusts.
    pub(crate) fn new(tls: &ClientTls) -> QuicTls {
        let verifier = Arc::new(Noting { inner: tls.verifier(), refused: Mutex::default() });
        let mut config = ClientConfig::clone(&tls.config());
        config.dangerous().set_certificate_verifier(verifier.clone());
        config.alpn_protocols = vec![ALPN_QUIC.to_vec()];
        config.resumption = Resumption::in_memory_sessions(TLS_SESSIONS_KEPT);
        QuicTls { config: Arc::new(config), verifier }
    }

    /// For quinn.
    pub(crate) fn config(&self) -> Arc<ClientConfig> {
        self.config.clone()
    }

    /// Why the latest certificate was not accepted; once for each refusal.
    pub(crate) fn take_problem(&self) -> Option<CertificateProblem> {
        self.verifier.refused.lock().take()
    }
}

/// Decides as `inner` does, and keeps the reason of a refusal.
#[derive(Debug)]
struct Noting {
    inner: Arc<dyn ServerCertVerifier>,
    refused: Mutex<Option<CertificateProblem>>,
}

impl ServerCertVerifier for Noting {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let verified =
            self.inner.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now);
        *self.refused.lock() = verified.as_ref().err().and_then(CertificateProblem::of_error);
        verified
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls12_signature(message, cert, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls13_signature(message, cert, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}
