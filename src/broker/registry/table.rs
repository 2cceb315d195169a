//! A map by number that anybody reads without waiting and one thread writes.
//!
//! Each of its parts is an immutable map that a change replaces, so a change copies one part and not everything.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use arc_swap::ArcSwap;

use crate::ids::NumberMap;

/// Parts. A power of two; with a million rows a change copies 4,000 of them.
const PARTS: usize = 256;

/// See the module.
#[derive(Debug)]
pub(super) struct Table<V> {
    parts: Box<[ArcSwap<NumberMap<u32, V>>]>,
    rows: AtomicUsize,
}

impl<V: Clone> Table<V> {
    /// A table with these rows.
    pub(super) fn new(rows: impl IntoIterator<Item = (u32, V)>) -> Table<V> {
        let mut parts: Vec<NumberMap<u32, V>> = (0..PARTS).map(|_| NumberMap::default()).collect();
        for (id, row) in rows {
            parts[id as usize % PARTS].insert(id, row);
        }
        let rows = AtomicUsize::new(parts.iter().map(NumberMap::len).sum());
        Table { parts: parts.into_iter().map(ArcSwap::from_pointee).collect(), rows }
    }

    /// The row with this number.
    pub(super) fn find(&self, id: u32) -> Option<V> {
        self.look_at(id, V::clone)
    }

    /// Something about the row with this number, without a copy of it.
    pub(super) fn look_at<T>(&self, id: u32, look: impl FnOnce(&V) -> T) -> Option<T> {
        self.parts[id as usize % PARTS].load().get(&id).map(look)
    }

    /// How many rows there are.
    pub(super) fn len(&self) -> usize {
        self.rows.load(Ordering::Relaxed)
    }

    /// All rows, by number.
    pub(super) fn all(&self) -> Vec<V> {
        let parts: Vec<Arc<NumberMap<u32, V>>> = self.parts.iter().map(ArcSwap::load_full).collect();
        let mut rows: Vec<(u32, &V)> =
            parts.iter().flat_map(|part| part.iter()).map(|(id, v)| (*id, v)).collect();
        rows.sort_unstable_by_key(|(id, _)| *id);
        rows.into_iter().map(|(_, row)| row.clone()).collect()
    }

    /// Applies changes in order (`None` removes). Only one thread may call this at a time.
    pub(super) fn change(&self, changes: impl IntoIterator<Item = (u32, Option<V>)>) {
        let mut changed: HashMap<usize, NumberMap<u32, V>> = HashMap::new();
        for (id, row) in changes {
            let at = id as usize % PARTS;
            let part = changed.entry(at).or_insert_with(|| NumberMap::clone(&self.parts[at].load()));
            match row {
                Some(row) => part.insert(id, row),
                None => part.remove(&id),
            };
        }
        for (at, part) in changed {
            let after = part.len();
            let before = self.parts[at].swap(Arc::new(part)).len();
            self.rows.fetch_add(after.wrapping_sub(before), Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn follows_its_changes() {
        let table = Table::new((1..=1000).map(|id| (id, id * 2)));
        assert_eq!((table.len(), table.find(7), table.find(1001)), (1000, Some(14), None));
        table.change([(7, None), (1001, Some(1)), (8, Some(3)), (9, None), (9, Some(4)), (2000, None)]);
        assert_eq!(table.len(), 1000);
        assert_eq!([7, 8, 9, 1001].map(|id| table.find(id)), [None, Some(3), Some(4), Some(1)]);
        let all = table.all();
        assert_eq!((all.len(), all[0], all[999]), (1000, 2, 1));
    }
}
