//! A hierarchical timer wheel. Owns points in time with a value each; must never fire one early, lose one, or
//! read a clock.
//!
//! ```text
//! level 0   64 slots of 1 ms        one slot = one tick, fired
//! level 1   64 slots of 64 ms       one slot = one turn of level 0, cascaded into it when its time comes
//! level 2   64 slots of 4 s           :
//! level 3   64 slots of 4 min         :
//! level 4   64 slots of 4.7 h         :
//! level 5   64 slots of 12.4 days   wraps around: 2.2 years; what is later waits in its last slot and goes round again
//! ```
//!
//! A timer stands in the level of the highest base-64 digit in which it differs from `elapsed`, so that every slot of a
//! level lies before every slot of the levels above, and a timer cascades at most five times. Insert, cancel
//! and fire are O(1); empty slots are skipped by a bitmap per level.
//!
//! The timers of a slot lie side by side, in blocks, and are read and written in the order of memory wherever they go. So a
//! timer has no place by which it could be found: cancelling ends its name, one number among all names, and it falls out
//! where it is met next. That it stays until then is bounded: while more than half of all are cancelled, each cancel and each
//! advance also turns a few timers of one slot after the other round, from the front of their slot to its back, and leaves
//! cancelled ones out.
//!
//! After Varghese and Lauck, "Hashed and Hierarchical Timing Wheels" (1987).

mod level;
mod names;
mod slot;

use self::level::{LEVELS, Level, Place};
use self::names::Names;
use self::slot::{BLOCK, Timer};
use crate::time::UnixMs;

/// Cancelled timers that may stay, beside as many as there are others. Few in tests, so that they meet it.
const CANCELLED_SPARE: usize = if cfg!(test) { 4 } else { 1024 };
/// Timers looked at for one that is cancelled, while too many stay. With four a round over twice as many as are left is over
/// when half of these are cancelled too.
const TIDIED_FOR_ONE: usize = 4;

/// Names one timer: its place among the names and that place's generation, so that the name of a timer which has
/// fired or was cancelled never reaches a later one (a place would have to be used 2^32 times in between).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TimerId {
    index: u32,
    generation: u32,
}

const _: () = assert!(size_of::<TimerId>() == 8);

/// Timers at millisecond resolution, each with a small value that is handed out when it is due.
#[derive(Debug)]
pub struct Wheel<T> {
    /// Every tick before this one is worked off; this one perhaps in part.
    elapsed: u64,
    levels: [Level<T>; LEVELS],
    names: Names,
    /// Timers in slots that are cancelled.
    cancelled: usize,
    /// The slot that is tidied, and how many of its timers are to be looked at yet.
    tidied: (Place, usize),
    /// Timers to be looked at for those that were cancelled, which is done for a block of them at a time.
    owed: usize,
}

impl<T: Copy> Wheel<T> {
    /// An empty wheel that stands at `now`. Allocates nothing yet.
    pub fn new(now: UnixMs) -> Wheel<T> {
        Wheel {
            elapsed: now.0,
            levels: [const { Level::EMPTY }; LEVELS],
            names: Names::new(),
            cancelled: 0,
            tidied: (Place::FIRST, 0),
            owed: 0,
        }
    }

    /// Adds a timer. One that is due already fires at the next [`Wheel::advance`]; any later point is allowed.
    ///
    /// # Panics
    /// With more than 2^32 timers; callers have bounds far below.
    pub fn insert(&mut self, at: UnixMs, value: T) -> TimerId {
        let id = self.names.take();
        self.put(Timer { at: at.0, value, id });
        id
    }

    /// Removes a timer; false when it has fired or was cancelled before.
    pub fn cancel(&mut self, id: TimerId) -> bool {
        if !self.names.end(id) {
            return false;
        }
        self.cancelled += 1;
        if self.cancelled > self.len() + CANCELLED_SPARE {
            self.owed += TIDIED_FOR_ONE;
            if self.owed >= BLOCK {
                let owed = std::mem::take(&mut self.owed);
                self.tidy(owed);
            }
        }
        true
    }

    /// Appends the values of timers that are due to `out`, by rising tick; within a tick in no promised order, but
    /// the same calls always give the same one.
    ///
    /// Does at most `budget` units of work (one is a timer fired, or moved down a level, or found cancelled), and returns true
    /// when work that is due at `now` is left: call again, with other calls in between if need be. A `now` that
    /// stands still or jumps is fine; one that goes back fires nothing.
    pub fn advance(&mut self, now: UnixMs, budget: usize, out: &mut Vec<T>) -> bool {
        let mut left = budget;
        while let Some((place, start)) = self.earliest() {
            if start > now.0 {
                break;
            }
            if left == 0 {
                return true;
            }
            self.elapsed = start;
            left -= if place.level() == 0 { self.fire(place, left, out) } else { self.cascade(place, left) };
        }
        self.elapsed = self.elapsed.max(now.0);
        self.tidy(left.min(BLOCK));
        false
    }

    /// When [`Wheel::advance`] should be called next; `None` when there is no timer.
    ///
    /// Never late. Early where there is only a slot to move down or a cancelled timer to drop then: a timer that stands
    /// causes at most five such wake-ups, and a cancelled one at most one.
    pub fn next_due(&self) -> Option<UnixMs> {
        if self.is_empty() { None } else { self.earliest().map(|(_, start)| UnixMs(start)) }
    }

    /// How many timers there are.
    pub fn len(&self) -> usize {
        self.names.len()
    }

    /// Whether there is no timer.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The first slot to work off, and the tick at which it starts.
    ///
    /// As a rule that is one of the lowest level with timers; but while a slot is being moved down and the budget ended
    /// in between, what is left in it may be due before what has been moved. So all levels are compared.
    fn earliest(&self) -> Option<(Place, u64)> {
        let mut first: Option<(Place, u64)> = None;
        for (number, level) in self.levels.iter().enumerate().rev() {
            if let Some((place, start)) = level.earliest(number, self.elapsed)
                && first.is_none_or(|(_, other)| start < other)
            {
                first = Some((place, start));
            }
        }
        first
    }

    /// Puts a timer where it belongs now.
    fn put(&mut self, timer: Timer<T>) {
        let place = Place::of(self.elapsed, timer.at);
        self.levels[place.level()].push(place, timer);
    }

    /// Takes the first timer out of a slot; the second half says whether it still stands.
    fn pop(&mut self, place: Place) -> Option<(Timer<T>, bool)> {
        let timer = self.levels[place.level()].pop(place)?;
        // Looking a name up is all that costs something here.
        let stands = self.cancelled == 0 || self.names.is_used(timer.id);
        self.cancelled -= usize::from(!stands);
        Some((timer, stands))
    }

    /// Fires up to `budget` timers of a slot of level 0; returns how many it met.
    fn fire(&mut self, place: Place, budget: usize, out: &mut Vec<T>) -> usize {
        let mut done = 0;
        while done < budget
            && let Some((timer, stands)) = self.pop(place)
        {
            if stands {
                self.names.end(timer.id);
                out.push(timer.value);
            }
            done += 1;
        }
        done
    }

    /// Moves up to `budget` timers of a slot whose time has come to lower levels; returns how many it met.
    fn cascade(&mut self, from: Place, budget: usize) -> usize {
        let mut done = 0;
        while done < budget
            && let Some((timer, stands)) = self.pop(from)
        {
            debug_assert_ne!(
                from,
                Place::of(self.elapsed, timer.at),
                "it leaves the slot whose time has come"
            );
            if stands {
                self.put(timer);
            }
            done += 1;
        }
        done
    }

    /// Looks at about `most` timers, slot by slot, and drops those that are cancelled, while too many are.
    fn tidy(&mut self, most: usize) {
        let (mut place, mut left) = self.tidied;
        let mut looked = 0;
        while looked < most && self.cancelled > self.len() + CANCELLED_SPARE {
            // Some of them may have been worked off meanwhile.
            left = left.min(self.levels[place.level()].len(place));
            while left == 0 {
                place = place.next();
                left = self.levels[place.level()].len(place);
            }
            let names = &self.names;
            let (seen, dropped) = self.levels[place.level()].tidy(place, |id| names.is_used(id));
            self.cancelled -= dropped;
            left = left.saturating_sub(seen);
            looked += seen;
        }
        self.tidied = (place, left);
    }
}

#[cfg(test)]
#[path = "wheel_tests.rs"]
mod tests;
