//! A table of blocks against a map: whatever is put and removed, each row is found, blocks have their own rows and no others',
//! and those to which nothing comes any more are full.

use std::collections::BTreeMap;

use proptest::prelude::*;
use redb::backends::InMemoryBackend;
use redb::{Database, ReadableDatabase};

use super::super::record::BLOCK_BYTES;
use super::*;
use crate::storage::tables::{LIVE, ORDERS};

struct Store<K: Place> {
    db: Database,
    file: DbFile,
    blocks: &'static Blocks<K>,
}

impl<K: Place> Store<K> {
    fn new(blocks: &'static Blocks<K>) -> Store<K> {
        let db = Database::builder().create_with_backend(InMemoryBackend::new()).unwrap();
        let store = Store { db, file: DbFile::new("store.redb".as_ref()), blocks };
        store.apply(&[]);
        store
    }

    fn apply(&self, changes: &[Change<K>]) -> Vec<bool> {
        let transaction = self.db.begin_write().unwrap();
        let mut table = transaction.open_table(self.blocks.table).unwrap();
        let were_there = self.blocks.apply(&self.file, &mut table, changes).unwrap();
        drop(table);
        transaction.commit().unwrap();
        were_there
    }

    fn get(&self, place: K) -> Option<Vec<u8>> {
        let table = self.db.begin_read().unwrap().open_table(self.blocks.table).unwrap();
        self.blocks.get(&self.file, &table, place, |row| Ok(row.to_vec())).unwrap()
    }

    /// The seqs of a group from a place on, at most so many.
    fn walk(&self, from: K, count: usize) -> Vec<u64> {
        let table = self.db.begin_read().unwrap().open_table(self.blocks.table).unwrap();
        let mut seqs = Vec::new();
        let take = |seq: Seq, _: &[u8]| {
            seqs.push(seq.0);
            Ok(seqs.len() < count)
        };
        self.blocks.walk(&self.file, &table, from, take).unwrap();
        seqs
    }

    /// Each block's key, the places of its rows, and its bytes.
    fn blocks(&self) -> Vec<(K, Vec<K>, usize)> {
        let table = self.db.begin_read().unwrap().open_table(self.blocks.table).unwrap();
        let blocks = table.iter().unwrap().map(|block| {
            let (key, block) = block.unwrap();
            let key = key.value();
            let rows = self.blocks.rows(key, block.value()).unwrap();
            (key, rows.iter().map(|(seq, _)| key.at(*seq)).collect(), block.value().len())
        });
        blocks.collect()
    }

    /// Holds everything against the map.
    fn check(&self, model: &BTreeMap<K, Vec<u8>>) {
        let blocks = self.blocks();
        let rows: Vec<K> = blocks.iter().flat_map(|(_, rows, _)| rows.iter().copied()).collect();
        assert_eq!(rows, model.keys().copied().collect::<Vec<_>>());
        for (place, row) in model {
            assert_eq!(self.get(*place).as_ref(), Some(row), "{place:?}");
        }
        for (place, (key, rows, bytes)) in blocks.iter().enumerate() {
            assert!(*key <= rows[0], "{key:?} is above its first row");
            assert!(*bytes <= BLOCK_BYTES || rows.len() == 1, "{key:?} has {bytes} bytes");
            assert!(blocks.get(place + 1).is_none_or(|(next, _, _)| rows[rows.len() - 1] < *next));
        }
    }
}

/// Steps of changes: small numbers collide, empty rows and large ones stand at the ends.
fn steps() -> impl Strategy<Value = Vec<BTreeMap<(u32, u64), Option<usize>>>> {
    let length = prop_oneof![Just(0), 1..300usize, (BLOCK_BYTES - 40)..BLOCK_BYTES, Just(9000)];
    let change = prop_oneof![3 => length.prop_map(Some), 2 => Just(None)];
    let places = (1..4u32, prop_oneof![0..40u64, Just(u64::MAX)]);
    prop::collection::vec(prop::collection::btree_map(places, change, 0..30), 1..12)
}

fn tell<K: Place>(blocks: &'static Blocks<K>, steps: Vec<BTreeMap<K, Option<usize>>>) {
    let store = Store::new(blocks);
    let mut model: BTreeMap<K, Vec<u8>> = BTreeMap::new();
    for (number, step) in steps.into_iter().enumerate() {
        let row = |length| vec![number as u8; length];
        let changes: Vec<Change<K>> = step.iter().map(|(place, length)| (*place, length.map(row))).collect();
        let were_there: Vec<bool> = step.keys().map(|place| model.contains_key(place)).collect();
        assert_eq!(store.apply(&changes), were_there);
        for (place, row) in changes {
            match row {
                Some(row) => drop(model.insert(place, row)),
                None => drop(model.remove(&place)),
            }
        }
        store.check(&model);
    }
    for place in model.keys().copied() {
        let from = |count| {
            let rows = model.range(place..).take_while(|(other, _)| other.is_with(place));
            rows.map(|(other, _)| other.seq().0).take(count).collect::<Vec<_>>()
        };
        assert_eq!(store.walk(place, usize::MAX), from(usize::MAX));
        assert_eq!(store.walk(place, 2), from(2));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn groups_are_as_a_map(steps in steps()) {
        tell(&LIVE, steps);
    }

    #[test]
    fn one_group_is_as_a_map(steps in steps()) {
        let one = |step: BTreeMap<(u32, u64), _>| step.into_iter().map(|((_, seq), row)| (seq, row)).collect();
        tell(&ORDERS, steps.into_iter().map(one).collect());
    }
}

#[test]
fn what_is_not_there_is_not_found() {
    let store = Store::new(&LIVE);
    store.apply(&[((2, 10), Some(b"ten".to_vec())), ((2, 20), Some(b"twenty".to_vec()))]);
    for place in [(1, 10), (2, 9), (2, 15), (2, 21), (3, 10), (2, u64::MAX)] {
        assert_eq!(store.get(place), None, "{place:?}");
    }
    assert_eq!(store.walk((2, 11), 9), [20]);
    assert_eq!(store.walk((1, 0), 9), [0u64; 0]);
    assert_eq!(store.walk((2, 21), 9), [0u64; 0]);
}

/// A queue as it usually is: rows come at the end and go from the front.
#[test]
fn blocks_of_a_queue_are_full_and_gone_with_their_last_row() {
    let store = Store::new(&ORDERS);
    for first in (0..1000).step_by(7) {
        let rows: Vec<_> = (first..first + 7).map(|seq| (seq, Some(vec![0; 150]))).collect();
        store.apply(&rows);
    }
    let blocks = store.blocks();
    let (_, full) = blocks.split_last().unwrap();
    assert!(full.iter().all(|(_, _, bytes)| bytes + 162 > BLOCK_BYTES), "{full:?}");
    let gone: Vec<_> = (0..995).map(|seq| (seq, None)).collect();
    for gone in gone.chunks(13) {
        store.apply(gone);
    }
    assert!(store.blocks().len() <= 2, "{:?}", store.blocks());
}

/// Rows that end long after those beside them, as those of absent players do.
#[test]
fn blocks_stay_filled_when_some_rows_come_late() {
    let store = Store::new(&ORDERS);
    let is_late = |seq: &u64| seq.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 60 < 2;
    let row = |seq| (seq, Some(vec![0; 150]));
    for first in (0..3000).step_by(10) {
        let late = (first..first + 10).filter_map(|seq: u64| seq.checked_sub(300)).filter(is_late).map(row);
        let rows = late.chain((first..first + 10).filter(|seq| !is_late(seq)).map(row));
        store.apply(&rows.collect::<Vec<_>>());
    }
    let blocks = store.blocks();
    let bytes: usize = blocks.iter().map(|(_, _, bytes)| bytes).sum();
    assert!(bytes > blocks.len() * BLOCK_BYTES * 11 / 20, "{} blocks of {bytes} bytes", blocks.len());
}

/// Rows that come in falling order, each before the block behind it.
#[test]
fn a_row_joins_the_block_behind_it() {
    let store = Store::new(&LIVE);
    (0..100).rev().for_each(|seq| drop(store.apply(&[((1, seq), Some(vec![0; 150]))])));
    store.apply(&[((2, 0), Some(vec![0; 150]))]);
    assert!(store.blocks().len() <= 15, "{:?}", store.blocks());
}

#[test]
#[should_panic(expected = "places rise")]
fn a_row_is_changed_once() {
    Store::new(&LIVE).apply(&[((1, 5), None), ((1, 5), Some(Vec::new()))]);
}

#[test]
fn a_damaged_block_is_named() {
    let store = Store::new(&LIVE);
    let transaction = store.db.begin_write().unwrap();
    let mut table = transaction.open_table(LIVE.table).unwrap();
    table.insert((2, 5), &b"no block"[..]).unwrap();
    let change = [((2, 7), None)];
    let error = LIVE.apply(&store.file, &mut table, &change).unwrap_err().to_string();
    assert!(error.contains("store.redb is damaged at live_blocks/2,5: "), "{error}");
}
