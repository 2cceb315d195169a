//! The two sides of a pair on disks that remember what was synced, fail and hang.

use std::path::Path;
use std::sync::atomic::AtomicUsize;

use crossbeam_channel::unbounded;

use super::*;
use crate::ids::{FrameNo, ShardNo};
use crate::storage::clean::CleanMark;
use crate::storage::error::DbFile;
use crate::storage::journal::{LogFile, scan};
use crate::storage::record::samples;
use crate::storage::{FrameEncoder, FrameHash, Journal, LogJournal};

/// What one disk has been told, and what of it a loss of power leaves at least.
#[derive(Debug, Clone, Default)]
struct Disk(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    now: Vec<u8>,
    synced: Vec<u8>,
    operations: usize,
    syncs: usize,
    fail_at: Option<usize>,
    closed: bool,
    /// Syncs wait for a message.
    gate: Option<Receiver<()>>,
}

impl Disk {
    fn failing(at: usize) -> Disk {
        let disk = Disk::default();
        disk.0.lock().fail_at = Some(at);
        disk
    }

    fn step(&self) -> io::Result<parking_lot::MutexGuard<'_, State>> {
        let mut state = self.0.lock();
        state.operations += 1;
        match state.fail_at {
            Some(at) if state.operations > at => Err(io::ErrorKind::StorageFull.into()),
            _ => Ok(state),
        }
    }

    fn synced(&self) -> Vec<u8> {
        self.0.lock().synced.clone()
    }
}

impl StorageBackend for Disk {
    fn len(&self) -> Result<u64, io::Error> {
        Ok(self.0.lock().now.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> Result<(), io::Error> {
        let at = offset as usize;
        out.copy_from_slice(&self.0.lock().now[at..at + out.len()]);
        Ok(())
    }

    fn set_len(&self, len: u64) -> Result<(), io::Error> {
        self.step()?.now.resize(len as usize, 0);
        Ok(())
    }

    fn sync_data(&self) -> Result<(), io::Error> {
        let gate = self.0.lock().gate.clone();
        if let Some(gate) = gate {
            gate.recv().map_err(|_| io::ErrorKind::BrokenPipe)?;
        }
        let mut state = self.step()?;
        state.syncs += 1;
        state.synced = state.now.clone();
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> Result<(), io::Error> {
        let at = offset as usize;
        self.step()?.now[at..at + data.len()].copy_from_slice(data);
        Ok(())
    }

    fn close(&self) -> Result<(), io::Error> {
        self.0.lock().closed = true;
        Ok(())
    }
}

/// A pair that is in step, and how often its mirror was marked as stale.
fn pair(primary: &Disk, mirror: &Disk) -> (Pair<Disk>, Arc<Link>, Arc<AtomicUsize>) {
    let marked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&marked);
    let mark = move |_: &io::Error| {
        count.fetch_add(1, Ordering::SeqCst);
        Ok(())
    };
    // Only a disk that never answers is waited for.
    let hangs = mirror.0.lock().gate.is_some();
    let link = if hangs { Link::with_wait(Duration::from_millis(200), mark) } else { Link::new(mark) };
    let pair = attached(primary, mirror, &link);
    (pair, link, marked)
}

fn attached(primary: &Disk, mirror: &Disk, link: &Arc<Link>) -> Pair<Disk> {
    let tap = Tap::new("a file", link);
    tap.attach(mirror.clone()).unwrap();
    link.set_in_step();
    Pair::new(primary.clone(), tap)
}

fn log(disk: impl StorageBackend) -> LogFile {
    LogFile::open(Arc::new(disk), DbFile::new(Path::new("journal.log")), 8 * 1024).unwrap()
}

/// The journal over a pair that is in step.
fn journal(primary: &Disk, mirror: &Disk) -> LogJournal {
    let (mark, _) = CleanMark::take(None).unwrap();
    let log = log(pair(primary, mirror).0);
    let (mut journal, chain) = LogJournal::open(log, Arc::new(mark)).unwrap();
    let found = chain.walk(journal.log(), &mut |_, _| Ok(())).unwrap();
    journal.go_on(found);
    journal.set_boot(1).unwrap();
    journal
}

/// One commit: longer by a byte, all bytes written anew.
fn commit(pair: &Pair<Disk>, number: u8) -> io::Result<()> {
    let len = pair.len()? + 1;
    pair.set_len(len)?;
    for at in 0..len {
        pair.write(at, &[number])?;
    }
    pair.sync_data()
}

#[test]
fn a_sync_returns_when_both_have_it() {
    let (primary, mirror) = (Disk::default(), Disk::default());
    let (pair, link, marked) = pair(&primary, &mirror);
    for number in 1..20 {
        commit(&pair, number).unwrap();
        assert_eq!(primary.synced(), vec![number; usize::from(number)]);
        assert_eq!(mirror.synced(), primary.synced(), "after commit {number}");
    }
    pair.set_len(3).unwrap();
    pair.close().unwrap();
    assert_eq!(mirror.synced(), [19, 19, 19], "closing writes what is left");
    assert!(mirror.0.lock().closed && primary.0.lock().closed);
    assert!(link.is_in_step() && marked.load(Ordering::SeqCst) == 0);
}

#[test]
fn every_commit_of_the_journal_is_one_sync_of_either_disk_and_each_holds_it_alone() {
    let (primary, mirror) = (Disk::default(), Disk::default());
    let mut journal = journal(&primary, &mirror);
    let mut encoder = FrameEncoder::new(ShardNo(0), 1, FrameNo(0), FrameHash::default());
    let mut longest = 0;
    for no in 1..=60 {
        let syncs = [primary.0.lock().syncs, mirror.0.lock().syncs];
        let frame = encoder.encode(FrameNo(no), &[samples::plain_order(3_000)]);
        let commit = journal.append(&[frame]).unwrap();
        assert_eq!([primary.0.lock().syncs, mirror.0.lock().syncs], syncs.map(|syncs| syncs + 1));
        let synced = mirror.synced();
        assert!(synced == primary.synced(), "after commit {no}");
        longest = longest.max(synced.len());
        let disk = Disk::default();
        disk.0.lock().now = synced;
        assert_eq!(scan(&log(disk)).unwrap().last, commit);
        if no % 20 == 0 {
            journal.trim(commit).unwrap();
            journal.idle().unwrap();
            journal.idle().unwrap();
        }
    }
    drop(journal);
    let (left, right) = (primary.0.lock(), mirror.0.lock());
    assert!(left.now == right.now && right.synced == right.now, "closing writes what is left");
    assert!(right.now.len() < longest, "what was cut off is cut off on both");
}

#[test]
fn more_than_a_batch_gets_there_in_order() {
    let (primary, mirror) = (Disk::default(), Disk::default());
    let (pair, ..) = pair(&primary, &mirror);
    let bytes = 3 * MIRROR_BATCH_BYTES;
    pair.set_len(bytes as u64).unwrap();
    for number in 0..20 {
        pair.write(0, &vec![number; bytes]).unwrap();
        pair.write(5, &[99]).unwrap();
    }
    pair.sync_data().unwrap();
    assert!(mirror.synced() == primary.synced() && mirror.synced()[4..7] == [19, 99, 19]);
}

#[test]
fn a_mirror_that_fails_at_any_operation_is_marked_before_the_commit_returns_and_then_left_alone() {
    let sound = Disk::default();
    let (pair_of_all, ..) = pair(&Disk::default(), &sound);
    (1..6).try_for_each(|number| commit(&pair_of_all, number)).unwrap();
    let operations = sound.0.lock().operations;
    for fail_at in 0..operations {
        let (primary, mirror) = (Disk::default(), Disk::failing(fail_at));
        let (pair, link, marked) = pair(&primary, &mirror);
        for number in 1..6 {
            commit(&pair, number).unwrap();
            assert_eq!(primary.synced(), vec![number; usize::from(number)], "it goes on");
            let has_it = mirror.synced() == primary.synced();
            assert_eq!(marked.load(Ordering::SeqCst), usize::from(!has_it), "failure at {fail_at}");
            assert_eq!(link.is_in_step(), has_it);
        }
        assert_eq!(marked.load(Ordering::SeqCst), 1, "once");
        pair.close().unwrap();
    }
}

#[test]
fn without_the_mark_nothing_is_acknowledged() {
    let link = Link::new(|_| Err(io::ErrorKind::StorageFull.into()));
    let pair = attached(&Disk::default(), &Disk::failing(3), &link);
    assert!(commit(&pair, 1).is_ok(), "the third operation is its sync");
    assert_eq!(commit(&pair, 2).unwrap_err().kind(), io::ErrorKind::StorageFull);
    let other = attached(&Disk::default(), &Disk::failing(0), &link);
    assert!(commit(&other, 1).is_err(), "nor by another file that notices");
}

#[test]
fn the_failure_of_one_file_ends_the_writing_of_all() {
    let (left, right) = (Disk::default(), Disk::default());
    let (pair_of_left, link, marked) = pair(&left, &Disk::failing(0));
    let mirror = Disk::default();
    let pair_of_right = attached(&right, &mirror, &link);
    commit(&pair_of_right, 1).unwrap();
    commit(&pair_of_left, 1).unwrap();
    let before = mirror.synced();
    commit(&pair_of_right, 2).unwrap();
    assert_eq!((right.synced(), mirror.synced()), (vec![2, 2], before));
    assert_eq!(marked.load(Ordering::SeqCst), 1);
}

#[test]
fn a_mirror_that_hangs_is_given_up() {
    let (primary, mirror) = (Disk::default(), Disk::default());
    let (_never, gate) = unbounded();
    mirror.0.lock().gate = Some(gate);
    let (pair, link, marked) = pair(&primary, &mirror);
    commit(&pair, 1).unwrap();
    assert!(!link.is_in_step() && marked.load(Ordering::SeqCst) == 1);
    commit(&pair, 2).unwrap();
    pair.close().unwrap();
    assert_eq!((primary.synced(), mirror.synced()), (vec![2; 2], vec![]));
}

#[test]
fn a_first_file_that_fails_is_an_error_whatever_the_mirror_does() {
    for mirror in [Disk::default(), Disk::failing(0)] {
        let primary = Disk::failing(2);
        let (pair, ..) = pair(&primary, &mirror);
        assert!(commit(&pair, 1).is_err(), "its third operation is its sync");
    }
}
