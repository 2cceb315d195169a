//! A disk in memory, as naive as can be: the durable frames in commit order, and the rows that checkpoints wrote.
//! Must never hold anything that a real one would not have after a crash.

use std::collections::BTreeMap;
use std::sync::Arc;

use fluxrelay::engine::{Change, CommandRow, ImagePart, KeyRow, LentDesk, OrderRow, Reply, ServerRow, Shard};
use fluxrelay::ids::{CommandId, FrameNo, OrderId, Seq, ServerId, ShardNo};

/// Texts read at a time: few, so that there are several readings.
const TEXTS_MAX: usize = 2;

/// A durable frame.
#[derive(Debug, Clone)]
pub(crate) struct Frame {
    pub(crate) shard: ShardNo,
    pub(crate) no: FrameNo,
    pub(crate) changes: Vec<Change>,
}

/// See the module.
#[derive(Debug, Clone, Default)]
pub(crate) struct Disk {
    /// In commit order; the first ones are gone once a checkpoint stands for them.
    pub(crate) journal: Vec<Frame>,
    pub(crate) live: BTreeMap<CommandId, CommandRow>,
    pub(crate) ended: BTreeMap<CommandId, CommandRow>,
    pub(crate) orders: BTreeMap<OrderId, OrderRow>,
    pub(crate) keys: BTreeMap<u64, KeyRow>,
    pub(crate) totals: BTreeMap<ServerId, ServerRow>,
    /// For each shard, the frame at which its totals are exact.
    totals_at: BTreeMap<ShardNo, FrameNo>,
    next_seq: u64,
    last_frame: BTreeMap<ShardNo, FrameNo>,
}

impl Disk {
    /// Appends a frame; frames of a shard come without a gap.
    pub(crate) fn append(&mut self, frame: Frame) {
        let last = self.last_frame.entry(frame.shard).or_default();
        assert_eq!(frame.no.0, last.0 + 1, "frames of shard {} have no gap", frame.shard.0);
        *last = frame.no;
        self.journal.push(frame);
    }

    /// The last durable frame of a shard.
    pub(crate) fn last_frame(&self, shard: ShardNo) -> FrameNo {
        self.last_frame.get(&shard).copied().unwrap_or_default()
    }

    /// How many frames were ever durable.
    pub(crate) fn frames(&self) -> u64 {
        self.last_frame.values().map(|no| no.0).sum()
    }

    /// Writes one checkpoint, all or nothing, and trims the frames before `keep_from`.
    pub(crate) fn checkpoint(
        &mut self,
        parts: Vec<(ShardNo, ImagePart)>,
        totals_at: Vec<(ShardNo, FrameNo)>,
        keep_from: usize,
    ) {
        for (shard, mut part) in parts {
            part.live.iter_mut().chain(&mut part.ended).for_each(|row| self.complete_row(row));
            assert!(
                part.contains <= self.last_frame(shard),
                "rows are written after the frames they rest on"
            );
            for row in part.live {
                let at_rest = self.ended.get(&row.id);
                assert!(at_rest.is_none(), "{} ended at rest and lives again: {at_rest:?}", row.id);
                self.live.insert(row.id, row);
            }
            self.live.retain(|id, _| !part.no_longer_live.contains(id));
            for row in part.ended {
                assert!(row.status.is_terminal(), "{} is no end", row.id);
                assert!(!self.live.contains_key(&row.id), "{} has ended and stays among the live", row.id);
                self.ended.insert(row.id, row);
            }
            self.orders.extend(part.orders.into_iter().map(|row| (row.id, row)));
            self.keys.extend(part.keys.into_iter().map(|row| (row.digest.key, row)));
            self.totals.extend(part.servers.into_iter().map(|row| (row.server, row)));
            self.next_seq = self.next_seq.max(part.next_seq);
        }
        self.totals_at.extend(totals_at);
        self.journal.drain(..keep_from);
    }

    /// Gives a row without a text the one that it has here.
    fn complete_row(&self, row: &mut CommandRow) {
        if row.text.is_none() {
            let found = self.live.get(&row.id).or_else(|| self.ended.get(&row.id));
            row.text = found.unwrap_or_else(|| panic!("the text of {} is nowhere", row.id)).text.clone();
        }
    }

    /// Gives the rows of an answer their texts.
    pub(crate) fn complete(&self, reply: &mut Reply) {
        match reply {
            Reply::Command(row) => self.complete_row(row),
            Reply::Commands(rows) => rows.iter_mut().for_each(|row| self.complete_row(row)),
            _ => {}
        }
    }

    /// The texts of live commands: a few of those that are asked for.
    pub(crate) fn texts(&self, server: ServerId, seqs: &[Seq]) -> Vec<(Seq, Arc<str>)> {
        let row = |seq: &Seq| self.live.get(&CommandId { server, seq: *seq });
        let texts =
            seqs.iter().filter_map(row).map(|row| (row.id.seq, row.text.clone().expect("rows are whole")));
        texts.take(TEXTS_MAX).collect()
    }

    /// Gives new shards everything that is stored, in the order of `storage::Recovered`.
    pub(crate) fn restore(&self, shards: &mut [Shard]) {
        let count = shards.len() as u16;
        let mut desks: Vec<LentDesk> = shards.iter_mut().map(Shard::lend_desk).collect();
        for row in self.totals.values() {
            shards[usize::from(row.server.shard(count).0)].restore_totals(*row);
        }
        for row in self.live.values() {
            shards[usize::from(row.id.server.shard(count).0)].restore_live(row.clone());
        }
        for row in self.keys.values() {
            desks[usize::from(row.order.store.shard(count).0)].restore_key(*row);
        }
        for frame in &self.journal {
            let counted = self.totals_at.get(&frame.shard).copied().unwrap_or_default();
            for change in &frame.changes {
                if let Change::Order(order) = change {
                    desks[usize::from(order.row.id.store.shard(count).0)].restore_order(&order.row);
                }
                for shard in &mut *shards {
                    shard.restore_change(change.clone(), frame.no > counted);
                }
            }
        }
        for ((no, shard), desk) in (0..).map(ShardNo).zip(shards).zip(desks) {
            shard.take_back(desk);
            shard.restore_next_seq(self.next_seq);
            shard.restore_frame_no(self.last_frame(no));
        }
    }
}
