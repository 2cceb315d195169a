//! Copies of the three files that belong together, made while they are in use; and what a restored copy needs.
//!
//! What must stay true: nothing is trimmed from the journal between the first look at the store and the first look at
//! the journal, which the caller sees to. The journal then has every frame that the store lacks, and the registry,
//! which is looked at last, knows every server that either of them names, as after a crash.

use std::borrow::Borrow;
use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::{Arc, Weak};

use redb::backends::FileBackend;
use redb::{
    Builder, Database, ReadTransaction, ReadableDatabase, ReadableTable, TableDefinition, WriteTransaction,
};

use super::clean::sync_dir;
use super::error::{DbFile, StorageError};
use super::journal::{LogSnapshot, Shared, write_copy};
use super::open::{self, JOURNAL_FILE, STORE_FILE, new_salt};
use super::registry::{
    AUDIT, AUDIT_BY_STORE, AuditReader, REGISTRY_FILE, REGISTRY_KEYS, REGISTRY_SERVERS, REGISTRY_STORES,
    RegistryDb, RegistryMeta, RowChange,
};
use super::tables::{
    ENDED, ENDED_BY_SERVER, KEYS, LIVE, META, ORDERS, ORDERS_BY_CHECKPOINT, SERVERS, begin_durable,
};
use super::{AuditRecordMaker, LogJournal, RedbRest};

/// Bytes of pages of a copy in memory.
const CACHE_BYTES: usize = 32 * 1024 * 1024;
/// Rows between two looks at whether to go on.
const LOOK_ROWS: u64 = 1024;

/// The open files of a broker. Keeps none of them open.
#[derive(Debug, Clone)]
pub struct BackupSource {
    journal: (Weak<Shared>, DbFile),
    store: (Weak<Database>, DbFile),
    registry: (Weak<Database>, DbFile),
}

impl BackupSource {
    /// Of these three, which belong together.
    pub fn new(journal: &LogJournal, rest: &RedbRest, registry: &AuditReader) -> BackupSource {
        BackupSource {
            journal: (journal.source(), journal.file().clone()),
            store: rest.source(),
            registry: registry.source(),
        }
    }

    /// The state of now, which costs nothing; pages and segments that it holds are not used again until it is dropped.
    /// Nothing may be trimmed from the journal meanwhile.
    ///
    /// # Errors
    /// A failed read, or a broker that is being closed.
    pub fn snapshot(&self) -> Result<Snapshot, StorageError> {
        // The order matters: see the module.
        let store = begin(&self.store)?;
        let (journal, journal_file) = &self.journal;
        let journal = journal.upgrade().ok_or_else(|| stopped(journal_file))?.snapshot();
        Ok(Snapshot { store, journal, registry: begin(&self.registry)? })
    }
}

fn begin((db, file): &(Weak<Database>, DbFile)) -> Result<(ReadTransaction, DbFile), StorageError> {
    let db: Arc<Database> = db.upgrade().ok_or_else(|| stopped(file))?;
    Ok((db.begin_read().map_err(file.redb("begin a transaction in"))?, file.clone()))
}

fn stopped(file: &DbFile) -> StorageError {
    let detail = "the broker is stopping".to_owned();
    StorageError::Io { file: file.path().to_path_buf(), operation: "copy", detail }
}

/// The three files at one instant.
pub struct Snapshot {
    store: (ReadTransaction, DbFile),
    journal: LogSnapshot,
    registry: (ReadTransaction, DbFile),
}

impl Snapshot {
    /// Writes the copies into an empty directory; they are durable when this returns. `stop` is asked now and then.
    ///
    /// # Errors
    /// A failed read or write (its file says whose), or `stop` said so.
    pub fn write(self, dir: &Path, stop: &dyn Fn() -> bool) -> Result<(), StorageError> {
        copy_journal(&self.journal, dir, stop)?;
        copy(self.registry, dir, REGISTRY_FILE, stop, |copy| {
            copy.table(REGISTRY_STORES)?;
            copy.table(REGISTRY_SERVERS)?;
            copy.table(REGISTRY_KEYS)?;
            copy.table(AUDIT)?;
            copy.table(AUDIT_BY_STORE)
        })?;
        copy(self.store, dir, STORE_FILE, stop, |copy| {
            copy.table(LIVE.table)?;
            copy.table(ENDED.table)?;
            copy.table(ENDED_BY_SERVER)?;
            copy.table(ORDERS.table)?;
            copy.table(ORDERS_BY_CHECKPOINT)?;
            copy.table(KEYS)?;
            copy.table(SERVERS)
        })?;
        let file = DbFile::new(dir);
        sync_dir(dir).map_err(|error| file.io("sync", &error))
    }
}

/// One file on its way.
struct Copy<'a> {
    from: &'a ReadTransaction,
    from_file: &'a DbFile,
    to: &'a WriteTransaction,
    to_file: &'a DbFile,
    stop: &'a dyn Fn() -> bool,
    rows: u64,
}

impl Copy<'_> {
    fn table<K: redb::Key + 'static, V: redb::Value + 'static>(
        &mut self,
        table: TableDefinition<'static, K, V>,
    ) -> Result<(), StorageError>
    where
        for<'a> K::SelfType<'a>: Borrow<K::SelfType<'a>>,
    {
        let from = self.from.open_table(table).map_err(self.from_file.redb("open a table of"))?;
        let mut to = self.to.open_table(table).map_err(self.to_file.redb("make a table of"))?;
        for row in from.iter().map_err(self.from_file.redb("read"))? {
            let (key, value) = row.map_err(self.from_file.redb("read"))?;
            to.insert(key.value(), value.value()).map_err(self.to_file.redb("write"))?;
            self.rows += 1;
            if self.rows.is_multiple_of(LOOK_ROWS) && (self.stop)() {
                return Err(stopped(self.from_file));
            }
        }
        Ok(())
    }
}

fn copy(
    (from, from_file): (ReadTransaction, DbFile),
    dir: &Path,
    name: &str,
    stop: &dyn Fn() -> bool,
    tables: impl FnOnce(&mut Copy<'_>) -> Result<(), StorageError>,
) -> Result<(), StorageError> {
    let NewFile { file: to_file, synced, backend } = new_file(dir, name)?;
    let db = Builder::new().set_cache_size(CACHE_BYTES).create_with_backend(backend);
    let db = db.map_err(to_file.redb("make"))?;
    let to = begin_durable(&db, &to_file)?;
    let mut copy = Copy { from: &from, from_file: &from_file, to: &to, to_file: &to_file, stop, rows: 0 };
    copy.table(META)?;
    tables(&mut copy)?;
    to.commit().map_err(to_file.redb("commit to"))?;
    db.close().map_err(to_file.redb("close"))?;
    synced.sync_all().map_err(|error| to_file.io("sync", &error))
}

/// A file that is being made.
struct NewFile {
    file: DbFile,
    synced: File,
    backend: FileBackend,
}

fn new_file(dir: &Path, name: &str) -> Result<NewFile, StorageError> {
    let path = dir.join(name);
    let file = DbFile::new(&path);
    let made = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(&path);
    let made = made.map_err(|error| file.io("make", &error))?;
    let synced = made.try_clone().map_err(|error| file.io("make", &error))?;
    let backend = FileBackend::new(made).map_err(file.redb("make"))?;
    Ok(NewFile { file, synced, backend })
}

fn copy_journal(from: &LogSnapshot, dir: &Path, stop: &dyn Fn() -> bool) -> Result<(), StorageError> {
    let NewFile { file, synced, backend } = new_file(dir, JOURNAL_FILE)?;
    let salt = new_salt().map_err(|error| file.io("make", &error))?;
    write_copy(Arc::new(backend), file.clone(), salt, &from.meta, |take| {
        from.read(&mut |no, frames| {
            if no.0.is_multiple_of(LOOK_ROWS) && stop() {
                return Err(stopped(from.file()));
            }
            take(no, frames)
        })
    })?;
    synced.sync_all().map_err(|error| file.io("sync", &error))
}

/// Numbers that lie above all that were given out by now, in whatever past of a data directory.
#[derive(Debug, Clone, Copy)]
pub struct Floors {
    /// For commands and orders.
    pub seq: u64,
    /// For runs.
    pub boot: u32,
    /// For stores, servers and keys.
    pub registry: u32,
}

/// Lets all numbers of a copy begin above `floors`, and adds a record to the audit trail: whoever still knows a number
/// that was given out after the copy was made must not take another thing for it.
///
/// # Errors
/// As [`open::open`].
pub fn raise(dir: &Path, floors: Floors, record: AuditRecordMaker<'_>) -> Result<(), StorageError> {
    let (rest, recovery) = open::open(dir, open::OpenOptions::default())?;
    let (mut journal, report) = recovery.replay(&rest, &mut |_| {})?;
    let boot = report.boot.max(floors.boot);
    journal.set_boot(boot)?;
    rest.raise(boot, floors.seq)?;
    drop((journal, rest));
    let (mut registry, rows) = RegistryDb::open(dir)?;
    let Some(meta) = rows.meta else { return Ok(()) };
    let meta = RegistryMeta {
        next_store: meta.next_store.max(floors.registry),
        next_server: meta.next_server.max(floors.registry),
        next_key: meta.next_key.max(floors.registry),
        ..meta
    };
    registry.commit(&meta, &[RowChange::Audit(record(rows.next_audit))])
}
