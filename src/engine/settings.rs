//! What an operator may tune in the engine, as a plain struct. Must never be read from anywhere: the driver fills it.

use crate::time::Millis;

/// Settings of a shard. The defaults are the documented ones.
#[derive(Debug, Clone)]
pub struct Settings {
    /// How long to wait after each reported failure; as many retries as there are delays.
    pub retry_delays: Vec<Millis>,
    /// How long a delivery may stay without an answer before it is offered again.
    pub ack_deadline: Millis,
    /// Deliveries in a row without any answer before a command is parked as failed.
    pub unanswered_max: u16,
    /// How long to wait before a command is offered again whose plugin says that a player is absent who is
    /// known to be online.
    pub absent_recheck: Millis,
    /// Time between two sweeps.
    pub sweep_every: Millis,
    /// Shortest time between two polls that a poller is told, in seconds.
    pub poll_min_seconds: u32,
    /// Longest time between two polls that a poller is told, in seconds.
    pub poll_max_seconds: u32,
    /// How long after its told time a poller still counts as online.
    pub poll_grace: Millis,
    /// Commands of one server that have not ended, at most (an order that begins below it is taken whole).
    pub queue_max: u32,
    /// Commands of all servers of this shard that have not ended, at most (likewise).
    pub live_max: u64,
    /// Bytes of texts in memory beyond which those of waiting commands leave it, all of them, once they are at rest.
    pub texts_kept: u64,
    /// Answers that wait for durability, at most; more publishes are refused.
    pub held_max: usize,
    /// Idempotency keys in memory, at most; more publishes with a key are refused.
    pub keys_max: usize,
    /// How long an idempotency key is remembered.
    pub keys_kept: Millis,
    /// Commands looked at in one step by dispatch, and timers fired in one step.
    pub step_budget: usize,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            retry_delays: vec![Millis::seconds(30), Millis::seconds(60), Millis::seconds(120)],
            ack_deadline: Millis::seconds(60),
            unanswered_max: 10,
            absent_recheck: Millis::seconds(15),
            sweep_every: Millis::seconds(30),
            poll_min_seconds: 15,
            poll_max_seconds: 300,
            poll_grace: Millis::seconds(30),
            queue_max: 1_000_000,
            live_max: 20_000_000,
            texts_kept: 4 * 1024 * 1024,
            held_max: 2_000_000,
            keys_max: 100_000_000,
            keys_kept: Millis::seconds(8 * 24 * 3600),
            step_budget: 4096,
        }
    }
}
