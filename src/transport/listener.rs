//! The accept loop: a bounded number of sockets, TLS, first requests and logins under one deadline at the doors; who is in
//! goes over to the serving threads. It knows no frame and no route.

use std::future::poll_fn;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use bytes::Bytes;
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime;
use tokio::sync::watch;
use tokio::time::{Instant, timeout, timeout_at};

use super::connection::{self, Entered, Login};
use super::doors::Doors;
use super::full::Full;
use super::greeting::{Guest, greet};
use super::head::{First, first};
use super::places::{Place, Places};
#[cfg(feature = "quic")]
use super::quic::QuicListener;
use super::requests;
use super::settings::TransportSettings;
use super::turns::Turns;
use super::upgrade::Role;
use crate::broker::{Handle, Network};
use crate::carrier::WebSocket;
use crate::priority;
use crate::tls::Stream;

/// Bytes that are held to read from a plugin from the start, also while it is idle: a few small frames.
const PLUGIN_READ_BYTES: usize = 256;
/// Bytes that one system call reads from a publisher at the most; there are few of them.
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

/// What all sockets share.
pub(super) struct Shared {
    pub(super) router: Router,
    pub(super) handle: Handle,
    pub(super) settings: Arc<TransportSettings>,
    /// The threads for who is logged in, and for REST.
    serving: runtime::Handle,
    turns: Turns,
}

/// Serves REST (the router) and both kinds of connections, over WebSocket and QUIC, until `shutdown` turns true, then until all open
/// requests and connections have ended or `shutdown_grace` is over. Connections end when the broker tells them
/// to go away, so stop the broker at the same time.
///
/// # Panics
/// The system gives no threads.
pub async fn serve(
    listeners: impl Into<Listeners>,
    router: Router,
    handle: Handle,
    settings: TransportSettings,
    shutdown: watch::Receiver<bool>,
) {
    let places = Places::new(&settings);
    let grace = settings.shutdown_grace;
    let settings = Arc::new(settings);
    let listeners = listeners.into();
    #[cfg(feature = "quic")]
    let quic = listeners.quic;
    #[cfg(feature = "quic")]
    if let Some(quic) = &quic {
        quic.spawn(handle.clone(), settings.clone(), places.clone(), shutdown.clone());
    }
    let doors = Doors::open(settings.door_threads);
    let full = Full::new(settings.tls.clone(), doors.handle().clone());
    let (serving, turns) = (runtime::Handle::current(), doors.turns());
    let shared = Arc::new(Shared { router, handle, settings, serving, turns });
    let taking = (places.clone(), full);
    let accepting = accept(listeners.tcp, doors.handle().clone(), shared, taking, shutdown);
    doors.accepting().spawn(accepting).await.expect("the loop does not panic, and its threads end after it");
    if timeout(grace, places.all_free()).await.is_err() {
        tracing::info!(left = places.taken(), "shutdown: sockets cut off after the grace period");
    }
    #[cfg(feature = "quic")]
    if let Some(quic) = quic {
        quic.close().await;
    }
}

/// Takes sockets until the broker stops, and gives them to the threads at the doors, which watch them.
async fn accept(
    listener: TcpListener,
    doors: runtime::Handle,
    shared: Arc<Shared>,
    (places, full): (Places, Full),
    mut shutdown: watch::Receiver<bool>,
) {
    loop {
        let accepted = tokio::select! {
            biased;
            () = stopped(&mut shutdown) => return,
            accepted = poll_fn(|cx| {
                let _watched_there = doors.enter();
                listener.poll_accept(cx)
            }) => accepted,
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
                let entering = enter(shared.clone(), stream, peer, Arc::new(place), shutdown.clone());
                doors.spawn(priority::considerate(entering));
            }
            Err(limit) => {
                tracing::debug!(%peer, limit = limit.name(), "refused: too many connections");
                shared.handle.on_limit(limit);
                full.refuse(stream, peer.ip());
            }
        }
    }
}

/// Returns once `shutdown` is true, or its sender is gone.
pub(super) async fn stopped(shutdown: &mut watch::Receiver<bool>) {
    let _ = shutdown.wait_for(|stop| *stop).await;
}

/// From the socket to a peer that is logged in, or to its first request if that is for REST. Runs at the doors, which it
/// leaves by a task on the serving threads.
async fn enter(
    shared: Arc<Shared>,
    stream: TcpStream,
    peer: SocketAddr,
    place: Arc<Place>,
    mut shutdown: watch::Receiver<bool>,
) {
    let accepted = Instant::now();
    let _ = stream.set_nodelay(true);
    let limit = shared.settings.login_timeout;
    let opening = async {
        let tls = shared.settings.tls.as_ref();
        let guest = Guest { network: Network::of(peer.ip()), accepted, limit, broker: Some(&shared.handle) };
        let (stream, since) = greet(stream, tls, &shared.turns, guest).await?;
        stream.is_resumed().into_iter().for_each(|resumed| shared.handle.on_handshake(resumed));
        let first = timeout_at(since + limit, first(stream)).await;
        std::io::Result::Ok((first.map_err(|_| std::io::Error::other("no request came in time"))??, since))
    };
    let (first, since) = tokio::select! {
        opened = opening => match opened {
            Ok(opened) => opened,
            Err(error) => return tracing::debug!(%peer, %error, "no connection"),
        },
        () = stopped(&mut shutdown) => return,
    };
    let serving = shared.serving.clone();
    match first {
        First::Other(stream) => {
            serving.spawn(requests::serve(shared, stream, peer, place, (since, shutdown)));
        }
        First::WebSocket { stream, role, bearer, part } => {
            let deadline = since + limit;
            let login = Login { role: Some(role), bearer, deadline, peer, shutdown, _place: None };
            let entered = connection::enter(websocket(stream, part, role), login, &shared.handle).await;
            if let Some(entered) = entered {
                serving.spawn(connected(shared, entered, place));
            }
        }
    }
}

/// The server's end of a WebSocket.
pub(super) fn websocket(stream: Stream, part: Bytes, role: Role) -> Box<WebSocket<Stream>> {
    let read_bytes = match role {
        Role::Plugin => PLUGIN_READ_BYTES,
        Role::Publisher => PUBLISHER_READ_BYTES,
    };
    Box::new(WebSocket::server(stream, part, read_bytes))
}

/// Runs a connection on the serving threads; holds the socket's place to the end.
async fn connected(shared: Arc<Shared>, mut entered: Entered<WebSocket<Stream>>, _place: Arc<Place>) {
    match entered.wire().stream_mut().move_here() {
        Ok(()) => entered.serve(&shared.handle, &shared.settings).await,
        Err(error) => tracing::debug!(%error, "the socket cannot be watched"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bytes of the future that a function with these arguments gives.
    fn future_bytes<A, B, C, F>(_: impl FnOnce(A, B, C) -> F) -> usize {
        size_of::<F>()
    }

    #[test]
    fn a_connection_is_small_while_it_is_idle() {
        let bytes = future_bytes(connected);
        assert!(bytes <= 1408, "{bytes}");
    }
}
