//! `journal.log` as a file of sectors and slots: made, locked, its head and mark read and written. Knows no commit.

use std::ops::Bound;
use std::sync::Arc;

use redb::{BackendError, StorageBackend};

use super::layout::LOG_FORMAT;
use super::layout::{
    DATA_START, FileHead, MARK_AT, Mark, NoHead, SECTOR, Sector, SegmentHead, is_segment_size,
};
use crate::storage::error::{DbFile, StorageError};

/// The salt of a log on storage that no directory holds: tests see the same bytes each time.
const SALT_WITHOUT_DIRECTORY: u64 = 0x666c_7578_7265_6c61;

/// An open log.
#[derive(Debug, Clone)]
pub(in crate::storage) struct LogFile {
    pub(super) backend: Arc<dyn StorageBackend>,
    /// The same file through another description of it, for what is done beside the commits.
    pub(super) beside: Option<Arc<dyn StorageBackend>>,
    pub(in crate::storage) file: DbFile,
    pub(super) head: FileHead,
}

/// Makes a log without a commit: the head of the file and its mark, durable.
pub(in crate::storage) fn make(
    backend: &dyn StorageBackend,
    segment_bytes: u32,
    salt: u64,
) -> std::io::Result<()> {
    assert!(is_segment_size(segment_bytes), "a segment's size is a constant");
    let head = FileHead { segment_bytes, salt };
    let mut start = vec![0; usize::try_from(DATA_START).expect("4 KiB")];
    start[..SECTOR].copy_from_slice(&head.encode());
    let at = usize::try_from(MARK_AT).expect("512");
    start[at..at + SECTOR].copy_from_slice(&Mark::default().encode(&head));
    backend.set_len(DATA_START)?;
    backend.write(0, &start)?;
    backend.sync_data()
}

impl LogFile {
    /// Locks the log and reads its head. Storage without a byte is a new log with segments of this size.
    pub(in crate::storage) fn open(
        backend: Arc<dyn StorageBackend>,
        file: DbFile,
        segment_bytes: u32,
    ) -> Result<LogFile, StorageError> {
        lock(&*backend, &file)?;
        let length = backend.len().map_err(|error| file.io("open", &error))?;
        if length == 0 {
            make(&*backend, segment_bytes, SALT_WITHOUT_DIRECTORY)
                .map_err(|error| file.io("make", &error))?;
        } else if length < DATA_START {
            return Err(file.broken("its end", "it is shorter than it was written"));
        }
        let mut sector = [0; SECTOR];
        backend.read(0, &mut sector).map_err(|error| file.io("read", &error))?;
        let head = FileHead::decode(&sector).map_err(|error| match error {
            NoHead::Damaged(flaw) => file.broken("header", flaw),
            NoHead::TooNew(found) => {
                StorageError::TooNew { file: file.path().to_path_buf(), found, supported: LOG_FORMAT }
            }
        })?;
        Ok(LogFile { backend, beside: None, file, head })
    }

    /// Lets room for segments to come be made beside the commits, through this.
    pub(in crate::storage) fn with_beside(self, beside: Option<Arc<dyn StorageBackend>>) -> LogFile {
        LogFile { beside, ..self }
    }

    /// Whether they were one file when they were made, of which there are two copies since.
    pub(in crate::storage) fn is_of_one_with(&self, other: &LogFile) -> bool {
        self.head == other.head
    }

    /// Bytes of a segment.
    pub(super) fn segment_bytes(&self) -> usize {
        self.head.segment_bytes as usize
    }

    /// Where a slot begins; that of the first slot that is not there is the length of the file.
    pub(super) fn offset(&self, slot: u32) -> u64 {
        DATA_START + u64::from(slot) * u64::from(self.head.segment_bytes)
    }

    pub(super) fn len(&self) -> Result<u64, StorageError> {
        self.backend.len().map_err(|error| self.file.io("read", &error))
    }

    pub(super) fn read(&self, offset: u64, out: &mut [u8]) -> Result<(), StorageError> {
        self.backend.read(offset, out).map_err(|error| self.file.io("read", &error))
    }

    pub(super) fn write(&self, offset: u64, data: &[u8]) -> Result<(), StorageError> {
        self.backend.write(offset, data).map_err(|error| self.file.io("write", &error))
    }

    pub(super) fn set_len(&self, slots: u32) -> Result<(), StorageError> {
        self.backend.set_len(self.offset(slots)).map_err(|error| self.file.io("write", &error))
    }

    pub(super) fn sync(&self) -> Result<(), StorageError> {
        self.backend.sync_data().map_err(|error| self.file.io("commit to", &error))
    }

    pub(super) fn read_mark(&self) -> Result<Mark, StorageError> {
        let mut sector = [0; SECTOR];
        self.read(MARK_AT, &mut sector)?;
        Mark::decode(&sector, &self.head).map_err(|flaw| self.file.broken("the durable mark", flaw))
    }

    /// Not synced: it reaches the disk with the next sync at the latest.
    pub(super) fn write_mark(&self, mark: &Mark) -> Result<(), StorageError> {
        self.write(MARK_AT, &mark.encode(&self.head))
    }

    /// The heads of all segments in a file of this length, by rising number; slots without one are left out.
    pub(super) fn read_heads(&self, length: u64) -> Result<Vec<SegmentHead>, StorageError> {
        let mut heads = Vec::new();
        for slot in 0..self.slots(length) {
            let mut sector: Sector = [0; SECTOR];
            if self.offset(slot) + SECTOR as u64 <= length {
                self.read(self.offset(slot), &mut sector)?;
                heads.extend(SegmentHead::decode(&sector, slot, &self.head));
            }
        }
        heads.sort_by_key(|head| head.no);
        match heads.windows(2).find(|pair| pair[0].no == pair[1].no) {
            Some(pair) => Err(self.file.broken(&format!("segments/{}", pair[0].no), "it is there twice")),
            None => Ok(heads),
        }
    }

    /// Slots of a file of this length, one that is not whole included.
    pub(super) fn slots(&self, length: u64) -> u32 {
        let segments = length.saturating_sub(DATA_START).div_ceil(u64::from(self.head.segment_bytes));
        u32::try_from(segments).unwrap_or(u32::MAX)
    }

    /// Reads a segment up to `end`, in one read; zeros stand for what lies past the end of the file.
    pub(super) fn read_segment(&self, slot: u32, end: usize, out: &mut Vec<u8>) -> Result<(), StorageError> {
        let there = usize::try_from(self.len()?.saturating_sub(self.offset(slot))).unwrap_or(usize::MAX);
        let there = there.min(end);
        out.resize(end, 0);
        out[there..].fill(0);
        self.read(self.offset(slot), &mut out[..there])
    }

    /// Releases the lock.
    pub(super) fn close(&self) -> std::io::Result<()> {
        self.backend.close()
    }
}

/// One process has it, where the storage knows locks.
fn lock(backend: &dyn StorageBackend, file: &DbFile) -> Result<(), StorageError> {
    match backend.try_lock_range(Bound::Unbounded, Bound::Unbounded) {
        Ok(true) | Err(BackendError::Unsupported) => Ok(()),
        Ok(false) => Err(StorageError::InUse { file: file.path().to_path_buf() }),
        Err(BackendError::Io(error)) => Err(file.io("lock", &error)),
        Err(error) => Err(file.io("lock", &std::io::Error::other(error.to_string()))),
    }
}
