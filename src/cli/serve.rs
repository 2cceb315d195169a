//! `fluxrelay serve`: runs a node until SIGTERM, Ctrl-C or a storage failure.

use std::net::SocketAddr;

use tokio::net::{TcpListener, TcpSocket};
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::certificate;
use super::clock;
use super::exit::CliError;
use super::node::{Node, storage_failed};
use super::open_files::{self, FILES_BESIDE};
use super::output::line;
use super::settings;
use crate::broker;
use crate::config::{Config, ServeArgs};
use crate::storage::mirror::Mirror;
use crate::telemetry;
#[cfg(feature = "quic")]
use crate::transport::QuicListener;
use crate::transport::{Listeners, TransportSettings};

/// Sockets that wait to be accepted; Linux takes no more than its `net.core.somaxconn`, 4,096 unless it was changed.
const BACKLOG: u32 = 16 * 1024;

/// Runs a broker until SIGTERM, Ctrl-C or a storage failure.
pub(super) fn run(args: ServeArgs) -> Result<(), CliError> {
    let config = args.load().map_err(|error| CliError::usage(error.to_string()))?;
    telemetry::start(&config.log, config.log_format);
    tracing::info!(settings = %config, "starting");
    raise_open_files(&config);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(config.runtime_threads)
        .enable_all()
        .build()
        .map_err(|error| CliError::local("cannot start the runtime", error))?;
    runtime.block_on(serve(config))
}

/// Raises the limit of open files, and says when there may be fewer than connections.
fn raise_open_files(config: &Config) {
    let (open_files, connections_max) = (open_files::raise(), config.connections_max);
    if open_files < connections_max as u64 + FILES_BESIDE {
        tracing::info!(open_files, connections_max, "fewer files may be open than connections_max");
    }
}

async fn serve(config: Config) -> Result<(), CliError> {
    // First of all: what it puts back may be the certificate.
    let mirror = config.mirror_dir.as_ref().map(|dir| Mirror::look(&config.data_dir, dir));
    let mirror = mirror.transpose().map_err(storage_failed)?;
    let tls = certificate::open(&config)?;
    let hangup = listen_for(SignalKind::hangup())?;
    let listener = listen(config.listen)
        .map_err(|error| CliError::local(format_args!("cannot listen on {}", config.listen), error))?;
    let begun = clock::now();
    let transport = TransportSettings { tls: tls.clone(), ..settings::of_transport(&config) };
    #[cfg(feature = "quic")]
    let listeners = with_quic(listener, &config, &transport)?;
    #[cfg(not(feature = "quic"))]
    let listeners = Listeners::from(listener);
    #[cfg(feature = "quic")]
    let quic = listeners.quic.as_ref().map(QuicListener::address);
    let settings = broker::Settings { mirror: mirror.clone(), ..settings::of_broker(&config) };
    let mut node = Node::start(settings, transport, listeners).await?;
    let recovery = node.running().recovery();
    tracing::info!(
        live = recovery.live,
        frames = recovery.frames,
        changes = recovery.changes,
        clean = recovery.clean,
        elapsed_ms = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX),
        "recovered"
    );
    for missing in &recovery.missing {
        tracing::error!(
            shard = missing.shard.0,
            from = missing.from.0,
            to = missing.to.0,
            "frames are missing: the store at rest is older than the journal; restore it from a backup"
        );
    }
    if let Some(key) = &node.running().first_start().admin_key {
        line(format_args!("admin key (shown once, also in admin.key): {}", key.reveal()))?;
    }
    if let Some(tls) = &tls {
        line(format_args!("certificate fingerprint: {}", tls.fingerprint()))?;
    }
    let scheme = if tls.is_some() { "https" } else { "http" };
    line(format_args!("listening on {scheme}://{}", node.address()))?;
    #[cfg(feature = "quic")]
    if let Some(address) = quic {
        line(format_args!("listening on quic://{address}"))?;
    }
    line(format_args!("dashboard: {scheme}://{}/", node.address()))?;
    let mut terminate = listen_for(SignalKind::terminate())?;
    let mut interrupt = listen_for(SignalKind::interrupt())?;
    tokio::select! {
        error = node.running().failed() => {
            tracing::error!(%error, "the storage failed; nothing more is acknowledged");
            return Err(storage_failed(error));
        }
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
        never = certificate::keep_current(tls, mirror, hangup) => match never {},
    }
    tracing::info!("stopping");
    node.stop().await?;
    tracing::info!("stopped");
    Ok(())
}

/// Listens, with room for all who come back in the moment after a restart: whom the system has no room for tries again
/// after a second by itself, then after three.
fn listen(address: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// The listener for TCP, and beside it the one for QUIC if it is on.
#[cfg(feature = "quic")]
fn with_quic(tcp: TcpListener, config: &Config, settings: &TransportSettings) -> Result<Listeners, CliError> {
    let bind = |address| {
        let cannot = |error| CliError::local(format_args!("cannot listen on {address} (UDP)"), error);
        QuicListener::bind(address, settings).map_err(cannot)
    };
    Ok(Listeners { tcp, quic: config.quic_listen.map(bind).transpose()? })
}

fn listen_for(kind: SignalKind) -> Result<Signal, CliError> {
    signal(kind).map_err(|error| CliError::local("cannot listen for signals", error))
}
