//! Recovery: rows at rest, then the journal's changes, through the same fold that the running shard uses. Must never
//! apply a change twice, nor start a timer or a queue before all is known.
//!
//! Order: servers, totals, live commands, then changes in the order of commits; keys and orders go to the desk, which is lent
//! meanwhile and taken back then. Next seq and frame number at any time; last of all [`Shard::restore_done`]. A change for a
//! command that is not known is one of a command that has ended at rest.

use super::command::Command;
use super::desk::Desk;
use super::io::{Change, CommandRow, Note, OrderAccepted, Output, ServerRow, Status, StatusChange};
use super::lent_desk::LentDesk;
use super::shard::Shard;
use crate::ids::{CommandId, FrameNo, Seq, ServerId, StoreId};
use crate::time::UnixMs;

impl Shard {
    /// A registered server of this shard. Also what [`crate::engine::Input::ServerAdded`] does.
    pub fn restore_server(&mut self, server: ServerId, store: StoreId) {
        let place = self.servers.place(server, store);
        self.servers[place].store = store;
        self.servers[place].registered = true;
    }

    /// A server's totals at rest.
    pub fn restore_totals(&mut self, row: ServerRow) {
        // The store of a server that was removed is not known here, and nobody asks for it any more.
        let Some(place) = self.servers.find(row.server) else { return };
        let [completed, cancelled, expired] = row.ended;
        let counts = &mut self.servers[place].counts;
        counts[Status::Completed.index()] = completed;
        counts[Status::Cancelled.index()] = cancelled;
        counts[Status::Expired.index()] = expired;
    }

    /// A command at rest that has not ended. Its text may stay there.
    pub fn restore_live(&mut self, mut row: CommandRow) {
        self.desk.on_seq(row.id.seq);
        if !self.owns(row.id.server) || self.find(row.id).is_some() {
            return;
        }
        let place = self.servers.place(row.id.server, row.order.store);
        let status = row.status;
        if self.text_bytes >= self.settings.texts_kept {
            row.text = None;
        }
        let command = Command::restored(row, place);
        let follows = command.after().is_some();
        let slot = self.insert(command);
        let lane = &mut self.servers[place].lane;
        lane.followers += u32::from(follows);
        lane.insert(&self.commands, slot);
        self.recount(place, None, status, false);
    }

    /// Lends its desk, so that another thread can restore that beside the queues. Until it is back, an empty one stands in.
    pub fn lend_desk(&mut self) -> LentDesk {
        LentDesk::new(std::mem::replace(&mut self.desk, Desk::new(self.no)), self.shards)
    }

    /// Takes its desk back: before [`Shard::restore_done`].
    pub fn take_back(&mut self, desk: LentDesk) {
        self.desk.give_way_to(desk.into_desk());
    }

    /// No seq at or above this was given out.
    pub fn restore_next_seq(&mut self, next: u64) {
        self.desk.on_next_seq(next);
    }

    /// The last frame of this shard in the journal, or in what a checkpoint contains.
    pub fn restore_frame_no(&mut self, last: FrameNo) {
        self.outbox.restore_frame_no(last);
    }

    /// Whether anything of a change is about this shard's queues: most are about those of one shard. What the seqs of others
    /// say, that later ones are above them, [`Shard::restore_next_seq`] says too.
    pub fn concerns(&self, change: &Change) -> bool {
        match change {
            Change::Order(order) => order.commands.iter().any(|row| self.owns(row.id.server)),
            Change::Delivered(change) => self.owns(change.server),
            Change::Completed(change) => self.owns(change.server),
            Change::Status(change) => self.owns(change.id.server),
            Change::Edited(change) => self.owns(change.id.server),
            Change::Resent(change) => change.commands.iter().any(|(id, _)| self.owns(id.server)),
        }
    }

    /// What a change of the journal says of the queues, of whichever shard: what is not about this shard's is passed over, and an
    /// order is for the desk as well. `count`: what ended by it is not in the totals at rest yet.
    pub fn restore_change(&mut self, change: Change, count: bool) {
        match change {
            Change::Order(order) => self.restore_commands(*order),
            Change::Delivered(change) => {
                self.restore_plain(change.server, Status::Delivered, change.at, &change.commands);
            }
            Change::Completed(change) => {
                if count {
                    self.count_ended(change.server, Status::Completed, change.commands.len() as u64);
                }
                self.restore_plain(change.server, Status::Completed, change.at, &change.commands);
            }
            Change::Status(change) => self.restore_status(&change, count),
            Change::Edited(change) => {
                if let Some(slot) = self.find_older(change.id, change.rev) {
                    self.apply_edit(slot, &change);
                }
            }
            Change::Resent(change) => {
                let own = change.commands.iter().filter(|(id, _)| self.owns(id.server));
                let own: Vec<(CommandId, u32)> = own.copied().collect();
                self.intents.extend(own);
            }
        }
    }

    fn restore_commands(&mut self, accepted: OrderAccepted) {
        let OrderAccepted { row: order, commands } = accepted;
        for row in commands {
            self.desk.on_seq(row.id.seq);
            if !self.owns(row.id.server) {
                continue;
            }
            let place = self.servers.place(row.id.server, order.id.store);
            if self.find_in(place, row.id.seq).is_none() {
                let slot = self.make_in(place, row, order.id.seq, order.accepted_at);
                self.admit(slot);
            }
        }
    }

    fn restore_plain(&mut self, server: ServerId, status: Status, at: UnixMs, commands: &[(Seq, u32)]) {
        for (seq, rev) in commands {
            if let Some(slot) = self.find_older(CommandId { server, seq: *seq }, *rev) {
                self.apply_plain(slot, status, *rev, at, false);
            }
        }
    }

    fn restore_status(&mut self, change: &StatusChange, count: bool) {
        // A late result that leaves an ended command as it is has been counted when the command ended.
        let kept = change.note == Note::LateResult && change.status != Status::Completed;
        if count && change.status.is_terminal() && !kept {
            self.count_ended(change.id.server, change.status, 1);
        }
        if let Some(slot) = self.find_older(change.id, change.rev) {
            self.apply_status(slot, change, false);
        }
    }

    /// A command that has not seen this revision.
    fn find_older(&self, id: CommandId, rev: u32) -> Option<u32> {
        self.find(id).filter(|slot| self.commands[*slot].rev < rev)
    }

    fn count_ended(&mut self, server: ServerId, status: Status, count: u64) {
        if let Some(place) = self.servers.find(server) {
            self.servers[place].counts[status.index()] += count;
            self.servers[place].totals_dirty = true;
        }
    }

    /// All is known: queues, timers and waiting lists are built, what was out is offered again, what has expired
    /// expires. The changes that come of it are in the open frame.
    pub fn restore_done(&mut self, now: UnixMs, out: &mut Vec<Output>) {
        self.now = self.now.max(now);
        self.outbox.swap(out);
        // As they lie in memory: those of the journal not server by server.
        for slot in self.commands.places() {
            if self.commands.get(slot).is_some() {
                self.restart(slot);
            }
        }
        for place in self.servers.places() {
            if self.servers[place].registered {
                self.check_full(place);
            } else {
                self.removals.push_back((place, Seq(0)));
            }
        }
        let intents = std::mem::take(&mut self.intents);
        self.resend_collected(&intents);
        self.hold_endings();
        self.outbox.swap(out);
    }

    fn restart(&mut self, slot: u32) {
        let command = &self.commands[slot];
        // Its retry may have gone out just before the end, and what a plugin holds or doubts be that attempt.
        let retried = command.note == Note::RetryScheduled && command.is_due(self.now);
        match command.status {
            Status::Delivered => self.back_to_pending(slot, Note::BrokerRestarted),
            Status::Pending if retried => self.back_to_pending(slot, Note::BrokerRestarted),
            Status::Pending | Status::AwaitingPlayer => self.attach(slot),
            _ => {}
        }
    }
}
