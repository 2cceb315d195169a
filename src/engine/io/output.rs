//! What a driver has to do after a step. Plain data, no behaviour.

use std::sync::Arc;

use super::few::Few;
use super::input::{Input, ReplyTo};
use super::row::{CommandRow, OrderRow};
use super::words::{Note, OnDoubt, Player, Status};
use crate::ids::{CommandId, ConnId, OrderId, Seq, ServerId, SessionEpoch, ShardNo, StoreId};
use crate::time::UnixMs;

/// Everything that a shard may ask of its driver. Whatever promises something comes only after it is durable.
#[derive(Debug, Clone)]
pub enum Output {
    /// To a plugin connection.
    Plugin {
        /// The connection.
        conn: ConnId,
        /// The message.
        message: PluginOut,
    },
    /// The answer to a request; exactly one for each input with a `from`.
    Reply {
        /// Where to.
        to: ReplyTo,
        /// The answer.
        reply: Reply,
    },
    /// For another shard (never for itself).
    Forward {
        /// The shard.
        shard: ShardNo,
        /// `Input::Handover` or `Input::QueueFull`.
        input: Box<Input>,
    },
    /// For whoever follows events.
    Event(Event),
    /// The store at rest is to be asked for the texts of these commands. Answer: `Input::Texts`, after
    /// a look at one of them at the least.
    ReadTexts {
        /// Their server.
        server: ServerId,
        /// The commands, by rising seq; none of them had ended.
        seqs: Vec<Seq>,
    },
}

/// What a plugin connection is told.
#[derive(Debug, Clone)]
pub enum PluginOut {
    /// Logged in; the first message.
    Welcome {
        /// The session.
        epoch: SessionEpoch,
        /// Listed in the hello but not to be run any more (ended, cancelled, not this server's): forget them.
        forget: Vec<Seq>,
    },
    /// Run these.
    Deliver(Vec<Delivery>),
    /// All result batches up to this number are durable.
    Confirm {
        /// The batch.
        batch: u64,
    },
    /// The connection is to be closed.
    Close(CloseReason),
}

/// Why the engine ends a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CloseReason {
    /// A newer connection of the same server took over.
    Replaced,
    /// The token was regenerated.
    TokenRevoked,
    /// The server was removed.
    ServerRemoved,
}

/// One command on its way to a plugin.
#[derive(Debug, Clone)]
pub struct Delivery {
    /// The command.
    pub seq: Seq,
    /// From 1; only a reported failure raises it.
    pub attempt: u16,
    /// The text.
    pub text: Arc<str>,
    /// Whom it is for.
    pub player: Option<Player>,
    /// Only while the player is online.
    pub require_online: bool,
    /// The rule for an unknown outcome.
    pub on_doubt: OnDoubt,
}

/// The answer to a request.
#[derive(Debug, Clone)]
pub enum Reply {
    /// To `Publish`.
    Published {
        /// The order.
        order: OrderId,
        /// The same key and body were seen before.
        replayed: bool,
        /// In the order of the commands.
        commands: Few<CommandId>,
    },
    /// To `Publish` with a key whose order is at rest already: read the order there. Same meaning as `replayed`.
    PublishedAtRest {
        /// The order.
        order: OrderId,
    },
    /// To any request that cannot be done.
    Refused(Refusal),
    /// To `Poll`.
    Polled {
        /// Run these.
        commands: Vec<Delivery>,
        /// When to poll again, 15 to 300.
        next_check_seconds: u32,
    },
    /// To `PollResults`.
    Accepted {
        /// Results that were for a command of this server that had not ended.
        accepted: u32,
    },
    /// To `PollPlayers`.
    Released {
        /// Commands that no longer wait for a player.
        released: u32,
    },
    /// To `Operate` and `Query::Command`.
    Command(Box<CommandRow>),
    /// To `Query::Order`.
    Order(Box<OrderRow>),
    /// To `Query::Commands`.
    Commands(Vec<CommandRow>),
    /// To `Query::Servers`.
    Servers(Vec<ServerState>),
    /// To `Collect`: by rising seq, each with its revision.
    Collected(Vec<(CommandId, u32)>),
    /// To `ResendMany`: these are offered again.
    Resent {
        /// As asked for.
        commands: Vec<(CommandId, u32)>,
    },
    /// To `Read`: not in memory; it is at rest or unknown.
    NotHere,
}

/// Why a request was not done; nothing changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// The idempotency key was used with another body.
    KeyConflict,
    /// The server's queue is full.
    QueueFull(ServerId),
    /// Too many live commands in this shard.
    Overloaded,
    /// The command is not in memory (unknown, or at rest and therefore ended).
    UnknownCommand,
    /// The operation does not fit the command's status.
    WrongStatus(Status),
    /// The server is not known to this shard.
    UnknownServer(ServerId),
}

/// The state of one server.
#[derive(Debug, Clone, Default)]
pub struct ServerState {
    /// Connected, or polling within its pace.
    pub online: bool,
    /// Last heard of in this run of the broker.
    pub last_seen_at: Option<UnixMs>,
    /// Commands in `pending`, `delivered`, `awaiting_player`, `failed`, `in_doubt` now, and ever `completed`,
    /// `cancelled`, `expired`: indexed by `Status as usize - 1`.
    pub counts: [u64; 8],
    /// Players known to be online; `None` = not reported.
    pub players: Option<u32>,
}

/// Something that happened and is durable.
#[derive(Debug, Clone)]
pub struct Event {
    /// When.
    pub at: UnixMs,
    /// Whose.
    pub store: StoreId,
    /// Where.
    pub server: ServerId,
    /// What.
    pub what: EventKind,
}

/// The kinds of events.
#[derive(Debug, Clone)]
pub enum EventKind {
    /// `server.online`
    Online,
    /// `server.offline`
    Offline,
    /// `command.<status>`
    Command {
        /// The command.
        seq: Seq,
        /// Its order.
        order: OrderId,
        /// The status entered.
        status: Status,
        /// The attempt.
        attempt: u16,
        /// Why.
        note: Note,
        /// The error text.
        error: Option<Arc<str>>,
    },
}
