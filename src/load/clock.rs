//! The one place of the load generator that reads a clock.

use std::time::Instant;

/// Now, for spans of time; never compared with another machine's.
#[expect(clippy::disallowed_methods, reason = "the load generator measures its own time")]
pub fn now() -> Instant {
    Instant::now()
}
