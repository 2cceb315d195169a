//! The timers of one slot, first come, first out. Must never look at a timer's value.

use std::collections::VecDeque;

use super::TimerId;

/// Timers side by side. A few cache lines: long enough to be read at the speed of memory, short enough for a slot with one.
/// Few in tests, so that they have slots of several.
pub(super) const BLOCK: usize = if cfg!(test) { 4 } else { 32 };
/// Blocks that a slot keeps room for at the least.
const KEPT_BLOCKS: usize = 16;

/// A timer as it stands in a slot. Cancelled ones stay, until somebody comes along and finds their name ended.
#[derive(Debug, Clone, Copy)]
pub(super) struct Timer<T> {
    pub(super) at: u64,
    pub(super) value: T,
    pub(super) id: TimerId,
}

/// A queue that grows without moving what is in it, and gives memory back as it shrinks, all but one block.
#[derive(Debug)]
pub(super) struct Slot<T> {
    /// All but the last are full; none is empty but an only one.
    blocks: VecDeque<Vec<Timer<T>>>,
    /// Timers of the first block that have left.
    gone: usize,
}

impl<T: Copy> Slot<T> {
    pub(super) const EMPTY: Slot<T> = Slot { blocks: VecDeque::new(), gone: 0 };

    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.blocks.front().is_none_or(Vec::is_empty)
    }

    /// How many timers there are, cancelled ones among them.
    pub(super) fn len(&self) -> usize {
        let last = self.blocks.back().map_or(0, Vec::len);
        self.blocks.len().saturating_sub(1) * BLOCK + last - self.gone
    }

    #[inline]
    pub(super) fn push(&mut self, timer: Timer<T>) {
        match self.blocks.back_mut() {
            Some(last) if last.len() < BLOCK => last.push(timer),
            _ => self.push_block(timer),
        }
    }

    #[cold]
    fn push_block(&mut self, timer: Timer<T>) {
        let mut block = Vec::with_capacity(BLOCK);
        block.push(timer);
        self.blocks.push_back(block);
    }

    #[inline]
    pub(super) fn pop(&mut self) -> Option<Timer<T>> {
        let first = self.blocks.front()?;
        let timer = *first.get(self.gone)?;
        self.gone += 1;
        if self.gone == first.len() {
            self.gone = 0;
            self.drop_first();
        }
        Some(timer)
    }

    /// Drops what does not stand from the first block; what does goes to the back. How many were looked at, and how many dropped.
    pub(super) fn tidy_first(&mut self, stands: impl Fn(TimerId) -> bool) -> (usize, usize) {
        let Some(mut block) = self.blocks.pop_front() else { return (0, 0) };
        block.drain(..std::mem::take(&mut self.gone));
        let seen = block.len();
        let mut stood = 0;
        if self.blocks.is_empty() {
            block.retain(|timer| stands(timer.id));
            stood = block.len();
            self.blocks.push_back(block);
        } else {
            for timer in block {
                if stands(timer.id) {
                    stood += 1;
                    self.push(timer);
                }
            }
        }
        self.shrink();
        (seen, seen - stood)
    }

    /// The first block is worked off.
    fn drop_first(&mut self) {
        if self.blocks.len() == 1 {
            self.blocks[0].clear();
        } else {
            self.blocks.pop_front();
        }
        self.shrink();
    }

    fn shrink(&mut self) {
        let (length, room) = (self.blocks.len(), self.blocks.capacity());
        if room > KEPT_BLOCKS && length < room / 4 {
            self.blocks.shrink_to(KEPT_BLOCKS.max(2 * length));
        }
    }
}
