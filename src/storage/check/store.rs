//! The rows of the store at rest, each by itself.

use redb::ReadTransaction;

use super::Inspection;
use crate::ids::{Seq, ServerId};
use crate::storage::blocks::command_at;
use crate::storage::error::{DbFile, StorageError};
use crate::storage::open::STORE_FILE;
use crate::storage::record::{
    EndedIndex, Flaw, OrderIndex, ServerEntry, StoreMeta, decode_command, decode_keys, decode_old_command,
    decode_old_keys, decode_old_order, decode_order,
};
use crate::storage::rest::STORE_KEY;
use crate::storage::tables::{
    ENDED, ENDED_BY_SERVER, KEYS, LIVE, OLD_ENDED, OLD_LIVE, OLD_ORDERS, ORDERS, ORDERS_BY_CHECKPOINT,
    SERVERS,
};

/// Checks every row; `None` when the meta row does not check.
pub(super) fn rows(
    look: &mut Inspection<'_>,
    reader: &ReadTransaction,
    file: &DbFile,
) -> Result<Option<StoreMeta>, StorageError> {
    let meta = look.meta(reader, file, STORE_KEY, StoreMeta::decode)?;
    commands(look, reader, file)?;
    look.walk(reader, file, (ENDED_BY_SERVER, "ended_by_server"), |(checkpoint, server), row| {
        let list = EndedIndex::decode(checkpoint, ServerId(server), row);
        list.and_then(|list| rising(&list.seqs)).map_err(|flaw| (format!("{checkpoint},{server}"), flaw))
    })?;
    look.walk_blocks(reader, file, &ORDERS, |seq, row| {
        match decode_order(Seq(seq), row)?.commands.first() {
            Some(first) if first.seq.0 == seq => Ok(()),
            _ => Err(Flaw::new("its first command has another number")),
        }
    })?;
    look.walk(reader, file, (ORDERS_BY_CHECKPOINT, "orders_by_checkpoint"), |(checkpoint, chunk), row| {
        // Each shard's orders rise, but not those of several shards together.
        let list = OrderIndex::decode(checkpoint, chunk, row).map(drop);
        list.map_err(|flaw| (format!("{checkpoint},{chunk}"), flaw))
    })?;
    look.walk(reader, file, (KEYS, "keys"), |(checkpoint, chunk), row| {
        let keys = decode_keys(checkpoint, chunk, row);
        let keys = keys.and_then(|(_, mut keys)| keys.try_for_each(|key| key.map(drop)));
        keys.map_err(|flaw| (format!("{checkpoint},{chunk}"), flaw))
    })?;
    look.walk(reader, file, (SERVERS, "servers"), |server, row| {
        ServerEntry::decode(ServerId(server), row).map(drop).map_err(|flaw| (server.to_string(), flaw))
    })?;
    Ok(meta)
}

fn commands(look: &mut Inspection<'_>, reader: &ReadTransaction, file: &DbFile) -> Result<(), StorageError> {
    look.walk_blocks(reader, file, &LIVE, |at, row| placed(at, row, false))?;
    look.walk_blocks(reader, file, &ENDED, |at, row| placed(at, row, true))
}

/// Checks the rows of a store of formats 1 and 2 that were written otherwise.
pub(super) fn old_rows(
    look: &mut Inspection<'_>,
    reader: &ReadTransaction,
    file: &DbFile,
) -> Result<(), StorageError> {
    for (table, name) in [(OLD_LIVE, "live"), (OLD_ENDED, "ended")] {
        look.walk(reader, file, (table, name), |seq, row| {
            decode_old_command(Seq(seq), row).map(drop).map_err(|flaw| (seq.to_string(), flaw))
        })?;
    }
    look.walk(reader, file, (OLD_ORDERS, "orders"), |seq, row| {
        decode_old_order(Seq(seq), row).map(drop).map_err(|flaw| (seq.to_string(), flaw))
    })?;
    look.walk(reader, file, (KEYS, "keys"), |(checkpoint, chunk), row| {
        let keys = decode_old_keys(checkpoint, chunk, row).map(drop);
        keys.map_err(|flaw| (format!("{checkpoint},{chunk}"), flaw))
    })?;
    look.report.tables.retain(|count| count.file != STORE_FILE);
    Ok(())
}

/// A command is in the table of its status.
fn placed(at: (u32, u64), row: &[u8], ends: bool) -> Result<(), Flaw> {
    let command = decode_command(command_at(at), row)?;
    match command.status.is_terminal() == ends {
        true => Ok(()),
        false => Err(Flaw::new(format!("a command that is {:?} does not belong here", command.status))),
    }
}

fn rising(seqs: &[Seq]) -> Result<(), Flaw> {
    match seqs.windows(2).all(|pair| pair[0] < pair[1]) {
        true if !seqs.is_empty() => Ok(()),
        _ => Err(Flaw::new("its numbers do not rise")),
    }
}
