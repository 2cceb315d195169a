//! A broker that is played by hand, for tests of the clients: what it says and when is up to the test.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use fluxrelay::client::{BackoffOptions, Outcome, PluginOptions, PublisherClient, PublisherOptions};
use fluxrelay::limits::FRAME_BYTES_MAX;
use fluxrelay::protocol::{
    Credential, DeliveryRef, List, PluginWelcome, PublisherWelcome, Request, Response, TicketRef, VERSION,
};
use futures_util::{SinkExt, StreamExt};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::Role;

use crate::relay::soon;

/// The server's side of an upgrade, by hand.
pub(crate) async fn upgraded(mut stream: TcpStream) -> WebSocketStream<TcpStream> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(soon("the head", stream.read_u8()).await.unwrap());
    }
    let head = String::from_utf8(head).unwrap();
    let is_key = |line: &&str| line.to_ascii_lowercase().starts_with("sec-websocket-key: ");
    let (_, key) = head.lines().find(is_key).unwrap().split_once(": ").unwrap();
    let answer = format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Protocol: fluxrelay.v1\r\nSec-WebSocket-Accept: {}\r\n\r\n",
        derive_accept_key(key.as_bytes())
    );
    stream.write_all(answer.as_bytes()).await.unwrap();
    WebSocketStream::from_raw_socket(stream, Role::Server, None).await
}

/// A broker that is played by hand.
pub(crate) struct Broker(TcpListener);

/// One connection of a client.
pub(crate) struct Peer {
    socket: WebSocketStream<TcpStream>,
    frames: VecDeque<Bytes>,
}

/// What a client has sent.
pub(crate) fn request(frame: &Bytes) -> Request<'_> {
    Request::decode(frame, FRAME_BYTES_MAX).unwrap().unwrap().0
}

impl Broker {
    /// The next connection, before its upgrade.
    pub(crate) async fn socket(&self) -> io::Result<(TcpStream, SocketAddr)> {
        self.0.accept().await
    }

    pub(crate) async fn listen() -> Broker {
        Broker(TcpListener::bind("127.0.0.1:0").await.unwrap())
    }

    pub(crate) fn url(&self) -> String {
        format!("ws://{}", self.0.local_addr().unwrap())
    }

    pub(crate) fn plugin(&self) -> PluginOptions {
        PluginOptions { backoff: quick(), ..PluginOptions::new(self.url(), "srv_7.secret") }
    }

    pub(crate) fn publisher(&self) -> PublisherClient {
        let options =
            PublisherOptions { backoff: quick(), ..PublisherOptions::new(self.url(), "key_1.secret") };
        PublisherClient::start(options).unwrap()
    }

    /// The next connection and its hello.
    pub(crate) async fn accept(&self) -> (Peer, Bytes) {
        let (stream, _) = soon("a connection", self.0.accept()).await.unwrap();
        let mut peer = Peer { socket: upgraded(stream).await, frames: VecDeque::new() };
        let hello = peer.next().await;
        (peer, hello)
    }

    /// The next plugin, welcomed; and its hello.
    pub(crate) async fn welcome_plugin(&self, forget: &[u64]) -> (Peer, Bytes) {
        let (mut peer, hello) = self.accept().await;
        let forget = forget.to_vec();
        let welcome = PluginWelcome {
            version: VERSION,
            epoch: 1,
            heartbeat_ms: 10_000,
            forget: List::from(&forget),
            ..PluginWelcome::default()
        };
        peer.send(&[Response::PluginWelcome(welcome)]).await;
        (peer, hello)
    }

    /// The next plugin, given this ticket; and the credential in its hello.
    pub(crate) async fn give_ticket(&self, ticket: &[u8]) -> (Peer, Option<Vec<u8>>) {
        let (mut peer, hello) = self.accept().await;
        let welcome = PluginWelcome {
            version: VERSION,
            epoch: 1,
            heartbeat_ms: 10_000,
            ticket: TicketRef(ticket),
            ..PluginWelcome::default()
        };
        peer.send(&[Response::PluginWelcome(welcome)]).await;
        (peer, shown(&hello))
    }

    pub(crate) async fn welcome_publisher(&self) -> Peer {
        let (mut peer, _) = self.accept().await;
        let welcome = PublisherWelcome {
            version: VERSION,
            store: 3,
            heartbeat_ms: 10_000,
            publishes_in_flight_max: 2,
            ..PublisherWelcome::default()
        };
        peer.send(&[Response::PublisherWelcome(welcome)]).await;
        peer
    }
}

pub(crate) fn quick() -> BackoffOptions {
    BackoffOptions { first: Duration::from_millis(5), longest: Duration::from_millis(50) }
}

impl Peer {
    /// Whether the connection ends without a goodbye.
    pub(crate) async fn is_cut(&mut self) -> bool {
        matches!(soon("the end", self.socket.next()).await, None | Some(Err(_)))
    }

    pub(crate) async fn next(&mut self) -> Bytes {
        loop {
            if let Some(frame) = self.frames.pop_front() {
                return frame;
            }
            match soon("a frame", self.socket.next()).await {
                Some(Ok(Message::Binary(mut message))) => {
                    while !message.is_empty() {
                        let (_, length) = Request::decode(&message, FRAME_BYTES_MAX).unwrap().unwrap();
                        self.frames.push_back(message.split_to(length));
                    }
                }
                Some(Ok(_)) => {}
                end => panic!("the client closed: {end:?}"),
            }
        }
    }

    pub(crate) async fn send(&mut self, responses: &[Response<'_>]) {
        let mut frames = BytesMut::new();
        responses.iter().for_each(|response| response.encode(&mut frames).unwrap());
        self.socket.send(Message::Binary(frames.freeze())).await.unwrap();
    }

    pub(crate) async fn deliver(&mut self, commands: &[(u64, u16)]) {
        let commands: Vec<DeliveryRef<'_>> = commands
            .iter()
            .map(|(id, attempt)| DeliveryRef {
                id: *id,
                attempt: *attempt,
                require_online: false,
                rerun: false,
                text: "say hi",
                player: None,
            })
            .collect();
        self.send(&[Response::Deliver { commands: List::from(&commands) }]).await;
    }

    /// The next batch: its number, and what it reports.
    pub(crate) async fn results(&mut self) -> (u64, Vec<(u64, u16, Outcome)>) {
        let frame = self.next().await;
        let Request::Results { batch, results } = request(&frame) else { panic!("{:?}", request(&frame)) };
        (batch, results.iter().map(|result| (result.id, result.attempt, result.outcome)).collect())
    }

    /// The next publish: its number and key.
    pub(crate) async fn publish(&mut self) -> (u64, String) {
        let frame = self.next().await;
        let Request::Publish(publish) = request(&frame) else { panic!("{:?}", request(&frame)) };
        (publish.request, publish.order.key.unwrap().to_owned())
    }
}

/// The ticket in a hello.
pub(crate) fn shown(hello: &Bytes) -> Option<Vec<u8>> {
    let Request::PluginHello(hello) = request(hello) else { panic!("not a plugin's hello") };
    match hello.credential {
        Credential::None => None,
        Credential::Ticket(ticket) => Some(ticket.to_vec()),
        Credential::Token(_) | Credential::TicketAndToken { .. } => {
            panic!("the token belongs in the upgrade request")
        }
    }
}
