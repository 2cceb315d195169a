//! PEM files of certificates and keys: bounded reads, and a sentence for each way in which they can be wrong.

use std::fs::{File, Metadata};
use std::io::Read;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use rustls::pki_types::pem::{Error as PemError, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use rustls::{Error, InconsistentKeys};
use zeroize::Zeroizing;

use super::error::TlsError;
use super::provider;
use crate::limits::PEM_BYTES_MAX;

/// A chain and its key, which belongs to the first certificate.
pub(super) fn certified_key(cert: &Path, key: &Path) -> Result<CertifiedKey, TlsError> {
    let chain = certificates(cert)?;
    let private = private_key(key)?;
    let loaded = CertifiedKey::from_der(chain, private, &provider());
    loaded.map_err(|error| match error {
        Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => {
            TlsError::Mismatch { cert: cert.to_path_buf(), key: key.to_path_buf() }
        }
        Error::InvalidCertificate(_) => {
            TlsError::BadCertificate { file: cert.to_path_buf(), detail: error.to_string() }
        }
        _ => TlsError::BadKey { file: key.to_path_buf(), detail: error.to_string() },
    })
}

/// All certificates in a file; at least one.
pub(super) fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let (bytes, _) = read(file)?;
    let chain: Result<Vec<_>, PemError> = CertificateDer::pem_slice_iter(&bytes).collect();
    let chain = chain.map_err(|error| not_pem(file, &error))?;
    if chain.is_empty() {
        return Err(TlsError::NoCertificate { file: file.to_path_buf() });
    }
    Ok(chain)
}

fn private_key(file: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    let (bytes, metadata) = read(file)?;
    let mode = metadata.permissions().mode();
    if mode & 0o007 != 0 {
        tracing::warn!(file = %file.display(), mode = format!("{:o}", mode & 0o777), "everybody may read this key: chmod 600 it");
    }
    PrivateKeyDer::from_pem_slice(&bytes).map_err(|error| {
        let encrypted = bytes.windows(9).any(|window| window == b"ENCRYPTED");
        match error {
            _ if encrypted => TlsError::EncryptedKey { file: file.to_path_buf() },
            PemError::NoItemsFound => TlsError::NoKey { file: file.to_path_buf() },
            error => not_pem(file, &error),
        }
    })
}

fn not_pem(file: &Path, error: &PemError) -> TlsError {
    // The parser quotes what it cannot read, and that may be a piece of a key.
    let detail = match error {
        PemError::MissingSectionEnd { .. } => "a section has no END line",
        PemError::IllegalSectionStart { .. } => "a BEGIN line is malformed",
        PemError::Base64Decode(_) => "a section is not base64",
        _ => "it cannot be parsed",
    };
    TlsError::NotPem { file: file.to_path_buf(), detail: detail.into() }
}

fn read(file: &Path) -> Result<(Zeroizing<Vec<u8>>, Metadata), TlsError> {
    let unreadable =
        |error: std::io::Error| TlsError::Unreadable { file: file.to_path_buf(), detail: error.to_string() };
    let opened = File::open(file).map_err(unreadable)?;
    let metadata = opened.metadata().map_err(unreadable)?;
    if metadata.len() > PEM_BYTES_MAX as u64 {
        return Err(TlsError::TooLarge { file: file.to_path_buf() });
    }
    // Growing would leave pieces of a key behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(metadata.len() as usize + 1));
    opened.take(PEM_BYTES_MAX as u64 + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() > PEM_BYTES_MAX {
        return Err(TlsError::TooLarge { file: file.to_path_buf() });
    }
    Ok((bytes, metadata))
}

/// By what one sees that a file is another one than before, without reading it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stamp {
    inode: (u64, u64),
    bytes: u64,
    modified: (i64, i64),
}

impl Stamp {
    /// That of the file now; `None` while there is none.
    pub(super) fn of(file: &Path) -> Option<Stamp> {
        let metadata = std::fs::metadata(file).ok()?;
        Some(Stamp {
            inode: (metadata.dev(), metadata.ino()),
            bytes: metadata.len(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
        })
    }
}
