//! A disk with two files that remembers what was synced, and breaks as it is told. Must never lose what was synced, nor
//! hold back what was not for longer than a crash.

use std::io;
use std::sync::Arc;

use parking_lot::Mutex;
use redb::StorageBackend;

use crate::random::Random;

/// The unit that a disk writes whole.
const SECTOR: usize = 512;

/// Which of the two files.
pub(crate) const JOURNAL: usize = 0;
/// Which of the two files.
pub(crate) const STORE: usize = 1;

/// The content of both files.
pub(crate) type Image = [Vec<u8>; 2];

/// What goes wrong with the operation whose turn it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The machine loses power just before it, or just after.
    Crash,
    /// It fails, and so do all after it until the process ends.
    Error,
    /// It fails, once.
    ErrorOnce,
    /// It is a sync, or the next one: it fails, and what it should have made safe may be lost.
    SyncError,
    /// It is a read, or the next one: it fails, once.
    ReadError,
}

#[derive(Debug)]
enum Waiting {
    Write { offset: usize, data: Vec<u8> },
    SetLen(usize),
}

#[derive(Debug, Default)]
struct File {
    /// As the processes see it.
    now: Vec<u8>,
    /// As a power loss leaves it at least.
    safe: Vec<u8>,
    waiting: Vec<Waiting>,
}

#[derive(Debug)]
struct State {
    files: [File; 2],
    /// Handles of an earlier one are those of a dead process.
    generation: u64,
    /// After so many operations.
    fault: Option<(u64, Fault)>,
    broken: bool,
    full: bool,
    /// The power is off.
    dead: bool,
    /// What did go wrong, since it was last asked.
    happened: Vec<&'static str>,
    random: Random,
}

/// See the module.
#[derive(Debug, Clone)]
pub(crate) struct Disk(Arc<Mutex<State>>);

impl Disk {
    /// A disk with this content, all of it safe.
    pub(crate) fn new(image: Image, random: Random) -> Disk {
        let files = image.map(|safe| File { now: safe.clone(), safe, waiting: Vec::new() });
        let (fault, happened) = (None, Vec::new());
        let state =
            State { files, generation: 0, fault, broken: false, full: false, dead: false, happened, random };
        Disk(Arc::new(Mutex::new(state)))
    }

    /// A handle of the process that runs now.
    pub(crate) fn file(&self, file: usize) -> DiskFile {
        DiskFile { disk: self.clone(), file, generation: self.0.lock().generation }
    }

    /// What the files hold.
    pub(crate) fn image(&self) -> Image {
        let state = self.0.lock();
        [state.files[0].now.clone(), state.files[1].now.clone()]
    }

    /// Something will go wrong after so many operations.
    pub(crate) fn plan(&self, after: u64, fault: Fault) {
        self.0.lock().fault = Some((after, fault));
    }

    /// Nothing will go wrong any more.
    pub(crate) fn heal(&self) {
        let mut state = self.0.lock();
        (state.fault, state.full) = (None, false);
    }

    pub(crate) fn set_full(&self, full: bool) {
        self.0.lock().full = full;
    }

    /// The power went off.
    pub(crate) fn is_dead(&self) -> bool {
        self.0.lock().dead
    }

    pub(crate) fn take_happened(&self) -> Vec<&'static str> {
        std::mem::take(&mut self.0.lock().happened)
    }

    /// The process is gone, and with `power` the machine was, too: then un-synced writes are there, or not, sector by
    /// sector. A file whose sync has failed is read anew from the disk, whatever memory held of it.
    pub(crate) fn end_process(&self, power: bool) {
        let state = &mut *self.0.lock();
        state.generation += 1;
        if power || state.dead || state.broken {
            for file in &mut state.files {
                let waiting = std::mem::take(&mut file.waiting);
                leave_some(&mut file.safe, waiting, &mut state.random);
                file.now.clone_from(&file.safe);
            }
            // What is left of a crash was on the disk before anybody reads it.
        }
        if state.fault.is_some_and(|(_, fault)| fault != Fault::Crash) {
            state.fault = None;
        }
        (state.broken, state.dead) = (false, false);
    }
}

/// Applies un-synced operations as a disk without power may have: the lengths first, then single sectors.
fn leave_some(image: &mut Vec<u8>, waiting: Vec<Waiting>, random: &mut Random) {
    // From "nothing got there" to "everything did", so that both ends are seen.
    let chance = random.below(5);
    let mut sectors: Vec<(usize, &[u8])> = Vec::new();
    for operation in &waiting {
        match operation {
            Waiting::SetLen(len) if random.chance(chance, 4) => image.resize(*len, 0),
            Waiting::SetLen(_) => {}
            Waiting::Write { offset, data } => {
                let mut at = 0;
                while at < data.len() {
                    let end = data.len().min((offset + at) / SECTOR * SECTOR + SECTOR - offset);
                    if random.chance(chance, 4) {
                        sectors.push((offset + at, &data[at..end]));
                    }
                    at = end;
                }
            }
        }
    }
    if random.chance(1, 2) {
        for at in (1..sectors.len()).rev() {
            sectors.swap(at, random.below(at as u64 + 1) as usize);
        }
    }
    for (offset, data) in sectors {
        write(image, offset, data);
    }
}

fn write(image: &mut Vec<u8>, offset: usize, data: &[u8]) {
    if image.len() < offset + data.len() {
        image.resize(offset + data.len(), 0);
    }
    image[offset..offset + data.len()].copy_from_slice(data);
}

impl File {
    fn apply(&mut self, operation: Waiting) {
        match &operation {
            Waiting::Write { offset, data } => write(&mut self.now, *offset, data),
            Waiting::SetLen(len) => self.now.resize(*len, 0),
        }
        self.waiting.push(operation);
    }

    fn sync(&mut self) {
        for operation in self.waiting.drain(..) {
            match operation {
                Waiting::Write { offset, data } => write(&mut self.safe, offset, &data),
                Waiting::SetLen(len) => self.safe.resize(len, 0),
            }
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Read,
    Write,
    Sync,
}

impl State {
    /// Whether an operation goes ahead. `Ok(true)` = it does, and the power goes off after it.
    fn gate(&mut self, kind: Kind) -> io::Result<bool> {
        let broken = || io::Error::other("broken disk");
        if self.dead {
            return Err(broken());
        }
        if kind == Kind::Write && self.full {
            self.happened.push("disk full");
            self.broken = true;
            return Err(io::ErrorKind::StorageFull.into());
        }
        if self.broken && kind != Kind::Read && self.fault.is_some_and(|(_, fault)| fault == Fault::Error) {
            return Err(broken());
        }
        let Some((after, fault)) = &mut self.fault else { return Ok(false) };
        // Reads are many and change nothing: they count only where they are meant.
        if (kind == Kind::Read) != (*fault == Fault::ReadError) {
            return Ok(false);
        }
        *after = after.saturating_sub(1);
        if *after > 0 || (*fault == Fault::SyncError && kind != Kind::Sync) {
            return Ok(false);
        }
        let fault = *fault;
        match fault {
            Fault::Crash => {
                self.fault = None;
                self.happened.push(if kind == Kind::Sync { "crash at a sync" } else { "crash at a write" });
                if self.random.chance(1, 2) {
                    return Ok(true);
                }
                self.dead = true;
            }
            Fault::Error => {
                self.happened.push("disk error, lasting");
                self.broken = true;
            }
            Fault::ErrorOnce => {
                self.happened.push("disk error, once");
                (self.fault, self.broken) = (None, true);
            }
            Fault::SyncError => {
                self.happened.push("sync error");
                (self.fault, self.broken) = (None, true);
            }
            Fault::ReadError => {
                self.happened.push("read error");
                self.fault = None;
            }
        }
        Err(broken())
    }
}

/// One file of a [`Disk`], opened by one process.
#[derive(Debug)]
pub(crate) struct DiskFile {
    disk: Disk,
    file: usize,
    generation: u64,
}

impl DiskFile {
    fn run<T>(&self, kind: Kind, operation: impl FnOnce(&mut File) -> io::Result<T>) -> io::Result<T> {
        let state = &mut *self.disk.0.lock();
        if state.generation != self.generation {
            return Err(io::Error::other("the process is gone"));
        }
        let last = state.gate(kind)?;
        let done = operation(&mut state.files[self.file]);
        if last {
            state.dead = true;
            return Err(io::Error::other("the power is off"));
        }
        done
    }
}

impl StorageBackend for DiskFile {
    fn len(&self) -> io::Result<u64> {
        Ok(self.disk.0.lock().files[self.file].now.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let at = offset as usize;
        self.run(Kind::Read, |file| {
            let Some(found) = file.now.get(at..at + out.len()) else {
                return Err(io::ErrorKind::UnexpectedEof.into());
            };
            out.copy_from_slice(found);
            Ok(())
        })
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.run(Kind::Write, |file| {
            file.apply(Waiting::SetLen(len as usize));
            Ok(())
        })
    }

    fn sync_data(&self) -> io::Result<()> {
        self.run(Kind::Sync, |file| {
            file.sync();
            Ok(())
        })
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.run(Kind::Write, |file| {
            file.apply(Waiting::Write { offset: offset as usize, data: data.to_vec() });
            Ok(())
        })
    }
}
