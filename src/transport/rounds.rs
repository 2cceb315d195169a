//! When connections look after silent peers: many at the same moment, so that the broker wakes up for all of them once. Ten
//! thousand connections that nothing comes over would wake it two thousand times a second otherwise, and that is what they cost.
//! Must never make anybody wait longer than it asked for.

use std::sync::LazyLock;
use std::time::Duration;

use tokio::time::Instant;

/// Moments are this far apart. Long beside a wake-up, short beside what a few hundred connections do at one of them.
const APART_MAX: Duration = Duration::from_millis(10);
/// No less than so many lie within one length.
const WITHIN_MIN: u32 = 16;

/// What all moments count from.
static START: LazyLock<Instant> = LazyLock::new(Instant::now);

/// The last moment within `length` from now. Who asks again at that moment gets the one a whole length later.
pub(super) fn moment_within(length: Duration) -> Instant {
    *START + rounded(START.elapsed() + length, APART_MAX.min(length / WITHIN_MIN))
}

/// Down to a whole number of steps.
fn rounded(time: Duration, step: Duration) -> Duration {
    let step = step.as_nanos().max(1);
    let whole = time.as_nanos() / step * step;
    Duration::from_nanos(u64::try_from(whole).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LENGTH: Duration = Duration::from_secs(5);

    #[test]
    fn connections_that_came_one_after_the_other_share_their_moments() {
        let at = |micros: u64| rounded(Duration::from_micros(micros) + LENGTH, APART_MAX);
        assert_eq!(at(20_000), at(29_999));
        assert_eq!(at(20_000), Duration::from_millis(5020));
        assert_eq!(at(30_000), Duration::from_millis(5030));
    }

    #[test]
    fn a_moment_lies_within_the_length_and_not_far_before_its_end() {
        for length in [Duration::from_millis(5), Duration::from_millis(500), LENGTH] {
            let before = Instant::now();
            let moment = moment_within(length);
            assert!(moment <= Instant::now() + length);
            assert!(moment + length / WITHIN_MIN > before + length);
        }
    }

    #[test]
    fn from_one_moment_to_the_next_is_a_whole_length() {
        // As late as a timer may be.
        let late = Duration::from_micros(1700);
        let first = rounded(LENGTH, APART_MAX);
        assert_eq!(rounded(first + late + LENGTH, APART_MAX), first + LENGTH);
    }
}
