//! The one place of the subcommands that reads a clock: to measure, and to say how long something took.

use std::time::Instant;

/// Now, for spans of time; never compared with another machine's.
#[expect(clippy::disallowed_methods, reason = "the load generator and the demo measure their own time")]
pub(super) fn now() -> Instant {
    Instant::now()
}
