//! Values at stable places numbered by `u32`. Grows by chunks, so that growing never copies what is there and
//! never doubles the memory; never shrinks.

use std::ops::{Index, IndexMut};

/// Places in one chunk.
const CHUNK: usize = 4096;

/// A slab.
#[derive(Debug)]
pub(super) struct Slab<T> {
    chunks: Vec<Vec<Option<T>>>,
    free: Vec<u32>,
    len: usize,
}

impl<T> Slab<T> {
    pub(super) fn new() -> Slab<T> {
        Slab { chunks: Vec::new(), free: Vec::new(), len: 0 }
    }

    /// How many values there are.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Puts a value at a free place and names it.
    ///
    /// # Panics
    /// With 2^32 values; `live_max` lies far below.
    pub(super) fn insert(&mut self, value: T) -> u32 {
        self.len += 1;
        if let Some(slot) = self.free.pop() {
            self.chunks[slot as usize / CHUNK][slot as usize % CHUNK] = Some(value);
            return slot;
        }
        if self.chunks.last().is_none_or(|chunk| chunk.len() == CHUNK) {
            self.chunks.push(Vec::with_capacity(CHUNK));
        }
        let before = (self.chunks.len() - 1) * CHUNK;
        let chunk = self.chunks.last_mut().expect("a chunk with room was just made sure of");
        let slot = u32::try_from(before + chunk.len()).expect("a slab has fewer than 2^32 places");
        chunk.push(Some(value));
        slot
    }

    /// Takes the value out and frees its place.
    pub(super) fn remove(&mut self, slot: u32) -> Option<T> {
        let value = self.chunks.get_mut(slot as usize / CHUNK)?.get_mut(slot as usize % CHUNK)?.take()?;
        self.free.push(slot);
        self.len -= 1;
        Some(value)
    }

    /// All places that there are by now, in the order in which they lie in memory; some may be free.
    pub(super) fn places(&self) -> std::ops::Range<u32> {
        let last = self.chunks.last().map_or(0, Vec::len);
        let places = self.chunks.len().saturating_sub(1) * CHUNK + last;
        0..u32::try_from(places).expect("a slab has fewer than 2^32 places")
    }

    /// All values.
    #[cfg(test)]
    pub(super) fn iter(&self) -> impl Iterator<Item = &T> {
        self.chunks.iter().flatten().flatten()
    }

    pub(super) fn get(&self, slot: u32) -> Option<&T> {
        self.chunks.get(slot as usize / CHUNK)?.get(slot as usize % CHUNK)?.as_ref()
    }
}

impl<T> Index<u32> for Slab<T> {
    type Output = T;
    fn index(&self, slot: u32) -> &T {
        self.chunks[slot as usize / CHUNK][slot as usize % CHUNK].as_ref().expect("a slot in use")
    }
}

impl<T> IndexMut<u32> for Slab<T> {
    fn index_mut(&mut self, slot: u32) -> &mut T {
        self.chunks[slot as usize / CHUNK][slot as usize % CHUNK].as_mut().expect("a slot in use")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_all_that_there_are() {
        let mut slab = Slab::new();
        for count in 0..2 * CHUNK as u32 + 2 {
            assert_eq!(slab.places(), 0..count);
            slab.insert(());
        }
        slab.remove(7);
        assert_eq!(slab.places(), 0..2 * CHUNK as u32 + 2, "free ones, too");
    }

    #[test]
    fn places_are_stable_and_used_again() {
        let mut slab = Slab::new();
        let slots: Vec<u32> = (0..2 * CHUNK as u32 + 1).map(|n| slab.insert(n)).collect();
        assert_eq!(slab[slots[CHUNK]], CHUNK as u32);
        assert_eq!(slab.remove(slots[5]), Some(5));
        assert_eq!(slab.remove(slots[5]), None);
        assert_eq!(slab.get(slots[5]), None);
        assert_eq!(slab.insert(99), slots[5]);
        assert_eq!(slab.len(), 2 * CHUNK + 1);
    }
}
