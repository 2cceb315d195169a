//! What goes into a shard and what comes out of it: plain data, no behaviour.
//!
//! `Input` is what a driver tells a shard, `Output` what the driver has to do, `Change` what has to be
//! stored, and the rows are the plain copies that storage keeps at rest.

mod change;
mod few;
mod input;
mod order;
mod output;
mod row;
mod words;

pub use change::{
    AcceptedRow, Change, CompletedChange, DeliveredChange, EditedChange, OrderAccepted, ResentChange,
    StatusChange,
};
pub use few::Few;
pub use input::{
    AcceptedCommand, CollectFilter, CommandResult, Handover, Hello, Input, Operation, Outcome, PlayerNews,
    Query, ReplyTo,
};
pub use order::{KeyDigest, NewCommand, NewOrder};
pub use output::{CloseReason, Delivery, Event, EventKind, Output, PluginOut, Refusal, Reply, ServerState};
pub use row::{CommandRow, HistoryEntry, ImagePart, KeyRow, OrderRow, ServerRow};
pub use words::{Labels, Note, OnDoubt, Player, Status};
