//! The store at rest in `store.redb`: what the journal amounts to. Never decides what a command's status is.
//!
//! Writers take turns; reads see the last checkpoint and wait for nobody.

use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use redb::{Database, ReadableTable, WriteTransaction};

use super::clean::CleanMark;
use super::contract::{EndedCursor, EndedPage, NextPart, Rest};
use super::error::{DbFile, StorageError};
use super::pieces::Pieces;
use super::record::{Flaw, StoreMeta};
use super::tables::{
    ENDED, ENDED_BY_SERVER, Format, KEYS, LIVE, META, ORDERS, ORDERS_BY_CHECKPOINT, SERVERS, begin_durable,
    check_format,
};
use crate::engine::{CommandRow, OrderRow, Status};
use crate::ids::{CommandId, FrameNo, OrderId, Seq, ServerId, ShardNo};
use crate::time::UnixMs;

mod expire;
mod read;
mod row;
mod texts;
mod upgrade;
mod write;

pub(super) use upgrade::to_blocks;

/// The row of `META` that says where the store stands.
pub(super) const STORE_KEY: &str = "store";

/// [`Rest`] on redb.
#[derive(Debug)]
pub struct RedbRest {
    /// `None` only while it is being dropped.
    db: Option<Arc<Database>>,
    file: DbFile,
    pieces: Arc<Pieces>,
    mark: Arc<CleanMark>,
    writer: Mutex<Writer>,
}

/// What writers hand to each other.
#[derive(Debug)]
struct Writer {
    meta: StoreMeta,
    /// The last frames that recovery found: the first checkpoint contains them, whatever shards there are now.
    recovered: Vec<(ShardNo, FrameNo)>,
    failed: Option<StorageError>,
}

impl RedbRest {
    /// Takes over an open database; makes its tables when it is new. `before_raise` may object to a new format.
    pub(super) fn new(
        (db, pieces): (Arc<Database>, Arc<Pieces>),
        file: DbFile,
        mark: Arc<CleanMark>,
        before_raise: impl FnOnce() -> Result<(), StorageError>,
    ) -> Result<RedbRest, StorageError> {
        let transaction = begin_durable(&db, &file)?;
        let format = check_format(&transaction, &file, make_tables)?;
        if let Format::Raised = format {
            before_raise()?;
            tracing::info!(
                "the store gets a new format: this may take minutes, and needs room for all of it once more"
            );
            to_blocks(&transaction, &file)?;
        }
        let meta = if format == Format::New {
            write_meta(&transaction, &file, &StoreMeta::default())?;
            StoreMeta::default()
        } else {
            read_meta(&transaction, &file)?
        };
        match format {
            Format::Same => transaction.abort().map_err(file.redb("abort a transaction in"))?,
            Format::New | Format::Raised => transaction.commit().map_err(file.redb("commit to"))?,
        }
        let writer = Mutex::new(Writer { meta, recovered: Vec::new(), failed: None });
        Ok(RedbRest { db: Some(db), file, pieces, mark, writer })
    }

    /// Where the store stands.
    pub(super) fn meta(&self) -> StoreMeta {
        self.writer.lock().meta.clone()
    }

    /// Writes down the number of this run.
    pub(super) fn set_boot(&self, boot: u32) -> Result<(), StorageError> {
        self.transact(|transaction, writer| {
            let meta = StoreMeta { boot, ..writer.meta.clone() };
            write_meta(transaction, &self.file, &meta)?;
            Ok((Some(meta), ()))
        })
    }

    /// The database, for copies of it.
    pub(super) fn source(&self) -> (Weak<Database>, DbFile) {
        (self.db.as_ref().map(Arc::downgrade).unwrap_or_default(), self.file.clone())
    }

    /// Lets the numbers of runs, commands and orders go on from here at the least.
    pub(super) fn raise(&self, boot: u32, next_seq: u64) -> Result<(), StorageError> {
        self.transact(|transaction, writer| {
            let meta =
                StoreMeta { boot, next_seq: writer.meta.next_seq.max(next_seq), ..writer.meta.clone() };
            write_meta(transaction, &self.file, &meta)?;
            Ok((Some(meta), ()))
        })
    }

    /// Notes where the chains ended when the process started.
    pub(super) fn note_recovered(&self, ends: Vec<(ShardNo, FrameNo)>) {
        self.writer.lock().recovered = ends;
    }

    fn db(&self) -> &Database {
        self.db.as_ref().expect("taken only by drop")
    }

    /// Runs `work` in one durable transaction, or in none when it returns no new meta; a failure is final.
    fn transact<R>(
        &self,
        work: impl FnOnce(&WriteTransaction, &Writer) -> Result<(Option<StoreMeta>, R), StorageError>,
    ) -> Result<R, StorageError> {
        let mut writer = self.writer.lock();
        if let Some(error) = &writer.failed {
            return Err(error.clone());
        }
        let done = begin_durable(self.db(), &self.file).and_then(|transaction| {
            let (meta, result) = work(&transaction, &writer)?;
            match meta {
                Some(_) => {
                    self.pieces.commit(|| transaction.commit()).map_err(self.file.redb("commit to"))?;
                }
                None => transaction.abort().map_err(self.file.redb("abort a transaction in"))?,
            }
            Ok((meta, result))
        });
        match done {
            Ok((meta, result)) => {
                writer.meta = meta.unwrap_or_else(|| writer.meta.clone());
                Ok(result)
            }
            Err(error) => {
                self.mark.spoil();
                writer.failed = Some(error.clone());
                Err(error)
            }
        }
    }
}

impl Rest for RedbRest {
    fn write_parts(
        &self,
        totals: &[(ShardNo, FrameNo)],
        next: &mut dyn FnMut() -> NextPart,
    ) -> Result<bool, StorageError> {
        let complete = self.transact(|transaction, writer| {
            let mut write = write::Write::begin(transaction, (&self.file, &self.pieces), writer);
            loop {
                match next() {
                    NextPart::Part(part) => write.part(*part)?,
                    NextPart::Complete => break,
                    NextPart::Abandoned => return Ok((None, false)),
                }
            }
            let meta = write.finish(writer, totals)?;
            write_meta(transaction, &self.file, &meta)?;
            Ok((Some(meta), true))
        })?;
        if complete {
            self.writer.lock().recovered.clear();
        }
        Ok(complete)
    }

    fn command(&self, id: CommandId) -> Result<Option<CommandRow>, StorageError> {
        read::command(self.db(), &self.file, id)
    }

    fn complete(&self, rows: &mut [CommandRow]) -> Result<(), StorageError> {
        read::complete(self.db(), &self.file, rows)
    }

    fn texts(
        &self,
        server: ServerId,
        seqs: &[Seq],
        bytes_max: usize,
    ) -> Result<Vec<(Seq, Arc<str>)>, StorageError> {
        texts::texts(self.db(), &self.file, server, seqs, bytes_max)
    }

    fn order(&self, id: OrderId) -> Result<Option<OrderRow>, StorageError> {
        read::order(self.db(), &self.file, id)
    }

    fn ended(
        &self,
        server: ServerId,
        status: Option<Status>,
        from: Option<EndedCursor>,
        limit: usize,
    ) -> Result<EndedPage, StorageError> {
        read::ended(self.db(), &self.file, server, status, from, limit)
    }

    fn expire(
        &self,
        ended_before: UnixMs,
        keys_before: UnixMs,
        rows_max: usize,
    ) -> Result<usize, StorageError> {
        self.transact(|transaction, writer| {
            let gone = expire::expire(transaction, &self.file, ended_before, keys_before, rows_max)?;
            Ok(((gone > 0).then(|| writer.meta.clone()), gone))
        })
    }
}

impl Drop for RedbRest {
    fn drop(&mut self) {
        let db = self.db.take().and_then(Arc::into_inner);
        self.mark.close(db.map(|db| || db.close()));
    }
}

fn make_tables(transaction: &WriteTransaction) -> Result<(), redb::TableError> {
    transaction.open_table(LIVE.table)?;
    transaction.open_table(ENDED.table)?;
    transaction.open_table(ENDED_BY_SERVER)?;
    transaction.open_table(ORDERS.table)?;
    transaction.open_table(ORDERS_BY_CHECKPOINT)?;
    transaction.open_table(KEYS)?;
    transaction.open_table(SERVERS)?;
    Ok(())
}

fn read_meta(transaction: &WriteTransaction, file: &DbFile) -> Result<StoreMeta, StorageError> {
    let meta = transaction.open_table(META).map_err(file.redb("open a table of"))?;
    let row = meta.get(STORE_KEY).map_err(file.redb("read"))?;
    let flaw = |flaw| file.damaged("meta", STORE_KEY, flaw);
    let row = row.ok_or_else(|| flaw(Flaw::new("the row is missing")))?;
    StoreMeta::decode(row.value()).map_err(flaw)
}

fn write_meta(transaction: &WriteTransaction, file: &DbFile, row: &StoreMeta) -> Result<(), StorageError> {
    let mut meta = transaction.open_table(META).map_err(file.redb("open a table of"))?;
    meta.insert(STORE_KEY, &row.encode()[..]).map_err(file.redb("write"))?;
    Ok(())
}

#[cfg(test)]
#[path = "../rest_tests.rs"]
mod tests;
