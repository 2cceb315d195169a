//! The accept loop: a bounded number of sockets, TLS and HTTP under one deadline, upgrades taken out, the rest given to
//! the router. It knows no frame and no route.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout, timeout_at};
use tower::ServiceExt;

use super::connection::{self, Login};
use super::full::Full;
use super::greeting::greet;
use super::places::{Place, Places};
#[cfg(feature = "quic")]
use super::quic::QuicListener;
use super::settings::TransportSettings;
use super::upgrade::{self, Role};
use crate::broker::Handle;
use crate::carrier::WebSocket;
use crate::tls::Stream;

/// Bytes of a request's head at most.
const HEAD_BYTES_MAX: usize = 16 * 1024;
/// Bytes that one system call reads from a plugin; it is held while the connection is idle.
const PLUGIN_READ_BYTES: usize = 2 * 1024;
/// Bytes that one system call reads from a publisher; there are few of them.
const PUBLISHER_READ_BYTES: usize = 16 * 1024;
/// The pause after a failed accept, so that a process without descriptors does not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Where connections come in.
pub struct Listeners {
    /// REST and WebSocket.
    pub tcp: TcpListener,
    /// QUIC, if it is on.
    #[cfg(feature = "quic")]
    pub quic: Option<QuicListener>,
}

impl From<TcpListener> for Listeners {
    fn from(tcp: TcpListener) -> Listeners {
        Listeners {
            tcp,
            #[cfg(feature = "quic")]
            quic: None,
        }
    }
}

struct Shared {
    router: Router,
    handle: Handle,
    settings: Arc<TransportSettings>,
}

/// Serves REST (the router) and both kinds of connections, over WebSocket and QUIC, until `shutdown` turns true, then until all open
/// requests and connections have ended or `shutdown_grace` is over. Connections end when the broker tells them
/// to go away, so stop the broker at the same time.
pub async fn serve(
    listeners: impl Into<Listeners>,
    router: Router,
    handle: Handle,
    settings: TransportSettings,
    mut shutdown: watch::Receiver<bool>,
) {
    let (places, full) = (Places::new(&settings), Full::new(settings.tls.clone()));
    let grace = settings.shutdown_grace;
    let settings = Arc::new(settings);
    let listeners = listeners.into();
    let listener = listeners.tcp;
    #[cfg(feature = "quic")]
    let quic = listeners.quic;
    #[cfg(feature = "quic")]
    if let Some(quic) = &quic {
        quic.spawn(handle.clone(), settings.clone(), places.clone(), shutdown.clone());
    }
    let shared = Arc::new(Shared { router, handle, settings });
    loop {
        let accepted = tokio::select! {
            biased;
            () = stopped(&mut shutdown) => break,
            accepted = listener.accept() => accepted,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "accept failed");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        match places.take(peer.ip()) {
            Ok(place) => {
                tokio::spawn(serve_http(shared.clone(), stream, peer, Arc::new(place), shutdown.clone()));
            }
            Err(limit) => {
                tracing::debug!(%peer, limit = limit.name(), "refused: too many connections");
                shared.handle.on_limit(limit);
                full.refuse(stream);
            }
        }
    }
    drop(listener);
    if timeout(grace, places.all_free()).await.is_err() {
        tracing::info!(left = places.taken(), "shutdown: sockets cut off after the grace period");
    }
    #[cfg(feature = "quic")]
    if let Some(quic) = quic {
        quic.close().await;
    }
}

/// Returns once `shutdown` is true, or its sender is gone.
pub(super) async fn stopped(shutdown: &mut watch::Receiver<bool>) {
    let _ = shutdown.wait_for(|stop| *stop).await;
}

async fn serve_http(
    shared: Arc<Shared>,
    stream: TcpStream,
    peer: SocketAddr,
    place: Arc<Place>,
    mut shutdown: watch::Receiver<bool>,
) {
    let accepted = Instant::now();
    let _ = stream.set_nodelay(true);
    let settings = shared.settings.clone();
    let deadline = accepted + settings.login_timeout;
    let opening = timeout_at(deadline, greet(stream, settings.tls.as_ref()));
    let stream = tokio::select! {
        opened = opening => match opened {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => return tracing::debug!(%peer, %error, "no TLS connection"),
            Err(_) => return tracing::debug!(%peer, "the TLS handshake took too long"),
        },
        () = stopped(&mut shutdown) => return,
    };
    let first = &AtomicBool::new(true);
    let stopping = shutdown.clone();
    let service = service_fn(move |request| {
        // The first request's deadline began with the socket, a later one's begins with itself.
        let since = if first.swap(false, Ordering::Relaxed) { accepted } else { Instant::now() };
        respond(shared.clone(), request, peer, place.clone(), (since, stopping.clone()))
    });
    let serving = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(settings.login_timeout)
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
        () = overdue(first, deadline) => return tracing::debug!(%peer, "no request came in time"),
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
    let Ok(Ok(upgraded)) = tokio::time::timeout_at(login.deadline, upgrading).await else { return };
    let parts = upgraded
        .downcast::<TokioIo<Stream>>()
        .expect("serve_http gives hyper nothing but a Stream in a TokioIo");
    let read_bytes = match role {
        Role::Plugin => PLUGIN_READ_BYTES,
        Role::Publisher => PUBLISHER_READ_BYTES,
    };
    let wire = Box::new(WebSocket::server(parts.io.into_inner(), parts.read_buf, read_bytes));
    connection::run(wire, login, &shared.handle, &shared.settings).await;
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
