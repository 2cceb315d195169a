//! A broker without threads: shards, what is on its way between them, a disk, and the time. Must never let an
//! output out that a shard did not give.

use std::collections::{BTreeMap, VecDeque};

use fluxrelay::engine::{Input, Output, Reply, ReplyTo, Settings, Shard};
use fluxrelay::ids::{ConnId, FrameNo, ServerId, ShardNo, StoreId};
use fluxrelay::time::UnixMs;

use super::disk::{Disk, Frame};

/// Rows in one part of a checkpoint: few, so that parts are many.
const EXPORT_ROWS: usize = 3;
/// Steps without an end are a fault, not patience.
const STEPS_MAX: usize = 1_000_000;

/// See the module.
pub struct World {
    pub now: UnixMs,
    pub shards: Vec<Shard>,
    pub disk: Disk,
    /// Registered servers and their stores, as a registry would keep them.
    pub servers: BTreeMap<ServerId, StoreId>,
    /// What the shards asked for, in order, except forwards; whoever looks takes it.
    pub outputs: Vec<(UnixMs, Output)>,
    /// Frames become durable only by [`World::make_durable`].
    pub disk_is_slow: bool,
    /// Forwards arrive only by [`World::deliver_forwards`].
    pub forwards_are_slow: bool,
    pub sealed: VecDeque<Frame>,
    pub forwards: VecDeque<(ShardNo, Input)>,
    settings: Settings,
    boot: u32,
    requests: u64,
}

impl World {
    pub fn new(settings: Settings, shards: u16, now: UnixMs) -> World {
        let mut world = World {
            now,
            shards: Vec::new(),
            disk: Disk::default(),
            servers: BTreeMap::new(),
            outputs: Vec::new(),
            disk_is_slow: false,
            forwards_are_slow: false,
            sealed: VecDeque::new(),
            forwards: VecDeque::new(),
            settings,
            boot: 0,
            requests: 0,
        };
        world.start(shards);
        world
    }

    pub fn shard_of(&self, server: ServerId) -> ShardNo {
        server.shard(self.shards.len() as u16)
    }

    pub fn desk_of(&self, store: StoreId) -> ShardNo {
        store.shard(self.shards.len() as u16)
    }

    /// A fresh address for an answer.
    pub fn from(&mut self) -> ReplyTo {
        self.requests += 1;
        ReplyTo { port: ConnId(1 << 40), request: self.requests }
    }

    pub fn add_server(&mut self, server: ServerId, store: StoreId) {
        self.servers.insert(server, store);
        self.input(self.shard_of(server), Input::ServerAdded { server, store });
    }

    pub fn remove_server(&mut self, server: ServerId) {
        self.servers.remove(&server);
        self.input(self.shard_of(server), Input::ServerRemoved { server });
    }

    /// One step of one shard, and everything that follows from it at this instant.
    pub fn input(&mut self, shard: ShardNo, input: Input) {
        self.step(shard, input);
        self.settle();
    }

    /// Asks a question that is answered at once and changes nothing.
    pub fn ask(&mut self, shard: ShardNo, query: fluxrelay::engine::Query) -> Reply {
        let from = self.from();
        let mut out = Vec::new();
        self.shards[usize::from(shard.0)].handle(self.now, Input::Read { from, query }, &mut out);
        let found = out.iter().position(|output| matches!(output, Output::Reply { to, .. } if *to == from));
        let Output::Reply { reply, .. } = out.remove(found.expect("a read is answered at once")) else {
            unreachable!("just matched")
        };
        self.take(out);
        reply
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
                other => self.outputs.push((self.now, other)),
            }
        }
    }

    /// Runs until no shard has work left, everything that may be is durable, and forwards have arrived.
    pub fn settle(&mut self) {
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
            if !busy && !self.shards.iter().any(Shard::has_changes) {
                return;
            }
        }
        panic!("the shards never come to rest");
    }

    fn commit(&mut self, frames: usize) -> bool {
        let count = frames.min(self.sealed.len());
        for frame in self.sealed.drain(..count).collect::<Vec<_>>() {
            let (shard, no) = (frame.shard, frame.no);
            self.disk.append(frame);
            self.step(shard, Input::Durable(no));
        }
        count > 0
    }

    /// Makes at most so many sealed frames durable, oldest first.
    pub fn make_durable(&mut self, frames: usize) {
        self.commit(frames);
        self.settle();
    }

    /// Lets at most so many forwards arrive, oldest first.
    pub fn deliver_forwards(&mut self, count: usize) {
        for _ in 0..count {
            let Some((shard, input)) = self.forwards.pop_front() else { break };
            self.step(shard, input);
        }
        self.settle();
    }

    /// Lets the time pass, with a tick whenever a shard wants one.
    pub fn advance_to(&mut self, then: UnixMs) {
        for _ in 0..STEPS_MAX {
            let due = self.shards.iter().filter_map(Shard::next_due).min();
            let Some(due) = due.filter(|due| *due <= then) else {
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

    /// Writes a checkpoint; `meanwhile` runs between the export of two parts. Nothing may be on its way.
    pub fn checkpoint(&mut self, mut meanwhile: impl FnMut(&mut World)) {
        self.deliver_forwards(usize::MAX);
        self.make_durable(usize::MAX);
        while !self.forwards.is_empty() || !self.sealed.is_empty() {
            self.deliver_forwards(usize::MAX);
            self.make_durable(usize::MAX);
        }
        let keep_from = self.disk.journal.len();
        let totals_at = (0..self.shards.len() as u16).map(ShardNo).map(|no| (no, self.disk.last_frame(no))).collect();
        for no in (0..self.shards.len() as u16).map(ShardNo) {
            self.step(no, Input::CheckpointBegin);
        }
        let mut parts = Vec::new();
        for no in (0..self.shards.len() as u16).map(ShardNo) {
            while let Some(part) = self.shards[usize::from(no.0)].export(EXPORT_ROWS) {
                let last = part.last;
                parts.push((no, part));
                meanwhile(self);
                if last {
                    break;
                }
            }
        }
        let contains = parts.iter().map(|(shard, part)| (*shard, part.contains)).collect::<Vec<_>>();
        while contains.iter().any(|(shard, frame): &(ShardNo, FrameNo)| *frame > self.disk.last_frame(*shard)) {
            self.make_durable(1);
        }
        self.disk.checkpoint(parts, totals_at, keep_from);
        for no in (0..self.shards.len() as u16).map(ShardNo) {
            self.step(no, Input::CheckpointDone);
        }
        self.settle();
    }

    /// Power off, power on: what was not durable is gone, connections and what was on its way too.
    pub fn crash(&mut self, shards: u16) {
        self.sealed.clear();
        self.forwards.clear();
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
