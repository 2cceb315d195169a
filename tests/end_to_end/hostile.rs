//! What strangers and broken peers send: each gets one clear answer, nobody else notices.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use fluxrelay::broker::Scope;
use fluxrelay::client::{Code, Order, OrderCommand, Servers};
use fluxrelay::limits::FRAME_BYTES_MAX;
use fluxrelay::protocol::{
    OrderHead, PLUGIN_PATH, PUBLISHER_PATH, PublishCommand, Request, Response, encode_publish,
};
use fluxrelay::transport::TransportSettings;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio_tungstenite::tungstenite::Message;

use crate::raw::{Raw, plugin_hello};
use crate::relay::{Relay, eventually, soon};

/// Sends HTTP bytes and gives the whole answer; whoever is refused unread may be reset behind it.
async fn http(relay: &Relay, request: &str) -> String {
    let mut stream = TcpStream::connect(relay.address).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    let _ = soon("the answer", stream.read_to_end(&mut answer)).await;
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn plain_requests_are_told_to_upgrade_and_rest_is_on_the_same_port() {
    let relay = Relay::start().await;
    for path in [PLUGIN_PATH, PUBLISHER_PATH] {
        let answer =
            http(&relay, &format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")).await;
        assert!(answer.starts_with("HTTP/1.1 426"), "{answer}");
        assert!(answer.contains("\"code\":\"upgrade_required\""), "{answer}");
    }
    let healthy = http(&relay, "GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await;
    assert!(healthy.starts_with("HTTP/1.1 200"), "{healthy}");
}

#[tokio::test(flavor = "multi_thread")]
async fn sockets_over_the_limit_are_refused_and_then_let_in_again() {
    let relay =
        Relay::start_with(TransportSettings { connections_max: 2, ..TransportSettings::default() }).await;
    let server = relay.server("lobby").await;
    let first = Raw::plugin(&relay, &server.token).await;
    let _second = Raw::dial(&relay, PLUGIN_PATH, None).await;
    let refused = http(&relay, "").await;
    assert!(refused.starts_with("HTTP/1.1 503") && refused.contains("Retry-After"), "{refused:?}");
    first.vanish();
    let healthy = "GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    eventually("room again", async || http(&relay, healthy).await.starts_with("HTTP/1.1 200")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn before_login_no_more_than_4_kib() {
    let relay = Relay::start().await;
    let server = relay.server("lobby").await;
    let ids: Vec<u64> = (1..=1000).collect();
    let hello = |token| {
        let mut hello = plugin_hello(token);
        hello.held = (&ids).into();
        let mut frame = BytesMut::new();
        Request::PluginHello(hello).encode(&mut frame).unwrap();
        assert!(frame.len() > 4096);
        Message::Binary(frame.freeze())
    };
    let mut raw = Raw::dial(&relay, PLUGIN_PATH, None).await;
    raw.send_message(hello(&server.token)).await;
    let (code, detail) = raw.ended().await;
    assert_eq!(code, Code::FrameTooLarge);
    assert!(detail.contains("4096"), "{detail}");
    // A wrong token in the header does not widen it, the right one does.
    let mut raw = Raw::dial(&relay, PLUGIN_PATH, Some("srv_1.wrong")).await;
    raw.send_message(hello(&server.token)).await;
    assert_eq!(raw.ended().await.0, Code::FrameTooLarge);
    let mut raw = Raw::dial(&relay, PLUGIN_PATH, Some(&server.token)).await;
    raw.send_message(hello(&server.token)).await;
    assert!(matches!(raw.next().await.get(), Response::PluginWelcome(_)));
    // In a fragmented message nothing more gets through either.
    let mut raw = Raw::dial(&relay, PLUGIN_PATH, None).await;
    for _ in 0..5 {
        raw.send_fragment(&[0; 1000]).await;
    }
    assert_eq!(raw.ended().await.0, Code::FrameTooLarge);
}

#[tokio::test(flavor = "multi_thread")]
async fn after_login_no_more_than_1_mib() {
    let relay = Relay::start().await;
    let server = relay.server("lobby").await;
    let mut raw = Raw::plugin(&relay, &server.token).await;
    raw.send_message(Message::Binary(vec![0; FRAME_BYTES_MAX + 1].into())).await;
    assert_eq!(raw.ended().await.0, Code::FrameTooLarge);
    relay.sessions(0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_violation_has_its_code() {
    let relay = Relay::start().await;
    let server = relay.server("lobby").await;
    let frames = |requests: &[Request<'_>]| {
        let mut frames = BytesMut::new();
        requests.iter().for_each(|request| request.encode(&mut frames).unwrap());
        Message::Binary(frames.freeze())
    };
    let result = fluxrelay::protocol::ResultRef {
        id: 64,
        attempt: 1,
        outcome: fluxrelay::client::Outcome::Completed,
        error: None,
        output: None,
    };
    let results = [result];
    let batch = |batch| Request::Results { batch, results: (&results).into() };
    let publish = Request::Subscribe { after: None };
    for (what, message, code, words) in [
        ("text", Message::Text("hello".into()), Code::ProtocolViolation, "binary"),
        ("an unknown frame", Message::Binary(Bytes::from_static(&[0x30, 0, 0, 0])), Code::BadFrame, "type"),
        ("half a frame", Message::Binary(Bytes::from_static(&[0x10, 8, 0, 0, 1])), Code::BadFrame, "length"),
        (
            "a wide window",
            Message::Binary(Bytes::from_static(&[3, 4, 0, 0, 1, 16, 0, 0])),
            Code::InvalidFrameField,
            "4096",
        ),
        (
            "a second hello",
            frames(&[Request::PluginHello(plugin_hello("x"))]),
            Code::ProtocolViolation,
            "hello",
        ),
        ("a publisher's frame", frames(&[publish]), Code::ProtocolViolation, "publisher"),
        ("a falling batch", frames(&[batch(2), batch(2)]), Code::ProtocolViolation, "batch"),
    ] {
        let mut raw = Raw::plugin(&relay, &server.token).await;
        raw.send_message(message).await;
        let mut ending = None;
        while let Some(frame) = raw.try_next().await {
            if let Response::Error { code, detail, .. } = frame.get() {
                ending = Some((Code::from_number(code).unwrap(), detail.to_owned()));
            }
        }
        let (found, detail) = ending.expect(what);
        assert_eq!(found, code, "{what}: {detail}");
        assert!(detail.contains(words), "{what}: {detail:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn garbage_ends_its_connection_and_no_other() {
    let relay = Relay::start_with(TransportSettings {
        login_timeout: Duration::from_millis(500),
        ..TransportSettings::default()
    })
    .await;
    let server = relay.server("lobby").await;
    let mut good = Raw::plugin(&relay, &server.token).await;
    let mut noise = 0x9e37_79b9_7f4a_7c15_u64;
    let mut byte = || {
        noise = noise.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (noise >> 33) as u8
    };
    for round in 0..40 {
        let garbage: Vec<u8> = (0..round * 13).map(|_| byte()).collect();
        // As HTTP, as WebSocket bytes behind an upgrade, as a frame.
        let mut stream = TcpStream::connect(relay.address).await.unwrap();
        if round % 3 == 1 {
            let head = format!(
                "GET {PLUGIN_PATH} HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                 Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
            );
            stream.write_all(head.as_bytes()).await.unwrap();
        }
        if round % 3 == 2 {
            let mut raw = Raw::upgrade(stream, PUBLISHER_PATH, None).await;
            raw.send_message(Message::Binary(garbage.into())).await;
            while raw.try_next().await.is_some() {}
            continue;
        }
        let _ = stream.write_all(&garbage).await;
        let mut answer = Vec::new();
        let _ = soon("the close", stream.read_to_end(&mut answer)).await;
    }
    good.send(Request::Ping { nonce: 1 }).await;
    assert_eq!(good.next().await.get(), Response::Pong { nonce: 1 });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plugin_that_does_not_read_is_closed() {
    let relay = Relay::start_with(TransportSettings {
        heartbeat: Duration::from_millis(200),
        write_timeout: Duration::from_millis(400),
        ..TransportSettings::default()
    })
    .await;
    let server = relay.server("lobby").await;
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    let mut raw = Raw::upgrade(socket.connect(relay.address).await.unwrap(), PLUGIN_PATH, None).await;
    let mut hello = plugin_hello(&server.token);
    hello.window = 4096;
    raw.send(Request::PluginHello(hello)).await;
    raw.next().await;
    relay.sessions(1).await;
    let (publisher, target) = (relay.publisher().await, Servers::One(server.id));
    let publishing = tokio::spawn(async move {
        let text = "x".repeat(4096);
        for _ in 0..20 {
            let commands = vec![OrderCommand::new(target, text.as_str()); 200];
            soon("an answer", publisher.publish(Order { commands, ..Order::default() })).await.unwrap();
        }
    });
    // It speaks all the time, so that silence is not the reason, and reads only once the broker has given up.
    let speaking = async {
        while relay.handle().stats().sessions > 0 {
            raw.send(Request::Ping { nonce: 3 }).await;
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    soon("the end of the session", speaking).await;
    assert_eq!(raw.ended().await.0, Code::SlowReader);
    publishing.await.unwrap();
    // Nobody else has noticed.
    let healthy = http(&relay, "GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await;
    assert!(healthy.starts_with("HTTP/1.1 200"), "{healthy}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_publisher_that_asks_too_much_at_once_waits_and_gets_every_answer() {
    let relay =
        Relay::start_with(TransportSettings { publish_window: 4, ..TransportSettings::default() }).await;
    let server = relay.server("lobby").await;
    let mut raw = Raw::publisher(&relay, &relay.key(Scope::Publish).await).await;
    let mut answered = std::collections::BTreeSet::new();
    for message in 0..20 {
        let mut frames = BytesMut::new();
        for request in message * 50..(message + 1) * 50 {
            let command = PublishCommand { server: server.id.0, text: "say hi", ..PublishCommand::default() };
            encode_publish(&mut frames, request, &OrderHead::default(), [command].into_iter()).unwrap();
        }
        raw.send_message(Message::Binary(frames.freeze())).await;
    }
    while answered.len() < 1000 {
        let frame = raw.next().await;
        let Response::Published { request, .. } = frame.get() else { panic!("{:?}", frame.get()) };
        assert!(answered.insert(request), "{request} is answered once");
    }
}
