//! Drives a world and the naive queue through the same story. Must never tell the naive queue what the engine decided.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use fluxrelay::engine::{Input, NewOrder, Refusal, Settings};
use fluxrelay::ids::{CommandId, ConnId, FrameNo, OrderId, Seq, ServerId, ShardNo, StoreId};
use fluxrelay::time::{Millis, UnixMs};

use crate::naive::{ABSENT_RECHECK, ACK_DEADLINE, Naive, POLL_GRACE, RETRIES, Server, UNANSWERED_MAX};
use crate::support::random::Random;
use crate::support::world::World;

const START: UnixMs = UnixMs(1_767_225_600_000);

/// What an answer has to be.
#[derive(Debug, Clone)]
pub(crate) enum Expect {
    Order(OrderId),
    Refused(Refusal),
    Row(CommandId),
    Accepted(u32),
    Released(u32),
    Polled(ServerId),
    Collected(BTreeSet<CommandId>),
    Resent,
}

/// A promise: what it has to be, and the frame that must be durable by then.
#[derive(Debug, Clone)]
pub(crate) struct Promise {
    pub(crate) expect: Expect,
    pub(crate) shard: ShardNo,
    pub(crate) frame: FrameNo,
}

/// What a plugin remembers, whatever happens to its connection.
#[derive(Debug, Default)]
pub(crate) struct Plugin {
    /// Received and not answered, with the attempt.
    pub(crate) received: BTreeMap<Seq, u16>,
    pub(crate) answered: Vec<(Seq, u16)>,
    pub(crate) batch: u64,
    /// Connections that were replaced or lost.
    pub(crate) old: Vec<ConnId>,
}

/// See the module.
pub(crate) struct Driver {
    pub(crate) world: World,
    pub(crate) naive: Naive,
    pub(crate) random: Random,
    pub(crate) plugins: BTreeMap<ServerId, Plugin>,
    pub(crate) promises: BTreeMap<u64, Promise>,
    pub(crate) confirms: BTreeMap<(ConnId, u64), (ShardNo, FrameNo)>,
    pub(crate) welcomes: BTreeMap<ConnId, BTreeSet<Seq>>,
    pub(crate) closes: BTreeSet<ConnId>,
    pub(crate) conns: BTreeMap<ConnId, ServerId>,
    pub(crate) published: Vec<NewOrder>,
    /// The naive queue as it was when so many frames were sealed.
    pub(crate) snapshots: VecDeque<(u64, Naive)>,
    pub(crate) trace: Vec<String>,
    pub(crate) next_conn: u64,
    loud: bool,
}

impl Driver {
    pub(crate) fn new(mut random: Random) -> Driver {
        let settings = Settings {
            retry_delays: RETRIES.map(Millis).to_vec(),
            ack_deadline: Millis(ACK_DEADLINE),
            absent_recheck: Millis(ABSENT_RECHECK),
            unanswered_max: UNANSWERED_MAX,
            poll_grace: Millis(POLL_GRACE),
            texts_kept: 20,
            ..Settings::default()
        };
        let shards = 1 + random.below(3) as u16;
        let mut driver = Driver {
            world: World::new(settings, shards, START),
            naive: Naive { now: START, ..Naive::default() },
            random,
            plugins: BTreeMap::new(),
            promises: BTreeMap::new(),
            confirms: BTreeMap::new(),
            welcomes: BTreeMap::new(),
            closes: BTreeSet::new(),
            conns: BTreeMap::new(),
            published: Vec::new(),
            snapshots: VecDeque::new(),
            trace: Vec::new(),
            next_conn: 1,
            loud: std::env::var_os("FLUXRELAY_MODEL_SEED").is_some(),
        };
        for server in 1..=4 {
            driver.add_server(ServerId(server));
        }
        driver
    }

    pub(crate) fn note(&mut self, what: String) {
        let line = format!("{:>8} {what}", self.world.now.0 - START.0);
        if self.loud {
            eprintln!("{line}");
        }
        self.trace.push(line);
    }

    fn add_server(&mut self, server: ServerId) {
        self.note(format!("add {server}"));
        self.world.add_server(server, StoreId(1 + server.0 % 2));
        self.naive.servers.insert(server, Server { registered: true, ..Server::default() });
        self.plugins.insert(server, Plugin::default());
        self.follow();
    }

    /// One step of the story.
    pub(crate) fn step(&mut self) {
        match self.random.below(100) {
            0..20 => self.publish(),
            20..28 => self.connect(),
            28..31 => self.disconnect(),
            31..52 => self.results(),
            52..55 => self.started(),
            55..58 => self.credit(),
            58..64 => self.players(),
            64..68 => self.poll(),
            68..74 => self.operate(),
            74 => self.resend_all(),
            75..91 => self.pass_time(),
            91..94 => self.checkpoint(),
            94..97 => self.crash(),
            97 => self.slow_disk(),
            98 => self.end_session(),
            _ => self.change_servers(),
        }
        while self.world.checkpoint.is_some() && self.random.chance(1, 2) {
            self.checkpoint();
        }
        while self.world.disk_is_slow && self.random.chance(1, 2) {
            self.make_durable();
        }
        if self.random.chance(1, 8) {
            self.compare();
        }
    }

    /// Tells a shard something; the naive queue has been told already, or is told by the answer.
    pub(crate) fn input(&mut self, shard: ShardNo, input: Input) -> FrameNo {
        let before = self.world.last_sealed(shard);
        self.world.input(shard, input);
        // What the input changed is in the first frame that was sealed after it.
        if self.world.last_sealed(shard) > before { FrameNo(before.0 + 1) } else { before }
    }

    /// Tells a shard something that it has to answer as expected, once that is durable.
    pub(crate) fn ask(
        &mut self,
        shard: ShardNo,
        input: impl FnOnce(fluxrelay::engine::ReplyTo) -> Input,
        expect: Expect,
    ) {
        let from = self.world.from();
        let promise = Promise { expect, shard, frame: FrameNo(0) };
        self.promises.insert(from.request, promise);
        let frame = self.input(shard, input(from));
        if let Some(promise) = self.promises.get_mut(&from.request) {
            promise.frame = frame;
        }
    }

    // ------------------------------------------------------------ time and disk

    fn pass_time(&mut self) {
        let spans = [0, 1, 100, 1_000, 5_000, 20_000, 40_000, 100_000];
        let span = *self.random.pick(&spans).expect("there are some");
        let then = UnixMs(self.world.now.0 + self.random.below(span + 1));
        self.pass_time_until(then);
    }

    pub(crate) fn pass_time_until(&mut self, then: UnixMs) {
        self.note(format!("until {}", then.0 - START.0));
        while let Some(due) = self.world.next_due().filter(|due| *due <= then) {
            let due = due.max(self.world.now);
            self.world.advance_to(due);
            self.naive.tick(due);
            self.follow();
        }
        self.world.advance_to(then);
        self.naive.tick(then);
        self.follow();
    }

    fn slow_disk(&mut self) {
        self.world.disk_is_slow = !self.world.disk_is_slow;
        self.note(format!("disk is slow: {}", self.world.disk_is_slow));
        if !self.world.disk_is_slow {
            self.world.disk_is_slow = true;
            while !self.world.sealed.is_empty() {
                self.make_durable();
            }
            self.world.disk_is_slow = false;
            self.world.settle();
            self.follow();
        }
    }

    pub(crate) fn make_durable(&mut self) {
        if self.world.sealed.is_empty() {
            return;
        }
        self.note("one frame is durable".to_owned());
        self.world.make_durable(1);
        self.follow();
    }

    fn checkpoint(&mut self) {
        if self.world.checkpoint.is_none() {
            self.note("checkpoint begins".to_owned());
            self.world.checkpoint_begin();
            return self.follow();
        }
        if self.world.checkpoint_export() {
            self.note("checkpoint, a part".to_owned());
            return;
        }
        while !self.world.checkpoint_is_covered() {
            self.make_durable();
        }
        self.note("checkpoint ends".to_owned());
        self.world.checkpoint_end();
        self.follow();
    }

    fn crash(&mut self) {
        // The naive queue knows the state only at the end of a step, so the disk is let come that far.
        while !self.snapshots.iter().any(|(sealed, _)| *sealed == self.world.frames().1) {
            self.make_durable();
        }
        self.lose_forwards();
        let durable = self.world.frames().1;
        let shards = 1 + self.random.below(3) as u16;
        self.note(format!("crash; then {shards} shards"));
        let found = self.snapshots.iter().rev().find(|(sealed, _)| *sealed == durable);
        let mut naive = found.expect("just looked").1.clone();
        for server in self.naive.servers.keys() {
            naive.servers.entry(*server).or_default();
        }
        let registered: Vec<ServerId> = self.world.servers.keys().copied().collect();
        naive.crash(self.world.now, &registered);
        self.naive = naive;
        self.promises.clear();
        self.confirms.clear();
        self.welcomes.clear();
        self.conns.clear();
        self.snapshots.clear();
        self.world.outputs.clear();
        self.world.settled.clear();
        self.world.forwards_are_slow = false;
        self.world.crash(shards);
        self.follow();
    }

    /// Shortly before a crash: some more becomes durable, but what it sets off between shards never arrives.
    fn lose_forwards(&mut self) {
        let durable = self.world.frames().1;
        let ahead: Vec<u64> =
            self.snapshots.iter().map(|(sealed, _)| *sealed).filter(|sealed| *sealed > durable).collect();
        if let Some(then) = self.random.pick(&ahead).copied() {
            self.note(format!("{} frames are durable, their forwards are lost", then - durable));
            self.world.forwards_are_slow = true;
            self.world.make_durable((then - durable) as usize);
        }
    }

    fn change_servers(&mut self) {
        let next = ServerId(self.naive.servers.len() as u32 + 1);
        if self.random.chance(1, 2) && next.0 <= 8 {
            return self.add_server(next);
        }
        let known: Vec<ServerId> = self.world.servers.keys().copied().collect();
        let Some(server) = self.random.pick(&known).copied().filter(|_| known.len() > 3) else { return };
        self.note(format!("remove {server}"));
        self.leave(server, true);
        self.naive.remove_server(server);
        self.world.remove_server(server);
        self.follow();
    }

    // ------------------------------------------------------------ the end

    /// Everybody behaves: then every command comes to an end.
    pub(crate) fn bring_to_an_end(&mut self) {
        if self.world.disk_is_slow {
            self.slow_disk();
        }
        self.compare();
        for server in self.world.servers.keys().copied().collect::<Vec<_>>() {
            self.connect_openly(server);
        }
        for second in 0..2_000 {
            if second % 50 == 0 {
                self.resend_all();
            }
            let waits = |command: &crate::naive::Command| !crate::naive::terminal(command.status);
            if !self.naive.commands.values().any(waits) {
                break;
            }
            for server in self.world.servers.keys().copied().collect::<Vec<_>>() {
                self.complete_all(server);
            }
            self.pass_time_until(UnixMs(self.world.now.0 + 1_000));
        }
        self.compare();
        let left = self.naive.commands.iter().find(|(_, command)| !crate::naive::terminal(command.status));
        assert!(left.is_none(), "never comes to an end: {left:?}");
        self.checkpoint_all();
        self.compare();
        let in_memory: u64 = self.world.shards.iter().map(|shard| shard.counters().in_memory).sum();
        assert_eq!(in_memory, 0, "what has ended leaves memory");
    }

    fn checkpoint_all(&mut self) {
        while self.world.checkpoint.is_some() {
            self.checkpoint();
        }
        self.checkpoint();
        while self.world.checkpoint.is_some() {
            self.checkpoint();
        }
    }
}
