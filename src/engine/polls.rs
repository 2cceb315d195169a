//! The pace of a server that polls: when it is told to come again, and until when it counts as online. Must never
//! look at a queue.

use super::wheel::TimerId;
use crate::ids::{ServerId, mix};
use crate::time::{Millis, UnixMs};

/// A server that polls.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Poller {
    /// What it is told next while nothing waits, in seconds, before spreading; 0 = it never polled.
    pace: u32,
    /// It counts as online until then.
    pub(super) until: UnixMs,
    /// Notices that it does not come any more.
    pub(super) timer: Option<TimerId>,
}

/// The bounds of the pace, in seconds.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pace {
    pub(super) min: u32,
    pub(super) max: u32,
    pub(super) grace: Millis,
}

impl Poller {
    /// Notes a poll and returns when to poll next, in seconds. `busy`: commands wait for it.
    pub(super) fn on_poll(&mut self, server: ServerId, now: UnixMs, busy: bool, bounds: Pace) -> u32 {
        let Pace { min, max, grace } = bounds;
        let told =
            if busy || self.pace <= min { min } else { spread(self.pace, server, now).clamp(min, max) };
        self.pace = if busy { min } else { self.pace.max(min).saturating_mul(2).min(max) };
        self.until = now + Millis::seconds(u64::from(told)) + grace;
        told
    }
}

/// A tenth more or less, so that servers that came at the same instant do not come together again; the same
/// server at the same instant is always told the same.
fn spread(seconds: u32, server: ServerId, now: UnixMs) -> u32 {
    let width = seconds / 5;
    let drawn = mix(u64::from(server.0) ^ now.0.rotate_left(32)) % u64::from(width + 1);
    seconds - width / 2 + drawn as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUNDS: Pace = Pace { min: 15, max: 300, grace: Millis(30_000) };

    #[test]
    fn the_pace_grows_while_nothing_waits() {
        let mut poller = Poller::default();
        let mut told = |busy| poller.on_poll(ServerId(1), UnixMs(5), busy, BOUNDS);
        assert_eq!(told(false), 15);
        for expected in [30, 60, 120, 240, 300, 300] {
            let seconds = told(false);
            assert!(seconds.abs_diff(expected) <= expected / 10, "{seconds} for {expected}");
            assert!((15..=300).contains(&seconds));
        }
        assert_eq!(told(true), 15);
        assert_eq!(told(false), 15);
        assert!(told(false) > 20);
    }

    #[test]
    fn servers_are_spread() {
        let told: std::collections::BTreeSet<u32> =
            (1..200).map(|n| spread(240, ServerId(n), UnixMs(1))).collect();
        assert!(told.len() > 30);
    }
}
