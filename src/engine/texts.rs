//! The texts of commands that wait: once a checkpoint has them at rest they leave memory, and each comes back when its
//! turn is near. Must never let a text go that the store at rest does not have as it is now.

use std::sync::Arc;

use super::command::{Command, Flag};
use super::io::{Output, Status};
use super::shard::Shard;
use crate::ids::{Seq, ServerId};
use crate::limits::DELIVER_COMMANDS_MAX;

/// Texts that leave memory in one step.
const REST_SLICE: usize = 1024;
/// Texts asked for at a time, at the least: a window of which a little is free asks for more than that little.
const READ_MIN: usize = 64;
/// Commands looked at for those that are asked for.
const LOOK_AHEAD: usize = 2048;

/// A command as a checkpoint copied it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Copied {
    pub(super) slot: u32,
    pub(super) rev: u32,
    pub(super) seq: Seq,
}

impl Copied {
    /// Whether it is still as it was.
    fn is(self, command: &Command) -> bool {
        command.seq == self.seq && command.rev == self.rev
    }
}

impl Shard {
    /// A command enters memory.
    pub(super) fn insert(&mut self, command: Command) -> u32 {
        self.text_bytes += bytes(command.text.as_ref());
        self.commands.insert(command)
    }

    /// A command leaves memory.
    pub(super) fn remove(&mut self, slot: u32) {
        let gone = self.commands.remove(slot);
        self.text_bytes -= gone.map_or(0, |command| bytes(command.text.as_ref()));
    }

    /// A text comes, changes, or goes.
    pub(super) fn set_text(&mut self, slot: u32, text: Option<Arc<str>>) {
        let command = &mut self.commands[slot];
        self.text_bytes = self.text_bytes - bytes(command.text.as_ref()) + bytes(text.as_ref());
        command.text = text;
    }

    /// Texts that a durable checkpoint holds go, if more are here than may stay: all of them, since a few here and there would keep
    /// the pages of all the others.
    pub(super) fn let_rest(&mut self, copied: Vec<Copied>) {
        if self.text_bytes > self.settings.texts_kept {
            self.checkpoint.resting.extend(copied);
        }
    }

    /// Lets some of them go.
    pub(super) fn rest_some(&mut self) {
        let from = self.checkpoint.resting.len().saturating_sub(REST_SLICE);
        for copied in self.checkpoint.resting.split_off(from) {
            let Some(command) = self.commands.get(copied.slot) else { continue };
            // What is out comes back changed, if it does; and what is being read may be older than what goes.
            let read = self.servers[command.server].reads_texts.as_ref();
            let wanted =
                command.status == Status::Delivered || read.is_some_and(|seqs| seqs.contains(&command.seq));
            if copied.is(command) && !wanted && !command.is(Flag::Dirty) {
                self.set_text(copied.slot, None);
            }
        }
        if self.checkpoint.resting.is_empty() {
            self.checkpoint.resting = Vec::new();
        }
    }

    /// Asks for the texts of a server's next commands from this one on, which is about to go out.
    pub(super) fn read_texts(&mut self, place: u32, first: u32, room: usize) {
        let server = &mut self.servers[place];
        if server.reads_texts.is_some() {
            return;
        }
        let position = server.lane.position_after(&self.commands, self.commands[first].seq) - 1;
        let next = server.lane.slots_from(position).take(LOOK_AHEAD).map(|slot| &self.commands[slot]);
        let waits = |command: &&Command| command.status == Status::Pending && command.is_due(self.now);
        let seqs: Vec<Seq> = next
            .filter(|command| command.text.is_none())
            .filter(waits)
            .map(|command| command.seq)
            .take(room.clamp(READ_MIN, DELIVER_COMMANDS_MAX))
            .collect();
        let first = self.commands[first].seq;
        server.reads_texts = Some(first..=seqs.last().copied().unwrap_or(first));
        self.outbox.send_now(Output::ReadTexts { server: server.id, seqs });
    }

    /// Texts that were asked for; those that did not fit into the answer are asked for again.
    pub(super) fn handle_texts(&mut self, id: ServerId, texts: Vec<(Seq, Arc<str>)>) {
        let Some(place) = self.servers.find(id) else { return };
        self.servers[place].reads_texts = None;
        let mut read = std::mem::take(&mut self.servers[place].read_texts);
        // Those that were read before and wait all the same, for whatever reason.
        read.retain(|copied| {
            let command = self.commands.get(copied.slot);
            command.is_some_and(|command| copied.is(command) && command.text.is_some())
        });
        for (seq, text) in texts {
            // One that is here is newer.
            if let Some(slot) = self.find_in(place, seq).filter(|slot| self.commands[*slot].text.is_none()) {
                self.set_text(slot, Some(text));
                read.push(Copied { slot, rev: self.commands[slot].rev, seq });
            }
        }
        self.servers[place].read_texts = read;
        self.wake(place);
        if let Some(poll) = self.servers[place].poll.take() {
            self.go_on_with_poll(place, *poll);
        }
    }

    /// A server is gone for which texts were read: what has not gone out may leave memory again.
    pub(super) fn forget_read_texts(&mut self, place: u32) {
        let read = std::mem::take(&mut self.servers[place].read_texts);
        self.let_rest(read);
    }
}

fn bytes(text: Option<&Arc<str>>) -> u64 {
    text.map_or(0, |text| text.len() as u64)
}

#[cfg(test)]
#[path = "texts_tests.rs"]
mod tests;
