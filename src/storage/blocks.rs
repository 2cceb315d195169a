//! Tables of blocks: rows are put, removed and found in them one by one, and lie together on disk. Knows nothing of what the
//! rows hold.
//!
//! A block has all rows from its key up to the next block's, so the block of a row is the last one at or below it. A block
//! that gets too large is split from the front, so that blocks of rows that came in order are full. What is left over, or left
//! in a block that changed, joins the block behind it when both fit into one.

use std::borrow::Borrow;
use std::fmt;
use std::ops::Bound;

use redb::{AccessGuard, Key, ReadableTable, Table, TableDefinition, Value};

use super::error::{DbFile, StorageError};
use super::record::{
    BLOCK_BYTES, Entry, Filling, Flaw, Kind, SEAL_BYTES, decode_block, encode_block, pair_key,
};
use crate::ids::{CommandId, Seq, ServerId};

/// Where a row stands in a table of blocks: rows of one group may lie in one block.
pub(super) trait Place:
    Key + for<'k> Value<SelfType<'k> = Self> + Borrow<Self> + Copy + Ord + 'static
{
    /// The place of another row of the same group.
    fn at(self, seq: Seq) -> Self;

    /// The row's number.
    fn seq(self) -> Seq;

    /// The seed of a block's checksum.
    fn seed(self) -> u64;

    /// The key as people are told.
    fn show(self, f: &mut fmt::Formatter<'_>) -> fmt::Result;

    /// Whether rows of both may lie in one block.
    fn is_with(self, other: Self) -> bool {
        self.at(Seq(0)) == other.at(Seq(0))
    }
}

impl Place for u64 {
    fn at(self, seq: Seq) -> u64 {
        seq.0
    }

    fn seq(self) -> Seq {
        Seq(self)
    }

    fn seed(self) -> u64 {
        self
    }

    fn show(self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// Server and seq.
impl Place for (u32, u64) {
    fn at(self, seq: Seq) -> (u32, u64) {
        (self.0, seq.0)
    }

    fn seq(self) -> Seq {
        Seq(self.1)
    }

    fn seed(self) -> u64 {
        pair_key(self.1, self.0)
    }

    fn show(self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{},{}", self.0, self.1)
    }
}

/// The place of a command.
pub(super) fn place(id: CommandId) -> (u32, u64) {
    (id.server.0, id.seq.0)
}

/// The command of such a place.
pub(super) fn command_at((server, seq): (u32, u64)) -> CommandId {
    CommandId { server: ServerId(server), seq: Seq(seq) }
}

/// A key as people are told.
pub(super) struct Shown<K>(pub(super) K);

impl<K: Place> fmt::Display for Shown<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.show(f)
    }
}

/// A block as it lies in the table.
type Found<'t, K> = (AccessGuard<'t, K>, AccessGuard<'t, &'static [u8]>);

/// A row that is put where it belongs, in place of the one that may be there, or removed (`None`).
pub(super) type Change<K> = (K, Option<Vec<u8>>);

/// A table of blocks.
pub(super) struct Blocks<K: Place> {
    pub(super) table: TableDefinition<'static, K, &'static [u8]>,
    pub(super) name: &'static str,
    pub(super) kind: Kind,
}

impl<K: Place> Blocks<K> {
    /// The rows of a block.
    pub(super) fn rows<'b>(&self, key: K, block: &'b [u8]) -> Result<Vec<Entry<'b>>, Flaw> {
        decode_block(self.kind, key.seed(), block)
    }

    /// An error about a block, or about a row in it.
    pub(super) fn damaged(&self, file: &DbFile, key: K, flaw: Flaw) -> StorageError {
        file.damaged(self.name, Shown(key), flaw)
    }

    /// The block in which the row of this place is, if it is there.
    fn block_of<'t>(
        &self,
        file: &DbFile,
        table: &'t impl ReadableTable<K, &'static [u8]>,
        place: K,
    ) -> Result<Option<Found<'t, K>>, StorageError> {
        let upto = (Bound::Included(place.at(Seq(0))), Bound::Included(place));
        let mut range = table.range::<K>(upto).map_err(file.redb("read"))?;
        range.next_back().transpose().map_err(file.redb("read"))
    }

    /// What `decode` reads of a row; `None` when it is not there.
    pub(super) fn get<R>(
        &self,
        file: &DbFile,
        table: &impl ReadableTable<K, &'static [u8]>,
        place: K,
        decode: impl FnOnce(&[u8]) -> Result<R, Flaw>,
    ) -> Result<Option<R>, StorageError> {
        let Some((key, block)) = self.block_of(file, table, place)? else { return Ok(None) };
        let key = key.value();
        let read = || {
            let rows = self.rows(key, block.value())?;
            let row = rows.into_iter().find(|(seq, _)| *seq == place.seq());
            row.map(|(_, row)| decode(row)).transpose()
        };
        read().map_err(|flaw| self.damaged(file, key, flaw))
    }

    /// Shows `take` the rows of a group from this place on, until it returns false.
    pub(super) fn walk(
        &self,
        file: &DbFile,
        table: &impl ReadableTable<K, &'static [u8]>,
        from: K,
        mut take: impl FnMut(Seq, &[u8]) -> Result<bool, Flaw>,
    ) -> Result<(), StorageError> {
        let first = self.block_of(file, table, from)?.map_or(from, |(key, _)| key.value());
        let upto = (Bound::Included(first), Bound::Included(from.at(Seq(u64::MAX))));
        for block in table.range::<K>(upto).map_err(file.redb("read"))? {
            let (key, block) = block.map_err(file.redb("read"))?;
            let key = key.value();
            let flawed = |flaw| self.damaged(file, key, flaw);
            for (seq, row) in self.rows(key, block.value()).map_err(flawed)? {
                if seq >= from.seq() && !take(seq, row).map_err(flawed)? {
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    /// Makes these changes, whose places rise. For each, whether its row was there before.
    ///
    /// # Panics
    /// When places do not rise: a block with a row twice could not be read any more.
    pub(super) fn apply(
        &self,
        file: &DbFile,
        table: &mut Table<'_, K, &'static [u8]>,
        changes: &[Change<K>],
    ) -> Result<Vec<bool>, StorageError> {
        assert!(changes.is_sorted_by(|(one, _), (next, _)| one < next), "places rise");
        let mut were_there = Vec::with_capacity(changes.len());
        let mut left = changes;
        while let Some((first, _)) = left.first() {
            let old = self.block_of(file, table, *first)?;
            let old = old.map(|(key, block)| (key.value(), block.value().to_vec()));
            let next = self.next(file, table, old.as_ref().map_or(*first, |(key, _)| *key))?;
            let ours = |place: K| place.is_with(*first) && next.is_none_or(|(next, _)| place < next);
            let count = left.iter().take_while(|(place, _)| ours(*place)).count();
            let (now, later) = left.split_at(count);
            self.change_block(file, table, old, next, now, &mut were_there)?;
            left = later;
        }
        Ok(were_there)
    }

    /// The block behind this place: its key, and its bytes.
    fn next(
        &self,
        file: &DbFile,
        table: &impl ReadableTable<K, &'static [u8]>,
        behind: K,
    ) -> Result<Option<(K, usize)>, StorageError> {
        let range = (Bound::Excluded(behind), Bound::Included(behind.at(Seq(u64::MAX))));
        let mut range = table.range::<K>(range).map_err(file.redb("read"))?;
        let next = range.next().transpose().map_err(file.redb("read"))?;
        Ok(next.map(|(key, block)| (key.value(), block.value().len())))
    }

    /// Takes the rows of the block behind away, if they fit into one with these, which have so many bytes with their seal.
    fn take_next(
        &self,
        file: &DbFile,
        table: &mut Table<'_, K, &'static [u8]>,
        (key, next_bytes): (K, usize),
        bytes: usize,
    ) -> Result<Option<(K, Vec<u8>)>, StorageError> {
        if bytes + next_bytes - SEAL_BYTES > BLOCK_BYTES {
            return Ok(None);
        }
        let block = table.remove(key).map_err(file.redb("write"))?;
        Ok(block.map(|block| (key, block.value().to_vec())))
    }

    /// Makes changes all of which fall into one block, or where none is yet.
    fn change_block(
        &self,
        file: &DbFile,
        table: &mut Table<'_, K, &'static [u8]>,
        old: Option<(K, Vec<u8>)>,
        mut next: Option<(K, usize)>,
        changes: &[Change<K>],
        were_there: &mut Vec<bool>,
    ) -> Result<(), StorageError> {
        let group = changes[0].0;
        let rows = match &old {
            Some((key, block)) => self.rows(*key, block).map_err(|flaw| self.damaged(file, *key, flaw))?,
            None => Vec::new(),
        };
        let old_count = rows.len();
        let (rows, same) = merge(rows, changes, were_there);
        if same == old_count && same == rows.len() {
            return Ok(());
        }
        let mut key = old.as_ref().map(|(key, _)| *key);
        if let Some(key) = key.filter(|_| rows.is_empty()) {
            table.remove(key).map_err(file.redb("write"))?;
        }
        let mut left = &rows[..];
        while let Some((seq, _)) = left.first() {
            let (count, bytes) = fitting(left);
            let (block, later) = left.split_at(count);
            let is_as_it_was = key.is_some() && block.len() == old_count && block.len() <= same;
            let key = key.take().unwrap_or_else(|| group.at(*seq));
            left = later;
            if is_as_it_was {
                continue;
            }
            let behind = match next.take_if(|_| later.is_empty()) {
                Some(next) => self.take_next(file, table, next, bytes)?,
                None => None,
            };
            let more = match &behind {
                Some((key, block)) => {
                    self.rows(*key, block).map_err(|flaw| self.damaged(file, *key, flaw))?
                }
                None => Vec::new(),
            };
            let rows = block.iter().copied().chain(more);
            let block = encode_block(self.kind, key.seed(), rows);
            table.insert(key, &block[..]).map_err(file.redb("write"))?;
        }
        Ok(())
    }
}

/// How many of these rows go into one block, and its bytes.
fn fitting(rows: &[Entry<'_>]) -> (usize, usize) {
    let fillings = rows.iter().scan(Filling::default(), |filling, row| {
        *filling = filling.with(*row)?;
        Some(filling.bytes)
    });
    fillings.enumerate().last().map_or((0, 0), |(last, bytes)| (last + 1, bytes))
}

/// Rows with changes made to them; how many from the first on are as they were. For each change, whether its row was there.
fn merge<'r, K: Place>(
    rows: Vec<Entry<'r>>,
    changes: &'r [Change<K>],
    were_there: &mut Vec<bool>,
) -> (Vec<Entry<'r>>, usize) {
    let mut merged = Vec::with_capacity(rows.len() + changes.len());
    let mut same = None;
    let mut rows = rows.into_iter().peekable();
    for (place, change) in changes {
        while let Some(row) = rows.next_if(|(seq, _)| *seq < place.seq()) {
            merged.push(row);
        }
        let was = rows.next_if(|(seq, _)| *seq == place.seq());
        were_there.push(was.is_some());
        if was.is_some() || change.is_some() {
            same.get_or_insert(merged.len());
        }
        if let Some(row) = change {
            merged.push((place.seq(), &row[..]));
        }
    }
    merged.extend(rows);
    let same = same.unwrap_or(merged.len());
    (merged, same)
}

#[cfg(test)]
#[path = "blocks_tests.rs"]
mod tests;
