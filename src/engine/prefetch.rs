//! What the next steps will work with, fetched from memory before the first of them: see [`touch`]. Must never change anything.

use super::io::{Handover, Input, NewOrder};
use super::outbox::Held;
use super::server::Server;
use super::shard::Shard;
use crate::ids::ServerId;
use crate::prefetch::{AHEAD, touch};

/// Something that a shard will be asked to do.
#[derive(Debug, Clone, Copy)]
pub enum Coming<'a> {
    /// To accept an order, which is no [`Input`] yet where it waits.
    Order(&'a NewOrder),
    /// To take this input.
    Input(&'a Input),
}

impl Shard {
    /// Fetches most of what these will be about. It pays from two on.
    pub fn fetch<'a>(&self, coming: impl Iterator<Item = Coming<'a>>) {
        touch(coming.map(|coming| match coming {
            Coming::Order(order) => self.look_at_order(order),
            Coming::Input(input) => self.look_at(input),
        }));
    }

    fn look_at(&self, input: &Input) -> u64 {
        match input {
            Input::Publish { order, .. } => self.look_at_order(order),
            Input::Handover(Handover::Accepted { commands, .. }) => {
                commands.first().map_or(0, |first| self.look_at_server(first.command.server))
            }
            Input::Results { conn, results, .. } => {
                self.conns.get(&conn.0).map_or(0, |place| self.look_at_results(*place, results.len()))
            }
            Input::PollResults { server, results, .. } => {
                self.servers.find(*server).map_or(0, |place| self.look_at_results(place, results.len()))
            }
            _ => 0,
        }
    }

    /// A key that is new is asked for in all tables, as it will be when its turn comes.
    fn look_at_order(&self, order: &NewOrder) -> u64 {
        let key = order.key.map_or(0, |digest| self.desk.keys.look_at(digest));
        let first = order.commands.iter().next();
        first.map_or(key, |command| key ^ self.look_at_server(command.server))
    }

    fn look_at_server(&self, server: ServerId) -> u64 {
        self.servers.find(server).map_or(0, |place| self.servers[place].look())
    }

    /// Results come in the order of the lane, as a rule.
    fn look_at_results(&self, place: u32, count: usize) -> u64 {
        let server = &self.servers[place];
        let commands = server.lane.next_found().take(count.min(AHEAD));
        let commands = commands.filter_map(|slot| self.commands.get(slot));
        commands.fold(server.look(), |all, command| all ^ command.look())
    }

    /// Fetches the servers of commands that are about to be accepted.
    pub(super) fn fetch_released(&self) {
        touch(self.outbox.released().take(AHEAD).map(|held| {
            let Held::Accept(slot) = held else { return 0 };
            self.commands.get(*slot).map_or(0, |command| self.servers[command.server].look())
        }));
    }
}

impl Server {
    /// A look at what most steps need of it.
    fn look(&self) -> u64 {
        let session = self.session.as_ref().map_or(0, |session| u64::from(session.outstanding));
        session ^ self.lane.look() ^ self.leases.look() ^ self.counts[0] ^ u64::from(self.reserved)
    }
}
