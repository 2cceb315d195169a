//! The lines that lead out of the threads of the core: to each other, to storage, to whoever follows. Owns no behaviour:
//! whoever drives the threads' steps says where the lines end.
//!
//! `Inner` is the one of a running broker; `stepped.rs` has another, for steps that are driven by hand.

use std::sync::Arc;

use super::Inner;
use super::group_commit::Committed;
use super::inbox::{Inbox, ToJournal};
use super::mailbox::{Mailbox, ToPeer};
use super::request::Published;
use super::room_thread::ToRoom;
use super::stats::JournalStats;
use super::texts_thread::Wanted;
use crate::engine::Event;
use crate::ids::{FrameNo, OrderId, ShardNo};
use crate::storage::{Rest, StorageError};
use crate::time::UnixMs;

/// See the module.
pub(super) trait Lines {
    /// The ways into the shards.
    fn shards(&self) -> &[Inbox];
    /// Adds a message to those that wait for the journal. True = the caller has to [`Lines::commit`] soon.
    #[must_use]
    fn to_journal(&self, message: ToJournal) -> bool;
    /// Commits what waits for the journal; only for whoever was told to. It takes as long as a sync. The latest frame of the
    /// shard `own` that became durable by it is the answer; all other shards are told of theirs.
    fn commit(&self, own: Option<ShardNo>) -> Option<FrameNo>;
    /// What journal and keeper count.
    fn journal_stats(&self) -> &JournalStats;
    /// The store at rest.
    fn rest(&self) -> &dyn Rest;
    /// For measuring spans.
    fn nanos(&self) -> u64;
    /// Whether anybody ever followed events.
    fn is_followed(&self) -> bool;
    /// Events that are durable, for whoever follows. Never waits.
    fn publish(&self, events: Vec<Event>);
    /// Answers a repeated publish whose order is at rest, away from the calling thread.
    fn find_order(&self, order: OrderId, mailbox: Arc<Mailbox>, request: u64);
    /// Reads texts for a shard, away from the calling thread.
    fn read_texts(&self, wanted: Wanted);
    /// The journal should have more room. Never waits.
    fn make_room(&self);
    /// Records of the audit trail whose time is over go.
    fn expire_audit(&self, now: UnixMs) -> Result<(), StorageError>;
}

impl Lines for Arc<Inner> {
    fn shards(&self) -> &[Inbox] {
        &self.shards
    }

    fn to_journal(&self, message: ToJournal) -> bool {
        self.journal.send(message)
    }

    fn commit(&self, own: Option<ShardNo>) -> Option<FrameNo> {
        let Committed { own: durable, all, failed } = self.journal.commit(own, self);
        if let Some(error) = failed {
            self.fail(error);
        }
        if !all {
            // In turns, so that no shard commits for the others all the time. If that one has ended all are ending, and what is
            // left is committed last of all.
            let next = own.map_or(0, |own| usize::from(own.0) + 1) % self.shards.len();
            self.shards[next].commit();
        }
        durable
    }

    fn journal_stats(&self) -> &JournalStats {
        &self.journal_stats
    }

    fn rest(&self) -> &dyn Rest {
        &*self.rest
    }

    fn nanos(&self) -> u64 {
        self.clock.nanos()
    }

    fn is_followed(&self) -> bool {
        self.hub.is_followed()
    }

    fn publish(&self, events: Vec<Event>) {
        self.hub.publish(events);
    }

    fn find_order(&self, order: OrderId, mailbox: Arc<Mailbox>, request: u64) {
        let inner = Arc::clone(self);
        self.runtime.spawn_blocking(move || {
            let found = inner.order_at_rest(order);
            let result = found.map(|row| Published { order, replayed: true, commands: row.commands });
            mailbox.push(ToPeer::Published { request, result });
        });
    }

    fn read_texts(&self, wanted: Wanted) {
        // The other end goes away when the storage has failed.
        let _ = self.texts.send(Some(wanted));
    }

    fn make_room(&self) {
        // One that waits there is enough.
        let _ = self.room.try_send(ToRoom::Make);
    }

    fn expire_audit(&self, now: UnixMs) -> Result<(), StorageError> {
        self.registry.expire_audit(now)
    }
}
