//! A file that can be opened as a database without being changed: what redb writes stays in memory.
//!
//! Opening after an unclean end writes (redb mends its bookkeeping), and so does the walk over every page. Here those
//! bytes never reach the file, so that a check may be made of a directory that somebody still wants to copy as it is.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::ops::Bound;

use parking_lot::Mutex;
use redb::backends::FileBackend;
use redb::{BackendError, StorageBackend};

/// Bytes that are kept in memory together.
const BLOCK: usize = 4096;

type Range = Bound<u64>;

/// See the module.
#[derive(Debug)]
pub(super) struct Overlay {
    file: FileBackend,
    changed: Mutex<Changed>,
}

/// What differs from the file.
#[derive(Debug)]
struct Changed {
    len: u64,
    /// From here on the file's bytes do not count: it was cut there once.
    file_until: u64,
    blocks: BTreeMap<u64, Box<[u8; BLOCK]>>,
}

impl Overlay {
    /// Over an open file, which is locked by redb's own locks while it is a database.
    pub(super) fn new(file: File) -> Result<Overlay, redb::DatabaseError> {
        let file = FileBackend::new(file)?;
        let len = file.len()?;
        Ok(Overlay { file, changed: Mutex::new(Changed { len, file_until: len, blocks: BTreeMap::new() }) })
    }

    /// The file's bytes where it has some that count, zeros elsewhere.
    fn read_file(&self, file_until: u64, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let there = file_until.saturating_sub(offset).min(out.len() as u64);
        let (from_file, beyond) = out.split_at_mut(usize::try_from(there).expect("not above a length"));
        beyond.fill(0);
        if from_file.is_empty() { Ok(()) } else { self.file.read(offset, from_file) }
    }
}

/// The parts of `length` bytes at `offset` by block: block, place in it, place in the bytes, how many.
fn parts(offset: u64, length: usize) -> impl Iterator<Item = (u64, usize, usize, usize)> {
    let mut done = 0;
    std::iter::from_fn(move || {
        let at = offset + done as u64;
        let within = usize::try_from(at % BLOCK as u64).expect("below a block's length");
        let count = (BLOCK - within).min(length - done);
        let part = (at / BLOCK as u64, within, done, count);
        done += count;
        (count > 0).then_some(part)
    })
}

impl StorageBackend for Overlay {
    fn len(&self) -> Result<u64, io::Error> {
        Ok(self.changed.lock().len)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> Result<(), io::Error> {
        let changed = self.changed.lock();
        if offset.saturating_add(out.len() as u64) > changed.len {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.read_file(changed.file_until, offset, out)?;
        for (block, within, at, count) in parts(offset, out.len()) {
            if let Some(bytes) = changed.blocks.get(&block) {
                out[at..at + count].copy_from_slice(&bytes[within..within + count]);
            }
        }
        Ok(())
    }

    fn set_len(&self, len: u64) -> Result<(), io::Error> {
        let mut changed = self.changed.lock();
        if len < changed.len {
            changed.file_until = changed.file_until.min(len);
            changed.blocks.split_off(&len.div_ceil(BLOCK as u64));
            let within = usize::try_from(len % BLOCK as u64).expect("below a block's length");
            if let Some(last) = changed.blocks.get_mut(&(len / BLOCK as u64)) {
                last[within..].fill(0);
            }
        }
        changed.len = len;
        Ok(())
    }

    fn sync_data(&self) -> Result<(), io::Error> {
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> Result<(), io::Error> {
        let mut changed = self.changed.lock();
        for (block, within, at, count) in parts(offset, data.len()) {
            if !changed.blocks.contains_key(&block) {
                let mut bytes = Box::new([0; BLOCK]);
                self.read_file(changed.file_until, block * BLOCK as u64, &mut bytes[..])?;
                changed.blocks.insert(block, bytes);
            }
            let bytes = changed.blocks.get_mut(&block).expect("it was just put there");
            bytes[within..within + count].copy_from_slice(&data[at..at + count]);
        }
        Ok(())
    }

    fn close(&self) -> Result<(), io::Error> {
        self.file.close()
    }

    fn try_lock_range(&self, start: Range, end: Range) -> Result<bool, BackendError> {
        self.file.try_lock_range(start, end)
    }

    fn try_lock_shared_range(&self, start: Range, end: Range) -> Result<bool, BackendError> {
        self.file.try_lock_shared_range(start, end)
    }

    fn lock_range(&self, start: Range, end: Range) -> Result<(), BackendError> {
        self.file.lock_range(start, end)
    }

    fn lock_shared_range(&self, start: Range, end: Range) -> Result<(), BackendError> {
        self.file.lock_shared_range(start, end)
    }

    fn unlock_range(&self, start: Range, end: Range) -> Result<(), BackendError> {
        self.file.unlock_range(start, end)
    }

    fn query_lock_range(&self, start: Range, end: Range) -> Result<bool, BackendError> {
        self.file.query_lock_range(start, end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_and_the_file_stays() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        let before: Vec<u8> = (0..3 * BLOCK + 100).map(|at| at as u8).collect();
        std::fs::write(&path, &before).unwrap();
        let file = std::fs::OpenOptions::new().read(true).write(true).open(&path).unwrap();
        let overlay = Overlay::new(file).unwrap();
        let mut model = before.clone();
        overlay.write(BLOCK as u64 - 3, &[9; 7]).unwrap();
        model[BLOCK - 3..BLOCK + 4].fill(9);
        overlay.set_len(2 * BLOCK as u64 + 10).unwrap();
        model.truncate(2 * BLOCK + 10);
        overlay.set_len(5 * BLOCK as u64).unwrap();
        model.resize(5 * BLOCK, 0);
        overlay.write(4 * BLOCK as u64, &[7; 5]).unwrap();
        model[4 * BLOCK..4 * BLOCK + 5].fill(7);
        let mut found = vec![1; model.len()];
        overlay.read(0, &mut found).unwrap();
        assert!(found == model, "bytes differ");
        assert!(overlay.read(1, &mut found).is_err(), "past the end");
        assert!(std::fs::read(&path).unwrap() == before, "the file was changed");
    }
}
