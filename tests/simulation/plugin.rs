//! A plugin as protocol.md describes it, over the client's own ledger: it crashes at any step, loses its connection, polls
//! in between. Must never run anything that its ledger did not allow, nor forget what the broker did not answer for.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::Path;

use fluxrelay::client::{Entry, Ledger, LedgerError, Outcome as Told, Report};
use fluxrelay::engine::{
    CloseReason, CommandResult, Delivery, Hello, Outcome, Player, PlayerNews, PluginOut,
};
use fluxrelay::ids::{Seq, ServerId};

use crate::network::{Peer, Up};
use crate::paper::Paper;
use crate::world::{Event, World};

pub(crate) const PLAYERS: [&str; 3] = ["Steve", "Alex", "Notch"];

/// The game server's machine.
#[derive(Debug, Default)]
pub(crate) struct Plugin {
    pub(crate) paper: Paper,
    /// `None` while it is down.
    pub(crate) process: Option<Process>,
    /// A wake-up is on its way.
    awake: bool,
}

/// One process of the plugin.
#[derive(Debug)]
pub(crate) struct Process {
    pub(crate) ledger: Ledger,
    pub(crate) link: Option<u64>,
    pub(crate) welcomed: bool,
    listed_in_doubt: Vec<Seq>,
    batch: u64,
    pub(crate) unsent: VecDeque<Seq>,
    pub(crate) unconfirmed: VecDeque<(u64, Vec<(Seq, u16)>)>,
    /// Confirmed on a connection, and the latest request then: an answer to an earlier poll may bring it once more.
    pub(crate) confirmed: BTreeMap<Seq, u64>,
    /// Which process it is: an answer to another one's call is none to it.
    pub(crate) instance: u64,
    /// An answer to a poll of before is too old: what it brings may have been settled since.
    pub(crate) settled: u64,
    running: Vec<Running>,
    /// Not run, because the player is absent: answers without a ledger entry.
    pub(crate) absent: Vec<(Seq, u16)>,
    /// Such answers are in the ledger instead, as the client library has them.
    writes_absent: bool,
    reconnect_at: u64,
    /// It polls until then, instead of connecting (or beside it).
    pub(crate) polls_until: u64,
    pub(crate) next_poll_at: u64,
    /// A call whose answer is awaited until then.
    pub(crate) calling_until: u64,
    pub(crate) online: BTreeSet<&'static str>,
}

#[derive(Debug)]
struct Running {
    seq: Seq,
    attempt: u16,
    text: String,
    at: u64,
    ran: Option<bool>,
}

pub(crate) fn players(names: &BTreeSet<&'static str>) -> Vec<Player> {
    names.iter().map(|name| player(name)).collect()
}

pub(crate) fn player(name: &str) -> Player {
    Player { name: name.into(), uuid: None }
}

pub(crate) fn outcome(told: Told) -> Outcome {
    match told {
        Told::Completed => Outcome::Completed,
        Told::Failed => Outcome::Failed,
        Told::AwaitingPlayer => Outcome::AwaitingPlayer,
        Told::InDoubt => Outcome::InDoubt,
    }
}

pub(crate) fn result(seq: Seq, attempt: u16, outcome: Outcome) -> CommandResult {
    CommandResult { seq, attempt: Some(attempt), outcome, error: None, output: None }
}

impl Process {
    /// Writes down that these await their players.
    fn write_absent(&mut self, commands: &[(Seq, u16)]) -> Result<(), LedgerError> {
        self.forget_answers(commands);
        self.ledger.begin(commands)?;
        let reports = commands.iter().map(|(seq, attempt)| Report::new(*seq, *attempt, Told::AwaitingPlayer));
        self.ledger.finish(reports, &mut self.unsent)
    }

    /// These came again: what was said of them before is over.
    fn forget_answers(&mut self, commands: &[(Seq, u16)]) {
        let again = |seq: Seq| commands.iter().any(|(other, _)| *other == seq);
        self.unsent.retain(|seq| !again(*seq));
        self.unconfirmed.iter_mut().for_each(|(_, sent)| sent.retain(|(seq, _)| !again(*seq)));
    }
}

impl World {
    pub(crate) fn process(&mut self, server: ServerId) -> Option<&mut Process> {
        self.plugins.get_mut(&server)?.process.as_mut()
    }

    /// Starts the process of a plugin that is down.
    pub(crate) fn plugin_start(&mut self, server: ServerId) {
        let Some(plugin) = self.plugins.get_mut(&server) else { return };
        if plugin.process.is_some() || !self.registry.contains_key(&server) {
            return;
        }
        let paper = plugin.paper.clone();
        let bytes = paper.bytes();
        let ledger = Ledger::open_on(Box::new(paper), &bytes, Path::new("ledger"), server)
            .unwrap_or_else(|error| panic!("{server}: {error}"));
        for (seq, entry) in ledger.entries() {
            if let Entry::InDoubt(attempt) = entry {
                self.trace.note(self.now, "in doubt", format_args!("{server} {} {attempt}", seq.0));
                self.checker.on_doubt(server, seq, *attempt);
            }
        }
        let now = self.now;
        self.next_request += 1;
        let polls = !self.healing && self.random.chance(1, 4);
        let process = Process {
            ledger,
            link: None,
            welcomed: false,
            listed_in_doubt: Vec::new(),
            batch: 0,
            unsent: VecDeque::new(),
            unconfirmed: VecDeque::new(),
            confirmed: BTreeMap::new(),
            instance: self.next_request,
            settled: self.next_request,
            running: Vec::new(),
            absent: Vec::new(),
            writes_absent: self.next_request.is_multiple_of(2),
            reconnect_at: now,
            polls_until: if polls { now + self.random.below(60_000) } else { 0 },
            next_poll_at: now,
            calling_until: 0,
            online: BTreeSet::new(),
        };
        self.trace.note(
            now,
            "plugin starts",
            format_args!("{server}, {} in the ledger", process.ledger.len()),
        );
        self.plugins.get_mut(&server).expect("just found").process = Some(process);
        if self.healing {
            self.all_players_join(server);
        }
        self.plugin_wakes_in(server, 1);
    }

    /// The process is gone, and with `power` the machine was, too.
    pub(crate) fn plugin_crash(&mut self, server: ServerId, power: bool) {
        let Some(plugin) = self.plugins.get_mut(&server) else { return };
        let Some(process) = plugin.process.take() else { return };
        self.trace.note(
            self.now,
            if power { "plugin loses power" } else { "plugin killed" },
            format_args!("{server}, {} running", process.running.len()),
        );
        self.trace.count("plugin crash while running", u64::from(!process.running.is_empty()));
        plugin.paper.end_process(power, &mut self.random);
        if let Some(link) = process.link {
            self.break_link(link);
        }
        let at = self.now + 50 + self.random.below(5_000);
        self.schedule(at, Event::PluginStart(server));
    }

    pub(crate) fn plugin_wakes_in(&mut self, server: ServerId, span: u64) {
        let Some(plugin) = self.plugins.get_mut(&server) else { return };
        if !std::mem::replace(&mut plugin.awake, true) {
            let at = self.now + span;
            self.schedule(at, Event::Plugin(server));
        }
    }

    /// A turn of the plugin: some of what it has to do.
    pub(crate) fn plugin_turn(&mut self, server: ServerId) {
        let Some(plugin) = self.plugins.get_mut(&server) else { return };
        plugin.awake = false;
        if plugin.process.is_none() {
            return;
        }
        self.plugin_runs(server);
        if self.process(server).is_none() {
            return;
        }
        self.plugin_connects(server);
        self.plugin_reports(server);
        self.plugin_polls(server);
        let span = 20 + self.random.below(if self.healing { 200 } else { 900 });
        self.plugin_wakes_in(server, span);
    }

    fn plugin_runs(&mut self, server: ServerId) {
        let now = self.now;
        let running = std::mem::take(&mut self.process(server).expect("it is up").running);
        let mut left = Vec::new();
        for mut command in running {
            if command.at > now || self.random.chance(1, 8) {
                left.push(command);
                continue;
            }
            let Some(ok) = command.ran else {
                let ok = self.healing || !self.random.chance(1, 6);
                self.trace.note(
                    now,
                    "run",
                    format_args!("{server} {} {} {ok}", command.seq.0, command.attempt),
                );
                self.checker.on_run(server, command.seq, command.attempt, &command.text, ok);
                command.ran = Some(ok);
                command.at = now + self.random.below(1_500);
                left.push(command);
                continue;
            };
            let told = if ok { Told::Completed } else { Told::Failed };
            let mut report = Report::new(command.seq, command.attempt, told);
            if self.random.chance(1, 3) {
                report.output = Some("done".to_owned());
            }
            let mut taken = Vec::new();
            let process = self.process(server).expect("it is up");
            let written = process.ledger.finish([report], &mut taken);
            process.unsent.extend(taken);
            if written.is_err() {
                return self.plugin_crash(server, true);
            }
        }
        let process = self.process(server).expect("it is up");
        left.append(&mut process.running);
        process.running = left;
    }

    fn plugin_connects(&mut self, server: ServerId) {
        let (now, healing) = (self.now, self.healing);
        let process = self.process(server).expect("it is up");
        let polls = process.polls_until > now && !healing;
        if process.link.is_some() || process.reconnect_at > now || polls {
            return;
        }
        process.reconnect_at = now + 500;
        let Some(link) = self.dial(Peer::Plugin(server)) else { return };
        let window = if healing { 64 } else { 1 + self.random.below(12) as u32 };
        // At the end players are told by joining alone.
        let reports = !healing && self.random.chance(3, 4);
        let process = self.process(server).expect("it is up");
        let mut hello = Hello { window, ..Hello::default() };
        for (seq, entry) in process.ledger.entries() {
            match entry {
                Entry::Started(_) => hello.started.push(seq),
                Entry::Finished(_) => hello.finished.push(seq),
                Entry::InDoubt(_) => hello.in_doubt.push(seq),
            }
        }
        hello.players = reports.then(|| players(&process.online));
        process.link = Some(link);
        process.welcomed = false;
        process.batch = 0;
        process.unsent.clear();
        process.unconfirmed.clear();
        process.listed_in_doubt = hello.in_doubt.clone();
        self.say(link, Up::Hello(Box::new(hello)));
        // Nobody waits for a welcome for ever.
        self.schedule(now + 8_000, Event::Unwelcomed(server, link));
    }

    /// The welcome has not come in time.
    pub(crate) fn plugin_unwelcomed(&mut self, server: ServerId, link: u64) {
        if self.process(server).is_some_and(|process| process.link == Some(link) && !process.welcomed) {
            self.lost(link);
        }
    }

    pub(crate) fn plugin_lost(&mut self, server: ServerId, link: u64) {
        let pause = self.random.below(if self.healing { 300 } else { 3_000 });
        let now = self.now;
        let Some(process) = self.process(server) else { return };
        if process.link == Some(link) {
            process.link = None;
            process.reconnect_at = now + pause;
        }
    }

    pub(crate) fn plugin_hears(&mut self, server: ServerId, link: u64, message: PluginOut) {
        if self.process(server).is_none_or(|process| process.link != Some(link)) {
            return;
        }
        match message {
            PluginOut::Welcome { forget, .. } => self.plugin_welcomed(server, link, forget),
            PluginOut::Deliver(deliveries) => self.plugin_takes(server, deliveries),
            PluginOut::Confirm { batch } => self.plugin_confirmed(server, batch),
            PluginOut::Close(CloseReason::ServerRemoved) => {
                self.plugins.get_mut(&server).expect("it is up").process = None;
            }
            PluginOut::Close(_) => self.lost(link),
        }
        self.plugin_wakes_in(server, 1);
    }

    fn plugin_welcomed(&mut self, server: ServerId, link: u64, mut forget: Vec<Seq>) {
        self.next_request += 1;
        let request = self.next_request;
        let process = self.process(server).expect("it listens");
        process.settled = request;
        // One that was begun anew meanwhile, by a poll, is not in doubt any more.
        let listed = std::mem::take(&mut process.listed_in_doubt);
        let doubted = |seq: &Seq| matches!(process.ledger.entry(*seq), Some(Entry::InDoubt(_)));
        forget.extend(listed.into_iter().filter(doubted));
        process.welcomed = true;
        process.running.retain(|command| !forget.contains(&command.seq) || command.ran.is_some());
        let written = process.ledger.forget(&forget);
        let finished = |(seq, entry): (Seq, &Entry)| matches!(entry, Entry::Finished(_)).then_some(seq);
        process.unsent = process.ledger.entries().filter_map(finished).collect();
        let online = players(&process.online);
        if written.is_err() {
            return self.plugin_crash(server, true);
        }
        if self.healing {
            self.say(link, Up::Players(PlayerNews::Joined(online)));
        } else if self.random.chance(1, 2) {
            self.say(link, Up::Players(PlayerNews::Online(online)));
        }
    }

    /// Deliveries, pushed or polled.
    pub(crate) fn plugin_takes(&mut self, server: ServerId, deliveries: Vec<Delivery>) {
        if self.random.chance(1, 60) && !self.healing {
            return self.plugin_crash(server, false);
        }
        let now = self.now;
        let mut spans: Vec<u64> = deliveries.iter().map(|_| self.random.below(2_000)).collect();
        if self.healing {
            spans.fill(0);
        }
        let process = self.process(server).expect("it listens");
        let (mut fresh, mut intents, mut absent) = (Vec::new(), Vec::new(), Vec::new());
        for (delivery, span) in deliveries.into_iter().zip(spans) {
            let (seq, attempt) = (delivery.seq, delivery.attempt);
            if !process.ledger.is_new(seq, attempt) {
                // Its result is on its way, or will be; only what an earlier process began has to be told of here.
                if matches!(process.ledger.entry(seq), Some(Entry::Finished(_)))
                    && !process.unsent.contains(&seq)
                {
                    process.unsent.push_back(seq);
                }
                continue;
            }
            let name = delivery.player.as_ref().map(|player| player.name.clone());
            if delivery.require_online && !name.is_some_and(|name| process.online.contains(&*name)) {
                absent.push((seq, attempt));
                continue;
            }
            intents.push((seq, attempt));
            fresh.push(Running { seq, attempt, text: delivery.text.to_string(), at: now + span, ran: None });
        }
        if !process.writes_absent {
            process.absent.append(&mut absent);
        } else if !absent.is_empty() && process.write_absent(&absent).is_err() {
            return self.plugin_crash(server, true);
        }
        if intents.is_empty() {
            return;
        }
        process.forget_answers(&intents);
        if process.ledger.begin(&intents).is_err() {
            return self.plugin_crash(server, true);
        }
        process.running.append(&mut fresh);
        if let (Some(link), true) = (process.link, process.welcomed)
            && self.random.chance(1, 4)
        {
            self.say(link, Up::Started(intents.iter().map(|(seq, _)| *seq).collect()));
        }
        if self.random.chance(1, 60) && !self.healing {
            self.plugin_crash(server, false);
        }
    }

    fn plugin_confirmed(&mut self, server: ServerId, batch: u64) {
        let process = self.process(server).expect("it listens");
        let mut answered = Vec::new();
        while process.unconfirmed.front().is_some_and(|(number, _)| *number <= batch) {
            answered.extend(process.unconfirmed.pop_front().expect("just looked").1);
        }
        self.plugin_forgets(server, &answered);
    }

    /// The broker answers for these executions.
    fn plugin_forgets(&mut self, server: ServerId, answered: &[(Seq, u16)]) {
        let request = self.next_request;
        let process = self.process(server).expect("it listens");
        let gone: Vec<Seq> = answered
            .iter()
            .filter(|(seq, attempt)| match process.ledger.entry(*seq) {
                Some(Entry::Finished(report)) => report.attempt == *attempt,
                _ => false,
            })
            .map(|(seq, _)| *seq)
            .collect();
        process.confirmed.extend(gone.iter().map(|seq| (*seq, request)));
        if process.ledger.forget(&gone).is_err() {
            self.plugin_crash(server, true);
        }
    }

    /// Some of the results that are not on this connection yet.
    fn plugin_reports(&mut self, server: ServerId) {
        let most = if self.healing { 64 } else { 1 + self.random.below(5) as usize };
        let credit = self.random.chance(1, 30).then(|| self.random.below(10) as u32);
        let healing = self.healing;
        let Some(process) = self.process(server) else { return };
        let (Some(link), true) = (process.link, process.welcomed) else { return };
        let mut results = Vec::new();
        let mut sent = Vec::new();
        while results.len() < most {
            let Some(seq) = process.unsent.pop_front() else { break };
            if let Some(Entry::Finished(report)) = process.ledger.entry(seq) {
                let mut told = result(seq, report.attempt, outcome(report.outcome));
                told.output = report.output.as_deref().map(Into::into);
                sent.push((seq, report.attempt));
                results.push(told);
            }
        }
        let absent = std::mem::take(&mut process.absent);
        results.extend(absent.iter().map(|(seq, attempt)| result(*seq, *attempt, Outcome::AwaitingPlayer)));
        if !results.is_empty() {
            process.batch += 1;
            let batch = process.batch;
            process.unconfirmed.push_back((batch, sent));
            self.say(link, Up::Results { batch, results });
        }
        if let Some(window) = credit {
            self.say(link, Up::Credit(if healing { 64 } else { window }));
        }
    }
}
