//! One level of the wheel: 64 slots and which of them hold timers. Must never look at a timer's value.

use super::storage::{List, Storage};

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
    /// Where a timer for the tick `at` belongs when the wheel stands at `elapsed`.
    ///
    /// Never the slot of `elapsed` itself, except in level 0 for what is due.
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
}

/// How many bits of a tick lie below a level's digit.
fn shift(level: usize) -> u32 {
    DIGIT_BITS * level as u32
}

/// 64 slots; bit n of `occupied` is set while slot n holds a timer.
#[derive(Debug)]
pub(super) struct Level {
    occupied: u64,
    slots: [List; SLOTS],
}

impl Level {
    pub(super) const EMPTY: Level = Level { occupied: 0, slots: [List::EMPTY; SLOTS] };

    /// The first slot with timers, going round from where `elapsed` stands, and the tick at which it starts.
    pub(super) fn earliest(&self, number: usize, elapsed: u64) -> Option<(Place, u64)> {
        if self.occupied == 0 {
            return None;
        }
        let here = elapsed >> shift(number);
        let ahead = self.occupied.rotate_right((here & SLOT_MASK) as u32).trailing_zeros();
        let turn = here + u64::from(ahead);
        Some((Place { level: number as u8, slot: (turn & SLOT_MASK) as u8 }, turn << shift(number)))
    }

    pub(super) fn append<T: Copy>(&mut self, place: Place, index: u32, storage: &mut Storage<T>) {
        storage.append(&mut self.slots[place.slot()], index);
        self.occupied |= 1 << place.slot;
    }

    pub(super) fn unlink<T: Copy>(&mut self, place: Place, index: u32, storage: &mut Storage<T>) {
        let list = &mut self.slots[place.slot()];
        storage.unlink(list, index);
        if list.is_empty() {
            self.occupied &= !(1 << place.slot);
        }
    }

    /// Takes the first timer out of a slot.
    pub(super) fn pop<T: Copy>(&mut self, place: Place, storage: &mut Storage<T>) -> Option<u32> {
        let index = self.slots[place.slot()].first()?;
        self.unlink(place, index, storage);
        Some(index)
    }
}
