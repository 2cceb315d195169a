//! The broker as the outer layers see it: every call that transport, REST and the demo may make.

use std::sync::Arc;

use super::events::{EventId, EventStream};
use super::mailbox::Mailbox;
use super::registry::Registry;
use super::stats::Snapshot;
use crate::engine::{
    CommandResult, CommandRow, Delivery, Hello, NewCommand, Operation, OrderRow, Player, PlayerNews, Refusal,
    Seq, ServerState, Status,
};
use crate::ids::{CommandId, ConnId, OrderId, ServerId, StoreId};
use crate::time::{Millis, UnixMs};

/// What can be wrong with a request to the broker. Nothing changed, except for `Unknown`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BrokerError {
    /// The engine refused it.
    #[error("refused: {0:?}")]
    Refused(Refusal),
    /// No such server in this store.
    #[error("no such server: {0}")]
    UnknownServer(String),
    /// `"*"` and the store has no server.
    #[error("the store has no server")]
    NoServers,
    /// No such store, order, key or command.
    #[error("not found")]
    NotFound,
    /// More commands than an order may have once `"*"` is expanded.
    #[error("an order has at most {max} commands, this one has {count}")]
    TooManyCommands {
        /// `ORDER_COMMANDS_MAX`.
        max: usize,
        /// How many it has.
        count: usize,
    },
    /// A queue inside the broker is full: try again after this many milliseconds.
    #[error("busy, try again in {retry_after_ms} ms")]
    Busy {
        /// When to come back.
        retry_after_ms: u32,
    },
    /// The storage failed or the broker is stopping: nothing is accepted any more; what was asked may or may not
    /// have happened (a publish with an idempotency key can be repeated safely).
    #[error("the broker is stopping")]
    Stopping,
}

/// Which servers a command of a publish names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// This one.
    One(ServerId),
    /// Every server of the store.
    All,
}

/// One command as a publisher gives it.
#[derive(Debug, Clone)]
pub struct RequestedCommand {
    /// Which servers run it.
    pub target: Target,
    /// Not before this span after acceptance. It stays a span until the order is accepted, so that a repeated
    /// request has the same digest; the later of it and `command.not_before` counts.
    pub delay: Option<Millis>,
    /// `server` is a placeholder (`ServerId(0)`) until the target is resolved.
    pub command: NewCommand,
}

/// An order as a publisher gives it: checked for shape, not yet for servers.
#[derive(Debug, Clone)]
pub struct OrderRequest {
    /// 1 to `IDEMPOTENCY_KEY_BYTES_MAX` bytes.
    pub key: Option<Arc<str>>,
    /// See [`crate::engine::NewOrder`].
    pub reference: Option<Arc<str>>,
    /// See [`crate::engine::NewOrder`].
    pub player: Option<Player>,
    /// See [`crate::engine::NewOrder`].
    pub ordered: bool,
    /// 1 to `ORDER_COMMANDS_MAX`.
    pub commands: Vec<RequestedCommand>,
}

/// The answer to a publish.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Published {
    /// The order.
    pub order: OrderId,
    /// Seen before under the same key.
    pub replayed: bool,
    /// In the order of the request, `"*"` expanded.
    pub commands: Vec<CommandId>,
}

/// A page of a server's commands.
#[derive(Debug, Clone, Default)]
pub struct CommandPage {
    /// The commands: those in memory by rising seq, then those at rest, newest first.
    pub commands: Vec<CommandRow>,
    /// Opaque; where the next page starts.
    pub next: Option<String>,
}

/// Which commands a bulk resend means.
#[derive(Debug, Clone)]
pub struct ResendFilter {
    /// Of this store.
    pub store: StoreId,
    /// Of this server only.
    pub server: Option<ServerId>,
    /// Entered their status at or after.
    pub from: UnixMs,
    /// Entered their status before.
    pub to: UnixMs,
    /// `failed`, `in_doubt` or both.
    pub statuses: Vec<Status>,
}

/// The broker. Cheap to clone.
#[derive(Clone)]
pub struct Handle {
    pub(super) inner: Arc<super::Inner>,
}

/// Calls of publishers and operators. All are answered once what they promise is durable.
impl Handle {
    /// Servers, stores, keys; and who may do what.
    pub fn registry(&self) -> &Registry {
        todo!()
    }
    /// The current time, from the one clock.
    pub fn now(&self) -> UnixMs {
        todo!()
    }
    /// Accepts an order whole, or refuses it whole.
    pub async fn publish(&self, store: StoreId, order: OrderRequest) -> Result<Published, BrokerError> {
        todo!()
    }
    /// One command of any status.
    pub async fn command(&self, id: CommandId) -> Result<CommandRow, BrokerError> {
        todo!()
    }
    /// One order.
    pub async fn order(&self, id: OrderId) -> Result<OrderRow, BrokerError> {
        todo!()
    }
    /// A page of a server's commands; `cursor` as a page before gave it (`BrokerError::NotFound` if it is not one).
    pub async fn commands(
        &self,
        server: ServerId,
        status: Option<Status>,
        limit: usize,
        cursor: Option<&str>,
    ) -> Result<CommandPage, BrokerError> {
        todo!()
    }
    /// The state of servers, in the same order.
    pub async fn server_states(&self, servers: &[ServerId]) -> Result<Vec<ServerState>, BrokerError> {
        todo!()
    }
    /// Cancel, resend, edit. The command as it is afterwards.
    pub async fn operate(&self, id: CommandId, operation: Operation) -> Result<CommandRow, BrokerError> {
        todo!()
    }
    /// Bulk resend, atomic: the ids that are offered again, by rising seq.
    pub async fn resend_many(&self, filter: ResendFilter) -> Result<Vec<CommandId>, BrokerError> {
        todo!()
    }
    /// Follows events of one store (`None` = of all), after `since` when it is still remembered.
    pub fn events(&self, store: Option<StoreId>, since: Option<EventId>) -> EventStream {
        todo!()
    }
    /// All counters and gauges, for metrics.
    pub fn stats(&self) -> Snapshot {
        todo!()
    }
    /// Shards and journal run, and publishes are accepted.
    pub fn is_ready(&self) -> bool {
        todo!()
    }
    /// A server was registered, before anybody can publish to it.
    pub async fn server_added(&self, server: ServerId, store: StoreId) -> Result<(), BrokerError> {
        todo!()
    }
    /// A server was removed from the registry: its session ends and its queue is cancelled.
    pub async fn server_removed(&self, server: ServerId) -> Result<(), BrokerError> {
        todo!()
    }
    /// Its token was regenerated: its session ends.
    pub async fn token_regenerated(&self, server: ServerId) -> Result<(), BrokerError> {
        todo!()
    }
}

/// The three calls of a polling plugin.
impl Handle {
    /// Commands due now, and when to come again in seconds.
    pub async fn poll(&self, server: ServerId) -> Result<(Vec<Delivery>, u32), BrokerError> {
        todo!()
    }
    /// How many results were for a command that had not ended.
    pub async fn poll_results(
        &self,
        server: ServerId,
        results: Vec<CommandResult>,
    ) -> Result<u32, BrokerError> {
        todo!()
    }
    /// How many commands no longer wait for a player.
    pub async fn poll_players(&self, server: ServerId, news: Vec<PlayerNews>) -> Result<u32, BrokerError> {
        todo!()
    }
}

/// Connections. None of these waits for durability: what comes of them arrives in the mailbox.
/// `async` because a full shard queue makes the caller (and so its peer) wait.
impl Handle {
    /// Opens a plugin session; `ToPeer::Plugin(PluginOut::Welcome)` follows in the mailbox.
    pub async fn connect_plugin(
        &self,
        server: ServerId,
        hello: Hello,
        mailbox: Arc<Mailbox>,
    ) -> Result<PluginLink, BrokerError> {
        todo!()
    }
    /// Opens a publisher connection of a store.
    pub fn connect_publisher(&self, store: StoreId, mailbox: Arc<Mailbox>) -> PublisherLink {
        todo!()
    }
}

/// The sending half of a plugin session; dropping it disconnects.
pub struct PluginLink {
    pub(super) handle: Handle,
    pub(super) server: ServerId,
    pub(super) conn: ConnId,
}

impl PluginLink {
    /// See `Input::Results`.
    pub async fn results(&self, batch: u64, results: Vec<CommandResult>) -> Result<(), BrokerError> {
        todo!()
    }
    /// See `Input::Started`.
    pub async fn started(&self, seqs: Vec<Seq>) -> Result<(), BrokerError> {
        todo!()
    }
    /// See `Input::Credit`.
    pub async fn credit(&self, window: u32) -> Result<(), BrokerError> {
        todo!()
    }
    /// See `Input::Players`.
    pub async fn players(&self, news: PlayerNews) -> Result<(), BrokerError> {
        todo!()
    }
}

/// The sending half of a publisher connection; dropping it disconnects.
pub struct PublisherLink {
    pub(super) handle: Handle,
    pub(super) store: StoreId,
    pub(super) conn: ConnId,
}

impl PublisherLink {
    /// Exactly one `ToPeer::Published { request, .. }` follows in the mailbox.
    pub async fn publish(&self, request: u64, order: OrderRequest) {
        todo!()
    }
}
