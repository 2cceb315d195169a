//! Checking the journal and the databases of a stopped broker, row by row and against each other. Never changes a byte.
//!
//! First every page of a database by redb's own checksums, then every row of every table by ours, then what rows say of each other:
//! chains of frames, lists and what they name, orders and their commands. The last only where nothing is damaged.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use redb::backends::FileBackend;
use redb::{
    Builder, Database, ReadTransaction, ReadableDatabase, ReadableTable, TableDefinition, TableHandle,
};

use super::blocks::{Blocks, Place, Shown};
use super::error::{DbFile, StorageError};
use super::journal::{LogFile, OLD_JOURNAL_FILE, SEGMENT_BYTES};
use super::open::{JOURNAL_FILE, STORE_FILE, refuse_empty};
use super::record::Flaw;
use super::registry::REGISTRY_FILE;
use super::rest::to_blocks;
use super::tables::{
    FIRST_FORMAT, FORMAT_KEY, FORMAT_VERSION, META, SECOND_FORMAT, begin_durable, format_of,
};
use crate::limits::CHECK_FINDINGS_MAX;
use overlay::Overlay;

mod journal;
mod overlay;
mod registry;
mod relations;
mod store;

/// The journal and the databases of a data directory, in the order in which they are checked. The second is the journal of
/// a directory that no program has opened since there are logs.
pub const DATABASE_FILES: [&str; 4] = [JOURNAL_FILE, OLD_JOURNAL_FILE, STORE_FILE, REGISTRY_FILE];

/// Rows between two reports of progress.
const PROGRESS_ROWS: u64 = 4096;
/// Bytes of pages in memory.
const CACHE_BYTES: usize = 64 * 1024 * 1024;

const RESTORE: &str = "restore all files from one backup, or see docs/storage.md for what can be moved away";

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Severity {
    /// Something is lost or wrong.
    Damage,
    /// Nothing is lost; somebody should look at it.
    Warning,
}

/// One thing that does not hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// How bad it is.
    pub severity: Severity,
    /// The file's name in the data directory.
    pub file: String,
    /// Table and key, or which part of the file.
    pub record: String,
    /// What does not hold.
    pub flaw: String,
    /// What to do.
    pub advice: String,
}

/// How many rows a table has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableCount {
    /// The file's name in the data directory.
    pub file: &'static str,
    /// The table.
    pub table: &'static str,
    /// Rows that were read.
    pub rows: u64,
}

/// What a check found.
#[derive(Debug, Default)]
pub struct CheckReport {
    /// By file and table.
    pub tables: Vec<TableCount>,
    /// The first `CHECK_FINDINGS_MAX`.
    pub findings: Vec<Finding>,
    /// How many there were of severity `Damage`.
    pub damaged: u64,
    /// How many there were of severity `Warning`.
    pub warnings: u64,
    /// What rows say of each other was checked too.
    pub related: bool,
    /// By which the registry recognises its data key.
    pub data_key_check: Option<[u8; 16]>,
}

impl CheckReport {
    /// Adds a finding.
    pub fn add(&mut self, finding: Finding) {
        match finding.severity {
            Severity::Damage => self.damaged += 1,
            Severity::Warning => self.warnings += 1,
        }
        if self.findings.len() < CHECK_FINDINGS_MAX {
            self.findings.push(finding);
        }
    }
}

/// Who watches a check.
pub trait Watcher {
    /// So many rows of a table were read.
    fn rows(&mut self, file: &'static str, table: &'static str, rows: u64);

    /// Found just now.
    fn found(&mut self, _finding: &Finding) {}

    /// redb's own check refuses this file: names what can still be named in it, for example with [`check_rows`] in a
    /// process of its own, since redb may panic on a file that it was told to trust.
    fn salvage(&mut self, _dir: &Path, _file: &'static str) -> Vec<Finding> {
        Vec::new()
    }
}

/// Nobody watches.
pub struct Unwatched;

impl Watcher for Unwatched {
    fn rows(&mut self, _: &'static str, _: &'static str, _: u64) {}
}

/// Checks the journal and the databases in `dir`. They stay locked meanwhile.
///
/// # Errors
/// `InUse`, `TooNew`, or `Io` for a file that is not there or cannot be read. Damage is no error but a finding.
pub fn check(dir: &Path, watcher: &mut dyn Watcher) -> Result<CheckReport, StorageError> {
    let mut look = Inspection { report: CheckReport::default(), watcher, file: JOURNAL_FILE };
    let journal = look.open_journal(dir)?;
    let store = look.open(dir, STORE_FILE)?;
    let registry = look.open(dir, REGISTRY_FILE)?;
    if let Some(registry) = registry {
        let (reader, file) = look.reader(&registry)?;
        registry::rows(&mut look, &reader, &file)?;
    }
    let from_registry = look.report.damaged;
    let journal = match &journal {
        Some(journal) => Some(look.journal(journal)?),
        None => None,
    };
    let Some(store) = store else { return Ok(look.report) };
    if look.is_of_an_old_format(&store)? {
        let (reader, file) = look.reader(&store)?;
        store::old_rows(&mut look, &reader, &file)?;
        if look.report.damaged > from_registry {
            return Ok(look.report);
        }
        drop(reader);
        // In memory alone, as everything that is written here.
        let transaction = begin_durable(&store.db, &file)?;
        to_blocks(&transaction, &file)?;
        transaction.commit().map_err(file.redb("commit to"))?;
    }
    let (reader, file) = look.reader(&store)?;
    let meta = store::rows(&mut look, &reader, &file)?;
    if let (Some(facts), Some(meta)) = (&journal, meta)
        && look.report.damaged == from_registry
    {
        look.report.related = true;
        relations::check(&mut look, &reader, &file, &meta, facts)?;
    }
    Ok(look.report)
}

/// Checks every row of one database without a walk over its pages first. redb may panic at damaged pages.
///
/// # Errors
/// As [`check`], and what redb refuses to open.
pub fn check_rows(dir: &Path, file: &str, watcher: &mut dyn Watcher) -> Result<CheckReport, StorageError> {
    let not_one = || StorageError::Io {
        file: dir.join(file),
        operation: "check",
        detail: format!("it is none of {}", DATABASE_FILES.join(", ")),
    };
    let name = DATABASE_FILES.into_iter().find(|name| *name == file).ok_or_else(not_one)?;
    let mut look = Inspection { report: CheckReport::default(), watcher, file: name };
    if name == JOURNAL_FILE {
        let log = AnyJournal::Log(open_log(dir)?);
        look.journal(&log)?;
        return Ok(look.report);
    }
    let opened = Opened { db: open(dir, name, false)?, file: DbFile::new(&dir.join(name)), name };
    let old = name == STORE_FILE && look.is_of_an_old_format(&opened)?;
    let (reader, file) = look.reader(&opened)?;
    match name {
        STORE_FILE if old => store::old_rows(&mut look, &reader, &file)?,
        OLD_JOURNAL_FILE => drop(journal::old_rows(&mut look, &reader, &file)?),
        STORE_FILE => drop(store::rows(&mut look, &reader, &file)?),
        _ => registry::rows(&mut look, &reader, &file)?,
    }
    Ok(look.report)
}

/// Opens a file that is not empty. Locks need one that could be written.
fn open_file(path: &Path, file: &DbFile) -> Result<fs::File, StorageError> {
    let opened = fs::OpenOptions::new().read(true).write(true).open(path);
    let opened = opened.and_then(|opened| refuse_empty(&opened).map(|()| opened));
    opened.map_err(|error| file.io("open", &error))
}

/// Opens the log, which is only read.
pub(super) fn open_log(dir: &Path) -> Result<LogFile, StorageError> {
    let path = dir.join(JOURNAL_FILE);
    let file = DbFile::new(&path);
    let backend = FileBackend::new(open_file(&path, &file)?).map_err(file.redb("open"))?;
    LogFile::open(Arc::new(backend), file, SEGMENT_BYTES)
}

/// Opens a database of which nothing is written back.
fn open(dir: &Path, name: &str, check: bool) -> Result<Database, StorageError> {
    let path = dir.join(name);
    let file = DbFile::new(&path);
    let backend = Overlay::new(open_file(&path, &file)?);
    Builder::new()
        .set_cache_size(CACHE_BYTES)
        .set_check_integrity_on_open(check)
        .create_with_backend(backend.map_err(file.redb("open"))?)
        .map_err(file.redb("open"))
}

/// A database that was opened, and how errors about it are told.
struct Opened {
    db: Database,
    file: DbFile,
    name: &'static str,
}

/// The journal of either format.
enum AnyJournal {
    Log(LogFile),
    Old(Opened),
}

/// A key with what does not hold about its row.
type Flawed = (String, Flaw);

/// A check under way.
struct Inspection<'w> {
    report: CheckReport,
    watcher: &'w mut dyn Watcher,
    /// The file that is being looked at.
    file: &'static str,
}

impl Inspection<'_> {
    /// Opens a file after a walk over its pages; one that does not pass is a finding.
    fn open(&mut self, dir: &Path, name: &'static str) -> Result<Option<Opened>, StorageError> {
        self.file = name;
        self.watcher.rows(name, "pages", 0);
        match open(dir, name, true) {
            Ok(db) => Ok(Some(Opened { db, file: DbFile::new(&dir.join(name)), name })),
            Err(StorageError::Damaged { record, detail, .. }) => {
                self.damage(&record, detail);
                for finding in self.watcher.salvage(dir, name) {
                    self.report.add(finding);
                }
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// Opens the journal, of whatever format; one whose beginning does not check is a finding.
    fn open_journal(&mut self, dir: &Path) -> Result<Option<AnyJournal>, StorageError> {
        let (log, old) = (dir.join(JOURNAL_FILE).exists(), dir.join(OLD_JOURNAL_FILE).exists());
        if old && !log {
            return Ok(self.open(dir, OLD_JOURNAL_FILE)?.map(AnyJournal::Old));
        }
        if old {
            self.report.add(Finding {
                severity: Severity::Warning,
                file: OLD_JOURNAL_FILE.to_owned(),
                record: "the file".to_owned(),
                flaw: format!("an upgrade to {JOURNAL_FILE} was cut short; only that one was checked"),
                advice: "nothing: the next start goes on with it".to_owned(),
            });
        }
        self.file = JOURNAL_FILE;
        let opened = open_log(dir);
        Ok(self.or_damage(opened)?.map(AnyJournal::Log))
    }

    fn journal(&mut self, journal: &AnyJournal) -> Result<journal::JournalFacts, StorageError> {
        match journal {
            AnyJournal::Log(log) => {
                self.file = JOURNAL_FILE;
                journal::log_rows(self, log)
            }
            AnyJournal::Old(opened) => {
                let (reader, file) = self.reader(opened)?;
                journal::old_rows(self, &reader, &file)
            }
        }
    }

    fn reader(&mut self, opened: &Opened) -> Result<(ReadTransaction, DbFile), StorageError> {
        self.file = opened.name;
        let file = opened.file.clone();
        let reader = opened.db.begin_read().map_err(file.redb("begin a transaction in"))?;
        Ok((reader, file))
    }

    /// Whether the store has each row by itself.
    fn is_of_an_old_format(&mut self, store: &Opened) -> Result<bool, StorageError> {
        let (reader, file) = self.reader(store)?;
        let found = format_of(&reader, &file);
        Ok(matches!(self.or_damage(found)?.flatten(), Some(FIRST_FORMAT | SECOND_FORMAT)))
    }

    fn damage(&mut self, record: &str, flaw: impl ToString) {
        let finding = Finding {
            severity: Severity::Damage,
            file: self.file.to_owned(),
            record: record.to_owned(),
            flaw: flaw.to_string(),
            advice: RESTORE.to_owned(),
        };
        self.watcher.found(&finding);
        self.report.add(finding);
    }

    /// Damage that redb tells of is a finding; other errors end the check.
    fn or_damage<T>(&mut self, result: Result<T, StorageError>) -> Result<Option<T>, StorageError> {
        match result {
            Ok(value) => Ok(Some(value)),
            Err(StorageError::Damaged { record, detail, .. }) => {
                self.damage(&record, detail);
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// Shows every row of a table to `look`, and counts them.
    fn walk<K: redb::Key + 'static>(
        &mut self,
        reader: &ReadTransaction,
        file: &DbFile,
        (table, name): (TableDefinition<'static, K, &'static [u8]>, &'static str),
        mut look: impl for<'k, 'v> FnMut(K::SelfType<'k>, &'v [u8]) -> Result<(), Flawed>,
    ) -> Result<(), StorageError> {
        debug_assert_eq!(table.name(), name, "the name that people are told");
        let opened = reader.open_table(table).map_err(file.redb("open a table of"));
        let Some(table) = self.or_damage(opened)? else { return Ok(()) };
        let rows = table.iter().map_err(file.redb("read"));
        let Some(iter) = self.or_damage(rows)? else { return Ok(()) };
        let mut rows = 0;
        for row in iter {
            let Some((key, value)) = self.or_damage(row.map_err(file.redb("read")))? else { break };
            rows += 1;
            if let Err((key, flaw)) = look(key.value(), value.value()) {
                self.damage(&format!("{name}/{key}"), flaw);
            }
            if rows % PROGRESS_ROWS == 0 {
                self.watcher.rows(self.file, name, rows);
            }
        }
        self.watcher.rows(self.file, name, rows);
        self.report.tables.push(TableCount { file: self.file, table: name, rows });
        Ok(())
    }

    /// Shows every row of a table of blocks to `look`, and counts them. Blocks have their own rows, and no others'.
    fn walk_blocks<K: Place>(
        &mut self,
        reader: &ReadTransaction,
        file: &DbFile,
        blocks: &Blocks<K>,
        mut look: impl FnMut(K, &[u8]) -> Result<(), Flaw>,
    ) -> Result<(), StorageError> {
        let (mut before, mut count) = (None, 0);
        // As many as are told of; the others are only counted.
        let (mut flawed, mut more) = (Vec::new(), 0);
        let tables = self.report.tables.len();
        self.walk(reader, file, (blocks.table, blocks.name), |key, block| {
            let shown = |flaw| (Shown(key).to_string(), flaw);
            let rows = blocks.rows(key, block).map_err(shown)?;
            count += rows.len() as u64;
            let follows = before.replace(key.at(rows[rows.len() - 1].0)).is_none_or(|before| before < key);
            for (seq, row) in &rows {
                let place = key.at(*seq);
                match look(place, row) {
                    Ok(()) => {}
                    Err(flaw) if flawed.len() < CHECK_FINDINGS_MAX => flawed.push((place, flaw)),
                    Err(_) => more += 1,
                }
            }
            match follows && rows[0].0 >= key.seq() {
                true => Ok(()),
                false => Err(shown(Flaw::new("its rows are not between its key and the next block's"))),
            }
        })?;
        for (place, flaw) in flawed {
            self.damage(&format!("{}/{}", blocks.name, Shown(place)), flaw);
        }
        self.report.damaged += more;
        if let Some(table) = self.report.tables.get_mut(tables) {
            table.rows = count;
        }
        Ok(())
    }

    /// Checks the rows of `meta`: the format, and the sealed row under `key`, which `decode` reads.
    fn meta<T>(
        &mut self,
        reader: &ReadTransaction,
        file: &DbFile,
        key: &'static str,
        decode: fn(&[u8]) -> Result<T, Flaw>,
    ) -> Result<Option<T>, StorageError> {
        let (mut format, mut found) = (None, None);
        self.walk(reader, file, (META, "meta"), |name, row| {
            let flawed = |flaw| (name.to_owned(), flaw);
            if name == FORMAT_KEY {
                let version = row.try_into().map_err(|_| flawed(Flaw::new("it is not four bytes")))?;
                format = Some(u32::from_le_bytes(version));
            } else if name == key {
                found = Some(decode(row).map_err(flawed)?);
            } else {
                return Err(flawed(Flaw::new("no row of this name is known")));
            }
            Ok(())
        })?;
        match format {
            Some(FIRST_FORMAT | SECOND_FORMAT | FORMAT_VERSION) => {}
            Some(found) if found > FORMAT_VERSION => {
                let file = file.path().to_path_buf();
                return Err(StorageError::TooNew { file, found, supported: FORMAT_VERSION });
            }
            _ => self.damage("meta/format", "there is no known version"),
        }
        if found.is_none() && !self.report.findings.iter().any(|f| f.file == self.file) {
            self.damage(&format!("meta/{key}"), "the row is missing");
        }
        Ok(found)
    }
}

#[cfg(test)]
#[path = "../check_tests.rs"]
mod tests;
