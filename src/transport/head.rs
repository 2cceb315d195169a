//! The first request of a socket, read only so far that it shows whether a WebSocket is wanted. What is something else is
//! handed on as it came. Decides nothing about a request: `upgrade` does.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Buf, Bytes, BytesMut};
use hyper::header::{CONTENT_LENGTH, TRANSFER_ENCODING};
use hyper::{Request, StatusCode};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio_tungstenite::tungstenite::handshake::machine::TryParse;
use tokio_tungstenite::tungstenite::handshake::server::write_response;

use super::upgrade::{self, Role};

/// Bytes of a head that is read here: a handshake of ours, with what proxies add. The rest is for who reads any request.
const HEAD_BYTES_MAX: usize = 4 * 1024;
/// Room for the head of most handshakes.
const HEAD_BYTES: usize = 1024;
/// Room for the head of an answer.
const ANSWER_BYTES: usize = 256;

/// What the first request asks for.
pub(super) enum First<S> {
    /// A WebSocket, which is answered: its role, the credential that it showed, what came behind its head.
    WebSocket { stream: S, role: Role, bearer: Option<String>, part: Bytes },
    /// Anything else; nothing of it is answered.
    Other(Replay<S>),
}

/// Reads the head, and answers it if it is a WebSocket's handshake. Callers bound it by a timeout.
pub(super) async fn first<S: AsyncRead + AsyncWrite + Unpin>(mut stream: S) -> io::Result<First<S>> {
    let mut head = BytesMut::with_capacity(HEAD_BYTES);
    loop {
        let before = head.len();
        let more = stream.read_buf(&mut head).await?;
        if more > 0 && !is_whole(&head[before.saturating_sub(3)..]) && head.len() < HEAD_BYTES_MAX {
            continue;
        }
        let Some(Handshake { role, bearer, bytes, answer }) = handshake(&head) else {
            return Ok(First::Other(Replay { head: head.freeze(), stream }));
        };
        stream.write_all(&answer).await?;
        stream.flush().await?;
        head.advance(bytes);
        return Ok(First::WebSocket { stream, role, bearer, part: head.freeze() });
    }
}

/// The empty line at the end of a head; a parser says for certain.
fn is_whole(end: &[u8]) -> bool {
    end.windows(4).any(|bytes| bytes == b"\r\n\r\n") || end.windows(2).any(|bytes| bytes == b"\n\n")
}

/// A good handshake on one of our paths.
struct Handshake {
    role: Role,
    bearer: Option<String>,
    /// Of its head.
    bytes: usize,
    /// The head of the answer.
    answer: Vec<u8>,
}

/// The handshake in these bytes, if they are one.
fn handshake(head: &[u8]) -> Option<Handshake> {
    let (bytes, request) = <Request<()> as TryParse>::try_parse(head).ok()??;
    let role = upgrade::role(request.uri().path())?;
    // A body would stand where frames do.
    let headers = request.headers();
    if headers.contains_key(CONTENT_LENGTH) || headers.contains_key(TRANSFER_ENCODING) {
        return None;
    }
    let response = upgrade::answer(&request);
    if response.status() != StatusCode::SWITCHING_PROTOCOLS {
        return None;
    }
    let mut answer = Vec::with_capacity(ANSWER_BYTES);
    write_response(&mut answer, &response).ok()?;
    Some(Handshake { role, bearer: upgrade::bearer(headers), bytes, answer })
}

/// A stream whose first bytes were read before, and are read again.
pub(super) struct Replay<S> {
    head: Bytes,
    stream: S,
}

impl<S> Replay<S> {
    /// The stream itself.
    pub(super) fn stream_mut(&mut self) -> &mut S {
        &mut self.stream
    }

    /// The bytes that were not read again, and the stream.
    pub(super) fn into_parts(self) -> (Bytes, S) {
        (self.head, self.stream)
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Replay<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.head.is_empty() {
            return Pin::new(&mut this.stream).poll_read(cx, buffer);
        }
        let count = this.head.len().min(buffer.remaining());
        buffer.put_slice(&this.head.split_to(count));
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Replay<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write_vectored(cx, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{DuplexStream, duplex};

    use super::*;

    const GOOD: &str = "GET /v1/plugin/ws HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
        Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nAuthorization: Bearer srv_1.abc\r\n\r\n";

    /// What is made of these bytes, and the other end.
    async fn first_of(pieces: &[&[u8]]) -> (First<DuplexStream>, DuplexStream) {
        let (near, mut far) = duplex(64 * 1024);
        let first = tokio::spawn(first(near));
        for piece in pieces {
            far.write_all(piece).await.unwrap();
            tokio::task::yield_now().await;
        }
        (first.await.unwrap().unwrap(), far)
    }

    #[tokio::test]
    async fn a_handshake_is_answered_however_it_comes() {
        let whole = GOOD.as_bytes();
        let bytewise: Vec<&[u8]> = whole.chunks(1).collect();
        for pieces in [vec![whole], bytewise, vec![&whole[..whole.len() - 2], b"\r\nrest"]] {
            let behind = pieces.concat()[whole.len()..].to_vec();
            let (first, mut far) = first_of(&pieces).await;
            let First::WebSocket { role, bearer, part, .. } = first else { panic!("no handshake") };
            assert_eq!((role, bearer.as_deref(), &part[..]), (Role::Plugin, Some("srv_1.abc"), &behind[..]));
            let mut answer = [0; 12];
            far.read_exact(&mut answer).await.unwrap();
            assert_eq!(&answer, b"HTTP/1.1 101");
        }
    }

    #[tokio::test]
    async fn everything_else_is_handed_on_as_it_came() {
        let long = GOOD.replace("Host: x", &format!("Host: x\r\nX: {}", "y".repeat(HEAD_BYTES_MAX)));
        for request in [
            "POST /v1/orders HTTP/1.1\r\nContent-Length: 2\r\n\r\n{}",
            "GET /v1/plugin/ws HTTP/1.1\r\nHost: x\r\n\r\n",
            &GOOD.replace("Host: x", "Host: x\r\nContent-Length: 3"),
            &GOOD.replace("Host: x", "Host: x\r\nTransfer-Encoding: chunked"),
            &GOOD.replace("plugin/ws", "plugin/commands"),
            &GOOD.replace("HTTP/1.1", "HTTP/1.0"),
            &GOOD.replace("Host: x", "Host: x\r\nOrigin: https://evil.example"),
            "\r\n\r\n\0\0\0\r\n\r\n",
            &long,
        ] {
            let (first, far) = first_of(&[request.as_bytes()]).await;
            drop(far);
            let First::Other(mut replay) = first else { panic!("{request:?}") };
            let mut again = Vec::new();
            replay.read_to_end(&mut again).await.unwrap();
            assert_eq!(again, request.as_bytes());
        }
    }

    #[tokio::test]
    async fn half_a_head_that_ends_is_handed_on() {
        let (near, mut far) = duplex(1024);
        far.write_all(b"GET / HT").await.unwrap();
        drop(far);
        let First::Other(replay) = first(near).await.unwrap() else { panic!("no handshake") };
        assert_eq!(&replay.into_parts().0[..], b"GET / HT");
    }
}
