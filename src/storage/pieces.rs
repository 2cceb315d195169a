//! A storage backend whose writes reach the disk in small pieces. A disk brings what it was given in turns or all at once:
//! a sync of the journal waits for what a sync of the store has begun, and for tens of megabytes that is tens of milliseconds.
//!
//! What must stay true: once a sync has failed none succeeds any more. The system may have dropped what it could not write, and
//! a later sync knows nothing of that.

use std::io;
use std::ops::Bound;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use redb::{BackendError, StorageBackend};

use crate::pace;

/// Bytes that are written before they are synced: a few milliseconds of a usual disk.
const PIECE_BYTES: u64 = 1024 * 1024;

/// See the module.
#[derive(Debug)]
pub(super) struct Pieces<B> {
    backend: B,
    unsynced: AtomicU64,
    failed: AtomicBool,
}

impl<B> Pieces<B> {
    pub(super) fn new(backend: B) -> Pieces<B> {
        Pieces { backend, unsynced: AtomicU64::new(0), failed: AtomicBool::new(false) }
    }
}

impl<B: StorageBackend> StorageBackend for Pieces<B> {
    fn len(&self) -> Result<u64, io::Error> {
        self.backend.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> Result<(), io::Error> {
        self.backend.read(offset, out)
    }

    fn set_len(&self, len: u64) -> Result<(), io::Error> {
        self.backend.set_len(len)
    }

    fn sync_data(&self) -> Result<(), io::Error> {
        if self.failed.load(Ordering::Acquire) {
            return Err(io::Error::other("a sync before this one failed"));
        }
        self.unsynced.store(0, Ordering::Relaxed);
        let synced = self.backend.sync_data();
        self.failed.fetch_or(synced.is_err(), Ordering::AcqRel);
        pace::has_waited();
        synced
    }

    fn write(&self, offset: u64, data: &[u8]) -> Result<(), io::Error> {
        self.backend.write(offset, data)?;
        let bytes = data.len() as u64;
        if self.unsynced.fetch_add(bytes, Ordering::Relaxed) + bytes >= PIECE_BYTES {
            self.sync_data()?;
        }
        // Of all who write here only the thread of the checkpoints takes its time, and nobody else wants what it holds.
        pace::breathe();
        Ok(())
    }

    fn close(&self) -> Result<(), io::Error> {
        self.backend.close()
    }

    fn try_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.backend.try_lock_range(start, end)
    }

    fn try_lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.backend.try_lock_shared_range(start, end)
    }

    fn lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.backend.lock_range(start, end)
    }

    fn lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.backend.lock_shared_range(start, end)
    }

    fn unlock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.backend.unlock_range(start, end)
    }

    fn query_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.backend.query_lock_range(start, end)
    }
}

#[cfg(test)]
mod tests {
    use parking_lot::Mutex;
    use redb::backends::InMemoryBackend;

    use super::*;

    /// Counts syncs, and fails the one with this number.
    #[derive(Debug, Default)]
    struct Counting {
        memory: InMemoryBackend,
        syncs: Mutex<u32>,
        fails: u32,
    }

    impl StorageBackend for Counting {
        fn len(&self) -> Result<u64, io::Error> {
            self.memory.len()
        }

        fn read(&self, offset: u64, out: &mut [u8]) -> Result<(), io::Error> {
            self.memory.read(offset, out)
        }

        fn set_len(&self, len: u64) -> Result<(), io::Error> {
            self.memory.set_len(len)
        }

        fn sync_data(&self) -> Result<(), io::Error> {
            let mut syncs = self.syncs.lock();
            *syncs += 1;
            if *syncs == self.fails { Err(io::Error::other("the disk is gone")) } else { Ok(()) }
        }

        fn write(&self, offset: u64, data: &[u8]) -> Result<(), io::Error> {
            self.memory.write(offset, data)
        }
    }

    const PAGE: usize = 4096;
    const PAGES: u64 = PIECE_BYTES / PAGE as u64;

    fn written(backend: &Pieces<Counting>, pages: u64) -> Result<u32, io::Error> {
        (0..pages).try_for_each(|page| backend.write(page * PAGE as u64, &[7; PAGE]))?;
        Ok(*backend.backend.syncs.lock())
    }

    fn pieces(fails: u32) -> Pieces<Counting> {
        let pieces = Pieces::new(Counting { fails, ..Counting::default() });
        pieces.set_len(4 * PIECE_BYTES).unwrap();
        pieces
    }

    #[test]
    fn each_piece_is_synced_and_what_is_synced_counts_no_more() {
        let backend = pieces(0);
        assert_eq!(written(&backend, PAGES - 1).unwrap(), 0);
        assert_eq!(written(&backend, 1).unwrap(), 1);
        assert_eq!(written(&backend, PAGES - 1).unwrap(), 1);
        backend.sync_data().unwrap();
        assert_eq!(written(&backend, PAGES - 1).unwrap(), 2);
        assert_eq!(written(&backend, 2 * PAGES).unwrap(), 4);
    }

    #[test]
    fn after_a_failed_sync_none_succeeds() {
        let backend = pieces(1);
        assert!(written(&backend, PAGES).is_err(), "the sync of the piece");
        assert!(backend.sync_data().is_err(), "though the disk is back");
        assert_eq!(*backend.backend.syncs.lock(), 1, "it is not asked");
    }
}
