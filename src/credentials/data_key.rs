//! The secret of a data directory: 32 random bytes in a file outside the database, from which all keyed digests
//! derive. It never leaves this type except as purpose-bound keys.

use std::io;
use std::path::Path;

use zeroize::Zeroize;

use super::private_file::{read_private, write_private};
use super::random::random_bytes;

/// Bytes of the file.
const KEY_BYTES: usize = 32;

/// A data directory's secret.
#[derive(Clone)]
pub struct DataKey([u8; KEY_BYTES]);

impl DataKey {
    /// A new one.
    pub fn generate() -> DataKey {
        DataKey(random_bytes())
    }

    /// A key for one purpose; other purposes' keys say nothing about it.
    pub(super) fn derive(&self, purpose: &str) -> [u8; 32] {
        blake3::derive_key(purpose, &self.0)
    }

    /// A public value by which a database recognises the key that it was made with.
    pub fn check_value(&self) -> [u8; 16] {
        let key = self.derive("fluxrelay 2026 data key check value");
        key[..16].try_into().expect("32 bytes have 16")
    }
}

impl Drop for DataKey {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl std::fmt::Debug for DataKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("DataKey(...)")
    }
}

/// Files that hold a secret: readable by their owner alone, complete and durable once written.
#[derive(Debug, Clone, Copy)]
pub struct DataKeyFile;

impl DataKeyFile {
    /// Reads a data key; `None` when there is no such file.
    ///
    /// # Errors
    /// The file cannot be read, or does not have 32 bytes (`InvalidData`).
    pub fn read(path: &Path) -> io::Result<Option<DataKey>> {
        let Some(bytes) = read_private(path, KEY_BYTES)? else { return Ok(None) };
        let key = bytes.as_slice().try_into().map(DataKey).map_err(|_| {
            io::Error::new(io::ErrorKind::InvalidData, format!("it must have {KEY_BYTES} bytes"))
        });
        key.map(Some)
    }

    /// Writes a data key; it is durable when this returns.
    ///
    /// # Errors
    /// The file or its directory cannot be written.
    pub fn write(path: &Path, key: &DataKey) -> io::Result<()> {
        write_private(path, &key.0)
    }

    /// Writes a text secret with a final newline; it is durable when this returns.
    ///
    /// # Errors
    /// The file or its directory cannot be written.
    pub fn write_text(path: &Path, secret: &super::Secret) -> io::Result<()> {
        let mut text = format!("{}\n", secret.reveal());
        let written = write_private(path, text.as_bytes());
        text.zeroize();
        written
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn reads_back_with_mode_0600() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("secret.key");
        assert!(DataKeyFile::read(&path).unwrap().is_none());
        let key = DataKey::generate();
        DataKeyFile::write(&path, &key).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(DataKeyFile::read(&path).unwrap().unwrap().check_value(), key.check_value());
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn another_length_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("secret.key");
        for length in [0, 31, 33, 1000] {
            std::fs::write(&path, vec![7; length]).unwrap();
            assert_eq!(DataKeyFile::read(&path).unwrap_err().kind(), io::ErrorKind::InvalidData, "{length}");
        }
    }

    #[test]
    fn purposes_have_their_own_keys() {
        let key = DataKey::generate();
        assert_ne!(key.derive("a"), key.derive("b"));
        assert_ne!(key.derive("a"), DataKey::generate().derive("a"));
    }
}
