//! Checkpoints: copies of what changed, in parts, while the shard goes on; and forgetting what is at rest. Must never
//! forget what changed since it was copied.
//!
//! Rows are copied as they are when their part is made, so a part may hold changes of the open frame: it says so by
//! `contains`. Replaying changes over such rows does no harm, because each names the revision that it leads to. Only the
//! totals of servers carry no revision: they are copied at once when the checkpoint begins.
//!
//! For the driver: the journal may be trimmed up to a commit only if every shard had handled `Durable` of that commit,
//! and the `Forward`s that came of it, before it was told `CheckpointBegin`. Otherwise an order's commands
//! might be on their way between two shards, and in neither image.

use super::command::{Command, Flag};
use super::io::{CommandRow, ImagePart, OrderRow, ServerRow};
use super::server::Server;
use super::shard::Shard;
use super::texts::Copied;
use crate::ids::Seq;
use crate::prefetch::{AHEAD, touch};

/// Ended commands that leave memory in one step.
const FREE_SLICE: usize = 512;
/// Rows that are copied for each command that has become one to copy meanwhile: it is a row, at times twice, and so is its order.
const ROWS_FOR_ONE: usize = 4;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Checkpoint {
    /// Servers of which commands changed since they were last exported.
    dirty: Vec<u32>,
    /// Commands that were marked as changed since [`Shard::rows_to_export`] was asked.
    came: usize,
    /// Begun and not done.
    underway: bool,
    /// What is left to copy.
    export: Option<Export>,
    /// Ended commands in the parts of this checkpoint, with their revisions.
    ended: Vec<(u32, u32)>,
    /// Those of checkpoints that are durable: they leave memory.
    freeing: Vec<(u32, u32)>,
    /// Others in the parts of this checkpoint, whose texts are here.
    copied: Vec<Copied>,
    /// Those of checkpoints that are durable: their texts leave memory.
    pub(super) resting: Vec<Copied>,
    /// Orders up to this seq are in durable checkpoints, or in the parts of this one.
    orders: Option<Seq>,
    /// Orders up to this seq are in durable checkpoints: they leave memory.
    forgetting: Option<Seq>,
}

/// A checkpoint under way.
#[derive(Debug)]
struct Export {
    /// Servers whose commands are still to be copied, the first one last.
    servers: Vec<u32>,
    /// Commands of the server whose turn it is, likewise.
    slots: Vec<u32>,
    /// Those of them from this place on are fetched from memory.
    fetched: usize,
    totals: Option<Vec<ServerRow>>,
    next_seq: Seq,
    /// No order from this seq on is copied: known once all commands are. It is above the order of each of them that this desk
    /// accepted, and orders that come meanwhile, however fast, do not keep the checkpoint from its end.
    orders_end: Option<Seq>,
}

impl Checkpoint {
    pub(super) fn is_freeing(&self) -> bool {
        !self.freeing.is_empty() || !self.resting.is_empty() || self.forgetting.is_some()
    }
}

impl Shard {
    /// A command changed: the next checkpoint has to hold it.
    pub(super) fn mark_dirty(&mut self, slot: u32) {
        let command = &mut self.commands[slot];
        if command.is(Flag::Dirty) {
            return;
        }
        command.set(Flag::Dirty, true);
        self.checkpoint.came += 1;
        let place = command.server;
        let dirty = &mut self.servers[place].dirty;
        if dirty.is_empty() {
            self.checkpoint.dirty.push(place);
        }
        dirty.push(slot);
    }

    /// How many rows a driver copies before it does anything else, `least` at the least: so many that the checkpoint keeps ahead
    /// of what comes, however long the driver is busy with other things in between.
    pub fn rows_to_export(&mut self, least: usize) -> usize {
        least + ROWS_FOR_ONE * std::mem::take(&mut self.checkpoint.came)
    }

    /// One that is under way goes on: a driver that could not store it does not come back.
    pub(super) fn handle_checkpoint_begin(&mut self) {
        if self.checkpoint.underway {
            return;
        }
        let mut servers = std::mem::take(&mut self.checkpoint.dirty);
        servers.reverse();
        let dirty = self.servers.iter_mut().filter(|server| server.totals_dirty);
        let totals = dirty
            .map(|server: &mut Server| {
                server.totals_dirty = false;
                server.totals()
            })
            .collect();
        let next_seq = self.desk.next_seq();
        self.checkpoint.came = 0;
        self.checkpoint.underway = true;
        self.checkpoint.export = Some(Export {
            servers,
            slots: Vec::new(),
            fetched: 0,
            totals: Some(totals),
            next_seq,
            orders_end: None,
        });
    }

    /// The next part of the checkpoint that [`crate::engine::Input::CheckpointBegin`] started: about `budget` rows.
    /// `None` when none is under way; the part with `last` set ends it.
    pub fn export(&mut self, budget: usize) -> Option<ImagePart> {
        let mut export = self.checkpoint.export.take()?;
        let mut part = ImagePart { contains: self.outbox.latest(), ..ImagePart::default() };
        if let Some(totals) = export.totals.take() {
            part.servers = totals;
            part.next_seq = export.next_seq.0;
        }
        let budget = budget.max(1);
        while part.live.len() + part.ended.len() < budget
            && let Some(slot) = self.next_dirty(&mut export)
        {
            self.export_command(slot, &mut part, budget);
        }
        let room = budget - part.live.len() - part.ended.len();
        let copied = export.slots.is_empty() && export.servers.is_empty();
        if copied && room > 0 {
            let end = *export.orders_end.get_or_insert(self.desk.next_seq());
            let orders = self.desk.orders.rows_after(self.checkpoint.orders.unwrap_or(Seq(0)), room);
            part.orders.reserve(room);
            part.orders.extend(orders.take_while(|row| row.id.seq < end));
            part.keys.reserve(part.orders.len());
        }
        let rows = part.orders.iter();
        part.keys.extend(rows.filter_map(OrderRow::key_row));
        if let Some(last) = part.orders.last() {
            self.checkpoint.orders = Some(last.id.seq);
        }
        part.last = copied && part.orders.len() < room;
        if !part.last {
            self.checkpoint.export = Some(export);
        }
        Some(part)
    }

    /// The next command to be copied: a server's one after the other, as they lie at rest, in the order of change.
    fn next_dirty(&mut self, export: &mut Export) -> Option<u32> {
        while export.slots.is_empty() {
            let place = export.servers.pop()?;
            export.slots = std::mem::take(&mut self.servers[place].dirty);
            export.slots.reverse();
            export.fetched = export.slots.len();
        }
        if export.slots.len() == export.fetched {
            export.fetched -= export.fetched.min(AHEAD);
            self.fetch_commands(&export.slots[export.fetched..]);
        }
        export.slots.pop()
    }

    /// Fetches commands that are about to be copied from memory.
    fn fetch_commands(&self, slots: &[u32]) {
        let commands = slots.iter().filter_map(|slot| self.commands.get(*slot));
        touch(commands.map(Command::look));
    }

    /// Adds a command to a part of `budget` rows.
    fn export_command(&mut self, slot: u32, part: &mut ImagePart, budget: usize) {
        if self.commands.get(slot).is_none_or(|command| !command.is(Flag::Dirty)) {
            return;
        }
        self.commands[slot].set(Flag::Dirty, false);
        let row = self.row(slot);
        let command = &mut self.commands[slot];
        if row.status.is_terminal() {
            if command.is(Flag::AtRest) {
                command.set(Flag::AtRest, false);
                part.no_longer_live.push(row.id);
            }
            self.checkpoint.ended.push((slot, row.rev));
            push(&mut part.ended, row, budget);
        } else {
            command.set(Flag::AtRest, true);
            if row.text.is_some() {
                self.checkpoint.copied.push(Copied { slot, rev: row.rev, seq: row.id.seq });
            }
            push(&mut part.live, row, budget);
        }
    }

    pub(super) fn handle_checkpoint_done(&mut self) {
        self.checkpoint.underway = false;
        // Taken from the end: those that ended first stand first in their lanes, and cost least when they go first.
        let mut freeing = std::mem::take(&mut self.checkpoint.ended);
        freeing.reverse();
        freeing.append(&mut self.checkpoint.freeing);
        self.checkpoint.freeing = freeing;
        let copied = std::mem::take(&mut self.checkpoint.copied);
        self.let_rest(copied);
        self.checkpoint.forgetting = self.checkpoint.orders;
    }

    /// Lets some orders and ended commands leave memory.
    pub(super) fn free_some(&mut self) {
        if let Some(upto) = self.checkpoint.forgetting
            && self.desk.orders.forget(upto)
        {
            self.checkpoint.forgetting = None;
        }
        if self.checkpoint.freeing.is_empty() {
            return;
        }
        let from = self.checkpoint.freeing.len().saturating_sub(FREE_SLICE);
        let slice = self.checkpoint.freeing.split_off(from);
        let mut places = Vec::new();
        for (slot, rev) in slice {
            let Some(command) = self.commands.get(slot) else { continue };
            if command.rev != rev || !command.status.is_terminal() || command.is(Flag::Dirty) {
                continue;
            }
            let place = command.server;
            if self.servers[place].lane.mark_leaving(&mut self.commands[slot]) {
                places.push(place);
            }
        }
        let mut gone = Vec::new();
        for place in places {
            self.servers[place].lane.take_leaving(&self.commands, &mut gone);
            self.servers.forget(place);
        }
        for slot in gone {
            self.remove(slot);
        }
        if self.checkpoint.freeing.is_empty() {
            self.checkpoint.freeing = Vec::new();
        }
    }
}

/// Adds a row to those of a part, for `budget` of which room is made once: they are large, and most parts have one kind.
fn push(rows: &mut Vec<CommandRow>, row: CommandRow, budget: usize) {
    if rows.is_empty() {
        rows.reserve(budget);
    }
    rows.push(row);
}
