//! What has to be stored: facts, applied by steps and by recovery alike. Plain data, no behaviour.

use std::sync::Arc;

use super::few::Few;
use super::row::OrderRow;
use super::words::{Labels, Note, OnDoubt, Player, Status};
use crate::ids::{CommandId, Seq, ServerId};
use crate::time::UnixMs;

/// One fact to store. Applying all changes in order to the rows at rest gives the state again.
///
/// Each change of a command carries `rev`, the command's revision after it (1 = accepted), so that applying a
/// change to a row that has it already is a no-op.
#[derive(Debug, Clone, PartialEq)]
pub enum Change {
    /// A desk accepted an order, whole.
    Order(Box<OrderAccepted>),
    /// Handed to a plugin (many of one server).
    Delivered(DeliveredChange),
    /// Completed without output or note (many of one server).
    Completed(CompletedChange),
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
    pub commands: Few<AcceptedRow>,
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
    pub commands: Few<(Seq, u32)>,
}

/// See [`Change::Completed`].
#[derive(Debug, Clone, PartialEq)]
pub struct CompletedChange {
    /// The server.
    pub server: ServerId,
    /// When.
    pub at: UnixMs,
    /// Commands and their new revisions.
    pub commands: Few<(Seq, u32)>,
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
