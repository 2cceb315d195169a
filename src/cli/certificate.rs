//! The broker's certificate: read at start, and kept current while the broker runs.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use tokio::signal::unix::Signal;
use tokio::time::{MissedTickBehavior, interval};

use super::clock;
use super::exit::CliError;
use crate::config::Config;
use crate::credentials::SESSION_KEYS_FILE;
use crate::storage::mirror::Mirror;
use crate::tls::{ServerTls, TlsError};

/// How often its files and the age of its sessions' key are looked at. A look costs two `stat` calls.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// The certificate that the settings name, if they name one.
pub(super) fn open(config: &Config) -> Result<Option<ServerTls>, CliError> {
    let opened = match (&config.tls_cert, &config.tls_key) {
        (Some(cert), Some(key)) => ServerTls::open(cert, key),
        _ if config.tls_self_signed => ServerTls::self_signed(&config.data_dir, clock::unix_now()),
        _ => return Ok(None),
    };
    let tls = opened.map_err(|error| CliError::usage(error.to_string()))?;
    warn_of_dates(&tls);
    tls.keep_sessions(&config.data_dir, Arc::new(clock::unix_now));
    Ok(Some(tls))
}

/// Reads the certificate again at each SIGHUP and whenever its files change, and renews the key of its sessions, for ever. One that cannot be used is
/// logged, and the old one stays.
pub(super) async fn keep_current(
    tls: Option<ServerTls>,
    mirror: Option<Mirror>,
    mut hangup: Signal,
) -> Infallible {
    let mut look = interval(LOOK_EVERY);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let asked = tokio::select! {
            _ = hangup.recv() => true,
            _ = look.tick(), if tls.is_some() => false,
        };
        let Some(tls) = &tls else {
            tracing::info!("SIGHUP: there is no certificate to read again");
            continue;
        };
        let working = tls.clone();
        let mirror = mirror.clone();
        let read = move || {
            working.renew_session_key();
            // Whatever wrote it; one that is the same costs a read.
            if let Some(mirror) = &mirror {
                mirror.copy_small(SESSION_KEYS_FILE);
            }
            if asked { Some(working.reload()) } else { working.reload_if_changed() }
        };
        match tokio::task::spawn_blocking(read).await {
            Ok(Some(result)) => tell(tls, result),
            Ok(None) => {}
            Err(error) => tracing::error!(%error, "reading the certificate failed"),
        }
    }
}

fn tell(tls: &ServerTls, result: Result<(), TlsError>) {
    match result {
        Ok(()) => {
            tracing::info!(fingerprint = %tls.fingerprint(), "the certificate was read again");
            warn_of_dates(tls);
        }
        Err(error) => {
            tracing::error!(%error, fingerprint = %tls.fingerprint(), "the old certificate stays");
        }
    }
}

fn warn_of_dates(tls: &ServerTls) {
    if let Some(flaw) = tls.time_flaw(clock::unix_now()) {
        tracing::warn!(fingerprint = %tls.fingerprint(), flaw, "clients will refuse the certificate");
    }
}
