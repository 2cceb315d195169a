//! A disk that remembers every operation, so that what a crash at any of them would leave can be built.

use std::io;
use std::sync::Arc;

use parking_lot::Mutex;
use redb::StorageBackend;

/// The unit that a disk writes whole.
const SECTOR: usize = 512;

/// Which of the two files.
pub(crate) const JOURNAL: usize = 0;
/// Which of the two files.
pub(crate) const STORE: usize = 1;

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

#[derive(Debug, Clone)]
enum Operation {
    Write { file: usize, offset: usize, data: Vec<u8> },
    SetLen { file: usize, len: usize },
    Sync { file: usize },
}

/// The content of both files.
pub(crate) type Image = [Vec<u8>; 2];

#[derive(Debug, Default)]
struct State {
    base: Image,
    now: Image,
    log: Vec<Operation>,
    fail_at: Option<usize>,
    failed: bool,
}

/// Both files on one disk with one order of operations.
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

    pub(crate) fn file(&self, file: usize) -> DiskFile {
        DiskFile { disk: self.clone(), file }
    }

    /// How many operations there were.
    pub(crate) fn operations(&self) -> usize {
        self.0.lock().log.len()
    }

    /// Whether an operation has failed.
    pub(crate) fn failed(&self) -> bool {
        self.0.lock().failed
    }

    /// What may be left after a crash before the `n`-th operation: all that was synced; of the rest any sector or
    /// none, in any order.
    pub(crate) fn crash(&self, n: usize, random: &mut Random) -> Image {
        let state = self.0.lock();
        let mut image = state.base.clone();
        let mut waiting: [Vec<&Operation>; 2] = [Vec::new(), Vec::new()];
        for operation in &state.log[..n] {
            match operation {
                Operation::Write { file, .. } | Operation::SetLen { file, .. } => {
                    waiting[*file].push(operation);
                }
                Operation::Sync { file } => {
                    for operation in waiting[*file].drain(..) {
                        apply(&mut image[*file], operation);
                    }
                }
            }
        }
        for (file, waiting) in waiting.into_iter().enumerate() {
            leave_some(&mut image[file], waiting, random);
        }
        image
    }
}

/// Applies un-synced operations as a disk without power may have: the lengths first, then single sectors.
fn leave_some(image: &mut Vec<u8>, waiting: Vec<&Operation>, random: &mut Random) {
    // From "nothing got there" to "everything did", so that both ends are seen.
    let chance = random.below(5);
    let mut sectors: Vec<(usize, &[u8])> = Vec::new();
    for operation in waiting {
        match operation {
            Operation::SetLen { .. } if random.below(4) < chance => apply(image, operation),
            Operation::Write { offset, data, .. } => {
                let mut at = 0;
                while at < data.len() {
                    let end = data.len().min((offset + at) / SECTOR * SECTOR + SECTOR - offset);
                    if random.below(4) < chance {
                        sectors.push((offset + at, &data[at..end]));
                    }
                    at = end;
                }
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
        write(image, offset, data);
    }
}

fn apply(image: &mut Vec<u8>, operation: &Operation) {
    match operation {
        Operation::Write { offset, data, .. } => write(image, *offset, data),
        Operation::SetLen { len, .. } => image.resize(*len, 0),
        Operation::Sync { .. } => {}
    }
}

fn write(image: &mut Vec<u8>, offset: usize, data: &[u8]) {
    if image.len() < offset + data.len() {
        image.resize(offset + data.len(), 0);
    }
    image[offset..offset + data.len()].copy_from_slice(data);
}

/// One file of a [`Disk`].
#[derive(Debug)]
pub(crate) struct DiskFile {
    disk: Disk,
    file: usize,
}

impl DiskFile {
    fn run(&self, operation: Operation) -> io::Result<()> {
        let mut state = self.disk.0.lock();
        if state.fail_at.is_some_and(|n| state.log.len() >= n) {
            state.failed = true;
            let full = state.log.len().is_multiple_of(2);
            return Err(if full {
                io::ErrorKind::StorageFull.into()
            } else {
                io::Error::other("broken disk")
            });
        }
        apply(&mut state.now[self.file], &operation);
        state.log.push(operation);
        Ok(())
    }
}

impl StorageBackend for DiskFile {
    fn len(&self) -> io::Result<u64> {
        Ok(self.disk.0.lock().now[self.file].len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let at = offset as usize;
        let state = self.disk.0.lock();
        let Some(found) = state.now[self.file].get(at..at + out.len()) else {
            return Err(io::ErrorKind::UnexpectedEof.into());
        };
        out.copy_from_slice(found);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.run(Operation::SetLen { file: self.file, len: len as usize })
    }

    fn sync_data(&self) -> io::Result<()> {
        self.run(Operation::Sync { file: self.file })
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.run(Operation::Write { file: self.file, offset: offset as usize, data: data.to_vec() })
    }
}
