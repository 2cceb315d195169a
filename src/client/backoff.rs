//! How long a client waits before it connects again: full jitter, so that clients which were cut off together do not come
//! back together.

use std::time::Duration;

/// The bounds of the wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BackoffOptions {
    /// The first wait is up to this long.
    pub first: Duration,
    /// No wait is longer, unless the broker asks for it.
    pub longest: Duration,
}

impl Default for BackoffOptions {
    fn default() -> Self {
        BackoffOptions { first: Duration::from_secs(1), longest: Duration::from_secs(60) }
    }
}

/// The state of it: how often in a row it failed.
#[derive(Debug, Clone)]
pub(super) struct Backoff {
    options: BackoffOptions,
    failures: u32,
}

impl Backoff {
    pub(super) fn new(options: BackoffOptions) -> Backoff {
        Backoff { options, failures: 0 }
    }

    /// A connection stood and was of use.
    pub(super) fn on_success(&mut self) {
        self.failures = 0;
    }

    /// The wait before the next try; `asked` is what the broker asked for, which is never undercut. A broker that asks is there
    /// and has a moment for this client: whatever failed before is over.
    pub(super) fn next_wait(&mut self, asked: Option<Duration>) -> Duration {
        if asked.is_some_and(|asked| !asked.is_zero()) {
            self.failures = 0;
        }
        let random = getrandom::u64().unwrap_or(u64::MAX / 2);
        let ceiling = self.options.first.saturating_mul(1 << self.failures.min(16)).min(self.options.longest);
        self.failures = self.failures.saturating_add(1);
        let jitter = ceiling.mul_f64(random as f64 / u64::MAX as f64);
        match asked {
            // The broker has spread its go-away delays already; a little jitter on top does no harm.
            Some(asked) => asked + jitter.min(self.options.first),
            None => jitter,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_the_bound_and_start_over() {
        let options = BackoffOptions { first: Duration::from_millis(100), longest: Duration::from_secs(2) };
        let mut longest = [Duration::ZERO; 8];
        for _ in 0..200 {
            let mut backoff = Backoff::new(options);
            longest.iter_mut().for_each(|longest| *longest = backoff.next_wait(None).max(*longest));
        }
        for (failures, longest) in longest.iter().enumerate() {
            let ceiling = Duration::from_millis(100 << failures).min(options.longest);
            assert!(*longest <= ceiling && *longest > ceiling / 2, "{failures}: {longest:?} of {ceiling:?}");
        }
        let mut backoff = Backoff::new(options);
        for _ in 0..100 {
            backoff.next_wait(None);
        }
        backoff.on_success();
        assert!(backoff.next_wait(None) <= options.first);
    }

    #[test]
    fn the_broker_is_never_undercut() {
        let mut backoff = Backoff::new(BackoffOptions::default());
        for _ in 0..20 {
            assert!(backoff.next_wait(Some(Duration::from_secs(7))) >= Duration::from_secs(7));
        }
    }

    #[test]
    fn waits_begin_anew_when_the_broker_has_given_one() {
        let options = BackoffOptions::default();
        let mut backoff = Backoff::new(options);
        for _ in 0..20 {
            for _ in 0..10 {
                backoff.next_wait(None);
            }
            assert!(backoff.next_wait(Some(Duration::from_secs(30))) <= Duration::from_secs(31));
            assert!(backoff.next_wait(None) <= 2 * options.first);
        }
        // "At once" gives none: a broker that goes away each time it has come is left alone like one that is gone.
        let waits = (0..100).map(|_| {
            let mut backoff = Backoff::new(options);
            let last = (0..10).map(|_| backoff.next_wait(Some(Duration::ZERO))).last();
            assert!(last <= Some(options.first));
            backoff.next_wait(None)
        });
        assert!(waits.max() > Some(options.first));
    }
}
