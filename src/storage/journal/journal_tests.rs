//! The journal: commits are numbered without a gap, trimmed ones go, and the next run goes on where this one was.

use super::log_tests::Disk;
use super::*;
use crate::engine::Change;
use crate::ids::{FrameNo, ShardNo};
use crate::storage::contract::Recovered;
use crate::storage::open::{OpenOptions, open_with_backends};
use crate::storage::record::samples;
use crate::storage::{Checkpoint, FrameEncoder, FrameHash, RecoveryReport, RedbRest, Rest};

struct Run {
    journal: LogJournal,
    rest: RedbRest,
    report: RecoveryReport,
    frames: Vec<(u64, u16, u64, Vec<Change>)>,
}

fn run(journal: &Disk, store: &Disk) -> Run {
    let options = OpenOptions::default();
    let (rest, recovery) = open_with_backends(journal.clone(), store.clone(), options).unwrap();
    let mut frames = Vec::new();
    let (journal, report) = recovery
        .replay(&rest, &mut |piece| {
            if let Recovered::Frame { frame, .. } = piece {
                frames.push((frame.commit.0, frame.shard.0, frame.no.0, frame.changes));
            }
        })
        .unwrap();
    Run { journal, rest, report, frames }
}

impl Run {
    fn encoder(&self, shard: u16) -> FrameEncoder {
        let shard = ShardNo(shard);
        let end = self.report.shards.iter().find(|end| end.shard == shard);
        let (no, hash) = end.map_or((FrameNo(0), FrameHash::default()), |end| (end.no, end.hash));
        FrameEncoder::new(shard, self.report.boot, no, hash)
    }

    fn commits(&self) -> usize {
        super::log_tests::commits(&self.journal).unwrap().len()
    }
}

#[test]
fn room_is_made_ahead_and_commits_go_on_in_it() {
    let disk = Disk::default();
    let mut journal = super::log_tests::open(&disk).unwrap();
    let mut rooms = 0;
    while journal.wants_room() {
        let room = journal.claim_room().unwrap();
        assert!(!journal.wants_room() && journal.claim_room().is_none(), "one at a time");
        let before = disk.operations();
        room.make().unwrap();
        let after = disk.operations();
        assert_eq!((after.0 - before.0, after.1 - before.1), (2, 1), "zeros, and a sync");
        journal.bring_room(room);
        rooms += 1;
    }
    assert_eq!(rooms, 4);
    let length = disk.bytes().len();
    let mut frames = super::log_tests::Frames::new();
    for _ in 0..4 {
        journal.append(&[frames.of(0, super::log_tests::SEGMENT as usize / 2)]).unwrap();
        journal.append(&[frames.of(0, super::log_tests::SEGMENT as usize / 4)]).unwrap();
    }
    assert!(journal.wants_room());
    assert_eq!(disk.bytes().len(), length, "no commit made the file longer");
    // What is claimed and not brought back stays, and is free for the next run.
    let room = journal.claim_room().unwrap();
    drop((journal, room));
    let mut journal = super::log_tests::open(&disk).unwrap();
    assert_eq!(super::log_tests::commits(&journal).unwrap().len(), 8);
    journal.trim(journal.last).unwrap();
    journal.idle().unwrap();
    let least = 4096 + 5 * super::log_tests::SEGMENT as usize;
    assert_eq!(disk.bytes().len(), least, "the open segment and four free ones");
}

/// Commits, slower ones, go on while a piece of it is on its way.
#[test]
fn room_is_made_in_pieces_that_are_synced_one_by_one() {
    const PIECE: u64 = 64 * 1024;
    let bytes = 3 * PIECE + 4096;
    let disk = Disk::with(vec![7; 4096 + bytes as usize]);
    let room = Room { slot: 0, beside: Arc::new(disk.clone()), from: 4096, to: 4096 + bytes };
    let before = disk.operations();
    room.make().unwrap();
    let after = disk.operations();
    assert_eq!((after.0 - before.0, after.1 - before.1), (8, 4), "writes and syncs, and syncs of them");
    let made = disk.bytes();
    assert!(made[..4096].iter().all(|byte| *byte == 7) && made[4096..].iter().all(|byte| *byte == 0));
}

#[test]
fn a_file_that_cannot_grow_is_tried_once_a_segment() {
    let (disk, mut frames) = (Disk::default(), super::log_tests::Frames::new());
    let mut journal = super::log_tests::open(&disk).unwrap();
    disk.refuse_growth(true);
    assert!(journal.wants_room() && journal.claim_room().is_none());
    assert!(!journal.wants_room(), "not again for each commit");
    disk.refuse_growth(false);
    let segment = super::log_tests::SEGMENT as usize;
    for _ in 0..2 {
        journal.append(&[frames.of(0, segment * 3 / 4)]).unwrap();
    }
    assert!(journal.wants_room(), "another segment was begun");
    assert!(journal.claim_room().is_some());
}

#[test]
fn commits_come_back_in_order_and_chains_go_on() {
    let (a, b) = (Disk::default(), Disk::default());
    let mut first = run(&a, &b);
    assert_eq!((first.report.boot, first.report.last_commit), (1, CommitNo(0)));
    let mut zero = first.encoder(0);
    let mut one = first.encoder(1);
    let changes = samples::changes();
    let frames = [zero.encode(FrameNo(1), &changes), one.encode(FrameNo(1), &[])];
    assert_eq!(first.journal.append(&frames).unwrap(), CommitNo(1));
    assert_eq!(first.journal.append(&[zero.encode(FrameNo(2), &changes)]).unwrap(), CommitNo(2));
    drop(first);

    let mut second = run(&a, &b);
    let found: Vec<_> = second.frames.iter().map(|frame| (frame.0, frame.1, frame.2)).collect();
    assert_eq!(found, [(1, 0, 1), (1, 1, 1), (2, 0, 2)]);
    assert_eq!(second.frames[2].3, changes);
    assert_eq!((second.report.boot, second.report.next_seq), (2, 705));
    let frame = second.encoder(0).encode(FrameNo(3), &[]);
    assert_eq!(second.journal.append(&[frame]).unwrap(), CommitNo(3));
    drop(second);
    assert_eq!(run(&a, &b).frames.len(), 4);
}

#[test]
fn a_trimmed_journal_keeps_its_place() {
    let (a, b) = (Disk::default(), Disk::default());
    let mut first = run(&a, &b);
    let mut encoder = first.encoder(0);
    for no in 1..=200 {
        first.journal.append(&[encoder.encode(FrameNo(no), &samples::changes())]).unwrap();
    }
    first.journal.trim(CommitNo(150)).unwrap();
    assert_eq!(first.commits(), 200, "only with the next append");
    first.journal.append(&[encoder.encode(FrameNo(201), &[])]).unwrap();
    assert_eq!(first.commits(), 51);
    first.journal.trim(CommitNo(999)).unwrap();
    drop(first);

    let mut second = run(&a, &b);
    assert_eq!((second.frames.len(), second.commits()), (0, 0), "an orderly close trims what is left");
    assert_eq!(second.report.last_commit, CommitNo(201));
    assert_eq!(second.report.shards[0].no, FrameNo(201));
    assert_eq!(second.report.next_seq, 705, "as the forgotten frames gave them out");
    assert_eq!(second.report.missing.len(), 1, "nothing was written to the store");
    let frame = second.encoder(0).encode(FrameNo(202), &[]);
    assert_eq!(second.journal.append(&[frame]).unwrap(), CommitNo(202));
    drop(second);
    assert_eq!(run(&a, &b).frames.len(), 1);
}

#[test]
fn a_journal_that_was_moved_away_starts_above_the_store() {
    let (a, b) = (Disk::default(), Disk::default());
    let mut first = run(&a, &b);
    let mut encoder = first.encoder(0);
    first.journal.append(&[encoder.encode(FrameNo(1), &[])]).unwrap();
    let totals = vec![(ShardNo(0), FrameNo(1))];
    first.rest.write(Checkpoint { parts: vec![], totals }).unwrap();
    drop(first);

    let a = Disk::default();
    let mut second = run(&a, &b);
    assert_eq!(second.report.boot, 2, "the store remembers");
    assert_eq!((second.report.shards[0].no, second.report.missing.len()), (FrameNo(1), 0));
    let frame = second.encoder(0).encode(FrameNo(2), &[]);
    second.journal.append(&[frame]).unwrap();
    drop(second);
    assert_eq!(run(&a, &b).frames.len(), 1);
}

#[test]
fn shards_that_are_no_more_are_contained_in_the_first_checkpoint() {
    let (a, b) = (Disk::default(), Disk::default());
    let mut first = run(&a, &b);
    let frames = [first.encoder(0).encode(FrameNo(1), &[]), first.encoder(1).encode(FrameNo(1), &[])];
    first.journal.append(&frames).unwrap();
    drop(first);

    let mut second = run(&a, &b);
    let totals = vec![(ShardNo(0), FrameNo(1))];
    second.rest.write(Checkpoint { parts: vec![], totals }).unwrap();
    second.journal.trim(CommitNo(1)).unwrap();
    drop(second);
    assert_eq!(run(&a, &b).report.missing, vec![]);
}

#[test]
fn a_frame_that_does_not_follow_is_named() {
    let (a, b) = (Disk::default(), Disk::default());
    let mut first = run(&a, &b);
    let mut encoder = first.encoder(0);
    let _lost = encoder.encode(FrameNo(1), &[]);
    first.journal.append(&[encoder.encode(FrameNo(2), &[])]).unwrap();
    drop(first);
    let (rest, recovery) = open_with_backends(a.clone(), b.clone(), OpenOptions::default()).unwrap();
    let error = recovery.replay(&rest, &mut |_| {}).unwrap_err().to_string();
    assert!(error.contains("journal.log is damaged at commits/1: frame 2 of shard 0"), "{error}");
}

#[test]
fn a_newer_format_is_refused() {
    let (journal, store) = (Disk::default(), Disk::default());
    drop(run(&journal, &store));
    let mut bytes = journal.bytes();
    bytes[16..20].copy_from_slice(&7u32.to_le_bytes());
    let checksum = twox_hash::XxHash3_64::oneshot(&bytes[8..512]);
    bytes[..8].copy_from_slice(&checksum.to_le_bytes());
    let newer = Disk::with(bytes.clone());
    let error = open_with_backends(newer.clone(), store, OpenOptions::default()).unwrap_err();
    assert!(matches!(error, StorageError::TooNew { found: 7, supported: 2, .. }), "{error}");
    assert!(newer.bytes() == bytes, "it is left as it is");
}
