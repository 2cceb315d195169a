//! Forgetting what is old, oldest checkpoint first, a bounded number of rows at a time. Never looks at the rest.

use redb::{ReadableTable, Table, WriteTransaction};

use crate::ids::{Seq, ServerId};
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

/// Removes rows by their rising seqs, as many as may go; the seqs that are left.
fn remove_rows(
    file: &DbFile,
    rows: &mut Table<'_, u64, &'static [u8]>,
    mut seqs: Vec<Seq>,
    left: &mut usize,
) -> Result<Vec<Seq>, StorageError> {
    let going = seqs.len().min(*left);
    for seq in seqs.drain(..going) {
        rows.remove(seq.0).map_err(file.redb("write"))?;
    }
    *left -= going;
    Ok(seqs)
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
    let mut orders = transaction.open_table(ORDERS).map_err(file.redb("open a table of"))?;
    while *left > 0 {
        let (key, row) = {
            let Some((key, row)) = index.first().map_err(file.redb("read"))? else { return Ok(()) };
            let (checkpoint, chunk) = key.value();
            let row = OrderIndex::decode(checkpoint, chunk, row.value()).map_err(|flaw| {
                file.damaged("orders_by_checkpoint", format_args!("{checkpoint},{chunk}"), flaw)
            })?;
            ((checkpoint, chunk), row)
        };
        if row.latest >= before {
            return Ok(());
        }
        let seqs = remove_rows(file, &mut orders, row.seqs, left)?;
        if seqs.is_empty() {
            index.remove(key).map_err(file.redb("write"))?;
        } else {
            let row = OrderIndex { seqs, ..row }.encode(key.0, key.1);
            index.insert(key, &row[..]).map_err(file.redb("write"))?;
        }
    }
    Ok(())
}

fn expire_ended(
    transaction: &WriteTransaction,
    file: &DbFile,
    before: UnixMs,
    left: &mut usize,
) -> Result<(), StorageError> {
    let mut lists = transaction.open_table(ENDED_BY_SERVER).map_err(file.redb("open a table of"))?;
    let mut ended = transaction.open_table(ENDED).map_err(file.redb("open a table of"))?;
    while *left > 0 {
        let (key, row) = {
            let Some((key, row)) = lists.first().map_err(file.redb("read"))? else { return Ok(()) };
            let (checkpoint, server) = key.value();
            let row = EndedIndex::decode(checkpoint, ServerId(server), row.value()).map_err(|flaw| {
                file.damaged("ended_by_server", format_args!("{checkpoint},{server}"), flaw)
            })?;
            ((checkpoint, server), row)
        };
        if row.latest >= before {
            return Ok(());
        }
        let seqs = remove_rows(file, &mut ended, row.seqs, left)?;
        if seqs.is_empty() {
            lists.remove(key).map_err(file.redb("write"))?;
        } else {
            let row = EndedIndex { seqs, ..row }.encode(key.0, ServerId(key.1));
            lists.insert(key, &row[..]).map_err(file.redb("write"))?;
        }
    }
    Ok(())
}
