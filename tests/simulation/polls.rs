//! The rest of a plugin's life: it polls instead of being pushed to, or beside it, and players come and go. Must never take
//! an answer for its own that an earlier process asked for, or that is older than what has been settled since.

use fluxrelay::client::Entry;
use fluxrelay::engine::{CommandResult, Delivery, Outcome, PlayerNews};
use fluxrelay::ids::{Seq, ServerId};

use crate::calls::CallKind;
use crate::network::Up;
use crate::plugin::{PLAYERS, outcome, player, players, result};
use crate::world::World;

impl World {
    pub(crate) fn plugin_polls(&mut self, server: ServerId) {
        let now = self.now;
        let beside = self.random.chance(1, 40) && !self.healing;
        let Some(process) = self.process(server) else { return };
        let polls = (process.polls_until > now || beside) && process.calling_until <= now;
        if !polls || (process.next_poll_at > now && process.unsent.is_empty() && !beside) {
            return;
        }
        process.calling_until = now + 5_000;
        if process.next_poll_at <= now || beside {
            process.next_poll_at = now + 2_000;
            self.next_request += 1;
            return self.call_later(CallKind::Poll(server, self.next_request));
        }
        self.plugin_polls_results(server);
    }

    /// Everything that is known, over REST.
    fn plugin_polls_results(&mut self, server: ServerId) {
        let process = self.process(server).expect("it is up");
        let mut results = Vec::new();
        for (seq, entry) in process.ledger.entries() {
            let (attempt, outcome) = match entry {
                Entry::Finished(report) => (report.attempt, outcome(report.outcome)),
                Entry::InDoubt(attempt) => (*attempt, Outcome::InDoubt),
                Entry::Started(_) => continue,
            };
            results.push(result(seq, attempt, outcome));
        }
        let absent = std::mem::take(&mut process.absent);
        results.extend(absent.iter().map(|(seq, attempt)| result(*seq, *attempt, Outcome::AwaitingPlayer)));
        process.unsent.clear();
        if results.is_empty() {
            process.calling_until = 0;
        } else {
            let process = process.instance;
            self.call_later(CallKind::PollResults { server, process, results });
        }
    }

    /// The answer to a poll.
    pub(crate) fn plugin_polled(
        &mut self,
        server: ServerId,
        asked: u64,
        mut deliveries: Vec<Delivery>,
        seconds: u32,
    ) {
        let now = self.now;
        let early = self.random.below(u64::from(seconds) * 1_000);
        let Some(process) = self.process(server) else { return };
        if asked < process.settled {
            return;
        }
        deliveries
            .retain(|delivery| process.confirmed.get(&delivery.seq).is_none_or(|latest| *latest < asked));
        process.calling_until = 0;
        process.next_poll_at = now + early;
        // What an earlier process began is told at the first occasion.
        let owes = process.ledger.entries().any(|(_, entry)| matches!(entry, Entry::InDoubt(_)));
        self.plugin_takes(server, deliveries);
        if owes && self.process(server).is_some() {
            self.plugin_polls_results(server);
        }
        self.plugin_wakes_in(server, 1);
    }

    /// The answer to results over REST.
    pub(crate) fn plugin_polled_results(&mut self, server: ServerId, asker: u64, results: &[CommandResult]) {
        self.next_request += 1;
        let request = self.next_request;
        let Some(process) = self.process(server).filter(|process| process.instance == asker) else { return };
        process.calling_until = 0;
        process.settled = request;
        let told = |result: &&CommandResult| match process.ledger.entry(result.seq) {
            Some(Entry::Finished(report)) => {
                Some(report.attempt) == result.attempt && outcome(report.outcome) == result.outcome
            }
            Some(Entry::InDoubt(attempt)) => {
                Some(*attempt) == result.attempt && result.outcome == Outcome::InDoubt
            }
            _ => false,
        };
        let gone: Vec<Seq> = results.iter().filter(told).map(|result| result.seq).collect();
        if process.ledger.forget(&gone).is_err() {
            return self.plugin_crash(server, true);
        }
        self.plugin_wakes_in(server, 1);
    }

    // ------------------------------------------------------------ players

    /// Somebody joins or leaves.
    pub(crate) fn player_moves(&mut self, server: ServerId) {
        let name = *self.random.pick(&PLAYERS).expect("there are some");
        let polls = self.random.chance(1, 3);
        let Some(process) = self.process(server) else { return };
        let joins = !process.online.remove(name);
        if joins {
            process.online.insert(name);
        }
        let news =
            if joins { PlayerNews::Joined(vec![player(name)]) } else { PlayerNews::Left(vec![player(name)]) };
        let link = process.link.filter(|_| process.welcomed);
        self.trace.note(self.now, if joins { "joins" } else { "leaves" }, format_args!("{server} {name}"));
        match link {
            Some(link) => self.say(link, Up::Players(news)),
            None if polls => self.call_later(CallKind::PollPlayers(server, vec![news])),
            None => {}
        }
    }

    pub(crate) fn all_players_join(&mut self, server: ServerId) {
        let Some(process) = self.process(server) else { return };
        process.online.extend(PLAYERS);
        process.online.insert("Ghost");
        let all = players(&process.online);
        if let Some(link) = process.link.filter(|_| process.welcomed) {
            self.say(link, Up::Players(PlayerNews::Joined(all)));
            self.say(link, Up::Credit(64));
        }
    }

    /// From now on it connects; the connection that it has.
    pub(crate) fn plugin_stops_polling(&mut self, server: ServerId) -> Option<u64> {
        let process = self.process(server)?;
        process.polls_until = 0;
        process.link
    }

    /// Whether it owes nothing to anybody.
    pub(crate) fn plugin_is_settled(&self, server: ServerId) -> bool {
        self.plugins.get(&server).and_then(|plugin| plugin.process.as_ref()).is_some_and(|process| {
            process.welcomed
                && process.link.is_some()
                && process.ledger.is_empty()
                && process.unconfirmed.is_empty()
        })
    }
}
