//! The journal's commits, of both formats: every frame, and that the frames of each shard form one chain.

use std::collections::{BTreeMap, HashMap, HashSet};

use redb::ReadTransaction;

use super::{Inspection, PROGRESS_ROWS, TableCount};
use crate::engine::{Change, Status};
use crate::ids::{OrderId, Seq, ServerId, ShardNo};
use crate::storage::contract::CommitNo;
use crate::storage::error::{DbFile, StorageError};
use crate::storage::frame::FrameView;
use crate::storage::journal::{JOURNAL_KEY, LogFile, LogSnapshot, for_each_frame, for_each_frame_of, scan};
use crate::storage::record::{ChainBase, Flaw, JournalMeta};
use crate::storage::tables::COMMITS;
use crate::time::UnixMs;

/// What the journal tells about rows at rest.
#[derive(Debug, Default)]
pub(super) struct JournalFacts {
    /// Where the chains begin; `None` when that row is damaged.
    pub(super) meta: Option<JournalMeta>,
    /// Orders accepted in it.
    pub(super) orders: HashSet<OrderId>,
    /// Commands accepted in it.
    pub(super) commands: HashSet<Seq>,
    /// Endings in it by server: completed, cancelled, expired.
    pub(super) endings: HashMap<ServerId, [u64; 3]>,
    /// The youngest instant in it at which something was accepted.
    pub(super) latest: UnixMs,
}

impl JournalFacts {
    fn take(&mut self, change: &Change) {
        match change {
            Change::Order(order) => {
                self.orders.insert(order.row.id);
                self.commands.extend(order.commands.iter().map(|command| command.id.seq));
                self.latest = self.latest.max(order.row.accepted_at);
            }
            Change::Completed(done) => {
                self.endings.entry(done.server).or_default()[0] += done.commands.len() as u64;
            }
            Change::Status(change) => {
                if let Some(place) = ended_place(change.status) {
                    self.endings.entry(change.id.server).or_default()[place] += 1;
                }
            }
            _ => {}
        }
    }
}

/// Its place among the totals of a server; `None` when it has not ended.
pub(super) fn ended_place(status: Status) -> Option<usize> {
    match status {
        Status::Completed => Some(0),
        Status::Cancelled => Some(1),
        Status::Expired => Some(2),
        _ => None,
    }
}

/// Checks every commit of a log.
pub(super) fn log_rows(look: &mut Inspection<'_>, log: &LogFile) -> Result<JournalFacts, StorageError> {
    let mut facts = JournalFacts::default();
    let Some(found) = look.or_damage(scan(log))? else { return Ok(facts) };
    let snapshot = LogSnapshot::of(log, found);
    let mut chains = Chains::new(snapshot.meta.clone());
    let mut rows = 0;
    let read = snapshot.read(&mut |no, frames| {
        rows += 1;
        if rows % PROGRESS_ROWS == 0 {
            look.watcher.rows(look.file, "commits", rows);
        }
        let frames = for_each_frame_of(frames, |frame| {
            let changes = frame.changes()?;
            changes.iter().for_each(|change| facts.take(change));
            chains.frame(&frame)
        });
        frames.map_err(|flaw| snapshot.file().damaged("commits", no.0, flaw))
    });
    let whole = look.or_damage(read)?.is_some();
    look.watcher.rows(look.file, "commits", rows);
    look.report.tables.push(TableCount { file: look.file, table: "commits", rows });
    facts.meta = whole.then(|| snapshot.meta.clone());
    Ok(facts)
}

/// Checks every row of a journal of format 1.
pub(super) fn old_rows(
    look: &mut Inspection<'_>,
    reader: &ReadTransaction,
    file: &DbFile,
) -> Result<JournalFacts, StorageError> {
    let meta = look.meta(reader, file, JOURNAL_KEY, JournalMeta::decode)?;
    let mut facts = JournalFacts::default();
    let mut chains = meta.as_ref().map(|meta| Chains::new(meta.clone()));
    look.walk(reader, file, (COMMITS, "commits"), |no, row| {
        let mut each = |frame: FrameView<'_>| {
            let changes = frame.changes()?;
            changes.iter().for_each(|change| facts.take(change));
            match &mut chains {
                Some(chains) => chains.frame(&frame),
                None => Ok(()),
            }
        };
        let checked = match for_each_frame(CommitNo(no), row, &mut each) {
            Ok(()) => chains.as_mut().map_or(Ok(()), |chains| chains.commit(no)),
            flawed => flawed,
        };
        if checked.is_err() {
            // What follows a damaged commit cannot be linked to what came before it: one finding is enough.
            chains = None;
        }
        checked.map_err(|flaw| (no.to_string(), flaw))
    })?;
    facts.meta = meta;
    Ok(facts)
}

/// Where the chain of each shard, and that of the commits, has got to.
struct Chains {
    last_commit: u64,
    boot: u32,
    ends: BTreeMap<ShardNo, ChainBase>,
}

impl Chains {
    fn new(meta: JournalMeta) -> Chains {
        let ends = meta.bases.iter().map(|base| (base.shard, *base)).collect();
        Chains { last_commit: meta.trimmed, boot: meta.boot, ends }
    }

    fn frame(&mut self, frame: &FrameView<'_>) -> Result<(), Flaw> {
        frame.follows(self.ends.get(&frame.shard))?;
        if frame.epoch > self.boot {
            return Err(Flaw::new(format!("written by run {}, which is yet to come", frame.epoch)));
        }
        self.ends.insert(frame.shard, frame.base());
        Ok(())
    }

    fn commit(&mut self, no: u64) -> Result<(), Flaw> {
        if no != self.last_commit + 1 {
            return Err(Flaw::new(format!("it follows commit {}", self.last_commit)));
        }
        self.last_commit = no;
        Ok(())
    }
}
