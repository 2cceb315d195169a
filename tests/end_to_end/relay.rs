//! A broker with its listener on a free port, and what tests want to know of it.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use fluxrelay::broker::{self, Actor, Handle, LoginCounts, Running, Scope};
use fluxrelay::client::{PluginOptions, PublisherClient, PublisherOptions};
use fluxrelay::credentials::HashCost;
use fluxrelay::engine::{CommandRow, Status};
use fluxrelay::http::{self, HttpState};
use fluxrelay::ids::{CommandId, ServerId, StoreId};
use fluxrelay::time::Millis;
use fluxrelay::transport::{self, TransportSettings};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

pub(crate) use crate::patience::{eventually, soon};

pub(crate) struct Server {
    pub(crate) id: ServerId,
    pub(crate) token: String,
}

pub(crate) struct Relay {
    pub(crate) address: SocketAddr,
    settings: TransportSettings,
    broker: broker::Settings,
    running: Option<Running>,
    stop: watch::Sender<bool>,
    serving: Option<JoinHandle<()>>,
    /// Where it listens for QUIC, and whether it does.
    #[cfg_attr(not(feature = "quic"), expect(dead_code, reason = "there is no QUIC to listen for"))]
    quic: Option<(SocketAddr, bool)>,
    _folder: TempDir,
}

impl Relay {
    pub(crate) async fn start() -> Relay {
        Relay::start_with(TransportSettings::default()).await
    }

    pub(crate) async fn start_with(settings: TransportSettings) -> Relay {
        Relay::start_changed(settings, |_| {}).await
    }

    /// As `start_with`, with changes to the broker's settings.
    pub(crate) async fn start_changed(
        settings: TransportSettings,
        change: impl FnOnce(&mut broker::Settings),
    ) -> Relay {
        Relay::start_all(settings, change, None).await
    }

    /// With QUIC on a port of its own.
    #[cfg(feature = "quic")]
    pub(crate) async fn start_with_quic(settings: TransportSettings) -> Relay {
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        Relay::start_all(settings, |_| {}, Some((any, true))).await
    }

    async fn start_all(
        settings: TransportSettings,
        change: impl FnOnce(&mut broker::Settings),
        quic: Option<(SocketAddr, bool)>,
    ) -> Relay {
        let folder = tempfile::tempdir().unwrap();
        let mut broker = broker::Settings {
            shards: 2,
            checkpoint_every: Millis::seconds(60),
            ended_kept: Millis::seconds(3600),
            login_threads: 2,
            login_timeout: Duration::from_secs(10),
            hash_cost: HashCost::TINY,
            ..broker::Settings::new(folder.path().join("data"))
        };
        change(&mut broker);
        let stop = watch::Sender::new(false);
        let address = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut relay =
            Relay { address, settings, broker, running: None, stop, serving: None, quic, _folder: folder };
        relay.open().await;
        relay
    }

    async fn open(&mut self) {
        let running = broker::start(self.broker.clone()).unwrap();
        let listener = TcpListener::bind(self.address).await.unwrap();
        self.address = listener.local_addr().unwrap();
        let handle = running.handle().clone();
        let router = http::router(HttpState::new(handle.clone()));
        self.stop = watch::Sender::new(false);
        let listeners = self.listeners(listener);
        let serve = transport::serve(listeners, router, handle, self.settings.clone(), self.stop.subscribe());
        self.serving = Some(tokio::spawn(serve));
        self.running = Some(running);
    }

    #[cfg(feature = "quic")]
    fn listeners(&mut self, tcp: TcpListener) -> transport::Listeners {
        let bind = |address: &mut SocketAddr| {
            let quic = transport::QuicListener::bind(*address, &self.settings).unwrap();
            *address = quic.address();
            quic
        };
        let wanted = self.quic.as_mut().filter(|(_, on)| *on);
        transport::Listeners { tcp, quic: wanted.map(|(address, _)| bind(address)) }
    }

    #[cfg(not(feature = "quic"))]
    fn listeners(&mut self, tcp: TcpListener) -> transport::Listeners {
        tcp.into()
    }

    /// Where it listens for QUIC.
    #[cfg(feature = "quic")]
    pub(crate) fn quic_address(&self) -> SocketAddr {
        self.quic.unwrap().0
    }

    /// As `restart_stopped`, with or without QUIC.
    #[cfg(feature = "quic")]
    pub(crate) async fn restart_with_quic(&mut self, on: bool) {
        self.quic.as_mut().unwrap().1 = on;
        self.open().await;
    }

    /// As `serve` does it on SIGTERM.
    pub(crate) async fn stop(&mut self) {
        let running = self.running.take().unwrap();
        running.go_away(Millis(50));
        self.stop.send_replace(true);
        soon("the listener to end", self.serving.take().unwrap()).await.unwrap();
        soon("the last commit", running.stop()).await.unwrap();
    }

    /// Starts it again, after a stop, on the same port and data.
    pub(crate) async fn restart_stopped(&mut self) {
        self.open().await;
    }

    /// Stops it and starts it again on the same port and data.
    pub(crate) async fn restart(&mut self) {
        self.stop().await;
        self.open().await;
    }

    pub(crate) fn handle(&self) -> &Handle {
        self.running.as_ref().unwrap().handle()
    }

    /// Where it keeps everything.
    pub(crate) fn data_dir(&self) -> &Path {
        &self.broker.data_dir
    }

    /// What was counted about logins since the last start.
    pub(crate) fn logins(&self) -> LoginCounts {
        self.handle().registry().login_counts()
    }

    pub(crate) fn url(&self) -> String {
        let scheme = if self.settings.tls.is_some() { "https" } else { "http" };
        format!("{scheme}://{}", self.address)
    }

    pub(crate) async fn server(&self, name: &str) -> Server {
        let (server, token) =
            self.handle().registry().by(Actor::LOCAL).create_server(StoreId(1), name, "").await.unwrap();
        self.handle().server_added(server.id, StoreId(1)).await.unwrap();
        Server { id: server.id, token: token.reveal().to_owned() }
    }

    pub(crate) async fn key(&self, scope: Scope) -> String {
        let (_, key) =
            self.handle().registry().by(Actor::LOCAL).create_key(StoreId(1), scope, "test").await.unwrap();
        key.reveal().to_owned()
    }

    pub(crate) async fn publisher(&self) -> PublisherClient {
        let options = PublisherOptions::new(self.url(), self.key(Scope::Publish).await);
        PublisherClient::start(options).unwrap()
    }

    /// Options of a plugin that comes back quickly.
    pub(crate) fn plugin(&self, server: &Server) -> PluginOptions {
        let mut options = PluginOptions::new(self.url(), &server.token);
        options.backoff.first = Duration::from_millis(10);
        options
    }

    pub(crate) async fn command(&self, id: CommandId) -> CommandRow {
        self.handle().command(id).await.unwrap()
    }

    /// Waits until a command has this status.
    pub(crate) async fn reaches(&self, id: CommandId, status: Status) -> CommandRow {
        eventually(&format!("{id} to be {status:?}"), async || self.command(id).await.status == status).await;
        self.command(id).await
    }

    /// Waits until so many plugins have a session.
    pub(crate) async fn sessions(&self, count: u64) {
        eventually(&format!("{count} sessions"), async || self.handle().stats().sessions == count).await;
    }
}
