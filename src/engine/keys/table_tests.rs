//! Against a map, with keys of every kind; what a step may cost; that memory is as it is said to be, and the same for each key
//! of many.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::ids::mix;

fn entry(number: u64) -> Entry {
    Entry { body: number, seq: Seq(number + 1) }
}

fn buckets(table: &Table) -> impl Iterator<Item = &Bucket> {
    table.chunks.iter().flatten()
}

/// What is said of it is what is there.
fn check(table: &Table) {
    assert_eq!(table.count, buckets(table).count());
    assert_eq!(table.len, buckets(table).map(Bucket::len).sum::<usize>());
    assert_eq!(table.bytes, buckets(table).map(Bucket::bytes).sum::<usize>());
    for (index, bucket) in buckets(table).enumerate() {
        assert!(bucket.keys().all(|(key, _)| index_of(key, table.count) == index));
        assert_eq!(bucket.lower.len(), bucket.beside.len());
        assert!(bucket.lower.capacity() <= bucket.beside.capacity(), "made larger one by one");
    }
}

#[test]
fn what_goes_in_is_found_and_nothing_else() {
    let mut table = Table::default();
    assert_eq!(table.find(mix(1)), None);
    for number in 0..100_000 {
        table.insert(mix(number), entry(number));
    }
    check(&table);
    assert_eq!(table.len(), 100_000);
    assert!((0..100_000).all(|number| table.find(mix(number)) == Some(entry(number))));
    assert!((100_000..200_000).all(|number| table.find(mix(number)).is_none()));
    table.insert(mix(7), entry(70));
    assert_eq!((table.len(), table.find(mix(7))), (100_000, Some(entry(70))));
}

#[test]
fn a_step_moves_the_keys_of_one_bucket() {
    let shape = |table: &Table| buckets(table).map(|bucket| (bucket.len(), bucket.bytes())).collect();
    let mut table = Table::default();
    for number in 0..20_000 {
        let before: Vec<(usize, usize)> = shape(&table);
        table.insert(mix(number), entry(number));
        let after = shape(&table);
        let touched = before.iter().zip(&after).filter(|(before, after)| before != after).count();
        let made = after.len() - before.len();
        assert!(touched + made <= 3, "{touched} buckets changed and {made} were made for one key");
    }
    assert!(buckets(&table).all(|bucket| bucket.len() < 3 * BUCKET_KEYS));
}

#[test]
fn a_key_of_many_takes_the_same_memory_however_many_there_are() {
    let mut table = Table::default();
    for number in 0..1_000_000 {
        table.insert(mix(number), entry(number));
        if table.len() >= 50_000 && table.len().is_multiple_of(10_000) {
            let each = table.bytes() as f64 / table.len() as f64;
            assert!((26.9..27.7).contains(&each), "{each} bytes with {} keys", table.len());
        }
    }
}

#[test]
fn a_day_of_few_keys_takes_little() {
    let mut table = Table::default();
    assert_eq!(table.bytes(), 0);
    table.insert(mix(1), entry(1));
    assert!(table.bytes() < 512, "{}", table.bytes());
}

#[test]
fn buckets_of_each_size_are_there_in_the_same_shares() {
    let mut table = Table::default();
    let mut number = 0;
    for keys in [100_000, 130_000, 160_000, 200_000] {
        for _ in table.len()..keys {
            table.insert(mix(number), entry(number));
            number += 1;
        }
        // Shares fall as 1 / number does, so it is those of the numbers below `count / ln 2`.
        let full = buckets(&table).filter(|bucket| bucket.len() > BUCKET_KEYS).count();
        let share = full as f64 / table.count as f64;
        assert!((0.40..0.50).contains(&share), "{share} of the buckets with {keys} keys");
    }
}

#[test]
fn a_table_goes_bucket_by_bucket() {
    let mut table = Table::default();
    (0..100_000).for_each(|number| table.insert(mix(number), entry(number)));
    assert!(table.chunks.len() > 1);
    for _ in 0..table.count {
        assert!(table.drop_bucket());
        assert_eq!(table.bytes, buckets(&table).map(Bucket::bytes).sum::<usize>());
    }
    assert!(!table.drop_bucket());
    assert_eq!(table.bytes, 0);
}

#[test]
fn room_fills_what_the_allocator_gives() {
    assert_eq!([0, 1, 8, 9, 64, 65, 76, 77].map(room_for), [0, 8, 8, 9, 64, 76, 76, 89]);
    assert_eq!([1, 25, 1536, 1537, 4096, 4097, 5121].map(given), [1, 28, 1536, 1792, 4096, 5120, 6144]);
}

#[test]
fn positions_are_the_powers_of_two_as_good_as() {
    assert_eq!(position_of(0), 1 << 32);
    for x in (0..=u32::MAX).step_by(1 << 20).chain([u32::MAX]) {
        let exact = (f64::from(x) / 4_294_967_296.0).exp2();
        let error = position_of(x) as f64 / 4_294_967_296.0 / exact - 1.0;
        assert!(error.abs() < 0.0032, "{error} at {x}");
        assert!(position_of(x) < 1 << 33);
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
        check(&table);
        prop_assert_eq!(table.len(), map.len());
        for (key, entry) in map {
            prop_assert_eq!(table.find(key), Some(entry));
        }
    }
}
