//! The command of a bench: a number that says which one it is, and padding up to the wanted size.

/// Bytes before the padding: `b`, sixteen digits.
const NUMBERED_BYTES: usize = 17;

/// The text of command `number`, `bytes` long (at least 17).
pub(crate) fn numbered(number: u64, bytes: usize) -> String {
    let mut text = format!("b{number:016x}");
    let pad = bytes.saturating_sub(text.len());
    text.extend(std::iter::repeat_n('x', pad));
    text
}

/// The number in a text.
pub(crate) fn number(text: &str) -> Option<u64> {
    text.strip_prefix('b').and_then(|_| u64::from_str_radix(text.get(1..NUMBERED_BYTES)?, 16).ok())
}

/// A cheap spread of numbers over `count` servers, the same in every run.
pub(crate) fn spread(number: u64, count: usize) -> usize {
    // The multiplier of SplitMix64; the upper half is the well-mixed one.
    let mixed = number.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
    (mixed % count as u64) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_come_back() {
        let text = numbered(0xabc, 128);
        assert_eq!(text.len(), 128);
        assert_eq!(number(&text), Some(0xabc));
        assert_eq!(number("say hi"), None);
        assert_eq!(number("b12"), None);
    }

    #[test]
    fn servers_get_even_shares() {
        let mut counts = [0; 10];
        (0..10_000).for_each(|number| counts[spread(number, 10)] += 1);
        assert!(counts.iter().all(|count| (900..1100).contains(count)), "{counts:?}");
    }
}
