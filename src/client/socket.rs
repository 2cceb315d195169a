//! A client's connection over WebSocket or QUIC: dialling, falling back, whole messages of frames out and in. Knows no frame.

use std::time::Duration;

use bytes::Bytes;
use hyper::header::HeaderValue;
use hyper::{StatusCode, Uri};
use zeroize::Zeroizing;

use super::dial::Address;
use super::error::{ClientError, OptionsError};
#[cfg(feature = "quic")]
use super::quic::QuicTarget;
use super::upgrade::{UpgradeError, UpgradeRequest};
#[cfg(feature = "quic")]
use crate::carrier::Quic;
use crate::carrier::{Fault, Step, WebSocket, Wire};
#[cfg(feature = "quic")]
use crate::limits::FRAME_BYTES_MAX_BEFORE_LOGIN;
#[cfg(feature = "quic")]
use crate::tls::Trust;
use crate::tls::{ClientTls, Stream};

/// Bytes that are held to read from the start: a few small frames.
const READ_BYTES: usize = 256;
/// The close code of an orderly end: RFC 6455, section 7.4.1.
const CLOSE_NORMAL: u16 = 1000;
/// The scheme of URLs for QUIC.
const QUIC_SCHEME: &str = "quic";

/// Where and as whom a client connects, as its options have it.
pub(super) struct Route<'a> {
    pub(super) url: &'a str,
    pub(super) fallback: Option<&'a str>,
    /// Used when the URL has none.
    pub(super) path: &'static str,
    pub(super) credential: &'a str,
    pub(super) tls: Option<&'a ClientTls>,
    #[cfg(feature = "quic")]
    pub(super) quic_retry: Duration,
    #[cfg(feature = "quic")]
    pub(super) connect_timeout: Duration,
}

/// Where a client connects to, checked.
pub(super) struct Target {
    websocket: WebSocketTarget,
    credential: Zeroizing<String>,
    /// Tried first.
    #[cfg(feature = "quic")]
    quic: Option<QuicTarget>,
}

/// Where to connect over WebSocket.
struct WebSocketTarget {
    address: Address,
    request: UpgradeRequest,
    /// Nobody named this address: what answers there may be something else.
    #[cfg(feature = "quic")]
    is_guess: bool,
}

fn parse(url: &str) -> Result<Uri, OptionsError> {
    url.parse().map_err(|_| bad(url, "it is not a URL"))
}

fn bad(url: &str, reason: &'static str) -> OptionsError {
    OptionsError::Url { url: url.to_owned(), reason }
}

impl Target {
    pub(super) fn new(route: Route<'_>) -> Result<Target, OptionsError> {
        let uri = parse(route.url)?;
        let credential = Zeroizing::new(route.credential.to_owned());
        if uri.scheme_str() == Some(QUIC_SCHEME) {
            return Target::with_quic(&route, &uri, credential);
        }
        if let Some(fallback) = route.fallback {
            return Err(bad(fallback, "only a quic:// url has another to fall back to"));
        }
        let websocket = WebSocketTarget::new(route.url, &uri, &route, route.tls)?;
        Ok(Target {
            websocket,
            credential,
            #[cfg(feature = "quic")]
            quic: None,
        })
    }

    #[cfg(not(feature = "quic"))]
    fn with_quic(route: &Route<'_>, _: &Uri, _: Zeroizing<String>) -> Result<Target, OptionsError> {
        Err(bad(route.url, "this program was built without QUIC (the cargo feature quic)"))
    }

    #[cfg(feature = "quic")]
    fn with_quic(
        route: &Route<'_>,
        uri: &Uri,
        credential: Zeroizing<String>,
    ) -> Result<Target, OptionsError> {
        let host = uri.host().filter(|host| !host.is_empty());
        let host = host.ok_or_else(|| bad(route.url, "it has no host"))?;
        if crate::tls::server_name(host).is_none() {
            return Err(bad(route.url, "no certificate can be for its host"));
        }
        // It stands in the hello, where a header's length does not count.
        if route.credential.len() > FRAME_BYTES_MAX_BEFORE_LOGIN / 2 {
            return Err(OptionsError::Token);
        }
        let text = format!("{host}:{}", uri.port_u16().unwrap_or(443));
        let tls = match route.tls {
            Some(tls) => tls.clone(),
            None => ClientTls::new(&Trust::System)?,
        };
        let guess = format!("wss://{text}");
        let fallback = route.fallback.unwrap_or(&guess);
        let mut websocket = WebSocketTarget::new(fallback, &parse(fallback)?, route, Some(&tls))?;
        websocket.is_guess = route.fallback.is_none();
        let quic = QuicTarget::new((text, host), &tls, route.quic_retry, route.connect_timeout);
        Ok(Target { websocket, credential, quic: Some(quic) })
    }

    /// The token or key.
    pub(super) fn credential(&self) -> &str {
        &self.credential
    }
}

impl WebSocketTarget {
    fn new(
        url: &str,
        uri: &Uri,
        route: &Route<'_>,
        tls: Option<&ClientTls>,
    ) -> Result<WebSocketTarget, OptionsError> {
        let address = Address::new(url, uri, tls)?;
        let path = match uri.path() {
            "" | "/" => route.path,
            given => given,
        };
        let bearer = HeaderValue::try_from(format!("Bearer {}", route.credential));
        let mut bearer = bearer.map_err(|_| OptionsError::Token)?;
        bearer.set_sensitive(true);
        let host = HeaderValue::try_from(address.text()).map_err(|_| bad(url, "its host cannot be used"))?;
        let request = UpgradeRequest { path: path.to_owned(), host, bearer };
        Ok(WebSocketTarget {
            address,
            request,
            #[cfg(feature = "quic")]
            is_guess: false,
        })
    }

    async fn dial(&self) -> Result<WebSocket<Stream>, SocketError> {
        let address = self.address.text();
        let upgrade = self.request.begin();
        let mut stream = self.address.dial(&upgrade.request).await?;
        match upgrade.finish(&mut stream).await {
            Ok(part) => Ok(WebSocket::client(stream, part, READ_BYTES)),
            Err(UpgradeError::Answered(status, _)) if is_final(status) => {
                let words = format!("{address} answered {status} to the upgrade: is it a fluxrelay broker?");
                Err(SocketError::Foreign(ClientError::Foreign(words)))
            }
            Err(UpgradeError::Answered(status, after)) => {
                let reason = format!("{address} answered {status} to the upgrade");
                Err(match after {
                    Some(after) => SocketError::Later(reason, after),
                    None => SocketError::Lost(reason),
                })
            }
            Err(UpgradeError::Lost(reason)) => Err(SocketError::Lost(reason)),
        }
    }
}

/// Whether asking again would be answered with the same.
fn is_final(status: StatusCode) -> bool {
    let passes = [StatusCode::REQUEST_TIMEOUT, StatusCode::TOO_EARLY, StatusCode::TOO_MANY_REQUESTS];
    status.is_client_error() && !passes.contains(&status)
}

/// Why a connection could not be made, or ended.
#[derive(Debug)]
pub(super) enum SocketError {
    /// May pass by itself; the words are for a log.
    Lost(String),
    /// The same, and the other end has said when to come back.
    Later(String, Duration),
    /// Will not pass by itself.
    Foreign(ClientError),
}

impl From<Fault> for SocketError {
    fn from(fault: Fault) -> SocketError {
        SocketError::Lost(match fault {
            Fault::TooLong(max) => format!("the broker sent a message of more than {max} bytes"),
            Fault::Text => "the broker sent text".into(),
            Fault::Malformed(detail) => detail,
            Fault::Lost => "the connection was lost".into(),
        })
    }
}

#[cfg(feature = "quic")]
impl SocketError {
    /// As the error of the way that was tried second. What a guessed address answers decides nothing.
    fn after(self, first: Option<&str>, is_guess: bool) -> SocketError {
        let words = match self {
            SocketError::Foreign(error) if is_guess => error.to_string(),
            SocketError::Foreign(error) => return SocketError::Foreign(error),
            SocketError::Lost(reason) => reason,
            SocketError::Later(reason, after) => {
                let reason = first.map_or(reason.clone(), |first| format!("{first}; {reason}"));
                return SocketError::Later(reason, after);
            }
        };
        SocketError::Lost(first.map_or(words.clone(), |first| format!("{first}; {words}")))
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
pub(super) struct Socket(Carrier);

enum Carrier {
    WebSocket(Box<WebSocket<Stream>>),
    #[cfg(feature = "quic")]
    Quic(Box<Quic>),
}

/// Does the same with whichever carrier it is.
macro_rules! with_wire {
    ($carrier:expr, $wire:ident => $does:expr) => {
        match $carrier {
            Carrier::WebSocket($wire) => $does,
            #[cfg(feature = "quic")]
            Carrier::Quic($wire) => $does,
        }
    };
}

impl Socket {
    /// Connects; callers bound it by a timeout.
    pub(super) async fn dial(target: &mut Target) -> Result<Socket, SocketError> {
        #[cfg(feature = "quic")]
        if let Some(quic) = &mut target.quic {
            let reason = match quic.is_due() {
                true => match quic.dial().await {
                    Ok(wire) => return Ok(Socket(Carrier::Quic(Box::new(wire)))),
                    Err(SocketError::Lost(reason)) => Some(reason),
                    Err(foreign) => return Err(foreign),
                },
                false => None,
            };
            let dialled = target.websocket.dial().await;
            if let (Ok(_), Some(reason)) = (&dialled, &reason) {
                tracing::info!(reason, "QUIC does not get through: connected over WebSocket");
                quic.rest();
            }
            let is_guess = target.websocket.is_guess;
            let wire = dialled.map_err(|error| error.after(reason.as_deref(), is_guess))?;
            return Ok(Socket(Carrier::WebSocket(Box::new(wire))));
        }
        Ok(Socket(Carrier::WebSocket(Box::new(target.websocket.dial().await?))))
    }

    /// Whether the broker was shown the credential when this was opened; else the hello has to show it.
    pub(super) fn has_shown_credential(&self) -> bool {
        matches!(self.0, Carrier::WebSocket(_))
    }

    /// Queues one message of whole frames.
    pub(super) fn queue(&mut self, frames: &[u8]) {
        with_wire!(&mut self.0, wire => wire.queue(frames));
    }

    /// True while queued bytes wait to be written.
    pub(super) fn is_writing(&self) -> bool {
        with_wire!(&self.0, wire => wire.unwritten() > 0)
    }

    /// Writes what the socket takes at once.
    pub(super) async fn write(&mut self) -> Result<(), SocketError> {
        Ok(with_wire!(&mut self.0, wire => wire.write().await).map(drop)?)
    }

    /// Waits for the next thing to happen. Cancel-safe.
    pub(super) async fn step(&mut self) -> Result<Arrived, SocketError> {
        match with_wire!(&mut self.0, wire => wire.step(true).await)? {
            Step::Frames(frames) => Ok(Arrived::Frames(frames)),
            Step::Heard => Ok(Arrived::Heard),
            Step::Written => Ok(Arrived::Written),
            Step::Closed => Err(SocketError::Lost("the broker closed the connection".into())),
        }
    }

    /// Closes in order; callers bound it by a timeout.
    pub(super) async fn close(self) {
        with_wire!(self.0, wire => wire.close(CLOSE_NORMAL, "").await);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route<'a>(url: &'a str, credential: &'a str) -> Route<'a> {
        Route {
            url,
            fallback: None,
            path: "/v1/plugin/ws",
            credential,
            tls: None,
            #[cfg(feature = "quic")]
            quic_retry: Duration::from_secs(60),
            #[cfg(feature = "quic")]
            connect_timeout: Duration::from_secs(15),
        }
    }

    fn reason(route: Route<'_>) -> String {
        Target::new(route).err().unwrap().to_string()
    }

    #[test]
    fn urls() {
        for (url, address, path) in [
            ("ws://127.0.0.1:7440", "127.0.0.1:7440", "/v1/plugin/ws"),
            ("http://relay.example/", "relay.example:80", "/v1/plugin/ws"),
            ("ws://[::1]:7440/behind/a/proxy", "[::1]:7440", "/behind/a/proxy"),
        ] {
            let target = Target::new(route(url, "srv_1.secret")).unwrap().websocket;
            assert_eq!((target.address.text(), target.request.path.as_str()), (address, path));
        }
        for (url, words) in [
            ("127.0.0.1:7440", "begin with"),
            ("ftp://x", "begin with"),
            ("/v1", "begin with"),
            ("", "not a URL"),
        ] {
            let error = reason(route(url, "srv_1.secret"));
            assert!(error.contains(words), "{url:?}: {error}");
        }
        assert!(Target::new(route("ws://x", "line\nbreak")).is_err());
    }

    #[cfg(feature = "quic")]
    #[test]
    fn urls_for_quic_have_a_way_to_fall_back() {
        let pinned = format!("sha256:{}", "ab".repeat(32)).parse().unwrap();
        let tls = ClientTls::new(&Trust::Fingerprint(pinned)).unwrap();
        let route = |url, fallback| Route { tls: Some(&tls), fallback, ..route(url, "srv_1.secret") };
        for (url, fallback, address) in [
            ("quic://relay.example", None, "relay.example:443"),
            ("quic://[::1]:7441", None, "[::1]:7441"),
            ("quic://relay.example:7441", Some("wss://relay.example:7440"), "relay.example:7440"),
        ] {
            let target = Target::new(route(url, fallback)).unwrap();
            assert_eq!(target.websocket.address.text(), address);
            assert!(target.quic.is_some() && target.websocket.is_guess == fallback.is_none());
        }
        assert!(reason(route("ws://x", Some("ws://y"))).contains("only a quic:// url"));
        assert!(reason(route("quic://x", Some("quic://y"))).contains("begin with"));
    }
}
