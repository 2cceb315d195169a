//! From formats 1 and 2, which have each row by itself, to blocks: in the transaction that raises the version, so that a crash
//! leaves the one or the other.

use redb::{ReadableTable, TableDefinition, WriteTransaction};

use crate::ids::Seq;
use crate::storage::blocks::{Blocks, Change, Place, place};
use crate::storage::error::{DbFile, StorageError};
use crate::storage::record::{
    Flaw, decode_old_command, decode_old_keys, decode_old_order, encode_command, encode_keys, encode_order,
};
use crate::storage::tables::{ENDED, KEYS, LIVE, OLD_ENDED, OLD_LIVE, OLD_ORDERS, ORDERS};

/// Bytes of rows that are in memory at a time: some rows of each of many servers.
const BYTES_AT_ONCE: usize = 32 * 1024 * 1024;
/// What a row takes there beside its bytes.
const ROW_BYTES: usize = 48;

/// Moves all rows.
pub(in crate::storage) fn to_blocks(
    transaction: &WriteTransaction,
    file: &DbFile,
) -> Result<(), StorageError> {
    let command = |seq, row: &[u8]| {
        let row = decode_old_command(seq, row)?;
        Ok((place(row.id), encode_command(&row)))
    };
    let live = move_rows(transaction, file, OLD_LIVE, &LIVE, command)?;
    let ended = move_rows(transaction, file, OLD_ENDED, &ENDED, command)?;
    let orders = move_rows(transaction, file, OLD_ORDERS, &ORDERS, |seq, row| {
        Ok((seq.0, encode_order(&decode_old_order(seq, row)?)))
    })?;
    let keys = rewrite_keys(transaction, file)?;
    tracing::info!(live, ended, orders, keys, "rows moved into blocks");
    Ok(())
}

/// Writes the rows of keys anew, which stay where they are. How many keys there are.
fn rewrite_keys(transaction: &WriteTransaction, file: &DbFile) -> Result<u64, StorageError> {
    let mut table = transaction.open_table(KEYS).map_err(file.redb("open a table of"))?;
    let places = table.iter().map_err(file.redb("read"))?.map(|row| Ok(row?.0.value()));
    let places = places.collect::<Result<Vec<_>, redb::StorageError>>().map_err(file.redb("read"))?;
    let mut moved = 0;
    for (checkpoint, chunk) in places {
        let row = table.get((checkpoint, chunk)).map_err(file.redb("read"))?;
        let Some(row) = row.map(|row| row.value().to_vec()) else { continue };
        let keys = decode_old_keys(checkpoint, chunk, &row)
            .map_err(|flaw| file.damaged("keys", format_args!("{checkpoint},{chunk}"), flaw))?;
        let keys: Vec<_> = keys.1.collect();
        moved += keys.len() as u64;
        let row = encode_keys(checkpoint, chunk, &keys);
        table.insert((checkpoint, chunk), &row[..]).map_err(file.redb("write"))?;
    }
    Ok(moved)
}

/// Moves the rows of a table, which is gone then. How many there were.
fn move_rows<K: Place>(
    transaction: &WriteTransaction,
    file: &DbFile,
    from: TableDefinition<'static, u64, &'static [u8]>,
    to: &Blocks<K>,
    convert: impl Fn(Seq, &[u8]) -> Result<(K, Vec<u8>), Flaw>,
) -> Result<u64, StorageError> {
    let name = redb::TableHandle::name(&from).to_owned();
    let mut moved = 0;
    {
        let old = transaction.open_table(from).map_err(file.redb("open a table of"))?;
        let mut new = transaction.open_table(to.table).map_err(file.redb("make a table of"))?;
        let (mut rows, mut bytes) = (Vec::<Change<K>>::new(), 0);
        let mut store = |rows: &mut Vec<Change<K>>| {
            rows.sort_unstable_by_key(|(place, _)| *place);
            moved += to.apply(file, &mut new, rows)?.len() as u64;
            rows.clear();
            Ok(())
        };
        for row in old.iter().map_err(file.redb("read"))? {
            let (seq, row) = row.map_err(file.redb("read"))?;
            let seq = Seq(seq.value());
            let (place, row) = convert(seq, row.value()).map_err(|flaw| file.damaged(&name, seq.0, flaw))?;
            bytes += row.len() + ROW_BYTES;
            rows.push((place, Some(row)));
            if bytes >= BYTES_AT_ONCE {
                store(&mut rows)?;
                bytes = 0;
            }
        }
        store(&mut rows)?;
    }
    transaction.delete_table(from).map_err(file.redb("remove a table of"))?;
    Ok(moved)
}
