//! How often each command of a run was received.

use std::sync::atomic::{AtomicU8, Ordering};

use super::text::number;

/// A count for each number, from 0.
pub(super) struct Tally(Vec<AtomicU8>);

impl Tally {
    /// For so many commands, none of which was received yet.
    pub(super) fn new(commands: u64) -> Tally {
        Tally((0..commands).map(|_| AtomicU8::new(0)).collect())
    }

    /// Counts a command; gives its number. `None`: it is none of this run.
    pub(super) fn note(&self, text: &str) -> Option<u64> {
        let number = number(text)?;
        self.0.get(usize::try_from(number).ok()?)?.fetch_add(1, Ordering::Relaxed);
        Some(number)
    }

    /// How many never came.
    pub(super) fn missing(&self) -> u64 {
        self.count(|times| times == 0)
    }

    /// How many came more than once.
    pub(super) fn twice(&self) -> u64 {
        self.count(|times| times > 1)
    }

    fn count(&self, wanted: impl Fn(u8) -> bool) -> u64 {
        self.0.iter().filter(|times| wanted(times.load(Ordering::Relaxed))).count() as u64
    }
}

#[cfg(test)]
mod tests {
    use super::super::text::numbered;
    use super::*;

    #[test]
    fn each_command_is_counted() {
        let tally = Tally::new(4);
        assert_eq!((tally.missing(), tally.twice()), (4, 0));
        for (number, known) in [(0, true), (1, true), (1, true), (3, true), (4, false)] {
            assert_eq!(tally.note(&numbered(number, 20)), known.then_some(number));
        }
        assert_eq!(tally.note("say hi"), None);
        assert_eq!((tally.missing(), tally.twice()), (1, 1));
    }
}
