//! A peer that speaks frames by hand, and may speak nonsense.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};
use fluxrelay::limits::FRAME_BYTES_MAX;
use fluxrelay::protocol::{
    Code, Credential, PLUGIN_PATH, PUBLISHER_PATH, PluginHello, PublisherHello, Request, Response, VERSION,
};
use futures_util::{SinkExt, StreamExt};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::protocol::frame::Frame as RawFrame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Data, OpCode};

use crate::relay::{Relay, soon};

/// A socket, plain or with TLS.
pub(crate) trait Bytestream: AsyncRead + AsyncWrite + Unpin + Send {}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Bytestream for S {}

pub(crate) struct Raw {
    socket: WebSocketStream<Box<dyn Bytestream>>,
    frames: VecDeque<Frame>,
    fragmented: bool,
}

/// One frame from the broker.
pub(crate) struct Frame(Bytes);

impl Frame {
    /// As it came.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.0
    }

    pub(crate) fn get(&self) -> Response<'_> {
        Response::decode(&self.0, FRAME_BYTES_MAX).unwrap().unwrap().0
    }
}

/// A plugin's hello without anything to report.
pub(crate) fn plugin_hello(token: &str) -> PluginHello<'_> {
    PluginHello {
        version_min: VERSION,
        version_max: VERSION,
        window: 100,
        credential: Credential::Token(token),
        ..PluginHello::default()
    }
}

impl Raw {
    /// An upgraded connection on which nothing was said.
    pub(crate) async fn dial(relay: &Relay, path: &str, bearer: Option<&str>) -> Raw {
        let stream = TcpStream::connect(relay.address).await.unwrap();
        Raw::upgrade(stream, path, bearer).await
    }

    pub(crate) async fn upgrade(stream: impl Bytestream + 'static, path: &str, bearer: Option<&str>) -> Raw {
        let mut request = format!("ws://localhost{path}").into_client_request().unwrap();
        if let Some(token) = bearer {
            request.headers_mut().insert("Authorization", format!("Bearer {token}").parse().unwrap());
        }
        let stream: Box<dyn Bytestream> = Box::new(stream);
        let (socket, _) =
            soon("the upgrade", tokio_tungstenite::client_async(request, stream)).await.unwrap();
        Raw { socket, frames: VecDeque::new(), fragmented: false }
    }

    /// A plugin that is logged in.
    pub(crate) async fn plugin(relay: &Relay, token: &str) -> Raw {
        let mut raw = Raw::dial(relay, PLUGIN_PATH, None).await;
        raw.send(Request::PluginHello(plugin_hello(token))).await;
        let welcome = raw.next().await;
        assert!(matches!(welcome.get(), Response::PluginWelcome(_)), "{:?}", welcome.get());
        raw
    }

    /// A plugin's connection on which a resume ticket was shown, with a token in the upgrade request or without.
    pub(crate) async fn resume(relay: &Relay, ticket: &[u8], bearer: Option<&str>) -> Raw {
        let mut raw = Raw::dial(relay, PLUGIN_PATH, bearer).await;
        let hello = PluginHello { credential: Credential::Ticket(ticket), ..plugin_hello("") };
        raw.send(Request::PluginHello(hello)).await;
        raw
    }

    /// The ticket in the welcome, which is the next frame.
    pub(crate) async fn welcomed(&mut self) -> Vec<u8> {
        let frame = self.next().await;
        match frame.get() {
            Response::PluginWelcome(welcome) => welcome.ticket.0.to_vec(),
            other => panic!("{other:?} instead of a welcome"),
        }
    }

    /// A publisher that is logged in.
    pub(crate) async fn publisher(relay: &Relay, key: &str) -> Raw {
        let mut raw = Raw::dial(relay, PUBLISHER_PATH, None).await;
        let hello = PublisherHello {
            version_min: VERSION,
            version_max: VERSION,
            credential: Credential::Token(key),
            ..PublisherHello::default()
        };
        raw.send(Request::PublisherHello(hello)).await;
        let welcome = raw.next().await;
        assert!(matches!(welcome.get(), Response::PublisherWelcome(_)), "{:?}", welcome.get());
        raw
    }

    pub(crate) async fn send(&mut self, request: Request<'_>) {
        let mut frame = BytesMut::new();
        request.encode(&mut frame).unwrap();
        self.send_message(Message::Binary(frame.freeze())).await;
    }

    pub(crate) async fn send_message(&mut self, message: Message) {
        // The broker may have closed already; what it said before is what the test looks at.
        let _ = self.socket.send(message).await;
    }

    /// Sends a piece of a message that never ends.
    pub(crate) async fn send_fragment(&mut self, bytes: &[u8]) {
        let opcode =
            if std::mem::replace(&mut self.fragmented, true) { Data::Continue } else { Data::Binary };
        let fragment = RawFrame::message(bytes.to_vec(), OpCode::Data(opcode), false);
        self.send_message(Message::Frame(fragment)).await;
    }

    /// The next frame; `None` when the connection is closed.
    pub(crate) async fn try_next(&mut self) -> Option<Frame> {
        loop {
            if let Some(frame) = self.frames.pop_front() {
                return Some(frame);
            }
            match soon("a frame", self.socket.next()).await? {
                Ok(Message::Binary(mut message)) => {
                    while !message.is_empty() {
                        let (_, length) = Response::decode(&message, FRAME_BYTES_MAX).unwrap().unwrap();
                        self.frames.push_back(Frame(message.split_to(length)));
                    }
                }
                Ok(_) => {}
                Err(_) => return None,
            }
        }
    }

    pub(crate) async fn next(&mut self) -> Frame {
        self.try_next().await.expect("the connection is open")
    }

    /// Reads on to the error frame and the end of the connection.
    pub(crate) async fn ended(mut self) -> (Code, String) {
        let mut ending = None;
        while let Some(frame) = self.try_next().await {
            assert!(ending.is_none(), "{:?} after the error", frame.get());
            if let Response::Error { code, detail, .. } = frame.get() {
                ending = Some((Code::from_number(code).unwrap(), detail.to_owned()));
            }
        }
        ending.expect("an error frame before the end")
    }

    /// The ids of the next delivery.
    pub(crate) async fn delivered(&mut self) -> Vec<(u64, u16, String)> {
        loop {
            let frame = self.next().await;
            match frame.get() {
                Response::Deliver { commands } => {
                    return commands
                        .iter()
                        .map(|each| (each.id, each.attempt, each.text.to_owned()))
                        .collect();
                }
                Response::Ping { .. } => {}
                other => panic!("{other:?} instead of a delivery"),
            }
        }
    }

    /// The bytes under the frames.
    pub(crate) fn into_socket(self) -> Box<dyn Bytestream> {
        self.socket.into_inner()
    }

    /// Drops the socket without a word.
    pub(crate) fn vanish(self) {
        drop(self);
    }
}
