//! One checkpoint as one transaction, part by part: only one part and the lists of what changed are in memory.

use std::collections::BTreeMap;

use redb::{ReadableTable, Table, WriteTransaction};

use super::Writer;
use super::row::command_at_rest;
use crate::engine::{CommandRow, ImagePart, KeyRow, OrderRow};
use crate::ids::{FrameNo, Seq, ServerId, ShardNo};
use crate::prefetch::{AHEAD, look_along, touch};
use crate::storage::blocks::{Blocks, Change, Place, place};
use crate::storage::error::{DbFile, StorageError};
use crate::storage::pieces::Pieces;
use crate::storage::record::{
    EndedIndex, KEYS_PER_ROW, OrderIndex, ServerEntry, StoreMeta, encode_command, encode_keys, encode_order,
};
use crate::storage::tables::{ENDED, ENDED_BY_SERVER, KEYS, LIVE, ORDERS, ORDERS_BY_CHECKPOINT, SERVERS};
use crate::time::UnixMs;

/// Orders named by one row of the index, so that no row is large and expiry goes in steps. The database gives a row pages whose
/// number is a power of two: this fills 32 KiB.
const ORDERS_PER_ROW: usize = 4085;

/// A checkpoint that is being written.
pub(super) struct Write<'a> {
    transaction: &'a WriteTransaction,
    file: &'a DbFile,
    pieces: &'a Pieces,
    meta: StoreMeta,
    servers: BTreeMap<ServerId, Changed>,
    orders: Vec<(Seq, UnixMs)>,
    keys: Vec<KeyRow>,
    key_rows: u32,
    order_rows: u32,
}

/// What one checkpoint changes about a server.
#[derive(Default)]
struct Changed {
    totals: Option<[u64; 3]>,
    /// Ended commands that were not listed before.
    ended: Vec<Seq>,
    latest: UnixMs,
}

impl<'a> Write<'a> {
    pub(super) fn begin(
        transaction: &'a WriteTransaction,
        (file, pieces): (&'a DbFile, &'a Pieces),
        writer: &Writer,
    ) -> Write<'a> {
        let mut meta = writer.meta.clone();
        meta.checkpoint += 1;
        Write {
            transaction,
            file,
            pieces,
            meta,
            servers: BTreeMap::new(),
            orders: Vec::new(),
            keys: Vec::new(),
            key_rows: 0,
            order_rows: 0,
        }
    }

    /// Writes one part. Of a command that several parts hold, the last one counts.
    pub(super) fn part(&mut self, mut part: ImagePart) -> Result<(), StorageError> {
        self.meta.next_seq = self.meta.next_seq.max(part.next_seq);
        part.ended.sort_unstable_by_key(|row| place(row.id));
        part.orders.sort_unstable_by_key(|row| row.id.seq);
        self.complete(part.live.iter_mut().chain(&mut part.ended))?;
        self.pay()?;
        self.live(&part)?;
        self.pay()?;
        self.ended(&part.ended)?;
        self.pay()?;
        for row in &part.servers {
            self.servers.entry(row.server).or_default().totals = Some(row.ended);
        }
        self.orders(&part.orders)?;
        self.pay()?;
        self.keys.append(&mut part.keys);
        self.key_rows(KEYS_PER_ROW)
    }

    /// Writes the lists, and returns the meta row to be written.
    pub(super) fn finish(
        mut self,
        writer: &Writer,
        totals: &[(ShardNo, FrameNo)],
    ) -> Result<StoreMeta, StorageError> {
        self.key_rows(1)?;
        self.order_index(1)?;
        for (server, changed) in std::mem::take(&mut self.servers) {
            self.server(server, changed)?;
            self.pay()?;
        }
        // A shard that is no more was replayed into those that are, whose parts are all here.
        for (shard, frame) in writer.recovered.iter().chain(totals) {
            self.meta.advance(*shard, *frame);
        }
        Ok(self.meta)
    }

    /// Between two steps: what was written is synced once it is a piece, and others go first.
    fn pay(&self) -> Result<(), StorageError> {
        self.pieces.pay().map_err(|error| self.file.io("write", &error))
    }

    /// Gives rows without a text the one that they have at rest.
    fn complete<'r>(&self, rows: impl Iterator<Item = &'r mut CommandRow>) -> Result<(), StorageError> {
        let mut tables = None;
        for row in rows.filter(|row| row.text.is_none()) {
            let (live, ended) = match &mut tables {
                Some(tables) => tables,
                none => none.insert((self.table(&LIVE)?, self.table(&ENDED)?)),
            };
            // In the table of ended ones when it ended in a part before this one.
            row.text = command_at_rest(self.file, live, ended, row.id)?.text;
        }
        Ok(())
    }

    fn table<K: Place>(&self, blocks: &Blocks<K>) -> Result<Table<'_, K, &'static [u8]>, StorageError> {
        self.transaction.open_table(blocks.table).map_err(self.file.redb("open a table of"))
    }

    /// Replaces live commands and removes those that have ended.
    fn live(&self, part: &ImagePart) -> Result<(), StorageError> {
        let mut changes: Vec<Change<_>> = part.no_longer_live.iter().map(|id| (place(*id), None)).collect();
        changes.extend(encoded(&part.live));
        changes.sort_unstable_by_key(|(place, _)| *place);
        LIVE.apply(self.file, &mut self.table(&LIVE)?, &changes).map(drop)
    }

    /// Inserts ended commands and notes those that were not there before: after a crash a checkpoint may bring
    /// some again, and they must not be listed twice.
    fn ended(&mut self, ended: &[CommandRow]) -> Result<(), StorageError> {
        let changes: Vec<Change<_>> = encoded(ended).collect();
        let were_there = ENDED.apply(self.file, &mut self.table(&ENDED)?, &changes)?;
        for (row, _) in ended.iter().zip(were_there).filter(|(_, was_there)| !was_there) {
            let changed = self.servers.entry(row.id.server).or_default();
            changed.ended.push(row.id.seq);
            changed.latest = changed.latest.max(row.status_at);
        }
        Ok(())
    }

    /// Sets a server's totals, and puts a row in front of its list when commands of it have ended.
    fn server(&self, server: ServerId, mut changed: Changed) -> Result<(), StorageError> {
        let mut table = self.transaction.open_table(SERVERS).map_err(self.file.redb("open a table of"))?;
        let mut entry = match table.get(server.0).map_err(self.file.redb("read"))? {
            Some(row) => ServerEntry::decode(server, row.value())
                .map_err(|flaw| self.file.damaged("servers", server.0, flaw))?,
            None => ServerEntry::default(),
        };
        if let Some(ended) = changed.totals {
            entry.ended = ended;
        }
        if !changed.ended.is_empty() {
            changed.ended.sort_unstable();
            let index = EndedIndex { before: entry.newest, latest: changed.latest, seqs: changed.ended };
            let mut lists =
                self.transaction.open_table(ENDED_BY_SERVER).map_err(self.file.redb("open a table of"))?;
            let row = index.encode(self.meta.checkpoint, server);
            lists.insert((self.meta.checkpoint, server.0), &row[..]).map_err(self.file.redb("write"))?;
            entry.newest = self.meta.checkpoint;
        }
        table.insert(server.0, &entry.encode(server)[..]).map_err(self.file.redb("write"))?;
        Ok(())
    }

    fn orders(&mut self, orders: &[OrderRow]) -> Result<(), StorageError> {
        let changes: Vec<Change<u64>> =
            orders.iter().map(|row| (row.id.seq.0, Some(encode_order(row)))).collect();
        let were_there = ORDERS.apply(self.file, &mut self.table(&ORDERS)?, &changes)?;
        let new = orders.iter().zip(were_there).filter(|(_, was_there)| !was_there);
        self.orders.extend(new.map(|(row, _)| (row.id.seq, row.accepted_at)));
        self.order_index(ORDERS_PER_ROW)
    }

    /// Writes rows of the index while at least `least` new orders are not in it.
    fn order_index(&mut self, least: usize) -> Result<(), StorageError> {
        while self.orders.len() >= least {
            let rest = self.orders.split_off(ORDERS_PER_ROW.min(self.orders.len()));
            let rows = std::mem::replace(&mut self.orders, rest);
            let latest = rows.iter().map(|(_, at)| *at).max().unwrap_or_default();
            let seqs = rows.into_iter().map(|(seq, _)| seq).collect();
            let row = OrderIndex { latest, seqs }.encode(self.meta.checkpoint, self.order_rows);
            let mut index = self
                .transaction
                .open_table(ORDERS_BY_CHECKPOINT)
                .map_err(self.file.redb("open a table of"))?;
            index
                .insert((self.meta.checkpoint, self.order_rows), &row[..])
                .map_err(self.file.redb("write"))?;
            self.order_rows += 1;
        }
        Ok(())
    }

    /// Writes rows of keys while at least `least` are not written.
    fn key_rows(&mut self, least: usize) -> Result<(), StorageError> {
        while self.keys.len() >= least {
            let rest = self.keys.split_off(KEYS_PER_ROW.min(self.keys.len()));
            let keys = std::mem::replace(&mut self.keys, rest);
            let row = encode_keys(self.meta.checkpoint, self.key_rows, &keys);
            let mut table = self.transaction.open_table(KEYS).map_err(self.file.redb("open a table of"))?;
            table.insert((self.meta.checkpoint, self.key_rows), &row[..]).map_err(self.file.redb("write"))?;
            self.key_rows += 1;
        }
        Ok(())
    }
}

/// The rows as they are written. Their texts and histories lie anywhere in memory.
fn encoded(rows: &[CommandRow]) -> impl Iterator<Item = Change<(u32, u64)>> {
    rows.chunks(AHEAD).flat_map(|rows| {
        touch(rows.iter().map(|row| {
            let text = row.text.as_deref().map_or(0, |text| look_along(text.as_bytes()));
            text ^ row.history.first().map_or(0, |entry| entry.at.0)
        }));
        rows.iter().map(|row| (place(row.id), Some(encode_command(row))))
    })
}
