//! Times of many commands: noted in nanoseconds, read as quantiles.

use std::time::Duration;

use hdrhistogram::Histogram;

/// A histogram for times from 1 us to a minute, in nanoseconds, three digits.
pub(crate) fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1_000, 60_000_000_000, 3).expect("the bounds are in order")
}

/// Notes a time; one over the histogram's bound counts as the bound.
pub(crate) fn note_time(times: &mut Histogram<u64>, time: Duration) {
    times.saturating_record(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX));
}

/// The times within which these shares of all commands lay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quantiles {
    /// Half of them.
    pub p50: Duration,
    /// 99 of 100.
    pub p99: Duration,
    /// 999 of 1,000.
    pub p999: Duration,
    /// All.
    pub max: Duration,
}

impl Quantiles {
    /// Of a histogram in nanoseconds; all 0 when it is empty.
    pub(crate) fn of(times: &Histogram<u64>) -> Quantiles {
        let at = |share| Duration::from_nanos(times.value_at_quantile(share));
        Quantiles { p50: at(0.5), p99: at(0.99), p999: at(0.999), max: Duration::from_nanos(times.max()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_those_of_the_times() {
        let mut times = histogram();
        (1..=1000).for_each(|ms| note_time(&mut times, Duration::from_millis(ms)));
        let quantiles = Quantiles::of(&times);
        let near =
            |time: Duration, ms: u64| time.abs_diff(Duration::from_millis(ms)) < Duration::from_millis(1);
        assert!(near(quantiles.p50, 500) && near(quantiles.p99, 990), "{quantiles:?}");
        assert!(near(quantiles.p999, 999) && near(quantiles.max, 1000), "{quantiles:?}");
    }
}
