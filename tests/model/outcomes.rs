//! What a result does to a command of the naive queue.

use fluxrelay::engine::{Note, Outcome, Status};
use fluxrelay::ids::CommandId;

use crate::naive::Naive;

impl Naive {
    /// Returns whether it was for a command that had not ended.
    pub(crate) fn result(
        &mut self,
        id: CommandId,
        outcome: Outcome,
        named: Option<u16>,
        words: bool,
    ) -> bool {
        let now = self.now;
        let servers = self.servers.clone();
        let Some(command) = self.live(id) else { return false };
        if !command.counts(outcome, named) {
            return true;
        }
        let ahead = named.map_or(0, |named| named.saturating_sub(command.attempt));
        if outcome != Outcome::Completed && !(outcome == Outcome::InDoubt && command.rerun) {
            command.attempt += ahead;
            command.retries = command.retries.saturating_add(ahead);
        }
        match outcome {
            Outcome::Completed => {
                if words || command.status != Status::Delivered {
                    command.attempt = named.unwrap_or(0).max(command.attempt);
                }
                command.unanswered = 0;
                command.enter(now, Status::Completed, Note::None);
            }
            Outcome::Failed => command.failed(now),
            Outcome::InDoubt if command.rerun && command.waits_unrun() => {}
            Outcome::InDoubt if command.rerun => command.unanswered(now, Note::Rerun),
            Outcome::InDoubt => {
                command.unanswered = 0;
                command.enter(now, Status::InDoubt, Note::PluginInDoubt);
            }
            Outcome::AwaitingPlayer => match &command.player {
                None => command.failed(now),
                Some(player) => {
                    let online = servers[&id.server].presence(player) == Some(true);
                    command.absent_answers = if online { command.absent_answers + 1 } else { 0 };
                    command.unanswered = 0;
                    command.enter(now, Status::AwaitingPlayer, Note::PlayerAbsent);
                    if command.absent_answers == 1 && command.status == Status::AwaitingPlayer {
                        command.enter(now, Status::Pending, Note::PlayerJoined);
                    }
                }
            },
        }
        true
    }
}
