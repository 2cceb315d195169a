//! The poll of a server that holds no connection. Must never hand out what is out already.

use super::dispatch::Room;
use super::io::{Delivery, EventKind, Output, Refusal, Reply, ReplyTo, Status};
use super::polls::Pace;
use super::shard::Shard;
use super::timers::Timer;
use crate::ids::ServerId;
use crate::limits::{DELIVER_BYTES_MAX, DELIVER_COMMANDS_MAX};
use crate::time::Millis;

/// Commands looked at for whether one of them falls due soon.
const LOOK_AHEAD: usize = 256;

/// A poll that waits for texts, and what it has been handed out so far.
#[derive(Debug)]
pub(super) struct Poll {
    from: ReplyTo,
    commands: Vec<Delivery>,
}

impl Shard {
    pub(super) fn handle_poll(&mut self, from: ReplyTo, id: ServerId) {
        let Some(place) = self.servers.find_registered(id) else {
            let reply = Reply::Refused(Refusal::UnknownServer(id));
            return self.outbox.send_now(Output::Reply { to: from, reply });
        };
        self.answer_poll(place);
        self.go_on_with_poll(place, Poll { from, commands: Vec::new() });
    }

    /// Goes on with a poll that has no texts to wait for any more.
    pub(super) fn go_on_with_poll(&mut self, place: u32, poll: Poll) {
        let Poll { from, mut commands } = poll;
        let bytes = |commands: &[Delivery]| commands.iter().map(|command| command.text.len()).sum::<usize>();
        let room = Room {
            commands: DELIVER_COMMANDS_MAX - commands.len(),
            bytes: DELIVER_BYTES_MAX - bytes(&commands),
        };
        let mut budget = self.settings.step_budget;
        commands.extend(self.take_ready(place, room, &mut budget, true));
        if !commands.is_empty() {
            // Results over REST need not name the attempt: after a crash one that is not known to be out would count for nothing.
            self.outbox.hurry();
        }
        let more = commands.len() < DELIVER_COMMANDS_MAX && bytes(&commands) < DELIVER_BYTES_MAX;
        if more && self.servers[place].reads_texts.is_some() {
            self.note_poll(place, true);
            self.servers[place].poll = Some(Box::new(Poll { from, commands }));
            return;
        }
        let busy = !commands.is_empty() || self.waits_soon(place);
        let next_check_seconds = self.note_poll(place, busy);
        let reply = Reply::Polled { commands, next_check_seconds };
        self.outbox.send_now(Output::Reply { to: from, reply });
    }

    /// Answers a poll that waits for texts with what it was handed out so far: its server has connected, or polls again.
    pub(super) fn answer_poll(&mut self, place: u32) {
        let Some(poll) = self.servers[place].poll.take() else { return };
        let reply =
            Reply::Polled { commands: poll.commands, next_check_seconds: self.settings.poll_min_seconds };
        self.outbox.send_now(Output::Reply { to: poll.from, reply });
    }

    /// Answers a poll that waits for texts of a server that is removed.
    pub(super) fn refuse_poll(&mut self, place: u32) {
        let server = &mut self.servers[place];
        let reply = Reply::Refused(Refusal::UnknownServer(server.id));
        if let Some(poll) = server.poll.take() {
            self.outbox.send_now(Output::Reply { to: poll.from, reply });
        }
    }

    /// Keeps the server online until its next poll is overdue; returns when that is, in seconds.
    fn note_poll(&mut self, place: u32, busy: bool) -> u32 {
        let settings = &self.settings;
        let bounds = Pace {
            min: settings.poll_min_seconds,
            max: settings.poll_max_seconds,
            grace: settings.poll_grace,
        };
        let now = self.now;
        let server = &mut self.servers[place];
        let was_online = server.is_online(now);
        server.last_seen_at = Some(now);
        let id = server.id;
        let poller = server.poller.get_or_insert_default();
        let seconds = poller.on_poll(id, now, busy, bounds);
        // Set anew each time, because the next poll may be due before the one that was told last.
        if let Some(timer) = poller.timer.take() {
            self.wheel.cancel(timer);
        }
        poller.timer = Some(self.wheel.insert(poller.until, Timer::Poller(place)));
        if !was_online {
            self.say(place, EventKind::Online);
        }
        seconds
    }

    /// Whether something may be ready for this server before a slow poller would come again.
    fn waits_soon(&self, place: u32) -> bool {
        let server = &self.servers[place];
        if server.count(Status::Delivered) > 0 || server.lane.has_candidates() {
            return true;
        }
        if server.count(Status::Pending) == 0 {
            return false;
        }
        let soon = self.now + Millis::seconds(u64::from(self.settings.poll_max_seconds));
        server.lane.len() > LOOK_AHEAD
            || server.lane.slots_from(0).any(|slot| {
                let command = &self.commands[slot];
                command.status == Status::Pending && command.due <= soon
            })
    }
}
