//! The main job over QUIC, a client that moves, a client that may not use UDP, and peers that do what they should not.

use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use fluxrelay::broker::Scope;
use fluxrelay::client::{
    ClientError, ClientTls, Code, Order, PluginClient, PluginOptions, PublisherClient, PublisherOptions,
    Servers, Trust,
};
use fluxrelay::engine::Status;
use fluxrelay::limits::{FRAME_BYTES_MAX, QUIC_LOGINS_UNPROVED_MAX};
use fluxrelay::protocol::{Credential, PluginHello, Request, Response, ResultRef, encode_results};
use fluxrelay::tls::ServerTls;
use fluxrelay::transport::TransportSettings;
use quinn::crypto::rustls::QuicClientConfig;
use quinn::{ClientConfig, Connection, ConnectionError, Endpoint, RecvStream, SendStream};
use rustls::crypto::aws_lc_rs;
use rustls::{RootCertStore, version};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::pki::Pki;
use crate::raw::plugin_hello;
use crate::relay::{Relay, Server, soon};
use crate::story::running;

/// A broker that listens for QUIC too, on the UDP port of the number of its TCP port.
struct Quic {
    relay: Relay,
    pki: Pki,
}

/// A plugin that speaks frames by hand.
struct Peer {
    endpoint: Endpoint,
    connection: Connection,
    send: SendStream,
    recv: RecvStream,
    read: BytesMut,
}

impl Quic {
    async fn start(settings: TransportSettings) -> Quic {
        let pki = Pki::new();
        let tls = ServerTls::open(&pki.path("a.crt"), &pki.path("a.key")).unwrap();
        let settings = TransportSettings { tls: Some(tls), ..settings };
        Quic { relay: Relay::start_with_quic(settings).await, pki }
    }

    fn tls(&self) -> ClientTls {
        ClientTls::new(&Trust::CaFile(self.pki.path("ca.crt"))).unwrap()
    }

    fn url(&self) -> String {
        format!("quic://{}", self.relay.quic_address())
    }

    fn plugin(&self, server: &Server) -> PluginOptions {
        PluginOptions { url: self.url(), tls: Some(self.tls()), ..self.relay.plugin(server) }
    }

    async fn publisher(&self) -> PublisherClient {
        let mut options = PublisherOptions::new(self.url(), self.relay.key(Scope::Publish).await);
        options.tls = Some(self.tls());
        PublisherClient::start(options).unwrap()
    }

    /// A connection by hand, with an ALPN, from a port of its own.
    async fn dial(&self, alpn: &str) -> Result<(Endpoint, Connection), ConnectionError> {
        let endpoint = Endpoint::client(([127, 0, 0, 1], 0).into()).unwrap();
        let connection = self.dial_from(&endpoint, alpn).await?;
        Ok((endpoint, connection))
    }

    async fn dial_from(&self, endpoint: &Endpoint, alpn: &str) -> Result<Connection, ConnectionError> {
        let mut roots = RootCertStore::empty();
        roots.add(self.pki.ca.der().clone()).unwrap();
        let mut config = rustls::ClientConfig::builder_with_provider(aws_lc_rs::default_provider().into())
            .with_protocol_versions(&[&version::TLS13])
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = vec![alpn.into()];
        let config = ClientConfig::new(Arc::new(QuicClientConfig::try_from(config).unwrap()));
        let connecting = endpoint.connect_with(config, self.relay.quic_address(), "localhost").unwrap();
        soon("the handshake", connecting).await
    }

    async fn peer(&self) -> Peer {
        let (endpoint, connection) = self.dial("fluxrelay.v1").await.unwrap();
        let (send, recv) = soon("a stream", connection.open_bi()).await.unwrap();
        Peer { endpoint, connection, send, recv, read: BytesMut::new() }
    }
}

impl Peer {
    async fn send(&mut self, request: Request<'_>) {
        let mut frame = BytesMut::new();
        request.encode(&mut frame).unwrap();
        self.send_bytes(&frame).await;
    }

    async fn send_bytes(&mut self, bytes: &[u8]) {
        soon("the write", self.send.write_all(bytes)).await.unwrap();
    }

    /// The next frame; `None` at the end of the stream or connection.
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            if let Ok(Some((_, length))) = Response::decode(&self.read, FRAME_BYTES_MAX) {
                return Some(self.read.split_to(length).freeze());
            }
            match soon("a frame", self.recv.read_chunk(64 * 1024, true)).await {
                Ok(Some(chunk)) => self.read.extend_from_slice(&chunk.bytes),
                Ok(None) | Err(_) => return None,
            }
        }
    }

    /// The code of the error frame that ends it.
    async fn ended(&mut self) -> Code {
        let mut last = None;
        while let Some(frame) = self.next().await {
            if let (Response::Error { code, .. }, _) =
                Response::decode(&frame, FRAME_BYTES_MAX).unwrap().unwrap()
            {
                last = Code::from_number(code);
            }
        }
        last.expect("an error frame before the end")
    }

    /// The epoch of the welcome.
    async fn welcomed(&mut self) -> u64 {
        let frame = self.next().await.expect("a frame");
        match Response::decode(&frame, FRAME_BYTES_MAX).unwrap().unwrap().0 {
            Response::PluginWelcome(welcome) => welcome.epoch,
            other => panic!("{other:?} instead of a welcome"),
        }
    }

    /// Id and attempt of the next commands.
    async fn delivered(&mut self) -> Vec<(u64, u16)> {
        loop {
            let frame = self.next().await.expect("a frame");
            match Response::decode(&frame, FRAME_BYTES_MAX).unwrap().unwrap().0 {
                Response::Deliver { commands } => {
                    return commands.iter().map(|each| (each.id, each.attempt)).collect();
                }
                Response::Ping { nonce } => self.send(Request::Pong { nonce }).await,
                other => panic!("{other:?} instead of a delivery"),
            }
        }
    }

    async fn completed(&mut self, batch: u64, commands: &[(u64, u16)]) {
        let results = commands.iter().map(|(id, attempt)| ResultRef {
            id: *id,
            attempt: *attempt,
            outcome: fluxrelay::client::Outcome::Completed,
            error: None,
            output: None,
        });
        let mut frame = BytesMut::new();
        encode_results(&mut frame, batch, results).unwrap();
        self.send_bytes(&frame).await;
    }
}

/// A TCP port that leads to the broker's until it is dropped.
struct Forwarder {
    address: SocketAddr,
    task: JoinHandle<()>,
}

impl Forwarder {
    async fn start(to: SocketAddr) -> Forwarder {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let task = tokio::spawn(async move {
            while let Ok((mut socket, _)) = listener.accept().await {
                tokio::spawn(async move {
                    if let Ok(mut broker) = TcpStream::connect(to).await {
                        let _ = tokio::io::copy_bidirectional(&mut socket, &mut broker).await;
                    }
                });
            }
        });
        Forwarder { address, task }
    }
}

impl Drop for Forwarder {
    fn drop(&mut self) {
        self.task.abort();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_is_published_run_and_confirmed_over_quic() {
    let mut quic = Quic::start(TransportSettings::default()).await;
    let server = quic.relay.server("lobby").await;
    let ran = Arc::default();
    // Nothing else to fall back to.
    let options = PluginOptions { fallback: Some("wss://127.0.0.1:1".into()), ..quic.plugin(&server) };
    let plugin = PluginClient::start(options, running(&ran)).await.unwrap();
    let before = soon("a session", plugin.connected()).await.unwrap();
    let publisher = quic.publisher().await;
    // More than a window in each direction.
    let commands = vec![fluxrelay::client::OrderCommand::new(Servers::One(server.id), "x".repeat(4096)); 200];
    let order = Order { commands, ..Order::default() };
    let accepted = soon("an answer", publisher.publish(order)).await.unwrap();
    for id in &accepted.commands {
        quic.relay.reaches(*id, Status::Completed).await;
    }
    assert_eq!(ran.lock().unwrap().len(), 200);
    assert_eq!(quic.relay.handle().stats().redelivered, 0);
    // Go-away, and back by the ticket: the hello carries it beside the token.
    quic.relay.restart().await;
    let mut state = plugin.state();
    let again = |state: &fluxrelay::client::ClientState| matches!(state, fluxrelay::client::ClientState::Connected(epoch) if *epoch != before);
    soon("another session", state.wait_for(again)).await.unwrap();
    assert_eq!((quic.relay.logins().by_ticket, quic.relay.logins().tickets_refused), (1, 0));
    soon("the stop", plugin.stop()).await;
    quic.relay.sessions(0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_changes_its_address_keeps_its_session() {
    let quic = Quic::start(TransportSettings::default()).await;
    let server = quic.relay.server("lobby").await;
    let publisher = quic.publisher().await;
    let order = || Order::one(Servers::One(server.id), "say hi");
    let mut peer = quic.peer().await;
    peer.send(Request::PluginHello(plugin_hello(&server.token))).await;
    peer.welcomed().await;
    let first = soon("an answer", publisher.publish(order())).await.unwrap().commands[0];
    let delivered = peer.delivered().await;
    let logins = quic.relay.logins();
    peer.endpoint.rebind(UdpSocket::bind("127.0.0.1:0").unwrap()).unwrap();
    peer.completed(1, &delivered).await;
    quic.relay.reaches(first, Status::Completed).await;
    let confirm = peer.next().await.unwrap();
    assert!(matches!(
        Response::decode(&confirm, FRAME_BYTES_MAX).unwrap().unwrap().0,
        Response::Confirm { batch: 1 }
    ));
    let second = soon("an answer", publisher.publish(order())).await.unwrap().commands[0];
    // The second alone: the first is not delivered again, and the window goes on.
    assert_eq!(peer.delivered().await, [(second.seq.0, 1)]);
    let stats = quic.relay.handle().stats();
    assert_eq!((stats.sessions, stats.redelivered), (1, 0));
    assert_eq!(format!("{:?}", quic.relay.logins()), format!("{logins:?}"), "nobody logged in again");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_falls_back_to_websocket_and_comes_back() {
    let mut quic = Quic::start(TransportSettings::default()).await;
    let server = quic.relay.server("lobby").await;
    quic.relay.stop().await;
    quic.relay.restart_with_quic(false).await;
    // It takes datagrams and never answers, like a firewall.
    let forwarder = Forwarder::start(quic.relay.address).await;
    let silent = UdpSocket::bind(quic.relay.quic_address()).unwrap();
    let options = PluginOptions {
        fallback: Some(format!("wss://{}", forwarder.address)),
        quic_retry: Duration::ZERO,
        connect_timeout: Duration::from_secs(2),
        ..quic.plugin(&server)
    };
    let plugin = PluginClient::start(options, running(&Arc::default())).await.unwrap();
    soon("a session over WebSocket", plugin.connected()).await.unwrap();
    quic.relay.stop().await;
    drop(silent);
    // From here on there is no other way than QUIC.
    drop(forwarder);
    quic.relay.restart_with_quic(true).await;
    quic.relay.sessions(1).await;
    soon("the stop", plugin.stop()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_that_is_not_accepted_is_a_clear_error_over_quic_too() {
    let quic = Quic::start(TransportSettings::default()).await;
    let server = quic.relay.server("lobby").await;
    let stranger = Pki::new();
    let tls = Some(ClientTls::new(&Trust::CaFile(stranger.path("ca.crt"))).unwrap());
    let options = PluginOptions { tls, ..quic.plugin(&server) };
    let plugin = PluginClient::start(options, running(&Arc::default())).await.unwrap();
    let error = soon("the end", plugin.connected()).await.unwrap_err();
    assert!(matches!(error, ClientError::Certificate(_)), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_token_and_a_regenerated_one_end_a_connection() {
    let quic = Quic::start(TransportSettings::default()).await;
    let server = quic.relay.server("lobby").await;
    let mut forged = quic.peer().await;
    let token = format!("{}.{}", server.id, "A".repeat(32));
    forged.send(Request::PluginHello(plugin_hello(&token))).await;
    assert_eq!(forged.ended().await, Code::InvalidCredentials);
    let mut peer = quic.peer().await;
    peer.send(Request::PluginHello(plugin_hello(&server.token))).await;
    peer.welcomed().await;
    let local = fluxrelay::broker::Actor::LOCAL;
    let token = quic.relay.handle().registry().by(local).regenerate_token(server.id).await.unwrap();
    quic.relay.handle().token_regenerated(server.id).await.unwrap();
    assert_eq!(peer.ended().await, Code::TokenRevoked);
    let mut old = quic.peer().await;
    old.send(Request::PluginHello(plugin_hello(&server.token))).await;
    assert_eq!(old.ended().await, Code::InvalidCredentials);
    let mut new = quic.peer().await;
    new.send(Request::PluginHello(plugin_hello(token.reveal()))).await;
    new.welcomed().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hello_may_be_long_for_who_shows_a_token_of_this_broker() {
    let quic = Quic::start(TransportSettings::default()).await;
    let server = quic.relay.server("lobby").await;
    let held: Vec<u64> = (1..=8192).collect();
    let long = |credential| PluginHello { credential, held: (&held).into(), ..plugin_hello("") };
    let forged = format!("{}.{}", server.id, "A".repeat(32));
    for (credential, welcome) in [
        (Credential::Token(&server.token), true),
        (Credential::TicketAndToken { ticket: b"of no use", token: &server.token }, true),
        (Credential::Token(&forged), false),
        (Credential::Ticket(b"of no use"), false),
    ] {
        let mut peer = quic.peer().await;
        let mut frame = BytesMut::new();
        Request::PluginHello(long(credential)).encode(&mut frame).unwrap();
        // The broker may close before all of it is there.
        let _ = soon("the write", peer.send.write_all(&frame)).await;
        match welcome {
            true => drop(peer.welcomed().await),
            false => assert_eq!(peer.ended().await, Code::FrameTooLarge),
        }
    }
    let mut peer = quic.peer().await;
    peer.send_bytes(&[0x01, 0xff, 0xff, 0xff]).await;
    assert_eq!(peer.ended().await, Code::FrameTooLarge, "16 MiB are refused by their header");
}

#[tokio::test(flavor = "multi_thread")]
async fn other_protocols_more_streams_and_silence_are_not_served() {
    let limit = Duration::from_millis(500);
    let quic = Quic::start(TransportSettings { login_timeout: limit, ..TransportSettings::default() }).await;
    let error = quic.dial("h3").await.map(drop).unwrap_err();
    assert!(error.to_string().contains("120"), "alert no_application_protocol: {error}");

    let peer = quic.peer().await;
    let second = tokio::time::timeout(Duration::from_millis(100), peer.connection.open_bi()).await;
    let uni = tokio::time::timeout(Duration::from_millis(100), peer.connection.open_uni()).await;
    assert!(second.is_err() && uni.is_err(), "one stream, and no other");
    assert_eq!(peer.connection.max_datagram_size(), None);

    for speaks in [false, true] {
        let began = Instant::now();
        let mut peer = quic.peer().await;
        if speaks {
            // A stream, and a frame that never comes whole.
            peer.send_bytes(&[0x01, 40, 0, 0, 1]).await;
            assert_eq!(peer.ended().await, Code::LoginTimeout);
        } else {
            let closed = soon("the close", peer.connection.closed()).await;
            assert!(closed.to_string().contains("login_timeout"), "{closed}");
        }
        assert!(began.elapsed() >= limit, "not before its time");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn quic_connections_take_the_places_of_sockets() {
    let quic = Quic::start(TransportSettings { connections_max: 1, ..TransportSettings::default() }).await;
    let server = quic.relay.server("lobby").await;
    let mut peer = quic.peer().await;
    peer.send(Request::PluginHello(plugin_hello(&server.token))).await;
    peer.welcomed().await;
    let refused = quic.dial("fluxrelay.v1").await.map(drop).unwrap_err();
    assert!(matches!(refused, ConnectionError::ConnectionClosed(_)), "{refused}");
    drop(peer);
    quic.relay.sessions(0).await;
    crate::relay::eventually("a free place", async || quic.dial("fluxrelay.v1").await.is_ok()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn under_load_an_address_has_to_be_proved_and_then_gets_in() {
    let settings =
        TransportSettings { login_timeout: Duration::from_secs(60), ..TransportSettings::default() };
    let quic = Quic::start(settings).await;
    let server = quic.relay.server("lobby").await;
    // Handshakes without a login, as many as may begin unproved.
    let (endpoint, first) = quic.dial("fluxrelay.v1").await.unwrap();
    let mut idle = vec![first];
    for _ in 1..QUIC_LOGINS_UNPROVED_MAX {
        idle.push(quic.dial_from(&endpoint, "fluxrelay.v1").await.unwrap());
    }
    let mut peer = quic.peer().await;
    peer.send(Request::PluginHello(plugin_hello(&server.token))).await;
    peer.welcomed().await;
    assert!(idle.iter().all(|connection| connection.close_reason().is_none()));
}
