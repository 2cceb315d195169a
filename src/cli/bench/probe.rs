//! Where deliveries are measured: a publisher and some of the servers, on threads apart from those of the other clients,
//! which give way to them, so that the generator's own work is not taken for the broker's. The machine's cores are still
//! shared.

use std::sync::Arc;

use tokio::runtime::{Builder, Runtime};
use tokio::task::{JoinHandle, block_in_place};

use super::broker::Broker;
use super::fleet::{self, Registered};
use super::trickle::{Receipts, Runner, Targets, Trickle};
use crate::cli::exit::CliError;
use crate::client::{PluginClient, PublisherClient};
use crate::limits::WINDOW_MAX;

/// Its threads: while one is busy with a handshake of its own, the other notes what arrives.
const THREADS: usize = 2;

/// See the module.
pub(super) struct Probe {
    apart: Apart,
    publisher: PublisherClient,
    targets: Arc<Targets>,
    receipts: Arc<Receipts>,
    per_second: u32,
}

/// A runtime that may be dropped in a task of another one.
struct Apart(Option<Runtime>);

impl Apart {
    fn runtime(&self) -> &Runtime {
        self.0.as_ref().expect("it is taken when it is dropped")
    }
}

impl Drop for Apart {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

impl Probe {
    /// Connects the publisher, and a plugin for each of these servers; all of them are targets.
    pub(super) fn connect(
        broker: &Broker,
        servers: &[Registered],
        per_second: u32,
        quiet: bool,
    ) -> Result<(Probe, Vec<PluginClient>), CliError> {
        let runtime = Builder::new_multi_thread().worker_threads(THREADS).enable_all().build();
        let runtime = runtime.map_err(|error| CliError::local("cannot start a thread", error))?;
        let apart = Apart(Some(runtime));
        let (receipts, targets) = (Arc::new(Receipts::default()), Arc::new(Targets::default()));
        let connecting = async {
            let runner = || Runner(Arc::clone(&receipts));
            let plugins = fleet::connect(broker, servers, WINDOW_MAX, quiet, runner).await?;
            let publisher = fleet::publishers(broker, 1, 65_536).await?.remove(0);
            Ok::<_, CliError>((plugins, publisher))
        };
        let (plugins, publisher) = block_in_place(|| apart.runtime().block_on(connecting))?;
        servers.iter().for_each(|server| targets.add(server.id));
        Ok((Probe { apart, publisher, targets, receipts, per_second }, plugins))
    }

    /// Its servers that are connected.
    pub(super) fn targets(&self) -> &Arc<Targets> {
        &self.targets
    }

    /// Starts a trickle of orders, with an ordinal of its own, once the publisher is connected.
    pub(super) fn start(&self, ordinal: u64) -> JoinHandle<Result<Trickle, CliError>> {
        let (publisher, per_second) = (self.publisher.clone(), self.per_second);
        let (targets, receipts) = (Arc::clone(&self.targets), Arc::clone(&self.receipts));
        self.apart.runtime().spawn(async move {
            publisher.connected().await.map_err(fleet::client_failed)?;
            Ok(Trickle::start(publisher, targets, receipts, per_second, ordinal))
        })
    }
}
