//! The QUIC listener: who may begin a connection, the handshake and its one stream under the login's deadline, then the
//! same connection as over WebSocket. It knows no frame.
//!
//! ```text
//! first packet ─▶ places left? ─▶ address proved, or few unproved? ─▶ handshake ─▶ stream ─▶ connection::run
//!                  └ refused        └ Retry                            └────── one deadline ──────┘
//! ```
//! All of it runs on the serving threads. Handshakes over TCP do not, but quinn does the dear half of one (from the first packet
//! to the signature) under the lock that every datagram of its endpoint needs: at the doors, whose threads stand aside, a
//! handshake would hold it for as long as others want the cores, and all that is connected would wait.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use quinn::crypto::rustls::QuicServerConfig;
use quinn::{
    Connection, ConnectionError, Endpoint, EndpointConfig, Incoming, RecvStream, SendStream, ServerConfig,
    VarInt,
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::{Instant, timeout, timeout_at};

use super::connection::{self, Login};
use super::listener::stopped;
use super::login::may_be_long;
use super::places::{Place, Places};
use super::settings::TransportSettings;
use crate::broker::Handle;
use crate::carrier::{Framing, Quic, transport_config};
use crate::limits::{
    QUIC_INCOMING_BYTES_MAX, QUIC_INCOMING_BYTES_TOTAL_MAX, QUIC_INCOMING_MAX, QUIC_LOGINS_MAX,
    QUIC_LOGINS_UNPROVED_MAX, QUIC_SOCKET_BYTES,
};
use crate::protocol::{Code, frame_bytes};
use crate::tls::ServerTls;

/// The codes with which WebSocket closes for the same reasons.
const CLOSE_AWAY: VarInt = VarInt::from_u32(1001);
const CLOSE_POLICY: VarInt = VarInt::from_u32(1008);
/// How long the last closes may take to leave the socket.
const CLOSE_TIMEOUT: Duration = Duration::from_millis(500);
/// Heartbeats without a packet after which a connection ends by itself: more than the heartbeat's own bound, which says why.
const IDLE_HEARTBEATS: u32 = 4;

/// A UDP socket on which QUIC is spoken.
pub struct QuicListener {
    endpoint: Endpoint,
    address: SocketAddr,
}

impl QuicListener {
    /// Binds the socket; has to be called on a tokio runtime.
    ///
    /// # Errors
    /// The address cannot be used, or the settings have no certificate.
    pub fn bind(address: SocketAddr, settings: &TransportSettings) -> io::Result<QuicListener> {
        let Some(tls) = &settings.tls else {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "QUIC needs a TLS certificate"));
        };
        let socket = UdpSocket::bind(address)?;
        let address = socket.local_addr()?;
        // The system may allow less; then more datagrams are lost and sent again.
        let _ = socket2::SockRef::from(&socket).set_recv_buffer_size(QUIC_SOCKET_BYTES);
        let _ = socket2::SockRef::from(&socket).set_send_buffer_size(QUIC_SOCKET_BYTES);
        let config = server_config(tls, settings);
        let runtime = Arc::new(quinn::TokioRuntime);
        let endpoint = Endpoint::new(EndpointConfig::default(), Some(config), socket, runtime)?;
        Ok(QuicListener { endpoint, address })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Accepts connections until `shutdown` turns true. Each holds one of `places` to its end.
    pub(super) fn spawn(
        &self,
        handle: Handle,
        settings: Arc<TransportSettings>,
        places: Places,
        shutdown: watch::Receiver<bool>,
    ) {
        let logins = Arc::new(Semaphore::new(QUIC_LOGINS_MAX));
        let door = Door { handle, settings, places, logins, shutdown };
        tokio::spawn(door.accept(self.endpoint.clone()));
    }

    /// Ends what is left of connections, and waits a moment for their peers to be told.
    pub(super) async fn close(self) {
        self.endpoint.close(CLOSE_AWAY, Code::ShuttingDown.name().as_bytes());
        let _ = timeout(CLOSE_TIMEOUT, self.endpoint.wait_idle()).await;
    }
}

/// No early data: it could be replayed. Migration stays on: a session outlives a change of its address.
fn server_config(tls: &ServerTls, settings: &TransportSettings) -> ServerConfig {
    let crypto =
        QuicServerConfig::try_from(tls.quic()).expect("TLS 1.3 has the suite of QUIC's first packets");
    let mut config = ServerConfig::with_crypto(Arc::new(crypto));
    let idle = (settings.heartbeat * IDLE_HEARTBEATS).max(settings.login_timeout * 2);
    config
        .transport_config(Arc::new(transport_config(idle)))
        .migration(true)
        .max_incoming(QUIC_INCOMING_MAX)
        .incoming_buffer_size(QUIC_INCOMING_BYTES_MAX)
        .incoming_buffer_size_total(QUIC_INCOMING_BYTES_TOTAL_MAX);
    config
}

#[derive(Clone)]
struct Door {
    handle: Handle,
    settings: Arc<TransportSettings>,
    places: Places,
    /// Handshakes and logins under way.
    logins: Arc<Semaphore>,
    shutdown: watch::Receiver<bool>,
}

impl Door {
    async fn accept(mut self, endpoint: Endpoint) {
        loop {
            let incoming = tokio::select! {
                biased;
                () = stopped(&mut self.shutdown) => break,
                incoming = endpoint.accept() => incoming,
            };
            match incoming {
                Some(incoming) => self.begin(incoming),
                None => return,
            }
        }
        // New connections are refused from here on; those that are open go on to their end.
        endpoint.set_server_config(None);
    }

    fn begin(&self, incoming: Incoming) {
        let under_way = QUIC_LOGINS_MAX - self.logins.available_permits();
        let proved = incoming.remote_address_validated() || !incoming.may_retry();
        if under_way >= QUIC_LOGINS_UNPROVED_MAX && !proved {
            let peer = incoming.remote_address();
            if incoming.retry().is_err() {
                tracing::debug!(%peer, "no retry for a QUIC connection that came back already");
            }
            return;
        }
        let Ok(login) = self.logins.clone().try_acquire_owned() else { return incoming.ignore() };
        match self.places.take(incoming.remote_address().ip()) {
            Ok(place) => drop(tokio::spawn(self.clone().serve(incoming, place, login))),
            Err(limit) => {
                let peer = incoming.remote_address();
                tracing::debug!(%peer, limit = limit.name(), "refused: too many connections");
                self.handle.on_limit(limit);
                incoming.refuse();
            }
        }
    }

    /// Runs one connection to its end.
    async fn serve(self, incoming: Incoming, _place: Place, login: OwnedSemaphorePermit) {
        let Door { handle, settings, shutdown, .. } = self;
        let deadline = Instant::now() + settings.login_timeout;
        let peer = incoming.remote_address();
        let (connection, streams) = match open(incoming, deadline, shutdown.clone()).await {
            Ok(opened) => opened,
            Err(reason) => return tracing::debug!(%peer, reason, "no QUIC connection"),
        };
        let asked = handle.clone();
        let admits = Box::new(move |head: &[u8]| may_be_long(head, &asked));
        let wire = Box::new(Quic::server(connection, streams, Framing { frame_bytes, admits: Some(admits) }));
        let login_as = Login { role: None, bearer: None, deadline, peer, shutdown, _place: Some(login) };
        connection::run(wire, login_as, &handle, &settings).await;
    }
}

/// Handshake, and the one stream, or in words why not.
async fn open(
    incoming: Incoming,
    deadline: Instant,
    mut shutdown: watch::Receiver<bool>,
) -> Result<(Connection, (SendStream, RecvStream)), String> {
    let lost = |error: ConnectionError| error.to_string();
    let opening = timeout_at(deadline, incoming.accept().map_err(lost)?);
    let connection = tokio::select! {
        opened = opening => opened.map_err(|_| "the handshake took too long")?.map_err(lost)?,
        () = stopped(&mut shutdown) => return Err(Code::ShuttingDown.name().into()),
    };
    // There is no stream yet that could carry a frame: the close has to say it.
    let (close, code) = tokio::select! {
        streams = timeout_at(deadline, connection.accept_bi()) => match streams {
            Ok(streams) => return Ok((connection, streams.map_err(lost)?)),
            Err(_) => (CLOSE_POLICY, Code::LoginTimeout),
        },
        () = stopped(&mut shutdown) => (CLOSE_AWAY, Code::ShuttingDown),
    };
    connection.close(close, code.name().as_bytes());
    Err(code.name().into())
}
