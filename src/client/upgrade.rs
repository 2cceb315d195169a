//! The HTTP request that turns a byte stream into a WebSocket, and the answer's check. Knows no frame.

use std::io;
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use hyper::header::{self, HeaderMap, HeaderValue};
use hyper::{Response, StatusCode};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio_tungstenite::tungstenite::handshake::client::{Response as Answer, generate_key};
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::handshake::machine::TryParse;
use zeroize::Zeroizing;

use crate::protocol::SUBPROTOCOL;

/// Bytes of the answer's head at most.
const HEAD_BYTES_MAX: usize = 16 * 1024;
/// No answer keeps a client away for longer: behind a proxy, it may not be the broker's.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(600);
/// Room for the heads of most answers.
const HEAD_BYTES: usize = 512;

/// What is asked for.
pub(super) struct UpgradeRequest {
    /// The path of the role.
    pub(super) path: String,
    /// Host and port, as in the URL.
    pub(super) host: HeaderValue,
    /// `Authorization`; marked as sensitive.
    pub(super) bearer: HeaderValue,
}

/// Why there is no WebSocket.
#[derive(Debug)]
pub(super) enum UpgradeError {
    /// The connection failed; it may pass by itself.
    Lost(String),
    /// The other end answered with something else, and perhaps with a time to come back.
    Answered(StatusCode, Option<Duration>),
}

/// One request: the first bytes of a connection, and what its answer has to prove.
pub(super) struct Upgrade {
    /// The whole request.
    pub(super) request: Zeroizing<Vec<u8>>,
    key: String,
}

impl UpgradeRequest {
    /// As bytes, with a key of its own.
    pub(super) fn begin(&self) -> Upgrade {
        let key = generate_key();
        let parts: [&[u8]; 9] = [
            b"GET ",
            self.path.as_bytes(),
            b" HTTP/1.1\r\nHost: ",
            self.host.as_bytes(),
            b"\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: ",
            SUBPROTOCOL.as_bytes(),
            b"\r\nSec-WebSocket-Key: ",
            key.as_bytes(),
            b"\r\nAuthorization: ",
        ];
        // Whole from the start: what a buffer leaves behind where it grows is not overwritten.
        let end = b"\r\n\r\n";
        let length = parts.iter().map(|part| part.len()).sum::<usize>() + self.bearer.len() + end.len();
        let mut request = Zeroizing::new(Vec::with_capacity(length));
        parts.into_iter().chain([self.bearer.as_bytes(), end]).for_each(|part| request.extend(part));
        Upgrade { request, key }
    }
}

impl Upgrade {
    /// Reads the answer to the request; returns what came behind its head.
    pub(super) async fn finish<S: AsyncRead + Unpin>(self, stream: &mut S) -> Result<Bytes, UpgradeError> {
        let lost = |error: io::Error| UpgradeError::Lost(error.to_string());
        let mut head = BytesMut::with_capacity(HEAD_BYTES);
        loop {
            if stream.read_buf(&mut head).await.map_err(lost)? == 0 {
                return Err(UpgradeError::Lost("the connection ended before the upgrade's answer".into()));
            }
            let parsed = Answer::try_parse(&head);
            let parsed =
                parsed.map_err(|_| UpgradeError::Lost("the answer to the upgrade is no HTTP".into()))?;
            if let Some((bytes, answer)) = parsed {
                check(&answer, &self.key)?;
                head.advance(bytes);
                return Ok(head.freeze());
            }
            if head.len() >= HEAD_BYTES_MAX {
                return Err(UpgradeError::Lost("the head of the upgrade's answer is too long".into()));
            }
        }
    }
}

/// Whether the answer is a WebSocket of ours: RFC 6455, section 4.1.
fn check<B>(response: &Response<B>, key: &str) -> Result<(), UpgradeError> {
    if response.status() != StatusCode::SWITCHING_PROTOCOLS {
        return Err(UpgradeError::Answered(response.status(), retry_after(response.headers())));
    }
    let headers = response.headers();
    let accept = headers.get(header::SEC_WEBSOCKET_ACCEPT).map(HeaderValue::as_bytes);
    let subprotocol = headers.get(header::SEC_WEBSOCKET_PROTOCOL).map(HeaderValue::as_bytes);
    let good = names(headers, &header::UPGRADE, "websocket")
        && names(headers, &header::CONNECTION, "upgrade")
        && accept == Some(derive_accept_key(key.as_bytes()).as_bytes())
        && subprotocol.is_none_or(|name| name == SUBPROTOCOL.as_bytes());
    let bad = || UpgradeError::Lost("the answer to the upgrade is no WebSocket handshake".into());
    if good { Ok(()) } else { Err(bad()) }
}

/// The time that an answer asks to wait, if it gives one in seconds.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let seconds: u64 = headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds).min(RETRY_AFTER_MAX))
}

/// Whether a header with a list of words has this one.
fn names(headers: &HeaderMap, header: &header::HeaderName, word: &str) -> bool {
    headers
        .get_all(header)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|found| found.trim().eq_ignore_ascii_case(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
    const GOOD: &[(&str, &str)] = &[
        ("upgrade", "WebSocket"),
        ("connection", "keep-alive, Upgrade"),
        ("sec-websocket-accept", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="),
    ];

    fn is_good(status: u16, headers: &[(&str, &str)]) -> bool {
        let mut response = Response::builder().status(status);
        for (name, value) in headers {
            response = response.header(*name, *value);
        }
        check(&response.body(()).unwrap(), KEY).is_ok()
    }

    fn asked() -> Upgrade {
        let header = HeaderValue::from_static;
        let (host, bearer) = (header("relay.example:7440"), header("Bearer srv_1.secret"));
        UpgradeRequest { path: "/v1/plugin/ws".to_owned(), host, bearer }.begin()
    }

    #[test]
    fn the_request_is_a_handshake_and_never_the_same() {
        let upgrade = asked();
        let text = std::str::from_utf8(&upgrade.request).unwrap();
        let lines: Vec<&str> = text.strip_suffix("\r\n\r\n").unwrap().split("\r\n").collect();
        let key = format!("Sec-WebSocket-Key: {}", upgrade.key);
        assert_eq!(
            lines,
            [
                "GET /v1/plugin/ws HTTP/1.1",
                "Host: relay.example:7440",
                "Connection: Upgrade",
                "Upgrade: websocket",
                "Sec-WebSocket-Version: 13",
                "Sec-WebSocket-Protocol: fluxrelay.v1",
                &key,
                "Authorization: Bearer srv_1.secret",
            ]
        );
        assert_eq!(upgrade.request.len(), upgrade.request.capacity());
        assert_ne!(upgrade.key, asked().key);
    }

    #[tokio::test]
    async fn the_answer_is_read_to_the_end_of_its_head() {
        let upgrade = asked();
        let answer = format!(
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Accept: {}\r\n\r\nframes",
            derive_accept_key(upgrade.key.as_bytes())
        );
        // Whole, and in pieces of three bytes.
        let rest = Upgrade { request: Zeroizing::default(), key: upgrade.key.clone() };
        assert_eq!(rest.finish(&mut answer.as_bytes()).await.unwrap(), "frames");
        let (mut near, mut far) = tokio::io::duplex(3);
        let writing = tokio::spawn(async move {
            tokio::io::AsyncWriteExt::write_all(&mut far, answer.as_bytes()).await.unwrap();
            far
        });
        let behind = upgrade.finish(&mut near).await.unwrap();
        assert!(b"frames".starts_with(&behind));
        drop(near);
        let _ = writing.await;
    }

    #[tokio::test]
    async fn other_answers_are_told_apart_and_none_is_read_without_an_end() {
        let long = format!("HTTP/1.1 101 x\r\nA: {}", "a".repeat(HEAD_BYTES_MAX));
        for (answer, words) in [
            ("", "ended before"),
            ("HTTP/1.1 101 Switching", "ended before"),
            ("HTTP/1.1 101 x\r\n\r\n", "no WebSocket handshake"),
            ("SSH-2.0-x\r\n\r\n", "no HTTP"),
            (long.as_str(), "too long"),
        ] {
            match asked().finish(&mut answer.as_bytes()).await {
                Err(UpgradeError::Lost(reason)) => assert!(reason.contains(words), "{answer:.20}: {reason}"),
                other => panic!("{answer:.20}: {other:?}"),
            }
        }
        for (line, seconds) in [
            ("Retry-After: 5\r\n", Some(5)),
            ("Retry-After: 86400\r\n", Some(600)),
            ("Retry-After: Fri, 31 Dec 1999 23:59:59 GMT\r\n", None),
            ("", None),
        ] {
            let answer = format!("HTTP/1.1 503 Service Unavailable\r\n{line}\r\n");
            match asked().finish(&mut answer.as_bytes()).await {
                Err(UpgradeError::Answered(StatusCode::SERVICE_UNAVAILABLE, after)) => {
                    assert_eq!(after, seconds.map(Duration::from_secs), "{line}");
                }
                other => panic!("{line}: {other:?}"),
            }
        }
    }

    #[test]
    fn only_a_whole_handshake_counts() {
        assert!(is_good(101, GOOD));
        assert!(!is_good(200, GOOD));
        for left_out in GOOD {
            let rest: Vec<_> = GOOD.iter().copied().filter(|header| header != left_out).collect();
            assert!(!is_good(101, &rest), "without {}", left_out.0);
        }
        let with = |header| GOOD.iter().copied().chain([header]).collect::<Vec<_>>();
        assert!(is_good(101, &with(("sec-websocket-protocol", SUBPROTOCOL))));
        assert!(!is_good(101, &with(("sec-websocket-protocol", "graphql-ws"))));
    }
}
