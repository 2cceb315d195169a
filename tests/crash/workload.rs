//! A small broker without threads: it appends, checkpoints, trims and forgets as the real one does, and keeps a model of
//! what it told the disk, so that any recovery can be compared with the state after some whole number of commits.

use std::collections::{BTreeMap, BTreeSet};

use fluxrelay::engine::{
    AcceptedRow, Change, CommandRow, CompletedChange, DeliveredChange, HistoryEntry, ImagePart, KeyDigest,
    KeyRow, Note, OnDoubt, OrderAccepted, OrderRow, ServerRow, Status,
};
use fluxrelay::ids::{CommandId, FrameNo, OrderId, Seq, ServerId, ShardNo, StoreId};
use fluxrelay::storage::{
    Checkpoint, CommitNo, EncodedFrame, FrameEncoder, FrameHash, Journal, LogJournal, MissingFrames,
    OpenOptions, Recovered, RedbRest, Rest, StorageError, open_with_backends,
};
use fluxrelay::time::UnixMs;

use crate::disk::{Disk, JOURNAL, Random, STORE};

/// Shards, each with one server of the same number + 1.
const SHARDS: u16 = 2;
const CHECKPOINT_EVERY: usize = 6;
/// Bytes of pages in memory: the files are small, and there are many.
const CACHE_BYTES: usize = 1024 * 1024;
/// Bytes of a segment of the journal: commits go over several, and segments are used again.
const SEGMENT_BYTES: u32 = 8 * 1024;
/// Rows that one expiry removes, at most.
const EXPIRED_MAX: usize = 40;

/// What is known of one command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Known {
    server: u32,
    rev: u32,
    status: Status,
}

/// What the disk amounts to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Model {
    pub(crate) commands: BTreeMap<u64, Known>,
    /// Each with its key.
    pub(crate) orders: BTreeSet<u64>,
    pub(crate) completed: BTreeMap<u32, u64>,
}

impl Model {
    /// Whether `found` is this, but for what ended before `may_be_gone`.
    pub(crate) fn is(&self, found: &Model, may_be_gone: u64) -> bool {
        let gone = |(seq, known): &(&u64, &Known)| {
            **seq < may_be_gone && known.status == Status::Completed && !found.commands.contains_key(seq)
        };
        self.orders == found.orders
            && self.completed == found.completed
            && self.commands.iter().filter(|entry| !gone(entry)).eq(&found.commands)
    }

    fn apply(&mut self, change: &Change, count: bool) {
        let (server, status, commands) = match change {
            Change::Order(order) => {
                self.orders.insert(order.row.id.seq.0);
                for row in &order.commands {
                    let server = row.id.server.0;
                    let new = Known { server, rev: 1, status: Status::Pending };
                    self.commands.entry(row.id.seq.0).or_insert(new);
                }
                return;
            }
            Change::Delivered(change) => (change.server, Status::Delivered, &*change.commands),
            Change::Completed(change) => (change.server, Status::Completed, &*change.commands),
            _ => unreachable!("the workload makes no other change"),
        };
        for (seq, rev) in commands {
            if let Some(known) = self.commands.get_mut(&seq.0)
                && known.rev < *rev
            {
                (known.rev, known.status) = (*rev, status);
            }
            if status == Status::Completed && count {
                *self.completed.entry(server.0).or_default() += 1;
            }
        }
    }
}

fn row(seq: u64, known: &Known) -> CommandRow {
    let entry =
        HistoryEntry { status: Status::Pending, at: UnixMs(seq), attempt: 1, note: Note::None, error: None };
    CommandRow {
        id: CommandId { server: ServerId(known.server), seq: Seq(seq) },
        order: order_id(seq - seq % 4),
        rev: known.rev,
        status: known.status,
        status_at: UnixMs(seq),
        accepted_at: UnixMs(seq),
        attempt: 1,
        retries: 0,
        unanswered: 0,
        next_at: None,
        after: None,
        text: Some(format!("give Steve diamond {seq}").repeat(1 + seq as usize % 5).into()),
        player: None,
        require_online: false,
        not_before: None,
        expires_at: None,
        on_doubt: OnDoubt::Hold,
        labels: None,
        error: None,
        output: None,
        history: vec![entry],
    }
}

fn order_id(seq: u64) -> OrderId {
    OrderId { store: StoreId(1), seq: Seq(seq) }
}

fn order_row(seq: u64) -> OrderRow {
    let id = |seq: u64| CommandId { server: ServerId(1 + (seq % 2) as u32), seq: Seq(seq) };
    OrderRow {
        id: order_id(seq),
        accepted_at: UnixMs(seq),
        key: Some(KeyDigest { key: seq, body: 1 }),
        reference: None,
        player: None,
        ordered: false,
        commands: vec![id(seq), id(seq + 1), id(seq + 2)].into(),
    }
}

/// A directory that is open, and how far it got.
pub(crate) struct Run {
    /// The number of this run.
    pub(crate) boot: u32,
    journal: LogJournal,
    rest: RedbRest,
    encoders: Vec<FrameEncoder>,
    frames: Vec<FrameNo>,
    /// The state after each commit that was handed to the journal; the first is the one found at the start.
    pub(crate) states: Vec<Model>,
    /// For each acknowledged commit, how many operations the disk had seen by then.
    pub(crate) acknowledged: Vec<usize>,
    /// What the two files do not agree on.
    pub(crate) missing: Vec<MissingFrames>,
    /// Operations between two of these may come in any order between files, each file's own in theirs: threads do them.
    pub(crate) slots: Vec<usize>,
    /// What ended before this seq may be forgotten.
    pub(crate) may_be_gone: u64,
    /// Commands of which the store has a row.
    at_rest: BTreeSet<u64>,
    /// The last order at each checkpoint.
    at_checkpoints: Vec<u64>,
    dirty: BTreeSet<u64>,
    new_orders: BTreeSet<u64>,
}

impl Run {
    /// Opens, replays and checks that everything found fits together.
    pub(crate) fn open(disk: &Disk) -> Result<Run, StorageError> {
        let run = Run::open_damaged(disk)?;
        assert_eq!(run.missing, vec![], "the store contains what was trimmed");
        check_lists(&run.rest, run.state())?;
        Ok(run)
    }

    /// As [`Run::open`], of a disk that may have changed what was durable.
    pub(crate) fn open_damaged(disk: &Disk) -> Result<Run, StorageError> {
        let options = OpenOptions { journal_segment_bytes: SEGMENT_BYTES, store_cache_bytes: CACHE_BYTES };
        let (rest, recovery) = open_with_backends(disk.file(JOURNAL), disk.file(STORE), options)?;
        let boot = recovery.boot();
        let (mut model, mut keys) = (Model::default(), BTreeSet::new());
        let mut dirty = BTreeSet::new();
        let mut new_orders = BTreeSet::new();
        let mut at_rest = BTreeSet::new();
        let (journal, report) = recovery.replay(&rest, &mut |piece| match piece {
            // A checkpoint also writes down that nothing has ended yet on a server.
            Recovered::Server(row) if row.ended[0] == 0 => {}
            Recovered::Server(row) => {
                model.completed.insert(row.server.0, row.ended[0]);
            }
            Recovered::Live(found) => {
                let known = Known { server: found.id.server.0, rev: found.rev, status: found.status };
                assert_eq!(*found, row(found.id.seq.0, &known), "a row at rest is whole");
                at_rest.insert(found.id.seq.0);
                assert_eq!(model.commands.insert(found.id.seq.0, known), None);
            }
            Recovered::Key(key) => {
                keys.insert(key.digest.key);
            }
            Recovered::Frame { frame, count } => {
                for change in &frame.changes {
                    model.apply(change, count);
                    note_dirty(change, &mut dirty, &mut new_orders);
                }
            }
        })?;
        // What has ended and left the live ones is found by its id, like what an order of the journal names.
        model.orders.extend(&keys);
        for seq in model.orders.clone() {
            let found = rest.order(order_id(seq))?;
            let whole = OrderRow { key: None, ..order_row(seq) };
            assert!(found.is_none_or(|found| found == whole), "an order at rest is whole");
            for id in order_row(seq).commands {
                if let Some(found) = rest.command(id)? {
                    let known = Known { server: found.id.server.0, rev: found.rev, status: found.status };
                    assert_eq!(found, row(id.seq.0, &known), "a row at rest is whole");
                    let entry = model.commands.entry(id.seq.0).or_insert(known);
                    if entry.rev < known.rev {
                        *entry = known;
                    }
                }
            }
        }
        let end = |shard| report.shards.iter().find(|end| end.shard == shard).copied();
        let mut encoders = Vec::new();
        let mut frames = Vec::new();
        for shard in (0..SHARDS).map(ShardNo) {
            let (no, hash) = end(shard).map_or((FrameNo(0), FrameHash::default()), |end| (end.no, end.hash));
            encoders.push(FrameEncoder::new(shard, report.boot, no, hash));
            frames.push(no);
        }
        Ok(Run {
            boot,
            journal,
            rest,
            encoders,
            frames,
            states: vec![model],
            acknowledged: Vec::new(),
            slots: vec![disk.operations()],
            may_be_gone: 0,
            missing: report.missing,
            at_rest,
            at_checkpoints: Vec::new(),
            dirty,
            new_orders,
        })
    }

    pub(crate) fn state(&self) -> &Model {
        self.states.last().expect("the first state is there from the start")
    }

    /// Random commits with checkpoints in between, and whatever `beside` does at the same time; stops at the first
    /// error.
    pub(crate) fn work(
        &mut self,
        disk: &Disk,
        random: &mut Random,
        commits: usize,
        beside: &mut dyn FnMut(&mut Random) -> Result<(), StorageError>,
    ) -> Result<(), StorageError> {
        for no in 1..=commits {
            self.commit(disk, random)?;
            if random.below(4) == 0 {
                beside(random)?;
            }
            self.slots.push(disk.operations());
            if no % CHECKPOINT_EVERY == 0 {
                self.checkpoint(disk, random, beside)?;
            }
        }
        Ok(())
    }

    fn commit(&mut self, disk: &Disk, random: &mut Random) -> Result<CommitNo, StorageError> {
        let mut model = self.state().clone();
        let mut frames: Vec<EncodedFrame> = Vec::new();
        for shard in 0..usize::from(SHARDS) {
            if random.below(4) == 0 && shard > 0 {
                continue;
            }
            let changes = self.changes(shard, &model, random);
            for change in &changes {
                model.apply(change, true);
                note_dirty(change, &mut self.dirty, &mut self.new_orders);
            }
            self.frames[shard].0 += 1;
            frames.push(self.encoders[shard].encode(self.frames[shard], &changes));
        }
        self.states.push(model);
        let no = self.journal.append(&frames)?;
        self.acknowledged.push(disk.operations());
        Ok(no)
    }

    /// An order at the desk of shard 0; for each shard's server some deliveries and completions.
    fn changes(&self, shard: usize, model: &Model, random: &mut Random) -> Vec<Change> {
        let mut changes = Vec::new();
        let server = ServerId(shard as u32 + 1);
        if shard == 0 {
            for n in 0..random.below(3) {
                let seq = model.orders.last().copied().unwrap_or(0) + 4 * (n as u64 + 1);
                let command = |id: &CommandId| AcceptedRow {
                    id: *id,
                    after: None,
                    text: "x".repeat(100 + random_len(id.seq.0)).into(),
                    player: None,
                    require_online: false,
                    not_before: None,
                    expires_at: None,
                    on_doubt: OnDoubt::Hold,
                    labels: None,
                };
                let row = order_row(seq);
                let commands = row.commands.iter().map(command).collect();
                changes.push(Change::Order(Box::new(OrderAccepted { row, commands })));
            }
        }
        let (mut delivered, mut completed) = (Vec::new(), Vec::new());
        for (seq, known) in model.commands.iter().filter(|(_, known)| known.server == server.0) {
            match known.status {
                Status::Pending if random.below(3) > 0 => delivered.push((Seq(*seq), known.rev + 1)),
                Status::Delivered if random.below(3) > 0 => completed.push((Seq(*seq), known.rev + 1)),
                _ => {}
            }
        }
        let at = UnixMs(1);
        if !delivered.is_empty() {
            changes.push(Change::Delivered(DeliveredChange { server, at, commands: delivered.into() }));
        }
        if !completed.is_empty() {
            changes.push(Change::Completed(CompletedChange { server, at, commands: completed.into() }));
        }
        changes
    }

    /// As the broker does it: totals as of the start; the rows exported in two halves with commits in between,
    /// so that the second half contains later changes; written while commits go on; then the journal is trimmed up to
    /// the start, and what is old is forgotten.
    fn checkpoint(
        &mut self,
        disk: &Disk,
        random: &mut Random,
        beside: &mut dyn FnMut(&mut Random) -> Result<(), StorageError>,
    ) -> Result<(), StorageError> {
        let dirty = std::mem::take(&mut self.dirty);
        let orders = std::mem::take(&mut self.new_orders);
        let totals: Vec<(ShardNo, FrameNo)> = (0..SHARDS).map(ShardNo).zip(self.frames.clone()).collect();
        let mut first = self.part(dirty.iter().filter(|seq| *seq % 2 == 0));
        first.servers = (1..=u32::from(SHARDS))
            .map(|server| {
                let completed = self.state().completed.get(&server).copied().unwrap_or(0);
                ServerRow { server: ServerId(server), ended: [completed, 0, 0] }
            })
            .collect();
        first.next_seq = self.state().orders.last().map_or(1, |seq| seq + 3);
        first.orders = orders.iter().map(|seq| order_row(*seq)).collect();
        first.keys = orders
            .iter()
            .map(|seq| KeyRow {
                digest: KeyDigest { key: *seq, body: 1 },
                order: order_id(*seq),
                at: UnixMs(*seq),
            })
            .collect();
        let start = CommitNo(self.commit(disk, random)?.0 - 1);
        self.slots.push(disk.operations());
        let second = self.part(dirty.iter().filter(|seq| *seq % 2 == 1));
        let live = first.live.iter().chain(&second.live).map(|row| row.id.seq.0);
        let live: Vec<u64> = live.collect();
        self.rest.write(Checkpoint { parts: vec![first, second], totals })?;
        self.at_rest.extend(live);
        self.commit(disk, random)?;
        beside(random)?;
        self.slots.push(disk.operations());
        self.journal.trim(start)?;
        self.expire(disk)
    }

    /// Forgets what was accepted before the checkpoint before the last one: all that it brought has left the journal.
    fn expire(&mut self, disk: &Disk) -> Result<(), StorageError> {
        let now = self.state().orders.last().copied().unwrap_or(0);
        self.at_checkpoints.push(now);
        let Some(&[before, _, _]) = self.at_checkpoints.last_chunk::<3>() else { return Ok(()) };
        self.may_be_gone = before;
        self.rest.expire(UnixMs(before), UnixMs(0), EXPIRED_MAX)?;
        self.slots.push(disk.operations());
        Ok(())
    }

    /// Of every other command that is at rest the text is only there.
    fn part<'a>(&self, seqs: impl Iterator<Item = &'a u64>) -> ImagePart {
        let mut part = ImagePart::default();
        for seq in seqs {
            let known = &self.state().commands[seq];
            let rows = if known.status == Status::Completed { &mut part.ended } else { &mut part.live };
            let mut row = row(*seq, known);
            row.text = row.text.filter(|_| !self.at_rest.contains(seq) || seq / 4 % 2 == 0);
            rows.push(row);
        }
        part.no_longer_live = part.ended.iter().map(|row| row.id).collect();
        part
    }
}

/// What a server's list names has ended, is whole, and is listed once.
fn check_lists(rest: &RedbRest, model: &Model) -> Result<(), StorageError> {
    for server in 1..=u32::from(SHARDS) {
        let page = rest.ended(ServerId(server), None, None, usize::MAX)?;
        let mut listed = BTreeSet::new();
        for found in &page.commands {
            let seq = found.id.seq.0;
            let known =
                model.commands.get(&seq).unwrap_or_else(|| panic!("{seq} is listed and was never asked"));
            assert_eq!(known.status, Status::Completed, "{seq} is listed as ended");
            assert_eq!(*found, row(seq, known), "a row at rest is whole");
            assert!(listed.insert(seq), "{seq} is listed twice");
        }
    }
    Ok(())
}

fn random_len(seq: u64) -> usize {
    (seq as usize * 37) % 700
}

fn note_dirty(change: &Change, dirty: &mut BTreeSet<u64>, orders: &mut BTreeSet<u64>) {
    match change {
        Change::Order(order) => {
            orders.insert(order.row.id.seq.0);
            dirty.extend(order.commands.iter().map(|row| row.id.seq.0));
        }
        Change::Delivered(change) => dirty.extend(change.commands.iter().map(|(seq, _)| seq.0)),
        Change::Completed(change) => dirty.extend(change.commands.iter().map(|(seq, _)| seq.0)),
        _ => {}
    }
}
