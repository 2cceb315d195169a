//! Remembered idempotency keys by day, so that old ones go together. Must never see a key itself: fingerprints, keyed with the
//! data directory's secret, stand for (store, key) and for the body. 64 bits of a key's are kept, so that a new one is not taken for
//! another; 28 of a body's, so that of 268 million orders sent by mistake under a key of another one is not told.

use std::collections::BTreeMap;

use super::io::{KeyDigest, KeyRow};
use crate::ids::Seq;
use crate::time::{Millis, UnixMs};
pub(super) use gathered::Gathered;
use table::{BODY_BITS, Entry, SEQ_BITS, Table};

mod chunked;
mod gathered;
mod table;

/// Milliseconds of a day.
const DAY: u64 = 24 * 3600 * 1000;

/// What is the same for all keys of a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Span {
    day: u64,
    /// Bits of the orders' seqs that the table does not keep: nearly always the same on all days.
    seq_upper: u64,
}

impl Span {
    fn of(row: &KeyRow) -> Span {
        Span { day: row.at.0 / DAY, seq_upper: row.order.seq.0 >> SEQ_BITS }
    }
}

/// What is known of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Known {
    /// The order that it stands for. Its store is the one that asks: the key's fingerprint is of both.
    pub(super) seq: Seq,
    /// Whether the body is that order's.
    pub(super) same_body: bool,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Keys {
    spans: BTreeMap<Span, Table>,
    /// Those of days that are over, on their way out of memory.
    forgotten: Vec<Table>,
}

impl Keys {
    /// How many are remembered.
    pub(super) fn len(&self) -> usize {
        self.spans.values().map(Table::len).sum()
    }

    /// Bytes of memory that they take, and what is forgotten still does.
    pub(super) fn bytes(&self) -> usize {
        self.spans.values().chain(&self.forgotten).map(Table::bytes).sum()
    }

    pub(super) fn find(&self, digest: KeyDigest) -> Option<Known> {
        let newest_first = self.spans.iter().rev();
        newest_first.filter_map(|(span, table)| Some((span, table.find(digest.key)?))).next().map(
            |(span, entry)| Known {
                seq: Seq(span.seq_upper << SEQ_BITS | entry.seq.0),
                same_body: entry.body == kept_of_body(digest.body),
            },
        )
    }

    pub(super) fn insert(&mut self, row: KeyRow) {
        let KeyDigest { key, body } = row.digest;
        let seq = Seq(row.order.seq.0 & ((1 << SEQ_BITS) - 1));
        let table = self.spans.entry(Span::of(&row)).or_default();
        table.insert(key, Entry { body: kept_of_body(body), seq });
    }

    /// Has buckets for these rows, which come in any order.
    fn prepare_for<'r>(&mut self, rows: impl Iterator<Item = &'r KeyRow>) {
        let mut coming: BTreeMap<Span, usize> = BTreeMap::new();
        rows.for_each(|row| *coming.entry(Span::of(row)).or_default() += 1);
        for (span, count) in coming {
            self.spans.entry(span).or_default().prepare_for(count);
        }
    }

    /// Forgets the days whose last instant is more than `kept` ago. Their memory is freed by [`Keys::free_some`].
    pub(super) fn forget(&mut self, now: UnixMs, kept: Millis) {
        while let Some(first) = self.spans.first_entry() {
            if (first.key().day + 1) * DAY + kept.0 > now.0 {
                return;
            }
            self.forgotten.push(first.remove());
        }
    }

    /// Whether something is forgotten that still takes memory.
    pub(super) fn is_freeing(&self) -> bool {
        !self.forgotten.is_empty()
    }

    /// Frees a part of what is forgotten.
    pub(super) fn free_some(&mut self) {
        let Some(table) = self.forgotten.last_mut() else { return };
        if !table.drop_some() {
            self.forgotten.pop();
        }
    }
}

/// The part of a body's fingerprint that is kept.
fn kept_of_body(body: u64) -> u32 {
    (body & ((1 << BODY_BITS) - 1)) as u32
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{OrderId, StoreId, mix};

    const ORDER: OrderId = OrderId { store: StoreId(1), seq: Seq(64) };

    fn digest(key: u64, body: u64) -> KeyDigest {
        KeyDigest { key, body }
    }

    fn row(key: u64, body: u64, at: u64) -> KeyRow {
        KeyRow { digest: digest(key, body), order: ORDER, at: UnixMs(at) }
    }

    fn known(seq: Seq, same_body: bool) -> Option<Known> {
        Some(Known { seq, same_body })
    }

    #[test]
    fn whole_days_are_forgotten() {
        let mut keys = Keys::default();
        (0..10).for_each(|day| keys.insert(row(100 + day, day, day * DAY + 5)));
        keys.forget(UnixMs(9 * DAY), Millis(8 * DAY));
        assert_eq!(keys.find(digest(100, 0)), None);
        assert_eq!(keys.find(digest(101, 1)), known(ORDER.seq, true));
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
        assert_eq!(keys.find(digest(7, 2)), known(ORDER.seq, true));
        assert_eq!(keys.find(digest(7, 1)), known(ORDER.seq, false), "what it was before");
    }

    #[test]
    fn seqs_however_large_are_whole() {
        let mut keys = Keys::default();
        let seqs = [64, (1 << SEQ_BITS) - 64, 1 << SEQ_BITS, (5 << SEQ_BITS) + 64, u64::MAX].map(Seq);
        for (seq, key) in seqs.into_iter().zip(0..) {
            keys.insert(KeyRow { order: OrderId { seq, ..ORDER }, ..row(key, 3, 5) });
        }
        for (seq, key) in seqs.into_iter().zip(0..) {
            assert_eq!(keys.find(digest(key, 3)), known(seq, true));
        }
        keys.forget(UnixMs(99 * DAY), Millis(DAY));
        assert_eq!((keys.len(), keys.forgotten.len()), (0, 4), "all of a day, of each span of seqs");
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
