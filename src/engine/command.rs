//! One command in memory: its state, and how a change alters it. Must never decide, nor know a queue or a timer.
//!
//! ```text
//!                    ┌──────────────── resend ────────────────┐
//!                    ▼                                        │
//!  accepted ──▶ pending ──push, poll──▶ delivered ──reported──▶ failed   (no retry left; or unanswered too often)
//!              ▲  │  ▲ ▲                 │ │ │ │              │  ▲
//!              │  │  │ └─ retry; lost; ──┘ │ │ └─ completed   │  │
//!              │  │  │    deadline         │ └─ cannot vouch ─▶ in_doubt ── late result, operator ──▶ ...
//!    player    │  │  └──── resend ─────────┼───────────────────┘
//!    joined    │  ▼                        ▼ player absent
//!              └─ awaiting_player ◀────────┘
//!
//!  pending, awaiting_player ──expires_at──▶ expired
//!  pending, awaiting_player ──named in a hello──▶ delivered (still held)
//!  pending, awaiting_player, failed, in_doubt ──operator──▶ cancelled
//!  pending after a lost delivery, in_doubt, awaiting_player, failed (unanswered) ──late result──▶ what it says
//! ```
//!
//! **Terminal** are completed, cancelled and expired: nothing leads out of them. A failed or in-doubt command is not:
//! an operator may still resend it, so with `ordered` its successors wait until it is resolved.
//!
//! The struct is kept small because a million may wait: what most commands lack lives in [`Rare`], and the common
//! history (accepted, delivered, completed) is told by the fields themselves.

use std::sync::Arc;

use super::io::{
    AcceptedRow, CommandRow, Delivery, HistoryEntry, Labels, Note, OnDoubt, Player, Status, StatusChange,
};
use super::wheel::TimerId;
use crate::ids::{CommandId, OrderId, Seq, ServerId, StoreId};
use crate::limits::{HISTORY_MAX, SHARDS_MAX};
use crate::time::UnixMs;

/// Stands for "no point in time" where an `Option` would cost eight bytes more.
pub(super) const NEVER: UnixMs = UnixMs(u64::MAX);
/// `first_sent` of a command whose first delivery is not told by it.
const NOT_SENT: u32 = u32::MAX;

impl Status {
    /// Nothing leads out of it.
    pub fn is_terminal(self) -> bool {
        matches!(self, Status::Completed | Status::Cancelled | Status::Expired)
    }

    /// Its place in counts by status.
    pub(super) fn index(self) -> usize {
        self as usize - 1
    }
}

/// Facts of a command in one bit each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u16)]
pub(super) enum Flag {
    /// Only while the player is online.
    RequireOnline = 1,
    /// `OnDoubt::Rerun`.
    Rerun = 2,
    /// Changed since it was last exported.
    Dirty = 4,
    /// In its lane's list of those to be looked at again.
    InAgain = 8,
    /// Delivered by a poll, not by the connection.
    Polled = 16,
    /// The plugin said that it starts it.
    Started = 32,
    /// Was delivered before.
    Sent = 64,
    /// The latest history entry stands in `Rare::history`, not in the fields.
    LatestSpilled = 128,
    /// Exported as ended; leaves memory.
    Leaving = 256,
    /// Listed in the hello that is being reconciled.
    Kept = 512,
    /// Went out in this run of the broker, so all before it in its ordered order had ended.
    WentInTurn = 1024,
    /// The store at rest has a row of it as a live one.
    AtRest = 2048,
    /// Ended, which is not durable yet: what follows it in its ordered order waits for that.
    Ending = 4096,
    /// Its attempt is a new one, which is not durable yet: after a crash it would be the one before.
    NewAttempt = 8192,
}

/// What most commands lack.
#[derive(Debug, Default)]
pub(super) struct Rare {
    pub(super) after: Option<Seq>,
    pub(super) not_before: Option<UnixMs>,
    pub(super) expires_at: Option<UnixMs>,
    pub(super) labels: Option<Box<Labels>>,
    pub(super) error: Option<Arc<str>>,
    pub(super) output: Option<Arc<str>>,
    pub(super) timer: Option<TimerId>,
    /// Times in a row that the plugin called a player absent who is known to be online.
    pub(super) absent_answers: u8,
    history: Vec<HistoryEntry>,
}

/// One command. Its timers, queue and lease are elsewhere.
#[derive(Debug)]
pub(super) struct Command {
    pub(super) seq: Seq,
    /// `None`: only the store at rest has it.
    pub(super) text: Option<Arc<str>>,
    pub(super) player: Option<Box<Player>>,
    rare: Option<Box<Rare>>,
    accepted_at: UnixMs,
    pub(super) status_at: UnixMs,
    /// Pending: not before; delivered: the ack deadline; else `NEVER`. Pending without a time: `NEVER`, too.
    pub(super) due: UnixMs,
    /// Milliseconds from acceptance to a first delivery with nothing to note.
    first_sent: u32,
    /// The server's place in the shard.
    pub(super) server: u32,
    pub(super) rev: u32,
    pub(super) attempt: u16,
    pub(super) retries: u16,
    pub(super) unanswered: u16,
    /// Its place in its order: the order's seq is `nth` strides before its own.
    nth: u16,
    pub(super) status: Status,
    pub(super) note: Note,
    flags: u16,
}

const _: () = assert!(size_of::<Option<Command>>() <= 88);

impl Command {
    /// A command as it is accepted.
    pub(super) fn accepted(row: AcceptedRow, order: Seq, at: UnixMs, server: u32) -> Command {
        let mut command = Command {
            seq: row.id.seq,
            text: Some(row.text),
            player: row.player.map(Box::new),
            rare: None,
            accepted_at: at,
            status_at: at,
            due: row.not_before.unwrap_or(NEVER),
            first_sent: NOT_SENT,
            server,
            rev: 1,
            attempt: 1,
            retries: 0,
            unanswered: 0,
            nth: nth(row.id.seq, order),
            status: Status::Pending,
            note: Note::None,
            flags: 0,
        };
        command.set(Flag::RequireOnline, row.require_online);
        command.set(Flag::Rerun, row.on_doubt == OnDoubt::Rerun);
        let rare = row.after.is_some()
            || row.not_before.is_some()
            || row.expires_at.is_some()
            || row.labels.is_some();
        if rare {
            let rare = command.rare_mut();
            rare.after = row.after;
            rare.not_before = row.not_before;
            rare.expires_at = row.expires_at;
            rare.labels = row.labels;
        }
        command
    }

    /// A command from its row at rest.
    pub(super) fn restored(row: CommandRow, server: u32) -> Command {
        let mut command = Command {
            seq: row.id.seq,
            text: row.text,
            player: row.player.map(Box::new),
            rare: None,
            accepted_at: row.accepted_at,
            status_at: row.status_at,
            due: row.next_at.unwrap_or(NEVER),
            first_sent: NOT_SENT,
            server,
            rev: row.rev,
            attempt: row.attempt,
            retries: row.retries,
            unanswered: row.unanswered,
            nth: nth(row.id.seq, row.order.seq),
            status: row.status,
            note: entering_note(&row.history, row.status),
            flags: 0,
        };
        command.set(Flag::RequireOnline, row.require_online);
        command.set(Flag::Rerun, row.on_doubt == OnDoubt::Rerun);
        command.set(Flag::AtRest, true);
        command.set(Flag::Sent, row.history.iter().any(|entry| entry.status == Status::Delivered));
        let later = row.history.get(1..).unwrap_or_default();
        command.set(Flag::LatestSpilled, !later.is_empty());
        let rare = row.after.is_some()
            || row.not_before.is_some()
            || row.expires_at.is_some()
            || row.labels.is_some()
            || row.error.is_some()
            || row.output.is_some()
            || !later.is_empty();
        if rare {
            let rare = command.rare_mut();
            rare.after = row.after;
            rare.not_before = row.not_before;
            rare.expires_at = row.expires_at;
            rare.labels = row.labels;
            rare.error = row.error;
            rare.output = row.output;
            rare.history = later.to_vec();
        }
        command
    }

    /// The row at rest.
    pub(super) fn row(&self, server: ServerId, store: StoreId) -> CommandRow {
        let rare = self.rare.as_deref();
        CommandRow {
            id: CommandId { server, seq: self.seq },
            order: OrderId { store, seq: self.order() },
            rev: self.rev,
            status: self.status,
            status_at: self.status_at,
            accepted_at: self.accepted_at,
            attempt: self.attempt,
            retries: self.retries,
            unanswered: self.unanswered,
            next_at: (self.status == Status::Pending && self.due != NEVER).then_some(self.due),
            after: self.after(),
            text: self.text.clone(),
            player: self.player.as_deref().cloned(),
            require_online: self.is(Flag::RequireOnline),
            not_before: rare.and_then(|rare| rare.not_before),
            expires_at: self.expires_at(),
            on_doubt: self.on_doubt(),
            labels: rare.and_then(|rare| rare.labels.clone()),
            error: rare.and_then(|rare| rare.error.clone()),
            output: rare.and_then(|rare| rare.output.clone()),
            history: self.history(),
        }
    }

    /// A look at both ends of it and at its text's count, for [`touch`](crate::prefetch::touch).
    pub(super) fn look(&self) -> u64 {
        let text = self.text.as_ref().map_or(0, |text| Arc::strong_count(text) as u64);
        text ^ self.seq.0 ^ u64::from(self.flags)
    }

    /// The delivery.
    ///
    /// # Panics
    /// Without its text: then it is not handed out.
    pub(super) fn delivery(&self) -> Delivery {
        Delivery {
            seq: self.seq,
            attempt: self.attempt,
            text: self.text.clone().expect("only what has its text is handed out"),
            player: self.player.as_deref().cloned(),
            require_online: self.is(Flag::RequireOnline),
            on_doubt: self.on_doubt(),
        }
    }

    pub(super) fn is(&self, flag: Flag) -> bool {
        self.flags & flag as u16 != 0
    }

    pub(super) fn set(&mut self, flag: Flag, on: bool) {
        if on { self.flags |= flag as u16 } else { self.flags &= !(flag as u16) }
    }

    /// The seq of its order.
    pub(super) fn order(&self) -> Seq {
        Seq(self.seq.0 - u64::from(self.nth) * u64::from(SHARDS_MAX))
    }

    pub(super) fn on_doubt(&self) -> OnDoubt {
        if self.is(Flag::Rerun) { OnDoubt::Rerun } else { OnDoubt::Hold }
    }

    pub(super) fn after(&self) -> Option<Seq> {
        self.rare.as_deref().and_then(|rare| rare.after)
    }

    pub(super) fn expires_at(&self) -> Option<UnixMs> {
        self.rare.as_deref().and_then(|rare| rare.expires_at)
    }

    /// Its expiry has passed.
    pub(super) fn is_expired(&self, now: UnixMs) -> bool {
        self.expires_at().is_some_and(|at| at <= now)
    }

    /// Its time (delay, retry) has come; without one always.
    pub(super) fn is_due(&self, now: UnixMs) -> bool {
        self.due == NEVER || self.due <= now
    }

    /// Pending because a delivery of this very attempt came to nothing: a plugin may still answer it.
    pub(super) fn is_lost(&self) -> bool {
        self.status == Status::Pending
            && matches!(self.note, Note::ConnectionLost | Note::AckDeadline | Note::BrokerRestarted)
    }

    /// Waits for its player, or for an operator, and as far as is known none of its deliveries has run.
    pub(super) fn waits_unrun(&self) -> bool {
        self.status == Status::AwaitingPlayer
            || (self.status == Status::Failed && self.note == Note::Unanswered)
    }

    /// That it ran after all was noted before.
    pub(super) fn has_late_result(&self) -> bool {
        self.rare().and_then(|rare| rare.history.last()).is_some_and(|entry| entry.note == Note::LateResult)
    }

    pub(super) fn rare(&self) -> Option<&Rare> {
        self.rare.as_deref()
    }

    pub(super) fn rare_mut(&mut self) -> &mut Rare {
        self.rare.get_or_insert_default()
    }

    pub(super) fn take_timer(&mut self) -> Option<TimerId> {
        self.rare.as_deref_mut().and_then(|rare| rare.timer.take())
    }

    // ------------------------------------------------------------ changes

    /// Applies a change of status; `rev` has been compared.
    pub(super) fn apply_status(&mut self, change: &StatusChange) {
        self.spill_latest();
        let kept = change.status == self.status && change.status.is_terminal();
        if change.error.is_some() || change.output.is_some() {
            let rare = self.rare_mut();
            if change.error.is_some() {
                rare.error.clone_from(&change.error);
            }
            if change.output.is_some() {
                rare.output.clone_from(&change.output);
            }
        }
        if kept || change.error.is_some() {
            self.push_history(HistoryEntry {
                status: change.status,
                at: change.at,
                attempt: change.attempt,
                note: change.note,
                error: change.error.clone(),
            });
        }
        if !kept {
            self.status = change.status;
            self.status_at = change.at;
            self.note = change.note;
        }
        self.set(Flag::LatestSpilled, kept || change.error.is_some());
        self.rev = change.rev;
        self.attempt = change.attempt;
        self.retries = change.retries;
        self.unanswered = change.unanswered;
        self.due = change.next_at.unwrap_or(NEVER);
        self.trim_history();
    }

    /// Applies a delivery or a completion with nothing to note.
    pub(super) fn apply_plain(&mut self, status: Status, rev: u32, at: UnixMs) {
        self.spill_latest();
        self.set(Flag::LatestSpilled, false);
        self.status = status;
        self.status_at = at;
        self.note = Note::None;
        self.rev = rev;
        self.due = NEVER;
        match status {
            Status::Delivered => self.set(Flag::Sent, true),
            _ => self.unanswered = 0,
        }
        self.trim_history();
    }

    /// Applies that the text is another.
    pub(super) fn apply_edit(&mut self, rev: u32, at: UnixMs) {
        self.spill_latest();
        self.push_history(HistoryEntry {
            status: self.status,
            at,
            attempt: self.attempt,
            note: Note::Operator,
            error: None,
        });
        self.set(Flag::LatestSpilled, true);
        self.rev = rev;
        self.trim_history();
    }

    // ------------------------------------------------------------ history

    /// Moves the entry that the fields tell to where older ones are, before the fields change.
    fn spill_latest(&mut self) {
        if self.rev == 1 || self.is(Flag::LatestSpilled) {
            return;
        }
        let plain = self.status == Status::Delivered && self.note == Note::None && self.attempt == 1;
        let first =
            self.first_sent == NOT_SENT && self.rare.as_ref().is_none_or(|rare| rare.history.is_empty());
        let span = (self.status_at - self.accepted_at).0;
        if plain && first && span < u64::from(NOT_SENT) && self.status_at >= self.accepted_at {
            self.first_sent = span as u32;
            return;
        }
        self.push_history(HistoryEntry {
            status: self.status,
            at: self.status_at,
            attempt: self.attempt,
            note: self.note,
            error: None,
        });
    }

    fn push_history(&mut self, entry: HistoryEntry) {
        self.rare_mut().history.push(entry);
    }

    /// Keeps the first entry and the latest of the rest.
    fn trim_history(&mut self) {
        let Some(rare) = self.rare.as_deref_mut() else { return };
        let told = usize::from(self.flags & Flag::LatestSpilled as u16 == 0);
        let sent = usize::from(self.first_sent != NOT_SENT);
        if 1 + sent + rare.history.len() + told <= HISTORY_MAX {
            return;
        }
        if sent == 1 {
            self.first_sent = NOT_SENT;
        } else {
            rare.history.remove(0);
        }
    }

    fn history(&self) -> Vec<HistoryEntry> {
        let plain = |status, at, attempt, note| HistoryEntry { status, at, attempt, note, error: None };
        let spilled = self.rare.as_deref().map_or(&[][..], |rare| &rare.history);
        let mut history = Vec::with_capacity(spilled.len() + 3);
        history.push(plain(Status::Pending, self.accepted_at, 1, Note::None));
        if self.first_sent != NOT_SENT {
            let at = UnixMs(self.accepted_at.0 + u64::from(self.first_sent));
            history.push(plain(Status::Delivered, at, 1, Note::None));
        }
        history.extend_from_slice(spilled);
        if self.rev > 1 && !self.is(Flag::LatestSpilled) {
            history.push(plain(self.status, self.status_at, self.attempt, self.note));
        }
        history
    }
}

/// The place of a command in its order, whose commands have consecutive places at one desk.
fn nth(seq: Seq, order: Seq) -> u16 {
    u16::try_from((seq.0 - order.0) / u64::from(SHARDS_MAX))
        .expect("an order has at most ORDER_COMMANDS_MAX commands")
}

/// The note with which the present status was entered: an edit keeps the status and is no such note.
fn entering_note(history: &[HistoryEntry], status: Status) -> Note {
    let mut at = history.len();
    while at > 0 {
        at -= 1;
        let entry = &history[at];
        let kept = at > 0 && entry.status == history[at - 1].status;
        let edited = kept && entry.note == Note::Operator;
        let late = kept && status.is_terminal();
        if !edited && !late {
            return entry.note;
        }
    }
    Note::None
}

#[cfg(test)]
#[path = "command_tests.rs"]
mod tests;
