//! Where numbers may begin so that they lie above all that were given out by an instant: in an earlier data directory,
//! or in a past that a restored backup does not know of. That holds unless the clock was set back.

use crate::limits::SHARDS_MAX;
use crate::storage::Floors;
use crate::time::UnixMs;

/// 2026-01-01T00:00:00Z, before the first data directory: numbers count from there, so that they stay short.
const NUMBERS_BEGAN: UnixMs = UnixMs(1_767_225_600_000);
/// Commands that one data directory can accept in a millisecond, taken over its life.
const SEQS_PER_MS_MAX: u64 = 1_000;

/// Where the numbers of commands and orders begin at each start. What a plugin's ledger kept from an earlier directory, or
/// from after the backup that this one was made from, then names no command of this one.
pub(super) fn first_seq(now: UnixMs) -> u64 {
    now.0.saturating_sub(NUMBERS_BEGAN.0) * SEQS_PER_MS_MAX * u64::from(SHARDS_MAX)
}

/// Where all numbers of a restored directory begin: of runs, stores, servers and keys there is less than one a second,
/// taken over the life of a directory.
pub(super) fn floors(now: UnixMs) -> Floors {
    let seconds = u32::try_from(now.0.saturating_sub(NUMBERS_BEGAN.0) / 1000).unwrap_or(u32::MAX / 2);
    Floors { seq: first_seq(now), boot: seconds, registry: seconds }
}
