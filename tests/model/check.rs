//! Where the engine's outputs and state meet the naive queue's. Every difference is a failure.

use std::collections::BTreeSet;

use fluxrelay::engine::*;
use fluxrelay::ids::{CommandId, ConnId, ServerId, ShardNo};
use fluxrelay::limits::HISTORY_MAX;
use fluxrelay::time::UnixMs;

use crate::driver::{Driver, Expect};
use crate::naive::{POLL_GRACE, POLL_MAX, terminal};

const ALL: [Status; 8] = [
    Status::Pending,
    Status::Delivered,
    Status::AwaitingPlayer,
    Status::Completed,
    Status::Failed,
    Status::InDoubt,
    Status::Cancelled,
    Status::Expired,
];

impl Driver {
    /// Follows what came out of the shards; then nothing may be left that should have gone out.
    pub(crate) fn follow(&mut self) {
        let (undurable, settled) = (self.world.ending(), std::mem::take(&mut self.world.settled));
        let all = settled.iter().flat_map(|(_, settled)| &settled.ended).chain(&undurable);
        self.naive.ending = all.copied().collect();
        let mut settled = settled.into_iter().peekable();
        for (index, (_, output)) in std::mem::take(&mut self.world.outputs).into_iter().enumerate() {
            while let Some((_, settled)) = settled.next_if(|(before, _)| *before <= index) {
                self.naive.on_frame_durable(&settled);
            }
            match output {
                Output::Plugin { conn, message } => self.on_message(conn, message),
                Output::Reply { to, reply } => self.on_reply(to.request, reply),
                Output::Event(_) => {}
                Output::Forward { .. } | Output::ReadTexts { .. } => unreachable!("the world carries these"),
            }
        }
        settled.for_each(|(_, settled)| self.naive.on_frame_durable(&settled));
        self.naive.ending = undurable;
        for server in self.naive.servers.keys().copied().collect::<Vec<_>>() {
            let left = self.naive.push_next(server);
            assert!(left.is_none(), "{left:?} should have gone out");
        }
        assert!(self.closes.is_empty(), "{:?} should have been closed", self.closes);
        if !self.world.disk_is_slow {
            assert!(self.promises.is_empty(), "without an answer: {:?}", self.promises);
            assert!(self.welcomes.is_empty(), "without a welcome: {:?}", self.welcomes);
        }
        let (sealed, durable) = self.world.frames();
        self.snapshots.push_back((sealed, self.naive.clone()));
        while self.snapshots.len() > 1 && self.snapshots[1].0 <= durable {
            self.snapshots.pop_front();
        }
    }

    fn on_message(&mut self, conn: ConnId, message: PluginOut) {
        let server = self.conns[&conn];
        let session = self.naive.servers.get_mut(&server).expect("it is known").session.as_mut();
        let session = session.filter(|session| session.conn == conn);
        match message {
            PluginOut::Welcome { forget, .. } => {
                let forget: BTreeSet<_> = forget.into_iter().collect();
                assert_eq!(self.welcomes.remove(&conn), Some(forget), "what the plugin has to forget");
                if let Some(session) = session {
                    session.welcomed = true;
                }
            }
            PluginOut::Deliver(deliveries) => {
                assert!(session.is_some(), "a stale connection is sent nothing");
                assert!(!deliveries.is_empty(), "no empty message");
                for delivery in deliveries {
                    let expected = self.naive.push_next(server);
                    self.on_delivery(server, expected, &delivery);
                }
            }
            PluginOut::Confirm { batch } => {
                let (shard, frame) =
                    self.confirms.remove(&(conn, batch)).expect("one confirmation for each batch");
                assert!(self.world.disk.last_frame(shard) >= frame, "a confirmed result is durable");
            }
            PluginOut::Close(_) => assert!(self.closes.remove(&conn), "{} is closed for no reason", conn.0),
        }
    }

    fn on_delivery(&mut self, server: ServerId, expected: Option<CommandId>, delivery: &Delivery) {
        let id = CommandId { server, seq: delivery.seq };
        assert_eq!(expected, Some(id), "what goes out next on {server}");
        let command = &self.naive.commands[&id];
        assert_eq!(delivery.attempt, command.attempt, "{id}");
        assert_eq!(&*delivery.text, command.text, "{id}");
        self.plugins
            .get_mut(&server)
            .expect("every server has one")
            .received
            .insert(id.seq, delivery.attempt);
    }

    fn on_reply(&mut self, request: u64, reply: Reply) {
        let Some(promise) = self.promises.remove(&request) else { panic!("nobody asked for {reply:?}") };
        let durable = self.world.disk.last_frame(promise.shard) >= promise.frame;
        match (promise.expect, reply) {
            (Expect::Order(id), Reply::Published { order, commands, .. }) => {
                assert!(durable, "an accepted order is durable");
                assert_eq!(order, id);
                assert_eq!(*commands, *self.naive.orders[&id]);
                self.naive.on_durable(id);
            }
            (Expect::Order(id), Reply::PublishedAtRest { order }) => {
                assert!(self.world.disk.orders.contains_key(&order), "it is at rest");
                assert_eq!(order, id);
            }
            (Expect::Refused(expected), Reply::Refused(refusal)) => {
                let at_rest = refusal == Refusal::UnknownCommand;
                assert!(refusal == expected || at_rest, "{refusal:?} for {expected:?}");
            }
            (Expect::Row(id), Reply::Command(row)) => {
                assert!(durable, "an operator's wish is durable");
                assert_eq!(row.id, id);
            }
            (Expect::Accepted(expected), Reply::Accepted { accepted }) => {
                assert!(durable, "accepted results are durable");
                assert_eq!(accepted, expected);
            }
            (Expect::Released(expected), Reply::Released { released }) => assert_eq!(released, expected),
            (Expect::Polled(server), Reply::Polled { commands, next_check_seconds }) => {
                assert!((15..=300).contains(&next_check_seconds));
                for delivery in &commands {
                    let expected = self.naive.take_next(server, true);
                    self.on_delivery(server, expected, delivery);
                }
                if commands.len() < POLL_MAX {
                    assert_eq!(self.naive.take_next(server, true), None, "a poll takes all that may go");
                }
                let until = self.naive.now.0 + u64::from(next_check_seconds) * 1000 + POLL_GRACE;
                self.naive.servers.get_mut(&server).expect("it is known").polls_until = Some(UnixMs(until));
            }
            (Expect::Collected(expected), Reply::Collected(found)) => {
                assert_eq!(found.iter().map(|(id, _)| *id).collect::<BTreeSet<_>>(), expected);
            }
            (Expect::Resent, Reply::Resent { commands }) => {
                let now = self.naive.now;
                for (id, _) in commands {
                    self.naive.commands.get_mut(&id).expect("it was collected").resend(now);
                }
            }
            (expect, reply) => panic!("{reply:?} for {expect:?}"),
        }
    }

    /// Every command is in exactly one status, in memory or at rest, and it is the naive queue's.
    pub(crate) fn compare(&mut self) {
        if self.world.disk_is_slow {
            return;
        }
        for id in self.naive.commands.keys().copied().collect::<Vec<_>>() {
            let reply = self.world.ask(self.world.shard_of(id.server), Query::Command(id));
            let row = match reply.expect("all is durable") {
                Reply::Command(row) => *row,
                Reply::NotHere => {
                    self.world.disk.ended.get(&id).unwrap_or_else(|| panic!("{id} is lost")).clone()
                }
                other => panic!("{other:?} for a command"),
            };
            let command = &self.naive.commands[&id];
            let engine = (
                row.status,
                row.attempt,
                row.unanswered,
                row.text.as_deref().expect("the disk completes it"),
            );
            let naive = (command.status, command.attempt, command.unanswered, command.text.as_str());
            assert_eq!(engine, naive, "{id}: {row:?} is {command:?}");
            assert!(row.retries == command.retries || terminal(command.status), "{id}");
            if command.status == Status::Pending && command.due.is_some_and(|at| at > self.naive.now) {
                assert_eq!(row.next_at, command.due, "{id}");
            }
            let last = row.history.last().expect("a history has a beginning");
            assert_eq!(last.status, row.status, "the history ends with the status");
            let entries = (row.rev as usize).min(HISTORY_MAX);
            assert_eq!(row.history.len(), entries, "each change is in the history once: {row:?}");
        }
        for server in self.world.servers.keys().copied().collect::<Vec<_>>() {
            self.compare_counts(server);
        }
        let swept: u64 = self.world.shards.iter().map(|shard| shard.counters().swept).sum();
        assert_eq!(swept, 0, "the sweep finds nothing");
    }

    fn compare_counts(&mut self, server: ServerId) {
        let shard: ShardNo = self.world.shard_of(server);
        let Some(Reply::Servers(states)) = self.world.ask(shard, Query::Servers(vec![server])) else {
            panic!("all is durable")
        };
        let mine = |status| {
            let all = self.naive.commands.iter();
            all.filter(|(id, command)| id.server == server && command.status == status).count() as u64
        };
        assert_eq!(states[0].counts, ALL.map(mine), "counts of {server} by status");
        let of_server = &self.naive.servers[&server];
        let online = of_server.session.is_some() || of_server.polls_until.is_some();
        assert_eq!(states[0].online, online, "{server} is online");
    }
}
