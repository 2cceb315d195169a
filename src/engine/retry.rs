//! Back-off between attempts: which delay follows a reported failure. Must never count a delivery without an answer.

use crate::time::Millis;

/// The delay before the next attempt when `used` retries were used already; `None` = no retry is left.
pub(super) fn next_delay(delays: &[Millis], used: u16) -> Option<Millis> {
    delays.get(usize::from(used)).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_retries_as_delays() {
        let delays = [Millis::seconds(30), Millis::seconds(60)];
        assert_eq!(next_delay(&delays, 0), Some(Millis::seconds(30)));
        assert_eq!(next_delay(&delays, 1), Some(Millis::seconds(60)));
        assert_eq!(next_delay(&delays, 2), None);
        assert_eq!(next_delay(&[], 0), None);
    }
}
