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
//! and fire are O(1); empty slots are skipped by a bitmap per level. All timers live in one slab with a free
//! list, so once it has grown to the largest number of timers nothing is allocated any more (it never shrinks).
//!
//! After Varghese and Lauck, "Hashed and Hierarchical Timing Wheels" (1987).

mod level;
mod storage;

use self::level::{LEVELS, Level, Place};
use self::storage::Storage;
use crate::time::UnixMs;

/// Names one timer: its place in the slab and that place's generation, so that the name of a timer which has
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
    levels: [Level; LEVELS],
    storage: Storage<T>,
}

impl<T: Copy> Wheel<T> {
    /// An empty wheel that stands at `now`. Allocates nothing yet.
    pub fn new(now: UnixMs) -> Wheel<T> {
        Wheel { elapsed: now.0, levels: [Level::EMPTY; LEVELS], storage: Storage::new() }
    }

    /// Adds a timer. One that is due already fires at the next [`Wheel::advance`]; any later point is allowed.
    ///
    /// # Panics
    /// With 2^32 - 1 timers; callers have bounds far below.
    pub fn insert(&mut self, at: UnixMs, value: T) -> TimerId {
        let place = Place::of(self.elapsed, at.0);
        let (index, generation) = self.storage.allocate(at.0, place, value);
        self.levels[place.level()].append(place, index, &mut self.storage);
        TimerId { index, generation }
    }

    /// Removes a timer; false when it has fired or was cancelled before.
    pub fn cancel(&mut self, id: TimerId) -> bool {
        let Some(place) = self.storage.place(id.index, id.generation) else { return false };
        self.levels[place.level()].unlink(place, id.index, &mut self.storage);
        self.storage.release(id.index);
        true
    }

    /// Appends the values of timers that are due to `out`, by rising tick; within a tick in no promised order, but
    /// the same calls always give the same one.
    ///
    /// Does at most `budget` units of work (one is a timer fired, or moved down a level), and returns true when
    /// work that is due at `now` is left: call again, with other calls in between if need be. A `now` that
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
        false
    }

    /// When [`Wheel::advance`] should be called next; `None` when there is no timer.
    ///
    /// Exact for timers of level 0; for later ones it is the start of their slot, so it may be early (then there
    /// is only moving down to do, at most five times a timer), but never late.
    pub fn next_due(&self) -> Option<UnixMs> {
        self.earliest().map(|(_, start)| UnixMs(start))
    }

    /// How many timers there are.
    pub fn len(&self) -> usize {
        self.storage.len()
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

    /// Fires up to `budget` timers of a slot of level 0; returns how many.
    fn fire(&mut self, place: Place, budget: usize, out: &mut Vec<T>) -> usize {
        let mut done = 0;
        while done < budget
            && let Some(index) = self.levels[0].pop(place, &mut self.storage)
        {
            out.push(self.storage.release(index));
            done += 1;
        }
        done
    }

    /// Moves up to `budget` timers of a slot whose time has come to lower levels; returns how many.
    fn cascade(&mut self, from: Place, budget: usize) -> usize {
        let mut done = 0;
        while done < budget
            && let Some(index) = self.levels[from.level()].pop(from, &mut self.storage)
        {
            let to = Place::of(self.elapsed, self.storage.at(index));
            debug_assert_ne!(from, to, "a timer leaves the slot whose time has come");
            self.storage.set_place(index, to);
            self.levels[to.level()].append(to, index, &mut self.storage);
            done += 1;
        }
        done
    }
}

#[cfg(test)]
#[path = "wheel_tests.rs"]
mod tests;
