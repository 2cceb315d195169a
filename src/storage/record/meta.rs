//! Where each of the two files stands: one row each.

use rkyv::{Archive, Serialize};

use super::{Flaw, Kind, access, seal, unseal};
use crate::ids::{FrameNo, ShardNo};

/// The last forgotten frame of a shard: what the first remaining one must follow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ChainBase {
    /// Whose.
    pub(crate) shard: ShardNo,
    /// Its number.
    pub(crate) no: FrameNo,
    /// Its hash.
    pub(crate) hash: [u8; 16],
    /// Its owner's boot number.
    pub(crate) epoch: u32,
    /// The highest seq that any forgotten frame of the shard gave out; 0 = none.
    pub(crate) top_seq: u64,
}

/// The `journal` row of `journal.redb`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct JournalMeta {
    /// How many times the directory has been opened.
    pub(crate) boot: u32,
    /// All commits up to and including this one are forgotten.
    pub(crate) trimmed: u64,
    /// By rising shard.
    pub(crate) bases: Vec<ChainBase>,
}

/// The `store` row of `store.redb`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct StoreMeta {
    /// How many times the directory has been opened.
    pub(crate) boot: u32,
    /// The last checkpoint.
    pub(crate) checkpoint: u64,
    /// No seq at or above this was given out at any desk before that checkpoint.
    pub(crate) next_seq: u64,
    /// The frame of each shard at which the servers' totals are exact; by rising shard.
    pub(crate) totals: Vec<(ShardNo, FrameNo)>,
}

#[derive(Archive, Serialize)]
struct JournalMetaRecord {
    boot: u32,
    trimmed: u64,
    bases: Vec<BaseRecord>,
}

#[derive(Archive, Serialize)]
struct BaseRecord {
    shard: u16,
    no: u64,
    hash: [u8; 16],
    epoch: u32,
    top_seq: u64,
}

#[derive(Archive, Serialize)]
struct StoreMetaRecord {
    boot: u32,
    checkpoint: u64,
    next_seq: u64,
    totals: Vec<TotalRecord>,
}

#[derive(Archive, Serialize)]
struct TotalRecord {
    shard: u16,
    frame: u64,
}

impl JournalMeta {
    /// The sealed row.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let base = |base: &ChainBase| BaseRecord {
            shard: base.shard.0,
            no: base.no.0,
            hash: base.hash,
            epoch: base.epoch,
            top_seq: base.top_seq,
        };
        let record = JournalMetaRecord {
            boot: self.boot,
            trimmed: self.trimmed,
            bases: self.bases.iter().map(base).collect(),
        };
        seal(Kind::JournalMeta, 0, &record)
    }

    /// Reads what [`JournalMeta::encode`] wrote.
    pub(crate) fn decode(row: &[u8]) -> Result<JournalMeta, Flaw> {
        let record = access::<ArchivedJournalMetaRecord>(unseal(Kind::JournalMeta, 0, row)?)?;
        let base = |base: &ArchivedBaseRecord| ChainBase {
            shard: ShardNo(base.shard.to_native()),
            no: FrameNo(base.no.to_native()),
            hash: base.hash,
            epoch: base.epoch.to_native(),
            top_seq: base.top_seq.to_native(),
        };
        Ok(JournalMeta {
            boot: record.boot.to_native(),
            trimmed: record.trimmed.to_native(),
            bases: record.bases.iter().map(base).collect(),
        })
    }

    /// Moves a shard's base forward over a frame that is being forgotten.
    pub(crate) fn advance(&mut self, frame: ChainBase) {
        match self.bases.binary_search_by_key(&frame.shard, |base| base.shard) {
            Ok(at) => {
                let top_seq = frame.top_seq.max(self.bases[at].top_seq);
                self.bases[at] = ChainBase { top_seq, ..frame };
            }
            Err(at) => self.bases.insert(at, frame),
        }
    }
}

impl StoreMeta {
    /// The sealed row.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let total = |(shard, frame): &(ShardNo, FrameNo)| TotalRecord { shard: shard.0, frame: frame.0 };
        let record = StoreMetaRecord {
            boot: self.boot,
            checkpoint: self.checkpoint,
            next_seq: self.next_seq,
            totals: self.totals.iter().map(total).collect(),
        };
        seal(Kind::StoreMeta, 0, &record)
    }

    /// Reads what [`StoreMeta::encode`] wrote.
    pub(crate) fn decode(row: &[u8]) -> Result<StoreMeta, Flaw> {
        let record = access::<ArchivedStoreMetaRecord>(unseal(Kind::StoreMeta, 0, row)?)?;
        let total = |total: &ArchivedTotalRecord| {
            (ShardNo(total.shard.to_native()), FrameNo(total.frame.to_native()))
        };
        Ok(StoreMeta {
            boot: record.boot.to_native(),
            checkpoint: record.checkpoint.to_native(),
            next_seq: record.next_seq.to_native(),
            totals: record.totals.iter().map(total).collect(),
        })
    }

    /// The frame of a shard at which the totals are exact; 0 when none was named yet.
    pub(crate) fn total(&self, shard: ShardNo) -> FrameNo {
        let found = self.totals.binary_search_by_key(&shard, |total| total.0);
        found.map_or(FrameNo(0), |at| self.totals[at].1)
    }

    /// Moves that frame forward, never back.
    pub(crate) fn advance(&mut self, shard: ShardNo, frame: FrameNo) {
        match self.totals.binary_search_by_key(&shard, |total| total.0) {
            Ok(at) => self.totals[at].1 = self.totals[at].1.max(frame),
            Err(at) => self.totals.insert(at, (shard, frame)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::samples::assert_golden;
    use super::*;

    #[test]
    fn the_journal_row_reads_back_and_its_bytes_are_golden() {
        let base = |shard, no| ChainBase {
            shard: ShardNo(shard),
            no: FrameNo(no),
            hash: [no as u8; 16],
            epoch: 2,
            top_seq: 64 * no,
        };
        let mut meta = JournalMeta { boot: 3, trimmed: 9, bases: vec![] };
        meta.advance(base(1, 4));
        meta.advance(base(0, 7));
        meta.advance(ChainBase { top_seq: 0, ..base(1, 5) });
        let row = meta.encode();
        let found = JournalMeta::decode(&row).unwrap();
        assert_eq!(found.bases, vec![base(0, 7), ChainBase { top_seq: 256, ..base(1, 5) }]);
        assert_eq!(found, meta);
        assert_golden("journal_meta", &row);
    }

    #[test]
    fn the_store_row_reads_back_and_its_bytes_are_golden() {
        let mut meta = StoreMeta { boot: 3, checkpoint: 8, next_seq: 640, totals: vec![] };
        meta.advance(ShardNo(1), FrameNo(5));
        meta.advance(ShardNo(0), FrameNo(6));
        meta.advance(ShardNo(1), FrameNo(4));
        assert_eq!((meta.total(ShardNo(1)), meta.total(ShardNo(2))), (FrameNo(5), FrameNo(0)));
        let row = meta.encode();
        assert_eq!(StoreMeta::decode(&row), Ok(meta));
        assert_golden("store_meta", &row);
    }
}
