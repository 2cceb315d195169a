//! Words of the engine's inputs and outputs: statuses, notes, players, labels. Ordinals are stored. Plain data, no behaviour.

use std::sync::Arc;

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
