//! The load generator of the benches: numbered commands for servers, through any [`System`] that keeps them.
//!
//! ```text
//! ThroughputLoad, LatencyLoad, BacklogLoad, CrashLoad     what is to be measured, as flags
//!        │ run(system)
//!        ▼
//! closed loop, open loop, backlog, crash  ──▶  Publisher (order ─▶ durable answer)   one implementation for each system:
//!        │                                ◀──  Runner    (received, confirmed)       fluxrelay's in cli/bench, its peers' in benches/peers
//!        ▼
//! Throughput, Latency, Backlog, Crash                     what was found, lost and doubled commands among it
//! ```
//! What must stay true: it knows nothing of any one system, so that all of them get the same load from the same code; and
//! every command is counted, at both ends.

mod backlog;
mod clock;
mod crash;
mod latency;
mod settings;
mod system;
mod tally;
mod text;
mod throughput;
mod times;
mod usage;

pub use backlog::Backlog;
pub use clock::now;
pub use crash::Crash;
pub use latency::Latency;
pub use settings::{BacklogLoad, CrashLoad, LatencyLoad, ThroughputLoad};
pub use system::{Publisher, Refused, Runner, System, Unexpected};
pub(crate) use text::{number, numbered, spread};
pub use throughput::Throughput;
pub use times::Quantiles;
pub(crate) use times::{histogram, note_time};
pub use usage::{Spent, Usage, Used, children, disk_bytes, usage, usage_of_all};
