//! Logins, replaced and revoked sessions, heartbeats, go-away.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use fluxrelay::broker::{Actor, Scope};
use fluxrelay::client::{
    ClientError, ClientState, Code, DeliveredCommand, PluginClient, PluginOptions, Report,
};
use fluxrelay::ids::StoreId;
use fluxrelay::protocol::{
    Credential, PLUGIN_PATH, PUBLISHER_PATH, PublisherHello, Request, Response, VERSION,
};
use fluxrelay::transport::TransportSettings;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::Instant;

use crate::played::upgraded;
use crate::raw::{Raw, plugin_hello};
use crate::relay::{Relay, soon};

fn idle(_: Vec<DeliveredCommand>, _: &mut Vec<Report>) {}

fn quick() -> TransportSettings {
    TransportSettings {
        login_timeout: Duration::from_millis(300),
        heartbeat: Duration::from_millis(200),
        ..TransportSettings::default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_credentials_are_refused_in_one_way() {
    let relay = Relay::start().await;
    let server = relay.server("lobby").await;
    let secret = server.token.split_once('.').unwrap().1;
    let flipped: String =
        server.token[..server.token.len() - 1].to_owned() + if secret.ends_with('A') { "B" } else { "A" };
    let unknown = format!("srv_99.{secret}");
    let mut said = Vec::new();
    for token in [flipped.as_str(), unknown.as_str(), "nonsense", "", &"x".repeat(3000)] {
        let mut in_hello = Raw::dial(&relay, PLUGIN_PATH, None).await;
        in_hello.send(Request::PluginHello(plugin_hello(token))).await;
        said.push(in_hello.ended().await);
    }
    let mut in_header = Raw::dial(&relay, PLUGIN_PATH, Some(&flipped)).await;
    in_header.send(Request::PluginHello(plugin_hello_without_token())).await;
    said.push(in_header.ended().await);
    said.dedup();
    assert_eq!(said.len(), 1, "{said:?}");
    assert_eq!(said[0].0, Code::InvalidCredentials);
    assert!(!said[0].1.contains(secret));
    assert_eq!(relay.handle().stats().sessions, 0);

    let options = PluginOptions::new(relay.url(), flipped);
    let client = PluginClient::start(options, idle).await.unwrap();
    let error = soon("the end", client.ended()).await;
    assert!(matches!(error, ClientError::Refused { code: Code::InvalidCredentials, .. }), "{error}");
}

fn plugin_hello_without_token() -> fluxrelay::protocol::PluginHello<'static> {
    fluxrelay::protocol::PluginHello { credential: Credential::None, ..plugin_hello("") }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hello_needs_a_credential_a_version_and_its_own_path() {
    let relay = Relay::start().await;
    let server = relay.server("lobby").await;
    let key = relay.key(Scope::Publish).await;
    let mut refused = Vec::new();
    let hello = plugin_hello(&server.token);
    let newer = fluxrelay::protocol::PluginHello { version_min: 2, version_max: 3, ..hello };
    let ticket = fluxrelay::protocol::PluginHello { credential: Credential::Ticket(&[1, 2, 3]), ..hello };
    let publisher = PublisherHello {
        version_min: VERSION,
        version_max: VERSION,
        credential: Credential::Token(&key),
        ..PublisherHello::default()
    };
    for (path, first) in [
        (PLUGIN_PATH, Request::PluginHello(plugin_hello_without_token())),
        (PLUGIN_PATH, Request::PluginHello(newer)),
        (PLUGIN_PATH, Request::PluginHello(ticket)),
        (PLUGIN_PATH, Request::PublisherHello(publisher)),
        (PUBLISHER_PATH, Request::PluginHello(hello)),
        (PLUGIN_PATH, Request::Ping { nonce: 1 }),
    ] {
        let mut raw = Raw::dial(&relay, path, None).await;
        raw.send(first).await;
        refused.push(raw.ended().await.0);
    }
    let expected = [
        Code::LoginRequired,
        Code::UnsupportedVersion,
        Code::InvalidCredentials,
        Code::ProtocolViolation,
        Code::ProtocolViolation,
        Code::LoginRequired,
    ];
    assert_eq!(refused, expected);
    // A token is no key, and a key is no token.
    for (path, credential) in [(PLUGIN_PATH, &key), (PUBLISHER_PATH, &server.token)] {
        let mut raw = Raw::dial(&relay, path, Some(credential)).await;
        raw.send(match path {
            PLUGIN_PATH => Request::PluginHello(plugin_hello_without_token()),
            _ => Request::PublisherHello(PublisherHello { credential: Credential::None, ..publisher }),
        })
        .await;
        assert_eq!(raw.ended().await.0, Code::InvalidCredentials);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_does_not_log_in_in_time_is_closed() {
    let relay = Relay::start_with(quick()).await;
    let started = Instant::now();
    let silent = Raw::dial(&relay, PLUGIN_PATH, None).await;
    assert_eq!(silent.ended().await.0, Code::LoginTimeout);
    assert!(started.elapsed() >= Duration::from_millis(250), "{:?}", started.elapsed());

    // Neither a request nor an upgrade: the socket is closed without a word.
    let mut mute = TcpStream::connect(relay.address).await.unwrap();
    let mut heard = Vec::new();
    soon("the close", mute.read_to_end(&mut heard)).await.unwrap();
    // A head that comes byte by byte does not help.
    let mut slow = TcpStream::connect(relay.address).await.unwrap();
    let dripping = async {
        for byte in std::iter::repeat_n(b"GET / HTTP/1.1\r\nX: ", 1).flatten().chain(std::iter::repeat(&b'x'))
        {
            if slow.write_all(&[*byte]).await.is_err() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    soon("the close", dripping).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_newer_connection_replaces_the_older() {
    let relay = Relay::start().await;
    let server = relay.server("lobby").await;
    let old = Raw::plugin(&relay, &server.token).await;
    let mut new = Raw::plugin(&relay, &server.token).await;
    assert_eq!(old.ended().await.0, Code::Replaced);
    relay.sessions(1).await;
    new.send(Request::Ping { nonce: 7 }).await;
    assert_eq!(new.next().await.get(), Response::Pong { nonce: 7 });

    let client = PluginClient::start(relay.plugin(&server), idle).await.unwrap();
    soon("a session", client.connected()).await.unwrap();
    assert_eq!(new.ended().await.0, Code::Replaced);
    let _newest = Raw::plugin(&relay, &server.token).await;
    let error = soon("the end", client.ended()).await;
    assert!(matches!(error, ClientError::Refused { code: Code::Replaced, .. }), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_token_ends_the_session_of_the_old_one_at_once() {
    let relay = Relay::start().await;
    let server = relay.server("lobby").await;
    let raw = Raw::plugin(&relay, &server.token).await;
    let started = Instant::now();
    let token = relay.handle().registry().by(Actor::LOCAL).regenerate_token(server.id).await.unwrap();
    relay.handle().token_regenerated(server.id).await.unwrap();
    assert_eq!(raw.ended().await.0, Code::TokenRevoked);
    assert!(started.elapsed() < Duration::from_secs(1), "{:?}", started.elapsed());
    let mut old = Raw::dial(&relay, PLUGIN_PATH, None).await;
    old.send(Request::PluginHello(plugin_hello(&server.token))).await;
    assert_eq!(old.ended().await.0, Code::InvalidCredentials);
    let new = Raw::plugin(&relay, token.reveal()).await;

    relay.handle().registry().by(Actor::LOCAL).remove_server(server.id).await.unwrap();
    relay.handle().server_removed(server.id).await.unwrap();
    assert_eq!(new.ended().await.0, Code::ServerRemoved);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_silent_are_pinged_and_the_dead_are_closed() {
    let relay = Relay::start_with(quick()).await;
    let server = relay.server("lobby").await;
    let mut answers = Raw::plugin(&relay, &server.token).await;
    for _ in 0..4 {
        let ping = answers.next().await;
        let Response::Ping { nonce } = ping.get() else { panic!("{:?}", ping.get()) };
        answers.send(Request::Pong { nonce }).await;
    }
    // Half open: the socket stands, nobody speaks any more.
    let silent_since = Instant::now();
    assert_eq!(answers.ended().await.0, Code::HeartbeatTimeout);
    let silence = silent_since.elapsed();
    assert!(silence >= Duration::from_millis(450) && silence < Duration::from_secs(5), "{silence:?}");
    relay.sessions(0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn idle_clients_stay_connected() {
    let relay = Relay::start_with(quick()).await;
    let server = relay.server("lobby").await;
    let client = PluginClient::start(relay.plugin(&server), idle).await.unwrap();
    let publisher = relay.publisher().await;
    let epoch = soon("a session", client.connected()).await.unwrap();
    soon("a login", publisher.connected()).await.unwrap();
    tokio::time::sleep(Duration::from_millis(200 * 6)).await;
    let state = client.state().borrow().clone();
    assert!(matches!(state, ClientState::Connected(now) if now == epoch), "{state:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_is_gone_without_a_word_is_noticed() {
    // A broker that welcomes and then says nothing more: a listener of ours in its place.
    let relay = Relay::start_with(quick()).await;
    let server = relay.server("lobby").await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut options = relay.plugin(&server);
    options.url = format!("ws://{}", listener.local_addr().unwrap());
    // Long enough to be seen waiting.
    options.backoff.first = Duration::from_secs(60);
    let client = PluginClient::start(options, idle).await.unwrap();
    let (stream, _) = soon("a connection", listener.accept()).await.unwrap();
    let mut mute = upgraded(stream).await;
    let mut welcome = bytes::BytesMut::new();
    let frame =
        fluxrelay::protocol::PluginWelcome { version: VERSION, heartbeat_ms: 100, ..Default::default() };
    Response::PluginWelcome(frame).encode(&mut welcome).unwrap();
    let message = tokio_tungstenite::tungstenite::Message::Binary(welcome.freeze());
    futures_util::SinkExt::send(&mut mute, message).await.unwrap();
    soon("a session", client.connected()).await.unwrap();
    let mut state = client.state();
    let waiting =
        soon("the end of the session", state.wait_for(|state| matches!(state, ClientState::Waiting { .. })))
            .await;
    assert!(format!("{:?}", *waiting.unwrap()).contains("nothing was heard"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopping_broker_says_when_to_come_back() {
    let mut relay = Relay::start().await;
    let server = relay.server("lobby").await;
    let mut plugin = Raw::plugin(&relay, &server.token).await;
    let mut publisher = Raw::publisher(&relay, &relay.key(Scope::Publish).await).await;
    relay.stop().await;
    for raw in [&mut plugin, &mut publisher] {
        let frame = raw.next().await;
        let Response::GoAway { code, delay_ms } = frame.get() else { panic!("{:?}", frame.get()) };
        assert_eq!(Code::from_number(code), Some(Code::ShuttingDown));
        assert!(delay_ms <= 50);
        assert!(raw.try_next().await.is_none());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removed_key_ends_connections_that_never_pause() {
    let relay = Relay::start().await;
    let registry = || relay.handle().registry();
    let (id, key) = registry().by(Actor::LOCAL).create_key(StoreId(1), Scope::Publish, "shop").await.unwrap();
    // Messages of one frame without an answer each, under a mask of zeros: the broker is never through with them.
    let mut pong = BytesMut::from(&[0x82, 0x8c, 0, 0, 0, 0][..]);
    Request::Pong { nonce: 7 }.encode(&mut pong).unwrap();
    let pongs: Bytes = pong.repeat(64 * 1024).into();
    let (mut floods, mut ends) = (Vec::new(), Vec::new());
    for _ in 0..3 {
        let socket = Raw::publisher(&relay, key.reveal()).await.into_socket();
        let (answers, mut questions) = tokio::io::split(socket);
        let pongs = pongs.clone();
        floods.push(tokio::spawn(async move { while questions.write_all(&pongs).await.is_ok() {} }));
        ends.push(answers);
    }
    let removing = Instant::now();
    registry().by(Actor::LOCAL).remove_key(id).await.unwrap();
    for answers in &mut ends {
        assert!(soon("the error", answers.read(&mut [0; 64])).await.unwrap() > 0);
    }
    assert!(removing.elapsed() < Duration::from_secs(1), "{:?}", removing.elapsed());
    floods.iter().for_each(tokio::task::JoinHandle::abort);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removed_key_ends_its_connections_at_once_and_no_others() {
    let relay = Relay::start().await;
    let registry = || relay.handle().registry();
    let (id, key) = registry().by(Actor::LOCAL).create_key(StoreId(1), Scope::Publish, "shop").await.unwrap();
    let other_key = relay.key(Scope::Publish).await;
    let publisher = Raw::publisher(&relay, key.reveal()).await;
    let mut other = Raw::publisher(&relay, &other_key).await;
    let mut events = TcpStream::connect(relay.address).await.unwrap();
    let request = format!(
        "GET /v1/events HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\nConnection: close\r\n\r\n",
        key.reveal()
    );
    events.write_all(request.as_bytes()).await.unwrap();
    let mut head = [0; 12];
    soon("the head", events.read_exact(&mut head)).await.unwrap();
    assert_eq!(&head, b"HTTP/1.1 200");

    let started = Instant::now();
    registry().by(Actor::LOCAL).remove_key(id).await.unwrap();
    assert_eq!(publisher.ended().await.0, Code::TokenRevoked);
    let mut rest = Vec::new();
    soon("the end of the events", events.read_to_end(&mut rest)).await.unwrap();
    assert!(started.elapsed() < Duration::from_secs(1), "{:?}", started.elapsed());
    other.send(Request::Ping { nonce: 7 }).await;
    assert!(matches!(other.next().await.get(), Response::Pong { nonce: 7 }), "another key's goes on");
}
