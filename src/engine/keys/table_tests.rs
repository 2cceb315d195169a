//! Against a map, with keys of every kind; what a step may cost; that each key of many takes the same memory.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::ids::mix;

fn entry(number: u64) -> Entry {
    Entry { body: number as u32 % (1 << BODY_BITS), stride: (number + 1) * 0x1_2345 % (1 << STRIDE_BITS) }
}

impl Table {
    fn buckets(&self) -> impl Iterator<Item = &Bucket> {
        (0..self.buckets.len()).map(|index| &self.buckets[index])
    }

    fn keys<'t>(&'t self, bucket: &'t Bucket) -> impl Iterator<Item = u64> {
        let blocks = bucket.blocks().map(|(block, len)| (&self.blocks.all[block], len));
        blocks.flat_map(|(block, len)| {
            block
                .lower
                .iter()
                .zip(&block.beside)
                .take(len)
                .map(|(lower, beside)| whole(*lower, beside.upper()))
        })
    }

    /// What is said of it is what is there.
    fn check(&self) {
        let in_buckets: usize = self.buckets().map(Bucket::len).sum();
        assert_eq!(self.len, in_buckets + self.beyond.len());
        for (index, bucket) in self.buckets().enumerate() {
            assert_eq!(self.keys(bucket).count(), bucket.len());
            assert!(self.keys(bucket).all(|key| index_of(key, self.buckets.len()) == index));
        }
        // Each block is of one bucket, or free, and few are.
        let of_buckets = self.buckets().flat_map(|bucket| bucket.blocks().map(|(block, _)| block));
        let free = self.blocks.free.iter().map(|block| *block as usize);
        let mut blocks: Vec<usize> = of_buckets.chain(free).collect();
        blocks.sort_unstable();
        assert!(blocks.into_iter().eq(0..self.blocks.all.len()));
        assert!(self.blocks.free.len() < BLOCKS_MAX);
    }
}

#[test]
fn what_goes_in_is_found_and_nothing_else() {
    let mut table = Table::default();
    assert_eq!(table.find(mix(1)), None);
    for number in 0..100_000 {
        table.insert(mix(number), entry(number));
    }
    table.check();
    assert_eq!(table.len(), 100_000);
    assert!((0..100_000).all(|number| table.find(mix(number)) == Some(entry(number))));
    assert!((100_000..200_000).all(|number| table.find(mix(number)).is_none()));
    table.insert(mix(7), entry(70));
    assert_eq!((table.len(), table.find(mix(7))), (100_000, Some(entry(70))));
}

#[test]
fn a_step_moves_the_keys_of_one_bucket() {
    let lens = |table: &Table| table.buckets().map(Bucket::len).collect();
    let mut table = Table::default();
    for number in 0..20_000 {
        let before: Vec<usize> = lens(&table);
        table.insert(mix(number), entry(number));
        let after = lens(&table);
        let touched = before.iter().zip(&after).filter(|(before, after)| before != after).count();
        let made = after.len() - before.len();
        assert!(touched + made <= 3, "{touched} buckets changed and {made} were made for one key");
    }
    assert!(table.buckets().all(|bucket| bucket.len() < 3 * BUCKET_KEYS), "far from full");
    assert!(table.beyond.is_empty());
}

#[test]
fn a_key_of_many_takes_the_same_memory_however_many_there_are() {
    let mut table = Table::default();
    for number in 0..1_000_000 {
        table.insert(mix(number), entry(number));
        if table.len() >= 200_000 && table.len().is_multiple_of(10_000) {
            let each = table.bytes() as f64 / table.len() as f64;
            assert!((18.7..19.4).contains(&each), "{each} bytes with {} keys", table.len());
        }
    }
}

#[test]
fn a_day_of_few_keys_takes_little() {
    let mut table = Table::default();
    assert_eq!(table.bytes(), 0);
    table.insert(mix(1), entry(1));
    assert!(table.bytes() < 2_048, "{}", table.bytes());
}

#[test]
fn a_table_goes_piece_by_piece() {
    let mut table = Table::default();
    (0..100_000).for_each(|number| table.insert(mix(number), entry(number)));
    let (mut pieces, mut bytes) = (0, table.bytes());
    while table.drop_some() {
        assert!(table.bytes() < bytes);
        (pieces, bytes) = (pieces + 1, table.bytes());
    }
    assert!(pieces > 5, "{pieces}");
    assert_eq!(table.bytes(), 0);
}

#[test]
fn what_has_no_room_in_its_bucket_is_found_too() {
    let mut table = Table::default();
    // Upper halves are the same: all of them go into one bucket, however many there are.
    let count = (BLOCKS_MAX * BLOCK_KEYS) as u64 + 100;
    (0..count).for_each(|key| table.insert(key, entry(key)));
    table.check();
    assert_eq!((table.len() as u64, table.beyond.len()), (count, 100));
    (0..count).for_each(|key| table.insert(key, entry(key + 1)));
    assert_eq!(table.len() as u64, count, "they were known");
    assert!((0..count).all(|key| table.find(key) == Some(entry(key + 1))));
    assert_eq!(table.find(count), None);
}

#[test]
fn entries_of_all_bits_come_back() {
    let (body, stride) = ((1 << BODY_BITS) - 1, (1 << STRIDE_BITS) - 1);
    for (body, stride) in [(body, 0), (0, stride), (body, stride), (0x0abc_def1, 0x9_8765_4321)] {
        let entry = Entry { body, stride };
        assert_eq!(Beside::new(u64::MAX, entry).entry(), entry);
    }
}

proptest! {
    /// Keys as bad as can be: few bits differ, so that all are in a few buckets, and lower halves are the same.
    #[test]
    fn agrees_with_a_map(keys in prop::collection::vec((0..4_u64, 0..5_u64, -300..300_i32), 1..2_000)) {
        let mut table = Table::default();
        let mut map = BTreeMap::new();
        for (number, (highest, upper, lower)) in keys.into_iter().enumerate() {
            let key = (highest << 62) | (upper << 32) | u64::from(lower as u32);
            table.insert(key, entry(number as u64));
            map.insert(key, entry(number as u64));
        }
        table.check();
        prop_assert_eq!(table.len(), map.len());
        for (key, entry) in map {
            prop_assert_eq!(table.find(key), Some(entry));
        }
    }
}
