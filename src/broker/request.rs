//! What the outer layers ask of the broker, and what they get: plain data.

use std::sync::Arc;

use crate::engine::{CommandRow, Few, NewCommand, Player, Refusal, Status};
use crate::ids::{CommandId, OrderId, ServerId, StoreId};
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
    /// The store publishes too much in too short a time: try again after this many milliseconds.
    #[error("too many commands in too short a time, try again in {retry_after_ms} ms")]
    RateLimited {
        /// When to come back.
        retry_after_ms: u32,
    },
    /// The store has as many commands that have not ended as it may.
    #[error("the store has as many unfinished commands as it may, {max}")]
    StoreFull {
        /// How many that is.
        max: u64,
        /// When to come back.
        retry_after_ms: u32,
    },
    /// The broker's disk has too little free space for more; what was accepted goes on.
    #[error("too little free space on the broker's disk, try again in {retry_after_ms} ms")]
    DiskLow {
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
    pub commands: Few<CommandId>,
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
