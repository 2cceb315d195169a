//! The one place of the subcommands that reads a clock: to measure, and to say how long something took.

use std::time::Instant;

use crate::time::UnixMs;

/// Now, for spans of time; never compared with another machine's.
#[expect(clippy::disallowed_methods, reason = "the load generator and the demo measure their own time")]
pub(super) fn now() -> Instant {
    Instant::now()
}

/// Now, as a date: for what is written into a data directory without a broker.
pub(super) fn unix_now() -> UnixMs {
    UnixMs(u64::try_from(jiff::Timestamp::now().as_millisecond()).unwrap_or(0))
}
