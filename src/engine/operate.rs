//! What operators ask: one command's cancel, resend, edit; look-ups; collecting for a bulk resend. Must never move a
//! command against the drawing in `command.rs`.

use std::sync::Arc;

use super::io::{
    Change, CollectFilter, CommandRow, EditedChange, Operation, Output, Query, Refusal, Reply, ReplyTo,
    ServerState, Status,
};
use super::server::Server;
use super::shard::Shard;
use crate::ids::{CommandId, Seq, ServerId};
use crate::limits::PAGE_MAX;

impl Shard {
    pub(super) fn handle_operate(&mut self, from: ReplyTo, id: CommandId, operation: Operation) {
        let reply = match self.operate(id, operation) {
            Ok(slot) => Reply::Command(Box::new(self.row(slot))),
            Err(refusal) => Reply::Refused(refusal),
        };
        self.outbox.send(Output::Reply { to: from, reply });
    }

    fn operate(&mut self, id: CommandId, operation: Operation) -> Result<u32, Refusal> {
        use Status::{AwaitingPlayer, Failed, InDoubt, Pending};
        let slot = self.find(id).ok_or(Refusal::UnknownCommand)?;
        let status = self.commands[slot].status;
        match (operation, status) {
            (Operation::Cancel, Pending | AwaitingPlayer | Failed | InDoubt) => {
                self.cancel(slot, super::io::Note::Operator);
            }
            (Operation::Resend, Failed | InDoubt) => self.resend(slot),
            (Operation::Edit { text }, Pending | AwaitingPlayer) => {
                let rev = self.commands[slot].rev + 1;
                let change = EditedChange { id, rev, at: self.now, text };
                self.apply_edit(slot, &change);
                self.outbox.change(Change::Edited(Box::new(change)));
            }
            _ => return Err(Refusal::WrongStatus(status)),
        }
        Ok(slot)
    }

    /// The fold of an edit.
    pub(super) fn apply_edit(&mut self, slot: u32, change: &EditedChange) {
        self.commands[slot].apply_edit(change.rev, change.at);
        self.set_text(slot, Some(Arc::clone(&change.text)));
        self.mark_dirty(slot);
    }

    /// A command as it is shown and stored.
    pub(super) fn row(&self, slot: u32) -> CommandRow {
        let command = &self.commands[slot];
        let server = &self.servers[command.server];
        command.row(server.id, server.store)
    }

    pub(super) fn handle_collect(&mut self, from: ReplyTo, filter: &CollectFilter) {
        let servers: Vec<u32> = match filter.server {
            Some(id) => self.servers.find(id).into_iter().collect(),
            None => self.servers.places().collect(),
        };
        let mut collected = Vec::new();
        for place in servers {
            let server = &self.servers[place];
            let any = filter.statuses.iter().any(|status| server.count(*status) > 0);
            if server.store == filter.store && any {
                self.collect_from(server, filter, &mut collected);
            }
        }
        collected.sort_unstable_by_key(|(id, _)| id.seq);
        self.outbox.send(Output::Reply { to: from, reply: Reply::Collected(collected) });
    }

    fn collect_from(&self, server: &Server, filter: &CollectFilter, out: &mut Vec<(CommandId, u32)>) {
        for slot in server.lane.slots_from(0) {
            let command = &self.commands[slot];
            let resendable = matches!(command.status, Status::Failed | Status::InDoubt);
            if resendable
                && filter.statuses.contains(&command.status)
                && filter.from <= command.status_at
                && command.status_at < filter.to
            {
                out.push((CommandId { server: server.id, seq: command.seq }, command.rev));
            }
        }
    }

    pub(super) fn handle_read(&mut self, from: ReplyTo, query: Query) {
        let reply = match query {
            Query::Command(id) => {
                self.find(id).map_or(Reply::NotHere, |slot| Reply::Command(Box::new(self.row(slot))))
            }
            Query::Order(id) => match self.desk.orders.find(id.seq) {
                Some(row) if row.id == id => Reply::Order(Box::new(row)),
                _ => Reply::NotHere,
            },
            Query::Commands { server, status, after, limit } => {
                Reply::Commands(self.page(server, status, after, limit))
            }
            Query::Servers(ids) => Reply::Servers(ids.iter().map(|id| self.server_state(*id)).collect()),
        };
        self.outbox.send(Output::Reply { to: from, reply });
    }

    fn page(
        &self,
        server: ServerId,
        status: Option<Status>,
        after: Option<Seq>,
        limit: usize,
    ) -> Vec<CommandRow> {
        let Some(place) = self.servers.find(server) else { return Vec::new() };
        let server = &self.servers[place];
        let lane = &server.lane;
        let from = after.map_or(0, |after| lane.position_after(&self.commands, after));
        // No more than these can be found: a long lane is not searched for what is not there.
        let most =
            status.filter(|status| !status.is_terminal()).map_or(u64::MAX, |status| server.count(status));
        lane.slots_from(from)
            .filter(|slot| status.is_none_or(|status| self.commands[*slot].status == status))
            .take(limit.min(PAGE_MAX).min(usize::try_from(most).unwrap_or(usize::MAX)))
            .map(|slot| self.row(slot))
            .collect()
    }

    fn server_state(&self, id: ServerId) -> ServerState {
        self.servers.find(id).map_or_else(ServerState::default, |place| self.servers[place].state(self.now))
    }
}
