//! The slab that all timers live in: doubly linked through it, freed places kept in a list. Must never move a
//! timer, nor give a freed place out under its old generation.

use super::level::Place;

/// No entry.
const NIL: u32 = u32::MAX;

/// The ends of one slot's list.
#[derive(Debug, Clone, Copy)]
pub(super) struct List {
    head: u32,
    tail: u32,
}

impl List {
    pub(super) const EMPTY: List = List { head: NIL, tail: NIL };

    pub(super) fn is_empty(self) -> bool {
        self.head == NIL
    }

    pub(super) fn first(self) -> Option<u32> {
        (!self.is_empty()).then_some(self.head)
    }
}

#[derive(Debug)]
struct Entry<T> {
    at: u64,
    value: T,
    /// Rises when the entry is freed.
    generation: u32,
    prev: u32,
    /// In a free entry: the next free one.
    next: u32,
    /// `None` when free.
    place: Option<Place>,
}

/// All entries, live and free.
#[derive(Debug)]
pub(super) struct Storage<T> {
    entries: Vec<Entry<T>>,
    free: u32,
    live: usize,
}

impl<T: Copy> Storage<T> {
    pub(super) fn new() -> Storage<T> {
        Storage { entries: Vec::new(), free: NIL, live: 0 }
    }

    pub(super) fn len(&self) -> usize {
        self.live
    }

    /// How many places there are, live and free.
    #[cfg(test)]
    pub(super) fn places(&self) -> usize {
        self.entries.len()
    }

    /// A new entry, in no list yet: its index and generation.
    pub(super) fn allocate(&mut self, at: u64, place: Place, value: T) -> (u32, u32) {
        self.live += 1;
        let place = Some(place);
        if self.free != NIL {
            let index = self.free;
            let entry = &mut self.entries[index as usize];
            self.free = entry.next;
            *entry = Entry { at, value, place, generation: entry.generation, prev: NIL, next: NIL };
            return (index, entry.generation);
        }
        let index = self.entries.len();
        assert!(index < NIL as usize, "fewer than 2^32 - 1 timers");
        self.entries.push(Entry { at, value, place, generation: 0, prev: NIL, next: NIL });
        (index as u32, 0)
    }

    /// Frees an entry that is in no list, and gives its value back.
    pub(super) fn release(&mut self, index: u32) -> T {
        let entry = &mut self.entries[index as usize];
        assert!(entry.place.take().is_some(), "only a live timer is released");
        entry.generation = entry.generation.wrapping_add(1);
        entry.next = self.free;
        self.free = index;
        self.live -= 1;
        entry.value
    }

    /// Where a live entry is; `None` when it is not this generation's any more.
    pub(super) fn place(&self, index: u32, generation: u32) -> Option<Place> {
        let entry = self.entries.get(index as usize)?;
        if entry.generation == generation { entry.place } else { None }
    }

    pub(super) fn set_place(&mut self, index: u32, place: Place) {
        self.entries[index as usize].place = Some(place);
    }

    pub(super) fn at(&self, index: u32) -> u64 {
        self.entries[index as usize].at
    }

    pub(super) fn append(&mut self, list: &mut List, index: u32) {
        let last = list.tail;
        let entry = &mut self.entries[index as usize];
        entry.prev = last;
        entry.next = NIL;
        if last == NIL {
            list.head = index;
        } else {
            self.entries[last as usize].next = index;
        }
        list.tail = index;
    }

    pub(super) fn unlink(&mut self, list: &mut List, index: u32) {
        let Entry { prev, next, .. } = self.entries[index as usize];
        if prev == NIL {
            list.head = next;
        } else {
            self.entries[prev as usize].next = next;
        }
        if next == NIL {
            list.tail = prev;
        } else {
            self.entries[next as usize].prev = prev;
        }
    }
}
