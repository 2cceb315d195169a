//! The naive queue: the rules of a command's life as plainly as possible. Slow; must never share code with the engine.

use std::collections::{BTreeMap, BTreeSet};

use fluxrelay::engine::{Note, Outcome, Status};
use fluxrelay::ids::{CommandId, ConnId, OrderId, Seq, ServerId};
use fluxrelay::time::UnixMs;

use crate::support::world::Settled;

pub(crate) const RETRIES: [u64; 3] = [30_000, 60_000, 120_000];
pub(crate) const ACK_DEADLINE: u64 = 60_000;
pub(crate) const ABSENT_RECHECK: u64 = 15_000;
pub(crate) const UNANSWERED_MAX: u16 = 3;
/// Odd, so that a poller is not given up in the very millisecond in which something else happens.
pub(crate) const POLL_GRACE: u64 = 30_007;
/// As `limits::DELIVER_COMMANDS_MAX`; a poll hands out no more.
pub(crate) const POLL_MAX: usize = 256;

#[derive(Debug, Clone)]
pub(crate) struct Command {
    pub(crate) order: OrderId,
    pub(crate) ordered: bool,
    pub(crate) text: String,
    pub(crate) player: Option<String>,
    pub(crate) online: bool,
    pub(crate) rerun: bool,
    pub(crate) expires: Option<UnixMs>,
    /// Its order is durable and has arrived at its server's shard.
    pub(crate) visible: bool,
    pub(crate) status: Status,
    pub(crate) note: Note,
    pub(crate) status_at: UnixMs,
    pub(crate) attempt: u16,
    /// The last attempt that is durable: only that may go out.
    pub(crate) durable_attempt: u16,
    pub(crate) retries: u16,
    pub(crate) unanswered: u16,
    /// Pending: not before.
    pub(crate) due: Option<UnixMs>,
    /// Delivered: offered again then.
    pub(crate) deadline: UnixMs,
    pub(crate) started: bool,
    pub(crate) polled: bool,
    pub(crate) absent_answers: u32,
    pub(crate) recheck: UnixMs,
}

#[derive(Debug, Clone)]
pub(crate) struct Session {
    pub(crate) conn: ConnId,
    pub(crate) window: u32,
    pub(crate) welcomed: bool,
    pub(crate) tells: bool,
}

#[derive(Debug, Clone, Default)]
pub(crate) struct Server {
    pub(crate) registered: bool,
    pub(crate) session: Option<Session>,
    /// It polls, and counts as online until then.
    pub(crate) polls_until: Option<UnixMs>,
    /// A full set was reported.
    pub(crate) complete: bool,
    /// Lower-cased names: online, or known to have left.
    pub(crate) players: BTreeMap<String, bool>,
}

#[derive(Debug, Clone, Default)]
pub(crate) struct Naive {
    pub(crate) now: UnixMs,
    pub(crate) commands: BTreeMap<CommandId, Command>,
    pub(crate) servers: BTreeMap<ServerId, Server>,
    /// Of each key: its body, and the order.
    pub(crate) keys: BTreeMap<u64, (u64, OrderId)>,
    pub(crate) orders: BTreeMap<OrderId, Vec<CommandId>>,
    /// Those whose end is not durable; one whose time is over is not among them.
    pub(crate) ending: BTreeSet<CommandId>,
}

pub(crate) fn terminal(status: Status) -> bool {
    matches!(status, Status::Completed | Status::Cancelled | Status::Expired)
}

impl Command {
    pub(crate) fn enter(&mut self, now: UnixMs, status: Status, note: Note) {
        self.status = status;
        self.note = note;
        self.status_at = now;
        self.due = None;
        self.started = false;
        self.polled = false;
        self.recheck = UnixMs(now.0 + ABSENT_RECHECK);
        let waits = matches!(status, Status::Pending | Status::AwaitingPlayer);
        if waits && self.expires.is_some_and(|at| at <= now) {
            self.status = Status::Expired;
            self.note = Note::None;
        }
    }

    /// A delivery came to nothing.
    pub(crate) fn unanswered(&mut self, now: UnixMs, note: Note) {
        self.unanswered += 1;
        if self.unanswered > UNANSWERED_MAX {
            self.enter(now, Status::Failed, Note::Unanswered);
        } else {
            self.enter(now, Status::Pending, note);
        }
    }

    fn deliver(&mut self, now: UnixMs, polled: bool) {
        self.enter(now, Status::Delivered, Note::None);
        self.polled = polled;
        self.deadline = UnixMs(now.0 + ACK_DEADLINE);
    }

    pub(crate) fn failed(&mut self, now: UnixMs) {
        self.unanswered = 0;
        let Some(delay) = RETRIES.get(usize::from(self.retries)) else {
            return self.enter(now, Status::Failed, Note::RetriesExhausted);
        };
        self.attempt += 1;
        self.retries += 1;
        self.enter(now, Status::Pending, Note::RetryScheduled);
        self.due = Some(UnixMs(now.0 + delay));
    }

    pub(crate) fn resend(&mut self, now: UnixMs) {
        if self.status == Status::Failed && self.note == Note::RetriesExhausted {
            self.attempt += 1;
        }
        self.retries = 0;
        self.unanswered = 0;
        self.enter(now, Status::Pending, Note::Operator);
    }

    fn is_due(&self, now: UnixMs) -> bool {
        self.due.is_none_or(|at| at <= now)
    }

    /// A plugin may hold it although it is not out.
    fn may_be_out(&self, now: UnixMs) -> bool {
        let pending = self.status == Status::Pending && self.is_due(now) && self.note != Note::RetryScheduled;
        pending || (self.status == Status::AwaitingPlayer && self.attempt == 1)
    }

    fn is_lost(&self) -> bool {
        let lost = [Note::ConnectionLost, Note::AckDeadline, Note::BrokerRestarted];
        self.status == Status::Pending && lost.contains(&self.note)
    }

    /// Whether a result says something new.
    pub(crate) fn counts(&self, outcome: Outcome, named: Option<u16>) -> bool {
        let attempt = named.unwrap_or(self.attempt);
        if outcome == Outcome::Completed {
            return attempt <= self.attempt + 1;
        }
        if attempt != self.attempt {
            return attempt == self.attempt + 1;
        }
        match self.status {
            Status::Delivered => attempt == self.attempt,
            Status::Pending => named == Some(self.attempt) || (named.is_none() && self.is_lost()),
            Status::InDoubt => !matches!(outcome, Outcome::InDoubt | Outcome::AwaitingPlayer),
            _ => self.waits_unrun() && named == Some(self.attempt) && outcome != Outcome::AwaitingPlayer,
        }
    }

    pub(crate) fn waits_unrun(&self) -> bool {
        matches!((self.status, self.note), (Status::AwaitingPlayer, _) | (Status::Failed, Note::Unanswered))
    }
}

impl Server {
    /// `None` = not known.
    pub(crate) fn presence(&self, player: &str) -> Option<bool> {
        let known = self.players.get(&player.to_lowercase()).copied();
        known.or(if self.complete { Some(false) } else { None })
    }

    pub(crate) fn forget_players(&mut self) {
        self.complete = false;
        self.players.clear();
    }
}

impl Naive {
    /// Commands of a server that its shard knows, in the order of acceptance.
    pub(crate) fn of(&self, server: ServerId) -> Vec<CommandId> {
        let mine = self.commands.iter().filter(|(id, command)| id.server == server && command.visible);
        mine.map(|(id, _)| *id).collect()
    }

    /// Its attempt is not durable, or an earlier command of the same ordered order on the same server has not ended durably.
    fn is_blocked(&self, id: CommandId) -> bool {
        let command = &self.commands[&id];
        if command.attempt > command.durable_attempt {
            return true;
        }
        let before = self.commands.range(..id).filter(|(other, _)| other.server == id.server);
        let mut before = before.filter(|(_, before)| before.order == command.order);
        let waits =
            |(id, before): (&CommandId, &Command)| !terminal(before.status) || self.ending.contains(id);
        command.ordered && before.any(waits)
    }

    /// What time alone does.
    pub(crate) fn tick(&mut self, now: UnixMs) {
        self.now = now;
        for server in self.servers.values_mut() {
            if server.polls_until.is_some_and(|until| until <= now) {
                server.polls_until = None;
                if server.session.is_none() {
                    server.forget_players();
                }
            }
        }
        for id in self.commands.keys().copied().collect::<Vec<_>>() {
            let server = &self.servers[&id.server];
            let command = self.commands.get_mut(&id).expect("just listed");
            if !command.visible {
                continue;
            }
            if command.status == Status::Delivered && command.deadline <= now {
                command.unanswered(now, Note::AckDeadline);
            }
            let waits = matches!(command.status, Status::Pending | Status::AwaitingPlayer);
            if waits && command.expires.is_some_and(|at| at <= now) {
                command.enter(now, Status::Expired, Note::None);
            }
            if command.status == Status::AwaitingPlayer
                && command.absent_answers > 0
                && command.recheck <= now
            {
                let player = command.player.clone().expect("it waits for one");
                if server.presence(&player) == Some(true) {
                    command.enter(now, Status::Pending, Note::PlayerJoined);
                } else {
                    command.recheck = UnixMs(now.0 + ABSENT_RECHECK);
                }
            }
        }
    }

    /// Commands out on the connection of a server.
    pub(crate) fn outstanding(&self, server: ServerId) -> u32 {
        let out = |command: &Command| command.status == Status::Delivered && !command.polled;
        self.commands.iter().filter(|(id, command)| id.server == server && out(command)).count() as u32
    }

    /// Hands out the first command that may go out now, if any.
    pub(crate) fn take_next(&mut self, server: ServerId, polled: bool) -> Option<CommandId> {
        let id = self.first_ready(server)?;
        self.commands.get_mut(&id).expect("just found").deliver(self.now, polled);
        Some(id)
    }

    /// The first command that may go out now; whoever is passed over for an absent player waits for the player from now on.
    fn first_ready(&mut self, server: ServerId) -> Option<CommandId> {
        for id in self.of(server) {
            let command = &self.commands[&id];
            if command.status != Status::Pending || !command.is_due(self.now) || self.is_blocked(id) {
                continue;
            }
            let presence = |player: &String| self.servers[&server].presence(player);
            if !command.online || command.player.as_ref().and_then(presence) != Some(false) {
                return Some(id);
            }
            let command = self.commands.get_mut(&id).expect("just listed");
            command.enter(self.now, Status::AwaitingPlayer, Note::PlayerAbsent);
        }
        None
    }

    fn may_push(&self, server: ServerId) -> bool {
        let session = self.servers[&server].session.as_ref();
        session.is_some_and(|session| session.welcomed && self.outstanding(server) < session.window)
    }

    /// What the connection of a server is sent next, if anything.
    pub(crate) fn push_next(&mut self, server: ServerId) -> Option<CommandId> {
        if self.may_push(server) { self.take_next(server, false) } else { None }
    }

    /// A frame is about to be durable: until now the shard looked at all but what waits for it.
    pub(crate) fn on_frame_durable(&mut self, settled: &Settled) {
        let attempts = settled.attempts.iter().map(|(id, _)| id);
        for server in settled.ended.iter().chain(attempts).map(|id| id.server).collect::<BTreeSet<_>>() {
            if self.may_push(server) {
                self.first_ready(server);
            }
        }
        self.ending.retain(|id| !settled.ended.contains(id));
        for (id, attempt) in &settled.attempts {
            if let Some(command) = self.commands.get_mut(id) {
                command.durable_attempt = command.durable_attempt.max(*attempt);
            }
        }
    }

    // ------------------------------------------------------------ sessions

    /// Returns what the plugin has to forget.
    pub(crate) fn connect(
        &mut self,
        server: ServerId,
        conn: ConnId,
        hello: &fluxrelay::engine::Hello,
    ) -> Vec<Seq> {
        let now = self.now;
        let mut forget = Vec::new();
        let mut kept = Vec::new();
        let listed = hello.started.iter().map(|seq| (*seq, true));
        let listed = listed.chain(hello.held.iter().chain(&hello.finished).map(|seq| (*seq, false)));
        for (seq, started) in listed {
            match self.live(CommandId { server, seq }) {
                None => forget.push(seq),
                Some(_) if kept.contains(&seq) => {}
                Some(command) if command.status == Status::Delivered || command.may_be_out(now) => {
                    command.deliver(now, false);
                    command.note = Note::StillHeld;
                    command.unanswered = 0;
                    command.started = started;
                    kept.push(seq);
                }
                Some(_) => {}
            }
        }
        for seq in &hello.in_doubt {
            match self.live(CommandId { server, seq: *seq }) {
                None => forget.push(*seq),
                Some(command)
                    if command.status == Status::Delivered
                        || command.may_be_out(now)
                        || command.waits_unrun() =>
                {
                    kept.retain(|other| other != seq);
                    if !command.rerun {
                        command.unanswered = 0;
                        command.enter(now, Status::InDoubt, Note::PluginInDoubt);
                    } else if command.status == Status::Delivered {
                        command.unanswered(now, Note::Rerun);
                    }
                }
                Some(_) => {}
            }
        }
        self.lose(server, &kept);
        let (window, tells) = (hello.window, hello.players.is_some());
        let of_server = self.servers.get_mut(&server).expect("it is known");
        of_server.forget_players();
        of_server.session = Some(Session { conn, window, welcomed: false, tells });
        if let Some(players) = &hello.players {
            let names: Vec<String> = players.iter().map(|player| player.name.to_string()).collect();
            self.players(server, "online", &names);
        }
        forget
    }

    pub(crate) fn live(&mut self, id: CommandId) -> Option<&mut Command> {
        self.commands.get_mut(&id).filter(|command| command.visible && !terminal(command.status))
    }

    /// What was out on the connection comes back.
    fn lose(&mut self, server: ServerId, kept: &[Seq]) {
        let now = self.now;
        for (id, command) in &mut self.commands {
            let out = command.status == Status::Delivered && !command.polled;
            if id.server == server && out && !kept.contains(&id.seq) {
                command.unanswered(now, Note::ConnectionLost);
            }
        }
    }

    pub(crate) fn disconnect(&mut self, server: ServerId) {
        let of_server = self.servers.get_mut(&server).expect("it is known");
        if of_server.session.take().is_some() {
            of_server.forget_players();
            self.lose(server, &[]);
        }
    }

    pub(crate) fn started(&mut self, id: CommandId) {
        let now = self.now;
        if let Some(command) = self.live(id).filter(|command| command.status == Status::Delivered)
            && !command.started
        {
            command.started = true;
            command.deadline = UnixMs(now.0 + ACK_DEADLINE);
        }
    }

    /// News of players, over REST or the session; returns how many commands were released.
    pub(crate) fn players(&mut self, server: ServerId, what: &str, names: &[String]) -> u32 {
        let of_server = self.servers.get_mut(&server).expect("it is known");
        if what == "online" {
            of_server.forget_players();
            of_server.complete = true;
        }
        for name in names.iter().map(|name| name.to_lowercase()) {
            match what {
                "left" if of_server.complete => drop(of_server.players.remove(&name)),
                "left" => drop(of_server.players.insert(name, false)),
                _ => drop(of_server.players.insert(name, true)),
            }
        }
        let mut released = 0;
        for (id, command) in self.commands.iter_mut().filter(|_| what != "left") {
            let came = |player: &String| names.iter().any(|name| name.eq_ignore_ascii_case(player));
            let waits = command.visible && command.status == Status::AwaitingPlayer && id.server == server;
            if waits && command.player.as_ref().is_some_and(came) {
                command.absent_answers = 0;
                command.enter(self.now, Status::Pending, Note::PlayerJoined);
                released += 1;
            }
        }
        released
    }

    // ------------------------------------------------------------ the rest

    /// The order is durable: its commands are known to their servers' shards.
    pub(crate) fn on_durable(&mut self, order: OrderId) {
        for id in self.orders[&order].clone() {
            let registered = self.servers[&id.server].registered;
            let now = self.now;
            let command = self.commands.get_mut(&id).expect("every order's commands are here");
            if command.visible {
                continue;
            }
            command.visible = true;
            let due = command.due;
            command.enter(now, Status::Pending, Note::None);
            command.due = due;
            if !registered {
                command.enter(now, Status::Cancelled, Note::ServerRemoved);
            }
        }
    }

    pub(crate) fn remove_server(&mut self, server: ServerId) {
        self.disconnect(server);
        let of_server = self.servers.get_mut(&server).expect("it is known");
        of_server.registered = false;
        of_server.polls_until = None;
        let now = self.now;
        for (id, command) in &mut self.commands {
            if id.server == server && command.visible && !terminal(command.status) {
                command.enter(now, Status::Cancelled, Note::ServerRemoved);
            }
        }
    }

    /// Power off, power on. This state is the one of the last durable frame.
    pub(crate) fn crash(&mut self, now: UnixMs, registered: &[ServerId]) {
        self.now = now;
        for (id, server) in &mut self.servers {
            *server = Server { registered: registered.contains(id), ..Server::default() };
        }
        for (id, command) in &mut self.commands {
            command.visible = true;
            command.durable_attempt = command.attempt;
            command.absent_answers = 0;
            let retried = command.note == Note::RetryScheduled && command.is_due(now);
            if command.status == Status::Delivered || (command.status == Status::Pending && retried) {
                command.enter(now, Status::Pending, Note::BrokerRestarted);
            }
            let waits = matches!(command.status, Status::Pending | Status::AwaitingPlayer);
            if waits && command.expires.is_some_and(|at| at <= now) {
                command.enter(now, Status::Expired, Note::None);
            }
            if !registered.contains(&id.server) && !terminal(command.status) {
                command.enter(now, Status::Cancelled, Note::ServerRemoved);
            }
        }
    }
}
