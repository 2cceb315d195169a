//! Counters and gauges; but for those of the doors, every one is written by a single thread and read by anybody.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::engine::Counters;

/// A point-in-time copy of everything that is counted, summed over shards.
#[derive(Debug, Clone, Default)]
pub struct Snapshot {
    /// Orders accepted.
    pub orders: u64,
    /// Publishes refused.
    pub refused: u64,
    /// Commands accepted.
    pub accepted: u64,
    /// Deliveries, repeated ones included.
    pub delivered: u64,
    /// Deliveries that were repeats.
    pub redelivered: u64,
    /// Results that were for an unknown, ended or foreign command.
    pub stale_results: u64,
    /// Commands that ended, and waiting ones now: by `Status as usize - 1` (ended: since start).
    pub by_status: [u64; 8],
    /// What the sweep found and should not have.
    pub swept: u64,
    /// Plugin sessions now.
    pub sessions: u64,
    /// Idempotency keys that are remembered now.
    pub keys: u64,
    /// Bytes of memory that they take.
    pub keys_bytes: u64,
    /// Group commits.
    pub commits: u64,
    /// Nanoseconds spent in commits.
    pub commit_ns: u64,
    /// Bytes written to the journal.
    pub journal_bytes: u64,
    /// Checkpoints.
    pub checkpoints: u64,
    /// Bytes free under the data directory at the last look.
    pub disk_free: u64,
    /// Publishes are refused for want of it.
    pub disk_low: bool,
    /// Whether everything is written to the mirror too; `None` = there is no mirror.
    pub mirror_in_step: Option<bool>,
    /// Inputs waiting for shards now.
    pub queued_inputs: u64,
    /// TLS handshakes over TCP that were done.
    pub handshakes: u64,
    /// Of them, those that resumed an earlier session.
    pub handshakes_resumed: u64,
}

impl Snapshot {
    /// Adds the counters of one shard.
    pub(super) fn add(&mut self, counters: &Counters) {
        self.orders += counters.orders;
        self.refused += counters.refused;
        self.accepted += counters.accepted;
        self.delivered += counters.delivered;
        self.redelivered += counters.redelivered;
        self.stale_results += counters.stale_results;
        self.swept += counters.swept;
        self.sessions += counters.sessions;
        self.keys += counters.keys;
        self.keys_bytes += counters.keys_bytes;
        for (sum, count) in self.by_status.iter_mut().zip(counters.by_status) {
            *sum += count;
        }
    }
}

/// What is counted at the doors, by all their threads.
#[derive(Debug, Default)]
pub(super) struct DoorStats {
    full: AtomicU64,
    resumed: AtomicU64,
}

impl DoorStats {
    pub(super) fn on_handshake(&self, resumed: bool) {
        let counter = if resumed { &self.resumed } else { &self.full };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn add_to(&self, snapshot: &mut Snapshot) {
        snapshot.handshakes_resumed = self.resumed.load(Ordering::Relaxed);
        snapshot.handshakes = self.full.load(Ordering::Relaxed) + snapshot.handshakes_resumed;
    }
}

/// What group commits and the keeper count.
#[derive(Debug, Default)]
pub(super) struct JournalStats {
    pub(super) commits: AtomicU64,
    pub(super) nanos: AtomicU64,
    pub(super) bytes: AtomicU64,
    pub(super) checkpoints: AtomicU64,
    /// What `bytes` was when the latest complete checkpoint began.
    pub(super) bytes_at_rest: AtomicU64,
}

impl JournalStats {
    /// Bytes of the journal that no checkpoint has brought to the store at rest.
    pub(super) fn unwritten(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed).saturating_sub(self.bytes_at_rest.load(Ordering::Relaxed))
    }

    /// Grows with whatever the journal has to put off something for: commits, and checkpoints, which trim it.
    pub(super) fn messages(&self) -> u64 {
        self.commits.load(Ordering::Relaxed) + self.checkpoints.load(Ordering::Relaxed)
    }

    pub(super) fn add_to(&self, snapshot: &mut Snapshot) {
        snapshot.commits = self.commits.load(Ordering::Relaxed);
        snapshot.commit_ns = self.nanos.load(Ordering::Relaxed);
        snapshot.journal_bytes = self.bytes.load(Ordering::Relaxed);
        snapshot.checkpoints = self.checkpoints.load(Ordering::Relaxed);
    }
}
