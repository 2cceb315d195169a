//! The only reader of the clock. Its time never goes back, whatever the system's clock does.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use crate::time::UnixMs;

/// Wall time at start, carried on by the monotonic clock.
///
/// A system clock that is set while the broker runs is noticed at the next start; deadlines and retries never jump.
#[derive(Debug)]
pub(crate) struct Clock {
    started: Instant,
    origin_ms: u64,
    latest_ms: AtomicU64,
}

impl Clock {
    /// Starts at the system's time, or at `floor` when the system's clock is behind what was stored before.
    #[expect(clippy::disallowed_methods, reason = "this file is the one reader of the clock")]
    pub(crate) fn start(floor: UnixMs) -> Clock {
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let origin_ms = u64::try_from(since_epoch.as_millis()).unwrap_or(u64::MAX).max(floor.0);
        Clock { started: Instant::now(), origin_ms, latest_ms: AtomicU64::new(origin_ms) }
    }

    /// The current time.
    pub(crate) fn now(&self) -> UnixMs {
        let elapsed = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        let now = self.origin_ms.saturating_add(elapsed);
        UnixMs(self.latest_ms.fetch_max(now, Ordering::Relaxed).max(now))
    }

    /// A reading for measuring spans, in nanoseconds since start.
    pub(crate) fn nanos(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }
}
