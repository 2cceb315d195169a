//! A whole broker inside this process: temporary data directory, real sockets on a loopback port.

use std::path::Path;

use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::broker::{self, Running};
use crate::cli::exit::{CliError, Exit};
use crate::cli::rest::read_secret;
use crate::http::{HttpState, router};
use crate::time::Millis;
use crate::transport::{self, TransportSettings};

/// A running broker and where it is.
pub(super) struct Node {
    /// `http://127.0.0.1:PORT`.
    pub(super) url: String,
    /// Its admin key.
    pub(super) key: String,
    data: TempDir,
    running: Running,
    shutdown: watch::Sender<bool>,
    serving: JoinHandle<()>,
}

impl Node {
    /// Starts one; `retry_delays` replace those of the settings.
    pub(super) async fn start(retry_delays: Vec<Millis>) -> Result<Node, CliError> {
        let data = tempfile::Builder::new().prefix("fluxrelay-demo-").tempdir();
        let data = data.map_err(|error| CliError::local("cannot make a data directory", error))?;
        let mut settings = broker::Settings::new(data.path().to_owned());
        settings.engine.retry_delays = retry_delays;
        let failed = |error: crate::storage::StorageError| CliError::new(Exit::Storage, error.to_string());
        let running = broker::start(settings).map_err(failed)?;
        let listener = TcpListener::bind("127.0.0.1:0").await;
        let cannot = |error| CliError::local("cannot listen on 127.0.0.1", error);
        let listener = listener.map_err(cannot)?;
        let url = format!("http://{}", listener.local_addr().map_err(cannot)?);
        let key = read_secret(&data.path().join("admin.key"))?;
        let (shutdown, stopping) = watch::channel(false);
        let handle = running.handle().clone();
        let routes = router(HttpState::new(handle.clone()));
        let serving = transport::serve(listener, routes, handle, TransportSettings::default(), stopping);
        let serving = tokio::spawn(serving);
        Ok(Node { url, key, data, running, shutdown, serving })
    }

    /// Where its files are.
    pub(super) fn data_dir(&self) -> &Path {
        self.data.path()
    }

    /// Ends it in order; everything is on disk afterwards, and then removed.
    pub(super) async fn stop(self) {
        let _ = self.shutdown.send(true);
        self.running.stop().await;
        let _ = self.serving.await;
    }
}
