//! A certificate authority of a test's own, with files as an operator has them.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use tempfile::TempDir;

/// A CA (`ca.crt`), and the certificates that it issued, in a folder.
pub(crate) struct Pki {
    folder: TempDir,
    pub(crate) ca: CertifiedIssuer<'static, KeyPair>,
}

impl Pki {
    /// With the certificate `a` for localhost.
    pub(crate) fn new() -> Pki {
        let mut params = CertificateParams::new(Vec::new()).expect("no names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        let ca = CertifiedIssuer::self_signed(params, key).expect("a CA");
        let pki = Pki { folder: tempfile::tempdir().expect("a folder"), ca };
        pki.write("ca.crt", &pki.ca.pem());
        pki.issue("a", |_| {});
        pki
    }

    /// Writes `<name>.crt` and `<name>.key`, each at once, in place of those that are there.
    pub(crate) fn issue(&self, name: &str, change: impl FnOnce(&mut CertificateParams)) {
        let key = KeyPair::generate().expect("a key");
        let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
        let mut params = CertificateParams::new(names).expect("good names");
        change(&mut params);
        let certificate = params.signed_by(&key, &self.ca).expect("a certificate");
        self.write(&format!("{name}.crt"), &certificate.pem());
        self.write(&format!("{name}.key"), &key.serialize_pem());
    }

    /// The file of this name.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes a file that only its owner may read.
    pub(crate) fn write(&self, name: &str, text: &str) -> PathBuf {
        write_private(&self.path(name), text);
        self.path(name)
    }
}

fn write_private(file: &Path, text: &str) {
    let beside = file.with_extension("new");
    std::fs::write(&beside, text).expect("a writable folder");
    std::fs::set_permissions(&beside, std::fs::Permissions::from_mode(0o600)).expect("our own file");
    std::fs::rename(&beside, file).expect("the same folder");
}
