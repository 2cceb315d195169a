//! A new log with the commits of another journal: for backups, and for journals of format 1. Never touches what it copies.

use std::sync::Arc;

use redb::StorageBackend;

use super::SEGMENT_BYTES;
use super::file::{LogFile, make};
use super::writer::Writer;
use crate::storage::contract::CommitNo;
use crate::storage::error::{DbFile, StorageError};
use crate::storage::record::JournalMeta;

/// Takes one commit, its frames one after the other.
pub(in crate::storage) type TakeCommit<'a> = &'a mut dyn FnMut(CommitNo, &[u8]) -> Result<(), StorageError>;

/// Writes a log into an empty file: where the journal stands, then what `commits` hands over, which are the commits after
/// those that are forgotten, in order. Durable when this returns.
pub(in crate::storage) fn write_copy(
    backend: Arc<dyn StorageBackend>,
    file: DbFile,
    salt: u64,
    meta: &JournalMeta,
    commits: impl FnOnce(TakeCommit<'_>) -> Result<(), StorageError>,
) -> Result<(), StorageError> {
    make(&*backend, SEGMENT_BYTES, salt).map_err(|error| file.io("make", &error))?;
    let log = LogFile::open(backend, file, SEGMENT_BYTES)?;
    let mut writer = Writer::new(log.clone(), 0, 0, std::iter::empty());
    writer.set_meta(meta);
    let mut last = CommitNo(meta.trimmed);
    writer.begin_run(last, 0)?;
    commits(&mut |no, frames| {
        assert_eq!(no.0, last.0 + 1, "commits are copied without a gap");
        last = no;
        writer.put_commit(no, std::iter::once(frames))
    })?;
    writer.make_durable(last)?;
    // The mark too, for nothing follows that would bring it to the disk.
    log.sync()?;
    log.close().map_err(|error| log.file.io("close", &error))
}
