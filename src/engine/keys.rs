//! Remembered idempotency keys by day, so that old ones go as whole maps. Must never see a key itself: 64-bit
//! fingerprints, keyed with the data directory's secret, stand for (store, key) and for the body.

use std::collections::BTreeMap;

use super::hash::FingerprintMap;
use super::io::{KeyDigest, KeyRow};
use crate::ids::Seq;
use crate::time::{Millis, UnixMs};

/// Milliseconds of a day.
const DAY: u64 = 24 * 3600 * 1000;
/// Maps of one day: growing one of them moves few keys, so that no step is long.
const PARTS: usize = 64;
/// Bytes of a map for each of its places: the key, what it stands for, and a byte of the map's own.
const PLACE_BYTES: usize = size_of::<(u64, Entry)>() + 1;

/// What a key stands for.
#[derive(Debug, Clone, Copy)]
struct Entry {
    body: u64,
    seq: Seq,
}

const _: () = assert!(size_of::<(u64, Entry)>() == 24);

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Keys {
    days: BTreeMap<u64, Vec<FingerprintMap<Entry>>>,
    len: usize,
    bytes: usize,
}

impl Keys {
    /// How many are remembered.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Bytes of memory that the maps take.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// The body's fingerprint and the order that a key stands for. Its store is the one that asks: the key's fingerprint
    /// is of both.
    pub(super) fn find(&self, key: u64) -> Option<(u64, Seq)> {
        let part = key as usize % PARTS;
        let entry = self.days.values().rev().find_map(|day| day[part].get(&key))?;
        Some((entry.body, entry.seq))
    }

    pub(super) fn insert(&mut self, row: KeyRow) {
        let KeyRow { digest: KeyDigest { key, body }, order, at } = row;
        let day = self.days.entry(at.0 / DAY).or_insert_with(|| vec![FingerprintMap::default(); PARTS]);
        let map = &mut day[key as usize % PARTS];
        let before = bytes_of(map);
        let is_new = map.insert(key, Entry { body, seq: order.seq }).is_none();
        self.len += usize::from(is_new);
        // One that was known may have made it grow, too.
        self.bytes += bytes_of(map) - before;
    }

    /// Forgets the days whose last instant is more than `kept` ago.
    pub(super) fn forget(&mut self, now: UnixMs, kept: Millis) {
        while let Some(day) = self.days.first_entry() {
            if (day.key() + 1) * DAY + kept.0 > now.0 {
                return;
            }
            for map in day.remove() {
                self.len -= map.len();
                self.bytes -= bytes_of(&map);
            }
        }
    }
}

/// Bytes of a map's table: it has a power of two of places and keeps one in eight free.
fn bytes_of(map: &FingerprintMap<Entry>) -> usize {
    let places = match map.capacity() {
        few @ 0..8 => few + usize::from(few > 0),
        many => (many * 8 / 7).next_power_of_two(),
    };
    places * PLACE_BYTES
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{OrderId, StoreId};

    #[test]
    fn whole_days_are_forgotten() {
        let mut keys = Keys::default();
        let order = OrderId { store: StoreId(1), seq: Seq(64) };
        for day in 0..10 {
            let digest = KeyDigest { key: 100 + day, body: day };
            keys.insert(KeyRow { digest, order, at: UnixMs(day * DAY + 5) });
        }
        keys.forget(UnixMs(9 * DAY), Millis(8 * DAY));
        assert_eq!(keys.find(100), None);
        assert_eq!(keys.find(101), Some((1, order.seq)));
        assert_eq!(keys.len(), 9);
        keys.forget(UnixMs(99 * DAY), Millis(8 * DAY));
        assert_eq!((keys.len(), keys.bytes()), (0, 0));
    }

    #[test]
    fn a_key_that_is_known_is_counted_once_and_its_table_whole() {
        let mut keys = Keys::default();
        let order = OrderId { store: StoreId(1), seq: Seq(64) };
        let mut insert = |key| {
            keys.insert(KeyRow { digest: KeyDigest { key, body: 1 }, order, at: UnixMs(5) });
        };
        // All of them in one map, which is full again and again.
        for key in (0..100).map(|n| n * PARTS as u64) {
            insert(key);
            insert(0);
        }
        assert_eq!(keys.len(), 100);
        assert_eq!(keys.bytes(), keys.days[&0].iter().map(bytes_of).sum::<usize>());
        keys.forget(UnixMs(99 * DAY), Millis(DAY));
        assert_eq!((keys.len(), keys.bytes()), (0, 0));
    }

    #[test]
    fn tables_are_as_large_as_they_are_said_to_be() {
        let mut map = FingerprintMap::default();
        assert_eq!(bytes_of(&map), 0);
        for key in 0..100_000_u64 {
            map.insert(key << 7, Entry { body: key, seq: Seq(1) });
            let places = bytes_of(&map) / PLACE_BYTES;
            assert!(places.is_power_of_two() && map.len() <= places, "{places} for {}", map.len());
            // It doubled when it was seven eighths full: four times its keys are as many as it ever has room for.
            assert!(places <= 4.max(map.len() * 16 / 7 + 2), "{places} for {}", map.len());
        }
    }
}
