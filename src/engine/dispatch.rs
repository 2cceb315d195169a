//! Who is sent what, in which turn. Owns the ring of servers that may be sent something; must never send beyond a
//! window, out of order, or more than one message to a server in one step.

use super::command::Flag;
use super::io::{Change, DeliveredChange, Delivery, Note, Output, PluginOut, Status};
use super::life::To;
use super::players::Presence;
use super::shard::Shard;
use crate::limits::{DELIVER_BYTES_MAX, DELIVER_COMMANDS_MAX};

/// How much may go out in one message.
#[derive(Debug, Clone, Copy)]
pub(super) struct Room {
    pub(super) commands: usize,
    /// Bytes of texts; the first command goes whatever its size.
    pub(super) bytes: usize,
}

/// What a look at a candidate says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Readiness {
    Ready,
    /// Not now: whatever keeps it will bring it back.
    NotNow,
    Expired,
    PlayerAbsent,
}

impl Shard {
    /// Gives every server in the ring one turn, within the step's budget.
    pub(super) fn dispatch(&mut self) {
        let mut budget = self.settings.step_budget;
        for _ in 0..self.ring.len() {
            if budget == 0 {
                return;
            }
            let Some(place) = self.ring.pop_front() else { return };
            self.servers[place].in_ring = false;
            self.turn(place, &mut budget);
            self.wake(place);
        }
    }

    fn turn(&mut self, place: u32, budget: &mut usize) {
        let Some(session) = self.servers[place].session.as_ref().filter(|session| session.has_room()) else {
            return;
        };
        let (conn, open) = (session.conn, session.window - session.outstanding);
        let room = Room { commands: DELIVER_COMMANDS_MAX.min(open as usize), bytes: DELIVER_BYTES_MAX };
        let deliveries = self.take_ready(place, room, budget, false);
        if !deliveries.is_empty() {
            // Not held back for its own change: what must be durable is that the commands were accepted.
            self.outbox.send_now(Output::Plugin { conn, message: PluginOut::Deliver(deliveries) });
        }
    }

    /// Hands out ready commands of a server, in order.
    pub(super) fn take_ready(
        &mut self,
        place: u32,
        room: Room,
        budget: &mut usize,
        polled: bool,
    ) -> Vec<Delivery> {
        let mut slots = std::mem::take(&mut self.scratch);
        let mut bytes = 0;
        while slots.len() < room.commands && *budget > 0 {
            let Some(candidate) = self.servers[place].lane.next_candidate(&self.commands) else { break };
            let slot = candidate.slot();
            *budget -= 1;
            let readiness = self.readiness(slot);
            if readiness == Readiness::Ready {
                let Some(text) = &self.commands[slot].text else {
                    self.read_texts(place, slot, room.commands - slots.len());
                    break;
                };
                bytes += text.len();
                if bytes > room.bytes && !slots.is_empty() {
                    break;
                }
            }
            self.servers[place].lane.take_candidate(&mut self.commands, candidate);
            match readiness {
                Readiness::Ready => {
                    self.hand_out(slot, polled);
                    slots.push(slot);
                }
                Readiness::NotNow => {}
                Readiness::Expired => self.expire(slot),
                Readiness::PlayerAbsent => {
                    let to = To::new(&self.commands[slot], Status::AwaitingPlayer, Note::PlayerAbsent);
                    self.change(slot, to);
                }
            }
        }
        let deliveries = self.record_delivered(place, &slots);
        slots.clear();
        self.scratch = slots;
        deliveries
    }

    fn readiness(&self, slot: u32) -> Readiness {
        let command = &self.commands[slot];
        if command.status != Status::Pending {
            return Readiness::NotNow;
        }
        if command.is_expired(self.now) {
            return Readiness::Expired;
        }
        if !command.is_due(self.now) || self.is_blocked(slot) {
            return Readiness::NotNow;
        }
        if command.is(Flag::RequireOnline)
            && let Some(player) = command.player.as_deref()
            && let Some(players) = &self.servers[command.server].players
            && players.presence(player) == Presence::Offline
        {
            return Readiness::PlayerAbsent;
        }
        Readiness::Ready
    }

    /// Waits for a command before it, which has not ended, or for its own attempt to be durable.
    pub(super) fn is_blocked(&self, slot: u32) -> bool {
        let command = &self.commands[slot];
        command.is(Flag::NewAttempt) || self.servers[command.server].lane.is_blocked(&self.commands, slot)
    }

    /// A command is out from now on; the caller makes the change for all of a turn.
    fn hand_out(&mut self, slot: u32, polled: bool) {
        self.disarm_command(slot);
        let command = &mut self.commands[slot];
        let place = command.server;
        self.counters.delivered += 1;
        self.counters.redelivered += u64::from(command.is(Flag::Sent));
        command.set(Flag::Polled, polled);
        command.set(Flag::WentInTurn, true);
        command.set(Flag::Started, false);
        let rev = command.rev + 1;
        self.apply_plain(slot, Status::Delivered, rev, self.now, true);
        if !polled && let Some(session) = &mut self.servers[place].session {
            session.outstanding += 1;
        }
        self.begin_lease(slot);
    }

    /// Makes the change for what was handed out in one turn.
    fn record_delivered(&mut self, place: u32, slots: &[u32]) -> Vec<Delivery> {
        if slots.is_empty() {
            return Vec::new();
        }
        let commands =
            slots.iter().map(|slot| (self.commands[*slot].seq, self.commands[*slot].rev)).collect();
        let change = DeliveredChange { server: self.servers[place].id, at: self.now, commands };
        self.outbox.change(Change::Delivered(change));
        for slot in slots {
            self.say_command(*slot, Note::None, None);
        }
        slots.iter().map(|slot| self.commands[*slot].delivery()).collect()
    }
}
