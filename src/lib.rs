//! fluxrelay: a durable message broker core that gets paid-for commands run on the right game server.
//!
//! # The map
//!
//! ```text
//! ids, time, limits  <-  protocol  <-  engine  <-  storage  <-  broker  <-  {transport, http}  <-  cli, main
//!                        client stands on protocol alone (and ids, time, limits); cli drives it
//!                        load knows of no system that it measures; cli and benches/peers implement its trait for some
//! config, credentials, telemetry, priority, pace, sync, tls, values, progress: leaves for the I/O layers; transport and client share the last three,
//!                        and carrier, which stands on tls; prefetch: a leaf for whoever works on many things
//! ```
//!
//! | folder | kind | owns |
//! |---|---|---|
//! | `ids`, `time`, `limits` | pure | newtypes, points in time, every fixed bound |
//! | `protocol/` | pure | the bytes of `protocol.md`: frames in, frames out |
//! | `engine/` | pure | `Shard`: queues, life of a command, timers, desk (orders and idempotency), outbox, which texts stay in memory |
//! | `storage/` | I/O | journal (a log of our own), store at rest and registry (redb); recovery; a mirror of it all |
//! | `broker/` | I/O | threads, routing, group commit, registry, the clock, shutdown; `Handle` is its only door |
//! | `priority` | leaf | threads that give way to those that deliver |
//! | `pace` | leaf | work in the background that rests between its pieces |
//! | `prefetch` | leaf | memory that many steps will need, fetched at once before the first of them |
//! | `sync` | leaf | locks and numbers whose every interleaving is tried by a test |
//! | `carrier/` | I/O | messages of frames over a byte stream (WebSocket, QUIC), the same code at both ends |
//! | `transport/` | I/O | connections: login, heartbeats, frames to `Handle` and back |
//! | `http/` | I/O | REST, OpenAPI, events, metrics |
//! | `tls/` | leaf | rustls for both ends: certificates and their reload, whom a client trusts |
//! | `client/` | library | plugin and publisher clients, the plugin's ledger |
//! | `load/` | library | the load generator of the benches, for any system that implements its trait |
//! | `cli/` | I/O | subcommands of the binary |
//!
//! # The path of a command
//!
//! A publish goes to the **desk** of its store's shard (idempotency, order and command ids). The desk writes one
//! `Change::Order` with all commands, which makes the order atomic over servers; once that frame is durable it
//! answers the publisher and hands the commands over to the shards of their servers. Those push them to connected
//! plugins; results become changes; confirmations wait in the outbox until the frame with them is durable.
//!
//! # What must stay true
//!
//! * State is a fold of changes: a step decides on a change, applies it, and recovery applies the same changes
//!   through the same code.
//! * Nothing that promises leaves a shard before the frame that it rests on is durable (`engine/outbox.rs`).
//! * A shard is stepped by one thread; shards share no lock and no counter on a command's path but for the group commit, which
//!   the first of them that comes makes for all (`broker/group_commit.rs`): a thread of its own would be woken for each.
//! * A text leaves memory only when the store at rest has it as it is; a shard that needs one asks, and goes on (`engine/texts.rs`).
//! * Rows at rest carry the command's revision; a change at or below it is a no-op, so checkpoints need no pause.
//! * Wire, memory and disk are three formats: rkyv only in `storage/record*`, wire bytes only in `protocol/`.
//! * `engine` and `protocol` read no clock; only `broker/clock.rs` does.

pub mod broker;
mod carrier;
pub mod cli;
pub mod client;
pub mod config;
#[cfg(test)]
#[path = "../fuzz/corpus.rs"]
mod corpus;
pub mod credentials;
pub mod engine;
pub mod http;
pub mod ids;
pub mod limits;
pub mod load;
mod pace;
mod prefetch;
mod priority;
mod progress;
pub mod protocol;
pub mod storage;
mod sync;
pub mod telemetry;
pub mod time;
pub mod tls;
pub mod transport;
mod values;
