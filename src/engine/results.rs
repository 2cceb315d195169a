//! What a plugin's answers mean for its commands. Must never count an answer twice, nor lose a completion.
//!
//! `(id, attempt)` names one execution, or a second one where a doubt was to be rerun. A completion counts for whichever
//! attempt, in any status that is not terminal, because the alternative would be to run the command twice. Other outcomes
//! count only for the latest attempt, and for a delivery that is out, was lost, is in doubt, or had another answer before
//! that said less.

use super::command::{Command, Flag};
use super::io::{
    Change, CommandResult, CompletedChange, Note, OnDoubt, Outcome, Output, PluginOut, Refusal, Reply,
    ReplyTo, Status,
};
use super::life::To;
use super::players::Presence;
use super::retry::next_delay;
use super::shard::Shard;
use crate::ids::{ConnId, ServerId};

/// The error text of a command that awaits a player without naming one.
const NO_PLAYER: &str = "the plugin awaits a player, but the command names none";

impl Shard {
    pub(super) fn handle_results(&mut self, conn: ConnId, batch: u64, results: Vec<CommandResult>) {
        let Some(place) = self.place_of(conn) else { return };
        self.take_results(place, results);
        // Confirmed even if nothing changed: the plugin may forget what is stale.
        self.outbox.send(Output::Plugin { conn, message: PluginOut::Confirm { batch } });
    }

    pub(super) fn handle_poll_results(
        &mut self,
        from: ReplyTo,
        server: ServerId,
        results: Vec<CommandResult>,
    ) {
        let reply = match self.servers.find_registered(server) {
            None => Reply::Refused(Refusal::UnknownServer(server)),
            Some(place) => {
                self.servers[place].last_seen_at = Some(self.now);
                Reply::Accepted { accepted: self.take_results(place, results) }
            }
        };
        self.outbox.send(Output::Reply { to: from, reply });
    }

    /// Returns how many were for a command of this server that had not ended.
    fn take_results(&mut self, place: u32, results: Vec<CommandResult>) -> u32 {
        let mut completed = std::mem::take(&mut self.scratch);
        let mut accepted = 0;
        for result in results {
            match self.find_in(place, result.seq) {
                Some(slot) if !self.commands[slot].status.is_terminal() => {
                    accepted += 1;
                    self.on_result(slot, result, &mut completed);
                }
                Some(slot) => self.on_stale_result(slot, &result),
                None => self.counters.stale_results += 1,
            }
        }
        self.record_completed(place, &completed);
        completed.clear();
        self.scratch = completed;
        accepted
    }

    /// Makes the change for what completed in one batch.
    fn record_completed(&mut self, place: u32, slots: &[u32]) {
        if slots.is_empty() {
            return;
        }
        let commands =
            slots.iter().map(|slot| (self.commands[*slot].seq, self.commands[*slot].rev)).collect();
        let change = CompletedChange { server: self.servers[place].id, at: self.now, commands };
        self.outbox.change(Change::Completed(change));
        for slot in slots {
            self.say_command(*slot, Note::None, None);
        }
    }

    /// A result for an ended command changes nothing; that a cancelled or expired one did run is kept as a fact, as
    /// long as its row has not been copied for the store at rest, where nothing changes it any more.
    fn on_stale_result(&mut self, slot: u32, result: &CommandResult) {
        self.counters.stale_results += 1;
        let command = &self.commands[slot];
        if result.outcome == Outcome::Completed
            && command.status != Status::Completed
            && command.is(Flag::Dirty)
            && !command.has_late_result()
        {
            let to = To::new(command, command.status, Note::LateResult);
            self.change(slot, to);
        }
    }

    fn on_result(&mut self, slot: u32, result: CommandResult, completed: &mut Vec<u32>) {
        let command = &self.commands[slot];
        if !counts(command, &result) {
            self.counters.duplicate_results += 1;
            return;
        }
        match result.outcome {
            Outcome::Completed => self.on_completed(slot, result, completed),
            Outcome::Failed => self.on_failed(slot, result),
            Outcome::AwaitingPlayer => self.on_awaiting(slot, result),
            Outcome::InDoubt => self.on_in_doubt(slot, result),
        }
    }

    fn on_completed(&mut self, slot: u32, result: CommandResult, completed: &mut Vec<u32>) {
        let command = &self.commands[slot];
        let delivered = command.status == Status::Delivered;
        if delivered && result.error.is_none() && result.output.is_none() {
            self.complete_plain(slot);
            completed.push(slot);
            return;
        }
        let note = if delivered { Note::None } else { Note::LateResult };
        let to = To {
            attempt: result.attempt.unwrap_or(0).max(command.attempt),
            unanswered: 0,
            error: result.error,
            output: result.output,
            ..To::new(command, Status::Completed, note)
        };
        self.change(slot, to);
    }

    fn on_failed(&mut self, slot: u32, result: CommandResult) {
        let command = &self.commands[slot];
        let (attempt, retries) = reported(command, &result);
        let base = match next_delay(&self.settings.retry_delays, retries) {
            None => To { attempt, retries, ..To::new(command, Status::Failed, Note::RetriesExhausted) },
            Some(delay) => To {
                attempt: attempt.saturating_add(1),
                retries: retries.saturating_add(1),
                next_at: Some(self.now + delay),
                ..To::new(command, Status::Pending, Note::RetryScheduled)
            },
        };
        self.change(slot, To { unanswered: 0, error: result.error, output: result.output, ..base });
    }

    fn on_awaiting(&mut self, slot: u32, mut result: CommandResult) {
        let command = &self.commands[slot];
        let Some(player) = command.player.as_deref() else {
            result.error = result.error.or_else(|| Some(NO_PLAYER.into()));
            return self.on_failed(slot, result);
        };
        let players = self.servers[command.server].players.as_ref();
        let online = players.is_some_and(|players| players.presence(player) == Presence::Online);
        let before = command.rare().map_or(0, |rare| rare.absent_answers);
        let answers = if online { before.saturating_add(1) } else { 0 };
        let (attempt, retries) = reported(command, &result);
        let to = To {
            attempt,
            retries,
            unanswered: 0,
            error: result.error,
            output: result.output,
            ..To::new(command, Status::AwaitingPlayer, Note::PlayerAbsent)
        };
        if answers != before {
            self.commands[slot].rare_mut().absent_answers = answers;
        }
        self.change(slot, to);
        // The player joined while the answer was under way: at once, but only once; then the timer decides.
        if answers == 1 && self.commands[slot].status == Status::AwaitingPlayer {
            self.back_to_pending(slot, Note::PlayerJoined);
        }
    }

    fn on_in_doubt(&mut self, slot: u32, result: CommandResult) {
        let command = &self.commands[slot];
        match command.on_doubt() {
            // Whatever it waits for will offer it again.
            OnDoubt::Rerun if command.waits_unrun() => {}
            OnDoubt::Rerun => self.unanswered(slot, Note::Rerun),
            OnDoubt::Hold => {
                let (attempt, retries) = reported(command, &result);
                let to = To {
                    attempt,
                    retries,
                    unanswered: 0,
                    error: result.error,
                    output: result.output,
                    ..To::new(command, Status::InDoubt, Note::PluginInDoubt)
                };
                self.change(slot, to);
            }
        }
    }
}

/// The attempt that a result tells of, and the retries that were used up to it.
fn reported(command: &Command, result: &CommandResult) -> (u16, u16) {
    let ahead = result.attempt.map_or(0, |attempt| attempt.saturating_sub(command.attempt));
    (command.attempt + ahead, command.retries.saturating_add(ahead))
}

/// Whether a result says something new about a command that has not ended.
fn counts(command: &Command, result: &CommandResult) -> bool {
    let attempt = result.attempt.unwrap_or(command.attempt);
    // Delivered, so the attempt before had failed, which a broker that was restored from a copy does not know. One at most:
    // what is further ahead is a faulty plugin rather than an old copy.
    if attempt > command.attempt {
        return attempt - command.attempt == 1;
    }
    // Run again after a doubt, one attempt is executed twice: that the first failed does not undo the second.
    if result.outcome == Outcome::Completed {
        return true;
    }
    if attempt < command.attempt {
        return false;
    }
    match command.status {
        Status::Delivered => true,
        // Named by its attempt, it was delivered even if a crash of the broker has lost that fact.
        Status::Pending => {
            result.attempt == Some(command.attempt) || (result.attempt.is_none() && command.is_lost())
        }
        // It was started, so that its player was absent is told of another delivery, before that one.
        Status::InDoubt => !matches!(result.outcome, Outcome::InDoubt | Outcome::AwaitingPlayer),
        // An earlier delivery of the same attempt found the player absent, or no delivery was answered in time. Once
        // confirmed it leaves the plugin's ledger, so it counts now or never.
        Status::AwaitingPlayer | Status::Failed => {
            command.waits_unrun()
                && result.attempt == Some(command.attempt)
                && result.outcome != Outcome::AwaitingPlayer
        }
        _ => false,
    }
}

#[cfg(test)]
#[path = "results_tests.rs"]
mod tests;
