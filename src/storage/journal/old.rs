//! The journal of format 1, `journal.redb`: one row per group commit. Read once, copied into a log, and removed; checks and
//! restored backups read it too. Never written.
//!
//! Which of the two counts when a crash left both is said by the store: it gets the present format version only once the log is
//! there whole, and before anything is appended to it. An earlier program refuses such a store, so it cannot go on with
//! an old journal, or with none.

use std::fs;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use redb::backends::FileBackend;
use redb::{Database, ReadTransaction, ReadableDatabase, ReadableTable};

use super::copy::{TakeCommit, write_copy};
use super::{JOURNAL_KEY, for_each_frame_of};
use crate::storage::clean::sync_dir;
use crate::storage::contract::CommitNo;
use crate::storage::error::{DbFile, StorageError};
use crate::storage::frame::FrameView;
use crate::storage::open::{JOURNAL_FILE, Opening, STORE_FILE, new_salt};
use crate::storage::record::{Flaw, JournalMeta, Kind, unseal};
use crate::storage::tables::{COMMITS, FIRST_FORMAT, META, format_of};

/// The name of the journal of format 1 in a data directory.
pub(in crate::storage) const OLD_JOURNAL_FILE: &str = "journal.redb";

/// Bytes of pages in memory.
const CACHE_BYTES: usize = 16 * 1024 * 1024;

/// Calls `each` with every frame of a row of format 1, whose seal is checked first; hashes are not.
pub(in crate::storage) fn for_each_frame<'a>(
    no: CommitNo,
    row: &'a [u8],
    each: impl FnMut(FrameView<'a>) -> Result<(), Flaw>,
) -> Result<(), Flaw> {
    for_each_frame_of(unseal(Kind::Commit, no.0, row)?, each)
}

/// A journal of format 1 whose commits are in the log now. Nobody else can open it meanwhile.
#[derive(Debug)]
pub(in crate::storage) struct OldJournal {
    db: Database,
    file: DbFile,
    dir: PathBuf,
}

impl OldJournal {
    /// Removes it: the store says that the log counts.
    pub(in crate::storage) fn remove(self) -> Result<(), StorageError> {
        let OldJournal { db, file, dir } = self;
        let removed = fs::remove_file(file.path()).and_then(|()| sync_dir(&dir));
        removed.map_err(|error| file.io("remove", &error))?;
        db.close().map_err(file.redb("close"))
    }
}

/// Makes a log of the journal of format 1 in `dir`, if there is one and the store does not say that a log counts.
pub(in crate::storage) fn upgrade(dir: &Path, clean: bool) -> Result<Option<OldJournal>, StorageError> {
    let path = dir.join(OLD_JOURNAL_FILE);
    if !path.exists() {
        return Ok(None);
    }
    let opening = Opening::prepare(dir, OLD_JOURNAL_FILE, clean)?;
    let file = opening.file.clone();
    let db = opening.open(CACHE_BYTES)?;
    if !dir.join(JOURNAL_FILE).exists() || is_of_first_format(dir, clean)? {
        copy(&db, &file, dir)?;
    }
    Ok(Some(OldJournal { db, file, dir: dir.to_path_buf() }))
}

/// Whether the store was last opened by a program that knows no log.
fn is_of_first_format(dir: &Path, clean: bool) -> Result<bool, StorageError> {
    if !dir.join(STORE_FILE).exists() {
        return Ok(false);
    }
    let opening = Opening::prepare(dir, STORE_FILE, clean)?;
    let file = opening.file.clone();
    let db = opening.open(CACHE_BYTES)?;
    let reader = db.begin_read().map_err(file.redb("begin a transaction in"))?;
    let version = format_of(&reader, &file)?;
    drop(reader);
    db.close().map_err(file.redb("close"))?;
    Ok(version == Some(FIRST_FORMAT))
}

fn copy(db: &Database, old: &DbFile, dir: &Path) -> Result<(), StorageError> {
    let reader = db.begin_read().map_err(old.redb("begin a transaction in"))?;
    match format_of(&reader, old)? {
        // Made, and never opened: a start makes a new log.
        None => return Ok(()),
        Some(FIRST_FORMAT) => {}
        Some(found) => {
            let file = old.path().to_path_buf();
            return Err(StorageError::TooNew { file, found, supported: FIRST_FORMAT });
        }
    }
    let meta = read_meta(&reader, old)?;
    let path = dir.join(JOURNAL_FILE);
    let new = path.with_extension("new");
    let file = DbFile::new(&new);
    let io = |error| file.io("make", &error);
    match fs::remove_file(&new) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(io(error)),
        _ => {}
    }
    let made = fs::OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(&new);
    let made = made.map_err(io)?;
    let synced = made.try_clone().map_err(io)?;
    let backend = FileBackend::new(made).map_err(file.redb("make"))?;
    let salt = new_salt().map_err(io)?;
    write_copy(Arc::new(backend), file.clone(), salt, &meta, |take| commits(&reader, old, &meta, take))?;
    // What is there under its name, if anything, was made by an upgrade that was cut short.
    let named = synced.sync_all().and_then(|()| fs::rename(&new, &path)).and_then(|()| sync_dir(dir));
    named.map_err(io)?;
    tracing::info!(from = OLD_JOURNAL_FILE, to = JOURNAL_FILE, "the journal has got a new format");
    Ok(())
}

fn read_meta(reader: &ReadTransaction, file: &DbFile) -> Result<JournalMeta, StorageError> {
    let meta = reader.open_table(META).map_err(file.redb("open a table of"))?;
    let row = meta.get(JOURNAL_KEY).map_err(file.redb("read"))?;
    let flaw = |flaw| file.damaged("meta", JOURNAL_KEY, flaw);
    let row = row.ok_or_else(|| flaw(Flaw::new("the row is missing")))?;
    JournalMeta::decode(row.value()).map_err(flaw)
}

fn commits(
    reader: &ReadTransaction,
    file: &DbFile,
    meta: &JournalMeta,
    take: TakeCommit<'_>,
) -> Result<(), StorageError> {
    let mut last = meta.trimmed;
    let table = reader.open_table(COMMITS).map_err(file.redb("open a table of"))?;
    for row in table.iter().map_err(file.redb("read"))? {
        let (no, row) = row.map_err(file.redb("read"))?;
        let no = no.value();
        if Some(no) != last.checked_add(1) {
            return Err(file.damaged("commits", no, Flaw::new(format!("it follows commit {last}"))));
        }
        last = no;
        let frames =
            unseal(Kind::Commit, no, row.value()).map_err(|flaw| file.damaged("commits", no, flaw))?;
        take(CommitNo(no), frames)?;
    }
    Ok(())
}

#[cfg(test)]
#[path = "old_tests.rs"]
mod tests;
