//! The way in: who is in is served by other threads than who is not, whatever the first request of a socket was.

use axum::Router;
use axum::routing::get;
use fluxrelay::protocol::{PLUGIN_PATH, Request, Response};
use fluxrelay::transport::{self, TransportSettings};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use crate::raw::{Raw, plugin_hello};
use crate::relay::{Relay, soon};

/// Reads up to the end of a head.
async fn head(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(soon("the answer", stream.read_u8()).await.unwrap());
    }
    String::from_utf8(head).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_are_served_away_from_the_doors() {
    let relay = Relay::start().await;
    let here = async || std::thread::current().name().unwrap_or_default().to_owned();
    let router = Router::new().route("/thread", get(here));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let stop = watch::Sender::new(false);
    let settings = TransportSettings::default();
    let serving = transport::serve(listener, router, relay.handle().clone(), settings, stop.subscribe());
    let serving = tokio::spawn(serving);
    stream.write_all(b"GET /thread HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    soon("the answer", stream.read_to_string(&mut answer)).await.unwrap();
    let ours = tokio::spawn(here()).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with(&ours), "{answer}");
    stop.send_replace(true);
    soon("the listener to end", serving).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_socket_that_had_a_request_may_still_become_a_connection() {
    let relay = Relay::start().await;
    let server = relay.server("lobby").await;
    let mut stream = TcpStream::connect(relay.address).await.unwrap();
    stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    let answer = head(&mut stream).await;
    let length = answer.split("content-length: ").nth(1).unwrap().split("\r\n").next().unwrap();
    let mut body = vec![0; length.parse().unwrap()];
    soon("the body", stream.read_exact(&mut body)).await.unwrap();
    let mut raw = Raw::upgrade(stream, PLUGIN_PATH, None).await;
    raw.send(Request::PluginHello(plugin_hello(&server.token))).await;
    assert!(matches!(raw.next().await.get(), Response::PluginWelcome(_)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handshake_may_have_a_long_head_and_come_in_pieces() {
    let relay = Relay::start().await;
    let long = "x".repeat(6000);
    for added in ["x", &long] {
        let mut stream = TcpStream::connect(relay.address).await.unwrap();
        let request = format!(
            "GET {PLUGIN_PATH} HTTP/1.1\r\nHost: x\r\nX-Added: {added}\r\nUpgrade: websocket\r\n\
             Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        );
        for piece in request.as_bytes().chunks(997) {
            stream.write_all(piece).await.unwrap();
            stream.flush().await.unwrap();
        }
        let answer = head(&mut stream).await;
        assert!(answer.starts_with("HTTP/1.1 101 "), "{answer}");
        // The example of RFC 6455, section 1.3.
        assert!(answer.contains("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="), "{answer}");
    }
}
