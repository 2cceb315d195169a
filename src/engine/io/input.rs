//! What a driver tells a shard. Plain data, no behaviour.

use std::sync::Arc;

use super::order::{NewCommand, NewOrder};
use super::output::CloseReason;
use super::words::{Player, Status};
use crate::ids::{CommandId, ConnId, FrameNo, OrderId, Seq, ServerId, StoreId};
use crate::time::UnixMs;

/// Where an answer goes; opaque to the engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ReplyTo {
    /// The connection or waiting call.
    pub port: ConnId,
    /// The request's number on it.
    pub request: u64,
}

/// Everything that a driver may tell a shard.
#[derive(Debug, Clone)]
pub enum Input {
    /// Time has passed: fire what is due, dispatch what is ready.
    Tick,
    /// All frames up to this one are durable.
    Durable(FrameNo),
    /// A publisher's order, at the desk of its store. Answer: `Reply::Published` or `Reply::Refused`.
    Publish {
        /// The publisher.
        from: ReplyTo,
        /// The order.
        order: Box<NewOrder>,
    },
    /// Durable facts of a desk for this shard's servers.
    Handover(Handover),
    /// This server's queue became full, or has room again (to the desk of its store).
    QueueFull {
        /// The server.
        server: ServerId,
        /// Full, or not any more.
        full: bool,
    },
    /// A server exists (start-up, or just registered).
    ServerAdded {
        /// The server.
        server: ServerId,
        /// Its store.
        store: StoreId,
    },
    /// A server was removed: its session ends, what has not ended is cancelled. No answer.
    ServerRemoved {
        /// The server.
        server: ServerId,
    },
    /// A plugin connection logged in. Answer: `PluginOut::Welcome` on `conn`; an older connection gets `PluginOut::Close`.
    Connect {
        /// The new connection.
        conn: ConnId,
        /// Its server.
        server: ServerId,
        /// What the plugin said of itself.
        hello: Box<Hello>,
    },
    /// A plugin connection is gone.
    Disconnect {
        /// The connection.
        conn: ConnId,
    },
    /// End a server's session, whoever holds it (token regenerated, server removed).
    EndSession {
        /// The server.
        server: ServerId,
        /// Why.
        reason: CloseReason,
    },
    /// The plugin sets its window.
    Credit {
        /// The connection.
        conn: ConnId,
        /// Commands delivered and unanswered at most, 0 (pause) to `WINDOW_MAX`.
        window: u32,
    },
    /// The plugin wrote down that it starts these.
    Started {
        /// The connection.
        conn: ConnId,
        /// The commands.
        seqs: Vec<Seq>,
    },
    /// Outcomes. Confirmed by `PluginOut::Confirm { batch }` once durable.
    Results {
        /// The connection.
        conn: ConnId,
        /// The plugin's rising batch number.
        batch: u64,
        /// 1 to `RESULTS_MAX`.
        results: Vec<CommandResult>,
    },
    /// Players. No answer on a connection.
    Players {
        /// The connection.
        conn: ConnId,
        /// What changed.
        news: PlayerNews,
    },
    /// A poll over REST. Answer: `Reply::Polled`.
    Poll {
        /// The call.
        from: ReplyTo,
        /// The server.
        server: ServerId,
    },
    /// Outcomes over REST. Answer: `Reply::Accepted`, once durable.
    PollResults {
        /// The call.
        from: ReplyTo,
        /// The server.
        server: ServerId,
        /// 1 to `RESULTS_MAX`.
        results: Vec<CommandResult>,
    },
    /// Players over REST. Answer: `Reply::Released`, once durable.
    PollPlayers {
        /// The call.
        from: ReplyTo,
        /// The server.
        server: ServerId,
        /// Applied in order.
        news: Vec<PlayerNews>,
    },
    /// An operator's wish for one command. Answer: `Reply::Command`, once durable, or `Reply::Refused`.
    Operate {
        /// The call.
        from: ReplyTo,
        /// The command.
        id: CommandId,
        /// The wish.
        operation: Operation,
    },
    /// Ids of commands in these statuses whose status was entered within the span. Answer: `Reply::Collected`.
    Collect {
        /// The call.
        from: ReplyTo,
        /// What to look for.
        filter: CollectFilter,
    },
    /// Resend all of these, in one change, at the desk of their store. Answer: `Reply::Resent`, once durable.
    ResendMany {
        /// The call.
        from: ReplyTo,
        /// The commands, each with the revision at which it was collected.
        commands: Vec<(CommandId, u32)>,
    },
    /// Look something up in memory. Never changes anything. Answer as `Query` says.
    Read {
        /// The call.
        from: ReplyTo,
        /// What to look up.
        query: Query,
    },
    /// Texts that `Output::ReadTexts` asked for: as many as were read, from the first on. One that is not among the live
    /// rows any more has ended, and is left out.
    Texts {
        /// Their server.
        server: ServerId,
        /// The commands with their texts.
        texts: Vec<(Seq, Arc<str>)>,
    },
    /// Start a checkpoint: the driver has sealed the current frame just before; export follows by `Shard::export`.
    CheckpointBegin,
    /// The checkpoint is durable: what was exported and has ended leaves memory, and so do the texts of what has not.
    CheckpointDone,
}

/// What a desk, once durable, tells the shard of a server.
#[derive(Debug, Clone)]
pub enum Handover {
    /// Accepted commands of this shard's servers, in order.
    Accepted {
        /// The order they belong to.
        order: OrderId,
        /// When it was accepted.
        at: UnixMs,
        /// In the order of acceptance.
        commands: Vec<AcceptedCommand>,
    },
    /// Failed or in-doubt commands of this shard's servers to offer again.
    Resent {
        /// When.
        at: UnixMs,
        /// The commands; one that has another revision by now is left alone.
        commands: Vec<(CommandId, u32)>,
    },
}

/// A command with its place in the order of acceptance.
#[derive(Debug, Clone)]
pub struct AcceptedCommand {
    /// Its place.
    pub seq: Seq,
    /// The command before it on the same server, when its order is ordered.
    pub after: Option<Seq>,
    /// The command itself.
    pub command: NewCommand,
}

/// What a plugin says when it connects.
#[derive(Debug, Clone, Default)]
pub struct Hello {
    /// Window, 0 to `WINDOW_MAX`.
    pub window: u32,
    /// Received, not started.
    pub held: Vec<Seq>,
    /// Started and still running.
    pub started: Vec<Seq>,
    /// Finished; the results follow as a batch.
    pub finished: Vec<Seq>,
    /// Started before a crash; the plugin cannot vouch for them.
    pub in_doubt: Vec<Seq>,
    /// Everybody online, when the plugin knows; `None` = it does not report players.
    pub players: Option<Vec<Player>>,
}

/// One outcome.
#[derive(Debug, Clone)]
pub struct CommandResult {
    /// The command.
    pub seq: Seq,
    /// The attempt that it belongs to; `None` = the one that is out (REST polls do not repeat it).
    pub attempt: Option<u16>,
    /// What came of it.
    pub outcome: Outcome,
    /// The plugin's error text, already cut to `ERROR_BYTES_MAX`.
    pub error: Option<Arc<str>>,
    /// The command's output, already cut to `OUTPUT_BYTES_MAX`.
    pub output: Option<Arc<str>>,
}

/// What came of a delivery. Ordinals are on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Outcome {
    /// It ran.
    Completed = 1,
    /// It did not run, or ran with an error.
    Failed = 2,
    /// The player is not online; it was not run.
    AwaitingPlayer = 3,
    /// It was started, and the plugin cannot say whether it ran.
    InDoubt = 4,
}

/// A change of who is online.
#[derive(Debug, Clone)]
pub enum PlayerNews {
    /// Exactly these are online.
    Online(Vec<Player>),
    /// These came.
    Joined(Vec<Player>),
    /// These went.
    Left(Vec<Player>),
}

/// An operator's wish.
#[derive(Debug, Clone)]
pub enum Operation {
    /// Withdraw: from pending, awaiting_player, failed or in_doubt.
    Cancel,
    /// Offer again: from failed or in_doubt.
    Resend,
    /// Replace the text: while pending or awaiting_player.
    Edit {
        /// The new text.
        text: Arc<str>,
    },
}

/// Which commands a bulk resend means.
#[derive(Debug, Clone)]
pub struct CollectFilter {
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

/// A look-up in memory.
#[derive(Debug, Clone)]
pub enum Query {
    /// One command: `Reply::Command` or `Reply::NotHere` (ended and checkpointed, or unknown).
    Command(CommandId),
    /// One order at its desk: `Reply::Order` or `Reply::NotHere`.
    Order(OrderId),
    /// Commands of a server in memory, by rising seq: `Reply::Commands`.
    Commands {
        /// The server.
        server: ServerId,
        /// Only this status.
        status: Option<Status>,
        /// Only later ones.
        after: Option<Seq>,
        /// At most, 1 to `PAGE_MAX`.
        limit: usize,
    },
    /// The state of servers: `Reply::Servers`, in the same order.
    Servers(Vec<ServerId>),
}
