//! fluxrelay as a system under test: its broker, with the client library at the other end.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::broker::Broker;
use super::fleet::{self, Registered};
use super::setup::Setup;
use crate::cli::exit::CliError;
use crate::client::{
    DeliveredCommand, Order, OrderCommand, PluginClient, PluginHandler, PublishError, PublisherClient,
};
use crate::client::{Report as Outcome, Servers};
use crate::ids::{Seq, ServerId};
use crate::limits::WINDOW_MAX;
use crate::load::{Publisher, Refused, Runner, System, Usage};

/// A broker with its registered servers.
pub struct Fluxrelay {
    broker: Broker,
    servers: Vec<Registered>,
    ids: Arc<[ServerId]>,
}

impl Fluxrelay {
    /// Starts a broker from this binary on a temporary data directory, in which so many servers are registered. Call it on
    /// a multi-threaded tokio runtime; it blocks. The broker ends, and its data goes away, when this is dropped.
    ///
    /// # Errors
    /// This system cannot hold so many connections, or the broker does not start.
    pub fn start(
        binary: &Path,
        data_in: Option<&Path>,
        servers: u32,
        quiet: bool,
    ) -> Result<Fluxrelay, CliError> {
        let (broker, servers) = Setup::cheap(data_in, servers).start(binary, quiet)?;
        Ok(Fluxrelay::new(broker, servers))
    }

    /// A broker whose servers are registered.
    pub(super) fn new(broker: Broker, servers: Vec<Registered>) -> Fluxrelay {
        let ids = servers.iter().map(|server| server.id).collect();
        Fluxrelay { broker, servers, ids }
    }

    /// Its broker.
    pub(super) fn broker(&self) -> &Broker {
        &self.broker
    }

    /// Its servers.
    pub(super) fn registered(&self) -> &[Registered] {
        &self.servers
    }

    /// Takes the servers away again, from a broker that goes on without the bench.
    pub(super) fn leave(&self, quiet: bool) -> Result<(), CliError> {
        if self.broker.usage().is_none() {
            fleet::remove(&self.broker.rest()?, &self.servers, quiet)?;
        }
        Ok(())
    }
}

impl System for Fluxrelay {
    type Publisher = FluxrelayPublisher;
    type Consumers = Vec<PluginClient>;
    type Error = CliError;

    fn servers(&self) -> usize {
        self.servers.len()
    }

    async fn publishers(
        &self,
        connections: u32,
        in_flight: u32,
    ) -> Result<Vec<FluxrelayPublisher>, CliError> {
        let clients = fleet::publishers(&self.broker, connections, in_flight).await?;
        let publisher = |client| FluxrelayPublisher { client, ids: Arc::clone(&self.ids) };
        Ok(clients.into_iter().map(publisher).collect())
    }

    /// Logs the plugins in with a window of 0.
    async fn consumers<R: Runner>(
        &self,
        quiet: bool,
        mut runner: impl FnMut() -> R,
    ) -> Result<Vec<PluginClient>, CliError> {
        fleet::connect(&self.broker, &self.servers, 0, quiet, || Plugin(runner())).await
    }

    fn go(&self, consumers: &Vec<PluginClient>) -> Result<(), CliError> {
        consumers.iter().try_for_each(|client| client.set_window(WINDOW_MAX)).map_err(fleet::client_failed)
    }

    fn usage(&self) -> Option<Usage> {
        self.broker.usage()
    }

    fn disk_bytes(&self) -> Option<u64> {
        self.broker.disk_bytes()
    }

    fn cut(&self, consumers: Vec<PluginClient>) {
        consumers.iter().for_each(PluginClient::abort);
    }

    fn kill(&mut self) -> Result<(), CliError> {
        self.broker.kill()
    }

    fn restart(&mut self) -> Result<Duration, CliError> {
        self.broker.restart_and_wait()
    }
}

/// A connection of a store's backend.
#[derive(Clone)]
pub struct FluxrelayPublisher {
    client: PublisherClient,
    ids: Arc<[ServerId]>,
}

impl Publisher for FluxrelayPublisher {
    type Order = Order;

    fn order(&self, key: Option<String>, commands: impl Iterator<Item = (usize, String)>) -> Order {
        let command = |(server, text): (usize, String)| {
            let server = self.ids[server];
            OrderCommand::new(Servers::One(server), text)
        };
        Order { key, commands: commands.map(command).collect(), ..Order::default() }
    }

    fn aim(&self, order: &mut Order, server: usize) {
        order.commands[0].servers = Servers::One(self.ids[server]);
    }

    async fn publish(&self, order: &Order) -> Result<(), Refused> {
        match self.client.publish(order).await {
            Ok(_) => Ok(()),
            Err(error) => Err(Refused {
                retry_after: match &error {
                    PublishError::Refused { retry_after, .. } => *retry_after,
                    _ => None,
                },
                reason: error.to_string(),
            }),
        }
    }
}

/// A game server whose runner runs everything at once.
struct Plugin<R>(R);

impl<R: Runner> PluginHandler for Plugin<R> {
    fn run(&mut self, commands: Vec<DeliveredCommand>, reports: &mut Vec<Outcome>) {
        self.0.run(commands.iter().map(|command| command.text.as_str()));
        reports.extend(commands.iter().map(|command| command.completed(None)));
    }

    fn confirmed(&mut self, commands: &[Seq]) {
        self.0.confirmed(commands.len() as u64);
    }
}
