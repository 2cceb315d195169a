//! Remembered idempotency keys by day, so that old ones go together. Must never see a key itself: fingerprints, keyed with the
//! data directory's secret, stand for (store, key) and for the body. 64 bits of a key's are kept, so that a new one is not taken for
//! another; 28 of a body's: of 268 million orders that come under another order's key, one is taken for that order and not refused.

use std::collections::BTreeMap;

use super::io::{KeyDigest, KeyRow};
use crate::ids::Seq;
use crate::limits::SHARDS_MAX;
use crate::time::{Millis, UnixMs};
pub(super) use gathered::Gathered;
use table::{BODY_BITS, Entry, STRIDE_BITS, Table};

mod chunked;
mod gathered;
mod table;

/// Milliseconds of a day.
const DAY: u64 = 24 * 3600 * 1000;
/// Pieces of forgotten tables that are freed in one step, of some 4,000 keys each.
const FREED_AT_ONCE: usize = 8;

/// What is the same for all keys of a table. Each start begins with seqs of its time, 64,000 for each millisecond, so those of a
/// day's starts lie in two or three of these, however many starts there are, and those of the run before them in one more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Span {
    day: u64,
    /// The strides of 19 hours' seqs.
    strides: u64,
    /// The desk that gave the seqs out: another one only where the number of shards was changed.
    desk: u64,
}

impl Span {
    /// The span of a row and the stride of its order in it.
    fn of(row: &KeyRow) -> (Span, u64) {
        let (stride, desk) =
            (row.order.seq.0 / u64::from(SHARDS_MAX), row.order.seq.0 % u64::from(SHARDS_MAX));
        let span = Span { day: row.at.0 / DAY, strides: stride >> STRIDE_BITS, desk };
        (span, stride & ((1 << STRIDE_BITS) - 1))
    }

    fn seq(self, stride: u64) -> Seq {
        Seq((self.strides << STRIDE_BITS | stride) * u64::from(SHARDS_MAX) + self.desk)
    }
}

/// What is known of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Known {
    /// The order that it stands for. Its store is the one that asks: the key's fingerprint is of both.
    pub(super) seq: Seq,
    /// Whether the body is that order's, as far as its bits tell that are kept.
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

    /// The latest day counts, and in a day the highest seqs, which are of the later order.
    pub(super) fn find(&self, digest: KeyDigest) -> Option<Known> {
        let mut newest_first = self.spans.iter().rev();
        let (span, entry) = newest_first.find_map(|(span, table)| Some((span, table.find(digest.key)?)))?;
        let same_body = entry.body == kept_of_body(digest.body);
        Some(Known { seq: span.seq(entry.stride), same_body })
    }

    /// A look at where a key is, or will be, for [`touch`](crate::prefetch::touch).
    pub(super) fn look_at(&self, digest: KeyDigest) -> u64 {
        self.spans.values().fold(0, |all, table| all ^ table.look_at(digest.key))
    }

    pub(super) fn insert(&mut self, row: KeyRow) {
        let (span, stride) = Span::of(&row);
        let KeyDigest { key, body } = row.digest;
        let table = self.spans.entry(span).or_default();
        table.insert(key, Entry { body: kept_of_body(body), stride });
    }

    /// Has buckets for these rows, which come in any order.
    fn prepare_for<'r>(&mut self, rows: impl Iterator<Item = &'r KeyRow>) {
        let mut coming: BTreeMap<Span, usize> = BTreeMap::new();
        rows.for_each(|row| *coming.entry(Span::of(row).0).or_default() += 1);
        for (span, count) in coming {
            self.spans.entry(span).or_default().prepare_for(count);
        }
    }

    /// Forgets the days whose last instant is more than `kept` ago. Their memory is freed by [`Keys::free_some`].
    pub(super) fn forget(&mut self, now: UnixMs, kept: Millis) {
        while let Some(first) = self.spans.first_entry() {
            // A row at rest may name any day.
            let end = (first.key().day + 1).saturating_mul(DAY);
            if end.saturating_add(kept.0) > now.0 {
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
        for _ in 0..FREED_AT_ONCE {
            let Some(table) = self.forgotten.last_mut() else { return };
            if !table.drop_some() {
                self.forgotten.pop();
            }
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
        let many = 1 << STRIDE_BITS;
        let seqs = [64, many * 64 - 64, many * 64, many * 5 * 64 + 63, u64::MAX].map(Seq);
        for (seq, key) in seqs.into_iter().zip(0..) {
            keys.insert(KeyRow { order: OrderId { seq, ..ORDER }, ..row(key, 3, 5) });
        }
        for (seq, key) in seqs.into_iter().zip(0..) {
            assert_eq!(keys.find(digest(key, 3)), known(seq, true));
        }
        keys.forget(UnixMs(99 * DAY), Millis(DAY));
        assert_eq!((keys.len(), keys.forgotten.len()), (0, 4), "all of a day, of each span");
    }

    #[test]
    fn a_day_of_many_starts_has_few_tables() {
        let mut keys = Keys::default();
        for start in 0..200 {
            let at = 400 * DAY + start * DAY / 200;
            let seq = Seq(at * 64_000 + 1);
            keys.insert(KeyRow { order: OrderId { seq, ..ORDER }, ..row(mix(start), 1, at) });
        }
        assert_eq!(keys.len(), 200);
        assert!(keys.spans.len() <= 3, "{} tables", keys.spans.len());
    }

    #[test]
    fn the_latest_day_counts() {
        let mut keys = Keys::default();
        let later = Seq(ORDER.seq.0 + 640);
        keys.insert(KeyRow { order: OrderId { seq: later, ..ORDER }, ..row(7, 2, 3 * DAY) });
        keys.insert(row(7, 1, 2 * DAY));
        assert_eq!(keys.find(digest(7, 2)), known(later, true));
        keys.insert(KeyRow { order: OrderId { seq: Seq(64 << STRIDE_BITS), ..ORDER }, ..row(7, 3, 3 * DAY) });
        assert_eq!(
            keys.find(digest(7, 3)),
            known(Seq(64 << STRIDE_BITS), true),
            "and in it the highest seqs"
        );
    }

    #[test]
    fn a_body_is_told_by_28_bits() {
        let mut keys = Keys::default();
        keys.insert(row(7, u64::MAX, 5));
        let same = |bit: u32| keys.find(digest(7, u64::MAX ^ (1_u64 << bit))).map(|known| known.same_body);
        assert!((0..28).all(|bit| same(bit) == Some(false)));
        assert!((28..64).all(|bit| same(bit) == Some(true)));
    }

    #[test]
    fn the_last_day_that_there_is_does_not_end_at_the_first_instant() {
        let mut keys = Keys::default();
        keys.insert(row(1, 1, u64::MAX));
        keys.forget(UnixMs(u64::MAX - 1), Millis(DAY));
        assert_eq!(keys.len(), 1);
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
