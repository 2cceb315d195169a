//! Orders as they enter a desk: checked, their servers known. Plain data, no behaviour.

use std::sync::Arc;

use super::few::Few;
use super::words::{Labels, OnDoubt, Player};
use crate::ids::{ServerId, StoreId};
use crate::time::UnixMs;

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
    pub commands: Few<NewCommand>,
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
