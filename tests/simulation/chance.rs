//! What goes wrong, who joins, what operators wish: everything that comes out of the blue. Must never decide what ought to
//! come of it.

use fluxrelay::engine::{CloseReason, Input, Operation, Outcome, PlayerNews};
use fluxrelay::ids::{CommandId, ServerId, StoreId};

use crate::calls::{CallKind, forged};
use crate::disk::Fault;
use crate::plugin::player;
use crate::world::{Event, World};

impl World {
    fn any_server(&mut self) -> ServerId {
        let known: Vec<ServerId> = self.registry.keys().copied().collect();
        *self.random.pick(&known).expect("some are always left")
    }

    pub(crate) fn players_turn(&mut self) {
        let span = 200 + self.random.below(3_000);
        self.schedule(self.now + span, Event::Players);
        if !self.healing {
            let server = self.any_server();
            self.player_moves(server);
        }
    }

    // ------------------------------------------------------------ operators

    pub(crate) fn operator_turn(&mut self) {
        let span = 300 + self.random.below(4_000);
        self.schedule(self.now + span, Event::Operator);
        if self.healing {
            return;
        }
        if self.random.chance(1, 6) {
            let store = StoreId(1 + self.random.below(2) as u32);
            return self.resend_all(store);
        }
        let ids: Vec<CommandId> = self.checker.by_id.keys().copied().collect();
        let Some(id) = self.random.pick(&ids).copied() else { return };
        let kind = match self.random.below(8) {
            0..2 => CallKind::Operate(id, Operation::Cancel),
            2..4 => CallKind::Operate(id, Operation::Resend),
            4 => {
                self.next_request += 1;
                let (plan, nth) = self.checker.by_id[&id];
                let text = format!("e{}:p{plan}.{nth}", self.next_request).into();
                CallKind::Operate(id, Operation::Edit { text })
            }
            _ => CallKind::Audit(id),
        };
        self.call_later(kind);
    }

    /// A new token: sessions, tickets and the old token end together.
    fn regenerate(&mut self) {
        let server = self.any_server();
        let known = self.registry.get_mut(&server).expect("it is registered");
        known.generation += 1;
        let generation = known.generation;
        self.trace.note(self.now, "new token", format_args!("{server}"));
        if let Some(broker) = &self.broker {
            broker.tell(server, Input::EndSession { server, reason: CloseReason::TokenRevoked });
            self.call(CallKind::EndSession(server, generation));
        }
    }

    fn change_servers(&mut self) {
        let next = ServerId(self.plugins.keys().last().map_or(1, |last| last.0 + 1));
        let known: Vec<ServerId> = self.registry.keys().copied().collect();
        if known.len() < 6 && self.random.chance(1, 2) {
            self.trace.note(self.now, "server added", format_args!("{next}"));
            return self.add_server(next);
        }
        // The first two stay, so that each store has one.
        let Some(server) = self.random.pick(&known[2..]).copied().filter(|server| server.0 > 2) else {
            return;
        };
        self.trace.note(self.now, "server removed", format_args!("{server}"));
        self.registry.remove(&server);
        if let Some(broker) = &self.broker {
            broker.tell(server, Input::ServerRemoved { server });
        }
        self.plugin_crash(server, false);
    }

    // ------------------------------------------------------------ faults

    pub(crate) fn fault_turn(&mut self) {
        let span = 400 + self.random.below(7_000);
        self.schedule(self.now + span, Event::Fault);
        if self.healing {
            return;
        }
        let server = self.any_server();
        match self.random.below(28) {
            0..2 => self.end_broker(false),
            2..4 => self.end_broker(true),
            4..9 => self.plan_disk_fault(),
            9 => {
                self.disk.set_full(true);
                let at = self.now + self.random.below(8_000);
                self.schedule(at, Event::SpaceAgain);
            }
            10 => self.stop_broker(),
            11..15 => {
                let power = self.random.chance(1, 2);
                self.plugin_crash(server, power);
            }
            15 => self.plugins[&server].paper.break_it(),
            16..21 => {
                let open: Vec<u64> =
                    self.links.iter().filter(|(_, link)| link.client_open).map(|(id, _)| *id).collect();
                if let Some(link) = self.random.pick(&open).copied() {
                    self.break_link(link);
                }
            }
            21..23 => self.regenerate(),
            23 => self.change_servers(),
            24..26 => self.forge(),
            _ => {
                self.disk_slow_until = self.now + self.random.below(3_000);
                self.trace.note(self.now, "slow disk", format_args!(""));
            }
        }
    }

    fn plan_disk_fault(&mut self) {
        let kinds = [
            Fault::Crash,
            Fault::Crash,
            Fault::Crash,
            Fault::Error,
            Fault::ErrorOnce,
            Fault::SyncError,
            Fault::ReadError,
        ];
        let kind = *self.random.pick(&kinds).expect("some");
        let after = 1 + self.random.below(60);
        self.disk.plan(after, kind);
        // Half of them while the broker starts.
        if self.random.chance(1, 2) {
            let power = self.random.chance(1, 2);
            self.end_broker(power);
            self.disk.plan(after, kind);
        }
    }

    /// Somebody speaks on a connection that was replaced, or for another server.
    fn forge(&mut self) {
        let ids: Vec<CommandId> = self.checker.by_id.keys().copied().collect();
        let Some(id) = self.random.pick(&ids).copied() else { return };
        let outcomes = [Outcome::Completed, Outcome::Failed, Outcome::AwaitingPlayer, Outcome::InDoubt];
        let outcome = *self.random.pick(&outcomes).expect("some");
        let attempt = 1 + self.random.below(3) as u16;
        let results = vec![forged(id.seq, attempt, outcome)];
        let may_not = |link: &&u64| {
            let link = &self.links[*link];
            let other = link.server().is_some_and(|server| server != id.server);
            link.is_of(self.life) && link.conn.is_some() && (link.closed || other)
        };
        let links: Vec<u64> = self.links.keys().filter(may_not).copied().collect();
        if let Some(link) = self.random.pick(&links).copied() {
            self.forged_input(link, results);
        }
    }

    fn forged_input(&mut self, id: u64, results: Vec<fluxrelay::engine::CommandResult>) {
        let link = &self.links[&id];
        let (Some(conn), Some(server)) = (link.conn, link.server()) else { return };
        let Some(broker) = &self.broker else { return };
        let stale = link.closed;
        if stale {
            self.trace.note(self.now, "stale input", format_args!("{server} {id}"));
            broker.tell(server, Input::Players { conn, news: PlayerNews::Joined(vec![player("Ghost")]) });
            broker.tell(server, Input::Credit { conn, window: 0 });
            broker.tell(server, Input::Results { conn, batch: u64::MAX, results });
        } else {
            self.trace.note(self.now, "foreign result", format_args!("{server} {id}"));
            broker.tell(server, Input::Results { conn, batch: 0, results });
        }
    }
}
