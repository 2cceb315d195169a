//! A whole broker in this process: broker, REST and transport on its listeners. `serve` and `demo` run it.

use std::net::SocketAddr;

use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::exit::{CliError, Exit};
use super::huge_pages;
use crate::broker::{self, Running};
use crate::http::{HttpState, router};
use crate::storage::StorageError;
use crate::time::Millis;
use crate::transport::{self, Listeners, TransportSettings};

/// Reconnects after a shutdown are spread over this time.
const RECONNECT_SPREAD: Millis = Millis::seconds(5);

/// A running node.
pub(super) struct Node {
    running: Running,
    address: SocketAddr,
    shutdown: watch::Sender<bool>,
    serving: JoinHandle<()>,
}

impl Node {
    /// Recovers the data directory and serves on `listeners`.
    pub(super) async fn start(
        settings: broker::Settings,
        transport: TransportSettings,
        listeners: impl Into<Listeners>,
    ) -> Result<Node, CliError> {
        let listeners = listeners.into();
        let address = listeners.tcp.local_addr().map_err(|error| CliError::local("cannot listen", error))?;
        let started = tokio::task::spawn_blocking(move || broker::start(settings)).await;
        let running = started
            .map_err(|error| CliError::new(Exit::Storage, error.to_string()))?
            .map_err(storage_failed)?;
        huge_pages::no_more();
        let handle = running.handle().clone();
        let (shutdown, stopping) = watch::channel(false);
        let routes = router(HttpState::new(handle.clone()));
        let serving = tokio::spawn(transport::serve(listeners, routes, handle, transport, stopping));
        Ok(Node { running, address, shutdown, serving })
    }

    /// Where it listens.
    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// The broker.
    pub(super) fn running(&mut self) -> &mut Running {
        &mut self.running
    }

    /// Stops accepting, tells connections to come back, lets them end, stores what is open.
    pub(super) async fn stop(self) -> Result<(), CliError> {
        // Its receiver is gone only when serving has ended already.
        let _ = self.shutdown.send(true);
        self.running.go_away(RECONNECT_SPREAD);
        let _ = self.serving.await;
        self.running.stop().await.map_err(storage_failed)
    }
}

/// What a storage failure means for the process.
pub(super) fn storage_failed(error: StorageError) -> CliError {
    if matches!(error, StorageError::Mirror { .. }) {
        return CliError::usage(error.to_string());
    }
    CliError::new(Exit::Storage, error.to_string()).hint(
        "nothing that was acknowledged is lost; mend what the message names, then start again: \
         the next start checks every file",
    )
}
