//! Transitions of commands: each decides nothing but what it is told, makes one change, applies it, and keeps queue,
//! lease, timers and players in step. Every change of a command in a running shard goes through here.

use std::sync::Arc;

use super::command::{Command, Flag};
use super::io::{AcceptedCommand, AcceptedRow, Change, EventKind, Input, Note, Output, Status, StatusChange};
use super::outbox::Held;
use super::shard::Shard;
use crate::ids::{CommandId, OrderId, Seq};
use crate::time::UnixMs;

/// Where a command goes, and what changes with it.
#[derive(Debug)]
pub(super) struct To {
    pub(super) status: Status,
    pub(super) note: Note,
    pub(super) attempt: u16,
    pub(super) retries: u16,
    pub(super) unanswered: u16,
    pub(super) next_at: Option<UnixMs>,
    pub(super) error: Option<Arc<str>>,
    pub(super) output: Option<Arc<str>>,
}

impl To {
    /// Another status, all else as it is.
    pub(super) fn new(command: &Command, status: Status, note: Note) -> To {
        To {
            status,
            note,
            attempt: command.attempt,
            retries: command.retries,
            unanswered: command.unanswered,
            next_at: None,
            error: None,
            output: None,
        }
    }
}

impl Shard {
    // ------------------------------------------------------------ transitions

    /// Makes, applies and announces one change of status.
    pub(super) fn change(&mut self, slot: u32, to: To) {
        let command = &self.commands[slot];
        let id = CommandId { server: self.servers[command.server].id, seq: command.seq };
        let change = StatusChange {
            id,
            rev: command.rev + 1,
            status: to.status,
            at: self.now,
            attempt: to.attempt,
            retries: to.retries,
            unanswered: to.unanswered,
            next_at: to.next_at,
            note: to.note,
            error: to.error,
            output: to.output,
        };
        let new_attempt = to.attempt > command.attempt;
        self.detach(slot);
        self.apply_status(slot, &change, true);
        let error = change.error.clone();
        self.outbox.change(Change::Status(Box::new(change)));
        if new_attempt {
            self.commands[slot].set(Flag::NewAttempt, true);
            self.outbox.hold(Held::Attempt(slot, to.attempt));
        }
        self.say_command(slot, to.note, error);
        self.attach(slot);
    }

    pub(super) fn back_to_pending(&mut self, slot: u32, note: Note) {
        let to = To::new(&self.commands[slot], Status::Pending, note);
        self.change(slot, to);
    }

    pub(super) fn expire(&mut self, slot: u32) {
        let to = To::new(&self.commands[slot], Status::Expired, Note::None);
        self.change(slot, to);
    }

    pub(super) fn cancel(&mut self, slot: u32, note: Note) {
        let to = To::new(&self.commands[slot], Status::Cancelled, note);
        self.change(slot, to);
    }

    /// A delivery came to nothing: offered again, or parked when that happened too often.
    pub(super) fn unanswered(&mut self, slot: u32, note: Note) {
        let command = &self.commands[slot];
        let unanswered = command.unanswered.saturating_add(1);
        let parked = unanswered > self.settings.unanswered_max;
        let (status, note) =
            if parked { (Status::Failed, Note::Unanswered) } else { (Status::Pending, note) };
        let to = To { unanswered, ..To::new(command, status, note) };
        self.change(slot, to);
    }

    /// Offers a failed or in-doubt command again.
    pub(super) fn resend(&mut self, slot: u32) {
        let command = &self.commands[slot];
        let reported = command.status == Status::Failed && command.note == Note::RetriesExhausted;
        let attempt = command.attempt.saturating_add(u16::from(reported));
        let to =
            To { attempt, retries: 0, unanswered: 0, ..To::new(command, Status::Pending, Note::Operator) };
        self.change(slot, to);
    }

    /// Offers those again that have not changed since they were collected.
    pub(super) fn resend_collected(&mut self, commands: &[(CommandId, u32)]) {
        for (id, rev) in commands {
            let Some(slot) = self.find(*id) else { continue };
            let command = &self.commands[slot];
            if command.rev == *rev && matches!(command.status, Status::Failed | Status::InDoubt) {
                self.resend(slot);
            }
        }
    }

    /// A completion with nothing to note; the caller makes the change for all of a batch.
    pub(super) fn complete_plain(&mut self, slot: u32) {
        self.detach(slot);
        let rev = self.commands[slot].rev + 1;
        self.apply_plain(slot, Status::Completed, rev, self.now, true);
        self.attach(slot);
    }

    // ------------------------------------------------------------ acceptance

    /// Makes a command of an order; nobody sees it before [`Shard::accept`].
    pub(super) fn make(&mut self, row: AcceptedRow, order: OrderId, at: UnixMs) -> u32 {
        let place = self.servers.place(row.id.server, order.store);
        self.make_in(place, row, order.seq, at)
    }

    /// As [`Shard::make`], at the place of its server.
    pub(super) fn make_in(&mut self, place: u32, row: AcceptedRow, order: Seq, at: UnixMs) -> u32 {
        self.servers[place].reserved += 1;
        self.insert(Command::accepted(row, order, at, place))
    }

    /// A command whose acceptance is durable enters its queue.
    pub(super) fn accept(&mut self, slot: u32) {
        self.admit(slot);
        let place = self.commands[slot].server;
        self.say_command(slot, Note::None, None);
        if self.servers[place].registered {
            self.attach(slot);
            self.wake(place);
        } else {
            self.cancel(slot, Note::ServerRemoved);
        }
        self.check_full(place);
    }

    /// Puts a command that was made into its lane.
    pub(super) fn admit(&mut self, slot: u32) {
        let command = &self.commands[slot];
        let (place, follows) = (command.server, command.after().is_some());
        let server = &mut self.servers[place];
        server.reserved -= 1;
        server.lane.followers += u32::from(follows);
        server.lane.insert(&self.commands, slot);
        self.recount(place, None, Status::Pending, false);
        self.mark_dirty(slot);
    }

    /// Commands that another shard's desk has made durable.
    pub(super) fn accept_from_desk(&mut self, order: OrderId, at: UnixMs, commands: Vec<AcceptedCommand>) {
        for AcceptedCommand { seq, after, command } in commands {
            let id = CommandId { server: command.server, seq };
            if self.owns(id.server) && self.find(id).is_none() {
                let slot = self.make(AcceptedRow::new(seq, after, command), order, at);
                self.accept(slot);
            }
        }
    }

    // ------------------------------------------------------------ the fold: what recovery does, too

    pub(super) fn apply_status(&mut self, slot: u32, change: &StatusChange, count: bool) {
        let command = &mut self.commands[slot];
        let (place, before) = (command.server, command.status);
        command.apply_status(change);
        self.recount(place, Some(before), change.status, count);
        self.mark_dirty(slot);
    }

    pub(super) fn apply_plain(&mut self, slot: u32, status: Status, rev: u32, at: UnixMs, count: bool) {
        let command = &mut self.commands[slot];
        let (place, before) = (command.server, command.status);
        command.apply_plain(status, rev, at);
        self.recount(place, Some(before), status, count);
        self.mark_dirty(slot);
    }

    /// Keeps the counts by status. `ended`: an ended status is counted as well.
    pub(super) fn recount(&mut self, place: u32, before: Option<Status>, after: Status, ended: bool) {
        if before == Some(after) {
            return;
        }
        let server = &mut self.servers[place];
        if let Some(before) = before.filter(|before| !before.is_terminal()) {
            server.counts[before.index()] -= 1;
            self.counters.by_status[before.index()] -= 1;
        }
        if ended || !after.is_terminal() {
            server.counts[after.index()] += 1;
            self.counters.by_status[after.index()] += 1;
            server.totals_dirty |= after.is_terminal();
        }
    }

    // ------------------------------------------------------------ queue, lease, timers, players

    /// Takes a command out of wherever its status has it.
    fn detach(&mut self, slot: u32) {
        self.disarm_command(slot);
        let command = &mut self.commands[slot];
        let place = command.server;
        let server = &mut self.servers[place];
        match command.status {
            Status::Pending => server.lane.forget_again(command),
            Status::Delivered => {
                let polled = command.is(Flag::Polled);
                command.set(Flag::Polled, false);
                command.set(Flag::Started, false);
                if !polled && let Some(session) = &mut server.session {
                    session.outstanding -= 1;
                    self.wake(place);
                }
            }
            Status::AwaitingPlayer => {
                let crowded = server.players.as_mut().is_some_and(|players| players.on_released());
                if crowded {
                    self.compact_waiting(place, slot);
                }
            }
            _ => {}
        }
    }

    /// Puts a command where its status wants it.
    pub(super) fn attach(&mut self, slot: u32) {
        let command = &self.commands[slot];
        match command.status {
            Status::Pending | Status::AwaitingPlayer if command.is_expired(self.now) => {
                if command.status == Status::AwaitingPlayer {
                    self.await_player(slot);
                }
                self.expire(slot);
            }
            Status::Pending => {
                if command.is_due(self.now) {
                    self.make_ready(slot);
                }
                self.arm_waiting(slot);
            }
            Status::AwaitingPlayer => {
                self.await_player(slot);
                self.arm_waiting(slot);
            }
            Status::Completed | Status::Cancelled | Status::Expired => self.on_ended(slot),
            Status::Delivered | Status::Failed | Status::InDoubt => {}
        }
    }

    fn await_player(&mut self, slot: u32) {
        let command = &self.commands[slot];
        if let Some(player) = command.player.as_deref() {
            self.servers[command.server].players_mut().on_waiting(player, slot);
        }
    }

    /// Drops from the players' lists what does not wait any longer; `leaving` is about to go.
    fn compact_waiting(&mut self, place: u32, leaving: u32) {
        let commands = &self.commands;
        if let Some(players) = &mut self.servers[place].players {
            players.retain_waiting(|slot| {
                slot != leaving
                    && commands.get(slot).is_some_and(|command| {
                        command.server == place && command.status == Status::AwaitingPlayer
                    })
            });
        }
    }

    /// An ended command makes room, and lets its successor go: once its end is durable. A crash would undo the end, and the
    /// successor would have overtaken it; only what has expired stays so.
    fn on_ended(&mut self, slot: u32) {
        let place = self.commands[slot].server;
        if self.commands[slot].status == Status::Expired {
            self.let_successor_go(slot);
        } else if self.servers[place].lane.successor(&self.commands, slot).is_some() {
            self.commands[slot].set(Flag::Ending, true);
            self.endings.push(slot);
        }
        self.check_full(place);
    }

    /// What ended in this step, whose changes are all made by now, waits until they are durable.
    pub(super) fn hold_endings(&mut self) {
        for slot in self.endings.drain(..) {
            self.outbox.hold(Held::Ended(slot));
        }
    }

    /// A command's end is durable.
    pub(super) fn on_end_durable(&mut self, slot: u32) {
        self.commands[slot].set(Flag::Ending, false);
        self.let_successor_go(slot);
    }

    /// A command's attempt is durable. A crash would have begun with the one before, which was over: it would run again.
    pub(super) fn on_attempt_durable(&mut self, slot: u32, attempt: u16) {
        let command = &mut self.commands[slot];
        // There may be a later one by now, which waits for its own change.
        if command.attempt != attempt {
            return;
        }
        command.set(Flag::NewAttempt, false);
        if command.status == Status::Pending && command.is_due(self.now) {
            self.make_ready(slot);
        }
    }

    fn let_successor_go(&mut self, slot: u32) {
        let place = self.commands[slot].server;
        let Some(next) = self.servers[place].lane.successor(&self.commands, slot) else { return };
        let command = &self.commands[next];
        if command.status == Status::Pending && command.is_due(self.now) {
            self.make_ready(next);
        }
    }

    /// A pending command whose time has come will be looked at by dispatch.
    pub(super) fn make_ready(&mut self, slot: u32) {
        let command = &mut self.commands[slot];
        let place = command.server;
        self.servers[place].lane.look_again(command, slot);
        self.wake(place);
    }

    /// A server that may be sent something gets its turn.
    pub(super) fn wake(&mut self, place: u32) {
        let server = &mut self.servers[place];
        if !server.in_ring && server.has_room() && server.lane.has_candidates() {
            server.in_ring = true;
            self.ring.push_back(place);
        }
    }

    // ------------------------------------------------------------ small helpers

    /// A command in memory, accepted.
    pub(super) fn find(&self, id: CommandId) -> Option<u32> {
        let place = self.servers.find(id.server)?;
        self.find_in(place, id.seq)
    }

    pub(super) fn find_in(&self, place: u32, seq: Seq) -> Option<u32> {
        self.servers[place].lane.find(&self.commands, seq)
    }

    /// Tells whoever follows events of the status that a command has.
    pub(super) fn say_command(&mut self, slot: u32, note: Note, error: Option<Arc<str>>) {
        let command = &self.commands[slot];
        let what = EventKind::Command {
            seq: command.seq,
            order: OrderId { store: self.servers[command.server].store, seq: command.order() },
            status: command.status,
            attempt: command.attempt,
            note,
            error,
        };
        self.say(command.server, what);
    }

    /// Tells the desk of a server's store, when it is another shard's, that the queue is full or has room again.
    pub(super) fn check_full(&mut self, place: u32) {
        let server = &self.servers[place];
        if self.is_desk_of(server.store) {
            return;
        }
        let live = self.live();
        let max = u64::from(self.settings.queue_max);
        let full = match server.told_full {
            false => server.load() >= max || live >= self.settings.live_max,
            // Some room before it is opened again, so that the two shards do not talk about every command.
            true => server.load() >= max - max / 10 || live >= self.settings.live_max,
        };
        if full != server.told_full {
            let (server, store) = (server.id, server.store);
            self.servers[place].told_full = full;
            let shard = store.shard(self.shards);
            let input = Box::new(Input::QueueFull { server, full });
            self.outbox.send_now(Output::Forward { shard, input });
        }
    }

    /// Commands of all servers that have not ended.
    pub(super) fn live(&self) -> u64 {
        let by_status = &self.counters.by_status;
        [Status::Pending, Status::Delivered, Status::AwaitingPlayer, Status::Failed, Status::InDoubt]
            .iter()
            .map(|status| by_status[status.index()])
            .sum()
    }
}
