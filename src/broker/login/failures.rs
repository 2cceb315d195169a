//! How often logins from a network failed lately: a bounded table of numbers, no lock.
//!
//! Only failed logins are charged, so thousands of servers behind one address come back at once. A network over its
//! limit is told to come back later instead of what was wrong, and gets half of the queue for password hashes.

use std::hash::{BuildHasher, RandomState};

use super::origin::Network;
use crate::limits::FAILED_LOGIN_COUNTERS;
use crate::sync::atomic::{AtomicU64, Ordering};
use crate::time::UnixMs;

/// See [`FAILED_LOGIN_COUNTERS`]; loom steps each of them.
const COUNTERS: usize = if cfg!(fluxrelay_loom) { 2 } else { FAILED_LOGIN_COUNTERS };

/// How many failed logins a network may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FailedLoginLimit {
    /// For ever, 1 to 1,000,000.
    pub per_second: u32,
    /// At once, after a time without any; at least 1.
    pub burst: u32,
}

impl Default for FailedLoginLimit {
    fn default() -> FailedLoginLimit {
        FailedLoginLimit { per_second: 10, burst: 100 }
    }
}

/// Each counter is the point in time, in microseconds, at which all failures so far are forgiven: a bucket of tokens
/// in one number (the generic cell rate algorithm).
#[derive(Debug)]
pub(in crate::broker) struct Failures {
    forgiven_at_us: Box<[AtomicU64]>,
    /// Keyed at random, so that nobody can aim at another network's counter.
    hasher: RandomState,
    interval_us: u64,
    burst_us: u64,
}

impl Failures {
    pub(in crate::broker) fn new(limit: FailedLoginLimit) -> Failures {
        let interval_us = 1_000_000 / u64::from(limit.per_second.clamp(1, 1_000_000));
        Failures {
            forgiven_at_us: (0..COUNTERS).map(|_| AtomicU64::new(0)).collect(),
            hasher: RandomState::new(),
            interval_us,
            burst_us: interval_us * u64::from(limit.burst.max(1)),
        }
    }

    /// Charges a failed login; if the network is over its limit, charges nothing and gives the time to come back.
    pub(in crate::broker) fn charge(&self, network: Network, now: UnixMs) -> Result<(), u32> {
        let now_us = now.0.saturating_mul(1000);
        let charged = self.counter(network).fetch_update(Ordering::Relaxed, Ordering::Relaxed, |forgiven| {
            let after = forgiven.max(now_us) + self.interval_us;
            (after - now_us <= self.burst_us).then_some(after)
        });
        charged.map(drop).map_err(|forgiven| {
            let wait_us = (forgiven + self.interval_us).saturating_sub(now_us + self.burst_us);
            u32::try_from(wait_us.div_ceil(1000)).unwrap_or(u32::MAX)
        })
    }

    /// Whether one more failed login would be over the limit.
    pub(in crate::broker) fn is_over(&self, network: Network, now: UnixMs) -> bool {
        let now_us = now.0.saturating_mul(1000);
        let forgiven = self.counter(network).load(Ordering::Relaxed);
        forgiven.max(now_us) + self.interval_us - now_us > self.burst_us
    }

    fn counter(&self, network: Network) -> &AtomicU64 {
        let place = self.hasher.hash_one(network.number()) % COUNTERS as u64;
        &self.forgiven_at_us[place as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: UnixMs = UnixMs(1_700_000_000_000);

    fn network(number: u8) -> Network {
        Network::of([192, 0, number, 1].into())
    }

    #[test]
    fn a_burst_then_a_rate() {
        let failures = Failures::new(FailedLoginLimit { per_second: 10, burst: 3 });
        for _ in 0..3 {
            assert!(!failures.is_over(network(1), NOW));
            assert_eq!(failures.charge(network(1), NOW), Ok(()));
        }
        assert!(failures.is_over(network(1), NOW));
        assert_eq!(failures.charge(network(1), NOW), Err(100));
        assert_eq!(failures.charge(network(1), UnixMs(NOW.0 + 30)), Err(70), "a refused one is not charged");
        assert!(!failures.is_over(network(1), UnixMs(NOW.0 + 100)));
        assert_eq!(failures.charge(network(1), UnixMs(NOW.0 + 100)), Ok(()));
        assert_eq!(failures.charge(network(1), UnixMs(NOW.0 + 100)), Err(100));
        // Long after, it is a burst again, and no more.
        let later = UnixMs(NOW.0 + 3_600_000);
        let passed = (0..10).filter(|_| failures.charge(network(1), later).is_ok()).count();
        assert_eq!(passed, 3);
    }

    #[test]
    fn networks_are_apart() {
        let failures = Failures::new(FailedLoginLimit { per_second: 1, burst: 1 });
        failures.charge(network(1), NOW).unwrap();
        assert!(failures.is_over(network(1), NOW));
        let others = (2..=255).filter(|other| failures.is_over(network(*other), NOW)).count();
        assert!(others <= 2, "{others} of 254 share a counter of 65,536");
    }

    #[test]
    fn the_widest_limits_do_not_overflow() {
        let failures = Failures::new(FailedLoginLimit { per_second: 0, burst: u32::MAX });
        assert!(!failures.is_over(network(1), NOW));
        failures.charge(network(1), NOW).unwrap();
        let failures = Failures::new(FailedLoginLimit { per_second: u32::MAX, burst: 0 });
        failures.charge(network(1), NOW).unwrap();
        assert_eq!(failures.charge(network(1), NOW), Err(1));
    }
}

#[cfg(all(test, fluxrelay_loom))]
mod interleavings {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn failures_at_once_are_each_charged_and_no_more_than_the_burst() {
        loom::model(|| {
            let now = UnixMs(1_700_000_000_000);
            let network = Network::of([192, 0, 2, 1].into());
            let failures = Arc::new(Failures::new(FailedLoginLimit { per_second: 10, burst: 2 }));
            let others = [1, 2].map(|_| {
                let failures = Arc::clone(&failures);
                loom::thread::spawn(move || failures.charge(network, now).is_ok())
            });
            let own = failures.charge(network, now).is_ok();
            let charged =
                others.map(|other| other.join().unwrap()).into_iter().filter(|charged| *charged).count();
            assert_eq!(charged + usize::from(own), 2);
            assert!(failures.is_over(network, now));
        });
    }
}
