//! Flags of every subcommand that talks to a broker over TLS, and what they come to.

use std::path::PathBuf;

use clap::Args;

use super::exit::CliError;
use crate::tls::{ClientTls, Fingerprint, Trust};

/// Whom to trust on https, wss and quic.
#[derive(Debug, Clone, Default, Args)]
pub(super) struct TlsArgs {
    /// Trust only the certificates in this PEM file and what they issued [default: this system's]
    #[arg(long, env = "FLUXRELAY_TLS_CA", value_name = "FILE", help_heading = "Broker")]
    pub(super) tls_ca: Option<PathBuf>,
    /// Trust only the certificate with this fingerprint, which the broker prints when it starts
    #[arg(long, env = "FLUXRELAY_TLS_FINGERPRINT", value_name = "sha256:HEX", conflicts_with = "tls_ca")]
    #[arg(help_heading = "Broker")]
    pub(super) tls_fingerprint: Option<Fingerprint>,
}

impl TlsArgs {
    /// Whom to trust with this URL; `None` when it is not one with TLS.
    pub(super) fn client(&self, url: &str) -> Result<Option<ClientTls>, CliError> {
        let scheme = url.split_once("://").map_or("", |(scheme, _)| scheme);
        if !["https", "wss", "quic"].iter().any(|secure| scheme.eq_ignore_ascii_case(secure)) {
            return Ok(None);
        }
        let (flag, trust) = match (&self.tls_fingerprint, &self.tls_ca) {
            (Some(fingerprint), _) => ("--tls-fingerprint", Trust::Fingerprint(*fingerprint)),
            (None, Some(file)) => ("--tls-ca", Trust::CaFile(file.clone())),
            (None, None) => ("--url", Trust::System),
        };
        let client = ClientTls::new(&trust);
        client.map(Some).map_err(|error| CliError::usage(format!("{flag}: {error}")))
    }
}
