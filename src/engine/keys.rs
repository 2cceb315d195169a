//! Remembered idempotency keys by day, so that old ones go together. Must never see a key itself: 64-bit
//! fingerprints, keyed with the data directory's secret, stand for (store, key) and for the body.

use std::collections::BTreeMap;

use super::io::{KeyDigest, KeyRow};
use crate::ids::Seq;
use crate::time::{Millis, UnixMs};
pub(super) use gathered::Gathered;
use table::{Entry, Table};

mod gathered;
mod table;

/// Milliseconds of a day.
const DAY: u64 = 24 * 3600 * 1000;
/// Buckets of forgotten days that are freed in one step.
const FREED_AT_ONCE: usize = 512;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Keys {
    days: BTreeMap<u64, Table>,
    /// Days that are over, on their way out of memory.
    forgotten: Vec<Table>,
}

impl Keys {
    /// How many are remembered.
    pub(super) fn len(&self) -> usize {
        self.days.values().map(Table::len).sum()
    }

    /// Bytes of memory that they take, and what is forgotten still does.
    pub(super) fn bytes(&self) -> usize {
        self.days.values().chain(&self.forgotten).map(Table::bytes).sum()
    }

    /// The body's fingerprint and the order that a key stands for. Its store is the one that asks: the key's fingerprint
    /// is of both.
    pub(super) fn find(&self, key: u64) -> Option<(u64, Seq)> {
        let entry = self.days.values().rev().find_map(|day| day.find(key))?;
        Some((entry.body, entry.seq))
    }

    pub(super) fn insert(&mut self, row: KeyRow) {
        let KeyRow { digest: KeyDigest { key, body }, order, at } = row;
        self.days.entry(at.0 / DAY).or_default().insert(key, Entry { body, seq: order.seq });
    }

    /// Forgets the days whose last instant is more than `kept` ago. Their memory is freed by [`Keys::free_some`].
    pub(super) fn forget(&mut self, now: UnixMs, kept: Millis) {
        while let Some(day) = self.days.first_entry() {
            if (day.key() + 1) * DAY + kept.0 > now.0 {
                return;
            }
            self.forgotten.push(day.remove());
        }
    }

    /// Whether something is forgotten that still takes memory.
    pub(super) fn is_freeing(&self) -> bool {
        !self.forgotten.is_empty()
    }

    /// Frees a part of what is forgotten.
    pub(super) fn free_some(&mut self) {
        for _ in 0..FREED_AT_ONCE {
            let Some(day) = self.forgotten.last_mut() else { return };
            if !day.drop_bucket() {
                self.forgotten.pop();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{OrderId, StoreId, mix};

    const ORDER: OrderId = OrderId { store: StoreId(1), seq: Seq(64) };

    fn row(key: u64, body: u64, at: u64) -> KeyRow {
        KeyRow { digest: KeyDigest { key, body }, order: ORDER, at: UnixMs(at) }
    }

    #[test]
    fn whole_days_are_forgotten() {
        let mut keys = Keys::default();
        (0..10).for_each(|day| keys.insert(row(100 + day, day, day * DAY + 5)));
        keys.forget(UnixMs(9 * DAY), Millis(8 * DAY));
        assert_eq!(keys.find(100), None);
        assert_eq!(keys.find(101), Some((1, ORDER.seq)));
        assert_eq!(keys.len(), 9);
        keys.forget(UnixMs(99 * DAY), Millis(8 * DAY));
        assert_eq!(keys.len(), 0);
    }

    #[test]
    fn a_key_that_is_known_is_counted_once() {
        let mut keys = Keys::default();
        for key in 0..100 {
            keys.insert(row(key, 1, 5));
            keys.insert(row(7, 2, 6));
        }
        assert_eq!(keys.len(), 100);
        assert_eq!(keys.find(7), Some((2, ORDER.seq)));
    }

    #[test]
    fn memory_of_a_forgotten_day_is_freed_step_by_step() {
        let mut keys = Keys::default();
        (0..200_000).for_each(|key| keys.insert(row(mix(key), key, 5)));
        let whole = keys.bytes();
        assert!(!keys.is_freeing());
        keys.forget(UnixMs(99 * DAY), Millis(DAY));
        assert_eq!((keys.len(), keys.bytes()), (0, whole), "nothing is freed yet");
        keys.free_some();
        assert!(keys.is_freeing() && keys.bytes() < whole && keys.bytes() > whole / 2);
        while keys.is_freeing() {
            keys.free_some();
        }
        assert_eq!(keys.bytes(), 0);
    }
}
