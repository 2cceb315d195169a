//! Floods over UDP: first packets from everywhere, handshakes that go nowhere, streams without an end, peers that never
//! read, sessions of before. Those who belong there stay connected, new ones get in, and memory is bounded.

use std::collections::BTreeMap;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::BytesMut;
use fluxrelay::protocol::{Code, Request, Response};
use quinn::crypto::rustls::QuicClientConfig;
use quinn::{ClientConfig, Connection, Endpoint, RecvStream, SendStream, TransportConfig, VarInt};
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{DigitallySignedStruct, RootCertStore, SignatureScheme};
use serde_json::json;

use crate::pki::Pki;
use crate::raw::plugin_hello;
use crate::relay::{Relay, Server, eventually, fluxrelay, soon, text};

/// What the flood may cost in memory.
const MEMORY_MAX: u64 = 128 << 20;

struct Door {
    relay: Relay,
    pki: Pki,
}

/// A plugin with one stream.
struct Peer {
    _endpoint: Endpoint,
    connection: Connection,
    send: SendStream,
    recv: RecvStream,
    read: BytesMut,
}

/// Trusts one CA, and counts the certificates that it looks at.
#[derive(Debug)]
struct Counting {
    inner: Arc<WebPkiServerVerifier>,
    shown: AtomicUsize,
}

impl Counting {
    fn shown(&self) -> usize {
        self.shown.load(Ordering::Relaxed)
    }
}

impl ServerCertVerifier for Counting {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        self.shown.fetch_add(1, Ordering::Relaxed);
        self.inner.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.inner.verify_tls12_signature(message, cert, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.inner.verify_tls13_signature(message, cert, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}

impl Door {
    fn open(flags: &[&str]) -> Door {
        let pki = Pki::new();
        let (certificate, key) = (pki.path("a.crt"), pki.path("a.key"));
        let files = ["--tls-cert", certificate.to_str().unwrap(), "--tls-key", key.to_str().unwrap()];
        let listen = ["--quic-listen", "127.0.0.1:0", "--heartbeat-seconds", "1"];
        Door { relay: Relay::start(&[&files[..], &listen, flags].concat()), pki }
    }

    /// A subcommand over TLS: its JSON.
    fn command(&self, words: &[&str]) -> serde_json::Value {
        let url = format!("https://{}", self.relay.address);
        let output = fluxrelay()
            .args(words)
            .args(["--json", "--url", &url, "--tls-ca"])
            .arg(self.pki.path("ca.crt"))
            .env("FLUXRELAY_KEY", &self.relay.admin)
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).unwrap_or(json!(null))
    }

    fn server(&self, name: &str) -> Server {
        let made = self.command(&["server", "add", name]);
        Server { id: text(&made["id"]), token: text(&made["token"]) }
    }

    /// The status of the server's plugin, as everybody sees it over TLS.
    fn is_online(&self, server: &Server) -> bool {
        let servers = self.command(&["server", "list"]);
        let found = servers.as_array().unwrap().iter().find(|found| found["id"] == server.id.as_str());
        found.unwrap()["status"] == "online"
    }

    fn config(&self) -> ClientConfig {
        self.config_that_counts().0
    }

    /// A client with sessions of its own, and how many certificates it was shown: resumed, it is shown none.
    fn config_that_counts(&self) -> (ClientConfig, Arc<Counting>) {
        let mut roots = RootCertStore::empty();
        roots.add(self.pki.ca.der().clone()).unwrap();
        let provider = Arc::new(aws_lc_rs::default_provider());
        let inner =
            WebPkiServerVerifier::builder_with_provider(roots.into(), provider.clone()).build().unwrap();
        let counting = Arc::new(Counting { inner, shown: AtomicUsize::new(0) });
        let mut config = rustls::ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .dangerous()
            .with_custom_certificate_verifier(counting.clone())
            .with_no_client_auth();
        config.alpn_protocols = vec![b"fluxrelay.v1".to_vec()];
        (ClientConfig::new(Arc::new(QuicClientConfig::try_from(config).unwrap())), counting)
    }

    async fn dial(&self, config: ClientConfig) -> (Endpoint, Connection) {
        let endpoint = Endpoint::client(([127, 0, 0, 1], 0).into()).unwrap();
        let connecting = endpoint.connect_with(config, self.relay.quic.unwrap(), "localhost").unwrap();
        let connection = soon("the handshake", connecting).await.unwrap();
        (endpoint, connection)
    }

    /// A peer that has shown this token and was not answered yet.
    async fn guest(&self, token: &str, config: ClientConfig) -> Peer {
        let (endpoint, connection) = self.dial(config).await;
        let (send, recv) = soon("a stream", connection.open_bi()).await.unwrap();
        let mut peer = Peer { _endpoint: endpoint, connection, send, recv, read: BytesMut::new() };
        peer.send(Request::PluginHello(plugin_hello(token))).await;
        peer
    }

    async fn plugin(&self, server: &Server, config: ClientConfig) -> Peer {
        let mut peer = self.guest(&server.token, config).await;
        assert!(peer.until(|response| matches!(response, Response::PluginWelcome(_))).await, "a welcome");
        peer
    }
}

impl Peer {
    async fn send(&mut self, request: Request<'_>) {
        let mut frame = BytesMut::new();
        request.encode(&mut frame).unwrap();
        let _ = soon("a write", self.send.write_all(&frame)).await;
    }

    /// Reads on, and answers pings, to a frame like this; false when the connection ends before.
    async fn until(&mut self, is_it: impl Fn(&Response<'_>) -> bool) -> bool {
        loop {
            while let Ok(Some((response, length))) = Response::decode(&self.read, 1 << 20) {
                let found = is_it(&response);
                let nonce = if let Response::Ping { nonce } = response { Some(nonce) } else { None };
                let _ = self.read.split_to(length);
                if found {
                    return true;
                }
                if let Some(nonce) = nonce {
                    self.send(Request::Pong { nonce }).await;
                }
            }
            match soon("a frame", self.recv.read_chunk(64 * 1024, true)).await {
                Ok(Some(chunk)) => self.read.extend_from_slice(&chunk.bytes),
                Ok(None) | Err(_) => return false,
            }
        }
    }

    /// Shows that the connection works.
    async fn answers(&mut self) {
        self.send(Request::Ping { nonce: 77 }).await;
        assert!(self.until(|response| *response == Response::Pong { nonce: 77 }).await, "it was closed");
    }
}

/// First packets of so many connections, each with a key of its own: what clients send to a socket that never answers.
async fn initials(config: &ClientConfig, count: usize) -> Vec<Vec<u8>> {
    let listener = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let endpoint = Endpoint::client(([127, 0, 0, 1], 0).into()).unwrap();
    // Kept to the end: one that is dropped sends a packet that ends what its first one began.
    let mut connecting = Vec::new();
    let mut packets = BTreeMap::new();
    let mut bytes = [0; 2048];
    while packets.len() < count {
        connecting.push(endpoint.connect_with(config.clone(), address, "localhost").unwrap());
        while packets.len() < connecting.len() {
            let length = soon("a first packet", listener.recv(&mut bytes)).await.unwrap();
            let connection = bytes[6..6 + usize::from(bytes[5])].to_vec();
            packets.entry(connection).or_insert_with(|| bytes[..length].to_vec());
        }
    }
    packets.into_values().collect()
}

fn udp(host: u8, to: SocketAddr) -> UdpSocket {
    let socket = UdpSocket::bind(SocketAddr::from(([127, 0, host, 1], 0))).unwrap();
    socket.connect(to).unwrap();
    socket.set_nonblocking(true).unwrap();
    socket
}

/// How many of the answers that have come ask for a proof of the address (Retry, RFC 9000, section 17.2.5).
fn retries(socket: &UdpSocket) -> usize {
    let (mut bytes, mut count) = ([0; 2048], 0);
    while let Ok(length) = socket.recv(&mut bytes) {
        count += usize::from(length > 5 && bytes[0] & 0xf0 == 0xf0 && bytes[1..5] == [0, 0, 0, 1]);
    }
    count
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_first_packets_keeps_nobody_out() {
    let door = Door::open(&["--login-timeout-seconds", "5"]);
    let (old, new) = (door.server("old"), door.server("new"));
    let mut session = door.plugin(&old, door.config()).await;
    let before = door.relay.memory_peak();
    let packets = initials(&door.config(), 400).await;
    let to = door.relay.quic.unwrap();
    let sockets: Vec<UdpSocket> = (1..=8).map(|host| udp(host, to)).collect();
    let mut asked = 0;
    for (number, packet) in packets.iter().cycle().take(20_000).enumerate() {
        let socket = &sockets[number % sockets.len()];
        // As it is, and as noise of every kind: short, long, of another version, with a broken seal.
        let mut bytes = packet.clone();
        match number % 8 {
            5 => bytes.truncate(number % 1200),
            6 => bytes[1] ^= 0x55,
            7 => {
                let at = bytes.len() - 1 - number % 1000;
                bytes[at] ^= 1;
            }
            _ => {}
        }
        let _ = socket.send(&bytes);
        asked += retries(socket);
        if number % 2_000 == 0 {
            session.answers().await;
        }
    }
    // Many get lost on the way into a flood. These come in one after the other, and none goes on: soon there are too many.
    let asking = async {
        while asked == 0 {
            for (packet, socket) in packets.iter().zip(sockets.iter().cycle()) {
                let _ = socket.send(packet);
            }
            session.answers().await;
            asked = sockets.iter().map(retries).sum();
        }
    };
    soon("somebody who has to prove an address", asking).await;
    let mut late = door.plugin(&new, door.config()).await;
    late.answers().await;
    assert!(
        door.relay.memory_peak() < before + MEMORY_MAX,
        "{before} before, {} at most",
        door.relay.memory_peak()
    );
    assert!(door.is_online(&old) && door.is_online(&new));
    assert!(!door.relay.log().contains("panicked"), "{}", door.relay.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn floods_of_streams_end_their_own_connection_alone() {
    let door = Door::open(&["--login-timeout-seconds", "5"]);
    let (old, new) = (door.server("old"), door.server("new"));
    let mut session = door.plugin(&old, door.config()).await;
    let before = door.relay.memory_peak();
    let config = door.config();
    for _ in 0..40 {
        // Opened and reset as fast as the broker allows it.
        let (endpoint, connection) = door.dial(config.clone()).await;
        let opening = async {
            let mut opened = 0;
            while let Ok((mut send, mut recv)) = connection.open_bi().await {
                opened += 1;
                let _ = send.write_all(&[0x01, 40, 0, 0, 1]).await;
                let _ = send.reset(VarInt::from_u32(7));
                let _ = recv.stop(VarInt::from_u32(7));
            }
            opened
        };
        let opened = soon("the end of the connection", opening).await;
        assert!(opened <= 2, "{opened} streams on one connection");
        drop(endpoint);
    }
    // A second stream, one in one direction, a datagram: there are none beside the one with the frames.
    let extra = door.plugin(&new, config).await;
    let wait = Duration::from_millis(200);
    assert!(tokio::time::timeout(wait, extra.connection.open_bi()).await.is_err());
    assert!(tokio::time::timeout(wait, extra.connection.open_uni()).await.is_err());
    assert_eq!(extra.connection.max_datagram_size(), None);
    session.answers().await;
    assert!(
        door.relay.memory_peak() < before + MEMORY_MAX,
        "{before} before, {} at most",
        door.relay.memory_peak()
    );
    assert!(!door.relay.log().contains("panicked"), "{}", door.relay.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_quic_peer_that_does_not_read_is_closed_and_holds_little() {
    let door = Door::open(&["--write-timeout-seconds", "2"]);
    let (slow, other) = (door.server("slow"), door.server("other"));
    let mut session = door.plugin(&other, door.config()).await;
    let mut config = door.config();
    let mut transport = TransportConfig::default();
    transport.stream_receive_window(VarInt::from_u32(16 * 1024)).receive_window(VarInt::from_u32(16 * 1024));
    config.transport_config(Arc::new(transport));
    let mut peer = door.plugin(&slow, config).await;
    let before = door.relay.memory_peak();
    let long = format!("say {}", "x".repeat(4000));
    for _ in 0..5 {
        let words: Vec<&str> = [&["publish", "--server", &slow.id][..], &vec![long.as_str(); 25]].concat();
        door.command(&words);
    }
    // It speaks all the time, so that silence is not the reason.
    let speaking = async {
        while peer.connection.close_reason().is_none() && door.is_online(&slow) {
            let mut frame = BytesMut::new();
            Request::Ping { nonce: 1 }.encode(&mut frame).unwrap();
            let write = peer.send.write_all(&frame);
            let _ = tokio::time::timeout(Duration::from_millis(100), write).await;
            session.answers().await;
        }
    };
    soon("the end of the slow one", speaking).await;
    assert!(
        door.relay.memory_peak() < before + MEMORY_MAX,
        "{before} before, {} at most",
        door.relay.memory_peak()
    );
    eventually("it to be offline", async || !door.is_online(&slow)).await;
    session.answers().await;
    assert!(!door.relay.log().contains("panicked"), "{}", door.relay.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_are_resumed_over_quic_after_a_kill_and_let_nobody_in() {
    let mut door = Door::open(&[]);
    let server = door.server("lobby");
    let (config, certificates) = door.config_that_counts();
    for _ in 0..2 {
        door.plugin(&server, config.clone()).await.answers().await;
        assert_eq!(certificates.shown(), 1);
    }
    door.relay.kill_and_restart();
    door.plugin(&server, config.clone()).await.answers().await;
    let forged = format!("{}.{}", server.id, "0".repeat(32));
    let mut stranger = door.guest(&forged, config.clone()).await;
    let wrong = |response: &Response<'_>| {
        let Response::Error { code, .. } = response else { panic!("{response:?}") };
        Code::from_number(*code) == Some(Code::InvalidCredentials)
    };
    assert!(stranger.until(wrong).await, "it was told why");
    assert_eq!(certificates.shown(), 1, "resumed, both of them");
    // Without the keys of sessions the certificate is shown again.
    std::fs::remove_file(door.relay.data_dir().join("tls-sessions.key")).unwrap();
    door.relay.kill_and_restart();
    door.plugin(&server, config.clone()).await.answers().await;
    assert_eq!(certificates.shown(), 2);
    door.plugin(&server, config).await.answers().await;
    assert_eq!(certificates.shown(), 2);
}
