//! Token buckets: who may do how much in how short a time. Time is passed in; nothing here waits.

use std::collections::HashMap;

use parking_lot::Mutex;

use crate::limits::RATE_BURST_SECONDS;
use crate::time::UnixMs;

/// Parts with a lock of their own, so that owners rarely meet.
const PARTS: usize = 64;
/// Buckets in a part before full ones are thrown away for the first time.
const SWEEP_AT_LEAST: usize = 64;

/// How much in how short a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    per_second: u64,
    burst: u64,
}

impl Rate {
    /// So many a second, and `RATE_BURST_SECONDS` seconds' worth at once after a pause. 0 = no limit.
    pub fn new(per_second: u64) -> Rate {
        Rate::with_burst(per_second, 0)
    }

    /// As [`Rate::new`], and at least `burst` at once.
    pub fn with_burst(per_second: u64, burst: u64) -> Rate {
        Rate { per_second, burst: burst.max(per_second.saturating_mul(RATE_BURST_SECONDS)) }
    }

    /// Nothing is limited.
    pub fn is_off(self) -> bool {
        self.per_second == 0
    }

    /// How many a second; 0 = no limit.
    pub fn per_second(self) -> u64 {
        self.per_second
    }

    fn full(self) -> u64 {
        self.burst.saturating_mul(1000)
    }
}

/// What one owner may still do, in thousandths.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bucket {
    level: u64,
    at: UnixMs,
}

impl Bucket {
    /// A full one.
    pub(super) fn full(rate: Rate, now: UnixMs) -> Bucket {
        Bucket { level: rate.full(), at: now }
    }

    /// Takes `count` out of it, or says in how many milliseconds there will be so many. More than a full bucket
    /// holds costs a full bucket.
    pub(super) fn take(&mut self, rate: Rate, now: UnixMs, count: u64) -> Result<(), u32> {
        self.fill(rate, now);
        let cost = count.saturating_mul(1000).min(rate.full());
        match self.level.checked_sub(cost) {
            Some(left) => {
                self.level = left;
                Ok(())
            }
            None => {
                let wait = (cost - self.level).div_ceil(rate.per_second.max(1));
                Err(u32::try_from(wait).unwrap_or(u32::MAX))
            }
        }
    }

    fn fill(&mut self, rate: Rate, now: UnixMs) {
        let gained = (now - self.at).0.saturating_mul(rate.per_second);
        self.level = self.level.saturating_add(gained).min(rate.full());
        self.at = self.at.max(now);
    }
}

/// A bucket for each owner that was busy lately. An owner who paused has a full one, which is as good as none: their
/// number is bounded by those who are busy within `RATE_BURST_SECONDS`, and they by what is registered.
#[derive(Debug)]
pub struct Buckets {
    rate: Rate,
    parts: Box<[Mutex<Part>]>,
}

#[derive(Debug, Default)]
struct Part {
    buckets: HashMap<u32, Bucket>,
    sweep_at: usize,
}

impl Buckets {
    /// The same rate for every owner.
    pub fn new(rate: Rate) -> Buckets {
        Buckets { rate, parts: (0..PARTS).map(|_| Mutex::default()).collect() }
    }

    /// The rate of each owner.
    pub fn rate(&self) -> Rate {
        self.rate
    }

    /// Lets an owner do one more.
    ///
    /// # Errors
    /// In how many milliseconds it may.
    pub fn take(&self, owner: u32, now: UnixMs) -> Result<(), u32> {
        if self.rate.is_off() {
            return Ok(());
        }
        let mut part = self.parts[owner as usize % PARTS].lock();
        if part.buckets.len() >= part.sweep_at.max(SWEEP_AT_LEAST) {
            let rate = self.rate;
            part.buckets.retain(|_, bucket| {
                bucket.fill(rate, now);
                bucket.level < rate.full()
            });
            part.sweep_at = 2 * part.buckets.len();
        }
        let rate = self.rate;
        part.buckets.entry(owner).or_insert_with(|| Bucket::full(rate, now)).take(rate, now, 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(at: u64) -> UnixMs {
        UnixMs(1_000_000 + at)
    }

    #[test]
    fn a_burst_then_the_rate_and_the_wait_is_exact() {
        let buckets = Buckets::new(Rate::new(10));
        for _ in 0..20 {
            assert_eq!(buckets.take(1, ms(0)), Ok(()), "two seconds' worth at once");
        }
        assert_eq!(buckets.take(1, ms(0)), Err(100));
        assert_eq!(buckets.take(1, ms(99)), Err(1));
        assert_eq!(buckets.take(1, ms(100)), Ok(()));
        assert_eq!(buckets.take(1, ms(100)), Err(100));
        for _ in 0..10 {
            assert_eq!(buckets.take(1, ms(1100)), Ok(()));
        }
        assert_eq!(buckets.take(1, ms(1100)), Err(100));
        for _ in 0..20 {
            assert_eq!(buckets.take(1, ms(100_000)), Ok(()), "no more than a burst is saved up");
        }
        assert!(buckets.take(1, ms(100_000)).is_err());
    }

    #[test]
    fn nobody_pays_for_another() {
        let buckets = Buckets::new(Rate::new(1));
        while buckets.take(1, ms(0)).is_ok() {}
        for other in [2, 1 + PARTS as u32, u32::MAX] {
            assert_eq!(buckets.take(other, ms(0)), Ok(()), "{other}");
        }
    }

    #[test]
    fn a_clock_that_goes_back_gives_nothing() {
        let rate = Rate::new(1);
        let mut bucket = Bucket::full(rate, ms(5_000));
        assert_eq!(bucket.take(rate, ms(5_000), 2), Ok(()));
        assert_eq!(bucket.take(rate, ms(1_000), 1), Err(1_000));
        assert_eq!(bucket.take(rate, ms(5_500), 1), Err(500), "time counts once");
    }

    #[test]
    fn more_than_a_bucket_holds_costs_a_full_one() {
        let rate = Rate::with_burst(1, 100);
        let mut bucket = Bucket::full(rate, ms(0));
        assert_eq!(bucket.take(rate, ms(0), 1_000), Ok(()));
        assert_eq!(bucket.take(rate, ms(0), 1), Err(1_000));
        assert_eq!(bucket.take(rate, ms(60_000), u64::MAX), Err(40_000));
    }

    #[test]
    fn no_limit_is_no_bucket() {
        let buckets = Buckets::new(Rate::new(0));
        assert!((0..10_000).all(|_| buckets.take(1, ms(0)).is_ok()));
        assert!(buckets.parts.iter().all(|part| part.lock().buckets.is_empty()));
    }

    #[test]
    fn owners_that_paused_take_no_memory() {
        let buckets = Buckets::new(Rate::new(1));
        for owner in 0..200_000 {
            buckets.take(owner, ms(u64::from(owner))).unwrap();
        }
        let kept: usize = buckets.parts.iter().map(|part| part.lock().buckets.len()).sum();
        assert!(kept < 20_000, "{kept} buckets for about 1,000 busy owners");
    }
}
