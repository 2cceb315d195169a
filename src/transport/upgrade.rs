//! The WebSocket handshake: which request becomes a connection, and what the others are told. Pure.

use axum::body::Body;
use hyper::header::{
    AUTHORIZATION, CONNECTION, HOST, HeaderMap, HeaderValue, ORIGIN, SEC_WEBSOCKET_PROTOCOL, UPGRADE,
};
use hyper::{Method, Request, Response, StatusCode};
use tokio_tungstenite::tungstenite::handshake::server::create_response_with_body;

use crate::credentials::{IN_URL, credential_parameter};
use crate::protocol::{Code, PLUGIN_PATH, PUBLISHER_PATH, SUBPROTOCOL};

/// Who is on the other side of a connection; the path says so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// A game server.
    Plugin,
    /// A store's backend.
    Publisher,
}

impl Role {
    /// For logs.
    pub(super) fn name(self) -> &'static str {
        match self {
            Role::Plugin => "plugin",
            Role::Publisher => "publisher",
        }
    }
}

/// The role that a path stands for, if any.
pub(super) fn role(path: &str) -> Option<Role> {
    match path {
        PLUGIN_PATH => Some(Role::Plugin),
        PUBLISHER_PATH => Some(Role::Publisher),
        _ => None,
    }
}

/// The answer to a request on one of the two paths: 101 for a good handshake, a problem otherwise.
pub(super) fn answer<B>(request: &Request<B>) -> Response<Body> {
    if credential_parameter(request.uri().query()).is_some() {
        return problem(StatusCode::UNPROCESSABLE_ENTITY, Code::InvalidField, IN_URL);
    }
    if request.method() != Method::GET {
        let mut response = problem(
            StatusCode::METHOD_NOT_ALLOWED,
            Code::MethodNotAllowed,
            "this path takes GET with a WebSocket upgrade",
        );
        response.headers_mut().insert(hyper::header::ALLOW, HeaderValue::from_static("GET"));
        return response;
    }
    if !request.headers().contains_key(UPGRADE) {
        let mut response = problem(
            StatusCode::UPGRADE_REQUIRED,
            Code::UpgradeRequired,
            "this path is for WebSocket connections: send Upgrade: websocket",
        );
        response.headers_mut().insert(UPGRADE, HeaderValue::from_static("websocket"));
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("Upgrade"));
        return response;
    }
    if is_foreign(request.headers()) {
        let detail = "the Origin header names another host than the Host header: clients other than browsers send no Origin";
        return problem(StatusCode::FORBIDDEN, Code::ForeignOrigin, detail);
    }
    let offered = offers(request.headers());
    if offered == Some(false) {
        let detail = "Sec-WebSocket-Protocol must offer fluxrelay.v1 or be left out";
        return problem(StatusCode::BAD_REQUEST, Code::UnknownSubprotocol, detail);
    }
    match create_response_with_body(request, Body::empty) {
        Ok(mut response) => {
            if offered == Some(true) {
                response.headers_mut().insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(SUBPROTOCOL));
            }
            response
        }
        Err(error) => problem(StatusCode::BAD_REQUEST, Code::BadHandshake, &error.to_string()),
    }
}

/// Whether a browser says that a page of another site asks: `Origin` is there and its host and port are not `Host`'s.
fn is_foreign(headers: &HeaderMap) -> bool {
    let Some(origin) = headers.get(ORIGIN) else { return false };
    let site = origin.to_str().ok().and_then(|origin| origin.split_once("://")).map(|(_, site)| site);
    let host = headers.get(HOST).and_then(|host| host.to_str().ok());
    !site.zip(host).is_some_and(|(site, host)| site.eq_ignore_ascii_case(host))
}

/// Whether the client offers our subprotocol; `None` = it offers nothing.
fn offers(headers: &HeaderMap) -> Option<bool> {
    let mut offered = headers
        .get_all(SEC_WEBSOCKET_PROTOCOL)
        .iter()
        .flat_map(|value| value.as_bytes().split(|byte| *byte == b','))
        .peekable();
    offered.peek()?;
    Some(offered.any(|name| name.trim_ascii() == SUBPROTOCOL.as_bytes()))
}

/// The credential of `Authorization: Bearer`, when there is one.
pub(super) fn bearer(headers: &HeaderMap) -> Option<String> {
    let (scheme, credential) = headers.get(AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| credential.trim().to_owned())
}

/// Problem details as everywhere in REST; `detail` holds nothing of the request.
fn problem(status: StatusCode, code: Code, detail: &str) -> Response<Body> {
    let body = serde_json::json!({
        "type": "about:blank",
        "title": status.canonical_reason().unwrap_or_default(),
        "status": status.as_u16(),
        "code": code.name(),
        "detail": detail,
    });
    let mut response = Response::new(Body::from(body.to_string()));
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(hyper::header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(method: &str, headers: &str) -> Request<()> {
        let mut request = Request::builder().method(method).uri(PLUGIN_PATH);
        for line in headers.lines() {
            let (name, value) = line.trim().split_once(": ").unwrap();
            request = request.header(name, value);
        }
        request.body(()).unwrap()
    }

    const GOOD: &str = "Upgrade: websocket
        Connection: keep-alive, Upgrade
        Sec-WebSocket-Version: 13
        Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==";

    fn check(method: &str, headers: &str, status: u16) -> Response<Body> {
        let response = answer(&request(method, headers));
        assert_eq!(response.status(), status, "{method} {headers}");
        response
    }

    #[test]
    fn a_good_handshake_is_accepted() {
        let response = check("GET", GOOD, 101);
        // The example of RFC 6455, section 1.3.
        assert_eq!(response.headers()["sec-websocket-accept"], "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        assert!(!response.headers().contains_key("sec-websocket-protocol"));
    }

    #[test]
    fn our_subprotocol_is_echoed_and_others_are_refused() {
        for offered in ["fluxrelay.v1", "fluxrelay.v2, fluxrelay.v1", "x,fluxrelay.v1"] {
            let response = check("GET", &format!("{GOOD}\nSec-WebSocket-Protocol: {offered}"), 101);
            assert_eq!(response.headers()["sec-websocket-protocol"], SUBPROTOCOL);
        }
        for offered in ["fluxrelay.v2", "FLUXRELAY.V1", "fluxrelay.v1x", ","] {
            check("GET", &format!("{GOOD}\nSec-WebSocket-Protocol: {offered}"), 400);
        }
    }

    #[test]
    fn pages_of_other_sites_are_refused() {
        let from = |origin: &str| format!("{GOOD}\nHost: relay.example:7440\nOrigin: {origin}");
        check("GET", &from("https://relay.example:7440"), 101);
        check("GET", &from("http://RELAY.example:7440"), 101);
        for origin in ["https://evil.example", "https://relay.example", "null", "relay.example:7440"] {
            check("GET", &from(origin), 403);
        }
        check("GET", &format!("{GOOD}\nOrigin: https://relay.example:7440"), 403);
    }

    #[test]
    fn other_requests_are_told_what_is_missing() {
        assert_eq!(check("GET", "Host: x", 426).headers()["upgrade"], "websocket");
        assert_eq!(check("POST", GOOD, 405).headers()["allow"], "GET");
        check("GET", &GOOD.replace("Version: 13", "Version: 8"), 400);
        check("GET", &GOOD.replace("dGhlIHNhbXBsZSBub25jZQ==", "short"), 400);
        check("GET", &GOOD.replace("keep-alive, Upgrade", "close"), 400);
        check("GET", &GOOD.replace("Upgrade: websocket", "Upgrade: h2c"), 400);
    }

    #[test]
    fn credentials_come_from_a_bearer_header_only() {
        let bearer_of = |value: &str| bearer(request("GET", &format!("Authorization: {value}")).headers());
        assert_eq!(bearer_of("Bearer srv_1.abc").as_deref(), Some("srv_1.abc"));
        assert_eq!(bearer_of("bearer  srv_1.abc").as_deref(), Some("srv_1.abc"));
        assert_eq!(bearer_of("Basic srv_1.abc"), None);
        assert_eq!(bearer_of("srv_1.abc"), None);
    }
}
