//! What a shard has counted since it started. Plain numbers; must never decide anything.

/// A copy of a shard's counters and gauges.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counters {
    /// Orders accepted at this desk.
    pub orders: u64,
    /// Publishes answered with an order that was accepted before.
    pub replayed: u64,
    /// Publishes refused.
    pub refused: u64,
    /// Commands of accepted orders.
    pub accepted: u64,
    /// Deliveries, repeated ones included.
    pub delivered: u64,
    /// Deliveries that were repeats.
    pub redelivered: u64,
    /// Results for unknown, foreign or ended commands.
    pub stale_results: u64,
    /// Results that repeated what was known, or told of an older attempt something else than its completion.
    pub duplicate_results: u64,
    /// Inputs of connections that were replaced or never known.
    pub stale_inputs: u64,
    /// What the sweep found and should not have.
    pub swept: u64,
    /// Plugin sessions now.
    pub sessions: u64,
    /// Commands waiting now, by `Status as usize - 1`; for ended statuses, how many ended since start.
    pub by_status: [u64; 8],
    /// Commands in memory now, ended ones that no checkpoint holds yet included.
    pub in_memory: u64,
    /// Answers that wait for durability now.
    pub held: u64,
    /// Idempotency keys that are remembered now.
    pub keys: u64,
    /// Bytes of memory that they take.
    pub keys_bytes: u64,
}
