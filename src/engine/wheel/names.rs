//! Which names of timers are in use. Must never give one out twice.

use super::TimerId;

/// The generation of every place, used or free, and which places are free.
#[derive(Debug)]
pub(super) struct Names {
    /// Rises when the place is freed.
    generations: Vec<u32>,
    free: Vec<u32>,
}

impl Names {
    pub(super) fn new() -> Names {
        Names { generations: Vec::new(), free: Vec::new() }
    }

    /// How many names are in use.
    #[inline]
    pub(super) fn len(&self) -> usize {
        self.generations.len() - self.free.len()
    }

    /// How many places there are, used and free.
    #[cfg(test)]
    pub(super) fn places(&self) -> usize {
        self.generations.len()
    }

    /// A name that nobody had before.
    #[inline]
    pub(super) fn take(&mut self) -> TimerId {
        if let Some(index) = self.free.pop() {
            return TimerId { index, generation: self.generations[index as usize] };
        }
        let index = u32::try_from(self.generations.len()).expect("there are at most 2^32 timers");
        self.generations.push(0);
        TimerId { index, generation: 0 }
    }

    #[inline]
    pub(super) fn is_used(&self, id: TimerId) -> bool {
        self.generations.get(id.index as usize).is_some_and(|generation| *generation == id.generation)
    }

    /// Ends a name; false when it had ended before.
    #[inline]
    pub(super) fn end(&mut self, id: TimerId) -> bool {
        let used = self.is_used(id);
        if used {
            self.generations[id.index as usize] = id.generation.wrapping_add(1);
            self.free.push(id.index);
        }
        used
    }
}
