//! The one place of the subcommands that reads a clock: to measure, and to say how long something took.

pub(super) use crate::load::now;
use crate::time::UnixMs;

/// Now, as a date: for what is written into a data directory without a broker.
pub(super) fn unix_now() -> UnixMs {
    UnixMs(u64::try_from(jiff::Timestamp::now().as_millisecond()).unwrap_or(0))
}
