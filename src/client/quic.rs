//! Dialling over QUIC: the handshake and the one stream. Knows no frame, and no WebSocket.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use quinn::crypto::rustls::QuicClientConfig;
use quinn::{ClientConfig, ConnectionError, Endpoint};
use tokio::time::{Instant, timeout};

use super::error::ClientError;
use super::socket::SocketError;
use crate::carrier::{Framing, Quic, transport_config};
use crate::protocol::frame_bytes;
use crate::tls::{ClientTls, QuicTls};

/// How long QUIC may take to connect before WebSocket is tried: several times as long as a handshake around the world.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// Without a packet for so long a connection ends by itself; the heartbeat, which the broker sets, notices much earlier.
const IDLE: Duration = Duration::from_secs(60);

/// A broker that may be reached over QUIC.
pub(super) struct QuicTarget {
    /// `host:port`.
    text: String,
    /// What its certificate must be for.
    name: String,
    tls: QuicTls,
    config: ClientConfig,
    /// How long connecting may take.
    patience: Duration,
    /// A certificate of this broker was accepted before.
    accepted: bool,
    /// How long QUIC is left alone after it did not get through, and until when it is.
    rest: Duration,
    rests_until: Option<Instant>,
}

impl QuicTarget {
    /// `text` is `host:port`.
    pub(super) fn new(
        (text, host): (String, &str),
        tls: &ClientTls,
        rest: Duration,
        connect_timeout: Duration,
    ) -> QuicTarget {
        let tls = QuicTls::new(tls);
        let crypto = QuicClientConfig::try_from(tls.config())
            .expect("our TLS 1.3 has the suite of QUIC's first packets");
        let mut config = ClientConfig::new(Arc::new(crypto));
        config.transport_config(Arc::new(transport_config(IDLE)));
        let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        QuicTarget {
            text,
            name: bare.to_owned(),
            tls,
            config,
            patience: CONNECT_TIMEOUT.min(connect_timeout / 2),
            accepted: false,
            rest,
            rests_until: None,
        }
    }

    /// Whether it is worth a try now.
    pub(super) fn is_due(&self) -> bool {
        self.rests_until.is_none_or(|until| Instant::now() >= until)
    }

    /// WebSocket got through where this did not.
    pub(super) fn rest(&mut self) {
        self.rests_until = Some(Instant::now() + self.rest);
    }

    /// Connects, to one address of the name after the other.
    pub(super) async fn dial(&mut self) -> Result<Quic, SocketError> {
        let lost = |error| SocketError::Lost(format!("cannot find {}: {error}", self.text));
        let started = Instant::now();
        let looking = timeout(self.patience, tokio::net::lookup_host(&self.text)).await;
        let found = looking.unwrap_or_else(|late| Err(late.into())).map_err(lost)?;
        let addresses: Vec<SocketAddr> = found.collect();
        let mut last = SocketError::Lost(format!("{} has no address", self.text));
        for (place, address) in addresses.iter().enumerate() {
            let left = self.patience.saturating_sub(started.elapsed());
            let share = left / u32::try_from(addresses.len() - place).unwrap_or(u32::MAX);
            let connecting = timeout(share, self.connect(*address)).await;
            match connecting.unwrap_or_else(|_| Err("nobody answered".to_owned())) {
                Ok(wire) => {
                    self.accepted = true;
                    self.rests_until = None;
                    return Ok(wire);
                }
                Err(reason) => last = self.no_quic(*address, &reason),
            }
            if matches!(last, SocketError::Foreign(_)) {
                break;
            }
        }
        Err(last)
    }

    async fn connect(&self, address: SocketAddr) -> Result<Quic, String> {
        let any = match address {
            SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
            SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
        };
        let words = |error: ConnectionError| error.to_string();
        // A socket of its own for each connection: it lives as long as that does.
        let endpoint = Endpoint::client(any).map_err(|error| error.to_string())?;
        let connecting = endpoint.connect_with(self.config.clone(), address, &self.name);
        let connection = connecting.map_err(|error| error.to_string())?.await.map_err(words)?;
        let streams = connection.open_bi().await.map_err(words)?;
        Ok(Quic::client(connection, streams, Framing { frame_bytes, admits: None }))
    }

    fn no_quic(&self, address: SocketAddr, reason: &str) -> SocketError {
        match self.tls.take_problem() {
            Some(problem) if problem.passes() || self.accepted => {
                SocketError::Lost(format!("{}: {problem}: {}", self.text, problem.advice()))
            }
            Some(problem) => SocketError::Foreign(ClientError::Certificate(problem)),
            None => SocketError::Lost(format!("no QUIC with {} ({address}): {reason}", self.text)),
        }
    }
}
