//! A disk that remembers every operation, so that what a crash at any of them would leave can be built. Must never give
//! an image anything that was not written, nor take from it what was synced.
//!
//! Files are pages that images share until one of them writes: an image costs what differs in it.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::sync::Arc;

use fluxrelay::storage::mirror::{Link, Pair, Tap};
use parking_lot::Mutex;
use redb::StorageBackend;

/// The unit that a disk writes whole.
const SECTOR: usize = 512;
/// The unit that images share.
const PAGE: usize = 4096;

/// Which of the files.
pub(crate) const JOURNAL: usize = 0;
/// Which of the files.
pub(crate) const STORE: usize = 1;
/// Which of the files.
pub(crate) const REGISTRY: usize = 2;
/// Files of a data directory.
pub(crate) const DATABASES: usize = 3;
/// Those, then the same of its mirror, which are empty unless the disk is a mirrored one.
const FILES: usize = 2 * DATABASES;

/// A small random source: the same seed gives the same run.
#[derive(Debug, Clone)]
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Random {
        Random(seed.wrapping_add(0x9e37_79b9_7f4a_7c15))
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }
}

/// The content of a file.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub(crate) struct Content {
    len: usize,
    pages: Vec<Arc<[u8; PAGE]>>,
}

/// The parts of `length` bytes at `offset` by page: page, place in it, place in the bytes, how many.
fn parts(offset: usize, length: usize) -> impl Iterator<Item = (usize, usize, usize, usize)> {
    let mut done = 0;
    std::iter::from_fn(move || {
        let at = offset + done;
        let count = (PAGE - at % PAGE).min(length - done);
        let part = (at / PAGE, at % PAGE, done, count);
        done += count;
        (count > 0).then_some(part)
    })
}

impl Content {
    fn read(&self, offset: usize, out: &mut [u8]) -> io::Result<()> {
        if offset + out.len() > self.len {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        for (page, within, at, count) in parts(offset, out.len()) {
            out[at..at + count].copy_from_slice(&self.pages[page][within..within + count]);
        }
        Ok(())
    }

    fn write(&mut self, offset: usize, data: &[u8]) {
        if self.len < offset + data.len() {
            self.resize(offset + data.len());
        }
        for (page, within, at, count) in parts(offset, data.len()) {
            Arc::make_mut(&mut self.pages[page])[within..within + count]
                .copy_from_slice(&data[at..at + count]);
        }
    }

    fn resize(&mut self, len: usize) {
        self.pages.resize_with(len.div_ceil(PAGE), || Arc::new([0; PAGE]));
        if len < self.len && !len.is_multiple_of(PAGE) {
            let last = self.pages.last_mut().expect("a length that is no multiple is not zero");
            Arc::make_mut(last)[len % PAGE..].fill(0);
        }
        self.len = len;
    }

    fn apply(&mut self, what: &What) {
        match what {
            What::Write { offset, data } => self.write(*offset, data),
            What::SetLen(len) => self.resize(*len),
            What::Sync => {}
        }
    }

    /// Changes the whole of it at once.
    pub(crate) fn edit(&mut self, change: impl FnOnce(&mut Vec<u8>)) {
        let mut bytes = vec![0; self.len];
        self.read(0, &mut bytes).expect("all of it is there");
        change(&mut bytes);
        *self = Content::default();
        self.write(0, &bytes);
    }

    /// A number that tells contents apart, within one run of a program.
    pub(crate) fn digest(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.hash(&mut hasher);
        hasher.finish()
    }
}

/// The content of all files.
pub(crate) type Image = [Content; FILES];

#[derive(Debug, Clone)]
enum What {
    Write { offset: usize, data: Arc<[u8]> },
    SetLen(usize),
    Sync,
}

/// An operation with its number among those of all files.
#[derive(Debug, Clone)]
struct Operation {
    no: usize,
    what: What,
}

type Logs = [Vec<Operation>; FILES];

#[derive(Debug, Default)]
struct State {
    base: Image,
    now: Image,
    logs: Logs,
    count: usize,
    /// Whatever is written to a file is written to the mirror's too.
    mirrored: Option<Arc<Link>>,
    fail_at: Option<usize>,
    failed: bool,
    dead: bool,
}

/// All files on one disk with one order of operations.
#[derive(Debug, Clone, Default)]
pub(crate) struct Disk(Arc<Mutex<State>>);

impl Disk {
    /// A disk with this content, all of it safe.
    pub(crate) fn with(base: Image) -> Disk {
        let now = base.clone();
        Disk(Arc::new(Mutex::new(State { base, now, ..State::default() })))
    }

    /// A disk whose `n`-th operation from now on, and all after it, fail.
    pub(crate) fn failing(base: Image, n: usize) -> Disk {
        let disk = Disk::with(base);
        disk.0.lock().fail_at = Some(n);
        disk
    }

    /// A disk with this content, all of it safe, and the same on the files of its mirror. A mirror that fails is an error.
    pub(crate) fn mirrored(base: &Image) -> Disk {
        let disk = Disk::with(std::array::from_fn(|file| base[file % DATABASES].clone()));
        disk.0.lock().mirrored = Some(Link::new(|error| Err(error.kind().into())));
        disk
    }

    /// One of the databases.
    pub(crate) fn file(&self, file: usize) -> Pair<DiskFile> {
        let mirrored = self.0.lock().mirrored.clone();
        let link = mirrored.clone().unwrap_or_else(|| Link::new(|_| Ok(())));
        let tap = Tap::new("a file", &link);
        if mirrored.is_some() {
            let mirror = DiskFile { disk: self.clone(), file: file + DATABASES };
            tap.attach(mirror).expect("a thread");
            link.set_in_step();
        }
        Pair::new(DiskFile { disk: self.clone(), file }, tap)
    }

    /// How many operations there were.
    pub(crate) fn operations(&self) -> usize {
        self.0.lock().count
    }

    /// Whether an operation has failed.
    pub(crate) fn failed(&self) -> bool {
        self.0.lock().failed
    }

    /// Nothing is read or written any more, so that whoever holds the files can be dropped for nothing.
    pub(crate) fn kill(&self) {
        self.0.lock().dead = true;
    }

    /// Everything that was done so far.
    pub(crate) fn tape(&self) -> Tape {
        let state = self.0.lock();
        Tape { base: state.base.clone(), logs: state.logs.clone(), operations: state.count }
    }

    /// What may be left after a crash before the `n`-th operation.
    pub(crate) fn crash(&self, n: usize, random: &mut Random) -> Image {
        let tape = self.tape();
        tape.start().crash([n; DATABASES], random).0
    }
}

/// All operations on a disk from a content that was safe.
#[derive(Debug)]
pub(crate) struct Tape {
    base: Image,
    logs: Logs,
    operations: usize,
}

impl Tape {
    /// How many there are.
    pub(crate) fn operations(&self) -> usize {
        self.operations
    }

    /// The disk before the first of them.
    pub(crate) fn start(&self) -> Playback<'_> {
        Playback { tape: self, safe: self.base.clone(), synced: [0; FILES], done: [0; FILES] }
    }
}

/// What became of un-synced writes.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Left {
    /// Un-synced sectors that got to the disk.
    pub(crate) kept: u64,
    /// Un-synced sectors that did not.
    pub(crate) dropped: u64,
    /// Sectors of writes of which some sectors got there and others did not.
    pub(crate) torn: u64,
}

/// The disk at some operation of a tape.
#[derive(Debug, Clone)]
pub(crate) struct Playback<'t> {
    tape: &'t Tape,
    safe: Image,
    /// Operations of each file that are in `safe`.
    synced: [usize; FILES],
    /// Operations of each file that were done.
    done: [usize; FILES],
}

impl Playback<'_> {
    /// Goes on to before the `n`-th operation.
    pub(crate) fn advance(&mut self, n: usize) {
        (0..FILES).for_each(|file| self.advance_file(file, n));
    }

    fn advance_file(&mut self, file: usize, n: usize) {
        let log = &self.tape.logs[file];
        while let Some(operation) = log.get(self.done[file]).filter(|operation| operation.no < n) {
            self.done[file] += 1;
            if matches!(operation.what, What::Sync) {
                for synced in &log[self.synced[file]..self.done[file]] {
                    self.safe[file].apply(&synced.what);
                }
                self.synced[file] = self.done[file];
            }
        }
    }

    /// What may be left after a crash, each file (and its mirror) before an operation of its own: all that was synced; of
    /// the rest any sector or none, in any order.
    pub(crate) fn crash(mut self, cuts: [usize; DATABASES], random: &mut Random) -> (Image, Left) {
        let mut left = Left::default();
        for file in 0..FILES {
            self.advance_file(file, cuts[file % DATABASES]);
            let waiting = &self.tape.logs[file][self.synced[file]..self.done[file]];
            if file >= DATABASES && waiting.is_empty() {
                continue;
            }
            leave_some(&mut self.safe[file], waiting, random, &mut left);
        }
        (self.safe, left)
    }
}

/// Applies un-synced operations as a disk without power may have: the lengths first, then single sectors.
fn leave_some(image: &mut Content, waiting: &[Operation], random: &mut Random, left: &mut Left) {
    // From "nothing got there" to "everything did", so that both ends are seen.
    let chance = random.below(5);
    let mut sectors: Vec<(usize, &[u8])> = Vec::new();
    for operation in waiting {
        match &operation.what {
            What::SetLen(_) if random.below(4) < chance => image.apply(&operation.what),
            What::Write { offset, data } => {
                let (mut at, mut kept, mut dropped) = (0, 0, 0);
                while at < data.len() {
                    let end = data.len().min((offset + at) / SECTOR * SECTOR + SECTOR - offset);
                    if random.below(4) < chance {
                        sectors.push((offset + at, &data[at..end]));
                        kept += 1;
                    } else {
                        dropped += 1;
                    }
                    at = end;
                }
                left.kept += kept;
                left.dropped += dropped;
                left.torn += if kept > 0 && dropped > 0 { kept + dropped } else { 0 };
            }
            _ => {}
        }
    }
    if random.below(2) == 0 {
        for at in (1..sectors.len()).rev() {
            sectors.swap(at, random.below(at + 1));
        }
    }
    for (offset, data) in sectors {
        image.write(offset, data);
    }
}

/// One file of a [`Disk`].
#[derive(Debug)]
pub(crate) struct DiskFile {
    disk: Disk,
    file: usize,
}

impl DiskFile {
    fn run(&self, what: What) -> io::Result<()> {
        let state = &mut *self.disk.0.lock();
        if state.dead {
            return Err(io::Error::other("the power is off"));
        }
        if state.fail_at.is_some_and(|n| state.count >= n) {
            state.failed = true;
            let full = state.count.is_multiple_of(2);
            return Err(if full {
                io::ErrorKind::StorageFull.into()
            } else {
                io::Error::other("broken disk")
            });
        }
        state.now[self.file].apply(&what);
        state.logs[self.file].push(Operation { no: state.count, what });
        state.count += 1;
        Ok(())
    }
}

impl StorageBackend for DiskFile {
    fn len(&self) -> io::Result<u64> {
        Ok(self.disk.0.lock().now[self.file].len as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let state = self.disk.0.lock();
        if state.dead {
            return Err(io::Error::other("the power is off"));
        }
        state.now[self.file].read(offset as usize, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.run(What::SetLen(len as usize))
    }

    fn sync_data(&self) -> io::Result<()> {
        self.run(What::Sync)
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.run(What::Write { offset: offset as usize, data: data.into() })
    }
}
