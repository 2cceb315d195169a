//! A broker without threads: shards, what is on its way between them, a disk, and the time. Must never let an
//! output out that a shard did not give.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use fluxrelay::engine::{Change, ImagePart, Input, Output, Query, Reply, ReplyTo, Settings, Shard, Status};
use fluxrelay::ids::{CommandId, ConnId, FrameNo, Seq, ServerId, ShardNo, StoreId};
use fluxrelay::time::UnixMs;

use super::disk::{Disk, Frame};

/// Rows in one part of a checkpoint: few, so that parts are many.
const EXPORT_ROWS: usize = 3;
/// Steps without an end are a fault, not patience.
const STEPS_MAX: usize = 1_000_000;

/// See the module.
pub(crate) struct World {
    pub(crate) now: UnixMs,
    pub(crate) shards: Vec<Shard>,
    pub(crate) disk: Disk,
    /// Registered servers and their stores, as a registry would keep them.
    pub(crate) servers: BTreeMap<ServerId, StoreId>,
    /// What the shards asked for, in order, except forwards; whoever looks takes it.
    pub(crate) outputs: Vec<(UnixMs, Output)>,
    /// What became durable since somebody looked: of each frame, with the number of outputs before that.
    pub(crate) settled: Vec<(usize, Settled)>,
    /// Frames become durable only by [`World::make_durable`].
    pub(crate) disk_is_slow: bool,
    /// Forwards arrive only by [`World::deliver_forwards`].
    pub(crate) forwards_are_slow: bool,
    pub(crate) sealed: VecDeque<Frame>,
    pub(crate) forwards: VecDeque<(ShardNo, Input)>,
    /// Texts that are to be read from the disk.
    wanted: VecDeque<(ServerId, Vec<Seq>)>,
    pub(crate) checkpoint: Option<Checkpoint>,
    settings: Settings,
    boot: u32,
    requests: u64,
}

/// A checkpoint under way.
#[derive(Default)]
pub(crate) struct Checkpoint {
    /// Shards whose last part is not there yet.
    open: VecDeque<ShardNo>,
    parts: Vec<(ShardNo, ImagePart)>,
    totals_at: Vec<(ShardNo, FrameNo)>,
    /// Frames of the journal before it are stood for by the rows.
    keep_from: usize,
}

impl World {
    pub(crate) fn new(settings: Settings, shards: u16, now: UnixMs) -> World {
        let mut world = World {
            now,
            shards: Vec::new(),
            disk: Disk::default(),
            servers: BTreeMap::new(),
            outputs: Vec::new(),
            settled: Vec::new(),
            disk_is_slow: false,
            forwards_are_slow: false,
            sealed: VecDeque::new(),
            forwards: VecDeque::new(),
            wanted: VecDeque::new(),
            checkpoint: None,
            settings,
            boot: 0,
            requests: 0,
        };
        world.start(shards);
        world
    }

    pub(crate) fn shard_of(&self, server: ServerId) -> ShardNo {
        server.shard(self.shards.len() as u16)
    }

    pub(crate) fn desk_of(&self, store: StoreId) -> ShardNo {
        store.shard(self.shards.len() as u16)
    }

    /// A fresh address for an answer.
    pub(crate) fn from(&mut self) -> ReplyTo {
        self.requests += 1;
        ReplyTo { port: ConnId(1 << 40), request: self.requests }
    }

    pub(crate) fn add_server(&mut self, server: ServerId, store: StoreId) {
        self.servers.insert(server, store);
        self.input(self.shard_of(server), Input::ServerAdded { server, store });
    }

    pub(crate) fn remove_server(&mut self, server: ServerId) {
        self.servers.remove(&server);
        self.input(self.shard_of(server), Input::ServerRemoved { server });
    }

    /// One step of one shard, and everything that follows from it at this instant.
    pub(crate) fn input(&mut self, shard: ShardNo, input: Input) {
        self.step(shard, input);
        self.settle();
    }

    /// Asks a question that changes nothing; `None` when the answer has to wait until what it tells is durable.
    pub(crate) fn ask(&mut self, shard: ShardNo, query: Query) -> Option<Reply> {
        let from = self.from();
        let before = self.outputs.len();
        self.input(shard, Input::Read { from, query });
        let is_answer = |output: &Output| matches!(output, Output::Reply { to, .. } if *to == from);
        let found = self.outputs[before..].iter().position(|(_, output)| is_answer(output))?;
        match self.outputs.remove(before + found) {
            (_, Output::Reply { reply, .. }) => Some(reply),
            _ => unreachable!("just found"),
        }
    }

    fn step(&mut self, shard: ShardNo, input: Input) {
        let mut out = Vec::new();
        self.shards[usize::from(shard.0)].handle(self.now, input, &mut out);
        self.take(out);
    }

    fn take(&mut self, out: Vec<Output>) {
        for output in out {
            match output {
                Output::Forward { shard, input } => self.forwards.push_back((shard, *input)),
                Output::ReadTexts { server, seqs } => self.wanted.push_back((server, seqs)),
                Output::Reply { to, mut reply } => {
                    self.disk.complete(&mut reply);
                    self.outputs.push((self.now, Output::Reply { to, reply }));
                }
                other => self.outputs.push((self.now, other)),
            }
        }
    }

    /// Runs until no shard has work left, everything that may be is durable, and forwards have arrived.
    pub(crate) fn settle(&mut self) {
        for _ in 0..STEPS_MAX {
            let mut busy = false;
            for no in (0..self.shards.len() as u16).map(ShardNo) {
                if self.shards[usize::from(no.0)].has_work() {
                    busy = true;
                    self.step(no, Input::Tick);
                }
                if let Some((frame, changes)) = self.shards[usize::from(no.0)].seal() {
                    self.sealed.push_back(Frame { shard: no, no: frame, changes });
                }
            }
            if !self.disk_is_slow {
                busy |= self.commit(usize::MAX);
            }
            if !self.forwards_are_slow {
                while let Some((shard, input)) = self.forwards.pop_front() {
                    busy = true;
                    self.step(shard, input);
                }
            }
            while let Some((server, seqs)) = self.wanted.pop_front() {
                busy = true;
                let texts = self.disk.texts(server, &seqs);
                self.step(self.shard_of(server), Input::Texts { server, texts });
            }
            if !busy && !self.shards.iter().any(Shard::has_changes) {
                return;
            }
        }
        panic!("the shards never come to rest");
    }

    /// The last frame that a shard has sealed.
    pub(crate) fn last_sealed(&self, shard: ShardNo) -> FrameNo {
        let sealed = self.sealed.iter().rev().find(|frame| frame.shard == shard);
        sealed.map_or(self.disk.last_frame(shard), |frame| frame.no)
    }

    fn commit(&mut self, frames: usize) -> bool {
        let count = frames.min(self.sealed.len());
        for frame in self.sealed.drain(..count).collect::<Vec<_>>() {
            let (shard, no) = (frame.shard, frame.no);
            let before = self.outputs.len();
            self.settled.push((before, Settled::by(&frame.changes)));
            self.disk.append(frame);
            self.step(shard, Input::Durable(no));
        }
        count > 0
    }

    /// Commands whose end is in a frame that is not durable.
    pub(crate) fn ending(&self) -> BTreeSet<CommandId> {
        self.sealed.iter().flat_map(|frame| Settled::by(&frame.changes).ended).collect()
    }

    /// How many frames were ever sealed, and how many of them are durable.
    pub(crate) fn frames(&self) -> (u64, u64) {
        let durable = self.disk.frames();
        (durable + self.sealed.len() as u64, durable)
    }

    /// When the next shard wants a tick.
    pub(crate) fn next_due(&self) -> Option<UnixMs> {
        self.shards.iter().filter_map(Shard::next_due).min()
    }

    /// Makes at most so many sealed frames durable, oldest first.
    pub(crate) fn make_durable(&mut self, frames: usize) {
        self.commit(frames);
        self.settle();
    }

    /// Lets at most so many forwards arrive, oldest first.
    pub(crate) fn deliver_forwards(&mut self, count: usize) {
        for _ in 0..count {
            let Some((shard, input)) = self.forwards.pop_front() else { break };
            self.step(shard, input);
        }
        self.settle();
    }

    /// Lets the time pass, with a tick whenever a shard wants one.
    pub(crate) fn advance_to(&mut self, then: UnixMs) {
        for _ in 0..STEPS_MAX {
            let Some(due) = self.next_due().filter(|due| *due <= then) else {
                self.now = self.now.max(then);
                return;
            };
            self.now = self.now.max(due);
            for no in (0..self.shards.len() as u16).map(ShardNo) {
                if self.shards[usize::from(no.0)].next_due().is_some_and(|due| due <= self.now) {
                    self.step(no, Input::Tick);
                }
            }
            self.settle();
        }
        panic!("timers never come to rest");
    }

    /// Starts a checkpoint: what is on its way between shards arrives first.
    pub(crate) fn checkpoint_begin(&mut self) {
        self.deliver_forwards(usize::MAX);
        let shards = || (0..self.shards.len() as u16).map(ShardNo);
        let totals_at = shards().map(|no| (no, self.last_sealed(no))).collect();
        let mut running =
            Checkpoint { keep_from: self.disk.journal.len(), totals_at, ..Checkpoint::default() };
        for no in (0..self.shards.len() as u16).map(ShardNo) {
            self.step(no, Input::CheckpointBegin);
            running.open.push_back(no);
        }
        self.checkpoint = Some(running);
    }

    /// Exports one part of the running checkpoint; false when all parts are there.
    pub(crate) fn checkpoint_export(&mut self) -> bool {
        let running = self.checkpoint.as_mut().expect("a checkpoint is running");
        let Some(no) = running.open.front().copied() else { return false };
        let part = self.shards[usize::from(no.0)].export(EXPORT_ROWS).expect("the last part says so");
        if part.last {
            running.open.pop_front();
        }
        running.parts.push((no, part));
        true
    }

    /// Whether all frames that the running checkpoint's rows rest on are durable.
    pub(crate) fn checkpoint_is_covered(&self) -> bool {
        let running = self.checkpoint.as_ref().expect("a checkpoint is running");
        let covered = |no: ShardNo, frame: FrameNo| frame <= self.disk.last_frame(no);
        running.parts.iter().all(|(no, part)| covered(*no, part.contains))
            && running.totals_at.iter().all(|(no, frame)| covered(*no, *frame))
    }

    /// Writes the running checkpoint, whose parts are all there and covered.
    pub(crate) fn checkpoint_end(&mut self) {
        let running = self.checkpoint.take().expect("a checkpoint is running");
        assert!(running.open.is_empty(), "all parts are exported");
        self.disk.checkpoint(running.parts, running.totals_at, running.keep_from);
        for no in (0..self.shards.len() as u16).map(ShardNo) {
            self.step(no, Input::CheckpointDone);
        }
        self.settle();
    }

    /// A whole checkpoint at this instant.
    pub(crate) fn checkpoint(&mut self) {
        self.checkpoint_begin();
        while self.checkpoint_export() {}
        while !self.checkpoint_is_covered() {
            self.make_durable(1);
        }
        self.checkpoint_end();
    }

    /// Power off, power on: what was not durable is gone, connections and what was on its way too.
    pub(crate) fn crash(&mut self, shards: u16) {
        self.sealed.clear();
        self.forwards.clear();
        self.wanted.clear();
        self.checkpoint = None;
        self.start(shards);
    }

    fn start(&mut self, shards: u16) {
        self.boot += 1;
        self.shards = (0..shards)
            .map(|no| Shard::new(self.settings.clone(), ShardNo(no), shards, self.boot, self.now))
            .collect();
        for (server, store) in &self.servers {
            self.shards[usize::from(server.shard(shards).0)].restore_server(*server, *store);
        }
        self.disk.restore(&mut self.shards);
        let mut out = Vec::new();
        for shard in &mut self.shards {
            shard.restore_done(self.now, &mut out);
        }
        self.take(out);
        self.settle();
    }
}

/// What others wait for, once it is durable.
#[derive(Debug, Default)]
pub(crate) struct Settled {
    /// Commands that end, but for those whose time is over: that a crash does not undo.
    pub(crate) ended: Vec<CommandId>,
    /// Attempts, new or not.
    pub(crate) attempts: Vec<(CommandId, u16)>,
}

impl Settled {
    fn by(changes: &[Change]) -> Settled {
        let mut settled = Settled::default();
        for change in changes {
            match change {
                Change::Completed(change) => {
                    let ids = change.commands.iter().map(|(seq, _)| (change.server, *seq));
                    settled.ended.extend(ids.map(|(server, seq)| CommandId { server, seq }));
                }
                Change::Status(change) => {
                    settled.attempts.push((change.id, change.attempt));
                    if matches!(change.status, Status::Completed | Status::Cancelled) {
                        settled.ended.push(change.id);
                    }
                }
                _ => {}
            }
        }
        settled
    }
}
