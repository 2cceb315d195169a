//! Everything through TLS: who gets in, who is told what, and what stays open while the certificate changes.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use fluxrelay::broker::{self, Actor, FailedLoginLimit, Scope};
use fluxrelay::client::{
    ClientError, ClientState, ClientTls, Code, Fingerprint, Order, OrderCommand, PluginClient, PluginOptions,
    PublisherClient, PublisherOptions, Servers, Trust,
};
use fluxrelay::engine::Status;
use fluxrelay::ids::StoreId;
use fluxrelay::protocol::{PLUGIN_PATH, PUBLISHER_PATH, PublisherHello, Request, Response, VERSION};
use fluxrelay::tls::ServerTls;
use fluxrelay::transport::TransportSettings;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, DEFAULT_VERSIONS, RootCertStore};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::Instant;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::pki::Pki;
use crate::raw::{Bytestream, Raw, plugin_hello};
use crate::relay::{Relay, Server, eventually, soon};
use crate::story::running;

/// A broker with a certificate of a CA of its own.
struct Secure {
    relay: Relay,
    pki: Pki,
    tls: ServerTls,
}

impl Secure {
    async fn start() -> Secure {
        Secure::start_with(TransportSettings::default()).await
    }

    async fn start_with(settings: TransportSettings) -> Secure {
        Secure::start_changed(settings, |_| {}).await
    }

    async fn start_changed(
        settings: TransportSettings,
        change: impl FnOnce(&mut broker::Settings),
    ) -> Secure {
        let pki = Pki::new();
        let tls = ServerTls::open(&pki.path("a.crt"), &pki.path("a.key")).unwrap();
        let relay =
            Relay::start_changed(TransportSettings { tls: Some(tls.clone()), ..settings }, change).await;
        Secure { relay, pki, tls }
    }

    /// Another certificate for new handshakes.
    fn serve(&self, change: impl FnOnce(&mut rcgen::CertificateParams)) {
        self.pki.issue("a", change);
        self.tls.reload().unwrap();
    }

    fn ca(&self) -> ClientTls {
        ClientTls::new(&Trust::CaFile(self.pki.path("ca.crt"))).unwrap()
    }

    fn plugin(&self, server: &Server, tls: ClientTls) -> PluginOptions {
        PluginOptions { tls: Some(tls), ..self.relay.plugin(server) }
    }

    async fn publisher(&self, tls: ClientTls) -> PublisherClient {
        let mut options = PublisherOptions::new(self.relay.url(), self.relay.key(Scope::Publish).await);
        options.tls = Some(tls);
        PublisherClient::start(options).unwrap()
    }

    /// A handshake by hand.
    async fn handshake(&self, socket: TcpStream) -> std::io::Result<TlsStream<TcpStream>> {
        let mut roots = RootCertStore::empty();
        roots.add(self.pki.ca.der().clone()).unwrap();
        let config = ClientConfig::builder_with_provider(aws_lc_rs::default_provider().into())
            .with_protocol_versions(DEFAULT_VERSIONS)
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let name = ServerName::try_from("127.0.0.1").unwrap();
        TlsConnector::from(Arc::new(config)).connect(name, socket).await
    }

    /// An upgraded connection from an address of this machine, by hand.
    async fn raw(&self, from: &str, path: &str, bearer: Option<&str>) -> Raw {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(from.parse().unwrap()).unwrap();
        let socket = socket.connect(self.relay.address).await.unwrap();
        Raw::upgrade(self.handshake(socket).await.unwrap(), path, bearer).await
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.relay.address).await.unwrap()
    }
}

fn pinned(fingerprint: Fingerprint) -> ClientTls {
    ClientTls::new(&Trust::Fingerprint(fingerprint)).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_goes_through_tls_for_who_trusts_the_ca_and_for_who_pins() {
    let secure = Secure::start().await;
    for (name, tls) in [("by its CA", secure.ca()), ("pinned", pinned(secure.tls.fingerprint()))] {
        let server = secure.relay.server(name).await;
        let ran = Arc::default();
        let plugin = PluginClient::start(secure.plugin(&server, tls.clone()), running(&ran)).await.unwrap();
        soon("a session", plugin.connected()).await.unwrap();
        let publisher = secure.publisher(tls).await;
        // More than a TLS record, and more than the TLS layer holds for a peer.
        let text = "x".repeat(4096);
        let commands = vec![OrderCommand::new(Servers::One(server.id), text); 100];
        let order = Order { commands, ..Order::default() };
        let accepted = soon("an answer", publisher.publish(order)).await.unwrap();
        for id in &accepted.commands {
            secure.relay.reaches(*id, Status::Completed).await;
        }
        assert_eq!(ran.lock().unwrap().len(), 100);
        soon("the stop", plugin.stop()).await;
    }
    assert_eq!(secure.relay.handle().stats().redelivered, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_that_is_not_accepted_is_a_clear_error() {
    let secure = Secure::start().await;
    let server = secure.relay.server("lobby").await;
    let before = secure.tls.fingerprint();
    secure.serve(|_| {});
    let stranger = Pki::new();
    let by_stranger = ClientTls::new(&Trust::CaFile(stranger.path("ca.crt"))).unwrap();
    for (tls, words) in [
        (pinned(before), ["has the fingerprint sha256:", "in between"]),
        (by_stranger, ["its issuer is not trusted here", "--tls-fingerprint"]),
    ] {
        let plugin = PluginClient::start(secure.plugin(&server, tls.clone()), running(&Arc::default())).await;
        let errors = [
            soon("the plugin's end", plugin.unwrap().connected()).await.unwrap_err(),
            soon("the publisher's end", secure.publisher(tls).await.connected()).await.unwrap_err(),
        ];
        for error in errors {
            assert!(matches!(error, ClientError::Certificate(_)), "{error}");
            let text = error.to_string();
            assert!(words.iter().all(|word| text.contains(word)), "{text}");
        }
    }
    secure.serve(|params| params.subject_alt_names.clear());
    let plugin = PluginClient::start(secure.plugin(&server, secure.ca()), running(&Arc::default())).await;
    let error = soon("the end", plugin.unwrap().connected()).await.unwrap_err().to_string();
    assert!(error.contains("for another name"), "{error}");
    assert_eq!(secure.relay.handle().stats().sessions, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_expired_certificate_is_waited_out() {
    let mut secure = Secure::start().await;
    let server = secure.relay.server("lobby").await;
    secure.serve(|params| params.not_after = rcgen::date_time_ymd(2020, 1, 1));
    let options = secure.plugin(&server, secure.ca());
    let plugin = PluginClient::start(options, running(&Arc::default())).await.unwrap();
    let mut state = plugin.state();
    let waiting = state.wait_for(|state| matches!(state, ClientState::Waiting { .. }));
    let ClientState::Waiting { reason, .. } = soon("a reason", waiting).await.unwrap().clone() else {
        panic!("not waiting")
    };
    assert!(reason.contains("has expired") && reason.contains("renew"), "{reason}");
    secure.serve(|_| {});
    soon("a session", plugin.connected()).await.unwrap();
    // Once it was accepted, a wrong one does not end the client either: the next may be right.
    secure.serve(|params| params.subject_alt_names.clear());
    secure.relay.restart().await;
    let mut state = plugin.state();
    let waiting = state.wait_for(|state| match state {
        ClientState::Waiting { reason, .. } => reason.contains("another name"),
        _ => false,
    });
    soon("a reason", waiting).await.unwrap();
    secure.serve(|_| {});
    soon("a session", plugin.connected()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_certificate_under_load_drops_nothing() {
    let secure = Secure::start().await;
    let ran: Arc<Mutex<Vec<String>>> = Arc::default();
    let mut plugins = Vec::new();
    for number in 0..8 {
        let server = secure.relay.server(&format!("server {number}")).await;
        let options = secure.plugin(&server, secure.ca());
        let plugin = PluginClient::start(options, running(&ran)).await.unwrap();
        let epoch = soon("a session", plugin.connected()).await.unwrap();
        plugins.push((plugin, epoch));
    }
    let publisher = secure.publisher(secure.ca()).await;
    let published = Arc::new(AtomicU64::new(0));
    let publishing = {
        let published = published.clone();
        tokio::spawn(async move {
            for number in 0..400 {
                let order = Order::one(Servers::All, format!("say {number}"));
                soon("an answer", publisher.publish(order)).await.unwrap();
                published.fetch_add(1, Ordering::Relaxed);
            }
        })
    };
    for reload in 1..=10 {
        eventually("some orders", async || published.load(Ordering::Relaxed) >= reload * 30).await;
        let before = secure.tls.fingerprint();
        secure.serve(|_| {});
        let stream = secure.handshake(secure.connect().await).await.unwrap();
        let seen = &stream.get_ref().1.peer_certificates().unwrap()[0];
        let file = std::fs::read(secure.pki.path("a.crt")).unwrap();
        assert_eq!(
            *seen,
            CertificateDer::from_pem_slice(&file).unwrap(),
            "a new handshake sees the new certificate"
        );
        assert_ne!(secure.tls.fingerprint(), before);
    }
    publishing.await.unwrap();
    eventually("every command to run", async || ran.lock().unwrap().len() == 8 * 400).await;
    for (plugin, epoch) in &plugins {
        let state = plugin.state().borrow().clone();
        assert!(matches!(state, ClientState::Connected(now) if now == *epoch), "{state:?}");
    }
    assert_eq!(secure.relay.handle().stats().redelivered, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_deadline_counts_from_the_socket_to_the_login() {
    let limit = Duration::from_secs(2);
    let settings = TransportSettings { login_timeout: limit, ..TransportSettings::default() };
    let secure = Secure::start_with(settings).await;
    let silent = async |mut stream: Box<dyn Bytestream>, since: Instant| {
        let mut rest = Vec::new();
        let _ = soon("the close", stream.read_to_end(&mut rest)).await;
        let took = since.elapsed();
        // A second deadline that began with the handshake would end after five thirds of the limit.
        assert!(took >= limit - Duration::from_millis(50) && took < limit * 7 / 5, "{took:?}");
    };
    // Says nothing; says half a handshake; shakes hands late and says nothing, or half a request.
    let nothing = async {
        let since = Instant::now();
        silent(Box::new(secure.connect().await), since).await;
    };
    let half_a_handshake = async {
        let since = Instant::now();
        let mut socket = secure.connect().await;
        socket.write_all(&[0x16, 3, 1, 2, 0, 1]).await.unwrap();
        silent(Box::new(socket), since).await;
    };
    let late = async |said: &'static str| {
        let since = Instant::now();
        let socket = secure.connect().await;
        tokio::time::sleep(limit * 2 / 3).await;
        let mut stream = secure.handshake(socket).await.unwrap();
        stream.write_all(said.as_bytes()).await.unwrap();
        silent(Box::new(stream), since).await;
    };
    tokio::join!(nothing, half_a_handshake, late(""), late("GET /healthz HTTP/1.1\r\nHost:"));
}

#[tokio::test(flavor = "multi_thread")]
async fn tickets_revoked_credentials_and_failed_logins_are_the_same_through_tls() {
    let once = FailedLoginLimit { per_second: 1, burst: 1 };
    let mut secure =
        Secure::start_changed(TransportSettings::default(), |broker| broker.failed_logins = once).await;
    let server = secure.relay.server("lobby").await;
    let options = secure.plugin(&server, secure.ca());
    let plugin = PluginClient::start(options, running(&Arc::default())).await.unwrap();
    soon("a session", plugin.connected()).await.unwrap();
    secure.relay.restart().await;
    secure.relay.sessions(1).await;
    assert_eq!((secure.relay.logins().by_ticket, secure.relay.logins().hashed), (1, 0));

    let handle = secure.relay.handle();
    handle.registry().by(Actor::LOCAL).regenerate_token(server.id).await.unwrap();
    handle.token_regenerated(server.id).await.unwrap();
    let mut state = plugin.state();
    let ended = state.wait_for(|state| matches!(state, ClientState::Ended(_)));
    let ClientState::Ended(error) = soon("the end", ended).await.unwrap().clone() else {
        panic!("not ended")
    };
    assert!(matches!(*error, ClientError::Refused { code: Code::TokenRevoked, .. }), "{error}");

    let (key, text) =
        handle.registry().by(Actor::LOCAL).create_key(StoreId(1), Scope::Publish, "shop").await.unwrap();
    let mut publisher = secure.raw("127.0.0.1:0", PUBLISHER_PATH, Some(text.reveal())).await;
    publisher
        .send(Request::PublisherHello(PublisherHello {
            version_min: VERSION,
            version_max: VERSION,
            ..PublisherHello::default()
        }))
        .await;
    assert!(matches!(publisher.next().await.get(), Response::PublisherWelcome(_)));
    handle.registry().by(Actor::LOCAL).remove_key(key).await.unwrap();
    assert_eq!(publisher.ended().await.0, Code::TokenRevoked);

    // The old token, from one network until it is over its limit, and then from another.
    let login = async |from| {
        let mut raw = secure.raw(from, PLUGIN_PATH, None).await;
        raw.send(Request::PluginHello(plugin_hello(&server.token))).await;
        raw.ended().await.0
    };
    assert_eq!(login("127.0.0.1:0").await, Code::InvalidCredentials);
    let over = async { while login("127.0.0.2:0").await != Code::LoginBusy {} };
    soon("the limit", over).await;
    assert_eq!(login("127.0.1.1:0").await, Code::InvalidCredentials);
}

#[tokio::test(flavor = "multi_thread")]
async fn plain_http_is_told_to_speak_tls() {
    let secure = Secure::start().await;
    let mut socket = secure.connect().await;
    socket.write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    soon("the answer", socket.read_to_string(&mut answer)).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 400 ") && answer.contains("speaks TLS"), "{answer}");
    // And who speaks it gets REST.
    let mut stream = secure.handshake(secure.connect().await).await.unwrap();
    stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    soon("the answer", stream.read_to_string(&mut answer)).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
}

/// A client's first record, in which it says that this is the newest version that it speaks.
fn client_hello(version: [u8; 2]) -> Vec<u8> {
    let extensions: &[u8] = &[
        0, 10, 0, 4, 0, 2, 0, 23, // supported_groups: P-256
        0, 11, 0, 2, 1, 0, // ec_point_formats: uncompressed
        0, 13, 0, 4, 0, 2, 4, 3, // signature_algorithms: ECDSA on P-256 with SHA-256
        0, 23, 0, 0, // extended_master_secret
    ];
    let mut hello = version.to_vec();
    hello.extend([7; 32]);
    // No session; ECDHE-ECDSA with AES-128-GCM, and with AES-128-CBC; no compression.
    hello.extend([0, 0, 4, 0xc0, 0x2b, 0xc0, 0x09, 1, 0]);
    hello.extend([0, extensions.len() as u8]);
    hello.extend(extensions);
    let length = hello.len() as u8;
    [&[0x16, 3, 1, 0, length + 4, 1, 0, 0, length][..], &hello].concat()
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_1_1_is_refused_and_tls_1_2_is_not() {
    let secure = Secure::start().await;
    let answer = async |version| {
        let mut socket = secure.connect().await;
        socket.write_all(&client_hello(version)).await.unwrap();
        let mut answer = [0; 7];
        soon("the answer", socket.read_exact(&mut answer)).await.unwrap();
        answer
    };
    // A server's hello in a handshake record; a fatal alert, protocol_version.
    let hello = answer([3, 3]).await;
    assert_eq!((hello[0], hello[5]), (0x16, 2), "{hello:?}");
    for version in [[3, 2], [3, 1], [3, 0]] {
        assert_eq!(answer(version).await, [0x15, 3, 3, 0, 2, 2, 70]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plugin_that_does_not_read_its_tls_is_closed() {
    let secure = Secure::start_with(TransportSettings {
        heartbeat: Duration::from_millis(200),
        write_timeout: Duration::from_millis(400),
        ..TransportSettings::default()
    })
    .await;
    let server = secure.relay.server("lobby").await;
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    let socket = socket.connect(secure.relay.address).await.unwrap();
    let mut raw = Raw::upgrade(secure.handshake(socket).await.unwrap(), PLUGIN_PATH, None).await;
    let mut hello = plugin_hello(&server.token);
    hello.window = 4096;
    raw.send(Request::PluginHello(hello)).await;
    raw.next().await;
    secure.relay.sessions(1).await;
    let publisher = secure.publisher(secure.ca()).await;
    let target = Servers::One(server.id);
    let publishing = tokio::spawn(async move {
        let text = "x".repeat(4096);
        for _ in 0..20 {
            let commands = vec![OrderCommand::new(target, text.as_str()); 200];
            soon("an answer", publisher.publish(Order { commands, ..Order::default() })).await.unwrap();
        }
    });
    let speaking = async {
        while secure.relay.handle().stats().sessions > 0 {
            raw.send(Request::Ping { nonce: 3 }).await;
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    soon("the end of the session", speaking).await;
    assert_eq!(raw.ended().await.0, Code::SlowReader);
    publishing.await.unwrap();
}
