//! PostgreSQL behind a gateway: one table, commands in by multi-row INSERT, out by DELETE of rows that nobody else has
//! locked. The consumers live in the gateway, which is this process, so the table alone has the connections' work.

mod client;
mod cluster;
mod gateway;
mod wire;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use fluxrelay::cli::CliError;
use fluxrelay::load::{Publisher, Refused, Runner, System, Usage};
use tokio::task::JoinSet;

use crate::child::Peer;
use client::Client;
use cluster::PostgresServer;
use gateway::{Gateway, deleting, inserting};

/// Connections that insert, and as many that delete: with more the two cores are only shared by more.
const CONNECTIONS: usize = 2;

/// Rows come and go by the million: what is dead is swept every second, at full speed, or else each look for the oldest
/// row would pass all that are dead.
const SCHEMA: &str = "
    CREATE TABLE commands (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, server int NOT NULL, text text NOT NULL)
    WITH (autovacuum_vacuum_threshold = 5000, autovacuum_vacuum_scale_factor = 0,
          autovacuum_vacuum_insert_threshold = -1, autovacuum_vacuum_cost_delay = 0)";

/// A cluster of its own with its table.
pub(crate) struct Postgres {
    peer: Peer<PostgresServer>,
    servers: usize,
    gateway: Arc<Gateway>,
}

impl Postgres {
    /// Starts one from this file, and a database with it.
    pub(crate) async fn start(
        file: &Path,
        data_in: Option<&Path>,
        servers: u32,
    ) -> Result<Postgres, CliError> {
        let peer = tokio::task::block_in_place(|| cluster::start(file, data_in))?;
        let made = Client::connect(peer.port()).await?.query(SCHEMA).await;
        made.map_err(|error| CliError::local("cannot make a table", error))?;
        Ok(Postgres { peer, servers: servers as usize, gateway: Arc::default() })
    }
}

/// Tasks of the gateway: they end when it is dropped.
pub(crate) struct Deleting {
    gateway: Arc<Gateway>,
    _tasks: JoinSet<()>,
}

impl Drop for Deleting {
    fn drop(&mut self) {
        self.gateway.stop_deleting();
    }
}

impl System for Postgres {
    type Publisher = GatewayPublisher;
    type Consumers = Deleting;
    type Error = CliError;

    fn servers(&self) -> usize {
        self.servers
    }

    /// All of them are one gateway, with connections of its own.
    async fn publishers(&self, connections: u32, _in_flight: u32) -> Result<Vec<GatewayPublisher>, CliError> {
        let mut tasks = JoinSet::new();
        for _ in 0..CONNECTIONS {
            tasks.spawn(inserting(Arc::clone(&self.gateway), Client::connect(self.peer.port()).await?));
        }
        let publisher = GatewayPublisher { gateway: Arc::clone(&self.gateway), _tasks: Arc::new(tasks) };
        Ok(vec![publisher; connections as usize])
    }

    async fn consumers<R: Runner>(
        &self,
        quiet: bool,
        mut runner: impl FnMut() -> R,
    ) -> Result<Deleting, CliError> {
        let mut tasks = JoinSet::new();
        for _ in 0..CONNECTIONS {
            let client = Client::connect(self.peer.port()).await?;
            let runners = (0..self.servers).map(|_| runner()).collect();
            tasks.spawn(deleting(Arc::clone(&self.gateway), client, runners, quiet));
        }
        Ok(Deleting { gateway: Arc::clone(&self.gateway), _tasks: tasks })
    }

    fn go(&self, _consumers: &Deleting) -> Result<(), CliError> {
        self.gateway.start_deleting();
        Ok(())
    }

    fn usage(&self) -> Option<Usage> {
        self.peer.usage()
    }

    fn disk_bytes(&self) -> Option<u64> {
        Some(self.peer.disk_bytes())
    }

    fn kill(&mut self) -> Result<(), CliError> {
        self.peer.kill()
    }

    fn restart(&mut self) -> Result<Duration, CliError> {
        self.peer.restart()
    }
}

/// A publisher at the gateway.
#[derive(Clone)]
pub(crate) struct GatewayPublisher {
    gateway: Arc<Gateway>,
    _tasks: Arc<JoinSet<()>>,
}

impl Publisher for GatewayPublisher {
    type Order = Vec<(usize, String)>;

    fn order(&self, _key: Option<String>, commands: impl Iterator<Item = (usize, String)>) -> Self::Order {
        commands.collect()
    }

    fn aim(&self, order: &mut Self::Order, server: usize) {
        order[0].0 = server;
    }

    async fn publish(&self, order: &Self::Order) -> Result<(), Refused> {
        let refused = |reason| Refused { retry_after: None, reason };
        let answered = self.gateway.insert(order);
        answered.await.unwrap_or_else(|_| Err("the gateway has stopped".into())).map_err(refused)
    }
}
