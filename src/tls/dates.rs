//! Whether a certificate's dates hold. The time is an argument.

use std::sync::Arc;
use std::time::Duration;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::sign::CertifiedKey;
use rustls::{CertificateError, Error, RootCertStore};

use super::provider;
use crate::time::UnixMs;

/// Why a certificate cannot be used at this time; `None` when time does not stand against it.
pub(super) fn time_flaw(pair: &CertifiedKey, now: UnixMs) -> Option<&'static str> {
    let certificate = pair.cert.first()?;
    // Whether it is trusted is its clients' business: as its own root, only its dates can stand against it.
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from(certificate.as_ref())).ok()?;
    let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider()).build().ok()?;
    let name = ServerName::try_from("localhost").expect("localhost is a name");
    let at = UnixTime::since_unix_epoch(Duration::from_millis(now.0));
    match verifier.verify_server_cert(certificate, &[], &name, &[], at) {
        Err(Error::InvalidCertificate(
            CertificateError::Expired | CertificateError::ExpiredContext { .. },
        )) => Some("it has expired"),
        Err(Error::InvalidCertificate(
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. },
        )) => Some("it is not valid yet"),
        _ => None,
    }
}
