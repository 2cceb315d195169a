//! The part of a shard that accepts the orders of the stores homed on it: idempotency, admission, seqs. Must never
//! answer a publish before the whole order is durable, nor touch a queue: it hands commands over.

use std::collections::{BTreeMap, BTreeSet};

use super::io::{
    AcceptedCommand, AcceptedRow, Change, Few, Handover, Input, KeyDigest, KeyRow, NewCommand, NewOrder,
    OrderAccepted, OrderRow, Output, Refusal, Reply, ReplyTo, ResentChange,
};
use super::keys::Keys;
use super::orders::Orders;
use super::outbox::Held;
use super::shard::Shard;
use crate::ids::{CommandId, OrderId, Seq, ServerId, ShardNo, StoreId};
use crate::limits::SHARDS_MAX;

/// What a desk remembers.
#[derive(Debug)]
pub(super) struct Desk {
    no: ShardNo,
    pub(super) orders: Orders,
    pub(super) keys: Keys,
    /// The stride of the next seq.
    next: u64,
    /// Servers of other shards whose queues are full.
    full: BTreeSet<ServerId>,
}

impl Desk {
    pub(super) fn new(no: ShardNo) -> Desk {
        Desk { no, orders: Orders::default(), keys: Keys::default(), next: 1, full: BTreeSet::new() }
    }

    pub(super) fn on_queue_full(&mut self, server: ServerId, full: bool) {
        if full {
            self.full.insert(server)
        } else {
            self.full.remove(&server)
        };
    }

    /// The seq that comes next.
    pub(super) fn next_seq(&self) -> Seq {
        Seq(self.next * u64::from(SHARDS_MAX) + u64::from(self.no.0))
    }

    fn take_seq(&mut self) -> Seq {
        let seq = self.next_seq();
        self.next += 1;
        seq
    }

    /// This seq exists, at whichever desk: later ones are above it.
    pub(super) fn on_seq(&mut self, seq: Seq) {
        self.next = self.next.max(seq.0 / u64::from(SHARDS_MAX) + 1);
    }

    /// No seq at or above this was given out.
    pub(super) fn on_next_seq(&mut self, next: u64) {
        self.next = self.next.max(next.div_ceil(u64::from(SHARDS_MAX)));
    }

    /// Another takes its place, for which it has stood in; seqs that it has seen exist there too.
    ///
    /// # Panics
    /// It holds what would be lost.
    pub(super) fn give_way_to(&mut self, other: Desk) {
        assert!(
            self.orders.is_empty() && self.keys.len() == 0 && self.full.is_empty(),
            "only seqs were seen"
        );
        let next = self.next.max(other.next);
        *self = Desk { next, ..other };
    }

    /// The fold of an accepted order, in a running shard and in recovery. Its key, which is the answer, is to be inserted.
    #[must_use]
    pub(super) fn apply_order(&mut self, row: &OrderRow) -> Option<KeyRow> {
        self.orders.push(row);
        if let Some(last) = row.commands.last() {
            self.on_seq(last.seq);
        }
        row.key_row()
    }
}

impl Shard {
    pub(super) fn handle_publish(&mut self, from: ReplyTo, order: NewOrder) {
        let known = order.key.and_then(|digest| self.known_order(order.store, digest));
        let checked = match known {
            Some(Ok(reply)) => {
                self.counters.replayed += 1;
                return self.outbox.send(Output::Reply { to: from, reply });
            }
            Some(Err(refusal)) => Err(refusal),
            None => self.check_admission(&order),
        };
        if let Err(refusal) = checked {
            self.counters.refused += 1;
            return self.outbox.send_now(Output::Reply { to: from, reply: Reply::Refused(refusal) });
        }
        self.accept_order(from, order);
    }

    /// What was answered under the same key; `None` = the key is new.
    fn known_order(&self, store: StoreId, digest: KeyDigest) -> Option<Result<Reply, Refusal>> {
        let known = self.desk.keys.find(digest)?;
        if !known.same_body {
            return Some(Err(Refusal::KeyConflict));
        }
        let order = OrderId { store, seq: known.seq };
        Some(Ok(match self.desk.orders.find(order.seq) {
            Some(row) => Reply::Published { order, replayed: true, commands: row.commands },
            None => Reply::PublishedAtRest { order },
        }))
    }

    fn check_admission(&self, order: &NewOrder) -> Result<(), Refusal> {
        let crowded = self.live() >= self.settings.live_max
            || self.outbox.held() >= self.settings.held_max
            || (order.key.is_some() && self.desk.keys.len() >= self.settings.keys_max);
        if crowded || order.commands.is_empty() {
            return Err(Refusal::Overloaded);
        }
        for command in &order.commands {
            let id = command.server;
            if self.owns(id) {
                let place = self.servers.find_registered(id).ok_or(Refusal::UnknownServer(id))?;
                if self.servers[place].load() >= u64::from(self.settings.queue_max) {
                    return Err(Refusal::QueueFull(id));
                }
            } else if self.desk.full.contains(&id) {
                return Err(Refusal::QueueFull(id));
            }
        }
        Ok(())
    }

    fn accept_order(&mut self, from: ReplyTo, order: NewOrder) {
        let NewOrder { store, key, reference, player, ordered, commands } = order;
        let id = OrderId { store, seq: self.desk.next_seq() };
        let rows = self.place_commands(ordered, commands);
        let ids: Few<CommandId> = rows.iter().map(|row| row.id).collect();
        self.counters.orders += 1;
        self.counters.accepted += rows.len() as u64;
        let row =
            OrderRow { id, accepted_at: self.now, key, reference, player, ordered, commands: ids.clone() };
        if let Some(key) = self.desk.apply_order(&row) {
            self.desk.keys.insert(key);
        }
        let foreign = self.foreign_commands(&rows);
        let mut own = std::mem::take(&mut self.scratch);
        for row in &rows {
            if self.owns(row.id.server) {
                own.push(self.make(row.clone(), id, self.now));
            }
        }
        self.outbox.change(Change::Order(Box::new(OrderAccepted { row, commands: rows })));

        own.drain(..).for_each(|slot| self.outbox.hold(Held::Accept(slot)));
        self.scratch = own;
        for (shard, commands) in foreign {
            let handover = Handover::Accepted { order: id, at: self.now, commands };
            self.forward_durable(shard, handover);
        }
        // Last, so that whoever has the answer finds every command where it asks for it.
        let reply = Reply::Published { order: id, replayed: false, commands: ids };
        self.outbox.hold(Held::Output(Output::Reply { to: from, reply }));
    }

    /// Gives each command its seq and, in an ordered order, its predecessor on the same server.
    fn place_commands(&mut self, ordered: bool, commands: Few<NewCommand>) -> Few<AcceptedRow> {
        let mut last: BTreeMap<ServerId, Seq> = BTreeMap::new();
        commands
            .into_iter()
            .map(|command| {
                let seq = self.desk.take_seq();
                let after = if ordered { last.insert(command.server, seq) } else { None };
                AcceptedRow::new(seq, after, command)
            })
            .collect()
    }

    /// The commands of other shards' servers, by shard.
    fn foreign_commands(&self, rows: &[AcceptedRow]) -> BTreeMap<ShardNo, Vec<AcceptedCommand>> {
        let mut foreign: BTreeMap<ShardNo, Vec<AcceptedCommand>> = BTreeMap::new();
        for row in rows.iter().filter(|row| !self.owns(row.id.server)) {
            let command = AcceptedCommand { seq: row.id.seq, after: row.after, command: row.command() };
            foreign.entry(row.id.server.shard(self.shards)).or_default().push(command);
        }
        foreign
    }

    /// Tells another shard once everything known now is durable.
    fn forward_durable(&mut self, shard: ShardNo, handover: Handover) {
        let input = Box::new(Input::Handover(handover));
        self.outbox.hold(Held::Output(Output::Forward { shard, input }));
    }

    /// A bulk resend: one change, which is a promise to offer each command again that has not changed by then. What
    /// comes of it is a change of each command at its own shard.
    pub(super) fn handle_resend_many(&mut self, from: ReplyTo, commands: Vec<(CommandId, u32)>) {
        if commands.is_empty() {
            return self.outbox.send(Output::Reply { to: from, reply: Reply::Resent { commands } });
        }
        let change = ResentChange { at: self.now, commands: commands.clone() };
        self.outbox.change(Change::Resent(Box::new(change)));
        let mut by_shard: BTreeMap<ShardNo, Vec<(CommandId, u32)>> = BTreeMap::new();
        for command in &commands {
            by_shard.entry(command.0.server.shard(self.shards)).or_default().push(*command);
        }
        for (shard, commands) in by_shard {
            if shard == self.no {
                self.outbox.hold(Held::Resent(commands));
            } else {
                self.forward_durable(shard, Handover::Resent { at: self.now, commands });
            }
        }
        self.outbox.hold(Held::Output(Output::Reply { to: from, reply: Reply::Resent { commands } }));
    }
}

impl OrderRow {
    /// Its key, as it is remembered.
    pub(super) fn key_row(&self) -> Option<KeyRow> {
        self.key.map(|digest| KeyRow { digest, order: self.id, at: self.accepted_at })
    }
}

impl AcceptedRow {
    /// A command at its place.
    pub(super) fn new(seq: Seq, after: Option<Seq>, command: NewCommand) -> AcceptedRow {
        AcceptedRow {
            id: CommandId { server: command.server, seq },
            after,
            text: command.text,
            player: command.player,
            require_online: command.require_online,
            not_before: command.not_before,
            expires_at: command.expires_at,
            on_doubt: command.on_doubt,
            labels: command.labels,
        }
    }

    /// The command without its place.
    fn command(&self) -> NewCommand {
        NewCommand {
            server: self.id.server,
            text: self.text.clone(),
            player: self.player.clone(),
            require_online: self.require_online,
            not_before: self.not_before,
            expires_at: self.expires_at,
            on_doubt: self.on_doubt,
            labels: self.labels.clone(),
        }
    }
}
