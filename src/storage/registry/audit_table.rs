//! The audit trail's tables in `registry.redb`: appending, the bounds that make the oldest go, and reading.
//!
//! Rows are not read at start, only counted; each is checked when it is read or removed.

use std::collections::HashMap;
use std::sync::{Arc, Weak};

use redb::{
    Database, ReadTransaction, ReadableDatabase, ReadableTable, ReadableTableMetadata, Table,
    TableDefinition, WriteTransaction,
};

use super::audit::{AuditPage, AuditQuery, AuditRecord};
use crate::ids::AuditId;
use crate::limits::{AUDIT_ROWS_MAX, AUDIT_ROWS_PER_STORE_MAX, AUDIT_ROWS_READ_MAX, AUDIT_ROWS_REMOVED_MAX};
use crate::storage::StorageError;
use crate::storage::error::DbFile;
use crate::storage::record::audit::{decode_audit, encode_audit};
use crate::time::UnixMs;

/// Number -> record.
pub(in crate::storage) const AUDIT: TableDefinition<'static, u64, &[u8]> = TableDefinition::new("audit");
/// (the store whose share it takes, number): the oldest of a store is found without a look at the others'.
pub(in crate::storage) const AUDIT_BY_STORE: TableDefinition<'static, (u32, u64), ()> =
    TableDefinition::new("audit_by_store");

/// How many rows the trail may have.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    pub(super) all: u64,
    pub(super) per_store: u64,
}

/// See `limits.rs`.
pub(super) const BOUNDS: Bounds =
    Bounds { all: AUDIT_ROWS_MAX as u64, per_store: AUDIT_ROWS_PER_STORE_MAX as u64 };

/// How many rows each store has.
pub(super) type Shares = HashMap<u32, u64>;

/// Both tables within one transaction.
pub(super) struct Trail<'t> {
    rows: Table<'t, u64, &'static [u8]>,
    by_store: Table<'t, (u32, u64), ()>,
    shares: &'t mut Shares,
    file: &'t DbFile,
}

impl<'t> Trail<'t> {
    /// Opens both, or makes them.
    pub(super) fn open(
        transaction: &'t WriteTransaction,
        shares: &'t mut Shares,
        file: &'t DbFile,
    ) -> Result<Trail<'t>, StorageError> {
        let failed = file.redb("open a table of");
        Ok(Trail {
            rows: transaction.open_table(AUDIT).map_err(failed)?,
            by_store: transaction.open_table(AUDIT_BY_STORE).map_err(file.redb("open a table of"))?,
            shares,
            file,
        })
    }

    /// Counts what is there, and gives the number that comes next.
    pub(super) fn take_stock(&mut self) -> Result<u64, StorageError> {
        self.shares.clear();
        for row in self.by_store.iter().map_err(self.file.redb("read"))? {
            let (key, _) = row.map_err(self.file.redb("read"))?;
            *self.shares.entry(key.value().0).or_default() += 1;
        }
        let last = self.rows.last().map_err(self.file.redb("read"))?;
        Ok(last.map_or(1, |(key, _)| key.value() + 1))
    }

    /// Adds a record; what passes a bound goes, oldest first, out of the same store's share where that is full.
    pub(super) fn append(&mut self, record: &AuditRecord, bounds: Bounds) -> Result<(), StorageError> {
        let (id, share) = (record.id.0, record.by.share().0);
        let row = encode_audit(record);
        self.rows.insert(id, row.as_slice()).map_err(self.file.redb("write"))?;
        self.by_store.insert((share, id), ()).map_err(self.file.redb("write"))?;
        let count = self.shares.entry(share).or_default();
        *count += 1;
        if *count > bounds.per_store {
            let oldest = {
                let mut range =
                    self.by_store.range((share, 0)..=(share, u64::MAX)).map_err(self.file.redb("read"))?;
                let first = range.next().transpose().map_err(self.file.redb("read"))?;
                first.map(|(key, _)| key.value().1)
            };
            let oldest = oldest.expect("a store with rows has a first one");
            self.remove(oldest, share)?;
        }
        if self.rows.len().map_err(self.file.redb("read"))? > bounds.all {
            let (oldest, share, _) = self.oldest()?.expect("a table with rows has a first one");
            self.remove(oldest, share)?;
        }
        Ok(())
    }

    /// Removes what was written before, up to `AUDIT_ROWS_REMOVED_MAX` rows. The newest row stays, however old it
    /// is: the numbers go on from it.
    pub(super) fn expire(&mut self, before: UnixMs) -> Result<(), StorageError> {
        for _ in 0..AUDIT_ROWS_REMOVED_MAX {
            if self.rows.len().map_err(self.file.redb("read"))? < 2 {
                return Ok(());
            }
            match self.oldest()? {
                Some((id, share, at)) if at < before => self.remove(id, share)?,
                _ => return Ok(()),
            }
        }
        Ok(())
    }

    fn oldest(&self) -> Result<Option<(u64, u32, UnixMs)>, StorageError> {
        let first = self.rows.first().map_err(self.file.redb("read"))?;
        let first = first.map(|(key, row)| read(self.file, key.value(), row.value())).transpose()?;
        Ok(first.map(|record| (record.id.0, record.by.share().0, record.at)))
    }

    fn remove(&mut self, id: u64, share: u32) -> Result<(), StorageError> {
        self.rows.remove(id).map_err(self.file.redb("write"))?;
        self.by_store.remove((share, id)).map_err(self.file.redb("write"))?;
        if let Some(count) = self.shares.get_mut(&share) {
            *count = count.saturating_sub(1);
        }
        Ok(())
    }
}

/// Reads the trail beside its writer. It keeps the file open.
#[derive(Debug, Clone)]
pub struct AuditReader {
    db: Arc<Database>,
    file: DbFile,
}

impl AuditReader {
    pub(super) fn new(db: Arc<Database>, file: DbFile) -> AuditReader {
        AuditReader { db, file }
    }

    /// A page, newest first. Looks at `AUDIT_ROWS_READ_MAX` rows at most.
    ///
    /// # Errors
    /// `Damaged` (names table and number), `Io`.
    pub fn page(&self, query: &AuditQuery) -> Result<AuditPage, StorageError> {
        let transaction = self.begin()?;
        let table = transaction.open_table(AUDIT).map_err(self.file.redb("open a table of"))?;
        let before = query.before.map_or(u64::MAX, |id| id.0);
        let mut page = AuditPage::default();
        let mut last_seen = None;
        for (looked, row) in table.range(..before).map_err(self.file.redb("read"))?.rev().enumerate() {
            let (key, row) = row.map_err(self.file.redb("read"))?;
            if page.records.len() == query.limit || looked == AUDIT_ROWS_READ_MAX {
                page.next = last_seen;
                break;
            }
            let record = read(&self.file, key.value(), row.value())?;
            last_seen = Some(record.id);
            let fits = query.from.is_none_or(|from| record.at >= from)
                && query.to.is_none_or(|to| record.at < to)
                && query.action.is_none_or(|action| record.action == action);
            if fits {
                page.records.push(record);
            }
        }
        Ok(page)
    }

    /// When the oldest record was written.
    ///
    /// # Errors
    /// As [`AuditReader::page`].
    pub fn oldest(&self) -> Result<Option<UnixMs>, StorageError> {
        let transaction = self.begin()?;
        let table = transaction.open_table(AUDIT).map_err(self.file.redb("open a table of"))?;
        let first = table.first().map_err(self.file.redb("read"))?;
        let first = first.map(|(key, row)| read(&self.file, key.value(), row.value())).transpose()?;
        Ok(first.map(|record| record.at))
    }

    /// The database, for copies of it.
    pub(in crate::storage) fn source(&self) -> (Weak<Database>, DbFile) {
        (Arc::downgrade(&self.db), self.file.clone())
    }

    fn begin(&self) -> Result<ReadTransaction, StorageError> {
        self.db.begin_read().map_err(self.file.redb("begin a transaction in"))
    }
}

fn read(file: &DbFile, id: u64, row: &[u8]) -> Result<AuditRecord, StorageError> {
    decode_audit(AuditId(id), row).map_err(|flaw| file.damaged("audit", id, flaw))
}

#[cfg(test)]
#[path = "audit_table_tests.rs"]
mod tests;
