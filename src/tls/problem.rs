//! Why a client does not accept a broker's certificate, in words for whoever has to act.

use std::io;

use rustls::{CertificateError, Error};

use super::fingerprint::Fingerprint;

/// The certificate is another one than the pinned one.
#[derive(Debug, Clone, Copy, thiserror::Error)]
#[error("it has the fingerprint {presented}, not {pinned}")]
pub(super) struct WrongFingerprint {
    pub(super) presented: Fingerprint,
    pub(super) pinned: Fingerprint,
}

/// A certificate that was not accepted: why, and what to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateProblem {
    words: String,
    advice: &'static str,
    passes: bool,
}

/// What to do about a certificate that nobody vouches for.
const TRUST: &str = "trust the CA that issued it (--tls-ca FILE) or this one certificate (--tls-fingerprint sha256:..., \
                     which the broker prints when it starts)";

impl CertificateProblem {
    /// The problem in the error of a connection, if a certificate was the cause.
    pub fn of(error: &io::Error) -> Option<CertificateProblem> {
        CertificateProblem::of_error(error.get_ref()?.downcast_ref::<Error>()?)
    }

    /// The problem in an error of TLS, if a certificate was the cause.
    pub(super) fn of_error(error: &Error) -> Option<CertificateProblem> {
        match error {
            Error::InvalidCertificate(flaw) => Some(CertificateProblem::of_flaw(flaw)),
            _ => None,
        }
    }

    fn of_flaw(flaw: &CertificateError) -> CertificateProblem {
        use CertificateError as Flaw;
        let problem = |words: String, advice, passes| CertificateProblem { words, advice, passes };
        match flaw {
            Flaw::Expired | Flaw::ExpiredContext { .. } => problem(
                "it has expired".into(),
                "renew the broker's certificate, or set this machine's clock",
                true,
            ),
            Flaw::NotValidYet | Flaw::NotValidYetContext { .. } => {
                problem("it is not valid yet".into(), "set this machine's clock, or the broker's", true)
            }
            Flaw::UnknownIssuer | Flaw::BadSignature => {
                problem("its issuer is not trusted here".into(), TRUST, false)
            }
            Flaw::NotValidForName | Flaw::NotValidForNameContext { .. } => {
                let words = match flaw {
                    Flaw::NotValidForNameContext { presented, .. } if !presented.is_empty() => {
                        format!("it is for another name: {}", presented.join(", "))
                    }
                    _ => "it is for another name".into(),
                };
                let advice = "use the name that it is for in the URL, or trust this one certificate \
                              (--tls-fingerprint sha256:...)";
                problem(words, advice, false)
            }
            Flaw::Other(other) => match other.0.downcast_ref::<WrongFingerprint>() {
                Some(wrong) => {
                    let advice = "if the broker's certificate was changed on purpose, pin the new fingerprint, which \
                                  it prints when it starts; else somebody is in between";
                    problem(wrong.to_string(), advice, false)
                }
                None => problem(flaw.to_string(), TRUST, false),
            },
            flaw => problem(flaw.to_string(), TRUST, false),
        }
    }

    /// What to do.
    pub fn advice(&self) -> &'static str {
        self.advice
    }

    /// True for what time or a clock mends without a change on this side.
    pub fn passes(&self) -> bool {
        self.passes
    }
}

/// Why it is not accepted, after "the broker's certificate is not accepted: ".
impl std::fmt::Display for CertificateProblem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "the broker's certificate is not accepted: {}", self.words)
    }
}
