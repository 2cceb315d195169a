//! TLS for both ends, by rustls with aws-lc-rs: a server's certificate and its reload, whom a client trusts.
//!
//! A leaf: opens no socket, knows no frame and no setting. Never reads a clock (rustls does, to check certificates), never
//! logs or shows a key.

mod client;
mod dates;
mod error;
mod fingerprint;
mod hello;
mod pem;
mod problem;
#[cfg(feature = "quic")]
mod quic;
mod returning;
mod self_signed;
mod server;
mod sessions;
mod stream;

use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::sync::{Arc, LazyLock};

use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::{CipherSuite, NamedGroup};

pub(crate) use client::server_name;
pub use client::{ClientTls, Trust};
pub use error::TlsError;
pub use fingerprint::{Fingerprint, FingerprintError};
pub use problem::CertificateProblem;
#[cfg(feature = "quic")]
pub(crate) use quic::QuicTls;
pub(crate) use returning::ReturningTls;
pub use server::ServerTls;
pub use sessions::SessionClock;
pub(crate) use stream::{Readable, Stream};

/// What is spoken inside TLS on TCP.
const ALPN_HTTP: &[u8] = b"http/1.1";
/// What is spoken inside QUIC.
const ALPN_QUIC: &[u8] = b"fluxrelay.v1";

/// Makes a folder that its owner alone may open, where there is none.
fn make_private_folder(folder: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(folder)
}

/// The one provider of cryptography, with rustls' suites: TLS 1.3, and of TLS 1.2 those with forward secrecy. AES-128 with
/// SHA-256 stands first: processors have instructions for both, and SHA-384 takes a seventh of a handshake without.
fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: LazyLock<Arc<CryptoProvider>> = LazyLock::new(|| {
        let mut provider = aws_lc_rs::default_provider();
        provider.cipher_suites.sort_by_key(|suite| !is_quick(suite.suite()));
        provider.into()
    });
    PROVIDER.clone()
}

/// The same, with the key exchanges without ML-KEM first: for handshakes that rest on a session.
fn quick_provider() -> Arc<CryptoProvider> {
    static PROVIDER: LazyLock<Arc<CryptoProvider>> = LazyLock::new(|| {
        let mut quick = CryptoProvider::clone(&provider());
        quick.kx_groups.sort_by_key(|group| group.name() == NamedGroup::X25519MLKEM768);
        quick.into()
    });
    PROVIDER.clone()
}

fn is_quick(suite: CipherSuite) -> bool {
    matches!(
        suite,
        CipherSuite::TLS13_AES_128_GCM_SHA256
            | CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256
            | CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256
    )
}
