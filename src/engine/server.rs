//! What a shard knows of one server, and the table of all of them. Must never decide about a command.

use std::ops::RangeInclusive;

use super::io::{ServerRow, ServerState, Status};
use super::lane::Lane;
use super::lease::Leases;
use super::players::Players;
use super::polling::Poll;
use super::polls::Poller;
use super::session::Session;
use super::texts::Copied;
use crate::ids::{NumberMap, Seq, ServerId, StoreId};
use crate::time::UnixMs;

/// One server.
#[derive(Debug)]
pub(super) struct Server {
    pub(super) id: ServerId,
    pub(super) store: StoreId,
    /// Registered now: false before it is added and after it is removed.
    pub(super) registered: bool,
    /// In the dispatch ring.
    pub(super) in_ring: bool,
    /// Its commands that changed since they were last exported.
    pub(super) dirty: Vec<u32>,
    /// Its totals changed since they were last exported.
    pub(super) totals_dirty: bool,
    /// Its desk was told that it is full.
    pub(super) told_full: bool,
    /// Texts of its commands are being read from the store at rest, from this one to that: its connection is sent nothing
    /// meanwhile.
    pub(super) reads_texts: Option<RangeInclusive<Seq>>,
    /// Those that have come, and have not gone out.
    pub(super) read_texts: Vec<Copied>,
    /// The poll that waits for them.
    pub(super) poll: Option<Box<Poll>>,
    /// Commands accepted by this shard's desk whose frame is not durable yet.
    pub(super) reserved: u32,
    pub(super) lane: Lane,
    pub(super) leases: Leases,
    pub(super) session: Option<Session>,
    pub(super) poller: Option<Box<Poller>>,
    pub(super) players: Option<Box<Players>>,
    pub(super) last_seen_at: Option<UnixMs>,
    /// By `Status::index`: waiting ones now, ended ones ever.
    pub(super) counts: [u64; 8],
}

impl Server {
    fn new(id: ServerId, store: StoreId) -> Server {
        Server {
            id,
            store,
            registered: false,
            in_ring: false,
            dirty: Vec::new(),
            totals_dirty: false,
            told_full: false,
            reads_texts: None,
            read_texts: Vec::new(),
            poll: None,
            reserved: 0,
            lane: Lane::default(),
            leases: Leases::default(),
            session: None,
            poller: None,
            players: None,
            last_seen_at: None,
            counts: [0; 8],
        }
    }

    pub(super) fn count(&self, status: Status) -> u64 {
        self.counts[status.index()]
    }

    /// Commands that have not ended, those on their way from the desk included.
    pub(super) fn load(&self) -> u64 {
        let live =
            [Status::Pending, Status::Delivered, Status::AwaitingPlayer, Status::Failed, Status::InDoubt];
        live.iter().map(|status| self.count(*status)).sum::<u64>() + u64::from(self.reserved)
    }

    /// Connected, or polling within its pace.
    pub(super) fn is_online(&self, now: UnixMs) -> bool {
        self.session.is_some() || self.poller.as_ref().is_some_and(|poller| poller.until > now)
    }

    /// May be sent something now.
    pub(super) fn has_room(&self) -> bool {
        self.reads_texts.is_none() && self.session.as_ref().is_some_and(Session::has_room)
    }

    pub(super) fn totals(&self) -> ServerRow {
        ServerRow {
            server: self.id,
            ended: [
                self.count(Status::Completed),
                self.count(Status::Cancelled),
                self.count(Status::Expired),
            ],
        }
    }

    pub(super) fn state(&self, now: UnixMs) -> ServerState {
        ServerState {
            online: self.is_online(now),
            last_seen_at: self.last_seen_at,
            counts: self.counts,
            players: self.players.as_ref().and_then(|players| players.online()),
        }
    }

    pub(super) fn players_mut(&mut self) -> &mut Players {
        self.players.get_or_insert_default()
    }
}

/// All servers of a shard, by a dense number. A server that was removed keeps its place while commands of it are
/// in memory.
#[derive(Debug, Default)]
pub(super) struct Servers {
    all: Vec<Server>,
    by_id: NumberMap<u32, u32>,
    free: Vec<u32>,
}

impl Servers {
    pub(super) fn find(&self, id: ServerId) -> Option<u32> {
        self.by_id.get(&id.0).copied()
    }

    /// A server that is registered now.
    pub(super) fn find_registered(&self, id: ServerId) -> Option<u32> {
        self.find(id).filter(|place| self[*place].registered)
    }

    /// Its place, made (unregistered) if need be.
    pub(super) fn place(&mut self, id: ServerId, store: StoreId) -> u32 {
        if let Some(place) = self.find(id) {
            return place;
        }
        let server = Server::new(id, store);
        let place = match self.free.pop() {
            Some(place) => {
                self[place] = server;
                place
            }
            None => {
                self.all.push(server);
                (self.all.len() - 1) as u32
            }
        };
        self.by_id.insert(id.0, place);
        place
    }

    /// Forgets a removed server of which nothing is in memory.
    pub(super) fn forget(&mut self, place: u32) {
        let server = &self[place];
        if server.registered || server.in_ring || server.reserved > 0 || !server.lane.is_empty() {
            return;
        }
        let id = server.id;
        if self.by_id.remove(&id.0).is_some() {
            self[place] = Server::new(ServerId(0), StoreId(0));
            self.free.push(place);
        }
    }

    pub(super) fn places(&self) -> std::ops::Range<u32> {
        0..self.all.len() as u32
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Server> {
        self.all.iter_mut().filter(|server| server.id != ServerId(0))
    }
}

impl std::ops::Index<u32> for Servers {
    type Output = Server;
    fn index(&self, place: u32) -> &Server {
        &self.all[place as usize]
    }
}

impl std::ops::IndexMut<u32> for Servers {
    fn index_mut(&mut self, place: u32) -> &mut Server {
        &mut self.all[place as usize]
    }
}
