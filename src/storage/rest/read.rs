//! Look-ups in the store at rest: one read transaction each, never held longer than the call.

use redb::{Database, ReadableDatabase, TableDefinition};

use super::row::{self, command_at_rest, ended_command};
use crate::engine::{CommandRow, OrderRow, Status};
use crate::ids::{CommandId, OrderId, Seq, ServerId};
use crate::storage::contract::{EndedCursor, EndedPage};
use crate::storage::error::{DbFile, StorageError};
use crate::storage::record::{EndedIndex, Flaw, ServerEntry, decode_order};
use crate::storage::tables::{ENDED, ENDED_BY_SERVER, LIVE, ORDERS, SERVERS};

/// Commands that one page looks at, at most, so that a rare status does not read a whole history in one call.
const LOOKED_AT_MAX: usize = 16_384;

type Row = redb::AccessGuard<'static, &'static [u8]>;

/// A read transaction with the file's errors.
pub(super) struct Reader<'a> {
    transaction: redb::ReadTransaction,
    file: &'a DbFile,
}

impl<'a> Reader<'a> {
    pub(super) fn new(db: &Database, file: &'a DbFile) -> Result<Reader<'a>, StorageError> {
        let transaction = db.begin_read().map_err(file.redb("begin a transaction in"))?;
        Ok(Reader { transaction, file })
    }

    pub(super) fn table<K: redb::Key>(
        &self,
        table: TableDefinition<'static, K, &'static [u8]>,
    ) -> Result<redb::ReadOnlyTable<K, &'static [u8]>, StorageError> {
        self.transaction.open_table(table).map_err(self.file.redb("open a table of"))
    }
}

/// A command, live or ended.
pub(super) fn command(
    db: &Database,
    file: &DbFile,
    id: CommandId,
) -> Result<Option<CommandRow>, StorageError> {
    let reader = Reader::new(db, file)?;
    row::command(file, &reader.table(LIVE.table)?, &reader.table(ENDED.table)?, id)
}

/// See [`crate::storage::Rest::complete`].
pub(super) fn complete(db: &Database, file: &DbFile, rows: &mut [CommandRow]) -> Result<(), StorageError> {
    let reader = Reader::new(db, file)?;
    let (live, ended) = (reader.table(LIVE.table)?, reader.table(ENDED.table)?);
    for row in rows.iter_mut().filter(|row| row.text.is_none()) {
        let found = command_at_rest(file, &live, &ended, row.id)?;
        if found.rev > row.rev {
            *row = found;
        } else {
            row.text = found.text;
        }
    }
    Ok(())
}

/// An order.
pub(super) fn order(db: &Database, file: &DbFile, id: OrderId) -> Result<Option<OrderRow>, StorageError> {
    let reader = Reader::new(db, file)?;
    let found = ORDERS.get(file, &reader.table(ORDERS.table)?, id.seq.0, |row| decode_order(id.seq, row))?;
    Ok(found.filter(|row| row.id == id))
}

/// A page of what has ended on a server: along its list, newest checkpoint first.
pub(super) fn ended(
    db: &Database,
    file: &DbFile,
    server: ServerId,
    status: Option<Status>,
    from: Option<EndedCursor>,
    limit: usize,
) -> Result<EndedPage, StorageError> {
    let reader = Reader::new(db, file)?;
    let (lists, commands) = (reader.table(ENDED_BY_SERVER)?, reader.table(ENDED.table)?);
    let (mut checkpoint, mut after) = match from {
        Some(from) => (from.checkpoint, from.after),
        None => (newest(&reader, server)?, Seq(0)),
    };
    let mut page = EndedPage::default();
    let mut looked_at = 0;
    while let Some(index) = index_row(file, &lists, checkpoint, server)? {
        let start = index.seqs.partition_point(|seq| *seq <= after);
        for seq in &index.seqs[start..] {
            if page.commands.len() >= limit || looked_at >= LOOKED_AT_MAX {
                page.next = Some(EndedCursor { checkpoint, after });
                return Ok(page);
            }
            looked_at += 1;
            after = *seq;
            // Expiry may have stopped half-way through this row.
            if let Some(row) = ended_command(file, &commands, CommandId { server, seq: *seq })?
                && status.is_none_or(|status| row.status == status)
            {
                page.commands.push(row);
            }
        }
        if index.before >= checkpoint {
            let flaw = Flaw::new(format!("the list goes on at {}", index.before));
            return Err(file.damaged("ended_by_server", format_args!("{checkpoint},{}", server.0), flaw));
        }
        (checkpoint, after) = (index.before, Seq(0));
    }
    Ok(page)
}

fn newest(reader: &Reader<'_>, server: ServerId) -> Result<u64, StorageError> {
    let row: Option<Row> = reader.table(SERVERS)?.get(server.0).map_err(reader.file.redb("read"))?;
    let entry = row
        .map(|row| ServerEntry::decode(server, row.value()))
        .transpose()
        .map_err(|flaw| reader.file.damaged("servers", server.0, flaw))?;
    Ok(entry.unwrap_or_default().newest)
}

/// A row of a server's list; `None` = its end, where what came before has expired.
fn index_row(
    file: &DbFile,
    lists: &redb::ReadOnlyTable<(u64, u32), &'static [u8]>,
    checkpoint: u64,
    server: ServerId,
) -> Result<Option<EndedIndex>, StorageError> {
    let row: Option<Row> = lists.get((checkpoint, server.0)).map_err(file.redb("read"))?;
    row.map(|row| EndedIndex::decode(checkpoint, server, row.value()))
        .transpose()
        .map_err(|flaw| file.damaged("ended_by_server", format_args!("{checkpoint},{}", server.0), flaw))
}
