//! State is a fold of changes: a shard restored at any point, from the last checkpoint and the journal's later frames, has
//! exactly the rows of the one that ran. Random inputs from a seed; crashes lose what was not durable.

use std::collections::{BTreeMap, BTreeSet};

use super::harness::*;
use super::*;
use crate::ids::{CommandId, ConnId, FrameNo, OrderId, ServerId, ShardNo, mix};
use crate::time::{Millis, UnixMs};

const SERVERS: [ServerId; 3] = [ServerId(1), ServerId(2), ServerId(3)];
const NAMES: [&str; 3] = ["Steve", "ALEX", "alex"];

/// What storage would hold.
#[derive(Debug, Clone, Default)]
struct Rest {
    live: BTreeMap<CommandId, CommandRow>,
    ended: BTreeMap<CommandId, CommandRow>,
    orders: BTreeMap<OrderId, OrderRow>,
    keys: Vec<KeyRow>,
    servers: BTreeMap<ServerId, ServerRow>,
    next_seq: u64,
    /// Totals are exact at this frame.
    totals: FrameNo,
    /// The journal is trimmed up to this frame.
    trimmed: FrameNo,
}

impl Rest {
    /// Gives a row without a text the one that it has here.
    fn complete(&self, row: &mut CommandRow) {
        let found = || self.live.get(&row.id).or_else(|| self.ended.get(&row.id)).expect("it is at rest");
        row.text = row.text.take().or_else(|| found().text.clone());
    }
}

/// A checkpoint under way.
struct Underway {
    parts: Vec<ImagePart>,
    complete: bool,
    totals: FrameNo,
    trim: FrameNo,
}

struct World {
    seed: u64,
    drawn: u64,
    now: u64,
    boot: u32,
    shard: Shard,
    journal: Vec<(FrameNo, Vec<Change>)>,
    durable: FrameNo,
    rest: Rest,
    underway: Option<Underway>,
    known: Vec<CommandId>,
    /// Texts that are to be read from what is at rest.
    wanted: Vec<(ServerId, Vec<Seq>)>,
    conns: u64,
    compared: usize,
}

fn settings() -> Settings {
    Settings {
        unanswered_max: 3,
        retry_delays: vec![Millis(3000), Millis(6000)],
        step_budget: 40,
        texts_kept: 60,
        ..Settings::default()
    }
}

fn fresh(boot: u32, now: u64) -> Shard {
    let mut shard = Shard::new(settings(), ShardNo(0), 1, boot, UnixMs(now));
    SERVERS.iter().for_each(|server| shard.restore_server(*server, STORE));
    shard
}

impl World {
    fn new(seed: u64) -> World {
        World {
            seed,
            drawn: 0,
            now: 1_000_000,
            boot: 1,
            shard: fresh(1, 1_000_000),
            journal: Vec::new(),
            durable: FrameNo(0),
            rest: Rest::default(),
            underway: None,
            known: Vec::new(),
            wanted: Vec::new(),
            conns: 0,
            compared: 0,
        }
    }

    fn draw(&mut self, below: u64) -> u64 {
        self.drawn += 1;
        mix(self.seed << 32 | self.drawn) % below
    }

    fn chance(&mut self, of: u64) -> bool {
        self.draw(of) == 0
    }

    fn input(&mut self, input: Input) -> Vec<Output> {
        let mut out = Vec::new();
        self.shard.handle(UnixMs(self.now), input, &mut out);
        for output in &out {
            match output {
                Output::Reply { reply: Reply::Published { commands, .. }, .. } => {
                    self.known.extend(commands);
                    let old = self.known.len().saturating_sub(40);
                    self.known.drain(..old);
                }
                Output::Reply { reply: Reply::Collected(found), .. } => {
                    let commands = found.clone();
                    let from = ReplyTo { port: ConnId(0), request: 2 };
                    self.input(Input::ResendMany { from, commands });
                }
                Output::ReadTexts { server, seqs } => self.wanted.push((*server, seqs.clone())),
                _ => {}
            }
        }
        out
    }

    /// Answers one reading of texts, whole or in part.
    fn read_texts(&mut self) {
        let Some((server, seqs)) = self.wanted.pop() else { return };
        let rows = seqs.iter().filter_map(|seq| self.rest.live.get(&CommandId { server, seq: *seq }));
        let mut texts: Vec<_> = rows.map(|row| (row.id.seq, row.text.clone().expect("whole"))).collect();
        texts.truncate(1 + self.draw(3) as usize);
        self.input(Input::Texts { server, texts });
    }

    fn seal(&mut self) {
        self.journal.extend(self.shard.seal());
    }

    fn durable(&mut self) {
        self.seal();
        if let Some((last, _)) = self.journal.last() {
            self.durable = *last;
            let frame = *last;
            self.input(Input::Durable(frame));
        }
    }

    fn server(&mut self) -> ServerId {
        SERVERS[self.draw(3) as usize]
    }

    fn id(&mut self) -> CommandId {
        match self.known.len() as u64 {
            0 => CommandId { server: SERVER, seq: Seq(64) },
            len => {
                let at = self.draw(len) as usize;
                self.known[at]
            }
        }
    }

    fn player(&mut self) -> Player {
        let name = NAMES[self.draw(3) as usize];
        let uuid = if self.chance(3) { Some(u128::from(self.draw(3))) } else { None };
        Player { name: name.into(), uuid }
    }

    fn news(&mut self) -> PlayerNews {
        let players = (0..self.draw(3)).map(|_| self.player()).collect();
        match self.draw(3) {
            0 => PlayerNews::Online(players),
            1 => PlayerNews::Joined(players),
            _ => PlayerNews::Left(players),
        }
    }

    fn command(&mut self) -> NewCommand {
        let player = if self.chance(2) { Some(self.player()) } else { None };
        let soon = |world: &mut World| Some(UnixMs(world.now + world.draw(20_000)));
        NewCommand {
            server: self.server(),
            require_online: player.is_some() && self.chance(2),
            player,
            not_before: if self.chance(5) { soon(self) } else { None },
            expires_at: if self.chance(5) { soon(self) } else { None },
            on_doubt: if self.chance(2) { OnDoubt::Hold } else { OnDoubt::Rerun },
            labels: self.chance(5).then(|| Box::new(Labels { stage: Some("s".into()), metadata: None })),
            ..command(&format!("text {}", self.drawn))
        }
    }

    fn order(&mut self) -> NewOrder {
        let commands = (0..1 + self.draw(4)).map(|_| self.command()).collect();
        let key = if self.chance(2) { Some(KeyDigest { key: self.draw(50), body: 1 }) } else { None };
        NewOrder { key, ordered: self.chance(3), ..order(commands) }
    }

    fn hello(&mut self) -> Hello {
        let some = |world: &mut World| (0..world.draw(3)).map(|_| world.id().seq).collect::<Vec<Seq>>();
        Hello {
            window: self.draw(5) as u32,
            held: some(self),
            started: some(self),
            finished: some(self),
            in_doubt: some(self),
            players: if self.chance(2) { Some(vec![self.player()]) } else { None },
        }
    }

    fn results(&mut self) -> Vec<CommandResult> {
        (0..1 + self.draw(4))
            .map(|_| CommandResult {
                seq: self.id().seq,
                attempt: if self.chance(2) { Some(1 + self.draw(4) as u16) } else { None },
                outcome: match self.draw(7) {
                    0..=2 => Outcome::Completed,
                    3..=4 => Outcome::Failed,
                    5 => Outcome::AwaitingPlayer,
                    _ => Outcome::InDoubt,
                },
                error: self.chance(3).then(|| "error".into()),
                output: self.chance(4).then(|| "output".into()),
            })
            .collect()
    }

    fn operation(&mut self) -> Operation {
        match self.draw(3) {
            0 => Operation::Cancel,
            1 => Operation::Resend,
            _ => Operation::Edit { text: format!("edited {}", self.drawn).into() },
        }
    }

    fn act(&mut self) {
        if self.chance(3) {
            self.read_texts();
        }
        let from = ReplyTo { port: ConnId(0), request: 1 };
        let conn = ConnId(self.conns.saturating_sub(self.draw(3)));
        let input = match self.draw(22) {
            0..=4 => Input::Publish { from, order: Box::new(self.order()) },
            5 => {
                self.conns += 1;
                let hello = Box::new(self.hello());
                Input::Connect { conn: ConnId(self.conns), server: self.server(), hello }
            }
            6 if self.chance(3) => Input::Disconnect { conn },
            7..=9 => Input::Results { conn, batch: 1, results: self.results() },
            10 => Input::Players { conn, news: self.news() },
            11 => Input::Poll { from, server: self.server() },
            12 => Input::PollResults { from, server: self.server(), results: self.results() },
            13 => Input::PollPlayers { from, server: self.server(), news: vec![self.news()] },
            14 => Input::Operate { from, id: self.id(), operation: self.operation() },
            15 => {
                let statuses = vec![Status::Failed, Status::InDoubt];
                let filter = CollectFilter {
                    store: STORE,
                    server: None,
                    from: UnixMs(0),
                    to: UnixMs(u64::MAX),
                    statuses,
                };
                Input::Collect { from, filter }
            }
            16 => Input::Credit { conn, window: self.draw(6) as u32 },
            17 => {
                self.now += self.draw(10_000);
                Input::Tick
            }
            18 => return self.checkpoint(),
            19 => return self.seal(),
            20 if self.chance(4) => return self.durable(),
            _ => Input::Tick,
        };
        self.input(input);
    }

    fn checkpoint(&mut self) {
        match &mut self.underway {
            None => {
                self.seal();
                let totals = self.journal.last().map_or(FrameNo(0), |(no, _)| *no);
                self.input(Input::CheckpointBegin);
                let trim = self.durable;
                self.underway = Some(Underway { parts: Vec::new(), complete: false, totals, trim });
            }
            Some(underway) if !underway.complete => {
                let part = self.shard.export(7).expect("a part until the last");
                underway.complete = part.last;
                underway.parts.push(part);
            }
            Some(_) => {
                self.durable();
                self.store();
                self.input(Input::CheckpointDone);
            }
        }
    }

    fn store(&mut self) {
        let Some(underway) = self.underway.take() else { return };
        let rest = &mut self.rest;
        for mut part in underway.parts {
            assert!(part.contains <= self.durable);
            part.live.iter_mut().chain(&mut part.ended).for_each(|row| rest.complete(row));
            rest.live.extend(part.live.into_iter().map(|row| (row.id, row)));
            rest.live.retain(|id, _| !part.no_longer_live.contains(id));
            for row in part.ended {
                assert!(!rest.live.contains_key(&row.id), "{} has ended and stays among the live", row.id);
                rest.ended.insert(row.id, row);
            }
            rest.orders.extend(part.orders.into_iter().map(|row| (row.id, row)));
            rest.keys.extend(part.keys);
            rest.servers.extend(part.servers.into_iter().map(|row| (row.server, row)));
            rest.next_seq = rest.next_seq.max(part.next_seq);
        }
        (rest.totals, rest.trimmed) = (underway.totals, underway.trim);
        self.journal.retain(|(no, _)| *no > underway.trim);
    }

    /// Another shard from what is at rest and the journal up to a frame, its desk apart as at a start.
    fn restored(&self, upto: FrameNo) -> Shard {
        let mut shard = fresh(self.boot + 1, self.now);
        let mut desk = shard.lend_desk();
        self.rest.servers.values().for_each(|row| shard.restore_totals(*row));
        self.rest.live.values().for_each(|row| shard.restore_live(row.clone()));
        self.rest.keys.iter().for_each(|row| desk.restore_key(*row));
        shard.restore_next_seq(self.rest.next_seq);
        shard.restore_frame_no(self.rest.totals.max(self.rest.trimmed));
        for (no, changes) in self.journal.iter().filter(|(no, _)| *no <= upto) {
            let count = *no > self.rest.totals;
            for change in changes {
                if let Change::Order(order) = change {
                    desk.restore_order(&order.row);
                }
                shard.restore_change(change.clone(), count);
            }
            shard.restore_frame_no(*no);
        }
        shard.take_back(desk);
        shard
    }

    /// The rows of a shard, with their texts.
    fn rows(&self, shard: &Shard) -> Vec<CommandRow> {
        let lanes = shard.servers.places().map(|place| &shard.servers[place].lane);
        let mut rows: Vec<_> =
            lanes.flat_map(|lane| lane.slots_from(0)).map(|slot| shard.row(slot)).collect();
        rows.iter_mut().for_each(|row| self.rest.complete(row));
        rows
    }

    fn compare(&mut self) {
        self.durable();
        while self.shard.has_work() {
            self.input(Input::Tick);
        }
        self.seal();
        let restored = self.restored(FrameNo(u64::MAX));
        let seed = self.seed;
        let mut ours = BTreeSet::new();
        for row in self.rows(&self.shard) {
            ours.insert(row.id);
            let place = restored.find(row.id);
            let other =
                place.map(|slot| restored.row(slot)).or_else(|| self.rest.ended.get(&row.id).cloned());
            let other = other.map(|mut other| {
                self.rest.complete(&mut other);
                other
            });
            assert_eq!(other.as_ref(), Some(&row), "seed {seed}");
            self.compared += 1;
        }
        for row in self.rows(&restored).into_iter().filter(|row| !ours.contains(&row.id)) {
            assert_eq!(self.rest.ended.get(&row.id), Some(&row), "seed {seed}");
        }
        assert_eq!(self.shard.desk.next_seq(), restored.desk.next_seq(), "seed {seed}");
        for order in self.shard.desk.orders.rows_after(Seq(0), usize::MAX) {
            let other = restored.desk.orders.find(order.id.seq);
            let other = other.or_else(|| self.rest.orders.get(&order.id).cloned());
            assert_eq!(other.as_ref(), Some(&order), "seed {seed}");
        }
        let orders = self.shard.desk.orders.rows_after(Seq(0), usize::MAX);
        let keys = orders.filter_map(|order| order.key).chain(self.rest.keys.iter().map(|row| row.digest));
        for digest in keys {
            // One whose time is over is forgotten, and not at rest at the same moment.
            if let Some(found) = self.shard.desk.keys.find(digest) {
                assert_eq!(restored.desk.keys.find(digest), Some(found), "seed {seed}");
                assert!(found.same_body, "seed {seed}");
            }
        }
        for server in SERVERS {
            let totals = |shard: &Shard| {
                let place = shard.servers.find(server).expect("a known server");
                (shard.servers[place].counts, shard.servers[place].totals())
            };
            assert_eq!(totals(&self.shard), totals(&restored), "seed {seed}");
        }
    }

    /// The process dies: what is not durable is lost; another starts.
    fn crash(&mut self) {
        let durable = self.durable;
        let mut shard = self.restored(durable);
        self.journal.retain(|(no, _)| *no <= durable);
        self.underway = None;
        self.wanted.clear();
        self.boot += 1;
        let mut out = Vec::new();
        shard.restore_done(UnixMs(self.now), &mut out);
        self.shard = shard;
        assert_consistent(&self.shard, self.seed);
    }
}

/// What must hold between the structures of a shard.
fn assert_consistent(shard: &Shard, seed: u64) {
    let texts = shard.commands.iter().filter_map(|command| command.text.as_ref());
    assert_eq!(texts.map(|text| text.len() as u64).sum::<u64>(), shard.text_bytes, "seed {seed}");
    for place in shard.servers.places() {
        let server = &shard.servers[place];
        let mut counts = [0; 8];
        let mut out = 0;
        for slot in server.lane.slots_from(0) {
            let command = &shard.commands[slot];
            counts[command.status as usize - 1] += 1;
            out += u32::from(command.status == Status::Delivered && !command.is(command::Flag::Polled));
            let due = command.status == Status::Pending && command.is_due(shard.now);
            if due && !shard.timers_left && !shard.is_blocked(slot) {
                assert!(server.lane.knows(command), "seed {seed}: ready, and nobody will look");
            }
        }
        for status in [0, 1, 2, 4, 5] {
            assert_eq!(counts[status], server.counts[status], "seed {seed}");
        }
        if let Some(session) = &server.session {
            assert_eq!(session.outstanding, out, "seed {seed}");
        }
        let sendable = server.has_room() && server.lane.has_candidates();
        assert!(!sendable || server.in_ring, "seed {seed}: a server is forgotten");
    }
    assert_eq!(shard.counters().swept, 0, "seed {seed}");
}

fn run(seed: u64, steps: usize) -> usize {
    let mut world = World::new(seed);
    for _ in 0..steps {
        world.act();
        assert_consistent(&world.shard, seed);
        if world.chance(40) {
            world.compare();
        }
        if world.chance(150) {
            world.crash();
        }
    }
    world.compared
}

#[test]
fn a_restored_shard_equals_the_one_that_ran() {
    let compared: usize = (1..100).map(|seed| run(seed, 800)).sum();
    assert!(compared > 1000, "{compared}");
}
