//! When those who were sent away may come back: the time to come, in spans with as many places as hashes end in them.
//! Pure.
//!
//! Who comes back for a hash gives up its place, whether it is let in this time or not. So places stand only for those who
//! are still away, and the last of a crowd is not asked to wait for moments that were given to people who are long in.

use std::collections::HashMap;

use crate::credentials::Subject;
use crate::limits::{LOGIN_PLACES_MAX, LOGIN_RETRY_AFTER_MS_MAX};

/// Microseconds of a span.
const SPAN_US: u64 = 250_000;
/// As many as the longest time that anybody is asked to wait.
const SPANS: usize = (LOGIN_RETRY_AFTER_MS_MAX * 1000 / SPAN_US) as usize;

/// See the module.
#[derive(Debug)]
pub(super) struct Calendar {
    /// The span that the first of `taken` is for, counted from the clock's zero.
    first: u64,
    /// Places taken, by span: a ring that begins at `first % SPANS`.
    taken: Box<[u32]>,
    /// Whose place is in which span; in one that has passed for who did not come.
    places: HashMap<Subject, u64>,
    /// What `first` was when those were last looked for.
    cleared: u64,
}

impl Default for Calendar {
    fn default() -> Self {
        Calendar { first: 0, taken: vec![0; SPANS].into(), places: HashMap::new(), cleared: 0 }
    }
}

impl Calendar {
    /// The first moment from `earliest_us` on that nobody has; one place for each `each_us`. Who has a place already gets
    /// another for it. `None` = all are taken.
    pub(super) fn take(
        &mut self,
        subject: Subject,
        now_us: u64,
        earliest_us: u64,
        each_us: u64,
    ) -> Option<u64> {
        self.give_back(subject, now_us);
        if self.places.len() >= LOGIN_PLACES_MAX {
            self.clear();
            if self.places.len() >= LOGIN_PLACES_MAX {
                return None;
            }
        }
        let each_us = each_us.max(1);
        let room = SPAN_US.div_ceil(each_us);
        // Fewer than one a span: every so many-th.
        let stride = each_us.div_ceil(SPAN_US);
        let earliest = earliest_us.div_ceil(SPAN_US).max(self.first);
        let span = (earliest..self.first + SPANS as u64)
            .find(|span| u64::from(self.taken[place(*span)]) < room && span % stride == 0)?;
        let before = self.taken[place(span)];
        self.taken[place(span)] += 1;
        self.places.insert(subject, span);
        Some(span * SPAN_US + u64::from(before) * (SPAN_US / room))
    }

    /// It has come back.
    pub(super) fn give_back(&mut self, subject: Subject, now_us: u64) {
        self.go_on(now_us);
        if let Some(span) = self.places.remove(&subject)
            && span >= self.first
        {
            self.taken[place(span)] -= 1;
        }
    }

    /// Forgets who did not come, once for each span: all places are looked at.
    fn clear(&mut self) {
        let first = self.first;
        if std::mem::replace(&mut self.cleared, first) != first {
            self.places.retain(|_, span| *span >= first);
        }
    }

    /// Time has passed.
    fn go_on(&mut self, now_us: u64) {
        let now = now_us / SPAN_US;
        // Who read the clock first may come second: nothing goes back for that.
        for passed in (self.first..now).take(SPANS) {
            self.taken[place(passed)] = 0;
        }
        self.first = self.first.max(now);
    }
}

/// Where a span is in the ring.
fn place(span: u64) -> usize {
    (span % SPANS as u64) as usize
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::ServerId;

    const NOW: u64 = 1_700_000_000_000_000;
    const EACH: u64 = 25_000;
    const LONGEST: u64 = LOGIN_RETRY_AFTER_MS_MAX * 1000;

    fn server(number: u32) -> Subject {
        Subject::Server(ServerId(number))
    }

    fn fill(calendar: &mut Calendar) {
        let taken = (0..).take_while(|n| calendar.take(server(*n), NOW, NOW, EACH).is_some()).count();
        assert_eq!(taken as u64, LONGEST / EACH);
    }

    #[test]
    fn moments_follow_one_another_as_hashes_do() {
        let mut calendar = Calendar::default();
        let moments: Vec<_> =
            (0..1000).map(|n| calendar.take(server(n), NOW, NOW, EACH).unwrap() - NOW).collect();
        assert!(moments.windows(2).all(|pair| pair[1] - pair[0] == EACH), "{moments:?}");
        assert_eq!(moments[0], 0);
    }

    #[test]
    fn the_earliest_is_kept_and_the_latest_too() {
        let mut calendar = Calendar::default();
        let moments: Vec<_> =
            (0..10_000).map_while(|n| calendar.take(server(n), NOW, NOW + 1_000_000, EACH)).collect();
        assert_eq!(moments.len() as u64, (LONGEST - 1_000_000) / EACH);
        assert!(moments.iter().all(|moment| (NOW + 1_000_000..NOW + LONGEST).contains(moment)));
    }

    #[test]
    fn the_places_of_those_who_came_back_are_free_again() {
        let mut calendar = Calendar::default();
        fill(&mut calendar);
        let take = |calendar: &mut Calendar, n| calendar.take(server(n), NOW, NOW, EACH);
        // Somebody in the middle comes too early, and is let in.
        calendar.give_back(server(1500), NOW);
        let freed = take(&mut calendar, 9_999).unwrap();
        assert_eq!((freed - NOW) / SPAN_US, 150);
        assert_eq!(take(&mut calendar, 10_000), None);
        // Who is sent away twice has one place.
        assert!(take(&mut calendar, 7).is_some());
        assert_eq!(calendar.taken.iter().sum::<u32>() as usize, calendar.places.len());
    }

    #[test]
    fn spans_that_have_passed_are_new_ones() {
        let mut calendar = Calendar::default();
        fill(&mut calendar);
        let later = NOW + 10_000_000;
        let moments: Vec<_> =
            (0..401).map(|n| calendar.take(server(100_000 + n), later, later, EACH)).collect();
        assert_eq!(moments.iter().flatten().count(), 400);
        assert!(moments.iter().flatten().all(|moment| *moment >= NOW + LONGEST));
        // All of them are old.
        let much_later = later + 10 * LONGEST;
        assert_eq!(calendar.take(server(1), much_later, much_later, EACH), Some(much_later));
        // Who comes now had a place in a span that is over.
        calendar.give_back(server(2), much_later);
        assert_eq!(calendar.taken.iter().sum::<u32>(), 1);
    }

    #[test]
    fn hashes_longer_than_a_span_have_their_moments_too() {
        let mut calendar = Calendar::default();
        let moments: Vec<_> = (0..10).map(|n| calendar.take(server(n), NOW, NOW, 600_000).unwrap()).collect();
        assert!(moments.windows(2).all(|pair| pair[1] - pair[0] == 750_000), "{moments:?}");
    }

    #[test]
    fn places_are_bounded_and_those_who_never_come_lose_theirs() {
        let mut calendar = Calendar::default();
        let count = LOGIN_PLACES_MAX as u32;
        assert!((0..count).all(|n| calendar.take(server(n), NOW, NOW, 1).is_some()));
        assert_eq!(calendar.take(server(count), NOW, NOW, 1), None);
        let later = NOW + LONGEST;
        assert!(calendar.take(server(count), later, later, 1).is_some());
        assert_eq!(calendar.places.len(), 1);
    }
}
