//! What goes into a shard and what comes out of it: plain data, no behaviour.
//!
//! `Input` is what a driver tells a shard, `Output` what the driver has to do, `Change` what has to be
//! stored, and the rows are the plain copies that storage keeps at rest.

use std::sync::Arc;

use crate::ids::{CommandId, ConnId, FrameNo, OrderId, Seq, ServerId, SessionEpoch, ShardNo, StoreId};
use crate::time::UnixMs;

// ---------------------------------------------------------------- vocabulary

/// Where a command is in its life. Ordinals are stored: never change them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Status {
    /// Durable; waits for its server, its time, its predecessor or its retry.
    Pending = 1,
    /// Handed to the plugin, no result yet.
    Delivered = 2,
    /// Needs its player online, and the player is not.
    AwaitingPlayer = 3,
    /// The plugin confirmed that it ran. Terminal.
    Completed = 4,
    /// All tries failed; kept until it is resent or cancelled.
    Failed = 5,
    /// Started, and nobody can say whether it ran; an operator or a late result decides.
    InDoubt = 6,
    /// Withdrawn before it ran. Terminal.
    Cancelled = 7,
    /// `expires_at` passed before it ran. Terminal.
    Expired = 8,
}

/// Why a status was entered, as a code; free text is in `error`. Ordinals are stored: never change them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Note {
    /// Nothing to add.
    None = 0,
    /// The plugin reported a failure; a retry is scheduled.
    RetryScheduled = 1,
    /// The last retry failed.
    RetriesExhausted = 2,
    /// Delivered many times without any answer.
    Unanswered = 3,
    /// The connection was lost before an answer; offered again.
    ConnectionLost = 4,
    /// The ack deadline passed; offered again.
    AckDeadline = 5,
    /// The plugin says that the player is not online.
    PlayerAbsent = 6,
    /// The player joined.
    PlayerJoined = 7,
    /// An operator asked for it.
    Operator = 8,
    /// The server was removed.
    ServerRemoved = 9,
    /// Started before a crash; safe to repeat by its rule.
    Rerun = 10,
    /// The plugin holds it from an earlier connection.
    StillHeld = 11,
    /// A result came after the command had left `delivered` (kept as a fact, or deciding an in-doubt one).
    LateResult = 12,
    /// The broker restarted while it was out.
    BrokerRestarted = 13,
    /// The plugin cannot vouch for it.
    PluginInDoubt = 14,
}

/// What happens to a command that was started and cannot be vouched for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[repr(u8)]
pub enum OnDoubt {
    /// It becomes `in_doubt`.
    #[default]
    Hold = 0,
    /// It is delivered again.
    Rerun = 1,
}

/// A player, as a publisher or a plugin names one. Names compare without regard to ASCII case.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Player {
    /// 1 to `PLAYER_NAME_BYTES_MAX` bytes.
    pub name: Arc<str>,
    /// The UUID as a number, when known.
    pub uuid: Option<u128>,
}

/// Labels that are kept and given back, never looked at.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Labels {
    /// For example `initial`, `renewal`, `refund`.
    pub stage: Option<Arc<str>>,
    /// A JSON object as text.
    pub metadata: Option<Arc<str>>,
}

// ---------------------------------------------------------------- orders

/// An order as it enters a desk: checked, its servers known and `"*"` expanded.
#[derive(Debug, Clone)]
pub struct NewOrder {
    /// The publishing store.
    pub store: StoreId,
    /// The idempotency key's keyed fingerprint and the digest of the whole body.
    pub key: Option<KeyDigest>,
    /// The publisher's own name for the order.
    pub reference: Option<Arc<str>>,
    /// The order's player, for the answer; each command has its own.
    pub player: Option<Player>,
    /// Each command waits until the one before it on the same server is terminal.
    pub ordered: bool,
    /// 1 to `ORDER_COMMANDS_MAX`.
    pub commands: Vec<NewCommand>,
}

/// One command of a new order.
#[derive(Debug, Clone)]
pub struct NewCommand {
    /// The server that runs it.
    pub server: ServerId,
    /// 1 to `COMMAND_BYTES_MAX` bytes, no CR, LF or NUL.
    pub text: Arc<str>,
    /// Whom it is for.
    pub player: Option<Player>,
    /// Only while the player is online; needs a player.
    pub require_online: bool,
    /// Not before this instant (the later of `not_before` and `delay_seconds`).
    pub not_before: Option<UnixMs>,
    /// Not after this instant.
    pub expires_at: Option<UnixMs>,
    /// The rule for an unknown outcome.
    pub on_doubt: OnDoubt,
    /// Labels, when there are any.
    pub labels: Option<Box<Labels>>,
}

/// Fingerprints under which an order is found again; both keyed with the data directory's own secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyDigest {
    /// Of (store, idempotency key).
    pub key: u64,
    /// Of everything else in the order.
    pub body: u64,
}

// ---------------------------------------------------------------- input

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
    /// Start a checkpoint: the driver has sealed the current frame just before; export follows by `Shard::export`.
    CheckpointBegin,
    /// The checkpoint is durable: what was exported and has ended leaves memory.
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

// ---------------------------------------------------------------- output

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
        commands: Vec<CommandId>,
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

// ---------------------------------------------------------------- change

/// One fact to store. Applying all changes in order to the rows at rest gives the state again.
///
/// Each change of a command carries `rev`, the command's revision after it (1 = accepted), so that applying a
/// change to a row that has it already is a no-op.
#[derive(Debug, Clone, PartialEq)]
pub enum Change {
    /// A desk accepted an order, whole.
    Order(Box<OrderAccepted>),
    /// Handed to a plugin (many of one server).
    Delivered(Box<DeliveredChange>),
    /// Completed without output or note (many of one server).
    Completed(Box<CompletedChange>),
    /// Any other change of one command.
    Status(Box<StatusChange>),
    /// A new text.
    Edited(Box<EditedChange>),
    /// A desk resent failed or in-doubt commands (bulk): applied only to those still in one of the two.
    Resent(Box<ResentChange>),
}

/// See [`Change::Order`]. `PartialEq` of rows compares all fields.
#[derive(Debug, Clone, PartialEq)]
pub struct OrderAccepted {
    /// The order; its own row.
    pub row: OrderRow,
    /// Its commands, in order, as they are at revision 1.
    pub commands: Vec<AcceptedRow>,
}

/// A command in [`OrderAccepted`]; what is not here follows from the order.
#[derive(Debug, Clone, PartialEq)]
pub struct AcceptedRow {
    /// The command.
    pub id: CommandId,
    /// Its predecessor, when ordered.
    pub after: Option<Seq>,
    /// The text.
    pub text: Arc<str>,
    /// Whom it is for.
    pub player: Option<Player>,
    /// Only while the player is online.
    pub require_online: bool,
    /// Not before.
    pub not_before: Option<UnixMs>,
    /// Not after.
    pub expires_at: Option<UnixMs>,
    /// The rule for an unknown outcome.
    pub on_doubt: OnDoubt,
    /// Labels.
    pub labels: Option<Box<Labels>>,
}

/// See [`Change::Delivered`].
#[derive(Debug, Clone, PartialEq)]
pub struct DeliveredChange {
    /// The server.
    pub server: ServerId,
    /// When.
    pub at: UnixMs,
    /// Commands and their new revisions.
    pub commands: Vec<(Seq, u32)>,
}

/// See [`Change::Completed`].
#[derive(Debug, Clone, PartialEq)]
pub struct CompletedChange {
    /// The server.
    pub server: ServerId,
    /// When.
    pub at: UnixMs,
    /// Commands and their new revisions.
    pub commands: Vec<(Seq, u32)>,
}

/// See [`Change::Status`].
#[derive(Debug, Clone, PartialEq)]
pub struct StatusChange {
    /// The command.
    pub id: CommandId,
    /// Its new revision.
    pub rev: u32,
    /// The status entered.
    pub status: Status,
    /// When.
    pub at: UnixMs,
    /// The attempt that the next delivery has, or the last one had.
    pub attempt: u16,
    /// Retries used since the command was accepted or resent.
    pub retries: u16,
    /// Deliveries in a row without any answer.
    pub unanswered: u16,
    /// When it is due (`pending` only).
    pub next_at: Option<UnixMs>,
    /// Why.
    pub note: Note,
    /// The plugin's error text.
    pub error: Option<Arc<str>>,
    /// The plugin's output.
    pub output: Option<Arc<str>>,
}

/// See [`Change::Edited`].
#[derive(Debug, Clone, PartialEq)]
pub struct EditedChange {
    /// The command.
    pub id: CommandId,
    /// Its new revision.
    pub rev: u32,
    /// When.
    pub at: UnixMs,
    /// The new text.
    pub text: Arc<str>,
}

/// See [`Change::Resent`].
#[derive(Debug, Clone, PartialEq)]
pub struct ResentChange {
    /// When.
    pub at: UnixMs,
    /// The commands and the revision that each had when it was collected; a command that has another by then is left alone.
    pub commands: Vec<(CommandId, u32)>,
}

// ---------------------------------------------------------------- rows at rest

/// A command with its history, as kept at rest and shown over REST.
#[derive(Debug, Clone, PartialEq)]
pub struct CommandRow {
    /// The command.
    pub id: CommandId,
    /// Its order.
    pub order: OrderId,
    /// Its revision: the number of changes it has seen.
    pub rev: u32,
    /// Where it is.
    pub status: Status,
    /// When it entered its status.
    pub status_at: UnixMs,
    /// When it was accepted.
    pub accepted_at: UnixMs,
    /// From 1.
    pub attempt: u16,
    /// Retries used.
    pub retries: u16,
    /// Deliveries in a row without any answer.
    pub unanswered: u16,
    /// When it is due, while pending.
    pub next_at: Option<UnixMs>,
    /// Its predecessor, when ordered.
    pub after: Option<Seq>,
    /// The text.
    pub text: Arc<str>,
    /// Whom it is for.
    pub player: Option<Player>,
    /// Only while the player is online.
    pub require_online: bool,
    /// Not before.
    pub not_before: Option<UnixMs>,
    /// Not after.
    pub expires_at: Option<UnixMs>,
    /// The rule for an unknown outcome.
    pub on_doubt: OnDoubt,
    /// Labels.
    pub labels: Option<Box<Labels>>,
    /// The latest error text.
    pub error: Option<Arc<str>>,
    /// The latest output.
    pub output: Option<Arc<str>>,
    /// What happened, oldest first, at most `HISTORY_MAX`.
    pub history: Vec<HistoryEntry>,
}

/// One line of a command's history.
#[derive(Debug, Clone, PartialEq)]
pub struct HistoryEntry {
    /// The status entered (or kept, with a note).
    pub status: Status,
    /// When.
    pub at: UnixMs,
    /// The attempt.
    pub attempt: u16,
    /// Why.
    pub note: Note,
    /// The error text that came with it.
    pub error: Option<Arc<str>>,
}

/// An order, as kept at rest and shown over REST. Never changes.
#[derive(Debug, Clone, PartialEq)]
pub struct OrderRow {
    /// The order.
    pub id: OrderId,
    /// When it was accepted.
    pub accepted_at: UnixMs,
    /// Its idempotency fingerprints.
    pub key: Option<KeyDigest>,
    /// The publisher's own name for it.
    pub reference: Option<Arc<str>>,
    /// Whom it is for.
    pub player: Option<Player>,
    /// In sequence per server.
    pub ordered: bool,
    /// Its commands, in order.
    pub commands: Vec<CommandId>,
}

/// What is kept of a server's past beside its commands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ServerRow {
    /// The server.
    pub server: ServerId,
    /// Ever `completed`, `cancelled`, `expired`.
    pub ended: [u64; 3],
}

/// A remembered idempotency key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyRow {
    /// Its fingerprints.
    pub digest: KeyDigest,
    /// The order that it stands for.
    pub order: OrderId,
    /// When it was accepted.
    pub at: UnixMs,
}

/// A part of a checkpoint. All parts of one checkpoint together hold everything that changed before it began.
#[derive(Debug, Clone, Default)]
pub struct ImagePart {
    /// Commands that have not ended (failed and in-doubt ones included): insert or replace.
    pub live: Vec<CommandRow>,
    /// Commands that have ended: insert, and remove from the live ones.
    pub ended: Vec<CommandRow>,
    /// New orders.
    pub orders: Vec<OrderRow>,
    /// New keys.
    pub keys: Vec<KeyRow>,
    /// Servers' totals, exact at the frame sealed just before the checkpoint began (first part only).
    pub servers: Vec<ServerRow>,
    /// No seq at or above this was given out at this desk (first part only; 0 otherwise).
    pub next_seq: u64,
    /// The frame up to which this part's rows contain changes; it must be durable before the part is.
    pub contains: FrameNo,
    /// The last part.
    pub last: bool,
}
