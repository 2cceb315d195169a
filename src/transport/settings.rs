//! What an operator may choose about connections.

use std::time::Duration;

use crate::tls::ServerTls;

/// Settings of the listener and of every connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TransportSettings {
    /// Open sockets at most, HTTP ones included; one more is answered 503.
    pub connections_max: usize,
    /// Of them, those of one network (IPv4 /24, IPv6 /56); one more is answered 503. 0 = no limit.
    pub connections_per_network_max: usize,
    /// Threads for who is not logged in yet, at least 1.
    pub door_threads: usize,
    /// From accepting a socket to the end of its login, TLS handshake included, and for the headers of each HTTP request.
    /// When many come at once, the wait for a socket's turn is not counted, and is no longer than twice this.
    pub login_timeout: Duration,
    /// A peer that was silent for this long is pinged; after two and a half to three times as long it is gone.
    pub heartbeat: Duration,
    /// A peer that takes no byte for this long, while bytes wait for it, is a slow reader.
    pub write_timeout: Duration,
    /// Publishes of one connection that wait for their answer; at that many no more is read from it.
    pub publish_window: u32,
    /// What a plugin is told of the engine's ack deadline; has to be the engine's own setting.
    pub ack_deadline: Duration,
    /// How long open requests and connections have to end once the broker stops.
    pub shutdown_grace: Duration,
    /// The certificate, if sockets speak TLS; `None` = plain text.
    pub tls: Option<ServerTls>,
}

impl Default for TransportSettings {
    fn default() -> Self {
        TransportSettings {
            connections_max: 65_536,
            connections_per_network_max: 32_768,
            door_threads: 1,
            login_timeout: Duration::from_secs(5),
            heartbeat: Duration::from_secs(10),
            write_timeout: Duration::from_secs(10),
            publish_window: 1024,
            ack_deadline: Duration::from_secs(60),
            shutdown_grace: Duration::from_secs(5),
            tls: None,
        }
    }
}

impl TransportSettings {
    /// The heartbeat as frames carry it.
    pub(super) fn heartbeat_ms(&self) -> u32 {
        u32::try_from(self.heartbeat.as_millis()).unwrap_or(u32::MAX)
    }
}
