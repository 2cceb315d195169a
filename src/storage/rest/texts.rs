//! A walk along the rows of live commands for their texts. Neighbours share pages: from one wanted row to the next it steps,
//! or where many lie between looks it up from the root.

use redb::{AccessGuard, Database, ReadOnlyTable};

use super::read::Reader;
use super::row::command_at_rest;
use crate::ids::Seq;
use crate::storage::contract::TextWalk;
use crate::storage::error::{DbFile, StorageError};
use crate::storage::record::decode_text;
use crate::storage::tables::{ENDED, LIVE};

/// Rows that are stepped over before the next one is looked up instead.
const STEPS_MAX: usize = 32;

type Table = ReadOnlyTable<u64, &'static [u8]>;
type Row = (u64, AccessGuard<'static, &'static [u8]>);

/// See [`crate::storage::Rest::texts`].
pub(super) fn texts(
    db: &Database,
    file: &DbFile,
    seqs: &[Seq],
    bytes_max: usize,
) -> Result<TextWalk, StorageError> {
    let reader = Reader::new(db, file)?;
    let (live, ended) = (reader.table(LIVE)?, reader.table(ENDED)?);
    let mut rows = Rows { live: &live, file, range: None, next: None };
    let mut walk = TextWalk::default();
    let mut bytes = 0;
    for &seq in seqs {
        if bytes >= bytes_max {
            break;
        }
        walk.looked_at += 1;
        match rows.find(seq)? {
            Some(row) => {
                let text = decode_text(seq, row.value()).map_err(|flaw| file.damaged("live", seq.0, flaw))?;
                bytes += text.len();
                walk.texts.push((seq, text));
            }
            // It has ended, or it is an error that it is not there.
            None => drop(command_at_rest(file, &live, &ended, seq)?),
        }
    }
    Ok(walk)
}

/// The rows of live commands, with a place among them that only goes forward.
struct Rows<'a> {
    live: &'a Table,
    file: &'a DbFile,
    range: Option<redb::Range<'static, u64, &'static [u8]>>,
    next: Option<Row>,
}

impl Rows<'_> {
    /// The row of a seq, which lies behind those that were asked for before.
    fn find(&mut self, seq: Seq) -> Result<Option<AccessGuard<'static, &'static [u8]>>, StorageError> {
        for _ in 0..STEPS_MAX {
            match &self.next {
                Some((key, _)) if *key < seq.0 => self.step()?,
                Some((key, _)) if *key == seq.0 => return Ok(self.next.take().map(|(_, row)| row)),
                Some(_) => return Ok(None),
                None if self.range.is_some() => self.step()?,
                None => break,
            }
        }
        self.range = Some(self.live.range(seq.0..).map_err(self.file.redb("read"))?);
        self.step()?;
        let found = self.next.take_if(|(key, _)| *key == seq.0);
        Ok(found.map(|(_, row)| row))
    }

    /// Goes on to the next row; behind the last one there is no place any more.
    fn step(&mut self) -> Result<(), StorageError> {
        let next =
            self.range.as_mut().and_then(Iterator::next).transpose().map_err(self.file.redb("read"))?;
        if next.is_none() {
            self.range = None;
        }
        self.next = next.map(|(key, row)| (key.value(), row));
        Ok(())
    }
}

#[cfg(test)]
#[path = "texts_tests.rs"]
mod tests;
