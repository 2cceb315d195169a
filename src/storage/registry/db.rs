//! `registry.redb`: opening, reading everything once, and durable transactions. Holds no copy in memory.

use std::path::Path;
use std::sync::Arc;

use redb::{Database, ReadableTable, StorageBackend, TableDefinition, WriteTransaction};

use super::audit_table::{AuditReader, BOUNDS, Shares, Trail};
use super::rows::{KeyRecord, RegistryMeta, RegistryRows, RowChange, ServerRecord};
use crate::storage::StorageError;
use crate::storage::error::DbFile;
use crate::storage::mirror::Mirror;
use crate::storage::open::{Opening, make_dir};
use crate::storage::record::Flaw;
use crate::storage::record::registry::{
    decode_key, decode_meta, decode_server, decode_store, encode_key, encode_meta, encode_server,
    encode_store,
};
use crate::storage::tables::{Format, META, begin_durable, check_format};

/// The name of the file in the data directory.
pub const REGISTRY_FILE: &str = "registry.redb";

/// Bytes of pages kept in memory: everything is read once, then only written.
const CACHE_BYTES: usize = 8 * 1024 * 1024;

pub(in crate::storage) type Rows = TableDefinition<'static, u32, &'static [u8]>;
pub(in crate::storage) const STORES: Rows = TableDefinition::new("stores");
pub(in crate::storage) const SERVERS: Rows = TableDefinition::new("servers");
pub(in crate::storage) const KEYS: Rows = TableDefinition::new("keys");

/// The row of `META` that holds the counters.
pub(in crate::storage) const COUNTERS_KEY: &str = "registry";

/// The registry's database file. One process has it open at a time.
#[derive(Debug)]
pub struct RegistryDb {
    db: Arc<Database>,
    file: DbFile,
    shares: Shares,
}

impl RegistryDb {
    /// Opens (or makes) the file in `dir`, checks every page and reads every row.
    ///
    /// # Errors
    /// `InUse` when another process has it, `TooNew`, `Damaged` (names table and key), `Full`, `Io`.
    pub fn open(dir: &Path) -> Result<(RegistryDb, RegistryRows), StorageError> {
        make_dir(dir).map_err(|error| DbFile::new(dir).io("make", &error))?;
        RegistryDb::over(Opening::prepare(dir, REGISTRY_FILE, false)?)
    }

    /// As [`RegistryDb::open`], with a mirror, which looked at `dir` before.
    ///
    /// # Errors
    /// As [`RegistryDb::open`].
    pub fn open_mirrored(dir: &Path, mirror: &Mirror) -> Result<(RegistryDb, RegistryRows), StorageError> {
        RegistryDb::over(Opening::prepare(dir, REGISTRY_FILE, false)?.mirrored(mirror, REGISTRY_FILE))
    }

    /// Opens the registry on any storage: for tests that record, fail or tear writes.
    ///
    /// # Errors
    /// As [`RegistryDb::open`].
    pub fn open_with_backend(
        backend: impl StorageBackend,
    ) -> Result<(RegistryDb, RegistryRows), StorageError> {
        RegistryDb::over(Opening::over(REGISTRY_FILE, backend))
    }

    fn over(opening: Opening<impl StorageBackend>) -> Result<(RegistryDb, RegistryRows), StorageError> {
        let file = opening.file.clone();
        let db = opening.open(CACHE_BYTES)?;
        let mut this = RegistryDb { db: Arc::new(db), file, shares: Shares::new() };
        let rows = this.load()?;
        Ok((this, rows))
    }

    /// Reads the audit trail, also while changes are written. It keeps the file open.
    pub fn audit(&self) -> AuditReader {
        AuditReader::new(Arc::clone(&self.db), self.file.clone())
    }

    /// Stores the changes and the counters, all or nothing, and returns once they are durable.
    ///
    /// # Errors
    /// Any: nothing more may be written by this process; the changes may or may not be found at the next start.
    pub fn commit(&mut self, meta: &RegistryMeta, changes: &[RowChange]) -> Result<(), StorageError> {
        let transaction = begin_durable(&self.db, &self.file)?;
        apply(&transaction, meta, changes).map_err(self.file.redb("write"))?;
        self.apply_audit(&transaction, changes)?;
        transaction.commit().map_err(self.file.redb("commit"))
    }

    fn apply_audit(
        &mut self,
        transaction: &WriteTransaction,
        changes: &[RowChange],
    ) -> Result<(), StorageError> {
        let mut trail = Trail::open(transaction, &mut self.shares, &self.file)?;
        for change in changes {
            match change {
                RowChange::Audit(record) => trail.append(record, BOUNDS)?,
                RowChange::AuditBefore(before) => trail.expire(*before)?,
                _ => {}
            }
        }
        Ok(())
    }

    fn load(&mut self) -> Result<RegistryRows, StorageError> {
        let transaction = begin_durable(&self.db, &self.file)?;
        let format = check_format(&transaction, &self.file, |transaction| {
            [STORES, SERVERS, KEYS].into_iter().try_for_each(|table| transaction.open_table(table).map(drop))
        })?;
        let meta = {
            let meta = transaction.open_table(META).map_err(self.file.redb("open a table of"))?;
            let row = meta.get(COUNTERS_KEY).map_err(self.file.redb("read"))?;
            let decoded = row.map(|row| decode_meta(row.value())).transpose();
            decoded.map_err(|flaw| self.file.damaged("meta", COUNTERS_KEY, flaw))?
        };
        let next_audit = Trail::open(&transaction, &mut self.shares, &self.file)?.take_stock()?;
        let rows = RegistryRows {
            meta,
            next_audit,
            stores: self.read(&transaction, STORES, "stores", decode_store)?,
            servers: self.read(&transaction, SERVERS, "servers", decode_server)?,
            keys: self.read(&transaction, KEYS, "keys", decode_key)?,
        };
        self.check_whole(&rows)?;
        if format != Format::Same || next_audit == 1 {
            // The trail's tables are made where they are missing, so that readers find them.
            transaction.commit().map_err(self.file.redb("commit"))?;
        }
        Ok(rows)
    }

    fn read<T>(
        &self,
        transaction: &WriteTransaction,
        table: Rows,
        name: &str,
        decode: fn(u32, &[u8]) -> Result<T, Flaw>,
    ) -> Result<Vec<T>, StorageError> {
        let table = transaction.open_table(table).map_err(self.file.redb("open a table of"))?;
        let mut rows = Vec::new();
        for row in table.iter().map_err(self.file.redb("read"))? {
            let (key, value) = row.map_err(self.file.redb("read"))?;
            let decoded = decode(key.value(), value.value());
            rows.push(decoded.map_err(|flaw| self.file.damaged(name, key.value(), flaw))?);
        }
        Ok(rows)
    }

    /// What must hold between rows: counters above all numbers, every server and key in a known store.
    fn check_whole(&self, rows: &RegistryRows) -> Result<(), StorageError> {
        let Some(meta) = rows.meta else {
            let empty = rows.stores.is_empty() && rows.servers.is_empty() && rows.keys.is_empty();
            let missing = || self.file.damaged("meta", COUNTERS_KEY, Flaw::new("it is missing"));
            return if empty { Ok(()) } else { Err(missing()) };
        };
        let is_known = |store| rows.stores.binary_search_by_key(&store, |row| row.id).is_ok();
        let check = |table: &str, id: u32, next: u32, store_known: bool| {
            let flaw = if id >= next {
                "a number that was not given out yet"
            } else if !store_known {
                "it belongs to a store that does not exist"
            } else {
                return Ok(());
            };
            Err(self.file.damaged(table, id, Flaw::new(flaw)))
        };
        for row in &rows.stores {
            check("stores", row.id.0, meta.next_store, true)?;
        }
        for ServerRecord { server, .. } in &rows.servers {
            check("servers", server.id.0, meta.next_server, is_known(server.store))?;
        }
        for KeyRecord { key, .. } in &rows.keys {
            check("keys", key.id.0, meta.next_key, is_known(key.store))?;
        }
        Ok(())
    }
}

fn apply(
    transaction: &WriteTransaction,
    meta: &RegistryMeta,
    changes: &[RowChange],
) -> Result<(), redb::Error> {
    let mut stores = transaction.open_table(STORES)?;
    let mut servers = transaction.open_table(SERVERS)?;
    let mut keys = transaction.open_table(KEYS)?;
    for change in changes {
        match change {
            RowChange::Store(store) => drop(stores.insert(store.id.0, encode_store(store).as_slice())?),
            RowChange::Server(record) => {
                servers.insert(record.server.id.0, encode_server(record).as_slice())?;
            }
            RowChange::ServerGone(id) => drop(servers.remove(id.0)?),
            RowChange::Key(record) => drop(keys.insert(record.key.id.0, encode_key(record).as_slice())?),
            RowChange::KeyGone(id) => drop(keys.remove(id.0)?),
            RowChange::Audit(_) | RowChange::AuditBefore(_) => {}
        }
    }
    transaction.open_table(META)?.insert(COUNTERS_KEY, encode_meta(meta).as_slice())?;
    Ok(())
}
