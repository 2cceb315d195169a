//! The pure heart: queues, the life of a command, timers. No socket, thread, disk, clock or random source.
//!
//! [`Shard::handle`] is the contract: an input and the time go in, outputs come out, changes gather in the open
//! frame. Everything that promises waits in the outbox until its frame is durable.

mod checkpoint;
mod command;
mod counters;
mod desk;
mod dispatch;
mod io;
mod keys;
mod lane;
mod lease;
mod lent_desk;
mod life;
mod operate;
mod orders;
mod outbox;
mod players;
mod polling;
mod polls;
mod prefetch;
mod presence;
mod restore;
mod results;
mod retry;
mod server;
mod session;
mod settings;
mod shard;
mod slab;
mod sweep;
mod texts;
mod timers;
mod wheel;

pub use crate::ids::Seq;
pub use counters::Counters;
pub use io::*;
pub use lent_desk::LentDesk;
pub use prefetch::Coming;
pub use settings::Settings;
pub use shard::Shard;
pub use wheel::{TimerId, Wheel};

#[cfg(test)]
mod fold_tests;
#[cfg(test)]
mod harness;
#[cfg(test)]
mod shard_tests;
#[cfg(test)]
mod upkeep_tests;
