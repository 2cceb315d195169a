//! Plugin sessions: connecting, reconciling what the plugin says it holds, window, leaving. Must never let two
//! connections of one server count at a time.

use super::command::Flag;
use super::io::{CloseReason, EventKind, Hello, Note, OnDoubt, Output, PlayerNews, PluginOut, Status};
use super::lease::is_valid;
use super::life::To;
use super::outbox::Held;
use super::shard::Shard;
use crate::ids::{ConnId, Seq, ServerId, SessionEpoch};
use crate::limits::WINDOW_MAX;

/// The session of a server.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) conn: ConnId,
    /// Commands out on it at most.
    pub(super) window: u32,
    /// Commands out on it.
    pub(super) outstanding: u32,
    /// Its `Welcome` has gone.
    pub(super) welcomed: bool,
    /// It has said who is online: nobody else knows better.
    pub(super) tells_players: bool,
}

impl Session {
    pub(super) fn has_room(&self) -> bool {
        self.welcomed && self.outstanding < self.window
    }
}

impl Shard {
    pub(super) fn handle_connect(&mut self, conn: ConnId, server: ServerId, hello: Hello) {
        let Some(place) = self.servers.find_registered(server) else {
            let message = PluginOut::Close(CloseReason::ServerRemoved);
            return self.outbox.send_now(Output::Plugin { conn, message });
        };
        let was_online = self.servers[place].is_online(self.now);
        self.servers[place].last_seen_at = Some(self.now);
        if let Some(old) = self.servers[place].session.take() {
            self.conns.remove(&old.conn.0);
            let message = PluginOut::Close(CloseReason::Replaced);
            self.outbox.send_now(Output::Plugin { conn: old.conn, message });
        }
        self.answer_poll(place);
        let (kept, forget) = self.reconcile(place, &hello);
        self.lose_leases(place);
        kept.iter().for_each(|slot| self.begin_lease(*slot));

        self.conns.insert(conn.0, place);
        self.epochs += 1;
        let epoch = SessionEpoch(u64::from(self.boot) << 32 | u64::from(self.epochs));
        let window = hello.window.min(WINDOW_MAX);
        let tells_players = hello.players.is_some();
        let outstanding = kept.len() as u32;
        let session = Session { conn, window, outstanding, welcomed: false, tells_players };
        self.servers[place].session = Some(session);
        self.on_new_session_players(place, hello.players);
        self.welcome(place, conn, epoch, forget, !hello.in_doubt.is_empty());
        if !was_online {
            self.say(place, EventKind::Online);
        }
    }

    /// What a plugin is told to forget must have ended durably, and what it cannot vouch for leaves its ledger with
    /// the `Welcome`: that may have to wait, and all after it.
    fn welcome(&mut self, place: u32, conn: ConnId, epoch: SessionEpoch, forget: Vec<Seq>, settles: bool) {
        let waits = (settles || !forget.is_empty()) && self.outbox.is_ahead();
        let output = Output::Plugin { conn, message: PluginOut::Welcome { epoch, forget } };
        if waits {
            self.outbox.hold(Held::Welcome(place, conn, Box::new(output)));
        } else {
            self.outbox.send_now(output);
            self.on_welcomed(place, conn);
        }
    }

    /// The `Welcome` has gone: deliveries may follow.
    pub(super) fn on_welcomed(&mut self, place: u32, conn: ConnId) {
        if let Some(session) = self.servers[place].session.as_mut().filter(|session| session.conn == conn) {
            session.welcomed = true;
            self.wake(place);
        }
    }

    /// Compares what the plugin lists with what is known. Returns the commands that it holds, and the seqs that it
    /// has to forget. No session is open meanwhile.
    fn reconcile(&mut self, place: u32, hello: &Hello) -> (Vec<u32>, Vec<Seq>) {
        let mut kept = Vec::new();
        let mut forget = Vec::new();
        let held = hello.held.iter().chain(&hello.finished).map(|seq| (seq, false));
        for (seq, started) in hello.started.iter().map(|seq| (seq, true)).chain(held) {
            match self.find_in(place, *seq) {
                Some(slot) if !self.commands[slot].status.is_terminal() => {
                    self.reconcile_held(slot, started, &mut kept);
                }
                _ => forget.push(*seq),
            }
        }
        for slot in &kept {
            self.commands[*slot].set(Flag::Kept, false);
        }
        for seq in &hello.in_doubt {
            match self.find_in(place, *seq) {
                Some(slot) if !self.commands[slot].status.is_terminal() => self.reconcile_in_doubt(slot),
                _ => forget.push(*seq),
            }
        }
        // What is listed twice, as held and in doubt, is in doubt.
        kept.retain(|slot| self.commands[*slot].status == Status::Delivered);
        (kept, forget)
    }

    fn reconcile_held(&mut self, slot: u32, started: bool, kept: &mut Vec<u32>) {
        let command = &self.commands[slot];
        let out = command.status == Status::Delivered || self.may_be_out(slot);
        if !out || command.is(Flag::Kept) {
            return;
        }
        let to = To { unanswered: 0, ..To::new(command, Status::Delivered, Note::StillHeld) };
        self.change(slot, to);
        let command = &mut self.commands[slot];
        command.set(Flag::Kept, true);
        command.set(Flag::Sent, true);
        command.set(Flag::Started, started);
        kept.push(slot);
    }

    fn reconcile_in_doubt(&mut self, slot: u32) {
        let command = &self.commands[slot];
        // A delivery that the broker does not know of any more, or one that had another answer, may have run all the same.
        let waits = self.may_be_out(slot) || command.waits_unrun();
        if command.status != Status::Delivered && !waits {
            return;
        }
        match command.on_doubt() {
            OnDoubt::Rerun if waits => {}
            OnDoubt::Rerun => self.unanswered(slot, Note::Rerun),
            OnDoubt::Hold => {
                let to = To { unanswered: 0, ..To::new(command, Status::InDoubt, Note::PluginInDoubt) };
                self.change(slot, to);
            }
        }
    }

    /// A command that a plugin may hold although it is not out: its delivery was lost, or is not known after a crash. Of one that
    /// awaits its player it may hold a result that says more, so neither the join nor a poll may hand it out meanwhile. One that waits
    /// for a retry is held by nobody: what the plugin has is the attempt that it reported. So it may be with a later attempt that
    /// awaits its player.
    fn may_be_out(&self, slot: u32) -> bool {
        let command = &self.commands[slot];
        match command.status {
            Status::Pending => command.is_due(self.now) && command.note != Note::RetryScheduled,
            Status::AwaitingPlayer => command.attempt == 1,
            _ => false,
        }
    }

    /// All that is out on the connection of a server comes back; what was polled stays out.
    fn lose_leases(&mut self, place: u32) {
        for entry in self.servers[place].leases.take() {
            if !is_valid(&self.commands, place, entry) {
                continue;
            }
            if self.commands[entry.0].is(Flag::Polled) {
                let out = self.servers[place].count(Status::Delivered);
                self.servers[place].leases.push(&self.commands, place, entry.0, entry.1, out);
            } else {
                self.unanswered(entry.0, Note::ConnectionLost);
            }
        }
    }

    fn on_new_session_players(&mut self, place: u32, players: Option<Vec<super::io::Player>>) {
        if let Some(known) = &mut self.servers[place].players {
            known.forget_presence();
        }
        if let Some(players) = players {
            self.on_player_news(place, &PlayerNews::Online(players));
        }
    }

    pub(super) fn handle_disconnect(&mut self, conn: ConnId) {
        if let Some(place) = self.place_of(conn) {
            self.close_session(place);
        }
    }

    pub(super) fn handle_end_session(&mut self, server: ServerId, reason: CloseReason) {
        let Some(place) = self.servers.find(server) else { return };
        let Some(session) = &self.servers[place].session else { return };
        let message = PluginOut::Close(reason);
        self.outbox.send_now(Output::Plugin { conn: session.conn, message });
        self.close_session(place);
    }

    fn close_session(&mut self, place: u32) {
        let Some(session) = self.servers[place].session.take() else { return };
        self.conns.remove(&session.conn.0);
        self.servers[place].last_seen_at = Some(self.now);
        if let Some(players) = &mut self.servers[place].players {
            players.forget_presence();
        }
        self.lose_leases(place);
        self.forget_read_texts(place);
        if !self.servers[place].is_online(self.now) {
            self.say(place, EventKind::Offline);
        }
    }

    pub(super) fn handle_credit(&mut self, conn: ConnId, window: u32) {
        let Some(place) = self.place_of(conn) else { return };
        if let Some(session) = &mut self.servers[place].session {
            session.window = window.min(WINDOW_MAX);
        }
        self.wake(place);
    }

    pub(super) fn handle_started(&mut self, conn: ConnId, seqs: &[Seq]) {
        let Some(place) = self.place_of(conn) else { return };
        for seq in seqs {
            if let Some(slot) = self.find_in(place, *seq) {
                self.restart_lease(slot);
            }
        }
    }

    /// The server of a connection that is its session now; anything else is counted and ignored.
    pub(super) fn place_of(&mut self, conn: ConnId) -> Option<u32> {
        let Some(place) = self.conns.get(&conn.0).copied() else {
            self.counters.stale_inputs += 1;
            return None;
        };
        self.servers[place].last_seen_at = Some(self.now);
        Some(place)
    }

    // ------------------------------------------------------------ removal

    pub(super) fn handle_server_removed(&mut self, server: ServerId) {
        let Some(place) = self.servers.find_registered(server) else { return };
        self.handle_end_session(server, CloseReason::ServerRemoved);
        self.servers[place].registered = false;
        self.servers[place].poller = None;
        self.refuse_poll(place);
        self.removals.push_back((place, Seq(0)));
    }

    /// Cancels commands of removed servers, within the step's budget.
    pub(super) fn cancel_removed(&mut self) {
        let mut budget = self.settings.step_budget;
        while budget > 0
            && let Some((place, after)) = self.removals.pop_front()
        {
            // Nothing of it was left, and another server has its place by now.
            if self.servers[place].registered {
                continue;
            }
            let lane = &self.servers[place].lane;
            let from = lane.position_after(&self.commands, after);
            let slots: Vec<u32> = lane.slots_from(from).take(budget).collect();
            budget -= slots.len().max(1);
            for slot in &slots {
                if !self.commands[*slot].status.is_terminal() {
                    self.cancel(*slot, Note::ServerRemoved);
                }
            }
            match slots.last() {
                Some(last) => self.removals.push_front((place, self.commands[*last].seq)),
                None => self.servers.forget(place),
            }
        }
    }
}
