//! Everybody at one table: the broker's steps, the disk, clients and time, each having its turn as the seed says. Must never
//! let time go back, nor anything depend on what the seed does not decide.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::OnceLock;
use std::time::Duration;

use fluxrelay::broker::{Settings, Stepped, ToPeer};
use fluxrelay::engine::{self, Hello, PluginOut, Reply};
use fluxrelay::ids::{ServerId, ShardNo, StoreId};
use fluxrelay::time::{Millis, UnixMs};

use crate::calls::{Bulk, Call, CallKind};
use crate::checker::Checker;
use crate::disk::{Disk, Image, JOURNAL, STORE};
use crate::network::{Link, Peer, Up};
use crate::plugin::Plugin;
use crate::publisher::{Asked, Publisher};
use crate::random::Random;
use crate::trace::Trace;

pub(crate) const START: u64 = 1_767_225_600_000;
/// Steps without an end are a fault, not patience.
const STEPS_MAX: u64 = 3_000_000;

/// Something that happens at its time.
#[derive(Debug)]
pub(crate) enum Event {
    Arrive(u64, Up),
    LetIn(u64, Box<Hello>),
    Reach(u64, ToPeer),
    Cut(u64),
    Lost(u64),
    Call(Box<CallKind>),
    Answer(Box<(CallKind, Reply)>),
    Plugin(ServerId),
    PluginStart(ServerId),
    Unwelcomed(ServerId, u64),
    Publisher(usize),
    Players,
    Operator,
    Keeper(u64),
    Fault,
    SpaceAgain,
    Exit(u64),
    Restart(u64),
}

/// A registered server.
#[derive(Debug)]
pub(crate) struct Registered {
    pub(crate) store: StoreId,
    pub(crate) generation: u32,
    /// Sessions of earlier generations have ended, as whoever regenerated the token was told.
    pub(crate) ended_below: u32,
}

/// See the module.
pub(crate) struct World {
    pub(crate) random: Random,
    pub(crate) now: u64,
    queue: BTreeMap<(u64, u64), Event>,
    ordinal: u64,
    steps: u64,
    pub(crate) trace: Trace,
    pub(crate) disk: Disk,
    pub(crate) broker: Option<Stepped>,
    /// Rises with each start and each end of the broker.
    pub(crate) life: u64,
    settings: Settings,
    pub(crate) registry: BTreeMap<ServerId, Registered>,
    pub(crate) links: BTreeMap<u64, Link>,
    pub(crate) next_link: u64,
    pub(crate) plugins: BTreeMap<ServerId, Plugin>,
    pub(crate) publishers: Vec<Publisher>,
    pub(crate) asked: BTreeMap<u64, Asked>,
    pub(crate) next_request: u64,
    pub(crate) calls: Vec<Call>,
    pub(crate) bulks: BTreeMap<u64, Bulk>,
    pub(crate) next_bulk: u64,
    pub(crate) checker: Checker,
    /// Commits are not made before.
    pub(crate) disk_slow_until: u64,
    exiting: bool,
    /// Everything is put right, and nothing breaks any more.
    pub(crate) healing: bool,
}

/// What a first start leaves: files are made under another name, so no crash is seen before this.
fn made() -> Image {
    static MADE: OnceLock<Image> = OnceLock::new();
    MADE.get_or_init(|| {
        let disk = Disk::new(Image::default(), Random::new(0));
        let settings = Settings::new("simulation".into());
        let (journal, store) = (disk.file(JOURNAL), disk.file(STORE));
        let broker = Stepped::open(journal, store, &settings, [], UnixMs(START)).expect("a sound disk");
        broker.end(UnixMs(START));
        disk.image()
    })
    .clone()
}

fn settings() -> Settings {
    Settings {
        engine: engine::Settings {
            retry_delays: [2, 4, 8].map(Millis::seconds).to_vec(),
            ack_deadline: Millis::seconds(10),
            unanswered_max: 4,
            absent_recheck: Millis::seconds(3),
            sweep_every: Millis::seconds(5),
            poll_min_seconds: 2,
            poll_max_seconds: 20,
            poll_grace: Millis(5_003),
            queue_max: 30,
            texts_kept: 40,
            step_budget: 8,
            ..engine::Settings::default()
        },
        checkpoint_every: Millis::seconds(4),
        ..Settings::new("simulation".into())
    }
}

impl World {
    pub(crate) fn new(seed: u64, loud: bool) -> World {
        let mut random = Random::new(seed);
        let disk = Disk::new(made(), Random::new(random.next()));
        let mut world = World {
            random,
            now: START,
            queue: BTreeMap::new(),
            ordinal: 0,
            steps: 0,
            trace: Trace::new(loud),
            disk,
            broker: None,
            life: 0,
            settings: settings(),
            registry: BTreeMap::new(),
            links: BTreeMap::new(),
            next_link: 0,
            plugins: BTreeMap::new(),
            publishers: Vec::from([1, 2].map(StoreId).map(Publisher::new)),
            asked: BTreeMap::new(),
            next_request: 0,
            calls: Vec::new(),
            bulks: BTreeMap::new(),
            next_bulk: 0,
            checker: Checker::default(),
            disk_slow_until: 0,
            exiting: false,
            healing: false,
        };
        for server in 1..=4 {
            world.add_server(ServerId(server));
        }
        world.start_broker();
        for who in 0..world.publishers.len() {
            world.schedule(START, Event::Publisher(who));
        }
        world.schedule(START + 500, Event::Players);
        world.schedule(START + 2_000, Event::Operator);
        world.schedule(START + 3_000, Event::Fault);
        world
    }

    /// A server is registered; its plugin starts.
    pub(crate) fn add_server(&mut self, server: ServerId) {
        let store = StoreId(1 + server.0 % 2);
        self.registry.insert(server, Registered { store, generation: 1, ended_below: 0 });
        self.plugins.insert(server, Plugin::default());
        if let Some(broker) = &self.broker {
            broker.tell(server, engine::Input::ServerAdded { server, store });
        }
        self.schedule(self.now + 10, Event::PluginStart(server));
    }

    pub(crate) fn schedule(&mut self, at: u64, event: Event) {
        self.ordinal += 1;
        self.queue.insert((at.max(self.now), self.ordinal), event);
    }

    /// Goes on until then.
    pub(crate) fn run_until(&mut self, then: u64) {
        while self.now < then {
            self.step();
        }
    }

    /// One turn of somebody, or the time up to it.
    fn step(&mut self) {
        self.steps += 1;
        assert!(self.steps < STEPS_MAX, "it never comes to rest");
        let next = self.queue.first_key_value().map_or(u64::MAX, |((at, _), _)| *at);
        let actors = self.ready();
        let impatient = next <= self.now && self.random.chance(1, 3);
        if !actors.is_empty() && !impatient && !self.random.chance(1, 16) {
            let actor = *self.random.pick(&actors).expect("there are some");
            return self.act(actor);
        }
        let wake = self.next_wake();
        if wake.0 < next {
            self.now = self.now.max(wake.0);
            return self.act(Some(wake.1));
        }
        let ((at, _), event) = self.queue.pop_first().expect("somebody always comes again");
        self.now = self.now.max(at);
        self.happen(event);
        self.look_around();
    }

    /// Threads of the broker that have something to do now: a shard, or (`None`) the journal.
    fn ready(&self) -> Vec<Option<ShardNo>> {
        let Some(broker) = &self.broker else { return Vec::new() };
        let now = UnixMs(self.now);
        let busy = |no: &ShardNo| broker.waiting(*no) > 0 || broker.sleep(*no, now) == Duration::ZERO;
        let mut ready: Vec<Option<ShardNo>> =
            (0..broker.shards()).map(ShardNo).filter(busy).map(Some).collect();
        if broker.journal_waiting() > 0 && (self.disk_slow_until <= self.now || self.healing) {
            ready.push(None);
        }
        ready
    }

    /// When the first shard wakes up by itself.
    fn next_wake(&self) -> (u64, ShardNo) {
        let Some(broker) = &self.broker else { return (u64::MAX, ShardNo(0)) };
        let at = |no: ShardNo| (self.now + broker.sleep(no, UnixMs(self.now)).as_millis() as u64, no);
        (0..broker.shards()).map(ShardNo).map(at).min_by_key(|(at, _)| *at).expect("there is a shard")
    }

    fn act(&mut self, actor: Option<ShardNo>) {
        let most = [1, 2, 8, 512][self.random.below(4) as usize];
        let broker = self.broker.as_mut().expect("it has something to do");
        match actor {
            Some(no) => broker.step_shard(no, UnixMs(self.now), most),
            None => {
                // Mostly one of the shards commits for all.
                let by = (most > 1).then(|| ShardNo((self.now % u64::from(broker.shards())) as u16));
                broker.step_journal(by, UnixMs(self.now), most);
            }
        }
        self.look_around();
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Arrive(link, up) => self.arrive(link, up),
            Event::LetIn(link, hello) => self.let_in(link, *hello),
            Event::Reach(link, message) => self.reach(link, message),
            Event::Cut(link) => self.cut_at_broker(link),
            Event::Lost(link) => self.lost(link),
            Event::Call(kind) => self.call(*kind),
            Event::Answer(answer) => self.answered(answer.0, answer.1),
            Event::Plugin(server) => self.plugin_turn(server),
            Event::PluginStart(server) => self.plugin_start(server),
            Event::Unwelcomed(server, link) => self.plugin_unwelcomed(server, link),
            Event::Publisher(who) => self.publisher_turn(who),
            Event::Players => self.players_turn(),
            Event::Operator => self.operator_turn(),
            Event::Keeper(life) if life == self.life => self.keeper_turn(),
            Event::Keeper(_) => {}
            Event::Fault => self.fault_turn(),
            Event::SpaceAgain => self.disk.set_full(false),
            Event::Exit(life) if life == self.life => self.end_broker(false),
            Event::Exit(_) => {}
            Event::Restart(life) if life == self.life => self.start_broker(),
            Event::Restart(_) => {}
        }
    }

    /// What came of the last turn.
    fn look_around(&mut self) {
        // Answers first: a row that was read before a result came may be answered in the same turn as its confirmation.
        self.collect_answers(false);
        self.collect_mail();
        // Last: a token that is told to be dead is held against all mail of this turn.
        self.collect_answers(true);
        self.checker.check_orders(self.now);
        let Some(broker) = &self.broker else { return };
        for event in broker.take_events() {
            self.trace.whisper(self.now, format_args!("{event:?}"));
            self.checker.on_event(&event);
        }
        for what in self.disk.take_happened() {
            self.trace.note(self.now, what, format_args!(""));
        }
        if self.disk.is_dead() {
            return self.end_broker(true);
        }
        let failure = broker.failure();
        if let Some(error) = failure.filter(|_| !self.exiting) {
            self.trace.note(self.now, "broker failed", format_args!("{error}"));
            self.exit_soon();
        }
    }

    /// The process ends as soon as it has told its connections.
    pub(crate) fn exit_soon(&mut self) {
        if !std::mem::replace(&mut self.exiting, true) {
            let at = self.now + self.random.below(200);
            self.schedule(at, Event::Exit(self.life));
        }
    }

    // ------------------------------------------------------------ the broker's life

    fn start_broker(&mut self) {
        assert!(self.broker.is_none(), "one broker at a time");
        self.settings.shards = 1 + self.random.below(3) as u16;
        let servers: Vec<_> = self.registry.iter().map(|(id, known)| (*id, known.store)).collect();
        let (journal, store) = (self.disk.file(JOURNAL), self.disk.file(STORE));
        let opened = Stepped::open(journal, store, &self.settings, servers, UnixMs(self.now));
        for what in self.disk.take_happened() {
            self.trace.note(self.now, what, format_args!("while starting"));
        }
        match opened {
            Ok(broker) => {
                self.life += 1;
                let (shards, report) = (broker.shards(), broker.report());
                assert!(report.missing.is_empty(), "frames are missing: {report:?}");
                self.trace.note(
                    self.now,
                    "broker starts",
                    format_args!("{shards} shards, {} live, {} frames", report.live, report.frames),
                );
                self.trace.count("frames replayed", report.frames);
                self.broker = Some(broker);
                self.exiting = false;
                self.schedule(self.now + 20, Event::Keeper(self.life));
                self.audit();
            }
            Err(error) => {
                self.trace.note(self.now, "start failed", format_args!("{error}"));
                let power = self.disk.is_dead() || self.random.chance(1, 3);
                self.disk.end_process(power);
                self.restart_later();
            }
        }
    }

    fn restart_later(&mut self) {
        let at = self.now + 100 + self.random.below(if self.healing { 500 } else { 5_000 });
        self.schedule(at, Event::Restart(self.life));
    }

    /// The broker's process is gone; with `power` the machine was, too.
    pub(crate) fn end_broker(&mut self, power: bool) {
        let Some(broker) = self.broker.take() else { return };
        self.life += 1;
        let power = power || self.disk.is_dead();
        self.trace.note(self.now, if power { "power loss" } else { "broker ends" }, format_args!(""));
        let swept: u64 = (0..broker.shards()).map(|no| broker.counters(ShardNo(no)).swept).sum();
        assert_eq!(swept, 0, "the sweep found something");
        // First, so that nothing is written while it is put away.
        self.disk.end_process(power);
        drop(broker);
        self.gone(power);
    }

    fn gone(&mut self, power: bool) {
        self.lose_all_links(power);
        self.calls.clear();
        self.bulks.clear();
        self.restart_later();
    }

    /// An orderly stop: go-away, a last checkpoint, then the threads end.
    pub(crate) fn stop_broker(&mut self) {
        let Some(broker) = &self.broker else { return };
        self.trace.note(self.now, "broker stops in order", format_args!(""));
        broker.go_away(1_000);
        let life = self.life;
        if !self.keeper_look(true) || self.life != life {
            return;
        }
        let Some(broker) = self.broker.take() else { return };
        self.life += 1;
        broker.end(UnixMs(self.now));
        let power = self.disk.is_dead();
        self.disk.end_process(power);
        self.gone(power);
    }

    fn keeper_turn(&mut self) {
        let life = self.life;
        self.keeper_look(false);
        if self.life == life {
            let at = self.now + 250 + self.random.below(3_000);
            self.schedule(at, Event::Keeper(life));
        }
    }

    /// One look of the keeper, during which the others go on; false when there is none to look.
    pub(crate) fn keeper_look(&mut self, stop: bool) -> bool {
        let Some(mut keeper) = self.broker.as_mut().and_then(Stepped::take_keeper) else { return false };
        let (life, now) = (self.life, UnixMs(self.now));
        let go_on = keeper.look(now, stop, &mut || {
            self.step();
            self.life == life && !self.exiting
        });
        self.look_around();
        if self.life == life && go_on {
            self.broker.as_mut().expect("it lives").put_keeper(keeper);
        }
        true
    }

    // ------------------------------------------------------------ what left the broker

    /// A message leaves the broker: from now on it is a promise.
    pub(crate) fn on_said(&mut self, id: u64, message: &ToPeer) {
        let link = self.links.get_mut(&id).expect("it was there a moment ago");
        let (Peer::Plugin(server), ToPeer::Plugin(message)) = (link.peer, message) else {
            if let ToPeer::Published { request, result } = message {
                self.on_answered(*request, result);
            }
            return;
        };
        assert!(!link.closed, "link {id} of {server} is closed and gets {message:?}");
        let generation = link.generation;
        let ended = self.registry.get(&server).is_some_and(|known| generation < known.ended_below);
        match message {
            PluginOut::Close(reason) => {
                self.trace.note(self.now, "closed by broker", format_args!("{server} {id} {reason:?}"));
            }
            other => assert!(!ended, "{server} was given a new token, and {id} of before gets {other:?}"),
        }
        match message {
            PluginOut::Welcome { epoch, forget } => {
                self.trace.note(self.now, "welcome", format_args!("{server} {id} forget {}", forget.len()));
                self.checker.on_welcome(server, epoch.0);
                self.check_only(server, id);
                self.links.get_mut(&id).expect("just found").heard = true;
            }
            PluginOut::Deliver(deliveries) => {
                self.check_only(server, id);
                for delivery in deliveries {
                    let (seq, attempt) = (delivery.seq.0, delivery.attempt);
                    self.trace.note(self.now, "delivered", format_args!("{server} {id} {seq} {attempt}"));
                }
                self.checker.on_deliveries(self.now, server, deliveries);
            }
            PluginOut::Confirm { batch } => {
                self.trace.note(self.now, "confirmed", format_args!("{server} {id} {batch}"));
                let link = self.links.get_mut(&id).expect("just found");
                let later = link.batches.split_off(&(batch + 1));
                let done = std::mem::replace(&mut link.batches, later);
                for result in done.values().flatten() {
                    self.checker.on_confirmed(server, result);
                }
            }
            PluginOut::Close(_) => {}
        }
    }

    /// Of several connections of one server, only the newest is spoken to.
    fn check_only(&self, server: ServerId, id: u64) {
        let conn = self.links[&id].conn;
        let newer = |link: &&Link| {
            link.server() == Some(server) && link.is_of(self.life) && link.conn > conn && link.heard
        };
        let newer = self.links.values().find(newer);
        assert!(newer.is_none(), "{server}: link {id} is spoken to after a newer one was: {newer:?}");
    }

    /// Asks for every command that was promised.
    pub(crate) fn audit(&mut self) {
        let promised = self.checker.plans.iter().filter_map(|plan| plan.acked.as_ref());
        let ids: BTreeSet<_> = promised.flat_map(|(_, ids)| ids.iter().copied()).collect();
        self.trace.note(self.now, "audit", format_args!("{} commands", ids.len()));
        for id in ids {
            self.call(CallKind::Audit(id));
        }
    }
}
