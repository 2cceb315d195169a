//! The random inputs of a story: what publishers, plugins and operators might do, sensible or not.

use std::collections::BTreeSet;

use fluxrelay::engine::*;
use fluxrelay::ids::{CommandId, ConnId, OrderId, Seq, ServerId, ShardNo, StoreId};
use fluxrelay::time::UnixMs;

use crate::driver::{Driver, Expect};
use crate::naive;

const PLAYERS: [&str; 4] = ["Steve", "Alex", "STEVE", "Herobrine"];

impl Driver {
    fn any_server(&mut self) -> ServerId {
        let known: Vec<ServerId> = self.world.servers.keys().copied().collect();
        *self.random.pick(&known).expect("some are always left")
    }

    fn connected(&mut self) -> Option<(ServerId, ConnId)> {
        let sessions = self.naive.servers.iter();
        let open: Vec<_> =
            sessions.filter_map(|(id, server)| Some((*id, server.session.as_ref()?.conn))).collect();
        self.random.pick(&open).copied()
    }

    // ------------------------------------------------------------ publishers

    pub(crate) fn publish(&mut self) {
        let order = match self.random.below(6) {
            0 if !self.published.is_empty() => {
                let mut again = self.random.pick(&self.published).expect("there is one").clone();
                if let Some(key) = again.key.as_mut().filter(|_| self.random.chance(1, 4)) {
                    key.body += 1;
                }
                again
            }
            _ => self.new_order(),
        };
        let desk = self.world.desk_of(order.store);
        let known = order.key.and_then(|digest| Some((digest.body, *self.naive.keys.get(&digest.key)?)));
        let unknown =
            order.commands.iter().map(|command| command.server).find(|server| {
                self.world.shard_of(*server) == desk && !self.naive.servers[server].registered
            });
        let expect = match (known, unknown) {
            (Some((body, (first, order))), _) if body == first => Expect::Order(order),
            (Some(_), _) => Expect::Refused(Refusal::KeyConflict),
            (None, Some(server)) => Expect::Refused(Refusal::UnknownServer(server)),
            (None, None) => return self.publish_new(desk, order),
        };
        self.note(format!("publish, to be answered by {expect:?}"));
        self.ask(desk, |from| Input::Publish { from, order: Box::new(order) }, expect);
        self.follow();
    }

    fn publish_new(&mut self, desk: ShardNo, order: NewOrder) {
        // The order's number is read from the sealed frame, because the answer may never come.
        let unknown = Expect::Order(OrderId { store: order.store, seq: Seq(0) });
        self.ask(desk, |from| Input::Publish { from, order: Box::new(order.clone()) }, unknown);
        let frames = self.world.sealed.iter().rev().chain(self.world.disk.journal.iter().rev());
        let accepted = frames.flat_map(|frame| frame.changes.iter().rev()).find_map(|change| match change {
            Change::Order(accepted) => Some(accepted),
            _ => None,
        });
        let row = accepted.expect("a new order is in the frame").row.clone();
        self.note(format!("publish {} {:?} {:?}", row.id, row.commands, order.commands));
        assert!(!self.naive.orders.contains_key(&row.id), "{} is given out twice", row.id);
        assert_eq!(row.commands.len(), order.commands.len());
        let promise = self.promises.values_mut().last().expect("just asked");
        promise.expect = Expect::Order(row.id);
        if let Some(digest) = order.key {
            self.naive.keys.insert(digest.key, (digest.body, row.id));
        }
        for (id, command) in row.commands.iter().zip(&order.commands) {
            assert_eq!(id.server, command.server);
            self.naive.commands.insert(*id, self.naive_command(row.id, order.ordered, command));
        }
        self.naive.orders.insert(row.id, row.commands.to_vec());
        self.published.push(order);
        self.follow();
    }

    fn naive_command(&self, order: OrderId, ordered: bool, command: &NewCommand) -> naive::Command {
        naive::Command {
            order,
            ordered,
            text: command.text.to_string(),
            player: command.player.as_ref().map(|player| player.name.to_string()),
            online: command.require_online,
            rerun: command.on_doubt == OnDoubt::Rerun,
            expires: command.expires_at,
            visible: false,
            status: Status::Pending,
            note: Note::None,
            status_at: self.world.now,
            attempt: 1,
            durable_attempt: 1,
            retries: 0,
            unanswered: 0,
            due: command.not_before,
            deadline: UnixMs(0),
            started: false,
            polled: false,
            absent_answers: 0,
            recheck: UnixMs(0),
        }
    }

    fn new_order(&mut self) -> NewOrder {
        let store = StoreId(1 + self.random.below(2) as u32);
        // Removed servers as well: the registry may learn of it later than the desk.
        let of_store = |server: &&ServerId| 1 + server.0 % 2 == store.0;
        let servers: Vec<ServerId> = self.naive.servers.keys().filter(of_store).copied().collect();
        let number = self.published.len() as u64 + 1;
        let key = self
            .random
            .chance(1, 2)
            .then_some(KeyDigest { key: number * 4 + u64::from(store.0), body: number });
        let ordered = self.random.chance(1, 3);
        let count = 1 + self.random.below(4);
        let commands = (0..count).map(|nth| self.new_command(&servers, number, nth)).collect();
        NewOrder { store, key, reference: None, player: None, ordered, commands }
    }

    fn new_command(&mut self, servers: &[ServerId], number: u64, nth: u64) -> NewCommand {
        let now = self.world.now.0;
        let player = self.random.chance(1, 2).then(|| self.player());
        let online = player.is_some() && self.random.chance(1, 2);
        let mut later =
            |one_in, span| self.random.chance(1, one_in).then(|| UnixMs(now + self.random.below(span)));
        let (not_before, expires_at) = (later(6, 60_000), later(6, 100_000));
        NewCommand {
            server: *self.random.pick(servers).expect("every store has servers"),
            text: format!("{number}.{nth}").into(),
            player,
            require_online: online,
            not_before,
            expires_at,
            on_doubt: if self.random.chance(1, 3) { OnDoubt::Rerun } else { OnDoubt::Hold },
            labels: None,
        }
    }

    fn player(&mut self) -> Player {
        Player { name: (*self.random.pick(&PLAYERS).expect("there are some")).into(), uuid: None }
    }

    // ------------------------------------------------------------ plugins

    /// A session ends, as the driver sees it.
    pub(crate) fn leave(&mut self, server: ServerId, closed: bool) {
        let Some(session) = &self.naive.servers[&server].session else { return };
        let conn = session.conn;
        self.plugins.get_mut(&server).expect("every server has one").old.push(conn);
        if closed {
            self.closes.insert(conn);
        }
    }

    pub(crate) fn connect(&mut self) {
        let server = self.any_server();
        let mut hello = Hello { window: self.random.below(6) as u32, ..Hello::default() };
        if self.random.chance(1, 5) {
            hello.window = 100;
        }
        let plugin = self.plugins.get_mut(&server).expect("every server has one");
        for seq in plugin.received.keys().copied().collect::<Vec<_>>() {
            match self.random.below(10) {
                0..4 => hello.held.push(seq),
                4..6 => hello.started.push(seq),
                6..7 => hello.finished.push(seq),
                7..8 => hello.in_doubt.push(seq),
                // Forgotten: the plugin lost what it had.
                _ => drop(plugin.received.remove(&seq)),
            }
        }
        if self.random.chance(1, 5) {
            let seqs: Vec<Seq> = self.naive.commands.keys().map(|id| id.seq).collect();
            hello.held.extend(self.random.pick(&seqs));
            hello.in_doubt.extend(self.random.pick(&seqs));
        }
        hello.players =
            self.random.chance(1, 2).then(|| (0..self.random.below(3)).map(|_| self.player()).collect());
        self.open(server, hello);
    }

    /// Connects as a well-behaved plugin does that has room for everything and everybody online.
    pub(crate) fn connect_openly(&mut self, server: ServerId) {
        let players = PLAYERS.iter().map(|name| Player { name: (*name).into(), uuid: None }).collect();
        self.open(server, Hello { window: 1_000, players: Some(players), ..Hello::default() });
    }

    fn open(&mut self, server: ServerId, hello: Hello) {
        self.leave(server, true);
        let conn = ConnId(self.next_conn);
        self.next_conn += 1;
        self.note(format!("connect {} to {server} {hello:?}", conn.0));
        self.conns.insert(conn, server);
        let forget = self.naive.connect(server, conn, &hello);
        self.welcomes.insert(conn, forget.into_iter().collect());
        let shard = self.world.shard_of(server);
        self.input(shard, Input::Connect { conn, server, hello: Box::new(hello) });
        self.follow();
    }

    pub(crate) fn disconnect(&mut self) {
        let Some((server, conn)) = self.connected() else { return };
        self.note(format!("disconnect {}", conn.0));
        self.leave(server, false);
        self.naive.disconnect(server);
        let shard = self.world.shard_of(server);
        self.input(shard, Input::Disconnect { conn });
        self.follow();
    }

    pub(crate) fn end_session(&mut self) {
        let server = self.any_server();
        self.note(format!("end the session of {server}"));
        self.leave(server, true);
        self.naive.disconnect(server);
        let shard = self.world.shard_of(server);
        self.input(shard, Input::EndSession { server, reason: CloseReason::TokenRevoked });
        self.follow();
    }

    pub(crate) fn credit(&mut self) {
        let Some((server, conn)) = self.connected() else { return };
        let window = self.random.below(8) as u32;
        self.note(format!("credit {} {window}", conn.0));
        let of_server = self.naive.servers.get_mut(&server).expect("it is connected");
        of_server.session.as_mut().expect("it is connected").window = window;
        let shard = self.world.shard_of(server);
        self.input(shard, Input::Credit { conn, window });
        self.follow();
    }

    pub(crate) fn started(&mut self) {
        let Some((server, conn)) = self.connected() else { return };
        let received: Vec<Seq> = self.plugins[&server].received.keys().copied().collect();
        let Some(seq) = self.random.pick(&received).copied() else { return };
        self.note(format!("started {} {}", conn.0, seq.0));
        self.naive.started(CommandId { server, seq });
        let shard = self.world.shard_of(server);
        self.input(shard, Input::Started { conn, seqs: vec![seq] });
        self.follow();
    }

    /// A result of something: received, answered before, or of another's.
    fn any_result(&mut self, server: ServerId) -> Option<CommandResult> {
        let plugin = self.plugins.get_mut(&server).expect("every server has one");
        let received: Vec<(Seq, u16)> =
            plugin.received.iter().map(|(seq, attempt)| (*seq, *attempt)).collect();
        let seqs: Vec<(Seq, u16)> = self.naive.commands.keys().map(|id| (id.seq, 1)).collect();
        let from = match self.random.below(20) {
            0 => &seqs,
            1..4 => &plugin.answered,
            _ => &received,
        };
        let (seq, attempt) = *self.random.pick(from)?;
        if plugin.received.remove(&seq).is_some() {
            plugin.answered.push((seq, attempt));
        }
        let outcome = match self.random.below(20) {
            0..11 => Outcome::Completed,
            11..16 => Outcome::Failed,
            16..18 => Outcome::AwaitingPlayer,
            _ => Outcome::InDoubt,
        };
        let attempt = match self.random.below(10) {
            0..7 => Some(attempt),
            7..9 => None,
            _ => Some(1 + self.random.below(3) as u16),
        };
        let output = self.random.chance(1, 4).then(|| "words".into());
        Some(CommandResult { seq, attempt, outcome, error: None, output })
    }

    pub(crate) fn results(&mut self) {
        let server = self.any_server();
        let count = 1 + self.random.below(4);
        let results: Vec<CommandResult> = (0..count).filter_map(|_| self.any_result(server)).collect();
        if results.is_empty() {
            return;
        }
        let plugin = self.plugins.get_mut(&server).expect("every server has one");
        if self.random.chance(1, 10)
            && let Some(conn) = self.random.pick(&plugin.old).copied()
        {
            // A stale connection is not heard: no change, no confirmation.
            self.note(format!("results on the stale {} {results:?}", conn.0));
            let shard = self.world.shard_of(server);
            self.input(shard, Input::Results { conn, batch: 1, results });
            return self.follow();
        }
        match self.naive.servers[&server].session.as_ref().map(|session| session.conn) {
            Some(conn) => self.send_results(server, conn, results),
            None => self.poll_results(server, results),
        }
    }

    fn tell_naive(&mut self, server: ServerId, results: &[CommandResult]) -> u32 {
        let mut accepted = 0;
        for result in results {
            let id = CommandId { server, seq: result.seq };
            accepted +=
                u32::from(self.naive.result(id, result.outcome, result.attempt, result.output.is_some()));
        }
        accepted
    }

    fn send_results(&mut self, server: ServerId, conn: ConnId, results: Vec<CommandResult>) {
        let plugin = self.plugins.get_mut(&server).expect("every server has one");
        plugin.batch += 1;
        let batch = plugin.batch;
        self.note(format!("results {} {batch} {results:?}", conn.0));
        self.tell_naive(server, &results);
        let shard = self.world.shard_of(server);
        let frame = self.input(shard, Input::Results { conn, batch, results });
        self.confirms.insert((conn, batch), (shard, frame));
        self.follow();
    }

    fn poll_results(&mut self, server: ServerId, results: Vec<CommandResult>) {
        self.note(format!("poll results {server} {results:?}"));
        let expect = Expect::Accepted(self.tell_naive(server, &results));
        let shard = self.world.shard_of(server);
        self.ask(shard, |from| Input::PollResults { from, server, results }, expect);
        self.follow();
    }

    /// A plugin answers everything that it has with success.
    pub(crate) fn complete_all(&mut self, server: ServerId) {
        let received =
            std::mem::take(&mut self.plugins.get_mut(&server).expect("every server has one").received);
        let completed = |(seq, attempt)| CommandResult {
            seq,
            attempt: Some(attempt),
            outcome: Outcome::Completed,
            error: None,
            output: None,
        };
        let results: Vec<CommandResult> = received.into_iter().map(completed).collect();
        let conn = self.naive.servers[&server].session.as_ref().map(|session| session.conn);
        if let Some(conn) = conn.filter(|_| !results.is_empty()) {
            self.send_results(server, conn, results);
        }
    }

    pub(crate) fn players(&mut self) {
        let server = self.any_server();
        let players: Vec<Player> = (0..self.random.below(3)).map(|_| self.player()).collect();
        let names: Vec<String> = players.iter().map(|player| player.name.to_string()).collect();
        let (what, news) = match self.random.below(3) {
            0 => ("online", PlayerNews::Online(players)),
            1 => ("joined", PlayerNews::Joined(players)),
            _ => ("left", PlayerNews::Left(players)),
        };
        let shard = self.world.shard_of(server);
        let by_rest = self.random.chance(1, 4);
        let session = self.naive.servers.get_mut(&server).and_then(|server| server.session.as_mut());
        let conn = session.as_ref().filter(|_| !by_rest).map(|session| session.conn);
        let overtaken = by_rest && session.as_ref().is_some_and(|session| session.tells);
        if let Some(session) = session.filter(|_| !by_rest) {
            session.tells = true;
        }
        self.note(format!("players of {server}: {what} {names:?} by {conn:?}"));
        let released = if overtaken { 0 } else { self.naive.players(server, what, &names) };
        match conn {
            Some(conn) => drop(self.input(shard, Input::Players { conn, news })),
            None => {
                let news = vec![news];
                self.ask(shard, |from| Input::PollPlayers { from, server, news }, Expect::Released(released));
            }
        }
        self.follow();
    }

    pub(crate) fn poll(&mut self) {
        let server = self.any_server();
        self.note(format!("poll {server}"));
        let shard = self.world.shard_of(server);
        self.ask(shard, |from| Input::Poll { from, server }, Expect::Polled(server));
        self.follow();
    }

    // ------------------------------------------------------------ operators

    pub(crate) fn operate(&mut self) {
        use Status::{AwaitingPlayer, Failed, InDoubt, Pending};
        let ids: Vec<CommandId> = self.naive.commands.keys().copied().collect();
        let Some(id) = self.random.pick(&ids).copied() else { return };
        let operation = match self.random.below(3) {
            0 => Operation::Cancel,
            1 => Operation::Resend,
            _ => Operation::Edit { text: format!("edited {}", self.random.below(100)).into() },
        };
        self.note(format!("{operation:?} {id}"));
        let now = self.naive.now;
        let command = self.naive.commands.get_mut(&id).expect("just picked");
        let expect = match (&operation, command.status) {
            _ if !command.visible => Expect::Refused(Refusal::UnknownCommand),
            (Operation::Cancel, Pending | AwaitingPlayer | Failed | InDoubt) => {
                command.status = Status::Cancelled;
                Expect::Row(id)
            }
            (Operation::Resend, Failed | InDoubt) => {
                command.resend(now);
                Expect::Row(id)
            }
            (Operation::Edit { text }, Pending | AwaitingPlayer) => {
                command.text = text.to_string();
                Expect::Row(id)
            }
            (_, status) => Expect::Refused(Refusal::WrongStatus(status)),
        };
        let shard = self.world.shard_of(id.server);
        self.ask(shard, |from| Input::Operate { from, id, operation }, expect);
        self.follow();
    }

    /// Everything of one store that failed or is in doubt is offered again, as the broker does it.
    pub(crate) fn resend_all(&mut self) {
        if self.world.disk_is_slow {
            return;
        }
        for store in [StoreId(1), StoreId(2)] {
            let statuses = vec![Status::Failed, Status::InDoubt];
            let filter =
                CollectFilter { store, server: None, from: UnixMs(0), to: UnixMs(u64::MAX), statuses };
            let mut found = Vec::new();
            for no in (0..self.world.shards.len() as u16).map(ShardNo) {
                let meant =
                    |id: &CommandId| 1 + id.server.0 % 2 == store.0 && self.world.shard_of(id.server) == no;
                let failed = |status| matches!(status, Status::Failed | Status::InDoubt);
                let all =
                    self.naive.commands.iter().filter(|(id, command)| meant(id) && failed(command.status));
                let expected: BTreeSet<CommandId> = all.map(|(id, _)| *id).collect();
                let filter = filter.clone();
                self.ask(no, |from| Input::Collect { from, filter }, Expect::Collected(expected));
                found.append(&mut self.collected());
            }
            self.note(format!("resend {found:?}"));
            let desk = self.world.desk_of(store);
            self.ask(desk, |from| Input::ResendMany { from, commands: found }, Expect::Resent);
            self.follow();
        }
    }

    fn collected(&mut self) -> Vec<(CommandId, u32)> {
        let answers = self.world.outputs.iter().filter_map(|(_, output)| match output {
            Output::Reply { reply: Reply::Collected(found), .. } => Some(found.clone()),
            _ => None,
        });
        let found = answers.flatten().collect();
        self.follow();
        found
    }
}
