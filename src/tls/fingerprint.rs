//! The fingerprint of a certificate: SHA-256 over its DER bytes, written `sha256:` and 64 hexadecimal digits.

use std::fmt;
use std::str::FromStr;

use aws_lc_rs::digest::{SHA256, digest};
use rustls::pki_types::CertificateDer;

/// How it begins.
const PREFIX: &str = "sha256:";

/// The SHA-256 fingerprint of a certificate. Not a secret.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fingerprint([u8; 32]);

impl Fingerprint {
    /// That of this certificate.
    pub(super) fn of(certificate: &CertificateDer<'_>) -> Fingerprint {
        let hash = digest(&SHA256, certificate);
        Fingerprint(hash.as_ref().try_into().expect("SHA-256 has 32 bytes"))
    }

    /// The hash itself.
    pub(super) fn bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(PREFIX)?;
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A text that is no fingerprint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected sha256: and 64 hexadecimal digits, as the broker prints it when it starts")]
pub struct FingerprintError;

/// Reads what `Display` writes; also in capitals and with colons between the bytes, as openssl shows it.
impl FromStr for Fingerprint {
    type Err = FingerprintError;

    fn from_str(text: &str) -> Result<Fingerprint, FingerprintError> {
        let text = text.trim();
        let (prefix, digits) = text.split_at_checked(PREFIX.len()).ok_or(FingerprintError)?;
        let digits = match digits.len() {
            64 => digits.to_owned(),
            95 if digits.bytes().skip(2).step_by(3).all(|byte| byte == b':') => digits.replace(':', ""),
            _ => return Err(FingerprintError),
        };
        let hexadecimal = digits.len() == 64 && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
        if !prefix.eq_ignore_ascii_case(PREFIX) || !hexadecimal {
            return Err(FingerprintError);
        }
        let mut bytes = [0; 32];
        for (place, byte) in bytes.iter_mut().enumerate() {
            let pair = &digits[2 * place..2 * place + 2];
            *byte = u8::from_str_radix(pair, 16).expect("two hexadecimal digits");
        }
        Ok(Fingerprint(bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_sha_256_over_the_bytes() {
        let fingerprint = Fingerprint::of(&CertificateDer::from(b"abc".as_slice()));
        let expected = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(fingerprint.to_string(), expected);
    }

    #[test]
    fn texts() {
        let fingerprint = Fingerprint(std::array::from_fn(|place| place as u8 * 7));
        let text = fingerprint.to_string();
        let digits = &text[PREFIX.len()..];
        let pairs: Vec<&str> = (0..32).map(|place| &digits[2 * place..2 * place + 2]).collect();
        let openssl = format!("SHA256:{}", pairs.join(":").to_uppercase());
        for good in [&text, &openssl, &format!(" {text}\n")] {
            assert_eq!(good.parse(), Ok(fingerprint), "{good:?}");
        }
        let cut = &text[..text.len() - 1];
        let colons = format!("sha256:{}", ":".repeat(95));
        let wrong = text.replacen("sha256", "sha512", 1);
        let umlaut = format!("sha256:{}", "ä".repeat(32));
        for bad in ["", "sha256:", digits, cut, &format!("{text}0"), &colons, &wrong, &umlaut, "ää"] {
            assert_eq!(bad.parse::<Fingerprint>(), Err(FingerprintError), "{bad:?}");
        }
    }
}
