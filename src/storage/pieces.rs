//! A storage backend whose writes reach the disk in small pieces. A disk brings what it was given in turns or all at once:
//! a sync of the journal waits for what a sync of the store has begun, and for tens of megabytes that is tens of milliseconds.
//!
//! The database also writes while it holds a lock that readers want. So a write that is not part of a commit neither syncs nor
//! rests: whoever writes pays what is owed between two steps, with [`Pieces::pay`].
//!
//! What must stay true: once a sync has failed none succeeds any more. The system may have dropped what it could not write, and
//! a later sync knows nothing of that.

use std::io;
use std::ops::Bound;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::Mutex;
use redb::{BackendError, StorageBackend};

use crate::pace;

/// Bytes that are written before they are synced: a few milliseconds of a usual disk.
const PIECE_BYTES: u64 = 1024 * 1024;

/// What writes in pieces. One thread at a time writes, syncs and pays.
#[derive(Debug)]
pub(super) struct Pieces {
    backend: Box<dyn StorageBackend>,
    unsynced: AtomicU64,
    /// The database writes what is left, and holds nothing that anybody wants.
    commits: AtomicBool,
    /// The first error of a sync. Held while one is made.
    failed: Mutex<Option<(io::ErrorKind, String)>>,
}

impl Pieces {
    pub(super) fn new(backend: impl StorageBackend) -> Arc<Pieces> {
        Arc::new(Pieces {
            backend: Box::new(backend),
            unsynced: AtomicU64::new(0),
            commits: AtomicBool::new(false),
            failed: Mutex::new(None),
        })
    }

    /// Between two steps of a transaction: syncs what has come to a piece, and lets others go first.
    pub(super) fn pay(&self) -> io::Result<()> {
        if self.unsynced.load(Ordering::Relaxed) >= PIECE_BYTES {
            self.sync()?;
        }
        pace::breathe();
        Ok(())
    }

    /// Makes a commit, in which each write may take as long as it needs.
    pub(super) fn commit<R>(&self, commit: impl FnOnce() -> R) -> R {
        self.commits.store(true, Ordering::Relaxed);
        let committed = commit();
        self.commits.store(false, Ordering::Relaxed);
        committed
    }

    fn sync(&self) -> io::Result<()> {
        let mut failed = self.failed.lock();
        if let Some((kind, words)) = &*failed {
            return Err(io::Error::new(*kind, format!("a sync failed before: {words}")));
        }
        self.unsynced.store(0, Ordering::Relaxed);
        let synced = self.backend.sync_data();
        if let Err(error) = &synced {
            *failed = Some((error.kind(), error.to_string()));
        }
        pace::has_waited();
        synced
    }
}

/// What the database has of it.
#[derive(Debug)]
pub(super) struct InPieces(pub(super) Arc<Pieces>);

impl StorageBackend for InPieces {
    fn len(&self) -> Result<u64, io::Error> {
        self.0.backend.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> Result<(), io::Error> {
        self.0.backend.read(offset, out)
    }

    fn set_len(&self, len: u64) -> Result<(), io::Error> {
        self.0.backend.set_len(len)
    }

    fn sync_data(&self) -> Result<(), io::Error> {
        self.0.sync()
    }

    fn write(&self, offset: u64, data: &[u8]) -> Result<(), io::Error> {
        self.0.backend.write(offset, data)?;
        self.0.unsynced.fetch_add(data.len() as u64, Ordering::Relaxed);
        if self.0.commits.load(Ordering::Relaxed) { self.0.pay() } else { Ok(()) }
    }

    fn close(&self) -> Result<(), io::Error> {
        self.0.backend.close()
    }

    fn try_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.0.backend.try_lock_range(start, end)
    }

    fn try_lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.0.backend.try_lock_shared_range(start, end)
    }

    fn lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.0.backend.lock_range(start, end)
    }

    fn lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.0.backend.lock_shared_range(start, end)
    }

    fn unlock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.0.backend.unlock_range(start, end)
    }

    fn query_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.0.backend.query_lock_range(start, end)
    }
}

#[cfg(test)]
mod tests {
    use redb::backends::InMemoryBackend;

    use super::*;

    /// Counts syncs, and fails the one with this number.
    #[derive(Debug)]
    struct Counting {
        memory: InMemoryBackend,
        syncs: Arc<Mutex<u32>>,
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
            if *syncs == self.fails { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
        }

        fn write(&self, offset: u64, data: &[u8]) -> Result<(), io::Error> {
            self.memory.write(offset, data)
        }
    }

    const PAGE: usize = 4096;
    const PAGES: u64 = PIECE_BYTES / PAGE as u64;

    fn pieces(fails: u32) -> (InPieces, Arc<Mutex<u32>>) {
        let syncs = Arc::default();
        let counting = Counting { memory: InMemoryBackend::new(), syncs: Arc::clone(&syncs), fails };
        let backend = InPieces(Pieces::new(counting));
        backend.set_len(4 * PIECE_BYTES).unwrap();
        (backend, syncs)
    }

    fn write(backend: &InPieces, pages: u64) -> io::Result<()> {
        (0..pages).try_for_each(|page| backend.write(page * PAGE as u64, &[7; PAGE]))
    }

    #[test]
    fn a_commit_syncs_each_piece_and_what_is_synced_counts_no_more() {
        let (backend, syncs) = pieces(0);
        let committed = |pages| backend.0.commit(|| write(&backend, pages)).map(|()| *syncs.lock());
        assert_eq!(committed(PAGES - 1).unwrap(), 0);
        assert_eq!(committed(1).unwrap(), 1);
        assert_eq!(committed(PAGES - 1).unwrap(), 1);
        backend.sync_data().unwrap();
        assert_eq!(committed(PAGES - 1).unwrap(), 2);
        assert_eq!(committed(2 * PAGES).unwrap(), 4);
    }

    #[test]
    fn what_is_written_before_a_commit_is_synced_when_it_is_paid() {
        let (backend, syncs) = pieces(0);
        write(&backend, 3 * PAGES).unwrap();
        assert_eq!(*syncs.lock(), 0, "the database may hold a lock");
        backend.0.pay().unwrap();
        backend.0.pay().unwrap();
        assert_eq!(*syncs.lock(), 1);
        backend.0.commit(|| ());
        write(&backend, PAGES).unwrap();
        assert_eq!(*syncs.lock(), 1, "the commit is over");
    }

    #[test]
    fn after_a_failed_sync_none_succeeds() {
        let (backend, syncs) = pieces(1);
        write(&backend, PAGES).unwrap();
        assert!(backend.0.pay().is_err(), "the sync of the piece");
        let error = backend.sync_data().expect_err("though the disk is back");
        assert_eq!(error.kind(), io::ErrorKind::StorageFull, "{error}");
        assert_eq!(*syncs.lock(), 1, "it is not asked");
    }
}
