//! Work in the background that takes its time: after each short piece of it the thread sleeps for a multiple of what the
//! piece took, so that whoever wants its core never waits for more than a piece. Knows no work.
//!
//! A scheduler lets a thread that works without a pause run from tick to tick, 4 ms or so, before it looks at who waits; and
//! a lower priority makes threads that wait for a lock of this one wait as long as it does. Who sleeps holds no core, and whoever
//! calls [`breathe`] sees to it that it holds no lock that others want.
//!
//! The pace is the thread's and not an argument, because some pauses lie within a library's work: see `storage/pieces.rs`.

use std::cell::Cell;
use std::time::{Duration, Instant};

/// A piece of work is as long as this at the least, and ends with the step that it is in.
const PIECE: Duration = Duration::from_micros(200);
/// For how many times as long as a piece took the thread sleeps after it.
const REST_TIMES: u32 = 3;
/// The longest sleep: a piece that took so long was kept from its core itself.
const REST_MAX: Duration = Duration::from_millis(20);

thread_local! {
    /// `None` = the thread does not take its time.
    static PACE: Cell<Option<Pace>> = const { Cell::new(None) };
}

/// What the thread is about.
#[derive(Clone, Copy)]
struct Pace {
    /// When the piece began.
    since: Instant,
    /// No rests from then on.
    until: Instant,
}

impl Pace {
    /// How long to sleep now. `None` = the piece goes on.
    fn rest(self, now: Instant) -> Option<Duration> {
        let worked = now.saturating_duration_since(self.since);
        (worked >= PIECE && now < self.until).then(|| (worked * REST_TIMES).min(REST_MAX))
    }
}

/// The calling thread takes its time from now on, for so long at most; then it hurries.
pub(crate) fn take_time(most: Duration) {
    let now = now();
    PACE.set(Some(Pace { since: now, until: now + most }));
}

/// Between two steps of work, where no lock is held that others want: time for a rest.
pub(crate) fn breathe() {
    if let Some(rest) = PACE.get().and_then(|pace| pace.rest(now())) {
        std::thread::sleep(rest);
        has_waited();
    }
}

/// The calling thread has just waited for something, which is a rest as well.
pub(crate) fn has_waited() {
    if let Some(pace) = PACE.get() {
        PACE.set(Some(Pace { since: now(), ..pace }));
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "a thread's own work is measured, and nothing is decided by it but its rests"
)]
fn now() -> Instant {
    Instant::now()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rest_is_a_multiple_of_the_piece_before_it() {
        let since = now();
        let pace = Pace { since, until: since + Duration::from_secs(1) };
        let rests = [0, 199, 200, 500, 7_000, 999_999, 1_000_000].map(|worked| {
            let rest = pace.rest(since + Duration::from_micros(worked))?;
            Some(rest.as_micros())
        });
        assert_eq!(rests, [None, None, Some(600), Some(1_500), Some(20_000), Some(20_000), None]);
    }

    #[test]
    fn who_takes_time_sleeps_after_each_piece() {
        let working = || {
            take_time(Duration::from_secs(3600));
            for _ in 0..5 {
                let piece = now();
                while piece.elapsed() < PIECE {}
                let (worked, rests) = (piece.elapsed(), now());
                breathe();
                let (rested, least) = (rests.elapsed(), (worked * REST_TIMES).min(REST_MAX));
                assert!(rested >= least, "{rested:?} after {worked:?}");
            }
        };
        std::thread::spawn(working).join().unwrap();
    }

    #[test]
    fn who_has_waited_begins_a_piece_anew() {
        let (since, after) = std::thread::spawn(|| {
            take_time(Duration::from_secs(3600));
            let since = PACE.get().unwrap().since;
            has_waited();
            (since, PACE.get().unwrap().since)
        })
        .join()
        .unwrap();
        assert!(after > since);
    }
}
