//! What the two clients are told when they start, and the checks of it.

use std::path::PathBuf;
use std::time::Duration;

use super::backoff::BackoffOptions;
use super::error::OptionsError;
use super::socket::Route;
use crate::ids::ServerId;
use crate::limits::WINDOW_MAX;
use crate::protocol::{PLUGIN_PATH, PUBLISHER_PATH};
use crate::tls::ClientTls;

/// The default of `quic_retry`.
const QUIC_RETRY: Duration = Duration::from_secs(60);

/// The default of `gather_reports`: a game server runs commands once a tick, and this is its tick.
const GATHER_REPORTS: Duration = Duration::from_millis(50);

/// How a plugin client connects and what it keeps.
#[derive(Clone)]
pub struct PluginOptions {
    /// The broker: `wss://host:port` or `https://host:port`, and `ws://` or `http://` without TLS; without a path, the
    /// plugins' path is added. Or `quic://host:port`, which falls back to WebSocket by itself where UDP is blocked.
    pub url: String,
    /// Where to connect over WebSocket when the URL is `quic://` and QUIC does not get through: a URL as above, without
    /// QUIC. `None` = `wss://` at the same host and port.
    pub fallback: Option<String>,
    /// How long connections are made over WebSocket after QUIC did not get through and WebSocket did; the next one after
    /// that tries QUIC first again.
    pub quic_retry: Duration,
    /// Whom to trust on `wss://`, `https://` and `quic://`; `None` = the certificate authorities of this system.
    pub tls: Option<ClientTls>,
    /// The server's token, `<server id>.<secret>`.
    pub token: String,
    /// Commands delivered and not yet reported, at most: 0 to `WINDOW_MAX`. More is faster, less is fairer to memory; with
    /// 0 nothing is delivered until [`super::PluginClient::set_window`].
    pub window: u32,
    /// For how long after it has sent reports a client gathers those that come next, to send them together, and for how long
    /// each of them waits for another one, up to four times this in all: 0 = each at once. Never more than a quarter of
    /// the window waits. A busy server's commands show as ended that much later, and cost both ends a fraction.
    pub gather_reports: Duration,
    /// Where to write down what runs; `None` keeps it in memory (see [`super::Ledger::in_memory`]).
    pub ledger: Option<PathBuf>,
    /// Who is online now, if this plugin reports players; `None` = it does not, and commands that need their player
    /// online are sent to it all the same.
    pub players: Option<Vec<Player>>,
    /// Bounds of the wait between connections.
    pub backoff: BackoffOptions,
    /// For connecting and logging in.
    pub connect_timeout: Duration,
}

impl PluginOptions {
    /// Defaults: window 256, reports gathered for 50 ms, no ledger file, players not reported.
    pub fn new(url: impl Into<String>, token: impl Into<String>) -> PluginOptions {
        PluginOptions {
            url: url.into(),
            fallback: None,
            quic_retry: QUIC_RETRY,
            tls: None,
            token: token.into(),
            window: 256,
            gather_reports: GATHER_REPORTS,
            ledger: None,
            players: None,
            backoff: BackoffOptions::default(),
            connect_timeout: Duration::from_secs(15),
        }
    }

    /// The server that the token belongs to.
    pub(super) fn server(&self) -> Result<ServerId, OptionsError> {
        let (server, secret) = self.token.split_once('.').ok_or(OptionsError::Token)?;
        if secret.is_empty() {
            Err(OptionsError::Token)
        } else {
            server.parse().map_err(|_| OptionsError::Token)
        }
    }

    /// Where to connect.
    pub(super) fn route(&self) -> Route<'_> {
        Route {
            url: &self.url,
            fallback: self.fallback.as_deref(),
            path: PLUGIN_PATH,
            credential: &self.token,
            tls: self.tls.as_ref(),
            #[cfg(feature = "quic")]
            quic_retry: self.quic_retry,
            #[cfg(feature = "quic")]
            connect_timeout: self.connect_timeout,
        }
    }

    pub(super) fn check(&self) -> Result<(), OptionsError> {
        self.server()?;
        if self.window > WINDOW_MAX {
            return Err(OptionsError::Range { option: "window", min: 0, max: u64::from(WINDOW_MAX) });
        }
        Ok(())
    }
}

/// How a publisher client connects.
#[derive(Clone)]
pub struct PublisherOptions {
    /// The broker: `wss://host:port` or `https://host:port`, and `ws://` or `http://` without TLS; without a path, the
    /// publishers' path is added. Or `quic://host:port`, which falls back to WebSocket by itself where UDP is blocked.
    pub url: String,
    /// Where to connect over WebSocket when the URL is `quic://` and QUIC does not get through: a URL as above, without
    /// QUIC. `None` = `wss://` at the same host and port.
    pub fallback: Option<String>,
    /// How long connections are made over WebSocket after QUIC did not get through and WebSocket did; the next one after
    /// that tries QUIC first again.
    pub quic_retry: Duration,
    /// Whom to trust on `wss://`, `https://` and `quic://`; `None` = the certificate authorities of this system.
    pub tls: Option<ClientTls>,
    /// An API key that may publish.
    pub key: String,
    /// Publishes that wait for their answer, at most: 1 to 65536. Further calls wait. The broker reads no more than its
    /// own bound (1024 unless set otherwise).
    pub in_flight: u32,
    /// Bounds of the wait between connections.
    pub backoff: BackoffOptions,
    /// For connecting and logging in.
    pub connect_timeout: Duration,
}

impl PublisherOptions {
    /// Defaults: 256 in flight.
    pub fn new(url: impl Into<String>, key: impl Into<String>) -> PublisherOptions {
        PublisherOptions {
            url: url.into(),
            fallback: None,
            quic_retry: QUIC_RETRY,
            tls: None,
            key: key.into(),
            in_flight: 256,
            backoff: BackoffOptions::default(),
            connect_timeout: Duration::from_secs(15),
        }
    }

    /// Where to connect.
    pub(super) fn route(&self) -> Route<'_> {
        Route {
            url: &self.url,
            fallback: self.fallback.as_deref(),
            path: PUBLISHER_PATH,
            credential: &self.key,
            tls: self.tls.as_ref(),
            #[cfg(feature = "quic")]
            quic_retry: self.quic_retry,
            #[cfg(feature = "quic")]
            connect_timeout: self.connect_timeout,
        }
    }

    pub(super) fn check(&self) -> Result<(), OptionsError> {
        if !(1..=65_536).contains(&self.in_flight) {
            return Err(OptionsError::Range { option: "in_flight", min: 1, max: 65_536 });
        }
        if self.key.is_empty() { Err(OptionsError::Key) } else { Ok(()) }
    }
}

/// A player, as the broker and the game know one. Names compare without regard to ASCII case.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Player {
    /// 1 to `PLAYER_NAME_BYTES_MAX` bytes.
    pub name: String,
    /// The UUID as a number, when known.
    pub uuid: Option<u128>,
}

impl Player {
    /// A player without a known UUID.
    pub fn named(name: impl Into<String>) -> Player {
        Player { name: name.into(), uuid: None }
    }
}
