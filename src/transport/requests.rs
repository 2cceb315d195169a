//! HTTP on a socket whose first request is no WebSocket's: requests go to the router, and a later one may still become a
//! connection. It knows no frame and no route.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::body::Body;
use axum::extract::ConnectInfo;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout_at};
use tower::ServiceExt;

use super::connection::{self, Login};
use super::head::Replay;
use super::listener::{Shared, stopped, websocket};
use super::places::Place;
use super::upgrade::{self, Role};
use crate::tls::Stream;

/// Bytes of a request's head at most.
const HEAD_BYTES_MAX: usize = 16 * 1024;

/// Serves requests until the peer, or the broker, has enough. `since` is when the first one's deadline began.
pub(super) async fn serve(
    shared: Arc<Shared>,
    mut stream: Replay<Stream>,
    peer: SocketAddr,
    place: Arc<Place>,
    (since, mut shutdown): (Instant, watch::Receiver<bool>),
) {
    if let Err(error) = stream.stream_mut().move_here() {
        return tracing::debug!(%peer, %error, "the socket cannot be watched");
    }
    let limit = shared.settings.login_timeout;
    let first = &AtomicBool::new(true);
    let stopping = shutdown.clone();
    let service = service_fn(move |request| {
        // The first request's deadline began with the socket, a later one's begins with itself.
        let since = if first.swap(false, Ordering::Relaxed) { since } else { Instant::now() };
        respond(shared.clone(), request, peer, place.clone(), (since, stopping.clone()))
    });
    let serving = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limit)
        .max_buf_size(HEAD_BYTES_MAX)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    tokio::pin!(serving);
    let result = tokio::select! {
        result = serving.as_mut() => result,
        () = stopped(&mut shutdown) => {
            serving.as_mut().graceful_shutdown();
            serving.await
        }
        () = overdue(first, since + limit) => return tracing::debug!(%peer, "no request came in time"),
    };
    if let Err(error) = result {
        tracing::debug!(%peer, %error, "http connection ended");
    }
}

/// Returns at the deadline if the first request has not come by then, else never. The headers' own timeout would
/// begin anew after a TLS handshake.
async fn overdue(first: &AtomicBool, deadline: Instant) {
    sleep_until(deadline).await;
    if !first.load(Ordering::Relaxed) {
        std::future::pending().await
    }
}

async fn respond(
    shared: Arc<Shared>,
    mut request: Request<Incoming>,
    peer: SocketAddr,
    place: Arc<Place>,
    (since, shutdown): (Instant, watch::Receiver<bool>),
) -> Result<Response<Body>, Infallible> {
    let Some(role) = upgrade::role(request.uri().path()) else {
        request.extensions_mut().insert(ConnectInfo(peer));
        return shared.router.clone().oneshot(request.map(Body::new)).await;
    };
    let response = upgrade::answer(&request);
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        let login = Login {
            role: Some(role),
            bearer: upgrade::bearer(request.headers()),
            deadline: since + shared.settings.login_timeout,
            peer,
            shutdown,
            _place: None,
        };
        let upgrading = hyper::upgrade::on(&mut request);
        tokio::spawn(upgraded(shared, upgrading, login, role, place));
    }
    Ok(response)
}

/// Takes the raw socket out of hyper and runs the connection on it; holds the socket's place to the end.
async fn upgraded(
    shared: Arc<Shared>,
    upgrading: hyper::upgrade::OnUpgrade,
    login: Login,
    role: Role,
    _place: Arc<Place>,
) {
    let Ok(Ok(upgraded)) = timeout_at(login.deadline, upgrading).await else { return };
    let parts = upgraded
        .downcast::<TokioIo<Replay<Stream>>>()
        .expect("`serve` gives hyper nothing but a Replay of a Stream in a TokioIo");
    let (unread, stream) = parts.io.into_inner().into_parts();
    let part = [&parts.read_buf[..], &unread[..]].concat().into();
    connection::run(websocket(stream, part, role), login, &shared.handle, &shared.settings).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bytes of the future that a function with these arguments gives.
    fn future_bytes<A, B, C, D, E, F>(_: impl FnOnce(A, B, C, D, E) -> F) -> usize {
        size_of::<F>()
    }

    #[test]
    fn a_connection_is_small_while_it_is_idle() {
        let bytes = future_bytes(upgraded);
        assert!(bytes <= 1792, "{bytes}");
    }
}
