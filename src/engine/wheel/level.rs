//! One level of the wheel: 64 slots and which of them hold timers. Must never look at a timer's value.

use super::TimerId;
use super::slot::{Slot, Timer};

/// Bits of a digit: each level has 64 slots, one bit of a `u64` each.
const DIGIT_BITS: u32 = 6;
const SLOTS: usize = 1 << DIGIT_BITS;
const SLOT_MASK: u64 = SLOTS as u64 - 1;
/// 6 levels span 2^36 ms.
pub(super) const LEVELS: usize = 6;
const TOP: usize = LEVELS - 1;

const _: () = assert!(SLOTS == u64::BITS as usize);
const _: () = assert!((SLOT_MASK << (DIGIT_BITS * TOP as u32)) > crate::limits::AHEAD_MS_MAX);

/// A slot of a level.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    level: u8,
    slot: u8,
}

impl Place {
    /// The first slot of the lowest level.
    pub(super) const FIRST: Place = Place { level: 0, slot: 0 };

    /// Where a timer for the tick `at` belongs when the wheel stands at `elapsed`.
    ///
    /// Never the slot of `elapsed` itself, except in level 0 for what is due.
    #[inline]
    pub(super) fn of(elapsed: u64, at: u64) -> Place {
        let at = at.max(elapsed);
        let digit = (elapsed ^ at).checked_ilog2().unwrap_or(0) / DIGIT_BITS;
        let level = TOP.min(digit as usize);
        let mut turn = at >> shift(level);
        if level == TOP {
            turn = turn.min((elapsed >> shift(TOP)) + SLOT_MASK);
        }
        Place { level: level as u8, slot: (turn & SLOT_MASK) as u8 }
    }

    pub(super) fn level(self) -> usize {
        usize::from(self.level)
    }

    fn slot(self) -> usize {
        usize::from(self.slot)
    }

    /// The slot after this one, in all levels one after the other, and around.
    pub(super) fn next(self) -> Place {
        let next = (self.level() * SLOTS + self.slot() + 1) % (LEVELS * SLOTS);
        Place { level: (next / SLOTS) as u8, slot: (next % SLOTS) as u8 }
    }
}

/// How many bits of a tick lie below a level's digit.
fn shift(level: usize) -> u32 {
    DIGIT_BITS * level as u32
}

/// 64 slots; bit n of `occupied` is set while slot n holds a timer, be it a cancelled one.
#[derive(Debug)]
pub(super) struct Level<T> {
    occupied: u64,
    slots: [Slot<T>; SLOTS],
}

impl<T: Copy> Level<T> {
    pub(super) const EMPTY: Level<T> = Level { occupied: 0, slots: [const { Slot::EMPTY }; SLOTS] };

    /// The first slot with timers, going round from where `elapsed` stands, and the tick at which it starts.
    #[inline]
    pub(super) fn earliest(&self, number: usize, elapsed: u64) -> Option<(Place, u64)> {
        if self.occupied == 0 {
            return None;
        }
        let here = elapsed >> shift(number);
        let ahead = self.occupied.rotate_right((here & SLOT_MASK) as u32).trailing_zeros();
        let turn = here + u64::from(ahead);
        Some((Place { level: number as u8, slot: (turn & SLOT_MASK) as u8 }, turn << shift(number)))
    }

    /// How many timers a slot has, cancelled ones among them.
    pub(super) fn len(&self, place: Place) -> usize {
        self.slots[place.slot()].len()
    }

    #[inline]
    pub(super) fn push(&mut self, place: Place, timer: Timer<T>) {
        self.slots[place.slot()].push(timer);
        self.occupied |= 1 << place.slot;
    }

    /// Drops some of what does not stand from a slot: how many timers were looked at, and how many dropped.
    pub(super) fn tidy(&mut self, place: Place, stands: impl Fn(TimerId) -> bool) -> (usize, usize) {
        let slot = &mut self.slots[place.slot()];
        let found = slot.tidy_first(stands);
        if slot.is_empty() {
            self.occupied &= !(1 << place.slot);
        }
        found
    }

    /// Takes the first timer out of a slot.
    #[inline]
    pub(super) fn pop(&mut self, place: Place) -> Option<Timer<T>> {
        let slot = &mut self.slots[place.slot()];
        let timer = slot.pop()?;
        if slot.is_empty() {
            self.occupied &= !(1 << place.slot);
        }
        Some(timer)
    }
}
