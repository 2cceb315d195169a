//! A client's WebSocket: dialling, whole messages of frames out and in, small buffers. Knows no frame.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use futures_util::{Sink, Stream};
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::http::{HeaderValue, Uri, header};
use tokio_tungstenite::tungstenite::protocol::{Message, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Error, handshake::client::Request};

use super::error::{ClientError, OptionsError};
use crate::limits::FRAME_BYTES_MAX;
use crate::protocol::SUBPROTOCOL;

/// Bytes that one system call reads.
const READ_BYTES: usize = 4 * 1024;

/// Where a client connects to, checked.
#[derive(Clone)]
pub(super) struct Target {
    address: String,
    request: Request,
}

impl Target {
    /// `path` is used when the URL has none.
    pub(super) fn new(url: &str, path: &str, credential: &str) -> Result<Target, OptionsError> {
        let bad = |reason| OptionsError::Url { url: url.to_owned(), reason };
        let uri: Uri = url.parse().map_err(|_| bad("it is not a URL"))?;
        match uri.scheme_str() {
            Some("ws" | "http") => {}
            Some("wss" | "https") => {
                return Err(bad(
                    "TLS is not built in: put a TLS proxy in front, or use ws:// on a private network",
                ));
            }
            _ => return Err(bad("it must begin with ws:// or http://")),
        }
        let host = uri.host().filter(|host| !host.is_empty()).ok_or_else(|| bad("it has no host"))?;
        let port = uri.port_u16().unwrap_or(80);
        let path = match uri.path() {
            "" | "/" => path,
            given => given,
        };
        let mut request = format!("ws://{host}:{port}{path}")
            .into_client_request()
            .map_err(|_| bad("its path cannot be used"))?;
        let mut bearer =
            HeaderValue::try_from(format!("Bearer {credential}")).map_err(|_| OptionsError::Token)?;
        bearer.set_sensitive(true);
        request.headers_mut().insert(header::AUTHORIZATION, bearer);
        let subprotocol = HeaderValue::from_static(SUBPROTOCOL);
        request.headers_mut().insert(header::SEC_WEBSOCKET_PROTOCOL, subprotocol);
        Ok(Target { address: format!("{host}:{port}"), request })
    }
}

/// Why a connection could not be made, or ended.
#[derive(Debug)]
pub(super) enum SocketError {
    /// May pass by itself; the words are for a log.
    Lost(String),
    /// Will not pass by itself.
    Foreign(ClientError),
}

impl From<Error> for SocketError {
    fn from(error: Error) -> SocketError {
        SocketError::Lost(error.to_string())
    }
}

/// What happened on a socket.
#[derive(Debug)]
pub(super) enum Arrived {
    /// One message of frames.
    Frames(Bytes),
    /// A sign of life without frames.
    Heard,
    /// Everything that was queued is written.
    Written,
}

/// An open socket.
pub(super) struct Socket {
    stream: WebSocketStream<TcpStream>,
    unwritten: bool,
}

impl Socket {
    /// Connects; callers bound it by a timeout.
    pub(super) async fn dial(target: &Target) -> Result<Socket, SocketError> {
        let lost = |error: std::io::Error| {
            SocketError::Lost(format!("cannot connect to {}: {error}", target.address))
        };
        let stream = TcpStream::connect(&target.address).await.map_err(lost)?;
        stream.set_nodelay(true).map_err(lost)?;
        let config = WebSocketConfig::default()
            .read_buffer_size(READ_BYTES)
            .write_buffer_size(4 * 1024)
            .max_write_buffer_size(4 * FRAME_BYTES_MAX)
            .max_message_size(Some(FRAME_BYTES_MAX))
            .max_frame_size(Some(FRAME_BYTES_MAX));
        let request = target.request.clone();
        match tokio_tungstenite::client_async_with_config(request, stream, Some(config)).await {
            Ok((stream, _)) => Ok(Socket { stream, unwritten: false }),
            Err(Error::Http(response)) if response.status().is_client_error() => {
                let status = response.status();
                let words =
                    format!("{} answered {status} to the upgrade: is it a fluxrelay broker?", target.address);
                Err(SocketError::Foreign(ClientError::Foreign(words)))
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Queues one message of whole frames.
    pub(super) fn queue(&mut self, frames: BytesMut) -> Result<(), SocketError> {
        Pin::new(&mut self.stream).start_send(Message::Binary(frames.freeze()))?;
        self.unwritten = true;
        Ok(())
    }

    /// True while queued bytes wait to be written.
    pub(super) fn is_writing(&self) -> bool {
        self.unwritten
    }

    /// Waits for the next thing to happen. Cancel-safe.
    pub(super) async fn step(&mut self) -> Result<Arrived, SocketError> {
        poll_fn(|cx| self.poll_step(cx)).await
    }

    fn poll_step(&mut self, cx: &mut Context<'_>) -> Poll<Result<Arrived, SocketError>> {
        if self.unwritten && Pin::new(&mut self.stream).poll_flush(cx)?.is_ready() {
            self.unwritten = false;
            return Poll::Ready(Ok(Arrived::Written));
        }
        Pin::new(&mut self.stream).poll_next(cx).map(|message| match message {
            Some(Ok(Message::Binary(frames))) => Ok(Arrived::Frames(frames)),
            Some(Ok(Message::Text(_))) => Err(SocketError::Lost("the broker sent text".into())),
            Some(Ok(_)) => Ok(Arrived::Heard),
            Some(Err(error)) => Err(error.into()),
            None => Err(SocketError::Lost("the broker closed the connection".into())),
        })
    }

    /// Closes in order; callers bound it by a timeout.
    pub(super) async fn close(mut self) {
        while self.unwritten && self.step().await.is_ok() {}
        if self.stream.close(None).await.is_ok() {
            while self.step().await.is_ok() {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls() {
        let target = |url: &str| Target::new(url, "/v1/plugin/ws", "srv_1.secret");
        for (url, address, path) in [
            ("ws://127.0.0.1:7440", "127.0.0.1:7440", "/v1/plugin/ws"),
            ("http://relay.example/", "relay.example:80", "/v1/plugin/ws"),
            ("ws://[::1]:7440/behind/a/proxy", "[::1]:7440", "/behind/a/proxy"),
        ] {
            let target = target(url).unwrap();
            assert_eq!((target.address.as_str(), target.request.uri().path()), (address, path));
        }
        for (url, reason) in [
            ("wss://relay.example", "TLS"),
            ("127.0.0.1:7440", "begin with"),
            ("ftp://x", "begin with"),
            ("/v1", "begin with"),
            ("", "not a URL"),
        ] {
            let error = target(url).err().unwrap().to_string();
            assert!(error.contains(reason), "{url:?}: {error}");
        }
        assert!(Target::new("ws://x", "/", "line\nbreak").is_err());
    }
}
