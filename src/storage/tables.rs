//! The tables of the redb files and the version of the format. Names and types are stored: never change them.

use redb::{Database, ReadTransaction, ReadableTable, TableDefinition, WriteTransaction};

use super::blocks::Blocks;
use super::error::{DbFile, StorageError};
use super::record::{Flaw, Kind};

/// The version of the format of a data directory. A file with a higher one is refused untouched; one with a lower one gets
/// this one when it is opened, so that no earlier program takes the directory for its own.
pub(super) const FORMAT_VERSION: u32 = 3;
/// The format of directories whose journal was a redb file; the tables are those of [`SECOND_FORMAT`].
pub(super) const FIRST_FORMAT: u32 = 1;
/// The format of directories whose stores have each row by itself.
pub(super) const SECOND_FORMAT: u32 = 2;

/// The row of `META` that holds the format version: four bytes, little endian, readable by any version.
pub(super) const FORMAT_KEY: &str = "format";

/// All files: `format`, and a sealed row for where the file stands.
pub(super) const META: TableDefinition<'static, &str, &[u8]> = TableDefinition::new("meta");
/// `journal.redb`, of the first format: commit -> frames.
pub(super) const COMMITS: TableDefinition<'static, u64, &[u8]> = TableDefinition::new("commits");

/// `store.redb`: (server, seq) -> commands that have not ended. The key is that of the first row, or lies below it since that
/// one has gone; no row lies at or above the key of the block behind.
pub(super) const LIVE: Blocks<(u32, u64)> =
    Blocks { table: TableDefinition::new("live_blocks"), name: "live_blocks", kind: Kind::Commands };
/// `store.redb`: (server, seq) -> commands that have ended, likewise.
pub(super) const ENDED: Blocks<(u32, u64)> =
    Blocks { table: TableDefinition::new("ended_blocks"), name: "ended_blocks", kind: Kind::Commands };
/// `store.redb`: (checkpoint, server) -> the commands that ended there.
pub(super) const ENDED_BY_SERVER: TableDefinition<'static, (u64, u32), &[u8]> =
    TableDefinition::new("ended_by_server");
/// `store.redb`: first seq -> orders, in blocks as commands are.
pub(super) const ORDERS: Blocks<u64> =
    Blocks { table: TableDefinition::new("order_blocks"), name: "order_blocks", kind: Kind::Orders };
/// `store.redb`: (checkpoint, chunk) -> the orders that came with it.
pub(super) const ORDERS_BY_CHECKPOINT: TableDefinition<'static, (u64, u32), &[u8]> =
    TableDefinition::new("orders_by_checkpoint");
/// `store.redb`: (checkpoint, chunk) -> idempotency keys.
pub(super) const KEYS: TableDefinition<'static, (u64, u32), &[u8]> = TableDefinition::new("keys");
/// `store.redb`: server -> totals.
pub(super) const SERVERS: TableDefinition<'static, u32, &[u8]> = TableDefinition::new("servers");

/// `store.redb` of the first two formats: seq -> command that has not ended.
pub(super) const OLD_LIVE: TableDefinition<'static, u64, &[u8]> = TableDefinition::new("live");
/// `store.redb` of the first two formats: seq -> command that has ended.
pub(super) const OLD_ENDED: TableDefinition<'static, u64, &[u8]> = TableDefinition::new("ended");
/// `store.redb` of the first two formats: first seq -> order.
pub(super) const OLD_ORDERS: TableDefinition<'static, u64, &[u8]> = TableDefinition::new("orders");

/// Begins a transaction that is durable when its commit returns and cannot come back half after a failed sync.
pub(super) fn begin_durable(db: &Database, file: &DbFile) -> Result<WriteTransaction, StorageError> {
    let mut transaction = db.begin_write().map_err(file.redb("begin a transaction in"))?;
    transaction
        .set_durability(redb::Durability::Immediate)
        .expect("a transaction without savepoints takes any durability");
    transaction.set_two_phase_commit(true);
    Ok(transaction)
}

/// The format version of a database; `None` = it is new.
pub(super) fn format_of(reader: &ReadTransaction, file: &DbFile) -> Result<Option<u32>, StorageError> {
    let meta = match reader.open_table(META) {
        Err(redb::TableError::TableDoesNotExist(_)) => return Ok(None),
        opened => opened.map_err(file.redb("open a table of"))?,
    };
    let row = meta.get(FORMAT_KEY).map_err(file.redb("read"))?;
    let version = row.map(|row| <[u8; 4]>::try_from(row.value()).map(u32::from_le_bytes)).transpose();
    version.map_err(|_| file.damaged("meta", FORMAT_KEY, Flaw::new("not a known version")))
}

/// What opening a file found of its format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    /// There was none yet: the file is new.
    New,
    /// It was that of an earlier program.
    Raised,
    /// It is as it was.
    Same,
}

/// Checks the format of a file, lets `tables` make every table of a new one, and raises a lower version. All but
/// [`Format::Same`] have to be committed.
pub(super) fn check_format(
    transaction: &WriteTransaction,
    file: &DbFile,
    tables: impl FnOnce(&WriteTransaction) -> Result<(), redb::TableError>,
) -> Result<Format, StorageError> {
    let mut meta = transaction.open_table(META).map_err(file.redb("open a table of"))?;
    let found = {
        let row = meta.get(FORMAT_KEY).map_err(file.redb("read"))?;
        row.map(|row| <[u8; 4]>::try_from(row.value()).map(u32::from_le_bytes))
    };
    match found {
        Some(Ok(found)) if found > FORMAT_VERSION => {
            let file = file.path().to_path_buf();
            Err(StorageError::TooNew { file, found, supported: FORMAT_VERSION })
        }
        Some(Ok(FORMAT_VERSION)) => Ok(Format::Same),
        Some(Ok(FIRST_FORMAT | SECOND_FORMAT)) => {
            meta.insert(FORMAT_KEY, &FORMAT_VERSION.to_le_bytes()[..]).map_err(file.redb("write"))?;
            Ok(Format::Raised)
        }
        Some(_) => Err(file.damaged("meta", FORMAT_KEY, Flaw::new("not a known version"))),
        None => {
            meta.insert(FORMAT_KEY, &FORMAT_VERSION.to_le_bytes()[..]).map_err(file.redb("write"))?;
            tables(transaction).map_err(file.redb("make a table of"))?;
            Ok(Format::New)
        }
    }
}
