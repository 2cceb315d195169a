//! The commands of one server that are out, in the order of their ack deadlines. Must never change a command.
//!
//! Every lease lasts equally long, so a queue is in order by itself and one timer per server is enough. An entry is
//! void when its command is not out any longer, or by a later deadline: whoever takes one checks.

use std::collections::VecDeque;

use super::command::Command;
use super::io::Status;
use super::slab::Slab;
use crate::time::UnixMs;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Leases {
    queue: VecDeque<(u32, UnixMs)>,
    /// The timer of the first entry is set.
    pub(super) armed: bool,
}

impl Leases {
    /// A command is out until `due`. `out` commands of the server are out, this one included.
    pub(super) fn push(&mut self, commands: &Slab<Command>, server: u32, slot: u32, due: UnixMs, out: u64) {
        if self.queue.len() as u64 > 4 * out + 64 {
            self.queue.retain(|entry| is_valid(commands, server, *entry));
        }
        self.queue.push_back((slot, due));
    }

    /// The first valid entry; void ones before it are dropped.
    pub(super) fn first(&mut self, commands: &Slab<Command>, server: u32) -> Option<(u32, UnixMs)> {
        while let Some(entry) = self.queue.front() {
            if is_valid(commands, server, *entry) {
                return Some(*entry);
            }
            self.queue.pop_front();
        }
        None
    }

    /// A look at its memory, for [`touch`](crate::prefetch::touch).
    pub(super) fn look(&self) -> u64 {
        self.queue.back().map_or(0, |(slot, _)| u64::from(*slot))
    }

    /// Takes all entries, void ones included.
    pub(super) fn take(&mut self) -> VecDeque<(u32, UnixMs)> {
        std::mem::take(&mut self.queue)
    }
}

/// Whether a command is out by this very entry.
pub(super) fn is_valid(commands: &Slab<Command>, server: u32, (slot, due): (u32, UnixMs)) -> bool {
    commands.get(slot).is_some_and(|command| {
        command.server == server && command.status == Status::Delivered && command.due == due
    })
}
