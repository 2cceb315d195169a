//! The HTTP request that turns a byte stream into a WebSocket, and the answer's check. Knows no frame.

use bytes::Bytes;
use http_body_util::Empty;
use hyper::client::conn::http1;
use hyper::header::{self, HeaderMap, HeaderValue};
use hyper::{Method, Request, Response, StatusCode, Version};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_tungstenite::tungstenite::handshake::client::generate_key;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use crate::protocol::SUBPROTOCOL;

/// Bytes of the answer's head at most.
const HEAD_BYTES_MAX: usize = 16 * 1024;

/// What is asked for.
#[derive(Clone)]
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
    /// The other end answered with something else.
    Answered(StatusCode),
}

/// Upgrades a fresh connection; returns the stream, and what was read behind the answer.
pub(super) async fn upgrade<S>(stream: S, wanted: UpgradeRequest) -> Result<(S, Bytes), UpgradeError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let lost = |error: hyper::Error| UpgradeError::Lost(error.to_string());
    let mut builder = http1::Builder::new();
    builder.max_buf_size(HEAD_BYTES_MAX);
    let (mut sender, connection) = builder.handshake(TokioIo::new(stream)).await.map_err(lost)?;
    let key = generate_key();
    let asked = async {
        let response = sender.send_request(request(wanted, &key)).await.map_err(lost)?;
        check(&response, &key)?;
        Ok(hyper::upgrade::on(response))
    };
    // The connection's half ends once the stream is handed over, or by its error, which the other half reports better.
    let (upgrading, _) = tokio::join!(asked, connection.with_upgrades());
    let parts = upgrading?
        .await
        .map_err(lost)?
        .downcast::<TokioIo<S>>()
        .expect("hyper was given nothing but this kind of stream");
    Ok((parts.io.into_inner(), parts.read_buf))
}

fn request(wanted: UpgradeRequest, key: &str) -> Request<Empty<Bytes>> {
    let fixed = [
        (header::HOST, wanted.host),
        (header::CONNECTION, HeaderValue::from_static("Upgrade")),
        (header::UPGRADE, HeaderValue::from_static("websocket")),
        (header::SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13")),
        (header::SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(SUBPROTOCOL)),
        (header::AUTHORIZATION, wanted.bearer),
        (header::SEC_WEBSOCKET_KEY, HeaderValue::from_str(key).expect("a key is base64")),
    ];
    let mut request = Request::new(Empty::new());
    *request.method_mut() = Method::GET;
    *request.version_mut() = Version::HTTP_11;
    *request.uri_mut() = wanted.path.parse().expect("a path that came out of a URL");
    request.headers_mut().extend(fixed.map(|(name, value)| (Some(name), value)));
    request
}

/// Whether the answer is a WebSocket of ours: RFC 6455, section 4.1.
fn check<B>(response: &Response<B>, key: &str) -> Result<(), UpgradeError> {
    if response.status() != StatusCode::SWITCHING_PROTOCOLS {
        return Err(UpgradeError::Answered(response.status()));
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
