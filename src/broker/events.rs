//! The recent events, remembered for those who follow them.

use crate::engine::Event;

/// The place of an event: boot number and ordinal. Text form `<boot>-<ordinal>` (the SSE `id`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EventId {
    /// The run of the broker.
    pub boot: u32,
    /// Its ordinal in that run, from 1.
    pub ordinal: u64,
}

/// What a follower gets.
#[derive(Debug, Clone)]
pub enum Followed {
    /// The next event.
    Event(EventId, Event),
    /// Some events are no longer remembered (too slow, too long away, or the broker restarted): read the state again.
    Lost(EventId),
}

/// A follower.
pub struct EventStream {}

impl EventStream {
    /// The next one; `None` when the broker stops. Cancel-safe.
    pub async fn next(&mut self) -> Option<Followed> {
        todo!()
    }
}
