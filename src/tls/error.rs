//! What can be wrong with certificates, keys and roots. Each message names the file and says what to do; none holds a
//! byte of a key.

use std::path::PathBuf;

use crate::limits::PEM_BYTES_MAX;

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TlsError {
    /// The file cannot be read.
    #[error("cannot read {}: {detail}", file.display())]
    Unreadable {
        /// The file.
        file: PathBuf,
        /// The system's words.
        detail: String,
    },
    /// The file is no file of certificates.
    #[error("{} has more than {PEM_BYTES_MAX} bytes: is it a PEM file?", file.display())]
    TooLarge {
        /// The file.
        file: PathBuf,
    },
    /// A section of the file is damaged.
    #[error("{} is not valid PEM: {detail}", file.display())]
    NotPem {
        /// The file.
        file: PathBuf,
        /// The parser's words.
        detail: String,
    },
    /// There is no certificate in it.
    #[error(
        "{} holds no certificate: it must have the server's own first and its chain after it, each between \
         BEGIN CERTIFICATE and END CERTIFICATE",
        file.display()
    )]
    NoCertificate {
        /// The file.
        file: PathBuf,
    },
    /// There is no key in it.
    #[error("{} holds no private key: it must have one, between BEGIN PRIVATE KEY and END PRIVATE KEY", file.display())]
    NoKey {
        /// The file.
        file: PathBuf,
    },
    /// The key has a passphrase.
    #[error(
        "the key in {} is encrypted: write it without a passphrase (openssl pkey -in OLD -out NEW), in a file that only \
         the broker's user can read",
        file.display()
    )]
    EncryptedKey {
        /// The file.
        file: PathBuf,
    },
    /// The certificate cannot be parsed.
    #[error("the certificate in {} cannot be used: {detail}", file.display())]
    BadCertificate {
        /// The file.
        file: PathBuf,
        /// What rustls says.
        detail: String,
    },
    /// The key is of a kind that nobody could use.
    #[error(
        "the key in {} cannot be used ({detail}): use RSA of 2048 to 8192 bits, ECDSA on P-256, P-384 or P-521, or \
         Ed25519",
        file.display()
    )]
    BadKey {
        /// The file.
        file: PathBuf,
        /// What rustls says.
        detail: String,
    },
    /// Two files that are no pair.
    #[error(
        "the key in {} does not belong to the first certificate in {}: give the two files of one pair, the server's \
         own certificate before its chain",
        key.display(),
        cert.display()
    )]
    Mismatch {
        /// The certificate's file.
        cert: PathBuf,
        /// The key's file.
        key: PathBuf,
    },
    /// The self-signed certificate cannot be made or stored.
    #[error("cannot make a self-signed certificate in {}: {detail}", dir.display())]
    SelfSigned {
        /// The data directory.
        dir: PathBuf,
        /// What failed.
        detail: String,
    },
    /// A client that trusts nobody.
    #[error(
        "this system has no trusted certificates{detail}: install them (ca-certificates), or trust the broker's CA \
         file or fingerprint"
    )]
    NoRoots {
        /// What stood in the way, after a colon, or nothing.
        detail: String,
    },
    /// No random numbers for the keys of session tickets.
    #[error("cannot draw keys for session tickets: {0}")]
    Tickets(String),
}
