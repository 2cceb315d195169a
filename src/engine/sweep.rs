//! The sweep: a bounded, regular look for what should have gone out and did not. What it finds is a fault of ours: it
//! is put right and counted. Must never be what makes anything work.

use super::io::Status;
use super::shard::Shard;

/// Commands and servers looked at in one step.
const SLICE: usize = 512;

/// Where a sweep stands.
#[derive(Debug, Default)]
pub(super) struct Sweep {
    /// The server and the position in its lane that come next.
    next: Option<(u32, usize)>,
}

impl Sweep {
    pub(super) fn is_running(&self) -> bool {
        self.next.is_some()
    }

    /// Starts over, unless the last one is still running.
    pub(super) fn begin(&mut self) {
        self.next.get_or_insert((0, 0));
    }
}

impl Shard {
    /// Does a slice of a running sweep.
    pub(super) fn sweep_some(&mut self) {
        // While timers wait for their turn, what they will do would look like a fault.
        if self.timers_left {
            return;
        }
        let mut left = SLICE;
        while left > 0
            && let Some((place, position)) = self.sweep.next
        {
            left -= 1;
            if place >= self.servers.places().end {
                self.sweep.next = None;
                self.desk.keys.forget(self.now, self.settings.keys_kept);
                return;
            }
            self.sweep.next = match self.sweep_at(place, position) {
                true => Some((place, position + 1)),
                false => Some((place + 1, 0)),
            };
        }
    }

    /// Looks at one position; false when the server is done.
    fn sweep_at(&mut self, place: u32, position: usize) -> bool {
        let server = &self.servers[place];
        if position == 0 {
            if server.told_full {
                self.check_full(place);
            }
            let server = &self.servers[place];
            if !server.in_ring && server.has_room() && server.lane.has_candidates() {
                self.counters.swept += 1;
                self.wake(place);
            }
        }
        let server = &self.servers[place];
        // For a server that is away nothing can be late; its turn comes when it is back.
        if !server.is_online(self.now) {
            return false;
        }
        let Some(slot) = server.lane.at(position) else { return false };
        let command = &self.commands[slot];
        match command.status {
            Status::Pending | Status::AwaitingPlayer if command.is_expired(self.now) => {
                self.counters.swept += 1;
                self.expire(slot);
            }
            Status::Pending
                if command.is_due(self.now) && !server.lane.knows(command) && !self.is_blocked(slot) =>
            {
                self.counters.swept += 1;
                self.make_ready(slot);
            }
            _ => {}
        }
        true
    }
}
