//! News of players, and who is released by them. Must never keep a command waiting whose player is known to be online.

use super::io::{Note, Output, Player, PlayerNews, Refusal, Reply, ReplyTo, Status};
use super::players::is_same;
use super::shard::Shard;
use crate::ids::{ConnId, ServerId};

impl Shard {
    pub(super) fn handle_players(&mut self, conn: ConnId, news: &PlayerNews) {
        let Some(place) = self.place_of(conn) else { return };
        if let Some(session) = &mut self.servers[place].session {
            session.tells_players = true;
        }
        self.on_player_news(place, news);
    }

    /// News over REST may be overtaken by a connection: while that tells who is online itself, they are of the past.
    pub(super) fn handle_poll_players(&mut self, from: ReplyTo, server: ServerId, news: &[PlayerNews]) {
        let reply = match self.servers.find_registered(server) {
            None => Reply::Refused(Refusal::UnknownServer(server)),
            Some(place) => {
                let server = &mut self.servers[place];
                server.last_seen_at = Some(self.now);
                let overtaken = server.session.as_ref().is_some_and(|session| session.tells_players);
                self.counters.stale_inputs += u64::from(overtaken);
                let news = if overtaken { &[] } else { news };
                let released = news.iter().map(|news| self.on_player_news(place, news)).sum();
                Reply::Released { released }
            }
        };
        self.outbox.send(Output::Reply { to: from, reply });
    }

    /// Notes news and releases those who waited; returns how many.
    pub(super) fn on_player_news(&mut self, place: u32, news: &PlayerNews) -> u32 {
        let came = self.servers[place].players_mut().on_news(news);
        came.iter().map(|player| self.release(place, player)).sum()
    }

    /// Offers all commands that wait for a player, in the order of acceptance.
    fn release(&mut self, place: u32, player: &Player) -> u32 {
        let mut slots = self.servers[place].players_mut().take_waiting(player);
        slots.sort_unstable_by_key(|slot| self.commands.get(*slot).map(|command| command.seq));
        let mut released = 0;
        for slot in slots {
            let waits = self.commands.get(slot).is_some_and(|command| {
                command.server == place
                    && command.status == Status::AwaitingPlayer
                    && command.player.as_deref().is_some_and(|wanted| is_same(wanted, player))
            });
            if waits {
                if self.commands[slot].rare().is_some_and(|rare| rare.absent_answers > 0) {
                    self.commands[slot].rare_mut().absent_answers = 0;
                }
                self.back_to_pending(slot, Note::PlayerJoined);
                released += 1;
            }
        }
        released
    }
}
