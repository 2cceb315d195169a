//! From the two files to the shards: totals, live commands, keys, then the journal's changes in commit order, and a journal that
//! can go on.
//!
//! Every row is checked before it is handed on; the first that does not hold ends the recovery. The journal is gone through once:
//! what is handed on may be all there is, or the start of something that turns out to be damaged.

use std::collections::BTreeMap;
use std::fs::File;
use std::sync::Arc;

use redb::{Database, ReadableDatabase, ReadableTable};

use super::blocks::{Place, command_at};
use super::clean::CleanMark;
use super::contract::{CommitNo, Recovered, RecoveredFrame};
use super::error::{DbFile, StorageError};
use super::frame::{FrameHash, FrameView};
use super::journal::{Chain, LogJournal, OldJournal, Scanned, for_each_frame_of};
use super::open::read_ahead;
use super::record::{ChainBase, Flaw, JournalMeta, ServerEntry, StoreMeta, decode_command, decode_keys};
use super::rest::RedbRest;
use super::tables::{KEYS, LIVE, SERVERS};
use crate::ids::{FrameNo, ServerId, ShardNo};

/// What lay on disk when the process started; replayed once.
#[derive(Debug)]
pub struct Recovery {
    journal: FoundJournal,
    store: (Arc<Database>, DbFile),
    store_meta: StoreMeta,
    mark: Arc<CleanMark>,
    clean: bool,
    /// The journal that the log was made of: it goes once the store says that the log counts.
    old: Option<OldJournal>,
}

/// A log whose segments were found and not yet gone through.
#[derive(Debug)]
pub(super) struct FoundJournal {
    pub(super) journal: LogJournal,
    pub(super) chain: Chain,
    /// Its file, to be read ahead.
    pub(super) ahead: Option<File>,
}

/// Where a shard's chain of frames ends: its next encoder goes on from here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ShardEnd {
    /// Whose.
    pub shard: ShardNo,
    /// The last frame.
    pub no: FrameNo,
    /// Its hash; zeros when the frame itself is lost.
    pub hash: FrameHash,
}

/// Frames that were trimmed from the journal and that the store at rest does not contain: the store was moved
/// away or is older than the journal. What they held is lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MissingFrames {
    /// Whose.
    pub shard: ShardNo,
    /// The first.
    pub from: FrameNo,
    /// The last.
    pub to: FrameNo,
}

/// What a recovery found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RecoveryReport {
    /// The number of this run, from 1, rising with every start.
    pub boot: u32,
    /// The process before closed in order.
    pub clean: bool,
    /// Live commands at rest.
    pub live: u64,
    /// Remembered keys.
    pub keys: u64,
    /// Frames replayed.
    pub frames: u64,
    /// Changes in them.
    pub changes: u64,
    /// Bytes of rows read.
    pub bytes: u64,
    /// Group commits replayed, and the last commit there ever was.
    pub last_commit: CommitNo,
    /// By rising shard; a shard without an entry has no frame yet.
    pub shards: Vec<ShardEnd>,
    /// No seq at or above this was ever given out.
    pub next_seq: u64,
    /// Empty unless a file was moved away or comes from another time than the other.
    pub missing: Vec<MissingFrames>,
}

impl Recovery {
    pub(super) fn new(
        journal: FoundJournal,
        store: (Arc<Database>, DbFile),
        rest: &RedbRest,
        (mark, clean): (Arc<CleanMark>, bool),
    ) -> Recovery {
        Recovery { journal, store, store_meta: rest.meta(), mark, clean, old: None }
    }

    /// The log was made of this journal.
    pub(super) fn of(self, old: Option<OldJournal>) -> Recovery {
        Recovery { old, ..self }
    }

    fn journal_meta(&self) -> &JournalMeta {
        &self.journal.chain.meta
    }

    /// The number of this run, from 1, rising with every replay that succeeds, which makes it durable.
    pub fn boot(&self) -> u32 {
        self.journal_meta().boot.max(self.store_meta.boot) + 1
    }

    /// Hands everything to `take`, in the order of [`Recovered`]'s variants, and reports. Where it returns an error what was
    /// handed over counts for nothing; else the journal goes on from there. `rest` is the store that was opened with it.
    ///
    /// # Errors
    /// `Damaged` at the first record that does not hold, or a read or write that failed.
    pub fn replay(
        self,
        rest: &RedbRest,
        take: &mut dyn FnMut(Recovered),
    ) -> Result<(LogJournal, RecoveryReport), StorageError> {
        let mark = Arc::clone(&self.mark);
        self.replay_all(rest, take).inspect_err(|_| mark.spoil())
    }

    fn replay_all(
        mut self,
        rest: &RedbRest,
        take: &mut dyn FnMut(Recovered),
    ) -> Result<(LogJournal, RecoveryReport), StorageError> {
        if let Some(file) = self.journal.ahead.take() {
            read_ahead(file);
        }
        let boot = self.boot();
        let mut report = RecoveryReport {
            boot,
            clean: self.clean,
            next_seq: self.store_meta.next_seq,
            ..RecoveryReport::default()
        };
        self.replay_store(&mut report, take)?;
        let (found, chains) = self.replay_journal(&mut report, take)?;
        report.last_commit = found.last;
        self.finish(&mut report, &chains);
        let mut journal = self.journal.journal;
        journal.go_on(found);
        journal.set_boot(boot)?;
        rest.set_boot(boot)?;
        if let Some(old) = self.old {
            old.remove()?;
        }
        rest.note_recovered(report.shards.iter().map(|end| (end.shard, end.no)).collect());
        Ok((journal, report))
    }

    fn replay_store(
        &self,
        report: &mut RecoveryReport,
        take: &mut dyn FnMut(Recovered),
    ) -> Result<(), StorageError> {
        let (db, file) = &self.store;
        let reader = db.begin_read().map_err(file.redb("begin a transaction in"))?;
        let servers = reader.open_table(SERVERS).map_err(file.redb("open a table of"))?;
        for row in servers.iter().map_err(file.redb("read"))? {
            let (key, row) = row.map_err(file.redb("read"))?;
            let server = ServerId(key.value());
            let entry = ServerEntry::decode(server, row.value())
                .map_err(|flaw| file.damaged("servers", server.0, flaw))?;
            report.bytes += row.value().len() as u64;
            take(Recovered::Server(entry.row(server)));
        }
        let live = reader.open_table(LIVE.table).map_err(file.redb("open a table of"))?;
        for block in live.iter().map_err(file.redb("read"))? {
            let (key, block) = block.map_err(file.redb("read"))?;
            let (key, block) = (key.value(), block.value());
            let flawed = |flaw| LIVE.damaged(file, key, flaw);
            report.bytes += block.len() as u64;
            for (seq, row) in LIVE.rows(key, block).map_err(flawed)? {
                let command = decode_command(command_at(key.at(seq)), row).map_err(flawed)?;
                report.live += 1;
                report.next_seq = report.next_seq.max(seq.0.saturating_add(1));
                take(Recovered::Live(Box::new(command)));
            }
        }
        let keys = reader.open_table(KEYS).map_err(file.redb("open a table of"))?;
        for row in keys.iter().map_err(file.redb("read"))? {
            let (key, row) = row.map_err(file.redb("read"))?;
            let (checkpoint, chunk) = key.value();
            let (_, keys) = decode_keys(checkpoint, chunk, row.value())
                .map_err(|flaw| file.damaged("keys", format_args!("{checkpoint},{chunk}"), flaw))?;
            report.bytes += row.value().len() as u64;
            for key in keys {
                report.keys += 1;
                let flawed = |flaw| file.damaged("keys", format_args!("{checkpoint},{chunk}"), flaw);
                take(Recovered::Key(key.map_err(flawed)?));
            }
        }
        Ok(())
    }

    fn replay_journal(
        &self,
        report: &mut RecoveryReport,
        take: &mut dyn FnMut(Recovered),
    ) -> Result<(Scanned, BTreeMap<ShardNo, ChainBase>), StorageError> {
        let mut chains: BTreeMap<ShardNo, ChainBase> =
            self.journal_meta().bases.iter().map(|base| (base.shard, *base)).collect();
        let FoundJournal { journal, chain, .. } = &self.journal;
        let log = journal.log();
        let found = chain.walk(log, &mut |no, frames| {
            report.bytes += frames.len() as u64;
            for_each_frame_of(frames, |frame| {
                let changes = self.check_frame(&frame, &mut chains)?;
                report.frames += 1;
                report.changes += changes.len() as u64;
                let count = frame.no > self.store_meta.total(frame.shard);
                let frame = RecoveredFrame { commit: no, shard: frame.shard, no: frame.no, changes };
                take(Recovered::Frame { frame, count });
                Ok(())
            })
            .map_err(|flaw| log.file.damaged("commits", no.0, flaw))
        })?;
        Ok((found, chains))
    }

    fn check_frame(
        &self,
        frame: &FrameView<'_>,
        chains: &mut BTreeMap<ShardNo, ChainBase>,
    ) -> Result<Vec<crate::engine::Change>, Flaw> {
        frame.follows(chains.get(&frame.shard))?;
        if frame.epoch >= self.boot() {
            return Err(Flaw::new(format!("written by run {}, which is yet to come", frame.epoch)));
        }
        let changes = frame.changes()?;
        let base = chains.entry(frame.shard).or_insert(frame.base());
        *base = ChainBase { top_seq: base.top_seq.max(frame.top_seq), ..frame.base() };
        Ok(changes)
    }

    /// Where each shard goes on, and what the two files do not agree on.
    fn finish(&self, report: &mut RecoveryReport, chains: &BTreeMap<ShardNo, ChainBase>) {
        let mut ends: BTreeMap<ShardNo, ShardEnd> = BTreeMap::new();
        for chain in chains.values() {
            report.next_seq = report.next_seq.max(chain.top_seq.saturating_add(1));
            let end = ShardEnd { shard: chain.shard, no: chain.no, hash: FrameHash(chain.hash) };
            ends.insert(chain.shard, end);
        }
        for base in &self.journal_meta().bases {
            let contained = self.store_meta.total(base.shard);
            if contained < base.no {
                let from = FrameNo(contained.0 + 1);
                report.missing.push(MissingFrames { shard: base.shard, from, to: base.no });
            }
        }
        // The journal was moved away or is older than the store: start above what the store contains.
        for &(shard, no) in &self.store_meta.totals {
            if ends.get(&shard).is_none_or(|end| end.no < no) {
                ends.insert(shard, ShardEnd { shard, no, hash: FrameHash::default() });
            }
        }
        report.shards = ends.into_values().collect();
    }
}
