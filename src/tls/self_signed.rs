//! The certificate that a broker makes for itself: for development, and for whoever pins fingerprints.
//!
//! The pair lies in the data directory and stays the same until it expires, so that a pinned fingerprint goes on to hold.

use std::path::{Path, PathBuf};
use std::time::Duration;

use rcgen::{CertificateParams, DnType, ExtendedKeyUsagePurpose, KeyPair, PKCS_ECDSA_P256_SHA256};

use super::dates::time_flaw;
use super::error::TlsError;
use super::pem;
use crate::credentials::{DataKeyFile, Secret, TLS_CERT_FILE as CERT_FILE, TLS_KEY_FILE as KEY_FILE};
use crate::time::UnixMs;

/// What clients know the machine by when they run on it.
const NAMES: [&str; 3] = ["localhost", "127.0.0.1", "::1"];
/// Ten years: a new certificate means that every client has to pin again.
const VALID: Duration = Duration::from_secs(3650 * DAY_SECONDS);
/// It begins a day early, for clients whose clock is behind.
const EARLY: Duration = Duration::from_secs(DAY_SECONDS);
const DAY_SECONDS: u64 = 24 * 3600;

/// The files of the pair in this directory: those that are there if they can still be used at this time, else new ones.
pub(super) fn files(dir: &Path, now: UnixMs) -> Result<(PathBuf, PathBuf), TlsError> {
    let (cert, key) = (dir.join(CERT_FILE), dir.join(KEY_FILE));
    let usable = match pem::certified_key(&cert, &key) {
        Ok(pair) => time_flaw(&pair, now).is_none(),
        // Half a pair is what a crash between the two files leaves.
        Err(TlsError::Mismatch { .. }) => false,
        Err(TlsError::Unreadable { .. }) if !cert.exists() => false,
        // What somebody else put there is not overwritten.
        Err(error) => return Err(error),
    };
    if !usable {
        make(&cert, &key, now).map_err(|detail| TlsError::SelfSigned { dir: dir.to_path_buf(), detail })?;
    }
    Ok((cert, key))
}

fn make(cert: &Path, key: &Path, now: UnixMs) -> Result<(), String> {
    let words = |error: rcgen::Error| error.to_string();
    let pair = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(words)?;
    let mut params = CertificateParams::new(NAMES.map(String::from)).map_err(words)?;
    params.distinguished_name.push(DnType::CommonName, "fluxrelay, self-signed");
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let now = rcgen::date_time_ymd(1970, 1, 1) + Duration::from_millis(now.0);
    params.not_before = now - EARLY;
    params.not_after = now + VALID;
    let certificate = params.self_signed(&pair).map_err(words)?;
    let dir = cert.parent().unwrap_or(Path::new("."));
    super::make_private_folder(dir).map_err(|error| error.to_string())?;
    let store = |file: &Path, text: String| {
        let stored = DataKeyFile::write_text(file, &Secret::new(text));
        stored.map_err(|error| format!("cannot write {}: {error}", file.display()))
    };
    store(key, pair.serialize_pem())?;
    store(cert, certificate.pem())
}
