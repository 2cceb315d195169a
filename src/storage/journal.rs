//! The journal in `journal.redb`: one row per group commit. Never interprets a change.
//!
//! After the first error it refuses everything: what redb holds in memory may no longer be what is on disk.

use std::sync::{Arc, Weak};

use redb::{Database, ReadableTable, Table, WriteTransaction};

use super::clean::CleanMark;
use super::contract::{CommitNo, EncodedFrame, Journal};
use super::error::{DbFile, StorageError};
use super::frame::FrameView;
use super::record::{Flaw, JournalMeta, Kind, SEAL_BYTES, finish_seal, unseal};
use super::tables::{COMMITS, META, begin_durable, check_format};

/// Forgotten commits that one append removes, at most: enough to catch up, too few to be felt.
const TRIM_ROWS_MAX: usize = 64;
/// Bytes of forgotten commits that one append removes, at most (the last may go over).
const TRIM_BYTES_MAX: usize = 1024 * 1024;

/// The row of `META` that says where the journal stands.
pub(super) const JOURNAL_KEY: &str = "journal";

/// [`Journal`] on redb.
#[derive(Debug)]
pub struct RedbJournal {
    /// `None` only while it is being dropped.
    db: Option<Arc<Database>>,
    file: DbFile,
    meta: JournalMeta,
    last: CommitNo,
    trim_upto: CommitNo,
    failed: Option<StorageError>,
    mark: Arc<CleanMark>,
}

impl RedbJournal {
    /// Takes over an open database; makes its tables when it is new.
    pub(super) fn new(
        db: Arc<Database>,
        file: DbFile,
        mark: Arc<CleanMark>,
    ) -> Result<RedbJournal, StorageError> {
        let transaction = begin_durable(&db, &file)?;
        let new = check_format(&transaction, &file, |t| t.open_table(COMMITS).map(drop))?;
        let (meta, last) = if new {
            (JournalMeta::default(), CommitNo(0))
        } else {
            let meta = read_meta(&transaction, &file)?;
            let commits = transaction.open_table(COMMITS).map_err(file.redb("open a table of"))?;
            let last = commits.last().map_err(file.redb("read"))?.map(|(no, _)| no.value());
            let last = CommitNo(last.unwrap_or(0).max(meta.trimmed));
            (meta, last)
        };
        if new {
            write_meta(&transaction, &file, &meta)?;
            transaction.commit().map_err(file.redb("commit to"))?;
        } else {
            transaction.abort().map_err(file.redb("abort a transaction in"))?;
        }
        let trim_upto = CommitNo(meta.trimmed);
        Ok(RedbJournal { db: Some(db), file, meta, last, trim_upto, failed: None, mark })
    }

    /// How often the directory had been opened, as this file knows it.
    pub(super) fn boot(&self) -> u32 {
        self.meta.boot
    }

    /// The database, for copies of it.
    pub(super) fn source(&self) -> (Weak<Database>, DbFile) {
        (self.db.as_ref().map(Arc::downgrade).unwrap_or_default(), self.file.clone())
    }

    /// Where the chains start.
    pub(super) fn meta(&self) -> &JournalMeta {
        &self.meta
    }

    /// Writes down the number of this run.
    pub(super) fn set_boot(&mut self, boot: u32) -> Result<(), StorageError> {
        let meta = JournalMeta { boot, ..self.meta.clone() };
        let transaction = begin_durable(self.db(), &self.file)?;
        write_meta(&transaction, &self.file, &meta)?;
        transaction.commit().map_err(self.file.redb("commit to"))?;
        self.meta = meta;
        Ok(())
    }

    fn db(&self) -> &Database {
        self.db.as_ref().expect("taken only by drop")
    }

    /// One transaction: a row for `frames` (none = only trim), and some forgotten rows less.
    fn store(&self, frames: Option<(CommitNo, &[EncodedFrame])>) -> Result<JournalMeta, StorageError> {
        let transaction = begin_durable(self.db(), &self.file)?;
        let mut meta = self.meta.clone();
        {
            let mut commits = transaction.open_table(COMMITS).map_err(self.file.redb("open a table of"))?;
            if let Some((no, frames)) = frames {
                self.insert(&mut commits, no, frames)?;
            }
            self.trim_some(&mut commits, &mut meta)?;
        }
        if meta != self.meta {
            write_meta(&transaction, &self.file, &meta)?;
        }
        transaction.commit().map_err(self.file.redb("commit to"))?;
        Ok(meta)
    }

    fn insert(
        &self,
        commits: &mut Table<'_, u64, &'static [u8]>,
        no: CommitNo,
        frames: &[EncodedFrame],
    ) -> Result<(), StorageError> {
        let body: usize = frames.iter().map(|frame| frame.bytes.len()).sum();
        let mut slot = commits.insert_reserve(no.0, SEAL_BYTES + body).map_err(self.file.redb("write"))?;
        let row = slot.as_mut();
        let mut at = SEAL_BYTES;
        for frame in frames {
            row[at..at + frame.bytes.len()].copy_from_slice(&frame.bytes);
            at += frame.bytes.len();
        }
        finish_seal(Kind::Commit, no.0, row);
        Ok(())
    }

    fn trim_some(
        &self,
        commits: &mut Table<'_, u64, &'static [u8]>,
        meta: &mut JournalMeta,
    ) -> Result<(), StorageError> {
        let (mut rows, mut bytes) = (0, 0);
        while meta.trimmed < self.trim_upto.0 && rows < TRIM_ROWS_MAX && bytes < TRIM_BYTES_MAX {
            let no = CommitNo(meta.trimmed + 1);
            let damaged = |flaw| self.file.damaged("commits", no.0, flaw);
            let row = commits.remove(no.0).map_err(self.file.redb("write"))?;
            let row = row.ok_or_else(|| damaged(Flaw::new("the row is missing")))?;
            for_each_frame(no, row.value(), |frame| {
                meta.advance(frame.base());
                Ok(())
            })
            .map_err(damaged)?;
            rows += 1;
            bytes += row.value().len();
            meta.trimmed = no.0;
        }
        Ok(())
    }

    /// Runs one transaction unless an earlier one failed; a failure is final.
    fn step(&mut self, frames: Option<(CommitNo, &[EncodedFrame])>) -> Result<(), StorageError> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        match self.store(frames) {
            Ok(meta) => {
                self.meta = meta;
                Ok(())
            }
            Err(error) => {
                self.mark.spoil();
                self.failed = Some(error.clone());
                Err(error)
            }
        }
    }
}

impl Journal for RedbJournal {
    fn append(&mut self, frames: &[EncodedFrame]) -> Result<CommitNo, StorageError> {
        let no = CommitNo(self.last.0 + 1);
        self.step(Some((no, frames)))?;
        self.last = no;
        Ok(no)
    }

    fn trim(&mut self, upto: CommitNo) -> Result<(), StorageError> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        self.trim_upto = self.trim_upto.max(upto.min(self.last));
        Ok(())
    }
}

impl Drop for RedbJournal {
    /// Removes what is still to be forgotten, so that the next start reads nothing twice, and closes.
    fn drop(&mut self) {
        while self.failed.is_none() && self.meta.trimmed < self.trim_upto.0 {
            if let Err(error) = self.step(None) {
                tracing::warn!(%error, "cannot trim the journal");
            }
        }
        self.mark.close(self.db.take());
    }
}

/// Calls `each` with every frame of a commit row, whose seal is checked first; hashes are not.
pub(super) fn for_each_frame<'a>(
    no: CommitNo,
    row: &'a [u8],
    mut each: impl FnMut(FrameView<'a>) -> Result<(), Flaw>,
) -> Result<(), Flaw> {
    let mut rest = unseal(Kind::Commit, no.0, row)?;
    while !rest.is_empty() {
        let (frame, after) = FrameView::split(rest)?;
        each(frame)?;
        rest = after;
    }
    Ok(())
}

fn read_meta(transaction: &WriteTransaction, file: &DbFile) -> Result<JournalMeta, StorageError> {
    let meta = transaction.open_table(META).map_err(file.redb("open a table of"))?;
    let row = meta.get(JOURNAL_KEY).map_err(file.redb("read"))?;
    let flaw = |flaw| file.damaged("meta", JOURNAL_KEY, flaw);
    let row = row.ok_or_else(|| flaw(Flaw::new("the row is missing")))?;
    JournalMeta::decode(row.value()).map_err(flaw)
}

fn write_meta(transaction: &WriteTransaction, file: &DbFile, row: &JournalMeta) -> Result<(), StorageError> {
    let mut meta = transaction.open_table(META).map_err(file.redb("open a table of"))?;
    meta.insert(JOURNAL_KEY, &row.encode()[..]).map_err(file.redb("write"))?;
    Ok(())
}

#[cfg(test)]
#[path = "journal_tests.rs"]
mod tests;
