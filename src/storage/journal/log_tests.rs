//! The log on a disk that loses power at any operation, tears and reorders: every acknowledged commit is found again, a
//! commit that was under way is there whole or not at all, and what is forgotten makes room.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use parking_lot::Mutex;
use redb::StorageBackend;

use super::super::clean::CleanMark;
use super::layout::SECTOR;
use super::*;
use crate::ids::{FrameNo, ShardNo};
use crate::storage::record::samples;
use crate::storage::{FrameEncoder, FrameHash};

pub(super) const SEGMENT: u32 = 8 * 1024;
/// What the system has of a write that was cut short is whole pages.
const PAGE: usize = 4096;

/// SplitMix64: the same seed does the same.
pub(super) struct Random(pub(super) u64);

impl Random {
    pub(super) fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % bound as u64) as usize
    }
}

#[derive(Debug, Clone)]
enum Waiting {
    Write(usize, Vec<u8>),
    Length(usize),
}

#[derive(Debug, Default)]
struct State {
    now: Vec<u8>,
    safe: Vec<u8>,
    waiting: Vec<Waiting>,
    full: bool,
    operations: usize,
    syncs: usize,
    dies_at: Option<usize>,
    killed_at: Option<usize>,
}

impl State {
    fn is_killed(&self) -> bool {
        self.killed_at.is_some_and(|at| self.operations >= at)
    }
}

fn apply(bytes: &mut Vec<u8>, what: &Waiting) {
    match what {
        Waiting::Length(length) => bytes.resize(*length, 0),
        Waiting::Write(at, data) => {
            bytes.resize(bytes.len().max(at + data.len()), 0);
            bytes[*at..at + data.len()].copy_from_slice(data);
        }
    }
}

/// A disk with one file.
#[derive(Debug, Clone, Default)]
pub(super) struct Disk(Arc<Mutex<State>>);

impl Disk {
    pub(super) fn with(bytes: Vec<u8>) -> Disk {
        let state = State { now: bytes.clone(), safe: bytes, ..State::default() };
        Disk(Arc::new(Mutex::new(state)))
    }

    pub(super) fn bytes(&self) -> Vec<u8> {
        self.0.lock().now.clone()
    }

    pub(super) fn operations(&self) -> (usize, usize) {
        let state = self.0.lock();
        (state.operations, state.syncs)
    }

    /// Whether there is no room for a longer file from now on.
    pub(super) fn refuse_growth(&self, refuse: bool) {
        self.0.lock().full = refuse;
    }

    /// The power goes with the `n`-th operation from now on.
    fn die_in(&self, n: usize) {
        let state = &mut *self.0.lock();
        state.dies_at = Some(state.operations + n);
    }

    /// The process is killed at the `n`-th operation from now on: what it has written stays in the system's memory.
    fn kill_in(&self, n: usize) {
        let state = &mut *self.0.lock();
        state.killed_at = Some(state.operations + n);
    }

    /// Another process takes the place of one that was killed; false = none was.
    fn revive(&self) -> bool {
        let state = &mut *self.0.lock();
        state.is_killed() && state.killed_at.take().is_some()
    }

    /// What may be left: all that was synced, and of the rest any sectors.
    fn crash(&self, random: &mut Random) -> Vec<u8> {
        let state = self.0.lock();
        let (mut left, chance) = (state.safe.clone(), random.below(5));
        for waiting in &state.waiting {
            match waiting {
                Waiting::Length(_) if random.below(4) < chance => apply(&mut left, waiting),
                Waiting::Length(_) => {}
                Waiting::Write(at, data) => {
                    for (place, sector) in data.chunks(SECTOR).enumerate() {
                        if random.below(4) < chance {
                            apply(&mut left, &Waiting::Write(at + place * SECTOR, sector.to_vec()));
                        }
                    }
                }
            }
        }
        left
    }

    fn run(&self, what: Option<Waiting>) -> io::Result<()> {
        let state = &mut *self.0.lock();
        if state.is_killed() {
            // What it was just writing is there up to some page.
            if let Some(Waiting::Write(at, data)) = what.filter(|_| state.killed_at == Some(state.operations))
            {
                let end = (at + data.len() / 2) / PAGE * PAGE;
                let there = Waiting::Write(at, data[..end.saturating_sub(at)].to_vec());
                apply(&mut state.now, &there);
                state.waiting.push(there);
            }
            state.operations += 1;
            return Err(io::Error::other("the process is gone"));
        }
        let dies = state.dies_at.is_some_and(|at| state.operations >= at);
        match what {
            Some(what) => {
                apply(&mut state.now, &what);
                state.waiting.push(what);
            }
            None if dies => {}
            None => {
                state.safe = state.now.clone();
                state.waiting.clear();
                state.syncs += 1;
            }
        }
        state.operations += 1;
        if dies { Err(io::Error::other("the power is off")) } else { Ok(()) }
    }
}

impl StorageBackend for Disk {
    fn len(&self) -> io::Result<u64> {
        Ok(self.0.lock().now.len() as u64)
    }
    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let at = offset as usize;
        let state = self.0.lock();
        out.copy_from_slice(state.now.get(at..at + out.len()).ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }
    fn set_len(&self, len: u64) -> io::Result<()> {
        if self.0.lock().full {
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.run(Some(Waiting::Length(len as usize)))
    }
    fn sync_data(&self) -> io::Result<()> {
        self.run(None)
    }
    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.run(Some(Waiting::Write(offset as usize, data.to_vec())))
    }
}

/// Opens the log on a disk as a start does.
pub(super) fn open(disk: &Disk) -> Result<LogJournal, StorageError> {
    let file = DbFile::new(std::path::Path::new("journal.log"));
    let log = LogFile::open(Arc::new(disk.clone()), file, SEGMENT)?.with_beside(Some(Arc::new(disk.clone())));
    let (mark, _) = CleanMark::take(None).unwrap();
    let (mut journal, chain) = LogJournal::open(log, Arc::new(mark))?;
    let mut handed_over = Vec::new();
    let found = chain.walk(journal.log(), &mut |no, frames| {
        handed_over.push((no.0, frames.to_vec()));
        Ok(())
    })?;
    let boot = found.meta.boot + 1;
    journal.go_on(found);
    journal.set_boot(boot)?;
    assert!(handed_over.into_iter().eq(commits(&journal)?), "what a start replays is what it goes on with");
    Ok(journal)
}

/// Every commit that is not forgotten.
pub(super) fn commits(journal: &LogJournal) -> Result<BTreeMap<u64, Vec<u8>>, StorageError> {
    let mut found = BTreeMap::new();
    journal.shared.snapshot().read(&mut |no, frames| {
        assert_eq!(found.insert(no.0, frames.to_vec()), None);
        Ok(())
    })?;
    Ok(found)
}

/// Frames of two shards, without end.
pub(super) struct Frames {
    encoders: [FrameEncoder; 2],
    next: [u64; 2],
}

impl Frames {
    pub(super) fn new() -> Frames {
        let encoder = |shard| FrameEncoder::new(ShardNo(shard), 1, FrameNo(0), FrameHash::default());
        Frames { encoders: [encoder(0), encoder(1)], next: [1, 1] }
    }

    /// One of a shard with about so many bytes.
    pub(super) fn of(&mut self, shard: usize, bytes: usize) -> EncodedFrame {
        let no = FrameNo(self.next[shard]);
        self.next[shard] += 1;
        self.encoders[shard].encode(no, &[samples::plain_order(bytes)])
    }

    fn some(&mut self, random: &mut Random) -> Vec<EncodedFrame> {
        let bytes = [10, 300, 700, 5_000, 30_000][random.below(5)];
        let bytes = 1 + random.below(bytes);
        let both = random.below(2) == 0;
        let shard = random.below(2);
        let mut frames = vec![self.of(shard, bytes)];
        if both {
            frames.push(self.of(1 - shard, 20));
        }
        frames
    }
}

fn joined(frames: &[EncodedFrame]) -> Vec<u8> {
    frames.iter().flat_map(|frame| frame.bytes.iter().copied()).collect()
}

/// What was told to a log, over all its lives.
struct Story {
    what: String,
    random: Random,
    disk: Disk,
    journal: Option<LogJournal>,
    /// What is being made beside the commits.
    room: Option<Room>,
    frames: Frames,
    /// From commit 1 on, the one under way included.
    told: Vec<Vec<u8>>,
    acknowledged: u64,
    trimmed: u64,
    /// Ends of chains after each commit.
    ends: Vec<Vec<ChainBase>>,
}

impl Story {
    fn new(seed: u64) -> Story {
        let disk = Disk::default();
        let journal = Some(open(&disk).unwrap());
        Story {
            what: format!("seed {seed}"),
            random: Random(seed),
            disk,
            journal,
            room: None,
            frames: Frames::new(),
            told: Vec::new(),
            acknowledged: 0,
            trimmed: 0,
            ends: vec![Vec::new()],
        }
    }

    fn step(&mut self) {
        match self.random.below(24) {
            20.. => self.make_room(),
            0..=11 => self.append(),
            12..=14 => self.trim(),
            15 => {
                let done = self.journal.as_mut().unwrap().idle();
                self.after(done.map(drop));
            }
            16 => {
                (self.journal, self.room) = (None, None);
                // Killed in its last moments, if it was.
                let in_order = !self.disk.revive();
                self.reopen(in_order);
            }
            17 => self.crash(),
            18 => {
                let within = self.random.below(6);
                self.disk.die_in(within);
            }
            _ => {
                let within = self.random.below(6);
                self.disk.kill_in(within);
            }
        }
    }

    fn append(&mut self) {
        let frames = self.frames.some(&mut self.random);
        self.told.truncate(self.acknowledged as usize);
        self.ends.truncate(self.acknowledged as usize + 1);
        self.told.push(joined(&frames));
        let mut meta = JournalMeta { bases: self.ends.last().unwrap().clone(), ..JournalMeta::default() };
        for frame in &frames {
            meta.advance(FrameView::split(&frame.bytes).unwrap().0.base());
        }
        self.ends.push(meta.bases);
        let done = self.journal.as_mut().unwrap().append(&frames);
        if let Ok(no) = &done {
            self.acknowledged += 1;
            assert_eq!(no.0, self.acknowledged, "{}", self.what);
        }
        self.after(done.map(drop));
    }

    /// Claims some, or brings back what was claimed before, made or as it is.
    fn make_room(&mut self) {
        let journal = self.journal.as_mut().unwrap();
        let Some(room) = self.room.take() else {
            self.room = journal.claim_room();
            return;
        };
        let made = if self.random.below(4) == 0 { Ok(()) } else { room.make() };
        journal.bring_room(room);
        if made.is_err() {
            self.end();
        }
    }

    fn trim(&mut self) {
        let upto = self.trimmed + self.random.below((self.acknowledged - self.trimmed) as usize + 1) as u64;
        if self.journal.as_mut().unwrap().trim(CommitNo(upto)).is_ok() {
            self.trimmed = upto;
        }
    }

    /// A failure is that of the disk.
    fn after(&mut self, done: Result<(), StorageError>) {
        if let Err(error) = done {
            assert!(matches!(error, StorageError::Io { .. }), "{}: {error}", self.what);
            self.end();
        }
    }

    /// The end of a process that was killed, or of its disk's power.
    fn end(&mut self) {
        (self.journal, self.room) = (None, None);
        if self.disk.revive() { self.reopen(false) } else { self.crash() }
    }

    fn crash(&mut self) {
        loop {
            let left = self.disk.crash(&mut self.random);
            // Whoever still writes does it to a disk that nobody looks at any more.
            self.disk = Disk::with(left);
            if self.random.below(4) == 0 {
                let within = self.random.below(5);
                self.disk.die_in(within);
            }
            (self.journal, self.room) = (None, None);
            match open(&self.disk) {
                Ok(journal) => {
                    self.journal = Some(journal);
                    return self.check(false);
                }
                Err(StorageError::Io { .. }) => {}
                Err(error) => panic!("{}: {error}", self.what),
            }
        }
    }

    fn reopen(&mut self, in_order: bool) {
        match open(&self.disk) {
            Ok(journal) => {
                self.journal = Some(journal);
                let dying = self.disk.0.lock().dies_at.is_some();
                self.check(in_order && !dying);
            }
            Err(StorageError::Io { .. }) if self.disk.revive() => self.reopen(false),
            Err(_) => self.crash(),
        }
    }

    fn check(&mut self, in_order: bool) {
        let journal = self.journal.as_ref().unwrap();
        let what = &self.what;
        let last = journal.last.0;
        assert!(last == self.acknowledged || last == self.told.len() as u64, "{what}: commit {last}");
        assert!(last >= self.acknowledged, "{what}: {last} of {} acknowledged", self.acknowledged);
        assert!(journal.meta.trimmed <= self.trimmed, "{what}: forgotten before its time");
        assert!(!in_order || journal.meta.trimmed == self.trimmed, "{what}: not forgotten in the end");
        assert_eq!(journal.meta.bases, self.ends[journal.meta.trimmed as usize], "{what}: ends of chains");
        let found = commits(journal).unwrap_or_else(|error| panic!("{what}: {error}"));
        let expected: Vec<u64> = (journal.meta.trimmed + 1..=last).collect();
        assert_eq!(found.keys().copied().collect::<Vec<_>>(), expected, "{what}");
        for (no, frames) in found {
            assert!(frames == self.told[no as usize - 1], "{what}: commit {no} differs");
        }
        // What was asked of a life that ended before it was done is not known to the next one.
        (self.acknowledged, self.trimmed) = (last, journal.meta.trimmed);
        // Numbers go on after what is there: frames of a commit that is lost are never told again.
        self.told.truncate(last as usize);
        self.ends.truncate(last as usize + 1);
    }
}

fn stories() -> u64 {
    std::env::var("FLUXRELAY_LOG_STORIES").map_or(300, |count| count.parse().expect("a number"))
}

#[test]
fn no_crash_loses_an_acknowledged_commit_or_tears_one() {
    for seed in 0..stories() {
        let mut story = Story::new(seed);
        for _ in 0..60 {
            story.step();
        }
        story.crash();
    }
}
