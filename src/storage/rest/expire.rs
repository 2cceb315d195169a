//! Forgetting what is old, oldest checkpoint first, a bounded number of rows at a time. Never looks at the rest.

use redb::{ReadableTable, WriteTransaction};

use crate::ids::{Seq, ServerId};
use crate::storage::blocks::{Blocks, Change, Place};
use crate::storage::error::{DbFile, StorageError};
use crate::storage::record::{EndedIndex, OrderIndex, decode_keys};
use crate::storage::tables::{ENDED, ENDED_BY_SERVER, KEYS, ORDERS, ORDERS_BY_CHECKPOINT};
use crate::time::UnixMs;

/// Removes what is old enough; returns how many rows went, `rows_max` at most.
pub(super) fn expire(
    transaction: &WriteTransaction,
    file: &DbFile,
    ended_before: UnixMs,
    keys_before: UnixMs,
    rows_max: usize,
) -> Result<usize, StorageError> {
    let mut left = rows_max;
    expire_keys(transaction, file, keys_before, &mut left)?;
    expire_orders(transaction, file, ended_before, &mut left)?;
    expire_ended(transaction, file, ended_before, &mut left)?;
    Ok(rows_max - left)
}

/// Removes rows of a table of blocks.
fn remove_rows<K: Place>(
    transaction: &WriteTransaction,
    file: &DbFile,
    blocks: &Blocks<K>,
    mut places: Vec<K>,
) -> Result<(), StorageError> {
    places.sort_unstable();
    // A list of an earlier program may name one twice.
    places.dedup();
    let changes: Vec<Change<K>> = places.into_iter().map(|place| (place, None)).collect();
    let mut table = transaction.open_table(blocks.table).map_err(file.redb("open a table of"))?;
    blocks.apply(file, &mut table, &changes).map(drop)
}

fn expire_keys(
    transaction: &WriteTransaction,
    file: &DbFile,
    before: UnixMs,
    left: &mut usize,
) -> Result<(), StorageError> {
    let mut keys = transaction.open_table(KEYS).map_err(file.redb("open a table of"))?;
    while *left > 0 {
        let (checkpoint, chunk) = {
            let Some((key, row)) = keys.first().map_err(file.redb("read"))? else { return Ok(()) };
            let (checkpoint, chunk) = key.value();
            let (latest, _) = decode_keys(checkpoint, chunk, row.value())
                .map_err(|flaw| file.damaged("keys", format_args!("{checkpoint},{chunk}"), flaw))?;
            if latest >= before {
                return Ok(());
            }
            (checkpoint, chunk)
        };
        keys.remove((checkpoint, chunk)).map_err(file.redb("write"))?;
        *left -= 1;
    }
    Ok(())
}

fn expire_orders(
    transaction: &WriteTransaction,
    file: &DbFile,
    before: UnixMs,
    left: &mut usize,
) -> Result<(), StorageError> {
    let mut index = transaction.open_table(ORDERS_BY_CHECKPOINT).map_err(file.redb("open a table of"))?;
    let mut going = Vec::new();
    while *left > 0 {
        let (key, mut row) = {
            let Some((key, row)) = index.first().map_err(file.redb("read"))? else { break };
            let (checkpoint, chunk) = key.value();
            let row = OrderIndex::decode(checkpoint, chunk, row.value()).map_err(|flaw| {
                file.damaged("orders_by_checkpoint", format_args!("{checkpoint},{chunk}"), flaw)
            })?;
            ((checkpoint, chunk), row)
        };
        if row.latest >= before {
            break;
        }
        going.extend(take(&mut row.seqs, left).map(|seq| seq.0));
        if row.seqs.is_empty() {
            index.remove(key).map_err(file.redb("write"))?;
        } else {
            index.insert(key, &row.encode(key.0, key.1)[..]).map_err(file.redb("write"))?;
        }
    }
    remove_rows(transaction, file, &ORDERS, going)
}

fn expire_ended(
    transaction: &WriteTransaction,
    file: &DbFile,
    before: UnixMs,
    left: &mut usize,
) -> Result<(), StorageError> {
    let mut lists = transaction.open_table(ENDED_BY_SERVER).map_err(file.redb("open a table of"))?;
    let mut going = Vec::new();
    while *left > 0 {
        let (key, mut row) = {
            let Some((key, row)) = lists.first().map_err(file.redb("read"))? else { break };
            let (checkpoint, server) = key.value();
            let row = EndedIndex::decode(checkpoint, ServerId(server), row.value()).map_err(|flaw| {
                file.damaged("ended_by_server", format_args!("{checkpoint},{server}"), flaw)
            })?;
            ((checkpoint, server), row)
        };
        if row.latest >= before {
            break;
        }
        going.extend(take(&mut row.seqs, left).map(|seq| (key.1, seq.0)));
        if row.seqs.is_empty() {
            lists.remove(key).map_err(file.redb("write"))?;
        } else {
            lists.insert(key, &row.encode(key.0, ServerId(key.1))[..]).map_err(file.redb("write"))?;
        }
    }
    remove_rows(transaction, file, &ENDED, going)
}

/// Takes as many of `seqs` as may still go.
fn take<'s>(seqs: &'s mut Vec<Seq>, left: &mut usize) -> impl Iterator<Item = Seq> + 's {
    let count = seqs.len().min(*left);
    *left -= count;
    seqs.drain(..count)
}
