//! Plain copies that storage keeps at rest. Plain data, no behaviour.

use std::sync::Arc;

use super::few::Few;
use super::order::KeyDigest;
use super::words::{Labels, Note, OnDoubt, Player, Status};
use crate::ids::{CommandId, FrameNo, OrderId, Seq, ServerId};
use crate::time::UnixMs;

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
    /// The text; `None` = only the store at rest has it, and keeps it as it is.
    pub text: Option<Arc<str>>,
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
    /// Its idempotency fingerprints. An order at rest has none: they are among the keys.
    pub key: Option<KeyDigest>,
    /// The publisher's own name for it.
    pub reference: Option<Arc<str>>,
    /// Whom it is for.
    pub player: Option<Player>,
    /// In sequence per server.
    pub ordered: bool,
    /// Its commands, in order.
    pub commands: Few<CommandId>,
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
    /// Commands that have not ended (failed and in-doubt ones included): insert or replace. Here and among the ended ones, a
    /// row without its text keeps the one that it has at rest.
    pub live: Vec<CommandRow>,
    /// Commands that have ended: insert.
    pub ended: Vec<CommandRow>,
    /// Those of `ended` that an earlier checkpoint brought as live ones: remove them there. Most have ended before any
    /// checkpoint saw them.
    pub no_longer_live: Vec<CommandId>,
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
