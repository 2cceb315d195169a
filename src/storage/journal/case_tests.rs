//! The log, case by case: what damage does to it, what a crash leaves half, how it uses its space.

use std::collections::BTreeMap;

use super::layout::SECTOR;
use super::log_tests::{Disk, Frames, SEGMENT, commits, open};
use super::*;

/// A log with commits over several segments, the first of them forgotten.
fn sound() -> (Vec<u8>, BTreeMap<u64, Vec<u8>>) {
    let (disk, mut frames) = (Disk::default(), Frames::new());
    let mut journal = open(&disk).unwrap();
    for size in [200, 9_000, 400, 400, 20_000, 300, 3_000, 200] {
        journal.append(&[frames.of(0, size), frames.of(1, 30)]).unwrap();
    }
    journal.trim(CommitNo(3)).unwrap();
    journal.append(&[frames.of(0, 100)]).unwrap();
    let found = commits(&journal).unwrap();
    let bytes = disk.bytes();
    std::mem::forget(journal);
    (bytes, found)
}

#[test]
fn damage_anywhere_is_noticed_or_changes_nothing() {
    let (bytes, expected) = sound();
    let (mut noticed, mut without_effect) = (0, 0);
    let mut damage = |what: &str, change: &dyn Fn(&mut Vec<u8>)| {
        let mut damaged = bytes.clone();
        change(&mut damaged);
        if damaged.is_empty() || damaged == bytes {
            return;
        }
        let found = open(&Disk::with(damaged)).and_then(|journal| {
            let found = commits(&journal);
            std::mem::forget(journal);
            found
        });
        match found {
            Ok(found) => {
                assert!(expected.iter().all(|(no, frames)| found.get(no) == Some(frames)), "{what}");
                assert!(found.keys().max() == expected.keys().max(), "{what}");
                without_effect += 1;
            }
            Err(StorageError::Damaged { .. }) => noticed += 1,
            Err(error) => panic!("{what}: {error}"),
        }
    };
    for at in (0..bytes.len()).step_by(SECTOR) {
        damage(&format!("a bit at {at}"), &|bytes| bytes[at + 21] ^= 4);
        damage(&format!("a sector of zeros at {at}"), &|bytes| bytes[at..at + SECTOR].fill(0));
        damage(&format!("cut at {at}"), &|bytes| bytes.truncate(at));
        if at % 4096 == 0 {
            damage(&format!("a page of zeros at {at}"), &|bytes| bytes[at..at + 4096].fill(0));
            damage(&format!("a page over {at}"), &|bytes| bytes.copy_within(8192..12288, at));
        }
    }
    assert!(noticed > 100 && without_effect > 20, "{noticed} noticed, {without_effect} without effect");
}

#[test]
fn the_last_commit_is_known_to_be_there_and_what_was_under_way_is_not() {
    let (disk, mut frames) = (Disk::default(), Frames::new());
    let mut journal = open(&disk).unwrap();
    journal.append(&[frames.of(0, 20)]).unwrap();
    journal.append(&[frames.of(0, 20)]).unwrap();
    let at = 4096 + journal.shared.snapshot().segments[0].end as usize;
    std::mem::forget(journal);
    let mut damaged = disk.bytes();
    damaged[at - SECTOR + 100] ^= 1;
    let error = open(&Disk::with(damaged)).unwrap_err().to_string();
    assert!(error.contains("journal.log is damaged at commits/2: the checksum does not match"), "{error}");

    let mut half = disk.bytes();
    half[at..at + 100].fill(7);
    assert_eq!(
        open(&Disk::with(half)).unwrap().last,
        CommitNo(2),
        "a begun record that does not check is none"
    );
}

#[test]
fn a_commit_of_many_parts_without_one_of_them_is_no_commit() {
    let (disk, mut frames) = (Disk::default(), Frames::new());
    let mut journal = open(&disk).unwrap();
    journal.append(&[frames.of(0, 20)]).unwrap();
    let before = disk.bytes();
    journal.append(&[frames.of(0, 30_000)]).unwrap();
    let segments = journal.shared.snapshot().segments;
    assert!(segments.len() >= 4, "it goes over {} segments", segments.len());
    std::mem::forget(journal);
    let whole = disk.bytes();
    for segment in &segments {
        for part in [0, SECTOR, 3 * SECTOR] {
            // The mark and the segments as they were when the power went.
            let mut torn = whole.clone();
            torn[..4096].copy_from_slice(&before[..4096]);
            let at = 4096 + segment.slot as usize * SEGMENT as usize + part;
            let old = before.get(at..at + SECTOR).unwrap_or(&[0; SECTOR]);
            if torn[at..at + SECTOR] == *old {
                continue;
            }
            torn[at..at + SECTOR].copy_from_slice(old);
            let found = open(&Disk::with(torn)).unwrap();
            let meta_alone = segment.no != segments[0].no && part == SECTOR;
            assert!(found.last == CommitNo(1), "{segment:?}, sector at {part}, {meta_alone}");
            assert_eq!(commits(&found).unwrap().len(), 1);
        }
    }
}

fn end_of(journal: &LogJournal) -> usize {
    journal.shared.snapshot().segments.last().unwrap().end as usize
}

/// The head of a segment did not get to the disk, but a record behind it did; the same slot is begun again.
#[test]
fn what_a_torn_beginning_left_is_not_taken_for_a_record_of_the_next_one() {
    let (disk, mut frames) = (Disk::default(), Frames::new());
    let mut journal = open(&disk).unwrap();
    while end_of(&journal) + SECTOR <= SEGMENT as usize {
        journal.append(&[frames.of(0, 20)]).unwrap();
    }
    let (before, last) = (disk.bytes(), journal.last);
    let segments = journal.shared.snapshot().segments.len();
    journal.append(&[frames.of(0, 20)]).unwrap();
    let begun = journal.shared.snapshot().segments[segments];
    std::mem::forget(journal);
    let mut left = disk.bytes();
    let head = 4096 + begun.slot as usize * SEGMENT as usize;
    left[..4096].copy_from_slice(&before[..4096]);
    left[head..head + SECTOR].fill(0);

    let disk = Disk::with(left);
    let journal = open(&disk).unwrap();
    assert_eq!(journal.last, last, "its head is not there, so it was not durable");
    std::mem::forget(journal);
    let journal = open(&disk).unwrap();
    assert_eq!(journal.last, last, "nor does it come back");
}

#[test]
fn a_commit_is_one_write_one_sync_and_the_mark() {
    let (disk, mut frames) = (Disk::default(), Frames::new());
    let mut journal = open(&disk).unwrap();
    journal.append(&[frames.of(0, 20)]).unwrap();
    let before = disk.operations();
    journal.append(&[frames.of(0, 300), frames.of(1, 20)]).unwrap();
    let after = disk.operations();
    assert_eq!((after.0 - before.0, after.1 - before.1), (3, 1));
}

#[test]
fn forgotten_segments_are_used_again_and_an_idle_log_is_short() {
    let (disk, mut frames) = (Disk::default(), Frames::new());
    let mut journal = open(&disk).unwrap();
    for _ in 0..40 {
        let no = journal.append(&[frames.of(0, 3_000)]).unwrap();
        journal.trim(CommitNo(no.0.saturating_sub(4))).unwrap();
    }
    assert!(disk.bytes().len() < 8 * SEGMENT as usize, "{} bytes", disk.bytes().len());
    for _ in 0..40 {
        journal.append(&[frames.of(0, 3_000)]).unwrap();
    }
    let long = disk.bytes().len();
    assert!(long > 16 * SEGMENT as usize);
    journal.trim(journal.last).unwrap();
    journal.idle().unwrap();
    assert!(disk.bytes().len() <= 4096 + 6 * SEGMENT as usize, "{} of {long}", disk.bytes().len());
    assert_eq!(journal.shared.snapshot().segments.len(), 1);
    let syncs = disk.operations();
    journal.idle().unwrap();
    assert_eq!(disk.operations(), syncs, "nothing is left to do");
    journal.append(&[frames.of(0, 20)]).unwrap();
    drop(journal);
    assert_eq!(commits(&open(&disk).unwrap()).unwrap().len(), 1);
}

#[test]
fn what_somebody_reads_is_not_used_again() {
    let (disk, mut frames) = (Disk::default(), Frames::new());
    let mut journal = open(&disk).unwrap();
    for _ in 0..10 {
        journal.append(&[frames.of(0, 3_000)]).unwrap();
    }
    let read = journal.shared.snapshot();
    journal.trim(journal.last).unwrap();
    for _ in 0..20 {
        journal.append(&[frames.of(0, 3_000)]).unwrap();
    }
    journal.idle().unwrap();
    let mut count = 0;
    read.read(&mut |_, _| {
        count += 1;
        Ok(())
    })
    .unwrap();
    assert_eq!(count, 10);
    drop(read);
    journal.append(&[frames.of(0, 3_000)]).unwrap();
    let length = disk.bytes().len();
    for _ in 0..5 {
        journal.append(&[frames.of(0, 3_000)]).unwrap();
    }
    assert_eq!(disk.bytes().len(), length, "afterwards it is");
}
