//! Connections that are slow, cut, half-open or dead. Must never reorder what one side said on one connection, nor
//! deliver anything after the receiving side knows that the connection is gone.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use fluxrelay::broker::{Mailbox, ToPeer};
use fluxrelay::engine::{CommandResult, Hello, Input, NewOrder, PlayerNews, PluginOut};
use fluxrelay::ids::{ConnId, Seq, ServerId, StoreId};

use crate::world::{Event, World};

/// Whose connection it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Peer {
    Plugin(ServerId),
    Publisher(StoreId),
}

/// What a client says.
#[derive(Debug, Clone)]
pub(crate) enum Up {
    Hello(Box<Hello>),
    Attach,
    Results { batch: u64, results: Vec<CommandResult> },
    Started(Vec<Seq>),
    Credit(u32),
    Players(PlayerNews),
    Publish { request: u64, order: Box<NewOrder> },
}

/// One connection, with both of its ends.
#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) peer: Peer,
    /// The token's generation, of a plugin.
    pub(crate) generation: u32,
    /// The run of the broker that it goes to.
    life: u64,
    /// Once the broker has let it in.
    pub(crate) conn: Option<ConnId>,
    mailbox: Arc<Mailbox>,
    pub(crate) client_open: bool,
    pub(crate) broker_open: bool,
    /// Nothing gets through any more, in either direction.
    dead: bool,
    up_at: u64,
    down_at: u64,
    /// Result batches that are not confirmed, as the broker got them.
    pub(crate) batches: BTreeMap<u64, Vec<CommandResult>>,
    /// The broker has said that it closes it.
    pub(crate) closed: bool,
    /// It was welcomed.
    pub(crate) heard: bool,
    /// The broker has not said go-away on it.
    speaks: bool,
}

impl Link {
    /// Whose plugin it is.
    pub(crate) fn server(&self) -> Option<ServerId> {
        match self.peer {
            Peer::Plugin(server) => Some(server),
            Peer::Publisher(_) => None,
        }
    }

    /// Whether it goes to this run of the broker.
    pub(crate) fn is_of(&self, life: u64) -> bool {
        self.life == life
    }
}

impl World {
    /// A client dials; `None` when there is nobody to answer.
    pub(crate) fn dial(&mut self, peer: Peer) -> Option<u64> {
        self.broker.as_ref()?;
        let generation = match peer {
            Peer::Plugin(server) => self.registry.get(&server)?.generation,
            Peer::Publisher(_) => 0,
        };
        let link = Link {
            peer,
            generation,
            life: self.life,
            conn: None,
            mailbox: Arc::default(),
            client_open: true,
            broker_open: true,
            dead: false,
            up_at: self.now,
            down_at: self.now,
            batches: BTreeMap::new(),
            closed: false,
            heard: false,
            speaks: true,
        };
        self.next_link += 1;
        self.links.insert(self.next_link, link);
        Some(self.next_link)
    }

    fn delay(&mut self) -> u64 {
        if self.random.chance(1, 20) { self.random.below(4_000) } else { self.random.below(60) }
    }

    /// A client says something; it arrives later, or never.
    pub(crate) fn say(&mut self, id: u64, up: Up) {
        let at = self.now + self.delay();
        let Some(link) = self.links.get_mut(&id) else { return };
        if link.client_open && !link.dead {
            link.up_at = link.up_at.max(at);
            let at = link.up_at;
            self.schedule(at, Event::Arrive(id, up));
        }
    }

    /// It arrives at the broker.
    pub(crate) fn arrive(&mut self, id: u64, up: Up) {
        let Some(link) = self.links.get_mut(&id) else { return };
        if link.life != self.life || self.broker.is_none() || !link.broker_open || link.dead {
            return;
        }
        match (up, link.conn) {
            (Up::Hello(hello), None) => {
                let at = self.now + self.random.below(30);
                self.schedule(at, Event::LetIn(id, hello));
            }
            (Up::Attach, None) => {
                let Peer::Publisher(store) = link.peer else { unreachable!("only publishers attach") };
                let mailbox = Arc::clone(&link.mailbox);
                let broker = self.broker.as_mut().expect("just looked");
                self.links.get_mut(&id).expect("just found").conn =
                    Some(broker.connect_publisher(store, mailbox));
            }
            (up, Some(conn)) => self.take_in(id, conn, up),
            (up, None) => self.trace.note(self.now, "too early", format_args!("{id} {up:?}")),
        }
    }

    fn take_in(&mut self, id: u64, conn: ConnId, up: Up) {
        let link = self.links.get_mut(&id).expect("it is open");
        let broker = self.broker.as_mut().expect("it runs");
        let input = match up {
            Up::Publish { request, order } => return broker.publish(conn, request, *order),
            Up::Results { batch, results } => {
                link.batches.insert(batch, results.clone());
                Input::Results { conn, batch, results }
            }
            Up::Started(seqs) => Input::Started { conn, seqs },
            Up::Credit(window) => Input::Credit { conn, window },
            Up::Players(news) => Input::Players { conn, news },
            Up::Hello(_) | Up::Attach => return,
        };
        let Peer::Plugin(server) = link.peer else { unreachable!("a plugin's message") };
        broker.tell(server, input);
    }

    /// A hello whose token has been checked, as the transport goes on from there.
    pub(crate) fn let_in(&mut self, id: u64, hello: Hello) {
        let Some(link) = self.links.get_mut(&id) else { return };
        if link.life != self.life || !link.broker_open {
            return;
        }
        let (Some(broker), Peer::Plugin(server)) = (&mut self.broker, link.peer) else { return };
        let lists = [&hello.started, &hello.finished, &hello.in_doubt].map(|list| list.len());
        let conn = broker.connect_plugin(server, hello, Arc::clone(&link.mailbox));
        link.conn = Some(conn);
        self.trace.note(self.now, "connect", format_args!("{server} link {id} {lists:?}"));
        // A token that was regenerated while it was being checked has ended sessions before this one began.
        let now = self.registry.get(&server).map(|known| known.generation);
        if now != Some(self.links[&id].generation) {
            self.trace.note(self.now, "token of yesterday", format_args!("{server} link {id}"));
            self.cut_at_broker(id);
            self.lose_soon(id, 50);
        }
    }

    /// The broker learns that a connection is gone.
    pub(crate) fn cut_at_broker(&mut self, id: u64) {
        let Some(link) = self.links.get_mut(&id) else { return };
        if !std::mem::replace(&mut link.broker_open, false) || link.life != self.life {
            return;
        }
        let (Some(broker), Some(conn)) = (&mut self.broker, link.conn) else { return };
        match link.peer {
            Peer::Plugin(server) => broker.tell(server, Input::Disconnect { conn }),
            Peer::Publisher(store) => broker.disconnect_publisher(store, conn),
        }
    }

    /// The client will learn that its connection is gone.
    pub(crate) fn lose_soon(&mut self, id: u64, within: u64) {
        let at = self.now + self.random.below(within);
        self.schedule(at, Event::Lost(id));
    }

    /// A connection breaks, in one of the ways in which connections do.
    pub(crate) fn break_link(&mut self, id: u64) {
        let kind = self.random.below(5);
        let (now, soon, late) =
            (self.now, self.now + self.random.below(100), self.now + 2_000 + self.random.below(20_000));
        let Some(link) = self.links.get_mut(&id) else { return };
        let (name, cut, lost) = match kind {
            // The client closes: what it said before arrives.
            0 => ("link closed", link.up_at.max(now) + 1, now),
            1 => ("link reset", soon, now),
            2 => ("link half-open at broker", late, now),
            3 => ("link half-open at client", now, late),
            _ => ("link dead", late, soon + 2_000),
        };
        link.dead = kind != 0;
        self.trace.note(now, name, format_args!("{id}"));
        self.schedule(cut, Event::Cut(id));
        self.schedule(lost, Event::Lost(id));
    }

    /// The broker is gone, and with it all its connections; what it had sent before may still arrive.
    pub(crate) fn lose_all_links(&mut self, power: bool) {
        let ids: Vec<u64> = self.links.keys().copied().collect();
        for id in ids {
            let link = self.links.get_mut(&id).expect("just listed");
            link.broker_open = false;
            link.dead |= power;
            if link.client_open {
                self.lose_soon(id, if power { 15_000 } else { 500 });
            }
        }
    }

    /// Takes what the broker has put into mailboxes that rang, and sends it on its way.
    pub(crate) fn collect_mail(&mut self) {
        let mut ids: Vec<u64> = self.links.keys().copied().collect();
        // What an older session was told came before what a newer one was told.
        ids.sort_by_key(|id| self.links[id].conn);
        let mut mail = VecDeque::new();
        for id in ids {
            let link = self.links.get_mut(&id).expect("just listed");
            if link.life != self.life && !link.client_open {
                self.links.remove(&id);
                continue;
            }
            if let (false, Peer::Plugin(server)) = (link.broker_open, link.peer) {
                // Nobody reads it any more, but the broker may not know that yet.
                link.mailbox.drain(&mut mail);
                for message in mail.drain(..) {
                    if let ToPeer::Plugin(PluginOut::Deliver(deliveries)) = message {
                        deliveries.iter().for_each(|one| self.checker.on_lost_delivery(server, one));
                    }
                }
                continue;
            }
            let context = Context::from_waker(Waker::noop());
            if link.life != self.life
                || !link.broker_open
                || !link.speaks
                || link.mailbox.poll_ready(&context) == Poll::Pending
            {
                continue;
            }
            link.mailbox.drain(&mut mail);
            for message in mail.drain(..) {
                // After the last message the transport reads no mailbox any more.
                match (self.links[&id].speaks, message) {
                    (true, message) => self.send_down(id, message),
                    (false, ToPeer::Plugin(PluginOut::Deliver(deliveries))) => {
                        let server = self.links[&id].server().expect("a plugin's mail");
                        deliveries.iter().for_each(|one| self.checker.on_lost_delivery(server, one));
                    }
                    (false, _) => {}
                }
            }
        }
    }

    fn send_down(&mut self, id: u64, message: ToPeer) {
        self.on_said(id, &message);
        let at = self.now + self.delay();
        let link = self.links.get_mut(&id).expect("it was there a moment ago");
        match message {
            ToPeer::Plugin(PluginOut::Close(_)) => (link.closed, link.broker_open) = (true, false),
            ToPeer::GoAway { .. } => link.speaks = false,
            _ => {}
        }
        let (goes, cut_at) = (!link.speaks, at + 1);
        if !link.dead && link.client_open {
            link.down_at = link.down_at.max(at);
            let at = link.down_at;
            self.schedule(at, Event::Reach(id, message));
        }
        if goes {
            self.schedule(cut_at, Event::Cut(id));
        }
    }

    /// A message of the broker reaches its client.
    pub(crate) fn reach(&mut self, id: u64, message: ToPeer) {
        let Some(link) = self.links.get(&id) else { return };
        if !link.client_open || link.dead {
            return;
        }
        match (link.peer, message) {
            (Peer::Plugin(server), ToPeer::Plugin(message)) => self.plugin_hears(server, id, message),
            (Peer::Publisher(_), ToPeer::Published { request, result }) => {
                self.publisher_hears(id, request, result);
            }
            (_, ToPeer::GoAway { .. }) => self.lost(id),
            (peer, message) => panic!("{peer:?} was sent {message:?}"),
        }
    }

    /// A client knows that its connection is gone.
    pub(crate) fn lost(&mut self, id: u64) {
        let Some(link) = self.links.get_mut(&id) else { return };
        if !std::mem::replace(&mut link.client_open, false) {
            return;
        }
        let peer = link.peer;
        if link.broker_open && !link.dead {
            let at = link.up_at.max(self.now) + 1;
            self.schedule(at, Event::Cut(id));
        }
        match peer {
            Peer::Plugin(server) => self.plugin_lost(server, id),
            Peer::Publisher(store) => self.publisher_lost(store, id),
        }
    }
}
