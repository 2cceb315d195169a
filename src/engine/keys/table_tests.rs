//! Against a map, with keys of every kind; what a step may cost; that memory is as it is said to be.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::engine::hash::mix;

fn entry(number: u64) -> Entry {
    Entry { body: number, seq: Seq(number + 1) }
}

/// What is said of it is what is there.
fn check(table: &Table) {
    assert_eq!(table.len, table.maps.iter().map(Map::len).sum::<usize>());
    assert_eq!(table.bytes, table.maps.iter().map(bytes_of).sum::<usize>());
    for (number, map) in table.maps.iter().enumerate() {
        assert!(map.keys().all(|key| table.number_of(*key) == number));
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
fn a_step_moves_the_keys_of_one_map() {
    let shape = |table: &Table| table.maps.iter().map(|map| (map.len(), map.capacity())).collect();
    let mut table = Table::default();
    for number in 0..50_000 {
        let before: Vec<(usize, usize)> = shape(&table);
        table.insert(mix(number), entry(number));
        let after = shape(&table);
        let touched = before.iter().zip(&after).filter(|(before, after)| before != after).count();
        let made = after.len() - before.len();
        assert!(touched + made <= 3, "{touched} maps changed and {made} were made for one key");
    }
    assert!(table.maps.iter().all(|map| map.len() < 3 * MAP_KEYS));
    assert!(table.bytes() < 50_000 * 64, "{}", table.bytes());
}

#[test]
fn a_table_goes_map_by_map() {
    let mut table = Table::default();
    (0..10_000).for_each(|number| table.insert(mix(number), entry(number)));
    for _ in 0..table.maps.len() {
        assert!(table.drop_map());
        assert_eq!(table.bytes, table.maps.iter().map(bytes_of).sum::<usize>());
    }
    assert!(!table.drop_map());
    assert_eq!(table.bytes, 0);
}

#[test]
fn maps_are_as_large_as_they_are_said_to_be() {
    let mut map = Map::default();
    assert_eq!(bytes_of(&map), 0);
    for key in 0..100_000_u64 {
        map.insert(mix(key), entry(key));
        let most = 4.max(map.len() * 16 / 7 + 2);
        // It doubled when it was seven eighths full: four times its keys are as many as it ever has room for.
        let (least, most) = (map.len() * PLACE_BYTES, given(most * PLACE_BYTES));
        assert!((least..=most).contains(&bytes_of(&map)), "{} for {}", bytes_of(&map), map.len());
    }
    assert_eq!([1, 25, 4096, 4097, 5121].map(given), [1, 28, 4096, 5120, 6144]);
}

proptest! {
    /// Keys as bad as can be: few bits differ, so that all are in a few maps.
    #[test]
    fn agrees_with_a_map(keys in prop::collection::vec((0..4_u64, 0..5_u64, 0..300_u64), 1..5_000)) {
        let mut table = Table::default();
        let mut map = BTreeMap::new();
        for (number, (highest, upper, lower)) in keys.into_iter().enumerate() {
            let key = (highest << 62) | (upper << 32) | lower;
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
