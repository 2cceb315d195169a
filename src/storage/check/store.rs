//! The rows of the store at rest, each by itself.

use redb::ReadTransaction;

use super::Inspection;
use crate::ids::{Seq, ServerId};
use crate::storage::error::{DbFile, StorageError};
use crate::storage::record::{
    EndedIndex, Flaw, OrderIndex, ServerEntry, StoreMeta, decode_command, decode_keys, decode_order,
};
use crate::storage::rest::STORE_KEY;
use crate::storage::tables::{ENDED, ENDED_BY_SERVER, KEYS, LIVE, ORDERS, ORDERS_BY_CHECKPOINT, SERVERS};

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
    look.walk(reader, file, (ORDERS, "orders"), |seq, row| {
        let order = decode_order(Seq(seq), row);
        let first = order.and_then(|order| match order.commands.first() {
            Some(first) if first.seq == Seq(seq) => Ok(()),
            _ => Err(Flaw::new("its first command has another number")),
        });
        first.map_err(|flaw| (seq.to_string(), flaw))
    })?;
    look.walk(reader, file, (ORDERS_BY_CHECKPOINT, "orders_by_checkpoint"), |(checkpoint, chunk), row| {
        // Each shard's orders rise, but not those of several shards together.
        let list = OrderIndex::decode(checkpoint, chunk, row).map(drop);
        list.map_err(|flaw| (format!("{checkpoint},{chunk}"), flaw))
    })?;
    look.walk(reader, file, (KEYS, "keys"), |(checkpoint, chunk), row| {
        let keys = decode_keys(checkpoint, chunk, row).map(drop);
        keys.map_err(|flaw| (format!("{checkpoint},{chunk}"), flaw))
    })?;
    look.walk(reader, file, (SERVERS, "servers"), |server, row| {
        ServerEntry::decode(ServerId(server), row).map(drop).map_err(|flaw| (server.to_string(), flaw))
    })?;
    Ok(meta)
}

fn commands(look: &mut Inspection<'_>, reader: &ReadTransaction, file: &DbFile) -> Result<(), StorageError> {
    for (table, name, ends) in [(LIVE, "live", false), (ENDED, "ended", true)] {
        look.walk(reader, file, (table, name), |seq, row| {
            let command = decode_command(Seq(seq), row);
            let placed = command.and_then(|command| match command.status.is_terminal() == ends {
                true => Ok(()),
                false => {
                    Err(Flaw::new(format!("a command that is {:?} does not belong here", command.status)))
                }
            });
            placed.map_err(|flaw| (seq.to_string(), flaw))
        })?;
    }
    Ok(())
}

fn rising(seqs: &[Seq]) -> Result<(), Flaw> {
    match seqs.windows(2).all(|pair| pair[0] < pair[1]) {
        true if !seqs.is_empty() => Ok(()),
        _ => Err(Flaw::new("its numbers do not rise")),
    }
}
