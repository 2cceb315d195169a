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
}

impl Keys {
    /// How many are remembered.
    pub(super) fn len(&self) -> usize {
        self.len
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
        let entry = Entry { body, seq: order.seq };
        if day[key as usize % PARTS].insert(key, entry).is_none() {
            self.len += 1;
        }
    }

    /// Forgets the days whose last instant is more than `kept` ago.
    pub(super) fn forget(&mut self, now: UnixMs, kept: Millis) {
        while let Some(day) = self.days.first_entry() {
            if (day.key() + 1) * DAY + kept.0 > now.0 {
                return;
            }
            self.len -= day.remove().iter().map(FingerprintMap::len).sum::<usize>();
        }
    }
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
    }
}
