//! One checkpoint as one transaction. Every table is written in rising key order.

use std::collections::BTreeMap;

use redb::{ReadableTable, WriteTransaction};

use super::Writer;
use crate::engine::{CommandRow, ImagePart, KeyRow, OrderRow};
use crate::ids::{Seq, ServerId};
use crate::storage::contract::Checkpoint;
use crate::storage::error::{DbFile, StorageError};
use crate::storage::record::{
    EndedIndex, KEYS_PER_ROW, OrderIndex, ServerEntry, StoreMeta, encode_command, encode_keys, encode_order,
};
use crate::storage::tables::{ENDED, ENDED_BY_SERVER, KEYS, LIVE, ORDERS, ORDERS_BY_CHECKPOINT, SERVERS};
use crate::time::UnixMs;

/// Orders named by one row of the index, so that no row is large and expiry goes in steps.
const ORDERS_PER_ROW: usize = 4096;

/// Writes everything but the meta row, which it returns.
pub(super) fn write(
    transaction: &WriteTransaction,
    file: &DbFile,
    writer: &Writer,
    checkpoint: &Checkpoint,
) -> Result<StoreMeta, StorageError> {
    let mut meta = writer.meta.clone();
    meta.checkpoint += 1;
    for part in &checkpoint.parts {
        meta.next_seq = meta.next_seq.max(part.next_seq);
    }
    // A shard that is no more was replayed into those that are, whose parts are all here.
    for (shard, frame) in writer.recovered.iter().chain(&checkpoint.totals) {
        meta.advance(*shard, *frame);
    }

    let write = Write { transaction, file, checkpoint: meta.checkpoint };
    let ended = newest(&checkpoint.parts, |part| &part.ended);
    let live = newest(&checkpoint.parts, |part| &part.live);
    write.live(&live, &ended)?;
    let added = write.ended(&ended)?;
    write.servers(&checkpoint.parts, added)?;
    let mut orders: Vec<&OrderRow> = checkpoint.parts.iter().flat_map(|part| &part.orders).collect();
    orders.sort_unstable_by_key(|row| row.id.seq);
    write.orders(&orders)?;
    write.keys(checkpoint.parts.iter().flat_map(|part| &part.keys))?;
    Ok(meta)
}

/// The commands of all parts by rising seq, of each only the newest revision.
fn newest<'a>(parts: &'a [ImagePart], rows: fn(&'a ImagePart) -> &'a Vec<CommandRow>) -> Vec<&'a CommandRow> {
    let mut all: Vec<&CommandRow> = parts.iter().flat_map(rows).collect();
    all.sort_unstable_by_key(|row| (row.id.seq, std::cmp::Reverse(row.rev)));
    all.dedup_by_key(|row| row.id.seq);
    all
}

struct Write<'a> {
    transaction: &'a WriteTransaction,
    file: &'a DbFile,
    checkpoint: u64,
}

impl Write<'_> {
    /// Replaces live commands and removes those that have ended.
    fn live(&self, live: &[&CommandRow], ended: &[&CommandRow]) -> Result<(), StorageError> {
        let mut table = self.transaction.open_table(LIVE).map_err(self.file.redb("open a table of"))?;
        for row in ended {
            table.remove(row.id.seq.0).map_err(self.file.redb("write"))?;
        }
        for row in live {
            if ended.binary_search_by_key(&row.id.seq, |row| row.id.seq).is_err() {
                table.insert(row.id.seq.0, &encode_command(row)[..]).map_err(self.file.redb("write"))?;
            }
        }
        Ok(())
    }

    /// Inserts ended commands; returns those that were not there before, by (server, seq). After a crash a
    /// checkpoint may bring some again, and they must not be listed twice.
    fn ended<'r>(&self, ended: &[&'r CommandRow]) -> Result<Vec<&'r CommandRow>, StorageError> {
        let mut table = self.transaction.open_table(ENDED).map_err(self.file.redb("open a table of"))?;
        let mut added = Vec::with_capacity(ended.len());
        for row in ended {
            let before = table.insert(row.id.seq.0, &encode_command(row)[..]);
            if before.map_err(self.file.redb("write"))?.is_none() {
                added.push(*row);
            }
        }
        added.sort_by_key(|row| row.id.server);
        Ok(added)
    }

    /// Sets totals, and puts one row in front of the list of each server on which commands have ended.
    fn servers(&self, parts: &[ImagePart], added: Vec<&CommandRow>) -> Result<(), StorageError> {
        let mut table = self.transaction.open_table(SERVERS).map_err(self.file.redb("open a table of"))?;
        let mut lists =
            self.transaction.open_table(ENDED_BY_SERVER).map_err(self.file.redb("open a table of"))?;
        let mut changed: BTreeMap<ServerId, Change<'_>> = BTreeMap::new();
        for row in parts.iter().flat_map(|part| &part.servers) {
            changed.entry(row.server).or_default().totals = Some(row.ended);
        }
        for rows in added.chunk_by(|a, b| a.id.server == b.id.server) {
            changed.entry(rows[0].id.server).or_default().added = rows;
        }
        for (server, change) in changed {
            let mut entry = match table.get(server.0).map_err(self.file.redb("read"))? {
                Some(row) => ServerEntry::decode(server, row.value())
                    .map_err(|flaw| self.file.damaged("servers", server.0, flaw))?,
                None => ServerEntry::default(),
            };
            if let Some(ended) = change.totals {
                entry.ended = ended;
            }
            if !change.added.is_empty() {
                let index = EndedIndex {
                    before: entry.newest,
                    latest: change.added.iter().map(|row| row.status_at).max().unwrap_or_default(),
                    seqs: change.added.iter().map(|row| row.id.seq).collect(),
                };
                let row = index.encode(self.checkpoint, server);
                lists.insert((self.checkpoint, server.0), &row[..]).map_err(self.file.redb("write"))?;
                entry.newest = self.checkpoint;
            }
            table.insert(server.0, &entry.encode(server)[..]).map_err(self.file.redb("write"))?;
        }
        Ok(())
    }

    fn orders(&self, orders: &[&OrderRow]) -> Result<(), StorageError> {
        let mut table = self.transaction.open_table(ORDERS).map_err(self.file.redb("open a table of"))?;
        let mut added: Vec<&OrderRow> = Vec::with_capacity(orders.len());
        for row in orders {
            let before = table.insert(row.id.seq.0, &encode_order(row)[..]);
            if before.map_err(self.file.redb("write"))?.is_none() {
                added.push(row);
            }
        }
        let mut index =
            self.transaction.open_table(ORDERS_BY_CHECKPOINT).map_err(self.file.redb("open a table of"))?;
        for (chunk, rows) in (0..).zip(added.chunks(ORDERS_PER_ROW)) {
            let latest: UnixMs = rows.iter().map(|row| row.accepted_at).max().unwrap_or_default();
            let seqs: Vec<Seq> = rows.iter().map(|row| row.id.seq).collect();
            let row = OrderIndex { latest, seqs }.encode(self.checkpoint, chunk);
            index.insert((self.checkpoint, chunk), &row[..]).map_err(self.file.redb("write"))?;
        }
        Ok(())
    }

    fn keys<'k>(&self, keys: impl Iterator<Item = &'k KeyRow>) -> Result<(), StorageError> {
        let keys: Vec<KeyRow> = keys.copied().collect();
        let mut table = self.transaction.open_table(KEYS).map_err(self.file.redb("open a table of"))?;
        for (chunk, keys) in (0..).zip(keys.chunks(KEYS_PER_ROW)) {
            let row = encode_keys(self.checkpoint, chunk, keys);
            table.insert((self.checkpoint, chunk), &row[..]).map_err(self.file.redb("write"))?;
        }
        Ok(())
    }
}

/// What one checkpoint changes about a server.
#[derive(Default)]
struct Change<'a> {
    totals: Option<[u64; 3]>,
    added: &'a [&'a CommandRow],
}
