//! A long run in spans of equal length, and how the last of them differ from the first.

use std::cmp::Ordering;
use std::time::Duration;

use crate::load::Quantiles;

/// Spans of a run. The first tenth of them warms up.
pub(super) const WINDOWS: u32 = 30;
const WARM_UP: usize = WINDOWS as usize / 10;

/// What was measured in one span.
#[derive(Debug, Clone, Copy)]
pub(super) struct Window {
    /// From the intended send time to the plugin.
    pub(super) receipt: Quantiles,
    /// The broker's resident bytes beside those of remembered idempotency keys: the median of many looks.
    pub(super) memory: u64,
    /// Bytes that the keys take at its end.
    pub(super) keys_bytes: u64,
}

/// What came of them in the end: medians over the first and the last third, the warm-up left out.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Drift {
    pub(super) p50: (Duration, Duration),
    pub(super) p99: (Duration, Duration),
    /// Bytes beside those of keys.
    pub(super) memory: (f64, f64),
}

impl Drift {
    pub(super) fn of(windows: &[Window]) -> Drift {
        let warm = &windows[WARM_UP.min(windows.len().saturating_sub(1))..];
        let count = warm.len().div_ceil(3);
        let (first, last) = (&warm[..count], &warm[warm.len() - count..]);
        let third = |windows: &[Window], of: fn(&Window) -> f64| {
            median(&windows.iter().map(of).collect::<Vec<f64>>())
        };
        let both = |of: fn(&Window) -> f64| (third(first, of), third(last, of));
        let time =
            |(first, last): (f64, f64)| (Duration::from_secs_f64(first), Duration::from_secs_f64(last));
        Drift {
            p50: time(both(|window| window.receipt.p50.as_secs_f64())),
            p99: time(both(|window| window.receipt.p99.as_secs_f64())),
            memory: both(|window| window.memory as f64),
        }
    }
}

/// The middle one: one look in which the disk stalled, or a checkpoint was under way, says nothing of the others.
pub(super) fn median<T: Copy + Default + PartialOrd>(values: &[T]) -> T {
    let mut values = values.to_vec();
    values.sort_by(|one, other| one.partial_cmp(other).unwrap_or(Ordering::Equal));
    values.get(values.len() / 2).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_third_is_held_against_the_first() {
        let ms = Duration::from_millis;
        let window = |number: u64| {
            let receipt = Quantiles { p50: ms(1), p99: ms(number), p999: ms(0), max: ms(0) };
            Window { receipt, memory: 1000 + number, keys_bytes: number }
        };
        let windows: Vec<Window> = (0..30).map(window).collect();
        let drift = Drift::of(&windows);
        // 3 to 11, and 21 to 29.
        assert_eq!((drift.p99, drift.p50), ((ms(7), ms(25)), (ms(1), ms(1))));
        assert_eq!(drift.memory, (1007.0, 1025.0));
        assert_eq!(Drift::of(&windows[..1]).memory, (1000.0, 1000.0));
    }
}
