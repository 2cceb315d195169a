//! What the next steps will work with, fetched from memory before the first of them: see [`touch`](crate::touch). Must never
//! change anything.

use super::io::{Input, NewOrder};
use super::outbox::Held;
use super::server::Server;
use super::shard::Shard;
use crate::touch::{AHEAD, touch};

/// Something that a shard will be asked to do.
#[derive(Debug, Clone, Copy)]
pub enum Coming<'a> {
    /// To take an order.
    Order(&'a NewOrder),
    /// This.
    Input(&'a Input),
}

impl Shard {
    /// Fetches what these will be about.
    pub fn fetch<'a>(&self, coming: impl Iterator<Item = Coming<'a>>) {
        touch(coming.map(|coming| self.look_at(coming)));
    }

    fn look_at(&self, coming: Coming<'_>) -> u64 {
        match coming {
            Coming::Order(order) => {
                let key = order.key.map_or(0, |digest| self.desk.keys.look_at(digest));
                let first = order.commands.iter().next();
                let place = first.and_then(|command| self.servers.find(command.server));
                place.map_or(key, |place| key ^ self.servers[place].look())
            }
            Coming::Input(Input::Results { conn, results, .. }) => {
                let Some(place) = self.conns.get(&conn.0) else { return 0 };
                let server = &self.servers[*place];
                let commands = server.lane.next_found().take(results.len().min(AHEAD));
                let commands = commands.filter_map(|slot| self.commands.get(slot));
                commands.fold(server.look(), |all, command| all ^ command.look())
            }
            Coming::Input(_) => 0,
        }
    }

    /// Fetches the servers of commands that are about to be accepted.
    pub(super) fn fetch_accepted(&self) {
        touch(self.outbox.first_held(AHEAD).map(|held| {
            let Held::Accept(slot) = held else { return 0 };
            self.commands.get(*slot).map_or(0, |command| self.servers[command.server].look())
        }));
    }
}

impl Server {
    /// A look at its memory.
    fn look(&self) -> u64 {
        let session = self.session.as_ref().map_or(0, |session| u64::from(session.outstanding));
        session ^ self.lane.look() ^ self.leases.look() ^ self.counts[0] ^ u64::from(self.reserved)
    }
}
