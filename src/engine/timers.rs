//! What the wheel's timers mean. A timer is a hint to look at something: what happens is decided by what is found.

use super::command::{Command, Flag, NEVER};
use super::io::{Event, EventKind, Note, Output, Status};
use super::players::Presence;
use super::shard::Shard;
use crate::time::UnixMs;

/// What to look at when it fires.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Timer {
    /// A command: its retry, its delay, its expiry.
    Command(u32),
    /// The first lease of a server.
    Leases(u32),
    /// Whether a server still polls.
    Poller(u32),
    /// Time for a sweep.
    Sweep,
}

impl Shard {
    /// Fires what is due, within the step's budget.
    pub(super) fn fire_timers(&mut self) {
        let mut fired = std::mem::take(&mut self.fired);
        self.timers_left = self.wheel.advance(self.now, self.settings.step_budget, &mut fired);
        for timer in fired.drain(..) {
            match timer {
                Timer::Command(slot) => self.on_command_timer(slot),
                Timer::Leases(server) => self.on_lease_timer(server),
                Timer::Poller(server) => self.on_poller_timer(server),
                Timer::Sweep => {
                    self.sweep.begin();
                    self.arm_sweep();
                }
            }
        }
        self.fired = fired;
    }

    pub(super) fn arm_sweep(&mut self) {
        self.wheel.insert(self.now + self.settings.sweep_every, Timer::Sweep);
    }

    /// Sets the one timer of a command (instead of an earlier one).
    pub(super) fn arm_command(&mut self, slot: u32, at: UnixMs) {
        self.disarm_command(slot);
        let timer = self.wheel.insert(at, Timer::Command(slot));
        self.commands[slot].rare_mut().timer = Some(timer);
    }

    pub(super) fn disarm_command(&mut self, slot: u32) {
        if let Some(timer) = self.commands[slot].take_timer() {
            self.wheel.cancel(timer);
        }
    }

    /// The next point at which something may happen to a waiting command by time alone.
    fn next_point(&self, command: &Command) -> Option<UnixMs> {
        let due = (command.due != NEVER && command.due > self.now).then_some(command.due);
        let recheck = command.rare().is_some_and(|rare| rare.absent_answers > 0);
        let recheck = (command.status == Status::AwaitingPlayer && recheck)
            .then(|| command.status_at.max(self.now) + self.settings.absent_recheck);
        [due, recheck, command.expires_at()].into_iter().flatten().min()
    }

    /// A waiting command gets its timer, if time alone can move it.
    pub(super) fn arm_waiting(&mut self, slot: u32) {
        let command = &self.commands[slot];
        if command.due == NEVER && command.rare().is_none() {
            return;
        }
        if let Some(at) = self.next_point(command) {
            self.arm_command(slot, at);
        }
    }

    fn on_command_timer(&mut self, slot: u32) {
        let Some(command) = self.commands.get(slot) else { return };
        let (status, expired, due) = (command.status, command.is_expired(self.now), command.is_due(self.now));
        self.disarm_command(slot);
        match status {
            Status::Pending | Status::AwaitingPlayer if expired => self.expire(slot),
            Status::Pending => {
                if due {
                    self.make_ready(slot);
                }
                self.arm_waiting(slot);
            }
            Status::AwaitingPlayer => self.recheck_absent(slot),
            _ => {}
        }
    }

    /// Time to offer a command again whose plugin called an online player absent.
    fn recheck_absent(&mut self, slot: u32) {
        let command = &self.commands[slot];
        let online = command.player.as_deref().is_some_and(|player| {
            let players = self.servers[command.server].players.as_ref();
            players.is_some_and(|players| players.presence(player) == Presence::Online)
        });
        if online {
            self.back_to_pending(slot, Note::PlayerJoined);
        } else {
            // The player has left meanwhile: joining releases it, as it does any other.
            self.commands[slot].rare_mut().absent_answers = 0;
            self.arm_waiting(slot);
        }
    }

    /// Ends the leases of a server whose deadline has passed.
    fn on_lease_timer(&mut self, server: u32) {
        self.servers[server].leases.armed = false;
        let mut budget = self.settings.step_budget;
        while let Some((slot, due)) = self.servers[server].leases.first(&self.commands, server) {
            if due > self.now || budget == 0 {
                break;
            }
            budget -= 1;
            self.unanswered(slot, Note::AckDeadline);
        }
        self.arm_leases(server);
    }

    /// Sets the timer of a server's first lease.
    pub(super) fn arm_leases(&mut self, server: u32) {
        let leases = &mut self.servers[server].leases;
        if !leases.armed
            && let Some((_, due)) = leases.first(&self.commands, server)
        {
            leases.armed = true;
            self.wheel.insert(due, Timer::Leases(server));
        }
    }

    /// A command is out from now on; its deadline begins.
    pub(super) fn begin_lease(&mut self, slot: u32) {
        let due = self.now + self.settings.ack_deadline;
        self.commands[slot].due = due;
        let place = self.commands[slot].server;
        let server = &mut self.servers[place];
        let out = server.count(Status::Delivered);
        server.leases.push(&self.commands, place, slot, due, out);
        if !server.leases.armed {
            server.leases.armed = true;
            self.wheel.insert(due, Timer::Leases(place));
        }
    }

    /// The plugin starts a command: its deadline begins anew, once.
    pub(super) fn restart_lease(&mut self, slot: u32) {
        let command = &mut self.commands[slot];
        if command.status == Status::Delivered && !command.is(Flag::Started) {
            command.set(Flag::Started, true);
            self.begin_lease(slot);
        }
    }

    fn on_poller_timer(&mut self, place: u32) {
        // The timer may be one of a removed server that had this place before.
        if self.servers[place].poller.as_ref().is_none_or(|poller| poller.until > self.now) {
            return;
        }
        let server = &mut self.servers[place];
        server.poller = None;
        if server.session.is_none() {
            if let Some(players) = &mut server.players {
                players.forget_presence();
            }
            self.forget_read_texts(place);
            self.say(place, EventKind::Offline);
        }
    }

    /// Tells whoever follows events.
    pub(super) fn say(&mut self, place: u32, what: EventKind) {
        if !self.followed {
            return;
        }
        let server = &self.servers[place];
        let event = Event { at: self.now, store: server.store, server: server.id, what };
        self.outbox.send(Output::Event(event));
    }
}
