//! Fingerprints and what they stand for, in small maps: it grows by one of them at a time, so that no step moves more than
//! the keys of one, however many there are. Must never be given keys that somebody can choose: it does not hash them.
//!
//! When there are too many keys for the maps, the next one is halved (linear hashing): a map's number is the low bits of a
//! key's upper half, and one that is not halved yet is found by one bit less. Within a map the lower half says where a key
//! lies, and the highest bits tell keys apart.

use std::collections::HashMap;
use std::hash::BuildHasherDefault;

use crate::engine::hash::FingerprintHasher;
use crate::ids::Seq;

/// Keys of a map on average. One that is about to be halved has twice as many, which a table of 2,048 places has room for, and
/// the halves of it one of 1,024.
const MAP_KEYS: usize = 800;
/// Bytes of a map for each of its places: the key, what it stands for, and a byte of the map's own.
const PLACE_BYTES: usize = size_of::<(u64, Entry)>() + 1;

/// What a key stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) body: u64,
    pub(super) seq: Seq,
}

const _: () = assert!(size_of::<(u64, Entry)>() == 24);

type Map = HashMap<u64, Entry, BuildHasherDefault<FingerprintHasher>>;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Table {
    maps: Vec<Map>,
    len: usize,
    /// Bytes of the maps' tables.
    bytes: usize,
}

impl Table {
    /// How many keys it has.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Bytes of memory that it takes.
    pub(super) fn bytes(&self) -> usize {
        self.bytes + self.maps.capacity() * size_of::<Map>()
    }

    pub(super) fn find(&self, key: u64) -> Option<Entry> {
        self.maps.get(self.number_of(key))?.get(&key).copied()
    }

    /// Adds a key, or lets one that is there stand for something else.
    pub(super) fn insert(&mut self, key: u64, entry: Entry) {
        if self.maps.is_empty() {
            self.maps.push(Map::default());
        }
        let number = self.number_of(key);
        let map = &mut self.maps[number];
        let before = bytes_of(map);
        let is_new = map.insert(key, entry).is_none();
        // One that was known may have made it grow, too.
        self.bytes += bytes_of(map) - before;
        self.len += usize::from(is_new);
        if self.len > self.maps.len() * MAP_KEYS {
            self.halve_next();
        }
    }

    /// Takes a map away, with what it has; false when there is none. For a table that nobody asks any more.
    pub(super) fn drop_map(&mut self) -> bool {
        let Some(map) = self.maps.pop() else { return false };
        self.bytes -= bytes_of(&map);
        true
    }

    /// Where a key belongs; 0 while there is no map.
    fn number_of(&self, key: u64) -> usize {
        let upper = (key >> 32) as usize;
        let all = self.maps.len().next_power_of_two();
        let number = upper & (all - 1);
        // Its half was not made yet.
        if number < self.maps.len() { number } else { number & ((all - 1) >> 1) }
    }

    /// Moves half of a map into a new one.
    fn halve_next(&mut self) {
        let new = self.maps.len();
        let halved = new - (1 << new.ilog2());
        let old = std::mem::take(&mut self.maps[halved]);
        self.bytes -= bytes_of(&old);
        self.maps.push(Map::default());
        for number in [halved, new] {
            self.maps[number].reserve(old.len() / 2);
        }
        for (key, entry) in old {
            let number = self.number_of(key);
            self.maps[number].insert(key, entry);
        }
        self.bytes += [halved, new].map(|number| bytes_of(&self.maps[number])).iter().sum::<usize>();
    }
}

/// Bytes of a map's table: it has a power of two of places and keeps one in eight free.
fn bytes_of(map: &Map) -> usize {
    let places = match map.capacity() {
        few @ 0..8 => few + usize::from(few > 0),
        many => (many * 8 / 7).next_power_of_two(),
    };
    given(places * PLACE_BYTES)
}

/// What an allocator gives for so many bytes: a power of two and no, one, two or three quarters of it.
fn given(bytes: usize) -> usize {
    match bytes {
        0..8 => bytes,
        _ => bytes.next_multiple_of(1 << (bytes.ilog2() - 2)),
    }
}

#[cfg(test)]
#[path = "table_tests.rs"]
mod tests;
